#include "checkpoint_run.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/files.h"
#include "fault/state.h"

static char top[] = "/dev/shm/mixt-checkpoint-XXXXXX";

/* In memory where that is possible: a disk would only make thousands of real fsyncs slow. */
int runs_make(void **state)
{
    (void)state;
    if (access("/dev/shm", W_OK) != 0) {
        strcpy(top, "/tmp/mixt-checkpoint-XXXXXX");
    }
    return mkdtemp(top) == NULL;
}

int runs_remove(void **state)
{
    (void)state;
    return mixt_folder_remove(top, NULL) != MIXT_OK;
}

char *run_folder(const char *name)
{
    char *path = mixt_path_join(top, name);
    assert_non_null(path);
    return path;
}

char *run_path(const char *folder, const char *name)
{
    char *path = mixt_path_join(folder, name);
    assert_non_null(path);
    return path;
}

mixt_checkpoints *open_store(const char *run)
{
    mixt_checkpoints *store = NULL;
    OK(mixt_checkpoints_open(run, &store, error_));
    return store;
}

void save_step(mixt_checkpoints *store, int64_t step, int keep)
{
    fault_state state;
    fault_state_fill(&state, step);
    OK(mixt_checkpoints_save(store, &state.description, keep, error_));
}

void fresh_run(const char *run, int64_t first, int64_t last)
{
    mixt_checkpoints *store = open_store(run);
    for (int64_t step = first; step <= last; step++) {
        save_step(store, step, 10);
    }
    mixt_checkpoints_close(store);
}

int64_t newest_step(const char *run, char **passed_over)
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

bool run_has(const char *run, const char *name)
{
    char *path = run_path(run, name);
    bool there = mixt_path_exists(path);
    free(path);
    return there;
}

void expect_damaged(const char *path, const char *rule)
{
    mixt_checkpoint *checkpoint;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_not_equal(mixt_checkpoint_open(path, &checkpoint, &error), MIXT_OK);
    assert_null(checkpoint);
    if (strstr(error.message, rule) == NULL) {
        fail_msg("wanted \"%s\", got \"%s\"", rule, error.message);
    }
}

void flip_bit(const char *path, long byte, int bit)
{
    int descriptor = open(path, O_RDWR);
    assert_true(descriptor >= 0);
    unsigned char value;
    assert_int_equal(pread(descriptor, &value, 1, byte), 1);
    value ^= (unsigned char)(1 << bit);
    assert_int_equal(pwrite(descriptor, &value, 1, byte), 1);
    close(descriptor);
}
