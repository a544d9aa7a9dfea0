/* Writing, whole or in shards, as llama.cpp's gguf-split lays them out: the first shard holds all
 * metadata, the others only say what they are part of. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/gguf_header.h"
#include "formats/shards.h"

#define SPLIT_MAX 65535 /* split.count is a u16 */

typedef struct output_tensor {
    const char *name;
    mixt_type type;
    int rank;
    int64_t size[MIXT_GGUF_RANK_MAX];
    uint64_t bytes;
    uint64_t offset; /* in the data of its file */
} output_tensor;

struct mixt_gguf_writer {
    mixt_shards out;
    mixt_arena *arena;
    mixt_buffer values; /* the metadata as in the file */
    const char **keys;
    size_t key_count, key_capacity;
    output_tensor *tensors;
    size_t count, capacity;
    size_t current;     /* tensor being written */
    uint64_t remaining; /* bytes that it still lacks */
};

static mixt_status writer_misuse(mixt_gguf_writer *writer, const char *what, const char *rule,
                                 mixt_error *error)
{
    writer->out.failed = true;
    return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: %.200s: %s", writer->out.path, what, rule);
}

/* ------------------------------------------------------------------------------------------ */
/* Metadata */

static void put_number(mixt_buffer *out, uint64_t value, size_t bytes)
{
    unsigned char data[8];
    for (size_t i = 0; i < bytes; i++) {
        data[i] = (unsigned char)(value >> 8 * i);
    }
    mixt_buffer_append(out, data, bytes);
}

static void put_string(mixt_buffer *out, const char *text, size_t length)
{
    put_number(out, length, 8);
    mixt_buffer_append(out, text, length);
}

static bool is_key(const char *key)
{
    size_t length = strlen(key);
    for (size_t i = 0; i < length; i++) {
        if (key[i] < 0x20 || key[i] > 0x7e) {
            return false;
        }
    }
    return length != 0 && length <= MIXT_GGUF_KEY_MAX;
}

/* Key and kind; the value has to follow. */
static mixt_status begin_value(mixt_gguf_writer *writer, const char *key, mixt_gguf_kind kind,
                               mixt_error *error)
{
    if (writer->out.begun || writer->out.failed) {
        return writer_misuse(writer, key, "metadata behind the beginning of the data", error);
    }
    if (!is_key(key)) {
        return writer_misuse(writer, key, "a key is 1 to 65535 characters of printable ASCII",
                             error);
    }
    const char *copy = mixt_arena_string(writer->arena, key);
    if (copy == NULL || !mixt_grow(&writer->keys, &writer->key_capacity, writer->key_count + 1,
                                   sizeof *writer->keys)) {
        return mixt_shards_memory(&writer->out, error);
    }
    writer->keys[writer->key_count++] = copy;
    put_string(&writer->values, key, strlen(key));
    put_number(&writer->values, (uint64_t)kind, 4);
    return MIXT_OK;
}

static mixt_status end_value(mixt_gguf_writer *writer, mixt_error *error)
{
    return writer->values.failed ? mixt_shards_memory(&writer->out, error) : MIXT_OK;
}

static mixt_status write_number(mixt_gguf_writer *writer, const char *key, mixt_gguf_kind kind,
                                uint64_t bits, mixt_error *error)
{
    MIXT_TRY(begin_value(writer, key, kind, error));
    put_number(&writer->values, bits, mixt_gguf_kind_bytes(kind));
    return end_value(writer, error);
}

mixt_status mixt_gguf_writer_u32(mixt_gguf_writer *writer, const char *key, uint32_t value,
                                 mixt_error *error)
{
    return write_number(writer, key, MIXT_GGUF_U32, value, error);
}

mixt_status mixt_gguf_writer_f32(mixt_gguf_writer *writer, const char *key, float value,
                                 mixt_error *error)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return write_number(writer, key, MIXT_GGUF_F32, bits, error);
}

mixt_status mixt_gguf_writer_f64(mixt_gguf_writer *writer, const char *key, double value,
                                 mixt_error *error)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return write_number(writer, key, MIXT_GGUF_F64, bits, error);
}

mixt_status mixt_gguf_writer_bool(mixt_gguf_writer *writer, const char *key, bool value,
                                  mixt_error *error)
{
    return write_number(writer, key, MIXT_GGUF_BOOL, value, error);
}

mixt_status mixt_gguf_writer_string(mixt_gguf_writer *writer, const char *key, const char *text,
                                    mixt_error *error)
{
    MIXT_TRY(begin_value(writer, key, MIXT_GGUF_STRING, error));
    put_string(&writer->values, text, strlen(text));
    return end_value(writer, error);
}

mixt_status mixt_gguf_writer_array(mixt_gguf_writer *writer, const char *key,
                                   const mixt_gguf_array *array, mixt_error *error)
{
    MIXT_TRY(begin_value(writer, key, MIXT_GGUF_ARRAY, error));
    size_t bytes = 0;
    if (array->kind == MIXT_GGUF_ARRAY ||
        !mixt_multiply_size(array->count, mixt_gguf_kind_bytes(array->kind), &bytes)) {
        return writer_misuse(writer, key, "no such array", error);
    }
    put_number(&writer->values, (uint64_t)array->kind, 4);
    put_number(&writer->values, array->count, 8);
    mixt_buffer_append(&writer->values, array->data, bytes);
    for (size_t i = 0; array->kind == MIXT_GGUF_STRING && i < array->count; i++) {
        put_string(&writer->values, array->strings[i], array->lengths[i]);
    }
    return end_value(writer, error);
}

mixt_status mixt_gguf_writer_copy(mixt_gguf_writer *writer, const mixt_gguf *from, const char *key,
                                  mixt_error *error)
{
    const mixt_gguf_value *value = mixt_gguf_first_value(from, key);
    if (value == NULL) {
        return writer_misuse(writer, key, "the other file has no such key", error);
    }
    if (strcmp(key, "general.alignment") == 0 || strncmp(key, "split.", 6) == 0) {
        return MIXT_OK; /* they belong to that file alone */
    }
    MIXT_TRY(begin_value(writer, key, value->kind, error));
    mixt_buffer_append(&writer->values, value->raw, value->raw_bytes);
    return end_value(writer, error);
}

/* ------------------------------------------------------------------------------------------ */
/* Tensors */

static uint64_t pad(uint64_t bytes)
{
    return (bytes + MIXT_GGUF_ALIGNMENT - 1) / MIXT_GGUF_ALIGNMENT * MIXT_GGUF_ALIGNMENT;
}

/* False for a shape that is none, or whose bytes do not fit. */
static bool measure(output_tensor *tensor)
{
    uint64_t rows = 1;
    for (int i = 0; i < tensor->rank; i++) {
        if (tensor->size[i] < 0 ||
            (i != 0 && __builtin_mul_overflow(rows, (uint64_t)tensor->size[i], &rows))) {
            return false;
        }
    }
    int64_t columns = tensor->rank == 0 ? 1 : tensor->size[0];
    uint64_t row_bytes = mixt_type_row_bytes(tensor->type, columns);
    return (row_bytes != 0 || columns == 0) &&
           !__builtin_mul_overflow(rows, row_bytes, &tensor->bytes) &&
           tensor->bytes < INT64_MAX - MIXT_GGUF_ALIGNMENT;
}

mixt_status mixt_gguf_writer_add(mixt_gguf_writer *writer, const char *name, mixt_type type,
                                 int rank, const int64_t *size, mixt_error *error)
{
    if (writer->out.begun || writer->out.failed) {
        return writer_misuse(writer, name, "declared behind the beginning of the data", error);
    }
    output_tensor tensor = {.type = type, .rank = rank};
    size_t length = strlen(name);
    if (length == 0 || length > MIXT_GGUF_NAME_MAX) {
        return writer_misuse(writer, name, "a tensor's name has 1 to 63 bytes", error);
    }
    if (rank < 0 || rank > MIXT_GGUF_RANK_MAX || (int)type < 0 || type >= MIXT_TYPE_COUNT ||
        mixt_type_info(type)->number < 0) {
        return writer_misuse(writer, name, "no such type or number of dimensions", error);
    }
    if (rank != 0) {
        memcpy(tensor.size, size, (size_t)rank * sizeof *size);
    }
    if (!measure(&tensor)) {
        return writer_misuse(writer, name, "its shape does not fit its type", error);
    }
    tensor.name = mixt_arena_string(writer->arena, name);
    if (tensor.name == NULL ||
        !mixt_grow(&writer->tensors, &writer->capacity, writer->count + 1, sizeof tensor)) {
        return mixt_shards_memory(&writer->out, error);
    }
    writer->tensors[writer->count++] = tensor;
    return MIXT_OK;
}

static mixt_status check_twins(mixt_gguf_writer *writer, mixt_error *error)
{
    const char **names = calloc(writer->count + 1, sizeof *names);
    if (names == NULL) {
        return mixt_shards_memory(&writer->out, error);
    }
    for (size_t i = 0; i < writer->count; i++) {
        names[i] = writer->tensors[i].name;
    }
    const char *twin = mixt_find_twin(names, writer->count);
    free(names);
    twin = twin == NULL ? mixt_find_twin(writer->keys, writer->key_count) : twin;
    return twin == NULL ? MIXT_OK : writer_misuse(writer, twin, "is there twice", error);
}

/* ------------------------------------------------------------------------------------------ */
/* Files */

static mixt_status plan_files(mixt_gguf_writer *writer, mixt_error *error)
{
    MIXT_TRY(mixt_shards_plan(&writer->out, writer->count, error));
    for (size_t i = 0; i < writer->count; i++) {
        output_tensor *tensor = &writer->tensors[i];
        if (!mixt_shards_deal(&writer->out, pad(tensor->bytes), &tensor->offset)) {
            return writer_misuse(writer, tensor->name, "more bytes than a file can hold", error);
        }
    }
    return writer->out.count <= SPLIT_MAX
               ? MIXT_OK
               : writer_misuse(writer, "shards", "more than 65535", error);
}

static void put_split(mixt_buffer *out, const char *key, mixt_gguf_kind kind, uint64_t value)
{
    put_string(out, key, strlen(key));
    put_number(out, (uint64_t)kind, 4);
    put_number(out, value, mixt_gguf_kind_bytes(kind));
}

/* Header of a file, padded to where its data begin. */
static mixt_status build_header(void *user, size_t index, mixt_buffer *out, mixt_error *error)
{
    (void)error; /* what can go wrong is memory, and the buffer says so */
    const mixt_gguf_writer *writer = user;
    const mixt_shard *file = &writer->out.files[index];
    bool split = writer->out.count > 1;
    mixt_buffer_append(out, MIXT_GGUF_MAGIC, 4);
    put_number(out, MIXT_GGUF_VERSION, 4);
    put_number(out, file->count, 8);
    put_number(out, (index == 0 ? writer->key_count : 0) + (split ? 3 : 0), 8);
    if (index == 0) {
        mixt_buffer_append(out, writer->values.data, writer->values.length);
    }
    if (split) {
        put_split(out, "split.no", MIXT_GGUF_U16, index);
        put_split(out, "split.count", MIXT_GGUF_U16, writer->out.count);
        put_split(out, "split.tensors.count", MIXT_GGUF_I32, writer->count);
    }
    for (size_t i = file->first; i < file->first + file->count; i++) {
        const output_tensor *tensor = &writer->tensors[i];
        put_string(out, tensor->name, strlen(tensor->name));
        put_number(out, (uint64_t)tensor->rank, 4);
        for (int j = 0; j < tensor->rank; j++) {
            put_number(out, (uint64_t)tensor->size[j], 8);
        }
        put_number(out, (uint64_t)mixt_type_info(tensor->type)->number, 4);
        put_number(out, tensor->offset, 8);
    }
    static const char zeros[MIXT_GGUF_ALIGNMENT];
    mixt_buffer_append(out, zeros, pad(out->length) - out->length);
    assert(out->failed || out->length % MIXT_GGUF_ALIGNMENT == 0);
    return MIXT_OK;
}

mixt_status mixt_gguf_writer_create(const char *path, uint64_t shard_bytes,
                                    mixt_gguf_writer **writer, mixt_error *error)
{
    *writer = NULL;
    mixt_gguf_writer *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    }
    mixt_status status = mixt_shards_init(&made->out, path, ".gguf", shard_bytes, error);
    made->out.header = build_header;
    made->out.writer = made;
    if (status == MIXT_OK && (made->arena = mixt_arena_create()) == NULL) {
        status = mixt_shards_memory(&made->out, error);
    }
    if (status != MIXT_OK) {
        mixt_gguf_writer_free(made);
        return status;
    }
    *writer = made;
    return MIXT_OK;
}

/* Moves on over every tensor that is full, and every file, to a tensor that still lacks data. */
static mixt_status advance(mixt_gguf_writer *writer, mixt_error *error)
{
    static const char zeros[MIXT_GGUF_ALIGNMENT];
    mixt_shards *out = &writer->out;
    while (writer->remaining == 0 && writer->current < writer->count) {
        const mixt_shard *file = &out->files[out->current];
        const output_tensor *tensor = &writer->tensors[writer->current++];
        assert(writer->current > file->first && writer->current <= file->first + file->count);
        MIXT_TRY(mixt_shards_write(out, zeros, pad(tensor->bytes) - tensor->bytes, error));
        if (writer->current < writer->count) {
            if (writer->current == file->first + file->count) {
                MIXT_TRY(mixt_shards_next(out, error));
            }
            writer->remaining = writer->tensors[writer->current].bytes;
        }
    }
    return MIXT_OK;
}

mixt_status mixt_gguf_writer_begin(mixt_gguf_writer *writer, mixt_error *error)
{
    if (writer->out.begun || writer->out.failed) {
        return writer_misuse(writer, "begin", "begun twice or after an error", error);
    }
    writer->out.begun = true;
    MIXT_TRY(check_twins(writer, error));
    MIXT_TRY(plan_files(writer, error));
    MIXT_TRY(mixt_shards_begin(&writer->out, error));
    writer->remaining = writer->count == 0 ? 0 : writer->tensors[0].bytes;
    return advance(writer, error);
}

mixt_status mixt_gguf_writer_image(mixt_gguf_writer *writer, char **bytes, size_t *length,
                                   mixt_error *error)
{
    *bytes = NULL;
    if (writer->out.begun || writer->out.failed || writer->out.limit != 0) {
        return writer_misuse(writer, "image", "begun, in shards or after an error", error);
    }
    writer->out.begun = true;
    MIXT_TRY(check_twins(writer, error));
    MIXT_TRY(plan_files(writer, error));
    mixt_buffer header = {0};
    MIXT_TRY(build_header(writer, 0, &header, error));
    *length = header.length + (size_t)writer->out.files[0].bytes;
    *bytes = header.failed ? NULL : calloc(*length, 1);
    if (*bytes != NULL) {
        memcpy(*bytes, header.data, header.length);
    }
    mixt_buffer_free(&header);
    return *bytes != NULL ? MIXT_OK : mixt_shards_memory(&writer->out, error);
}

static mixt_status check_room(mixt_gguf_writer *writer, uint64_t bytes, mixt_error *error)
{
    if (!writer->out.begun || writer->out.failed || writer->out.finished) {
        return writer_misuse(writer, "write", "data before the beginning or after an error", error);
    }
    if (bytes > writer->remaining) {
        return writer_misuse(writer,
                             writer->current < writer->count ? writer->tensors[writer->current].name
                                                             : "write",
                             "more data than declared", error);
    }
    return MIXT_OK;
}

mixt_status mixt_gguf_writer_write(mixt_gguf_writer *writer, const void *data, size_t bytes,
                                   mixt_error *error)
{
    MIXT_TRY(check_room(writer, bytes, error));
    MIXT_TRY(mixt_shards_write(&writer->out, data, bytes, error));
    writer->remaining -= bytes;
    return advance(writer, error);
}

mixt_status mixt_gguf_writer_skip(mixt_gguf_writer *writer, uint64_t bytes, mixt_error *error)
{
    MIXT_TRY(check_room(writer, bytes, error));
    MIXT_TRY(mixt_shards_skip(&writer->out, bytes, error));
    writer->remaining -= bytes;
    return advance(writer, error);
}

mixt_status mixt_gguf_writer_finish(mixt_gguf_writer *writer, mixt_error *error)
{
    if (!writer->out.begun || writer->out.failed || writer->out.finished) {
        return writer_misuse(writer, "finish", "before the beginning or after an error", error);
    }
    if (writer->current < writer->count) {
        return writer_misuse(writer, writer->tensors[writer->current].name,
                             "finished before all its data were written", error);
    }
    MIXT_TRY(mixt_shards_close(&writer->out, error));
    MIXT_TRY(mixt_shards_rename(&writer->out, error));
    MIXT_TRY(mixt_shards_sync(&writer->out, error));
    writer->out.finished = true;
    return MIXT_OK;
}

void mixt_gguf_writer_free(mixt_gguf_writer *writer)
{
    if (writer != NULL) {
        mixt_shards_free(&writer->out);
        free(writer->tensors);
        free(writer->keys);
        mixt_buffer_free(&writer->values);
        mixt_arena_free(writer->arena);
        free(writer);
    }
}
