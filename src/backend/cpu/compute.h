/* The CPU backend's door: its tables, and what its operators run on. */
#ifndef MIXT_BACKEND_CPU_COMPUTE_H
#define MIXT_BACKEND_CPU_COMPUTE_H

#include "backend/cpu/bf16_ways.h"
#include "ops/backend.h"

/* The operators in fp32 (4 bytes) or fp64 (8). */
const mixt_backend *mixt_backend_cpu(size_t real_size);

/* A pool of threads, the kernels of a tier, and the buffers of matrix products. */
mixt_status mixt_compute_create(const mixt_context_options *options, mixt_compute **compute,
                                mixt_error *error);
void mixt_compute_free(mixt_compute *compute);
/* Chooses how products of bfloat16 are computed, by a measurement where there is more than one way
 * or `measure` wants it; once. Needed before the first of them, unless the compute was made for
 * such products. Any thread may call it. */
const mixt_bf16_ways *mixt_compute_choose_bf16(mixt_compute *compute, bool measure);
/* Takes one of them, for tests; before the first product of bfloat16. */
void mixt_compute_use_bf16(mixt_compute *compute, int way);

#endif
