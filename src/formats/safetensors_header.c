/* A bounded JSON reader for the one shape of object that a safetensors header is. It works in
 * place: strings are decoded where they stand, so a header of n bytes costs n bytes and a fixed
 * record for each tensor, whatever it says. */
#include "formats/safetensors_header.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/memory.h"
#include "core/utf8.h"

#define SKIP_DEPTH_MAX 100 /* nesting of members that the format does not know */

typedef struct header_reader {
    char *begin;
    char *at;
    char *end;
    uint64_t data_bytes;
    const char *path;
    mixt_parsed_header *parsed;
    mixt_error *error;
    bool metadata_seen;
} header_reader;

static mixt_status bad(header_reader *reader, const char *rule)
{
    return mixt_fail(reader->error, MIXT_ERROR_FORMAT, "%s: header byte %zu: %s", reader->path,
                     (size_t)(reader->at - reader->begin), rule);
}

static mixt_status no_memory(header_reader *reader)
{
    return mixt_fail(reader->error, MIXT_ERROR_MEMORY, "%s: no memory for the header",
                     reader->path);
}

static mixt_status bad_tensor(header_reader *reader, const char *name, const char *rule)
{
    return mixt_fail(reader->error, MIXT_ERROR_FORMAT, "%s: tensor \"%.200s\": %s", reader->path,
                     name, rule);
}

static void skip_space(header_reader *reader)
{
    while (reader->at < reader->end && (*reader->at == ' ' || *reader->at == '\n' ||
                                        *reader->at == '\r' || *reader->at == '\t')) {
        reader->at++;
    }
}

/* The next byte that is not white space, or 0 at the end. */
static char peek(header_reader *reader)
{
    skip_space(reader);
    assert(reader->at >= reader->begin && reader->at <= reader->end);
    return reader->at < reader->end ? *reader->at : '\0';
}

static bool take(header_reader *reader, char wanted)
{
    if (peek(reader) != wanted) {
        return false;
    }
    reader->at++;
    return true;
}

/* Four hexadecimal digits at reader->at, or -1. */
static int32_t hex_unit(header_reader *reader)
{
    if (reader->end - reader->at < 4) {
        return -1;
    }
    int32_t unit = 0;
    for (int i = 0; i < 4; i++) {
        int digit = mixt_hex_digit(reader->at[i]);
        if (digit < 0) {
            return -1;
        }
        unit = unit * 16 + digit;
    }
    reader->at += 4;
    return unit;
}

/* What stands behind \u, with its second half when it is a surrogate. */
static mixt_status read_escaped_code(header_reader *reader, int32_t *code)
{
    int32_t unit = hex_unit(reader);
    if (unit < 0) {
        return bad(reader, "\\u needs four hexadecimal digits");
    }
    if (unit >= 0xd800 && unit < 0xe000) {
        bool pair = unit < 0xdc00 && reader->end - reader->at >= 6 && reader->at[0] == '\\' &&
                    reader->at[1] == 'u';
        if (!pair) {
            return bad(reader, "lone surrogate");
        }
        reader->at += 2;
        int32_t low = hex_unit(reader);
        if (low < 0xdc00 || low >= 0xe000) {
            return bad(reader, "lone surrogate");
        }
        unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
    }
    if (unit == 0) {
        return bad(reader, "NUL in a text");
    }
    *code = unit;
    return MIXT_OK;
}

/* Decodes the string at the cursor in place; a NUL takes the place of a byte already read. */
static mixt_status read_string(header_reader *reader, const char **text)
{
    if (!take(reader, '"')) {
        return bad(reader, "a text in quotes is missing");
    }
    char *start = reader->at;
    char *to = start;
    while (reader->at < reader->end) {
        char c = *reader->at++;
        if (c == '"') {
            assert(to < reader->at); /* decoding never grows a text */
            *to = '\0';
            *text = start;
            return MIXT_OK;
        }
        if ((unsigned char)c < 0x20) {
            return bad(reader, "control character in a text");
        }
        if (c != '\\') {
            *to++ = c;
            continue;
        }
        if (reader->at == reader->end) {
            break;
        }
        static const char names[] = "\"\\/bfnrt";
        static const char values[] = "\"\\/\b\f\n\r\t";
        char escape = *reader->at++;
        const char *found = escape == '\0' ? NULL : strchr(names, escape);
        int32_t code = 0;
        if (found != NULL) {
            *to++ = values[found - names];
        } else if (escape != 'u') {
            return bad(reader, "unknown escape");
        } else if (read_escaped_code(reader, &code) != MIXT_OK) {
            return MIXT_ERROR_FORMAT;
        } else {
            to += mixt_utf8_encode((uint32_t)code, to);
        }
    }
    return bad(reader, "text without an end");
}

/* A plain integer in [0, 2^64): no sign, no point, no exponent, no leading zero. */
static mixt_status read_unsigned(header_reader *reader, uint64_t *value)
{
    char c = peek(reader);
    if (c < '0' || c > '9') {
        return bad(reader, "a whole number is missing");
    }
    uint64_t sum = 0;
    const char *start = reader->at;
    while (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9') {
        if (__builtin_mul_overflow(sum, 10u, &sum) ||
            __builtin_add_overflow(sum, (uint64_t)(*reader->at - '0'), &sum)) {
            return bad(reader, "number beyond 2^64");
        }
        reader->at++;
    }
    if (*start == '0' && reader->at - start > 1) {
        return bad(reader, "leading zero");
    }
    if (reader->at < reader->end &&
        (*reader->at == '.' || *reader->at == 'e' || *reader->at == 'E')) {
        return bad(reader, "not a whole number");
    }
    *value = sum;
    return MIXT_OK;
}

static bool skip_digits(header_reader *reader)
{
    const char *start = reader->at;
    while (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9') {
        reader->at++;
    }
    return reader->at > start;
}

static mixt_status skip_number(header_reader *reader)
{
    if (*reader->at == '-') {
        reader->at++;
    }
    const char *start = reader->at;
    if (!skip_digits(reader) || (*start == '0' && reader->at - start > 1)) {
        return bad(reader, "not a value");
    }
    if (reader->at < reader->end && *reader->at == '.') {
        reader->at++;
        if (!skip_digits(reader)) {
            return bad(reader, "digits are missing behind the point");
        }
    }
    if (reader->at < reader->end && (*reader->at == 'e' || *reader->at == 'E')) {
        reader->at++;
        if (reader->at < reader->end && (*reader->at == '+' || *reader->at == '-')) {
            reader->at++;
        }
        if (!skip_digits(reader)) {
            return bad(reader, "digits are missing in the exponent");
        }
    }
    return MIXT_OK;
}

static bool skip_word(header_reader *reader, const char *word)
{
    size_t length = strlen(word);
    if ((size_t)(reader->end - reader->at) < length || memcmp(reader->at, word, length) != 0) {
        return false;
    }
    reader->at += length;
    return true;
}

/* Passes over a value of any kind. */
static mixt_status skip_value(header_reader *reader, int depth)
{
    const char *text;
    char c = peek(reader);
    if (c == '"') {
        return read_string(reader, &text);
    }
    if (c != '{' && c != '[') {
        bool word =
            skip_word(reader, "true") || skip_word(reader, "false") || skip_word(reader, "null");
        return word ? MIXT_OK : c == '\0' ? bad(reader, "value is missing") : skip_number(reader);
    }
    if (depth == SKIP_DEPTH_MAX) {
        return bad(reader, "nested too deeply");
    }
    char close = c == '{' ? '}' : ']';
    reader->at++;
    if (take(reader, close)) {
        return MIXT_OK;
    }
    do {
        if (c == '{') {
            MIXT_TRY(read_string(reader, &text));
            if (!take(reader, ':')) {
                return bad(reader, "':' is missing");
            }
        }
        MIXT_TRY(skip_value(reader, depth + 1));
    } while (take(reader, ','));
    return take(reader, close) ? MIXT_OK : bad(reader, "',' or a closing bracket is missing");
}

static mixt_status read_shape(header_reader *reader, mixt_tensor_info *tensor)
{
    int64_t sizes[MIXT_TENSOR_RANK_MAX];
    uint32_t rank = 0;
    if (!take(reader, '[')) {
        return bad(reader, "shape must be an array");
    }
    if (!take(reader, ']')) {
        do {
            uint64_t value;
            MIXT_TRY(read_unsigned(reader, &value));
            if (value > INT64_MAX) {
                return bad(reader, "dimension beyond 2^63");
            }
            if (rank == MIXT_TENSOR_RANK_MAX) {
                return bad(reader, "more than 64 dimensions");
            }
            sizes[rank++] = (int64_t)value;
        } while (take(reader, ','));
        if (!take(reader, ']')) {
            return bad(reader, "',' or ']' is missing in shape");
        }
    }
    int64_t *shape = mixt_arena_allocate(reader->parsed->shapes, rank, sizeof *shape);
    if (shape == NULL) {
        return no_memory(reader);
    }
    memcpy(shape, sizes, rank * sizeof *shape);
    tensor->shape = shape;
    tensor->rank = rank;
    return MIXT_OK;
}

/* data_offsets: [begin, end]; `bytes` holds the end until the ranges are checked. */
static mixt_status read_offsets(header_reader *reader, mixt_tensor_info *tensor)
{
    if (!take(reader, '[')) {
        return bad(reader, "data_offsets must be an array");
    }
    MIXT_TRY(read_unsigned(reader, &tensor->offset));
    if (!take(reader, ',')) {
        return bad(reader, "data_offsets needs two numbers");
    }
    MIXT_TRY(read_unsigned(reader, &tensor->bytes));
    if (!take(reader, ']')) {
        return bad(reader, "data_offsets needs two numbers");
    }
    return MIXT_OK;
}

enum { SEEN_DTYPE = 1, SEEN_SHAPE = 2, SEEN_OFFSETS = 4, SEEN_ALL = 7 };

static mixt_status read_member(header_reader *reader, mixt_tensor_info *tensor, unsigned *seen)
{
    const char *key;
    MIXT_TRY(read_string(reader, &key));
    if (!take(reader, ':')) {
        return bad(reader, "':' is missing");
    }
    unsigned bit = strcmp(key, "dtype") == 0          ? SEEN_DTYPE
                   : strcmp(key, "shape") == 0        ? SEEN_SHAPE
                   : strcmp(key, "data_offsets") == 0 ? SEEN_OFFSETS
                                                      : 0;
    if ((*seen & bit) != 0) {
        return bad_tensor(reader, tensor->name, "a member is there twice");
    }
    *seen |= bit;
    switch (bit) {
    case SEEN_DTYPE:
        MIXT_TRY(read_string(reader, &tensor->dtype_name));
        tensor->dtype = mixt_dtype_from_name(tensor->dtype_name);
        return MIXT_OK;
    case SEEN_SHAPE:
        return read_shape(reader, tensor);
    case SEEN_OFFSETS:
        return read_offsets(reader, tensor);
    default:
        return skip_value(reader, 0);
    }
}

static mixt_status read_tensor(header_reader *reader, const char *name)
{
    mixt_parsed_header *parsed = reader->parsed;
    if (!mixt_grow(&parsed->tensors, &parsed->capacity, parsed->count + 1,
                   sizeof *parsed->tensors)) {
        return no_memory(reader);
    }
    mixt_tensor_info *tensor = &parsed->tensors[parsed->count];
    *tensor = (mixt_tensor_info){.name = name};
    unsigned seen = 0;
    if (!take(reader, '{')) {
        return bad_tensor(reader, name, "must be an object");
    }
    if (peek(reader) != '}') {
        do {
            MIXT_TRY(read_member(reader, tensor, &seen));
        } while (take(reader, ','));
    }
    if (!take(reader, '}')) {
        return bad(reader, "',' or '}' is missing");
    }
    if (seen != SEEN_ALL) {
        return bad_tensor(reader, name, "dtype, shape or data_offsets is missing");
    }
    parsed->count++;
    return MIXT_OK;
}

static mixt_status read_metadata(header_reader *reader)
{
    mixt_parsed_header *parsed = reader->parsed;
    if (reader->metadata_seen) {
        return bad(reader, "__metadata__ is there twice");
    }
    reader->metadata_seen = true;
    if (peek(reader) == 'n' && skip_word(reader, "null")) {
        return MIXT_OK;
    }
    if (!take(reader, '{')) {
        return bad(reader, "__metadata__ must be an object");
    }
    if (take(reader, '}')) {
        return MIXT_OK;
    }
    do {
        mixt_text_pair pair;
        MIXT_TRY(read_string(reader, &pair.key));
        if (!take(reader, ':')) {
            return bad(reader, "':' is missing");
        }
        if (peek(reader) != '"') {
            return bad(reader, "values of __metadata__ must be texts");
        }
        MIXT_TRY(read_string(reader, &pair.value));
        if (!mixt_grow(&parsed->metadata, &parsed->metadata_capacity, parsed->metadata_count + 1,
                       sizeof pair)) {
            return no_memory(reader);
        }
        parsed->metadata[parsed->metadata_count++] = pair;
    } while (take(reader, ','));
    return take(reader, '}') ? MIXT_OK : bad(reader, "',' or '}' is missing");
}

static mixt_status read_header(header_reader *reader)
{
    if (!take(reader, '{')) {
        return bad(reader, "the header must be a JSON object");
    }
    if (!take(reader, '}')) {
        do {
            const char *name;
            MIXT_TRY(read_string(reader, &name));
            if (!take(reader, ':')) {
                return bad(reader, "':' is missing");
            }
            MIXT_TRY(strcmp(name, "__metadata__") == 0 ? read_metadata(reader)
                                                       : read_tensor(reader, name));
        } while (take(reader, ','));
        if (!take(reader, '}')) {
            return bad(reader, "',' or '}' is missing");
        }
    }
    skip_space(reader);
    return reader->at == reader->end ? MIXT_OK : bad(reader, "text behind the header object");
}

/* By begin, then end, then place in the header. */
static int compare_ranges(const void *a, const void *b)
{
    const mixt_tensor_info *left = a;
    const mixt_tensor_info *right = b;
    if (left->offset != right->offset) {
        return left->offset < right->offset ? -1 : 1;
    }
    if (left->bytes != right->bytes) {
        return left->bytes < right->bytes ? -1 : 1;
    }
    return left->name < right->name ? -1 : left->name > right->name;
}

static int compare_pairs(const void *a, const void *b)
{
    return strcmp(((const mixt_text_pair *)a)->key, ((const mixt_text_pair *)b)->key);
}

/* Ranges touch each other from 0 to the end of the data, and sizes are shape x type. */
static mixt_status check_ranges(header_reader *reader)
{
    mixt_parsed_header *parsed = reader->parsed;
    bool sorted = true;
    for (size_t i = 1; i < parsed->count && sorted; i++) {
        sorted = compare_ranges(&parsed->tensors[i - 1], &parsed->tensors[i]) <= 0;
    }
    if (!sorted) {
        qsort(parsed->tensors, parsed->count, sizeof *parsed->tensors, compare_ranges);
    }
    uint64_t at = 0;
    for (size_t i = 0; i < parsed->count; i++) {
        mixt_tensor_info *tensor = &parsed->tensors[i];
        uint64_t end = tensor->bytes;
        if (tensor->offset != at || end < at) {
            return bad_tensor(reader, tensor->name,
                              end < tensor->offset ? "data_offsets end before they begin"
                              : tensor->offset > at
                                  ? "data_offsets leave a gap behind the tensor before"
                                  : "data_offsets overlap the tensor before");
        }
        tensor->bytes = end - at;
        at = end;
        uint64_t wanted;
        if (!mixt_tensor_bytes(tensor->dtype, tensor->rank, tensor->shape, &wanted)) {
            return bad_tensor(reader, tensor->name,
                              "shape x dtype does not fit or does not fill whole bytes");
        }
        if (tensor->dtype == MIXT_DTYPE_UNKNOWN) {
            continue; /* refused when its data are asked for */
        }
        if (wanted != tensor->bytes) {
            return mixt_fail(
                reader->error, MIXT_ERROR_FORMAT,
                "%s: tensor \"%.200s\": shape x %s is %llu bytes, but data_offsets give %llu",
                reader->path, tensor->name, tensor->dtype_name, (unsigned long long)wanted,
                (unsigned long long)tensor->bytes);
        }
    }
    if (at != reader->data_bytes) {
        return mixt_fail(reader->error, MIXT_ERROR_FORMAT,
                         "%s: tensors take %llu bytes of data, the file has %llu", reader->path,
                         (unsigned long long)at, (unsigned long long)reader->data_bytes);
    }
    return MIXT_OK;
}

static mixt_status check_metadata(header_reader *reader)
{
    mixt_parsed_header *parsed = reader->parsed;
    if (parsed->metadata_count > 1) {
        qsort(parsed->metadata, parsed->metadata_count, sizeof *parsed->metadata, compare_pairs);
    }
    for (size_t i = 1; i < parsed->metadata_count; i++) {
        if (compare_pairs(&parsed->metadata[i - 1], &parsed->metadata[i]) == 0) {
            return mixt_fail(reader->error, MIXT_ERROR_FORMAT,
                             "%s: __metadata__: key \"%.200s\" is there twice", reader->path,
                             parsed->metadata[i].key);
        }
    }
    return MIXT_OK;
}

mixt_status mixt_safetensors_parse(char *text, size_t length, uint64_t data_bytes, const char *path,
                                   mixt_parsed_header *parsed, mixt_error *error)
{
    header_reader reader = {.begin = text,
                            .at = text,
                            .end = text + length,
                            .data_bytes = data_bytes,
                            .path = path,
                            .parsed = parsed,
                            .error = error};
    *parsed = (mixt_parsed_header){0};
    if (!mixt_utf8_valid(text, length)) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: the header is not valid UTF-8", path);
    }
    parsed->shapes = mixt_arena_create();
    if (parsed->shapes == NULL) {
        return no_memory(&reader);
    }
    mixt_status status = read_header(&reader);
    if (status == MIXT_OK) {
        status = check_ranges(&reader);
    }
    if (status == MIXT_OK) {
        status = check_metadata(&reader);
    }
    if (status != MIXT_OK) {
        mixt_parsed_header_free(parsed);
    }
    return status;
}

void mixt_parsed_header_free(mixt_parsed_header *parsed)
{
    free(parsed->tensors);
    free(parsed->metadata);
    mixt_arena_free(parsed->shapes);
    *parsed = (mixt_parsed_header){0};
}

bool mixt_tensor_bytes(mixt_dtype dtype, uint32_t rank, const int64_t *shape, uint64_t *bytes)
{
    uint64_t total = 1;
    for (uint32_t i = 0; i < rank; i++) {
        if (shape[i] < 0 || __builtin_mul_overflow(total, (uint64_t)shape[i], &total)) {
            return false;
        }
    }
    if (__builtin_mul_overflow(total, mixt_dtype_bits(dtype), &total) || total % 8 != 0) {
        return false;
    }
    *bytes = total / 8;
    return true;
}

uint64_t mixt_tensor_elements(const mixt_tensor_info *tensor)
{
    uint64_t total = 1;
    for (uint32_t i = 0; i < tensor->rank; i++) {
        total *= (uint64_t)tensor->shape[i];
    }
    return total;
}

/* Length of the character at `text`, 0 where it is not valid UTF-8 (RFC 3629: no overlong forms,
 * no surrogates, nothing beyond U+10FFFF). */
static size_t utf8_length(const unsigned char *text, size_t left)
{
    unsigned char c = text[0];
    size_t length = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
    if (length == 0 || length > left) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool bad_second = (c == 0xe0 && text[1] < 0xa0) || (c == 0xed && text[1] >= 0xa0) ||
                      (c == 0xf0 && text[1] < 0x90) || (c == 0xf4 && text[1] >= 0x90);
    return bad_second ? 0 : length;
}

bool mixt_utf8_valid(const char *text, size_t length)
{
    size_t i = 0;
    while (i < length) {
        size_t step = utf8_length((const unsigned char *)text + i, length - i);
        if (step == 0) {
            return false;
        }
        i += step;
    }
    return true;
}
