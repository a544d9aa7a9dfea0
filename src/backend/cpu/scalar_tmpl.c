/* The scalar kernels: what every tier must compute, bit for bit. Compiled twice (core/real.h), and
 * once more with fused multiply-add instructions for fp64 (avx2_double.c). */
#include <assert.h>

#include "backend/cpu/tiers.h"

#include "core/real.h"

#define TILE_ROWS MIXT_SCALAR_TILE_ROWS
#define TILE_COLUMNS MIXT_SCALAR_TILE_COLUMNS(real)
#define LANES 16

/* Lane j takes lane j + 8, then j + 4, j + 2, j + 1. */
static real fold(real *lane)
{
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int j = 0; j < half; j++) {
            lane[j] += lane[j + half];
        }
    }
    return lane[0];
}

static real kernel_dot(int64_t n, const real *a, const real *b)
{
    real lane[LANES] = {0};
    for (int64_t i = 0; i < n; i++) {
        lane[i % LANES] = MIXT_FMA(a[i], b[i], lane[i % LANES]);
    }
    return fold(lane);
}

static real kernel_sum(int64_t n, const real *a)
{
    real lane[LANES] = {0};
    for (int64_t i = 0; i < n; i++) {
        lane[i % LANES] += a[i];
    }
    return fold(lane);
}

/* The later of two equal values (-0 and +0) is kept in no lane: `greater` alone replaces. */
static real kernel_max(int64_t n, const real *a)
{
    assert(n >= 1);
    real lane[LANES];
    for (int j = 0; j < LANES; j++) {
        lane[j] = (real)-INFINITY;
    }
    for (int64_t i = 0; i < n; i++) {
        if (a[i] != a[i]) {
            return a[i];
        }
        real *most = &lane[i % LANES];
        *most = a[i] > *most ? a[i] : *most;
    }
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int j = 0; j < half; j++) {
            lane[j] = lane[j + half] > lane[j] ? lane[j + half] : lane[j];
        }
    }
    return lane[0];
}

static void kernel_add(int64_t n, real *y, const real *a, const real *b)
{
    for (int64_t i = 0; i < n; i++) {
        y[i] = a[i] + b[i];
    }
}

static void kernel_axpy(int64_t n, real *y, real alpha, const real *x)
{
    for (int64_t i = 0; i < n; i++) {
        y[i] = MIXT_FMA(alpha, x[i], y[i]);
    }
}

static void kernel_scale(int64_t n, real *y, real alpha, const real *x)
{
    for (int64_t i = 0; i < n; i++) {
        y[i] = alpha * x[i];
    }
}

static void kernel_multiply(int64_t n, real *y, const real *a, const real *b)
{
    for (int64_t i = 0; i < n; i++) {
        y[i] = a[i] * b[i];
    }
}

static real kernel_exp_sum(int64_t n, real *y, const real *x, real shift)
{
    real lane[LANES] = {0};
    for (int64_t i = 0; i < n; i++) {
        real value = MIXT_REAL(mixt_exp)(x[i] - shift);
        y[i] = value;
        lane[i % LANES] += value;
    }
    return fold(lane);
}

static void kernel_swiglu(int64_t n, real *y, const real *gate, const real *up)
{
    for (int64_t i = 0; i < n; i++) {
        y[i] = (gate[i] / (1 + MIXT_REAL(mixt_exp)(-gate[i]))) * up[i];
    }
}

/* silu'(z) = s (1 + z (1 - s)) with s = 1 / (1 + exp(-z)). */
static void kernel_swiglu_backward(int64_t n, real *dgate, real *dup, const real *gate,
                                   const real *up, const real *dy)
{
    for (int64_t i = 0; i < n; i++) {
        real z = gate[i];
        real s = 1 / (1 + MIXT_REAL(mixt_exp)(-z));
        real slope = s * MIXT_FMA(z, 1 - s, 1);
        real to_gate = (dy[i] * up[i]) * slope;
        dup[i] = dy[i] * (z * s);
        dgate[i] = to_gate;
    }
}

/* The exponent of gelu's sigmoid, given z^2. */
static inline real gelu_exponent(real z, real square)
{
    return z * MIXT_FMA((real)MIXT_GELU_C1, square, (real)MIXT_GELU_C0);
}

static void kernel_geglu(int64_t n, real *y, const real *gate, const real *up)
{
    for (int64_t i = 0; i < n; i++) {
        real z = gate[i];
        y[i] = (z / (1 + MIXT_REAL(mixt_exp)(-gelu_exponent(z, z * z)))) * up[i];
    }
}

/* gelu'(z) = s (1 + z (1 - s) w') with s = 1 / (1 + exp(-w)), w' = C0 + 3 C1 z^2. */
static void kernel_geglu_backward(int64_t n, real *dgate, real *dup, const real *gate,
                                  const real *up, const real *dy)
{
    for (int64_t i = 0; i < n; i++) {
        real z = gate[i], square = z * z;
        real s = 1 / (1 + MIXT_REAL(mixt_exp)(-gelu_exponent(z, square)));
        real inner = MIXT_FMA((real)(3 * MIXT_GELU_C1), square, (real)MIXT_GELU_C0);
        real slope = s * MIXT_FMA(z * (1 - s), inner, 1);
        real to_gate = (dy[i] * up[i]) * slope;
        dup[i] = dy[i] * (z * s);
        dgate[i] = to_gate;
    }
}

/* NaN stays NaN. */
static inline real cut_above(real x)
{
    return MIXT_CLAMPED_LIMIT < x ? MIXT_CLAMPED_LIMIT : x;
}

static inline real cut_below(real x)
{
    return -MIXT_CLAMPED_LIMIT > x ? -MIXT_CLAMPED_LIMIT : x;
}

static void kernel_clamped_glu(int64_t n, real *y, const real *gate, const real *up)
{
    for (int64_t i = 0; i < n; i++) {
        real g = cut_above(gate[i]), u = cut_above(cut_below(up[i]));
        y[i] = (g / (1 + MIXT_REAL(mixt_exp)((real)-MIXT_CLAMPED_SLOPE * g))) * (u + 1);
    }
}

static void kernel_clamped_glu_backward(int64_t n, real *dgate, real *dup, const real *gate,
                                        const real *up, const real *dy)
{
    for (int64_t i = 0; i < n; i++) {
        real g = cut_above(gate[i]), u = cut_above(cut_below(up[i])), d = dy[i];
        real s = 1 / (1 + MIXT_REAL(mixt_exp)((real)-MIXT_CLAMPED_SLOPE * g));
        real slope = s * MIXT_FMA((real)MIXT_CLAMPED_SLOPE * g, 1 - s, 1);
        bool gate_cut = MIXT_CLAMPED_LIMIT < gate[i];
        bool up_cut = MIXT_CLAMPED_LIMIT < up[i] || up[i] < -MIXT_CLAMPED_LIMIT;
        dup[i] = up_cut ? 0 : d * (g * s);
        dgate[i] = gate_cut ? 0 : (d * (u + 1)) * slope;
    }
}

static void kernel_norm_apply(int64_t n, real *y, const real *x, real inverse, const real *weight)
{
    for (int64_t i = 0; i < n; i++) {
        y[i] = (x[i] * inverse) * weight[i];
    }
}

static void kernel_rope(int64_t n, real *y, const real *x, const real *cosine, const real *sine,
                        real sign)
{
    int64_t half = n / 2;
    assert(n % 2 == 0);
    for (int64_t i = 0; i < half; i++) {
        real first = x[i], second = x[i + half];
        real s = sign * sine[i];
        y[i] = MIXT_FMA(first, cosine[i], -(second * s));
        y[i + half] = MIXT_FMA(second, cosine[i], first * s);
    }
}

/* The score of a query and key, scaled, or -INFINITY where it is hidden. */
static real scaled_score(const MIXT_REAL(mixt_scores) * s, int64_t key, int64_t query)
{
    bool hidden = s->first != NULL && ((real)key < s->first[query] || (real)key > s->last[query]);
    return hidden ? (real)-INFINITY : s->scores[key * s->stride + query] * s->scale;
}

static void kernel_softmax(const MIXT_REAL(mixt_scores) * s)
{
    for (int64_t j = 0; j < s->queries; j++) {
        real most = (real)-INFINITY, added = 0;
        for (int64_t key = 0; key < s->keys; key++) {
            real x = scaled_score(s, key, j);
            s->scores[key * s->stride + j] = x;
            most = x > most ? x : most;
        }
        most = most > s->max[j] ? most : s->max[j];
        real base =
            most > -MIXT_REAL_MAX ? most : -MIXT_REAL_MAX; /* finite where nothing was seen */
        s->change[j] = MIXT_REAL(mixt_exp)(s->max[j] - base);
        for (int64_t key = 0; key < s->keys; key++) {
            real *x = &s->scores[key * s->stride + j];
            *x = MIXT_REAL(mixt_exp)(*x - base);
            added += *x;
        }
        s->sum[j] = MIXT_FMA(s->sum[j], s->change[j], added);
        s->max[j] = most;
    }
}

static void kernel_softmax_rows(const MIXT_REAL(mixt_scores) * s)
{
    for (int64_t j = 0; j < s->queries; j++) {
        MIXT_REAL(mixt_scores) one = *s;
        one.queries = one.stride = 1;
        one.scores += j * s->stride;
        one.max += j;
        one.sum += j;
        one.change += j;
        kernel_softmax(&one);
    }
}

static void kernel_softmax_backward(const MIXT_REAL(mixt_scores) * s)
{
    for (int64_t j = 0; j < s->queries; j++) {
        for (int64_t i = 0; i < s->keys; i++) {
            real key = (real)(s->origin + i), *x = &s->scores[j * s->stride + i];
            real *d = &s->d_scores[j * s->stride + i];
            bool hidden = s->first != NULL && (key < s->first[j] || key > s->last[j]);
            real score = hidden ? (real)-INFINITY : *x * s->scale;
            *x = MIXT_REAL(mixt_exp)(score - s->lse[j]);
            *d = (*x * (*d - s->delta[j])) * s->scale;
        }
    }
}

static void kernel_adamw(int64_t n, real *w, real *m, real *v, const real *gradient,
                         const mixt_adamw_arguments *arguments)
{
    const MIXT_REAL(mixt_adamw_constants) c = MIXT_REAL(mixt_adamw_round)(arguments);
    for (int64_t i = 0; i < n; i++) {
        real g = c.scale * gradient[i];
        m[i] = MIXT_FMA(c.beta1, m[i], c.one_minus_beta1 * g);
        v[i] = MIXT_FMA(c.beta2, v[i], (c.one_minus_beta2 * g) * g);
        real step =
            (m[i] * c.inverse_correction1) / (MIXT_SQRT(v[i] * c.inverse_correction2) + c.epsilon);
        step = MIXT_FMA(c.decay, w[i], step);
        w[i] = MIXT_FMA(-c.rate, step, w[i]);
    }
}

static void kernel_pack(int64_t k, int64_t width, const real *x, int64_t x_k, int64_t x_width,
                        real *panels, int panel_width)
{
    assert(x_k == 1 || x_width == 1);
    for (int64_t begin = 0; begin < width; begin += panel_width) {
        for (int64_t p = 0; p < k; p++) {
            for (int64_t i = begin; i < begin + panel_width; i++) {
                *panels++ = i < width ? x[p * x_k + i * x_width] : 0;
            }
        }
    }
}

/* Sums of a tile; cells of A are `step` apart. */
static void sum_tile(int64_t cells, int step, const real *a, const real *b, int rows,
                     real sum[TILE_ROWS][TILE_COLUMNS])
{
    memset(sum, 0, sizeof(real[TILE_ROWS][TILE_COLUMNS]));
    for (int64_t p = 0; p < cells; p++) {
        for (int i = 0; i < rows; i++) {
            for (int j = 0; j < TILE_COLUMNS; j++) {
                sum[i][j] = MIXT_FMA(a[i], b[j], sum[i][j]);
            }
        }
        a += step * TILE_ROWS;
        b += TILE_COLUMNS;
    }
}

static void kernel_tile(int64_t cells, const real *a, const real *b, real *c, int64_t c_stride,
                        int rows, int columns, bool accumulate)
{
    real sum[TILE_ROWS][TILE_COLUMNS];
    assert(rows >= 1 && rows <= TILE_ROWS && columns >= 1 && columns <= TILE_COLUMNS);
    sum_tile(cells, 1, a, b, rows, sum);
    for (int i = 0; i < rows; i++) {
        real *row = c + i * c_stride;
        for (int j = 0; j < columns; j++) {
            row[j] = accumulate ? row[j] + sum[i][j] : sum[i][j];
        }
    }
}

static void kernel_tile_lanes(int64_t k, const real *a, const real *b, real *c, int64_t c_stride,
                              int rows, int columns, bool accumulate)
{
    real sum[TILE_ROWS][TILE_COLUMNS];
    assert(rows >= 1 && rows <= TILE_ROWS && columns >= 1 && columns <= TILE_COLUMNS);
    for (int64_t lane = 0; lane < k && lane < MIXT_GEMM_LANES; lane++) {
        int64_t cells = mixt_lane_values(k, lane);
        sum_tile(cells, MIXT_GEMM_LANES, a + lane * TILE_ROWS, b, rows, sum);
        b += cells * TILE_COLUMNS;
        for (int i = 0; i < rows; i++) {
            real *row = c + i * c_stride;
            for (int j = 0; j < columns; j++) {
                row[j] = accumulate || lane > 0 ? row[j] + sum[i][j] : sum[i][j];
            }
        }
    }
}

#include "backend/cpu/narrow_tmpl.h"

/* Row r of a kv head as reals: where it lies, or widened into `room`. */
static const real *cached_row(const MIXT_REAL(mixt_cached) * c, int64_t head, int64_t r, real *room)
{
    const char *at = c->at + r * c->stride + head * c->head_bytes;
    if (c->type == MIXT_TYPE_F32) {
        return (const real *)(const void *)at;
    }
    widen_values(c->n, room, at, c->type);
    return room;
}

static void kernel_cached_dot(const MIXT_REAL(mixt_cached) * c)
{
    real room[MIXT_CACHED_MAX];
    assert(c->n <= MIXT_CACHED_MAX);
    for (int64_t at = 0; at < c->heads * c->group * c->rows; at++) {
        int64_t r = at % c->rows, j = at / c->rows;
        const real *row = cached_row(c, j / c->group, r, room), *x = c->x + j * c->x_row;
        real total = 0;
        for (int64_t begin = 0; begin < c->n; begin += MIXT_GEMM_K_BLOCK) {
            int64_t end = begin + MIXT_GEMM_K_BLOCK < c->n ? begin + MIXT_GEMM_K_BLOCK : c->n;
            real sum = 0;
            for (int64_t k = begin; k < end; k++) {
                sum = MIXT_FMA(x[k], row[k], sum);
            }
            total = begin == 0 ? sum : total + sum;
        }
        c->y[j * c->y_row + r] = total;
    }
}

static void kernel_cached_sum(const MIXT_REAL(mixt_cached) * c)
{
    real room[MIXT_CACHED_MAX];
    assert(c->n <= MIXT_CACHED_MAX);
    for (int64_t j = 0; j < c->heads * c->group; j++) {
        real *y = c->y + j * c->y_row;
        for (int64_t r = 0; r < c->rows; r++) {
            const real *row = cached_row(c, j / c->group, r, room);
            for (int64_t i = 0; i < c->n; i++) {
                y[i] = MIXT_FMA(c->x[j * c->x_row + r], row[i], r == 0 ? 0 : y[i]);
            }
        }
    }
}

/* What only fp32 has: bfloat16, and weights in typed rows. */
#define PACK_BF16_f32 mixt_pack_bf16_scalar
#define PACK_BF16_f64 kernel_pack
#define TILE_BF16_f32 mixt_tile_bf16_scalar
#define TILE_BF16_f64 kernel_tile
#define MATRIX_f32 &mixt_matrix_scalar
#define MATRIX_f64 NULL

#ifndef TABLE
#define TABLE MIXT_REAL(mixt_kernels_scalar)
#endif

const MIXT_REAL(mixt_kernels) TABLE = {
    .name = "scalar",
    .dot = kernel_dot,
    .sum = kernel_sum,
    .max = kernel_max,
    .add = kernel_add,
    .axpy = kernel_axpy,
    .scale = kernel_scale,
    .multiply = kernel_multiply,
    .exp_sum = kernel_exp_sum,
    .swiglu = kernel_swiglu,
    .swiglu_backward = kernel_swiglu_backward,
    .geglu = kernel_geglu,
    .geglu_backward = kernel_geglu_backward,
    .clamped_glu = kernel_clamped_glu,
    .clamped_glu_backward = kernel_clamped_glu_backward,
    .norm_apply = kernel_norm_apply,
    .rope = kernel_rope,
    .softmax = kernel_softmax,
    .softmax_rows = kernel_softmax_rows,
    .softmax_backward = kernel_softmax_backward,
    .narrow = narrow_values,
    .widen = widen_values,
    .cached_dot = kernel_cached_dot,
    .cached_sum = kernel_cached_sum,
    .adamw = kernel_adamw,
    .gemm = {.tile_rows = TILE_ROWS,
             .tile_columns = TILE_COLUMNS,
             .pack = kernel_pack,
             .tile = kernel_tile,
             .tile_lanes = kernel_tile_lanes},
    .gemm_bf16 = {.tile_rows = TILE_ROWS,
                  .tile_columns = TILE_COLUMNS,
                  .pack = MIXT_REAL(PACK_BF16),
                  .tile = MIXT_REAL(TILE_BF16)},
    .matrix = MIXT_REAL(MATRIX),
};
