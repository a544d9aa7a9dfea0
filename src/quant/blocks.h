/* Layouts of the blocks, byte for byte as in GGUF files. In names: d is the scale of the whole
 * block, min_d that of its minima; q are the small integers. Halves and words are little-endian. */
#ifndef MIXT_QUANT_BLOCKS_H
#define MIXT_QUANT_BLOCKS_H

#include <stdint.h>

#include "core/half.h"

#define MIXT_SUPER 256 /* elements of a K block */

/* Element j and j + 16 share byte j (low half, high half) in all blocks of 32 below. */
typedef struct mixt_q4_0_block { /* d * (q - 8) */
    uint16_t d;
    uint8_t q[16];
} mixt_q4_0_block;

typedef struct mixt_q4_1_block { /* d * q + m */
    uint16_t d, m;
    uint8_t q[16];
} mixt_q4_1_block;

typedef struct mixt_q5_0_block { /* d * (q - 16); bit j of `high` is the fifth bit of element j */
    uint16_t d;
    uint8_t high[4];
    uint8_t q[16];
} mixt_q5_0_block;

typedef struct mixt_q5_1_block { /* d * q + m */
    uint16_t d, m;
    uint8_t high[4];
    uint8_t q[16];
} mixt_q5_1_block;

typedef struct mixt_q8_0_block { /* d * q */
    uint16_t d;
    int8_t q[32];
} mixt_q8_0_block;

typedef struct mixt_iq4_nl_block { /* d * mixt_iq4_values[q] */
    uint16_t d;
    uint8_t q[16];
} mixt_iq4_nl_block;

typedef struct mixt_mxfp4_block { /* 2^(exponent - 128) * mixt_mxfp4_values[q] */
    uint8_t exponent;
    uint8_t q[16];
} mixt_mxfp4_block;

/* 16 groups of 16: d * (scale & 15) * q - min_d * (scale >> 4). Byte 32 h + l of q holds the
 * elements 128 h + 32 j + l, two bits each, at bit 2 j. */
typedef struct mixt_q2_k_block {
    uint8_t scales[16];
    uint8_t q[64];
    uint16_t d, min_d;
} mixt_q2_k_block;

/* 16 groups of 16: d * (scale - 32) * (q - 4). Low two bits as in Q2_K; the third bit of element
 * 32 j + l is bit j of high[l]. */
typedef struct mixt_q3_k_block {
    uint8_t high[32];
    uint8_t q[64];
    uint8_t scales[12];
    uint16_t d;
} mixt_q3_k_block;

/* 8 groups of 32: d * scale * q - min_d * min. Byte 32 p + l of q holds element 64 p + l (low
 * half) and 64 p + 32 + l (high half). */
typedef struct mixt_q4_k_block {
    uint16_t d, min_d;
    uint8_t scales[12];
    uint8_t q[128];
} mixt_q4_k_block;

/* The same; the fifth bit of element 32 j + l is bit j of high[l]. */
typedef struct mixt_q5_k_block {
    uint16_t d, min_d;
    uint8_t scales[12];
    uint8_t high[32];
    uint8_t q[128];
} mixt_q5_k_block;

/* 16 groups of 16: d * scale * (q - 32). Halves h of 128: byte 64 h + l of q holds the low four
 * bits of element 128 h + l and, above, of 128 h + 64 + l (l < 64); byte 32 h + l of `high` holds
 * the upper two bits of the elements 128 h + 32 j + l at bit 2 j. */
typedef struct mixt_q6_k_block {
    uint8_t q[128];
    uint8_t high[64];
    int8_t scales[16];
    uint16_t d;
} mixt_q6_k_block;

/* 8 groups of 32, each laid out as IQ4_NL: d * (scale - 32) * mixt_iq4_values[q]. Low four bits of
 * the scales in pairs, upper two in `scales_high`, group 0 lowest. */
typedef struct mixt_iq4_xs_block {
    uint16_t d;
    uint16_t scales_high;
    uint8_t scales_low[4];
    uint8_t q[128];
} mixt_iq4_xs_block;

/* Types with codebooks (quant/grids.h). Groups of 32, four eights each; a value is d (2 scale + 1)
 * grid times a factor: 1/8 (IQ2), 1/4 (IQ3_XXS), 1 (IQ3_S). */

/* The four words of a group: four entries of eight bits; four times seven signs and, above them, a
 * scale of four bits. */
typedef struct mixt_iq2_xxs_block {
    uint16_t d;
    uint16_t q[32];
} mixt_iq2_xxs_block;

/* An entry in the low nine bits, seven signs above; a scale of four bits for each 16 values. */
typedef struct mixt_iq2_xs_block {
    uint16_t d;
    uint16_t q[32];
    uint8_t scales[8];
} mixt_iq2_xs_block;

/* Ten bits of an entry, the upper two in `high`; eight signs. */
typedef struct mixt_iq2_s_block {
    uint16_t d;
    uint8_t q[32];
    uint8_t signs[32];
    uint8_t high[8];
    uint8_t scales[8];
} mixt_iq2_s_block;

/* Entries of four values; signs and scale of a group as in IQ2_XXS. */
typedef struct mixt_iq3_xxs_block {
    uint16_t d;
    uint8_t q[64];
    uint8_t signs[32];
} mixt_iq3_xxs_block;

/* Nine bits of an entry, the upper one in `high`; a scale of four bits for each 32 values. */
typedef struct mixt_iq3_s_block {
    uint16_t d;
    uint8_t q[64];
    uint8_t high[8];
    uint8_t signs[32];
    uint8_t scales[4];
} mixt_iq3_s_block;

/* d (2 scale + 1) (grid +- 1/8). A word of `high` has three bits of each of its group's four
 * entries, the scale (three bits) and, highest, whether the eighth is taken away. */
typedef struct mixt_iq1_s_block {
    uint16_t d;
    uint8_t q[32];
    uint16_t high[8];
} mixt_iq1_s_block;

/* The same with a scale for each 16 values (four of three bits in a word of `scales`) and a sign of
 * the eighth for each eight (bits 3 and 7 of `high`); d lies in the upper four bits of the words.
 */
typedef struct mixt_iq1_m_block {
    uint8_t q[32];
    uint8_t high[16];
    uint16_t scales[4];
} mixt_iq1_m_block;

/* d * (-1, 0 or 1). A byte holds five digits of base 3 (four in `rest`), as the fraction 256 / 243
 * of their number: the highest is what is carried when the byte is multiplied by 3. */
typedef struct mixt_tq1_0_block {
    uint8_t q[48];
    uint8_t rest[4];
    uint16_t d;
} mixt_tq1_0_block;

/* d * (q - 1), laid out as in Q2_K. */
typedef struct mixt_tq2_0_block {
    uint8_t q[64];
    uint16_t d;
} mixt_tq2_0_block;

/* Four groups of 16: a scale (E4M3 without sign) times mixt_mxfp4_values[q] / 2; byte 8 g + j holds
 * the elements 16 g + j and 16 g + 8 + j. */
typedef struct mixt_nvfp4_block {
    uint8_t scales[4];
    uint8_t q[32];
} mixt_nvfp4_block;

typedef struct mixt_q1_0_block { /* d or, where the bit is not set, -d */
    uint16_t d;
    uint8_t q[16];
} mixt_q1_0_block;

typedef struct mixt_q2_0_block { /* d * (q - 1), four values a byte */
    uint16_t d;
    uint8_t q[16];
} mixt_q2_0_block;

_Static_assert(sizeof(mixt_iq2_xxs_block) == 66 && sizeof(mixt_iq2_xs_block) == 74, "IQ2");
_Static_assert(sizeof(mixt_iq2_s_block) == 82 && sizeof(mixt_iq3_xxs_block) == 98, "IQ2_S, IQ3");
_Static_assert(sizeof(mixt_iq3_s_block) == 110 && sizeof(mixt_iq1_s_block) == 50, "IQ3_S, IQ1_S");
_Static_assert(sizeof(mixt_iq1_m_block) == 56 && sizeof(mixt_tq1_0_block) == 54, "IQ1_M, TQ1_0");
_Static_assert(sizeof(mixt_tq2_0_block) == 66 && sizeof(mixt_nvfp4_block) == 36, "TQ2_0, NVFP4");
_Static_assert(sizeof(mixt_q1_0_block) == 18 && sizeof(mixt_q2_0_block) == 18, "Q1_0, Q2_0");
_Static_assert(sizeof(mixt_q4_0_block) == 18 && sizeof(mixt_q4_1_block) == 20, "Q4");
_Static_assert(sizeof(mixt_q5_0_block) == 22 && sizeof(mixt_q5_1_block) == 24, "Q5");
_Static_assert(sizeof(mixt_q8_0_block) == 34 && sizeof(mixt_iq4_nl_block) == 18, "Q8_0, IQ4_NL");
_Static_assert(sizeof(mixt_q2_k_block) == 84 && sizeof(mixt_q3_k_block) == 110, "Q2_K, Q3_K");
_Static_assert(sizeof(mixt_q4_k_block) == 144 && sizeof(mixt_q5_k_block) == 176, "Q4_K, Q5_K");
_Static_assert(sizeof(mixt_q6_k_block) == 210 && sizeof(mixt_iq4_xs_block) == 136, "Q6_K, IQ4_XS");
_Static_assert(sizeof(mixt_mxfp4_block) == 17, "MXFP4");

extern const int8_t mixt_iq4_values[16];
extern const int8_t mixt_mxfp4_values[16]; /* twice the E2M1 values */

/* Scale (0 to 63) and minimum (0 to 63) of group j (0 to 7) of Q4_K and Q5_K. */
static inline void mixt_k_scale(const uint8_t scales[12], int j, int *scale, int *min)
{
    if (j < 4) {
        *scale = scales[j] & 63;
        *min = scales[j + 4] & 63;
    } else {
        *scale = (scales[j + 4] & 15) | (scales[j - 4] >> 6 << 4);
        *min = (scales[j + 4] >> 4) | (scales[j] >> 6 << 4);
    }
}

/* Scale (-32 to 31) of group j (0 to 15) of Q3_K. */
static inline int mixt_q3_k_scale(const uint8_t scales[12], int j)
{
    int low = j < 8 ? scales[j] & 15 : scales[j - 8] >> 4;
    int high = scales[8 + j % 4] >> 2 * (j / 4) & 3;
    return (low | high << 4) - 32;
}

/* Scale (-32 to 31) of group j (0 to 7) of IQ4_XS. */
static inline int mixt_iq4_xs_scale(const mixt_iq4_xs_block *block, int j)
{
    int low = block->scales_low[j / 2] >> 4 * (j % 2) & 15;
    int high = block->scales_high >> 2 * j & 3;
    return (low | high << 4) - 32;
}

/* 2^(exponent - 128), the unit of mixt_mxfp4_values; the two smallest are subnormal. */
static inline float mixt_mxfp4_scale(uint8_t exponent)
{
    return mixt_float_of_bits(exponent < 2 ? 0x00200000u << exponent
                                           : (uint32_t)(exponent - 1) << 23);
}

/* The half of an IQ1_M block, from the upper bits of its four words. */
static inline uint16_t mixt_iq1_m_half(const mixt_iq1_m_block *block)
{
    return (uint16_t)(block->scales[0] >> 12 | (block->scales[1] >> 8 & 0xF0) |
                      (block->scales[2] >> 4 & 0xF00) | (block->scales[3] & 0xF000));
}

/* A scale of NVFP4, halved: the unit of mixt_mxfp4_values. The number that the standard calls NaN
 * is 0, as in ggml. */
static inline float mixt_nvfp4_scale(uint8_t scale)
{
    int exponent = scale >> 3 & 15, mantissa = scale & 7;
    if (scale == 0x7F) {
        return 0;
    }
    return exponent == 0
               ? (float)mantissa * 0x1p-10F
               : mixt_float_of_bits((uint32_t)(exponent + 119) << 23 | (uint32_t)mantissa << 20);
}

#endif
