/* How products of bfloat16 are computed: by each way that a tier has, with the same bits, and the
 * fastest of them is measured; or by the tier's own, with other bits. */
#ifndef MIXT_BACKEND_CPU_BF16_WAYS_H
#define MIXT_BACKEND_CPU_BF16_WAYS_H

#include "ops/kernels.h"

#define MIXT_BF16_WAYS MIXT_HOST_BF16_WAYS

typedef struct mixt_bf16_way {
    const char *name; /* "fp32": multiply-adds of rounded operands; or the instruction */
    mixt_gemm_kernels_f32 kernels;
    double flops;  /* of a small product on all threads; 0: not measured */
    bool own_sums; /* in an order of its own: taken wherever its tier is, whatever was measured */
} mixt_bf16_way;

typedef struct mixt_bf16_ways {
    int count, chosen;
    mixt_bf16_way list[MIXT_BF16_WAYS];
    double exact_flops; /* of the same product in fp32, to compare with */
} mixt_bf16_ways;

void mixt_bf16_ways_add(mixt_bf16_ways *ways, const char *name,
                        const mixt_gemm_kernels_f32 *kernels);
/* Times all of them, in some milliseconds. Without memory for it nothing changes. */
void mixt_bf16_ways_measure(const mixt_compute *compute, mixt_bf16_ways *ways);
/* The first where none was timed. */
int mixt_bf16_ways_fastest(const mixt_bf16_ways *ways);

#endif
