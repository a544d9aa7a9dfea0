/* Times matrix products: mixt's own kernels, OpenBLAS and bare fused multiply-adds in turn within
 * each round, so that what disturbs the machine disturbs all alike. Prints medians and the median
 * of the ratios. Usage: gemm [threads [rounds [part of a shape's name]]] */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/cpu/compute.h"
#include "bench/machine.h"
#include "ops/kernels.h"

#define ROUNDS_MAX 99
#define SLICE_SECONDS 0.02 /* one measurement */
#define PEAK_ROUNDS 6 /* threads of OpenBLAS wait spinning, so that the first ones share a core */

typedef struct shape {
    const char *name;
    int count; /* products in the list */
    int64_t m, n, k;
    bool a_transposed, b_transposed, accumulate, packed, block;
} shape;

/* Products of a model: x W^T with W [n, k], dx = dy W, dW += dy^T x. */
static const shape shapes[] = {
    {"attention projection", 1, 2048, 256, 256, false, true, false, false, false},
    {"experts up", 8, 512, 512, 256, false, true, false, false, false},
    {"experts dx", 8, 512, 256, 512, false, false, false, false, false},
    {"experts dW", 8, 512, 256, 512, true, false, true, false, false},
    {"larger experts up", 8, 1024, 1024, 512, false, true, false, false, false},
    {"larger experts dW", 8, 1024, 512, 1024, true, false, true, false, false},
    {"vocabulary", 1, 4096, 8192, 512, false, true, false, false, false},
    {"vocabulary dx", 1, 4096, 512, 8192, false, false, false, false, false},
    {"vocabulary dW", 1, 8192, 512, 4096, true, false, true, false, false},
    {"square", 1, 1536, 1536, 1536, false, false, false, false, false},
    {"ragged experts", 16, 77, 512, 256, false, true, false, false, false},
    {"router", 1, 2048, 8, 256, false, true, false, false, false},
    {"one token, packed", 16, 1, 1024, 2048, false, true, false, true, false},
    {"eight tokens, packed", 16, 8, 1024, 2048, false, true, false, true, false},
    {"one token", 16, 1, 1024, 2048, false, true, false, false, false},
    {"attention block", 64, 64, 64, 64, false, true, false, false, true},
    {"attention block kn", 64, 64, 64, 64, false, false, false, false, true},
};

/* One thread is timed by the processor time it gets, which other processes disturb less. */
static clockid_t clock_used = CLOCK_MONOTONIC;

static double now(void)
{
    struct timespec time;
    clock_gettime(clock_used, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* ------------------------------------------------------------------------------------------ */
/* Products                                                                                   */

typedef struct measured {
    mixt_gemm_f32 *list;
    int count;
    bool block;
} measured;

static float *random_matrix(int64_t size)
{
    float *x = aligned_alloc(64, (size_t)(size + 16) / 16 * 64);
    if (x == NULL) {
        abort();
    }
    for (int64_t i = 0; i < size; i++) {
        x[i] = (float)(rand() % 2001 - 1000) * 1e-3F;
    }
    return x;
}

static measured make_products(const mixt_compute *compute, const shape *s)
{
    measured products = {calloc((size_t)s->count, sizeof(mixt_gemm_f32)), s->count, s->block};
    for (int i = 0; i < s->count; i++) {
        mixt_gemm_f32 *g = &products.list[i];
        *g = (mixt_gemm_f32){.m = s->m, .n = s->n, .k = s->k, .accumulate = s->accumulate};
        g->a = random_matrix(s->m * s->k);
        g->b = random_matrix(s->n * s->k);
        g->c = random_matrix(s->m * s->n);
        g->a_row = s->a_transposed ? 1 : s->k;
        g->a_column = s->a_transposed ? s->m : 1;
        g->b_row = s->b_transposed ? 1 : s->n;
        g->b_column = s->b_transposed ? s->k : 1;
        g->c_row = s->n;
        mixt_packed *packed = NULL;
        if (s->packed && mixt_pack_f32(compute, g, &packed, NULL) != MIXT_OK) {
            abort();
        }
        g->packed = packed;
    }
    return products;
}

static void free_products(measured *products)
{
    for (int i = 0; i < products->count; i++) {
        mixt_gemm_f32 *g = &products->list[i];
        free((float *)(uintptr_t)g->a);
        free((float *)(uintptr_t)g->b);
        free(g->c);
        mixt_packed_free((mixt_packed *)(uintptr_t)g->packed);
    }
    free(products->list);
}

static void run_once(const mixt_compute *compute, const measured *products, bool own)
{
    if (own && products->block) {
        for (int i = 0; i < products->count; i++) {
            mixt_gemm_block_f32(compute, 0, &products->list[i]);
        }
        return;
    }
    for (int i = 0; i < products->count && !own; i++) {
        mixt_gemm_f32 plain = products->list[i];
        plain.packed = NULL;
        mixt_gemm_run_f32(compute, &plain, 1);
    }
    if (own) {
        mixt_gemm_run_f32(compute, products->list, products->count);
    }
}

static double seconds_of(const mixt_compute *compute, const measured *products, bool own)
{
    int runs = 0;
    double begin = now(), seconds;
    do {
        run_once(compute, products, own);
        runs++;
        seconds = now() - begin;
    } while (seconds < SLICE_SECONDS);
    return seconds / runs;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare);
    return values[count / 2];
}

static void measure(mixt_compute *own, mixt_compute *blas, const shape *s, int rounds)
{
    double rate[ROUNDS_MAX], other[ROUNDS_MAX], peak[ROUNDS_MAX], share[ROUNDS_MAX],
        ratio[ROUNDS_MAX];
    measured products = make_products(own, s);
    double work = 2.0 * (double)s->count * (double)s->m * (double)s->n * (double)s->k;
    double bytes = 4.0 * (double)s->count * (double)(s->n * s->k);
    run_once(own, &products, true);
    for (int round = 0; round < rounds; round++) {
        peak[round] = mixt_bench_peak(own, PEAK_ROUNDS);
        rate[round] = work / seconds_of(own, &products, true);
        other[round] = blas == NULL ? 0 : work / seconds_of(blas, &products, false);
        /* the peak before and behind, because speed drifts; a block runs on one thread */
        double both =
            (peak[round] + mixt_bench_peak(own, PEAK_ROUNDS)) / 2 / (s->block ? own->threads : 1);
        share[round] = rate[round] / both;
        ratio[round] = blas == NULL ? 0 : rate[round] / other[round];
    }
    double own_rate = median(rate, rounds);
    printf("%-22s %3d x %5ldx%5ldx%5ld %s%s %7.1f %5.1f%% %8.1f %6.2fx %7.1f GB/s\n", s->name,
           s->count, (long)s->m, (long)s->n, (long)s->k, s->a_transposed ? "T" : "N",
           s->b_transposed ? "T" : "N", own_rate * 1e-9, 100 * median(share, rounds),
           median(other, rounds) * 1e-9, median(ratio, rounds), bytes * own_rate / work * 1e-9);
    fflush(stdout);
    free_products(&products);
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 0, rounds = argc > 2 ? atoi(argv[2]) : 7;
    const char *wanted = argc > 3 ? argv[3] : "";
    rounds = rounds < 1 ? 1 : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
    mixt_compute *own = NULL, *blas = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context_options options = {.threads = threads};
    if (mixt_compute_create(&options, &own, &error) != MIXT_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    clock_used = own->threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC;
    options.matmul = MIXT_MATMUL_BLAS;
    if (mixt_compute_create(&options, &blas, &error) != MIXT_OK) {
        printf("%s\n", error.message);
    }
    printf("%s, %d threads; GFLOP/s, share of the multiply-add peak (%.1f GFLOP/s now), OpenBLAS, "
           "ratio, bytes of B read\n",
           own->f32->name, own->threads, mixt_bench_peak(own, PEAK_ROUNDS) * 1e-9);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        if (strstr(shapes[i].name, wanted) != NULL) {
            measure(own, blas, &shapes[i], rounds);
        }
    }
    mixt_compute_free(own);
    mixt_compute_free(blas);
    return 0;
}
