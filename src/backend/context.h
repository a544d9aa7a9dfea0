/* The public context: the device that everything made with it runs on. Who needs a backend asks
 * here; none is named anywhere else. */
#ifndef MIXT_BACKEND_CONTEXT_H
#define MIXT_BACKEND_CONTEXT_H

#include "ops/backend.h"

struct mixt_context {
    mixt_device device;
    mixt_cache_type cache_type; /* that scores are made for */
};

/* The kind of matrix products that the context was made for. */
static inline mixt_matmul mixt_context_matmul(const mixt_context *context)
{
    return context->device.compute->matmul;
}

/* Needed before products of bfloat16 in a context that was made for others: chooses how they are
 * computed, by a measurement of some milliseconds. */
void mixt_context_prepare_bf16(const mixt_context *context);
/* The kind of products as files record it: "exact", "blas", "bf16", and where those of bfloat16
 * (also of a run with `bf16`) have other bits, "exact, bf16 by amx" or "bf16 by amx". */
const char *mixt_context_products(const mixt_context *context, bool bf16);
/* The same choice as it is shown: each way is measured. */
typedef struct mixt_bf16_measured {
    int count, chosen;
    const char *names[MIXT_HOST_BF16_WAYS];
    double flops[MIXT_HOST_BF16_WAYS];
    double exact_flops;
} mixt_bf16_measured;
void mixt_context_measure_bf16(const mixt_context *context, mixt_bf16_measured *measured);

/* The vector instructions that the host's processor has, whatever a context uses of them: for
 * measuring what the machine can do. */
typedef struct mixt_vectors {
    bool avx2;   /* with FMA */
    bool avx512; /* likewise */
    bool bf16;   /* products of bfloat16 in AVX-512 */
    bool vnni;   /* products of bytes in AVX-512 */
} mixt_vectors;
mixt_vectors mixt_host_vectors(void);

/* The host's threads, for work on files. */
static inline mixt_pool *mixt_context_pool(const mixt_context *context)
{
    return context->device.compute->pool;
}

#endif
