/* Parsing of one file's header. Nothing is believed: every length is compared with what is left of
 * the file before it is used, and every allocation is a small multiple of bytes that are there. */
#include "formats/gguf_header.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

#define KEY_BYTES_MIN 14    /* length of a key, one byte of it, kind, and a value of one byte */
#define TENSOR_BYTES_MIN 25 /* length of a name, one byte of it, rank, type, offset */

typedef struct cursor {
    mixt_gguf_part *part;
    uint64_t at; /* <= part->size */
    const char *what;
    char place[300]; /* backs `what` */
    mixt_arena *arena;
    mixt_error *error;
} cursor;

static const struct kind_row {
    const char *name;
    size_t bytes;
} kinds[] = {
    [MIXT_GGUF_U8] = {"u8", 1},         [MIXT_GGUF_I8] = {"i8", 1},
    [MIXT_GGUF_U16] = {"u16", 2},       [MIXT_GGUF_I16] = {"i16", 2},
    [MIXT_GGUF_U32] = {"u32", 4},       [MIXT_GGUF_I32] = {"i32", 4},
    [MIXT_GGUF_F32] = {"f32", 4},       [MIXT_GGUF_BOOL] = {"bool", 1},
    [MIXT_GGUF_STRING] = {"string", 0}, [MIXT_GGUF_ARRAY] = {"array", 0},
    [MIXT_GGUF_U64] = {"u64", 8},       [MIXT_GGUF_I64] = {"i64", 8},
    [MIXT_GGUF_F64] = {"f64", 8},
};
#define KIND_COUNT (sizeof kinds / sizeof kinds[0])

/* ggml's other numbers, and what is to be done. */
#define REPACKED(type) "was removed from the format: take the file of type " type
#define INTEGERS "holds integers, no weights"
static const struct type_name {
    uint32_t number;
    const char *name, *advice;
} other_types[] = {
    {4, "Q4_2", "was removed from the format: convert the original model again"},
    {5, "Q4_3", "was removed from the format: convert the original model again"},
    {9, "Q8_1", "is for activations, no file's"},
    {15, "Q8_K", "is for activations, no file's"},
    {24, "I8", INTEGERS},
    {25, "I16", INTEGERS},
    {26, "I32", INTEGERS},
    {27, "I64", INTEGERS},
    {28, "F64", "is not for weights: write them as F32"},
    {31, "Q4_0_4_4", REPACKED("Q4_0")},
    {32, "Q4_0_4_8", REPACKED("Q4_0")},
    {33, "Q4_0_8_8", REPACKED("Q4_0")},
    {36, "IQ4_NL_4_4", REPACKED("IQ4_NL")},
    {37, "IQ4_NL_4_8", REPACKED("IQ4_NL")},
    {38, "IQ4_NL_8_8", REPACKED("IQ4_NL")},
};

size_t mixt_gguf_kind_bytes(mixt_gguf_kind kind)
{
    assert((unsigned)kind < KIND_COUNT);
    return kinds[kind].bytes;
}

const char *mixt_gguf_kind_name(mixt_gguf_kind kind)
{
    assert((unsigned)kind < KIND_COUNT);
    return kinds[kind].name;
}

static mixt_status no_memory(const cursor *in)
{
    return mixt_fail(in->error, MIXT_ERROR_MEMORY, "%s: no memory for the header", in->part->path);
}

static uint64_t left(const cursor *in)
{
    assert(in->at <= in->part->size);
    return in->part->size - in->at;
}

/* The next `bytes` bytes, or an error that says what they should have been. */
static mixt_status take(cursor *in, uint64_t bytes, const unsigned char **data)
{
    if (bytes > left(in)) {
        return mixt_fail(in->error, MIXT_ERROR_FORMAT,
                         "%s: %s: %llu bytes at byte %llu reach beyond the end of the file (%llu)",
                         in->part->path, in->what, (unsigned long long)bytes,
                         (unsigned long long)in->at, (unsigned long long)in->part->size);
    }
    *data = in->part->bytes + in->at;
    in->at += bytes;
    return MIXT_OK;
}

static uint64_t little_endian(const unsigned char *data, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = bytes; i-- > 0;) {
        value = value << 8 | data[i];
    }
    return value;
}

static mixt_status take_number(cursor *in, size_t bytes, uint64_t *value)
{
    const unsigned char *data;
    MIXT_TRY(take(in, bytes, &data));
    *value = little_endian(data, bytes);
    return MIXT_OK;
}

/* A string's bytes in the file. */
static mixt_status take_string(cursor *in, const unsigned char **data, uint64_t *length)
{
    MIXT_TRY(take_number(in, 8, length));
    return take(in, *length, data);
}

/* ------------------------------------------------------------------------------------------ */
/* Metadata */

static mixt_status take_key(cursor *in, const char **key)
{
    const unsigned char *data;
    uint64_t length;
    MIXT_TRY(take_string(in, &data, &length));
    if (length == 0 || length > MIXT_GGUF_KEY_MAX) {
        return mixt_fail(in->error, MIXT_ERROR_FORMAT, "%s: %s has %llu bytes (1 to %d allowed)",
                         in->part->path, in->what, (unsigned long long)length, MIXT_GGUF_KEY_MAX);
    }
    for (uint64_t i = 0; i < length; i++) {
        if (data[i] < 0x20 || data[i] > 0x7e) {
            return mixt_fail(in->error, MIXT_ERROR_FORMAT,
                             "%s: %s holds byte 0x%02x, but keys are printable ASCII",
                             in->part->path, in->what, data[i]);
        }
    }
    *key = mixt_arena_bytes(in->arena, data, (size_t)length);
    return *key == NULL ? no_memory(in) : MIXT_OK;
}

static mixt_status take_kind(cursor *in, mixt_gguf_kind *kind)
{
    uint64_t number;
    MIXT_TRY(take_number(in, 4, &number));
    if (number >= KIND_COUNT) {
        return mixt_fail(in->error, MIXT_ERROR_FORMAT, "%s: %s: unknown kind of value %lld",
                         in->part->path, in->what, (long long)(int32_t)number);
    }
    *kind = (mixt_gguf_kind)number;
    return MIXT_OK;
}

static mixt_status bad_bool(const cursor *in, unsigned value)
{
    return mixt_fail(in->error, MIXT_ERROR_FORMAT, "%s: %s: a bool is 0 or 1, not %u",
                     in->part->path, in->what, value);
}

static mixt_status take_string_array(cursor *in, mixt_gguf_array *array)
{
    if (array->count > left(in) / 8) { /* each string has a length of 8 bytes */
        return mixt_fail(in->error, MIXT_ERROR_FORMAT,
                         "%s: %s: %zu strings do not fit into the %llu bytes left", in->part->path,
                         in->what, array->count, (unsigned long long)left(in));
    }
    const char **strings = mixt_arena_allocate(in->arena, array->count, sizeof *strings);
    uint64_t *lengths = mixt_arena_allocate(in->arena, array->count, sizeof *lengths);
    if (strings == NULL || lengths == NULL) {
        return no_memory(in);
    }
    for (size_t i = 0; i < array->count; i++) {
        const unsigned char *data;
        MIXT_TRY(take_string(in, &data, &lengths[i]));
        strings[i] = (const char *)data;
    }
    array->strings = strings;
    array->lengths = lengths;
    return MIXT_OK;
}

static mixt_status take_array(cursor *in, mixt_gguf_array *array)
{
    uint64_t count;
    MIXT_TRY(take_kind(in, &array->kind));
    MIXT_TRY(take_number(in, 8, &count));
    if (array->kind == MIXT_GGUF_ARRAY) {
        return mixt_fail(in->error, MIXT_ERROR_UNSUPPORTED, "%s: %s: an array of arrays",
                         in->part->path, in->what);
    }
    size_t size = kinds[array->kind].bytes;
    if (count > left(in) / (size == 0 ? 1 : size)) {
        return mixt_fail(in->error, MIXT_ERROR_FORMAT,
                         "%s: %s: %llu elements do not fit into the %llu bytes left",
                         in->part->path, in->what, (unsigned long long)count,
                         (unsigned long long)left(in));
    }
    array->count = (size_t)count;
    if (array->kind == MIXT_GGUF_STRING) {
        return take_string_array(in, array);
    }
    const unsigned char *data;
    MIXT_TRY(take(in, count * size, &data));
    for (size_t i = 0; array->kind == MIXT_GGUF_BOOL && i < count; i++) {
        if (data[i] > 1) {
            return bad_bool(in, data[i]);
        }
    }
    array->data = data;
    return MIXT_OK;
}

static mixt_status take_value(cursor *in, mixt_gguf_value *value)
{
    uint64_t start = in->at;
    if (value->kind == MIXT_GGUF_STRING) {
        const unsigned char *data;
        uint64_t length;
        MIXT_TRY(take_string(in, &data, &length));
        value->length = (size_t)length;
        value->text = mixt_arena_bytes(in->arena, data, (size_t)length);
        if (value->text == NULL) {
            return no_memory(in);
        }
    } else if (value->kind == MIXT_GGUF_ARRAY) {
        MIXT_TRY(take_array(in, &value->array));
    } else {
        MIXT_TRY(take_number(in, kinds[value->kind].bytes, &value->bits));
        if (value->kind == MIXT_GGUF_BOOL && value->bits > 1) {
            return bad_bool(in, (unsigned)value->bits);
        }
    }
    value->raw = in->part->bytes + start;
    value->raw_bytes = (size_t)(in->at - start);
    return MIXT_OK;
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp((*(const mixt_gguf_value *const *)a)->key,
                  (*(const mixt_gguf_value *const *)b)->key);
}

static mixt_status sort_keys(cursor *in)
{
    mixt_gguf_part *part = in->part;
    part->keys = mixt_arena_allocate(in->arena, part->value_count, sizeof(void *));
    if (part->keys == NULL) {
        return no_memory(in);
    }
    for (size_t i = 0; i < part->value_count; i++) {
        part->keys[i] = &part->values[i];
    }
    qsort(part->keys, part->value_count, sizeof(void *), compare_keys);
    for (size_t i = 1; i < part->value_count; i++) {
        if (strcmp(part->keys[i - 1]->key, part->keys[i]->key) == 0) {
            return mixt_fail(in->error, MIXT_ERROR_FORMAT, "%s: key \"%.200s\" is there twice",
                             part->path, part->keys[i]->key);
        }
    }
    return MIXT_OK;
}

const mixt_gguf_value *mixt_gguf_value_of(const mixt_gguf_part *part, const char *key)
{
    size_t low = 0;
    size_t high = part->value_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(key, part->keys[middle]->key);
        if (order == 0) {
            return part->keys[middle];
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    assert(low == 0 || strcmp(part->keys[low - 1]->key, key) < 0);
    assert(low == part->value_count || strcmp(key, part->keys[low]->key) < 0);
    return NULL;
}

static mixt_status parse_values(cursor *in, uint64_t count)
{
    mixt_gguf_part *part = in->part;
    part->values = mixt_arena_allocate(in->arena, (size_t)count, sizeof *part->values);
    if (part->values == NULL) {
        return no_memory(in);
    }
    while (part->value_count < count) {
        mixt_gguf_value *value = &part->values[part->value_count];
        snprintf(in->place, sizeof in->place, "key %zu", part->value_count);
        MIXT_TRY(take_key(in, &value->key));
        snprintf(in->place, sizeof in->place, "key \"%.200s\"", value->key);
        MIXT_TRY(take_kind(in, &value->kind));
        MIXT_TRY(take_value(in, value));
        part->value_count++;
    }
    return sort_keys(in);
}

/* ------------------------------------------------------------------------------------------ */
/* Tensors */

static mixt_status bad_tensor(const cursor *in, const char *rule)
{
    return mixt_fail(in->error, MIXT_ERROR_FORMAT, "%s: %s: %s", in->part->path, in->what, rule);
}

static mixt_status take_name(cursor *in, const char **name)
{
    const unsigned char *data;
    uint64_t length;
    MIXT_TRY(take_string(in, &data, &length));
    if (length == 0 || length > MIXT_GGUF_NAME_MAX) {
        return mixt_fail(in->error, MIXT_ERROR_FORMAT,
                         "%s: %s has a name of %llu bytes (1 to %d allowed)", in->part->path,
                         in->what, (unsigned long long)length, MIXT_GGUF_NAME_MAX);
    }
    if (memchr(data, '\0', (size_t)length) != NULL) {
        return bad_tensor(in, "its name holds a NUL");
    }
    *name = mixt_arena_bytes(in->arena, data, (size_t)length);
    return *name == NULL ? no_memory(in) : MIXT_OK;
}

static mixt_status take_shape(cursor *in, mixt_gguf_tensor *tensor)
{
    uint64_t rank;
    MIXT_TRY(take_number(in, 4, &rank));
    if (rank > MIXT_GGUF_RANK_MAX) {
        return mixt_fail(in->error, MIXT_ERROR_FORMAT,
                         "%s: %s has %llu dimensions (0 to %d allowed)", in->part->path, in->what,
                         (unsigned long long)rank, MIXT_GGUF_RANK_MAX);
    }
    tensor->rank = (int)rank;
    for (int i = 0; i < MIXT_GGUF_RANK_MAX; i++) {
        uint64_t size = 1;
        if (i < tensor->rank) {
            MIXT_TRY(take_number(in, 8, &size));
        }
        if (size > INT64_MAX) {
            return bad_tensor(in, "a dimension is negative");
        }
        tensor->size[i] = (int64_t)size;
    }
    return MIXT_OK;
}

static mixt_status take_type(cursor *in, mixt_type *type)
{
    uint64_t number;
    MIXT_TRY(take_number(in, 4, &number));
    *type = mixt_type_from_number((int64_t)number);
    if (*type != MIXT_TYPE_COUNT) {
        return MIXT_OK;
    }
    for (size_t i = 0; i < sizeof other_types / sizeof other_types[0]; i++) {
        if (other_types[i].number == number) {
            return mixt_fail(in->error, MIXT_ERROR_UNSUPPORTED, "%s: %s is of type %s, which %s",
                             in->part->path, in->what, other_types[i].name, other_types[i].advice);
        }
    }
    return mixt_fail(in->error, MIXT_ERROR_FORMAT, "%s: %s is of unknown type %lld", in->part->path,
                     in->what, (long long)(int32_t)number);
}

/* Bytes of the tensor from type and shape. */
static mixt_status measure(cursor *in, mixt_gguf_tensor *tensor)
{
    const mixt_type_row *row = mixt_type_info(tensor->type);
    if (tensor->size[0] % row->elements != 0) {
        return mixt_fail(in->error, MIXT_ERROR_FORMAT,
                         "%s: %s: rows of %lld elements are not whole %s blocks of %d",
                         in->part->path, in->what, (long long)tensor->size[0], row->name,
                         row->elements);
    }
    int64_t elements = 1;
    size_t bytes = (size_t)(tensor->size[0] / row->elements);
    bool fits = mixt_multiply_size(bytes, (size_t)row->bytes, &bytes);
    for (int i = 0; i < MIXT_GGUF_RANK_MAX; i++) {
        int64_t size = tensor->size[i] > 0 ? tensor->size[i] : 1; /* so that no product overflows */
        fits = fits && !__builtin_mul_overflow(elements, size, &elements) &&
               (i == 0 || mixt_multiply_size(bytes, (size_t)tensor->size[i], &bytes));
    }
    if (!fits || bytes > INT64_MAX) {
        return bad_tensor(in, "its shape has too many elements");
    }
    tensor->bytes = bytes;
    return MIXT_OK;
}

typedef struct placed {
    uint64_t offset; /* behind the beginning of the data */
    size_t index;
} placed;

static int compare_offsets(const void *a, const void *b)
{
    const placed *x = a;
    const placed *y = b;
    return x->offset != y->offset ? (x->offset < y->offset ? -1 : 1)
                                  : (x->index > y->index) - (x->index < y->index);
}

/* Tensors lie inside the data, aligned, none over another. */
static mixt_status place_tensors(cursor *in, placed *order, uint64_t alignment)
{
    mixt_gguf_part *part = in->part;
    uint64_t start = in->at + (alignment - in->at % alignment) % alignment;
    uint64_t data_bytes = part->size > start ? part->size - start : 0;
    bool sorted = true;
    for (size_t i = 0; i < part->tensor_count; i++) {
        mixt_gguf_tensor *tensor = &part->tensors[i];
        uint64_t offset = order[i].offset;
        snprintf(in->place, sizeof in->place, "tensor \"%s\"", tensor->name);
        if (offset % alignment != 0) {
            return bad_tensor(in, "its offset is not aligned");
        }
        /* A tensor without bytes may stand behind padding that the end of a file may lack. */
        uint64_t slack = tensor->bytes == 0 ? alignment : 0;
        if (offset > data_bytes + slack ||
            (tensor->bytes != 0 && tensor->bytes > data_bytes - offset)) {
            return mixt_fail(in->error, MIXT_ERROR_FORMAT,
                             "%s: %s: %zu bytes at byte %llu of the data, which has %llu",
                             part->path, in->what, tensor->bytes, (unsigned long long)offset,
                             (unsigned long long)data_bytes);
        }
        tensor->data = part->bytes + (tensor->bytes == 0 ? 0 : start + offset);
        sorted = sorted && (i == 0 || order[i - 1].offset <= offset);
    }
    if (!sorted) {
        qsort(order, part->tensor_count, sizeof *order, compare_offsets);
    }
    uint64_t end = 0;
    for (size_t i = 0; i < part->tensor_count; i++) {
        const mixt_gguf_tensor *tensor = &part->tensors[order[i].index];
        assert(i == 0 || order[i - 1].offset <= order[i].offset);
        if (tensor->bytes != 0 && order[i].offset < end) {
            snprintf(in->place, sizeof in->place, "tensor \"%s\"", tensor->name);
            return bad_tensor(in, "it lies over another tensor");
        }
        end = tensor->bytes != 0 ? order[i].offset + tensor->bytes : end;
    }
    return MIXT_OK;
}

static mixt_status parse_tensors(cursor *in, placed *order, uint64_t count, int shard)
{
    mixt_gguf_part *part = in->part;
    for (; part->tensor_count < count; part->tensor_count++) {
        mixt_gguf_tensor *tensor = &part->tensors[part->tensor_count];
        tensor->shard = shard;
        snprintf(in->place, sizeof in->place, "tensor %zu", part->tensor_count);
        MIXT_TRY(take_name(in, &tensor->name));
        snprintf(in->place, sizeof in->place, "tensor \"%s\"", tensor->name);
        MIXT_TRY(take_shape(in, tensor));
        MIXT_TRY(take_type(in, &tensor->type));
        MIXT_TRY(measure(in, tensor));
        MIXT_TRY(take_number(in, 8, &order[part->tensor_count].offset));
        order[part->tensor_count].index = part->tensor_count;
    }
    return MIXT_OK;
}

static mixt_status find_alignment(const cursor *in, uint64_t *alignment)
{
    const mixt_gguf_value *value = mixt_gguf_value_of(in->part, "general.alignment");
    *alignment = value == NULL ? MIXT_GGUF_ALIGNMENT : value->bits;
    if (value != NULL && value->kind != MIXT_GGUF_U32) {
        return mixt_fail(in->error, MIXT_ERROR_FORMAT,
                         "%s: general.alignment is of kind %s, not u32", in->part->path,
                         kinds[value->kind].name);
    }
    if (*alignment < 8 || *alignment > MIXT_GGUF_ALIGNMENT_MAX ||
        (*alignment & (*alignment - 1)) != 0) {
        return mixt_fail(in->error, MIXT_ERROR_FORMAT,
                         "%s: general.alignment is %llu, not a power of two from 8 to %u",
                         in->part->path, (unsigned long long)*alignment, MIXT_GGUF_ALIGNMENT_MAX);
    }
    return MIXT_OK;
}

/* ------------------------------------------------------------------------------------------ */

static mixt_status take_version(cursor *in)
{
    const unsigned char *magic;
    uint64_t version;
    MIXT_TRY(take(in, 4, &magic));
    if (memcmp(magic, MIXT_GGUF_MAGIC, 4) != 0) {
        return mixt_fail(in->error, MIXT_ERROR_FORMAT,
                         "%s: not a GGUF file (it begins with bytes %02x %02x %02x %02x)",
                         in->part->path, magic[0], magic[1], magic[2], magic[3]);
    }
    MIXT_TRY(take_number(in, 4, &version));
    if ((version & 0xffff) == 0 && version != 0) {
        return mixt_fail(in->error, MIXT_ERROR_UNSUPPORTED,
                         "%s: a big-endian GGUF file (version 0x%08llx)", in->part->path,
                         (unsigned long long)version);
    }
    if (version != 2 && version != MIXT_GGUF_VERSION) { /* 2 differs only in not being big-endian */
        return mixt_fail(in->error, MIXT_ERROR_UNSUPPORTED,
                         "%s: GGUF version %llu (mixt reads 2 and 3)", in->part->path,
                         (unsigned long long)version);
    }
    return MIXT_OK;
}

static mixt_status take_counts(cursor *in, uint64_t *tensors, uint64_t *values)
{
    MIXT_TRY(take_number(in, 8, tensors));
    MIXT_TRY(take_number(in, 8, values));
    if (*tensors > left(in) / TENSOR_BYTES_MIN || *values > left(in) / KEY_BYTES_MIN) {
        return mixt_fail(in->error, MIXT_ERROR_FORMAT,
                         "%s: %llu tensors and %llu keys do not fit into %llu bytes",
                         in->part->path, (unsigned long long)*tensors, (unsigned long long)*values,
                         (unsigned long long)in->part->size);
    }
    return MIXT_OK;
}

mixt_status mixt_gguf_parse(mixt_gguf_part *part, int shard, mixt_arena *arena, mixt_error *error)
{
    cursor in = {.part = part, .arena = arena, .error = error, .what = "header"};
    uint64_t tensors, values, alignment;
    MIXT_TRY(take_version(&in));
    MIXT_TRY(take_counts(&in, &tensors, &values));
    in.what = in.place;
    MIXT_TRY(parse_values(&in, values));
    MIXT_TRY(find_alignment(&in, &alignment));
    placed *order = calloc((size_t)tensors + 1, sizeof *order);
    part->tensors = mixt_arena_allocate(arena, (size_t)tensors, sizeof *part->tensors);
    mixt_status status = order == NULL || part->tensors == NULL
                             ? no_memory(&in)
                             : parse_tensors(&in, order, tensors, shard);
    if (status == MIXT_OK) {
        status = place_tensors(&in, order, alignment);
    }
    free(order);
    return status;
}
