/* Blocks of every type against the values that ggml makes of the same bytes
 * (tests/reference/quant.py). */
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
#include "quant/quant.h"

static void test_types(void **state)
{
    (void)state;
    for (int i = 0; i < MIXT_TYPE_COUNT; i++) {
        const mixt_type_row *row = mixt_type_info((mixt_type)i);
        assert_int_equal(mixt_type_from_number(row->number), i);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_dequantise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
