/* Checkpoints: what is saved comes back, the newest that is whole is found, enough are kept, and
 * one process at a time works in a run folder. */
#include <errno.h>
#include <setjmp.h>
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

#include "checkpoint_run.h"
#include "core/files.h"
#include "fault/state.h"

static void test_saves_and_loads(void **unused)
{
    (void)unused;
    char *run = run_folder("plain");
    assert_int_equal(newest_step(run, NULL), -1);
    mixt_checkpoints *store = open_store(run);
    assert_int_equal(newest_step(run, NULL), -1);
    save_step(store, 7, 2);
    assert_int_equal(newest_step(run, NULL), 7);
    char *latest = run_path(run, "LATEST");
    char *text;
    size_t length;
    OK(mixt_file_read(latest, 100, &text, &length, error_));
    assert_string_equal(text, "step-00000007\n");
    free(text);
    assert_false(run_has(run, "step-00000007.tmp"));
    mixt_checkpoint *checkpoint;
    char *lines;
    OK(mixt_file_replace(latest, "step-00000006\n", 14, error_)); /* a save that ended before it */
    OK(mixt_checkpoints_newest(store, &checkpoint, &lines, error_));
    OK(mixt_file_read(latest, 100, &text, &length, error_));
    assert_string_equal(text, "step-00000007\n");
    free(text);
    free(latest);
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
    assert_false(run_has(run, "step-00000003"));
    assert_true(run_has(run, "step-00000004"));
    assert_true(run_has(run, "step-00000005"));
    /* A broken one does not count: the older good one stays. */
    char *broken = run_path(run, "step-00000005/model.safetensors");
    assert_int_equal(truncate(broken, 100), 0);
    mixt_checkpoints_close(store);
    store = open_store(run);
    save_step(store, 6, 2);
    assert_true(run_has(run, "step-00000004"));
    assert_true(run_has(run, "step-00000006"));
    save_step(store, 7, 2);
    assert_false(run_has(run, "step-00000004"));
    assert_false(run_has(run, "step-00000005"));
    assert_int_equal(newest_step(run, NULL), 7);
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
    char *broken = run_path(run, "step-00000003/state.json");
    assert_int_equal(truncate(broken, 3), 0);
    save_step(store, 3, 2); /* replaces the broken one */
    assert_int_equal(newest_step(run, NULL), 3);
    assert_false(run_has(run, "step-00000003.tmp"));
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
        char *path = run_path(run, names[i]);
        OK(mixt_folder_create(path, error_));
        free(path);
    }
    mixt_checkpoints_close(open_store(run));
    assert_false(run_has(run, "step-00000009.tmp"));
    assert_false(run_has(run, "step-00000001.old.tmp"));
    assert_false(run_has(run, "LATEST.tmp"));
    assert_true(run_has(run, "step-1.tmp")); /* not ours */
    assert_true(run_has(run, "step-00000001x.tmp"));
    assert_true(run_has(run, "notes.tmp"));
    free(run);
}

/* A run that lost its checkpoints does not begin again over what is left of it. */
static void test_lost_checkpoints(void **unused)
{
    (void)unused;
    char *run = run_folder("lost"), *step = run_path(run, "step-00000001");
    mixt_checkpoint *checkpoint;
    char *lines;
    mixt_error error = MIXT_ERROR_INIT;
    OK(mixt_checkpoint_find(run, &checkpoint, &lines, error_)); /* there is no such folder */
    assert_null(checkpoint);
    fresh_run(run, 1, 1);
    OK(mixt_folder_remove(step, error_));
    assert_int_equal(mixt_checkpoint_find(run, &checkpoint, &lines, &error), MIXT_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "lost/LATEST: names a checkpoint, and there is none"));
    assert_null(checkpoint);
    assert_null(lines);
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
    char *json = run_path(run, "step-00000001/state.json");
    flip_bit(json, 0, 0);
    assert_int_equal(mixt_checkpoint_read_file(checkpoint, "state.json", &data, &length, NULL),
                     MIXT_ERROR_FORMAT);
    assert_null(data);
    char *model = run_path(run, "step-00000001/model.safetensors");
    struct stat size;
    assert_int_equal(stat(model, &size), 0);
    flip_bit(model, size.st_size - 1, 7);
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
        assert_false(run_has(run, "step-00000002"));
        assert_false(run_has(run, "step-00000002.tmp"));
    }
    assert_int_equal(newest_step(run, NULL), 1);
    mixt_checkpoints_close(store);
    free(run);
}

static mixt_status write_two(void *user, const char *folder, mixt_error *error)
{
    char *one = run_path(folder, "tokenizer.json");
    char *two = run_path(folder, "tokenizer_config.json");
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
    char *path = run_path(run, "step-00000004/tokenizer.json");
    flip_bit(path, 1, 0);
    char *step = run_path(run, "step-00000004");
    expect_damaged(step, "tokenizer.json: content does not match");
    fault_state_fill(&state, 5);
    state.description.write_files = write_two;
    state.description.user = &state; /* makes it fail */
    assert_int_equal(mixt_checkpoints_save(store, &state.description, 2, NULL), MIXT_ERROR_IO);
    assert_false(run_has(run, "step-00000005"));
    mixt_checkpoints_close(store);
    free(path);
    free(step);
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
        alarm(60); /* nobody waits for it longer */
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

/* What one of two ranks writes of a step: tensors [first, end) under these names of files. */
static char *write_part(const char *run, fault_state *state, size_t first, size_t end)
{
    char *folder = mixt_checkpoint_unfinished(run, state->description.step);
    mixt_checkpoint_part *part;
    mixt_buffer text = {0};
    const mixt_checkpoint_part_of of = {folder, state->description.step, "c0ffee",
                                        state->tensors + first, end - first};
    OK(mixt_checkpoint_part_create(&of, &part, error_));
    for (size_t i = first; i < end; i++) {
        mixt_checkpoint_part_add(part, state->tensors[i].data);
    }
    OK(mixt_checkpoint_part_finish(part, &text, error_));
    mixt_checkpoint_part_free(part);
    mixt_buffer_append(&text, "", 1);
    assert_false(text.failed);
    free(folder);
    return text.data;
}

/* A step of two ranks; the second one's tensors begin at `second`. */
static mixt_status save_parts(mixt_checkpoints *store, const char *run, int64_t step, size_t second,
                              mixt_error *error)
{
    fault_state state, other;
    fault_state_fill(&state, step);
    fault_state_fill(&other, step);
    OK(mixt_checkpoints_begin(store, step, error_));
    for (size_t i = 0; i < STATE_TENSORS; i++) {
        state.tensors[i].file = "model-00001-of-00002.safetensors";
        other.tensors[i].file =
            i < 2 ? "model-00002-of-00002.safetensors" : "optimizer.safetensors";
    }
    char *texts[] = {write_part(run, &state, 0, 1), write_part(run, &other, second, STATE_TENSORS)};
    const mixt_checkpoint_file parts[] = {{NULL, texts[0], strlen(texts[0])},
                                          {NULL, texts[1], strlen(texts[1])}};
    state.description.tensor_count = 0;
    state.description.parts = parts;
    state.description.part_count = 2;
    mixt_status status = mixt_checkpoints_save(store, &state.description, 2, error);
    free(texts[0]);
    free(texts[1]);
    return status;
}

typedef struct taken {
    size_t index[STATE_TENSORS], count;
} taken;

static void take(void *user, size_t index)
{
    taken *all = user;
    all->index[all->count++] = index;
}

static void test_several_writers(void **unused)
{
    (void)unused;
    char *run = run_folder("parts");
    mixt_checkpoints *store = open_store(run);
    mixt_error error = MIXT_ERROR_INIT;
    OK(save_parts(store, run, 3, 1, error_));
    mixt_checkpoint *checkpoint;
    char *lines;
    OK(mixt_checkpoint_find(run, &checkpoint, &lines, error_));
    assert_null(lines);
    assert_true(fault_state_matches(checkpoint, NULL));
    mixt_checkpoint_free(checkpoint);
    /* One rank's tensors alone, and the others are known to be there. */
    fault_state state;
    taken all = {0};
    fault_state_fill(&state, 0);
    state.tensors[0].data = NULL;
    state.tensors[2].data = NULL;
    OK(mixt_checkpoint_open_verified(run, 3, &checkpoint, error_));
    OK(mixt_checkpoint_load_each(
        checkpoint, &(mixt_checkpoint_wish){state.tensors, STATE_TENSORS, take, &all}, error_));
    assert_int_equal(all.count, 2);
    assert_int_equal(all.index[0], 1);
    assert_int_equal(all.index[1], 3);
    assert_int_equal(state.loads[1], 3001);
    assert_true(state.weight[1] == fault_value(0, 0, 1));
    mixt_checkpoint_free(checkpoint);
    /* A tensor that both have; one that nobody has. */
    OK(save_parts(store, run, 4, 0, error_));
    OK(mixt_checkpoint_open_verified(run, 4, &checkpoint, error_));
    assert_false(fault_state_matches(checkpoint, &error));
    assert_non_null(strstr(error.message, "\"layer.weight\" is in model-0000"));
    mixt_checkpoint_free(checkpoint);
    OK(save_parts(store, run, 5, 2, error_));
    OK(mixt_checkpoint_open_verified(run, 5, &checkpoint, error_));
    error = (mixt_error)MIXT_ERROR_INIT;
    assert_false(fault_state_matches(checkpoint, &error));
    assert_non_null(strstr(error.message, "holds 1 tensors, the model wants 2"));
    mixt_checkpoint_free(checkpoint);
    /* A shard that is gone is noticed, and the one before it counts. */
    char *shard = run_path(run, "step-00000005/model-00001-of-00002.safetensors");
    assert_int_equal(unlink(shard), 0);
    OK(mixt_checkpoint_find(run, &checkpoint, &lines, error_));
    assert_int_equal(mixt_checkpoint_step(checkpoint), 4);
    assert_non_null(strstr(lines, "model-00001-of-00002.safetensors"));
    mixt_checkpoint_free(checkpoint);
    free(lines);
    free(shard);
    OK(mixt_checkpoints_begin(store, 6, error_));
    assert_true(run_has(run, "step-00000006.tmp"));
    mixt_checkpoints_abandon(store, 6);
    assert_false(run_has(run, "step-00000006.tmp"));
    mixt_checkpoints_close(store);
    free(run);
}

/* What a rank says of its files is read as a file is. */
static void test_hostile_parts(void **unused)
{
    (void)unused;
    char *run = run_folder("hostile-parts");
    mixt_checkpoints *store = open_store(run);
    for (int i = 0; i < 4; i++) {
        fault_state state;
        fault_state_fill(&state, 1);
        OK(mixt_checkpoints_begin(store, 1, error_));
        char *text = write_part(run, &state, 0, STATE_TENSORS);
        mixt_checkpoint_file parts[] = {{NULL, text, strlen(text)}, {NULL, text, strlen(text)}};
        parts[0].length -= i == 0 ? 1 : 0;
        text[i == 1 ? 40 : 0] = i == 1 ? '!' : '{';
        state.description.step = i == 2 ? 2 : 1;
        state.description.tensor_count = 0;
        state.description.parts = parts;
        state.description.part_count = i == 3 ? 2 : 1;
        assert_int_not_equal(mixt_checkpoints_save(store, &state.description, 2, NULL), MIXT_OK);
        assert_false(run_has(run, "step-00000001"));
        free(text);
    }
    mixt_checkpoints_close(store);
    free(run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_saves_and_loads),
        cmocka_unit_test(test_keeps_enough),
        cmocka_unit_test(test_same_step_again),
        cmocka_unit_test(test_leftovers_go),
        cmocka_unit_test(test_lost_checkpoints),
        cmocka_unit_test(test_shape_checks),
        cmocka_unit_test(test_bad_saves),
        cmocka_unit_test(test_foreign_files),
        cmocka_unit_test(test_several_writers),
        cmocka_unit_test(test_hostile_parts),
        cmocka_unit_test(test_lock),
    };
    return cmocka_run_group_tests(tests, runs_make, runs_remove);
}
