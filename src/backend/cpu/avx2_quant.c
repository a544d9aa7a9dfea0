/* Products with quantised weights with AVX2: eight 32-bit lanes. */
#include <immintrin.h>

#include "backend/cpu/quant_q8.h"
#include "backend/cpu/tiers.h"
#include "backend/cpu/x86_quads.h"

#define QUANT_LANES 8
#define QUANT_PANELS 2
#define QUANT_TOKENS 4
/* Eight sums of products fit the registers, but not eight totals beside them. */
#define QUANT_SPILLS

typedef __m256i vi;
typedef __m256 vf;

/* See avx512_quant_lanes.h. */
typedef struct source {
    const uint8_t *base;
    size_t stride;
    const uint8_t *ahead;
} source;

#define vi_transpose_quads transpose_quads_avx2
#define vi_zero() _mm256_setzero_si256()
#define vi_set32(x) _mm256_set1_epi32(x)
#define vi_set_quads(a, b, c, d) _mm256_broadcastsi128_si256(_mm_setr_epi32(a, b, c, d))
#define vi_table(bytes)                                                                            \
    _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(bytes)))
#define vi_load(from) _mm256_load_si256((const __m256i *)(const void *)(from))
#define vi_loadu(from) _mm256_loadu_si256((const __m256i *)(const void *)(from))
#define vi_and(a, b) _mm256_and_si256(a, b)
#define vi_or(a, b) _mm256_or_si256(a, b)
#define vi_srl32(x, n) _mm256_srli_epi32(x, n)
#define vi_sll32(x, n) _mm256_slli_epi32(x, n)
#define vi_sra32(x, n) _mm256_srai_epi32(x, n)
#define vi_sra16(x, n) _mm256_srai_epi16(x, n)
#define vi_sll16(x, n) _mm256_slli_epi16(x, n)
#define vi_sub8(a, b) _mm256_sub_epi8(a, b)
#define vi_sub16(a, b) _mm256_sub_epi16(a, b)
#define vi_sub32(a, b) _mm256_sub_epi32(a, b)
#define vi_add16(a, b) _mm256_add_epi16(a, b)
#define vi_add32(a, b) _mm256_add_epi32(a, b)
#define vi_min_u8(a, b) _mm256_min_epu8(a, b)
#define vi_mulhi16(a, b) _mm256_mulhi_epi16(a, b)
#define vi_mullo32(a, b) _mm256_mullo_epi32(a, b)
#define vi_madd(a, b) _mm256_madd_epi16(a, b)
#define vi_maddubs(a, b) _mm256_maddubs_epi16(a, b)
#define vi_dpwssd(sum, a, b) _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
#define vi_shuffle8(x, index) _mm256_shuffle_epi8(x, index)

#define vf_load(from) _mm256_loadu_ps(from)
#define vf_store(to, x) _mm256_storeu_ps(to, x)
#define vf_set(x) _mm256_set1_ps(x)
#define vf_of_bits(x) _mm256_castsi256_ps(x)
#define vf_add(a, b) _mm256_add_ps(a, b)
#define vf_multiply(a, b) _mm256_mul_ps(a, b)
#define vf_fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define vf_convert(x) _mm256_cvtepi32_ps(x)
#define vf_negate(x) _mm256_xor_ps(x, _mm256_set1_ps(-0.0F))

/* The low half of each lane as a float. */
static inline vf vf_half(vi x)
{
    x = _mm256_and_si256(x, _mm256_set1_epi32(0xFFFF));
    x = _mm256_permute4x64_epi64(_mm256_packus_epi32(x, x), 0x08);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(x));
}

static inline vi vi_broadcast32(const void *from)
{
    int x;
    memcpy(&x, from, sizeof x);
    return _mm256_set1_epi32(x);
}

/* Two rows, 4 apart, in the halves of a register. */
static inline vi load_halves(const uint8_t *row, size_t four_rows)
{
    __m128i low = _mm_loadu_si128((const __m128i *)(const void *)row);
    __m128i high = _mm_loadu_si128((const __m128i *)(const void *)(row + four_rows));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

/* Dwords at offset, + 4, + 8, + 12 of eight rows. */
static inline void load_quads(const source *from, size_t offset, vi out[4])
{
    const uint8_t *row = from->base + offset;
    size_t stride = from->stride;
    const vi r[4] = {load_halves(row, 4 * stride), load_halves(row + stride, 4 * stride),
                     load_halves(row + 2 * stride, 4 * stride),
                     load_halves(row + 3 * stride, 4 * stride)};
    vi_transpose_quads(r, out);
}

/* Sixteen bytes of x * inverse, to the nearest. */
static inline __m128i round_16(const float *x, __m256 inverse)
{
    __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), inverse));
    __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), inverse));
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
    return _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

static inline void quantise_group(const float *x, int count, int8_t *q, float *d)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
    __m256i most = _mm256_setzero_si256();
    for (int i = 0; i < count; i += 8) { /* as integers: NaN is above infinity */
        __m256i bits = _mm256_loadu_si256((const __m256i *)(const void *)(x + i));
        most = _mm256_max_epu32(most, _mm256_and_si256(bits, magnitude));
    }
    __m128i four = _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4E));
    four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0xB1));
    float inverse = mixt_q8_scale((uint32_t)_mm_cvtsi128_si32(four), d);
    if (inverse == 0) {
        memset(q, 0, (size_t)count);
        return;
    }
    for (int i = 0; i < count; i += 16) {
        _mm_store_si128((__m128i *)(void *)(q + i), round_16(x + i, _mm256_set1_ps(inverse)));
    }
}

/* Of four times 32 values or magnitudes: in each dword the sums of the first two and of the last
 * two of every four, over 16 values. */
static inline __m256i sums_of_128(const int8_t *q, const bool magnitudes)
{
    __m256i sums[4];
    for (int i = 0; i < 4; i++) {
        __m256i bytes = _mm256_load_si256((const __m256i *)(const void *)(q + 32 * i));
        bytes = magnitudes ? _mm256_abs_epi8(bytes) : bytes;
        __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
        pairs = _mm256_add_epi16(pairs, _mm256_shuffle_epi32(pairs, 0x4E));
        sums[i] = _mm256_add_epi16(pairs, _mm256_shuffle_epi32(pairs, 0xB1));
    }
    __m256i even = _mm256_blend_epi32(sums[0], sums[1], 0x22);
    __m256i odd = _mm256_blend_epi32(sums[2], sums[3], 0x88);
    __m256i all = _mm256_blend_epi32(even, odd, 0xCC); /* dword p of half l is group 2 p + l */
    return _mm256_permutevar8x32_epi32(all, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/* A bit for each 16 of 128 values whose products may not fit 16 bits. */
static inline int large_of_128(const int8_t *q)
{
    __m256i large = _mm256_cmpgt_epi16(sums_of_128(q, true), _mm256_set1_epi16(SMALL_SUM));
    large = _mm256_or_si256(large, _mm256_slli_epi32(large, 16));
    return _mm256_movemask_ps(_mm256_castsi256_ps(large));
}

/* mixt_q8_finish. */
static inline void finish_record(mixt_q8_kind kind, mixt_q8 *to)
{
    const __m256i one = _mm256_set1_epi16(1), zero = _mm256_setzero_si256();
    __m256i low = sums_of_128(to->q, false), high = sums_of_128(to->q + 128, false);
    __m256i *starts = (__m256i *)(void *)to->starts;
    _mm256_store_si256(starts, _mm256_sub_epi16(zero, vi_sll16(low, START_SHIFT)));
    _mm256_store_si256(starts + 1, _mm256_sub_epi16(zero, vi_sll16(high, START_SHIFT)));
    __m256i sums = _mm256_packs_epi32(vi_madd(low, one), vi_madd(high, one));
    sums = _mm256_permute4x64_epi64(sums, 0xD8);
    _mm256_store_si256((__m256i *)(void *)to->sums, sums);
    __m256i totals = vi_madd(sums, one);
    _mm256_storeu_si256((__m256i *)(void *)to->totals, totals);
    _mm_store_si128(
        (__m128i *)(void *)to->block_sums,
        _mm_packs_epi32(_mm256_castsi256_si128(totals), _mm256_extracti128_si256(totals, 1)));
    if (kind.wide) {
        int16_t *wide = ((mixt_q8_wide *)to)->q;
        to->large = large_of_128(to->q) | large_of_128(to->q + 128) << 8;
        for (int j = 0; j < MIXT_STEP; j += 16) {
            __m128i bytes = _mm_load_si128((const __m128i *)(const void *)(to->q + j));
            _mm256_store_si256((__m256i *)(void *)(wide + j), _mm256_cvtepi8_epi16(bytes));
        }
    }
}

#define Q8_FINISH finish_record
#include "backend/cpu/quantise_groups.h"

#define FILL mixt_fill_avx2_matrix
#include "backend/cpu/quant_kernels.h"
