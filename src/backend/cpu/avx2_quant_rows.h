/* Lines with AVX2: 64 bytes of one row in two registers, and what brings eight rows together
 * (quant_rows.h). */
#ifndef MIXT_BACKEND_CPU_AVX2_QUANT_ROWS_H
#define MIXT_BACKEND_CPU_AVX2_QUANT_ROWS_H

typedef struct line {
    __m256i half[2];
} line;

#define LINE(call0, call1) ((line){{call0, call1}})
#define HALVES1(name, function)                                                                    \
    INLINE line name(line a)                                                                       \
    {                                                                                              \
        return LINE(function(a.half[0]), function(a.half[1]));                                     \
    }
#define HALVES2(name, function)                                                                    \
    INLINE line name(line a, line b)                                                               \
    {                                                                                              \
        return LINE(function(a.half[0], b.half[0]), function(a.half[1], b.half[1]));               \
    }
HALVES1(line_abs8, _mm256_abs_epi8)
HALVES2(line_and, _mm256_and_si256)
HALVES2(line_or, _mm256_or_si256)
HALVES2(line_xor, _mm256_xor_si256)
HALVES2(line_add8, _mm256_add_epi8)
HALVES2(line_subs_u8, _mm256_subs_epu8)
HALVES2(line_min_u8, _mm256_min_epu8)
HALVES2(line_mullo16, _mm256_mullo_epi16)
HALVES2(line_sub8, _mm256_sub_epi8)
HALVES2(line_sign8, _mm256_sign_epi8)
HALVES2(line_add16, _mm256_add_epi16)
HALVES2(line_add32, _mm256_add_epi32)
HALVES2(line_shuffle8, _mm256_shuffle_epi8)
HALVES2(line_mulhi16, _mm256_mulhi_epi16)
HALVES2(line_zip_low8, _mm256_unpacklo_epi8)
HALVES2(line_zip_high8, _mm256_unpackhi_epi8)
HALVES2(line_zip_low16, _mm256_unpacklo_epi16)
HALVES2(line_zip_high16, _mm256_unpackhi_epi16)
HALVES2(line_zip_low32, _mm256_unpacklo_epi32)
HALVES2(line_zip_high32, _mm256_unpackhi_epi32)
HALVES2(line_madd, _mm256_madd_epi16)
HALVES2(line_maddubs, _mm256_maddubs_epi16)

INLINE line line_same(__m256i x)
{
    return LINE(x, x);
}

#define line_zero() line_same(_mm256_setzero_si256())
#define line_bytes(x) line_same(_mm256_set1_epi8((char)(x)))
#define line_words(x) line_same(_mm256_set1_epi16(x))
#define line_broadcast32(from) line_same(vi_broadcast32(from))
#define line_dwords4(a, b, c, d) line_same(vi_set_quads(a, b, c, d))
#define line_table(bytes) line_same(vi_table(bytes))
#define line_twice(from) line_same(vi_loadu(from))
#define line_of_halves(first, second) LINE(vi_loadu(first), vi_loadu(second))
#define line_two(first, second) LINE(_mm256_set1_epi32(first), _mm256_set1_epi32(second))

INLINE line line_load(const void *from)
{
    const __m256i *x = from;
    return LINE(_mm256_loadu_si256(x), _mm256_loadu_si256(x + 1));
}

/* A dword everywhere in each quarter. */
#define line_quarters(a, b, c, d)                                                                  \
    LINE(_mm256_setr_epi32(a, a, a, a, b, b, b, b), _mm256_setr_epi32(c, c, c, c, d, d, d, d))
/* Four dwords in the last quarter, zeros before. */
#define line_last_quarter(a, b, c, d)                                                              \
    LINE(_mm256_setzero_si256(), _mm256_setr_epi32(0, 0, 0, 0, a, b, c, d))

INLINE line line_sll16(line x, const int n)
{
    return LINE(_mm256_slli_epi16(x.half[0], n), _mm256_slli_epi16(x.half[1], n));
}

INLINE line line_srl16(line x, const int n)
{
    return LINE(_mm256_srli_epi16(x.half[0], n), _mm256_srli_epi16(x.half[1], n));
}

/* w + value where one of `bits` is set in h. */
INLINE __m256i add_bits(__m256i w, __m256i h, __m256i bits, __m256i value)
{
    __m256i none = _mm256_cmpeq_epi8(_mm256_and_si256(h, bits), _mm256_setzero_si256());
    return _mm256_add_epi8(w, _mm256_andnot_si256(none, value));
}

INLINE line line_add_bits(line w, line h, line bits, line value)
{
    return LINE(add_bits(w.half[0], h.half[0], bits.half[0], value.half[0]),
                add_bits(w.half[1], h.half[1], bits.half[1], value.half[1]));
}

/* 16 bytes of each of four places. */
INLINE line line_of_quarters(const uint8_t *from, size_t stride)
{
    return LINE(load_halves(from, stride), load_halves(from + 2 * stride, stride));
}

/* The dword at each of four places, everywhere in its quarter. */
INLINE line line_broadcast_quarters(const uint8_t *from, size_t stride)
{
    int32_t x[4];
    UNROLL for (int i = 0; i < 4; i++)
    {
        memcpy(&x[i], from + (size_t)i * stride, sizeof x[i]);
    }
    return LINE(_mm256_setr_epi32(x[0], x[0], x[0], x[0], x[1], x[1], x[1], x[1]),
                _mm256_setr_epi32(x[2], x[2], x[2], x[2], x[3], x[3], x[3], x[3]));
}

/* What AVX-512 keeps of a step, and indexes. */
typedef struct firsts {
    int16_t words[QUANT_LANES][1];
} firsts;

typedef struct fours_index {
    size_t offset;
} fours_index;

INLINE fours_index index_of_fours(const size_t bytes, const size_t offset)
{
    (void)bytes;
    return (fours_index){offset};
}

/* 16 bytes of each of four blocks in two lines: of blocks 0 to 3 and 4 to 7, or where blocks have
 * an odd number of bytes of the even and of the odd ones. */
INLINE void load_fours(const uint8_t *at, const size_t bytes, const fours_index *index, line out[2],
                       const int16_t *first)
{
    const bool even = bytes % 2 == 0;
    (void)first;
    out[0] = line_of_quarters(at + index->offset, even ? bytes : 2 * bytes);
    at += even ? 4 * bytes : bytes;
    out[1] = line_of_quarters(at + index->offset, even ? bytes : 2 * bytes);
}

/* Every other 16 bytes of 128, from the first or the second on. */
INLINE line line_evens(const void *from)
{
    const uint8_t *x = from;
    return line_of_quarters(x, 32);
}

INLINE line line_odds(const void *from)
{
    const uint8_t *x = from;
    return line_of_quarters(x + 16, 32);
}

/* To the left by up to 7 or at least 61 bits, where what comes round or passes from byte to byte is
 * not looked at. */
INLINE __m256i rotate(__m256i x, const int n)
{
    return n < 32 ? _mm256_slli_epi64(x, n & 31) : _mm256_srli_epi64(x, (64 - n) & 31);
}

/* Each half by bits of its own. */
INLINE line line_rotate(line x, const int first, const int second)
{
    return LINE(rotate(x.half[0], first), rotate(x.half[1], second));
}

/* Sixteen bytes with sign as what scales products (line_scaled), and those that belong to quarters
 * 0 to 3 of values 64 `part` to 64 part + 63. */
INLINE line signed_scales(__m128i bytes)
{
    __m256i words = _mm256_cvtepi8_epi16(bytes);
    return LINE(_mm256_permute4x64_epi64(words, 0x44), _mm256_permute4x64_epi64(words, 0xEE));
}

/* Bytes of words 2 i (in the first half of a register) and 2 i + 1, of eight. */
INLINE __m256i two_words(const int i)
{
    const int first = 4 * i | (4 * i + 1) << 8;
    const int index = first | first << 16, next = index + 0x02020202;
    return _mm256_setr_epi32(index, index, index, index, next, next, next, next);
}

INLINE line scales_of_part(line scales, const int part)
{
    __m256i eight = scales.half[part / 2];
    return LINE(_mm256_shuffle_epi8(eight, two_words(part % 2 * 2)),
                _mm256_shuffle_epi8(eight, two_words(part % 2 * 2 + 1)));
}

/* Those of quarters of 32 values from 32 `part` on and from 128 + 32 part on. */
INLINE line scales_of_pair(line scales, const int part)
{
    return LINE(_mm256_shuffle_epi8(scales.half[0], two_words(part)),
                _mm256_shuffle_epi8(scales.half[1], two_words(part)));
}

/* Sixteen bytes with sign times words, in any dwords. */
INLINE line scales_times(__m128i bytes, __m256i words)
{
    return LINE(_mm256_madd_epi16(_mm256_cvtepi8_epi16(bytes), words), _mm256_setzero_si256());
}

/* Dword j of each quarter is the sum of row j's. */
INLINE vi add_four(vi a, vi b, vi c, vi d)
{
    vi even = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    vi odd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    return _mm256_add_epi32(_mm256_unpacklo_epi64(even, odd), _mm256_unpackhi_epi64(even, odd));
}

/* Four rows brought together, and the sums of quarters or halves of all rows' lines then. */
INLINE line line_add_four(const line four_rows[4])
{
    const line *r = four_rows;
    return LINE(add_four(r[0].half[0], r[1].half[0], r[2].half[0], r[3].half[0]),
                add_four(r[0].half[1], r[1].half[1], r[2].half[1], r[3].half[1]));
}

INLINE void quarters_of_fours(const line four[QUANT_LANES / 4], vi out[4])
{
    UNROLL for (int half = 0; half < 2; half++)
    {
        vi a = four[0].half[half], b = four[1].half[half];
        out[2 * half] = _mm256_permute2x128_si256(a, b, 0x20);
        out[2 * half + 1] = _mm256_permute2x128_si256(a, b, 0x31);
    }
}

INLINE void halves_of_fours(const line four[QUANT_LANES / 4], vi out[2])
{
    vi quarters[4];
    quarters_of_fours(four, quarters);
    out[0] = _mm256_add_epi32(quarters[0], quarters[1]);
    out[1] = _mm256_add_epi32(quarters[2], quarters[3]);
}

INLINE vi sum_lines(const line rows[QUANT_LANES])
{
    vi r[QUANT_LANES];
    UNROLL for (int i = 0; i < QUANT_LANES; i++)
    {
        r[i] = _mm256_add_epi32(rows[i].half[0], rows[i].half[1]);
    }
    vi a = add_four(r[0], r[1], r[2], r[3]), b = add_four(r[4], r[5], r[6], r[7]);
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20),
                            _mm256_permute2x128_si256(a, b, 0x31));
}

/* The half at `offset` of each row, as floats. */
INLINE vf halves_of_rows(const uint8_t *const rows[QUANT_LANES], size_t offset)
{
    __m128i x = _mm_setzero_si128();
    uint16_t half;
#define INSERT(i)                                                                                  \
    memcpy(&half, rows[i] + offset, sizeof half);                                                  \
    x = _mm_insert_epi16(x, half, i)
    INSERT(0);
    INSERT(1);
    INSERT(2);
    INSERT(3);
    INSERT(4);
    INSERT(5);
    INSERT(6);
    INSERT(7);
#undef INSERT
    return _mm256_cvtph_ps(x);
}

/* The dword at `offset` of each row. */
INLINE vi dwords_of_rows(const uint8_t *const rows[QUANT_LANES], size_t offset)
{
    int32_t x[QUANT_LANES];
    UNROLL for (int i = 0; i < QUANT_LANES; i++)
    {
        memcpy(&x[i], rows[i] + offset, sizeof x[i]);
    }
    return _mm256_setr_epi32(x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]);
}

/* The byte at `offset` of each row, in its lane. */
INLINE vi bytes_of_rows(const uint8_t *const rows[QUANT_LANES], size_t offset)
{
    uint64_t x = 0;
    UNROLL for (int i = 0; i < QUANT_LANES; i++)
    {
        x |= (uint64_t)rows[i][offset] << (8 * i);
    }
    return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)x));
}

/* load_quads of rows that lie anywhere. vi_transpose_quads is the way back: half j of out[i] is of
 * row 4 j + i. */
INLINE void quads_of_rows(const uint8_t *const rows[QUANT_LANES], size_t offset, vi out[4])
{
    vi r[4];
    UNROLL for (int i = 0; i < 4; i++)
    {
        const uint8_t *row = rows[i] + offset;
        __m128i low = _mm_loadu_si128((const __m128i *)(const void *)row);
        row = rows[i + 4] + offset;
        __m128i high = _mm_loadu_si128((const __m128i *)(const void *)row);
        r[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
    }
    vi_transpose_quads(r, out);
}

/* The first halves of `blocks` blocks of each row, as floats. */
INLINE void halves_of_step(const uint8_t *const rows[QUANT_LANES], const firsts *from, int blocks,
                           const size_t bytes, vf d[MIXT_STEP_BLOCKS])
{
    (void)from;
    for (int i = 0; i < blocks; i++) {
        d[i] = halves_of_rows(rows, (size_t)i * bytes);
    }
}

/* The first bytes of `blocks` blocks of 17 bytes of each row. */
INLINE void bytes_of_step(const uint8_t *const rows[QUANT_LANES], const firsts *from, int blocks,
                          vi out[MIXT_STEP_BLOCKS])
{
    (void)from;
    for (int i = 0; i < blocks; i++) {
        out[i] = bytes_of_rows(rows, (size_t)(17 * i));
    }
}

/* Codebooks and ternary types (quant_rows_multiples.h) */

HALVES2(line_pack16, _mm256_packus_epi16)

/* Bytes 0 to 7 of each quarter as words, and bytes 8 to 15. */
INLINE line line_unpack_low8(line x)
{
    const __m256i zero = _mm256_setzero_si256();
    return LINE(_mm256_unpacklo_epi8(x.half[0], zero), _mm256_unpacklo_epi8(x.half[1], zero));
}

INLINE line line_unpack_high8(line x)
{
    const __m256i zero = _mm256_setzero_si256();
    return LINE(_mm256_unpackhi_epi8(x.half[0], zero), _mm256_unpackhi_epi8(x.half[1], zero));
}

INLINE line line_sra16(line x, const int n)
{
    return LINE(_mm256_srai_epi16(x.half[0], n), _mm256_srai_epi16(x.half[1], n));
}

/* 32, 16 or 8 bytes, words or dwords, made wider without sign. */
#define WIDER(name, convert, load, half_bytes)                                                     \
    INLINE line name(const void *from)                                                             \
    {                                                                                              \
        const char *at = from;                                                                     \
        return LINE(convert(load((const __m128i *)(const void *)at)),                              \
                    convert(load((const __m128i *)(const void *)(at + (half_bytes)))));            \
    }
#define LOAD_32(from) _mm_loadu_si32(from)
WIDER(line_wide, _mm256_cvtepu8_epi16, _mm_loadu_si128, 16)
WIDER(line_dwords_of_bytes, _mm256_cvtepu8_epi32, _mm_loadl_epi64, 8)
WIDER(line_qwords_of_bytes, _mm256_cvtepu8_epi64, LOAD_32, 4)
WIDER(line_qwords_of_words, _mm256_cvtepu16_epi64, _mm_loadl_epi64, 8)
WIDER(line_qwords_of_dwords, _mm256_cvtepu32_epi64, _mm_loadu_si128, 16)

INLINE line line_broadcast64(const void *from)
{
    long long x;
    memcpy(&x, from, sizeof x);
    return line_same(_mm256_set1_epi64x(x));
}

/* Byte i in both words of dword i. */
INLINE line line_of_scales(__m128i bytes)
{
    const __m256i first =
        _mm256_setr_epi32((int)0x80008000, (int)0x80018001, (int)0x80028002, (int)0x80038003,
                          (int)0x80048004, (int)0x80058005, (int)0x80068006, (int)0x80078007);
    __m256i x = _mm256_broadcastsi128_si256(bytes);
    return LINE(_mm256_shuffle_epi8(x, first),
                _mm256_shuffle_epi8(x, _mm256_add_epi8(first, _mm256_set1_epi16(8))));
}

/* The first byte of each dword. */
INLINE __m128i line_first_bytes(line x)
{
    const __m256i bytes = _mm256_set1_epi32(255);
    __m256i words =
        _mm256_packus_epi32(_mm256_and_si256(x.half[0], bytes), _mm256_and_si256(x.half[1], bytes));
    words = _mm256_permute4x64_epi64(words, 0xD8);
    return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

INLINE void line_store(void *to, line x)
{
    _mm256_store_si256((__m256i *)to, x.half[0]);
    _mm256_store_si256((__m256i *)to + 1, x.half[1]);
}

/* x, negated where bit 4 + j of signs is set; these are not 0 and lose other bits to the left. */
INLINE line line_negate(line x, line signs, const int j)
{
    return line_sign8(x, line_sll16(signs, 3 - j));
}

/* Words of a table of `count`. */
INLINE line line_look_up(const uint16_t *table, const int count, line index)
{
    _Alignas(64) uint16_t at[32];
    (void)count;
    memcpy(at, &index, sizeof at);
    return LINE(_mm256_set_m128i(look_up_eight(table, at + 8), look_up_eight(table, at)),
                _mm256_set_m128i(look_up_eight(table, at + 24), look_up_eight(table, at + 16)));
}

/* x with other first 32 bytes. */
INLINE line line_with_first(line x, const uint8_t *from)
{
    return LINE(vi_loadu(from), x.half[1]);
}

/* x with a dword everywhere in the last quarter. */
INLINE line line_with_last(line x, const uint8_t *from)
{
    return LINE(x.half[0], _mm256_blend_epi32(x.half[1], vi_broadcast32(from), 0xF0));
}

/* Types with halves (quant_rows_parts.h) */

#define bits_of_vf(x) _mm256_castps_si256(x)

INLINE __m256i add_words_of_halves(line x)
{
    return _mm256_add_epi16(x.half[0], x.half[1]);
}

/* Every other 8 bytes of 128, from the first or the second on. */
INLINE line line_even_eights(const int8_t *from)
{
    __m256i first = _mm256_unpacklo_epi64(vi_loadu(from), vi_loadu(from + 32));
    __m256i second = _mm256_unpacklo_epi64(vi_loadu(from + 64), vi_loadu(from + 96));
    return LINE(_mm256_permute4x64_epi64(first, 0xD8), _mm256_permute4x64_epi64(second, 0xD8));
}

INLINE line line_odd_eights(const int8_t *from)
{
    __m256i first = _mm256_unpackhi_epi64(vi_loadu(from), vi_loadu(from + 32));
    __m256i second = _mm256_unpackhi_epi64(vi_loadu(from + 64), vi_loadu(from + 96));
    return LINE(_mm256_permute4x64_epi64(first, 0xD8), _mm256_permute4x64_epi64(second, 0xD8));
}

/* Dwords 0 and 2, and 1 and 3, of the halves of a, then of b. */
INLINE vi even_dwords(vi a, vi b)
{
    __m256 x = _mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), 0x88);
    return _mm256_castps_si256(x);
}

INLINE vi odd_dwords(vi a, vi b)
{
    __m256 x = _mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), 0xDD);
    return _mm256_castps_si256(x);
}

/* Sums of the dwords of each eighth of eight rows. */
INLINE void sum_eighths(const line rows[QUANT_LANES], vi out[8])
{
    UNROLL for (int h = 0; h < 2; h++)
    {
        vi even[2], odd[2];
        UNROLL for (int i = 0; i < 2; i++)
        {
            const line *r = rows + 4 * i;
            vi a = r[0].half[h], b = r[1].half[h], c = r[2].half[h], d = r[3].half[h];
            vi first = vi_add32(even_dwords(a, b), odd_dwords(a, b));
            vi second = vi_add32(even_dwords(c, d), odd_dwords(c, d));
            even[i] = even_dwords(first, second);
            odd[i] = odd_dwords(first, second);
        }
        out[4 * h] = _mm256_permute2x128_si256(even[0], even[1], 0x20);
        out[4 * h + 1] = _mm256_permute2x128_si256(odd[0], odd[1], 0x20);
        out[4 * h + 2] = _mm256_permute2x128_si256(even[0], even[1], 0x31);
        out[4 * h + 3] = _mm256_permute2x128_si256(odd[0], odd[1], 0x31);
    }
}

#endif
