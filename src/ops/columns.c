/* Shape rules and costs of slice and join. */
#include "ops/shape.h"

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

void mixt_slice_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double taken = mixt_out_values(request, SLICE_Y), all = mixt_in_values(request, SLICE_X);
    *cost = (mixt_cost){0, 8 * taken, 0, 4 * (taken + all)};
}

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

void mixt_join_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double bytes = 8 * mixt_out_values(request, JOIN_Y);
    *cost = (mixt_cost){0, bytes, 0, bytes};
}
