/* Sixteen fp32 lanes with AVX2 and FMA: sixteen lanes are two registers (see vector.h). */
#ifndef MIXT_BACKEND_CPU_AVX2_LANES_H
#define MIXT_BACKEND_CPU_AVX2_LANES_H

#include <immintrin.h>
#include <math.h>
#include <stdbool.h>

#include "backend/cpu/avx2_halves.h"
#include "backend/cpu/tiers.h"
#include "backend/cpu/x86_quads.h"

typedef struct v16 {
    __m256 low, high;
} v16;

static inline v16 pair(__m256 low, __m256 high)
{
    return (v16){low, high};
}

/* All bits set in the lanes below `count`, of lanes 0 to 7. */
static inline __m256i mask_of(int count)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline v16 v_set(float x)
{
    return pair(_mm256_set1_ps(x), _mm256_set1_ps(x));
}

static inline v16 v_load(const float *from, int count)
{
    if (count == 16) {
        return pair(_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8));
    }
    if (count <= 8) {
        return pair(_mm256_maskload_ps(from, mask_of(count)), _mm256_setzero_ps());
    }
    return pair(_mm256_loadu_ps(from), _mm256_maskload_ps(from + 8, mask_of(count - 8)));
}

static inline void v_store(float *to, v16 x, int count)
{
    if (count <= 8) {
        _mm256_maskstore_ps(to, mask_of(count), x.low);
        return;
    }
    _mm256_storeu_ps(to, x.low);
    if (count == 16) {
        _mm256_storeu_ps(to + 8, x.high);
    } else {
        _mm256_maskstore_ps(to + 8, mask_of(count - 8), x.high);
    }
}

static inline v16 v_add(v16 a, v16 b)
{
    return pair(_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high));
}

static inline v16 v_subtract(v16 a, v16 b)
{
    return pair(_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high));
}

static inline v16 v_multiply(v16 a, v16 b)
{
    return pair(_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high));
}

static inline v16 v_divide(v16 a, v16 b)
{
    return pair(_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high));
}

static inline v16 v_square_root(v16 a)
{
    return pair(_mm256_sqrt_ps(a.low), _mm256_sqrt_ps(a.high));
}

static inline v16 v_negate(v16 a)
{
    const __m256 sign = _mm256_set1_ps(-0.0F);
    return pair(_mm256_xor_ps(a.low, sign), _mm256_xor_ps(a.high, sign));
}

static inline v16 v_fma(v16 a, v16 b, v16 c)
{
    return pair(_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high));
}

static inline v16 v_least(v16 a, v16 b)
{
    return pair(_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high));
}

static inline v16 v_greatest(v16 a, v16 b)
{
    return pair(_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high));
}

static inline v16 v_keep(v16 old, v16 new, int count)
{
    if (count == 16) {
        return new;
    }
    __m256 low = _mm256_castsi256_ps(mask_of(count)),
           high = _mm256_castsi256_ps(mask_of(count - 8));
    return pair(_mm256_blendv_ps(old.low, new.low, low),
                _mm256_blendv_ps(old.high, new.high, high));
}

static inline __m256 hide_half(__m256 x, __m256 key, __m256 first, __m256 last)
{
    __m256 hidden =
        _mm256_or_ps(_mm256_cmp_ps(key, first, _CMP_LT_OQ), _mm256_cmp_ps(key, last, _CMP_GT_OQ));
    return _mm256_blendv_ps(x, _mm256_set1_ps(-INFINITY), hidden);
}

static inline v16 v_hide(v16 x, v16 key, v16 first, v16 last)
{
    return pair(hide_half(x.low, key.low, first.low, last.low),
                hide_half(x.high, key.high, first.high, last.high));
}

static inline v16 v_clear_below(v16 y, v16 x, v16 bound)
{
    return pair(_mm256_and_ps(y.low, _mm256_cmp_ps(x.low, bound.low, _CMP_NLT_UQ)),
                _mm256_and_ps(y.high, _mm256_cmp_ps(x.high, bound.high, _CMP_NLT_UQ)));
}

static inline bool v_any_nan(v16 x)
{
    __m256 low = _mm256_cmp_ps(x.low, x.low, _CMP_UNORD_Q);
    __m256 high = _mm256_cmp_ps(x.high, x.high, _CMP_UNORD_Q);
    return _mm256_movemask_ps(_mm256_or_ps(low, high)) != 0;
}

/* p 2^n in two steps, as scalar_tmpl.c says. */
static inline __m256 power(__m256 p, __m256 shifted)
{
    const __m256i rounder = _mm256_set1_epi32((int)MIXT_EXP_ROUNDER_BITS),
                  bias = _mm256_set1_epi32(127);
    __m256i n = _mm256_sub_epi32(_mm256_castps_si256(shifted), rounder);
    __m256i first = _mm256_srai_epi32(n, 1), second = _mm256_sub_epi32(n, first);
    __m256i low = _mm256_slli_epi32(_mm256_add_epi32(first, bias), 23);
    __m256i high = _mm256_slli_epi32(_mm256_add_epi32(second, bias), 23);
    return _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(low)), _mm256_castsi256_ps(high));
}

static inline v16 v_power(v16 p, v16 shifted, v16 n)
{
    (void)n;
    return pair(power(p.low, shifted.low), power(p.high, shifted.high));
}

static inline float v_fold(v16 x)
{
    __m256 eight = _mm256_add_ps(x.low, x.high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

/* max_ps(high, low): the high lane only where it is greater. */
static inline float v_fold_greatest(v16 x)
{
    __m256 eight = _mm256_max_ps(x.high, x.low);
    __m128 four = _mm_max_ps(_mm256_extractf128_ps(eight, 1), _mm256_castps256_ps128(eight));
    __m128 two = _mm_max_ps(_mm_movehl_ps(four, four), four);
    return _mm_cvtss_f32(_mm_max_ss(_mm_shuffle_ps(two, two, 1), two));
}

/* Nearest bfloat16, ties to even; NaN stays NaN. */
static inline __m256 round_bf16(__m256 x)
{
    __m256i bits = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x00400000));
    __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
    __m256 rounded = _mm256_blendv_ps(_mm256_castsi256_ps(up), _mm256_castsi256_ps(quiet), nan);
    return _mm256_and_ps(rounded, _mm256_castsi256_ps(_mm256_set1_epi32((int)0xFFFF0000U)));
}

static inline v16 v_round_bf16(v16 x)
{
    return pair(round_bf16(x.low), round_bf16(x.high));
}

static inline v16 v_load_f16(const uint16_t *from)
{
    return pair(load_f16(from), load_f16(from + 8));
}

static inline v16 v_set_f16(uint16_t bits)
{
    __m256 eight = _mm256_cvtph_ps(_mm_set1_epi16((short)bits));
    return pair(eight, eight);
}

static inline __attribute__((always_inline)) void transpose_eight(__m256 x[8])
{
    UNROLL for (int i = 0; i < 8; i += 4)
    {
        __m256i r[4];
        UNROLL for (int j = 0; j < 4; j++) r[j] = _mm256_castps_si256(x[i + j]);
        transpose_quads_avx2(r, r);
        UNROLL for (int j = 0; j < 4; j++) x[i + j] = _mm256_castsi256_ps(r[j]);
    }
    UNROLL for (int i = 0; i < 4; i++)
    {
        __m256 low = x[i], high = x[i + 4];
        x[i] = _mm256_permute2f128_ps(low, high, 0x20);
        x[i + 4] = _mm256_permute2f128_ps(low, high, 0x31);
    }
}

static inline __attribute__((always_inline)) void v_transpose(v16 x[16])
{
    __m256 low[2][8], high[2][8];
    UNROLL for (int i = 0; i < 16; i++)
    {
        low[i / 8][i % 8] = x[i].low;
        high[i / 8][i % 8] = x[i].high;
    }
    UNROLL for (int i = 0; i < 2; i++)
    {
        transpose_eight(low[i]);
        transpose_eight(high[i]);
    }
    UNROLL for (int i = 0; i < 8; i++)
    {
        x[i] = pair(low[0][i], low[1][i]);
        x[i + 8] = pair(high[0][i], high[1][i]);
    }
}

static inline void v_store_f16(uint16_t *to, v16 x)
{
    _mm_storeu_si128((__m128i *)(void *)to, _mm256_cvtps_ph(x.low, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(void *)to + 1, _mm256_cvtps_ph(x.high, _MM_FROUND_TO_NEAREST_INT));
}

static inline v16 v_load_bf16(const uint16_t *from)
{
    return pair(load_bf16(from), load_bf16(from + 8));
}

static inline void v_store_bf16(uint16_t *to, v16 x)
{
    __m256i low = _mm256_srli_epi32(_mm256_castps_si256(round_bf16(x.low)), 16);
    __m256i high = _mm256_srli_epi32(_mm256_castps_si256(round_bf16(x.high)), 16);
    __m256i both = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xD8);
    _mm256_storeu_si256((__m256i *)(void *)to, both);
}

static inline __m256 load_bytes(const int8_t *from)
{
    __m256i wide = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)from));
    return _mm256_cvtepi32_ps(wide);
}

static inline v16 v_load_bytes(const int8_t *from)
{
    return pair(load_bytes(from), load_bytes(from + 8));
}

/* What cached_rows.h reads in two steps: sixteen rows are turned into memory of the first cache as
 * dwords or words, keys across, and widened where they are used, so that the chains of four queries
 * have nothing else in the way. */
#define V_TURNED

/* Thirty-two bytes of eight rows: to[2 i] holds dword i of all. A row is read as it lies: rows that
 * are 4,096 bytes apart share a set of the first cache, which does not keep sixteen lines of them.
 */
static inline __attribute__((always_inline)) void turn_dwords(const char *const rows[8],
                                                              int64_t offset, __m256 *to)
{
    __m256 x[8];
    UNROLL for (int i = 0; i < 8; i++)
    {
        x[i] = _mm256_loadu_ps((const float *)(const void *)(rows[i] + offset));
    }
    transpose_eight(x);
    UNROLL for (int i = 0; i < 8; i++) to[2 * i] = x[i];
}

/* The same bytes as words: to[2 i] holds word i of all, and behind it word i + 8. */
static inline __attribute__((always_inline)) void turn_words(const char *const rows[8],
                                                             int64_t offset, __m256i *to)
{
    __m256i first[4], second[4];
    UNROLL for (int i = 0; i < 4; i++)
    {
        __m256i even = _mm256_loadu_si256((const __m256i *)(const void *)(rows[2 * i] + offset));
        __m256i odd = _mm256_loadu_si256((const __m256i *)(const void *)(rows[2 * i + 1] + offset));
        first[i] = _mm256_unpacklo_epi16(even, odd);
        second[i] = _mm256_unpackhi_epi16(even, odd);
    }
    transpose_quads_avx2(first, first);
    transpose_quads_avx2(second, second);
    UNROLL for (int i = 0; i < 4; i++)
    {
        to[2 * i] = first[i];
        to[2 * i + 8] = second[i];
    }
}

/* Thirty-two bytes of rows 8 half to 8 half + 7 of sixteen. */
static inline __attribute__((always_inline)) void v_turn(const char *const rows[16], int64_t offset,
                                                         const int half, const bool words, void *to)
{
    if (words) {
        turn_words(rows + 8 * half, offset, (__m256i *)to + half);
    } else {
        turn_dwords(rows + 8 * half, offset, (__m256 *)to + half);
    }
}

static inline __m256 dword_bf16(__m256i bits, const int place)
{
    const __m256i upper = _mm256_set1_epi32((int)0xFFFF0000U);
    return _mm256_castsi256_ps(place == 0 ? _mm256_slli_epi32(bits, 16)
                                          : _mm256_and_si256(bits, upper));
}

/* 2^24 times the byte: it is put at the top of its dword. */
static inline __m256 dword_byte(__m256i bits, const int place)
{
    const __m256i top =
        _mm256_setr_epi32(MIXT_TOP_BYTE(0, place), MIXT_TOP_BYTE(1, place), MIXT_TOP_BYTE(2, place),
                          MIXT_TOP_BYTE(3, place), MIXT_TOP_BYTE(0, place), MIXT_TOP_BYTE(1, place),
                          MIXT_TOP_BYTE(2, place), MIXT_TOP_BYTE(3, place));
    return _mm256_cvtepi32_ps(_mm256_shuffle_epi8(bits, top));
}

/* Value 4 i + place of what was turned, bytes 2^24 times as large. */
static inline v16 v_turned_f32(const void *turned, int64_t i, const int place)
{
    return v_load((const float *)turned + 16 * (4 * i + place), 16);
}

static inline v16 v_turned_f16(const void *turned, int64_t i, const int place)
{
    const __m128i *at =
        (const __m128i *)turned + 32 * (i / 4) + 4 * (4 * (i % 2) + place) + i / 2 % 2;
    return pair(_mm256_cvtph_ps(at[0]), _mm256_cvtph_ps(at[2]));
}

static inline v16 v_turned_bf16(const void *turned, int64_t i, const int place)
{
    const __m256i *at = (const __m256i *)turned + 2 * (2 * i + place / 2);
    return pair(dword_bf16(at[0], place % 2), dword_bf16(at[1], place % 2));
}

static inline v16 v_turned_byte(const void *turned, int64_t i, const int place)
{
    const __m256i *at = (const __m256i *)turned + 2 * i;
    return pair(dword_byte(at[0], place), dword_byte(at[1], place));
}

static inline void v_store_bytes(int8_t *to, v16 shifted)
{
    const __m256i rounder = _mm256_set1_epi32((int)MIXT_EXP_ROUNDER_BITS);
    __m256i low = _mm256_sub_epi32(_mm256_castps_si256(shifted.low), rounder);
    __m256i high = _mm256_sub_epi32(_mm256_castps_si256(shifted.high), rounder);
    __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
    __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
    _mm_storeu_si128((__m128i *)(void *)to, bytes);
}

#endif
