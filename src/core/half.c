#include "core/half.h"

#include <math.h>
#include <stdbool.h>

/* OCP's E4M3: sign, four bits of exponent less 7, three of fraction; no infinities, and all ones
 * are NaN. */
#define F8_OCTAVE(unit)                                                                            \
    8 * (unit), 9 * (unit), 10 * (unit), 11 * (unit), 12 * (unit), 13 * (unit), 14 * (unit)
#define F8_HALF(sign)                                                                              \
    sign 0.0f, sign 0x1p-9f, sign 0x2p-9f, sign 0x3p-9f, sign 0x4p-9f, sign 0x5p-9f, sign 0x6p-9f, \
        sign 0x7p-9f, F8_OCTAVE(sign 0x1p-9f), sign 0xfp-9f, F8_OCTAVE(sign 0x1p-8f),              \
        sign 0xfp-8f, F8_OCTAVE(sign 0x1p-7f), sign 0xfp-7f, F8_OCTAVE(sign 0x1p-6f),              \
        sign 0xfp-6f, F8_OCTAVE(sign 0x1p-5f), sign 0xfp-5f, F8_OCTAVE(sign 0x1p-4f),              \
        sign 0xfp-4f, F8_OCTAVE(sign 0x1p-3f), sign 0xfp-3f, F8_OCTAVE(sign 0x1p-2f),              \
        sign 0xfp-2f, F8_OCTAVE(sign 0x1p-1f), sign 0xfp-1f, F8_OCTAVE(sign 0x1p0f), sign 0xfp0f,  \
        F8_OCTAVE(sign 0x1p1f), sign 0xfp1f, F8_OCTAVE(sign 0x1p2f), sign 0xfp2f,                  \
        F8_OCTAVE(sign 0x1p3f), sign 0xfp3f, F8_OCTAVE(sign 0x1p4f), sign 0xfp4f,                  \
        F8_OCTAVE(sign 0x1p5f), NAN

static const float f8_values[256] = {F8_HALF(+), F8_HALF(-)};

#if defined(__x86_64__)
#include <immintrin.h>

/* Every processor with AVX2 has F16C; asking CPUID itself costs a trap on virtual machines. */
static bool has_halves(void)
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

/* Shifted into fp16's places, where the exponent is less 15 and not 7: 2^8 mends it, for subnormals
 * too. Eights that hold no NaN; returns how many. */
__attribute__((target("avx2,f16c"))) static size_t f8_eights(const uint8_t *from, float factor,
                                                             float *to, size_t count)
{
    const __m128i low = _mm_set1_epi16(0x7f), sign = _mm_set1_epi16(0x80);
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        __m128i codes =
            _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)(from + i)));
        __m128i rest = _mm_and_si128(codes, low);
        if (_mm_movemask_epi8(_mm_cmpeq_epi16(rest, low)) != 0) {
            break;
        }
        __m128i halves =
            _mm_or_si128(_mm_slli_epi16(rest, 7), _mm_slli_epi16(_mm_and_si128(codes, sign), 8));
        __m256 x = _mm256_mul_ps(_mm256_cvtph_ps(halves), _mm256_set1_ps(256));
        _mm256_storeu_ps(to + i, _mm256_mul_ps(x, _mm256_set1_ps(factor)));
    }
    return i;
}
#elif defined(__aarch64__)
#include <arm_neon.h>

/* Every 64-bit ARM processor converts halves. */
#define has_halves() true

/* As with AVX2: eights that hold no NaN. */
static size_t f16_eights(const uint16_t *from, float *to, size_t count)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        float16x8_t halves = vreinterpretq_f16_u16(vld1q_u16(from + i));
        float32x4_t low = vcvt_f32_f16(vget_low_f16(halves)), high = vcvt_high_f32_f16(halves);
        uint32x4_t numbers = vandq_u32(vceqq_f32(low, low), vceqq_f32(high, high));
        if (vminvq_u32(numbers) == 0) {
            break;
        }
        vst1q_f32(to + i, low);
        vst1q_f32(to + i + 4, high);
    }
    return i;
}

static size_t bf16_eights(const uint16_t *from, float *to, size_t count)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        uint16x8_t halves = vld1q_u16(from + i);
        vst1q_f32(to + i, vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(halves), 16)));
        vst1q_f32(to + i + 4, vreinterpretq_f32_u32(vshll_high_n_u16(halves, 16)));
    }
    return i;
}

static size_t f8_eights(const uint8_t *from, float factor, float *to, size_t count)
{
    const uint16x8_t low = vdupq_n_u16(0x7f), sign = vdupq_n_u16(0x80);
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        uint16x8_t codes = vmovl_u8(vld1_u8(from + i)), rest = vandq_u16(codes, low);
        if (vmaxvq_u16(rest) == 0x7f) {
            break;
        }
        float16x8_t halves = vreinterpretq_f16_u16(
            vorrq_u16(vshlq_n_u16(rest, 7), vshlq_n_u16(vandq_u16(codes, sign), 8)));
        float32x4_t first = vcvt_f32_f16(vget_low_f16(halves)), second = vcvt_high_f32_f16(halves);
        vst1q_f32(to + i, vmulq_n_f32(vmulq_n_f32(first, 256), factor));
        vst1q_f32(to + i + 4, vmulq_n_f32(vmulq_n_f32(second, 256), factor));
    }
    return i;
}
#else
#define has_halves() false
#define f8_eights(from, factor, to, count) ((size_t)0)
#define f16_eights(from, to, count) ((size_t)0)
#define bf16_eights(from, to, count) ((size_t)0)
#endif

void mixt_f8_to_f32(const uint8_t *from, float factor, float *to, size_t count)
{
    bool fast = has_halves();
    for (size_t i = 0; i < count;) {
        i += fast ? f8_eights(from + i, factor, to + i, count - i) : 0;
        for (size_t end = i + 8; i < count && i < end; i++) {
            to[i] = f8_values[from[i]] * factor;
        }
    }
}

void mixt_bf16_to_f32(const uint16_t *from, float *to, size_t count)
{
    size_t i = has_halves() ? bf16_eights(from, to, count) : 0;
    for (; i < count; i++) {
        to[i] = mixt_bf16_value(from[i]);
    }
}

void mixt_f16_to_f32(const uint16_t *from, float *to, size_t count)
{
    bool fast = has_halves();
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
