/* Four rows of typed weights as lanes, with NEON (see float_rows.h). */
#ifndef MIXT_BACKEND_CPU_NEON_ROWS_H
#define MIXT_BACKEND_CPU_NEON_ROWS_H

#include <arm_neon.h>
#include <stddef.h>

#include "backend/cpu/unroll.h"

#define ROW_LANES 4
#define TILE_WORDS 4

typedef uint32x4_t vw;
typedef float32x4_t vr;

#define r_set(x) vdupq_n_f32(x)
#define r_multiply(a, b) vmulq_f32(a, b)
#define r_add(a, b) vaddq_f32(a, b)
#define r_fma(a, b, c) vfmaq_f32(c, a, b)
#define r_load(from) vld1q_f32(from)
#define r_store(to, x) vst1q_f32(to, x)
#define r_prefetch(at) __builtin_prefetch(at)

INLINE vw load_row(const char *from)
{
    return vreinterpretq_u32_u8(vld1q_u8((const uint8_t *)(const void *)from));
}

INLINE void load_words(const char *from, size_t stride, const int count, vw words[TILE_WORDS])
{
    (void)count;
    vw r0 = load_row(from), r1 = load_row(from + stride);
    vw r2 = load_row(from + 2 * stride), r3 = load_row(from + 3 * stride);
    uint64x2_t low01 = vreinterpretq_u64_u32(vzip1q_u32(r0, r1));
    uint64x2_t low23 = vreinterpretq_u64_u32(vzip1q_u32(r2, r3));
    uint64x2_t high01 = vreinterpretq_u64_u32(vzip2q_u32(r0, r1));
    uint64x2_t high23 = vreinterpretq_u64_u32(vzip2q_u32(r2, r3));
    words[0] = vreinterpretq_u32_u64(vzip1q_u64(low01, low23));
    words[1] = vreinterpretq_u32_u64(vzip2q_u64(low01, low23));
    words[2] = vreinterpretq_u32_u64(vzip1q_u64(high01, high23));
    words[3] = vreinterpretq_u32_u64(vzip2q_u64(high01, high23));
}

INLINE vr values_f32(vw word)
{
    return vreinterpretq_f32_u32(word);
}

INLINE void values_bf16(vw word, vr values[2])
{
    values[0] = vreinterpretq_f32_u32(vshlq_n_u32(word, 16));
    values[1] = vreinterpretq_f32_u32(vandq_u32(word, vdupq_n_u32(0xFFFF0000U)));
}

INLINE void values_f16(vw word, vr values[2])
{
    values[0] = vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(word)));
    values[1] = vcvt_f32_f16(vreinterpret_f16_u16(vshrn_n_u32(word, 16)));
}

/* The code whose sign is at bit 31 and its magnitude below. Exponents 1 to 15 are moved; codes
 * below them are eighths of 2^-6: that much more than the same number without eighths. */
INLINE vr value_f8(vw code)
{
    const vw smallest = vdupq_n_u32(121U << 23);
    vw magnitude = vshrq_n_u32(vandq_u32(code, vdupq_n_u32(0x7F000000U)), 4);
    vr eighths = vsubq_f32(vreinterpretq_f32_u32(vaddq_u32(magnitude, smallest)),
                           vreinterpretq_f32_u32(smallest));
    vw normal = vcgeq_u32(magnitude, vdupq_n_u32(1U << 23));
    vw nan = vceqq_u32(magnitude, vdupq_n_u32(0x7FU << 20));
    vw value = vbslq_u32(normal, vaddq_u32(magnitude, vdupq_n_u32(120U << 23)),
                         vreinterpretq_u32_f32(eighths));
    vw sign = vandq_u32(code, vdupq_n_u32(0x80000000U));
    return vreinterpretq_f32_u32(vorrq_u32(value, vorrq_u32(sign, nan)));
}

INLINE void values_f8(vw word, vr values[4])
{
    values[0] = value_f8(vshlq_n_u32(word, 24));
    values[1] = value_f8(vshlq_n_u32(word, 16));
    values[2] = value_f8(vshlq_n_u32(word, 8));
    values[3] = value_f8(word);
}

/* Eight values of a row (float_lanes.h). */
#define v8_keep(x) __asm__("" : "+w"((x).low), "+w"((x).high))

typedef struct v8 {
    float32x4_t low, high;
} v8;

INLINE v8 v8_zero(void)
{
    return (v8){vdupq_n_f32(0), vdupq_n_f32(0)};
}

INLINE v8 v8_load(const float *from)
{
    return (v8){vld1q_f32(from), vld1q_f32(from + 4)};
}

INLINE void v8_store(float *to, v8 x)
{
    vst1q_f32(to, x.low);
    vst1q_f32(to + 4, x.high);
}

INLINE v8 v8_fma(v8 a, v8 b, v8 c)
{
    return (v8){vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)};
}

INLINE v8 v8_bf16(const char *from)
{
    uint16x8_t values = vreinterpretq_u16_u8(vld1q_u8((const uint8_t *)(const void *)from));
    return (v8){vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(values), 16)),
                vreinterpretq_f32_u32(vshll_n_u16(vget_high_u16(values), 16))};
}

INLINE v8 v8_f16(const char *from)
{
    float16x8_t values = vreinterpretq_f16_u8(vld1q_u8((const uint8_t *)(const void *)from));
    return (v8){vcvt_f32_f16(vget_low_f16(values)), vcvt_f32_f16(vget_high_f16(values))};
}

#endif
