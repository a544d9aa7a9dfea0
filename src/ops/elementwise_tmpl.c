/* Operators on values of one tensor by themselves: scale, clamp, sigmoid, gate. */
#include "ops/support_tmpl.h"

/* scale: y = scale x */

static void scale_forward_values(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    mixt_range range = mixt_chunk(mixt_values(call, SCALE_X), MIXT_ELEMENTS, item);
    mixt_kernels_of(call)->scale(range.end - range.begin, (real *)call->out[SCALE_Y] + range.begin,
                                 (real)call->attributes->scale,
                                 (const real *)call->in[SCALE_X] + range.begin);
}

void MIXT_REAL(mixt_scale_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, mixt_values(call, SCALE_X), MIXT_ELEMENTS, scale_forward_values);
}

static void scale_backward_values(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    real scale = (real)call->attributes->scale;
    mixt_range range = mixt_chunk(mixt_values(call, SCALE_X), MIXT_ELEMENTS, item);
    int64_t n = range.end - range.begin;
    real *dx = (real *)call->d_in[SCALE_X] + range.begin;
    const real *dy = (const real *)call->d_out[SCALE_Y] + range.begin;
    if (call->add[SCALE_X]) {
        kernels->axpy(n, dx, scale, dy);
    } else {
        kernels->scale(n, dx, scale, dy);
    }
}

void MIXT_REAL(mixt_scale_backward)(const mixt_call *call)
{
    if (call->d_in[SCALE_X] == NULL || call->d_out[SCALE_Y] == NULL) {
        mixt_put_zero(call, SCALE_X, mixt_values(call, SCALE_X));
        return;
    }
    mixt_for_chunks(call, mixt_values(call, SCALE_X), MIXT_ELEMENTS, scale_backward_values);
}

/* clamp: comparisons alone, so the loops need no kernel; NaN stays NaN */

static void clamp_forward_values(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const real *x = call->in[CLAMP_X];
    real *y = call->out[CLAMP_Y], limit = (real)call->attributes->limit;
    mixt_range range = mixt_chunk(mixt_values(call, CLAMP_X), MIXT_ELEMENTS, item);
    for (int64_t i = range.begin; i < range.end; i++) {
        y[i] = x[i] < -limit ? -limit : x[i] > limit ? limit : x[i];
    }
}

void MIXT_REAL(mixt_clamp_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, mixt_values(call, CLAMP_X), MIXT_ELEMENTS, clamp_forward_values);
}

/* The gradient stops where the value was cut off; at the limit itself it passes. */
static void clamp_backward_values(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const real *x = call->in[CLAMP_X], *dy = call->d_out[CLAMP_Y];
    real *dx = call->d_in[CLAMP_X], limit = (real)call->attributes->limit;
    mixt_range range = mixt_chunk(mixt_values(call, CLAMP_X), MIXT_ELEMENTS, item);
    for (int64_t i = range.begin; i < range.end; i++) {
        real through = x[i] < -limit || x[i] > limit ? 0 : dy[i];
        dx[i] = call->add[CLAMP_X] ? dx[i] + through : through;
    }
}

void MIXT_REAL(mixt_clamp_backward)(const mixt_call *call)
{
    if (call->d_in[CLAMP_X] == NULL || call->d_out[CLAMP_Y] == NULL) {
        mixt_put_zero(call, CLAMP_X, mixt_values(call, CLAMP_X));
        return;
    }
    mixt_for_chunks(call, mixt_values(call, CLAMP_X), MIXT_ELEMENTS, clamp_backward_values);
}

/* sigmoid: by the kernels' exponential, whose bits are the same in every tier */

static void sigmoid_forward_values(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    mixt_range range = mixt_chunk(mixt_values(call, SIGMOID_X), MIXT_ELEMENTS, item);
    int64_t n = range.end - range.begin;
    real *y = (real *)call->out[SIGMOID_Y] + range.begin;
    kernels->scale(n, y, -1, (const real *)call->in[SIGMOID_X] + range.begin);
    (void)kernels->exp_sum(n, y, y, 0);
    for (int64_t i = 0; i < n; i++) {
        y[i] = 1 / (1 + y[i]);
    }
}

void MIXT_REAL(mixt_sigmoid_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, mixt_values(call, SIGMOID_X), MIXT_ELEMENTS, sigmoid_forward_values);
}

/* dx = y (1 - y) dy */
static void sigmoid_backward_values(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const real *y = call->out[SIGMOID_Y], *dy = call->d_out[SIGMOID_Y];
    real *dx = call->d_in[SIGMOID_X];
    mixt_range range = mixt_chunk(mixt_values(call, SIGMOID_X), MIXT_ELEMENTS, item);
    for (int64_t i = range.begin; i < range.end; i++) {
        real through = y[i] * (1 - y[i]) * dy[i];
        dx[i] = call->add[SIGMOID_X] ? dx[i] + through : through;
    }
}

void MIXT_REAL(mixt_sigmoid_backward)(const mixt_call *call)
{
    if (call->d_in[SIGMOID_X] == NULL || call->d_out[SIGMOID_Y] == NULL) {
        mixt_put_zero(call, SIGMOID_X, mixt_values(call, SIGMOID_X));
        return;
    }
    mixt_for_chunks(call, mixt_values(call, SIGMOID_X), MIXT_ELEMENTS, sigmoid_backward_values);
}

/* gate: a row times the sigmoid of its own number */

static real sigmoid(const mixt_kernels *kernels, real x)
{
    real power = -x;
    (void)kernels->exp_sum(1, &power, &power, 0);
    return 1 / (1 + power);
}

static void gate_forward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int64_t d = call->in_shape[GATE_X].size[1];
    mixt_range range =
        mixt_chunk(mixt_rows(&call->in_shape[GATE_X], call->tokens), MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        kernels->scale(d, (real *)call->out[GATE_Y] + t * d,
                       sigmoid(kernels, ((const real *)call->in[GATE_G])[t]),
                       (const real *)call->in[GATE_X] + t * d);
    }
}

void MIXT_REAL(mixt_gate_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, mixt_rows(&call->in_shape[GATE_X], call->tokens), MIXT_ROWS,
                    gate_forward_rows);
}

/* With s = sigmoid(g): dx = s dy, dg = (dy x) s (1 - s). */
static void gate_backward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int64_t d = call->in_shape[GATE_X].size[1];
    mixt_range range =
        mixt_chunk(mixt_rows(&call->in_shape[GATE_X], call->tokens), MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        const real *dy = (const real *)call->d_out[GATE_Y] + t * d;
        real s = sigmoid(kernels, ((const real *)call->in[GATE_G])[t]);
        if (call->d_in[GATE_X] != NULL && call->add[GATE_X]) {
            kernels->axpy(d, (real *)call->d_in[GATE_X] + t * d, s, dy);
        } else if (call->d_in[GATE_X] != NULL) {
            kernels->scale(d, (real *)call->d_in[GATE_X] + t * d, s, dy);
        }
        if (call->d_in[GATE_G] != NULL) {
            real *dg = (real *)call->d_in[GATE_G] + t;
            real along =
                kernels->dot(d, dy, (const real *)call->in[GATE_X] + t * d) * (s * (1 - s));
            *dg = call->add[GATE_G] ? *dg + along : along;
        }
    }
}

void MIXT_REAL(mixt_gate_backward)(const mixt_call *call)
{
    int64_t rows = mixt_rows(&call->in_shape[GATE_X], call->tokens);
    if (call->d_out[GATE_Y] == NULL) {
        mixt_put_zero(call, GATE_X, mixt_values(call, GATE_X));
        mixt_put_zero(call, GATE_G, rows);
        return;
    }
    mixt_for_chunks(call, rows, MIXT_ROWS, gate_backward_rows);
}
