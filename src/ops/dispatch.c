/* dispatch copies tokens' rows into expert order; combine brings them back, weighted. Each is the
 * other's derivative by rows. place[t,j] is where choice j of token t lies in expert order. */
#include "ops/support.h"

#if !MIXT_REAL_IS_DOUBLE
mixt_status mixt_dispatch_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape x = request->in[0], place = request->in[2];
    MIXT_TRY(mixt_expect_matrix(&x, "dispatch: x", error));
    MIXT_TRY(
        mixt_expect(&x, mixt_shape_tokens(request->capacity, 1, x.size[1]), "dispatch: x", error));
    int64_t chosen = place.size[1] > 0 ? place.size[1] : 1;
    MIXT_TRY(mixt_expect(&place,
                         mixt_shape_integers(mixt_shape_tokens(request->capacity, 1, chosen)),
                         "dispatch: place", error));
    MIXT_TRY(mixt_expect(&request->in[1],
                         mixt_shape_integers(mixt_shape_tokens(request->capacity, chosen, 0)),
                         "dispatch: order", error));
    request->out[0] = mixt_shape_tokens(request->capacity, chosen, x.size[1]);
    return MIXT_OK;
}

void mixt_dispatch_cost(const mixt_attributes *attributes, const mixt_shape *in,
                        const mixt_shape *out, int64_t tokens, mixt_cost *cost)
{
    (void)attributes;
    double x = mixt_shape_values(&in[0], tokens), rows = mixt_shape_values(&out[0], tokens);
    *cost = (mixt_cost){0, 8 * rows, rows, 4 * (x + rows)};
}

mixt_status mixt_combine_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape rows = request->in[0], place = request->in[2];
    MIXT_TRY(mixt_expect_matrix(&rows, "combine: rows", error));
    int64_t chosen = place.size[1] > 0 ? place.size[1] : 1;
    mixt_shape choices = mixt_shape_tokens(request->capacity, 1, chosen);
    MIXT_TRY(mixt_expect(&place, mixt_shape_integers(choices), "combine: place", error));
    MIXT_TRY(mixt_expect(&request->in[1], choices, "combine: weights", error));
    MIXT_TRY(mixt_expect(&rows, mixt_shape_tokens(request->capacity, chosen, rows.size[1]),
                         "combine: rows", error));
    request->out[0] = mixt_shape_tokens(request->capacity, 1, rows.size[1]);
    return MIXT_OK;
}

void mixt_combine_cost(const mixt_attributes *attributes, const mixt_shape *in,
                       const mixt_shape *out, int64_t tokens, mixt_cost *cost)
{
    (void)attributes;
    double rows = mixt_shape_values(&in[0], tokens), y = mixt_shape_values(&out[0], tokens);
    *cost = (mixt_cost){2 * rows, 4 * (rows + y), 3 * rows, 4 * (2 * rows + y)};
}
#endif

static void dispatch_forward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    int64_t d = call->in_shape[0].size[1], chosen = call->in_shape[2].size[1];
    const int32_t *order = call->in[1];
    mixt_range range = mixt_chunk(call->tokens * chosen, MIXT_ROWS, item);
    for (int64_t p = range.begin; p < range.end; p++) {
        memcpy((real *)call->out[0] + p * d, (const real *)call->in[0] + order[p] / chosen * d,
               (size_t)d * sizeof(real));
    }
}

void MIXT_REAL(mixt_dispatch_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, call->tokens * call->in_shape[2].size[1], MIXT_ROWS,
                    dispatch_forward_rows);
}

static void dispatch_backward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int64_t d = call->in_shape[0].size[1], chosen = call->in_shape[2].size[1];
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        const int32_t *place = (const int32_t *)call->in[2] + t * chosen;
        for (int64_t j = 0; j < chosen; j++) {
            mixt_put(kernels, d, (real *)call->d_in[0] + t * d,
                     (const real *)call->d_out[0] + place[j] * d, j > 0 || call->add[0]);
        }
    }
}

void MIXT_REAL(mixt_dispatch_backward)(const mixt_call *call)
{
    if (call->d_in[0] == NULL || call->d_out[0] == NULL) {
        mixt_put_zero(call, 0, call->tokens * call->in_shape[0].size[1]);
        return;
    }
    mixt_for_chunks(call, call->tokens, MIXT_ROWS, dispatch_backward_rows);
}

static void combine_forward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int64_t d = call->in_shape[0].size[1], chosen = call->in_shape[2].size[1];
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        const int32_t *place = (const int32_t *)call->in[2] + t * chosen;
        const real *weights = (const real *)call->in[1] + t * chosen;
        const real *rows = call->in[0];
        real *y = (real *)call->out[0] + t * d;
        kernels->scale(d, y, weights[0], rows + place[0] * d);
        for (int64_t j = 1; j < chosen; j++) {
            kernels->axpy(d, y, weights[j], rows + place[j] * d);
        }
    }
}

void MIXT_REAL(mixt_combine_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, call->tokens, MIXT_ROWS, combine_forward_rows);
}

static void combine_backward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int64_t d = call->in_shape[0].size[1], chosen = call->in_shape[2].size[1];
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item);
    for (int64_t i = range.begin * chosen; i < range.end * chosen; i++) {
        int64_t p = ((const int32_t *)call->in[2])[i];
        real weight = ((const real *)call->in[1])[i];
        const real *dy = (const real *)call->d_out[0] + i / chosen * d;
        if (call->d_in[0] != NULL) {
            real *d_row = (real *)call->d_in[0] + p * d;
            if (call->add[0]) {
                kernels->axpy(d, d_row, weight, dy);
            } else {
                kernels->scale(d, d_row, weight, dy);
            }
        }
        if (call->d_in[1] != NULL) {
            real *d_weight = (real *)call->d_in[1] + i;
            real along = kernels->dot(d, dy, (const real *)call->in[0] + p * d);
            *d_weight = call->add[1] ? *d_weight + along : along;
        }
    }
}

void MIXT_REAL(mixt_combine_backward)(const mixt_call *call)
{
    int64_t d = call->in_shape[0].size[1], chosen = call->in_shape[2].size[1];
    if (call->d_out[0] == NULL) {
        mixt_put_zero(call, 0, call->tokens * chosen * d);
        mixt_put_zero(call, 1, call->tokens * chosen);
        return;
    }
    mixt_for_chunks(call, call->tokens, MIXT_ROWS, combine_backward_rows);
}
