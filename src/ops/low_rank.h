/* A row of a weight with its low-rank update: y[i] = w[i] + scale * sum over k of b[k] a[k, i], k
 * rising from a sum of 0, each product and each sum rounded by itself (no fused multiply-add). This
 * is the one arithmetic of adapters: what the operator low_rank computes while a model is trained
 * is bit for bit what merging writes, whatever the tier. */
#ifndef MIXT_OPS_LOW_RANK_H
#define MIXT_OPS_LOW_RANK_H

#include <stdint.h>

typedef struct mixt_low_rank {
    int64_t columns; /* of w, y and each row of a */
    int64_t rank;
    double scale; /* alpha / rank, rounded to the number type once */
} mixt_low_rank;

/* w, y [columns], y may be w; b [rank]; a [rank, columns]. Files are made for fp32 and fp64, so the
 * suffixes (core/real.h). */
void mixt_low_rank_row_f32(const mixt_low_rank *shape, const float *w, const float *b,
                           const float *a, float *y);
void mixt_low_rank_row_f64(const mixt_low_rank *shape, const double *w, const double *b,
                           const double *a, double *y);

#endif
