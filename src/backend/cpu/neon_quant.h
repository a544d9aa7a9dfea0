/* Products with quantised weights with NEON: four 32-bit lanes. Included by a file for each way to
 * sum products of bytes, which has defined FILL and before
 *
 *   nothing                          16-bit products, ARMv8.0
 *   QUANT_DOTS                       SDOT, of the dot product extension
 *   QUANT_DOTS, QUANT_PAIRS          for several tokens SMMLA, of the i8mm extension
 *
 * Bytes of weights are below 128, so signed products serve all types; with dot products, which
 * cannot overflow, also those whose weights are signed bytes. */
#include <arm_neon.h>
#include <assert.h>

#include "backend/cpu/quant_q8.h"
#include "backend/cpu/tiers.h"

#define QUANT_LANES 4
#define QUANT_PANELS 2
#define QUANT_TOKENS 4

typedef int32x4_t vi;
typedef float32x4_t vf;

/* See avx512_quant_lanes.h. */
typedef struct source {
    const uint8_t *base;
    size_t stride;
    const uint8_t *ahead;
} source;

#define AS_U8(x) vreinterpretq_u8_s32(x)
#define AS_S8(x) vreinterpretq_s8_s32(x)
#define AS_S16(x) vreinterpretq_s16_s32(x)
#define AS_S64(x) vreinterpretq_s64_s32(x)
#define OF_U8(x) vreinterpretq_s32_u8(x)
#define OF_S8(x) vreinterpretq_s32_s8(x)
#define OF_S16(x) vreinterpretq_s32_s16(x)
#define OF_S64(x) vreinterpretq_s32_s64(x)

/* Shifts by operators: by 0 too, and by what is constant once loops are unrolled. */
#define vi_zero() vdupq_n_s32(0)
#define vi_set32(x) vdupq_n_s32(x)
#define vi_set_quads(a, b, c, d) ((vi){a, b, c, d})
#define vi_table(bytes) OF_U8(vld1q_u8((const uint8_t *)(bytes)))
#define vi_load(from) OF_U8(vld1q_u8((const uint8_t *)(from)))
#define vi_loadu(from) vi_load(from)
#define vi_and(a, b) vandq_s32(a, b)
#define vi_or(a, b) vorrq_s32(a, b)
#define vi_srl32(x, n) vreinterpretq_s32_u32(vreinterpretq_u32_s32(x) >> (n))
#define vi_sll32(x, n) vreinterpretq_s32_u32(vreinterpretq_u32_s32(x) << (n))
#define vi_sra32(x, n) vshrq_n_s32(x, n)
#define vi_sra16(x, n) OF_S16(vshrq_n_s16(AS_S16(x), n))
#define vi_sub8(a, b) OF_S8(vsubq_s8(AS_S8(a), AS_S8(b)))
#define vi_sub16(a, b) OF_S16(vsubq_s16(AS_S16(a), AS_S16(b)))
#define vi_sub32(a, b) vsubq_s32(a, b)
#define vi_add32(a, b) vaddq_s32(a, b)
#define vi_min_u8(a, b) OF_U8(vminq_u8(AS_U8(a), AS_U8(b)))
#define vi_mullo32(a, b) vmulq_s32(a, b)
#define vi_madd(a, b) vw_sum(vw_next(vw_zero(), a, b))
#define vi_shuffle8(x, index) OF_U8(vqtbl1q_u8(AS_U8(x), AS_U8(index)))
#define vi_broadcast32(from) vld1q_dup_s32((const int32_t *)(const void *)(from))

#define vf_load(from) vld1q_f32(from)
#define vf_store(to, x) vst1q_f32(to, x)
#define vf_set(x) vdupq_n_f32(x)
#define vf_of_bits(x) vreinterpretq_f32_s32(x)
#define vf_add(a, b) vaddq_f32(a, b)
#define vf_multiply(a, b) vmulq_f32(a, b)
#define vf_fma(a, b, c) vfmaq_f32(c, a, b)
#define vf_convert(x) vcvtq_f32_s32(x)
#define vf_negate(x) vnegq_f32(x)
/* The low half of each lane as a float. */
#define vf_half(x) vcvt_f32_f16(vreinterpret_f16_s16(vmovn_s32(x)))

/* Products of words: those of lanes 0 and 1, and of 2 and 3, each lane's two side by side. */
typedef struct vw {
    int32x4_t low, high;
} vw;

#define vw_next vw_next
static inline vw vw_zero(void)
{
    return (vw){vi_zero(), vi_zero()};
}

static inline vw vw_next(vw sum, vi w, vi x)
{
    return (vw){vmlal_s16(sum.low, vget_low_s16(AS_S16(w)), vget_low_s16(AS_S16(x))),
                vmlal_high_s16(sum.high, AS_S16(w), AS_S16(x))};
}

static inline vi vw_sum(vw sum)
{
    return vpaddq_s32(sum.low, sum.high);
}

#ifndef QUANT_DOTS
/* Products of bytes in 16 bits: those of lanes 0 and 1, and of 2 and 3, each lane's four side by
 * side. Groups of 8 cells have weights up to 31, those of 4 cells up to 63: 8 x 127 x 31 and
 * 4 x 127 x 63 fit. */
#define QUANT_HALVES
typedef struct vb {
    int16x8_t low, high;
} vb;

/* The upper words of products of words. */
static inline vi vi_mulhi16(vi a, vi b)
{
    int16x8_t low =
        vreinterpretq_s16_s32(vmull_s16(vget_low_s16(AS_S16(a)), vget_low_s16(AS_S16(b))));
    int16x8_t high = vreinterpretq_s16_s32(vmull_high_s16(AS_S16(a), AS_S16(b)));
    return OF_S16(vuzp2q_s16(low, high));
}

static inline vb vb_zero(void)
{
    return (vb){vdupq_n_s16(0), vdupq_n_s16(0)};
}

static inline vb vb_first(vi w, vi x)
{
    return (vb){vmull_s8(vget_low_s8(AS_S8(w)), vget_low_s8(AS_S8(x))),
                vmull_high_s8(AS_S8(w), AS_S8(x))};
}

static inline vb vb_next(vb sum, vi w, vi x)
{
    return (vb){vmlal_s8(sum.low, vget_low_s8(AS_S8(w)), vget_low_s8(AS_S8(x))),
                vmlal_high_s8(sum.high, AS_S8(w), AS_S8(x))};
}

/* Four words of a lane. */
static inline vi vb_lanes(vb sum)
{
    return vpaddq_s32(vpaddlq_s16(sum.low), vpaddlq_s16(sum.high));
}

static inline vi vb_added(vi total, vb part)
{
    return vaddq_s32(total, vb_lanes(part));
}

static inline vi vb_scaled(vi total, vb part, vi scale)
{
    return vmlaq_s32(total, vb_lanes(part), scale);
}
#else
#define QUANT_SIGNED
static inline vi vi_dot4(vi sum, vi w, vi x)
{
    return vdotq_s32(sum, AS_S8(w), AS_S8(x));
}
#endif

/* Dwords at offset, + 4, + 8, + 12 of four rows. */
static inline void load_quads(const source *from, size_t offset, vi out[4])
{
    const uint8_t *row = from->base + offset;
    size_t stride = from->stride;
    vi r0 = vi_load(row), r1 = vi_load(row + stride);
    vi r2 = vi_load(row + 2 * stride), r3 = vi_load(row + 3 * stride);
    int64x2_t low01 = AS_S64(vzip1q_s32(r0, r1)), low23 = AS_S64(vzip1q_s32(r2, r3));
    int64x2_t high01 = AS_S64(vzip2q_s32(r0, r1)), high23 = AS_S64(vzip2q_s32(r2, r3));
    out[0] = OF_S64(vzip1q_s64(low01, low23));
    out[1] = OF_S64(vzip2q_s64(low01, low23));
    out[2] = OF_S64(vzip1q_s64(high01, high23));
    out[3] = OF_S64(vzip2q_s64(high01, high23));
}

/* Sixteen bytes of x * inverse, to the nearest. */
static inline int8x16_t round_16(const float *x, float inverse)
{
    int32x4_t four[4];
    for (int i = 0; i < 4; i++) {
        four[i] = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4 * i), inverse));
    }
    int16x8_t low = vmovn_high_s32(vmovn_s32(four[0]), four[1]);
    int16x8_t high = vmovn_high_s32(vmovn_s32(four[2]), four[3]);
    return vmovn_high_s16(vmovn_s16(low), high);
}

static inline void quantise_group(const float *x, int count, int8_t *q, float *d)
{
    const uint32x4_t magnitude = vdupq_n_u32(0x7FFFFFFF);
    uint32x4_t most = vdupq_n_u32(0);
    for (int i = 0; i < count; i += 4) { /* as integers: NaN is above infinity */
        uint32x4_t bits = vreinterpretq_u32_f32(vld1q_f32(x + i));
        most = vmaxq_u32(most, vandq_u32(bits, magnitude));
    }
    float inverse = mixt_q8_scale(vmaxvq_u32(most), d);
    if (inverse == 0) {
        memset(q, 0, (size_t)count);
        return;
    }
    for (int i = 0; i < count; i += 16) {
        vst1q_s8(q + i, round_16(x + i, inverse));
    }
}

#include "backend/cpu/quantise_groups.h"

#include "backend/cpu/quant_kernels.h"
