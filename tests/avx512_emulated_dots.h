/* The instructions of VNNI spelled out in AVX-512 F and BW. */
#ifndef MIXT_TESTS_AVX512_EMULATED_DOTS_H
#define MIXT_TESTS_AVX512_EMULATED_DOTS_H

#include "backend/cpu/avx512_quantise.h"

/* Words of a times words of b, pairs of products summed in 32 bits, added to `sum`. */
static inline vi vi_dpwssd(vi sum, vi a, vi b)
{
    return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
}

/* Bytes without sign of a times bytes with sign of b, four products added to `sum`. */
static inline vi vi_dot4(vi sum, vi a, vi b)
{
    vi even = _mm512_madd_epi16(_mm512_and_si512(a, _mm512_set1_epi16(0xFF)),
                                _mm512_srai_epi16(_mm512_slli_epi16(b, 8), 8));
    vi odd = _mm512_madd_epi16(_mm512_srli_epi16(a, 8), _mm512_srai_epi16(b, 8));
    return _mm512_add_epi32(sum, _mm512_add_epi32(even, odd));
}

#endif
