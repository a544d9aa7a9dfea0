/* Operators that take the heads of a row apart and put them together: slice, join. */
#include "ops/support_tmpl.h"

/* slice */

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
