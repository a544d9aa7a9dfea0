/* The bfloat16 tile with its instruction spelled out, on the tile of the library. */
#include "avx512_emulated.h"

#include <immintrin.h>
#include <stdint.h>

static inline __m512 add_pair(__m512 sum, __m512 a, __m512 b)
{
    const __m512i high = _mm512_set1_epi32((int)0xFFFF0000U);
    __m512i a_bits = _mm512_castps_si512(a), b_bits = _mm512_castps_si512(b);
    __m512 a_odd = _mm512_castsi512_ps(_mm512_and_si512(a_bits, high));
    __m512 b_odd = _mm512_castsi512_ps(_mm512_and_si512(b_bits, high));
    __m512 a_even = _mm512_castsi512_ps(_mm512_slli_epi32(a_bits, 16));
    __m512 b_even = _mm512_castsi512_ps(_mm512_slli_epi32(b_bits, 16));
    sum = _mm512_fmadd_ps(a_odd, b_odd, sum);
    return _mm512_fmadd_ps(a_even, b_even, sum);
}

#define TILE_ADD(sum, a, b) add_pair(sum, a, b)
#define FILL mixt_fill_avx512_emulated_bf16
#include "backend/cpu/avx512bf16.c"
