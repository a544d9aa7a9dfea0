/* Products with typed weights: the scalar tier against float64, with activations quantised here
 * and with plain ones; every other tier, thread count, number of rows and grouping against the
 * scalar tier bit for bit, on buffers that end at pages which may not be touched. */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "amx_emulated.h"
#include "avx512_emulated.h"
#include "backend/cpu/compute.h"
#include "backend/cpu/cpu.h"
#include "backend/cpu/tiers.h"
#include "core/half.h"
#include "guard.h"
#include "ops/kernels.h"
#include "quant/quant.h"

#define MOST_ROWS 70 /* of activations */
#define MOST_COLUMNS 100
#define MOST_K 2688

static uint64_t cases;
static guard memory_a, memory_b, memory_c;

static mixt_compute *compute_for(const char *tier, int threads, mixt_matmul matmul)
{
    mixt_compute *compute = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context_options options = {.threads = threads, .cpu = tier, .matmul = matmul};
    if (mixt_compute_create(&options, &compute, &error) != MIXT_OK) {
        assert_int_equal(error.status, MIXT_ERROR_UNSUPPORTED);
        return NULL;
    }
    return compute;
}

static mixt_compute *compute_of(const char *tier, int threads)
{
    return compute_for(tier, threads, MIXT_MATMUL_EXACT);
}

/* ------------------------------------------------------------------------------------------ */
/* Weights and activations                                                                    */

static void put_half(unsigned char *at, float value)
{
    uint16_t half = mixt_f16_bits(value);
    memcpy(at, &half, sizeof half);
}

/* Where a block holds halves: its scale and, or -1, its minimum. */
static void halves_of(mixt_type type, int *d, int *m)
{
    *m = -1;
    *d = 0;
    if (type == MIXT_TYPE_Q4_1 || type == MIXT_TYPE_Q5_1 || type == MIXT_TYPE_Q4_K ||
        type == MIXT_TYPE_Q5_K) {
        *m = 2;
    } else if (type == MIXT_TYPE_Q2_K) {
        *d = 80;
        *m = 82;
    } else if (type == MIXT_TYPE_Q3_K) {
        *d = 108;
    } else if (type == MIXT_TYPE_Q6_K) {
        *d = 208;
    } else if (type == MIXT_TYPE_TQ1_0) {
        *d = 52;
    } else if (type == MIXT_TYPE_TQ2_0) {
        *d = 64;
    }
}

/* Any bits, with scales of useful sizes; now and then all ones or all zeros. */
static void fill_block(mixt_type type, unsigned char *block, uint64_t seed)
{
    const mixt_type_row *info = mixt_type_info(type);
    float x = guard_uniform(seed, 1000);
    if (type == MIXT_TYPE_F32) {
        memcpy(block, &x, sizeof x);
    } else if (type == MIXT_TYPE_F16) {
        put_half(block, x);
    } else if (type == MIXT_TYPE_BF16) {
        uint16_t bits = mixt_bf16_bits(x);
        memcpy(block, &bits, sizeof bits);
    }
    if (type == MIXT_TYPE_F8_E4M3) { /* every code in turn, NaN now and then */
        uint64_t bits = guard_random(seed, 1000);
        block[0] = (unsigned char)((bits & 0x7FU) == 0x7FU && bits >> 8 & 15 ? 0x3BU : bits);
    }
    if (info->elements == 1) {
        return;
    }
    uint64_t kind = guard_random(seed, 1001) % 16;
    for (int i = 0; i < info->bytes; i++) {
        bool scales = i > info->bytes * 10 / 11; /* of Q6_K: its least weights */
        block[i] = (unsigned char)(kind == 0              ? 0xFFU
                                   : kind == 1            ? 0
                                   : kind == 2            ? 0x80U
                                   : kind == 3 && !scales ? 0
                                                          : guard_random(seed, (uint64_t)i));
    }
    int d, m;
    halves_of(type, &d, &m);
    if (type == MIXT_TYPE_MXFP4) {
        block[0] = (unsigned char)(120 + guard_random(seed, 1002) % 8);
    } else if (type == MIXT_TYPE_IQ1_M) { /* a half in the upper four bits of four words */
        uint16_t half = mixt_f16_bits(x * 0.01F);
        for (int i = 0; i < 4; i++) {
            block[49 + 2 * i] =
                (unsigned char)((block[49 + 2 * i] & 15) | (half >> 4 * i & 15) << 4);
        }
    } else if (type != MIXT_TYPE_NVFP4) { /* whose scales are finite anyway */
        put_half(block + d, x * 0.01F);
    }
    if (m >= 0) {
        put_half(block + m, guard_uniform(seed, 1003) * 0.1F);
    }
}

static float factors[64 * 64];

/* Factors of FP8's blocks; those whose columns are no multiple of 32 as well. */
static mixt_scales place_factors(int64_t k, uint64_t seed)
{
    for (size_t i = 0; i < sizeof factors / sizeof factors[0]; i++) {
        factors[i] = guard_uniform(seed, i) + 1.5F;
    }
    mixt_scales scales = {.values = factors,
                          .block_rows = seed % 2 == 0 ? 7 : 128,
                          .block_columns = seed % 4 < 3 ? 128 : 48,
                          .first_row = seed % 7,
                          .row_step = 1 + (int64_t)(seed % 5 == 0)};
    scales.columns = (k + scales.block_columns - 1) / scales.block_columns;
    return scales;
}

static void fill_blocks(mixt_type type, unsigned char *data, size_t bytes, uint64_t seed)
{
    size_t block = (size_t)mixt_type_info(type)->bytes;
    for (size_t i = 0; i < bytes / block; i++) {
        fill_block(type, data + i * block, seed + i);
    }
}

/* With `gap` blocks behind each row but the last. */
static mixt_matrix place_rows(mixt_type type, int64_t n, int64_t k, size_t gap, uint64_t seed)
{
    size_t block = (size_t)mixt_type_info(type)->bytes;
    size_t stride = mixt_type_row_bytes(type, k) + gap * block;
    size_t bytes = (size_t)n * stride - gap * block;
    unsigned char *data = guard_place(&memory_b, bytes, seed % 2 == 0);
    fill_blocks(type, data, bytes, seed * 1000003);
    mixt_matrix matrix = {.type = type, .n = n, .k = k, .data = data, .row_bytes = stride};
    if (type == MIXT_TYPE_F8_E4M3 && seed % 8 != 0) {
        matrix.scales = place_factors(k, seed);
    }
    return matrix;
}

/* Rows of every third matrix of plain floats have a gap behind them. */
static mixt_matrix place_matrix(mixt_type type, int64_t n, int64_t k, uint64_t seed)
{
    size_t gap = mixt_type_info(type)->elements == 1 && seed % 3 == 1 ? 4 : 0;
    return place_rows(type, n, k, gap / (size_t)mixt_type_info(type)->bytes, seed);
}

enum { DATA_PLAIN, DATA_SPECIAL, DATA_KINDS };

static float data_value(int kind, uint64_t seed, uint64_t index)
{
    static const float specials[] = {0.0F,  -0.0F,  INFINITY, -INFINITY, NAN,
                                     3e38F, -3e38F, 1e-30F,   1e-38F,    -1e-42F};
    uint64_t bits = guard_random(seed ^ 99, index);
    if (kind == DATA_SPECIAL && bits % 199 == 0) {
        return specials[(bits >> 8) % (sizeof specials / sizeof specials[0])];
    }
    if (kind == DATA_SPECIAL && index / 256 % 5 == 1) {
        return bits % 2 == 0 ? 0.0F : -0.0F; /* whole groups of zeros */
    }
    if (kind == DATA_SPECIAL && index / 256 % 5 == 2) { /* halfway cases and equal sizes */
        return (float)((int)(bits % 255) - 127) * 0.5F;
    }
    if (kind == DATA_SPECIAL && index / 256 % 5 == 3) { /* as large as rounded ones can be */
        return guard_random(seed ^ 98, index / 256) % 2 == 0 ? 1.0F : -1.0F;
    }
    float x = guard_uniform(seed, index);
    return x * x * x * 4;
}

/* m rows of activations, flush against a page on one side. */
static mixt_gemm_f32 place(const mixt_matrix *matrix, int64_t m, int kind, uint64_t seed)
{
    int64_t gap = seed % 3 == 0 ? 5 : 0;
    mixt_gemm_f32 g = {.m = m,
                       .n = matrix->n,
                       .k = matrix->k,
                       .a_row = matrix->k + gap,
                       .a_column = 1,
                       .matrix = matrix,
                       .c_row = matrix->n + gap};
    float *a =
        guard_place(&memory_a, (size_t)((m - 1) * g.a_row + g.k) * sizeof(float), seed % 2 == 0);
    for (int64_t t = 0; t < m; t++) {
        for (int64_t j = 0; j < g.k; j++) {
            a[t * g.a_row + j] = data_value(kind, seed, (uint64_t)(t * g.k + j));
        }
    }
    g.a = a;
    g.c = guard_place(&memory_c, (size_t)((m - 1) * g.c_row + g.n) * sizeof(float), seed % 2 == 0);
    return g;
}

static bool same(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

/* ------------------------------------------------------------------------------------------ */
/* The scalar tier against float64                                                            */

/* Activations as the definition rounds them, in double; `unit` gets each value's scale. */
static void round_activations(mixt_type type, const float *x, int64_t k, double *rounded,
                              double *unit)
{
    int64_t group = mixt_type_info(type)->elements;
    group = group > 32 && group < 256 ? 32 : group;
    for (int64_t begin = 0; begin < k; begin += group) {
        float largest = 0;
        for (int64_t j = begin; j < begin + group; j++) {
            largest = fmaxf(largest, fabsf(x[j]));
        }
        float d = largest / 127, inverse = 127 / largest;
        for (int64_t j = begin; j < begin + group; j++) {
            rounded[j] = group == 1 || largest == 0 ? x[j] : (double)d * nearbyintf(x[j] * inverse);
            unit[j] = group == 1 ? 0 : d;
        }
    }
}

/* Elements lie within float rounding of the sum with rounded activations, and within half a unit
 * an activation of the plain sum. */
static void check_element(const mixt_gemm_f32 *g, int64_t t, int64_t row, float got)
{
    static float weights[MOST_K];
    static double rounded[MOST_K], unit[MOST_K];
    const mixt_matrix *matrix = g->matrix;
    const float *x = g->a + t * g->a_row;
    mixt_matrix_row(matrix, row, weights);
    round_activations(matrix->type, x, g->k, rounded, unit);
    double exact = 0, plain = 0, size = 0, half_units = 0, largest = 0;
    for (int64_t j = 0; j < g->k; j++) {
        exact += weights[j] * rounded[j];
        plain += (double)weights[j] * x[j];
        largest = fmax(largest, fabs(weights[j]));
        half_units += fabs(weights[j]) * unit[j] * 0.5;
    }
    for (int64_t j = 0; j < g->k; j++) { /* of both terms where a minimum is taken away */
        size += 2 * largest * fabs(rounded[j]);
    }
    if (fabs(got - exact) > 1e-6 * size || fabs(got - plain) > half_units * 1.01 + 1e-6 * size) {
        fail_msg("%s k=%" PRId64 " element (%" PRId64 ", %" PRId64 "): %.9g, rounded activations "
                 "%.9g, plain %.9g (size %g, half units %g)",
                 mixt_type_info(matrix->type)->name, g->k, t, row, (double)got, exact, plain, size,
                 half_units);
    }
    cases++;
}

static const int64_t depths_256[] = {256, 512, 1280, 2048};
static const int64_t depths_32[] = {32, 96, 256, 704, 1408};
static const int64_t depths_64[] = {64, 128, 192, 256, 1344};
static const int64_t depths_1[] = {1, 7, 31, 512, 700, 1300};
static const mixt_type floats[] = {MIXT_TYPE_F32, MIXT_TYPE_F16, MIXT_TYPE_BF16, MIXT_TYPE_F8_E4M3};

static int64_t depth_of(mixt_type type, int i)
{
    int elements = mixt_type_info(type)->elements;
    return elements == 256   ? depths_256[i % 4]
           : elements == 128 ? 2 * depths_64[i % 5]
           : elements == 64  ? depths_64[i % 5]
           : elements == 32  ? depths_32[i % 5]
                             : depths_1[i % 6];
}

static void test_against_double(void **state)
{
    (void)state;
    mixt_compute *compute = compute_of("scalar", 1);
    for (int type = 0; type < MIXT_TYPE_COUNT; type++) {
        for (int i = 0; i < 6; i++) {
            mixt_matrix matrix =
                place_matrix((mixt_type)type, 9, depth_of((mixt_type)type, i), (uint64_t)(i + 1));
            mixt_gemm_f32 g = place(&matrix, 4, DATA_PLAIN, (uint64_t)(i + 7));
            mixt_gemm_run_f32(compute, &g, 1);
            for (int64_t element = 0; element < 36; element++) {
                check_element(&g, element / 9, element % 9,
                              g.c[element / 9 * g.c_row + element % 9]);
            }
        }
    }
    mixt_compute_free(compute);
}

/* The sum of exact products with F16 and BF16 (docs/numerics.md). */
static float sum_by_lanes(const float *weights, const float *x, int64_t k)
{
    float total = 0;
    for (int64_t begin = 0; begin < k; begin += 512) {
        int64_t end = k - begin < 512 ? k : begin + 512;
        for (int64_t first = begin; first < end && first < begin + 8; first++) {
            float lane = 0;
            for (int64_t p = first; p < end; p += 8) {
                lane = fmaf(weights[p], x[p], lane);
            }
            total = first > 0 ? total + lane : lane;
        }
    }
    return total;
}

/* Weights that are plain floats give the chains of the fp32 product, rounded or not, or its lanes.
 */
static void check_floats(mixt_matmul matmul, void (*fill)(mixt_kernels_f32 *table))
{
    static float expanded[100 * 1300], expected[20 * 100];
    enum { CASES = 4 * 6 * 6 }; /* types, rows of activations, depths */
    for (int choice = 0; choice < CASES * (fill != NULL ? 1 : MIXT_CPU_TIERS); choice++) {
        const char *tier = fill != NULL ? "avx512" : mixt_cpu_tier_names[choice / CASES];
        mixt_compute *compute = compute_for(tier, 1 + choice % 2, matmul);
        mixt_type type = floats[choice % 4];
        static const int64_t most[] = {1, 2, 4, 7, 9, 20};
        int64_t k = depths_1[choice / 4 % 6], m = most[choice % CASES / 24];
        if (compute == NULL) {
            continue;
        }
        if (fill != NULL) {
            fill((mixt_kernels_f32 *)(uintptr_t)compute->f32);
        }
        mixt_matrix matrix = place_matrix(type, 1 + choice * 7 % 100, k, (uint64_t)choice);
        mixt_gemm_f32 g = place(&matrix, m, DATA_SPECIAL, (uint64_t)choice);
        for (int64_t row = 0; row < matrix.n; row++) {
            mixt_matrix_row(&matrix, row, expanded + row * k);
        }
        mixt_gemm_f32 plain = g;
        plain.matrix = NULL;
        plain.b = expanded;
        plain.b_row = 1;
        plain.b_column = k;
        plain.c = expected;
        plain.c_row = matrix.n;
        mixt_gemm_run_f32(compute, &plain, 1);
        mixt_gemm_run_f32(compute, &g, 1);
        bool lanes =
            matmul == MIXT_MATMUL_EXACT && (type == MIXT_TYPE_F16 || type == MIXT_TYPE_BF16);
        for (int64_t i = 0; i < m * matrix.n && lanes; i++) {
            expected[i] =
                sum_by_lanes(expanded + i % matrix.n * k, g.a + i / matrix.n * g.a_row, k);
        }
        for (int64_t i = 0; i < m * matrix.n; i++) {
            float got = g.c[i / matrix.n * g.c_row + i % matrix.n];
            if (!same(expected[i], got)) {
                fail_msg("%s %s m=%" PRId64 " k=%" PRId64 ": %a, fp32 %a", compute->f32->name,
                         mixt_type_info(type)->name, m, k, (double)got, (double)expected[i]);
            }
        }
        cases++;
        mixt_compute_free(compute);
    }
}

static void test_floats_are_exact(void **state)
{
    (void)state;
    check_floats(MIXT_MATMUL_EXACT, NULL);
}

static void test_floats_in_bf16(void **state)
{
    (void)state;
    check_floats(MIXT_MATMUL_BF16, NULL);
#if defined(__x86_64__)
    check_floats(MIXT_MATMUL_BF16, mixt_fill_avx512_emulated_bf16);
#endif
}

/* ------------------------------------------------------------------------------------------ */
/* Every way against the scalar tier                                                          */

static void check_same_as_scalar(const mixt_compute *scalar, const mixt_compute *compute,
                                 mixt_gemm_f32 g, const char *way)
{
    static float expected[MOST_ROWS * MOST_COLUMNS];
    mixt_gemm_f32 reference = g;
    size_t values = (size_t)((g.m - 1) * g.c_row + g.n);
    for (int64_t i = 0; i < g.m * g.n; i++) {
        expected[i] = (float)(i % 100);
        g.c[i / g.n * g.c_row + i % g.n] = (float)(i % 100);
    }
    reference.c = expected;
    reference.c_row = g.n;
    mixt_gemm_run_f32(scalar, &reference, 1);
    mixt_gemm_run_f32(compute, &g, 1);
    for (int64_t i = 0; i < g.m * g.n; i++) {
        float got = g.c[i / g.n * g.c_row + i % g.n];
        if (!same(expected[i], got)) {
            fail_msg("%s %s m=%" PRId64 " n=%" PRId64 " k=%" PRId64 " threads %d: C[%" PRId64
                     "][%" PRId64 "] %a, scalar %a",
                     way, mixt_type_info(g.matrix->type)->name, g.m, g.n, g.k, compute->threads,
                     i / g.n, i % g.n, (double)got, (double)expected[i]);
        }
    }
    assert_true(guard_intact(&memory_c, g.c, values * sizeof(float)));
    cases++;
}

/* One token against every number of rows, which may have gaps between them. */
static void check_single(const mixt_compute *scalar, const mixt_compute *compute, const char *way)
{
    for (int type = 0; type < MIXT_TYPE_COUNT; type++) {
        for (int64_t n = 1; n < 40; n += guard_sample(1, 5)) {
            uint64_t seed = (uint64_t)(type * 100 + n);
            int64_t k = depth_of((mixt_type)type, (int)(seed % 5));
            mixt_matrix matrix = place_rows((mixt_type)type, n, k, seed / 2 % 3, seed);
            mixt_gemm_f32 g = place(&matrix, 1, seed % 8 == 0 ? DATA_SPECIAL : DATA_PLAIN, seed);
            g.accumulate = seed % 3 == 0;
            check_same_as_scalar(scalar, compute, g, way);
        }
    }
}

/* Every number of tokens that meet rows without a panel, and more: rows that are a group, a few
 * more, or fewer, with gaps between them. */
static void check_few(const mixt_compute *scalar, const mixt_compute *compute, const char *way)
{
    static const int64_t columns[] = {5, 8, 16, 19, 37};
    for (int type = 0; type < MIXT_TYPE_COUNT; type++) {
        for (int64_t m = 2; m <= 18; m += guard_sample(1, 3)) {
            uint64_t seed = (uint64_t)(type * 100 + m);
            int64_t k = depth_of((mixt_type)type, (int)(seed % 5));
            mixt_matrix matrix = place_rows((mixt_type)type, columns[seed % 5], k, seed % 3, seed);
            mixt_gemm_f32 g = place(&matrix, m, seed % 8 == 0 ? DATA_SPECIAL : DATA_PLAIN, seed);
            g.accumulate = seed % 3 == 0;
            check_same_as_scalar(scalar, compute, g, way);
        }
    }
}

/* Rows of plain floats that all begin in the middle of a cache line, exact and in bfloat16. */
static void test_half_lines(void **state)
{
    (void)state;
    static const int64_t depths[] = {32, 64, 512, 704, 1056, 2048}, columns[] = {16, 32, 37};
    for (int choice = 0; choice < 4 * 6 * 3 * 2 * MIXT_CPU_TIERS; choice++) {
        const char *tier = mixt_cpu_tier_names[choice / (4 * 6 * 3 * 2)];
        mixt_matmul matmul = choice / 72 % 2 == 0 ? MIXT_MATMUL_EXACT : MIXT_MATMUL_BF16;
        mixt_compute *compute = compute_for(tier, 2, matmul);
        mixt_compute *scalar = compute_for("scalar", 1, matmul);
        mixt_type type = floats[choice % 4];
        int64_t n = columns[choice / 24 % 3], k = depths[choice / 4 % 6];
        size_t bytes = (size_t)n * mixt_type_row_bytes(type, k);
        const bool other_sums = matmul == MIXT_MATMUL_BF16 && strcmp(tier, "amx") == 0;
        if (compute != NULL && !other_sums && mixt_type_row_bytes(type, k) % 64 == 0) {
            unsigned char *data = (unsigned char *)guard_place(&memory_b, bytes + 32, false) + 32;
            fill_blocks(type, data, bytes, 0);
            mixt_matrix matrix = {
                .type = type, .n = n, .k = k, .data = data, .row_bytes = bytes / (size_t)n};
            assert_int_equal((uintptr_t)data % 64, 32);
            for (int64_t m = 1; m <= 8; m *= 2) {
                mixt_gemm_f32 g = place(&matrix, m, DATA_SPECIAL, (uint64_t)choice);
                g.accumulate = choice % 3 == 0;
                check_same_as_scalar(scalar, compute, g, tier);
            }
        }
        mixt_compute_free(scalar);
        mixt_compute_free(compute);
    }
}

static void check_tier(mixt_compute *compute, const char *way)
{
    static const int64_t rows[] = {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33, 70};
    static const int64_t columns[] = {1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 100};
    if (compute == NULL) {
        print_message("%s: not on this processor\n", way);
        return;
    }
    mixt_compute *scalar = compute_of("scalar", 1);
    uint64_t before = cases;
    for (int type = 0; type < MIXT_TYPE_COUNT; type++) {
        for (int i = 0; i < 12; i++) {
            for (int j = i % guard_sample(1, 4); j < 12; j += guard_sample(1 + i % 3, 4)) {
                uint64_t seed = (uint64_t)(type * 1000 + i * 12 + j);
                int64_t k = depth_of((mixt_type)type, (int)(seed % 5));
                if (rows[i] * columns[j] * k > 500000) {
                    continue;
                }
                mixt_matrix matrix = place_matrix((mixt_type)type, columns[j], k, seed);
                mixt_gemm_f32 g =
                    place(&matrix, rows[i], seed % 4 == 0 ? DATA_SPECIAL : DATA_PLAIN, seed);
                g.accumulate = seed % 5 == 0;
                check_same_as_scalar(scalar, compute, g, way);
            }
        }
    }
    assert_true(cases > before + 500);
    check_single(scalar, compute, way);
    check_few(scalar, compute, way);
    mixt_compute_free(scalar);
    mixt_compute_free(compute);
}

static void test_tiers(void **state)
{
    (void)state;
    for (int tier = 1; tier < MIXT_CPU_TIERS; tier++) {
        check_tier(compute_of(mixt_cpu_tier_names[tier], 1), mixt_cpu_tier_names[tier]);
    }
}

/* The AVX-512 tier without and with the instructions of VNNI, and that of AMX, whatever this
 * processor chose. */
static void test_vnni(void **state)
{
    (void)state;
#if defined(__x86_64__)
    static const struct {
        const char *name;
        void (*fill)(mixt_kernels_f32 *table);
    } ways[] = {{"avx512 without VNNI", mixt_fill_avx512_matrix},
                {"VNNI spelled out", mixt_fill_avx512_emulated_vnni},
                {"AMX spelled out", mixt_fill_amx_emulated_matrix}};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        mixt_compute *compute = compute_of("avx512", 1);
        if (compute != NULL) {
            ways[i].fill((mixt_kernels_f32 *)(uintptr_t)compute->f32);
        }
        check_tier(compute, ways[i].name);
    }
#else
    skip();
#endif
}

static void test_threads(void **state)
{
    (void)state;
    for (int threads = 2; threads <= 4; threads += guard_sample(1, 2)) {
        check_tier(compute_of(NULL, threads), "best tier");
    }
}

/* A list as experts make it: two products for each range of rows, of several types, more of them
 * than one batch holds; empty ones among them. Bits are those of each row alone. */
static void test_lists(void **state)
{
    (void)state;
    enum { COUNT = 300, N = 24, K = 512, ROWS = 600 };
    static float a[ROWS * K], c[COUNT][16 * N], alone[N];
    static const mixt_type types[] = {MIXT_TYPE_Q4_K, MIXT_TYPE_Q6_K, MIXT_TYPE_Q8_0,
                                      MIXT_TYPE_Q5_0, MIXT_TYPE_F16,  MIXT_TYPE_IQ4_XS};
    mixt_matrix matrices[6];
    unsigned char *copies[6];
    for (int i = 0; i < 6; i++) {
        matrices[i] = place_matrix(types[i], N, K, 5);
        copies[i] = malloc(N * matrices[i].row_bytes);
        assert_non_null(copies[i]);
        memcpy(copies[i], matrices[i].data, N * matrices[i].row_bytes);
        matrices[i].data = copies[i];
    }
    for (int i = 0; i < ROWS * K; i++) {
        a[i] = data_value(DATA_PLAIN, 1, (uint64_t)i);
    }
    mixt_gemm_f32 list[COUNT];
    for (int i = 0; i < COUNT; i++) {
        list[i] = (mixt_gemm_f32){.m = i % 7 == 0 ? 0 : 1 + i * 5 % 16,
                                  .n = N,
                                  .k = K,
                                  .a = a + (int64_t)(i / 2) * 3 * K,
                                  .a_row = K,
                                  .a_column = 1,
                                  .matrix = &matrices[i / 3 % 6],
                                  .c = c[i],
                                  .c_row = N};
    }
    mixt_compute *compute = compute_of(NULL, 3), *scalar = compute_of("scalar", 1);
    mixt_gemm_run_f32(compute, list, COUNT);
    for (int i = 0; i < COUNT; i++) {
        for (int64_t t = 0; t < list[i].m; t += 5) {
            mixt_gemm_f32 one = list[i];
            one.m = 1;
            one.a += t * K;
            one.c = alone;
            mixt_gemm_run_f32(scalar, &one, 1);
            assert_memory_equal(alone, c[i] + t * N, sizeof alone);
            cases++;
        }
    }
    for (int i = 0; i < 6; i++) {
        free(copies[i]);
    }
    mixt_compute_free(compute);
    mixt_compute_free(scalar);
}

/* More rows of activations than a job takes, and more of them than the shared buffer holds. */
static void test_many_rows(void **state)
{
    (void)state;
    enum { M = 1200, N = 40, K = 14336 };
    float *a = malloc((size_t)M * K * sizeof *a), *c = malloc((size_t)M * N * sizeof *c);
    assert_true(a != NULL && c != NULL);
    for (int i = 0; i < M * K; i++) {
        a[i] = (float)(i % 8191 - 4095) * 1e-3F;
    }
    static float alone[N];
    mixt_matrix matrix = place_matrix(MIXT_TYPE_Q4_K, N, K, 3);
    mixt_gemm_f32 g = {.m = M,
                       .n = N,
                       .k = K,
                       .a = a,
                       .a_row = K,
                       .a_column = 1,
                       .matrix = &matrix,
                       .c = c,
                       .c_row = N};
    mixt_compute *compute = compute_of(NULL, 2), *scalar = compute_of("scalar", 1);
    mixt_gemm_run_f32(compute, &g, 1);
    for (int t = 0; t < M; t += 97) {
        mixt_gemm_f32 one = g;
        one.m = 1;
        one.a = a + (int64_t)t * K;
        one.c = alone;
        mixt_gemm_run_f32(scalar, &one, 1);
        assert_memory_equal(alone, c + (int64_t)t * N, sizeof alone);
        cases++;
    }
    mixt_compute_free(compute);
    mixt_compute_free(scalar);
    free(a);
    free(c);
}

int main(void)
{
    memory_a = guard_create((size_t)MOST_ROWS * (MOST_K + 8) * sizeof(float));
    memory_b = guard_create((size_t)MOST_COLUMNS * MOST_K * sizeof(float));
    memory_c = guard_create((size_t)MOST_ROWS * (MOST_COLUMNS + 8) * sizeof(float));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_double), cmocka_unit_test(test_floats_are_exact),
        cmocka_unit_test(test_floats_in_bf16), cmocka_unit_test(test_half_lines),
        cmocka_unit_test(test_tiers),          cmocka_unit_test(test_vnni),
        cmocka_unit_test(test_threads),        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_many_rows),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    printf("%" PRIu64 " cases\n", cases);
    guard_free(&memory_a);
    guard_free(&memory_b);
    guard_free(&memory_c);
    return failed;
}
