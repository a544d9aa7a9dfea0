/* Blocks of every type against the values that ggml makes of the same bytes
 * (tests/reference/quant.py). */
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

#include <cmocka.h>

#include "core/files.h"
#include "quant/quant.h"

static void test_types(void **state)
{
    (void)state;
    for (int i = 0; i < MIXT_TYPE_COUNT; i++) {
        const mixt_type_row *row = mixt_type_info((mixt_type)i);
        assert_int_equal(mixt_type_from_number(row->number),
                         row->number >= 0 ? i : MIXT_TYPE_COUNT);
        assert_int_equal(mixt_type_from_name(row->name), i);
        assert_int_equal(mixt_type_row_bytes((mixt_type)i, 512), 512 / row->elements * row->bytes);
        assert_int_equal(mixt_type_row_bytes((mixt_type)i, -256), 0);
        if (row->elements > 1) {
            assert_int_equal(mixt_type_row_bytes((mixt_type)i, 513), 0);
        }
    }
    assert_int_equal(mixt_type_from_number(4), MIXT_TYPE_COUNT);
    assert_int_equal(mixt_type_from_number(-1), MIXT_TYPE_COUNT);
    assert_int_equal(mixt_type_from_name("Q4_2"), MIXT_TYPE_COUNT);
}

/* Every value has the bits that ggml gives it. */
static void test_dequantise(void **state)
{
    (void)state;
    for (int i = 0; i < MIXT_TYPE_COUNT; i++) {
        const mixt_type_row *row = mixt_type_info((mixt_type)i);
        if (i == MIXT_TYPE_F32) {
            continue;
        }
        char path[128];
        char *file;
        size_t length;
        mixt_error error = MIXT_ERROR_INIT;
        snprintf(path, sizeof path, "tests/fixtures/quant/%s.bin", row->name);
        if (mixt_file_read(path, 1u << 20, &file, &length, &error) != MIXT_OK) {
            fail_msg("%s", error.message);
        }
        uint32_t count;
        memcpy(&count, file, sizeof count);
        size_t bytes = mixt_type_row_bytes((mixt_type)i, count);
        assert_true(count >= 512);
        assert_int_equal(length, 4 + bytes + count * sizeof(float));
        void *blocks = malloc(bytes); /* of their exact size, for the sanitizers */
        float *values = malloc(count * sizeof *values);
        memcpy(blocks, file + 4, bytes);
        mixt_dequantise((mixt_type)i, blocks, values, count);
        for (uint32_t j = 0; j < count; j++) {
            float expected;
            memcpy(&expected, file + 4 + bytes + j * sizeof expected, sizeof expected);
            if (memcmp(&expected, &values[j], sizeof expected) != 0) {
                fail_msg("%s: element %u is %a, not %a", row->name, j, values[j], expected);
            }
        }
        free(values);
        free(blocks);
        free(file);
    }
}

/* ------------------------------------------------------------------------------------------ */

static double error_of(mixt_type type, const void *blocks, const float *values,
                       const float *weights, int64_t count, int64_t columns)
{
    float *again = malloc((size_t)count * sizeof *again);
    mixt_dequantise(type, blocks, again, count);
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        double rest = (double)values[i] - again[i];
        sum += rest * rest * (weights == NULL ? 1 : (double)weights[i % columns]);
    }
    free(again);
    return sqrt(sum);
}

/* Our error as a share of ggml's on this fixture, without and with importance, as measured, and a
 * little: what makes a search worse shows. */
static const double shares[MIXT_TYPE_COUNT][2] = {
    [MIXT_TYPE_F16] = {1, 1},
    [MIXT_TYPE_BF16] = {1, 1},
    [MIXT_TYPE_Q4_0] = {1, 0.974},
    [MIXT_TYPE_Q4_1] = {1, 0.977},
    [MIXT_TYPE_Q5_0] = {1, 0.971},
    [MIXT_TYPE_Q5_1] = {1, 0.978},
    [MIXT_TYPE_Q8_0] = {1, 1},
    [MIXT_TYPE_Q2_K] = {0.872, 0.946},
    [MIXT_TYPE_Q3_K] = {0.954, 0.971},
    [MIXT_TYPE_Q4_K] = {0.981, 0.977},
    [MIXT_TYPE_Q5_K] = {0.965, 0.964},
    [MIXT_TYPE_Q6_K] = {0.948, 0.943},
    [MIXT_TYPE_IQ4_NL] = {0.959, 0.946},
    [MIXT_TYPE_IQ4_XS] = {0.959, 0.947},
    [MIXT_TYPE_MXFP4] = {0.986, 0.981},
};

/* Plainly rounded types have ggml's bytes; the others come as close to the values as ggml's. */
static void test_quantise_quality(void **state)
{
    (void)state;
    char *file;
    size_t length;
    assert_int_equal(
        mixt_file_read("tests/fixtures/quant/chunks.bin", 1u << 20, &file, &length, NULL), MIXT_OK);
    uint32_t sizes[2];
    memcpy(sizes, file, sizeof sizes);
    int64_t columns = sizes[1];
    int64_t count = (int64_t)sizes[0] * columns;
    float *values = malloc((size_t)(count + columns) * sizeof *values);
    memcpy(values, file + 8, (size_t)(count + columns) * sizeof *values);
    const char *at = file + 8 + (count + columns) * 4;
    int types = 0;
    for (; at < file + length; types++) {
        uint32_t number;
        memcpy(&number, at, sizeof number);
        at += sizeof number;
        mixt_type type = mixt_type_from_number(number);
        const char *name = mixt_type_info(type)->name;
        size_t bytes = mixt_type_row_bytes(type, count);
        unsigned char *blocks = malloc(bytes);
        for (int weighted = 0; weighted < 2; weighted++) {
            const float *weights = weighted ? values + count : NULL;
            memset(blocks, 0xa5, bytes);
            assert_int_equal(mixt_quantise(type, values, sizes[0], columns, weights, blocks, NULL),
                             MIXT_OK);
            bool searched = number >= 10 && type != MIXT_TYPE_BF16;
            bool plain = !searched && (!weighted || type == MIXT_TYPE_Q8_0 || number == 1);
            if (plain && memcmp(blocks, at, bytes) != 0) {
                fail_msg("%s: other bytes than ggml", name);
            }
            double own = error_of(type, blocks, values, weights, count, columns);
            double theirs = error_of(type, at, values, weights, count, columns);
            if (!(own <= shares[type][weighted] * theirs)) {
                fail_msg("%s: error %g, ggml's is %g", name, own, theirs);
            }
            at += bytes;
        }
        free(blocks);
    }
    for (int i = 0; i < MIXT_TYPE_COUNT; i++) {
        types -= i != MIXT_TYPE_F32 && mixt_type_can_quantise((mixt_type)i);
    }
    assert_int_equal(types, 0);
    free(values);
    free(file);
}

static uint32_t random_bits(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8 | *state << 24;
}

/* 512 finite values of a kind. */
static void odd_values(int kind, float *values, uint32_t *state)
{
    static const float levels[] = {0, 1, -1, 1e38f, -FLT_MAX, 1e-40f, FLT_MIN, 65504, 3e5f, 1e-7f};
    for (int i = 0; i < 512; i++) {
        if (kind < 10) {
            values[i] = levels[kind]; /* all equal */
        } else if (kind < 20) {
            values[i] = i % 256 == 77 ? levels[kind - 10] : 0; /* one alone */
        } else if (kind < 30) {
            values[i] = levels[kind - 20] * ((float)((int)(random_bits(state) % 201) - 100) / 100);
        } else {
            do { /* any bits */
                uint32_t bits = random_bits(state) & (kind == 30 ? ~0u : 0x8fffffffu);
                memcpy(&values[i], &bits, sizeof bits);
            } while (!isfinite(values[i]));
        }
    }
}

/* Whatever finite values come: done, with finite values near them, or refused as too large. */
static void test_quantise_any_values(void **state)
{
    (void)state;
    uint32_t seed = 7;
    float values[512];
    float again[512];
    float weights[256];
    int done = 0;
    for (int kind = 0; kind < 36; kind++) {
        for (int i = 0; i < MIXT_TYPE_COUNT; i++) {
            for (int weighted = 0; weighted < 3 && mixt_type_can_quantise((mixt_type)i);
                 weighted++) {
                unsigned char blocks[2048];
                odd_values(kind, values, &seed);
                for (int j = 0; j < 256; j++) {
                    weights[j] = weighted == 2 ? 0 : (float)(j % 3) * 1e37f;
                }
                float largest = 0;
                for (int j = 0; j < 512; j++) {
                    largest = fmaxf(largest, fabsf(values[j]));
                }
                if (!mixt_type_can_quantise((mixt_type)i)) {
                    continue;
                }
                mixt_error error = MIXT_ERROR_INIT;
                mixt_status status = mixt_quantise((mixt_type)i, values, 2, 256,
                                                   weighted ? weights : NULL, blocks, &error);
                if (status != MIXT_OK) {
                    assert_int_equal(status, MIXT_ERROR_FORMAT);
                    if (strstr(error.message, "too large for the type") == NULL) {
                        fail_msg("%s", error.message);
                    }
                    assert_true(largest > 60000);
                    continue;
                }
                done++;
                mixt_dequantise((mixt_type)i, blocks, again, 512);
                for (int j = 0; j < 512; j++) {
                    /* beside clipping, steps of halves below 2^-14 are the coarsest thing here */
                    if (!(fabsf(again[j] - values[j]) <= 0.7f * largest + 1e-5f)) {
                        fail_msg("%s, kind %d: %g became %g", mixt_type_info((mixt_type)i)->name,
                                 kind, (double)values[j], (double)again[j]);
                    }
                }
            }
        }
    }
    assert_true(done > 1000);
}

static void test_quantise_refusals(void **state)
{
    (void)state;
    static float values[4 * 512];
    static unsigned char blocks[4 * 2048];
    for (int i = 0; i < MIXT_TYPE_COUNT; i++) {
        if (!mixt_type_can_quantise((mixt_type)i)) {
            continue; /* tests/test_quant_types.c */
        }
        int elements = mixt_type_info((mixt_type)i)->elements;
        const float bad[] = {NAN, INFINITY, -INFINITY};
        for (int j = 0; j < 3; j++) {
            values[2 * 512 + 300] = bad[j];
            mixt_error error = MIXT_ERROR_INIT;
            char expected[64];
            snprintf(expected, sizeof expected, "row 2, block %d: holds NaN or infinity",
                     300 / elements);
            assert_int_equal(mixt_quantise((mixt_type)i, values, 4, 512, NULL, blocks, &error),
                             MIXT_ERROR_FORMAT);
            assert_string_equal(error.message, expected);
            values[2 * 512 + 300] = 0;
        }
        float weights[512] = {0};
        weights[5] = NAN;
        mixt_error error = MIXT_ERROR_INIT;
        assert_int_equal(mixt_quantise((mixt_type)i, values, 4, 512, weights, blocks, &error),
                         MIXT_ERROR_FORMAT);
        weights[5] = -1;
        assert_int_equal(mixt_quantise((mixt_type)i, values, 4, 512, weights, blocks, NULL),
                         MIXT_ERROR_FORMAT);
        if (elements > 1) {
            assert_int_equal(mixt_quantise((mixt_type)i, values, 4, 500, NULL, blocks, NULL),
                             MIXT_ERROR_ARGUMENT);
        }
        assert_int_equal(mixt_quantise((mixt_type)i, values, 0, 512, NULL, NULL, NULL), MIXT_OK);
    }
}

/* A block is bad where its values, under the codes that it has, are not all finite. */
static void test_bad_blocks(void **state)
{
    (void)state;
    for (int i = 0; i < MIXT_TYPE_COUNT; i++) {
        const mixt_type_row *row = mixt_type_info((mixt_type)i);
        unsigned char blocks[4 * 256];
        float values[256];
        int found = 0;
        for (int byte = 0; byte < row->bytes; byte++) {
            for (int flip = 0; flip < 256; flip++) {
                memset(blocks, 0x91, sizeof blocks); /* scales, codes and exponents that are well */
                assert_int_equal(mixt_find_bad_block((mixt_type)i, blocks, 3 * row->elements), -1);
                unsigned char *third = blocks + 2 * row->bytes;
                if (i == MIXT_TYPE_IQ1_M) { /* half of the exponent, so that one byte is enough */
                    third[53] = 0xc1;
                }
                third[byte] = (unsigned char)flip;
                mixt_dequantise((mixt_type)i, third, values, row->elements);
                bool finite = true;
                for (int j = 0; j < row->elements; j++) {
                    finite = finite && isfinite(values[j]);
                }
                if (i == MIXT_TYPE_MXFP4 && byte == 0 && flip == 255) {
                    finite = false; /* NaN by the standard; 2^127 here */
                }
                if (i == MIXT_TYPE_NVFP4 && byte < 4 && flip % 128 == 127) {
                    finite = false; /* likewise; 0 or 240 here */
                }
                found += !finite;
                assert_int_equal(mixt_find_bad_block((mixt_type)i, blocks, 3 * row->elements),
                                 finite ? -1 : 2);
            }
        }
        assert_true(found > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_dequantise),
        cmocka_unit_test(test_quantise_quality),
        cmocka_unit_test(test_quantise_any_values),
        cmocka_unit_test(test_quantise_refusals),
        cmocka_unit_test(test_bad_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
