/* What the tiers share: constants of exp, rounding to bfloat16, AdamW's constants, and the tables
 * themselves. Only the files of src/backend/cpu include it. */
#ifndef MIXT_BACKEND_CPU_TIERS_H
#define MIXT_BACKEND_CPU_TIERS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "backend/cpu/unroll.h"
#include "core/arithmetic.h"
#include "ops/kernels.h"
#include "ops/quantised.h"

/* exp(x) = 2^n p(r), n = x / ln 2 rounded to nearest even, r = x - n ln 2. exp(89) is
 * infinity by the last multiplication alone. Below ln 2^-126, where results would be subnormal,
 * exp is exactly 0: subnormal results cost more than a hundred cycles each, and hidden scores of
 * attention (-infinity) are made of them.
 * p = 1 + r + c2 r^2 + ... + c6 r^6: minimax for relative error on |r| <= ln 2 / 2 (Remez;
 * 2^-28.5 before the coefficients are rounded to fp32). ln 2 in two parts, the high one with few
 * enough bits that n times it is exact. */
#define MIXT_EXP_LOWEST -0x1.5d589ep+6F /* -87.33654: exp of it is normal */
#define MIXT_EXP_HIGHEST 89.0F
#define MIXT_EXP_LOG2E 0x1.715476p+0F
#define MIXT_EXP_ROUNDER 0x1.8p+23F /* added and taken away: rounds to an integer */
#define MIXT_EXP_ROUNDER_BITS 0x4B400000U
#define MIXT_EXP_LN2_HIGH 0x1.63p-1F
#define MIXT_EXP_LN2_LOW -0x1.bd0106p-13F
#define MIXT_EXP_C2 0x1.000002p-1F
#define MIXT_EXP_C3 0x1.5553cp-3F
#define MIXT_EXP_C4 0x1.55515cp-5F
#define MIXT_EXP_C5 0x1.1290a4p-7F
#define MIXT_EXP_C6 0x1.709c9cp-10F

/* exp by range reduction x = n ln 2 + r, |r| <= ln 2 / 2, and the polynomial above. */
static inline float mixt_exp_f32(float x)
{
    x = x > MIXT_EXP_HIGHEST ? MIXT_EXP_HIGHEST : x;
    if (x < MIXT_EXP_LOWEST) {
        return 0;
    }
    float shifted = fmaf(x, MIXT_EXP_LOG2E, MIXT_EXP_ROUNDER);
    float n = shifted - MIXT_EXP_ROUNDER;
    float r = fmaf(n, -MIXT_EXP_LN2_HIGH, x);
    r = fmaf(n, -MIXT_EXP_LN2_LOW, r);
    float p = MIXT_EXP_C6;
    p = fmaf(p, r, MIXT_EXP_C5);
    p = fmaf(p, r, MIXT_EXP_C4);
    p = fmaf(p, r, MIXT_EXP_C3);
    p = fmaf(p, r, MIXT_EXP_C2);
    p = fmaf(p, r, 1.0F);
    p = fmaf(p, r, 1.0F);
    /* p 2^n in two steps, both factors normal: one rounding where the result is subnormal. */
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    int32_t exponent = (int32_t)(bits - MIXT_EXP_ROUNDER_BITS);
    int32_t first = exponent >> 1;
    uint32_t low = (uint32_t)(first + 127) << 23, high = (uint32_t)(exponent - first + 127) << 23;
    float scale_low, scale_high;
    memcpy(&scale_low, &low, sizeof low);
    memcpy(&scale_high, &high, sizeof high);
    return (p * scale_low) * scale_high;
}
/* What fp64 means by it. */
static inline double mixt_exp_f64(double x)
{
    return exp(x);
}

/* gelu's tanh formula as a sigmoid of z (MIXT_GELU_C0 + MIXT_GELU_C1 z^2): 2 sqrt(2 / pi), and
 * 0.044715 of it. */
#define MIXT_GELU_C0 1.5957691216057308
#define MIXT_GELU_C1 0.07135481627260025
/* gpt-oss: slope of the sigmoid and where gate and up end. */
#define MIXT_CLAMPED_SLOPE 1.702
#define MIXT_CLAMPED_LIMIT 7

/* Nearest bfloat16, ties to even, as fp32; NaN stays NaN (made quiet). */
static inline uint32_t mixt_bits_of_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7FFFFFFFU) > 0x7F800000U) {
        return (bits | 0x00400000U) & 0xFFFF0000U;
    }
    return (bits + 0x7FFFU + ((bits >> 16) & 1U)) & 0xFFFF0000U;
}

static inline float mixt_round_bf16(float x)
{
    uint32_t bits = mixt_bits_of_bf16(x);
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* mixt_adamw_constants_f32, mixt_adamw_round_f32, and the same as _f64. */
#define real float
#define MIXT_NAME(name) name##_f32
#include "backend/cpu/adamw_tmpl.h"
#define real double
#define MIXT_NAME(name) name##_f64
#include "backend/cpu/adamw_tmpl.h"

extern const mixt_kernels_f32 mixt_kernels_scalar_f32;
extern const mixt_kernels_f64 mixt_kernels_scalar_f64;
extern const mixt_matrix_kernels mixt_matrix_scalar;
/* The scalar tiles' size: columns are a cache line. */
#define MIXT_SCALAR_TILE_ROWS 4
#define MIXT_SCALAR_TILE_COLUMNS(real) ((int)(64 / sizeof(real)))

/* Products of bfloat16 without the instruction (scalar_bf16.c): packs fp32 panels, and their tile.
 */
void mixt_pack_bf16_scalar(int64_t k, int64_t width, const float *x, int64_t x_k, int64_t x_width,
                           float *panels, int panel_width);
void mixt_tile_bf16_scalar(int64_t cells, const float *a, const float *b, float *c,
                           int64_t c_stride, int rows, int columns, bool accumulate);
/* Sums of a tile over panels of any width, the panels of kernel_pack_bf16 (bf16_panel.h) among
 * them: sums[i * sums_stride + j], i < rows, j < columns. */
typedef struct mixt_bf16_panels {
    int64_t cells;
    const float *a, *b;
    int a_width, b_width;
} mixt_bf16_panels;
void mixt_sums_bf16_scalar(const mixt_bf16_panels *panels, float *sums, int64_t sums_stride,
                           int rows, int columns);
/* x86-64: subnormal numbers are zeros to all instructions of the thread (mixt_gemm_kernels). */
uint64_t mixt_flush_enter(void);
void mixt_flush_leave(uint64_t before);
/* The same source compiled with fused multiply-add instructions: same bits, no library calls. */
extern const mixt_kernels_f64 mixt_kernels_fma_f64;

/* Override what a tier has. */
void mixt_fill_avx2(mixt_kernels_f32 *table);
void mixt_fill_avx512(mixt_kernels_f32 *table);
void mixt_fill_avx512bf16(mixt_kernels_f32 *table);
void mixt_fill_amx_bf16(mixt_kernels_f32 *table);
void mixt_fill_neon(mixt_kernels_f32 *table);
/* Their parts for the matrix product. */
void mixt_fill_avx2_gemm(mixt_kernels_f32 *table);
void mixt_fill_avx512_gemm(mixt_kernels_f32 *table);
void mixt_fill_neon_gemm(mixt_kernels_f32 *table);
/* Their products of few rows with plain floats. */
void mixt_fill_avx2_rows(mixt_kernels_f32 *table);
void mixt_fill_avx512_rows(mixt_kernels_f32 *table);
void mixt_fill_neon_rows(mixt_kernels_f32 *table);
/* And with those of F16 and BF16, by lanes. */
void mixt_fill_avx2_half(mixt_kernels_f32 *table);
void mixt_fill_avx512_half(mixt_kernels_f32 *table);
void mixt_fill_neon_half(mixt_kernels_f32 *table);
/* Their products with quantised weights. */
void mixt_fill_avx2_matrix(mixt_kernels_f32 *table);
void mixt_fill_avx512_matrix(mixt_kernels_f32 *table);
void mixt_fill_avx512vnni_matrix(mixt_kernels_f32 *table);
void mixt_fill_amx_matrix(mixt_kernels_f32 *table);
void mixt_fill_neon_matrix(mixt_kernels_f32 *table);
void mixt_fill_neon_dotprod_matrix(mixt_kernels_f32 *table);
void mixt_fill_neon_i8mm_matrix(mixt_kernels_f32 *table);

#endif
