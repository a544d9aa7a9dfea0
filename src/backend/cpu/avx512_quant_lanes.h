/* Sixteen 32-bit lanes with AVX-512 for quantised products (quant_panel.h). */
#ifndef MIXT_BACKEND_CPU_AVX512_QUANT_LANES_H
#define MIXT_BACKEND_CPU_AVX512_QUANT_LANES_H

#include <immintrin.h>

#include "backend/cpu/tiers.h"
#include "backend/cpu/x86_quads.h"

#define QUANT_LANES 16
#define QUANT_PANELS 2
#define QUANT_TOKENS 6

typedef __m512i vi;
typedef __m512 vf;

/* Rows of weights: row i begins at base + i * stride. `ahead`: what is fetched next, or NULL. */
typedef struct source {
    const uint8_t *base;
    size_t stride;
    const uint8_t *ahead;
} source;

#define vi_transpose_quads transpose_quads_avx512
#define vi_zero() _mm512_setzero_si512()
#define vi_set32(x) _mm512_set1_epi32(x)
#define vi_set_quads(a, b, c, d) _mm512_setr4_epi32(a, b, c, d)
#define vi_table(bytes)                                                                            \
    _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)(bytes)))
#define vi_load(from) _mm512_load_si512(from)
#define vi_loadu(from) _mm512_loadu_si512(from)
#define vi_and(a, b) _mm512_and_si512(a, b)
#define vi_or(a, b) _mm512_or_si512(a, b)
#define vi_srl32(x, n) _mm512_srli_epi32(x, (unsigned)(n))
#define vi_sll32(x, n) _mm512_slli_epi32(x, (unsigned)(n))
#define vi_sra32(x, n) _mm512_srai_epi32(x, (unsigned)(n))
#define vi_sra16(x, n) _mm512_srai_epi16(x, (unsigned)(n))
#define vi_sub8(a, b) _mm512_sub_epi8(a, b)
#define vi_sub16(a, b) _mm512_sub_epi16(a, b)
#define vi_sub32(a, b) _mm512_sub_epi32(a, b)
#define vi_add16(a, b) _mm512_add_epi16(a, b)
#define vi_add32(a, b) _mm512_add_epi32(a, b)
#define vi_min_u8(a, b) _mm512_min_epu8(a, b)
#define vi_mulhi16(a, b) _mm512_mulhi_epi16(a, b)
#define vi_mullo32(a, b) _mm512_mullo_epi32(a, b)
#define vi_madd(a, b) _mm512_madd_epi16(a, b)
#define vi_maddubs(a, b) _mm512_maddubs_epi16(a, b)
#define vi_shuffle8(x, index) _mm512_shuffle_epi8(x, index)

#define vf_load(from) _mm512_loadu_ps(from)
#define vf_store(to, x) _mm512_storeu_ps(to, x)
#define vf_set(x) _mm512_set1_ps(x)
#define vf_of_bits(x) _mm512_castsi512_ps(x)
#define vf_add(a, b) _mm512_add_ps(a, b)
#define vf_multiply(a, b) _mm512_mul_ps(a, b)
#define vf_fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define vf_convert(x) _mm512_cvtepi32_ps(x)
#define vf_negate(x) _mm512_xor_ps(x, _mm512_set1_ps(-0.0F))
/* The low half of each lane as a float. */
#define vf_half(x) _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x))

static inline vi vi_broadcast32(const void *from)
{
    int x;
    memcpy(&x, from, sizeof x);
    return _mm512_set1_epi32(x);
}

/* Four rows, 4 apart, in the quarters of a register. */
static inline vi load_quarters(const uint8_t *row, size_t four_rows)
{
    const __m128i *from = (const __m128i *)(const void *)row;
    vi x = _mm512_castsi128_si512(_mm_loadu_si128(from));
#define QUARTER(i)                                                                                 \
    x = _mm512_inserti32x4(                                                                        \
        x, _mm_loadu_si128((const __m128i *)(const void *)(row + (i)*four_rows)), i)
    QUARTER(1);
    QUARTER(2);
    QUARTER(3);
#undef QUARTER
    return x;
}

/* Dwords at offset, + 4, + 8, + 12 of sixteen rows. */
static inline void load_quads(const source *from, size_t offset, vi out[4])
{
    const uint8_t *row = from->base + offset;
    size_t stride = from->stride;
    const vi r[4] = {load_quarters(row, 4 * stride), load_quarters(row + stride, 4 * stride),
                     load_quarters(row + 2 * stride, 4 * stride),
                     load_quarters(row + 3 * stride, 4 * stride)};
    vi_transpose_quads(r, out);
}

#endif
