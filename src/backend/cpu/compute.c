/* What operators run on: a pool, the kernel tables of a tier, and the product driver's buffers. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/blas.h"
#include "backend/cpu/compute.h"
#include "backend/cpu/cpu.h"
#include "backend/cpu/tiers.h"
#include "core/error.h"
#include "core/memory.h"
#include "ops/gemm.h"

/* One allocation for what a compute points to. */
typedef struct compute_storage {
    mixt_compute compute; /* first: what the caller holds */
    mixt_kernels_f32 f32;
    struct mixt_gemm_engine engine;
    int buffers; /* entries of engine.a and engine.b */
    mixt_bf16_ways ways;
    pthread_mutex_t choosing; /* over `ways`, the two below and f32.gemm_bf16 */
    bool chosen, measured;
} compute_storage;

static void fill_tables(mixt_kernels_f32 *table, mixt_bf16_ways *ways, mixt_cpu cpu)
{
    *table = mixt_kernels_scalar_f32;
#if defined(__x86_64__)
    if (cpu.tier >= MIXT_CPU_AVX2) {
        mixt_fill_avx2(table);
    }
    if (cpu.tier >= MIXT_CPU_AVX512) {
        mixt_fill_avx512(table);
    }
    if (cpu.vnni) {
        mixt_fill_avx512vnni_matrix(table);
    }
    if (cpu.tier >= MIXT_CPU_AMX) {
        mixt_fill_amx_matrix(table);
    }
#elif defined(__aarch64__)
    if (cpu.tier >= MIXT_CPU_NEON) {
        mixt_fill_neon(table);
    }
    if (cpu.tier >= MIXT_CPU_DOTPROD) {
        mixt_fill_neon_dotprod_matrix(table);
    }
    if (cpu.tier >= MIXT_CPU_I8MM) {
        mixt_fill_neon_i8mm_matrix(table);
    }
#endif
    table->name = mixt_cpu_tier_names[cpu.tier];
    mixt_bf16_ways_add(ways, "fp32", &table->gemm_bf16);
#if defined(__x86_64__)
    if (cpu.bf16) {
        mixt_fill_avx512bf16(table);
        mixt_bf16_ways_add(ways, "vdpbf16ps", &table->gemm_bf16);
    }
    if (cpu.tier >= MIXT_CPU_AMX) {
        mixt_fill_amx_bf16(table);
        mixt_bf16_ways_add(ways, "amx", &table->gemm_bf16);
        ways->list[ways->count - 1].own_sums = true;
    }
#endif
}

void mixt_compute_use_bf16(mixt_compute *compute, int way)
{
    compute_storage *storage = (compute_storage *)compute;
    pthread_mutex_lock(&storage->choosing);
    storage->ways.chosen = way;
    storage->f32.gemm_bf16 = storage->ways.list[way].kernels;
    storage->chosen = true;
    pthread_mutex_unlock(&storage->choosing);
}

const mixt_bf16_ways *mixt_compute_choose_bf16(mixt_compute *compute, bool measure)
{
    compute_storage *storage = (compute_storage *)compute;
    pthread_mutex_lock(&storage->choosing);
    if (!storage->measured && (measure || (!storage->chosen && storage->ways.count > 1))) {
        mixt_bf16_ways_measure(compute, &storage->ways);
        storage->measured = true;
    }
    if (!storage->chosen) {
        storage->ways.chosen = mixt_bf16_ways_fastest(&storage->ways);
        storage->f32.gemm_bf16 = storage->ways.list[storage->ways.chosen].kernels;
        storage->chosen = true;
    }
    pthread_mutex_unlock(&storage->choosing);
    return &storage->ways;
}

static mixt_status allocate_buffers(compute_storage *storage, int threads, mixt_error *error)
{
    struct mixt_gemm_engine *engine = &storage->engine;
    engine->shared = mixt_block_scratch(MIXT_GEMM_SHARED_BYTES);
    engine->a = calloc((size_t)threads, sizeof *engine->a);
    engine->b = calloc((size_t)threads, sizeof *engine->b);
    bool complete = engine->shared != NULL && engine->a != NULL && engine->b != NULL;
    if (complete) {
        storage->buffers = threads;
        for (int thread = 0; thread < threads; thread++) {
            engine->a[thread] = mixt_block_scratch(MIXT_THREAD_BYTES);
            complete = complete && engine->a[thread] != NULL;
            engine->b[thread] = (char *)engine->a[thread] + MIXT_GEMM_A_BYTES;
        }
    }
    return complete ? MIXT_OK
                    : mixt_fail(error, MIXT_ERROR_MEMORY,
                                "no memory for the product buffers of %d threads", threads);
}

static mixt_status fill_storage(compute_storage *storage, const mixt_context_options *options,
                                mixt_error *error)
{
    mixt_compute *compute = &storage->compute;
    mixt_cpu cpu;
    mixt_status status = mixt_cpu_choose(options->cpu, &cpu, error);
    if (status != MIXT_OK) {
        return status;
    }
    fill_tables(&storage->f32, &storage->ways, cpu);
    compute->f32 = &storage->f32;
    compute->f64 = &mixt_kernels_scalar_f64; /* with fused instructions where every CPU has them */
#if defined(__x86_64__)
    if (cpu.tier >= MIXT_CPU_AVX2) {
        compute->f64 = &mixt_kernels_fma_f64;
    }
#endif
    compute->gemm = &storage->engine;
    compute->matmul = options->matmul;
    if (options->matmul != MIXT_MATMUL_EXACT && options->matmul != MIXT_MATMUL_BF16 &&
        options->matmul != MIXT_MATMUL_BLAS) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "matmul: %d is not a kind of product",
                         (int)options->matmul);
    }
    MIXT_TRY(mixt_pool_create(options->threads, &compute->pool, error));
    compute->threads = mixt_pool_threads(compute->pool);
    if (options->matmul == MIXT_MATMUL_BLAS) {
        MIXT_TRY(mixt_blas_open(&storage->engine, compute->threads, error));
    }
    MIXT_TRY(allocate_buffers(storage, compute->threads, error));
    if (options->matmul == MIXT_MATMUL_BF16) {
        (void)mixt_compute_choose_bf16(compute, false);
    }
    return MIXT_OK;
}

mixt_status mixt_compute_create(const mixt_context_options *options, mixt_compute **compute,
                                mixt_error *error)
{
    static const mixt_context_options defaults = {0};
    *compute = NULL;
    if (options != NULL) {
        MIXT_TRY(MIXT_CHECK_RESERVED(mixt_context_options, options, error));
    }
    compute_storage *storage = calloc(1, sizeof *storage);
    if (storage == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "no memory for a context");
    }
    pthread_mutex_init(&storage->choosing, NULL);
    mixt_status status = fill_storage(storage, options == NULL ? &defaults : options, error);
    if (status != MIXT_OK) {
        mixt_compute_free(&storage->compute);
        return status;
    }
    *compute = &storage->compute;
    return MIXT_OK;
}

void mixt_compute_free(mixt_compute *compute)
{
    if (compute == NULL) {
        return;
    }
    compute_storage *storage = (compute_storage *)compute;
    mixt_pool_free(compute->pool);
    for (int thread = 0; thread < storage->buffers; thread++) {
        mixt_block_free(storage->engine.a[thread], MIXT_THREAD_BYTES);
    }
    free(storage->engine.a);
    free(storage->engine.b);
    mixt_block_free(storage->engine.shared, MIXT_GEMM_SHARED_BYTES);
    pthread_mutex_destroy(&storage->choosing);
    free(storage);
}
