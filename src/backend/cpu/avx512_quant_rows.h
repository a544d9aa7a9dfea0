/* Lines with AVX-512: 64 bytes of one row, and what brings sixteen rows together (quant_rows.h). */
#ifndef MIXT_BACKEND_CPU_AVX512_QUANT_ROWS_H
#define MIXT_BACKEND_CPU_AVX512_QUANT_ROWS_H

typedef __m512i line;

#define line_zero() _mm512_setzero_si512()
#define line_bytes(x) _mm512_set1_epi8((char)(x))
#define line_dwords4(a, b, c, d) vi_set_quads(a, b, c, d)
#define line_load(from) _mm512_loadu_si512(from)
#define line_broadcast32(from) vi_broadcast32(from)
#define line_table(bytes) vi_table(bytes)
#define line_and(a, b) _mm512_and_si512(a, b)
#define line_or(a, b) _mm512_or_si512(a, b)
#define line_xor(a, b) _mm512_xor_si512(a, b)
#define line_sub8(a, b) _mm512_sub_epi8(a, b)
#define line_add32(a, b) _mm512_add_epi32(a, b)
#define line_sll32(x, n) _mm512_slli_epi32(x, (unsigned)(n))
#define line_srl16(x, n) _mm512_srli_epi16(x, (unsigned)(n))
#define line_sll16(x, n) _mm512_slli_epi16(x, (unsigned)(n))
#define line_shuffle8(x, index) _mm512_shuffle_epi8(x, index)
#define line_mullo32(a, b) _mm512_mullo_epi32(a, b)
#define line_add16(a, b) _mm512_add_epi16(a, b)
#define line_add8(a, b) _mm512_add_epi8(a, b)
#define line_subs_u8(a, b) _mm512_subs_epu8(a, b)
#define line_min_u8(a, b) _mm512_min_epu8(a, b)
#define line_mullo16(a, b) _mm512_mullo_epi16(a, b)
#define line_mulhi16(a, b) _mm512_mulhi_epi16(a, b)
#define line_zip_low8(a, b) _mm512_unpacklo_epi8(a, b)
#define line_zip_high8(a, b) _mm512_unpackhi_epi8(a, b)
#define line_zip_low16(a, b) _mm512_unpacklo_epi16(a, b)
#define line_zip_high16(a, b) _mm512_unpackhi_epi16(a, b)
#define line_zip_low32(a, b) _mm512_unpacklo_epi32(a, b)
#define line_zip_high32(a, b) _mm512_unpackhi_epi32(a, b)
/* A dword everywhere in each quarter. */
#define line_quarters(a, b, c, d) _mm512_setr_epi32(a, a, a, a, b, b, b, b, c, c, c, c, d, d, d, d)
/* Four dwords in the last quarter, zeros before. */
#define line_last_quarter(a, b, c, d)                                                              \
    _mm512_inserti32x4(_mm512_setzero_si512(), _mm_setr_epi32(a, b, c, d), 3)
#define line_words(x) _mm512_set1_epi16(x)
#define line_abs8(x) _mm512_abs_epi8(x)
/* x, negated where w is negative. */
#define line_sign8(x, w) _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(w), _mm512_setzero_si512(), x)
#define line_madd(a, b) _mm512_madd_epi16(a, b)
#define line_maddubs(a, b) _mm512_maddubs_epi16(a, b)

/* w + value where one of `bits` is set in h. */
INLINE line line_add_bits(line w, line h, line bits, line value)
{
    return _mm512_mask_add_epi8(w, _mm512_test_epi8_mask(h, bits), w, value);
}

/* A dword everywhere in the first 32 bytes, another in the last. */
INLINE line line_two(int first, int second)
{
    return _mm512_inserti64x4(_mm512_set1_epi32(first), _mm256_set1_epi32(second), 1);
}

INLINE line line_of_halves(const void *first, const void *second)
{
    const __m256i *a = first, *b = second;
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(a)), _mm256_loadu_si256(b),
                              1);
}

/* The same 32 bytes twice. */
INLINE line line_twice(const void *from)
{
    return _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)from));
}

/* 16 bytes of each of four places. */
INLINE line line_of_quarters(const uint8_t *from, size_t stride)
{
    return load_quarters(from, stride);
}

/* The dword at each of four places, everywhere in its quarter. */
INLINE line line_broadcast_quarters(const uint8_t *from, size_t stride)
{
    int32_t x[4];
    UNROLL for (int i = 0; i < 4; i++)
    {
        memcpy(&x[i], from + (size_t)i * stride, sizeof x[i]);
    }
    const __m512i quarters = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    return _mm512_permutexvar_epi32(quarters,
                                    _mm512_castsi128_si512(_mm_setr_epi32(x[0], x[1], x[2], x[3])));
}

/* The first words (of blocks of 18 bytes) or bytes (of 17) of the eight blocks of a step. */
typedef struct firsts {
    _Alignas(64) int16_t words[QUANT_LANES][MIXT_STEP_BLOCKS];
} firsts;

/* Which words of a step of eight blocks make two lines of 16 bytes of each of four of them: of
 * blocks 0 to 3 and 4 to 7, or where blocks have an odd number of bytes (17) of the even and of the
 * odd ones; and which are the first of blocks. */
typedef struct fours_index {
    __m512i line[2], first;
} fours_index;

INLINE fours_index index_of_fours(const size_t bytes, const size_t offset)
{
    const __m512i eight = _mm512_broadcast_i32x4(_mm_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7));
    const __m512i quarter = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    const bool even = bytes % 2 == 0;
    const int words = (int)(even ? bytes / 2 : bytes);
    __m512i word = _mm512_mullo_epi32(quarter, _mm512_set1_epi32(words * 0x00010001));
    word = _mm512_add_epi16(word, eight);
    if (!even) { /* from bytes 1 and 8 on */
        __m128i first = _mm_setr_epi16(0, 4, 13, 21, 30, 38, 47, 55);
        return (fours_index){{word, _mm512_add_epi16(word, line_words(5))},
                             _mm512_castsi128_si512(first)};
    }
    word = _mm512_add_epi16(word, line_words((short)(offset / 2)));
    /* the second four from byte 64 and from the last 64 bytes on */
    __m512i next = _mm512_add_epi16(word, line_words((short)(4 * words - 32)));
    __mmask32 behind = _mm512_cmpgt_epi16_mask(next, line_words(31));
    next = _mm512_mask_add_epi16(next, behind, next, line_words((short)(96 - 8 * words)));
    return (fours_index){{word, next}, _mm512_mullo_epi16(eight, line_words((short)words))};
}

INLINE void load_fours(const uint8_t *at, const size_t bytes, const fours_index *index, line out[2],
                       int16_t first[MIXT_STEP_BLOCKS])
{
    if (bytes % 2 != 0) {
        line a = line_load(at + 8), b = line_load(at + 72);
        const __m128i low_bytes =
            _mm_setr_epi8(0, -1, 3, -1, 4, -1, 7, -1, 8, -1, 11, -1, 12, -1, 15, -1);
        __m128i x = _mm512_castsi512_si128(_mm512_permutex2var_epi16(a, index->first, b));
        x = _mm_insert_epi8(_mm_shuffle_epi8(x, low_bytes), at[0], 0);
        _mm_store_si128((__m128i *)(void *)first, x);
        out[0] = _mm512_permutex2var_epi16(line_load(at + 1), index->line[0], line_load(at + 65));
        out[1] = _mm512_permutex2var_epi16(a, index->line[1], b);
        return;
    }
    line a = line_load(at), b = line_load(at + 64), c = line_load(at + 8 * bytes - 64);
    if (bytes == 18) {
        __m512i x = _mm512_permutex2var_epi16(a, index->first, b);
        _mm_store_si128((__m128i *)(void *)first, _mm512_castsi512_si128(x));
    }
    out[0] = _mm512_permutex2var_epi16(a, index->line[0], b);
    out[1] = _mm512_permutex2var_epi16(b, index->line[1], c);
}

/* Every other 16 bytes of 128, from the first or the second on. */
INLINE line line_evens(const void *from)
{
    const __m512i *x = from;
    return _mm512_shuffle_i32x4(_mm512_loadu_si512(x), _mm512_loadu_si512(x + 1), 0x88);
}

INLINE line line_odds(const void *from)
{
    const __m512i *x = from;
    return _mm512_shuffle_i32x4(_mm512_loadu_si512(x), _mm512_loadu_si512(x + 1), 0xDD);
}

/* The first 32 bytes shifted to the left by `first` bits, the others by `second`, within 64. */
#define line_rotate(x, first, second)                                                              \
    _mm512_rolv_epi64(                                                                             \
        x, _mm512_setr_epi64(first, first, first, first, second, second, second, second))

/* Sixteen bytes with sign as what scales products (line_scaled), and those that belong to quarters
 * 0 to 3 of values 64 `part` to 64 part + 63. */
INLINE line signed_scales(__m128i bytes)
{
    __m512i wide = _mm512_cvtepi8_epi32(bytes), low = _mm512_set1_epi32(0xFFFF);
#ifdef QUANT_DOTS
    return _mm512_and_si512(wide, low);
#else
    return _mm512_ternarylogic_epi32(low, wide, _mm512_slli_epi32(wide, 16), 0xCA);
#endif
}

INLINE line scales_of_part(line scales, int part)
{
    const __m512i quarters = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    return _mm512_permutexvar_epi32(_mm512_add_epi32(quarters, _mm512_set1_epi32(4 * part)),
                                    scales);
}

/* Those of quarters of 32 values from 32 `part` on and from 128 + 32 part on. */
INLINE line scales_of_pair(line scales, int part)
{
    const __m512i quarters = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 8, 8, 8, 8, 9, 9, 9, 9);
    return _mm512_permutexvar_epi32(_mm512_add_epi32(quarters, _mm512_set1_epi32(2 * part)),
                                    scales);
}

/* Sixteen bytes with sign times words, in any dwords. */
INLINE line scales_times(__m128i bytes, __m256i words)
{
    return _mm512_zextsi256_si512(_mm256_madd_epi16(_mm256_cvtepi8_epi16(bytes), words));
}

/* Rows 4 i to 4 i + 3 of a lane's 16: dword j of quarter q is the sum of dwords of quarter q of row
 * 4 i + j. */
INLINE vi add_four(const line *rows)
{
    vi low01 = _mm512_unpacklo_epi32(rows[0], rows[1]),
       low23 = _mm512_unpacklo_epi32(rows[2], rows[3]);
    vi high01 = _mm512_unpackhi_epi32(rows[0], rows[1]);
    vi high23 = _mm512_unpackhi_epi32(rows[2], rows[3]);
    vi even = _mm512_add_epi32(low01, high01), odd = _mm512_add_epi32(low23, high23);
    return _mm512_add_epi32(_mm512_unpacklo_epi64(even, odd), _mm512_unpackhi_epi64(even, odd));
}

#define EVEN_QUARTERS(a, b) _mm512_shuffle_i32x4(a, b, 0x88)
#define ODD_QUARTERS(a, b) _mm512_shuffle_i32x4(a, b, 0xDD)

/* Sums of the dwords of each half of 16 rows, of which four each were brought together before. */
#define line_add_four(four_rows) add_four(four_rows)
INLINE void halves_of_fours(const line four[QUANT_LANES / 4], vi out[2])
{
    vi a = four[0], b = four[1], c = four[2], d = four[3];
    vi first = _mm512_add_epi32(EVEN_QUARTERS(a, b), ODD_QUARTERS(a, b));
    vi second = _mm512_add_epi32(EVEN_QUARTERS(c, d), ODD_QUARTERS(c, d));
    out[0] = EVEN_QUARTERS(first, second);
    out[1] = ODD_QUARTERS(first, second);
}

INLINE vi sum_lines(const line rows[QUANT_LANES])
{
    const line four[4] = {add_four(rows), add_four(rows + 4), add_four(rows + 8),
                          add_four(rows + 12)};
    vi halves[2];
    halves_of_fours(four, halves);
    return _mm512_add_epi32(halves[0], halves[1]);
}

INLINE void quarters_of_fours(const line four[QUANT_LANES / 4], vi out[4])
{
    vi even = EVEN_QUARTERS(four[0], four[1]), odd = ODD_QUARTERS(four[0], four[1]);
    vi next_even = EVEN_QUARTERS(four[2], four[3]), next_odd = ODD_QUARTERS(four[2], four[3]);
    out[0] = EVEN_QUARTERS(even, next_even);
    out[1] = EVEN_QUARTERS(odd, next_odd);
    out[2] = ODD_QUARTERS(even, next_even);
    out[3] = ODD_QUARTERS(odd, next_odd);
}

/* The half at `offset` of each row, as floats. */
INLINE vf halves_of_rows(const uint8_t *const rows[QUANT_LANES], size_t offset)
{
    __m128i low = _mm_setzero_si128(), high = low;
    uint16_t half;
#define INSERT(to, lane, row)                                                                      \
    memcpy(&half, rows[row] + offset, sizeof half);                                                \
    to = _mm_insert_epi16(to, half, lane)
#define INSERT_BOTH(i)                                                                             \
    INSERT(low, i, i);                                                                             \
    INSERT(high, i, i + 8)
    INSERT_BOTH(0);
    INSERT_BOTH(1);
    INSERT_BOTH(2);
    INSERT_BOTH(3);
    INSERT_BOTH(4);
    INSERT_BOTH(5);
    INSERT_BOTH(6);
    INSERT_BOTH(7);
#undef INSERT_BOTH
#undef INSERT
    return _mm512_cvtph_ps(_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1));
}

/* The dword at `offset` of each row. */
INLINE vi dwords_of_rows(const uint8_t *const rows[QUANT_LANES], size_t offset)
{
    __m128i x[4];
    int32_t word;
    UNROLL for (int i = 0; i < 4; i++)
    {
#define INSERT(j)                                                                                  \
    memcpy(&word, rows[4 * i + (j)] + offset, sizeof word);                                        \
    x[i] = _mm_insert_epi32(x[i], word, j)
        memcpy(&word, rows[4 * i] + offset, sizeof word);
        x[i] = _mm_cvtsi32_si128(word);
        INSERT(1);
        INSERT(2);
        INSERT(3);
#undef INSERT
    }
    vi out = _mm512_castsi128_si512(x[0]);
    out = _mm512_inserti32x4(out, x[1], 1);
    out = _mm512_inserti32x4(out, x[2], 2);
    return _mm512_inserti32x4(out, x[3], 3);
}

/* The byte at `offset` of each row, in its lane. */
INLINE vi bytes_of_rows(const uint8_t *const rows[QUANT_LANES], size_t offset)
{
    __m128i x = _mm_setzero_si128();
#define INSERT(i) x = _mm_insert_epi8(x, rows[i][offset], i)
    INSERT(0);
    INSERT(1);
    INSERT(2);
    INSERT(3);
    INSERT(4);
    INSERT(5);
    INSERT(6);
    INSERT(7);
    INSERT(8);
    INSERT(9);
    INSERT(10);
    INSERT(11);
    INSERT(12);
    INSERT(13);
    INSERT(14);
    INSERT(15);
#undef INSERT
    return _mm512_cvtepu8_epi32(x);
}

/* load_quads of rows that lie anywhere. vi_transpose_quads is the way back: quarter j of out[i] is
 * of row 4 j + i. */
INLINE void quads_of_rows(const uint8_t *const rows[QUANT_LANES], size_t offset, vi out[4])
{
    vi r[4];
    UNROLL for (int i = 0; i < 4; i++)
    {
#define QUARTER(j) _mm_loadu_si128((const __m128i *)(const void *)(rows[i + 4 * (j)] + offset))
        r[i] = _mm512_castsi128_si512(QUARTER(0));
        r[i] = _mm512_inserti32x4(r[i], QUARTER(1), 1);
        r[i] = _mm512_inserti32x4(r[i], QUARTER(2), 2);
        r[i] = _mm512_inserti32x4(r[i], QUARTER(3), 3);
#undef QUARTER
    }
    vi_transpose_quads(r, out);
}

/* The first halves of `blocks` blocks of 18 bytes of each row, as floats; those of a whole step
 * come from load_fours. */
INLINE void halves_of_step(const uint8_t *const rows[QUANT_LANES], const firsts *from, int blocks,
                           const size_t bytes, vf d[MIXT_STEP_BLOCKS])
{
    const source transposed = {(const uint8_t *)from->words, sizeof from->words[0], NULL};
    vi pairs[4];
    if (bytes != 18 || blocks < MIXT_STEP_BLOCKS) {
        for (int i = 0; i < blocks; i++) {
            d[i] = halves_of_rows(rows, (size_t)i * bytes);
        }
        return;
    }
    load_quads(&transposed, 0, pairs);
    UNROLL for (int i = 0; i < 4; i++)
    {
        d[2 * i] = vf_half(pairs[i]);
        d[2 * i + 1] = vf_half(vi_srl32(pairs[i], 16));
    }
}

/* The first bytes of blocks of 17, likewise. */
INLINE void bytes_of_step(const uint8_t *const rows[QUANT_LANES], const firsts *from, int blocks,
                          vi out[MIXT_STEP_BLOCKS])
{
    const source transposed = {(const uint8_t *)from->words, sizeof from->words[0], NULL};
    vi pairs[4];
    if (blocks < MIXT_STEP_BLOCKS) {
        for (int i = 0; i < blocks; i++) {
            out[i] = bytes_of_rows(rows, (size_t)(17 * i));
        }
        return;
    }
    load_quads(&transposed, 0, pairs);
    UNROLL for (int i = 0; i < 4; i++)
    {
        out[2 * i] = vi_and(pairs[i], vi_set32(0xFFFF));
        out[2 * i + 1] = vi_srl32(pairs[i], 16);
    }
}

/* Codebooks and ternary types (quant_rows_multiples.h) */

#define line_pack16(a, b) _mm512_packus_epi16(a, b)
/* Bytes 0 to 7 of each quarter as words, and bytes 8 to 15. */
#define line_unpack_low8(x) _mm512_unpacklo_epi8(x, _mm512_setzero_si512())
#define line_unpack_high8(x) _mm512_unpackhi_epi8(x, _mm512_setzero_si512())
#define line_sra16(x, n) _mm512_srai_epi16(x, (unsigned)(n))
/* 32, 16 or 8 bytes, words or dwords, made wider without sign. */
#define line_wide(from) _mm512_cvtepu8_epi16(_mm256_loadu_si256((const void *)(from)))
#define line_dwords_of_bytes(from) _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(from)))
#define line_qwords_of_bytes(from) _mm512_cvtepu8_epi64(_mm_loadl_epi64((const void *)(from)))
#define line_qwords_of_words(from) _mm512_cvtepu16_epi64(_mm_loadu_si128((const void *)(from)))
#define line_qwords_of_dwords(from) _mm512_cvtepu32_epi64(_mm256_loadu_si256((const void *)(from)))
/* Byte i as what dword i is scaled with. */
#define line_of_scales(bytes) signed_scales(bytes)
/* The first byte of each dword. */
#define line_first_bytes(x) _mm512_cvtepi32_epi8(x)
#define line_store(to, x) _mm512_store_si512(to, x)

INLINE line line_broadcast64(const void *from)
{
    long long x;
    memcpy(&x, from, sizeof x);
    return _mm512_set1_epi64(x);
}

/* x, negated where bit 4 + j of signs is set. */
INLINE line line_negate(line x, line signs, const int j)
{
    return _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(line_sll16(signs, 3 - j)), line_zero(), x);
}

#define LOOK_UP_MOST 16 /* pairs of registers that a table may fill; larger ones stay in memory */

/* Words of a table of `count`: 64 at a time by permutation, of which the right ones are chosen. */
INLINE line line_look_up(const uint16_t *table, const int count, line index)
{
    if (count > 64 * LOOK_UP_MOST) {
        _Alignas(64) uint16_t at[32];
        _mm512_store_si512(at, index);
        line x = _mm512_castsi128_si512(look_up_eight(table, at));
        x = _mm512_inserti32x4(x, look_up_eight(table, at + 8), 1);
        x = _mm512_inserti32x4(x, look_up_eight(table, at + 16), 2);
        return _mm512_inserti32x4(x, look_up_eight(table, at + 24), 3);
    }
    line found[LOOK_UP_MOST];
    UNROLL for (int i = 0; i < count / 64; i++)
    {
        found[i] = _mm512_permutex2var_epi16(line_load(table + 64 * i), index,
                                             line_load(table + 64 * i + 32));
    }
    UNROLL for (int level = 0; level < 4; level++)
    {
        __mmask32 other = _mm512_test_epi16_mask(index, line_words((short)(64 << level)));
        UNROLL for (int i = 0; i < count / 64 >> (level + 1); i++)
        {
            found[i] = _mm512_mask_mov_epi16(found[2 * i], other, found[2 * i + 1]);
        }
    }
    return found[0];
}

/* x with other first 32 bytes. */
INLINE line line_with_first(line x, const uint8_t *from)
{
    return _mm512_inserti64x4(x, _mm256_loadu_si256((const __m256i *)(const void *)from), 0);
}

/* x with a dword everywhere in the last quarter. */
INLINE line line_with_last(line x, const uint8_t *from)
{
    return _mm512_mask_mov_epi32(x, 0xF000, vi_broadcast32(from));
}

/* Types with halves (quant_rows_parts.h) */

#define bits_of_vf(x) _mm512_castps_si512(x)

INLINE line line_same(__m256i x)
{
    return _mm512_broadcast_i64x4(x);
}

INLINE __m256i add_words_of_halves(line x)
{
    return _mm256_add_epi16(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
}

/* Every other 8 bytes of 128, from the first or the second on. */
INLINE line line_even_eights(const int8_t *from)
{
    const __m512i index = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
    return _mm512_permutex2var_epi64(line_load(from), index, line_load(from + 64));
}

INLINE line line_odd_eights(const int8_t *from)
{
    const __m512i index = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
    return _mm512_permutex2var_epi64(line_load(from), index, line_load(from + 64));
}

/* Dwords 0 and 2, and 1 and 3, of the quarters of a, then of b. */
INLINE vi even_dwords(vi a, vi b)
{
    __m512 x = _mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0x88);
    return _mm512_castps_si512(x);
}

INLINE vi odd_dwords(vi a, vi b)
{
    __m512 x = _mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0xDD);
    return _mm512_castps_si512(x);
}

/* Quarter i of four vectors, for all i, `step` apart. */
INLINE void put_quarters(const vi x[4], vi *out, const int step)
{
    vi even = EVEN_QUARTERS(x[0], x[1]), odd = ODD_QUARTERS(x[0], x[1]);
    vi next_even = EVEN_QUARTERS(x[2], x[3]), next_odd = ODD_QUARTERS(x[2], x[3]);
    out[0] = EVEN_QUARTERS(even, next_even);
    out[step] = EVEN_QUARTERS(odd, next_odd);
    out[2 * step] = ODD_QUARTERS(even, next_even);
    out[3 * step] = ODD_QUARTERS(odd, next_odd);
}

/* Sums of the dwords of each eighth of 16 rows. */
INLINE void sum_eighths(const line rows[QUANT_LANES], vi out[8])
{
    vi even[4], odd[4];
    UNROLL for (int i = 0; i < 4; i++)
    {
        const line *r = rows + 4 * i;
        vi first = vi_add32(even_dwords(r[0], r[1]), odd_dwords(r[0], r[1]));
        vi second = vi_add32(even_dwords(r[2], r[3]), odd_dwords(r[2], r[3]));
        even[i] = even_dwords(first, second);
        odd[i] = odd_dwords(first, second);
    }
    put_quarters(even, out, 2);
    put_quarters(odd, out + 1, 2);
}

#endif
