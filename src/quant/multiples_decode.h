/* The decoders behind quant/multiples.h, here so that each tier of the CPU compiles them with its
 * own instructions. Vectors are the compilers' own, whatever their width on the machine. */
#ifndef MIXT_QUANT_MULTIPLES_DECODE_H
#define MIXT_QUANT_MULTIPLES_DECODE_H

#include <assert.h>
#include <string.h>

#include "quant/blocks.h"
#include "quant/grids.h"
#include "quant/multiples.h"

typedef int8_t mixt_bytes __attribute__((vector_size(16)));
typedef int16_t mixt_words __attribute__((vector_size(32)));
typedef uint64_t mixt_entries __attribute__((vector_size(16))); /* two of eight bytes */

/* Where values go: as words, their groups' scales multiplied in; or, where `words` is NULL, as
 * bytes, and the scales of groups of 16 beside them. */
typedef struct mixt_decoded {
    int16_t *words;
    int8_t *bytes, *scales;
} mixt_decoded;

static inline void mixt_put_group(const mixt_decoded *to, int group, mixt_bytes values, int scale)
{
    if (to->words == NULL) {
        memcpy(to->bytes + 16 * group, &values, sizeof values);
        to->scales[group] = (int8_t)scale;
        return;
    }
    mixt_words words = __builtin_convertvector(values, mixt_words) * (int16_t)scale;
    memcpy(to->words + 16 * group, &words, sizeof words);
}

static inline uint32_t mixt_four_bytes(const void *from)
{
    uint32_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

static inline uint64_t mixt_eight_bytes(const void *from)
{
    uint64_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

/* Two entries of four as one of eight. */
static inline uint64_t mixt_two_fours(const int8_t first[4], const int8_t second[4])
{
    return mixt_four_bytes(first) | (uint64_t)mixt_four_bytes(second) << 32;
}

/* grid, signed, for sixteen values. */
static inline mixt_bytes mixt_signed(const uint64_t grid[2], const int8_t first[8],
                                     const int8_t second[8])
{
    mixt_bytes values = (mixt_bytes)(mixt_entries){grid[0], grid[1]};
    mixt_bytes signs =
        (mixt_bytes)(mixt_entries){mixt_eight_bytes(first), mixt_eight_bytes(second)};
    return (values ^ signs) - signs;
}

static inline void mixt_decode_iq2_xxs(const mixt_iq2_xxs_block *block, const mixt_grids *grids,
                                       const mixt_decoded *to)
{
    for (int i = 0; i < 16; i++) {
        uint32_t entries = block->q[i / 2 * 4 + i % 2];
        uint32_t signs = mixt_four_bytes(block->q + i / 2 * 4 + 2);
        int scale = (int)(signs >> 28) * 2 + 1;
        signs >>= i % 2 * 14;
        const uint64_t grid[2] = {mixt_eight_bytes(grids->iq2_xxs[entries & 255]),
                                  mixt_eight_bytes(grids->iq2_xxs[entries >> 8])};
        mixt_put_group(to, i,
                       mixt_signed(grid, grids->signs[grids->even[signs & 127]],
                                   grids->signs[grids->even[signs >> 7 & 127]]),
                       scale);
    }
}

static inline void mixt_decode_iq2_xs(const mixt_iq2_xs_block *block, const mixt_grids *grids,
                                      const mixt_decoded *to)
{
    for (int i = 0; i < 16; i++) {
        int scale = (block->scales[i / 2] >> i % 2 * 4 & 15) * 2 + 1;
        unsigned first = block->q[2 * i], second = block->q[2 * i + 1];
        const uint64_t grid[2] = {mixt_eight_bytes(grids->iq2_xs[first & 511]),
                                  mixt_eight_bytes(grids->iq2_xs[second & 511])};
        mixt_put_group(to, i,
                       mixt_signed(grid, grids->signs[grids->even[first >> 9]],
                                   grids->signs[grids->even[second >> 9]]),
                       scale);
    }
}

static inline void mixt_decode_iq2_s(const mixt_iq2_s_block *block, const mixt_grids *grids,
                                     const mixt_decoded *to)
{
    for (int i = 0; i < 16; i++) {
        int scale = (block->scales[i / 2] >> i % 2 * 4 & 15) * 2 + 1;
        int high = block->high[i / 2] >> i % 2 * 4;
        const uint64_t grid[2] = {
            mixt_eight_bytes(grids->iq2_s[block->q[2 * i] | (high & 3) << 8]),
            mixt_eight_bytes(grids->iq2_s[block->q[2 * i + 1] | (high >> 2 & 3) << 8])};
        mixt_put_group(to, i,
                       mixt_signed(grid, grids->signs[block->signs[2 * i]],
                                   grids->signs[block->signs[2 * i + 1]]),
                       scale);
    }
}

static inline void mixt_decode_iq3_xxs(const mixt_iq3_xxs_block *block, const mixt_grids *grids,
                                       const mixt_decoded *to)
{
    for (int i = 0; i < 16; i++) {
        const uint8_t *at = block->q + 4 * i;
        uint32_t signs = mixt_four_bytes(block->signs + i / 2 * 4);
        int scale = (int)(signs >> 28) * 2 + 1;
        signs >>= i % 2 * 14;
        const uint64_t grid[2] = {mixt_two_fours(grids->iq3_xxs[at[0]], grids->iq3_xxs[at[1]]),
                                  mixt_two_fours(grids->iq3_xxs[at[2]], grids->iq3_xxs[at[3]])};
        mixt_put_group(to, i,
                       mixt_signed(grid, grids->signs[grids->even[signs & 127]],
                                   grids->signs[grids->even[signs >> 7 & 127]]),
                       scale);
    }
}

static inline void mixt_decode_iq3_s(const mixt_iq3_s_block *block, const mixt_grids *grids,
                                     const mixt_decoded *to)
{
    for (int i = 0; i < 16; i++) {
        const uint8_t *at = block->q + 4 * i;
        int scale = (block->scales[i / 4] >> i / 2 % 2 * 4 & 15) * 2 + 1;
        int high = block->high[i / 2] >> i % 2 * 4;
        const uint64_t grid[2] = {mixt_two_fours(grids->iq3_s[at[0] | (high & 1) << 8],
                                                 grids->iq3_s[at[1] | (high & 2) << 7]),
                                  mixt_two_fours(grids->iq3_s[at[2] | (high & 4) << 6],
                                                 grids->iq3_s[at[3] | (high & 8) << 5])};
        mixt_put_group(to, i,
                       mixt_signed(grid, grids->signs[block->signs[2 * i]],
                                   grids->signs[block->signs[2 * i + 1]]),
                       scale);
    }
}

/* 8 grid + 1 or - 1 for sixteen values; the shifts are -1 where one is taken away. */
static inline mixt_bytes mixt_shifted(const int8_t first[8], const int8_t second[8],
                                      const int8_t *shifts[2])
{
    mixt_bytes values =
        (mixt_bytes)(mixt_entries){mixt_eight_bytes(first), mixt_eight_bytes(second)};
    mixt_bytes shift =
        (mixt_bytes)(mixt_entries){mixt_eight_bytes(shifts[0]), mixt_eight_bytes(shifts[1])};
    values += values;
    values += values;
    values += values;
    return values + shift + shift + 1;
}

static inline void mixt_decode_iq1_s(const mixt_iq1_s_block *block, const mixt_grids *grids,
                                     const mixt_decoded *to)
{
    for (int i = 0; i < 16; i++) {
        unsigned high = block->high[i / 2], entries = high >> i % 2 * 6;
        const int8_t *shift = grids->signs[(high >> 15) * 255];
        mixt_put_group(to, i,
                       mixt_shifted(grids->iq1[block->q[2 * i] | (entries & 7) << 8],
                                    grids->iq1[block->q[2 * i + 1] | (entries >> 3 & 7) << 8],
                                    (const int8_t *[]){shift, shift}),
                       (int)(high >> 12 & 7) * 2 + 1);
    }
}

static inline void mixt_decode_iq1_m(const mixt_iq1_m_block *block, const mixt_grids *grids,
                                     const mixt_decoded *to)
{
    for (int i = 0; i < 16; i++) {
        unsigned high = block->high[i];
        int scale = (block->scales[i / 4] >> i % 4 * 3 & 7) * 2 + 1;
        const int8_t *shifts[2] = {grids->signs[(high >> 3 & 1) * 255],
                                   grids->signs[(high >> 7) * 255]};
        mixt_put_group(to, i,
                       mixt_shifted(grids->iq1[block->q[2 * i] | (high & 7) << 8],
                                    grids->iq1[block->q[2 * i + 1] | (high >> 4 & 7) << 8], shifts),
                       scale);
    }
}

/* One digit of each of sixteen bytes. */
static inline mixt_bytes mixt_digits(const uint8_t bytes[16], int power)
{
    mixt_bytes packed;
    memcpy(&packed, bytes, sizeof packed);
    mixt_words words = __builtin_convertvector(packed, mixt_words);
    words = ((words * (int16_t)power & 255) * 3 >> 8) - 1;
    return __builtin_convertvector(words, mixt_bytes);
}

static inline void mixt_decode_tq1_0(const mixt_tq1_0_block *block, const mixt_decoded *to)
{
    static const uint8_t powers[5] = {1, 3, 9, 27, 81};
    mixt_bytes last;
    for (int digit = 0; digit < 5; digit++) {
        mixt_put_group(to, 2 * digit, mixt_digits(block->q, powers[digit]), 1);
        mixt_put_group(to, 2 * digit + 1, mixt_digits(block->q + 16, powers[digit]), 1);
        mixt_put_group(to, 10 + digit, mixt_digits(block->q + 32, powers[digit]), 1);
    }
    for (int j = 0; j < 16; j++) {
        last[j] = (int8_t)(((uint8_t)(block->rest[j % 4] * powers[j / 4]) * 3 >> 8) - 1);
    }
    mixt_put_group(to, 15, last, 1);
}

static inline void mixt_decode_tq2_0(const mixt_tq2_0_block *block, const mixt_decoded *to)
{
    for (int i = 0; i < 4; i++) {
        mixt_bytes packed;
        memcpy(&packed, block->q + 16 * i, sizeof packed);
        for (int j = 0; j < 4; j++) {
            mixt_bytes values = (packed >> (int8_t)(2 * j) & 3) - 1;
            mixt_put_group(to, i / 2 * 8 + i % 2 + 2 * j, values, 1);
        }
    }
}

/* mixt_multiples_of, given the tables. */
static inline float mixt_decode_multiples(mixt_type type, const void *block,
                                          const mixt_grids *grids, const mixt_decoded *to)
{
    uint16_t half; /* first in all but three */
    memcpy(&half, block, sizeof half);
    switch ((int)type) {
    case MIXT_TYPE_IQ1_S:
        mixt_decode_iq1_s(block, grids, to);
        return mixt_f16_value(half) * 0.125F;
    case MIXT_TYPE_IQ1_M:
        mixt_decode_iq1_m(block, grids, to);
        return mixt_f16_value(mixt_iq1_m_half(block)) * 0.125F;
    case MIXT_TYPE_IQ2_XXS:
        mixt_decode_iq2_xxs(block, grids, to);
        return mixt_f16_value(half) * 0.125F;
    case MIXT_TYPE_IQ2_XS:
        mixt_decode_iq2_xs(block, grids, to);
        return mixt_f16_value(half) * 0.125F;
    case MIXT_TYPE_IQ2_S:
        mixt_decode_iq2_s(block, grids, to);
        return mixt_f16_value(half) * 0.125F;
    case MIXT_TYPE_IQ3_XXS:
        mixt_decode_iq3_xxs(block, grids, to);
        return mixt_f16_value(half) * 0.25F;
    case MIXT_TYPE_IQ3_S:
        mixt_decode_iq3_s(block, grids, to);
        return mixt_f16_value(half);
    case MIXT_TYPE_TQ1_0:
        mixt_decode_tq1_0(block, to);
        return mixt_f16_value(((const mixt_tq1_0_block *)block)->d);
    default:
        assert(type == MIXT_TYPE_TQ2_0);
        mixt_decode_tq2_0(block, to);
        return mixt_f16_value(((const mixt_tq2_0_block *)block)->d);
    }
}

/* Sixteen values of NVFP4: those of the low halves of eight bytes, then the high ones. */
static inline mixt_bytes mixt_e2m1(const uint8_t bytes[8])
{
    uint64_t pairs = mixt_eight_bytes(bytes), low = 0x0F0F0F0F0F0F0F0F;
    mixt_bytes code = (mixt_bytes)(mixt_entries){pairs & low, pairs >> 4 & low};
    mixt_bytes size = code & 7, sign = code > 7;
    /* 0, 1, 2, 3, 4, 6, 8, 12 */
    size += ((size > 4) & (size - 4)) + ((size > 6) & 2);
    return (size ^ sign) - sign;
}

/* mixt_part_of, given the tables. */
static inline void mixt_decode_part(mixt_type type, const void *block, int part,
                                    const mixt_grids *grids, mixt_bytes q[2])
{
    const mixt_nvfp4_block *four = block;
    const mixt_q1_0_block *one = block;
    const mixt_q2_0_block *two = block;
    for (int half = 0; half < 2; half++) {
        if (type == MIXT_TYPE_NVFP4) {
            q[half] = mixt_e2m1(four->q + 16 * part + 8 * half);
        } else if (type == MIXT_TYPE_Q1_0) {
            const uint8_t *bits = one->q + 4 * part + 2 * half;
            mixt_bytes values = (mixt_bytes)(mixt_entries){mixt_eight_bytes(grids->signs[bits[0]]),
                                                           mixt_eight_bytes(grids->signs[bits[1]])};
            q[half] = -(values + values + 1);
        } else {
            const uint8_t *pairs = two->q + 8 * part + 4 * half;
            q[half] = (mixt_bytes)(mixt_entries){
                mixt_two_fours(grids->pairs[pairs[0]], grids->pairs[pairs[1]]),
                mixt_two_fours(grids->pairs[pairs[2]], grids->pairs[pairs[3]])};
        }
    }
}

/* The same as words. */
static inline void mixt_decode_part_words(mixt_type type, const void *block, int part,
                                          const mixt_grids *grids, int16_t q[32])
{
    mixt_bytes bytes[2];
    mixt_decode_part(type, block, part, grids, bytes);
    for (int half = 0; half < 2; half++) {
        mixt_words words = __builtin_convertvector(bytes[half], mixt_words);
        memcpy(q + 16 * half, &words, sizeof words);
    }
}

static inline float mixt_part_scale(mixt_type type, const void *block, int part, int half)
{
    uint16_t d;
    memcpy(&d, block, sizeof d);
    return type == MIXT_TYPE_NVFP4
               ? mixt_nvfp4_scale(((const mixt_nvfp4_block *)block)->scales[2 * part + half])
               : mixt_f16_value(d);
}

#endif
