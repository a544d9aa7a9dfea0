#include "corpus/lines.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "core/error.h"
#include "core/files.h"
#include "core/memory.h"

#define READ_SIZE ((size_t)256 << 10)

struct mixt_lines {
    char *path;
    int descriptor;
    char *data; /* read but not yet handed out: data[begin, end) */
    size_t begin, end, capacity;
    bool at_end;
    uint64_t number;
    /* zstd */
    ZSTD_DStream *stream;
    char *packed; /* READ_SIZE bytes of the file */
    ZSTD_inBuffer input;
    uint64_t packed_offset; /* of packed[0] in the file */
    uint64_t frame_offset;  /* where the open frame begins */
    bool in_frame;
};

void mixt_lines_close(mixt_lines *lines)
{
    if (lines == NULL) {
        return;
    }
    if (lines->descriptor >= 0) {
        close(lines->descriptor);
    }
    ZSTD_freeDStream(lines->stream);
    free(lines->packed);
    free(lines->data);
    free(lines->path);
    free(lines);
}

mixt_status mixt_lines_open(const char *path, bool compressed, mixt_lines **lines,
                            mixt_error *error)
{
    *lines = NULL;
    mixt_lines *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    }
    made->path = strdup(path);
    made->capacity = 2 * READ_SIZE;
    made->data = malloc(made->capacity);
    made->descriptor = -1;
    bool ready = made->path != NULL && made->data != NULL;
    if (ready && compressed) {
        made->packed = malloc(READ_SIZE);
        made->stream = ZSTD_createDStream();
        ready = made->packed != NULL && made->stream != NULL &&
                !ZSTD_isError(ZSTD_DCtx_setParameter(made->stream, ZSTD_d_windowLogMax,
                                                     MIXT_ZSTD_WINDOW_LOG));
    }
    if (!ready) {
        mixt_lines_close(made);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    }
    mixt_error local = MIXT_ERROR_INIT;
    uint64_t size;
    made->descriptor = mixt_file_open(path, &size, &local);
    if (made->descriptor < 0) {
        mixt_lines_close(made);
        return mixt_fail(error, local.status, "%s", local.message);
    }
    *lines = made;
    return MIXT_OK;
}

/* Reads up to `size` bytes of the file; *count 0 at its end. */
static mixt_status read_file(mixt_lines *lines, char *to, size_t size, size_t *count,
                             mixt_error *error)
{
    for (;;) {
        ssize_t got = read(lines->descriptor, to, size);
        if (got >= 0) {
            *count = (size_t)got;
            return MIXT_OK;
        }
        if (errno != EINTR) {
            return mixt_fail_errno(error, errno, "%s: cannot read", lines->path);
        }
    }
}

/* Unpacks into to[0, size); *count 0 at the end of the file. */
static mixt_status read_packed(mixt_lines *lines, char *to, size_t size, size_t *count,
                               mixt_error *error)
{
    ZSTD_outBuffer output = {to, size, 0};
    while (output.pos == 0) {
        if (lines->input.pos == lines->input.size) {
            lines->packed_offset += lines->input.size;
            lines->input = (ZSTD_inBuffer){lines->packed, 0, 0};
            MIXT_TRY(read_file(lines, lines->packed, READ_SIZE, &lines->input.size, error));
            if (lines->input.size == 0) {
                if (lines->in_frame) {
                    return mixt_fail(error, MIXT_ERROR_FORMAT,
                                     "%s: ends at byte %llu inside the zstd frame that begins at "
                                     "byte %llu",
                                     lines->path, (unsigned long long)lines->packed_offset,
                                     (unsigned long long)lines->frame_offset);
                }
                break;
            }
        }
        if (!lines->in_frame) {
            lines->in_frame = true;
            lines->frame_offset = lines->packed_offset + lines->input.pos;
        }
        size_t result = ZSTD_decompressStream(lines->stream, &output, &lines->input);
        if (ZSTD_isError(result)) {
            return mixt_fail(error, MIXT_ERROR_FORMAT,
                             "%s: zstd frame that begins at byte %llu: %s (near byte %llu)",
                             lines->path, (unsigned long long)lines->frame_offset,
                             ZSTD_getErrorName(result),
                             (unsigned long long)(lines->packed_offset + lines->input.pos));
        }
        lines->in_frame = result != 0;
    }
    *count = output.pos;
    return MIXT_OK;
}

/* Makes room behind `end` and reads more; sets at_end when there is none. */
static mixt_status fill(mixt_lines *lines, mixt_error *error)
{
    if (lines->begin != 0) {
        memmove(lines->data, lines->data + lines->begin, lines->end - lines->begin);
        lines->end -= lines->begin;
        lines->begin = 0;
    }
    /* it grows where one line fills the buffer */
    if (!mixt_grow(&lines->data, &lines->capacity, lines->end + READ_SIZE, 1)) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: line %llu: no memory", lines->path,
                         (unsigned long long)lines->number + 1);
    }
    assert(lines->begin == 0 && lines->end + READ_SIZE <= lines->capacity);
    size_t count = 0;
    char *to = lines->data + lines->end;
    mixt_status status = lines->stream != NULL ? read_packed(lines, to, READ_SIZE, &count, error)
                                               : read_file(lines, to, READ_SIZE, &count, error);
    assert(count <= READ_SIZE);
    lines->end += count;
    lines->at_end = count == 0;
    return status;
}

mixt_status mixt_lines_next(mixt_lines *lines, mixt_line *line, mixt_error *error)
{
    *line = (mixt_line){0};
    size_t searched = 0; /* bytes behind `begin` without a line feed */
    bool too_long = false;
    for (;;) {
        char *from = lines->data + lines->begin;
        size_t held = lines->end - lines->begin;
        char *end = held == searched ? NULL : memchr(from + searched, '\n', held - searched);
        if (end == NULL && !lines->at_end) {
            searched = held;
            if (held > MIXT_LINE_LIMIT || too_long) { /* forget what was read of it */
                too_long = true;
                lines->begin = lines->end;
                searched = 0;
            }
            MIXT_TRY(fill(lines, error));
            continue;
        }
        if (end == NULL && held == 0 && !too_long) {
            return MIXT_OK; /* the end; a last line may lack its line feed */
        }
        size_t length = end == NULL ? held : (size_t)(end - from);
        lines->begin += end == NULL ? held : length + 1;
        line->number = ++lines->number;
        line->too_long = too_long || length > MIXT_LINE_LIMIT;
        line->text = from;
        line->length = length;
        if (line->too_long) {
            line->length = 0;
        } else if (line->number == 1 && length >= 3 && memcmp(from, "\xef\xbb\xbf", 3) == 0) {
            line->text += 3; /* byte order mark */
            line->length -= 3;
        }
        return MIXT_OK;
    }
}
