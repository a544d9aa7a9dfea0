#include "formats/jsonl_log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "core/files.h"
#include "formats/json.h"

#define LINE_MAX_BYTES ((size_t)4 << 20) /* longer ones are not ours */
#define BLOCK 65536

struct mixt_jsonl_log {
    char *path;
    int descriptor;
    uint64_t length; /* up to the last whole line */
};

/* Where the line that ends before byte `end` begins: behind the line break before it, or 0. */
static mixt_status line_begin(int descriptor, uint64_t end, const char *path, uint64_t *begin,
                              mixt_error *error)
{
    char block[BLOCK];
    while (end != 0) {
        size_t size = end < BLOCK ? (size_t)end : BLOCK;
        MIXT_TRY(mixt_read_at(descriptor, block, size, end - size, path, error));
        for (size_t i = size; i != 0; i--) {
            if (block[i - 1] == '\n') {
                *begin = end - size + i;
                return MIXT_OK;
            }
        }
        end -= size;
    }
    *begin = 0;
    return MIXT_OK;
}

/* Step of the line [begin, end) without its line break; -1 where it is not one of ours. */
static mixt_status line_step(int descriptor, uint64_t begin, uint64_t end, const char *path,
                             int64_t *step, mixt_error *error)
{
    *step = -1;
    assert(begin <= end);
    if (end - begin > LINE_MAX_BYTES) {
        return MIXT_OK;
    }
    size_t length = (size_t)(end - begin);
    char *text = malloc(length + 1);
    if (text == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    }
    mixt_status status = mixt_read_at(descriptor, text, length, begin, path, error);
    if (status == MIXT_OK) {
        json_error_t problem;
        json_t *object = mixt_json_load(text, length, 0, &problem);
        if (object == NULL && json_error_code(&problem) == json_error_out_of_memory) {
            status = mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
        }
        const json_t *value = json_object_get(object, "step");
        if (json_is_integer(value) && json_integer_value(value) >= 0) {
            *step = json_integer_value(value);
        }
        json_decref(object);
    }
    free(text);
    return status;
}

/* Bytes up to the end of the last whole line whose step is at most `last_step`. */
static mixt_status find_end(int descriptor, uint64_t size, int64_t last_step, const char *path,
                            uint64_t *end, mixt_error *error)
{
    uint64_t at; /* behind a line break */
    mixt_status status = line_begin(descriptor, size, path, &at, error);
    while (status == MIXT_OK && at != 0) {
        uint64_t begin;
        int64_t step = -1;
        status = line_begin(descriptor, at - 1, path, &begin, error);
        if (status == MIXT_OK) {
            status = line_step(descriptor, begin, at - 1, path, &step, error);
        }
        if (status != MIXT_OK || (step >= 0 && step <= last_step)) {
            break;
        }
        at = begin;
    }
    *end = at;
    return status;
}

mixt_status mixt_jsonl_open(const char *path, int64_t last_step, mixt_jsonl_log **log,
                            mixt_error *error)
{
    *log = NULL;
    mixt_jsonl_log *made = calloc(1, sizeof *made);
    if (made == NULL || (made->path = strdup(path)) == NULL) {
        free(made);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    }
    mixt_status status = MIXT_OK;
    struct stat place = {0};
    made->descriptor =
        open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW, 0666);
    if (made->descriptor < 0 && errno == ELOOP) {
        status = mixt_fail(error, MIXT_ERROR_FORMAT, "%s: is a link; remove it", path);
    } else if (made->descriptor < 0) {
        status = mixt_fail_errno(error, errno, "%s: cannot open", path);
    } else if (fstat(made->descriptor, &place) != 0) {
        status = mixt_fail_errno(error, errno, "%s: cannot stat", path);
    } else if (!S_ISREG(place.st_mode)) {
        status = mixt_fail(error, MIXT_ERROR_FORMAT, "%s: is not a regular file", path);
    }
    if (status == MIXT_OK && last_step >= 0) {
        status = find_end(made->descriptor, (uint64_t)place.st_size, last_step, path, &made->length,
                          error);
    }
    if (status == MIXT_OK && made->length != (uint64_t)place.st_size &&
        ftruncate(made->descriptor, (off_t)made->length) != 0) {
        status = mixt_fail_errno(error, errno, "%s: cannot truncate", path);
    }
    if (status != MIXT_OK) {
        mixt_jsonl_close(made);
        return status;
    }
    *log = made;
    return MIXT_OK;
}

mixt_status mixt_jsonl_append(mixt_jsonl_log *log, const char *lines, size_t length,
                              mixt_error *error)
{
    mixt_status status = mixt_write_all(log->descriptor, lines, length, log->path, error);
    if (status == MIXT_OK) {
        log->length += length;
    } else if (ftruncate(log->descriptor, (off_t)log->length) != 0) {
        status = MIXT_ERROR_IO; /* half a line stays; opening drops it */
    }
    return status;
}

mixt_status mixt_jsonl_sync(mixt_jsonl_log *log, mixt_error *error)
{
    while (fsync(log->descriptor) != 0) {
        if (errno != EINTR) {
            return mixt_fail_errno(error, errno, "%s: cannot sync", log->path);
        }
    }
    return MIXT_OK;
}

void mixt_jsonl_close(mixt_jsonl_log *log)
{
    if (log == NULL) {
        return;
    }
    if (log->descriptor >= 0) {
        close(log->descriptor);
    }
    free(log->path);
    free(log);
}
