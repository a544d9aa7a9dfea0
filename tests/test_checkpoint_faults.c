/* Checkpoints: no fault at any system call of a save, no kill and no power cut loses an older one
 * (tests/fault/shim.c injects them). */
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

#include "checkpoint_run.h"
#include "core/files.h"
#include "fault/shim.c"
#include "fault/power.h"
#include "fault/state.h"

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
    int64_t step = newest_step(run, NULL);
    if (step != 3 && (saved || step != 2)) {
        fail_msg("%s at call %d: newest is step %lld", what, call, (long long)step);
    }
    assert_true(run_has(run, "step-00000002"));
    mixt_error error = MIXT_ERROR_INIT;
    if (try_step(run, 4, &error) != MIXT_OK) {
        fail_msg("%s at call %d: next save: %s", what, call, error.message);
    }
    assert_int_equal(newest_step(run, NULL), 4);
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
                alarm(60); /* nobody waits for it longer */
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
            assert_false(run_has(run, "step-00000003"));
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
        assert_int_equal(newest_step(run, NULL), 3);
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
    assert_int_equal(newest_step(run, NULL), 2);
    save_step(store, 3, 2);
    assert_int_equal(newest_step(run, NULL), 3);
    mixt_checkpoints_close(store);
    free(run);
}

/* A file system that cannot exchange two names: an old step that verifies stays, a broken one is
 * replaced. */
static void test_without_exchange(void **unused)
{
    (void)unused;
    char *run = run_folder("exchange");
    char *json = run_path(run, "step-00000002/state.json");
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
            flip_bit(json, 0, 0);
        }
        mixt_fault = (mixt_fault_plan){.folder = run, .fail_at = call, .number = EINVAL};
        OK(try_step(run, 2, error_));
        assert_true(mixt_fault.count > call);
        mixt_fault = (mixt_fault_plan){0};
        assert_int_equal(newest_step(run, NULL), 2);
        assert_false(run_has(run, "step-00000002.tmp"));
    }
    free(json);
    free(run);
}

/* A failed sync of the run folder after an exchange puts the old step back. */
static void test_exchange_is_undone(void **unused)
{
    (void)unused;
    char *run = run_folder("undone");
    char *extra = run_path(run, "step-00000002/extra");
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
    assert_int_equal(newest_step(run, NULL), 2);
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
            assert_int_equal(newest_step(run, NULL), 4);
            cuts++;
        }
    }
    print_message("%d power cuts, %d changes lost or trashed, no checkpoint\n", cuts, lost);
    assert_true(lost > cuts);
    free(grave);
    free(run);
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
    char *path = run_path(run, "step-00000001/optimizer.safetensors");
    char *step = run_path(run, "step-00000001");
    flip_bit(path, (long)bytes + 500, 3);
    expect_damaged(step, "tensor \"v\"");
    mixt_fault = (mixt_fault_plan){.folder = run, .fail_at = 20, .number = ENOSPC};
    mixt_error error = MIXT_ERROR_INIT;
    state.step = 2;
    assert_int_equal(mixt_checkpoints_save(store, &state, 2, &error), MIXT_ERROR_IO);
    mixt_fault = (mixt_fault_plan){0};
    assert_non_null(strstr(error.message, strerror(ENOSPC)));
    assert_false(run_has(run, "step-00000002"));
    mixt_checkpoints_close(store);
    free(step);
    free(path);
    free(data);
    free(back);
    free(run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill_at_every_call),
        cmocka_unit_test(test_errors_at_every_call),
        cmocka_unit_test(test_failed_sync_is_final),
        cmocka_unit_test(test_short_writes),
        cmocka_unit_test(test_goes_on_after_full_disk),
        cmocka_unit_test(test_without_exchange),
        cmocka_unit_test(test_exchange_is_undone),
        cmocka_unit_test(test_read_errors),
        cmocka_unit_test(test_power_cuts),
        cmocka_unit_test(test_large),
    };
    return cmocka_run_group_tests(tests, runs_make, runs_remove);
}
