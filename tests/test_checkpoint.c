/* Checkpoints: what is saved comes back, nothing damaged is taken for good, and no fault at any
 * system call of a save loses an older one (tests/fault/shim.c injects them). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/files.h"
#include "core/memory.h"
#include "core/sha256.h"
#include "fault/shim.c"
#include "fault/power.h"
#include "fault/state.h"
#include "formats/checkpoint.h"
#include "formats/crc32c.h"

static char top[] = "/dev/shm/mixt-checkpoint-XXXXXX";

/* In memory where that is possible: a disk would only make thousands of real fsyncs slow. */
static int make_top(void **state)
{
    (void)state;
    if (access("/dev/shm", W_OK) != 0) {
        strcpy(top, "/tmp/mixt-checkpoint-XXXXXX");
    }
    return mkdtemp(top) == NULL;
}

static int remove_top(void **state)
{
    (void)state;
    return mixt_folder_remove(top, NULL) != MIXT_OK;
}

#define OK(call)                                                                                   \
    do {                                                                                           \
        mixt_error ok_error = MIXT_ERROR_INIT;                                                     \
        mixt_error *error_ = &ok_error;                                                            \
        if ((call) != MIXT_OK) {                                                                   \
            fail_msg("%s: %s", #call, ok_error.message);                                           \
        }                                                                                          \
    } while (0)

/* A run folder of its own for each test. */
static char *run_folder(const char *name)
{
    char *path = mixt_path_join(top, name);
    assert_non_null(path);
    return path;
}

static char *join(const char *folder, const char *name)
{
    char *path = mixt_path_join(folder, name);
    assert_non_null(path);
    return path;
}

static mixt_checkpoints *open_store(const char *run)
{
    mixt_checkpoints *store = NULL;
    OK(mixt_checkpoints_open(run, &store, error_));
    return store;
}

static void save_step(mixt_checkpoints *store, int64_t step, int keep)
{
    fault_state state;
    fault_state_fill(&state, step);
    OK(mixt_checkpoints_save(store, &state.description, keep, error_));
}

static void fresh_run(const char *run, int64_t first, int64_t last)
{
    mixt_checkpoints *store = open_store(run);
    for (int64_t step = first; step <= last; step++) {
        save_step(store, step, 10);
    }
    mixt_checkpoints_close(store);
}

/* Step of the newest checkpoint that loads with the right bits; -1 where there is none. */
static int64_t newest(const char *run, char **passed_over)
{
    mixt_checkpoint *checkpoint;
    mixt_error error = MIXT_ERROR_INIT;
    char *lines;
    int64_t step = -1;
    if (mixt_checkpoint_find(run, &checkpoint, &lines, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    if (checkpoint != NULL) {
        step = mixt_checkpoint_step(checkpoint);
        if (!fault_state_matches(checkpoint, &error)) {
            fail_msg("step %lld has wrong bits: %s", (long long)step, error.message);
        }
        assert_string_equal(mixt_checkpoint_config_hash(checkpoint), "c0ffee");
    }
    mixt_checkpoint_free(checkpoint);
    if (passed_over != NULL) {
        *passed_over = lines;
    } else {
        if (lines != NULL) {
            fail_msg("passed over: %s", lines);
        }
        free(lines);
    }
    return step;
}

static bool exists(const char *run, const char *name)
{
    char *path = join(run, name);
    bool there = mixt_path_exists(path);
    free(path);
    return there;
}

static void test_saves_and_loads(void **unused)
{
    (void)unused;
    char *run = run_folder("plain");
    assert_int_equal(newest(run, NULL), -1);
    mixt_checkpoints *store = open_store(run);
    assert_int_equal(newest(run, NULL), -1);
    save_step(store, 7, 2);
    assert_int_equal(newest(run, NULL), 7);
    char *latest = join(run, "LATEST");
    char *text;
    size_t length;
    OK(mixt_file_read(latest, 100, &text, &length, error_));
    assert_string_equal(text, "step-00000007\n");
    free(text);
    free(latest);
    assert_false(exists(run, "step-00000007.tmp"));
    mixt_checkpoint *checkpoint;
    char *lines;
    OK(mixt_checkpoints_newest(store, &checkpoint, &lines, error_));
    assert_null(lines);
    assert_non_null(strstr(mixt_checkpoint_path(checkpoint), "/plain/step-00000007"));
    mixt_checkpoint_free(checkpoint);
    mixt_checkpoints_close(store);
    mixt_checkpoints_close(NULL);
    mixt_checkpoint_free(NULL);
    free(run);
}

static void test_keeps_enough(void **unused)
{
    (void)unused;
    char *run = run_folder("keep");
    mixt_checkpoints *store = open_store(run);
    for (int64_t step = 1; step <= 5; step++) {
        save_step(store, step, 0); /* never fewer than two */
    }
    assert_false(exists(run, "step-00000003"));
    assert_true(exists(run, "step-00000004"));
    assert_true(exists(run, "step-00000005"));
    /* A broken one does not count: the older good one stays. */
    char *broken = join(run, "step-00000005/model.safetensors");
    assert_int_equal(truncate(broken, 100), 0);
    mixt_checkpoints_close(store);
    store = open_store(run);
    save_step(store, 6, 2);
    assert_true(exists(run, "step-00000004"));
    assert_true(exists(run, "step-00000006"));
    save_step(store, 7, 2);
    assert_false(exists(run, "step-00000004"));
    assert_false(exists(run, "step-00000005"));
    assert_int_equal(newest(run, NULL), 7);
    mixt_checkpoints_close(store);
    free(broken);
    free(run);
}

static void test_same_step_again(void **unused)
{
    (void)unused;
    char *run = run_folder("again");
    mixt_checkpoints *store = open_store(run);
    save_step(store, 3, 2);
    char *broken = join(run, "step-00000003/state.json");
    assert_int_equal(truncate(broken, 3), 0);
    save_step(store, 3, 2); /* replaces the broken one */
    assert_int_equal(newest(run, NULL), 3);
    assert_false(exists(run, "step-00000003.tmp"));
    mixt_checkpoints_close(store);
    free(broken);
    free(run);
}

static void test_leftovers_go(void **unused)
{
    (void)unused;
    char *run = run_folder("leftovers");
    const char *const names[] = {"step-00000009.tmp/deep/er",
                                 "step-00000001.old.tmp",
                                 "step-1.tmp",
                                 "notes.tmp",
                                 "LATEST.tmp",
                                 "step-00000001x.tmp"};
    for (size_t i = 0; i < 6; i++) {
        char *path = join(run, names[i]);
        OK(mixt_folder_create(path, error_));
        free(path);
    }
    mixt_checkpoints_close(open_store(run));
    assert_false(exists(run, "step-00000009.tmp"));
    assert_false(exists(run, "step-00000001.old.tmp"));
    assert_false(exists(run, "LATEST.tmp"));
    assert_true(exists(run, "step-1.tmp")); /* not ours */
    assert_true(exists(run, "step-00000001x.tmp"));
    assert_true(exists(run, "notes.tmp"));
    free(run);
}

/* -- Damage ---------------------------------------------------------------------------------- */

static void expect_damaged(const char *path, const char *rule)
{
    mixt_checkpoint *checkpoint;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_not_equal(mixt_checkpoint_open(path, &checkpoint, &error), MIXT_OK);
    assert_null(checkpoint);
    if (strstr(error.message, rule) == NULL) {
        fail_msg("wanted \"%s\", got \"%s\"", rule, error.message);
    }
}

static void flip(const char *path, long byte, int bit)
{
    int descriptor = open(path, O_RDWR);
    assert_true(descriptor >= 0);
    unsigned char value;
    assert_int_equal(pread(descriptor, &value, 1, byte), 1);
    value ^= (unsigned char)(1 << bit);
    assert_int_equal(pwrite(descriptor, &value, 1, byte), 1);
    close(descriptor);
}

/* Large enough for the threads that hash beside writing and verify side by side. */
static void test_large(void **unused)
{
    (void)unused;
    char *run = run_folder("large");
    int64_t count = 1 << 20;
    size_t bytes = (size_t)count * 4;
    uint32_t *data = malloc(3 * bytes);
    uint32_t *back = malloc(3 * bytes);
    assert_true(data != NULL && back != NULL);
    for (size_t i = 0; i < 3 * (size_t)count; i++) {
        data[i] = (uint32_t)(i * 2654435761u);
    }
    mixt_checkpoint_tensor tensors[3];
    for (int i = 0; i < 3; i++) {
        static const char *const files[] = {"model.safetensors", "optimizer.safetensors",
                                            "optimizer.safetensors"};
        static const char *const names[] = {"w", "m", "v"};
        tensors[i] = (mixt_checkpoint_tensor){files[i], names[i],       MIXT_DTYPE_U32,
                                              2,        {4, count / 4}, data + (size_t)(i * count)};
    }
    mixt_checkpoint_state state = {
        .step = 1, .config_hash = "x", .tensors = tensors, .tensor_count = 3};
    mixt_checkpoints *store = open_store(run);
    OK(mixt_checkpoints_save(store, &state, 2, error_));
    for (int i = 0; i < 3; i++) {
        tensors[i].data = back + (size_t)(i * count);
    }
    mixt_checkpoint *checkpoint;
    char *lines;
    OK(mixt_checkpoint_find(run, &checkpoint, &lines, error_));
    OK(mixt_checkpoint_load(checkpoint, tensors, 3, error_));
    assert_memory_equal(data, back, 3 * bytes);
    mixt_checkpoint_free(checkpoint);
    char *path = join(run, "step-00000001/optimizer.safetensors");
    char *step = join(run, "step-00000001");
    flip(path, (long)bytes + 500, 3);
    expect_damaged(step, "tensor \"v\"");
    mixt_fault = (mixt_fault_plan){.folder = run, .fail_at = 20, .number = ENOSPC};
    mixt_error error = MIXT_ERROR_INIT;
    state.step = 2;
    assert_int_equal(mixt_checkpoints_save(store, &state, 2, &error), MIXT_ERROR_IO);
    mixt_fault = (mixt_fault_plan){0};
    assert_non_null(strstr(error.message, strerror(ENOSPC)));
    assert_false(exists(run, "step-00000002"));
    mixt_checkpoints_close(store);
    free(step);
    free(path);
    free(data);
    free(back);
    free(run);
}

static void test_every_bit(void **unused)
{
    (void)unused;
    char *run = run_folder("bits");
    fresh_run(run, 1, 1);
    char *step = join(run, "step-00000001");
    char **names;
    size_t count;
    OK(mixt_folder_list(step, &names, &count, error_));
    assert_int_equal(count, 5);
    size_t flips = 0;
    for (size_t i = 0; i < count; i++) {
        char *path = join(step, names[i]);
        struct stat size;
        assert_int_equal(stat(path, &size), 0);
        for (long byte = 0; byte < size.st_size; byte++) {
            for (int bit = 0; bit < 8; bit++) {
                flip(path, byte, bit);
                expect_damaged(step, names[i]);
                flip(path, byte, bit);
                flips++;
            }
        }
        free(path);
    }
    mixt_names_free(names, count);
    assert_int_equal(newest(run, NULL), 1);
    print_message("%zu single-bit flips detected\n", flips);
    assert_true(flips > 10000);
    free(step);
    free(run);
}

static void test_names_the_tensor(void **unused)
{
    (void)unused;
    char *run = run_folder("tensor");
    fresh_run(run, 1, 2);
    char *model = join(run, "step-00000002/model.safetensors");
    struct stat size;
    assert_int_equal(stat(model, &size), 0);
    flip(model, size.st_size - 1, 0);
    char *lines;
    assert_int_equal(newest(run, &lines), 1);
    assert_non_null(lines);
    assert_non_null(
        strstr(lines, "step-00000002/model.safetensors: tensor \"layer.bias\" does not"));
    assert_null(strchr(lines, '\n')); /* one line for the one passed over */
    free(lines);
    flip(model, size.st_size - 1, 0);
    flip(model, 20, 0);
    assert_int_equal(newest(run, &lines), 1);
    assert_non_null(strstr(lines, "model.safetensors: header"));
    free(lines);
    free(model);
    free(run);
}

static void test_damaged_folders(void **unused)
{
    (void)unused;
    char *run = run_folder("damaged");
    fresh_run(run, 1, 3);
    char *newer = join(run, "step-00000003");
    char *older = join(run, "step-00000002");
    char *model = join(newer, "model.safetensors");
    char *optimizer = join(newer, "optimizer.safetensors");
    char *manifest = join(newer, "manifest.json");
    char *aside = join(run, "aside");
    struct stat size;
    assert_int_equal(stat(model, &size), 0);

    assert_int_equal(truncate(model, size.st_size - 1), 0); /* a byte short */
    expect_damaged(newer, "the manifest says");
    assert_int_equal(truncate(model, size.st_size), 0); /* a zero in its place */
    expect_damaged(newer, "tensor \"layer.bias\"");
    assert_int_equal(truncate(model, size.st_size + 1), 0);
    expect_damaged(newer, "the manifest says");
    fresh_run(run, 3, 3);

    assert_int_equal(rename(model, aside), 0); /* files of the same size swapped */
    char *foreign = join(older, "model.safetensors");
    assert_int_equal(link(foreign, model), 0);
    expect_damaged(newer, "tensor \"layer.weight\"");
    assert_int_equal(unlink(model), 0);
    expect_damaged(newer, "no such file");
    assert_int_equal(mkfifo(model, 0600), 0);
    expect_damaged(newer, "FIFO");
    assert_int_equal(unlink(model), 0);
    assert_int_equal(rename(optimizer, model), 0);
    assert_int_equal(rename(aside, optimizer), 0);
    expect_damaged(newer, "safetensors");
    fresh_run(run, 3, 3);

    assert_int_equal(unlink(manifest), 0);
    expect_damaged(newer, "manifest.json: no such file");
    char *lines;
    assert_int_equal(newest(run, &lines), 2);
    assert_non_null(strstr(lines, "manifest.json"));
    free(lines);
    fresh_run(run, 3, 3);

    char *foreign_manifest = join(older, "manifest.json"); /* from another step */
    assert_int_equal(unlink(manifest), 0);
    assert_int_equal(link(foreign_manifest, manifest), 0);
    expect_damaged(newer, "does not match");
    fresh_run(run, 3, 3);

    char *renamed = join(run, "step-00000009"); /* a whole folder under a wrong name */
    assert_int_equal(rename(newer, renamed), 0);
    assert_int_equal(newest(run, &lines), 2);
    assert_non_null(strstr(lines, "its manifest is that of step 3"));
    free(lines);
    assert_int_equal(symlink("step-00000002", newer), 0); /* a link is no checkpoint */
    assert_int_equal(newest(run, &lines), 2);
    assert_non_null(strstr(lines, "is not a folder"));
    free(lines);

    char *extra = join(older, "notes.txt"); /* somebody's own file is no damage */
    int descriptor = open(extra, O_WRONLY | O_CREAT, 0600);
    assert_true(descriptor >= 0);
    close(descriptor);
    assert_int_equal(newest(run, &lines), 2);
    free(lines);

    free(newer);
    free(older);
    free(model);
    free(optimizer);
    free(manifest);
    free(aside);
    free(foreign);
    free(foreign_manifest);
    free(renamed);
    free(extra);
    free(run);
}

static void test_none_verifies(void **unused)
{
    (void)unused;
    char *run = run_folder("none");
    fresh_run(run, 1, 2);
    for (int i = 1; i <= 2; i++) {
        char name[60];
        snprintf(name, sizeof name, "step-%08d/model.safetensors", i);
        char *path = join(run, name);
        assert_int_equal(truncate(path, 9), 0);
        free(path);
    }
    mixt_checkpoint *checkpoint;
    char *lines;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_checkpoint_find(run, &checkpoint, &lines, &error), MIXT_ERROR_FORMAT);
    assert_null(checkpoint);
    assert_null(lines);
    assert_non_null(strstr(error.message, "none of 2 checkpoints verifies"));
    assert_non_null(strstr(error.message, "step-00000002"));
    free(run);
}

/* Replaces the manifest by `text` sealed anew, as another version of mixt would write it. */
static void reseal(const char *manifest, const char *from, const char *to)
{
    char *text;
    size_t length;
    OK(mixt_file_read(manifest, 1u << 20, &text, &length, error_));
    char *seal = strstr(text, ",\n\"sha256\": \"");
    while (strstr(seal + 1, ",\n\"sha256\": \"") != NULL) {
        seal = strstr(seal + 1, ",\n\"sha256\": \"");
    }
    *seal = '\0';
    char *place = strstr(text, from);
    assert_non_null(place);
    mixt_buffer out = {0};
    mixt_buffer_append(&out, text, (size_t)(place - text));
    mixt_buffer_text(&out, to);
    mixt_buffer_text(&out, place + strlen(from));
    mixt_sha256 sum;
    char hash[MIXT_SHA256_HEX];
    mixt_sha256_init(&sum);
    mixt_sha256_update(&sum, out.data, out.length);
    mixt_sha256_final_hex(&sum, hash);
    mixt_buffer_format(&out, ",\n\"sha256\": \"%s\"\n}\n", hash);
    OK(mixt_file_replace(manifest, out.data, out.length, error_));
    mixt_buffer_free(&out);
    free(text);
}

static void test_versions(void **unused)
{
    (void)unused;
    char *run = run_folder("versions");
    fresh_run(run, 1, 2);
    char *manifest = join(run, "step-00000002/manifest.json");
    reseal(manifest, "\"version\": 1", "\"version\": 2");
    mixt_checkpoint *checkpoint;
    char *lines;
    mixt_error error = MIXT_ERROR_INIT;
    /* Going back to step 1 would throw work away: refused by name. */
    assert_int_equal(mixt_checkpoint_find(run, &checkpoint, &lines, &error),
                     MIXT_ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "version 2; this mixt reads up to version 1"));
    assert_null(lines);
    reseal(manifest, "\"version\": 2", "\"version\": 0");
    assert_int_equal(newest(run, &lines), 1);
    assert_non_null(strstr(lines, "version: 0 is not an integer in 1.."));
    free(lines);
    free(manifest);
    free(run);
}

/* Manifests that a stranger sealed correctly. */
static void test_hostile_manifests(void **unused)
{
    (void)unused;
    const char *const cases[][3] = {
        {"\"step\": 1,", "\"step\": -1,", "step: -1"},
        {"\"step\": 1,", "\"step\": 1.5,", "step: 1.5"},
        {"mixt checkpoint", "other", "format"},
        {"\"name\": \"model.safetensors\"", "\"name\": \"../../x\"", "plain file name"},
        {"\"name\": \"model.safetensors\"", "\"name\": \"..\"", "plain file name"},
        {"\"name\": \"model.safetensors\"", "\"name\": 7", "files.name"},
        {"\"shape\": [4, 8]", "\"shape\": [4, 9223372036854775807]", "impossible shape"},
        {"\"shape\": [4, 8]", "\"shape\": [-4, -8]", "impossible shape"},
        {"\"shape\": [4, 8]", "\"shape\": [4, 80]", "larger than their file"},
        {"\"shape\": [4, 8]", "\"shape\": [1,1,1,1,1]", "more than 4"},
        {"\"shape\": [4, 8]", "\"shape\": 4", "shape: 4 is not an array"},
        {"\"dtype\": \"F32\"", "\"dtype\": \"Q9\"", "impossible shape or dtype"},
        {"\"crc32c\": ", "\"crc32c\": 9999999999", "crc32c"},
        {"\"bytes\": ", "\"bytes\": -", "bytes: -"},
        {"\"sha256\": \"", "\"sha256\": \"0", "64 digits"},
        {"\"config_hash\": \"c0ffee\"", "\"config_hash\": null", "config_hash: null"},
        {"\"files\": [", "\"files\": 5, \"x\": [", "files: 5 is not an array"},
        {"\"tensors\": [", "\"tensors\": 5, \"x\": [", "tensors: 5 is not an array"},
    };
    char *run = run_folder("hostile");
    char *manifest = join(run, "step-00000001/manifest.json");
    char *step = join(run, "step-00000001");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fresh_run(run, 1, 1);
        reseal(manifest, cases[i][0], cases[i][1]);
        expect_damaged(step, cases[i][2]);
    }
    free(manifest);
    free(step);
    free(run);
}

static void test_shape_checks(void **unused)
{
    (void)unused;
    char *run = run_folder("shapes");
    fresh_run(run, 1, 1);
    mixt_checkpoint *checkpoint;
    char *lines;
    OK(mixt_checkpoint_find(run, &checkpoint, &lines, error_));
    fault_state state;
    fault_state_fill(&state, 0);
    OK(mixt_checkpoint_load(checkpoint, state.tensors, 2, error_)); /* one file alone */
    struct {
        int index;
        const char *rule;
    } const cases[] = {{0, "\"layer.weight\" is F32 [4, 8], the model wants F32 [8, 4]"},
                       {1, "wants F32 [8, 1]"},
                       {2, "wants I64 [4, 8]"},
                       {3, "no tensor \"absent\""}};
    for (int i = 0; i < 4; i++) {
        fault_state_fill(&state, 0);
        if (i == 0) {
            state.tensors[0].shape[0] = 8;
            state.tensors[0].shape[1] = 4;
        } else if (i == 1) {
            state.tensors[1].rank = 2;
            state.tensors[1].shape[1] = 1;
        } else if (i == 2) {
            state.tensors[2].dtype = MIXT_DTYPE_I64;
        } else {
            state.tensors[3].name = "absent";
        }
        mixt_error error = MIXT_ERROR_INIT;
        assert_int_equal(mixt_checkpoint_load(checkpoint, state.tensors, STATE_TENSORS, &error),
                         MIXT_ERROR_FORMAT);
        if (strstr(error.message, cases[i].rule) == NULL) {
            fail_msg("%s", error.message);
        }
    }
    mixt_error error = MIXT_ERROR_INIT;
    fault_state_fill(&state, 0);
    assert_int_equal(mixt_checkpoint_load(checkpoint, state.tensors, 1, &error), MIXT_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "holds 2 tensors, the model wants 1"));
    mixt_error second = MIXT_ERROR_INIT;
    state.tensors[0].file = "other.safetensors";
    assert_int_equal(mixt_checkpoint_load(checkpoint, state.tensors, 1, &second),
                     MIXT_ERROR_FORMAT);
    assert_non_null(strstr(second.message, "not in the checkpoint"));
    char *data;
    size_t length;
    assert_int_equal(mixt_checkpoint_read_file(checkpoint, "absent", &data, &length, NULL),
                     MIXT_ERROR_NOT_FOUND);
    char *json = join(run, "step-00000001/state.json");
    flip(json, 0, 0);
    assert_int_equal(mixt_checkpoint_read_file(checkpoint, "state.json", &data, &length, NULL),
                     MIXT_ERROR_FORMAT);
    assert_null(data);
    char *model = join(run, "step-00000001/model.safetensors");
    struct stat size;
    assert_int_equal(stat(model, &size), 0);
    flip(model, size.st_size - 1, 7);
    fault_state_fill(&state, 0);
    mixt_error third = MIXT_ERROR_INIT;
    assert_int_equal(mixt_checkpoint_load(checkpoint, state.tensors, 2, &third), MIXT_ERROR_FORMAT);
    assert_non_null(strstr(third.message, "\"layer.bias\" changed while it was read"));
    free(json);
    free(model);
    mixt_checkpoint_free(checkpoint);
    free(run);
}

static void test_bad_saves(void **unused)
{
    (void)unused;
    char *run = run_folder("badsaves");
    mixt_checkpoints *store = open_store(run);
    save_step(store, 1, 2);
    for (int i = 0; i < 6; i++) {
        fault_state state;
        fault_state_fill(&state, 2);
        const char *rule = "";
        if (i == 0) {
            state.description.step = -1;
            rule = "cannot be saved";
        } else if (i == 1) {
            state.files[0].name = "manifest.json";
            rule = "impossible name";
        } else if (i == 2) {
            state.files[0].name = "a/b";
            rule = "impossible name";
        } else if (i == 3) {
            state.files[0].name = "model.safetensors";
            rule = "there twice";
        } else if (i == 4) {
            state.tensors[1].shape[0] = -8;
            rule = "impossible type or shape";
        } else {
            state.tensors[3].name = "\xff";
            rule = "not UTF-8";
        }
        mixt_error error = MIXT_ERROR_INIT;
        assert_int_equal(mixt_checkpoints_save(store, &state.description, 2, &error),
                         MIXT_ERROR_ARGUMENT);
        if (strstr(error.message, rule) == NULL) {
            fail_msg("%s", error.message);
        }
        assert_false(exists(run, "step-00000002"));
        assert_false(exists(run, "step-00000002.tmp"));
    }
    assert_int_equal(newest(run, NULL), 1);
    mixt_checkpoints_close(store);
    free(run);
}

static mixt_status write_two(void *user, const char *folder, mixt_error *error)
{
    char *one = join(folder, "tokenizer.json");
    char *two = join(folder, "tokenizer_config.json");
    mixt_status status = mixt_file_replace(one, "{1}", 3, error);
    if (status == MIXT_OK) {
        status = mixt_file_replace(two, "{22}", 4, error);
    }
    free(one);
    free(two);
    return user != NULL ? MIXT_ERROR_IO : status;
}

static void test_foreign_files(void **unused)
{
    (void)unused;
    char *run = run_folder("foreign");
    mixt_checkpoints *store = open_store(run);
    fault_state state;
    fault_state_fill(&state, 4);
    state.description.write_files = write_two;
    OK(mixt_checkpoints_save(store, &state.description, 2, error_));
    mixt_checkpoint *checkpoint;
    char *lines;
    char *data;
    size_t length;
    OK(mixt_checkpoint_find(run, &checkpoint, &lines, error_));
    OK(mixt_checkpoint_read_file(checkpoint, "tokenizer_config.json", &data, &length, error_));
    assert_string_equal(data, "{22}");
    free(data);
    mixt_checkpoint_free(checkpoint);
    char *path = join(run, "step-00000004/tokenizer.json");
    flip(path, 1, 0);
    char *step = join(run, "step-00000004");
    expect_damaged(step, "tokenizer.json: content does not match");
    fault_state_fill(&state, 5);
    state.description.write_files = write_two;
    state.description.user = &state; /* makes it fail */
    assert_int_equal(mixt_checkpoints_save(store, &state.description, 2, NULL), MIXT_ERROR_IO);
    assert_false(exists(run, "step-00000005"));
    mixt_checkpoints_close(store);
    free(path);
    free(step);
    free(run);
}

/* -- Faults ---------------------------------------------------------------------------------- */

/* A run folder with steps 1 and 2, made anew. */
static void two_steps(const char *run)
{
    OK(mixt_folder_remove(run, error_));
    fresh_run(run, 1, 2);
}

static mixt_status try_step(const char *run, int64_t step, mixt_error *error)
{
    mixt_checkpoints *store;
    mixt_status status = mixt_checkpoints_open(run, &store, error);
    if (status == MIXT_OK) {
        fault_state state;
        fault_state_fill(&state, step);
        status = mixt_checkpoints_save(store, &state.description, 2, error);
        mixt_checkpoints_close(store);
    }
    return status;
}

/* After any fault the newest checkpoint is 2 or 3 with all its bits, the one before is there, and
 * the next start cleans up and saves. */
static void judge(const char *run, bool saved, const char *what, int call)
{
    mixt_fault = (mixt_fault_plan){0};
    int64_t step = newest(run, NULL);
    if (step != 3 && (saved || step != 2)) {
        fail_msg("%s at call %d: newest is step %lld", what, call, (long long)step);
    }
    assert_true(exists(run, "step-00000002"));
    mixt_error error = MIXT_ERROR_INIT;
    if (try_step(run, 4, &error) != MIXT_OK) {
        fail_msg("%s at call %d: next save: %s", what, call, error.message);
    }
    assert_int_equal(newest(run, NULL), 4);
    char **names;
    size_t count;
    OK(mixt_folder_list(run, &names, &count, error_));
    for (size_t i = 0; i < count; i++) {
        if (strstr(names[i], "tmp") != NULL) {
            fail_msg("%s at call %d: %s is left", what, call, names[i]);
        }
    }
    mixt_names_free(names, count);
}

/* Counted calls of one whole save. */
static int count_calls(const char *run)
{
    two_steps(run);
    mixt_fault = (mixt_fault_plan){.folder = run};
    OK(try_step(run, 3, error_));
    int count = mixt_fault.count;
    mixt_fault = (mixt_fault_plan){0};
    assert_true(count > 40);
    return count;
}

static void test_kill_at_every_call(void **unused)
{
    (void)unused;
    char *run = run_folder("killed");
    int last = count_calls(run);
    int killed = 0;
    for (int call = 1; call <= last + 1; call++) {
        for (int half = 0; half < 2; half++) {
            two_steps(run);
            pid_t child = fork();
            assert_true(child >= 0);
            if (child == 0) {
                mixt_fault = (mixt_fault_plan){.folder = run, .kill_at = call, .half = half != 0};
                _exit(try_step(run, 3, NULL) == MIXT_OK ? 0 : 1);
            }
            int result;
            assert_int_equal(waitpid(child, &result, 0), child);
            bool died = WIFSIGNALED(result) && WTERMSIG(result) == SIGKILL;
            assert_true(died || (WIFEXITED(result) && WEXITSTATUS(result) == 0));
            assert_int_equal(died, call <= last);
            killed += died;
            judge(run, !died, "kill", call);
        }
    }
    print_message("killed %d times at %d system calls\n", killed, last);
    assert_int_equal(killed, 2 * last);
    free(run);
}

static void test_errors_at_every_call(void **unused)
{
    (void)unused;
    char *run = run_folder("failing");
    int last = count_calls(run);
    const int numbers[] = {ENOSPC, EIO, EINTR};
    for (int call = 1; call <= last; call++) {
        for (int i = 0; i < 6; i++) {
            if (numbers[i / 2] == EINTR && i % 2 != 0) {
                continue; /* interrupted for ever: trying again for ever is right */
            }
            two_steps(run);
            mixt_fault = (mixt_fault_plan){
                .folder = run, .fail_at = call, .number = numbers[i / 2], .forever = i % 2 != 0};
            mixt_error error = MIXT_ERROR_INIT;
            mixt_status status = try_step(run, 3, &error);
            if (status != MIXT_OK) {
                assert_int_equal(status, MIXT_ERROR_IO);
                if (strstr(error.message, strerror(numbers[i / 2])) == NULL) {
                    fail_msg("call %d: %s: \"%s\"", call, strerror(numbers[i / 2]), error.message);
                }
                assert_null(strchr(error.message, '\n'));
                assert_non_null(strstr(error.message, run));
            }
            judge(run, status == MIXT_OK, strerror(numbers[i / 2]), call);
        }
    }
    free(run);
}

/* An fsync that fails once and then succeeds must not make a checkpoint: the pages that it lost are
 * never written. */
static void test_failed_sync_is_final(void **unused)
{
    (void)unused;
    char *run = run_folder("sync");
    int last = count_calls(run);
    two_steps(run);
    mixt_fault = (mixt_fault_plan){.folder = run};
    OK(try_step(run, 3, error_));
    char calls[FAULT_DESCRIPTORS][24];
    memcpy(calls, mixt_fault.calls, sizeof calls);
    mixt_fault = (mixt_fault_plan){0};
    int syncs = 0;
    for (int call = 1; call <= last; call++) {
        if (strcmp(calls[call], "fsync") != 0) {
            continue;
        }
        two_steps(run);
        mixt_fault = (mixt_fault_plan){.folder = run, .fail_at = call, .number = EIO};
        mixt_error error = MIXT_ERROR_INIT;
        assert_int_equal(try_step(run, 3, &error), MIXT_ERROR_IO);
        assert_non_null(strstr(error.message, "cannot sync"));
        syncs++;
        mixt_fault = (mixt_fault_plan){0};
        if (syncs <= 7) { /* five files, their folder, the run folder; then LATEST, which is not
                             what makes a checkpoint */
            assert_false(exists(run, "step-00000003"));
        }
        judge(run, false, "fsync", call);
    }
    assert_int_equal(syncs, 9); /* and LATEST with its folder */
    free(run);
}

static void test_short_writes(void **unused)
{
    (void)unused;
    char *run = run_folder("short");
    const size_t sizes[] = {1, 7, 100};
    for (size_t i = 0; i < 3; i++) {
        two_steps(run);
        mixt_fault = (mixt_fault_plan){.folder = run, .short_write = sizes[i]};
        mixt_status status = try_step(run, 3, NULL);
        mixt_fault = (mixt_fault_plan){0};
        assert_int_equal(status, MIXT_OK);
        assert_int_equal(newest(run, NULL), 3);
    }
    free(run);
}

/* The same process goes on after a full disk: the next attempt starts from nothing and holds. */
static void test_goes_on_after_full_disk(void **unused)
{
    (void)unused;
    char *run = run_folder("full");
    two_steps(run);
    mixt_checkpoints *store = open_store(run);
    fault_state state;
    fault_state_fill(&state, 3);
    mixt_fault = (mixt_fault_plan){.folder = run, .fail_at = 12, .number = ENOSPC, .forever = true};
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_checkpoints_save(store, &state.description, 2, &error), MIXT_ERROR_IO);
    assert_non_null(strstr(error.message, "No space left"));
    mixt_fault = (mixt_fault_plan){0};
    assert_int_equal(newest(run, NULL), 2);
    save_step(store, 3, 2);
    assert_int_equal(newest(run, NULL), 3);
    mixt_checkpoints_close(store);
    free(run);
}

/* A file system that cannot exchange two names: an old step that verifies stays, a broken one is
 * replaced. */
static void test_without_exchange(void **unused)
{
    (void)unused;
    char *run = run_folder("exchange");
    char *json = join(run, "step-00000002/state.json");
    two_steps(run);
    mixt_fault = (mixt_fault_plan){.folder = run};
    OK(try_step(run, 2, error_));
    int call = 1;
    while (call <= mixt_fault.count && strcmp(mixt_fault.calls[call], "renameat2") != 0) {
        call++;
    }
    assert_true(call <= mixt_fault.count);
    for (int broken = 0; broken < 2; broken++) {
        mixt_fault = (mixt_fault_plan){0};
        two_steps(run);
        if (broken) {
            flip(json, 0, 0);
        }
        mixt_fault = (mixt_fault_plan){.folder = run, .fail_at = call, .number = EINVAL};
        OK(try_step(run, 2, error_));
        assert_true(mixt_fault.count > call);
        mixt_fault = (mixt_fault_plan){0};
        assert_int_equal(newest(run, NULL), 2);
        assert_false(exists(run, "step-00000002.tmp"));
    }
    free(json);
    free(run);
}

/* A failed sync of the run folder after an exchange puts the old step back. */
static void test_exchange_is_undone(void **unused)
{
    (void)unused;
    char *run = run_folder("undone");
    char *extra = join(run, "step-00000002/extra");
    two_steps(run);
    mixt_fault = (mixt_fault_plan){.folder = run};
    OK(try_step(run, 2, error_));
    int call = 1;
    while (strcmp(mixt_fault.calls[call], "renameat2") != 0) {
        call++;
    }
    assert_string_equal(mixt_fault.calls[call + 1], "fsync");
    mixt_fault = (mixt_fault_plan){0};
    two_steps(run);
    assert_int_equal(mkdir(extra, 0700), 0); /* marks the old one */
    mixt_fault = (mixt_fault_plan){.folder = run, .fail_at = call + 1, .number = EIO};
    assert_int_equal(try_step(run, 2, NULL), MIXT_ERROR_IO);
    mixt_fault = (mixt_fault_plan){0};
    assert_true(mixt_path_exists(extra));
    assert_int_equal(newest(run, NULL), 2);
    free(extra);
    free(run);
}

/* A disk that fails while checkpoints are read: the bad one is passed over with its reason, or the
 * whole is refused; never a crash, never wrong bits. */
static void test_read_errors(void **unused)
{
    (void)unused;
    char *run = run_folder("reads");
    two_steps(run);
    mixt_checkpoint *checkpoint;
    char *lines;
    mixt_fault = (mixt_fault_plan){.folder = run, .reads = true};
    OK(mixt_checkpoint_find(run, &checkpoint, &lines, error_));
    int last = mixt_fault.count;
    mixt_checkpoint_free(checkpoint);
    assert_true(last > 15);
    int older = 0;
    for (int call = 1; call <= last; call++) {
        mixt_fault =
            (mixt_fault_plan){.folder = run, .reads = true, .fail_at = call, .number = EIO};
        mixt_error error = MIXT_ERROR_INIT;
        mixt_status status = mixt_checkpoint_find(run, &checkpoint, &lines, &error);
        mixt_fault = (mixt_fault_plan){0};
        assert_int_equal(status, MIXT_OK);
        if (mixt_checkpoint_step(checkpoint) == 1) {
            assert_non_null(strstr(lines, "step-00000002"));
            assert_non_null(strstr(lines, strerror(EIO)));
            older++;
        } else {
            assert_null(lines); /* a failing close of a file that was only read */
        }
        assert_true(fault_state_matches(checkpoint, NULL));
        mixt_checkpoint_free(checkpoint);
        free(lines);
    }
    assert_true(older > 10);
    mixt_fault = (mixt_fault_plan){
        .folder = run, .reads = true, .fail_at = 1, .number = EIO, .forever = true};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = mixt_checkpoint_find(run, &checkpoint, &lines, &error);
    mixt_fault = (mixt_fault_plan){0};
    assert_int_not_equal(status, MIXT_OK);
    assert_null(checkpoint);
    free(run);
}

/* The power fails at every call of a save, several times each, and what was not synced is lost,
 * trashed or kept in any combination. MIXT_POWER_CUTS sets how many cuts each call gets. */
static void test_power_cuts(void **unused)
{
    (void)unused;
    char *run = run_folder("power");
    char *grave = run_folder("grave");
    int last = count_calls(run);
    const char *wish = getenv("MIXT_POWER_CUTS");
    int seeds = wish != NULL ? atoi(wish) : 6;
    int cuts = 0;
    int lost = 0;
    for (int call = 1; call <= last + 1; call++) {
        for (int seed = 1; seed <= seeds; seed++) {
            two_steps(run);
            OK(mixt_folder_remove(grave, error_));
            OK(mixt_folder_create(grave, error_));
            /* every call from this one on fails without an effect: the machine is off */
            mixt_fault =
                (mixt_fault_plan){.folder = run, .fail_at = call, .number = EIO, .forever = true};
            power_begin(grave, (uint64_t)(call * 1000 + seed));
            bool saved = try_step(run, 3, NULL) == MIXT_OK;
            assert_true(saved || call <= last); /* removing old ones may fail in silence */
            lost += power_cut();
            mixt_fault = (mixt_fault_plan){0};
            mixt_checkpoint *checkpoint;
            char *lines;
            mixt_error error = MIXT_ERROR_INIT;
            if (mixt_checkpoint_find(run, &checkpoint, &lines, &error) != MIXT_OK ||
                checkpoint == NULL) {
                fail_msg("call %d, seed %d: %s", call, seed, error.message);
            }
            int64_t step = mixt_checkpoint_step(checkpoint);
            if ((step != 3 && (saved || step != 2)) || lines != NULL ||
                !fault_state_matches(checkpoint, &error)) {
                fail_msg("call %d, seed %d: step %lld, passed over %s, %s", call, seed,
                         (long long)step, lines == NULL ? "none" : lines, error.message);
            }
            mixt_checkpoint_free(checkpoint);
            OK(try_step(run, 4, error_));
            assert_int_equal(newest(run, NULL), 4);
            cuts++;
        }
    }
    print_message("%d power cuts, %d changes lost or trashed, no checkpoint\n", cuts, lost);
    assert_true(lost > cuts);
    free(grave);
    free(run);
}

/* -- The lock -------------------------------------------------------------------------------- */

static void test_lock(void **unused)
{
    (void)unused;
    char *run = run_folder("locked");
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        mixt_checkpoints *store;
        bool held = mixt_checkpoints_open(run, &store, NULL) == MIXT_OK;
        if (write(ready[1], held ? "y" : "n", 1) == 1) {
            pause();
        }
        _exit(0);
    }
    char answer;
    assert_int_equal(read(ready[0], &answer, 1), 1);
    assert_int_equal(answer, 'y');
    mixt_checkpoints *store;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_checkpoints_open(run, &store, &error), MIXT_ERROR_BUSY);
    char pid[40];
    snprintf(pid, sizeof pid, "another process, %ld is working", (long)child);
    if (strstr(error.message, pid) == NULL) {
        fail_msg("%s", error.message);
    }
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    store = open_store(run); /* the lock of a dead process does not block */
    mixt_checkpoints *second;
    assert_int_equal(mixt_checkpoints_open(run, &second, NULL), MIXT_ERROR_BUSY);
    mixt_checkpoints_close(store);
    close(ready[0]);
    close(ready[1]);
    free(run);
}

/* -- Checksums ------------------------------------------------------------------------------- */

/* RFC 3720 B.4, and the check value of the CRC catalogue. */
static void test_crc32c(void **unused)
{
    (void)unused;
    unsigned char data[48];
    memset(data, 0, 32);
    assert_true(mixt_crc32c(0, data, 32) == 0x8a9136aa);
    memset(data, 0xff, 32);
    assert_true(mixt_crc32c(0, data, 32) == 0x62a8ab43);
    for (int i = 0; i < 32; i++) {
        data[i] = (unsigned char)i;
    }
    assert_true(mixt_crc32c(0, data, 32) == 0x46dd794e);
    for (int i = 0; i < 32; i++) {
        data[i] = (unsigned char)(31 - i);
    }
    assert_true(mixt_crc32c(0, data, 32) == 0x113fdb5c);
    assert_true(mixt_crc32c(0, "123456789", 9) == 0xe3069283);
    assert_true(mixt_crc32c(0, data, 0) == 0);
    unsigned char bytes[1000];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (unsigned char)(i * i + 3);
    }
    for (size_t start = 0; start < 9; start++) {
        for (size_t length = 0; length < 70; length++) {
            uint32_t whole = mixt_crc32c(0, bytes + start, length);
            assert_true(whole == mixt_crc32c_portable(0, bytes + start, length));
            uint32_t half = mixt_crc32c(0, bytes + start, length / 2);
            assert_true(whole ==
                        mixt_crc32c(half, bytes + start + length / 2, length - length / 2));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_saves_and_loads),
        cmocka_unit_test(test_keeps_enough),
        cmocka_unit_test(test_same_step_again),
        cmocka_unit_test(test_leftovers_go),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_every_bit),
        cmocka_unit_test(test_names_the_tensor),
        cmocka_unit_test(test_damaged_folders),
        cmocka_unit_test(test_none_verifies),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_hostile_manifests),
        cmocka_unit_test(test_shape_checks),
        cmocka_unit_test(test_bad_saves),
        cmocka_unit_test(test_foreign_files),
        cmocka_unit_test(test_kill_at_every_call),
        cmocka_unit_test(test_errors_at_every_call),
        cmocka_unit_test(test_failed_sync_is_final),
        cmocka_unit_test(test_short_writes),
        cmocka_unit_test(test_goes_on_after_full_disk),
        cmocka_unit_test(test_without_exchange),
        cmocka_unit_test(test_exchange_is_undone),
        cmocka_unit_test(test_read_errors),
        cmocka_unit_test(test_power_cuts),
        cmocka_unit_test(test_lock),
        cmocka_unit_test(test_crc32c),
    };
    return cmocka_run_group_tests(tests, make_top, remove_top);
}
