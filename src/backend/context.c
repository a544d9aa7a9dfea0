#include "backend/context.h"

#include <stdlib.h>

#include "backend/cpu/compute.h"
#include "backend/cpu/cpu.h"
#include "core/error.h"

mixt_status mixt_context_create(const mixt_context_options *options, mixt_context **result,
                                mixt_error *error)
{
    *result = NULL;
    if (options != NULL && (unsigned)options->cache_type > MIXT_CACHE_Q8_0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "context: cache type %d is not in %d..%d",
                         (int)options->cache_type, MIXT_CACHE_F32, MIXT_CACHE_Q8_0);
    }
    mixt_context *context = calloc(1, sizeof *context);
    if (context == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "no memory for a context");
    }
    mixt_status status = mixt_compute_create(options, &context->device.compute, error);
    if (status != MIXT_OK) {
        mixt_context_free(context);
        return status;
    }
    context->cache_type = options != NULL ? options->cache_type : MIXT_CACHE_F32;
    context->device.f32 = mixt_backend_cpu(sizeof(float));
    context->device.f64 = mixt_backend_cpu(sizeof(double));
    *result = context;
    return MIXT_OK;
}

void mixt_context_free(mixt_context *context)
{
    if (context != NULL) {
        mixt_compute_free(context->device.compute);
        free(context);
    }
}

int mixt_context_threads(const mixt_context *context)
{
    return context->device.compute->threads;
}

const char *mixt_context_cpu(const mixt_context *context)
{
    return context->device.compute->f32->name;
}

void mixt_context_prepare_bf16(const mixt_context *context)
{
    (void)mixt_compute_choose_bf16(context->device.compute, false);
}

const char *mixt_context_products(const mixt_context *context, bool bf16)
{
    static const char *const names[] = {"exact", "blas", "bf16"}; /* by mixt_matmul */
    static const char *const own[] = {"exact, bf16 by amx", "blas, bf16 by amx", "bf16 by amx"};
    mixt_matmul matmul = mixt_context_matmul(context);
    if (!bf16 && matmul != MIXT_MATMUL_BF16) {
        return names[matmul];
    }
    const mixt_bf16_ways *ways = mixt_compute_choose_bf16(context->device.compute, false);
    return (ways->list[ways->chosen].own_sums ? own : names)[matmul];
}

void mixt_context_measure_bf16(const mixt_context *context, mixt_bf16_measured *measured)
{
    const mixt_bf16_ways *ways = mixt_compute_choose_bf16(context->device.compute, true);
    *measured = (mixt_bf16_measured){
        .count = ways->count, .chosen = ways->chosen, .exact_flops = ways->exact_flops};
    for (int i = 0; i < ways->count; i++) {
        measured->names[i] = ways->list[i].name;
        measured->flops[i] = ways->list[i].flops;
    }
}

mixt_vectors mixt_host_vectors(void)
{
    mixt_cpu cpu = mixt_cpu_detect();
    bool avx512 = cpu.tier == MIXT_CPU_AVX512 || cpu.tier == MIXT_CPU_AMX;
    return (mixt_vectors){avx512 || cpu.tier == MIXT_CPU_AVX2, avx512, cpu.bf16, cpu.vnni};
}
