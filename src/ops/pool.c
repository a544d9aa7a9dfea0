/* Shape rules and costs of what stands between a block and its router: pool and jitter. */
#include "ops/pages.h"

mixt_status mixt_pool_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape x = request->in[POOL_X];
    mixt_shape rows = mixt_shape_integers(mixt_shape_tokens(request->capacity, 1, 0));
    MIXT_TRY(mixt_expect_matrix(&x, "pool: x", error));
    MIXT_TRY(mixt_expect(&x, mixt_shape_tokens(request->capacity, 1, x.size[1]), "pool: x", error));
    MIXT_TRY(mixt_expect(&request->in[POOL_FIRST], rows, "pool: first", error));
    MIXT_TRY(mixt_expect(&request->in[POOL_LAST], rows, "pool: last", error));
    if (request->attributes->segment < 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "pool: segments of %d tokens",
                         request->attributes->segment);
    }
    if (request->in[POOL_CACHE].rank != 0) {
        MIXT_TRY(mixt_expect(&request->in[POOL_CACHE],
                             mixt_shape_static(2, request->in[POOL_CACHE].size[0], x.size[1], 0),
                             "pool: cache", error));
    } else {
        request->forward_workspace = request->capacity * x.size[1]; /* sums up to each row */
    }
    MIXT_TRY(mixt_expect_pages(request, POOL_PAGES, POOL_SEQUENCE, POOL_CACHE, "pool", error));
    request->backward_workspace = 2 * x.size[1];
    request->out[POOL_Y] = x;
    return MIXT_OK;
}

void mixt_pool_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double x = mixt_in_values(request, POOL_X);
    *cost = (mixt_cost){2 * x, 12 * x, 2 * x, 12 * x};
}

mixt_status mixt_jitter_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape x = request->in[JITTER_X];
    MIXT_TRY(mixt_expect_matrix(&x, "jitter: x", error));
    MIXT_TRY(
        mixt_expect(&x, mixt_shape_tokens(request->capacity, 1, x.size[1]), "jitter: x", error));
    MIXT_TRY(mixt_expect(&request->in[JITTER_DRAW],
                         mixt_shape_integers(mixt_shape_static(1, MIXT_DRAWS, 0, 0)),
                         "jitter: draw", error));
    if (!(request->attributes->jitter >= 0 && request->attributes->jitter < 1)) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "jitter: %g is not in 0..1",
                         request->attributes->jitter);
    }
    request->out[JITTER_Y] = x;
    return MIXT_OK;
}

void mixt_jitter_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double x = mixt_in_values(request, JITTER_X);
    *cost = (mixt_cost){x, 8 * x, x, 8 * x};
}
