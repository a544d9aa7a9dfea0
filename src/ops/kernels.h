/* The kernel tables: what an operator calls on rows, and the matrix product under it.
 *
 * There is one table type for fp32 and one for fp64. The fp64 table has only the scalar tier. The
 * fp32 table is filled in rising order (scalar, then AVX2, then AVX-512 override what they have),
 * and all tiers agree bit for bit:
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
 *   vdpbf16ps does: within a pair, the odd k is added first.
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

/* One AdamW step over n values (decoupled weight decay; Loshchilov & Hutter 2019, algorithm 2):
 * g = scale * gradient; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g g;
 * w -= rate * ((m / correction1) / (sqrt(v / correction2) + epsilon) + decay * w) */
typedef struct mixt_adamw_arguments {
    double scale; /* gradient multiplier: clipping and accumulation */
    double rate, beta1, beta2, epsilon, decay;
    double correction1, correction2; /* 1 - beta^t */
} mixt_adamw_arguments;

/* How the matrix product driver reads memory. A panel is [cells, width] with width = tile_rows for
 * A and tile_columns for B; a cell is one k, or where `pairs` is set two bfloat16 (even k in the
 * low half) in the place of one fp32. */
#define MIXT_KERNELS_DECLARE(real, suffix)                                                         \
    typedef struct mixt_gemm_kernels_##suffix {                                                    \
        int tile_rows, tile_columns;                                                               \
        bool pairs;                                                                                \
        /* Packs x(p, i) = x[p * x_k + i * x_width], p < k, i < width, into panels of              \
         * panel_width columns one behind the other; the last is filled with zeros behind `width`. \
         * One of x_k, x_width is 1. */                                                            \
        void (*pack)(int64_t k, int64_t width, const real *x, int64_t x_k, int64_t x_width,        \
                     real *panels, int panel_width);                                               \
        /* C tile [rows, columns] = panel product (+ C); rows >= 1, columns >= 1. */               \
        void (*tile)(int64_t cells, const real *a, const real *b, real *c, int64_t c_stride,       \
                     int rows, int columns, bool accumulate);                                      \
    } mixt_gemm_kernels_##suffix;                                                                  \
    /* A block of attention scores, a column for each query (so sixteen queries are one vector).   \
     * first, last: keys that each query sees, counted from the block's first; NULL: all of them.  \
     */                                                                                            \
    typedef struct mixt_scores_##suffix {                                                          \
        int64_t keys, queries, stride;                                                             \
        real *scores; /* [keys, stride]: q.k, and afterwards the weights */                        \
        real scale;                                                                                \
        const real *first, *last; /* [queries] */                                                  \
        real *max, *sum, *change; /* [queries], soften */                                          \
        const real *lse, *delta;  /* [queries], soften_backward */                                 \
        real *d_scores;           /* [keys, stride]: dy.v, and afterwards d score */               \
    } mixt_scores_##suffix;                                                                        \
    typedef struct mixt_kernels_##suffix {                                                         \
        const char *name;                                                                          \
        /* reductions over n values */                                                             \
        real (*dot)(int64_t n, const real *a, const real *b);                                      \
        real (*sum)(int64_t n, const real *a);                                                     \
        real (*max)(int64_t n, const real *a); /* NaN where one is among them; n >= 1 */           \
        /* y = a + b; y += alpha x; y = alpha x; y = a * b; y may be an input */                   \
        void (*add)(int64_t n, real *y, const real *a, const real *b);                             \
        void (*axpy)(int64_t n, real *y, real alpha, const real *x);                               \
        void (*scale)(int64_t n, real *y, real alpha, const real *x);                              \
        void (*multiply)(int64_t n, real *y, const real *a, const real *b);                        \
        /* y = exp(x - shift), returns the 16-lane sum of y; x = -INFINITY gives exactly 0 */      \
        real (*exp_sum)(int64_t n, real *y, const real *x, real shift);                            \
        /* y = silu(gate) * up, silu(z) = z / (1 + exp(-z)) */                                     \
        void (*swiglu)(int64_t n, real *y, const real *gate, const real *up);                      \
        /* derivatives of it; dgate may be gate, dup may be up */                                  \
        void (*swiglu_backward)(int64_t n, real *dgate, real *dup, const real *gate,               \
                                const real *up, const real *dy);                                   \
        /* the same with gelu by its tanh formula, which is z / (1 + exp(-2 u)) with               \
         * u = sqrt(2 / pi) (z + 0.044715 z^3) */                                                  \
        void (*geglu)(int64_t n, real *y, const real *gate, const real *up);                       \
        void (*geglu_backward)(int64_t n, real *dgate, real *dup, const real *gate,                \
                               const real *up, const real *dy);                                    \
        /* and with g = min(gate, 7), u = clamp(up, -7, 7): y = g / (1 + exp(-1.702 g)) (u + 1) */ \
        void (*clamped_glu)(int64_t n, real *y, const real *gate, const real *up);                 \
        void (*clamped_glu_backward)(int64_t n, real *dgate, real *dup, const real *gate,          \
                                     const real *up, const real *dy);                              \
        /* RMSNorm: y = (x * inverse) * weight; inverse = 1 / rms given */                         \
        void (*norm_apply)(int64_t n, real *y, const real *x, real inverse, const real *weight);   \
        /* rotates pairs (i, i + n/2) by angles whose cos, sin are [n/2]; y may be x.              \
         * `sign` +1 forward, -1 the inverse rotation (backward) */                                \
        void (*rope)(int64_t n, real *y, const real *x, const real *cosine, const real *sine,      \
                     real sign);                                                                   \
        /* Online softmax over one more block of keys: x = scale score (hidden: -INFINITY);        \
         * max' = the largest so far; weights = exp(x - max'); change = exp(max - max');           \
         * sum = sum change + weights added in rising key. A query that has seen nothing yet keeps \
         * max -INFINITY, weights 0. */                                                            \
        void (*soften)(const mixt_scores_##suffix *scores);                                        \
        /* p = exp(scale score - lse), d score = (p (dy.v - delta)) scale */                       \
        void (*soften_backward)(const mixt_scores_##suffix *scores);                               \
        void (*adamw)(int64_t n, real *w, real *m, real *v, const real *gradient,                  \
                      const mixt_adamw_arguments *arguments);                                      \
        mixt_gemm_kernels_##suffix gemm;                                                           \
        mixt_gemm_kernels_##suffix gemm_bf16;     /* fp32 table only */                            \
        const struct mixt_matrix_kernels *matrix; /* quantised weights; fp32 table only */         \
    } mixt_kernels_##suffix;

MIXT_KERNELS_DECLARE(float, f32)
MIXT_KERNELS_DECLARE(double, f64)

/* What an operator runs on. */
typedef struct mixt_compute {
    mixt_pool *pool;
    int threads;
    mixt_matmul matmul;
    const mixt_kernels_f32 *f32;
    const mixt_kernels_f64 *f64;
    struct mixt_gemm_engine *gemm; /* pack buffers for each thread, BLAS entry points */
} mixt_compute;

/* C [m, n] = A [m, k] B [k, n] (+ C). Strides are in elements. */
#define MIXT_GEMM_DECLARE(real, suffix)                                                            \
    typedef struct mixt_gemm_##suffix {                                                            \
        int64_t m, n, k;                                                                           \
        const real *a;                                                                             \
        int64_t a_row, a_column; /* A[i][p] = a[i * a_row + p * a_column]; one of them is 1 */     \
        const real *b;                                                                             \
        int64_t b_row, b_column; /* B[p][j] = b[p * b_row + j * b_column]; one of them is 1 */     \
        const struct mixt_packed *packed; /* B packed before by mixt_pack_f32, or NULL */          \
        const mixt_matrix                                                                          \
            *matrix; /* fp32: B [k, n] = the transpose of these rows, instead of b */              \
        real *c;                                                                                   \
        int64_t c_row;                                                                             \
        bool accumulate;                                                                           \
        bool exact; /* fp32 exact whatever compute->matmul says (routers) */                       \
    } mixt_gemm_##suffix;                                                                          \
    /* Runs `count` independent products (no C overlaps) as one parallel region over tiles. m, n   \
     * or k may be 0: k = 0 writes zeros, or nothing where it accumulates. */                      \
    void mixt_gemm_run_##suffix(const mixt_compute *compute, const mixt_gemm_##suffix *list,       \
                                int64_t count);                                                    \
    /* One product on the calling thread alone, from inside a pool item; always exact fp32 / fp64  \
     * chains (attention blocks). `thread` selects the pack buffers. */                            \
    void mixt_gemm_block_##suffix(const mixt_compute *compute, int thread,                         \
                                  const mixt_gemm_##suffix *gemm);

MIXT_GEMM_DECLARE(float, f32)
MIXT_GEMM_DECLARE(double, f64)

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
void mixt_matrix_row(const mixt_compute *compute, const mixt_matrix *matrix, int64_t row,
                     float *values);

#endif
