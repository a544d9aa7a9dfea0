/* Codebook types (IQ1 to IQ3) with lines, registers of 64 bytes of one row: the values of a block,
 * their signs and scales, which one token is multiplied by (quant_rows_multiples.h) and panels are
 * made of (quant_multiples.h). Entries of codebooks are looked up as codes of two or four bits a
 * value, so that the tables are small. */
#if QUANT_LANES == 16
#include "backend/cpu/avx512_quant_rows.h"
#else
#include "backend/cpu/avx2_quant_rows.h"
#endif

#define LOW_HALVES(x) line_and(x, low)
#define HIGH_HALVES(x) line_and(line_srl16(x, 4), low)

/* 256 values of a block in the order of their codes: byte b of line j is value 4 b + j, and so a
 * dword belongs to 16 values. */
typedef struct codebook_values {
    line w[4];   /* magnitudes */
    line signs;  /* of the four values in each byte, in its upper half */
    line less;   /* IQ1, in place of signs: values are 8 w + less, which is of words */
    line scales; /* of dwords: what products are multiplied by */
} codebook_values;

/* A scale for each 16 values, as it multiplies dwords of products. */
#ifdef QUANT_DOTS
#define scale_words(x) line_dwords4(x, x, x, x)
#define SCALE_FROM(b) (int)((uint32_t)(b) | 0x80808000U)
#else
#define scale_words(x) line_words((short)(x))
#define SCALE_FROM(b) (int)((uint32_t)(b)*0x00010001U | 0x80008000U)
#endif

/* Signs of eight values, a word each, as codebook_values has them: bits 8 to 15 of `upper` are the
 * last four of a word, bits 4 to 7 of `lower` its first four. Other bits may be anything, but each
 * byte is odd. */
INLINE line spread_signs(line upper, line lower, line odd)
{
    return line_or(line_or(upper, odd), line_and(lower, line_words(0xF0)));
}

/* Of seven signs from bit 8 on of each word; the eighth makes their number even. */
INLINE line spread_sevens(line x)
{
    const line parity = line_dwords4((int)0x01818101, (int)0x81010181, (int)0x81010181, 0x01818101);
    x = line_and(x, line_words(0x7F00));
    line lower = line_srl16(x, 4);
    line odd = line_shuffle8(parity, line_and(line_xor(x, lower), line_words(0x0F00)));
    return spread_signs(x, lower, odd);
}

/* Of eight signs in the low byte of each word. */
INLINE line spread_eights(line x)
{
    return spread_signs(line_sll16(x, 8), line_sll16(x, 4), line_words(0x0101));
}

/* Signs and scales of eights of groups of 32, which take a dword from byte `at` on of every eight:
 * seven signs of four eights and, above them, a scale of four bits. */
INLINE line signs_of_sevens(line x, const int at)
{
    const line words = line_dwords4(0x01000100 + BYTES(at), 0x03020201 + BYTES(at),
                                    0x09080908 + BYTES(at), 0x0B0A0A09 + BYTES(at));
    const line powers = line_dwords4(0x00020100, 0x00080004, 0x00020100, 0x00080004);
    return spread_sevens(line_mullo16(line_shuffle8(x, words), powers));
}

/* 2 scale + 1, where bits 3 to 6 of words (of dwords: QUANT_DOTS) are 0, 0, .. or the scale. */
INLINE line odd_scales(line x, const int mask)
{
    return line_or(line_and(line_srl16(x, 3), scale_words(mask)), scale_words(1));
}

INLINE line scales_of_sevens(line x, const int at)
{
    const int first = SCALE_FROM(at + 3), second = SCALE_FROM(at + 11);
    return odd_scales(line_shuffle8(x, line_dwords4(first, first, second, second)), 0x1E);
}

/* Four bytes of two scales each, as eight where each scale is there twice. */
INLINE __m128i nibbles_twice(const uint8_t *from)
{
    int32_t four;
    memcpy(&four, from, sizeof four);
    __m128i x = _mm_cvtsi32_si128(four), high = _mm_set1_epi8((char)0xF0);
    __m128i first = _mm_andnot_si128(high, x), second = _mm_and_si128(x, high);
    first = _mm_or_si128(first, _mm_slli_epi16(first, 4));
    second = _mm_or_si128(second, _mm_srli_epi16(second, 4));
    return _mm_unpacklo_epi8(first, second);
}

/* 2 scale + 1 of sixteen scales of four bits. */
INLINE line scales_of_nibbles(__m128i x)
{
    const __m128i low = _mm_set1_epi8(15);
    x = _mm_unpacklo_epi8(_mm_and_si128(x, low), _mm_and_si128(_mm_srli_epi16(x, 4), low));
    return line_of_scales(_mm_add_epi8(_mm_add_epi8(x, x), _mm_set1_epi8(1)));
}

/* Four of eight values, two bits each, of which the table has the magnitudes. */
INLINE void put_twos(line codes, line w[4])
{
    const line low = line_bytes(15);
    const line even = line_dwords4(0x002B1908, 0x002B1908, 0x002B1908, 0x002B1908);
    const line odd = line_dwords4(BYTES(8), BYTES(25), BYTES(43), 0);
    line first = LOW_HALVES(codes), second = HIGH_HALVES(codes);
    w[0] = line_shuffle8(even, first);
    w[1] = line_shuffle8(odd, first);
    w[2] = line_shuffle8(even, second);
    w[3] = line_shuffle8(odd, second);
}

/* Words of four values, four bits each with the highest zero: of entries 0 to 7, 16 to 23, ... and
 * of the others. */
INLINE void put_threes(const line codes[2], line table, line w[4])
{
    const line low = line_words(255);
    line first = line_pack16(line_and(codes[0], low), line_and(codes[1], low));
    line second = line_pack16(line_srl16(codes[0], 8), line_srl16(codes[1], 8));
    w[0] = line_shuffle8(table, first);
    w[1] = line_shuffle8(table, line_srl16(first, 4));
    w[2] = line_shuffle8(table, second);
    w[3] = line_shuffle8(table, line_srl16(second, 4));
}

/* What a byte of `high` has for four words each: two bits to bit 8. */
INLINE line tenth_bits(const uint8_t *high)
{
    const line four =
        line_dwords4((int)0x80008000, (int)0x80008000, (int)0x80088008, (int)0x80088008);
    const line powers = line_dwords4(0x00400100, 0x00040010, 0x00400100, 0x00040010);
    line x = line_mullo16(line_shuffle8(line_qwords_of_bytes(high), four), powers);
    return line_and(x, line_words(0x300));
}

/* Codes of 32 entries of eight values. */
INLINE void codes_of_eights(const mixt_type type, const uint8_t *at, const mixt_grids *grids,
                            line *codes)
{
    if (type == MIXT_TYPE_IQ2_XXS) {
        const line bytes =
            line_dwords4((int)0x80018000, (int)0x80038002, (int)0x80098008, (int)0x800B800A);
        line index = line_shuffle8(line_load(at + 2), bytes);
        codes[0] = line_look_up(grids->iq2_xxs_codes, 256, index);
    } else if (type == MIXT_TYPE_IQ2_XS) {
        line index = line_and(line_load(at + 2), line_words(511));
        codes[0] = line_look_up(grids->iq2_xs_codes, 512, index);
    } else {
        const mixt_iq2_s_block *block = (const void *)at;
        line index = line_or(line_wide(block->q), tenth_bits(block->high));
        codes[0] = line_look_up(grids->iq2_s_codes, 1024, index);
    }
}

/* What a byte of `high` has for the eight words of a quarter, a bit each, to bit 8; `odd`: the
 * second byte for the quarter. */
INLINE line ninth_bits(const uint8_t *high, const bool odd)
{
    const int more = odd ? 0x00010001 : 0;
    const line bytes = line_quarters((int)0x80008000 + more, (int)0x80028002 + more,
                                     (int)0x80048004 + more, (int)0x80068006 + more);
    const line powers = line_dwords4(0x00800100, 0x00200040, 0x00080010, 0x00020004);
    line x = line_mullo16(line_shuffle8(line_broadcast64(high), bytes), powers);
    return line_and(x, line_words(0x100));
}

/* Codes of 64 entries of four values: of the first eight of each sixteen, and of the others. */
INLINE void codes_of_fours(const mixt_type type, const uint8_t *at, const mixt_grids *grids,
                           line codes[2])
{
    line q = line_load(at + 2), first = line_unpack_low8(q), second = line_unpack_high8(q);
    if (type == MIXT_TYPE_IQ3_XXS) {
        codes[0] = line_look_up(grids->iq3_xxs_codes, 256, first);
        codes[1] = line_look_up(grids->iq3_xxs_codes, 256, second);
        return;
    }
    const uint8_t *high = ((const mixt_iq3_s_block *)(const void *)at)->high;
    codes[0] = line_look_up(grids->iq3_s_codes, 512, line_or(first, ninth_bits(high, false)));
    codes[1] = line_look_up(grids->iq3_s_codes, 512, line_or(second, ninth_bits(high, true)));
}

/* IQ2 */
INLINE void values_of_twos(const mixt_type type, const uint8_t *at, const mixt_grids *grids,
                           codebook_values *to)
{
    line codes;
    codes_of_eights(type, at, grids, &codes);
    put_twos(codes, to->w);
    if (type == MIXT_TYPE_IQ2_XXS) {
        line q = line_load(at + 2);
        to->signs = signs_of_sevens(q, 4);
        to->scales = scales_of_sevens(q, 4);
    } else if (type == MIXT_TYPE_IQ2_XS) {
        to->signs = spread_sevens(line_srl16(line_load(at + 2), 1));
        to->scales = scales_of_nibbles(_mm_loadl_epi64((const void *)(at + 66)));
    } else {
        to->signs = spread_eights(line_wide(((const mixt_iq2_s_block *)(const void *)at)->signs));
        to->scales = scales_of_nibbles(_mm_loadl_epi64((const void *)(at + 74)));
    }
}

/* IQ3 */
INLINE void values_of_threes(const mixt_type type, const uint8_t *at, const mixt_grids *grids,
                             codebook_values *to)
{
    static const int8_t even[16] = {4, 12, 20, 28, 36, 44, 52, 62};
    static const int8_t odd[16] = {1, 3, 5, 7, 9, 11, 13, 15};
    line codes[2];
    codes_of_fours(type, at, grids, codes);
    put_threes(codes, line_table(type == MIXT_TYPE_IQ3_XXS ? even : odd), to->w);
    if (type == MIXT_TYPE_IQ3_XXS) {
        line x = line_qwords_of_dwords(at + 66);
        to->signs = signs_of_sevens(x, 0);
        to->scales = scales_of_sevens(x, 0);
    } else {
        const mixt_iq3_s_block *block = (const void *)at;
        to->signs = spread_eights(line_wide(block->signs));
        to->scales = scales_of_nibbles(nibbles_twice(block->scales));
    }
}

/* The words of `high` that four entries of IQ1_S share, and the bytes that two of IQ1_M do. */
INLINE line highs_of_ones(const mixt_type type, const uint8_t *at)
{
    if (type == MIXT_TYPE_IQ1_S) {
        const line four = line_dwords4(0x01000100, 0x01000100, 0x09080908, 0x09080908);
        return line_shuffle8(line_qwords_of_words(at + 34), four);
    }
    const line two =
        line_dwords4((int)0x80008000, (int)0x80048004, (int)0x80088008, (int)0x800C800C);
    return line_shuffle8(line_dwords_of_bytes(at + 32), two);
}

INLINE void codes_of_ones(const mixt_type type, const uint8_t *at, const mixt_grids *grids,
                          line *codes)
{
    const bool s = type == MIXT_TYPE_IQ1_S;
    const line by_four = line_dwords4(0x00400200, 0x00010008, 0x00400200, 0x00010008);
    const line by_two = line_dwords4(0x00200200, 0x00200200, 0x00200200, 0x00200200);
    line high = line_mullo16(highs_of_ones(type, at), s ? by_four : by_two);
    high = line_srl16(line_and(high, line_words(0x0E00)), 1);
    codes[0] = line_look_up(grids->iq1_codes, 2048, line_or(line_wide(at + (s ? 2 : 0)), high));
}

/* IQ1: 8 g + 1 or 8 g - 1, g = -1, 0, 1; codes are g + 1 */
INLINE void values_of_ones(const mixt_type type, const uint8_t *at, const mixt_grids *grids,
                           codebook_values *to)
{
    const line three = line_bytes(3);
    line high = highs_of_ones(type, at), less, scales, codes;
    codes_of_ones(type, at, grids, &codes);
    if (type == MIXT_TYPE_IQ1_S) {
        less = line_sra16(high, 15);
        scales = line_srl16(high, 11);
    } else {
        const line powers = line_dwords4(0x01001000, 0x01001000, 0x01001000, 0x01001000);
        const line words = line_quarters(0x01000100, 0x03020302, 0x05040504, 0x07060706);
        const line places = line_dwords4(0x02000200, 0x00400040, 0x00080008, 0x00010001);
        less = line_sra16(line_mullo16(high, powers), 15);
        scales = line_shuffle8(line_broadcast64(at + 48), words);
        scales = line_srl16(line_mullo16(scales, places), 8);
    }
    to->scales = line_or(line_and(scales, line_words(0x0E)), line_words(1));
    /* 8 g + 1 is 8 (g + 1) - 7, 8 g - 1 two less */
    to->less = line_add16(line_add16(less, less), line_words(-7));
    UNROLL for (int j = 0; j < 4; j++)
    {
        to->w[j] = line_and(line_srl16(codes, 2 * j), three);
    }
}

INLINE void values_of_block(const mixt_type type, const uint8_t *at, const mixt_grids *grids,
                            codebook_values *to)
{
    if (type == MIXT_TYPE_IQ1_S || type == MIXT_TYPE_IQ1_M) {
        values_of_ones(type, at, grids, to);
    } else if (type == MIXT_TYPE_IQ3_XXS || type == MIXT_TYPE_IQ3_S) {
        values_of_threes(type, at, grids, to);
    } else {
        values_of_twos(type, at, grids, to);
    }
}

/* What a block's scale, which comes first in all but IQ1_M, is multiplied by. */
INLINE float codebook_factor(const mixt_type type)
{
    return type == MIXT_TYPE_IQ3_S ? 1.0F : type == MIXT_TYPE_IQ3_XXS ? 0.25F : 0.125F;
}

/* ------------------------------------------------------------------------------------------ */
/* Panels                                                                                     */

/* The values with their signs, cell by cell: quarter q of line i holds cells 16 q + 4 i to
 * 16 q + 4 i + 3. */
INLINE void put_values(const mixt_type type, const codebook_values *from, int8_t *to)
{
    line x[4];
    UNROLL for (int j = 0; j < 4; j++)
    {
        if (type == MIXT_TYPE_IQ1_S || type == MIXT_TYPE_IQ1_M) {
            const line bytes =
                line_or(line_and(from->less, line_words(255)), line_sll16(from->less, 8));
            x[j] = line_add8(line_sll16(from->w[j], 3), bytes);
        } else {
            x[j] = line_negate(from->w[j], from->signs, j);
        }
    }
    line low[2] = {line_zip_low8(x[0], x[1]), line_zip_low8(x[2], x[3])};
    line high[2] = {line_zip_high8(x[0], x[1]), line_zip_high8(x[2], x[3])};
    line_store(to, line_zip_low16(low[0], low[1]));
    line_store(to + 64, line_zip_high16(low[0], low[1]));
    line_store(to + 128, line_zip_low16(high[0], high[1]));
    line_store(to + 192, line_zip_high16(high[0], high[1]));
}
