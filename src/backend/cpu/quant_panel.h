/* Panels: a step of QUANT_LANES rows of weights with a row in each lane. A cell is four
 * consecutive k of every row as bytes (or two as 16-bit words, `wide` types), so that activations
 * are broadcast four bytes at a time. Rows are read as they lie in the file, sixteen bytes of
 * every row at a time, transposed in registers, and only then taken apart: the same instructions
 * serve all rows. Included by tiers that define before
 *
 *   vi, vf                     QUANT_LANES 32-bit integers, floats
 *   vi_*, vf_*                 operations named after the instructions they are (AVX2's)
 *   load_quads(source, offset, out[4])  dwords offset, + 4, + 8, + 12 of every row
 *
 * and, where they have them,
 *
 *   QUANT_DOTS, vi_dot4(sum, w, x)  four products of bytes added to a 32-bit sum
 *   QUANT_SIGNED               likewise, and bytes of weights may be negative
 *   QUANT_HALVES               products of bytes are summed in a type `vb` of their own
 *   vw                         products of words are summed in a type of their own
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "backend/cpu/unroll.h"
#include "quant/blocks.h"

typedef struct panel {
    vi cells[MIXT_STEP / 2]; /* 64 of four bytes or 128 of two words */
    vi scales[16];           /* of groups, SCALE_OF_BYTE */
    vi pairs[8];             /* two 16-bit words that go with sums over 16 (or 32) */
    vf d[MIXT_STEP_BLOCKS], m[MIXT_STEP_BLOCKS]; /* of blocks of 32, or of 256 in [0] */
} panel;

/* Sums of a group of Q6_K in 16 bits: a weight of 6 bits is 32 more than it stands for, so that it
 * has no sign, and so sums may leave 16 bits on the way; less 32 times the sums of the activations
 * they fit (8 x 32 x 127), and modulo 2^16 it does not matter when those are taken away. */
#if !defined QUANT_DOTS && !defined QUANT_HALVES
#define QUANT_WRAPS
#endif
/* Values of codebooks, ternary ones and those of blocks between 32 and 256 are bytes in a panel. */
#if defined QUANT_DOTS || defined QUANT_WRAPS
#define QUANT_BYTES
#endif

/* Sums of products of bytes on their way to 32 bits, the first and the next ones, times a scale
 * (SCALE_OF_BYTE) or not. */
#ifdef QUANT_DOTS
typedef vi vb;
#define vb_zero() vi_zero()
#define vb_next(part, w, x) vi_dot4(part, w, x)
#define vb_scaled(total, part, scale) vi_add32(total, vi_mullo32(part, scale))
#define vb_added(total, part) vi_add32(total, part)
#elif !defined QUANT_HALVES
typedef vi vb;
#define vb_zero() vi_zero()
#define vb_first(w, x) vi_maddubs(w, x)
#define vb_next(part, w, x) vi_add16(part, vi_maddubs(w, x))
#define vb_scaled(total, part, scale) vi_add32(total, vi_madd(part, scale))
#define vb_added(total, part) vb_scaled(total, part, vi_set32(0x00010001))
#endif

/* Sums of products of words. */
#ifndef vw_next
typedef vi vw;
#define vw_zero() vi_zero()
#define vw_next(sum, w, x) vi_dpwssd(sum, w, x)
#define vw_sum(sum) (sum)
#endif

/* Where products of bytes are summed in 32 bits, weights that need eight bits and their sign are
 * bytes too: as they are where bytes have signs, else 128 more, and 128 times the sum of the
 * activations is taken away. */
#ifdef QUANT_SIGNED
#define BYTE_BIAS 0
#else
#define BYTE_BIAS 128
#endif

#define LOW_NIBBLES 0x0F0F0F0F
#define BYTES(b) ((b)*0x01010101)

/* In-lane shuffles of the bytes of a dword; 0x80 gives zero. */
#define SPREAD(b0, b1, b2, b3)                                                                     \
    vi_set32(                                                                                      \
        (int)((uint32_t)(b0) | (uint32_t)(b1) << 8 | (uint32_t)(b2) << 16 | (uint32_t)(b3) << 24))
#define NONE 0x80

/* A byte of every dword, without or with sign, as what multiplies sums of a group: twice as a
 * 16-bit word, or once in 32 bits where sums are that wide. */
#if defined QUANT_DOTS || defined QUANT_HALVES
#define SCALE_OF_BYTE(x, b) vi_pick(x, b, NONE, NONE, NONE)
#define SCALE_OF_SIGNED_BYTE(x, b) vi_sra32(vi_pick(x, NONE, NONE, NONE, b), 24)
#else
#define SCALE_OF_BYTE(x, b) vi_pick(x, b, NONE, b, NONE)
#define SCALE_OF_SIGNED_BYTE(x, b) vi_sra16(vi_pick(x, NONE, b, NONE, b), 8)
#endif

/* Bytes b0 to b3 of each dword. Shuffles work within 128 bits: the index of dword i is 4 i + b. */
INLINE vi vi_pick(vi x, const int b0, const int b1, const int b2, const int b3)
{
    const uint32_t one = (uint32_t)b0 | (uint32_t)b1 << 8 | (uint32_t)b2 << 16 | (uint32_t)b3 << 24;
    return vi_shuffle8(x, vi_set_quads((int)one, (int)(one + 0x04040404U), (int)(one + 0x08080808U),
                                       (int)(one + 0x0C0C0C0CU)));
}

/* Rows that come later lie behind these in memory. They are fetched in rising order, which the
 * hardware's prefetcher follows, and at an even pace, half of them here and half in the tiles:
 * more at a time than the line fill buffers hold would stall what is computed meanwhile. */
INLINE void fetch_ahead(source *from, const size_t bytes)
{
    if (from->ahead != NULL) {
        for (size_t at = 0; at < bytes / 2; at += 64) {
            __builtin_prefetch(from->ahead + at, 0, 2);
        }
        from->ahead += bytes / 2;
    }
}

/* load_quads of blocks of 256: all but a few of their bytes are loaded so. */
INLINE void next_quads(source *from, size_t offset, vi out[4])
{
    fetch_ahead(from, (size_t)16 * QUANT_LANES);
    load_quads(from, offset, out);
}

/* Where no panel is written, all of what comes is fetched here, in the order in which it lies in
 * memory. */
INLINE void fetch_stream(source *from, const size_t bytes)
{
    UNROLL for (size_t at = 0; at < bytes; at += 64)
    {
        __builtin_prefetch(from->ahead + at, 0, 2);
    }
    from->ahead += bytes;
}

INLINE void stream_quads(source *from, size_t offset, vi out[4])
{
    fetch_stream(from, (size_t)16 * QUANT_LANES);
    load_quads(from, offset, out);
}

/* The dword at `offset` of every row, which 16 bytes of the row lie around: 12 before it or behind
 * it. (Collected one by one through memory, the lanes would wait for the stores to retire.) */
INLINE vi load_first(const source *from, size_t offset)
{
    vi out[4];
    load_quads(from, offset, out);
    return out[0];
}

INLINE vi load_last(const source *from, size_t offset)
{
    vi out[4];
    load_quads(from, offset - 12, out);
    return out[3];
}

/* ------------------------------------------------------------------------------------------ */
/* Blocks of 256                                                                              */

/* x & mask | y */
#define AND_OR(x, mask, y) vi_or(vi_and(x, vi_set32(mask)), y)

static void unpack_q2_k(source *from, panel *to)
{
    vi bytes[4], q[16], halves = load_last(from, 80);
    to->d[0] = vf_half(halves);
    to->m[0] = vf_negate(vf_half(vi_srl32(halves, 16)));
    next_quads(from, 0, bytes);
    UNROLL for (int i = 0; i < 4; i++)
    {
        vi scale = vi_and(bytes[i], vi_set32(LOW_NIBBLES));
        vi min = vi_and(vi_srl32(bytes[i], 4), vi_set32(LOW_NIBBLES));
        to->scales[4 * i] = SCALE_OF_BYTE(scale, 0);
        to->scales[4 * i + 1] = SCALE_OF_BYTE(scale, 1);
        to->scales[4 * i + 2] = SCALE_OF_BYTE(scale, 2);
        to->scales[4 * i + 3] = SCALE_OF_BYTE(scale, 3);
        to->pairs[2 * i] = vi_pick(min, 0, NONE, 1, NONE);
        to->pairs[2 * i + 1] = vi_pick(min, 2, NONE, 3, NONE);
        next_quads(from, (size_t)(16 + 16 * i), q + 4 * i);
    }
    UNROLL for (int i = 0; i < 16; i++)
    {
        vi *cells = to->cells + i / 8 * 32 + i % 8;
        UNROLL for (int j = 0; j < 4; j++)
        {
            cells[8 * j] = vi_and(vi_srl32(q[i], 2 * j), vi_set32(BYTES(3)));
        }
    }
}

/* Sixteen scales of 6 bits with a sign, four bytes a lane, from the last 18 bytes of Q3_K. */
INLINE void q3_scales(const vi head[4], vi scale[4])
{
    const vi three = vi_set32(BYTES(3)), low = vi_set32(LOW_NIBBLES);
    vi a = head[1], b = head[2], c = head[3];
    scale[0] = vi_or(vi_and(a, low), vi_sll32(vi_and(c, three), 4));
    scale[1] = vi_or(vi_and(b, low), vi_sll32(vi_and(vi_srl32(c, 2), three), 4));
    scale[2] = vi_or(vi_and(vi_srl32(a, 4), low), vi_sll32(vi_and(vi_srl32(c, 4), three), 4));
    scale[3] = vi_or(vi_and(vi_srl32(b, 4), low), vi_sll32(vi_and(vi_srl32(c, 6), three), 4));
    UNROLL for (int i = 0; i < 4; i++)
    {
        scale[i] = vi_sub8(scale[i], vi_set32(BYTES(32)));
    }
}

static void unpack_q3_k(source *from, panel *to)
{
    vi head[4], scale[4], high[8], q[16];
    next_quads(from, 92, head);
    const vi three = vi_set32(BYTES(3));
    q3_scales(head, scale);
    to->d[0] = vf_half(vi_srl32(load_last(from, 106), 16));
    UNROLL for (int i = 0; i < 4; i++)
    {
        vi x = scale[i];
        to->scales[4 * i] = SCALE_OF_SIGNED_BYTE(x, 0);
        to->scales[4 * i + 1] = SCALE_OF_SIGNED_BYTE(x, 1);
        to->scales[4 * i + 2] = SCALE_OF_SIGNED_BYTE(x, 2);
        to->scales[4 * i + 3] = SCALE_OF_SIGNED_BYTE(x, 3);
        /* scale << 8, down to scale * 4, negated */
        to->pairs[2 * i] = vi_sub16(vi_zero(), vi_sra16(vi_pick(x, NONE, 0, NONE, 1), 6));
        to->pairs[2 * i + 1] = vi_sub16(vi_zero(), vi_sra16(vi_pick(x, NONE, 2, NONE, 3), 6));
        next_quads(from, (size_t)(32 + 16 * i), q + 4 * i);
    }
    next_quads(from, 0, high);
    next_quads(from, 16, high + 4);
    UNROLL for (int i = 0; i < 16; i++)
    {
        vi *cells = to->cells + i / 8 * 32 + i % 8;
        vi bits = vi_srl32(high[i % 8], i / 8 * 4);
        UNROLL for (int j = 0; j < 4; j++)
        {
            vi two = vi_and(vi_srl32(q[i], 2 * j), three);
            vi third = j < 2 ? vi_sll32(bits, 2 - j) : vi_srl32(bits, j - 2);
            cells[8 * j] = AND_OR(third, BYTES(4), two);
        }
    }
}

/* Scales and minima of Q4_K and Q5_K: four bytes of each row in a vector. */
typedef struct k_head {
    vi scale[2], min[2];
    vf d, m;
} k_head;

INLINE k_head k_head_of(const vi head[4])
{
    vi a = head[1], b = head[2], c = head[3];
    const vi low = vi_set32(LOW_NIBBLES), six = vi_set32(BYTES(63));
    return (k_head){
        {vi_and(a, six), AND_OR(vi_srl32(a, 2), BYTES(48), vi_and(c, low))},
        {vi_and(b, six), AND_OR(vi_srl32(b, 2), BYTES(48), vi_and(vi_srl32(c, 4), low))},
        vf_half(head[0]),
        vf_negate(vf_half(vi_srl32(head[0], 16))),
    };
}

INLINE void unpack_k_head(source *from, panel *to)
{
    vi quads[4];
    next_quads(from, 0, quads);
    k_head head = k_head_of(quads);
    to->d[0] = head.d;
    to->m[0] = head.m;
    UNROLL for (int i = 0; i < 2; i++)
    {
        to->scales[4 * i] = SCALE_OF_BYTE(head.scale[i], 0);
        to->scales[4 * i + 1] = SCALE_OF_BYTE(head.scale[i], 1);
        to->scales[4 * i + 2] = SCALE_OF_BYTE(head.scale[i], 2);
        to->scales[4 * i + 3] = SCALE_OF_BYTE(head.scale[i], 3);
        to->pairs[2 * i] = vi_pick(head.min[i], 0, NONE, 1, NONE);
        to->pairs[2 * i + 1] = vi_pick(head.min[i], 2, NONE, 3, NONE);
    }
}

static void unpack_q4_k(source *from, panel *to)
{
    unpack_k_head(from, to);
    const vi low = vi_set32(LOW_NIBBLES);
    for (int i = 0; i < 8; i++) { /* 16 bytes: 16 of the low halves, 16 of the high ones */
        vi q[4], *cells = to->cells + i / 2 * 16 + i % 2 * 4;
        next_quads(from, (size_t)(16 + 16 * i), q);
        UNROLL for (int j = 0; j < 4; j++)
        {
            cells[j] = vi_and(q[j], low);
            cells[j + 8] = vi_and(vi_srl32(q[j], 4), low);
        }
    }
}

static void unpack_q5_k(source *from, panel *to)
{
    unpack_k_head(from, to);
    const vi low = vi_set32(LOW_NIBBLES);
    vi high[8];
    next_quads(from, 16, high);
    next_quads(from, 32, high + 4);
    for (int i = 0; i < 4; i++) {
        vi q[8], *cells = to->cells + 16 * i;
        next_quads(from, (size_t)(48 + 32 * i), q);
        next_quads(from, (size_t)(64 + 32 * i), q + 4);
        UNROLL for (int j = 0; j < 8; j++)
        {
            cells[j] = AND_OR(vi_sll32(high[j], 4), BYTES(16), vi_and(q[j], low));
            cells[j + 8] = AND_OR(vi_sll32(high[j], 3), BYTES(16), vi_and(vi_srl32(q[j], 4), low));
            high[j] = vi_srl32(high[j], 2);
        }
    }
}

static void unpack_q6_k(source *from, panel *to)
{
    vi scale[4];
    const vi low = vi_set32(LOW_NIBBLES);
    to->d[0] = vf_half(vi_srl32(load_last(from, 206), 16));
    next_quads(from, 192, scale);
    UNROLL for (int i = 0; i < 4; i++)
    {
        vi x = scale[i];
        to->scales[4 * i] = SCALE_OF_SIGNED_BYTE(x, 0);
        to->scales[4 * i + 1] = SCALE_OF_SIGNED_BYTE(x, 1);
        to->scales[4 * i + 2] = SCALE_OF_SIGNED_BYTE(x, 2);
        to->scales[4 * i + 3] = SCALE_OF_SIGNED_BYTE(x, 3);
#ifndef QUANT_WRAPS
        /* scale << 8, down to scale * 32, negated */
        to->pairs[2 * i] = vi_sub16(vi_zero(), vi_sra16(vi_pick(x, NONE, 0, NONE, 1), 3));
        to->pairs[2 * i + 1] = vi_sub16(vi_zero(), vi_sra16(vi_pick(x, NONE, 2, NONE, 3), 3));
#endif
    }
    for (int i = 0; i < 4; i++) { /* 16 bytes of the upper bits: 64 values */
        vi first[4], second[4], high[4], *cells = to->cells + i / 2 * 32 + i % 2 * 4;
        size_t at = (size_t)(i / 2 * 64 + i % 2 * 16);
        next_quads(from, at, first);
        next_quads(from, at + 32, second);
        next_quads(from, (size_t)(128 + 16 * i), high);
        UNROLL for (int j = 0; j < 4; j++)
        {
            vi bits = high[j];
            cells[j] = AND_OR(vi_sll32(bits, 4), BYTES(48), vi_and(first[j], low));
            cells[j + 8] = AND_OR(vi_sll32(bits, 2), BYTES(48), vi_and(second[j], low));
            cells[j + 16] = AND_OR(bits, BYTES(48), vi_and(vi_srl32(first[j], 4), low));
            cells[j + 24] =
                AND_OR(vi_srl32(bits, 2), BYTES(48), vi_and(vi_srl32(second[j], 4), low));
        }
    }
}

/* Four bytes with sign as a cell of bytes (BYTE_BIAS). */
INLINE vi biased(vi bytes)
{
    return vi_sub8(bytes, vi_set32((int)(BYTE_BIAS * 0x01010101U)));
}

#ifdef QUANT_DOTS
#define IQ4_XS_CELLS 8 /* of a group of 32: bytes, whose scale comes behind the products */
#else
#define IQ4_XS_CELLS 16
#endif

/* A group's cells from four dwords of nibbles. In words they are the table's values times the
 * group's scale: |value scale| <= 127 * 32 fits 16 bits. */
INLINE void unpack_iq4_group(const vi q[4], vi scale, vi *cells)
{
    const vi low = vi_set32(LOW_NIBBLES);
#ifdef QUANT_DOTS
    const vi table = biased(vi_table(mixt_iq4_values));
#else
    const vi table = vi_table(mixt_iq4_values);
    scale = vi_sll32(scale, 24); /* << 8 in both words */
    scale = vi_or(scale, vi_srl32(scale, 16));
#endif
    UNROLL for (int j = 0; j < 4; j++)
    {
        vi first = vi_shuffle8(table, vi_and(q[j], low));
        vi second = vi_shuffle8(table, vi_and(vi_srl32(q[j], 4), low));
#ifdef QUANT_DOTS
        (void)scale;
        cells[j] = first;
        cells[j + 4] = second;
#else
        cells[2 * j] = vi_mulhi16(vi_pick(first, NONE, 0, NONE, 1), scale);
        cells[2 * j + 1] = vi_mulhi16(vi_pick(first, NONE, 2, NONE, 3), scale);
        cells[2 * j + 8] = vi_mulhi16(vi_pick(second, NONE, 0, NONE, 1), scale);
        cells[2 * j + 9] = vi_mulhi16(vi_pick(second, NONE, 2, NONE, 3), scale);
#endif
    }
}

static void unpack_iq4_xs(source *from, panel *to)
{
    vi head[4];
    next_quads(from, 0, head);
    to->d[0] = vf_half(head[0]);
    vi scale_high = vi_srl32(head[0], 16), scale_low = head[1];
    for (int i = 0; i < 8; i++) {
        vi q[4];
        vi scale =
            vi_or(vi_and(scale_low, vi_set32(15)), vi_sll32(vi_and(scale_high, vi_set32(3)), 4));
        scale_low = vi_srl32(scale_low, 4);
        scale_high = vi_srl32(scale_high, 2);
        to->scales[i] = vi_sub32(scale, vi_set32(32));
#if defined QUANT_DOTS && BYTE_BIAS
        vi times = vi_sub32(vi_zero(), vi_sll32(to->scales[i], 7)); /* -BYTE_BIAS */
        to->pairs[i] = vi_or(vi_and(times, vi_set32(0xFFFF)), vi_sll32(times, 16));
#endif
        next_quads(from, (size_t)(8 + 16 * i), q);
        unpack_iq4_group(q, to->scales[i], to->cells + IQ4_XS_CELLS * i);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Blocks of 32: `block` of the step                                                          */

static void unpack_q4_0(source *from, panel *to, int block)
{
    vi q[4], *cells = to->cells + 8 * block;
    const vi low = vi_set32(LOW_NIBBLES);
    to->d[block] = vf_half(load_first(from, 0));
    load_quads(from, 2, q);
    UNROLL for (int j = 0; j < 4; j++)
    {
        cells[j] = vi_and(q[j], low);
        cells[j + 4] = vi_and(vi_srl32(q[j], 4), low);
    }
}

static void unpack_q4_1(source *from, panel *to, int block)
{
    vi q[4], *cells = to->cells + 8 * block, halves = load_first(from, 0);
    const vi low = vi_set32(LOW_NIBBLES);
    to->d[block] = vf_half(halves);
    to->m[block] = vf_half(vi_srl32(halves, 16));
    load_quads(from, 4, q);
    UNROLL for (int j = 0; j < 4; j++)
    {
        cells[j] = vi_and(q[j], low);
        cells[j + 4] = vi_and(vi_srl32(q[j], 4), low);
    }
}

/* Cells of 32 values from nibbles and a dword of fifth bits: bit j is value j's. */
INLINE void unpack_fives(const vi q[4], vi high, vi *cells)
{
    const vi low = vi_set32(LOW_NIBBLES), bits = vi_set32((int)0x80402010U);
    const vi sixteen = vi_set32(BYTES(16));
    UNROLL for (int j = 0; j < 4; j++)
    {
        /* byte j of the bits: four of them for cell 2 j, four for cell 2 j + 1 */
        vi byte = vi_pick(high, j, j, j, j);
        vi even = vi_min_u8(vi_and(vi_sll32(byte, 4), bits), sixteen);
        vi odd = vi_min_u8(vi_and(byte, bits), sixteen);
        vi first = j < 2 ? q[2 * j] : vi_srl32(q[2 * j - 4], 4);
        vi second = j < 2 ? q[2 * j + 1] : vi_srl32(q[2 * j - 3], 4);
        cells[2 * j] = vi_or(vi_and(first, low), even);
        cells[2 * j + 1] = vi_or(vi_and(second, low), odd);
    }
}

/* The dword at 2 of a block whose first two are given. */
INLINE vi fifth_bits(const vi head[4])
{
    return vi_or(vi_srl32(head[0], 16), vi_sll32(head[1], 16));
}

static void unpack_q5_0(source *from, panel *to, int block)
{
    vi head[4], q[4];
    load_quads(from, 0, head);
    to->d[block] = vf_half(head[0]);
    load_quads(from, 6, q);
    unpack_fives(q, fifth_bits(head), to->cells + 8 * block);
}

static void unpack_q5_1(source *from, panel *to, int block)
{
    vi head[4], q[4];
    load_quads(from, 0, head);
    to->d[block] = vf_half(head[0]);
    to->m[block] = vf_half(vi_srl32(head[0], 16));
    load_quads(from, 8, q);
    unpack_fives(q, head[1], to->cells + 8 * block);
}

/* Values + 12, so that no byte is negative. */
static void unpack_mxfp4(source *from, panel *to, int block)
{
    static const int8_t shifted[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};
    vi q[4], *cells = to->cells + 8 * block;
    const vi low = vi_set32(LOW_NIBBLES), table = vi_table(shifted);
    /* 2^(e - 128) as the product of two normal numbers */
    vi e = vi_and(load_first(from, 0), vi_set32(0xFF)), half = vi_srl32(e, 1);
    vi first = vi_sll32(vi_add32(half, vi_set32(64)), 23);
    vi second = vi_sll32(vi_add32(vi_sub32(e, half), vi_set32(62)), 23);
    to->d[block] = vf_multiply(vf_of_bits(first), vf_of_bits(second));
    load_quads(from, 1, q);
    UNROLL for (int j = 0; j < 4; j++)
    {
        cells[j] = vi_shuffle8(table, vi_and(q[j], low));
        cells[j + 4] = vi_shuffle8(table, vi_and(vi_srl32(q[j], 4), low));
    }
}

/* Four bytes with sign as two cells of 16-bit words. */
#ifndef QUANT_SIGNED
INLINE void put_signed(vi bytes, vi cells[2])
{
    cells[0] = vi_sra16(vi_pick(bytes, NONE, 0, NONE, 1), 8);
    cells[1] = vi_sra16(vi_pick(bytes, NONE, 2, NONE, 3), 8);
}
#endif

/* In panels: as one cell where bytes are summed in 32 bits, else as two. */
#ifdef QUANT_DOTS
#define BYTE_CELLS 1
#define put_byte(bytes, cells) ((cells)[0] = biased(bytes))
#else
#define BYTE_CELLS 2
#define put_byte(bytes, cells) put_signed(bytes, cells)
#endif

static void unpack_q8_0(source *from, panel *to, int block)
{
    vi q[8], *cells = to->cells + 8 * BYTE_CELLS * block;
    to->d[block] = vf_half(load_first(from, 0));
    load_quads(from, 2, q);
    load_quads(from, 18, q + 4);
    UNROLL for (int j = 0; j < 8; j++)
    {
        put_byte(q[j], cells + BYTE_CELLS * j);
    }
}

static void unpack_iq4_nl(source *from, panel *to, int block)
{
    vi q[4], *cells = to->cells + 8 * BYTE_CELLS * block;
    const vi low = vi_set32(LOW_NIBBLES), table = vi_table(mixt_iq4_values);
    to->d[block] = vf_half(load_first(from, 0));
    load_quads(from, 2, q);
    UNROLL for (int j = 0; j < 4; j++)
    {
        put_byte(vi_shuffle8(table, vi_and(q[j], low)), cells + BYTE_CELLS * j);
        put_byte(vi_shuffle8(table, vi_and(vi_srl32(q[j], 4), low)), cells + BYTE_CELLS * (j + 4));
    }
}
