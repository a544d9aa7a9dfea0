/* Inside the matrix product: what it keeps between calls, and its driver (gemm_tmpl.c), which
 * gemm.c hands products to. */
#ifndef MIXT_OPS_GEMM_H
#define MIXT_OPS_GEMM_H

#include <stddef.h>

#include "ops/kernels.h"

/* Bytes of the pack buffers: rows of A for one thread (more than half of a 1 MiB L2), columns of B
 * for one thread, and the panels of B that all threads share (half of a 33 MiB L3). */
#define MIXT_GEMM_A_BYTES ((size_t)640 << 10)
#define MIXT_GEMM_B_BYTES ((size_t)512 << 10)
#define MIXT_GEMM_THREAD_BYTES ((size_t)2 << 20) /* both, on one huge page */
#define MIXT_THREAD_BYTES ((size_t)4 << 20)      /* with the rest of what attention packs */
#define MIXT_GEMM_SHARED_BYTES ((size_t)16 << 20)

/* cblas_sgemm, its enumerations as int. */
typedef void (*mixt_blas_sgemm)(int order, int transpose_a, int transpose_b, int m, int n, int k,
                                float alpha, const float *a, int a_stride, const float *b,
                                int b_stride, float beta, float *c, int c_stride);

/* Made by mixt_compute_create. */
struct mixt_gemm_engine {
    void *shared;
    void **a; /* [threads] */
    void **b; /* [threads], in the same blocks */
    mixt_blas_sgemm sgemm;
    void (*blas_threads)(int threads); /* openblas_set_num_threads, or NULL */
};

struct mixt_packed {
    int64_t n, k;
    const mixt_gemm_kernels_f32 *kernels; /* whose panels these are */
    void *panels; /* blocks of MIXT_GEMM_K_BLOCK, in each all panels one behind the other */
    size_t size;
};

/* Cells of a panel for k values. */
static inline int64_t mixt_gemm_cells(bool pairs, int64_t k)
{
    return pairs ? (k + 1) / 2 : k;
}

/* The kernels that a product runs on. */
const mixt_gemm_kernels_f32 *mixt_gemm_kernels_for_f32(const mixt_compute *compute,
                                                       const mixt_gemm_f32 *product);
const mixt_gemm_kernels_f64 *mixt_gemm_kernels_for_f64(const mixt_compute *compute,
                                                       const mixt_gemm_f64 *product);
/* Whether mixt_matrix_run computes a product and not the driver: weights in quantised blocks, and
 * plain floats that are streamed because there are few rows of activations. */
bool mixt_gemm_is_typed(const mixt_compute *compute, const mixt_gemm_f32 *product);
bool mixt_gemm_is_streamed(const mixt_compute *compute, const mixt_gemm_f32 *product);
/* Whether kernels read the rows of a matrix of plain floats, factors and all. */
static inline bool mixt_rows_fit(const mixt_matrix *matrix)
{
    return matrix->scales.values == NULL || matrix->scales.block_columns % MIXT_FACTOR_COLUMNS == 0;
}
/* The kernel for few rows of activations, or NULL. */
static inline mixt_stream_kernel *mixt_stream_of(const mixt_gemm_kernels_f32 *kernels,
                                                 mixt_type type)
{
    bool by_lanes = kernels->tile_lanes != NULL && mixt_in_lanes(type);
    return by_lanes ? kernels->stream_half : kernels->stream;
}

/* Runs the products of a list, and leaves out those of mixt_matrix_run. */
void mixt_gemm_drive_f32(const mixt_compute *compute, const mixt_gemm_f32 *list, int64_t count);
void mixt_gemm_drive_f64(const mixt_compute *compute, const mixt_gemm_f64 *list, int64_t count);
/* Packs all of B, as struct mixt_packed lays it out. */
void mixt_gemm_pack_f32(const mixt_compute *compute, const mixt_gemm_f32 *gemm, float *to);
void mixt_gemm_pack_f64(const mixt_compute *compute, const mixt_gemm_f64 *gemm, double *to);

#endif
