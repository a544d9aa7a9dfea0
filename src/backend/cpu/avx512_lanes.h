/* Sixteen fp32 lanes with AVX-512: sixteen lanes are one register (see vector.h). */
#ifndef MIXT_BACKEND_CPU_AVX512_LANES_H
#define MIXT_BACKEND_CPU_AVX512_LANES_H

#include <immintrin.h>
#include <math.h>
#include <stdbool.h>

#include "backend/cpu/tiers.h"
#include "backend/cpu/x86_quads.h"

typedef __m512 v16;

static inline __mmask16 mask_of(int count)
{
    return (__mmask16)((1U << count) - 1U);
}

static inline v16 v_set(float x)
{
    return _mm512_set1_ps(x);
}

static inline v16 v_load(const float *from, int count)
{
    return count == 16 ? _mm512_loadu_ps(from) : _mm512_maskz_loadu_ps(mask_of(count), from);
}

static inline void v_store(float *to, v16 x, int count)
{
    if (count == 16) {
        _mm512_storeu_ps(to, x);
    } else {
        _mm512_mask_storeu_ps(to, mask_of(count), x);
    }
}

static inline v16 v_add(v16 a, v16 b)
{
    return _mm512_add_ps(a, b);
}

static inline v16 v_subtract(v16 a, v16 b)
{
    return _mm512_sub_ps(a, b);
}

static inline v16 v_multiply(v16 a, v16 b)
{
    return _mm512_mul_ps(a, b);
}

static inline v16 v_divide(v16 a, v16 b)
{
    return _mm512_div_ps(a, b);
}

static inline v16 v_square_root(v16 a)
{
    return _mm512_sqrt_ps(a);
}

static inline v16 v_negate(v16 a)
{
    return _mm512_xor_ps(a, _mm512_set1_ps(-0.0F));
}

static inline v16 v_fma(v16 a, v16 b, v16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline v16 v_least(v16 a, v16 b)
{
    return _mm512_min_ps(a, b);
}

static inline v16 v_greatest(v16 a, v16 b)
{
    return _mm512_max_ps(a, b);
}

static inline v16 v_keep(v16 old, v16 new, int count)
{
    return count == 16 ? new : _mm512_mask_mov_ps(old, mask_of(count), new);
}

static inline v16 v_hide(v16 x, v16 key, v16 first, v16 last)
{
    __mmask16 hidden =
        _mm512_cmp_ps_mask(key, first, _CMP_LT_OQ) | _mm512_cmp_ps_mask(key, last, _CMP_GT_OQ);
    return _mm512_mask_mov_ps(x, hidden, _mm512_set1_ps(-INFINITY));
}

static inline v16 v_clear_below(v16 y, v16 x, v16 bound)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, bound, _CMP_NLT_UQ), y);
}

static inline bool v_any_nan(v16 x)
{
    return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q) != 0;
}

static inline v16 v_power(v16 p, v16 shifted, v16 n)
{
    (void)shifted;
    return _mm512_scalef_ps(p, n);
}

static inline float v_fold(v16 x)
{
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

/* max_ps(high, low): the high lane only where it is greater. */
static inline float v_fold_greatest(v16 x)
{
    __m256 eight = _mm256_max_ps(_mm512_extractf32x8_ps(x, 1), _mm512_castps512_ps256(x));
    __m128 four = _mm_max_ps(_mm256_extractf128_ps(eight, 1), _mm256_castps256_ps128(eight));
    __m128 two = _mm_max_ps(_mm_movehl_ps(four, four), four);
    return _mm_cvtss_f32(_mm_max_ss(_mm_shuffle_ps(two, two, 1), two));
}

/* Bits of the nearest bfloat16, ties to even, in the high half; NaN stays NaN. */
static inline __m512i round_bf16(__m512 x)
{
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    up = _mm512_mask_or_epi32(up, nan, bits, _mm512_set1_epi32(0x00400000));
    return _mm512_and_si512(up, _mm512_set1_epi32((int)0xFFFF0000U));
}

static inline v16 v_round_bf16(v16 x)
{
    return _mm512_castsi512_ps(round_bf16(x));
}

static inline v16 v_load_f16(const uint16_t *from)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)from));
}

static inline void v_store_f16(uint16_t *to, v16 x)
{
    _mm256_storeu_si256((__m256i *)(void *)to, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

static inline v16 v_set_f16(uint16_t bits)
{
    return _mm512_cvtph_ps(_mm256_set1_epi16((short)bits));
}

/* Quads of rows become quads of columns, then quads change places. */
static inline __attribute__((always_inline)) void v_transpose(v16 x[16])
{
    UNROLL for (int i = 0; i < 16; i += 4)
    {
        __m512i r[4];
        UNROLL for (int j = 0; j < 4; j++) r[j] = _mm512_castps_si512(x[i + j]);
        transpose_quads_avx512(r, r);
        UNROLL for (int j = 0; j < 4; j++) x[i + j] = _mm512_castsi512_ps(r[j]);
    }
    UNROLL for (int i = 0; i < 4; i++)
    {
        v16 even = _mm512_shuffle_f32x4(x[i], x[i + 4], 0x88);
        v16 odd = _mm512_shuffle_f32x4(x[i], x[i + 4], 0xDD);
        v16 even_high = _mm512_shuffle_f32x4(x[i + 8], x[i + 12], 0x88);
        v16 odd_high = _mm512_shuffle_f32x4(x[i + 8], x[i + 12], 0xDD);
        x[i] = _mm512_shuffle_f32x4(even, even_high, 0x88);
        x[i + 4] = _mm512_shuffle_f32x4(odd, odd_high, 0x88);
        x[i + 8] = _mm512_shuffle_f32x4(even, even_high, 0xDD);
        x[i + 12] = _mm512_shuffle_f32x4(odd, odd_high, 0xDD);
    }
}

static inline v16 v_load_bf16(const uint16_t *from)
{
    __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
}

static inline void v_store_bf16(uint16_t *to, v16 x)
{
    _mm256_storeu_si256((__m256i *)(void *)to,
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(round_bf16(x), 16)));
}

/* What cached_rows.h transposes in dwords: a half, a bfloat16 or a signed byte of each lane. */
#define V_DWORDS(type) ((type) != MIXT_TYPE_F32)

#define V_DWORD_F16 v_dword_f16
static inline v16 v_dword_f16(v16 x, const int place)
{
    v16 values[2];
    floats_of_halves(_mm512_castps_si512(x), values);
    return values[place];
}

static inline v16 v_dword_bf16(v16 x, const int place)
{
    __m512i bits = _mm512_castps_si512(x);
    return _mm512_castsi512_ps(place == 0
                                   ? _mm512_slli_epi32(bits, 16)
                                   : _mm512_and_si512(bits, _mm512_set1_epi32((int)0xFFFF0000U)));
}

/* 2^24 times the byte: it is put at the top of its dword. */
static inline v16 v_dword_byte(v16 x, const int place)
{
    const __m512i top =
        _mm512_set_epi32(MIXT_TOP_BYTE(3, place), MIXT_TOP_BYTE(2, place), MIXT_TOP_BYTE(1, place),
                         MIXT_TOP_BYTE(0, place), MIXT_TOP_BYTE(3, place), MIXT_TOP_BYTE(2, place),
                         MIXT_TOP_BYTE(1, place), MIXT_TOP_BYTE(0, place), MIXT_TOP_BYTE(3, place),
                         MIXT_TOP_BYTE(2, place), MIXT_TOP_BYTE(1, place), MIXT_TOP_BYTE(0, place),
                         MIXT_TOP_BYTE(3, place), MIXT_TOP_BYTE(2, place), MIXT_TOP_BYTE(1, place),
                         MIXT_TOP_BYTE(0, place));
    return _mm512_cvtepi32_ps(_mm512_shuffle_epi8(_mm512_castps_si512(x), top));
}

/* Eight dwords of sixteen rows, at `offset` of each: x[i] holds dword i of all rows. */
static inline __attribute__((always_inline)) void v_load_quads(const char *const rows[16],
                                                               int64_t offset, v16 x[8])
{
    const __m512i even = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
    const __m512i odd = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
    __m512i m[8], t[8];
    UNROLL for (int i = 0; i < 8; i++)
    {
        m[i] = _mm512_inserti64x4(
            _mm512_castsi256_si512(
                _mm256_loadu_si256((const __m256i *)(const void *)(rows[i] + offset))),
            _mm256_loadu_si256((const __m256i *)(const void *)(rows[i + 8] + offset)), 1);
    }
    UNROLL for (int i = 0; i < 8; i += 2)
    {
        t[i] = _mm512_unpacklo_epi32(m[i], m[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(m[i], m[i + 1]);
    }
    UNROLL for (int i = 0; i < 8; i += 4)
    {
        m[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        m[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        m[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        m[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    UNROLL for (int i = 0; i < 4; i++)
    {
        x[i] = _mm512_castsi512_ps(_mm512_permutex2var_epi64(m[i], even, m[i + 4]));
        x[i + 4] = _mm512_castsi512_ps(_mm512_permutex2var_epi64(m[i], odd, m[i + 4]));
    }
}

static inline v16 v_load_bytes(const int8_t *from)
{
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)from)));
}

static inline void v_store_bytes(int8_t *to, v16 shifted)
{
    const __m512i rounder = _mm512_set1_epi32((int)MIXT_EXP_ROUNDER_BITS);
    __m512i n = _mm512_sub_epi32(_mm512_castps_si512(shifted), rounder);
    _mm_storeu_si128((__m128i *)(void *)to, _mm512_cvtepi32_epi8(n));
}

#endif
