/* The dwords of four registers change places within each 128 bits: register i of the result has
 * dword i of each of the four. Of AVX2's registers and of AVX-512's. */
#ifndef MIXT_BACKEND_CPU_X86_QUADS_H
#define MIXT_BACKEND_CPU_X86_QUADS_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "backend/cpu/unroll.h"

/* Control of a shuffle of bytes, for dword i of each 128 bits: its byte `place` at the top, zeros
 * below. */
#define MIXT_TOP_BYTE(i, place) ((4 * (i) + (place)) << 24 | 0x808080)

#define TRANSPOSE_QUADS(name, vector, set)                                                         \
    INLINE void name(const vector r[4], vector out[4])                                             \
    {                                                                                              \
        vector low01 = set##_unpacklo_epi32(r[0], r[1]), low23 = set##_unpacklo_epi32(r[2], r[3]); \
        vector high01 = set##_unpackhi_epi32(r[0], r[1]);                                          \
        vector high23 = set##_unpackhi_epi32(r[2], r[3]);                                          \
        out[0] = set##_unpacklo_epi64(low01, low23);                                               \
        out[1] = set##_unpackhi_epi64(low01, low23);                                               \
        out[2] = set##_unpacklo_epi64(high01, high23);                                             \
        out[3] = set##_unpackhi_epi64(high01, high23);                                             \
    }

TRANSPOSE_QUADS(transpose_quads_avx2, __m256i, _mm256)
#ifdef __AVX512F__
TRANSPOSE_QUADS(transpose_quads_avx512, __m512i, _mm512)
#endif
#undef TRANSPOSE_QUADS

#ifdef __AVX512BW__
/* Halves of dwords as floats: the lower ones, then the upper ones. */
INLINE void floats_of_halves(__m512i dwords, __m512 values[2])
{
    const __m512i even_then_odd =
        _mm512_set_epi16(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1, 30, 28, 26, 24,
                         22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    __m512i halves = _mm512_permutexvar_epi16(even_then_odd, dwords);
    values[0] = _mm512_cvtph_ps(_mm512_castsi512_si256(halves));
    values[1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1));
}
#endif

/* Eight words of a table, by as many indices. */
INLINE __m128i look_up_eight(const uint16_t *table, const uint16_t *index)
{
    uint64_t first, second;
    memcpy(&first, index, sizeof first);
    memcpy(&second, index + 4, sizeof second);
    __m128i x = _mm_cvtsi32_si128(table[first & 0xFFFF]);
#define INSERT(i, from) x = _mm_insert_epi16(x, table[(from) >> 16 * ((i) % 4) & 0xFFFF], i)
    INSERT(1, first);
    INSERT(2, first);
    INSERT(3, first);
    INSERT(4, second);
    INSERT(5, second);
    INSERT(6, second);
    INSERT(7, second);
#undef INSERT
    return x;
}

#endif
