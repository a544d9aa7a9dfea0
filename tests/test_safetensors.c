/* safetensors: every rule of the reference implementation, on files that it wrote and on changed
 * ones whose verdicts it gave (tests/reference/safetensors_fixtures.py). */
#define _GNU_SOURCE
#include <errno.h>
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
#include "formats/safetensors.h"
#include "scratch.h"

#define FIXTURES "tests/fixtures/safetensors/"

/* A file with this header text and `data_bytes` zero bytes; malloc'd. */
static unsigned char *build(const char *header, size_t header_length, size_t data_bytes,
                            size_t *length)
{
    *length = 8 + header_length + data_bytes;
    unsigned char *file = calloc(1, *length);
    assert_non_null(file);
    for (int i = 0; i < 8; i++) {
        file[i] = (unsigned char)(header_length >> (8 * i));
    }
    memcpy(file + 8, header, header_length);
    return file;
}

static void expect(const char *header, size_t data_bytes, const char *refusal)
{
    size_t length;
    unsigned char *bytes = build(header, strlen(header), data_bytes, &length);
    mixt_safetensors *file;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = mixt_safetensors_open_memory(bytes, length, "x", &file, &error);
    if (refusal == NULL) {
        if (status != MIXT_OK) {
            fail_msg("%s refused: %s", header, error.message);
        }
    } else if (status != MIXT_ERROR_FORMAT || strstr(error.message, refusal) == NULL) {
        fail_msg("%s: wanted \"%s\", got \"%s\"", header, refusal, error.message);
    } else {
        assert_null(file);
        assert_null(strchr(error.message, '\n'));
        assert_memory_equal(error.message, "x: ", 3);
    }
    mixt_safetensors_close(file);
    free(bytes);
}

static void test_reads_reference_file(void **state)
{
    (void)state;
    mixt_safetensors *file;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_safetensors_open(FIXTURES "types.safetensors", &file, &error), MIXT_OK);
    assert_int_equal(mixt_safetensors_count(file), 12);
    assert_string_equal(mixt_safetensors_metadata(file, "format"), "pt");
    assert_string_equal(mixt_safetensors_metadata(file, "note"),
                        "a \"quoted\"\n\xc3\xbc \xf0\x9f\x98\x80 text");
    assert_null(mixt_safetensors_metadata(file, "absent"));
    assert_null(mixt_safetensors_find(file, "absent"));
    assert_null(mixt_safetensors_tensor(file, 12));
    const mixt_tensor_info *tensor = mixt_safetensors_find(file, "float.weight");
    assert_non_null(tensor);
    assert_int_equal(tensor->dtype, MIXT_DTYPE_F32);
    assert_int_equal(tensor->rank, 2);
    assert_int_equal(tensor->shape[0], 2);
    assert_int_equal(tensor->shape[1], 3);
    assert_int_equal(mixt_tensor_elements(tensor), 6);
    float values[6];
    assert_int_equal(mixt_safetensors_read_f32(file, tensor, 0, 6, values, &error), MIXT_OK);
    for (int i = 0; i < 6; i++) {
        assert_true(values[i] == (float)i / 4);
    }
    assert_int_equal(mixt_safetensors_read_f32(file, tensor, 4, 2, values, &error), MIXT_OK);
    assert_true(values[0] == 1.0f && values[1] == 1.25f);
    assert_int_equal(
        mixt_safetensors_read_f32(file, mixt_safetensors_find(file, "half"), 0, 3, values, &error),
        MIXT_OK);
    assert_true(values[0] == 1.0f && values[1] == -0.5f && values[2] == 65504.0f);
    assert_int_equal(
        mixt_safetensors_read_f32(file, mixt_safetensors_find(file, "brain"), 0, 2, values, &error),
        MIXT_OK);
    assert_true(values[0] == 1.0f && values[1] == -3.0f);
    double doubles[2];
    tensor = mixt_safetensors_find(file, "double");
    assert_int_equal(mixt_safetensors_read(file, tensor, 0, sizeof doubles, doubles, &error),
                     MIXT_OK);
    assert_true(doubles[0] == 1.5 && doubles[1] == -2.25);
    int64_t number;
    tensor = mixt_safetensors_find(file, "long");
    assert_int_equal(mixt_safetensors_read(file, tensor, 0, 8, &number, &error), MIXT_OK);
    assert_true(number == -((int64_t)1 << 62));
    int16_t shorts[2];
    tensor = mixt_safetensors_find(file, "short");
    assert_int_equal(mixt_safetensors_read(file, tensor, 0, 4, shorts, &error), MIXT_OK);
    assert_true(shorts[0] == -9 && shorts[1] == 10);
    tensor = mixt_safetensors_find(file, "empty");
    assert_int_equal(tensor->bytes, 0);
    assert_int_equal(mixt_safetensors_read_f32(file, tensor, 0, 0, NULL, &error), MIXT_OK);
    assert_int_equal(mixt_safetensors_find(file, "scalar")->rank, 0);
    assert_int_equal(mixt_safetensors_find(file, "flag")->dtype, MIXT_DTYPE_BOOL);
    mixt_safetensors_close(file);
}

static void test_refuses_reads_outside(void **state)
{
    (void)state;
    mixt_safetensors *file;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_safetensors_open(FIXTURES "types.safetensors", &file, &error), MIXT_OK);
    const mixt_tensor_info *half = mixt_safetensors_find(file, "half");
    float values[4];
    assert_int_equal(mixt_safetensors_read_f32(file, half, 0, 4, values, NULL),
                     MIXT_ERROR_ARGUMENT);
    assert_int_equal(mixt_safetensors_read_f32(file, half, 4, 0, values, NULL),
                     MIXT_ERROR_ARGUMENT);
    assert_int_equal(mixt_safetensors_read(file, half, 6, 1, values, NULL), MIXT_ERROR_ARGUMENT);
    assert_int_equal(mixt_safetensors_read(file, half, UINT64_MAX, 2, values, NULL),
                     MIXT_ERROR_ARGUMENT);
    assert_int_equal(
        mixt_safetensors_read_f32(file, mixt_safetensors_find(file, "int"), 0, 1, values, &error),
        MIXT_ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "\"int\": dtype \"I32\""));
    mixt_safetensors_close(file);
}

/* A file that another process shortens under us: an error, not a signal. */
static void test_shortened_file(void **state)
{
    (void)state;
    size_t length;
    char *data = read_file(FIXTURES "types.safetensors", &length);
    char *path = scratch_path("short.safetensors");
    write_file(path, data, length);
    mixt_safetensors *file;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_safetensors_open(path, &file, &error), MIXT_OK);
    assert_int_equal(truncate(path, (off_t)length - 1), 0);
    char flags[2];
    assert_int_equal(
        mixt_safetensors_read(file, mixt_safetensors_find(file, "flag"), 0, 2, flags, &error),
        MIXT_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "1 bytes short"));
    mixt_safetensors_close(file);
    free(path);
    free(data);
}

static bool has_unknown_type(const mixt_safetensors *file)
{
    for (size_t i = 0; i < mixt_safetensors_count(file); i++) {
        if (mixt_safetensors_tensor(file, i)->dtype == MIXT_DTYPE_UNKNOWN) {
            return true;
        }
    }
    return false;
}

/* Every prefix is refused; every change of one byte is judged as the reference judges it, except
 * that an unknown dtype is refused on reading. */
static void test_every_prefix_and_byte(void **state)
{
    (void)state;
    size_t length;
    size_t verdict_bytes;
    char *data = read_file(FIXTURES "types.safetensors", &length);
    char *verdicts = read_file(FIXTURES "verdicts.bin", &verdict_bytes);
    mixt_safetensors *file;
    for (size_t i = 0; i < length; i++) {
        char *prefix = malloc(i + 1); /* an exact size, so that a sanitizer sees one byte too far */
        assert_non_null(prefix);
        memcpy(prefix, data, i);
        char *exact = realloc(prefix, i == 0 ? 1 : i);
        assert_non_null(exact);
        assert_int_equal(mixt_safetensors_open_memory(exact, i, "x", &file, NULL),
                         MIXT_ERROR_FORMAT);
        free(exact);
    }
    size_t accepted = 0;
    size_t unknown = 0;
    for (size_t i = 0; i < length; i++) {
        for (unsigned x = 1; x < 256; x++) {
            data[i] = (char)(data[i] ^ (char)x);
            mixt_error error = MIXT_ERROR_INIT;
            mixt_status status = mixt_safetensors_open_memory(data, length, "x", &file, &error);
            size_t bit = i * 256 + x;
            bool reference = bit / 8 >= verdict_bytes ||
                             ((unsigned char)verdicts[bit / 8] >> (bit % 8) & 1) != 0;
            if (status == MIXT_OK && !reference && has_unknown_type(file)) {
                unknown++;
            } else if ((status == MIXT_OK) != reference) {
                fail_msg("byte %zu xor %02x: ours %d (%s), reference %d", i, x, (int)status,
                         error.message, (int)reference);
            }
            accepted += status == MIXT_OK;
            mixt_safetensors_close(file);
            data[i] = (char)(data[i] ^ (char)x);
        }
    }
    assert_true(unknown > 1000); /* 12 types of at least two letters */
    assert_true(accepted > unknown + 80 * 255);
    free(data);
    free(verdicts);
}

#define TENSOR(begin, end) "{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[" begin "," end "]}"

static void test_header_rules(void **state)
{
    (void)state;
    expect("{}", 0, NULL);
    expect(" \n\r\t{} \n", 0, NULL);
    expect("{\"a\":" TENSOR("0", "1") "}   ", 1, NULL);
    expect("{\"__metadata__\":null}", 0, NULL);
    expect("{\"__metadata__\":{}}", 0, NULL);
    expect("", 0, "must be a JSON object");
    expect("[]", 0, "must be a JSON object");
    expect("null", 0, "must be a JSON object");
    expect("{} x", 0, "behind the header object");
    expect("{}{}", 0, "behind the header object");
    expect("{", 0, "quotes");
    expect("{\"a\":" TENSOR("0", "1") ",}", 1, "quotes");
    expect("{\"a\":" TENSOR("0", "1") ",\"a\":" TENSOR("1", "2") "}", 2, "\"a\" is there twice");
    expect("{\"a\":" TENSOR("0", "1") ",\"\\u0061\":" TENSOR("1", "2") "}", 2, "twice");
    expect("{\"__metadata__\":{\"a\":1}}", 0, "must be texts");
    expect("{\"__metadata__\":{\"a\":null}}", 0, "must be texts");
    expect("{\"__metadata__\":[]}", 0, "__metadata__ must be an object");
    expect("{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}}", 0, "\"a\" is there twice");
    expect("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ is there twice");
    expect("{\"a\":[]}", 0, "\"a\": must be an object");
    expect("{\"a\":{}}", 0, "is missing");
    expect("{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "is missing");
    expect("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
           "a member is there twice");
    expect("{\"a\":{\"dtype\":8,\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "quotes");
    expect("{\"a\":{\"dtype\":\"U8\",\"shape\":1,\"data_offsets\":[0,1]}}", 1, "shape must be");
    expect("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1, "two numbers");
    expect("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,2]}}", 1, "two numbers");
    expect("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":0}}", 1, "must be an array");
    /* members that the format does not know are passed over */
    expect("{\"a\":{\"x\":[1,-2.5e+3,{\"y\":[true,false,null,\"z\"]},{},[]],\"dtype\":\"U8\","
           "\"shape\":[1],\"data_offsets\":[0,1]}}",
           1, NULL);
    expect("{\"a\":{\"x\":01,\"dtype\":\"U8\"}}", 1, "not a value");
    expect("{\"a\":{\"x\":1.,\"dtype\":\"U8\"}}", 1, "behind the point");
    expect("{\"a\":{\"x\":1e,\"dtype\":\"U8\"}}", 1, "exponent");
    expect("{\"a\":{\"x\":nul,\"dtype\":\"U8\"}}", 1, "not a value");
    expect("{\"a\":{\"x\":[1 2],\"dtype\":\"U8\"}}", 1, "bracket is missing");
    expect("{\"a\":{\"x\":{1:2},\"dtype\":\"U8\"}}", 1, "quotes");
    expect("{\"a\":{\"x\":", 1, "value is missing");
}

static void test_numbers(void **state)
{
    (void)state;
    const char *const bad[] = {"1e0",   "1.0", "-1",   "18446744073709551616",
                               "\"1\"", "01",  "null", "true",
                               "+1",    "0x1", "",     "99999999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[200];
        snprintf(text, sizeof text,
                 "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,%s]}}", bad[i]);
        expect(text, 1, "header byte");
        snprintf(text, sizeof text,
                 "{\"a\":{\"dtype\":\"U8\",\"shape\":[%s],\"data_offsets\":[0,1]}}", bad[i]);
        if (bad[i][0] != '\0') {
            expect(text, 1, "header byte");
        }
    }
}

static void test_ranges(void **state)
{
    (void)state;
    expect("{\"a\":" TENSOR("0", "1") ",\"b\":" TENSOR("1", "2") "}", 2, NULL);
    expect("{\"b\":" TENSOR("1", "2") ",\"a\":" TENSOR("0", "1") "}", 2, NULL); /* any order */
    expect("{\"a\":" TENSOR("0", "1") ",\"b\":" TENSOR("0", "1") "}", 1, "overlap");
    expect("{\"a\":" TENSOR("0", "1") ",\"b\":" TENSOR("2", "3") "}", 3, "gap");
    expect("{\"a\":" TENSOR("1", "2") "}", 2, "gap");
    expect("{\"a\":" TENSOR("1", "0") "}", 1, "end before");
    expect("{\"a\":" TENSOR("0", "1") "}", 2, "the file has 2"); /* polyglot tail */
    expect("{\"a\":" TENSOR("0", "1") "}", 0, "the file has 0");
    expect("{\"a\":" TENSOR("0", "2") "}", 2, "shape x U8 is 1 bytes");
    expect("{\"a\":" TENSOR("0", "18446744073709551615") "}", 2, "shape x U8");
    const char *const wrap[] = {"4294967296,4294967296", "9223372036854775807,2",
                                "9223372036854775807", "2305843009213693952,8,1"};
    for (size_t i = 0; i < 4; i++) {
        char text[200];
        snprintf(text, sizeof text,
                 "{\"a\":{\"dtype\":\"F64\",\"shape\":[%s],\"data_offsets\":[0,0]}}", wrap[i]);
        expect(text, 0, "does not fit");
    }
    expect("{\"a\":{\"dtype\":\"F64\",\"shape\":[9223372036854775808],\"data_offsets\":[0,0]}}", 0,
           "beyond 2^63");
    expect("{\"a\":{\"dtype\":\"F64\",\"shape\":[0,9223372036854775807],\"data_offsets\":[0,0]}}",
           0, NULL);
    expect("{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "whole bytes");
    expect("{\"a\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,1]}}", 1, NULL);
    expect("{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, NULL);
}

static void test_texts(void **state)
{
    (void)state;
    expect("{\"\\ud800\":" TENSOR("0", "1") "}", 1, "lone surrogate");
    expect("{\"\\ud800\\u0041\":" TENSOR("0", "1") "}", 1, "lone surrogate");
    expect("{\"\\udc00\":" TENSOR("0", "1") "}", 1, "lone surrogate");
    expect("{\"\\ud83d\\ude00\":" TENSOR("0", "1") "}", 1, NULL);
    expect("{\"\\u0000\":" TENSOR("0", "1") "}", 1, "NUL");
    expect("{\"\\u00g0\":" TENSOR("0", "1") "}", 1, "hexadecimal");
    expect("{\"\\x\":" TENSOR("0", "1") "}", 1, "unknown escape");
    expect("{\"a\nb\":" TENSOR("0", "1") "}", 1, "control character");
    expect("{\"a", 1, "without an end");
    expect("{\"a\\", 1, "without an end");
    expect("{\"\xc0\xaf\":" TENSOR("0", "1") "}", 1, "UTF-8");     /* overlong */
    expect("{\"\xed\xa0\x80\":" TENSOR("0", "1") "}", 1, "UTF-8"); /* surrogate */
    expect("{\"\xf4\x90\x80\x80\":" TENSOR("0", "1") "}", 1, "UTF-8");
    expect("\xef\xbb\xbf{}", 0, "must be a JSON object"); /* byte order mark */
    size_t length;
    static const char nul[] = "{\"a\0b\":" TENSOR("0", "1") "}";
    unsigned char *bytes = build(nul, sizeof nul - 1, 1, &length);
    mixt_safetensors *file;
    assert_int_equal(mixt_safetensors_open_memory(bytes, length, "x", &file, NULL),
                     MIXT_ERROR_FORMAT);
    free(bytes);
    /* every escape decodes to its character */
    static const char escapes[] =
        "{\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\uDE00\":" TENSOR("0", "1") "}";
    bytes = build(escapes, sizeof escapes - 1, 1, &length);
    assert_int_equal(mixt_safetensors_open_memory(bytes, length, "x", &file, NULL), MIXT_OK);
    assert_string_equal(mixt_safetensors_tensor(file, 0)->name,
                        "\"\\/\b\f\n\r\t\xc3\xa9\xf0\x9f\x98\x80");
    mixt_safetensors_close(file);
    free(bytes);
}

static void test_header_sizes(void **state)
{
    (void)state;
    const uint64_t sizes[] = {UINT64_MAX, (uint64_t)1 << 63, 100000001, 100000000, 3};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char bytes[10] = {0, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
        for (int j = 0; j < 8; j++) {
            bytes[j] = (unsigned char)(sizes[i] >> (8 * j));
        }
        mixt_safetensors *file;
        mixt_error error = MIXT_ERROR_INIT;
        assert_int_equal(mixt_safetensors_open_memory(bytes, sizeof bytes, "x", &file, &error),
                         MIXT_ERROR_FORMAT);
        assert_non_null(strstr(error.message, "header of"));
    }
}

static void test_depth_and_rank(void **state)
{
    (void)state;
    size_t depth = 100000;
    char *text = malloc(2 * depth + 100);
    assert_non_null(text);
    strcpy(text, "{\"a\":{\"x\":");
    size_t used = strlen(text);
    memset(text + used, '[', depth);
    text[used + depth] = '\0';
    expect(text, 0, "nested too deeply");
    strcpy(text, "{\"a\":{\"dtype\":\"U8\",\"shape\":[1");
    for (int i = 0; i < 64; i++) {
        strcat(text, ",1");
    }
    strcat(text, "],\"data_offsets\":[0,1]}}");
    expect(text, 1, "64 dimensions");
    free(text);
}

static void test_unknown_type(void **state)
{
    (void)state;
    size_t length;
    static const char header[] = "{\"a\":{\"dtype\":\"Q3\",\"shape\":[8],\"data_offsets\":[0,3]},"
                                 "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[3,4]}}";
    unsigned char *bytes = build(header, sizeof header - 1, 4, &length);
    mixt_safetensors *file;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_safetensors_open_memory(bytes, length, "x", &file, &error), MIXT_OK);
    char to[3];
    assert_int_equal(
        mixt_safetensors_read(file, mixt_safetensors_find(file, "b"), 0, 1, to, &error), MIXT_OK);
    assert_int_equal(
        mixt_safetensors_read(file, mixt_safetensors_find(file, "a"), 0, 3, to, &error),
        MIXT_ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "\"a\": dtype \"Q3\" is not known"));
    mixt_safetensors_close(file);
    free(bytes);
}

/* 10^6 tensors without data: no step that grows with the square. */
static void test_a_million_tensors(void **state)
{
    (void)state;
    size_t count = 1000000;
    mixt_buffer text = {0};
    mixt_buffer_text(&text, "{");
    for (size_t i = 0; i < count; i++) { /* names in no sorted order */
        mixt_buffer_format(&text,
                           "%s\"n%zu\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}",
                           i == 0 ? "" : ",", i * 7919 % count);
    }
    mixt_buffer_text(&text, "}");
    assert_false(text.failed);
    size_t length;
    unsigned char *bytes = build(text.data, text.length, 0, &length);
    mixt_safetensors *file;
    mixt_error error = MIXT_ERROR_INIT;
    struct timespec begin, end;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
    assert_int_equal(mixt_safetensors_open_memory(bytes, length, "x", &file, &error), MIXT_OK);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    double seconds =
        (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) * 1e-9;
    print_message("10^6 tensors opened in %.2f s of CPU time\n", seconds);
    assert_true(seconds < 30);
    assert_non_null(mixt_safetensors_find(file, "n999999"));
    assert_null(mixt_safetensors_find(file, "n1000000"));
    mixt_safetensors_close(file);
    free(bytes);
    mixt_buffer_free(&text);
}

static void test_special_files(void **state)
{
    (void)state;
    char *fifo = scratch_path("fifo.safetensors");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    const char *const paths[] = {fifo, "/dev/zero", "/dev/null"};
    mixt_safetensors *file;
    for (size_t i = 0; i < 3; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        assert_int_equal(mixt_safetensors_open(paths[i], &file, &error), MIXT_ERROR_FORMAT);
        assert_non_null(strstr(error.message, "not a regular file"));
    }
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_safetensors_open("/nowhere/x", &file, &error), MIXT_ERROR_NOT_FOUND);
    mixt_error second = MIXT_ERROR_INIT;
    assert_int_equal(mixt_safetensors_open(scratch, &file, &second), MIXT_ERROR_NOT_FOUND);
    assert_non_null(strstr(second.message, "neither"));
    free(fifo);
    char *folder = scratch_path("pickled"), *weights = scratch_path("pickled/pytorch_model.bin");
    assert_int_equal(mkdir(folder, 0700), 0);
    FILE *made = fopen(weights, "wb");
    assert_non_null(made);
    fclose(made);
    mixt_error third = MIXT_ERROR_INIT;
    assert_int_equal(mixt_safetensors_open(folder, &file, &third), MIXT_ERROR_UNSUPPORTED);
    assert_non_null(strstr(third.message, "pickled: pytorch_model.bin: pickled weights"));
    free(folder);
    free(weights);
}

static void test_dtype_names(void **state)
{
    (void)state;
#define CHECK(name, bits)                                                                          \
    assert_int_equal(mixt_dtype_from_name(#name), MIXT_DTYPE_##name);                              \
    assert_string_equal(mixt_dtype_name(MIXT_DTYPE_##name), #name);                                \
    assert_int_equal(mixt_dtype_bits(MIXT_DTYPE_##name), bits);
    MIXT_DTYPE_LIST(CHECK)
    assert_int_equal(mixt_dtype_from_name("f32"), MIXT_DTYPE_UNKNOWN);
    assert_int_equal(mixt_dtype_bits(MIXT_DTYPE_UNKNOWN), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_reference_file),
        cmocka_unit_test(test_refuses_reads_outside),
        cmocka_unit_test(test_shortened_file),
        cmocka_unit_test(test_every_prefix_and_byte),
        cmocka_unit_test(test_header_rules),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_header_sizes),
        cmocka_unit_test(test_depth_and_rank),
        cmocka_unit_test(test_unknown_type),
        cmocka_unit_test(test_a_million_tensors),
        cmocka_unit_test(test_special_files),
        cmocka_unit_test(test_dtype_names),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
