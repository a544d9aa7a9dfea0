/* Checkpoints: nothing damaged is taken for good, whatever was changed and however it is sealed. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "checkpoint_run.h"
#include "core/files.h"
#include "core/memory.h"
#include "core/sha256.h"
#include "fault/state.h"

static void test_every_bit(void **unused)
{
    (void)unused;
    char *run = run_folder("bits");
    fresh_run(run, 1, 1);
    char *step = run_path(run, "step-00000001");
    char **names;
    size_t count;
    OK(mixt_folder_list(step, &names, &count, error_));
    assert_int_equal(count, 5);
    size_t flips = 0;
    for (size_t i = 0; i < count; i++) {
        char *path = run_path(step, names[i]);
        struct stat size;
        assert_int_equal(stat(path, &size), 0);
        for (long byte = 0; byte < size.st_size; byte++) {
            for (int bit = 0; bit < 8; bit++) {
                flip_bit(path, byte, bit);
                expect_damaged(step, names[i]);
                flip_bit(path, byte, bit);
                flips++;
            }
        }
        free(path);
    }
    mixt_names_free(names, count);
    assert_int_equal(newest_step(run, NULL), 1);
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
    char *model = run_path(run, "step-00000002/model.safetensors");
    struct stat size;
    assert_int_equal(stat(model, &size), 0);
    flip_bit(model, size.st_size - 1, 0);
    char *lines;
    assert_int_equal(newest_step(run, &lines), 1);
    assert_non_null(lines);
    assert_non_null(
        strstr(lines, "step-00000002/model.safetensors: tensor \"layer.bias\" does not"));
    assert_null(strchr(lines, '\n')); /* one line for the one passed over */
    free(lines);
    flip_bit(model, size.st_size - 1, 0);
    flip_bit(model, 20, 0);
    assert_int_equal(newest_step(run, &lines), 1);
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
    char *newer = run_path(run, "step-00000003");
    char *older = run_path(run, "step-00000002");
    char *model = run_path(newer, "model.safetensors");
    char *optimizer = run_path(newer, "optimizer.safetensors");
    char *manifest = run_path(newer, "manifest.json");
    char *aside = run_path(run, "aside");
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
    char *foreign = run_path(older, "model.safetensors");
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
    assert_int_equal(newest_step(run, &lines), 2);
    assert_non_null(strstr(lines, "manifest.json"));
    free(lines);
    fresh_run(run, 3, 3);

    char *foreign_manifest = run_path(older, "manifest.json"); /* from another step */
    assert_int_equal(unlink(manifest), 0);
    assert_int_equal(link(foreign_manifest, manifest), 0);
    expect_damaged(newer, "does not match");
    fresh_run(run, 3, 3);

    char *renamed = run_path(run, "step-00000009"); /* a whole folder under a wrong name */
    assert_int_equal(rename(newer, renamed), 0);
    assert_int_equal(newest_step(run, &lines), 2);
    assert_non_null(strstr(lines, "its manifest is that of step 3"));
    free(lines);
    assert_int_equal(symlink("step-00000002", newer), 0); /* a link is no checkpoint */
    assert_int_equal(newest_step(run, &lines), 2);
    assert_non_null(strstr(lines, "is not a folder"));
    free(lines);

    char *extra = run_path(older, "notes.txt"); /* somebody's own file is no damage */
    int descriptor = open(extra, O_WRONLY | O_CREAT, 0600);
    assert_true(descriptor >= 0);
    close(descriptor);
    assert_int_equal(newest_step(run, &lines), 2);
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
        char *path = run_path(run, name);
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
    char *manifest = run_path(run, "step-00000002/manifest.json");
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
    assert_int_equal(newest_step(run, &lines), 1);
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
    char *manifest = run_path(run, "step-00000001/manifest.json");
    char *step = run_path(run, "step-00000001");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fresh_run(run, 1, 1);
        reseal(manifest, cases[i][0], cases[i][1]);
        expect_damaged(step, cases[i][2]);
    }
    free(manifest);
    free(step);
    free(run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_bit),       cmocka_unit_test(test_names_the_tensor),
        cmocka_unit_test(test_damaged_folders), cmocka_unit_test(test_none_verifies),
        cmocka_unit_test(test_versions),        cmocka_unit_test(test_hostile_manifests),
    };
    return cmocka_run_group_tests(tests, runs_make, runs_remove);
}
