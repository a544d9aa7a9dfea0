#include "core/half.h"

#include <stdbool.h>

#if defined(__x86_64__)
#include <immintrin.h>

/* Every processor with AVX2 has F16C; asking CPUID itself costs a trap on virtual machines. */
static bool has_f16c(void)
{
    return __builtin_cpu_supports("avx2") != 0;
}

/* Eights of values that hold no NaN, which the instruction would change; returns how many. */
__attribute__((target("avx2,f16c"))) static size_t f16_eights(const uint16_t *from, float *to,
                                                              size_t count)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        __m256 x = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(from + i)));
        if (_mm256_movemask_ps(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)) != 0) {
            break;
        }
        _mm256_storeu_ps(to + i, x);
    }
    return i;
}

__attribute__((target("avx2"))) static size_t bf16_eights(const uint16_t *from, float *to,
                                                          size_t count)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        __m128i halves = _mm_loadu_si128((const __m128i *)(const void *)(from + i));
        __m256i x = _mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16);
        _mm256_storeu_si256((__m256i *)(void *)(to + i), x);
    }
    return i;
}
#else
#define has_f16c() false
#define f16_eights(from, to, count) ((size_t)0)
#define bf16_eights(from, to, count) ((size_t)0)
#endif

void mixt_bf16_to_f32(const uint16_t *from, float *to, size_t count)
{
    size_t i = has_f16c() ? bf16_eights(from, to, count) : 0;
    for (; i < count; i++) {
        to[i] = mixt_bf16_value(from[i]);
    }
}

void mixt_f16_to_f32(const uint16_t *from, float *to, size_t count)
{
    bool fast = has_f16c();
    for (size_t i = 0; i < count;) {
        i += fast ? f16_eights(from + i, to + i, count - i) : 0;
        for (size_t end = i + 8; i < count && i < end; i++) {
            to[i] = mixt_f16_value(from[i]);
        }
    }
}

void mixt_f32_to_bf16(const float *from, uint16_t *to, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        to[i] = mixt_bf16_bits(from[i]);
    }
}

void mixt_f32_to_f16(const float *from, uint16_t *to, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        to[i] = mixt_f16_bits(from[i]);
    }
}
