#include "operator_cases.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t drawn;
/* The bit of a slot in a case's masks. */
#define SLOT(name) (1U << (name))

static const mixt_random_key key = {20260, MIXT_RANDOM_DATA, 2};

void case_seed(int64_t seed)
{
    drawn = (uint64_t)seed << 32;
}

int64_t case_below(int64_t bound)
{
    return (int64_t)mixt_random_below(&key, drawn++, (uint64_t)bound);
}

double case_normal(void)
{
    return (double)(float)mixt_random_normal(&key, drawn++);
}

static mixt_shape by_token(const operator_case *c, int64_t multiple, int64_t columns)
{
    return mixt_shape_tokens(c->request.capacity, multiple, columns);
}

static mixt_shape fixed(int64_t rows, int64_t columns)
{
    return mixt_shape_static(columns > 0 ? 2 : 1, rows, columns, 0);
}

/* norm: {T, capacity, d, group or 0} */

static const int64_t norm_rows[][CASE_NUMBERS] = {
    {1, 1, 3, 0}, {3, 5, 7, 0}, {130, 200, 33, 0}, {5, 5, 48, 16}, {257, 257, 64, 64}, {2, 2, 6, 2},
};

static void norm_prepare(operator_case *c)
{
    c->request.in[NORM_X] = by_token(c, 1, c->p[2]);
    c->request.in[NORM_WEIGHT] = fixed(c->p[3] > 0 ? c->p[3] : c->p[2], 0);
    c->attributes.head_dim = (int)c->p[3];
    c->attributes.epsilon = 1e-5;
    c->differentiable = SLOT(NORM_X) | SLOT(NORM_WEIGHT);
    c->functional = SLOT(NORM_Y);
}

/* Away from zero, where 1 / rms bends too much for differences. */
static void norm_fill(operator_case *c)
{
    for (int64_t i = 0; i < c->tokens * c->p[2]; i++) {
        c->value[NORM_X][i] += c->value[NORM_X][i] < 0 ? -0.5 : 0.5;
        c->value[NORM_X][i] = (double)(float)c->value[NORM_X][i];
    }
}

static void norm_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    int64_t group = c->request.in[NORM_WEIGHT].size[0];
    for (int64_t i = 0; i < c->tokens * c->p[2] / group; i++) {
        double squares = 0;
        for (int64_t j = 0; j < group; j++) {
            squares += pow(c->value[NORM_X][i * group + j], 2);
        }
        out[NORM_INVERSE][i] = pow(squares / (double)group + c->attributes.epsilon, -0.5);
        for (int64_t j = 0; j < group; j++) {
            out[NORM_Y][i * group + j] =
                c->value[NORM_X][i * group + j] * out[NORM_INVERSE][i] * c->value[NORM_WEIGHT][j];
        }
    }
}

/* embed: {T, capacity, d, V, scale} */

static const int64_t embed_rows[][CASE_NUMBERS] = {
    {1, 1, 1, 1, 0},
    {40, 50, 9, 5, 3},
    {200, 200, 130, 17, 0},
    {3, 4, 64, 257, 2},
};

static void embed_prepare(operator_case *c)
{
    c->request.in[EMBED_TOKENS] = mixt_shape_integers(by_token(c, 1, 0));
    c->request.in[EMBED_TABLE] = fixed(c->p[3], c->p[2]);
    c->attributes.scale = (double)c->p[4];
    c->differentiable = SLOT(EMBED_TABLE);
    c->functional = SLOT(EMBED_X);
}

static void embed_fill(operator_case *c)
{
    for (int64_t t = 0; t < c->tokens; t++) {
        c->integer[EMBED_TOKENS][t] = (int32_t)case_below(c->p[3]);
    }
}

static void embed_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    double scale = c->p[4] > 0 ? (double)c->p[4] : 1;
    for (int64_t i = 0; i < c->tokens * c->p[2]; i++) {
        int64_t row = c->integer[EMBED_TOKENS][i / c->p[2]];
        out[EMBED_X][i] = scale * c->value[EMBED_TABLE][row * c->p[2] + i % c->p[2]];
    }
}

/* linear: {T, capacity, K, N, bias, rows not by token} */

static const int64_t linear_rows[][CASE_NUMBERS] = {
    {1, 1, 1, 1, 1, 0},      {1, 3, 17, 5, 0, 0},    {7, 7, 33, 65, 1, 0}, {130, 140, 24, 31, 1, 0},
    {64, 64, 513, 16, 0, 0}, {600, 600, 8, 9, 1, 0}, {4, 4, 12, 6, 1, 1},
};

static void linear_prepare(operator_case *c)
{
    c->request.in[LINEAR_X] = c->p[5] != 0 ? fixed(c->tokens, c->p[2]) : by_token(c, 1, c->p[2]);
    c->request.in[LINEAR_WEIGHT] = fixed(c->p[3], c->p[2]);
    if (c->p[4] != 0) {
        c->request.in[LINEAR_BIAS] = fixed(c->p[3], 0);
    }
    c->differentiable = SLOT(LINEAR_X) | SLOT(LINEAR_WEIGHT);
    c->differentiable |= c->p[4] != 0 ? SLOT(LINEAR_BIAS) : 0;
    c->functional = SLOT(LINEAR_Y);
}

static double product(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

static void linear_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    int64_t k = c->p[2], n = c->p[3];
    for (int64_t i = 0; i < c->tokens * n; i++) {
        out[LINEAR_Y][i] =
            product(c->value[LINEAR_X] + i / n * k, c->value[LINEAR_WEIGHT] + i % n * k, k) +
            (c->p[4] != 0 ? c->value[LINEAR_BIAS][i % n] : 0);
    }
}

/* head_linear: {T, capacity, heads, A, B} */

static const int64_t head_linear_rows[][CASE_NUMBERS] = {
    {1, 1, 1, 1, 1}, {1, 3, 4, 17, 5}, {7, 9, 3, 6, 33}, {70, 70, 2, 40, 24}};

static void head_linear_prepare(operator_case *c)
{
    c->attributes.heads = (int)c->p[2];
    c->request.in[HEAD_LINEAR_X] = by_token(c, 1, c->p[2] * c->p[3]);
    c->request.in[HEAD_LINEAR_WEIGHT] = mixt_shape_static(3, c->p[2], c->p[4], c->p[3]);
    c->differentiable = SLOT(HEAD_LINEAR_X) | SLOT(HEAD_LINEAR_WEIGHT);
    c->functional = SLOT(HEAD_LINEAR_Y);
}

static void head_linear_naive(const operator_case *c, double *const *out,
                              int32_t *const *integer_out)
{
    (void)integer_out;
    int64_t heads = c->p[2], k = c->p[3], n = c->p[4];
    for (int64_t i = 0; i < c->tokens * heads * n; i++) {
        out[HEAD_LINEAR_Y][i] =
            product(c->value[HEAD_LINEAR_X] + i / n * k,
                    c->value[HEAD_LINEAR_WEIGHT] + (i / n % heads * n + i % n) * k, k);
    }
}

/* rope: {T, capacity, heads, head_dim, P, rope_dims or 0, interleaved} */

static const int64_t rope_rows[][CASE_NUMBERS] = {
    {1, 1, 1, 2, 1},           {5, 6, 3, 6, 9},
    {70, 70, 2, 64, 100},      {33, 64, 1, 34, 40},
    {9, 12, 3, 10, 20, 4},     {40, 40, 2, 7, 64, 2, 1},
    {35, 35, 1, 64, 50, 0, 1}, {4, 4, 1, 1100, 9, 1030, 1},
};

static void rope_prepare(operator_case *c)
{
    c->attributes.heads = (int)c->p[2];
    c->attributes.head_dim = (int)c->p[3];
    c->attributes.rope_dims = (int)c->p[5];
    c->attributes.interleaved = c->p[6] != 0;
    c->request.in[ROPE_X] = by_token(c, 1, c->p[2] * c->p[3]);
    c->request.in[ROPE_POSITIONS] = mixt_shape_integers(by_token(c, 1, 0));
    c->request.in[ROPE_TABLE] = fixed(c->p[4], c->p[5] > 0 ? c->p[5] : c->p[3]);
    c->differentiable = SLOT(ROPE_X);
    c->functional = SLOT(ROPE_Y);
}

static void rope_fill(operator_case *c)
{
    for (int64_t t = 0; t < c->tokens; t++) {
        c->integer[ROPE_POSITIONS][t] = (int32_t)case_below(c->p[4]);
    }
    int64_t half = c->request.in[ROPE_TABLE].size[1] / 2;
    for (int64_t i = 0; i < c->p[4] * half; i++) {
        double angle = (double)(i / half) * pow(10000, -(double)(i % half) / (double)half);
        c->value[ROPE_TABLE][i / half * 2 * half + i % half] = (double)(float)cos(angle);
        c->value[ROPE_TABLE][i / half * 2 * half + half + i % half] = (double)(float)sin(angle);
    }
}

static void rope_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    int64_t half = c->request.in[ROPE_TABLE].size[1] / 2, n = c->p[3];
    for (int64_t head = 0; head < c->tokens * c->p[2]; head++) {
        const double *x = c->value[ROPE_X] + head * n;
        const double *angles =
            c->value[ROPE_TABLE] + c->integer[ROPE_POSITIONS][head / c->p[2]] * 2 * half;
        double *y = out[ROPE_Y] + head * n;
        memcpy(y, x, (size_t)n * sizeof *y);
        for (int64_t pair = 0; pair < half; pair++) {
            int64_t a = c->p[6] != 0 ? 2 * pair : pair, b = c->p[6] != 0 ? a + 1 : a + half;
            y[a] = x[a] * angles[pair] - x[b] * angles[half + pair];
            y[b] = x[b] * angles[pair] + x[a] * angles[half + pair];
        }
    }
}

/* scale, clamp, gate: {T, capacity, d} */

static const int64_t value_rows[][CASE_NUMBERS] = {
    {1, 1, 1}, {3, 4, 5}, {130, 130, 7}, {65, 65, 257}};

static void scale_prepare(operator_case *c)
{
    c->attributes.scale = -0.75;
    c->request.in[SCALE_X] = by_token(c, 1, c->p[2]);
    c->differentiable = SLOT(SCALE_X);
    c->functional = SLOT(SCALE_Y);
}

static void scale_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    for (int64_t i = 0; i < c->tokens * c->p[2]; i++) {
        out[SCALE_Y][i] = c->value[SCALE_X][i] * -0.75;
    }
}

static void clamp_prepare(operator_case *c)
{
    scale_prepare(c);
    c->attributes.limit = 0.5;
}

/* Away from the limits, where differences see both sides. */
static void clamp_fill(operator_case *c)
{
    for (int64_t i = 0; i < c->tokens * c->p[2]; i++) {
        bool near = fabs(fabs(c->value[CLAMP_X][i]) - 0.5) < 0.01;
        c->value[CLAMP_X][i] = near ? 0.5625 : c->value[CLAMP_X][i];
    }
}

static void clamp_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    for (int64_t i = 0; i < c->tokens * c->p[2]; i++) {
        out[CLAMP_Y][i] = fmin(fmax(c->value[CLAMP_X][i], -0.5), 0.5);
    }
}

static void gate_prepare(operator_case *c)
{
    c->request.in[GATE_X] = by_token(c, 1, c->p[2]);
    c->request.in[GATE_G] = by_token(c, 1, 1);
    c->differentiable = SLOT(GATE_X) | SLOT(GATE_G);
    c->functional = SLOT(GATE_Y);
}

static void gate_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    for (int64_t i = 0; i < c->tokens * c->p[2]; i++) {
        out[GATE_Y][i] = c->value[GATE_X][i] / (1 + exp(-c->value[GATE_G][i / c->p[2]]));
    }
}

/* slice: {T, capacity, heads, head_dim, from, size}; join: {T, capacity, heads, A, B} */

static const int64_t slice_rows[][CASE_NUMBERS] = {
    {1, 1, 1, 1, 0, 1}, {5, 6, 3, 7, 2, 4}, {70, 80, 2, 24, 16, 8}, {33, 33, 1, 40, 0, 33}};

static void slice_prepare(operator_case *c)
{
    c->attributes.heads = (int)c->p[2];
    c->attributes.head_dim = (int)c->p[3];
    c->attributes.from = (int)c->p[4];
    c->attributes.size = (int)c->p[5];
    c->request.in[SLICE_X] = by_token(c, 1, c->p[2] * c->p[3]);
    c->differentiable = SLOT(SLICE_X);
    c->functional = SLOT(SLICE_Y);
}

static void slice_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    int64_t size = c->p[5];
    for (int64_t i = 0; i < c->tokens * c->p[2] * size; i++) {
        out[SLICE_Y][i] = c->value[SLICE_X][i / size * c->p[3] + c->p[4] + i % size];
    }
}

static const int64_t join_rows[][CASE_NUMBERS] = {
    {1, 1, 2, 1, 1}, {5, 6, 3, 7, 2}, {70, 80, 2, 16, 8}, {33, 33, 3, 9, 33}};

static void join_prepare(operator_case *c)
{
    c->attributes.heads = (int)c->p[2];
    c->attributes.head_dim = (int)c->p[3];
    c->request.in[JOIN_A] = by_token(c, 1, c->p[2] * c->p[3]);
    c->request.in[JOIN_B] = by_token(c, 1, c->p[2] * c->p[4]);
    c->differentiable = SLOT(JOIN_A) | SLOT(JOIN_B);
    c->functional = SLOT(JOIN_Y);
}

static void join_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    int64_t a = c->p[3], b = c->p[4], n = a + b;
    for (int64_t i = 0; i < c->tokens * c->p[2] * n; i++) {
        out[JOIN_Y][i] = i % n < a ? c->value[JOIN_A][i / n * a + i % n]
                                   : c->value[JOIN_B][i / n * b + i % n - a];
    }
}

/* kv_write: {T, capacity, columns of k, C, columns of v or 0} */

static const int64_t kv_write_rows[][CASE_NUMBERS] = {
    {1, 1, 3, 4, 3}, {5, 8, 16, 9, 16}, {70, 70, 4, 99, 9}, {7, 9, 12, 30, 0}};

static void kv_write_prepare(operator_case *c)
{
    c->request.in[KV_WRITE_K] = by_token(c, 1, c->p[2]);
    c->request.in[KV_WRITE_SLOTS] = mixt_shape_integers(by_token(c, 1, 0));
    c->request.in[KV_WRITE_CACHE_K] = fixed(c->p[3], c->p[2]);
    if (c->p[4] > 0) {
        c->request.in[KV_WRITE_V] = by_token(c, 1, c->p[4]);
        c->request.in[KV_WRITE_CACHE_V] = fixed(c->p[3], c->p[4]);
    }
}

static void kv_write_fill(operator_case *c)
{
    for (int64_t t = 0; t < c->tokens; t++) {
        c->integer[KV_WRITE_SLOTS][t] = (int32_t)(c->p[3] - 1 - t);
    }
}

static void kv_write_naive(const operator_case *c, double *const *in, int32_t *const *integers)
{
    (void)integers;
    static const struct {
        int from, cache;
    } sides[2] = {{KV_WRITE_K, KV_WRITE_CACHE_K}, {KV_WRITE_V, KV_WRITE_CACHE_V}};
    for (int side = 0; side < 2; side++) {
        int64_t n = c->request.in[sides[side].from].size[1];
        double *cache = in[sides[side].cache];
        for (int64_t i = 0; i < c->tokens * n; i++) {
            cache[c->integer[KV_WRITE_SLOTS][i / n] * n + i % n] = c->value[sides[side].from][i];
        }
    }
}

/* attention: {T, capacity, heads, kv_heads, head_dim, window or 0, keys of the cache, documents,
 * value_dim or 0, flags} */

enum {
    SOFT_CAP = 1,
    SINKS = 2,
    WIDE_VALUES = 4, /* v as wide as k */
};

static const int64_t attention_rows[][CASE_NUMBERS] = {
    {1, 1, 1, 1, 1, 1, 0, 0},
    {5, 10, 2, 1, 3, 5, 0, 0},
    {96, 128, 4, 2, 5, 32, 0, 1},
    {130, 130, 2, 2, 8, 130, 0, 0},
    {200, 300, 3, 1, 4, 100, 0, 1},
    {150, 150, 2, 1, 6, 150, 0, 2},
    {1, 4, 4, 2, 16, 0, 100, 0},
    {3, 4, 2, 1, 8, 0, 70, 0},
    {66, 66, 1, 1, 4, 0, 140, 0},
    {70, 70, 1, 1, 2, 70, 0, 3},
    {65, 100, 2, 2, 64, 100, 0, 0},
    {300, 300, 2, 1, 3, 300, 0, 1},
    {96, 128, 4, 2, 5, 32, 0, 1, 0, SOFT_CAP},
    {70, 70, 4, 2, 3, 70, 0, 3, 0, SINKS},
    {130, 130, 2, 1, 8, 130, 0, 1, 3, SOFT_CAP | SINKS},
    {3, 4, 4, 2, 8, 0, 70, 0, 5, SOFT_CAP | SINKS},
    {66, 66, 4, 2, 6, 66, 0, 0, 4, WIDE_VALUES},
    {9, 9, 2, 1, 576, 9, 0, 0, 512, WIDE_VALUES},
    {2, 9, 3, 1, 576, 0, 20, 0, 512, WIDE_VALUES | SINKS},
    {65, 65, 1, 1, 640, 65, 0, 0, 0, SOFT_CAP},
    {9, 9, 16, 2, 4, 9, 0, 1, 3, SINKS},
    {3, 4, 75, 1, 12, 0, 150, 0, 8, SOFT_CAP | WIDE_VALUES},
    {2, 2, 22, 2, 8, 0, 90, 0, 0, SINKS},
};

static void attention_prepare(operator_case *c)
{
    mixt_attributes *attributes = &c->attributes;
    attributes->heads = (int)c->p[2];
    attributes->kv_heads = (int)c->p[3];
    attributes->head_dim = (int)c->p[4];
    attributes->window = c->p[5];
    attributes->scale = 1 / sqrt((double)c->p[4]);
    attributes->value_dim = (int)c->p[8];
    attributes->soft_cap = (c->p[9] & SOFT_CAP) != 0 ? 1.5 : 0;
    int64_t values = c->p[8] > 0 && (c->p[9] & WIDE_VALUES) == 0 ? c->p[8] : c->p[4];
    c->request.in[ATTENTION_Q] = by_token(c, 1, c->p[2] * c->p[4]);
    c->request.in[ATTENTION_K] =
        c->p[5] > 0 ? by_token(c, 1, c->p[3] * c->p[4]) : fixed(c->p[6], c->p[3] * c->p[4]);
    c->request.in[ATTENTION_V] = c->request.in[ATTENTION_K];
    c->request.in[ATTENTION_V].size[1] = c->p[3] * values;
    c->request.in[ATTENTION_FIRST] = c->request.in[ATTENTION_LAST] =
        mixt_shape_integers(by_token(c, 1, 0));
    c->differentiable = SLOT(ATTENTION_Q) | SLOT(ATTENTION_K) | SLOT(ATTENTION_V);
    if ((c->p[9] & SINKS) != 0) {
        c->request.in[ATTENTION_SINKS] = fixed(c->p[2], 0);
        c->differentiable |= SLOT(ATTENTION_SINKS);
    }
    c->functional = SLOT(ATTENTION_Y) | SLOT(ATTENTION_LSE);
}

/* Documents: 1 borders at random, 2 a border every 50 rows and keys up to the border on the right
 * as well, 3 some rows see nothing. */
static void attention_fill(operator_case *c)
{
    int64_t window = c->p[5], begin = 0;
    for (int64_t t = 0; t < c->tokens; t++) {
        int64_t key_of_row = window > 0 ? t : c->p[6] - c->tokens + t;
        if (window > 0 && t % window == 0) {
            begin = t;
        }
        if ((c->p[7] == 1 && case_below(20) == 0) || (c->p[7] == 2 && t % 50 == 0)) {
            begin = t;
        }
        c->integer[ATTENTION_FIRST][t] = (int32_t)begin;
        c->integer[ATTENTION_LAST][t] = (int32_t)key_of_row;
        if (c->p[7] == 2) {
            c->integer[ATTENTION_LAST][t] =
                (int32_t)(begin + 49 < c->tokens ? begin + 49 : c->tokens - 1);
        }
        if (c->p[7] == 3 && t % 5 == 3) {
            c->integer[ATTENTION_LAST][t] = (int32_t)begin - 1;
        }
    }
}

static void attention_naive_row(const operator_case *c, int64_t t, int64_t head, double *const *out)
{
    int64_t heads = c->p[2], kv_heads = c->p[3], n = c->p[4], kv = head / (heads / kv_heads);
    int64_t values = c->p[8] > 0 ? c->p[8] : n, v_row = c->request.in[ATTENTION_V].size[1];
    const double *q = c->value[ATTENTION_Q] + (t * heads + head) * n;
    double *y = out[ATTENTION_Y] + (t * heads + head) * values, sum = 0;
    for (int64_t s = c->integer[ATTENTION_FIRST][t]; s <= c->integer[ATTENTION_LAST][t]; s++) {
        const double *k = c->value[ATTENTION_K] + (s * kv_heads + kv) * n;
        const double *v = c->value[ATTENTION_V] + s * v_row + kv * (v_row / kv_heads);
        double score = c->attributes.scale * product(q, k, n);
        score = (c->p[9] & SOFT_CAP) != 0 ? 1.5 * tanh(score / 1.5) : score;
        sum += exp(score);
        for (int64_t i = 0; i < values; i++) {
            y[i] += exp(score) * v[i];
        }
    }
    sum += (c->p[9] & SINKS) != 0 ? exp(c->value[ATTENTION_SINKS][head]) : 0;
    for (int64_t i = 0; i < values && sum > 0; i++) {
        y[i] /= sum;
    }
    out[ATTENTION_LSE][t * heads + head] = sum > 0 ? log(sum) : 0;
}

static void attention_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    for (int64_t i = 0; i < c->tokens * c->p[2]; i++) {
        attention_naive_row(c, i / c->p[2], i % c->p[2], out);
    }
}

/* shift: {T, capacity, d, window or 0, rows of the cache} */

static const int64_t shift_rows[][CASE_NUMBERS] = {
    {1, 1, 3, 1, 0}, {96, 128, 5, 32, 0}, {130, 130, 9, 130, 0}, {5, 7, 4, 0, 40}};

static void shift_prepare(operator_case *c)
{
    c->attributes.window = c->p[3];
    c->request.in[SHIFT_SOURCE] = c->p[3] > 0 ? by_token(c, 1, c->p[2]) : fixed(c->p[4], c->p[2]);
    c->request.in[SHIFT_FIRST] = c->request.in[SHIFT_LAST] = mixt_shape_integers(by_token(c, 1, 0));
    c->differentiable = SLOT(SHIFT_SOURCE);
    c->functional = SLOT(SHIFT_Y);
}

/* Borders of documents at random; every seventh row has the one before as its last, so that two
 * rows have one source, and every tenth has a first before its sequence. */
static void shift_fill(operator_case *c)
{
    int64_t window = c->p[3], begin = 0;
    for (int64_t t = 0; t < c->tokens; t++) {
        int64_t at = window > 0 ? t : c->p[4] - c->tokens + t;
        begin = case_below(8) == 0 || (window > 0 && t % window == 0) ? at : begin;
        c->integer[SHIFT_FIRST][t] = (int32_t)(t % 10 == 9 ? 0 : begin);
        c->integer[SHIFT_LAST][t] = (int32_t)(t % 7 == 6 ? at - 1 : at);
    }
}

static void shift_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    for (int64_t t = 0; t < c->tokens; t++) {
        int64_t least = c->p[3] > 0 ? t / c->p[3] * c->p[3] : 0;
        least = c->integer[SHIFT_FIRST][t] > least ? c->integer[SHIFT_FIRST][t] : least;
        for (int64_t i = 0; i < c->p[2] && c->integer[SHIFT_LAST][t] > least; i++) {
            out[SHIFT_Y][t * c->p[2] + i] =
                c->value[SHIFT_SOURCE][(c->integer[SHIFT_LAST][t] - 1) * c->p[2] + i];
        }
    }
}

/* add: {T, capacity, F}; swiglu: and the activation */

static const int64_t pair_rows[][CASE_NUMBERS] = {
    {1, 1, 1}, {3, 4, 5}, {130, 130, 7}, {65, 65, 257}};

static void pair_prepare(operator_case *c)
{
    c->request.in[ADD_A] = c->request.in[ADD_B] = by_token(c, 1, c->p[2]);
    c->differentiable = SLOT(ADD_A) | SLOT(ADD_B);
    c->functional = SLOT(ADD_Y);
}

static const int64_t swiglu_rows[][CASE_NUMBERS] = {
    {1, 1, 1, MIXT_ACTIVATION_SILU},       {3, 4, 5, MIXT_ACTIVATION_SILU},
    {130, 130, 7, MIXT_ACTIVATION_SILU},   {65, 65, 257, MIXT_ACTIVATION_SILU},
    {5, 6, 7, MIXT_ACTIVATION_GELU},       {65, 65, 257, MIXT_ACTIVATION_GELU},
    {20, 20, 17, MIXT_ACTIVATION_CLAMPED}, {65, 65, 257, MIXT_ACTIVATION_CLAMPED},
};

static void swiglu_prepare(operator_case *c)
{
    pair_prepare(c);
    c->attributes.activation = (mixt_activation)c->p[3];
}

/* For the clamp's sake larger numbers, none of them at its ends. */
static void swiglu_fill(operator_case *c)
{
    for (int64_t i = 0; i < 2 * c->tokens * c->p[2] && c->p[3] == MIXT_ACTIVATION_CLAMPED; i++) {
        double *x = &c->value[i % 2 == 0 ? SWIGLU_GATE : SWIGLU_UP][i / 2];
        *x = (double)(float)(*x * 5);
        *x = fabs(fabs(*x) - 7) < 0.01 ? 7.5 : *x;
    }
}

static double activate(int64_t activation, double gate, double up)
{
    if (activation == MIXT_ACTIVATION_GELU) {
        double inner = sqrt(2 / acos(-1)) * (gate + 0.044715 * pow(gate, 3));
        return 0.5 * gate * (1 + tanh(inner)) * up;
    }
    if (activation == MIXT_ACTIVATION_CLAMPED) {
        double g = fmin(gate, 7);
        return g / (1 + exp(-1.702 * g)) * (fmax(fmin(up, 7), -7) + 1);
    }
    return gate / (1 + exp(-gate)) * up;
}

static void swiglu_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    for (int64_t i = 0; i < c->tokens * c->p[2]; i++) {
        out[SWIGLU_Y][i] = activate(c->p[3], c->value[SWIGLU_GATE][i], c->value[SWIGLU_UP][i]);
    }
}

static void add_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    for (int64_t i = 0; i < c->tokens * c->p[2]; i++) {
        out[ADD_Y][i] = c->value[ADD_A][i] + c->value[ADD_B][i];
    }
}

/* take: {T, capacity, d, R} */

static const int64_t take_rows[][CASE_NUMBERS] = {{1, 1, 1, 1}, {9, 12, 5, 3}, {3, 3, 8, 7}};

static void take_prepare(operator_case *c)
{
    c->request.in[TAKE_X] = by_token(c, 1, c->p[2]);
    c->request.in[TAKE_ROWS] = mixt_shape_integers(fixed(c->p[3], 0));
}

static void take_fill(operator_case *c)
{
    for (int64_t i = 0; i < c->p[3]; i++) {
        c->integer[TAKE_ROWS][i] = (int32_t)case_below(c->tokens);
    }
}

static void take_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    for (int64_t i = 0; i < c->p[3] * c->p[2]; i++) {
        out[TAKE_Y][i] =
            c->value[TAKE_X][c->integer[TAKE_ROWS][i / c->p[2]] * c->p[2] + i % c->p[2]];
    }
}

/* route: {T, capacity, d, E, k, score, flags, groups * 16 + groups used} */

enum {
    RENORMALISE = 1,
    BIAS = 2,
    GSHARD = 4,
    SCALED = 8,
    NO_LOSSES = 16,
    LOGIT_BIAS = 32,
    NORMALISE = 64,
    CAP = 128,
    ATTENTION = 256,
    TOP_TWO = 512,
    MASK = 1024,   /* every third expert, the first of them 1 */
    FORCED = 2048, /* the second choice: expert 2 */
    HASH = 4096,
};

static const int64_t route_rows[][CASE_NUMBERS] = {
    {1, 1, 3, 2, 1, MIXT_SCORE_SOFTMAX, 0},
    {1, 2, 3, 1, 1, MIXT_SCORE_SOFTMAX, 0},
    {9, 9, 5, 4, 2, MIXT_SCORE_SOFTMAX, RENORMALISE},
    {130, 150, 16, 8, 2, MIXT_SCORE_SOFTMAX, RENORMALISE | BIAS},
    {70, 70, 6, 5, 5, MIXT_SCORE_SOFTMAX, RENORMALISE | GSHARD},
    {33, 40, 12, 60, 4, MIXT_SCORE_SOFTMAX, SCALED},
    {33, 33, 12, 17, 3, MIXT_SCORE_SOFTMAX, GSHARD | BIAS},
    {20, 20, 8, 8, 2, MIXT_SCORE_TOP_K_SOFTMAX, 0},
    {65, 65, 9, 33, 4, MIXT_SCORE_TOP_K_SOFTMAX, SCALED | BIAS},
    {20, 20, 8, 8, 1, MIXT_SCORE_SIGMOID, 0},
    {65, 80, 9, 20, 6, MIXT_SCORE_SIGMOID, RENORMALISE | BIAS | SCALED},
    {20, 20, 8, 8, 2, MIXT_SCORE_SIGMOID, RENORMALISE | NO_LOSSES},
    {40, 50, 9, 12, 4, MIXT_SCORE_TOP_K_SOFTMAX, LOGIT_BIAS},
    {300, 300, 7, 16, 2, MIXT_SCORE_SOFTMAX, RENORMALISE | NORMALISE},
    {33, 40, 8, 9, 3, MIXT_SCORE_SOFTMAX, NORMALISE | LOGIT_BIAS | CAP},
    {20, 20, 8, 6, 2, MIXT_SCORE_SIGMOID, CAP | RENORMALISE},
    {50, 64, 6, 10, 2, MIXT_SCORE_SOFTMAX, ATTENTION | RENORMALISE},
    {20, 20, 5, 7, 2, MIXT_SCORE_TOP_K_SOFTMAX, ATTENTION | LOGIT_BIAS | NORMALISE | CAP},
    {64, 64, 8, 24, 3, MIXT_SCORE_SOFTMAX, SCALED, 6 * 16 + 2},
    {64, 64, 8, 32, 5, MIXT_SCORE_SIGMOID, RENORMALISE | BIAS | SCALED | TOP_TWO, 8 * 16 + 4},
    {33, 33, 8, 20, 4, MIXT_SCORE_SIGMOID, RENORMALISE | BIAS | TOP_TWO | MASK, 4 * 16 + 2},
    {33, 33, 8, 12, 4, MIXT_SCORE_TOP_K_SOFTMAX, MASK | FORCED},
    {33, 33, 8, 12, 3, MIXT_SCORE_SOFTMAX, RENORMALISE | FORCED, 4 * 16 + 1},
    {70, 80, 8, 12, 3, MIXT_SCORE_SOFTMAX, HASH | RENORMALISE},
    {33, 33, 8, 9, 1, MIXT_SCORE_SOFTMAX, HASH | RENORMALISE},
    {33, 33, 8, 9, 9, MIXT_SCORE_SIGMOID, HASH | SCALED},
    {33, 33, 8, 12, 4, MIXT_SCORE_TOP_K_SOFTMAX, HASH | MASK | FORCED | GSHARD},
};

static bool route_has(const operator_case *c, int64_t flag)
{
    return (c->p[6] & flag) != 0;
}

static void route_prepare(operator_case *c)
{
    static const uint8_t mask[60] = {0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1};
    static const int32_t forced[8] = {-1, 2, -1, -1, -1, -1, -1, -1};
    c->spec = (mixt_router_spec){
        .experts = (int)c->p[3],
        .chosen = (int)c->p[4],
        .options =
            {
                .logits = route_has(c, ATTENTION) ? MIXT_LOGITS_ATTENTION : MIXT_LOGITS_LINEAR,
                .logit_bias = route_has(c, LOGIT_BIAS),
                .normalise = route_has(c, NORMALISE) ? 1.5 : 0,
                .soft_cap = route_has(c, CAP) ? 3 : 0,
                .groups = (int)c->p[7] / 16,
                .groups_used = (int)c->p[7] % 16,
                .group_score = route_has(c, TOP_TWO) ? MIXT_GROUP_TOP_TWO : MIXT_GROUP_MAX,
                .select = route_has(c, HASH) ? 1 : 0,
                .score = (mixt_score)c->p[5],
                .renormalise = route_has(c, RENORMALISE),
                .scale = route_has(c, SCALED) ? 2.5 : 1,
                .balance = route_has(c, GSHARD) ? MIXT_BALANCE_GSHARD : MIXT_BALANCE_SWITCH,
            },
        .mask = route_has(c, MASK) ? mask : NULL,
        .forced = route_has(c, FORCED) ? forced : NULL,
    };
    c->attributes.router = &c->spec;
    c->attributes.balance_weight = route_has(c, NO_LOSSES) ? 0 : 0.7;
    c->attributes.z_weight = route_has(c, NO_LOSSES) ? 0 : 0.3;
    c->request.in[ROUTE_X] = by_token(c, 1, c->p[2]);
    c->request.in[ROUTE_WEIGHT] = fixed(route_has(c, ATTENTION) ? 3 * c->p[3] : c->p[3], c->p[2]);
    if (route_has(c, BIAS)) {
        c->request.in[ROUTE_SELECT_BIAS] = fixed(c->p[3], 0);
    }
    c->request.in[ROUTE_SCALE] = fixed(MIXT_SCALES, 0);
    c->differentiable = SLOT(ROUTE_X) | SLOT(ROUTE_WEIGHT);
    if (route_has(c, LOGIT_BIAS)) {
        c->request.in[ROUTE_LOGIT_BIAS] = fixed(c->p[3], 0);
        c->differentiable |= SLOT(ROUTE_LOGIT_BIAS);
    }
    if (route_has(c, HASH)) {
        c->request.in[ROUTE_TOKENS] = mixt_shape_integers(by_token(c, 1, 0));
    }
    c->functional = SLOT(ROUTE_WEIGHTS) | SLOT(ROUTE_LOSSES);
}

static void route_fill(operator_case *c)
{
    double scale = c->value[ROUTE_SCALE][MIXT_SCALE_ROUTER];
    for (int64_t t = 0; t < c->tokens && c->integer[ROUTE_TOKENS] != NULL; t++) {
        c->integer[ROUTE_TOKENS][t] = (int32_t)case_below(1000);
    }
    for (int64_t i = 0; i < c->p[3] && c->value[ROUTE_SELECT_BIAS] != NULL; i++) {
        c->value[ROUTE_SELECT_BIAS][i] *= 0.125;
    }
    /* softmax of products: large logits would leave one expert for each */
    for (int64_t i = 0; i < 3 * c->p[3] * c->p[2] && route_has(c, ATTENTION); i++) {
        c->value[ROUTE_WEIGHT][i] *= 0.375;
    }
    c->implied[ROUTE_LOSSES] = calloc(ROUTE_LOSS_COUNT, sizeof(double));
    c->implied[ROUTE_LOSSES][ROUTE_LOSS_BALANCE] = scale * c->attributes.balance_weight;
    c->implied[ROUTE_LOSSES][ROUTE_LOSS_Z] = scale * c->attributes.z_weight;
}

static void route_naive_logits(const operator_case *c, const double *x, double *logits)
{
    int64_t experts = c->p[3], d = c->p[2];
    double raw[3][64], mean = 0, squares = 0;
    for (int64_t i = 0; i < c->request.in[ROUTE_WEIGHT].size[0]; i++) {
        raw[i / experts][i % experts] = product(x, c->value[ROUTE_WEIGHT] + i * d, d);
    }
    for (int64_t i = 0; i < experts; i++) {
        double sum = 0, weighted = 0;
        for (int64_t j = 0; j < experts && route_has(c, ATTENTION); j++) {
            sum += exp(raw[0][i] * raw[1][j]);
            weighted += exp(raw[0][i] * raw[1][j]) * raw[2][j];
        }
        logits[i] = route_has(c, ATTENTION) ? weighted / sum : raw[0][i];
        logits[i] += route_has(c, LOGIT_BIAS) ? c->value[ROUTE_LOGIT_BIAS][i] : 0;
        mean += logits[i] / (double)experts;
    }
    for (int64_t i = 0; i < experts; i++) {
        squares += pow(logits[i] - mean, 2);
    }
    for (int64_t i = 0; i < experts; i++) {
        if (route_has(c, NORMALISE)) {
            logits[i] *= 1.5 / sqrt(squares / (double)(experts - 1));
        }
        if (route_has(c, CAP)) {
            logits[i] = 3 * tanh(logits[i] / 3);
        }
    }
}

static void route_naive_scores(const operator_case *c, const double *logits, double *scores,
                               double *log_sum)
{
    double sum = 0;
    for (int e = 0; e < c->spec.experts; e++) {
        sum += exp(logits[e]);
    }
    for (int e = 0; e < c->spec.experts; e++) {
        scores[e] =
            c->p[5] == MIXT_SCORE_SIGMOID ? 1 / (1 + exp(-logits[e])) : exp(logits[e]) / sum;
    }
    *log_sum = log(sum);
}

/* Marks the best of n values that are not marked yet and returns it. */
static int route_take_best(const double *values, int n, bool *taken)
{
    int best = -1;
    for (int i = 0; i < n; i++) {
        if (!taken[i] && (best < 0 || values[i] > values[best])) {
            best = i;
        }
    }
    taken[best] = true;
    return best;
}

/* Marks the experts outside the best groups. */
static void route_naive_groups(const operator_case *c, const double *values, bool *taken)
{
    int groups = c->spec.options.groups, size = c->spec.experts / groups;
    double scores[64];
    bool used[64] = {false};
    for (int g = 0; g < groups; g++) {
        bool seen[64];
        memcpy(seen, taken, sizeof seen);
        scores[g] = values[g * size + route_take_best(values + g * size, size, seen + g * size)];
        if (route_has(c, TOP_TWO)) {
            scores[g] +=
                values[g * size + route_take_best(values + g * size, size, seen + g * size)];
        }
    }
    for (int i = 0; i < c->spec.options.groups_used; i++) {
        (void)route_take_best(scores, groups, used);
    }
    for (int e = 0; e < c->spec.experts; e++) {
        taken[e] = taken[e] || !used[e / size];
    }
}

/* The next expert of a token by its hash: a place among those that are left, the first of which
 * then goes where the taken one was. `left` [64] begins as all that may be chosen. */
static int route_take_drawn(int32_t token, int draw, int count, int *left)
{
    mixt_random_key table = {0, MIXT_RANDOM_ROUTER, 0};
    uint64_t index = (uint64_t)token * MIXT_EXPERTS_MAX + (uint64_t)draw;
    int place = (int)mixt_random_below(&table, index, (uint64_t)(count - draw));
    int found = left[draw + place];
    left[draw + place] = left[draw];
    return found;
}

/* Choices and weights of token t, the largest first by looking through all k times. */
static void route_naive_row(const operator_case *c, int64_t t, const double *logits,
                            const double *scores, int32_t *ids, double *weights)
{
    double sum = 0, values[64];
    bool after = c->p[5] == MIXT_SCORE_TOP_K_SOFTMAX;
    bool taken[64] = {false};
    for (int e = 0; e < c->spec.experts; e++) {
        values[e] = (after ? logits[e] : scores[e]) +
                    (c->value[ROUTE_SELECT_BIAS] != NULL ? c->value[ROUTE_SELECT_BIAS][e] : 0);
        taken[e] = route_has(c, MASK) && e % 3 == 1;
    }
    if (c->spec.options.groups > 0) {
        route_naive_groups(c, values, taken);
    }
    taken[2] = taken[2] || route_has(c, FORCED);
    int left[64], count = 0;
    for (int e = 0; e < c->spec.experts; e++) {
        if (!taken[e]) {
            left[count++] = e;
        }
    }
    for (int j = 0, draw = 0; j < c->spec.chosen; j++) {
        int best = route_has(c, FORCED) && j == 1 ? 2
                   : route_has(c, HASH)
                       ? route_take_drawn(c->integer[ROUTE_TOKENS][t], draw++, count, left)
                       : route_take_best(values, c->spec.experts, taken);
        ids[j] = best;
        weights[j] = after ? exp(logits[best]) : scores[best];
        sum += weights[j];
    }
    for (int j = 0; j < c->spec.chosen; j++) {
        weights[j] *= c->spec.options.scale / (after || c->spec.options.renormalise ? sum : 1);
    }
}

static void route_naive_record(const operator_case *c, int32_t *const *integer_out)
{
    int32_t p = 0;
    for (int e = 0; e < c->spec.experts; e++) {
        integer_out[ROUTE_OFFSETS][e] = p;
        for (int64_t i = 0; i < c->tokens * c->spec.chosen; i++) {
            if (integer_out[ROUTE_IDS][i] == e) {
                integer_out[ROUTE_ORDER][p] = (int32_t)i;
                integer_out[ROUTE_PLACE][i] = p++;
            }
        }
        integer_out[ROUTE_COUNTS][e] = p - integer_out[ROUTE_OFFSETS][e];
    }
    integer_out[ROUTE_OFFSETS][c->spec.experts] = p;
}

static void route_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    int64_t experts = c->p[3], d = c->p[2], chosen = c->p[4];
    double scores[64], mean[64] = {0}, share[64] = {0}, log_sum;
    for (int64_t t = 0; t < c->tokens; t++) {
        double *logits = out[ROUTE_SCORES] + t * experts, sum = 0;
        route_naive_logits(c, c->value[ROUTE_X] + t * d, logits);
        route_naive_scores(c, logits, scores, &log_sum);
        route_naive_row(c, t, logits, scores, integer_out[ROUTE_IDS] + t * chosen,
                        out[ROUTE_WEIGHTS] + t * chosen);
        for (int64_t e = 0; e < experts; e++) {
            sum += scores[e];
        }
        for (int64_t e = 0; e < experts; e++) {
            mean[e] += scores[e] / sum / (double)c->tokens;
        }
        bool first_only = c->spec.options.balance == MIXT_BALANCE_GSHARD;
        for (int64_t j = 0; j < (first_only ? 1 : chosen); j++) {
            share[integer_out[ROUTE_IDS][t * chosen + j]] +=
                1 / (double)(first_only ? c->tokens : c->tokens * chosen);
        }
        out[ROUTE_LOSSES][ROUTE_LOSS_Z] += log_sum * log_sum / (double)c->tokens;
    }
    for (int64_t t = 0; t < c->tokens; t++) {
        integer_out[ROUTE_FINITE][t] = 1;
    }
    out[ROUTE_LOSSES][ROUTE_LOSS_BALANCE] = (double)experts * product(mean, share, experts);
    route_naive_record(c, integer_out);
}

/* dispatch, combine: {T, capacity, d, k, E, percent of choices that are of no expert} */

static const int64_t dispatch_rows[][CASE_NUMBERS] = {
    {1, 1, 1, 1, 1},          {5, 7, 3, 2, 4},       {100, 128, 17, 3, 8}, {40, 40, 33, 2, 3},
    {100, 128, 17, 3, 8, 30}, {60, 60, 5, 2, 4, 90}, {3, 3, 5, 2, 4, 100},
};

/* A place for every choice: the order of random experts. */
static void random_places(const operator_case *c, int32_t *offsets, int32_t *order, int32_t *place)
{
    int64_t choices = c->tokens * c->p[3];
    int32_t *expert = malloc((size_t)choices * sizeof *expert), p = 0;
    for (int64_t i = 0; i < choices; i++) {
        expert[i] = case_below(100) < c->p[5] ? -1 : (int32_t)case_below(c->p[4]);
        place[i] = -1;
    }
    for (int64_t e = 0; e < c->p[4]; e++) {
        for (int64_t i = 0; i < choices; i++) {
            if (expert[i] == e) {
                place[i] = p;
                if (order != NULL) {
                    order[p] = (int32_t)i;
                }
                p++;
            }
        }
        if (offsets != NULL) {
            offsets[e] = e == 0 ? 0 : offsets[e];
            offsets[e + 1] = p;
        }
    }
    free(expert);
}

static void dispatch_prepare(operator_case *c)
{
    c->request.in[DISPATCH_X] = by_token(c, 1, c->p[2]);
    c->request.in[DISPATCH_OFFSETS] = mixt_shape_integers(fixed(c->p[4] + 1, 0));
    c->request.in[DISPATCH_ORDER] = mixt_shape_integers(by_token(c, c->p[3], 0));
    c->request.in[DISPATCH_PLACE] = mixt_shape_integers(by_token(c, 1, c->p[3]));
    c->differentiable = SLOT(DISPATCH_X);
    c->functional = SLOT(DISPATCH_ROWS);
    c->ragged_out = c->p[5] > 0 ? SLOT(DISPATCH_ROWS) : 0;
}

static void dispatch_fill(operator_case *c)
{
    random_places(c, c->integer[DISPATCH_OFFSETS], c->integer[DISPATCH_ORDER],
                  c->integer[DISPATCH_PLACE]);
}

static void dispatch_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    int64_t d = c->p[2], k = c->p[3];
    for (int64_t i = 0; i < c->tokens * k * d; i++) {
        int64_t row = c->integer[DISPATCH_PLACE][i / d];
        if (row >= 0) {
            out[DISPATCH_ROWS][row * d + i % d] = c->value[DISPATCH_X][i / d / k * d + i % d];
        }
    }
}

static void combine_prepare(operator_case *c)
{
    c->request.in[COMBINE_ROWS] = by_token(c, c->p[3], c->p[2]);
    c->request.in[COMBINE_WEIGHTS] = by_token(c, 1, c->p[3]);
    c->request.in[COMBINE_PLACE] = mixt_shape_integers(by_token(c, 1, c->p[3]));
    c->differentiable = SLOT(COMBINE_ROWS) | SLOT(COMBINE_WEIGHTS);
    c->functional = SLOT(COMBINE_Y);
    c->ragged_in = c->p[5] > 0 ? SLOT(COMBINE_ROWS) : 0;
}

static void combine_fill(operator_case *c)
{
    random_places(c, NULL, NULL, c->integer[COMBINE_PLACE]);
}

static void combine_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    int64_t d = c->p[2], k = c->p[3];
    for (int64_t i = 0; i < c->tokens * k * d; i++) {
        int64_t row = c->integer[COMBINE_PLACE][i / d];
        out[COMBINE_Y][i / d / k * d + i % d] +=
            row < 0 ? 0
                    : c->value[COMBINE_WEIGHTS][i / d] * c->value[COMBINE_ROWS][row * d + i % d];
    }
}

/* experts: {T, capacity, d, F, E, k, how rows are spread, activation + 4 with biases, percent of
 * choices that are of no expert} */

enum { SPREAD, ALL_IN_ONE, ODD_ONES_EMPTY };

static const int64_t experts_rows[][CASE_NUMBERS] = {
    {1, 1, 1, 1, 1, 1, SPREAD},
    {1, 2, 5, 7, 4, 2, SPREAD},
    {40, 50, 9, 13, 6, 2, SPREAD},
    {33, 33, 16, 24, 5, 1, ALL_IN_ONE},
    {64, 64, 7, 5, 9, 3, SPREAD},
    {70, 70, 12, 8, 7, 2, ODD_ONES_EMPTY},
    {300, 300, 8, 16, 3, 2, ALL_IN_ONE},
    {40, 50, 9, 13, 6, 2, SPREAD, MIXT_ACTIVATION_GELU},
    {70, 70, 12, 8, 7, 2, ODD_ONES_EMPTY, 4 + MIXT_ACTIVATION_CLAMPED},
    {33, 33, 16, 24, 5, 1, ALL_IN_ONE, 4 + MIXT_ACTIVATION_SILU},
    {1, 2, 5, 7, 4, 2, SPREAD, 4 + MIXT_ACTIVATION_GELU},
    {40, 50, 9, 13, 6, 2, SPREAD, 0, 30},
    {70, 70, 12, 8, 7, 2, SPREAD, 4 + MIXT_ACTIVATION_CLAMPED, 60},
    {5, 5, 12, 8, 7, 2, SPREAD, 4 + MIXT_ACTIVATION_SILU, 100},
};

static void experts_prepare(operator_case *c)
{
    int64_t d = c->p[2], ffn = c->p[3], experts = c->p[4];
    c->request.in[EXPERTS_ROWS] = by_token(c, c->p[5], d);
    c->request.in[EXPERTS_OFFSETS] = mixt_shape_integers(fixed(experts + 1, 0));
    c->request.in[EXPERTS_W_GATE] = c->request.in[EXPERTS_W_UP] =
        mixt_shape_static(3, experts, ffn, d);
    c->request.in[EXPERTS_W_DOWN] = mixt_shape_static(3, experts, d, ffn);
    c->differentiable =
        SLOT(EXPERTS_ROWS) | SLOT(EXPERTS_W_GATE) | SLOT(EXPERTS_W_UP) | SLOT(EXPERTS_W_DOWN);
    c->attributes.activation = (mixt_activation)(c->p[7] % 4);
    if (c->p[7] >= 4) {
        c->request.in[EXPERTS_B_GATE] = c->request.in[EXPERTS_B_UP] = fixed(experts, ffn);
        c->request.in[EXPERTS_B_DOWN] = fixed(experts, d);
        c->differentiable |= SLOT(EXPERTS_B_GATE) | SLOT(EXPERTS_B_UP) | SLOT(EXPERTS_B_DOWN);
    }
    c->functional = SLOT(EXPERTS_Y);
    if (c->p[8] > 0) {
        c->ragged_in = SLOT(EXPERTS_ROWS);
        c->ragged_out =
            SLOT(EXPERTS_Y) | SLOT(EXPERTS_GATE) | SLOT(EXPERTS_UP) | SLOT(EXPERTS_HIDDEN);
    }
}

static void experts_fill(operator_case *c)
{
    int64_t experts = c->p[4];
    int32_t counts[16] = {0};
    for (int64_t i = 0; i < c->tokens * c->p[5]; i++) {
        int64_t e = c->p[6] == ALL_IN_ONE ? experts / 2 : case_below(experts);
        if (c->p[8] > 0 && case_below(100) < c->p[8]) {
            continue;
        }
        counts[c->p[6] == ODD_ONES_EMPTY ? e / 2 * 2 : e]++;
    }
    c->integer[EXPERTS_OFFSETS][0] = 0;
    for (int64_t e = 0; e < experts; e++) {
        c->integer[EXPERTS_OFFSETS][e + 1] = c->integer[EXPERTS_OFFSETS][e] + counts[e];
    }
}

static void experts_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    int64_t d = c->p[2], ffn = c->p[3];
    for (int64_t e = 0; e < c->p[4]; e++) {
        for (int64_t r = c->integer[EXPERTS_OFFSETS][e]; r < c->integer[EXPERTS_OFFSETS][e + 1];
             r++) {
            const double *row = c->value[EXPERTS_ROWS] + r * d;
            for (int64_t f = 0; f < ffn; f++) {
                double *gate = out[EXPERTS_GATE] + r * ffn + f, *up = out[EXPERTS_UP] + r * ffn + f;
                *gate = product(row, c->value[EXPERTS_W_GATE] + (e * ffn + f) * d, d);
                *up = product(row, c->value[EXPERTS_W_UP] + (e * ffn + f) * d, d);
                *gate += c->p[7] >= 4 ? c->value[EXPERTS_B_GATE][e * ffn + f] : 0;
                *up += c->p[7] >= 4 ? c->value[EXPERTS_B_UP][e * ffn + f] : 0;
                out[EXPERTS_HIDDEN][r * ffn + f] = activate(c->p[7] % 4, *gate, *up);
                for (int64_t i = 0; i < d; i++) {
                    out[EXPERTS_Y][r * d + i] += out[EXPERTS_HIDDEN][r * ffn + f] *
                                                 c->value[EXPERTS_W_DOWN][(e * d + i) * ffn + f];
                }
            }
            for (int64_t i = 0; i < d && c->p[7] >= 4; i++) {
                out[EXPERTS_Y][r * d + i] += c->value[EXPERTS_B_DOWN][e * d + i];
            }
        }
    }
}

/* loss: {T, capacity, d, V, one in so many ignored} */

static const int64_t loss_rows[][CASE_NUMBERS] = {
    {1, 1, 2, 3, 0}, {20, 30, 7, 65, 3}, {600, 700, 5, 33, 5}, {9, 9, 16, 1500, 0}, {3, 3, 4, 5, 1},
};

static void loss_prepare(operator_case *c)
{
    c->request.in[LOSS_X] = by_token(c, 1, c->p[2]);
    c->request.in[LOSS_WEIGHT] = fixed(c->p[3], c->p[2]);
    c->request.in[LOSS_TARGETS] = mixt_shape_integers(by_token(c, 1, 0));
    c->request.in[LOSS_SCALE] = fixed(MIXT_SCALES, 0);
    c->differentiable = SLOT(LOSS_X) | SLOT(LOSS_WEIGHT);
    c->functional = SLOT(LOSS_NLL);
}

static void loss_fill(operator_case *c)
{
    c->implied[LOSS_NLL] = calloc((size_t)c->request.capacity, sizeof(double));
    for (int64_t t = 0; t < c->tokens; t++) {
        bool ignored = c->p[4] > 0 && t % c->p[4] == 0;
        c->integer[LOSS_TARGETS][t] = ignored ? -1 : (int32_t)case_below(c->p[3]);
        c->implied[LOSS_NLL][t] = c->value[LOSS_SCALE][MIXT_SCALE_LOSS];
    }
}

static void loss_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    int64_t d = c->p[2], n = c->p[3];
    for (int64_t t = 0; t < c->tokens; t++) {
        double sum = 0;
        for (int64_t v = 0; v < n; v++) {
            out[LOSS_LOGITS][t * n + v] =
                product(c->value[LOSS_X] + t * d, c->value[LOSS_WEIGHT] + v * d, d);
            sum += exp(out[LOSS_LOGITS][t * n + v]);
        }
        int32_t target = c->integer[LOSS_TARGETS][t];
        out[LOSS_NLL][t] = target < 0 ? 0 : log(sum) - out[LOSS_LOGITS][t * n + target];
    }
}

/* adamw: {T, capacity, n} */

static const int64_t adamw_rows[][CASE_NUMBERS] = {{1, 1, 1}, {1, 1, 33}, {1, 1, 40001}};

static void adamw_prepare(operator_case *c)
{
    for (int i = 0; i < ADAMW_INPUTS; i++) {
        c->request.in[i] = fixed(c->p[2], 0);
    }
    c->adamw = (mixt_adamw_arguments){
        .scale = 0.5,
        .rate = 1e-3,
        .beta1 = 0.9,
        .beta2 = 0.95,
        .epsilon = 1e-8,
        .decay = 0.1,
        .correction1 = 1 - 0.9 * 0.9,
        .correction2 = 1 - 0.95 * 0.95,
    };
    c->attributes.adamw = &c->adamw;
}

static void adamw_fill(operator_case *c)
{
    for (int64_t i = 0; i < c->p[2]; i++) {
        c->value[ADAMW_V][i] = fabs(c->value[ADAMW_V][i]);
    }
}

static void adamw_naive(const operator_case *c, double *const *in, int32_t *const *integers)
{
    (void)integers;
    const mixt_adamw_arguments *step = &c->adamw;
    for (int64_t i = 0; i < c->p[2]; i++) {
        double g = step->scale * c->value[ADAMW_GRADIENT][i];
        in[ADAMW_M][i] = step->beta1 * c->value[ADAMW_M][i] + (1 - step->beta1) * g;
        in[ADAMW_V][i] = step->beta2 * c->value[ADAMW_V][i] + (1 - step->beta2) * g * g;
        double corrected = in[ADAMW_M][i] / step->correction1;
        double spread = sqrt(in[ADAMW_V][i] / step->correction2) + step->epsilon;
        in[ADAMW_WEIGHT][i] -=
            step->rate * (corrected / spread + step->decay * c->value[ADAMW_WEIGHT][i]);
    }
}

/* squares: {T, capacity, n} */

static const int64_t squares_rows[][CASE_NUMBERS] = {
    {1, 1, 1}, {1, 1, 65535}, {1, 1, 65536}, {1, 1, 65537}, {1, 1, 3 * 65536 + 5}};

static void squares_prepare(operator_case *c)
{
    c->request.in[SQUARES_X] = fixed(c->p[2], 0);
}

static void squares_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    for (int64_t i = 0; i < c->p[2]; i++) {
        double x = c->value[SQUARES_X][i];
        out[SQUARES_SUMS][i / MIXT_SQUARES_PART] += x * x;
    }
}

#define TABLE(name) name##_rows, (int)(sizeof name##_rows / sizeof name##_rows[0])

const operator_subject operator_subjects[MIXT_OP_COUNT] = {
    {MIXT_OP_embed, TABLE(embed), 1e-6, embed_prepare, embed_fill, embed_naive, SLOT(EMBED_TABLE),
     0},
    {MIXT_OP_norm, TABLE(norm), 4e-6, norm_prepare, norm_fill, norm_naive, 0, 0},
    {MIXT_OP_linear, TABLE(linear), 1e-5, linear_prepare, NULL, linear_naive, 0, SLOT(LINEAR_BIAS)},
    {MIXT_OP_head_linear, TABLE(head_linear), 1e-5, head_linear_prepare, NULL, head_linear_naive, 0,
     0},
    {MIXT_OP_rope, TABLE(rope), 1e-6, rope_prepare, rope_fill, rope_naive, 0, 0},
    {MIXT_OP_scale, TABLE(value), 1e-6, scale_prepare, NULL, scale_naive, SLOT(SCALE_X), 0},
    {MIXT_OP_clamp, TABLE(value), 0, clamp_prepare, clamp_fill, clamp_naive, SLOT(CLAMP_X), 0},
    {MIXT_OP_gate, TABLE(value), 4e-6, gate_prepare, NULL, gate_naive, SLOT(GATE_X), 0},
    {MIXT_OP_slice, TABLE(slice), 0, slice_prepare, NULL, slice_naive, 0, 0},
    {MIXT_OP_join, TABLE(join), 0, join_prepare, NULL, join_naive, 0, 0},
    {MIXT_OP_shift, TABLE(shift), 2e-7, shift_prepare, shift_fill, shift_naive, SLOT(SHIFT_SOURCE),
     0},
    {MIXT_OP_kv_write, TABLE(kv_write), 0, kv_write_prepare, kv_write_fill, kv_write_naive, 0, 0},
    {MIXT_OP_attention, TABLE(attention), 2e-5, attention_prepare, attention_fill, attention_naive,
     0, SLOT(ATTENTION_SINKS)},
    {MIXT_OP_swiglu, TABLE(swiglu), 2e-6, swiglu_prepare, swiglu_fill, swiglu_naive, 0, 0},
    {MIXT_OP_add, TABLE(pair), 1e-6, pair_prepare, NULL, add_naive, 0, 0},
    {MIXT_OP_take, TABLE(take), 0, take_prepare, take_fill, take_naive,
     SLOT(TAKE_X) | SLOT(TAKE_ROWS), 0},
    {MIXT_OP_route, TABLE(route), 2e-5, route_prepare, route_fill, route_naive, 0,
     SLOT(ROUTE_SELECT_BIAS)},
    {MIXT_OP_dispatch, TABLE(dispatch), 1e-6, dispatch_prepare, dispatch_fill, dispatch_naive,
     SLOT(DISPATCH_X) | SLOT(DISPATCH_OFFSETS), 0},
    {MIXT_OP_experts, TABLE(experts), 2e-5, experts_prepare, experts_fill, experts_naive, 0,
     SLOT(EXPERTS_B_GATE) | SLOT(EXPERTS_B_UP) | SLOT(EXPERTS_B_DOWN)},
    {MIXT_OP_combine, TABLE(dispatch), 4e-6, combine_prepare, combine_fill, combine_naive,
     SLOT(COMBINE_ROWS), 0},
    {MIXT_OP_loss, TABLE(loss), 2e-5, loss_prepare, loss_fill, loss_naive, 0, 0},
    {MIXT_OP_adamw, TABLE(adamw), 4e-6, adamw_prepare, adamw_fill, adamw_naive, 0, 0},
    {MIXT_OP_squares, TABLE(squares), 1e-6, squares_prepare, NULL, squares_naive, SLOT(SQUARES_X),
     0},
};
