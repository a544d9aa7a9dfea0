/* Times products with typed weights. Weights lie one behind the other in a block that no cache
 * holds and are read in turn, as experts are. Before and behind each measurement the read
 * bandwidth and the multiply-add peak of the machine are taken, because both drift; shares are of
 * their means. Usage: matrix [threads [rounds [type [MiB of weights [most
 * tokens]]]]] */
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/cpu/compute.h"
#include "bench/machine.h"
#include "core/half.h"
#include "core/memory.h"
#include "ops/kernels.h"

#define SLICE_SECONDS 0.02
#define LIST 16 /* products in a list: eight experts' gate and up */

static clockid_t clock_used = CLOCK_MONOTONIC;

static double now(void)
{
    struct timespec time;
    clock_gettime(clock_used, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* ------------------------------------------------------------------------------------------ */
/* The machine                                                                                */

#define PIECE ((size_t)1 << 20)

static unsigned char *memory;
static size_t memory_size, memory_at;
static volatile int sink;

__attribute__((target("avx2"))) static void read_item(void *context, int64_t item, int thread)
{
    (void)context;
    (void)thread;
    const unsigned char *from = memory + (size_t)item * PIECE;
    __m256i a = _mm256_setzero_si256(), b = a;
    for (size_t at = 0; at < PIECE; at += 64) {
        _mm_prefetch((const char *)from + at + 4096, _MM_HINT_T0);
        a = _mm256_xor_si256(a, _mm256_load_si256((const __m256i *)(const void *)(from + at)));
        b = _mm256_xor_si256(b, _mm256_load_si256((const __m256i *)(const void *)(from + at + 32)));
    }
    sink = _mm256_movemask_epi8(_mm256_xor_si256(a, b));
}

/* Bytes in a second, all threads. */
static double bandwidth(const mixt_compute *compute)
{
    int64_t pieces = (int64_t)(memory_size / PIECE);
    pieces = pieces > 256 ? 256 : pieces;
    double begin = now();
    mixt_pool_run(compute->pool, pieces, read_item, NULL);
    return (double)pieces * (double)PIECE / (now() - begin);
}

/* ------------------------------------------------------------------------------------------ */
/* Products                                                                                   */

static void fill_memory(void)
{
    uint64_t state = 1;
    for (size_t i = 0; i + 8 <= memory_size; i += 8) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        memcpy(memory + i, &state, sizeof state);
    }
}

/* Sets the halves at `at` of every block to a small number: sums stay finite. */
static void set_halves(const mixt_type_row *info, size_t at)
{
    const uint16_t half = mixt_f16_bits(0.001F);
    for (size_t i = 0; i + (size_t)info->bytes <= memory_size; i += (size_t)info->bytes) {
        memcpy(memory + i + at, &half, sizeof half);
    }
}

static void make_finite(mixt_type type)
{
    const mixt_type_row *info = mixt_type_info(type);
    size_t size = (size_t)info->bytes;
    if (type == MIXT_TYPE_F32) {
        for (size_t i = 0; i + 4 <= memory_size; i += 4) {
            memory[i + 3] = 0x3D;
        }
    } else if (type == MIXT_TYPE_MXFP4) {
        for (size_t i = 0; i + size <= memory_size; i += size) {
            memory[i] = 120;
        }
    } else if (type == MIXT_TYPE_Q2_K) {
        set_halves(info, 80);
        set_halves(info, 82);
    } else if (type == MIXT_TYPE_Q3_K || type == MIXT_TYPE_Q6_K || type == MIXT_TYPE_TQ1_0 ||
               type == MIXT_TYPE_TQ2_0) {
        set_halves(info, size - 2);
    } else if (type == MIXT_TYPE_IQ1_M) { /* the half's upper bits */
        for (size_t i = 0; i + size <= memory_size; i += size) {
            memory[i + 55] = 0x15;
        }
    } else if (type != MIXT_TYPE_NVFP4) {
        set_halves(info, 0);
        if (type == MIXT_TYPE_Q4_1 || type == MIXT_TYPE_Q5_1 || type == MIXT_TYPE_Q4_K ||
            type == MIXT_TYPE_Q5_K) {
            set_halves(info, 2);
        }
    }
}

typedef struct setting {
    mixt_type type;
    int64_t m, n, k;
} setting;

static float *activations, *results;

/* A list over the next weights. */
static void run_list(const mixt_compute *compute, const setting *s)
{
    mixt_matrix matrices[LIST];
    mixt_gemm_f32 list[LIST];
    size_t row_bytes = mixt_type_row_bytes(s->type, s->k), size = row_bytes * (size_t)s->n;
    for (int i = 0; i < LIST; i++) {
        if (memory_at + size > memory_size) {
            memory_at = 0;
        }
        matrices[i] = (mixt_matrix){.type = s->type,
                                    .n = s->n,
                                    .k = s->k,
                                    .data = memory + memory_at,
                                    .row_bytes = row_bytes};
        memory_at += size;
        list[i] = (mixt_gemm_f32){.m = s->m,
                                  .n = s->n,
                                  .k = s->k,
                                  .a = activations + i / 2 * s->m * s->k,
                                  .a_row = s->k,
                                  .a_column = 1,
                                  .matrix = &matrices[i],
                                  .c = results + i * s->m * s->n,
                                  .c_row = s->n};
    }
    mixt_gemm_run_f32(compute, list, LIST);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

#define ROUNDS_MAX 99

static void measure(const mixt_compute *compute, const setting *s, int rounds)
{
    double rate[ROUNDS_MAX], of_read[ROUNDS_MAX], of_peak[ROUNDS_MAX];
    double products = (double)LIST * (double)(s->n * s->k);
    double work = 2 * products * (double)s->m;
    double bytes = (double)LIST * (double)s->n * (double)mixt_type_row_bytes(s->type, s->k);
    run_list(compute, s);
    for (int round = 0; round < rounds; round++) {
        double read = bandwidth(compute), most = mixt_bench_peak(compute, 1), begin = now(),
               seconds;
        int runs = 0;
        do {
            run_list(compute, s);
            runs++;
            seconds = now() - begin;
        } while (seconds < SLICE_SECONDS);
        read = (read + bandwidth(compute)) / 2;
        most = (most + mixt_bench_peak(compute, 1)) / 2;
        rate[round] = runs / seconds;
        of_read[round] = runs / seconds * bytes / read;
        of_peak[round] = runs / seconds * work / most;
    }
    qsort(rate, (size_t)rounds, sizeof *rate, compare);
    qsort(of_read, (size_t)rounds, sizeof *of_read, compare);
    qsort(of_peak, (size_t)rounds, sizeof *of_peak, compare);
    double median = rate[rounds / 2];
    printf(
        "%-7s %5ld x%5ld m=%4ld %8.1f GFLOP/s %5.2f of the fp32 peak %7.2f GB/s %5.2f of reading\n",
        mixt_type_info(s->type)->name, (long)s->n, (long)s->k, (long)s->m, median * work * 1e-9,
        of_peak[rounds / 2], median * bytes * 1e-9, of_read[rounds / 2]);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 0, rounds = argc > 2 ? atoi(argv[2]) : 5;
    const char *wanted = argc > 3 ? argv[3] : "all";
    int64_t most = argc > 5 ? atoi(argv[5]) : 256;
    rounds = rounds < 1 ? 1 : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
    memory_size = (size_t)(argc > 4 ? atoi(argv[4]) : 512) << 20;
    mixt_compute *compute = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context_options options = {.threads = threads};
    if (mixt_compute_create(&options, &compute, &error) != MIXT_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    clock_used = compute->threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC;
    memory = mixt_block_allocate(memory_size + PIECE);
    activations = mixt_block_allocate((size_t)LIST / 2 * 256 * 2048 * sizeof(float));
    results = mixt_block_allocate((size_t)LIST * 256 * 2048 * sizeof(float));
    if (memory == NULL || activations == NULL || results == NULL) {
        fprintf(stderr, "no memory\n");
        return 1;
    }
    for (int64_t i = 0; i < LIST / 2 * 256 * 2048; i++) {
        activations[i] = (float)(i * 7919 % 2001 - 1000) * 1e-3F;
    }
    printf("%s, %d threads; reading %.1f GB/s, fp32 peak %.1f GFLOP/s\n", compute->f32->name,
           compute->threads, bandwidth(compute) * 1e-9, mixt_bench_peak(compute, 1) * 1e-9);
    static const int64_t tokens[] = {1, 2, 4, 8, 16, 64, 256}, depths[] = {2048, 1408};
    for (int type = 0; type < MIXT_TYPE_COUNT; type++) {
        if (strcmp(wanted, "all") != 0 &&
            strcmp(wanted, mixt_type_info((mixt_type)type)->name) != 0) {
            continue;
        }
        fill_memory();
        make_finite((mixt_type)type);
        for (int i = 0; i < 14; i++) {
            setting s = {(mixt_type)type, tokens[i % 7], depths[i / 7] == 1408 ? 2048 : 1408,
                         depths[i / 7]};
            if (s.m <= most && mixt_type_row_bytes(s.type, s.k) > 0) {
                measure(compute, &s, rounds);
            }
        }
    }
    mixt_block_free(memory, memory_size + PIECE);
    mixt_block_free(activations, (size_t)LIST / 2 * 256 * 2048 * sizeof(float));
    mixt_block_free(results, (size_t)LIST * 256 * 2048 * sizeof(float));
    mixt_compute_free(compute);
    return 0;
}
