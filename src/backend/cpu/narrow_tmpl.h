/* Rows of a cache in short types, value by value: for the scalar tables, and for what is left of a
 * row behind whole vectors. Included with `real` defined. */
#include <assert.h>
#include <math.h>

#include "quant/blocks.h"

static void narrow_block(mixt_q8_0_block *to, const real *x)
{
    float largest = 0;
    for (int i = 0; i < 32; i++) {
        float size = fabsf((float)x[i]);
        largest = largest < size || isnan(size) ? size : largest;
        if (isnan(size)) {
            break;
        }
    }
    float scale = largest / 127, inverse = scale > 0 ? 1 / scale : 0;
    to->d = mixt_f16_bits(scale);
    for (int i = 0; i < 32; i++) {
        float v = (float)x[i] * inverse;
        v = v > -127 ? v : -127; /* NaN as well */
        v = v < 127 ? v : 127;
        to->q[i] = (int8_t)(mixt_bits_of_float(v + MIXT_EXP_ROUNDER) - MIXT_EXP_ROUNDER_BITS);
    }
}

static void widen_block(real *y, const mixt_q8_0_block *from)
{
    float d = mixt_f16_value(from->d);
    for (int i = 0; i < 32; i++) {
        y[i] = (real)(d * (float)from->q[i]);
    }
}

static void narrow_values(int64_t n, void *y, const real *x, mixt_type type)
{
    assert(type == MIXT_TYPE_F16 || type == MIXT_TYPE_BF16 ||
           (type == MIXT_TYPE_Q8_0 && n % 32 == 0));
    for (int64_t i = 0; type != MIXT_TYPE_Q8_0 && i < n; i++) {
        float value = (float)x[i];
        ((uint16_t *)y)[i] = type == MIXT_TYPE_F16 ? mixt_f16_bits(value) : mixt_bf16_bits(value);
    }
    for (int64_t i = 0; type == MIXT_TYPE_Q8_0 && i < n; i += 32) {
        narrow_block((mixt_q8_0_block *)y + i / 32, x + i);
    }
}

static void widen_values(int64_t n, real *y, const void *x, mixt_type type)
{
    assert(type == MIXT_TYPE_F16 || type == MIXT_TYPE_BF16 ||
           (type == MIXT_TYPE_Q8_0 && n % 32 == 0));
    for (int64_t i = 0; type != MIXT_TYPE_Q8_0 && i < n; i++) {
        uint16_t bits = ((const uint16_t *)x)[i];
        y[i] = (real)(type == MIXT_TYPE_F16 ? mixt_f16_value(bits) : mixt_bf16_value(bits));
    }
    for (int64_t i = 0; type == MIXT_TYPE_Q8_0 && i < n; i += 32) {
        widen_block(y + i, (const mixt_q8_0_block *)x + i / 32);
    }
}
