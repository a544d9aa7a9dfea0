/* dispatch copies tokens' rows into expert order; combine brings them back, weighted. Each is the
 * other's derivative by rows. place[t,j] is where choice j of token t lies in expert order, -1
 * where there is none: a token without an expert gives no row and gets zeros. */
#include "ops/support.h"

#if !MIXT_REAL_IS_DOUBLE
mixt_status mixt_dispatch_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape x = request->in[DISPATCH_X], place = request->in[DISPATCH_PLACE];
    MIXT_TRY(mixt_expect_matrix(&x, "dispatch: x", error));
    MIXT_TRY(
        mixt_expect(&x, mixt_shape_tokens(request->capacity, 1, x.size[1]), "dispatch: x", error));
    int64_t chosen = place.size[1] > 0 ? place.size[1] : 1;
    MIXT_TRY(mixt_expect(&place,
                         mixt_shape_integers(mixt_shape_tokens(request->capacity, 1, chosen)),
                         "dispatch: place", error));
    MIXT_TRY(mixt_expect(
        &request->in[DISPATCH_OFFSETS],
        mixt_shape_integers(mixt_shape_static(1, request->in[DISPATCH_OFFSETS].size[0], 0, 0)),
        "dispatch: offsets", error));
    MIXT_TRY(mixt_expect(&request->in[DISPATCH_ORDER],
                         mixt_shape_integers(mixt_shape_tokens(request->capacity, chosen, 0)),
                         "dispatch: order", error));
    request->out[DISPATCH_ROWS] = mixt_shape_tokens(request->capacity, chosen, x.size[1]);
    return MIXT_OK;
}

void mixt_dispatch_cost(const mixt_attributes *attributes, const mixt_shape *in,
                        const mixt_shape *out, int64_t tokens, mixt_cost *cost)
{
    (void)attributes;
    double x = mixt_shape_values(&in[DISPATCH_X], tokens),
           rows = mixt_shape_values(&out[DISPATCH_ROWS], tokens);
    *cost = (mixt_cost){0, 8 * rows, rows, 4 * (x + rows)};
}

mixt_status mixt_combine_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape rows = request->in[COMBINE_ROWS], place = request->in[COMBINE_PLACE];
    MIXT_TRY(mixt_expect_matrix(&rows, "combine: rows", error));
    int64_t chosen = place.size[1] > 0 ? place.size[1] : 1;
    mixt_shape choices = mixt_shape_tokens(request->capacity, 1, chosen);
    MIXT_TRY(mixt_expect(&place, mixt_shape_integers(choices), "combine: place", error));
    MIXT_TRY(mixt_expect(&request->in[COMBINE_WEIGHTS], choices, "combine: weights", error));
    MIXT_TRY(mixt_expect(&rows, mixt_shape_tokens(request->capacity, chosen, rows.size[1]),
                         "combine: rows", error));
    request->out[COMBINE_Y] = mixt_shape_tokens(request->capacity, 1, rows.size[1]);
    return MIXT_OK;
}

void mixt_combine_cost(const mixt_attributes *attributes, const mixt_shape *in,
                       const mixt_shape *out, int64_t tokens, mixt_cost *cost)
{
    (void)attributes;
    double rows = mixt_shape_values(&in[COMBINE_ROWS], tokens),
           y = mixt_shape_values(&out[COMBINE_Y], tokens);
    *cost = (mixt_cost){2 * rows, 4 * (rows + y), 3 * rows, 4 * (2 * rows + y)};
}
#endif

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
    mixt_for_chunks(call, call->tokens, MIXT_ROWS, dispatch_backward_rows);
}

static void combine_forward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int64_t d = call->in_shape[COMBINE_ROWS].size[1],
            chosen = call->in_shape[COMBINE_PLACE].size[1];
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
    mixt_for_chunks(call, call->tokens, MIXT_ROWS, combine_forward_rows);
}

static void combine_backward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int64_t d = call->in_shape[COMBINE_ROWS].size[1],
            chosen = call->in_shape[COMBINE_PLACE].size[1];
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
    int64_t d = call->in_shape[COMBINE_ROWS].size[1],
            chosen = call->in_shape[COMBINE_PLACE].size[1];
    if (call->d_out[COMBINE_Y] == NULL) {
        mixt_put_zero(call, COMBINE_ROWS, call->tokens * chosen * d);
        mixt_put_zero(call, COMBINE_WEIGHTS, call->tokens * chosen);
        return;
    }
    mixt_for_chunks(call, call->tokens, MIXT_ROWS, combine_backward_rows);
}
