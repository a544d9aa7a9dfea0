#define _GNU_SOURCE /* asprintf */
#include "formats/shards.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "core/files.h"

mixt_status mixt_shards_init(mixt_shards *shards, const char *path, const char *suffix,
                             uint64_t limit, mixt_error *error)
{
    *shards = (mixt_shards){.suffix = suffix, .limit = limit, .descriptor = -1};
    if (limit != 0 && !mixt_ends_with(path, suffix)) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: name must end in %s to be sharded", path,
                         suffix);
    }
    shards->path = strdup(path);
    return shards->path != NULL ? MIXT_OK
                                : mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
}

void mixt_shards_free(mixt_shards *shards)
{
    if (shards->descriptor >= 0) {
        close(shards->descriptor);
    }
    for (size_t i = 0; i < shards->count; i++) {
        if (shards->files[i].created) {
            unlink(shards->files[i].temporary);
        }
        free(shards->files[i].path);
        free(shards->files[i].temporary);
    }
    free(shards->files);
    free(shards->path);
    *shards = (mixt_shards){.descriptor = -1};
}

mixt_status mixt_shards_memory(mixt_shards *shards, mixt_error *error)
{
    shards->failed = true;
    return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", shards->path);
}

mixt_status mixt_shards_plan(mixt_shards *shards, size_t tensors, mixt_error *error)
{
    assert(shards->files == NULL);
    shards->files = calloc(tensors + 1, sizeof *shards->files);
    if (shards->files == NULL) {
        return mixt_shards_memory(shards, error);
    }
    shards->count = 1;
    return MIXT_OK;
}

bool mixt_shards_deal(mixt_shards *shards, uint64_t bytes, uint64_t *offset)
{
    assert(shards->count != 0); /* planned */
    mixt_shard *file = &shards->files[shards->count - 1];
    if (shards->limit != 0 && file->bytes != 0 &&
        (bytes > shards->limit || file->bytes > shards->limit - bytes)) {
        size_t dealt = file->first + file->count;
        file = &shards->files[shards->count++];
        file->first = dealt;
    }
    *offset = file->bytes;
    file->count++;
    return !__builtin_add_overflow(file->bytes, bytes, &file->bytes) && file->bytes <= INT64_MAX;
}

static bool name_file(const mixt_shards *shards, size_t index)
{
    mixt_shard *file = &shards->files[index];
    int length;
    if (shards->count == 1) {
        length = asprintf(&file->path, "%s", shards->path);
    } else {
        size_t stem = strlen(shards->path) - strlen(shards->suffix);
        length = asprintf(&file->path, "%.*s-%05zu-of-%05zu%s", (int)stem, shards->path, index + 1,
                          shards->count, shards->suffix);
    }
    if (length < 0) {
        file->path = NULL;
        return false;
    }
    if (asprintf(&file->temporary, "%s.tmp", file->path) < 0) {
        file->temporary = NULL;
        return false;
    }
    return true;
}

static mixt_status write_header(mixt_shards *shards, mixt_error *error)
{
    mixt_shard *file = &shards->files[shards->current];
    mixt_buffer header = {0};
    mixt_status status = shards->header(shards->writer, shards->current, &header, error);
    if (status == MIXT_OK && header.failed) {
        status = mixt_shards_memory(shards, error);
    }
    if (status == MIXT_OK) {
        shards->descriptor = mixt_file_temporary(file->temporary, error);
        file->created = shards->descriptor >= 0;
        status = file->created ? mixt_write_all(shards->descriptor, header.data, header.length,
                                                file->temporary, error)
                               : MIXT_ERROR_IO;
    }
    mixt_buffer_free(&header);
    return status;
}

/* Creates the current file and writes its header. */
static mixt_status open_current(mixt_shards *shards, mixt_error *error)
{
    mixt_status status = write_header(shards, error);
    shards->failed = status != MIXT_OK;
    return status;
}

mixt_status mixt_shards_begin(mixt_shards *shards, mixt_error *error)
{
    assert(shards->count != 0 && shards->header != NULL && shards->descriptor < 0);
    for (size_t i = 0; i < shards->count; i++) {
        if (!name_file(shards, i)) {
            return mixt_shards_memory(shards, error);
        }
    }
    return open_current(shards, error);
}

mixt_status mixt_shards_write(mixt_shards *shards, const void *data, size_t length,
                              mixt_error *error)
{
    assert(shards->descriptor >= 0 && !shards->failed);
    mixt_status status = mixt_write_all(shards->descriptor, data, length,
                                        shards->files[shards->current].temporary, error);
    shards->failed = status != MIXT_OK;
    return status;
}

mixt_status mixt_shards_skip(mixt_shards *shards, uint64_t length, mixt_error *error)
{
    assert(shards->descriptor >= 0 && !shards->failed);
    off_t end = lseek(shards->descriptor, (off_t)length, SEEK_CUR);
    shards->failed = end < 0 || ftruncate(shards->descriptor, end) != 0;
    return !shards->failed ? MIXT_OK
                           : mixt_fail(error, MIXT_ERROR_IO, "%s: %s",
                                       shards->files[shards->current].temporary, strerror(errno));
}

mixt_status mixt_shards_close(mixt_shards *shards, mixt_error *error)
{
    assert(shards->descriptor >= 0 && !shards->finished);
    mixt_status status = mixt_file_settle(&shards->descriptor,
                                          shards->files[shards->current].temporary, MIXT_OK, error);
    shards->failed = status != MIXT_OK;
    return status;
}

mixt_status mixt_shards_next(mixt_shards *shards, mixt_error *error)
{
    MIXT_TRY(mixt_shards_close(shards, error));
    shards->current++;
    assert(shards->current < shards->count);
    return open_current(shards, error);
}

mixt_status mixt_shards_rename(mixt_shards *shards, mixt_error *error)
{
    assert(shards->descriptor < 0 && shards->current + 1 == shards->count);
    for (size_t i = shards->count; i-- > 0;) {
        mixt_shard *file = &shards->files[i];
        if (rename(file->temporary, file->path) != 0) {
            shards->failed = true;
            return mixt_fail_errno(error, errno, "%s: cannot rename", file->temporary);
        }
        file->created = false;
    }
    return MIXT_OK;
}

mixt_status mixt_shards_sync(mixt_shards *shards, mixt_error *error)
{
    mixt_status status = mixt_parent_sync(shards->path, error);
    shards->failed = status != MIXT_OK;
    return status;
}

const char *mixt_find_twin(const char **texts, size_t count)
{
    if (count != 0) {
        qsort(texts, count, sizeof *texts, mixt_compare_names);
    }
    for (size_t i = 1; i < count; i++) {
        if (strcmp(texts[i - 1], texts[i]) == 0) {
            return texts[i];
        }
    }
    return NULL;
}
