/* What the shape rule of loss and its two directions know. */
#ifndef MIXT_OPS_HEAD_H
#define MIXT_OPS_HEAD_H

#include "ops/kernels.h"
#include "ops/shape.h"

/* Rows whose logits are in work at once. */
#define MIXT_LOSS_SLAB MIXT_GEMM_K_BLOCK

/* The largest of row [n] and the first place where it stands, which is looked for in one block
 * alone; NaN and -1 where one is no number. */
float mixt_largest_f32(const mixt_kernels_f32 *kernels, int64_t n, const float *row,
                       int32_t *place);
double mixt_largest_f64(const mixt_kernels_f64 *kernels, int64_t n, const double *row,
                        int32_t *place);

#endif
