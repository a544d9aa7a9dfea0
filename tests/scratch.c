#define _GNU_SOURCE /* program_invocation_short_name */
#include "scratch.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

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

void must(mixt_status status, const mixt_error *error)
{
    if (status != MIXT_OK) {
        fail_msg("%s", error->message);
    }
}
