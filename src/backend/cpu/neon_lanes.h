/* Sixteen fp32 lanes with NEON: sixteen lanes are four registers (see vector.h). */
#ifndef MIXT_BACKEND_CPU_NEON_LANES_H
#define MIXT_BACKEND_CPU_NEON_LANES_H

#include <arm_neon.h>
#include <math.h>
#include <stdbool.h>

#include "backend/cpu/tiers.h"

typedef struct v16 {
    float32x4_t q0, q1, q2, q3;
} v16;

/* A call for each register of a (and b, and c). */
#define ONE_BY_ONE(call, a) ((v16){call((a).q0), call((a).q1), call((a).q2), call((a).q3)})
#define TWO_BY_TWO(call, a, b)                                                                     \
    ((v16){call((a).q0, (b).q0), call((a).q1, (b).q1), call((a).q2, (b).q2), call((a).q3, (b).q3)})
#define THREE_BY_THREE(call, a, b, c)                                                              \
    ((v16){call((a).q0, (b).q0, (c).q0), call((a).q1, (b).q1, (c).q1),                             \
           call((a).q2, (b).q2, (c).q2), call((a).q3, (b).q3, (c).q3)})

/* All bits set in the lanes below `count`, of lanes 0 to 3. */
static inline uint32x4_t mask_of(int count)
{
    return vcltq_s32((int32x4_t){0, 1, 2, 3}, vdupq_n_s32(count));
}

static inline v16 v_set(float x)
{
    float32x4_t four = vdupq_n_f32(x);
    return (v16){four, four, four, four};
}

/* Up to four lanes; none where count <= 0. */
static inline float32x4_t load_four(const float *from, int count)
{
    if (count >= 4) {
        return vld1q_f32(from);
    }
    float32x4_t x = vdupq_n_f32(0);
    x = count > 0 ? vld1q_lane_f32(from, x, 0) : x;
    x = count > 1 ? vld1q_lane_f32(from + 1, x, 1) : x;
    return count > 2 ? vld1q_lane_f32(from + 2, x, 2) : x;
}

static inline v16 v_load(const float *from, int count)
{
    if (count == 16) {
        return (v16){vld1q_f32(from), vld1q_f32(from + 4), vld1q_f32(from + 8),
                     vld1q_f32(from + 12)};
    }
    return (v16){load_four(from, count), load_four(from + 4, count - 4),
                 load_four(from + 8, count - 8), load_four(from + 12, count - 12)};
}

static inline void store_four(float *to, float32x4_t x, int count)
{
    if (count >= 4) {
        vst1q_f32(to, x);
        return;
    }
    if (count > 0) {
        vst1q_lane_f32(to, x, 0);
    }
    if (count > 1) {
        vst1q_lane_f32(to + 1, x, 1);
    }
    if (count > 2) {
        vst1q_lane_f32(to + 2, x, 2);
    }
}

static inline void v_store(float *to, v16 x, int count)
{
    store_four(to, x.q0, count);
    store_four(to + 4, x.q1, count - 4);
    store_four(to + 8, x.q2, count - 8);
    store_four(to + 12, x.q3, count - 12);
}

static inline v16 v_add(v16 a, v16 b)
{
    return TWO_BY_TWO(vaddq_f32, a, b);
}

static inline v16 v_subtract(v16 a, v16 b)
{
    return TWO_BY_TWO(vsubq_f32, a, b);
}

static inline v16 v_multiply(v16 a, v16 b)
{
    return TWO_BY_TWO(vmulq_f32, a, b);
}

static inline v16 v_divide(v16 a, v16 b)
{
    return TWO_BY_TWO(vdivq_f32, a, b);
}

static inline v16 v_square_root(v16 a)
{
    return ONE_BY_ONE(vsqrtq_f32, a);
}

static inline v16 v_negate(v16 a)
{
    return ONE_BY_ONE(vnegq_f32, a);
}

/* The instruction takes what is added to first. */
static inline v16 v_fma(v16 a, v16 b, v16 c)
{
    return THREE_BY_THREE(vfmaq_f32, c, a, b);
}

/* By comparison: the minimum and maximum instructions keep NaN and order zeros. */
static inline float32x4_t least(float32x4_t a, float32x4_t b)
{
    return vbslq_f32(vcltq_f32(a, b), a, b);
}

static inline float32x4_t greatest(float32x4_t a, float32x4_t b)
{
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}

static inline v16 v_least(v16 a, v16 b)
{
    return TWO_BY_TWO(least, a, b);
}

static inline v16 v_greatest(v16 a, v16 b)
{
    return TWO_BY_TWO(greatest, a, b);
}

static inline v16 v_keep(v16 old, v16 new, int count)
{
    if (count == 16) {
        return new;
    }
    return (v16){
        vbslq_f32(mask_of(count), new.q0, old.q0),
        vbslq_f32(mask_of(count - 4), new.q1, old.q1),
        vbslq_f32(mask_of(count - 8), new.q2, old.q2),
        vbslq_f32(mask_of(count - 12), new.q3, old.q3),
    };
}

static inline float32x4_t hide_four(float32x4_t x, float32x4_t key, float32x4_t first,
                                    float32x4_t last)
{
    uint32x4_t hidden = vorrq_u32(vcltq_f32(key, first), vcgtq_f32(key, last));
    return vbslq_f32(hidden, vdupq_n_f32(-INFINITY), x);
}

static inline v16 v_hide(v16 x, v16 key, v16 first, v16 last)
{
    return (v16){
        hide_four(x.q0, key.q0, first.q0, last.q0),
        hide_four(x.q1, key.q1, first.q1, last.q1),
        hide_four(x.q2, key.q2, first.q2, last.q2),
        hide_four(x.q3, key.q3, first.q3, last.q3),
    };
}

static inline float32x4_t clear_below(float32x4_t y, float32x4_t x, float32x4_t bound)
{
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(y), vcltq_f32(x, bound)));
}

static inline v16 v_clear_below(v16 y, v16 x, v16 bound)
{
    return THREE_BY_THREE(clear_below, y, x, bound);
}

static inline bool v_any_nan(v16 x)
{
    uint32x4_t low = vandq_u32(vceqq_f32(x.q0, x.q0), vceqq_f32(x.q1, x.q1));
    uint32x4_t high = vandq_u32(vceqq_f32(x.q2, x.q2), vceqq_f32(x.q3, x.q3));
    return vminvq_u32(vandq_u32(low, high)) == 0;
}

/* p 2^n in two steps, as scalar_tmpl.c says. */
static inline float32x4_t power(float32x4_t p, float32x4_t shifted)
{
    const int32x4_t bias = vdupq_n_s32(127);
    int32x4_t n = vsubq_s32(vreinterpretq_s32_f32(shifted), vdupq_n_s32(MIXT_EXP_ROUNDER_BITS));
    int32x4_t first = vshrq_n_s32(n, 1), second = vsubq_s32(n, first);
    int32x4_t low = vshlq_n_s32(vaddq_s32(first, bias), 23);
    int32x4_t high = vshlq_n_s32(vaddq_s32(second, bias), 23);
    return vmulq_f32(vmulq_f32(p, vreinterpretq_f32_s32(low)), vreinterpretq_f32_s32(high));
}

static inline v16 v_power(v16 p, v16 shifted, v16 n)
{
    (void)n;
    return TWO_BY_TWO(power, p, shifted);
}

static inline float v_fold(v16 x)
{
    float32x4_t four = vaddq_f32(vaddq_f32(x.q0, x.q2), vaddq_f32(x.q1, x.q3));
    float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

/* greatest(high, low): the high lane only where it is greater. */
static inline float v_fold_greatest(v16 x)
{
    float32x4_t four = greatest(greatest(x.q3, x.q1), greatest(x.q2, x.q0));
    float32x4_t two = greatest(vextq_f32(four, four, 2), four);
    float high = vgetq_lane_f32(two, 1), low = vgetq_lane_f32(two, 0);
    return high > low ? high : low;
}

/* Nearest bfloat16, ties to even; NaN stays NaN. */
static inline float32x4_t round_bf16(float32x4_t x)
{
    uint32x4_t bits = vreinterpretq_u32_f32(x);
    uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    uint32x4_t up = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7FFF)));
    uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x00400000));
    uint32x4_t rounded = vbslq_u32(vceqq_f32(x, x), up, quiet);
    return vreinterpretq_f32_u32(vandq_u32(rounded, vdupq_n_u32(0xFFFF0000U)));
}

static inline v16 v_round_bf16(v16 x)
{
    return ONE_BY_ONE(round_bf16, x);
}

static inline float32x4_t load_f16(const uint16_t *from)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from)));
}

static inline v16 v_load_f16(const uint16_t *from)
{
    return (v16){load_f16(from), load_f16(from + 4), load_f16(from + 8), load_f16(from + 12)};
}

static inline v16 v_set_f16(uint16_t bits)
{
    float32x4_t four = vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(bits)));
    return (v16){four, four, four, four};
}

static inline void transpose_four_rows(float32x4_t x[4])
{
    float32x4x2_t a = vtrnq_f32(x[0], x[1]), b = vtrnq_f32(x[2], x[3]);
    x[0] = vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0]));
    x[1] = vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1]));
    x[2] = vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0]));
    x[3] = vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1]));
}

static inline __attribute__((always_inline)) void v_transpose(v16 x[16])
{
    float32x4_t quad[4][4][4]; /* [columns][rows], four by four */
    for (int i = 0; i < 16; i++) {
        quad[0][i / 4][i % 4] = x[i].q0;
        quad[1][i / 4][i % 4] = x[i].q1;
        quad[2][i / 4][i % 4] = x[i].q2;
        quad[3][i / 4][i % 4] = x[i].q3;
    }
    for (int i = 0; i < 16; i++) {
        transpose_four_rows(quad[i / 4][i % 4]);
    }
    for (int i = 0; i < 16; i++) {
        x[i] = (v16){quad[i / 4][0][i % 4], quad[i / 4][1][i % 4], quad[i / 4][2][i % 4],
                     quad[i / 4][3][i % 4]};
    }
}

static inline void v_store_f16(uint16_t *to, v16 x)
{
    vst1_u16(to, vreinterpret_u16_f16(vcvt_f16_f32(x.q0)));
    vst1_u16(to + 4, vreinterpret_u16_f16(vcvt_f16_f32(x.q1)));
    vst1_u16(to + 8, vreinterpret_u16_f16(vcvt_f16_f32(x.q2)));
    vst1_u16(to + 12, vreinterpret_u16_f16(vcvt_f16_f32(x.q3)));
}

static inline float32x4_t load_bf16(const uint16_t *from)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(from), 16));
}

static inline v16 v_load_bf16(const uint16_t *from)
{
    return (v16){load_bf16(from), load_bf16(from + 4), load_bf16(from + 8), load_bf16(from + 12)};
}

static inline uint16x4_t to_bf16(float32x4_t x)
{
    return vshrn_n_u32(vreinterpretq_u32_f32(round_bf16(x)), 16);
}

static inline void v_store_bf16(uint16_t *to, v16 x)
{
    vst1_u16(to, to_bf16(x.q0));
    vst1_u16(to + 4, to_bf16(x.q1));
    vst1_u16(to + 8, to_bf16(x.q2));
    vst1_u16(to + 12, to_bf16(x.q3));
}

static inline v16 v_load_bytes(const int8_t *from)
{
    int8x16_t bytes = vld1q_s8(from);
    int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
    return (v16){vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
                 vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
                 vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
                 vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))};
}

static inline int16x4_t unshift(float32x4_t shifted)
{
    int32x4_t rounder = vdupq_n_s32((int32_t)MIXT_EXP_ROUNDER_BITS);
    return vmovn_s32(vsubq_s32(vreinterpretq_s32_f32(shifted), rounder));
}

static inline void v_store_bytes(int8_t *to, v16 shifted)
{
    int16x8_t low = vcombine_s16(unshift(shifted.q0), unshift(shifted.q1));
    int16x8_t high = vcombine_s16(unshift(shifted.q2), unshift(shifted.q3));
    vst1q_s8(to, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}

#endif
