/* Run folders for the tests of checkpoints: each program has a folder of its own, each test a run
 * in it. What goes wrong fails the test. */
#ifndef MIXT_TESTS_CHECKPOINT_RUN_H
#define MIXT_TESTS_CHECKPOINT_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "formats/checkpoint.h"

#define OK(call)                                                                                   \
    do {                                                                                           \
        mixt_error ok_error = MIXT_ERROR_INIT;                                                     \
        mixt_error *error_ = &ok_error;                                                            \
        if ((call) != MIXT_OK) {                                                                   \
            fail_msg("%s: %s", #call, ok_error.message);                                           \
        }                                                                                          \
    } while (0)

/* A group's set-up and tear-down. */
int runs_make(void **state);
int runs_remove(void **state);
/* A run folder of its own for each test, malloc'd; the folder is not made. */
char *run_folder(const char *name);
/* RUN/NAME, malloc'd. */
char *run_path(const char *run, const char *name);
bool run_has(const char *run, const char *name);

mixt_checkpoints *open_store(const char *run);
void save_step(mixt_checkpoints *store, int64_t step, int keep);
/* Saves the steps first to last. */
void fresh_run(const char *run, int64_t first, int64_t last);
/* Step of the newest checkpoint that loads with the right bits; -1 where there is none. What was
 * passed over is for the caller to free, or, where that is NULL, fails the test. */
int64_t newest_step(const char *run, char **passed_over);

/* Turns one bit of a file. */
void flip_bit(const char *path, long byte, int bit);
/* The checkpoint in this folder is refused with a message that has `rule` in it. */
void expect_damaged(const char *path, const char *rule);

#endif
