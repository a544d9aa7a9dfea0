/* Eight rows of typed weights as lanes, with AVX2, FMA and F16C (see float_rows.h). */
#ifndef MIXT_BACKEND_CPU_AVX2_ROWS_H
#define MIXT_BACKEND_CPU_AVX2_ROWS_H

#include <immintrin.h>

#include "backend/cpu/avx2_halves.h"
#include "backend/cpu/unroll.h"

#define ROW_LANES 8
#define TILE_WORDS 8

typedef __m256i vw;
typedef __m256 vr;

#define r_set(x) _mm256_set1_ps(x)
#define r_multiply(a, b) _mm256_mul_ps(a, b)
#define r_add(a, b) _mm256_add_ps(a, b)
#define r_fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define r_load(from) _mm256_loadu_ps(from)
#define r_store(to, x) _mm256_storeu_ps(to, x)
#define r_prefetch(at) _mm_prefetch((const char *)(at), _MM_HINT_T1)

/* Four words of row i in the lower half, of row i + 4 in the upper. */
INLINE __m256 load_two(const char *from, size_t stride)
{
    __m128 low = _mm_loadu_ps((const float *)(const void *)from);
    __m128 high = _mm_loadu_ps((const float *)(const void *)(from + 4 * stride));
    return _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
}

INLINE void load_words(const char *from, size_t stride, const int count, vw words[TILE_WORDS])
{
    EACH(half, count / 4)
    {
        const char *at = from + 16 * half;
        __m256 r0 = load_two(at, stride), r1 = load_two(at + stride, stride);
        __m256 r2 = load_two(at + 2 * stride, stride), r3 = load_two(at + 3 * stride, stride);
        __m256d low01 = _mm256_castps_pd(_mm256_unpacklo_ps(r0, r1));
        __m256d low23 = _mm256_castps_pd(_mm256_unpacklo_ps(r2, r3));
        __m256d high01 = _mm256_castps_pd(_mm256_unpackhi_ps(r0, r1));
        __m256d high23 = _mm256_castps_pd(_mm256_unpackhi_ps(r2, r3));
        words[4 * half] = _mm256_castpd_si256(_mm256_unpacklo_pd(low01, low23));
        words[4 * half + 1] = _mm256_castpd_si256(_mm256_unpackhi_pd(low01, low23));
        words[4 * half + 2] = _mm256_castpd_si256(_mm256_unpacklo_pd(high01, high23));
        words[4 * half + 3] = _mm256_castpd_si256(_mm256_unpackhi_pd(high01, high23));
    }
}

INLINE vr values_f32(vw word)
{
    return _mm256_castsi256_ps(word);
}

INLINE void values_bf16(vw word, vr values[2])
{
    values[0] = _mm256_castsi256_ps(_mm256_slli_epi32(word, 16));
    values[1] = _mm256_castsi256_ps(_mm256_and_si256(word, _mm256_set1_epi32((int)0xFFFF0000U)));
}

INLINE void values_f16(vw word, vr values[2])
{
    const __m256i even_then_odd =
        _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15, 0, 1, 4, 5, 8, 9, 12,
                         13, 2, 3, 6, 7, 10, 11, 14, 15);
    __m256i halves = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(word, even_then_odd), 0xD8);
    values[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(halves));
    values[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1));
}

/* Both bytes of the bfloat16 that a code is. A sign and the upper three bits of the exponent give
 * the upper byte, the lowest and the mantissa the lower one, exponents being moved by 120. Codes
 * below 8 have no exponent, they are multiples of 2^-9: theirs are changed by tables, which give 0
 * to indices above 127. */
INLINE void bytes_of_f8(vw codes, vw *high, vw *low)
{
    const __m256i exponents = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(60, 61, 62, 63, 64, 65, 66, 67, -68, -67, -66, -65, -64, -63, -62, -61));
    const __m256i change_high =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 60, 7, 7, 7, 0, 0, 0, 0));
    const __m256i change_low = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 0, 16, -96, -16, 64, 112, 32, 16));
    __m256i nibbles = _mm256_and_si256(_mm256_srli_epi16(codes, 4), _mm256_set1_epi8(15));
    __m256i magnitudes = _mm256_and_si256(codes, _mm256_set1_epi8(127));
    __m256i small = _mm256_add_epi8(magnitudes, _mm256_set1_epi8(120));
    __m256i nan = _mm256_cmpeq_epi8(magnitudes, _mm256_set1_epi8(127));
    *high = _mm256_xor_si256(_mm256_shuffle_epi8(exponents, nibbles),
                             _mm256_shuffle_epi8(change_high, small));
    *low = _mm256_xor_si256(_mm256_and_si256(_mm256_slli_epi16(codes, 4), _mm256_set1_epi8(-16)),
                            _mm256_shuffle_epi8(change_low, small));
    *high = _mm256_or_si256(*high, nan);
    *low = _mm256_or_si256(*low, nan);
}

INLINE void values_f8(vw word, vr values[4])
{
    const __m256i upper = _mm256_set1_epi16((short)0xFF00);
    vw high, low;
    vr even[2], odd[2];
    bytes_of_f8(word, &high, &low);
    values_bf16(_mm256_blendv_epi8(low, _mm256_slli_epi16(high, 8), upper), even);
    values_bf16(_mm256_blendv_epi8(_mm256_srli_epi16(low, 8), high, upper), odd);
    values[0] = even[0];
    values[1] = odd[0];
    values[2] = even[1];
    values[3] = odd[1];
}

/* Eight values of a row (float_lanes.h). */
typedef vr v8;

#define v8_zero() r_set(0)
#define v8_load(from) r_load(from)
#define v8_store(to, x) r_store(to, x)
#define v8_fma(a, b, c) r_fma(a, b, c)
#define v8_keep(x) __asm__("" : "+v"(x))
#define v8_f16(from) load_f16(from)
#define v8_bf16(from) load_bf16(from)

#endif
