/* dispatch copies tokens' rows into expert order; combine brings them back, weighted. Each is the
 * other's derivative by rows. place[t,j] is where choice j of token t lies in expert order, -1
 * where there is none: a token without an expert gives no row and gets zeros. */
#include <assert.h>

#include "ops/support_tmpl.h"

/* Rows that the record uses. */
static int64_t rows_in_use(const mixt_call *call)
{
    const int32_t *offsets = call->in[DISPATCH_OFFSETS];
    return offsets[call->in_shape[DISPATCH_OFFSETS].size[0] - 1];
}

static void dispatch_forward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    int64_t d = call->in_shape[DISPATCH_X].size[1], chosen = call->in_shape[DISPATCH_PLACE].size[1];
    const int32_t *order = call->in[DISPATCH_ORDER];
    mixt_range range = mixt_chunk(rows_in_use(call), MIXT_ROWS, item);
    for (int64_t p = range.begin; p < range.end; p++) {
        memcpy((real *)call->out[DISPATCH_ROWS] + p * d,
               (const real *)call->in[DISPATCH_X] + order[p] / chosen * d,
               (size_t)d * sizeof(real));
    }
}

void MIXT_REAL(mixt_dispatch_forward)(const mixt_call *call)
{
    assert(rows_in_use(call) >= 0 && mixt_all_within(rows_in_use(call), call->in[DISPATCH_ORDER], 0,
                                                     mixt_values(call, DISPATCH_PLACE)));
    mixt_for_chunks(call, rows_in_use(call), MIXT_ROWS, dispatch_forward_rows);
}

static void dispatch_backward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int64_t d = call->in_shape[DISPATCH_X].size[1], chosen = call->in_shape[DISPATCH_PLACE].size[1];
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        const int32_t *place = (const int32_t *)call->in[DISPATCH_PLACE] + t * chosen;
        real *dx = (real *)call->d_in[DISPATCH_X] + t * d;
        bool add = call->add[DISPATCH_X];
        for (int64_t j = 0; j < chosen; j++) {
            if (place[j] >= 0) {
                mixt_put(kernels, d, dx, (const real *)call->d_out[DISPATCH_ROWS] + place[j] * d,
                         add);
                add = true;
            }
        }
        if (!add) {
            memset(dx, 0, (size_t)d * sizeof *dx);
        }
    }
}

void MIXT_REAL(mixt_dispatch_backward)(const mixt_call *call)
{
    if (call->d_in[DISPATCH_X] == NULL || call->d_out[DISPATCH_ROWS] == NULL) {
        mixt_put_zero(call, DISPATCH_X, call->tokens * call->in_shape[DISPATCH_X].size[1]);
        return;
    }
    assert(mixt_all_within(mixt_values(call, DISPATCH_PLACE), call->in[DISPATCH_PLACE], -1,
                           mixt_rows(&call->out_shape[DISPATCH_ROWS], call->tokens)));
    mixt_for_chunks(call, call->tokens, MIXT_ROWS, dispatch_backward_rows);
}

static void combine_forward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int64_t d = call->in_shape[COMBINE_ROWS].size[1];
    int64_t chosen = call->in_shape[COMBINE_PLACE].size[1];
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        const int32_t *place = (const int32_t *)call->in[COMBINE_PLACE] + t * chosen;
        const real *weights = (const real *)call->in[COMBINE_WEIGHTS] + t * chosen;
        const real *rows = call->in[COMBINE_ROWS];
        real *y = (real *)call->out[COMBINE_Y] + t * d;
        bool any = false;
        for (int64_t j = 0; j < chosen; j++) {
            if (place[j] < 0) {
                continue;
            }
            if (any) {
                kernels->axpy(d, y, weights[j], rows + place[j] * d);
            } else {
                kernels->scale(d, y, weights[j], rows + place[j] * d);
            }
            any = true;
        }
        if (!any) {
            memset(y, 0, (size_t)d * sizeof *y);
        }
    }
}

void MIXT_REAL(mixt_combine_forward)(const mixt_call *call)
{
    assert(mixt_all_within(mixt_values(call, COMBINE_PLACE), call->in[COMBINE_PLACE], -1,
                           mixt_rows(&call->in_shape[COMBINE_ROWS], call->tokens)));
    mixt_for_chunks(call, call->tokens, MIXT_ROWS, combine_forward_rows);
}

static void combine_backward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int64_t d = call->in_shape[COMBINE_ROWS].size[1];
    int64_t chosen = call->in_shape[COMBINE_PLACE].size[1];
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item);
    for (int64_t i = range.begin * chosen; i < range.end * chosen; i++) {
        int64_t p = ((const int32_t *)call->in[COMBINE_PLACE])[i];
        real weight = ((const real *)call->in[COMBINE_WEIGHTS])[i];
        const real *dy = (const real *)call->d_out[COMBINE_Y] + i / chosen * d;
        if (p < 0) {
            if (call->d_in[COMBINE_WEIGHTS] != NULL && !call->add[COMBINE_WEIGHTS]) {
                ((real *)call->d_in[COMBINE_WEIGHTS])[i] = 0;
            }
            continue;
        }
        if (call->d_in[COMBINE_ROWS] != NULL) {
            real *d_row = (real *)call->d_in[COMBINE_ROWS] + p * d;
            if (call->add[COMBINE_ROWS]) {
                kernels->axpy(d, d_row, weight, dy);
            } else {
                kernels->scale(d, d_row, weight, dy);
            }
        }
        if (call->d_in[COMBINE_WEIGHTS] != NULL) {
            real *d_weight = (real *)call->d_in[COMBINE_WEIGHTS] + i;
            real along = kernels->dot(d, dy, (const real *)call->in[COMBINE_ROWS] + p * d);
            *d_weight = call->add[COMBINE_WEIGHTS] ? *d_weight + along : along;
        }
    }
}

void MIXT_REAL(mixt_combine_backward)(const mixt_call *call)
{
    int64_t chosen = call->in_shape[COMBINE_PLACE].size[1];
    if (call->d_out[COMBINE_Y] == NULL) {
        mixt_put_zero(call, COMBINE_ROWS, mixt_values(call, COMBINE_ROWS));
        mixt_put_zero(call, COMBINE_WEIGHTS, call->tokens * chosen);
        return;
    }
    mixt_for_chunks(call, call->tokens, MIXT_ROWS, combine_backward_rows);
}
