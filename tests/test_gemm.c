/* The matrix product: every tier, packing, thread count and grouping against one plain loop that
 * spells out the definition, bit for bit, on buffers that end at pages which may not be touched. */
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
#include "guard.h"
#include "ops/kernels.h"

static uint64_t cases;

#define BUFFER_FLOATS (1 << 18)
static guard memory_a, memory_b, memory_c;

/* ------------------------------------------------------------------------------------------ */
/* The definition                                                                             */

static float rounded(float x, bool bf16)
{
    if (!bf16 || isnan(x)) {
        return x;
    }
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t low = bits & 0xFFFFU, half = 0x8000U;
    bits &= 0xFFFF0000U;
    if (low > half || (low == half && (bits & 0x10000U) != 0)) {
        bits += 0x10000U;
    }
    memcpy(&x, &bits, sizeof x);
    return x;
}

#define SMALLEST 0x1p-126 /* normal number */

/* A subnormal number is a zero in products of bfloat16. */
static float flushed(float x, bool bf16)
{
    return bf16 && fabs((double)x) < SMALLEST ? copysignf(0, x) : x;
}

/* a b + sum; a result that is subnormal when rounded to 24 bits is a zero in bfloat16. */
static float step_sum(float a, float b, float sum, bool bf16)
{
    a = flushed(a, bf16);
    b = flushed(b, bf16);
    double exact = (double)a * (double)b + (double)sum;
    bool small = bf16 && fabs(exact) < SMALLEST && (float)(exact * 0x1p64) < 0x1p-62F &&
                 (float)(exact * 0x1p64) > -0x1p-62F;
    return small && exact != 0 ? (float)copysign(0, exact) : fmaf(a, b, sum);
}

/* Kinds of products; TILES are bfloat16 in AMX's order of sums. */
enum { EXACT, BF16, TILES };

static float step_of(const mixt_gemm_f32 *g, int64_t i, int64_t j, int64_t p, float sum, bool bf16)
{
    return step_sum(rounded(g->a[i * g->a_row + p * g->a_column], bf16),
                    rounded(g->b[p * g->b_row + j * g->b_column], bf16), sum, bf16);
}

/* 32 k at a time: the even ones, the odd ones (zeros where there are none), both together. */
static float tiles_sum(const mixt_gemm_f32 *g, int64_t i, int64_t j, int64_t begin, int64_t end)
{
    float sum = 0;
    for (int64_t p = begin; p < end; p += 32) {
        float parts[2] = {0, 0};
        for (int64_t step = p; step < p + 32; step++) {
            float *part = &parts[step % 2];
            *part = step < end ? step_of(g, i, j, step, *part, true) : *part + 0.0F;
        }
        sum = flushed(sum + flushed(parts[0] + parts[1], true), true);
    }
    return sum;
}

static float element(const mixt_gemm_f32 *g, int64_t i, int64_t j, int kind)
{
    bool bf16 = kind != EXACT;
    float total = g->accumulate ? flushed(g->c[i * g->c_row + j], bf16) : 0;
    for (int64_t begin = 0; begin < g->k; begin += MIXT_GEMM_K_BLOCK) {
        int64_t end = begin + MIXT_GEMM_K_BLOCK < g->k ? begin + MIXT_GEMM_K_BLOCK : g->k;
        float sum = 0;
        if (kind == TILES) {
            sum = tiles_sum(g, i, j, begin, end);
        }
        for (int64_t step = begin; step < end && kind != TILES; step++) {
            sum = step_of(g, i, j, bf16 && (step ^ 1) < end ? step ^ 1 : step, sum, bf16);
        }
        total = begin == 0 && !g->accumulate ? sum : flushed(total + sum, bf16);
    }
    return total;
}

static bool same(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

/* ------------------------------------------------------------------------------------------ */
/* Computes                                                                                   */

static mixt_compute *compute_of(const char *tier, int threads, mixt_matmul matmul)
{
    mixt_compute *compute = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context_options options = {.threads = threads, .cpu = tier, .matmul = matmul};
    if (mixt_compute_create(&options, &compute, &error) != MIXT_OK) {
        assert_int_equal(error.status, MIXT_ERROR_UNSUPPORTED);
        print_message("%s\n", error.message);
        return NULL;
    }
    return compute;
}

/* bfloat16 products on pair panels with the instruction spelled out. */
static mixt_compute *compute_emulated(int threads)
{
    mixt_compute *compute = compute_of("avx512", threads, MIXT_MATMUL_BF16);
    if (compute != NULL) {
        mixt_fill_avx512_emulated_bf16((mixt_kernels_f32 *)(uintptr_t)compute->f32);
    }
    return compute;
}

/* ------------------------------------------------------------------------------------------ */
/* Products on guarded memory                                                                 */

enum { USE_RUN, USE_BLOCK, USE_PACKED, USES };

typedef struct shape {
    int64_t m, n, k;
    bool a_transposed, b_transposed, accumulate, padded, at_end, special;
    bool lower; /* what lies above the diagonal is not wanted */
    bool small; /* products and sums around the smallest normal number, and subnormal numbers */
} shape;

static float data_value(const shape *s, uint64_t seed, int64_t index)
{
    static const float specials[] = {0.0F, -0.0F, INFINITY, -INFINITY, NAN, 3e38F, -3e38F};
    uint64_t bits = guard_random(seed ^ 99, (uint64_t)index);
    if (s->small) {
        float value = guard_uniform(seed, (uint64_t)index);
        return bits % 7 == 0 ? value * 0x1p-127F : ldexpf(value, -58 - (int)(bits >> 8) % 9);
    }
    if (s->special && bits % 41 == 0) {
        return specials[(bits >> 8) % (sizeof specials / sizeof specials[0])];
    }
    return guard_uniform(seed, (uint64_t)index);
}

/* Fills a matrix of `rows` rows; what lies between them stays poison. */
static float *fill(guard *memory, const shape *s, int64_t rows, int64_t columns, int64_t stride,
                   uint64_t seed)
{
    int64_t length = rows > 0 ? (rows - 1) * stride + columns : 0;
    float *x = guard_place(memory, (size_t)length * sizeof(float), s->at_end);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < columns; j++) {
            x[i * stride + j] = data_value(s, seed, i * columns + j);
        }
    }
    return x;
}

static mixt_gemm_f32 place(const shape *s, uint64_t seed)
{
    int64_t gap = s->padded ? 5 : 0;
    mixt_gemm_f32 g = {.m = s->m, .n = s->n, .k = s->k, .accumulate = s->accumulate};
    g.lower = s->lower;
    int64_t a_stride = (s->a_transposed ? s->m : s->k) + gap;
    int64_t b_stride = (s->b_transposed ? s->k : s->n) + gap;
    g.a_row = s->a_transposed ? 1 : a_stride;
    g.a_column = s->a_transposed ? a_stride : 1;
    g.b_row = s->b_transposed ? 1 : b_stride;
    g.b_column = s->b_transposed ? b_stride : 1;
    g.c_row = s->n + gap;
    g.a = s->a_transposed ? fill(&memory_a, s, s->k, s->m, a_stride, seed)
                          : fill(&memory_a, s, s->m, s->k, a_stride, seed);
    g.b = s->b_transposed ? fill(&memory_b, s, s->n, s->k, b_stride, seed + 1)
                          : fill(&memory_b, s, s->k, s->n, b_stride, seed + 1);
    g.c = fill(&memory_c, s, s->m, s->n, g.c_row, seed + 2);
    return g;
}

static void use(const mixt_compute *compute, mixt_gemm_f32 g, int how)
{
    mixt_packed *packed = NULL;
    if (how == USE_BLOCK) {
        mixt_gemm_block_f32(compute, compute->threads - 1, &g);
        return;
    }
    if (how == USE_PACKED) {
        assert_int_equal(mixt_pack_f32(compute, &g, &packed, NULL), MIXT_OK);
        g.packed = packed;
        g.b = NULL;
    }
    mixt_gemm_run_f32(compute, &g, 1);
    mixt_packed_free(packed);
}

/* A column that lies above the diagonal's tile of row 0, whatever the tier. */
#define NOT_WANTED 95

static void check_product(const mixt_compute *compute, const shape *s, int how, int kind)
{
    static float expected[BUFFER_FLOATS];
    mixt_gemm_f32 g = place(s, (uint64_t)(s->m * 10007 + s->n * 101 + s->k));
    for (int64_t i = 0; i < s->m; i++) {
        for (int64_t j = 0; j < s->n; j++) {
            expected[i * s->n + j] = element(&g, i, j, how == USE_BLOCK ? EXACT : kind);
        }
    }
    float corner = s->n > 0 ? g.c[s->n - 1] : 0;
    use(compute, g, how);
    if (s->lower && s->n > NOT_WANTED) {
        assert_true(same(g.c[s->n - 1], corner));
    }
    for (int64_t i = 0; i < s->m; i++) {
        for (int64_t j = 0; j < s->n && (j <= i || !s->lower); j++) {
            if (!same(expected[i * s->n + j], g.c[i * g.c_row + j])) {
                fail_msg("%s use %d %s%s m=%" PRId64 " n=%" PRId64 " k=%" PRId64
                         " layout %d%d: C[%" PRId64 "][%" PRId64 "] %a, definition %a",
                         compute->f32->name, how,
                         kind == EXACT  ? ""
                         : kind == BF16 ? "bf16"
                                        : "tiles",
                         s->accumulate ? " accumulate" : "", s->m, s->n, s->k, s->a_transposed,
                         s->b_transposed, i, j, (double)g.c[i * g.c_row + j],
                         (double)expected[i * s->n + j]);
            }
        }
        uint32_t gap;
        for (int64_t j = s->n; j < g.c_row && i + 1 < s->m; j++) {
            memcpy(&gap, &g.c[i * g.c_row + j], sizeof gap);
            assert_int_equal(gap, 0xFFFFFFFFU);
        }
    }
    int64_t length = s->m > 0 ? (s->m - 1) * g.c_row + s->n : 0;
    assert_true(guard_intact(&memory_c, g.c, (size_t)length * sizeof(float)));
    cases++;
}

static void check_all_ways(const mixt_compute *compute, shape s, int kind)
{
    for (int bits = 0; bits < 8; bits++) {
        s.a_transposed = (bits & 1) != 0;
        s.b_transposed = (bits & 2) != 0;
        s.accumulate = (bits & 4) != 0;
        s.padded = guard_random(cases, 1) % 2 == 0;
        s.at_end = guard_random(cases, 2) % 2 == 0;
        s.lower = guard_random(cases, 3) % 3 == 0;
        check_product(compute, &s, (int)(cases % USES), kind);
    }
}

static void check_compute(mixt_compute *compute, int kind)
{
    if (compute == NULL) {
        return;
    }
    static const int64_t edges[] = {1, 2, 3, 4, 5, 6, 7, 8, 13, 14, 15, 16, 17, 29, 31, 32, 33, 45};
    static const int64_t depths[] = {1, 2, 3, 5, 15, 16, 17, 31, 33, 64};
    const int edge_count = sizeof edges / sizeof edges[0];
    const int depth_count = sizeof depths / sizeof depths[0];
    uint64_t before = cases;
    for (int i = 0; i < edge_count; i++) {
        for (int j = i % guard_sample(1, 4); j < edge_count; j += guard_sample(1, 4)) {
            shape s = {.m = edges[i], .n = edges[j], .k = depths[(i * 7 + j) % depth_count]};
            s.special = (i + j) % 5 == 0;
            s.small = (i + j) % 5 == 2;
            check_all_ways(compute, s, kind);
        }
    }
    static const int64_t large[][3] = {
        {64, 64, 64}, {65, 67, 129},  {97, 47, 256}, {7, 40, 511},   {33, 18, 512},
        {5, 9, 513},  {16, 33, 1024}, {3, 35, 1025}, {30, 21, 1300}, {1, 300, 700},
        {300, 1, 65}, {257, 100, 31}, {2, 257, 64},  {43, 64, 1},
    };
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i += (size_t)guard_sample(1, 3)) {
        shape s = {.m = large[i][0], .n = large[i][1], .k = large[i][2]};
        check_all_ways(compute, s, kind);
    }
    assert_true(cases > before + (uint64_t)guard_sample(1000, 500));
    mixt_compute_free(compute);
}

static void test_exact(void **state)
{
    (void)state;
    check_compute(compute_of("scalar", 1, MIXT_MATMUL_EXACT), EXACT);
    for (int tier = 1; tier < MIXT_CPU_TIERS; tier++) {
        check_compute(compute_of(mixt_cpu_tier_names[tier], 2, MIXT_MATMUL_EXACT), EXACT);
    }
}

static void test_bf16(void **state)
{
    (void)state;
    check_compute(compute_of("scalar", 1, MIXT_MATMUL_BF16), BF16);
    for (int tier = 1; tier < MIXT_CPU_TIERS; tier++) {
        int ways = 1;
        for (int way = 0; way < ways; way++) {
            mixt_compute *compute = compute_of(mixt_cpu_tier_names[tier], 2, MIXT_MATMUL_BF16);
            int kind = BF16;
            if (compute != NULL) {
                const mixt_bf16_ways *all = mixt_compute_choose_bf16(compute, way == 0);
                ways = all->count;
                kind = all->list[way].own_sums ? TILES : BF16;
                assert_true(all->list[way].flops > 0);
                print_message("%s: %s, %.1f GFLOP/s%s\n", mixt_cpu_tier_names[tier],
                              all->list[way].name, all->list[way].flops / 1e9,
                              all->chosen == way ? ", chosen" : "");
                mixt_compute_use_bf16(compute, way);
            }
            check_compute(compute, kind);
        }
    }
}

static void test_bf16_pairs_emulated(void **state)
{
    (void)state;
    check_compute(compute_emulated(2), BF16);
}

static void test_bf16_tiles_emulated(void **state)
{
    (void)state;
    mixt_compute *compute = compute_of("avx512", 2, MIXT_MATMUL_BF16);
    if (compute != NULL) {
        mixt_fill_amx_emulated_bf16((mixt_kernels_f32 *)(uintptr_t)compute->f32);
    }
    check_compute(compute, TILES);
}

/* `exact` asks for fp32 in a bf16 compute. */
static void test_exact_in_bf16_compute(void **state)
{
    (void)state;
    mixt_compute *compute = compute_of("scalar", 2, MIXT_MATMUL_BF16);
    shape s = {.m = 20, .n = 10, .k = 30};
    mixt_gemm_f32 g = place(&s, 3);
    for (int how = 0; how < 2; how++) {
        g.exact = true;
        use(compute, g, how == 0 ? USE_RUN : USE_PACKED);
        for (int i = 0; i < 200; i++) {
            assert_true(same(g.c[i], element(&g, i / 10, i % 10, EXACT)));
        }
        cases++;
    }
    mixt_compute_free(compute);
}

/* ------------------------------------------------------------------------------------------ */
/* Independence                                                                               */

/* A ragged list as experts make it, empty ones among them: bits of every tier and thread count are
 * those of the products one by one on one scalar thread. */
static void test_grouped_lists(void **state)
{
    (void)state;
    enum { COUNT = 150, N = 37, K = 600, ROWS = 600 };
    static float a[ROWS * K], b[COUNT * N * K / 10], expected[ROWS * N], actual[ROWS * N];
    for (int i = 0; i < ROWS * K; i++) {
        a[i] = guard_uniform(1, (uint64_t)i);
    }
    for (size_t i = 0; i < sizeof b / sizeof b[0]; i++) {
        b[i] = guard_uniform(2, i);
    }
    mixt_gemm_f32 list[COUNT];
    int64_t row = 0;
    for (int i = 0; i < COUNT; i++) {
        int64_t m = i % 3 == 0 ? 0 : i % 50 == 7 ? 90 : (int64_t)(guard_random(3, (uint64_t)i) % 5);
        m = row + m > ROWS ? 0 : m;
        list[i] = (mixt_gemm_f32){.m = m,
                                  .n = N,
                                  .k = i == 11 ? 0 : K,
                                  .a = a + row * K,
                                  .a_row = K,
                                  .a_column = 1,
                                  .b = b + i % 15 * N * K,
                                  .b_row = 1,
                                  .b_column = K,
                                  .c = expected + row * N,
                                  .c_row = N};
        row += m;
    }
    mixt_compute *reference = compute_of("scalar", 1, MIXT_MATMUL_EXACT);
    memset(expected, 0x7F, sizeof expected);
    for (int i = 0; i < COUNT; i++) {
        mixt_gemm_run_f32(reference, &list[i], 1);
        list[i].c += actual - expected;
    }
    mixt_compute_free(reference);
    static const int threads[] = {1, 2, 5};
    for (int choice = 0; choice < 3 * MIXT_CPU_TIERS; choice++) {
        mixt_compute *compute =
            compute_of(mixt_cpu_tier_names[choice / 3], threads[choice % 3], MIXT_MATMUL_EXACT);
        if (compute != NULL) {
            memset(actual, 0x7F, sizeof actual);
            mixt_gemm_run_f32(compute, list, COUNT);
            assert_memory_equal(expected, actual, sizeof actual);
            cases++;
        }
        mixt_compute_free(compute);
    }
}

/* One row alone, and among 64: generation gives the bits of scoring. */
static void test_row_alone(void **state)
{
    (void)state;
    enum { M = 64, N = 200, K = 700 };
    static float a[M * K], b[N * K], all[M * N], one[N];
    for (int i = 0; i < M * K; i++) {
        a[i] = guard_uniform(1, (uint64_t)i);
    }
    for (int i = 0; i < N * K; i++) {
        b[i] = guard_uniform(2, (uint64_t)i);
    }
    for (int tier = 0; tier < MIXT_CPU_TIERS; tier++) {
        mixt_compute *compute = compute_of(mixt_cpu_tier_names[tier], 2, MIXT_MATMUL_EXACT);
        if (compute == NULL) {
            continue;
        }
        mixt_gemm_f32 g = {.m = M,
                           .n = N,
                           .k = K,
                           .a = a,
                           .a_row = K,
                           .a_column = 1,
                           .b = b,
                           .b_row = 1,
                           .b_column = K,
                           .c = all,
                           .c_row = N};
        mixt_gemm_run_f32(compute, &g, 1);
        mixt_packed *packed;
        assert_int_equal(mixt_pack_f32(compute, &g, &packed, NULL), MIXT_OK);
        for (int row = 0; row < M; row += 9) {
            mixt_gemm_f32 single = g;
            single.m = 1;
            single.a = a + row * K;
            single.c = one;
            mixt_gemm_run_f32(compute, &single, 1);
            assert_memory_equal(one, all + row * N, sizeof one);
            single.packed = packed;
            memset(one, 0, sizeof one);
            mixt_gemm_run_f32(compute, &single, 1);
            assert_memory_equal(one, all + row * N, sizeof one);
            cases += 2;
        }
        mixt_packed_free(packed);
        mixt_compute_free(compute);
    }
}

/* More panels, and a longer k, than the shared buffer holds. */
static void test_larger_than_buffers(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {{31, 1100, 4200}, {30, 3, 270000}};
    for (int i = 0; i < 2; i++) {
        int64_t m = shapes[i][0], n = shapes[i][1], k = shapes[i][2];
        float *a = malloc((size_t)(m * k) * sizeof *a), *b = malloc((size_t)(n * k) * sizeof *b);
        float *c = calloc((size_t)(2 * m * n), sizeof *c);
        assert_true(a != NULL && b != NULL && c != NULL);
        for (int64_t j = 0; j < m * k; j++) {
            a[j] = guard_uniform(1, (uint64_t)j);
        }
        for (int64_t j = 0; j < n * k; j++) {
            b[j] = guard_uniform(2, (uint64_t)j);
        }
        mixt_compute *compute = compute_of(NULL, 2, MIXT_MATMUL_EXACT);
        mixt_gemm_f32 g = {.m = m,
                           .n = n,
                           .k = k,
                           .a = a,
                           .a_row = k,
                           .a_column = 1,
                           .b = b,
                           .b_row = n,
                           .b_column = 1,
                           .c = c,
                           .c_row = n};
        mixt_gemm_run_f32(compute, &g, 1);
        mixt_gemm_f32 rows = g;
        rows.m = 1; /* a few rows pack panels one by one */
        for (int64_t row = 0; row < m; row++) {
            rows.a = a + row * k;
            rows.c = c + (m + row) * n;
            mixt_gemm_run_f32(compute, &rows, 1);
        }
        assert_memory_equal(c, c + m * n, (size_t)(m * n) * sizeof *c);
        for (int64_t row = 0; row < m; row += 10) {
            float expected = element(&g, row, n - 1, EXACT);
            assert_memory_equal(&expected, &c[row * n + n - 1], sizeof expected);
        }
        cases++;
        mixt_compute_free(compute);
        free(a);
        free(b);
        free(c);
    }
}

/* Chains as experts have them: two products of the same rows, h = their values multiplied, and a
 * third that adds h's product to what is there. */
typedef struct chain_set {
    int64_t d, ffn, rows;
    const int64_t *first; /* row of each chain */
    float *gate, *up, *hidden, *y;
} chain_set;

static void multiply_rows(void *context, int64_t chain, int64_t begin, int64_t end)
{
    const chain_set *set = context;
    int64_t at = (set->first[chain] + begin) * set->ffn;
    for (int64_t i = at; i < at + (end - begin) * set->ffn; i++) {
        set->hidden[i] += set->gate[i] * set->up[i]; /* twice would show */
    }
}

static void fill_chain(const chain_set *set, int64_t chain, mixt_gemm_f32 products[3],
                       const float *x, const float *weights)
{
    int64_t row = set->first[chain], m = set->first[chain + 1] - row;
    const float *w = weights + chain % 3 * 3 * set->d * set->ffn;
    for (int i = 0; i < 3; i++) {
        int64_t k = i < 2 ? set->d : set->ffn, n = i < 2 ? set->ffn : set->d;
        float *c = i == 0 ? set->gate : i == 1 ? set->up : set->y;
        products[i] = (mixt_gemm_f32){
            .m = m,
            .n = n,
            .k = k,
            .a = (i < 2 ? x : set->hidden) + row * k,
            .a_row = k,
            .a_column = 1,
            .b = w + i * set->d * set->ffn,
            .b_row = i == 1 ? n : 1,
            .b_column = i == 1 ? 1 : k,
            .c = c + row * n,
            .c_row = n,
            .accumulate = i == 2,
        };
    }
}

static void clear_set(const chain_set *set)
{
    memset(set->hidden, 0, (size_t)(set->rows * set->ffn) * sizeof(float));
    for (int64_t i = 0; i < set->rows * set->d; i++) {
        set->y[i] = guard_uniform(9, (uint64_t)i);
    }
}

#define CHAINS 25

/* In each tier, and for weights that do not fit the shared buffer, against the products by
 * themselves. */
static void check_chains(chain_set set, mixt_matmul matmul, int tiers)
{
    int64_t weights = 9 * set.d * set.ffn, values = set.rows * set.ffn, ends = set.rows * set.d;
    float *memory = malloc((size_t)(weights + 3 * values + 3 * ends) * sizeof *memory);
    assert_non_null(memory);
    float *x = memory + weights, *expected = x + 2 * ends;
    set.gate = expected + ends;
    set.up = set.gate + values;
    set.hidden = set.up + values;
    for (int64_t i = 0; i < weights + ends; i++) {
        memory[i] = guard_uniform(8, (uint64_t)i);
    }
    mixt_gemm_f32 products[CHAINS][3];
    mixt_gemm_chain_f32 chains[CHAINS];
    for (int choice = 0; choice < 2 * tiers; choice++) {
        const char *tier = tiers == 1 ? NULL : mixt_cpu_tier_names[choice / 2];
        mixt_compute *compute = compute_of(tier, choice % 2 == 0 ? 1 : 3, matmul);
        for (int apart = 1; apart >= 0 && compute != NULL; apart--) {
            set.y = apart ? expected : x + ends;
            clear_set(&set);
            for (int i = 0; i < CHAINS; i++) {
                fill_chain(&set, i, products[i], x, memory);
                chains[i] = (mixt_gemm_chain_f32){products[i], 3, 2, multiply_rows, &set};
                for (int j = 0; apart && j < 3; j++) {
                    if (j == 2) {
                        multiply_rows(&set, i, 0, products[i][0].m);
                    }
                    mixt_gemm_run_f32(compute, &products[i][j], 1);
                }
            }
            if (!apart) {
                mixt_gemm_run_chains_f32(compute, chains, CHAINS);
            }
        }
        if (compute != NULL) {
            assert_memory_equal(expected, x + ends, (size_t)ends * sizeof *x);
            cases++;
        }
        mixt_compute_free(compute);
    }
    free(memory);
}

static void test_chains(void **state)
{
    (void)state;
    int64_t first[CHAINS + 1] = {0};
    for (int i = 0; i < CHAINS; i++) {
        first[i + 1] = first[i] + (i % 4 == 0   ? 0
                                   : i % 9 == 5 ? 90
                                                : (int64_t)(guard_random(3, (uint64_t)i) % 20));
    }
    chain_set set = {.d = 37, .ffn = 53, .rows = first[CHAINS], .first = first};
    check_chains(set, MIXT_MATMUL_EXACT, MIXT_CPU_TIERS);
    check_chains(set, MIXT_MATMUL_BF16, MIXT_CPU_TIERS);
    set.d = 600; /* two blocks of the sum */
    check_chains(set, MIXT_MATMUL_EXACT, 1);
    for (int i = 0; i < CHAINS; i++) {
        first[i + 1] = i < 2 ? 3 : 5;
    }
    set = (chain_set){.d = 1200, .ffn = 1300, .rows = first[CHAINS], .first = first};
    check_chains(set, MIXT_MATMUL_EXACT, 1);
}

static void test_double(void **state)
{
    (void)state;
    enum { M = 37, N = 29, K = 1030 };
    static double a[M * K], b[N * K], c[M * N], block[M * N];
    for (int i = 0; i < M * K; i++) {
        a[i] = (double)guard_uniform(1, (uint64_t)i);
    }
    for (int i = 0; i < N * K; i++) {
        b[i] = (double)guard_uniform(2, (uint64_t)i);
    }
    mixt_compute *compute = compute_of(NULL, 2, MIXT_MATMUL_BF16);
    mixt_gemm_f64 g = {.m = M,
                       .n = N,
                       .k = K,
                       .a = a,
                       .a_row = 1,
                       .a_column = M,
                       .b = b,
                       .b_row = N,
                       .b_column = 1,
                       .c = c,
                       .c_row = N};
    mixt_gemm_run_f64(compute, &g, 1);
    g.c = block;
    mixt_gemm_block_f64(compute, 0, &g);
    for (int i = 0; i < M * N; i++) {
        double total = 0, sum = 0;
        for (int p = 0; p < K; p++) {
            sum = fma(a[p * M + i / N], b[p * N + i % N], sum);
            if (p % MIXT_GEMM_K_BLOCK == MIXT_GEMM_K_BLOCK - 1 || p == K - 1) {
                total += sum;
                sum = 0;
            }
        }
        assert_true(total == c[i] && total == block[i]);
        cases++;
    }
    mixt_compute_free(compute);
}

/* ------------------------------------------------------------------------------------------ */
/* Tolerances                                                                                 */

/* The stated tolerance of BLAS products against exact ones, |a| and |b| the norms of the row and
 * the column. */
static void test_blas(void **state)
{
    (void)state;
    mixt_compute *blas = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context_options options = {.threads = 2, .matmul = MIXT_MATMUL_BLAS};
    if (mixt_compute_create(&options, &blas, &error) != MIXT_OK) {
        assert_int_equal(error.status, MIXT_ERROR_NOT_FOUND);
        assert_string_equal(error.message, "matmul: no BLAS library (libopenblas.so.0 or "
                                           "libblas.so.3 with cblas_sgemm)");
        print_message("%s\n", error.message);
        return;
    }
    static const int64_t sides[] = {1, 2, 17, 64, 130};
    for (int i = 0; i < 5 * 5 * 8; i++) {
        shape s = {.m = sides[i % 5], .n = sides[i / 5 % 5], .k = i % 3 == 0 ? 1 : 600};
        s.a_transposed = (i & 1) != 0;
        s.b_transposed = (i & 2) != 0;
        s.accumulate = i / 25 % 2 == 0;
        s.padded = i % 7 < 3;
        mixt_gemm_f32 g = place(&s, (uint64_t)i);
        static float before[BUFFER_FLOATS];
        memcpy(before, g.c, (size_t)((s.m - 1) * g.c_row + s.n) * sizeof(float));
        use(blas, g, USE_RUN);
        for (int64_t row = 0; row < s.m; row++) {
            for (int64_t column = 0; column < s.n; column++) {
                double total = s.accumulate ? (double)before[row * g.c_row + column] : 0;
                double aa = total * total, bb = 1;
                for (int64_t p = 0; p < s.k; p++) {
                    double x = (double)g.a[row * g.a_row + p * g.a_column];
                    double y = (double)g.b[p * g.b_row + column * g.b_column];
                    total += x * y;
                    aa += x * x;
                    bb += y * y;
                }
                double bound = 4e-6 * sqrt((double)s.k) * sqrt(aa) * sqrt(bb);
                assert_true(fabs((double)g.c[row * g.c_row + column] - total) <= bound);
            }
        }
        cases++;
    }
    mixt_compute_free(blas);
}

static int create_memory(void **state)
{
    (void)state;
    memory_a = guard_create(BUFFER_FLOATS * sizeof(float));
    memory_b = guard_create(BUFFER_FLOATS * sizeof(float));
    memory_c = guard_create(BUFFER_FLOATS * sizeof(float));
    return 0;
}

static int count_cases(void **state)
{
    (void)state;
    guard_free(&memory_a);
    guard_free(&memory_b);
    guard_free(&memory_c);
    print_message("%" PRIu64 " cases\n", cases);
    return cases > 2000 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_bf16_pairs_emulated),
        cmocka_unit_test(test_bf16_tiles_emulated),
        cmocka_unit_test(test_exact_in_bf16_compute),
        cmocka_unit_test(test_grouped_lists),
        cmocka_unit_test(test_row_alone),
        cmocka_unit_test(test_larger_than_buffers),
        cmocka_unit_test(test_chains),
        cmocka_unit_test(test_double),
        cmocka_unit_test(test_blas),
    };
    return cmocka_run_group_tests(tests, create_memory, count_cases);
}
