/* Sixteen rows of typed weights as lanes, with AVX-512 (see float_rows.h). */
#ifndef MIXT_BACKEND_CPU_AVX512_ROWS_H
#define MIXT_BACKEND_CPU_AVX512_ROWS_H

#include <immintrin.h>

#include "backend/cpu/f8_magnitudes.h"
#include "backend/cpu/x86_quads.h"

#define ROW_LANES 16
#define TILE_WORDS 16

typedef __m512i vw;
typedef __m512 vr;

#define r_set(x) _mm512_set1_ps(x)
#define r_multiply(a, b) _mm512_mul_ps(a, b)
#define r_add(a, b) _mm512_add_ps(a, b)
#define r_fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define r_load(from) _mm512_loadu_ps(from)
#define r_store(to, x) _mm512_storeu_ps(to, x)
#define r_prefetch(at) _mm_prefetch((const char *)(at), _MM_HINT_T1)

/* A quarter of row i in the lower half, of row i + 4 in the upper. */
INLINE vw load_two(const char *from, size_t stride)
{
    __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)from);
    __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)(from + 4 * stride));
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

/* The first 8 or 16 words of rows. Both halves of a row's line are read at once: where rows are a
 * multiple of 4,096 bytes apart, their lines do not stay together in the first cache. */
INLINE void load_words(const char *from, size_t stride, const int count, vw words[TILE_WORDS])
{
    const int halves = count / 8;
    vw r[2][2][4]; /* words 0 to 7, and 8 to 15, of rows 0 to 7, and of rows 8 to 15 */
    EACH(i, 8)
    {
        const char *row = from + (size_t)(i / 4 * 8 + i % 4) * stride;
        EACH(half, halves) r[half][i / 4][i % 4] = load_two(row + 32 * half, stride);
    }
    EACH(half, halves)
    {
        EACH(i, 2) transpose_quads_avx512(r[half][i], r[half][i]);
        EACH(c, 4)
        {
            words[8 * half + c] = _mm512_shuffle_i32x4(r[half][0][c], r[half][1][c], 0x88);
            words[8 * half + c + 4] = _mm512_shuffle_i32x4(r[half][0][c], r[half][1][c], 0xDD);
        }
    }
}

INLINE vr values_f32(vw word)
{
    return _mm512_castsi512_ps(word);
}

INLINE void values_bf16(vw word, vr values[2])
{
    values[0] = _mm512_castsi512_ps(_mm512_slli_epi32(word, 16));
    values[1] = _mm512_castsi512_ps(_mm512_and_si512(word, _mm512_set1_epi32((int)0xFFFF0000U)));
}

#define values_f16(word, values) floats_of_halves(word, values)

/* bfloat16 holds every value of E4M3. Magnitudes are looked up: 64 in two registers, the upper 64
 * in two more. */
INLINE __m512i bf16_of_f8(__m512i index, __m512i signs)
{
    const __m512i t0 = _mm512_loadu_si512(f8_magnitudes),
                  t1 = _mm512_loadu_si512(f8_magnitudes + 32);
    const __m512i t2 = _mm512_loadu_si512(f8_magnitudes + 64);
    const __m512i t3 = _mm512_loadu_si512(f8_magnitudes + 96);
    __mmask32 upper = _mm512_test_epi16_mask(index, _mm512_set1_epi16(0x40));
    __m512i magnitude = _mm512_mask_blend_epi16(upper, _mm512_permutex2var_epi16(t0, index, t1),
                                                _mm512_permutex2var_epi16(t2, index, t3));
    enum { MAGNITUDE_OR_SIGN = 0xF8 }; /* a | (b & c) */
    return _mm512_ternarylogic_epi32(magnitude, signs, _mm512_set1_epi16((short)0x8000),
                                     MAGNITUDE_OR_SIGN);
}

INLINE void values_f8(vw word, vr values[4])
{
    vr even[2], odd[2];
    values_bf16(bf16_of_f8(word, _mm512_slli_epi16(word, 8)), even);
    values_bf16(bf16_of_f8(_mm512_srli_epi16(word, 8), word), odd);
    values[0] = even[0];
    values[1] = odd[0];
    values[2] = even[1];
    values[3] = odd[1];
}

#endif
