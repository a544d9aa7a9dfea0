/* What the tiers share: constants of exp, rounding to bfloat16, AdamW's constants, and the tables
 * themselves. Only the files of src/backend/cpu include it. */
#ifndef MIXT_BACKEND_CPU_TIERS_H
#define MIXT_BACKEND_CPU_TIERS_H

#include <stdint.h>
#include <string.h>

#include "core/real.h"
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

/* AdamW's numbers, worked out in double and rounded once. */
#define MIXT_ADAMW_DECLARE(real, suffix)                                                           \
    typedef struct mixt_adamw_constants_##suffix {                                                 \
        real scale, rate, beta1, one_minus_beta1, beta2, one_minus_beta2, epsilon, decay;          \
        real inverse_correction1, inverse_correction2;                                             \
    } mixt_adamw_constants_##suffix;                                                               \
    static inline mixt_adamw_constants_##suffix mixt_adamw_round_##suffix(                         \
        const mixt_adamw_arguments *arguments)                                                     \
    {                                                                                              \
        return (mixt_adamw_constants_##suffix){                                                    \
            .scale = (real)arguments->scale,                                                       \
            .rate = (real)arguments->rate,                                                         \
            .beta1 = (real)arguments->beta1,                                                       \
            .one_minus_beta1 = (real)(1 - arguments->beta1),                                       \
            .beta2 = (real)arguments->beta2,                                                       \
            .one_minus_beta2 = (real)(1 - arguments->beta2),                                       \
            .epsilon = (real)arguments->epsilon,                                                   \
            .decay = (real)arguments->decay,                                                       \
            .inverse_correction1 = (real)(1 / arguments->correction1),                             \
            .inverse_correction2 = (real)(1 / arguments->correction2),                             \
        };                                                                                         \
    }

MIXT_ADAMW_DECLARE(float, f32)
MIXT_ADAMW_DECLARE(double, f64)

extern const mixt_kernels_f32 mixt_kernels_scalar_f32;
extern const mixt_kernels_f64 mixt_kernels_scalar_f64;
extern const mixt_matrix_kernels mixt_matrix_scalar;
/* The same source compiled with fused multiply-add instructions: same bits, no library calls. */
extern const mixt_kernels_f64 mixt_kernels_fma_f64;

/* Override what a tier has. */
void mixt_fill_avx2(mixt_kernels_f32 *table);
void mixt_fill_avx512(mixt_kernels_f32 *table);
void mixt_fill_avx512bf16(mixt_kernels_f32 *table);
/* Their parts for the matrix product. */
/* The bfloat16 tile without its instruction, for tests (avx512emulated.c). */
void mixt_fill_avx512_emulated_bf16(mixt_kernels_f32 *table);
void mixt_fill_avx2_gemm(mixt_kernels_f32 *table);
void mixt_fill_avx512_gemm(mixt_kernels_f32 *table);
/* Their products with quantised weights. */
void mixt_fill_avx2_matrix(mixt_kernels_f32 *table);
void mixt_fill_avx512_matrix(mixt_kernels_f32 *table);
void mixt_fill_avx512vnni_matrix(mixt_kernels_f32 *table);
/* VPDPBUSD and VPDPWSSD spelled out, for tests. */
void mixt_fill_avx512_emulated_vnni(mixt_kernels_f32 *table);

#endif
