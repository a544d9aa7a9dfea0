/* Writing: header builder and the streaming writer. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "core/files.h"
#include "formats/safetensors.h"

#define SUFFIX ".safetensors"

void mixt_json_quote(mixt_buffer *out, const char *text)
{
    mixt_buffer_append(out, "\"", 1);
    const char *plain = text;
    for (const char *c = text;; c++) {
        if ((unsigned char)*c >= 0x20 && *c != '"' && *c != '\\') {
            continue;
        }
        mixt_buffer_append(out, plain, (size_t)(c - plain));
        plain = c + 1;
        if (*c == '\0') {
            break;
        }
        if (*c == '"' || *c == '\\') {
            mixt_buffer_append(out, "\\", 1);
            mixt_buffer_append(out, c, 1);
        } else {
            mixt_buffer_format(out, "\\u%04x", (unsigned)(unsigned char)*c);
        }
    }
    mixt_buffer_append(out, "\"", 1);
}

static bool quote_checked(mixt_buffer *out, const char *text)
{
    mixt_json_quote(out, text);
    return mixt_utf8_valid(text, strlen(text));
}

/* The JSON object, without length and padding; false where a text is not UTF-8. */
static bool header_object(const mixt_tensor_header *header, mixt_buffer *out)
{
    bool valid = true;
    const char *comma = "";
    mixt_buffer_text(out, "{");
    if (header->metadata_count != 0) {
        mixt_buffer_text(out, "\"__metadata__\":{");
        for (size_t i = 0; i < header->metadata_count; i++) {
            mixt_buffer_text(out, i == 0 ? "" : ",");
            valid &= quote_checked(out, header->metadata[i].key);
            mixt_buffer_text(out, ":");
            valid &= quote_checked(out, header->metadata[i].value);
        }
        mixt_buffer_text(out, "}");
        comma = ",";
    }
    uint64_t at = 0;
    for (size_t i = 0; i < header->count; i++) {
        const mixt_tensor_info *tensor = &header->tensors[i];
        mixt_buffer_text(out, comma);
        comma = ",";
        valid &= quote_checked(out, tensor->name);
        mixt_buffer_format(out, ":{\"dtype\":\"%s\",\"shape\":[", mixt_dtype_name(tensor->dtype));
        for (uint32_t j = 0; j < tensor->rank; j++) {
            mixt_buffer_format(out, "%s%lld", j == 0 ? "" : ",", (long long)tensor->shape[j]);
        }
        mixt_buffer_format(out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                           (unsigned long long)(at + tensor->bytes));
        at += tensor->bytes;
    }
    mixt_buffer_text(out, "}");
    return valid;
}

mixt_status mixt_safetensors_header(const mixt_tensor_header *header, const char *path,
                                    mixt_buffer *out, mixt_error *error)
{
    static const char zeros[8] = {0};
    size_t start = out->length;
    mixt_buffer_append(out, zeros, sizeof zeros);
    bool valid = header_object(header, out);
    if (out->failed) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory for the header", path);
    }
    if (!valid) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: a name or metadata text is not UTF-8",
                         path);
    }
    size_t length = out->length - start - sizeof zeros;
    size_t padding = (8 - length % 8) % 8;
    mixt_buffer_append(out, "        ", padding);
    length += padding;
    if (out->failed) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory for the header", path);
    }
    if (length > MIXT_SAFETENSORS_HEADER_MAX) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: header of %zu bytes, more than %u", path,
                         length, MIXT_SAFETENSORS_HEADER_MAX);
    }
    for (int i = 0; i < 8; i++) {
        out->data[start + (size_t)i] = (char)(length >> (8 * i) & 0xff);
    }
    return MIXT_OK;
}

/* -- The streaming writer ------------------------------------------------------------------- */

typedef struct output_file {
    char *path;
    char *temporary;
    size_t first; /* tensors [first, first + count) */
    size_t count;
    uint64_t data_bytes;
    bool created; /* the temporary file may be there */
} output_file;

struct mixt_safetensors_writer {
    char *path;
    uint64_t shard_bytes;
    mixt_arena *arena;
    mixt_tensor_info *tensors;
    size_t count, capacity;
    mixt_text_pair *metadata;
    size_t metadata_count, metadata_capacity;
    output_file *files;
    size_t file_count;
    size_t current;     /* file being written */
    uint64_t remaining; /* bytes that it still lacks */
    int descriptor;
    bool begun;
    bool failed; /* after an error nothing but free makes sense */
    bool finished;
};

static mixt_status writer_memory(mixt_safetensors_writer *writer, mixt_error *error)
{
    writer->failed = true;
    return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", writer->path);
}

static mixt_status writer_misuse(mixt_safetensors_writer *writer, const char *rule,
                                 mixt_error *error)
{
    writer->failed = true;
    return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: %s", writer->path, rule);
}

mixt_status mixt_safetensors_writer_create(const char *path, uint64_t shard_bytes,
                                           mixt_safetensors_writer **writer, mixt_error *error)
{
    *writer = NULL;
    if (shard_bytes != 0 && !mixt_ends_with(path, SUFFIX)) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "%s: name must end in " SUFFIX " to be sharded", path);
    }
    mixt_safetensors_writer *made = calloc(1, sizeof *made);
    if (made != NULL) {
        made->descriptor = -1;
        made->path = strdup(path);
        made->arena = mixt_arena_create();
    }
    if (made == NULL || made->path == NULL || made->arena == NULL) {
        mixt_safetensors_writer_free(made);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    }

    made->shard_bytes = shard_bytes;
    *writer = made;
    return MIXT_OK;
}

mixt_status mixt_safetensors_writer_metadata(mixt_safetensors_writer *writer, const char *key,
                                             const char *value, mixt_error *error)
{
    if (writer->begun || writer->failed) {
        return writer_misuse(writer, "metadata behind the beginning of the data", error);
    }
    mixt_text_pair pair = {mixt_arena_string(writer->arena, key),
                           mixt_arena_string(writer->arena, value)};
    if (pair.key == NULL || pair.value == NULL ||
        !mixt_grow(&writer->metadata, &writer->metadata_capacity, writer->metadata_count + 1,
                   sizeof pair)) {
        return writer_memory(writer, error);
    }
    writer->metadata[writer->metadata_count++] = pair;
    return MIXT_OK;
}

mixt_status mixt_safetensors_writer_add(mixt_safetensors_writer *writer, const char *name,
                                        mixt_dtype dtype, uint32_t rank, const int64_t *shape,
                                        mixt_error *error)
{
    if (writer->begun || writer->failed) {
        return writer_misuse(writer, "tensor declared behind the beginning of the data", error);
    }
    mixt_tensor_info tensor = {.dtype = dtype, .rank = rank};
    if (dtype == MIXT_DTYPE_UNKNOWN || rank > MIXT_TENSOR_RANK_MAX ||
        !mixt_tensor_bytes(dtype, rank, shape, &tensor.bytes) || tensor.bytes > INT64_MAX) {
        return writer_misuse(writer, "tensor with an impossible type or shape", error);
    }
    int64_t *sizes = mixt_arena_allocate(writer->arena, rank, sizeof *sizes);
    tensor.name = mixt_arena_string(writer->arena, name);
    if (sizes == NULL || tensor.name == NULL ||
        !mixt_grow(&writer->tensors, &writer->capacity, writer->count + 1, sizeof tensor)) {
        return writer_memory(writer, error);
    }
    if (rank != 0) {
        memcpy(sizes, shape, rank * sizeof *sizes);
    }
    tensor.shape = sizes;
    writer->tensors[writer->count++] = tensor;
    return MIXT_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Refuses names that are there twice, or that mean something else. */
static mixt_status check_names(mixt_safetensors_writer *writer, mixt_error *error)
{
    const char **names = calloc(writer->count + 1, sizeof *names);
    if (names == NULL) {
        return writer_memory(writer, error);
    }
    for (size_t i = 0; i < writer->count; i++) {
        names[i] = writer->tensors[i].name;
    }
    qsort(names, writer->count, sizeof *names, compare_names);
    mixt_status status = MIXT_OK;
    for (size_t i = 0; i < writer->count && status == MIXT_OK; i++) {
        if (strcmp(names[i], "__metadata__") == 0 ||
            (i != 0 && strcmp(names[i - 1], names[i]) == 0)) {
            status = writer_misuse(writer, "tensor name is reserved or there twice", error);
        }
    }
    free(names);
    return status;
}

/* Deals the tensors out to files of at most shard_bytes and names the files. */
static mixt_status plan_files(mixt_safetensors_writer *writer, mixt_error *error)
{
    writer->files = calloc(writer->count + 1, sizeof *writer->files);
    if (writer->files == NULL) {
        return writer_memory(writer, error);
    }
    output_file *file = writer->files;
    writer->file_count = 1;
    for (size_t i = 0; i < writer->count; i++) {
        uint64_t bytes = writer->tensors[i].bytes;
        if (writer->shard_bytes != 0 && file->data_bytes != 0 &&
            (bytes > writer->shard_bytes || file->data_bytes > writer->shard_bytes - bytes)) {
            file = &writer->files[writer->file_count++];
            file->first = i;
        }
        if (__builtin_add_overflow(file->data_bytes, bytes, &file->data_bytes) ||
            file->data_bytes > INT64_MAX) {
            return writer_misuse(writer, "more bytes than a file can hold", error);
        }
        writer->tensors[i].shard = (uint32_t)(writer->file_count - 1);
        file->count++;
    }
    size_t stem = strlen(writer->path) - (writer->file_count == 1 ? 0 : strlen(SUFFIX));
    for (size_t i = 0; i < writer->file_count; i++) {
        int length = writer->file_count == 1
                         ? asprintf(&writer->files[i].path, "%s", writer->path)
                         : asprintf(&writer->files[i].path, "%.*s-%05zu-of-%05zu" SUFFIX, (int)stem,
                                    writer->path, i + 1, writer->file_count);
        if (length < 0) {
            writer->files[i].path = NULL;
            return writer_memory(writer, error);
        }
        if (asprintf(&writer->files[i].temporary, "%s.tmp", writer->files[i].path) < 0) {
            writer->files[i].temporary = NULL;
            return writer_memory(writer, error);
        }
    }
    return MIXT_OK;
}

/* Creates the current file and writes its header. */
static mixt_status open_current(mixt_safetensors_writer *writer, mixt_error *error)
{
    output_file *file = &writer->files[writer->current];
    mixt_tensor_header header = {.tensors = file->count == 0 ? NULL : writer->tensors + file->first,
                                 .count = file->count,
                                 .metadata = writer->metadata,
                                 .metadata_count = writer->metadata_count};
    mixt_buffer text = {0};
    mixt_status status = mixt_safetensors_header(&header, file->path, &text, error);
    if (status == MIXT_OK) {
        writer->descriptor =
            open(file->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (writer->descriptor < 0) {
            status = mixt_fail_errno(error, errno, "%s: cannot create", file->temporary);
        } else {
            file->created = true;
            status =
                mixt_write_all(writer->descriptor, text.data, text.length, file->temporary, error);
        }
    }
    mixt_buffer_free(&text);
    writer->remaining = file->data_bytes;
    return status;
}

static mixt_status close_current(mixt_safetensors_writer *writer, mixt_error *error)
{
    const char *path = writer->files[writer->current].temporary;
    mixt_status status = MIXT_OK;
    if (fsync(writer->descriptor) != 0) {
        status = mixt_fail_errno(error, errno, "%s: cannot sync", path);
    }
    if (close(writer->descriptor) != 0 && status == MIXT_OK) {
        status = mixt_fail_errno(error, errno, "%s: cannot close", path);
    }
    writer->descriptor = -1;
    return status;
}

/* Moves on over every file that is full, to one that still lacks data (or to the last). */
static mixt_status advance(mixt_safetensors_writer *writer, mixt_error *error)
{
    mixt_status status = MIXT_OK;
    while (status == MIXT_OK && writer->remaining == 0 &&
           writer->current + 1 < writer->file_count) {
        status = close_current(writer, error);
        if (status == MIXT_OK) {
            writer->current++;
            status = open_current(writer, error);
        }
    }
    writer->failed = status != MIXT_OK;
    return status;
}

mixt_status mixt_safetensors_writer_begin(mixt_safetensors_writer *writer, mixt_error *error)
{
    if (writer->begun || writer->failed) {
        return writer_misuse(writer, "begun twice or after an error", error);
    }
    writer->begun = true;
    mixt_status status = check_names(writer, error);
    if (status == MIXT_OK) {
        status = plan_files(writer, error);
    }
    if (status == MIXT_OK) {
        status = open_current(writer, error);
    }
    writer->failed = status != MIXT_OK;
    return status == MIXT_OK ? advance(writer, error) : status;
}

mixt_status mixt_safetensors_writer_write(mixt_safetensors_writer *writer, const void *data,
                                          size_t length, mixt_error *error)
{
    if (!writer->begun || writer->failed || writer->finished) {
        return writer_misuse(writer, "data before the beginning or after an error", error);
    }
    const char *from = data;
    while (length != 0) {
        if (writer->remaining == 0) {
            return writer_misuse(writer, "more data than declared", error);
        }
        size_t step = length < writer->remaining ? length : (size_t)writer->remaining;
        mixt_status status = mixt_write_all(writer->descriptor, from, step,
                                            writer->files[writer->current].temporary, error);
        if (status != MIXT_OK) {
            writer->failed = true;
            return status;
        }
        from += step;
        length -= step;
        writer->remaining -= step;
        MIXT_TRY(advance(writer, error));
    }
    return MIXT_OK;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

/* NAME.safetensors.index.json, as transformers writes it. */
static mixt_status write_index(mixt_safetensors_writer *writer, const char *path, mixt_error *error)
{
    uint64_t total = 0;
    for (size_t i = 0; i < writer->file_count; i++) {
        total += writer->files[i].data_bytes;
    }
    mixt_buffer text = {0};
    mixt_buffer_format(&text, "{\n  \"metadata\": {\"total_size\": %llu},\n  \"weight_map\": {",
                       (unsigned long long)total);
    for (size_t i = 0; i < writer->count; i++) {
        mixt_buffer_text(&text, i == 0 ? "\n    " : ",\n    ");
        mixt_json_quote(&text, writer->tensors[i].name);
        mixt_buffer_text(&text, ": ");
        mixt_json_quote(&text, base_name(writer->files[writer->tensors[i].shard].path));
    }
    mixt_buffer_text(&text, "\n  }\n}\n");
    mixt_status status = text.failed ? writer_memory(writer, error)
                                     : mixt_file_replace(path, text.data, text.length, error);
    mixt_buffer_free(&text);
    return status;
}

static mixt_status publish(mixt_safetensors_writer *writer, const char *index, mixt_error *error)
{
    mixt_status status = MIXT_OK;
    for (size_t i = 0; i < writer->file_count && status == MIXT_OK; i++) {
        output_file *file = &writer->files[i];
        if (rename(file->temporary, file->path) != 0) {
            status = mixt_fail_errno(error, errno, "%s: cannot rename", file->temporary);
        } else {
            file->created = false;
        }
    }
    if (status == MIXT_OK && writer->file_count > 1) {
        status = write_index(writer, index, error);
    }
    /* The other form under the same name, from before, would hide or contradict this one. */
    const char *stale = writer->file_count > 1 ? writer->path : index;
    if (status == MIXT_OK && unlink(stale) != 0 && errno != ENOENT) {
        status = mixt_fail_errno(error, errno, "%s: cannot remove", stale);
    }
    if (status == MIXT_OK) {
        char *folder = strdup(writer->path);
        char *slash = folder == NULL ? NULL : strrchr(folder, '/');
        if (slash != NULL) {
            slash[slash == folder] = '\0'; /* "/" stays "/" */
        }
        status = folder == NULL ? writer_memory(writer, error)
                                : mixt_folder_sync(slash == NULL ? "." : folder, error);
        free(folder);
    }
    return status;
}

mixt_status mixt_safetensors_writer_finish(mixt_safetensors_writer *writer, mixt_error *error)
{
    if (!writer->begun || writer->failed || writer->finished) {
        return writer_misuse(writer, "finished before the beginning or after an error", error);
    }
    if (writer->remaining != 0) {
        return writer_misuse(writer, "finished before all data were written", error);
    }
    mixt_status status = close_current(writer, error);
    char *index = NULL;
    if (status == MIXT_OK && asprintf(&index, "%s.index.json", writer->path) < 0) {
        index = NULL;
        status = writer_memory(writer, error);
    }
    if (status == MIXT_OK) {
        status = publish(writer, index, error);
    }
    free(index);
    writer->failed = status != MIXT_OK;
    writer->finished = status == MIXT_OK;
    return status;
}

void mixt_safetensors_writer_free(mixt_safetensors_writer *writer)
{
    if (writer == NULL) {
        return;
    }
    if (writer->descriptor >= 0) {
        close(writer->descriptor);
    }
    for (size_t i = 0; i < writer->file_count; i++) {
        if (writer->files[i].created) {
            unlink(writer->files[i].temporary);
        }
        free(writer->files[i].path);
        free(writer->files[i].temporary);
    }
    free(writer->files);
    free(writer->tensors);
    free(writer->metadata);
    mixt_arena_free(writer->arena);
    free(writer->path);
    free(writer);
}
