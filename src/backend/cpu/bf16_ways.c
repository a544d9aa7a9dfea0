#include "backend/cpu/bf16_ways.h"

#include <assert.h>
#include <stdlib.h>
#include <time.h>

/* A product of 60 million operations: a fifth of a millisecond on two cores with AVX-512. */
#define SIDE_M 224 /* whole tiles of 4, 14 and 16 rows */
#define SIDE_N 256
#define SIDE_K 512
#define ROUNDS 8
/* Seconds behind which no further round begins: of tiers that are slow. */
#define BUDGET 0.05

void mixt_bf16_ways_add(mixt_bf16_ways *ways, const char *name,
                        const mixt_gemm_kernels_f32 *kernels)
{
    assert(ways->count < MIXT_BF16_WAYS);
    ways->list[ways->count++] = (mixt_bf16_way){.name = name, .kernels = *kernels};
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The best rate that was seen, operations a second. */
static void time_product(const mixt_compute *compute, const mixt_gemm_f32 *product, double *best)
{
    double begin = seconds();
    mixt_gemm_run_f32(compute, product, 1);
    double flops = 2.0 * SIDE_M * SIDE_N * SIDE_K / (seconds() - begin);
    *best = flops > *best ? flops : *best;
}

static void time_ways(const mixt_compute *compute, const mixt_gemm_f32 *product,
                      mixt_bf16_ways *ways)
{
    mixt_compute own = *compute;
    own.matmul = MIXT_MATMUL_EXACT;
    time_product(&own, product, &ways->exact_flops);
    mixt_kernels_f32 table = *compute->f32;
    own.f32 = &table;
    own.matmul = MIXT_MATMUL_BF16;
    for (int i = 0; i < ways->count; i++) {
        table.gemm_bf16 = ways->list[i].kernels;
        time_product(&own, product, &ways->list[i].flops);
    }
}

void mixt_bf16_ways_measure(const mixt_compute *compute, mixt_bf16_ways *ways)
{
    const size_t reals = SIDE_M * SIDE_K + SIDE_N * SIDE_K + SIDE_M * SIDE_N;
    float *values = malloc(reals * sizeof *values);
    if (values == NULL) {
        return;
    }
    for (size_t i = 0; i < reals; i++) {
        values[i] = 1 + 0x1p-8F * (float)(i % 251);
    }
    const mixt_gemm_f32 product = {
        .m = SIDE_M,
        .n = SIDE_N,
        .k = SIDE_K,
        .a = values,
        .a_row = SIDE_K,
        .a_column = 1,
        .b = values + SIDE_M * SIDE_K,
        .b_row = 1,
        .b_column = SIDE_K,
        .c = values + SIDE_M * SIDE_K + SIDE_N * SIDE_K,
        .c_row = SIDE_N,
    };
    double begin = seconds();
    for (int round = 0; round < ROUNDS && (round < 2 || seconds() - begin < BUDGET); round++) {
        time_ways(compute, &product, ways);
    }
    free(values);
}

int mixt_bf16_ways_fastest(const mixt_bf16_ways *ways)
{
    int fastest = 0;
    for (int i = 1; i < ways->count; i++) {
        if (ways->list[i].own_sums) {
            return i;
        }
        fastest = ways->list[i].flops > ways->list[fastest].flops ? i : fastest;
    }
    return fastest;
}
