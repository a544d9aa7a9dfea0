/* The GGUF reader: a file that the gguf package wrote (tests/reference/gguf_fixture.py), and bad
 * files of every sort, all made here. */
#define _GNU_SOURCE
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/files.h"
#include "core/memory.h"
#include "formats/gguf.h"
#include "guard.h"
#include "scratch.h"

#define KINDS "tests/fixtures/gguf/kinds.gguf"
#define ANY ((mixt_gguf_range){-INFINITY, INFINITY})

/* ------------------------------------------------------------------------------------------ */
/* Files built here */

static void number(mixt_buffer *out, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        unsigned char byte = (unsigned char)(i < 8 ? value >> 8 * i : 0);
        mixt_buffer_append(out, &byte, 1);
    }
}

static void bytes_of(mixt_buffer *out, const void *data, size_t length)
{
    number(out, length, 8);
    mixt_buffer_append(out, data, length);
}

static void string(mixt_buffer *out, const char *text)
{
    bytes_of(out, text, strlen(text));
}

static void header(mixt_buffer *out, uint64_t tensors, uint64_t keys)
{
    mixt_buffer_text(out, "GGUF");
    number(out, 3, 4);
    number(out, tensors, 8);
    number(out, keys, 8);
}

static void key(mixt_buffer *out, const char *name, int64_t kind)
{
    string(out, name);
    number(out, (uint64_t)kind, 4);
}

/* dims: `rank` numbers, as many as are given. */
static void tensor(mixt_buffer *out, const char *name, uint32_t rank, const uint64_t *dims,
                   int64_t type, uint64_t offset)
{
    string(out, name);
    number(out, rank, 4);
    for (uint32_t i = 0; i < rank && i < 8; i++) {
        number(out, dims[i], 8);
    }
    number(out, (uint64_t)type, 4);
    number(out, offset, 8);
}

static void data(mixt_buffer *out, size_t length)
{
    while (out->length % 32 != 0) {
        number(out, 0, 1);
    }
    for (size_t i = 0; i < length; i++) {
        number(out, i, 1);
    }
}

/* Opens exactly these bytes, so that a sanitizer sees every step beyond them. */
static mixt_status open_bytes(const void *bytes, size_t length, mixt_gguf **file, void **copy,
                              mixt_error *error)
{
    *copy = malloc(length == 0 ? 1 : length);
    assert_non_null(*copy);
    if (length != 0) {
        memcpy(*copy, bytes, length);
    }
    return mixt_gguf_open_memory(*copy, length, "input", file, error);
}

/* Frees the buffer. */
static void refused(mixt_buffer *in, const char *part)
{
    mixt_gguf *file;
    void *copy;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = open_bytes(in->data, in->length, &file, &copy, &error);
    if ((status != MIXT_ERROR_FORMAT && status != MIXT_ERROR_UNSUPPORTED) || file != NULL ||
        strncmp(error.message, "input: ", 7) != 0 || strstr(error.message, part) == NULL) {
        fail_msg("status %d \"%s\", wanted \"%s\"", (int)status, error.message, part);
    }
    free(copy);
    mixt_buffer_free(in);
    *in = (mixt_buffer){0};
}

static void accepted(mixt_buffer *in)
{
    mixt_gguf *file;
    void *copy;
    mixt_error error = MIXT_ERROR_INIT;
    must(open_bytes(in->data, in->length, &file, &copy, &error), &error);
    mixt_gguf_close(file);
    free(copy);
    mixt_buffer_free(in);
    *in = (mixt_buffer){0};
}

/* ------------------------------------------------------------------------------------------ */

static void expect_integer(const mixt_gguf *file, const char *name, int64_t expected)
{
    int64_t value;
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_gguf_integer(file, name, ANY, &value, &error), &error);
    assert_int_equal(value, expected);
}

static void expect_number(const mixt_gguf *file, const char *name, double expected)
{
    double value;
    assert_int_equal(mixt_gguf_number(file, name, ANY, &value, NULL), MIXT_OK);
    assert_true(value == expected);
}

static void test_kinds(void **state)
{
    (void)state;
    mixt_gguf *file;
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_gguf_open(KINDS, &file, &error), &error);
    expect_integer(file, "kind.u8", 200);
    expect_integer(file, "kind.i8", -100);
    expect_integer(file, "kind.u16", 60000);
    expect_integer(file, "kind.i16", -30000);
    expect_integer(file, "kind.u32", 4000000000);
    expect_integer(file, "kind.i32", -2000000000);
    expect_integer(file, "kind.i64", -(INT64_C(1) << 62));
    expect_number(file, "kind.u64", 0x1p63);
    expect_number(file, "kind.i8", -100);
    expect_number(file, "kind.f32", 1e-5); /* as it was written */
    expect_number(file, "kind.f64", 0.1);
    bool flag = false;
    assert_int_equal(mixt_gguf_bool(file, "kind.bool", &flag, NULL), MIXT_OK);
    assert_true(flag);
    const char *text;
    assert_int_equal(mixt_gguf_string(file, "kind.string", &text, NULL), MIXT_OK);
    assert_string_equal(text, "Grüße\n");
    mixt_gguf_array array;
    assert_int_equal(mixt_gguf_array_of(file, "array.i32", MIXT_GGUF_I32, &array, NULL), MIXT_OK);
    int32_t integers[3];
    assert_int_equal(array.count, 3);
    memcpy(integers, array.data, sizeof integers);
    assert_int_equal(integers[1], -2);
    assert_int_equal(mixt_gguf_array_of(file, "array.string", MIXT_GGUF_STRING, &array, NULL),
                     MIXT_OK);
    assert_int_equal(array.count, 4);
    assert_int_equal(array.lengths[1], 0);
    assert_int_equal(array.lengths[3], 5);
    assert_memory_equal(array.strings[3], "three", 5);
    assert_int_equal(mixt_gguf_array_of(file, "array.bool", MIXT_GGUF_BOOL, &array, NULL), MIXT_OK);
    assert_int_equal(((const char *)array.data)[0], 1);

    assert_int_equal(mixt_gguf_key_count(file), 17);
    mixt_gguf_kind kind;
    assert_string_equal(mixt_gguf_key_at(file, 7, &kind), "kind.f32");
    assert_int_equal(kind, MIXT_GGUF_F32);
    assert_int_equal(mixt_gguf_tensor_count(file), 4);
    const mixt_gguf_tensor *experts = mixt_gguf_find(file, "experts");
    assert_ptr_equal(experts, mixt_gguf_tensor_at(file, 2));
    assert_int_equal(experts->type, MIXT_TYPE_Q8_0);
    assert_int_equal(experts->rank, 3);
    assert_int_equal(experts->size[0], 64);
    assert_int_equal(experts->size[2], 2);
    assert_int_equal(experts->size[3], 1);
    assert_int_equal(experts->bytes, 2 * 3 * 68);
    const mixt_gguf_tensor *matrix = mixt_gguf_find(file, "matrix");
    float values[6];
    memcpy(values, matrix->data, sizeof values);
    assert_true(values[5] == 5);
    assert_null(mixt_gguf_find(file, "matri"));
    assert_null(mixt_gguf_find(file, "matrix2"));
    assert_string_equal(mixt_gguf_path(file, 0), KINDS);
    assert_int_equal(mixt_gguf_bytes(file), 1824);
    mixt_gguf_close(file);
}

static void test_getters_refuse(void **state)
{
    (void)state;
    mixt_gguf *file;
    assert_int_equal(mixt_gguf_open(KINDS, &file, NULL), MIXT_OK);
    int64_t integer = 77;
    double value;
    bool flag;
    const char *text;
    mixt_gguf_array array;
    const mixt_gguf_range small = {1, 100};
#define REFUSED(call, part)                                                                        \
    do {                                                                                           \
        mixt_error error = MIXT_ERROR_INIT;                                                        \
        assert_int_equal(call, MIXT_ERROR_FORMAT);                                                 \
        assert_non_null(strstr(error.message, KINDS ": key \""));                                  \
        if (strstr(error.message, part) == NULL) {                                                 \
            fail_msg("%s", error.message);                                                         \
        }                                                                                          \
    } while (0)
    REFUSED(mixt_gguf_integer(file, "none", ANY, &integer, &error), "none\" is missing");
    REFUSED(mixt_gguf_integer(file, "kind.u8", small, &integer, &error), "200, not 1 to 100");
    REFUSED(mixt_gguf_integer(file, "kind.i8", small, &integer, &error), "-100, not 1 to 100");
    REFUSED(mixt_gguf_integer(file, "kind.u64", ANY, &integer, &error), "more than");
    REFUSED(mixt_gguf_integer(file, "kind.f32", ANY, &integer, &error), "f32, not an integer");
    REFUSED(mixt_gguf_integer(file, "kind.bool", ANY, &integer, &error), "bool, not an integer");
    REFUSED(mixt_gguf_integer(file, "array.i32", ANY, &integer, &error), "array");
    assert_int_equal(integer, 77);
    REFUSED(mixt_gguf_number(file, "kind.f32", small, &value, &error), "not 1 to 100");
    REFUSED(mixt_gguf_number(file, "kind.string", ANY, &value, &error), "not a number");
    REFUSED(mixt_gguf_bool(file, "kind.u8", &flag, &error), "u8, not bool");
    REFUSED(mixt_gguf_bool(file, "none", &flag, &error), "missing");
    REFUSED(mixt_gguf_string(file, "kind.u8", &text, &error), "u8, not string");
    REFUSED(mixt_gguf_string(file, "none", &text, &error), "missing");
    REFUSED(mixt_gguf_array_of(file, "none", MIXT_GGUF_I32, &array, &error), "missing");
    REFUSED(mixt_gguf_array_of(file, "kind.i32", MIXT_GGUF_I32, &array, &error), "not array");
    REFUSED(mixt_gguf_array_of(file, "array.i32", MIXT_GGUF_U32, &array, &error),
            "array of i32, not of u32");
#undef REFUSED
    mixt_gguf_close(file);

    mixt_buffer in = {0};
    header(&in, 0, 2);
    key(&in, "nan", MIXT_GGUF_F32);
    number(&in, 0x7fc00000, 4);
    key(&in, "nul", MIXT_GGUF_STRING);
    bytes_of(&in, "a\0b", 3);
    void *copy;
    assert_int_equal(open_bytes(in.data, in.length, &file, &copy, NULL), MIXT_OK);
    assert_int_equal(mixt_gguf_number(file, "nan", ANY, &value, NULL), MIXT_ERROR_FORMAT);
    assert_int_equal(mixt_gguf_string(file, "nul", &text, NULL), MIXT_ERROR_FORMAT);
    mixt_gguf_close(file);
    free(copy);
    mixt_buffer_free(&in);
}

static void test_bad_headers(void **state)
{
    (void)state;
    mixt_buffer in = {0};
    refused(&in, "header");
    header(&in, 0, 0);
    memcpy(in.data, "FUGG", 4);
    refused(&in, "not a GGUF file");
    const uint32_t versions[] = {0, 1, 4, 0x03000000};
    const char *const names[] = {"version 0", "version 1", "version 4", "big-endian"};
    for (int i = 0; i < 4; i++) {
        header(&in, 0, 0);
        memcpy(in.data + 4, &versions[i], 4);
        refused(&in, names[i]);
    }
    header(&in, 0, 0);
    in.data[4] = 2;
    accepted(&in);
    const uint64_t counts[] = {UINT64_MAX, UINT64_C(1) << 63, 1000000000, 4};
    for (int i = 0; i < 8; i++) {
        header(&in, i < 4 ? counts[i % 4] : 0, i < 4 ? 0 : counts[i % 4]);
        number(&in, 0, 48);
        refused(&in, "do not fit into");
    }
}

static void test_bad_keys(void **state)
{
    (void)state;
    mixt_buffer in = {0};
    for (int i = 0; i < 3; i++) { /* a length beyond the file */
        header(&in, 0, 1);
        number(&in, i == 0 ? UINT64_MAX : i == 1 ? 33 : INT64_MAX, 8);
        number(&in, 0x61, 32);
        refused(&in, "beyond the end");
    }
    const struct {
        const char *key;
        size_t length;
        const char *part;
    } keys[] = {{"", 0, "has 0 bytes"},
                {"a\0b", 3, "byte 0x00"},
                {"a\xc3\xa4", 3, "byte 0xc3"},
                {"a\n", 2, "byte 0x0a"}};
    for (int i = 0; i < 4; i++) {
        header(&in, 0, 1);
        bytes_of(&in, keys[i].key, keys[i].length);
        number(&in, MIXT_GGUF_U64, 4);
        number(&in, 0, 8);
        refused(&in, keys[i].part);
    }
    for (size_t length = 65535; length <= 65536; length++) {
        char *name = malloc(length);
        memset(name, 'k', length);
        header(&in, 0, 1);
        bytes_of(&in, name, length);
        number(&in, MIXT_GGUF_U8, 4);
        number(&in, 0, 1);
        if (length == 65535) {
            accepted(&in);
        } else {
            refused(&in, "has 65536 bytes");
        }
        free(name);
    }
    header(&in, 0, 3);
    for (int i = 0; i < 3; i++) {
        key(&in, i == 1 ? "other" : "twin", MIXT_GGUF_U8);
        number(&in, 0, 1);
    }
    refused(&in, "key \"twin\" is there twice");
}

static void test_bad_values(void **state)
{
    (void)state;
    mixt_buffer in = {0};
    const int64_t kinds[] = {13, 255, -1};
    for (int i = 0; i < 6; i++) {
        header(&in, 0, 1);
        key(&in, "k", i < 3 ? kinds[i] : MIXT_GGUF_ARRAY);
        if (i >= 3) {
            number(&in, (uint64_t)kinds[i - 3], 4);
        }
        number(&in, 0, 64);
        refused(&in, "key \"k\": unknown kind of value");
    }
    header(&in, 0, 1);
    key(&in, "deep", MIXT_GGUF_ARRAY);
    for (int i = 0; i < 100000; i++) {
        number(&in, MIXT_GGUF_ARRAY, 4);
        number(&in, 1, 8);
    }
    refused(&in, "array of arrays");
    const struct {
        mixt_gguf_kind kind;
        uint64_t count;
    } arrays[] = {
        {MIXT_GGUF_U64, UINT64_C(1) << 61},    {MIXT_GGUF_U64, 9},    {MIXT_GGUF_U8, 65},
        {MIXT_GGUF_STRING, UINT64_C(1) << 62}, {MIXT_GGUF_STRING, 9}, {MIXT_GGUF_BOOL, UINT64_MAX}};
    for (int i = 0; i < 6; i++) {
        header(&in, 0, 1);
        key(&in, "long", MIXT_GGUF_ARRAY);
        number(&in, arrays[i].kind, 4);
        number(&in, arrays[i].count, 8);
        number(&in, 0, 64);
        refused(&in, "do not fit into");
    }
    for (int i = 0; i < 2; i++) {
        header(&in, 0, 1);
        key(&in, "flag", i == 0 ? MIXT_GGUF_BOOL : MIXT_GGUF_ARRAY);
        if (i == 1) {
            number(&in, MIXT_GGUF_BOOL, 4);
            number(&in, 2, 8);
            number(&in, 1, 1);
        }
        number(&in, 2, 1);
        refused(&in, "a bool is 0 or 1, not 2");
    }
    header(&in, 0, 1); /* a string inside an array that goes on beyond the file */
    key(&in, "s", MIXT_GGUF_ARRAY);
    number(&in, MIXT_GGUF_STRING, 4);
    number(&in, 2, 8);
    string(&in, "one");
    number(&in, UINT64_MAX - 3, 8);
    refused(&in, "beyond the end");
    const uint64_t alignments[] = {0, 13, UINT64_C(1) << 31, 4, 32, 8, 64};
    for (int i = 0; i < 7; i++) {
        header(&in, 0, 1);
        key(&in, "general.alignment", MIXT_GGUF_U32);
        number(&in, alignments[i], 4);
        if (i < 4) {
            refused(&in, "not a power of two");
        } else {
            accepted(&in);
        }
    }
    header(&in, 0, 1);
    key(&in, "general.alignment", MIXT_GGUF_I32);
    number(&in, 32, 4);
    refused(&in, "of kind i32, not u32");
    header(&in, 0, 1);
    key(&in, "general.alignment", MIXT_GGUF_STRING);
    string(&in, "32");
    refused(&in, "of kind string, not u32");
}

/* Seconds of this thread. */
static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void test_many(void **state)
{
    (void)state;
    double start = seconds();
    mixt_buffer in = {0};
    header(&in, 0, 1);
    key(&in, "strings", MIXT_GGUF_ARRAY);
    number(&in, MIXT_GGUF_STRING, 4);
    number(&in, 1000000, 8);
    static const char zeros[8 * 1000];
    for (int i = 0; i < 1000; i++) {
        mixt_buffer_append(&in, zeros, sizeof zeros);
    }
    accepted(&in);
    header(&in, 100000, 100000); /* in falling order */
    char name[32];
    for (int i = 100000; i-- > 0;) {
        snprintf(name, sizeof name, "key.%06d", i);
        key(&in, name, MIXT_GGUF_U8);
        number(&in, 0, 1);
    }
    for (int i = 100000; i-- > 0;) {
        snprintf(name, sizeof name, "tensor.%06d", i);
        const uint64_t dim = 8;
        tensor(&in, name, 1, &dim, 0, (uint64_t)i * 32);
    }
    data(&in, 32 * 100000);
    accepted(&in);
    assert_true(seconds() - start < 10);
}

/* One tensor of 8 floats, or what is asked for instead. */
static void one_tensor(mixt_buffer *in, const char *name, uint32_t rank, const uint64_t *dims,
                       int64_t type, uint64_t offset)
{
    header(in, 1, 0);
    tensor(in, name, rank, dims, type, offset);
    data(in, 32);
}

static void test_bad_shapes(void **state)
{
    (void)state;
    mixt_buffer in = {0};
    const uint64_t eight[8] = {8, 1, 1, 1, 1, 1, 1, 1};
    one_tensor(&in, "scalar", 0, eight, 0, 0);
    accepted(&in);
    one_tensor(&in, "t", 4, eight, 0, 0);
    accepted(&in);
    one_tensor(&in, "t", 5, eight, 0, 0);
    refused(&in, "tensor \"t\" has 5 dimensions");
    one_tensor(&in, "t", UINT32_MAX, eight, 0, 0);
    refused(&in, "has 4294967295 dimensions");
    one_tensor(&in, "t", 0, eight, 8, 0); /* one Q8_0 element */
    refused(&in, "rows of 1 elements");
    const uint64_t shapes[][4] = {
        {UINT64_MAX, 1, 1, 1},   {UINT64_C(1) << 63, 1, 1, 1},
        {INT64_MAX, 2, 1, 1},    {UINT64_C(1) << 32, UINT64_C(1) << 32, 1, 16},
        {SIZE_MAX / 4, 1, 1, 1}, {0, INT64_MAX, 4, 1}, /* no elements, but rows that overflow */
    };
    const char *const parts[] = {"negative", "negative", "too many",
                                 "too many", "too many", "too many"};
    for (int i = 0; i < 6; i++) {
        one_tensor(&in, "t", 4, shapes[i], 0, 0);
        refused(&in, parts[i]);
    }
    const uint64_t none[2] = {8, 0};
    one_tensor(&in, "empty", 2, none, 0, 0);
    accepted(&in);
    header(&in, 2, 0); /* their sum wraps */
    const uint64_t huge[1] = {UINT64_C(0x1fffffffffffffe0)};
    tensor(&in, "a", 1, huge, 0, 0);
    tensor(&in, "b", 1, huge, 0, UINT64_C(0x7fffffffffffff80));
    data(&in, 64);
    refused(&in, "tensor \"a\"");
    const uint64_t odd[1] = {48};
    one_tensor(&in, "t", 1, odd, 2, 0);
    refused(&in, "rows of 48 elements are not whole Q4_0 blocks of 32");
}

static void test_bad_types(void **state)
{
    (void)state;
    mixt_buffer in = {0};
    const uint64_t eight[1] = {8};
    const struct {
        int64_t type;
        const char *part;
    } types[] = {
        {4, "Q4_2, which was removed"},
        {5, "Q4_3"},
        {9, "Q8_1, which is for activations"},
        {15, "Q8_K"},
        {24, "I8, which holds integers"},
        {25, "I16"},
        {26, "I32"},
        {27, "I64"},
        {28, "F64"},
        {31, "Q4_0_4_4, which was removed from the format: take the file of type Q4_0"},
        {32, "Q4_0_4_8"},
        {33, "Q4_0_8_8"},
        {36, "IQ4_NL_4_4"},
        {37, "IQ4_NL_4_8"},
        {38, "IQ4_NL_8_8, which was removed from the format: take the file of type IQ4_NL"},
        {43, "type 43"},
        {100, "type"},
        {UINT32_MAX, "type -1"},
        {INT32_MIN, "type"}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        one_tensor(&in, "t", 1, eight, types[i].type, 0);
        refused(&in, types[i].part);
    }
}

static void test_bad_names(void **state)
{
    (void)state;
    mixt_buffer in = {0};
    const uint64_t eight[1] = {8};
    char name[65] = "";
    memset(name, 'n', 63);
    one_tensor(&in, name, 1, eight, 0, 0);
    accepted(&in);
    name[63] = 'n';
    one_tensor(&in, name, 1, eight, 0, 0);
    refused(&in, "name of 64 bytes");
    one_tensor(&in, "", 1, eight, 0, 0);
    refused(&in, "name of 0 bytes");
    one_tensor(&in, "abc", 1, eight, 0, 0);
    in.data[24 + 8 + 1] = '\0';
    refused(&in, "holds a NUL");
    header(&in, 3, 0);
    tensor(&in, "twin", 1, eight, 0, 0);
    tensor(&in, "other", 1, eight, 0, 32);
    tensor(&in, "twin", 1, eight, 0, 64);
    data(&in, 96);
    refused(&in, "tensor \"twin\" is there twice");
}

static void test_bad_offsets(void **state)
{
    (void)state;
    mixt_buffer in = {0};
    const uint64_t eight[1] = {8};
    const uint64_t nine[1] = {9};
    const uint64_t none[1] = {0};
    const struct {
        uint64_t offset;
        const char *part;
    } offsets[] = {{8, "not aligned"},
                   {1, "not aligned"},
                   {32, "at byte 32 of the data, which has 32"},
                   {UINT64_C(1) << 40, "of the data"},
                   {UINT64_MAX - 31, "of the data"}};
    for (int i = 0; i < 5; i++) {
        one_tensor(&in, "t", 1, eight, 0, offsets[i].offset);
        refused(&in, offsets[i].part);
    }
    one_tensor(&in, "t", 1, nine, 0, 0);
    refused(&in, "36 bytes at byte 0 of the data, which has 32");
    for (int i = 0; i < 4; i++) { /* over another, in both orders; then beside it */
        header(&in, 2, 0);
        tensor(&in, "a", 1, nine, 0, i % 2 == 0 ? 0 : i < 2 ? 32 : 64);
        tensor(&in, "b", 1, nine, 0, i % 2 != 0 ? 0 : i < 2 ? 32 : 64);
        data(&in, 128);
        if (i < 2) {
            refused(&in, "lies over another");
        } else {
            accepted(&in);
        }
    }
    header(&in, 2, 0);
    tensor(&in, "a", 1, eight, 0, 0);
    tensor(&in, "b", 1, eight, 0, 0);
    data(&in, 64);
    refused(&in, "lies over another");
    header(&in, 2, 0); /* nothing lies over nothing */
    tensor(&in, "a", 1, nine, 0, 0);
    tensor(&in, "b", 1, none, 0, 32);
    data(&in, 36);
    accepted(&in);
}

/* ------------------------------------------------------------------------------------------ */
/* All prefixes and all changes of one byte */

/* About 4 KiB, with every kind of value; *header_bytes without padding, *full without the last. */
static void build_specimen(mixt_buffer *out, size_t *header_bytes, size_t *full)
{
    header(out, 4, 10);
    key(out, "general.architecture", MIXT_GGUF_STRING);
    string(out, "olmoe");
    key(out, "general.alignment", MIXT_GGUF_U32);
    number(out, 32, 4);
    key(out, "a.u8", MIXT_GGUF_U8);
    number(out, 200, 1);
    key(out, "a.i16", MIXT_GGUF_I16);
    number(out, 0xfffe, 2);
    key(out, "a.u64", MIXT_GGUF_U64);
    number(out, 5, 8);
    key(out, "a.f32", MIXT_GGUF_F32);
    number(out, 0x3f800000, 4);
    key(out, "a.f64", MIXT_GGUF_F64);
    number(out, 0x3ff0000000000000, 8);
    key(out, "a.yes", MIXT_GGUF_ARRAY);
    number(out, MIXT_GGUF_BOOL, 4);
    number(out, 3, 8);
    number(out, 0x010001, 3);
    key(out, "tokens", MIXT_GGUF_ARRAY);
    number(out, MIXT_GGUF_STRING, 4);
    number(out, 3, 8);
    string(out, "<s>");
    string(out, "");
    string(out, "ab");
    key(out, "types", MIXT_GGUF_ARRAY);
    number(out, MIXT_GGUF_I32, 4);
    number(out, 3, 8);
    number(out, 1, 12);
    const uint64_t dims[] = {32, 6, 3, 1};
    tensor(out, "token_embd.weight", 2, dims, 0, 0);            /* 768 */
    tensor(out, "blk.0.ffn_gate_exps.weight", 3, dims, 8, 768); /* 612 */
    tensor(out, "blk.0.ffn_norm.weight", 1, dims, 0, 1408);     /* 128 */
    const uint64_t last[] = {256, 13};
    tensor(out, "output.weight", 2, last, 10, 1536); /* 1092 */
    *header_bytes = out->length;
    data(out, 1536 + 1092);
    *full = out->length;
    data(out, 0);
}

/* Whatever can be asked of a file; returns a sum over all of it. */
static uint64_t walk(const mixt_gguf *file)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < mixt_gguf_key_count(file); i++) {
        mixt_gguf_kind kind;
        const char *name = mixt_gguf_key_at(file, i, &kind);
        int64_t integer = 0;
        double value = 0;
        const char *text = "";
        mixt_gguf_array array = {0};
        bool flag = false;
        assert_true(mixt_gguf_has(file, name));
        mixt_gguf_integer(file, name, ANY, &integer, NULL);
        mixt_gguf_number(file, name, ANY, &value, NULL);
        mixt_gguf_bool(file, name, &flag, NULL);
        mixt_gguf_string(file, name, &text, NULL);
        sum += (uint64_t)integer + strlen(text) + flag + (value > 0);
        for (int k = MIXT_GGUF_U8; k <= MIXT_GGUF_F64; k++) {
            if (mixt_gguf_array_of(file, name, (mixt_gguf_kind)k, &array, NULL) != MIXT_OK) {
                continue;
            }
            static const int sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
            for (size_t j = 0; j < array.count * (size_t)sizes[k]; j++) {
                sum += ((const unsigned char *)array.data)[j];
            }
            for (size_t j = 0; k == MIXT_GGUF_STRING && j < array.count; j++) {
                for (uint64_t c = 0; c < array.lengths[j]; c++) {
                    sum += (unsigned char)array.strings[j][c];
                }
            }
        }
    }
    for (size_t i = 0; i < mixt_gguf_tensor_count(file); i++) {
        const mixt_gguf_tensor *one = mixt_gguf_tensor_at(file, i);
        assert_ptr_equal(mixt_gguf_find(file, one->name), one);
        for (size_t j = 0; j < one->bytes; j += 61) {
            sum += ((const unsigned char *)one->data)[j];
        }
        sum += one->bytes == 0 ? 0 : ((const unsigned char *)one->data)[one->bytes - 1];
    }
    return sum;
}

static void test_prefixes(void **state)
{
    (void)state;
    mixt_buffer in = {0};
    size_t header_bytes;
    size_t full;
    build_specimen(&in, &header_bytes, &full);
    assert_true(in.length > full && in.length > 3000 && in.length < 5000);
    for (size_t length = 0; length <= in.length; length++) {
        mixt_gguf *file;
        void *copy;
        mixt_error error = MIXT_ERROR_INIT;
        mixt_status status = open_bytes(in.data, length, &file, &copy, &error);
        if (length < full) {
            assert_int_equal(status, MIXT_ERROR_FORMAT);
            assert_null(file);
            assert_int_equal(strncmp(error.message, "input: ", 7), 0);
        } else {
            assert_int_equal(status, MIXT_OK);
            assert_true(walk(file) > 0);
            mixt_gguf_close(file);
        }
        free(copy);
    }
    mixt_buffer_free(&in);
    for (int i = 0; i < 2; i++) { /* a file without tensors, or data, may lack the padding */
        header(&in, (uint64_t)i, 1);
        key(&in, "k", MIXT_GGUF_U8);
        number(&in, 1, 1);
        const uint64_t none[1] = {0};
        if (i == 1) {
            tensor(&in, "none", 1, none, 0, 0);
        }
        assert_true(in.length % 32 != 0);
        accepted(&in);
    }
}

static void test_changed_bytes(void **state)
{
    (void)state;
    mixt_buffer in = {0};
    size_t header_bytes;
    size_t full;
    build_specimen(&in, &header_bytes, &full);
    unsigned char *bytes = malloc(in.length);
    memcpy(bytes, in.data, in.length);
    int opened = 0;
    int failed = 0;
    for (size_t i = 0; i < in.length; i++) {
        unsigned char before = bytes[i];
        for (int change = 1; change < 256; change += i < header_bytes ? guard_few(1, 31) : 127) {
            bytes[i] = (unsigned char)(before ^ change);
            mixt_gguf *file;
            mixt_error error = MIXT_ERROR_INIT;
            mixt_status status = mixt_gguf_open_memory(bytes, in.length, "input", &file, &error);
            if (status == MIXT_OK) {
                opened++;
                walk(file);
                mixt_gguf_close(file);
            } else {
                failed++;
                assert_null(file);
                assert_true(status == MIXT_ERROR_FORMAT || status == MIXT_ERROR_UNSUPPORTED);
                assert_int_equal(strncmp(error.message, "input: ", 7), 0);
            }
        }
        bytes[i] = before;
    }
    int least = guard_few(10000, 300);
    assert_true(opened > least && failed > least);
    free(bytes);
    mixt_buffer_free(&in);
}

/* ------------------------------------------------------------------------------------------ */
/* Files on disk */

static void test_odd_files(void **state)
{
    (void)state;
    char *path = scratch_path("odd");
    mixt_gguf *file;
    const char *const parts[] = {"a FIFO", "a folder", "header", "no such file", "a device"};
    for (int i = 0; i < 5; i++) {
        if (i == 0) {
            assert_int_equal(mkfifo(path, 0600), 0);
        } else if (i == 1) {
            assert_int_equal(mkdir(path, 0700), 0);
        } else if (i == 2) {
            write_file(path, "", 0);
        }
        mixt_error error = MIXT_ERROR_INIT;
        mixt_status status = mixt_gguf_open(i == 4 ? "/dev/zero" : path, &file, &error);
        assert_true(mixt_status_is_refusal(status));
        assert_null(file);
        if (strstr(error.message, parts[i]) == NULL) {
            fail_msg("%s", error.message);
        }
        remove(path);
    }
    free(path);
}

typedef struct shard_rows {
    uint64_t number, count, tensors;
    const char *architecture; /* or NULL */
    const char *tensor;
} shard_rows;

static void write_shard(const char *path, const shard_rows *rows)
{
    mixt_buffer out = {0};
    header(&out, 1, rows->architecture == NULL ? 3 : 4);
    key(&out, "split.no", MIXT_GGUF_U16);
    number(&out, rows->number, 2);
    key(&out, "split.count", MIXT_GGUF_U16);
    number(&out, rows->count, 2);
    key(&out, "split.tensors.count", MIXT_GGUF_I32);
    number(&out, rows->tensors, 4);
    if (rows->architecture != NULL) {
        key(&out, "general.architecture", MIXT_GGUF_STRING);
        string(&out, rows->architecture);
    }
    const uint64_t eight[1] = {8};
    tensor(&out, rows->tensor, 1, eight, 0, 0);
    data(&out, 32);
    write_file(path, out.data, out.length);
    mixt_buffer_free(&out);
}

static void test_shards(void **state)
{
    (void)state;
    char *first = scratch_path("m-00001-of-00003.gguf");
    char *second = scratch_path("m-00002-of-00003.gguf");
    char *third = scratch_path("m-00003-of-00003.gguf");
    char *other = scratch_path("odd.gguf");
    char *many = scratch_path("m-00001-of-65535.gguf");
    char *next = scratch_path("m-00002-of-65535.gguf");
    const shard_rows good[3] = {
        {0, 3, 3, "olmoe", "a"}, {1, 3, 3, NULL, "b"}, {2, 3, 3, "olmoe", "c"}};
    const struct {
        const char *open; /* this file */
        const char *at;   /* where these rows are written; NULL: this file is removed instead */
        shard_rows rows;
        const char *parts[2]; /* of the message; NULL: it opens */
    } cases[] = {
        {first, first, {0, 3, 3, "olmoe", "a"}, {NULL, NULL}},
        {first, NULL, {0}, {second, "no such file"}},
        {first, second, {2, 3, 3, NULL, "b"}, {second, "says that it is shard 3 of 3"}},
        {first, second, {1, 4, 3, NULL, "b"}, {second, "says that it is shard 2 of 4"}},
        {first, third, {2, 3, 4, NULL, "c"}, {third, "another model"}},
        {first, third, {2, 3, 3, "llama", "c"}, {third, "another model"}},
        {first, third, {2, 3, 3, NULL, "b"}, {third, "tensor \"b\" is there twice"}},
        {first, first, {0, 3, 4, NULL, "a"}, {second, "another model"}},
        {second, second, {1, 3, 3, NULL, "b"}, {second, "is shard 2 of 3; the first one"}},
        {other, other, {0, 3, 3, NULL, "a"}, {other, "must end in -00001-of-00003.gguf"}},
        {many, many, {0, 65535, 3, NULL, "a"}, {next, "no such file"}},
        {other, other, {0, 1, 1, NULL, "a"}, {NULL, NULL}},
        {other, other, {0, 0, 1, NULL, "a"}, {NULL, NULL}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_shard(first, &good[0]);
        write_shard(second, &good[1]);
        write_shard(third, &good[2]);
        if (cases[i].at == NULL) {
            unlink(second);
        } else {
            write_shard(cases[i].at, &cases[i].rows);
        }
        mixt_gguf *file;
        mixt_error error = MIXT_ERROR_INIT;
        mixt_status status = mixt_gguf_open(cases[i].open, &file, &error);
        if (cases[i].parts[0] != NULL) {
            assert_true(mixt_status_is_refusal(status));
            if (strstr(error.message, cases[i].parts[0]) == NULL ||
                strstr(error.message, cases[i].parts[1]) == NULL) {
                fail_msg("case %zu: %s", i, error.message);
            }
            continue;
        }
        assert_int_equal(status, MIXT_OK);
        if (i == 0) {
            assert_int_equal(mixt_gguf_tensor_count(file), 3);
            assert_int_equal(mixt_gguf_find(file, "c")->shard, 2);
            assert_string_equal(mixt_gguf_path(file, 2), third);
            assert_int_equal(((const char *)mixt_gguf_find(file, "b")->data)[31], 31);
        }
        mixt_gguf_close(file);
    }
    free(first);
    free(second);
    free(third);
    free(other);
    free(many);
    free(next);
}

/* A file that becomes shorter while it is mapped; tests/test_map.c has the rest. */
static void test_shortened(void **state)
{
    (void)state;
    char *path = scratch_path("short.gguf");
    mixt_buffer out = {0};
    const uint64_t dims[1] = {8 * 1024};
    header(&out, 1, 0);
    tensor(&out, "t", 1, dims, 0, 0);
    data(&out, 32 * 1024);
    write_file(path, out.data, out.length);
    mixt_gguf *file;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_gguf_open(path, &file, &error), MIXT_OK);
    const mixt_gguf_tensor *one = mixt_gguf_find(file, "t");
    assert_int_equal(((const unsigned char *)one->data)[one->bytes - 1], 255);
    assert_int_equal(truncate(path, 4096), 0);
    assert_int_equal(((const unsigned char *)one->data)[one->bytes - 1], 0);
    assert_int_equal(mixt_gguf_intact(file, &error), MIXT_ERROR_IO);
    assert_non_null(strstr(error.message, "became shorter"));
    mixt_gguf_close(file);
    mixt_buffer_free(&out);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),       cmocka_unit_test(test_getters_refuse),
        cmocka_unit_test(test_bad_headers), cmocka_unit_test(test_bad_keys),
        cmocka_unit_test(test_bad_values),  cmocka_unit_test(test_many),
        cmocka_unit_test(test_bad_shapes),  cmocka_unit_test(test_bad_types),
        cmocka_unit_test(test_bad_names),   cmocka_unit_test(test_bad_offsets),
        cmocka_unit_test(test_prefixes),    cmocka_unit_test(test_changed_bytes),
        cmocka_unit_test(test_odd_files),   cmocka_unit_test(test_shards),
        cmocka_unit_test(test_shortened),

    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
