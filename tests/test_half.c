/* Halves and bfloat16: every value, and rounding as numpy and torch round. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/half.h"
#include "scratch.h"

#define FIXTURES "tests/fixtures/safetensors/"

/* FNV-1a over the floats' bytes, NaN made one pattern with its sign. */
static uint64_t hash_floats(const float *values, size_t count)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        if ((bits & 0x7fffffffu) > 0x7f800000u) {
            bits = (bits & 0x80000000u) | 0x7fc00000u;
        }
        for (int j = 0; j < 4; j++) {
            hash = (hash ^ (bits >> (8 * j) & 0xff)) * 0x100000001b3u;
        }
    }
    return hash;
}

static void test_every_half(void **state)
{
    (void)state;
    uint16_t *halves = malloc(65536 * sizeof *halves);
    uint16_t *back = malloc(65536 * sizeof *back);
    float *floats = malloc(65536 * sizeof *floats);
    assert_true(halves != NULL && back != NULL && floats != NULL);
    for (unsigned i = 0; i < 65536; i++) {
        halves[i] = (uint16_t)i;
    }
    mixt_f16_to_f32(halves, floats, 65536);
    assert_true(hash_floats(floats, 65536) == 0xd87ea19efabf8d45u); /* numpy's */
    mixt_f32_to_f16(floats, back, 65536);
    for (unsigned i = 0; i < 65536; i++) {
        if (isnan(floats[i])) {
            assert_true((back[i] & 0x7fff) > 0x7c00);
        } else {
            assert_int_equal(back[i], i);
        }
    }
    mixt_bf16_to_f32(halves, floats, 65536);
    assert_true(hash_floats(floats, 65536) == 0x826ecc6aef1e7325u); /* torch's */
    mixt_f32_to_bf16(floats, back, 65536);
    for (unsigned i = 0; i < 65536; i++) {
        if (isnan(floats[i])) {
            assert_true((back[i] & 0x7fff) > 0x7f80);
        } else {
            assert_int_equal(back[i], i);
        }
    }
    free(halves);
    free(back);
    free(floats);
}

static void test_rounding(void **state)
{
    (void)state;
    size_t length;
    char *data = read_file(FIXTURES "rounding.bin", &length);
    uint32_t count;
    memcpy(&count, data, 4);
    assert_true(count > 3000);
    assert_int_equal(length, 4 + (size_t)count * 8);
    float *values = malloc(count * sizeof *values);
    uint16_t *wanted = malloc(count * 2 * sizeof *wanted);
    uint16_t *got = malloc(count * sizeof *got);
    assert_true(values != NULL && wanted != NULL && got != NULL);
    memcpy(values, data + 4, count * sizeof *values);
    memcpy(wanted, data + 4 + count * sizeof *values, count * 2 * sizeof *wanted);
    mixt_f32_to_f16(values, got, count);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(got[i], wanted[i]);
    }
    mixt_f32_to_bf16(values, got, count);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(got[i], wanted[count + i]);
    }
    free(values);
    free(wanted);
    free(got);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_half),
        cmocka_unit_test(test_rounding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
