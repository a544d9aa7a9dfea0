#include "quant/multiples.h"

#include <assert.h>
#include <string.h>

#include "quant/blocks.h"
#include "quant/grids.h"

/* scale * grid, with a sign for each of eight values. */
static void put_signed(const int8_t grid[8], const int8_t signs[8], int scale, int16_t *to)
{
    for (int j = 0; j < 8; j++) {
        to[j] = (int16_t)(((grid[j] ^ signs[j]) - signs[j]) * scale);
    }
}

/* The same for two entries of four. */
static void put_signed_fours(const int8_t first[4], const int8_t second[4], const int8_t signs[8],
                             int scale, int16_t *to)
{
    int8_t grid[8];
    memcpy(grid, first, 4);
    memcpy(grid + 4, second, 4);
    put_signed(grid, signs, scale, to);
}

/* scale * (8 grid + shift) */
static void put_shifted(const int8_t grid[8], int shift, int scale, int16_t *to)
{
    for (int j = 0; j < 8; j++) {
        to[j] = (int16_t)((grid[j] * 8 + shift) * scale);
    }
}

static uint32_t word_at(const void *bytes)
{
    uint32_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

static void of_iq2_xxs(const mixt_iq2_xxs_block *block, const mixt_grids *grids, int16_t *q)
{
    for (int group = 0; group < 8; group++) {
        const uint16_t *words = block->q + 4 * group;
        uint32_t entries = word_at(words), signs = word_at(words + 2);
        int scale = (int)(signs >> 28) * 2 + 1;
        for (int l = 0; l < 4; l++) {
            put_signed(grids->iq2_xxs[entries >> 8 * l & 255],
                       grids->signs[grids->even[signs >> 7 * l & 127]], scale, q);
            q += 8;
        }
    }
}

static void of_iq2_xs(const mixt_iq2_xs_block *block, const mixt_grids *grids, int16_t *q)
{
    for (int i = 0; i < 32; i++) {
        int scale = (block->scales[i / 4] >> i / 2 % 2 * 4 & 15) * 2 + 1;
        put_signed(grids->iq2_xs[block->q[i] & 511], grids->signs[grids->even[block->q[i] >> 9]],
                   scale, q + 8 * i);
    }
}

static void of_iq2_s(const mixt_iq2_s_block *block, const mixt_grids *grids, int16_t *q)
{
    for (int i = 0; i < 32; i++) {
        int scale = (block->scales[i / 4] >> i / 2 % 2 * 4 & 15) * 2 + 1;
        int entry = block->q[i] | (block->high[i / 4] >> i % 4 * 2 & 3) << 8;
        put_signed(grids->iq2_s[entry], grids->signs[block->signs[i]], scale, q + 8 * i);
    }
}

static void of_iq3_xxs(const mixt_iq3_xxs_block *block, const mixt_grids *grids, int16_t *q)
{
    for (int i = 0; i < 32; i++) {
        uint32_t signs = word_at(block->signs + i / 4 * 4);
        put_signed_fours(grids->iq3_xxs[block->q[2 * i]], grids->iq3_xxs[block->q[2 * i + 1]],
                         grids->signs[grids->even[signs >> i % 4 * 7 & 127]],
                         (int)(signs >> 28) * 2 + 1, q + 8 * i);
    }
}

static void of_iq3_s(const mixt_iq3_s_block *block, const mixt_grids *grids, int16_t *q)
{
    for (int i = 0; i < 32; i++) {
        int scale = (block->scales[i / 8] >> i / 4 % 2 * 4 & 15) * 2 + 1;
        int high = block->high[i / 4] >> i % 4 * 2;
        put_signed_fours(grids->iq3_s[block->q[2 * i] | (high & 1) << 8],
                         grids->iq3_s[block->q[2 * i + 1] | (high >> 1 & 1) << 8],
                         grids->signs[block->signs[i]], scale, q + 8 * i);
    }
}

static void of_iq1_s(const mixt_iq1_s_block *block, const mixt_grids *grids, int16_t *q)
{
    for (int i = 0; i < 32; i++) {
        int high = block->high[i / 4];
        int entry = block->q[i] | (high >> i % 4 * 3 & 7) << 8;
        put_shifted(grids->iq1[entry], high >> 15 ? -1 : 1, (high >> 12 & 7) * 2 + 1, q + 8 * i);
    }
}

static void of_iq1_m(const mixt_iq1_m_block *block, const mixt_grids *grids, int16_t *q)
{
    for (int i = 0; i < 32; i++) {
        int high = block->high[i / 2] >> i % 2 * 4;
        int scale = (block->scales[i / 8] >> i / 2 % 4 * 3 & 7) * 2 + 1;
        put_shifted(grids->iq1[block->q[i] | (high & 7) << 8], (high & 8) != 0 ? -1 : 1, scale,
                    q + 8 * i);
    }
}

/* Digit `digit` of each of `count` bytes. */
static void put_digits(const uint8_t *bytes, int count, int digit, int16_t *q)
{
    static const uint8_t powers[5] = {1, 3, 9, 27, 81};
    for (int j = 0; j < count; j++) {
        q[j] = (int16_t)(((uint8_t)(bytes[j] * powers[digit]) * 3 >> 8) - 1);
    }
}

static void of_tq1_0(const mixt_tq1_0_block *block, int16_t *q)
{
    for (int digit = 0; digit < 5; digit++) {
        put_digits(block->q, 32, digit, q + 32 * digit);
        put_digits(block->q + 32, 16, digit, q + 160 + 16 * digit);
    }
    for (int digit = 0; digit < 4; digit++) {
        put_digits(block->rest, 4, digit, q + 240 + 4 * digit);
    }
}

static void of_tq2_0(const mixt_tq2_0_block *block, int16_t *q)
{
    for (int i = 0; i < 8; i++) {
        for (int j = 0; j < 32; j++) {
            q[32 * i + j] = (int16_t)((block->q[i / 4 * 32 + j] >> i % 4 * 2 & 3) - 1);
        }
    }
}

float mixt_multiples_of(mixt_type type, const void *block, int16_t q[256])
{
    const mixt_grids *grids = mixt_grids_get();
    uint16_t half; /* first in all but three */
    memcpy(&half, block, sizeof half);
    switch ((int)type) {
    case MIXT_TYPE_IQ1_S:
        of_iq1_s(block, grids, q);
        return mixt_f16_value(half) * 0.125F;
    case MIXT_TYPE_IQ1_M:
        of_iq1_m(block, grids, q);
        return mixt_f16_value(mixt_iq1_m_half(block)) * 0.125F;
    case MIXT_TYPE_IQ2_XXS:
        of_iq2_xxs(block, grids, q);
        return mixt_f16_value(half) * 0.125F;
    case MIXT_TYPE_IQ2_XS:
        of_iq2_xs(block, grids, q);
        return mixt_f16_value(half) * 0.125F;
    case MIXT_TYPE_IQ2_S:
        of_iq2_s(block, grids, q);
        return mixt_f16_value(half) * 0.125F;
    case MIXT_TYPE_IQ3_XXS:
        of_iq3_xxs(block, grids, q);
        return mixt_f16_value(half) * 0.25F;
    case MIXT_TYPE_IQ3_S:
        of_iq3_s(block, grids, q);
        return mixt_f16_value(half);
    case MIXT_TYPE_TQ1_0:
        of_tq1_0(block, q);
        return mixt_f16_value(((const mixt_tq1_0_block *)block)->d);
    default:
        assert(type == MIXT_TYPE_TQ2_0);
        of_tq2_0(block, q);
        return mixt_f16_value(((const mixt_tq2_0_block *)block)->d);
    }
}

void mixt_part_of(mixt_type type, const void *block, int part, int16_t q[32], float d[2])
{
    assert(mixt_type_has_parts(type) && part >= 0 && part < mixt_type_info(type)->elements / 32);
    const mixt_nvfp4_block *four = block;
    const mixt_q1_0_block *one = block;
    const mixt_q2_0_block *two = block;
    for (int half = 0; half < 2; half++) {
        d[half] = type == MIXT_TYPE_NVFP4 ? mixt_nvfp4_scale(four->scales[2 * part + half])
                                          : mixt_f16_value(one->d);
    }
    for (int j = 0; j < 32; j++) {
        if (type == MIXT_TYPE_NVFP4) {
            uint8_t pair = four->q[16 * part + j / 16 * 8 + j % 8];
            q[j] = mixt_mxfp4_values[pair >> j % 16 / 8 * 4 & 15];
        } else if (type == MIXT_TYPE_Q1_0) {
            q[j] = (int16_t)((one->q[4 * part + j / 8] >> j % 8 & 1) * 2 - 1);
        } else {
            q[j] = (int16_t)((two->q[8 * part + j / 4] >> j % 4 * 2 & 3) - 1);
        }
    }
}
