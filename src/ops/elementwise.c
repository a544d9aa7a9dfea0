/* Operators on values of one tensor by themselves: scale, clamp, gate. */
#include "ops/support.h"

static inline int64_t values_of(const mixt_call *call)
{
    return mixt_rows(&call->in_shape[0], call->tokens) * call->in_shape[0].size[1];
}

/* scale: y = scale x */

#if !MIXT_REAL_IS_DOUBLE
mixt_status mixt_scale_shape(mixt_shape_request *request, mixt_error *error)
{
    MIXT_TRY(mixt_expect_matrix(&request->in[0], "scale: x", error));
    if (!isfinite(request->attributes->scale)) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "scale: %g is not usable",
                         request->attributes->scale);
    }
    request->out[0] = request->in[0];
    return MIXT_OK;
}

void mixt_scale_cost(const mixt_attributes *attributes, const mixt_shape *in, const mixt_shape *out,
                     int64_t tokens, mixt_cost *cost)
{
    (void)attributes;
    (void)out;
    double values = mixt_shape_values(&in[0], tokens);
    *cost = (mixt_cost){values, 8 * values, values, 8 * values};
}
#endif

static void scale_forward_values(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    mixt_range range = mixt_chunk(values_of(call), MIXT_ELEMENTS, item);
    mixt_kernels_of(call)->scale(range.end - range.begin, (real *)call->out[0] + range.begin,
                                 (real)call->attributes->scale,
                                 (const real *)call->in[0] + range.begin);
}

void MIXT_REAL(mixt_scale_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, values_of(call), MIXT_ELEMENTS, scale_forward_values);
}

static void scale_backward_values(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    real scale = (real)call->attributes->scale;
    mixt_range range = mixt_chunk(values_of(call), MIXT_ELEMENTS, item);
    int64_t n = range.end - range.begin;
    real *dx = (real *)call->d_in[0] + range.begin;
    const real *dy = (const real *)call->d_out[0] + range.begin;
    if (call->add[0]) {
        kernels->axpy(n, dx, scale, dy);
    } else {
        kernels->scale(n, dx, scale, dy);
    }
}

void MIXT_REAL(mixt_scale_backward)(const mixt_call *call)
{
    if (call->d_in[0] == NULL || call->d_out[0] == NULL) {
        mixt_put_zero(call, 0, values_of(call));
        return;
    }
    mixt_for_chunks(call, values_of(call), MIXT_ELEMENTS, scale_backward_values);
}

/* clamp: comparisons alone, so the loops need no kernel; NaN stays NaN */

#if !MIXT_REAL_IS_DOUBLE
mixt_status mixt_clamp_shape(mixt_shape_request *request, mixt_error *error)
{
    MIXT_TRY(mixt_expect_matrix(&request->in[0], "clamp: x", error));
    if (!(request->attributes->limit > 0)) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "clamp: limit %g is not more than 0",
                         request->attributes->limit);
    }
    request->out[0] = request->in[0];
    return MIXT_OK;
}

void mixt_clamp_cost(const mixt_attributes *attributes, const mixt_shape *in, const mixt_shape *out,
                     int64_t tokens, mixt_cost *cost)
{
    (void)attributes;
    (void)out;
    double values = mixt_shape_values(&in[0], tokens);
    *cost = (mixt_cost){2 * values, 8 * values, 2 * values, 12 * values};
}
#endif

static void clamp_forward_values(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const real *x = call->in[0];
    real *y = call->out[0], limit = (real)call->attributes->limit;
    mixt_range range = mixt_chunk(values_of(call), MIXT_ELEMENTS, item);
    for (int64_t i = range.begin; i < range.end; i++) {
        y[i] = x[i] < -limit ? -limit : x[i] > limit ? limit : x[i];
    }
}

void MIXT_REAL(mixt_clamp_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, values_of(call), MIXT_ELEMENTS, clamp_forward_values);
}

/* The gradient stops where the value was cut off; at the limit itself it passes. */
static void clamp_backward_values(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const real *x = call->in[0], *dy = call->d_out[0];
    real *dx = call->d_in[0], limit = (real)call->attributes->limit;
    mixt_range range = mixt_chunk(values_of(call), MIXT_ELEMENTS, item);
    for (int64_t i = range.begin; i < range.end; i++) {
        real through = x[i] < -limit || x[i] > limit ? 0 : dy[i];
        dx[i] = call->add[0] ? dx[i] + through : through;
    }
}

void MIXT_REAL(mixt_clamp_backward)(const mixt_call *call)
{
    if (call->d_in[0] == NULL || call->d_out[0] == NULL) {
        mixt_put_zero(call, 0, values_of(call));
        return;
    }
    mixt_for_chunks(call, values_of(call), MIXT_ELEMENTS, clamp_backward_values);
}

/* gate: a row times the sigmoid of its own number */

#if !MIXT_REAL_IS_DOUBLE
mixt_status mixt_gate_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape x = request->in[0];
    MIXT_TRY(mixt_expect_matrix(&x, "gate: x", error));
    MIXT_TRY(mixt_expect(&request->in[1], mixt_shape_columns(x, 1), "gate: g", error));
    request->out[0] = x;
    return MIXT_OK;
}

void mixt_gate_cost(const mixt_attributes *attributes, const mixt_shape *in, const mixt_shape *out,
                    int64_t tokens, mixt_cost *cost)
{
    (void)attributes;
    (void)out;
    double values = mixt_shape_values(&in[0], tokens);
    *cost = (mixt_cost){values, 8 * values, 3 * values, 16 * values};
}
#endif

/* By the kernels' exponential, whose bits are the same in every tier. */
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
    int64_t d = call->in_shape[0].size[1];
    mixt_range range = mixt_chunk(mixt_rows(&call->in_shape[0], call->tokens), MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        kernels->scale(d, (real *)call->out[0] + t * d,
                       sigmoid(kernels, ((const real *)call->in[1])[t]),
                       (const real *)call->in[0] + t * d);
    }
}

void MIXT_REAL(mixt_gate_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, mixt_rows(&call->in_shape[0], call->tokens), MIXT_ROWS,
                    gate_forward_rows);
}

/* With s = sigmoid(g): dx = s dy, dg = (dy x) s (1 - s). */
static void gate_backward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int64_t d = call->in_shape[0].size[1];
    mixt_range range = mixt_chunk(mixt_rows(&call->in_shape[0], call->tokens), MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        const real *dy = (const real *)call->d_out[0] + t * d;
        real s = sigmoid(kernels, ((const real *)call->in[1])[t]);
        if (call->d_in[0] != NULL && call->add[0]) {
            kernels->axpy(d, (real *)call->d_in[0] + t * d, s, dy);
        } else if (call->d_in[0] != NULL) {
            kernels->scale(d, (real *)call->d_in[0] + t * d, s, dy);
        }
        if (call->d_in[1] != NULL) {
            real *dg = (real *)call->d_in[1] + t;
            real along = kernels->dot(d, dy, (const real *)call->in[0] + t * d) * (s * (1 - s));
            *dg = call->add[1] ? *dg + along : along;
        }
    }
}

void MIXT_REAL(mixt_gate_backward)(const mixt_call *call)
{
    int64_t rows = mixt_rows(&call->in_shape[0], call->tokens);
    if (call->d_out[0] == NULL) {
        mixt_put_zero(call, 0, values_of(call));
        mixt_put_zero(call, 1, rows);
        return;
    }
    mixt_for_chunks(call, rows, MIXT_ROWS, gate_backward_rows);
}
