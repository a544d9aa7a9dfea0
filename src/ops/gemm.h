/* What the matrix product driver keeps between calls. Made by mixt_compute_create. */
#ifndef MIXT_OPS_GEMM_H
#define MIXT_OPS_GEMM_H

#include <stddef.h>

#include "ops/kernels.h"

/* Bytes of the pack buffers: rows of A for one thread (more than half of a 1 MiB L2), columns of B
 * for one thread, and the panels of B that all threads share (half of a 33 MiB L3). */
#define MIXT_GEMM_A_BYTES ((size_t)640 << 10)
#define MIXT_GEMM_B_BYTES ((size_t)512 << 10)
#define MIXT_GEMM_THREAD_BYTES ((size_t)2 << 20) /* both, on one huge page */
#define MIXT_GEMM_SHARED_BYTES ((size_t)16 << 20)

/* cblas_sgemm, its enumerations as int. */
typedef void (*mixt_blas_sgemm)(int order, int transpose_a, int transpose_b, int m, int n, int k,
                                float alpha, const float *a, int a_stride, const float *b,
                                int b_stride, float beta, float *c, int c_stride);

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
    float *panels; /* blocks of MIXT_GEMM_K_BLOCK, in each all panels one behind the other */
    size_t size;
};

#endif
