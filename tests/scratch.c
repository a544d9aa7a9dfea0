#define _GNU_SOURCE /* program_invocation_short_name */
#include "scratch.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/files.h"

char scratch[64];

int scratch_make(void **state)
{
    (void)state;
    snprintf(scratch, sizeof scratch, "/tmp/mixt-%.30s-XXXXXX", program_invocation_short_name);
    return mkdtemp(scratch) == NULL;
}

int scratch_remove(void **state)
{
    (void)state;
    return mixt_folder_remove(scratch, NULL) != MIXT_OK;
}

mixt_context *scratch_context;

int scratch_make_context(void **state)
{
    const mixt_context_options options = {.threads = 2};
    return scratch_make(state) != 0 ||
           mixt_context_create(&options, &scratch_context, NULL) != MIXT_OK;
}

int scratch_remove_context(void **state)
{
    mixt_context_free(scratch_context);
    return scratch_remove(state);
}

char *scratch_path(const char *name)
{
    char *path = mixt_path_join(scratch, name);
    assert_non_null(path);
    return path;
}

void write_file(const char *path, const void *data, size_t length)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

char *read_file(const char *path, size_t *length)
{
    char *data;
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_file_read(path, (size_t)1 << 26, &data, length, &error), &error);
    return data;
}

mixt_tokenizer *open_tokenizer(const char *path)
{
    mixt_tokenizer *tokenizer;
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_tokenizer_open(path, &tokenizer, &error), &error);
    return tokenizer;
}

mixt_model *must_open_model(const char *path)
{
    mixt_model *model;
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_model_open(path, &model, &error), &error);
    return model;
}

void must(mixt_status status, const mixt_error *error)
{
    if (status != MIXT_OK) {
        fail_msg("%s", error->message);
    }
}

void must_refuse(mixt_status status, const mixt_error *error, const char *path, const char *rule,
                 const char *what)
{
    assert_int_equal(status, error->status);
    if (!mixt_status_is_refusal(status) || strstr(error->message, path) == NULL ||
        strstr(error->message, rule) == NULL) {
        fail_msg("%s: status %d, '%s'", what, (int)status, error->message);
    }
}
