/* Types that are read and not written: all of their codebooks against ggml
 * (tests/reference/quant.py), and what is refused by name. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/files.h"
#include "core/sha256.h"
#include "quant/grids.h"
#include "quant/multiples.h"
#include "quant/quant.h"

/* Every entry of every codebook stands in these blocks, in random order. */
static void test_codebooks(void **state)
{
    (void)state;
    char *file;
    size_t length;
    int types = 0;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_file_read("tests/fixtures/quant/grids.bin", 1u << 20, &file, &length, &error) !=
        MIXT_OK) {
        fail_msg("%s", error.message);
    }
    for (const char *at = file; at < file + length; types++) {
        uint32_t head[2];
        memcpy(head, at, sizeof head);
        const unsigned char *expected = (const unsigned char *)at + sizeof head;
        mixt_type type = mixt_type_from_number(head[0]);
        assert_true(mixt_type_is_multiples(type));
        size_t bytes = head[1] * (size_t)mixt_type_info(type)->bytes, count = 256 * (size_t)head[1];
        float *values = malloc(count * sizeof *values);
        void *blocks = malloc(bytes);
        at += sizeof head + MIXT_SHA256_BYTES;
        memcpy(blocks, at, bytes);
        mixt_dequantise(type, blocks, values, (int64_t)count);
        unsigned char digest[MIXT_SHA256_BYTES];
        mixt_sha256 hash;
        mixt_sha256_init(&hash);
        mixt_sha256_update(&hash, values, count * sizeof *values);
        mixt_sha256_final(&hash, digest);
        if (memcmp(digest, expected, sizeof digest) != 0) {
            fail_msg("%s: other values than ggml's", mixt_type_info(type)->name);
        }
        free(blocks);
        free(values);
        at += bytes;
    }
    assert_int_equal(types, 7);
    free(file);
}

static int compare_entries(const void *a, const void *b)
{
    return memcmp(a, b, 8);
}

/* Entries of a codebook differ from each other, and seven signs have the eighth that makes their
 * number even. */
static void test_tables(void **state)
{
    (void)state;
    const mixt_grids *grids = mixt_grids_get();
    const struct {
        const int8_t *entries;
        size_t count;
    } tables[] = {{grids->iq1[0], 2048},
                  {grids->iq2_xxs[0], 256},
                  {grids->iq2_xs[0], 512},
                  {grids->iq2_s[0], 1024}};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        static int8_t sorted[2048][8];
        memcpy(sorted, tables[i].entries, 8 * tables[i].count);
        qsort(sorted, tables[i].count, 8, compare_entries);
        for (size_t j = 1; j < tables[i].count; j++) {
            assert_int_not_equal(memcmp(sorted[j - 1], sorted[j], 8), 0);
        }
    }
    for (int i = 0; i < 128; i++) {
        assert_int_equal(grids->even[i] & 127, i);
        assert_int_equal(__builtin_popcount(grids->even[i]) % 2, 0);
    }
    for (int i = 0; i < 256; i++) {
        for (int j = 0; j < 8; j++) {
            assert_int_equal(grids->signs[i][j], (i >> j & 1) ? -1 : 0);
        }
    }
}

static void test_not_written(void **state)
{
    (void)state;
    static float values[256];
    static unsigned char blocks[1024];
    int read_only = 0;
    for (int i = 0; i < MIXT_TYPE_COUNT; i++) {
        if (mixt_type_can_quantise((mixt_type)i)) {
            continue;
        }
        mixt_error error = MIXT_ERROR_INIT;
        char expected[96];
        snprintf(expected, sizeof expected, "%s is a type that mixt reads and does not write",
                 mixt_type_info((mixt_type)i)->name);
        assert_int_equal(mixt_quantise((mixt_type)i, values, 1, 256, NULL, blocks, &error),
                         MIXT_ERROR_UNSUPPORTED);
        assert_string_equal(error.message, expected);
        read_only += mixt_type_info((mixt_type)i)->number >= 0; /* not of folders alone */
    }
    assert_int_equal(read_only, 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codebooks),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_not_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
