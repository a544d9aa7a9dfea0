/* Writing: header builder and the streaming writer. */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "core/files.h"
#include "core/utf8.h"
#include "formats/safetensors.h"
#include "formats/shards.h"

void mixt_json_quote(mixt_buffer *out, const char *text)
{
    mixt_buffer_append(out, "\"", 1);
    size_t left = strlen(text);
    const char *plain = text, *c = text;
    while (left > 0) {
        size_t size = mixt_utf8_character((const unsigned char *)c, left);
        uint32_t point = size != 0 ? mixt_utf8_decode((const unsigned char *)c, size) : 0xfffd;
        size = size != 0 ? size : 1; /* bytes that are not UTF-8 stay as they are */
        bool escaped = point == '"' || point == '\\' || mixt_utf8_acts(point);
        if (escaped) {
            mixt_buffer_append(out, plain, (size_t)(c - plain));
            plain = c + size;
            if (mixt_utf8_acts(point)) {
                mixt_buffer_format(out, "\\u%04x", (unsigned)point);
            } else {
                mixt_buffer_format(out, "\\%c", (int)point);
            }
        }
        c += size;
        left -= size;
    }
    mixt_buffer_append(out, plain, (size_t)(c - plain));
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
    assert(length % 8 == 0 && start + sizeof zeros + length == out->length);
    for (int i = 0; i < 8; i++) {
        out->data[start + (size_t)i] = (char)(length >> (8 * i) & 0xff);
    }
    return MIXT_OK;
}

/* -- The streaming writer ------------------------------------------------------------------- */

struct mixt_safetensors_writer {
    mixt_shards out;
    mixt_arena *arena;
    mixt_tensor_info *tensors;
    size_t count, capacity;
    mixt_text_pair *metadata;
    size_t metadata_count, metadata_capacity;
    uint64_t remaining; /* bytes that the current file still lacks */
};

static mixt_status writer_misuse(mixt_safetensors_writer *writer, const char *rule,
                                 mixt_error *error)
{
    writer->out.failed = true;
    return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: %s", writer->out.path, rule);
}

mixt_status mixt_safetensors_writer_metadata(mixt_safetensors_writer *writer, const char *key,
                                             const char *value, mixt_error *error)
{
    if (writer->out.begun || writer->out.failed) {
        return writer_misuse(writer, "metadata behind the beginning of the data", error);
    }
    mixt_text_pair pair = {mixt_arena_string(writer->arena, key),
                           mixt_arena_string(writer->arena, value)};
    if (pair.key == NULL || pair.value == NULL ||
        !mixt_grow(&writer->metadata, &writer->metadata_capacity, writer->metadata_count + 1,
                   sizeof pair)) {
        return mixt_shards_memory(&writer->out, error);
    }
    writer->metadata[writer->metadata_count++] = pair;
    return MIXT_OK;
}

mixt_status mixt_safetensors_writer_add(mixt_safetensors_writer *writer, const char *name,
                                        mixt_dtype dtype, uint32_t rank, const int64_t *shape,
                                        mixt_error *error)
{
    if (writer->out.begun || writer->out.failed) {
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
        return mixt_shards_memory(&writer->out, error);
    }
    if (rank != 0) {
        memcpy(sizes, shape, rank * sizeof *sizes);
    }
    tensor.shape = sizes;
    writer->tensors[writer->count++] = tensor;
    return MIXT_OK;
}

/* Refuses names that are there twice, or that mean something else. */
static mixt_status check_names(mixt_safetensors_writer *writer, mixt_error *error)
{
    const char **names = calloc(writer->count + 1, sizeof *names);
    if (names == NULL) {
        return mixt_shards_memory(&writer->out, error);
    }
    bool reserved = false;
    for (size_t i = 0; i < writer->count; i++) {
        names[i] = writer->tensors[i].name;
        reserved = reserved || strcmp(names[i], "__metadata__") == 0;
    }
    bool twin = mixt_find_twin(names, writer->count) != NULL;
    free(names);
    return reserved || twin ? writer_misuse(writer, "tensor name is reserved or there twice", error)
                            : MIXT_OK;
}

static mixt_status plan_files(mixt_safetensors_writer *writer, mixt_error *error)
{
    MIXT_TRY(mixt_shards_plan(&writer->out, writer->count, error));
    for (size_t i = 0; i < writer->count; i++) {
        uint64_t offset;
        if (!mixt_shards_deal(&writer->out, writer->tensors[i].bytes, &offset)) {
            return writer_misuse(writer, "more bytes than a file can hold", error);
        }
        writer->tensors[i].shard = (uint32_t)(writer->out.count - 1);
    }
    return MIXT_OK;
}

static mixt_status build_header(void *user, size_t index, mixt_buffer *out, mixt_error *error)
{
    const mixt_safetensors_writer *writer = user;
    const mixt_shard *file = &writer->out.files[index];
    mixt_tensor_header header = {.tensors = file->count == 0 ? NULL : writer->tensors + file->first,
                                 .count = file->count,
                                 .metadata = writer->metadata,
                                 .metadata_count = writer->metadata_count};
    return mixt_safetensors_header(&header, file->path, out, error);
}

mixt_status mixt_safetensors_writer_create(const char *path, uint64_t shard_bytes,
                                           mixt_safetensors_writer **writer, mixt_error *error)
{
    *writer = NULL;
    mixt_safetensors_writer *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    }
    mixt_status status = mixt_shards_init(&made->out, path, ".safetensors", shard_bytes, error);
    made->out.header = build_header;
    made->out.writer = made;
    if (status == MIXT_OK && (made->arena = mixt_arena_create()) == NULL) {
        status = mixt_shards_memory(&made->out, error);
    }
    if (status != MIXT_OK) {
        mixt_safetensors_writer_free(made);
        return status;
    }
    *writer = made;
    return MIXT_OK;
}

/* Moves on over every file that is full, to one that still lacks data (or to the last). */
static mixt_status advance(mixt_safetensors_writer *writer, mixt_error *error)
{
    mixt_shards *out = &writer->out;
    while (writer->remaining == 0 && out->current + 1 < out->count) {
        MIXT_TRY(mixt_shards_next(out, error));
        writer->remaining = out->files[out->current].bytes;
    }
    return MIXT_OK;
}

mixt_status mixt_safetensors_writer_begin(mixt_safetensors_writer *writer, mixt_error *error)
{
    if (writer->out.begun || writer->out.failed) {
        return writer_misuse(writer, "begun twice or after an error", error);
    }
    writer->out.begun = true;
    MIXT_TRY(check_names(writer, error));
    MIXT_TRY(plan_files(writer, error));
    MIXT_TRY(mixt_shards_begin(&writer->out, error));
    writer->remaining = writer->out.files[0].bytes;
    return advance(writer, error);
}

mixt_status mixt_safetensors_writer_write(mixt_safetensors_writer *writer, const void *data,
                                          size_t length, mixt_error *error)
{
    if (!writer->out.begun || writer->out.failed || writer->out.finished) {
        return writer_misuse(writer, "data before the beginning or after an error", error);
    }
    const char *from = data;
    while (length != 0) {
        if (writer->remaining == 0) {
            return writer_misuse(writer, "more data than declared", error);
        }
        size_t step = length < writer->remaining ? length : (size_t)writer->remaining;
        MIXT_TRY(mixt_shards_write(&writer->out, from, step, error));
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

void mixt_safetensors_index(const mixt_tensor_place *places, size_t count, uint64_t bytes,
                            mixt_buffer *out)
{
    mixt_buffer_format(out, "{\n  \"metadata\": {\"total_size\": %llu},\n  \"weight_map\": {",
                       (unsigned long long)bytes);
    for (size_t i = 0; i < count; i++) {
        mixt_buffer_text(out, i == 0 ? "\n    " : ",\n    ");
        mixt_json_quote(out, places[i].name);
        mixt_buffer_text(out, ": ");
        mixt_json_quote(out, places[i].file);
    }
    mixt_buffer_text(out, "\n  }\n}\n");
}

static mixt_status write_index(mixt_safetensors_writer *writer, const char *path, mixt_error *error)
{
    uint64_t total = 0;
    mixt_tensor_place *places = calloc(writer->count + 1, sizeof *places);
    if (places == NULL) {
        return mixt_shards_memory(&writer->out, error);
    }
    for (size_t i = 0; i < writer->out.count; i++) {
        total += writer->out.files[i].bytes;
    }
    for (size_t i = 0; i < writer->count; i++) {
        assert(writer->tensors[i].shard < writer->out.count);
        places[i] = (mixt_tensor_place){
            writer->tensors[i].name, base_name(writer->out.files[writer->tensors[i].shard].path)};
    }
    mixt_buffer text = {0};
    mixt_safetensors_index(places, writer->count, total, &text);
    mixt_status status = text.failed ? mixt_shards_memory(&writer->out, error)
                                     : mixt_file_replace(path, text.data, text.length, error);
    mixt_buffer_free(&text);
    free(places);
    return status;
}

static mixt_status publish(mixt_safetensors_writer *writer, const char *index, mixt_error *error)
{
    mixt_shards *out = &writer->out;
    MIXT_TRY(mixt_shards_rename(out, error));
    if (out->count > 1) {
        MIXT_TRY(write_index(writer, index, error));
    }
    /* The other form under the same name, from before, would hide or contradict this one. */
    const char *stale = out->count > 1 ? out->path : index;
    if (unlink(stale) != 0 && errno != ENOENT) {
        return mixt_fail_errno(error, errno, "%s: cannot remove", stale);
    }
    return mixt_shards_sync(out, error);
}

mixt_status mixt_safetensors_writer_finish(mixt_safetensors_writer *writer, mixt_error *error)
{
    if (!writer->out.begun || writer->out.failed || writer->out.finished) {
        return writer_misuse(writer, "finished before the beginning or after an error", error);
    }
    if (writer->remaining != 0) {
        return writer_misuse(writer, "finished before all data were written", error);
    }
    MIXT_TRY(mixt_shards_close(&writer->out, error));
    char *index;
    if (asprintf(&index, "%s.index.json", writer->out.path) < 0) {
        return mixt_shards_memory(&writer->out, error);
    }
    mixt_status status = publish(writer, index, error);
    free(index);
    writer->out.failed = status != MIXT_OK;
    writer->out.finished = status == MIXT_OK;
    return status;
}

void mixt_safetensors_writer_free(mixt_safetensors_writer *writer)
{
    if (writer != NULL) {
        mixt_shards_free(&writer->out);
        free(writer->tensors);
        free(writer->metadata);
        mixt_arena_free(writer->arena);
        free(writer);
    }
}
