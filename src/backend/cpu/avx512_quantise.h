/* Activations to bytes with AVX-512 (see kernel_quantise of scalar_quant.c). */
#ifndef MIXT_BACKEND_CPU_AVX512_QUANTISE_H
#define MIXT_BACKEND_CPU_AVX512_QUANTISE_H

#include "backend/cpu/avx512_quant_lanes.h"
#include "backend/cpu/quant_q8.h"

/* 16 * vectors values that share a scale. */
static inline __attribute__((always_inline)) void
quantise_vectors(const float *x, const int vectors, int8_t *q, float *d)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
    __m512i most = _mm512_setzero_si512();
    for (int i = 0; i < vectors; i++) { /* as integers: NaN is above infinity */
        __m512i bits = _mm512_loadu_si512(x + 16 * i);
        most = _mm512_max_epu32(most, _mm512_and_si512(bits, magnitude));
    }
    uint32_t bits = _mm512_reduce_max_epu32(most);
    float inverse = mixt_q8_scale(bits, d);
    for (int i = 0; i < vectors; i++) {
        __m512 product = _mm512_mul_ps(_mm512_loadu_ps(x + 16 * i), _mm512_set1_ps(inverse));
        __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(product));
        bytes = inverse == 0 ? _mm_setzero_si128() : bytes;
        _mm_store_si128((__m128i *)(void *)(q + 16 * i), bytes);
    }
}

/* Of 64 bytes: in every dword of a quarter the sums of the first two and of the last two of every
 * four, over 16 values. */
static inline __m512i sums_of_64(__m512i bytes)
{
    __m512i pairs = _mm512_maddubs_epi16(_mm512_set1_epi8(1), bytes);
    pairs = _mm512_add_epi16(pairs, _mm512_shuffle_epi32(pairs, _MM_PERM_BADC));
    return _mm512_add_epi16(pairs, _mm512_shuffle_epi32(pairs, _MM_PERM_CDAB));
}

/* The two sums of each 16 of 256 bytes. */
static inline __m512i sums_of_step(__m512i a, __m512i b, __m512i c, __m512i d)
{
    /* dword p of quarter l is group 4 p + l */
    __m512i sums = sums_of_64(a);
    sums = _mm512_mask_mov_epi32(sums, 0x2222, sums_of_64(b));
    sums = _mm512_mask_mov_epi32(sums, 0x4444, sums_of_64(c));
    sums = _mm512_mask_mov_epi32(sums, 0x8888, sums_of_64(d));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, sums);
}

static inline void put_q8_large(mixt_q8 *to)
{
    __m512i sums = sums_of_step(_mm512_abs_epi8(_mm512_load_si512(to->q)),
                                _mm512_abs_epi8(_mm512_load_si512(to->q + 64)),
                                _mm512_abs_epi8(_mm512_load_si512(to->q + 128)),
                                _mm512_abs_epi8(_mm512_load_si512(to->q + 192)));
    __mmask32 large = _mm512_cmpgt_epi16_mask(sums, _mm512_set1_epi16(SMALL_SUM));
    sums = _mm512_maskz_mov_epi16(large, sums);
    to->large = _mm512_test_epi32_mask(sums, sums);
}

static inline void put_q8_sums(mixt_q8 *to)
{
    __m512i sums = sums_of_step(_mm512_load_si512(to->q), _mm512_load_si512(to->q + 64),
                                _mm512_load_si512(to->q + 128), _mm512_load_si512(to->q + 192));
    _mm512_store_si512(
        to->starts, _mm512_sub_epi16(_mm512_setzero_si512(), _mm512_slli_epi16(sums, START_SHIFT)));
    sums = _mm512_madd_epi16(sums, _mm512_set1_epi16(1));
    _mm256_store_si256((__m256i *)(void *)to->sums, _mm512_cvtepi32_epi16(sums));
    sums = _mm512_add_epi32(sums, _mm512_shuffle_epi32(sums, _MM_PERM_CDAB));
    sums = _mm512_maskz_compress_epi32(0x5555, sums);
    _mm256_storeu_si256((__m256i *)(void *)to->totals, _mm512_castsi512_si256(sums));
    _mm_storeu_si128((__m128i *)(void *)to->block_sums,
                     _mm512_castsi512_si128(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(sums))));
}

static void kernel_quantise(const float *x, int count, mixt_q8_kind kind, mixt_q8 *to)
{
    if (count < MIXT_STEP) {
        memset(to, 0, sizeof *to);
    }
    if (kind.by_32) {
        for (int j = 0; j < count; j += 32) {
            quantise_vectors(x + j, 2, to->q + j, &to->d[j / 32]);
        }
    } else {
        quantise_vectors(x, 16, to->q, to->d);
    }
    put_q8_sums(to);
    if (kind.wide) {
        int16_t *wide = ((mixt_q8_wide *)to)->q;
        put_q8_large(to);
        for (int j = 0; j < MIXT_STEP; j += 32) {
            __m256i bytes = _mm256_load_si256((const __m256i *)(const void *)(to->q + j));
            _mm512_store_si512(wide + j, _mm512_cvtepi8_epi16(bytes));
        }
    }
}

#endif
