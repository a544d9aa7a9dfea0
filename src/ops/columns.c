/* Operators that take the heads of a row apart and put them together: slice, join. */
#include "ops/support.h"

/* slice */

#if !MIXT_REAL_IS_DOUBLE
mixt_status mixt_slice_shape(mixt_shape_request *request, mixt_error *error)
{
    const mixt_attributes *attributes = request->attributes;
    mixt_shape x = request->in[SLICE_X];
    int64_t heads = attributes->heads, n = attributes->head_dim;
    int64_t from = attributes->from, size = attributes->size;
    MIXT_TRY(mixt_expect_matrix(&x, "slice: x", error));
    if (heads < 1 || from < 0 || size < 1 || from + size > n) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "slice: columns %lld..%lld of %lld heads of %lld are not possible",
                         (long long)from, (long long)(from + size - 1), (long long)heads,
                         (long long)n);
    }
    MIXT_TRY(mixt_expect(&x, mixt_shape_columns(x, heads * n), "slice: x", error));
    request->out[SLICE_Y] = mixt_shape_columns(x, heads * size);
    return MIXT_OK;
}

void mixt_slice_cost(const mixt_attributes *attributes, const mixt_shape *in, const mixt_shape *out,
                     int64_t tokens, mixt_cost *cost)
{
    (void)attributes;
    double taken = mixt_shape_values(&out[SLICE_Y], tokens),
           all = mixt_shape_values(&in[SLICE_X], tokens);
    *cost = (mixt_cost){0, 8 * taken, 0, 4 * (taken + all)};
}
#endif

static void slice_forward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_attributes *attributes = call->attributes;
    int64_t heads = attributes->heads, n = attributes->head_dim, size = attributes->size;
    mixt_range range =
        mixt_chunk(mixt_rows(&call->in_shape[SLICE_X], call->tokens), MIXT_ROWS, item);
    for (int64_t i = range.begin * heads; i < range.end * heads; i++) {
        memcpy((real *)call->out[SLICE_Y] + i * size,
               (const real *)call->in[SLICE_X] + i * n + attributes->from,
               (size_t)size * sizeof(real));
    }
}

void MIXT_REAL(mixt_slice_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, mixt_rows(&call->in_shape[SLICE_X], call->tokens), MIXT_ROWS,
                    slice_forward_rows);
}

static void slice_backward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_attributes *attributes = call->attributes;
    int64_t heads = attributes->heads, n = attributes->head_dim, size = attributes->size;
    mixt_range range =
        mixt_chunk(mixt_rows(&call->in_shape[SLICE_X], call->tokens), MIXT_ROWS, item);
    for (int64_t i = range.begin * heads; i < range.end * heads; i++) {
        real *dx = (real *)call->d_in[SLICE_X] + i * n;
        if (!call->add[SLICE_X]) {
            memset(dx, 0, (size_t)n * sizeof *dx);
        }
        mixt_put(mixt_kernels_of(call), size, dx + attributes->from,
                 (const real *)call->d_out[SLICE_Y] + i * size, call->add[SLICE_X]);
    }
}

void MIXT_REAL(mixt_slice_backward)(const mixt_call *call)
{
    int64_t rows = mixt_rows(&call->in_shape[SLICE_X], call->tokens);
    if (call->d_in[SLICE_X] == NULL || call->d_out[SLICE_Y] == NULL) {
        mixt_put_zero(call, SLICE_X, rows * call->in_shape[SLICE_X].size[1]);
        return;
    }
    mixt_for_chunks(call, rows, MIXT_ROWS, slice_backward_rows);
}

/* join */

#if !MIXT_REAL_IS_DOUBLE
mixt_status mixt_join_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape a = request->in[JOIN_A], b = request->in[JOIN_B];
    int64_t heads = request->attributes->heads, n = request->attributes->head_dim;
    MIXT_TRY(mixt_expect_matrix(&a, "join: a", error));
    MIXT_TRY(mixt_expect_matrix(&b, "join: b", error));
    if (heads < 1 || n < 1 || b.size[1] % heads != 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "join: %lld heads of %lld with rows of %lld are not possible",
                         (long long)heads, (long long)n, (long long)b.size[1]);
    }
    MIXT_TRY(mixt_expect(&a, mixt_shape_columns(a, heads * n), "join: a", error));
    MIXT_TRY(mixt_expect(&b, mixt_shape_columns(a, b.size[1]), "join: b", error));
    request->out[JOIN_Y] = mixt_shape_columns(a, a.size[1] + b.size[1]);
    return MIXT_OK;
}

void mixt_join_cost(const mixt_attributes *attributes, const mixt_shape *in, const mixt_shape *out,
                    int64_t tokens, mixt_cost *cost)
{
    (void)attributes;
    (void)in;
    double bytes = 8 * mixt_shape_values(&out[JOIN_Y], tokens);
    *cost = (mixt_cost){0, bytes, 0, bytes};
}
#endif

static void join_forward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    int64_t heads = call->attributes->heads, a = call->attributes->head_dim;
    int64_t b = call->in_shape[JOIN_B].size[1] / heads;
    mixt_range range =
        mixt_chunk(mixt_rows(&call->in_shape[JOIN_A], call->tokens), MIXT_ROWS, item);
    for (int64_t i = range.begin * heads; i < range.end * heads; i++) {
        real *y = (real *)call->out[JOIN_Y] + i * (a + b);
        memcpy(y, (const real *)call->in[JOIN_A] + i * a, (size_t)a * sizeof *y);
        memcpy(y + a, (const real *)call->in[JOIN_B] + i * b, (size_t)b * sizeof *y);
    }
}

void MIXT_REAL(mixt_join_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, mixt_rows(&call->in_shape[JOIN_A], call->tokens), MIXT_ROWS,
                    join_forward_rows);
}

static void join_backward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int64_t heads = call->attributes->heads, a = call->attributes->head_dim;
    int64_t b = call->in_shape[JOIN_B].size[1] / heads;
    mixt_range range =
        mixt_chunk(mixt_rows(&call->in_shape[JOIN_A], call->tokens), MIXT_ROWS, item);
    for (int64_t i = range.begin * heads; i < range.end * heads; i++) {
        const real *dy = (const real *)call->d_out[JOIN_Y] + i * (a + b);
        if (call->d_in[JOIN_A] != NULL) {
            mixt_put(kernels, a, (real *)call->d_in[JOIN_A] + i * a, dy, call->add[JOIN_A]);
        }
        if (call->d_in[JOIN_B] != NULL) {
            mixt_put(kernels, b, (real *)call->d_in[JOIN_B] + i * b, dy + a, call->add[JOIN_B]);
        }
    }
}

void MIXT_REAL(mixt_join_backward)(const mixt_call *call)
{
    int64_t rows = mixt_rows(&call->in_shape[JOIN_A], call->tokens);
    if (call->d_out[JOIN_Y] == NULL) {
        mixt_put_zero(call, JOIN_A, rows * call->in_shape[JOIN_A].size[1]);
        mixt_put_zero(call, JOIN_B, rows * call->in_shape[JOIN_B].size[1]);
        return;
    }
    mixt_for_chunks(call, rows, MIXT_ROWS, join_backward_rows);
}
