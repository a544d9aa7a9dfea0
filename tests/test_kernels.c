/* Row kernels: every tier against the scalar one bit for bit, on buffers that end at pages which
 * may not be touched, and the scalar one against formulas in double. */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend/cpu/compute.h"
#include "backend/cpu/cpu.h"
#include "backend/cpu/tiers.h"
#include "guard.h"
#include "ops/kernels.h"
#include "quant/quant.h"

#define BUFFERS 5
#define LONGEST 1100

static uint64_t cases;

static const int sizes[] = {0,  1,  2,  3,  4,  5,  6,  7,   8,   9,   10,  11,  12,   13,
                            14, 15, 16, 17, 18, 19, 23, 24,  25,  29,  31,  32,  33,   37,
                            47, 48, 49, 63, 64, 65, 97, 127, 128, 129, 255, 256, 1021, 1025};
#define SIZES ((int)(sizeof sizes / sizeof sizes[0]))

/* One call of a kernel: x are BUFFERS buffers of n values, any of which it may write. */
typedef float (*call_f32)(const mixt_kernels_f32 *table, int64_t n, float *const *x);
typedef double (*call_f64)(const mixt_kernels_f64 *table, int64_t n, double *const *x);

static const mixt_adamw_arguments adamw_step = {
    .scale = 0.75,
    .rate = 0.01,
    .beta1 = 0.9,
    .beta2 = 0.95,
    .epsilon = 1e-8,
    .decay = 0.1,
    .correction1 = 0.271,
    .correction2 = 0.142625,
};

/* name, statement on `t`, n, x and `result`. Buffers: outputs first where they are not inputs. */
#define CALLS(X)                                                                                   \
    X(dot, result = t->dot(n, x[0], x[1]))                                                         \
    X(sum, result = t->sum(n, x[0]))                                                               \
    X(max, result = n > 0 ? t->max(n, x[0]) : 0)                                                   \
    X(add, t->add(n, x[0], x[1], x[2]))                                                            \
    X(add_in_place, t->add(n, x[0], x[0], x[1]))                                                   \
    X(axpy, t->axpy(n, x[0], (alpha), x[1]))                                                       \
    X(scale, t->scale(n, x[0], (alpha), x[1]))                                                     \
    X(scale_in_place, t->scale(n, x[0], (alpha), x[0]))                                            \
    X(multiply, t->multiply(n, x[0], x[1], x[2]))                                                  \
    X(multiply_in_place, t->multiply(n, x[0], x[1], x[0]))                                         \
    X(exp_sum, result = t->exp_sum(n, x[0], x[1], (alpha)))                                        \
    X(exp_sum_in_place, result = t->exp_sum(n, x[0], x[0], 0))                                     \
    X(swiglu, t->swiglu(n, x[0], x[1], x[2]))                                                      \
    X(swiglu_in_place, t->swiglu(n, x[0], x[0], x[1]))                                             \
    X(swiglu_backward, t->swiglu_backward(n, x[0], x[1], x[2], x[3], x[4]))                        \
    X(swiglu_backward_in_place, t->swiglu_backward(n, x[0], x[1], x[0], x[1], x[2]))               \
    X(geglu, t->geglu(n, x[0], x[1], x[2]))                                                        \
    X(geglu_in_place, t->geglu(n, x[0], x[0], x[1]))                                               \
    X(geglu_backward, t->geglu_backward(n, x[0], x[1], x[2], x[3], x[4]))                          \
    X(geglu_backward_in_place, t->geglu_backward(n, x[0], x[1], x[0], x[1], x[2]))                 \
    X(clamped_glu, t->clamped_glu(n, x[0], x[1], x[2]))                                            \
    X(clamped_glu_in_place, t->clamped_glu(n, x[0], x[0], x[1]))                                   \
    X(clamped_glu_backward, t->clamped_glu_backward(n, x[0], x[1], x[2], x[3], x[4]))              \
    X(clamped_glu_backward_in_place, t->clamped_glu_backward(n, x[0], x[1], x[0], x[1], x[2]))     \
    X(norm_apply, t->norm_apply(n, x[0], x[1], (alpha), x[2]))                                     \
    X(rope, t->rope(n / 2 * 2, x[0], x[1], x[2], x[3], 1))                                         \
    X(rope_in_place, t->rope(n / 2 * 2, x[0], x[0], x[1], x[2], -1))                               \
    X(halves, t->narrow(n, x[0], x[1], MIXT_TYPE_F16); t->widen(n, x[2], x[0], MIXT_TYPE_F16))     \
    X(bfloats, t->narrow(n, x[0], x[1], MIXT_TYPE_BF16); t->widen(n, x[2], x[0], MIXT_TYPE_BF16))  \
    X(blocks, t->narrow(n / 32 * 32, x[0], x[1], MIXT_TYPE_Q8_0);                                  \
      t->widen(n / 32 * 32, x[2], x[0], MIXT_TYPE_Q8_0))                                           \
    X(adamw, t->adamw(n, x[0], x[1], x[2], x[3], &adamw_step))

#define CALL_FUNCTION(name, statement)                                                             \
    static float call_##name##_f32(const mixt_kernels_f32 *t, int64_t n, float *const *x)          \
    {                                                                                              \
        const float alpha = 0.7F;                                                                  \
        float result = 0;                                                                          \
        (void)alpha;                                                                               \
        statement;                                                                                 \
        return result;                                                                             \
    }                                                                                              \
    static double call_##name##_f64(const mixt_kernels_f64 *t, int64_t n, double *const *x)        \
    {                                                                                              \
        const double alpha = 0.7;                                                                  \
        double result = 0;                                                                         \
        (void)alpha;                                                                               \
        statement;                                                                                 \
        return result;                                                                             \
    }
CALLS(CALL_FUNCTION)

static const struct {
    const char *name;
    call_f32 f32;
    call_f64 f64;
} calls[] = {
#define CALL_ENTRY(name, statement) {#name, call_##name##_f32, call_##name##_f64},
    CALLS(CALL_ENTRY)};
#define CALL_COUNT ((int)(sizeof calls / sizeof calls[0]))

/* Values where kernels go wrong. */
static const float specials[] = {
    0.0F,      -0.0F,  INFINITY, -INFINITY, NAN,     FLT_MAX, -FLT_MAX,   FLT_MIN,
    -FLT_MIN,  1e-40F, -1e-45F,  1.0F,      -1.0F,   88.72F,  88.73F,     89.5F,
    -87.3F,    -87.4F, -103.97F, -103.98F,  -104.5F, 1e-30F,  0.346573F,  1.5F,
    0.346574F, 1e30F,  -1e30F,   200.0F,    -200.0F, -1e-20F, 16777216.0F};
#define SPECIALS (sizeof specials / sizeof specials[0])

enum { DATA_RANDOM, DATA_BOUNDARY, DATA_SUBNORMAL, DATA_WIDE, DATA_ZEROS, DATA_KINDS };

static float data_value(int kind, uint64_t seed, uint64_t index)
{
    uint64_t bits = guard_random(seed ^ 0xABCDU, index);
    float x = guard_uniform(seed, index);
    switch (kind) {
    case DATA_BOUNDARY:
        return bits % 3 == 0 ? specials[(bits >> 8) % SPECIALS] : 4 * x;
    case DATA_SUBNORMAL:
        return bits % 2 == 0 ? x * 1e-38F : x * 1e-20F;
    case DATA_ZEROS: /* which of two equal values is the greatest */
        return bits % 4 == 0 ? -fabsf(x) : bits % 4 == 1 ? 0.0F : -0.0F;
    case DATA_WIDE:
        return ldexpf(x, (int)(bits % 60) - 30);
    default:
        return x * (float)(1 + bits % 8);
    }
}

static bool same_f32(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

static bool same_f64(double a, double b)
{
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

/* The table of a tier, or NULL where this processor lacks it. The compute is the caller's. */
static mixt_compute *compute_of(const char *tier)
{
    mixt_compute *compute = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context_options options = {.threads = 1, .cpu = tier};
    mixt_status status = mixt_compute_create(&options, &compute, &error);
    if (status != MIXT_OK) {
        assert_int_equal(status, MIXT_ERROR_UNSUPPORTED);
        return NULL;
    }
    assert_string_equal(compute->f32->name, tier);
    return compute;
}

typedef struct sides {
    guard expected[BUFFERS], actual[BUFFERS];
} sides;

static void compare_call(sides *buffers, const mixt_kernels_f32 *tier, int call, int64_t n,
                         int kind, bool at_end)
{
    float *expected[BUFFERS], *actual[BUFFERS];
    uint64_t seed = (uint64_t)(call * 1000003 + n * 101 + kind);
    size_t size = (size_t)n * sizeof(float);
    for (int i = 0; i < BUFFERS; i++) {
        expected[i] = guard_place(&buffers->expected[i], size, at_end);
        actual[i] = guard_place(&buffers->actual[i], size, at_end);
        for (int64_t j = 0; j < n; j++) {
            expected[i][j] = actual[i][j] =
                data_value(kind, seed + (uint64_t)i * 7919, (uint64_t)j);
        }
    }
    float expected_result = calls[call].f32(&mixt_kernels_scalar_f32, n, expected);
    float actual_result = calls[call].f32(tier, n, actual);
    if (!same_f32(expected_result, actual_result)) {
        fail_msg("%s %s n=%" PRId64 " data %d: result %a, scalar %a", tier->name, calls[call].name,
                 n, kind, (double)actual_result, (double)expected_result);
    }
    for (int i = 0; i < BUFFERS; i++) {
        for (int64_t j = 0; j < n; j++) {
            if (!same_f32(expected[i][j], actual[i][j])) {
                fail_msg("%s %s n=%" PRId64 " data %d: buffer %d[%" PRId64 "] %a, scalar %a",
                         tier->name, calls[call].name, n, kind, i, j, (double)actual[i][j],
                         (double)expected[i][j]);
            }
        }
        if (!guard_intact(&buffers->actual[i], actual[i], size)) {
            fail_msg("%s %s n=%" PRId64 ": wrote outside buffer %d", tier->name, calls[call].name,
                     n, i);
        }
    }
    cases++;
}

static void compare_tier(const char *name)
{
    mixt_compute *compute = compute_of(name);
    if (compute == NULL) {
        print_message("no %s on this processor\n", name);
        return;
    }
    sides buffers;
    for (int i = 0; i < BUFFERS; i++) {
        buffers.expected[i] = guard_create(LONGEST * sizeof(float));
        buffers.actual[i] = guard_create(LONGEST * sizeof(float));
    }
    uint64_t before = cases;
    for (int call = 0; call < CALL_COUNT; call++) {
        for (int size = call % guard_sample(1, 3); size < SIZES; size += guard_sample(1, 3)) {
            for (int kind = 0; kind < DATA_KINDS; kind++) {
                compare_call(&buffers, compute->f32, call, sizes[size], kind, true);
                compare_call(&buffers, compute->f32, call, sizes[size], kind, false);
            }
        }
    }
    assert_true(cases > before);
    for (int i = 0; i < BUFFERS; i++) {
        guard_free(&buffers.expected[i]);
        guard_free(&buffers.actual[i]);
    }
    mixt_compute_free(compute);
}

static void test_scalar_stays_inside(void **state)
{
    (void)state;
    compare_tier("scalar");
}

static void test_tiers_have_scalar_bits(void **state)
{
    (void)state;
    for (int tier = 1; tier < MIXT_CPU_TIERS; tier++) {
        compare_tier(mixt_cpu_tier_names[tier]);
    }
}

/* The fp64 table with the fused instruction against the one with library calls. */
static void test_double_has_scalar_bits(void **state)
{
    (void)state;
    mixt_compute *compute = compute_of("avx2");
    if (compute == NULL) {
        return;
    }
    assert_ptr_not_equal(compute->f64, &mixt_kernels_scalar_f64);
    for (int call = 0; call < CALL_COUNT; call++) {
        for (int kind = 0; kind < DATA_KINDS; kind++) {
            static double expected[BUFFERS][LONGEST], actual[BUFFERS][LONGEST];
            double *e[BUFFERS], *a[BUFFERS];
            const int n = 131;
            for (int i = 0; i < BUFFERS; i++) {
                e[i] = expected[i];
                a[i] = actual[i];
                for (int j = 0; j < LONGEST; j++) {
                    expected[i][j] = actual[i][j] =
                        (double)data_value(kind, (uint64_t)(call * 31 + i), (uint64_t)j);
                }
            }
            double first = calls[call].f64(&mixt_kernels_scalar_f64, n, e);
            assert_true(same_f64(first, calls[call].f64(compute->f64, n, a)));
            for (int i = 0; i < BUFFERS; i++) {
                for (int j = 0; j < LONGEST; j++) {
                    assert_true(same_f64(expected[i][j], actual[i][j]));
                }
            }
            cases++;
        }
    }
    mixt_compute_free(compute);
}

/* A block of attention's scores, and what the softmax keeps by query. */
#define SCORES_MOST 5200

typedef struct score_block {
    float scores[SCORES_MOST], d_scores[SCORES_MOST];
    float first[64], last[64], max[64], sum[64], change[64], lse[64], delta[64];
} score_block;

static void fill_scores(score_block *block, int kind, uint64_t seed, int keys)
{
    for (int i = 0; i < SCORES_MOST; i++) {
        block->scores[i] = data_value(kind, seed, (uint64_t)i);
        block->d_scores[i] = data_value(DATA_RANDOM, seed + 1, (uint64_t)i);
    }
    for (int i = 0; i < 64; i++) {
        uint64_t bits = guard_random(seed, (uint64_t)i);
        block->first[i] = (float)(bits % (uint64_t)(keys + 1));
        block->last[i] = (float)(bits >> 20 & 127) - 1;
        block->max[i] = bits % 3 == 0 ? -INFINITY : data_value(kind, seed + 2, (uint64_t)i);
        block->sum[i] = bits % 3 == 0 ? 0 : 1 + (float)(bits >> 40 & 15);
        block->lse[i] = data_value(DATA_RANDOM, seed + 3, (uint64_t)i);
        block->delta[i] = data_value(DATA_RANDOM, seed + 4, (uint64_t)i);
        block->change[i] = 0;
    }
}

enum { SCORES_COLUMNS, SCORES_ROWS, SCORES_BACKWARD };

static void run_scores(const mixt_kernels_f32 *table, score_block *block, mixt_scores_f32 shape,
                       int form)
{
    shape.scores = block->scores;
    shape.d_scores = block->d_scores;
    shape.first = shape.first != NULL ? block->first : NULL;
    shape.last = block->last;
    shape.max = block->max;
    shape.sum = block->sum;
    shape.change = block->change;
    shape.lse = block->lse;
    shape.delta = block->delta;
    (form == SCORES_BACKWARD ? table->softmax_backward
     : form == SCORES_ROWS   ? table->softmax_rows
                             : table->softmax)(&shape);
}

static void compare_scores(const mixt_kernels_f32 *tier, int at)
{
    static score_block expected, actual;
    uint64_t seed = (uint64_t)at * 977;
    int keys = 1 + (int)(guard_random(seed, 1) % 80);
    int queries = at % 3 == 0 ? 1 : 1 + (int)(guard_random(seed, 2) % 64);
    int kind = (int)(guard_random(seed, 4) % DATA_KINDS);
    fill_scores(&expected, kind, seed, keys);
    mixt_scores_f32 shape = {
        .keys = keys,
        .queries = queries,
        .stride = at % 6 == 0 ? queries : 64,
        .scale = 0.125F,
        .first = at % 2 == 0 ? expected.first : NULL,
    };
    int form = at % 5 == 4 ? SCORES_BACKWARD : at % 5 == 3 ? SCORES_ROWS : SCORES_COLUMNS;
    if (form == SCORES_ROWS) {
        shape.stride = keys + at / 5 % 2 * (80 - keys);
    }
    if (form == SCORES_BACKWARD) { /* by query; a block may begin behind the first key counted */
        shape.stride = keys + at % 2 * (80 - keys);
        shape.origin = at / 5 % 3 * 8;
    }
    actual = expected;
    run_scores(&mixt_kernels_scalar_f32, &expected, shape, form);
    run_scores(tier, &actual, shape, form);
    const float *want = (const float *)&expected, *have = (const float *)&actual;
    for (size_t i = 0; i < sizeof expected / sizeof(float); i++) {
        if (!same_f32(want[i], have[i])) {
            fail_msg("%s: scores of %d keys and %d queries, case %d: %zu is %a, scalar %a",
                     tier->name, keys, queries, at, i, (double)have[i], (double)want[i]);
        }
    }
    cases++;
}

static void test_scores_have_scalar_bits(void **state)
{
    (void)state;
    for (int tier = 1; tier < MIXT_CPU_TIERS; tier++) {
        mixt_compute *compute = compute_of(mixt_cpu_tier_names[tier]);
        for (int at = 0; at < guard_sample(3000, 600) && compute != NULL; at++) {
            compare_scores(compute->f32, at);
        }
        mixt_compute_free(compute);
    }
}

/* |actual - expected| <= bound, or a message. */
static void assert_near(const char *what, int64_t n, double actual, double expected, double bound)
{
    cases++;
    if (!(fabs(actual - expected) <= bound)) {
        fail_msg("%s n=%" PRId64 ": %.9g, reference %.9g, bound %.3g", what, n, actual, expected,
                 bound);
    }
}

static const double epsilon = FLT_EPSILON / 2; /* one rounding */

/* Reductions: an element goes through at most n / 16 + 5 roundings. */
static void test_reductions_against_double(void **state)
{
    (void)state;
    const mixt_kernels_f32 *t = &mixt_kernels_scalar_f32;
    static float a[LONGEST], b[LONGEST], y[LONGEST];
    for (int s = 0; s < SIZES; s++) {
        int n = sizes[s];
        double dot = 0, dot_size = 0, sum = 0, sum_size = 0, exponentials = 0, most = -INFINITY;
        for (int i = 0; i < n; i++) {
            a[i] = data_value(DATA_RANDOM, 11, (uint64_t)i);
            b[i] = data_value(DATA_RANDOM, 12, (uint64_t)i);
            dot += (double)a[i] * (double)b[i];
            dot_size += fabs((double)a[i] * (double)b[i]);
            sum += (double)a[i];
            sum_size += fabs((double)a[i]);
            exponentials += exp((double)a[i]);
            most = (double)a[i] > most ? (double)a[i] : most;
        }
        double roundings = (n / 16 + 6) * epsilon;
        assert_near("dot", n, (double)t->dot(n, a, b), dot, dot_size * roundings);
        assert_near("sum", n, (double)t->sum(n, a), sum, sum_size * roundings);
        assert_near("exp_sum", n, (double)t->exp_sum(n, y, a, 0), exponentials,
                    exponentials * (roundings + 3 * epsilon));
        if (n > 0) {
            assert_near("max", n, (double)t->max(n, a), most, 0);
        }
    }
}

/* exp against libm in double: 1.2 units in the last place over all normal results; 0 where the
 * result would be subnormal. */
static void test_exp_against_double(void **state)
{
    (void)state;
    const mixt_kernels_f32 *t = &mixt_kernels_scalar_f32;
    double worst = 0;
    for (float x = -104.0F; x < 88.72F; x += 0.0007F) {
        float y;
        t->exp_sum(1, &y, &x, 0);
        double expected = exp((double)x);
        if (expected < (double)FLT_MIN) {
            assert_true(y == 0 || (y == FLT_MIN && expected > 0.9999 * (double)FLT_MIN));
            continue;
        }
        float nearest = (float)expected;
        if (y == 0) { /* the bound itself is rounded */
            assert_true(expected < 1.0001 * (double)FLT_MIN);
            continue;
        }
        double unit = (double)(nextafterf(nearest, INFINITY) - nearest);
        double error = fabs((double)y - expected) / unit;
        worst = error > worst ? error : worst;
        cases++;
    }
    print_message("exp: at most %.3f units in the last place\n", worst);
    assert_true(worst < 1.2);
    const float edges[] = {-INFINITY, -FLT_MAX, -200.0F, -104.0F, INFINITY, FLT_MAX, 88.73F};
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
        float y;
        t->exp_sum(1, &y, &edges[i], 0);
        assert_true(y == (i < 4 ? 0.0F : INFINITY) && !signbit(y));
        cases++;
    }
}

static void test_elementwise_against_double(void **state)
{
    (void)state;
    const mixt_kernels_f32 *t = &mixt_kernels_scalar_f32;
    enum { N = 1025 };
    static float x[BUFFERS][N], y[N], w[N], m[N], v[N];
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < BUFFERS; j++) {
            x[j][i] = data_value(DATA_RANDOM, (uint64_t)(100 + j), (uint64_t)i);
        }
        w[i] = x[0][i];
        m[i] = x[1][i];
        v[i] = fabsf(x[2][i]);
    }
    t->swiglu(N, y, x[0], x[1]);
    for (int i = 0; i < N; i++) {
        double z = (double)x[0][i], expected = z / (1 + exp(-z)) * (double)x[1][i];
        assert_near("swiglu", i, (double)y[i], expected, fabs(expected) * 8 * epsilon);
    }
    static float dgate[N], dup[N];
    t->swiglu_backward(N, dgate, dup, x[0], x[1], x[2]);
    for (int i = 0; i < N; i++) {
        double z = (double)x[0][i], s = 1 / (1 + exp(-z)), dy = (double)x[2][i];
        double slope = s + z * s * (1 - s), up = (double)x[1][i];
        double bound = fabs(dy * up) * (s + fabs(z * s)) * 10 * epsilon;
        assert_near("swiglu dgate", i, (double)dgate[i], dy * up * slope, bound);
        assert_near("swiglu dup", i, (double)dup[i], dy * z * s, fabs(dy * z * s) * 8 * epsilon);
    }
    t->adamw(N, w, m, v, x[3], &adamw_step);
    for (int i = 0; i < N; i++) {
        const mixt_adamw_arguments *o = &adamw_step;
        double g = o->scale * (double)x[3][i];
        double mean = o->beta1 * (double)x[1][i] + (1 - o->beta1) * g;
        double square = o->beta2 * fabs((double)x[2][i]) + (1 - o->beta2) * g * g;
        double step = mean / o->correction1 / (sqrt(square / o->correction2) + o->epsilon) +
                      o->decay * (double)x[0][i];
        double mean_size = fabs(o->beta1 * (double)x[1][i]) + fabs((1 - o->beta1) * g);
        double step_size = mean_size / o->correction1 / sqrt(square / o->correction2) + 1;
        assert_near("adamw m", i, (double)m[i], mean, mean_size * 6 * epsilon);
        assert_near("adamw v", i, (double)v[i], square, square * 8 * epsilon);
        assert_near("adamw w", i, (double)w[i], (double)x[0][i] - o->rate * step,
                    (fabs((double)x[0][i]) + o->rate * step_size * 20) * epsilon);
    }
}

/* Blocks of a cache are those of files, as near to the values as 8 bits of the largest come. */
static void test_short_rows(void **state)
{
    (void)state;
    float x[96], widened[96], read[96];
    uint8_t blocks[102];
    for (uint64_t round = 0; round < 200; round++) {
        for (uint64_t i = 0; i < 96; i++) {
            x[i] = data_value(round % 2 == 0 ? DATA_RANDOM : DATA_ZEROS, round, i);
        }
        mixt_kernels_scalar_f32.narrow(96, blocks, x, MIXT_TYPE_Q8_0);
        mixt_kernels_scalar_f32.widen(96, widened, blocks, MIXT_TYPE_Q8_0);
        mixt_dequantise(MIXT_TYPE_Q8_0, blocks, read, 96);
        assert_memory_equal(widened, read, sizeof read);
        for (int i = 0; i < 96; i++) {
            float largest = 0;
            for (int j = i / 32 * 32; j < i / 32 * 32 + 32; j++) {
                largest = fmaxf(largest, fabsf(x[j]));
            }
            /* half a step, and the half in which the step is kept */
            double bound = (double)largest * (0.5 / 127 + 0x1p-11) * 1.0001;
            assert_true(fabs((double)widened[i] - (double)x[i]) <= bound);
        }
    }
    x[40] = NAN; /* its block is lost, and says so */
    mixt_kernels_scalar_f32.narrow(96, blocks, x, MIXT_TYPE_Q8_0);
    mixt_kernels_scalar_f32.widen(96, widened, blocks, MIXT_TYPE_Q8_0);
    for (int i = 0; i < 96; i++) {
        assert_int_equal(isnan(widened[i]) != 0, i / 32 == 1);
    }
}

/* Rows of a cache as they lie, with gaps, at the end of a page: every tier has the scalar bits. */
typedef struct cached_case {
    mixt_cached_f32 cached;
    int64_t bytes; /* of a row without its gap */
    int kind;
} cached_case;

static cached_case make_cached(uint64_t seed)
{
    static const mixt_type types[] = {MIXT_TYPE_F32, MIXT_TYPE_F16, MIXT_TYPE_BF16, MIXT_TYPE_Q8_0};
    static const int64_t lengths[] = {1,  5,   16,  17,  31,  32,  48, 64,
                                      80, 100, 128, 192, 512, 576, 640};
    cached_case c = {.cached = {.type = types[seed % 4],
                                .rows = 1 + (int64_t)(guard_random(seed, 1) % 64),
                                .heads = 1 + (int64_t)(guard_random(seed, 2) % 6),
                                .group = 1 + (int64_t)(guard_random(seed, 3) % MIXT_CACHED_GROUP),
                                .n = lengths[guard_random(seed, 4) % 15]},
                     .kind = (int)(guard_random(seed, 5) % DATA_KINDS)};
    mixt_cached_f32 *k = &c.cached;
    k->n = k->type == MIXT_TYPE_Q8_0 ? (k->n + 31) / 32 * 32 : k->n;
    k->head_bytes = (int64_t)mixt_type_row_bytes(k->type, k->n);
    c.bytes = k->head_bytes * k->heads;
    k->stride = c.bytes + (int64_t)(guard_random(seed, 6) % 3 * 4);
    return c;
}

/* Both kernels of a tier on a case; x and y have rows with gaps. */
static void run_cached(const mixt_kernels_f32 *t, const cached_case *c, bool sums, const float *x,
                       float *y)
{
    mixt_cached_f32 k = c->cached;
    k.x = x;
    k.y = y;
    k.x_row = (sums ? k.rows : k.n) + 1;
    k.y_row = (sums ? k.n : k.rows) + 2;
    if (sums) {
        t->cached_sum(&k);
    } else {
        t->cached_dot(&k);
    }
}

static void compare_cached(const mixt_kernels_f32 *t, guard *rows, cached_case *c, uint64_t seed)
{
    enum { LARGEST = 6 * MIXT_CACHED_GROUP * (MIXT_CACHED_MAX + 2) };
    static float x[LARGEST], expected[LARGEST], actual[LARGEST], values[6 * MIXT_CACHED_MAX];
    mixt_cached_f32 *k = &c->cached;
    size_t size = (size_t)((k->rows - 1) * k->stride + c->bytes);
    char *at = (char *)guard_place(rows, size, true);
    for (int64_t r = 0; r < k->rows; r++) {
        for (int64_t i = 0; i < k->heads * k->n; i++) {
            values[i] = data_value(c->kind, seed, (uint64_t)(r * k->heads * k->n + i));
        }
        if (k->type == MIXT_TYPE_F32) {
            memcpy(at + r * k->stride, values, (size_t)c->bytes);
        } else {
            mixt_kernels_scalar_f32.narrow(k->heads * k->n, at + r * k->stride, values, k->type);
        }
    }
    k->at = at;
    k->next = seed % 3 == 0 ? at : NULL;
    for (int i = 0; i < LARGEST; i++) {
        x[i] = data_value(c->kind, seed ^ 77, (uint64_t)i);
    }
    for (int sums = 0; sums < 2; sums++) {
        memset(expected, 0, sizeof expected);
        memset(actual, 0, sizeof actual);
        run_cached(&mixt_kernels_scalar_f32, c, sums != 0, x, expected);
        run_cached(t, c, sums != 0, x, actual);
        for (int i = 0; i < LARGEST; i++) {
            if (!same_f32(expected[i], actual[i])) {
                fail_msg("%s cached_%s of %s, n=%" PRId64 " rows=%" PRId64 " heads=%" PRId64
                         " x %" PRId64 ": [%d] %a, scalar %a",
                         t->name, sums != 0 ? "sum" : "dot", mixt_type_info(k->type)->name, k->n,
                         k->rows, k->heads, k->group, i, (double)actual[i], (double)expected[i]);
            }
        }
        cases++;
    }
}

static void test_cached_rows(void **state)
{
    (void)state;
    guard rows = guard_create((size_t)64 * (6 * MIXT_CACHED_MAX * sizeof(float) + 8));
    for (int tier = 1; tier < MIXT_CPU_TIERS; tier++) {
        mixt_compute *compute = compute_of(mixt_cpu_tier_names[tier]);
        for (uint64_t seed = 0; compute != NULL && seed < (uint64_t)guard_sample(400, 8); seed++) {
            cached_case c = make_cached(seed);
            compare_cached(compute->f32, &rows, &c, seed);
        }
        mixt_compute_free(compute);
    }
    guard_free(&rows);
}

static void test_rope_rotates(void **state)
{
    (void)state;
    const mixt_kernels_f32 *t = &mixt_kernels_scalar_f32;
    enum { N = 64 };
    float x[N], y[N], back[N], cosine[N / 2], sine[N / 2];
    for (int i = 0; i < N; i++) {
        x[i] = guard_uniform(5, (uint64_t)i);
    }
    for (int i = 0; i < N / 2; i++) {
        double angle = 37 * pow(10000, -2.0 * i / N);
        cosine[i] = (float)cos(angle);
        sine[i] = (float)sin(angle);
    }
    t->rope(N, y, x, cosine, sine, 1);
    t->rope(N, back, y, cosine, sine, -1);
    for (int i = 0; i < N / 2; i++) {
        double angle = 37 * pow(10000, -2.0 * i / N), a = (double)x[i], b = (double)x[i + N / 2];
        assert_near("rope", i, (double)y[i], a * cos(angle) - b * sin(angle), 8 * epsilon);
        assert_near("rope", i, (double)y[i + N / 2], b * cos(angle) + a * sin(angle), 8 * epsilon);
        assert_near("rope back", i, (double)back[i], a, 12 * epsilon);
        assert_near("rope back", i, (double)back[i + N / 2], b, 12 * epsilon);
    }
}

/* Each tier up to the best can be had, by its name; those of other processors are refused. */
static void test_tiers_of_this_processor(void **state)
{
    (void)state;
    mixt_cpu cpu = mixt_cpu_detect();
#if defined(__aarch64__)
    const int least = MIXT_CPU_NEON, first = MIXT_CPU_NEON;
#else
    const int least = MIXT_CPU_SCALAR, first = MIXT_CPU_AVX2;
#endif
    assert_in_range(cpu.tier, least, MIXT_CPU_TIERS - 1);
    for (int tier = 0; tier < MIXT_CPU_TIERS; tier++) {
        const char *name = mixt_cpu_tier_names[tier];
        bool has = tier == MIXT_CPU_SCALAR || (tier >= first && tier <= (int)cpu.tier);
        mixt_compute *compute = compute_of(name);
        assert_int_equal(compute != NULL, has);
        if (compute != NULL) {
            print_message("tier %s\n", name);
            assert_int_equal(compute->f32->dot == mixt_kernels_scalar_f32.dot, tier == 0);
            assert_int_equal(compute->f32->matrix == &mixt_matrix_scalar, tier == 0);
        }
        mixt_compute_free(compute);
        cases++;
    }
}

static void test_context_choices(void **state)
{
    (void)state;
    static const struct {
        mixt_context_options options;
        mixt_status status;
        const char *message;
    } bad[] = {
        {{.threads = 1, .cpu = "sse9"},
         MIXT_ERROR_ARGUMENT,
         "cpu: \"sse9\" is not scalar, avx2, avx512, amx, neon, dotprod or i8mm"},
        {{.threads = -1}, MIXT_ERROR_ARGUMENT, "threads: -1 is not in 1..256"},
        {{.threads = 1, .matmul = (mixt_matmul)9},
         MIXT_ERROR_ARGUMENT,
         "matmul: 9 is not a kind of product"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        mixt_context *context = (mixt_context *)&cases;
        mixt_error error = MIXT_ERROR_INIT;
        assert_int_equal(mixt_context_create(&bad[i].options, &context, &error), bad[i].status);
        assert_null(context);
        assert_string_equal(error.message, bad[i].message);
        cases++;
    }
    setenv("MIXT_CPU", "scalar", 1);
    mixt_context *context;
    assert_int_equal(mixt_context_create(NULL, &context, NULL), MIXT_OK);
    assert_string_equal(mixt_context_cpu(context), "scalar");
    assert_true(mixt_context_threads(context) >= 1);
    mixt_context_free(context);
    setenv("MIXT_CPU", "best", 1);
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_context_create(NULL, &context, &error), MIXT_ERROR_ARGUMENT);
    assert_string_equal(
        error.message,
        "MIXT_CPU: \"best\" is not scalar, avx2, avx512, amx, neon, dotprod or i8mm");
    unsetenv("MIXT_CPU");
    mixt_context_free(NULL);
    cases += 2;
}

static int count_cases(void **state)
{
    (void)state;
    print_message("%" PRIu64 " cases\n", cases);
    return cases > 1000 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalar_stays_inside),
        cmocka_unit_test(test_tiers_have_scalar_bits),
        cmocka_unit_test(test_tiers_of_this_processor),
        cmocka_unit_test(test_double_has_scalar_bits),
        cmocka_unit_test(test_scores_have_scalar_bits),
        cmocka_unit_test(test_reductions_against_double),
        cmocka_unit_test(test_exp_against_double),
        cmocka_unit_test(test_elementwise_against_double),
        cmocka_unit_test(test_short_rows),
        cmocka_unit_test(test_cached_rows),
        cmocka_unit_test(test_rope_rotates),
        cmocka_unit_test(test_context_choices),
    };
    return cmocka_run_group_tests(tests, NULL, count_cases);
}
