/* Eight values of half precision or of bfloat16 as fp32, with AVX2 and F16C. */
#ifndef MIXT_BACKEND_CPU_AVX2_HALVES_H
#define MIXT_BACKEND_CPU_AVX2_HALVES_H

#include <immintrin.h>

#include "backend/cpu/unroll.h"

INLINE __m256 load_f16(const void *from)
{
    return _mm256_cvtph_ps(_mm_loadu_si128(from));
}

INLINE __m256 load_bf16(const void *from)
{
    __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}

#endif
