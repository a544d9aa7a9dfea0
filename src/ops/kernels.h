/* The kernel tables: what an operator calls on rows, and the matrix product under it.
 *
 * There is one table type for fp32 and one for fp64. The fp64 table has the scalar tier alone, with
 * or without the hardware's fused multiply-add. The fp32 table is filled in rising order (scalar,
 * then AVX2, then AVX-512, or NEON, override what they have), and all tiers agree bit for bit:
 *
 * - Reductions over a row (dot, sum, sum of squares, max) run in 16 lanes: lane j takes elements
 *   j, j+16, j+32, ... in order with fused multiply-add from zero (missing tail elements are left
 *   out), then lanes fold 8+8, 4+4, 2+2, 1+1 (lane j with lane j+8, and so on).
 * - Elementwise kernels do the same operations in the same order per element, with fused
 *   multiply-add only where the scalar code says fma.
 * - exp is our own polynomial (fp32), the same sequence of operations in every tier; fp64 is
 *   libm's.
 * - A matrix product sums each element of C over k in blocks of MIXT_GEMM_K_BLOCK: a block is one
 *   chain of fused multiply-adds in rising k from zero; blocks are added in rising order, to the
 *   old C where it accumulates. So no element depends on tile shape, thread count, batch or tier.
 *   bf16 products round both operands to bfloat16 (nearest even) first and sum pairs as
 *   vdpbf16ps does: within a pair, the odd k is added first; subnormal numbers are zeros.
 * - Exact products with rows of F16 and BF16 take a block in MIXT_GEMM_LANES lanes: lane j is the
 *   chain of every eighth k from the block's j-th on, and what a block was is now its lanes, one
 *   after the other. So a row is read as it lies where there are few rows of activations.
 *
 * Nothing here allocates but mixt_compute; nothing fails on values. */
#ifndef MIXT_OPS_KERNELS_H
#define MIXT_OPS_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/threads.h"
#include "mixt.h"
#include "quant/types.h"

#define MIXT_GEMM_K_BLOCK 512
#define MIXT_GEMM_LANES 8
#define MIXT_CACHED_MAX 640 /* values of a head of a cache */
#define MIXT_CACHED_GROUP 8 /* queries of a kv head that read it as it lies */

/* One AdamW step over n values (decoupled weight decay; Loshchilov & Hutter 2019, algorithm 2):
 * g = scale * gradient; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g g;
 * w -= rate * ((m / correction1) / (sqrt(v / correction2) + epsilon) + decay * w) */
typedef struct mixt_adamw_arguments {
    double scale; /* gradient multiplier: clipping and accumulation */
    double rate, beta1, beta2, epsilon, decay;
    double correction1, correction2; /* 1 - beta^t */
} mixt_adamw_arguments;

/* One step of Muon: g = scale * gradient; m = momentum m + (1 - momentum) g;
 * x = momentum m + (1 - momentum) g, made nearly orthogonal;
 * w = (1 - rate decay) w - rate 0.2 sqrt(max(rows, columns)) x */
typedef struct mixt_muon_arguments {
    double scale, rate, momentum, decay;
    int64_t steps; /* of the Newton-Schulz iteration */
} mixt_muon_arguments;

/* Values [k_begin, k_begin + k) of rows [row, row + rows) of a matrix of F32, F16, BF16 or F8. */
typedef struct mixt_row_range {
    const mixt_matrix *matrix;
    int64_t row, rows, k_begin, k;
    bool by_lanes; /* panels have one lane's k behind another's (mixt_lane_place) */
} mixt_row_range;

/* Weights whose exact products are summed by lanes. */
static inline bool mixt_in_lanes(mixt_type type)
{
    return type == MIXT_TYPE_F16 || type == MIXT_TYPE_BF16;
}

/* Values of a lane among k, and where value p of k goes if lanes lie one behind another. */
static inline int64_t mixt_lane_values(int64_t k, int64_t lane)
{
    return (k - lane + MIXT_GEMM_LANES - 1) / MIXT_GEMM_LANES;
}

static inline int64_t mixt_lane_place(int64_t k, int64_t p)
{
    int64_t lane = p % MIXT_GEMM_LANES, rest = k % MIXT_GEMM_LANES;
    return lane * (k / MIXT_GEMM_LANES) + (lane < rest ? lane : rest) + p / MIXT_GEMM_LANES;
}

/* Rows [row_begin, row_end) of such a matrix times 1 to MIXT_STREAM_TOKENS rows of activations. */
typedef struct mixt_stream_task {
    const mixt_matrix *matrix;
    int64_t row_begin, row_end;
    const float *a; /* [tokens, a_row] */
    int64_t a_row, tokens;
    float *c; /* [tokens, c_row]: element (token, row) */
    int64_t c_row;
    bool accumulate;
    void *scratch; /* of this thread: MIXT_STREAM_TOKENS rows of up to MIXT_STREAM_MOST floats */
} mixt_stream_task;
typedef void mixt_stream_kernel(const mixt_stream_task *task);
#define MIXT_STREAM_TOKENS 8
#define MIXT_STREAM_MOST 32768 /* k, where activations are copied: by lanes, in bfloat16 */
/* Columns of a block of factors are a multiple of this where kernels read them (F8); other
 * matrices are made fp32 by the driver. */
#define MIXT_FACTOR_COLUMNS 64

typedef struct mixt_compute mixt_compute; /* below */

/* mixt_kernels_f32, mixt_gemm_f32, ..., and the same as _f64. */
#define real float
#define MIXT_NAME(name) name##_f32
#include "ops/kernels_tmpl.h"
#define real double
#define MIXT_NAME(name) name##_f64
#include "ops/kernels_tmpl.h"

/* What an operator runs on. */
struct mixt_compute {
    mixt_pool *pool;
    int threads;
    mixt_matmul matmul;
    const mixt_kernels_f32 *f32;
    const mixt_kernels_f64 *f64;
    struct mixt_gemm_engine *gemm; /* pack buffers for each thread, BLAS entry points */
};

/* B packed once into the panels the tiles read: for weights that stay, so that products with a few
 * rows (generation) run at memory speed. Bits are those of the unpacked product. Reads n, k, b, its
 * strides and `exact` of `gemm`; a product that names it has the same n, k and `exact`, runs on the
 * same compute, and may leave b NULL. */
typedef struct mixt_packed mixt_packed;
mixt_status mixt_pack_f32(const mixt_compute *compute, const mixt_gemm_f32 *gemm,
                          mixt_packed **packed, mixt_error *error);
void mixt_packed_free(mixt_packed *packed);
/* Whether it was packed for the products of this compute: its kernels, its kind of products. */
bool mixt_packed_fits(const mixt_compute *compute, const mixt_packed *packed);

/* Products whose B is given as typed rows (`matrix`): integer products with activations in blocks
 * of 8 bits for quantised types, exact fp32 chains for F32, F16 and BF16. Called by mixt_gemm_run;
 * a row's bits do not depend on m, threads or tier (docs/numerics.md). */
void mixt_matrix_run(const mixt_compute *compute, const mixt_gemm_f32 *list, int64_t count);
/* Row `row` of a matrix as fp32 [k]. */
void mixt_matrix_row(const mixt_matrix *matrix, int64_t row, float *values);

#endif
