/* The folder that a test program writes to, and files in it. What goes wrong fails the test. */
#ifndef MIXT_TESTS_SCRATCH_H
#define MIXT_TESTS_SCRATCH_H

#include <stddef.h>

#include "mixt.h"

extern char scratch[64]; /* below /tmp, while a group of tests runs */
/* A group's set-up and tear-down. */
int scratch_make(void **state);
int scratch_remove(void **state);
/* The same with a context of two threads. */
extern mixt_context *scratch_context;
int scratch_make_context(void **state);
int scratch_remove_context(void **state);
/* scratch/NAME, malloc'd. */
char *scratch_path(const char *name);
void write_file(const char *path, const void *data, size_t length);
/* malloc'd, with a NUL behind it. */
char *read_file(const char *path, size_t *length);
mixt_tokenizer *open_tokenizer(const char *path);
mixt_model *must_open_model(const char *path);
/* Fails the test with the error's line where a call failed. */
void must(mixt_status status, const mixt_error *error);
/* Fails it, naming `what`, where a call did not refuse with a line that holds `path` and `rule`. */
void must_refuse(mixt_status status, const mixt_error *error, const char *path, const char *rule,
                 const char *what);

#endif
