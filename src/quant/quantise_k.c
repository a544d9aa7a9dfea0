/* Blocks of 256 with two levels of scales. */
#include <string.h>

#include "quant/blocks.h"
#include "quant/fit.h"
#include "quant/quantise.h"

static const float iq4_table[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                    1,    13,   25,  38,  53,  69,  89,  113};
const mixt_codes mixt_iq4_codes = {
    .low = -127, .high = 113, .table = iq4_table, .from = 0.85f, .to = 1.3f, .step = 0.03f};

static const mixt_fit_shape q2_k = {
    .codes = {.high = 3, .from = 0.8f, .to = 1.6f, .step = 0.1f}, 16, 16, 0, 15};
static const mixt_fit_shape q3_k = {
    .codes = {.low = -4, .high = 3, .from = 0.8f, .to = 1.5f, .step = 0.05f}, 16, 16, -32, 31};
static const mixt_fit_shape q4_k = {
    .codes = {.high = 15, .from = 0.9f, .to = 1.3f, .step = 0.04f}, 8, 32, 0, 63};
static const mixt_fit_shape q5_k = {
    .codes = {.high = 31, .from = 0.95f, .to = 1.2f, .step = 0.025f}, 8, 32, 0, 63};
static const mixt_fit_shape q6_k = {
    .codes = {.low = -32, .high = 31, .from = 0.94f, .to = 1.08f, .step = 0.02f},
    16,
    16,
    -128,
    127};

int mixt_iq4_index(float code)
{
    int index = 0;
    while (index < 15 && iq4_table[index] < code) {
        index++;
    }
    return index;
}

typedef bool fit_function(const mixt_fit_shape *shape, mixt_fit_block *block);

/* Runs a fit on values [256]; false where d does not fit into a half. */
static bool run(fit_function *fit, const mixt_fit_shape *shape, const float *values,
                const float *weights, mixt_fit_block *block)
{
    float x[MIXT_SUPER];
    float w[MIXT_SUPER];
    memset(block, 0, sizeof *block);
    block->unit = mixt_quantise_prepare(values, weights, MIXT_SUPER, x, w);
    if (block->unit == 0) {
        return true;
    }
    block->x = x;
    block->w = w;
    bool fits = fit(shape, block);
    block->x = NULL;
    block->w = NULL;
    return fits;
}

/* Ors `value` into the bits of a byte from `shift` on. */
static void put(uint8_t *byte, int value, int shift)
{
    *byte = (uint8_t)(*byte | value << shift);
}

bool mixt_quantise_q2_k(const float *values, const float *weights, void *block)
{
    mixt_q2_k_block *to = block;
    mixt_fit_block found;
    bool fits = run(mixt_fit_offset_block, &q2_k, values, weights, &found);
    memset(to, 0, sizeof *to);
    to->d = found.d;
    to->min_d = found.min_d;
    for (int group = 0; group < 16; group++) {
        put(&to->scales[group], found.scales[group] | found.mins[group] << 4, 0);
    }
    for (int i = 0; i < MIXT_SUPER; i++) {
        put(&to->q[i / 128 * 32 + i % 32], (int)found.codes[i], i % 128 / 32 * 2);
    }
    return fits;
}

bool mixt_quantise_q3_k(const float *values, const float *weights, void *block)
{
    mixt_q3_k_block *to = block;
    mixt_fit_block found;
    bool fits = run(mixt_fit_scaled_block, &q3_k, values, weights, &found);
    memset(to, 0, sizeof *to);
    to->d = found.d;
    for (int group = 0; group < 16; group++) {
        int scale = found.scales[group] + 32;
        put(&to->scales[group % 8], scale & 15, group / 8 * 4);
        put(&to->scales[8 + group % 4], scale >> 4, group / 4 * 2);
    }
    for (int i = 0; i < MIXT_SUPER; i++) {
        int code = (int)found.codes[i] + 4;
        put(&to->q[i / 128 * 32 + i % 32], code & 3, i % 128 / 32 * 2);
        put(&to->high[i % 32], code >> 2, i / 32);
    }
    return fits;
}

/* The 12 bytes of 8 scales and 8 minima of six bits. */
static void pack_k_scales(const mixt_fit_block *found, uint8_t scales[12])
{
    memset(scales, 0, 12);
    for (int j = 0; j < 4; j++) {
        put(&scales[j], found->scales[j] | found->scales[j + 4] >> 4 << 6, 0);
        put(&scales[j + 4], found->mins[j] | found->mins[j + 4] >> 4 << 6, 0);
        put(&scales[j + 8], (found->scales[j + 4] & 15) | (found->mins[j + 4] & 15) << 4, 0);
    }
}

bool mixt_quantise_q4_k(const float *values, const float *weights, void *block)
{
    mixt_q4_k_block *to = block;
    mixt_fit_block found;
    bool fits = run(mixt_fit_offset_block, &q4_k, values, weights, &found);
    memset(to, 0, sizeof *to);
    to->d = found.d;
    to->min_d = found.min_d;
    pack_k_scales(&found, to->scales);
    for (int i = 0; i < MIXT_SUPER; i++) {
        put(&to->q[i / 64 * 32 + i % 32], (int)found.codes[i], i % 64 / 32 * 4);
    }
    return fits;
}

bool mixt_quantise_q5_k(const float *values, const float *weights, void *block)
{
    mixt_q5_k_block *to = block;
    mixt_fit_block found;
    bool fits = run(mixt_fit_offset_block, &q5_k, values, weights, &found);
    memset(to, 0, sizeof *to);
    to->d = found.d;
    to->min_d = found.min_d;
    pack_k_scales(&found, to->scales);
    for (int i = 0; i < MIXT_SUPER; i++) {
        int code = (int)found.codes[i];
        put(&to->q[i / 64 * 32 + i % 32], code & 15, i % 64 / 32 * 4);
        put(&to->high[i % 32], code >> 4, i / 32);
    }
    return fits;
}

bool mixt_quantise_q6_k(const float *values, const float *weights, void *block)
{
    mixt_q6_k_block *to = block;
    mixt_fit_block found;
    bool fits = run(mixt_fit_scaled_block, &q6_k, values, weights, &found);
    memset(to, 0, sizeof *to);
    to->d = found.d;
    for (int group = 0; group < 16; group++) {
        to->scales[group] = (int8_t)found.scales[group];
    }
    for (int i = 0; i < MIXT_SUPER; i++) {
        int code = (int)found.codes[i] + 32;
        put(&to->q[i / 128 * 64 + i % 64], code & 15, i % 128 / 64 * 4);
        put(&to->high[i / 128 * 32 + i % 32], code >> 4, i % 128 / 32 * 2);
    }
    return fits;
}

bool mixt_quantise_iq4_xs(const float *values, const float *weights, void *block)
{
    const mixt_fit_shape shape = {mixt_iq4_codes, 8, 32, -32, 31};
    mixt_iq4_xs_block *to = block;
    mixt_fit_block found;
    bool fits = run(mixt_fit_scaled_block, &shape, values, weights, &found);
    memset(to, 0, sizeof *to);
    to->d = found.d;
    for (int group = 0; group < 8; group++) {
        int scale = found.scales[group] + 32;
        put(&to->scales_low[group / 2], scale & 15, group % 2 * 4);
        to->scales_high = (uint16_t)(to->scales_high | scale >> 4 << group * 2);
    }
    for (int i = 0; i < MIXT_SUPER; i++) {
        put(&to->q[i / 32 * 16 + i % 16], mixt_iq4_index(found.codes[i]), i % 32 / 16 * 4);
    }
    return fits;
}
