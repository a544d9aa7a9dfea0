/* The CPU backend's door: its tables, and what its operators run on. */
#ifndef MIXT_BACKEND_CPU_COMPUTE_H
#define MIXT_BACKEND_CPU_COMPUTE_H

#include "ops/backend.h"

/* The operators in fp32 (4 bytes) or fp64 (8). */
const mixt_backend *mixt_backend_cpu(size_t real_size);

/* A pool of threads, the kernels of a tier, and the buffers of matrix products. */
mixt_status mixt_compute_create(const mixt_context_options *options, mixt_compute **compute,
                                mixt_error *error);
void mixt_compute_free(mixt_compute *compute);

#endif
