/* Blocks of 32. Without importance, Q4_0 to Q8_0 are rounded plainly from the largest value or the
 * range, to the bytes that ggml gives; with it, scales are searched. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "quant/blocks.h"
#include "quant/fit.h"
#include "quant/quantise.h"

#define SIZE 32
#define SMALLEST 1e-30f

static const mixt_codes q4_codes = {
    .low = -8, .high = 7, .from = 0.85f, .to = 1.2f, .step = 0.025f};
static const mixt_codes q5_codes = {
    .low = -16, .high = 15, .from = 0.92f, .to = 1.12f, .step = 0.0125f};
static const mixt_codes q4_line = {.high = 15, .from = 0.9f, .to = 1.3f, .step = 0.04f};
static const mixt_codes q5_line = {.high = 31, .from = 0.95f, .to = 1.2f, .step = 0.025f};

static bool is_finite_half(uint16_t bits)
{
    return (bits & 0x7c00u) != 0x7c00u;
}

static float inverse_of(float d)
{
    return fabsf(d) < SMALLEST ? 0 : 1 / d;
}

/* v cut to an integer in 0 to high; NaN is 0. */
static int cut(float v, int high)
{
    return !(v > 0) ? 0 : v >= (float)high ? high : (int)v;
}

/* Plain: the largest value becomes the code -zero, which has no positive twin. */
static bool plain_symmetric(const float *values, int zero, uint16_t *d, int q[SIZE])
{
    float largest = 0;
    for (int i = 0; i < SIZE; i++) {
        largest = fabsf(values[i]) > fabsf(largest) ? values[i] : largest;
    }
    float scale = largest / (float)-zero;
    float inverse = inverse_of(scale);
    for (int i = 0; i < SIZE; i++) {
        q[i] = cut(values[i] * inverse + (float)zero + 0.5f, 2 * zero - 1);
    }
    *d = mixt_f16_bits(scale);
    return is_finite_half(*d);
}

static bool plain_range(const float *values, int high, uint16_t d[2], int q[SIZE])
{
    float low = FLT_MAX;
    float top = -FLT_MAX;
    for (int i = 0; i < SIZE; i++) {
        low = values[i] < low ? values[i] : low;
        top = values[i] > top ? values[i] : top;
    }
    float scale = (top - low) / (float)high;
    float inverse = inverse_of(scale);
    for (int i = 0; i < SIZE; i++) {
        q[i] = cut((values[i] - low) * inverse + 0.5f, high);
    }
    d[0] = mixt_f16_bits(scale);
    d[1] = mixt_f16_bits(low);
    return is_finite_half(d[0]) && is_finite_half(d[1]);
}

/* The scale of least weighted error, rounded to a half, and the codes nearest under it. */
static bool fitted_scale(const float *values, const float *weights, const mixt_codes *codes,
                         uint16_t *d, float found[SIZE])
{
    float x[SIZE];
    float w[SIZE];
    float unit = mixt_quantise_prepare(values, weights, SIZE, x, w);
    mixt_fit_group group = {x, w, SIZE};
    *d = mixt_f16_bits(mixt_fit_scale(&group, codes) * unit);
    if (!is_finite_half(*d)) {
        return false;
    }
    float scale = unit == 0 ? 0 : mixt_f16_value(*d) / unit;
    mixt_fit_scale_error(&group, codes, scale, found);
    return true;
}

static bool symmetric(const float *values, const float *weights, const mixt_codes *codes,
                      uint16_t *d, int q[SIZE])
{
    if (weights == NULL) {
        return plain_symmetric(values, (int)-codes->low, d, q);
    }
    float found[SIZE] = {0};
    bool fits = fitted_scale(values, weights, codes, d, found);
    for (int i = 0; i < SIZE; i++) {
        q[i] = (int)(found[i] - codes->low);
    }
    return fits;
}

static bool range(const float *values, const float *weights, const mixt_codes *codes, uint16_t d[2],
                  int q[SIZE])
{
    if (weights == NULL) {
        return plain_range(values, (int)codes->high, d, q);
    }
    float x[SIZE];
    float w[SIZE];
    float found[SIZE];
    float unit = mixt_quantise_prepare(values, weights, SIZE, x, w);
    mixt_fit_group group = {x, w, SIZE};
    mixt_fit_line line = mixt_fit_offset(&group, codes, false);
    d[0] = mixt_f16_bits(line.scale * unit);
    d[1] = mixt_f16_bits(line.offset * unit);
    if (!is_finite_half(d[0]) || !is_finite_half(d[1])) {
        return false;
    }
    float scale = unit == 0 ? 0 : mixt_f16_value(d[0]) / unit;
    float offset = unit == 0 ? 0 : mixt_f16_value(d[1]) / unit;
    mixt_fit_line_error(&group, codes, scale, offset, found);
    for (int i = 0; i < SIZE; i++) {
        q[i] = (int)found[i];
    }
    return true;
}

static void pack_nibbles(const int q[SIZE], uint8_t bytes[16])
{
    for (int i = 0; i < 16; i++) {
        bytes[i] = (uint8_t)((q[i] & 15) | (q[i + 16] & 15) << 4);
    }
}

static void pack_fifth_bits(const int q[SIZE], uint8_t bytes[4])
{
    memset(bytes, 0, 4);
    for (int i = 0; i < SIZE; i++) {
        bytes[i / 8] = (uint8_t)(bytes[i / 8] | (q[i] >> 4) << i % 8);
    }
}

bool mixt_quantise_q4_0(const float *values, const float *weights, void *block)
{
    mixt_q4_0_block *to = block;
    int q[SIZE] = {0};
    bool fits = symmetric(values, weights, &q4_codes, &to->d, q);
    pack_nibbles(q, to->q);
    return fits;
}

bool mixt_quantise_q5_0(const float *values, const float *weights, void *block)
{
    mixt_q5_0_block *to = block;
    int q[SIZE] = {0};
    bool fits = symmetric(values, weights, &q5_codes, &to->d, q);
    pack_nibbles(q, to->q);
    pack_fifth_bits(q, to->high);
    return fits;
}

bool mixt_quantise_q4_1(const float *values, const float *weights, void *block)
{
    mixt_q4_1_block *to = block;
    uint16_t d[2] = {0};
    int q[SIZE] = {0};
    bool fits = range(values, weights, &q4_line, d, q);
    to->d = d[0];
    to->m = d[1];
    pack_nibbles(q, to->q);
    return fits;
}

bool mixt_quantise_q5_1(const float *values, const float *weights, void *block)
{
    mixt_q5_1_block *to = block;
    uint16_t d[2] = {0};
    int q[SIZE] = {0};
    bool fits = range(values, weights, &q5_line, d, q);
    to->d = d[0];
    to->m = d[1];
    pack_nibbles(q, to->q);
    pack_fifth_bits(q, to->high);
    return fits;
}

bool mixt_quantise_q8_0(const float *values, const float *weights, void *block)
{
    (void)weights; /* 1/127 of the largest value: weights have little to say */
    mixt_q8_0_block *to = block;
    float largest = 0;
    for (int i = 0; i < SIZE; i++) {
        largest = fabsf(values[i]) > largest ? fabsf(values[i]) : largest;
    }
    float scale = largest / 127;
    float inverse = inverse_of(scale);
    for (int i = 0; i < SIZE; i++) {
        float v = values[i] * inverse;
        v = v < -127 ? -127 : v > 127 ? 127 : v;
        to->q[i] = (int8_t)(v + (v < 0 ? -0.5f : 0.5f)); /* halves away from 0 */
    }
    to->d = mixt_f16_bits(scale);
    return is_finite_half(to->d);
}

/* ------------------------------------------------------------------------------------------ */

bool mixt_quantise_iq4_nl(const float *values, const float *weights, void *block)
{
    mixt_iq4_nl_block *to = block;
    float found[SIZE] = {0};
    int q[SIZE] = {0};
    bool fits = fitted_scale(values, weights, &mixt_iq4_codes, &to->d, found);
    for (int i = 0; i < SIZE; i++) {
        q[i] = mixt_iq4_index(found[i]);
    }
    pack_nibbles(q, to->q);
    return fits;
}

/* Index of the E2M1 value nearest to v, in units of half of its smallest step; ties to the even
 * index. */
static int mxfp4_index(float v)
{
    static const float middles[7] = {0.5f, 1.5f, 2.5f, 3.5f, 5, 7, 10};
    float size = fabsf(v);
    int index = 0;
    for (int i = 0; i < 7; i++) {
        index += size > middles[i] || (size == middles[i] && i % 2 == 1);
    }
    return v < 0 && index != 0 ? index + 8 : index;
}

/* The exponent that lets the largest value just pass, or clips it, or leaves a step to spare:
 * whichever has the least error. */
bool mixt_quantise_mxfp4(const float *values, const float *weights, void *block)
{
    mixt_mxfp4_block *to = block;
    float x[SIZE];
    float w[SIZE];
    float unit = mixt_quantise_prepare(values, weights, SIZE, x, w);
    int power = 0;
    frexpf(unit, &power); /* unit in [2^(power - 1), 2^power); 6 = 1.5 * 2^2 is the largest value */
    int middle = unit == 0 ? 0 : power - 1 - 2 + 127;
    float best = FLT_MAX;
    for (int exponent = middle - 1; exponent <= middle + 1; exponent++) {
        if (exponent < 0 || exponent > 252) { /* 12 * 2^125 is no float */
            continue;
        }
        float step = mixt_mxfp4_scale((uint8_t)exponent);
        float error = 0;
        int q[SIZE] = {0};
        for (int i = 0; i < SIZE; i++) {
            q[i] = unit == 0 ? 0 : mxfp4_index(values[i] / step);
            float rest = unit == 0 ? 0 : x[i] - (float)mixt_mxfp4_values[q[i]] * (step / unit);
            error += w[i] * rest * rest;
        }
        if (error < best) {
            best = error;
            to->exponent = (uint8_t)exponent;
            pack_nibbles(q, to->q);
        }
    }
    return true;
}
