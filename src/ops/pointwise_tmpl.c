/* Operators that work row by row or value by value: norm, rope, swiglu, add, take. */
#include <assert.h>

#include "ops/support_tmpl.h"

/* norm: RMSNorm (Zhang & Sennrich 2019) over rows or groups of a row */

static void norm_forward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int64_t d = call->in_shape[NORM_X].size[1];
    int64_t group = call->in_shape[NORM_WEIGHT].size[0];
    int64_t groups = d / group;
    const real *weight = call->in[NORM_WEIGHT];
    mixt_range range =
        mixt_chunk(mixt_rows(&call->in_shape[NORM_X], call->tokens), MIXT_ROWS, item);
    for (int64_t i = range.begin * groups; i < range.end * groups; i++) {
        const real *x = (const real *)call->in[NORM_X] + i * group;
        real mean = kernels->dot(group, x, x) / (real)group;
        real inverse = (real)1 / (real)sqrt(mean + (real)call->attributes->epsilon);
        ((real *)call->out[NORM_INVERSE])[i] = inverse;
        kernels->norm_apply(group, (real *)call->out[NORM_Y] + i * group, x, inverse, weight);
    }
}

void MIXT_REAL(mixt_norm_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, mixt_rows(&call->in_shape[NORM_X], call->tokens), MIXT_ROWS,
                    norm_forward_rows);
}

/* With s = sum(dy w x) and n values in a group:
 * dx = inverse dy w - x inverse^3 s / n, and d weight = sum over rows of dy x inverse. */
static void norm_backward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int64_t d = call->in_shape[NORM_X].size[1];
    int64_t group = call->in_shape[NORM_WEIGHT].size[0];
    int64_t groups = d / group;
    real *partial = (real *)call->workspace + item * 2 * group, *product = partial + group;
    memset(partial, 0, (size_t)group * sizeof *partial);
    mixt_range range =
        mixt_chunk(mixt_rows(&call->in_shape[NORM_X], call->tokens), MIXT_SUM_ROWS, item);
    for (int64_t i = range.begin * groups; i < range.end * groups; i++) {
        const real *x = (const real *)call->in[NORM_X] + i * group;
        const real *dy = (const real *)call->d_out[NORM_Y] + i * group;
        real inverse = ((const real *)call->out[NORM_INVERSE])[i];
        if (call->d_in[NORM_WEIGHT] != NULL) {
            kernels->multiply(group, product, dy, x);
            kernels->axpy(group, partial, inverse, product);
        }
        if (call->d_in[NORM_X] != NULL) {
            real *dx = (real *)call->d_in[NORM_X] + i * group;
            kernels->multiply(group, product, dy, call->in[NORM_WEIGHT]);
            real along =
                kernels->dot(group, product, x) * inverse * inverse * inverse / (real)group;
            kernels->scale(group, product, inverse, product);
            kernels->axpy(group, product, -along, x);
            mixt_put(kernels, group, dx, product, call->add[NORM_X]);
        }
    }
}

void MIXT_REAL(mixt_norm_backward)(const mixt_call *call)
{
    int64_t rows = mixt_rows(&call->in_shape[NORM_X], call->tokens);
    int64_t group = call->in_shape[NORM_WEIGHT].size[0];
    if (call->d_out[NORM_Y] == NULL) {
        mixt_put_zero(call, NORM_X, rows * call->in_shape[NORM_X].size[1]);
        mixt_put_zero(call, NORM_WEIGHT, group);
        return;
    }
    mixt_for_chunks(call, rows, MIXT_SUM_ROWS, norm_backward_rows);
    if (call->d_in[NORM_WEIGHT] != NULL) {
        mixt_put_zero(call, NORM_WEIGHT, group);
        mixt_add_sum(mixt_kernels_of(call), group, call->d_in[NORM_WEIGHT], call->workspace,
                     mixt_divide_up(rows, MIXT_SUM_ROWS), 2 * group);
    }
}

/* rope: rotary positions (Su et al. 2021) */

/* A head whose pairs are neighbours: taken apart, rotated as halves, put together. */
static void rotate_neighbours(const mixt_kernels *kernels, int64_t n, real *y, const real *x,
                              const real *angles, real sign)
{
    real piece[MIXT_PIECE];
    for (int64_t begin = 0; begin < n / 2; begin += MIXT_PIECE / 2) {
        int64_t pairs = mixt_least(MIXT_PIECE / 2, n / 2 - begin);
        for (int64_t i = 0; i < pairs; i++) {
            piece[i] = x[2 * (begin + i)];
            piece[pairs + i] = x[2 * (begin + i) + 1];
        }
        kernels->rope(2 * pairs, piece, piece, angles + begin, angles + n / 2 + begin, sign);
        for (int64_t i = 0; i < pairs; i++) {
            y[2 * (begin + i)] = piece[i];
            y[2 * (begin + i) + 1] = piece[pairs + i];
        }
    }
}

/* One head: its leading values by the row of the table, the rest as they are. y may be x. */
static void rotate_head(const mixt_call *call, real *y, const real *x, const real *angles,
                        real sign)
{
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int64_t n = call->in_shape[ROPE_TABLE].size[1], rest = call->attributes->head_dim - n;
    assert(n % 2 == 0 && rest >= 0);
    if (call->attributes->interleaved) {
        rotate_neighbours(kernels, n, y, x, angles, sign);
    } else {
        kernels->rope(n, y, x, angles, angles + n / 2, sign);
    }
    if (rest > 0 && y != x) {
        memcpy(y + n, x + n, (size_t)rest * sizeof *y);
    }
}

static void rope_forward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    int64_t n = call->attributes->head_dim, heads = call->attributes->heads;
    mixt_range range =
        mixt_chunk(mixt_rows(&call->in_shape[ROPE_X], call->tokens), MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        const real *angles =
            (const real *)call->in[ROPE_TABLE] +
            ((const int32_t *)call->in[ROPE_POSITIONS])[t] * call->in_shape[ROPE_TABLE].size[1];
        for (int64_t i = t * heads; i < (t + 1) * heads; i++) {
            rotate_head(call, (real *)call->out[ROPE_Y] + i * n,
                        (const real *)call->in[ROPE_X] + i * n, angles, 1);
        }
    }
}

void MIXT_REAL(mixt_rope_forward)(const mixt_call *call)
{
    assert(mixt_all_within(mixt_values(call, ROPE_POSITIONS), call->in[ROPE_POSITIONS], 0,
                           call->in_shape[ROPE_TABLE].size[0]));
    mixt_for_chunks(call, mixt_rows(&call->in_shape[ROPE_X], call->tokens), MIXT_ROWS,
                    rope_forward_rows);
}

/* A rotation's transpose is the rotation back. */
static void rope_backward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int64_t n = call->attributes->head_dim, heads = call->attributes->heads;
    real *rotated = (real *)call->workspace + item * n;
    mixt_range range =
        mixt_chunk(mixt_rows(&call->in_shape[ROPE_X], call->tokens), MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        const real *angles =
            (const real *)call->in[ROPE_TABLE] +
            ((const int32_t *)call->in[ROPE_POSITIONS])[t] * call->in_shape[ROPE_TABLE].size[1];
        for (int64_t i = t * heads; i < (t + 1) * heads; i++) {
            real *dx = (real *)call->d_in[ROPE_X] + i * n;
            rotate_head(call, call->add[ROPE_X] ? rotated : dx,
                        (const real *)call->d_out[ROPE_Y] + i * n, angles, -1);
            if (call->add[ROPE_X]) {
                kernels->add(n, dx, dx, rotated);
            }
        }
    }
}

void MIXT_REAL(mixt_rope_backward)(const mixt_call *call)
{
    int64_t rows = mixt_rows(&call->in_shape[ROPE_X], call->tokens);
    if (call->d_in[ROPE_X] == NULL || call->d_out[ROPE_Y] == NULL) {
        mixt_put_zero(call, ROPE_X, rows * call->in_shape[ROPE_X].size[1]);
        return;
    }
    mixt_for_chunks(call, rows, MIXT_ROWS, rope_backward_rows);
}

/* swiglu: activation(gate) * up (Shazeer 2020) */

static void swiglu_forward_values(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    mixt_range range = mixt_chunk(mixt_values(call, SWIGLU_GATE), MIXT_ELEMENTS, item);
    mixt_activate(call, range.end - range.begin, (real *)call->out[SWIGLU_Y] + range.begin,
                  (const real *)call->in[SWIGLU_GATE] + range.begin,
                  (const real *)call->in[SWIGLU_UP] + range.begin);
}

void MIXT_REAL(mixt_swiglu_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, mixt_values(call, SWIGLU_GATE), MIXT_ELEMENTS, swiglu_forward_values);
}

static void swiglu_backward_values(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    mixt_range range = mixt_chunk(mixt_values(call, SWIGLU_GATE), MIXT_ELEMENTS, item);
    real d_gate[MIXT_PIECE], d_up[MIXT_PIECE];
    for (int64_t i = range.begin; i < range.end; i += MIXT_PIECE) {
        int64_t n = mixt_least(MIXT_PIECE, range.end - i);
        mixt_activate_backward(
            call, n, (mixt_gated){d_gate, d_up}, (const real *)call->in[SWIGLU_GATE] + i,
            (const real *)call->in[SWIGLU_UP] + i, (const real *)call->d_out[SWIGLU_Y] + i);
        if (call->d_in[SWIGLU_GATE] != NULL) {
            mixt_put(kernels, n, (real *)call->d_in[SWIGLU_GATE] + i, d_gate,
                     call->add[SWIGLU_GATE]);
        }
        if (call->d_in[SWIGLU_UP] != NULL) {
            mixt_put(kernels, n, (real *)call->d_in[SWIGLU_UP] + i, d_up, call->add[SWIGLU_UP]);
        }
    }
}

void MIXT_REAL(mixt_swiglu_backward)(const mixt_call *call)
{
    if (call->d_out[SWIGLU_Y] == NULL) {
        mixt_put_zero(call, SWIGLU_GATE, mixt_values(call, SWIGLU_GATE));
        mixt_put_zero(call, SWIGLU_UP, mixt_values(call, SWIGLU_GATE));
        return;
    }
    mixt_for_chunks(call, mixt_values(call, SWIGLU_GATE), MIXT_ELEMENTS, swiglu_backward_values);
}

/* add */

static void add_forward_values(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    mixt_range range = mixt_chunk(mixt_values(call, ADD_A), MIXT_ELEMENTS, item);
    mixt_kernels_of(call)->add(range.end - range.begin, (real *)call->out[ADD_Y] + range.begin,
                               (const real *)call->in[ADD_A] + range.begin,
                               (const real *)call->in[ADD_B] + range.begin);
}

void MIXT_REAL(mixt_add_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, mixt_values(call, ADD_A), MIXT_ELEMENTS, add_forward_values);
}

static void add_backward_values(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    mixt_range range = mixt_chunk(mixt_values(call, ADD_A), MIXT_ELEMENTS, item);
    for (int i = ADD_A; i <= ADD_B; i++) {
        if (call->d_in[i] != NULL) {
            mixt_put(mixt_kernels_of(call), range.end - range.begin,
                     (real *)call->d_in[i] + range.begin,
                     (const real *)call->d_out[ADD_Y] + range.begin, call->add[i]);
        }
    }
}

void MIXT_REAL(mixt_add_backward)(const mixt_call *call)
{
    if (call->d_out[ADD_Y] == NULL) {
        mixt_put_zero(call, ADD_A, mixt_values(call, ADD_A));
        mixt_put_zero(call, ADD_B, mixt_values(call, ADD_A));
        return;
    }
    mixt_for_chunks(call, mixt_values(call, ADD_A), MIXT_ELEMENTS, add_backward_values);
}

/* take: some rows, for the head behind the last tokens of a prompt */

void MIXT_REAL(mixt_take_forward)(const mixt_call *call)
{
    int64_t d = call->in_shape[TAKE_X].size[1];
    const int32_t *rows = call->in[TAKE_ROWS];
    assert(mixt_all_within(call->out_shape[TAKE_Y].size[0], rows, 0,
                           mixt_rows(&call->in_shape[TAKE_X], call->tokens)));
    for (int64_t i = 0; i < call->out_shape[TAKE_Y].size[0]; i++) {
        memcpy((real *)call->out[TAKE_Y] + i * d, (const real *)call->in[TAKE_X] + rows[i] * d,
               (size_t)d * sizeof(real));
    }
}
