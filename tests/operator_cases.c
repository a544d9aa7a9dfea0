#include "operator_cases.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t drawn;

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

double case_product(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

double case_activate(int64_t activation, double gate, double up)
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

static void linear_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    int64_t k = c->p[2], n = c->p[3];
    for (int64_t i = 0; i < c->tokens * n; i++) {
        out[LINEAR_Y][i] =
            case_product(c->value[LINEAR_X] + i / n * k, c->value[LINEAR_WEIGHT] + i % n * k, k) +
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
            case_product(c->value[HEAD_LINEAR_X] + i / n * k,
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

/* scale, clamp, sigmoid, gate: {T, capacity, d} */

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

static void sigmoid_prepare(operator_case *c)
{
    c->request.in[SIGMOID_X] = by_token(c, 1, c->p[2]);
    c->differentiable = SLOT(SIGMOID_X);
    c->functional = SLOT(SIGMOID_Y);
}

static void sigmoid_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    for (int64_t i = 0; i < c->tokens * c->p[2]; i++) {
        out[SIGMOID_Y][i] = 1 / (1 + exp(-c->value[SIGMOID_X][i]));
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

static void swiglu_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    for (int64_t i = 0; i < c->tokens * c->p[2]; i++) {
        out[SWIGLU_Y][i] = case_activate(c->p[3], c->value[SWIGLU_GATE][i], c->value[SWIGLU_UP][i]);
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
    int64_t d = c->p[2], n = c->p[3];
    for (int64_t t = 0; t < c->tokens; t++) {
        double sum = 0;
        for (int64_t v = 0; v < n; v++) {
            out[LOSS_LOGITS][t * n + v] =
                case_product(c->value[LOSS_X] + t * d, c->value[LOSS_WEIGHT] + v * d, d);
            sum += exp(out[LOSS_LOGITS][t * n + v]);
        }
        int32_t target = c->integer[LOSS_TARGETS][t];
        out[LOSS_NLL][t] = target < 0 ? 0 : log(sum) - out[LOSS_LOGITS][t * n + target];
        int32_t largest = 0;
        for (int32_t v = 1; v < n; v++) {
            double most = out[LOSS_LOGITS][t * n + largest];
            largest = out[LOSS_LOGITS][t * n + v] > most ? v : largest;
        }
        integer_out[LOSS_LIKELIEST][t] = target < 0 ? -1 : largest;
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

/* muon: {T, capacity, matrices, rows, columns, steps} */

static const int64_t muon_rows[][CASE_NUMBERS] = {{1, 1, 1, 1, 1, 5},  {1, 1, 1, 1, 9, 1},
                                                  {1, 1, 3, 5, 7, 3},  {1, 1, 2, 33, 17, 5},
                                                  {1, 1, 19, 8, 8, 5}, {1, 1, 1, 131, 140, 5}};

static void muon_prepare(operator_case *c)
{
    for (int i = 0; i < MUON_INPUTS; i++) {
        c->request.in[i] = mixt_shape_static(3, c->p[2], c->p[3], c->p[4]);
    }
    c->muon = (mixt_muon_arguments){
        .scale = 0.5, .rate = 0.01, .momentum = 0.95, .decay = 0.1, .steps = c->p[5]};
    c->attributes.muon = &c->muon;
}

/* One matrix without a gradient and without a past: nothing to divide by. */
static void muon_fill(operator_case *c)
{
    for (int64_t i = 0; i < c->p[3] * c->p[4] && c->p[2] == 3; i++) {
        c->value[MUON_GRADIENT][i] = c->value[MUON_M][i] = 0;
    }
}

/* to [rows, columns] = factor to + share a b, where b^T is given */
static void muon_product(double *to, const double *a, const double *b, const int64_t size[3],
                         const double numbers[2])
{
    for (int64_t i = 0; i < size[0]; i++) {
        for (int64_t j = 0; j < size[1]; j++) {
            double sum = case_product(a + i * size[2], b + j * size[2], size[2]);
            to[i * size[1] + j] = numbers[0] * to[i * size[1] + j] + numbers[1] * sum;
        }
    }
}

static void muon_transpose(double *to, const double *x, int64_t rows, int64_t columns)
{
    for (int64_t i = 0; i < rows * columns; i++) {
        to[i % columns * rows + i / columns] = x[i];
    }
}

/* x [rows, columns], rows by rows whichever is longer */
static void muon_orthogonal(double *x, int64_t rows, int64_t columns, int64_t steps)
{
    double *gram = calloc((size_t)(rows * rows), sizeof *gram), norm = 0;
    double *sum = calloc((size_t)(rows * rows), sizeof *sum);
    double *turned = calloc((size_t)(rows * columns), sizeof *turned);
    for (int64_t i = 0; i < rows * columns; i++) {
        norm += x[i] * x[i];
    }
    for (int64_t i = 0; i < rows * columns; i++) {
        x[i] /= fmax(sqrt(norm), 1e-7);
    }
    for (int64_t step = 0; step < steps; step++) {
        muon_product(gram, x, x, (int64_t[]){rows, rows, columns}, (double[]){0, 1});
        memcpy(sum, gram, (size_t)(rows * rows) * sizeof *sum);
        muon_product(sum, gram, gram, (int64_t[]){rows, rows, rows}, (double[]){-4.7750, 2.0315});
        muon_transpose(turned, x, rows, columns);
        muon_product(x, sum, turned, (int64_t[]){rows, columns, rows}, (double[]){3.4445, 1});
    }
    free(gram);
    free(sum);
    free(turned);
}

/* Every matrix as it lies: the longer side only decides what is quicker. */
static void muon_naive(const operator_case *c, double *const *in, int32_t *const *integers)
{
    (void)integers;
    int64_t rows = c->p[3], columns = c->p[4], values = rows * columns;
    const mixt_muon_arguments *step = &c->muon;
    double *x = calloc((size_t)values, sizeof *x);
    for (int64_t e = 0; e < c->p[2]; e++) {
        for (int64_t i = 0; i < values; i++) {
            double g = step->scale * c->value[MUON_GRADIENT][e * values + i];
            double *m = &in[MUON_M][e * values + i];
            *m = c->value[MUON_M][e * values + i] * step->momentum + (1 - step->momentum) * g;
            x[i] = step->momentum * *m + (1 - step->momentum) * g;
        }
        muon_orthogonal(x, rows, columns, step->steps);
        for (int64_t i = 0; i < values; i++) {
            double length = 0.2 * sqrt((double)(rows > columns ? rows : columns));
            in[MUON_WEIGHT][e * values + i] =
                c->value[MUON_WEIGHT][e * values + i] * (1 - step->rate * step->decay) -
                step->rate * length * x[i];
        }
    }
    free(x);
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

static const operator_subject embed_subject = {
    MIXT_OP_embed, TABLE(embed),      1e-6, embed_prepare, embed_fill,
    embed_naive,   SLOT(EMBED_TABLE), 0};
static const operator_subject norm_subject = {MIXT_OP_norm, TABLE(norm), 4e-6, norm_prepare,
                                              norm_fill,    norm_naive,  0,    0};
static const operator_subject linear_subject = {
    MIXT_OP_linear, TABLE(linear), 1e-5, linear_prepare, NULL, linear_naive, 0, SLOT(LINEAR_BIAS)};
static const operator_subject head_linear_subject = {MIXT_OP_head_linear,
                                                     TABLE(head_linear),
                                                     1e-5,
                                                     head_linear_prepare,
                                                     NULL,
                                                     head_linear_naive,
                                                     0,
                                                     0};
static const operator_subject rope_subject = {MIXT_OP_rope, TABLE(rope), 1e-6, rope_prepare,
                                              rope_fill,    rope_naive,  0,    0};
static const operator_subject scale_subject = {
    MIXT_OP_scale, TABLE(value), 1e-6, scale_prepare, NULL, scale_naive, SLOT(SCALE_X), 0};
static const operator_subject clamp_subject = {
    MIXT_OP_clamp, TABLE(value), 0, clamp_prepare, clamp_fill, clamp_naive, SLOT(CLAMP_X), 0};
static const operator_subject sigmoid_subject = {
    MIXT_OP_sigmoid, TABLE(value), 4e-6, sigmoid_prepare, NULL, sigmoid_naive, SLOT(SIGMOID_X), 0};
static const operator_subject gate_subject = {MIXT_OP_gate, TABLE(value), 4e-6, gate_prepare, NULL,
                                              gate_naive,   SLOT(GATE_X), 0};
static const operator_subject slice_subject = {MIXT_OP_slice, TABLE(slice), 0, slice_prepare,
                                               NULL,          slice_naive,  0, 0};
static const operator_subject join_subject = {MIXT_OP_join, TABLE(join), 0, join_prepare,
                                              NULL,         join_naive,  0, 0};
static const operator_subject swiglu_subject = {MIXT_OP_swiglu, TABLE(swiglu), 2e-6, swiglu_prepare,
                                                swiglu_fill,    swiglu_naive,  0,    0};
static const operator_subject add_subject = {MIXT_OP_add, TABLE(pair), 1e-6, pair_prepare,
                                             NULL,        add_naive,   0,    0};
static const operator_subject take_subject = {MIXT_OP_take,
                                              TABLE(take),
                                              0,
                                              take_prepare,
                                              take_fill,
                                              take_naive,
                                              SLOT(TAKE_X) | SLOT(TAKE_ROWS),
                                              0};
static const operator_subject loss_subject = {MIXT_OP_loss, TABLE(loss), 2e-5, loss_prepare,
                                              loss_fill,    loss_naive,  0,    0};
static const operator_subject adamw_subject = {MIXT_OP_adamw, TABLE(adamw), 4e-6, adamw_prepare,
                                               adamw_fill,    adamw_naive,  0,    0};
static const operator_subject muon_subject = {MIXT_OP_muon, TABLE(muon), 2e-5, muon_prepare,
                                              muon_fill,    muon_naive,  0,    0};
static const operator_subject squares_subject = {
    MIXT_OP_squares, TABLE(squares),  1e-6, squares_prepare, NULL,
    squares_naive,   SLOT(SQUARES_X), 0};

const operator_subject *const operator_subjects[MIXT_OP_COUNT] = {
    [MIXT_OP_embed] = &embed_subject,
    [MIXT_OP_norm] = &norm_subject,
    [MIXT_OP_linear] = &linear_subject,
    [MIXT_OP_head_linear] = &head_linear_subject,
    [MIXT_OP_rope] = &rope_subject,
    [MIXT_OP_scale] = &scale_subject,
    [MIXT_OP_clamp] = &clamp_subject,
    [MIXT_OP_sigmoid] = &sigmoid_subject,
    [MIXT_OP_gate] = &gate_subject,
    [MIXT_OP_slice] = &slice_subject,
    [MIXT_OP_join] = &join_subject,
    [MIXT_OP_shift] = &shift_subject,
    [MIXT_OP_cache_round] = &cache_round_subject,
    [MIXT_OP_kv_write] = &kv_write_subject,
    [MIXT_OP_attention] = &attention_subject,
    [MIXT_OP_latent] = &latent_subject,
    [MIXT_OP_swiglu] = &swiglu_subject,
    [MIXT_OP_add] = &add_subject,
    [MIXT_OP_take] = &take_subject,
    [MIXT_OP_route] = &route_subject,
    [MIXT_OP_pool] = &pool_subject,
    [MIXT_OP_jitter] = &jitter_subject,
    [MIXT_OP_dispatch] = &dispatch_subject,
    [MIXT_OP_low_rank] = &low_rank_subject,
    [MIXT_OP_experts] = &experts_subject,
    [MIXT_OP_exchange] = &exchange_subject,
    [MIXT_OP_arrive] = &arrive_subject,
    [MIXT_OP_give_back] = &give_back_subject,
    [MIXT_OP_far_experts] = &far_experts_subject,
    [MIXT_OP_combine] = &combine_subject,
    [MIXT_OP_loss] = &loss_subject,
    [MIXT_OP_competitive] = &competitive_subject,
    [MIXT_OP_adamw] = &adamw_subject,
    [MIXT_OP_muon] = &muon_subject,
    [MIXT_OP_squares] = &squares_subject,
};
