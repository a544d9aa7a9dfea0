/* Shape rules and costs of norm, rope, swiglu, add and take. */
#include "ops/shape.h"

mixt_status mixt_norm_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape x = request->in[NORM_X];
    MIXT_TRY(mixt_expect_matrix(&x, "norm: x", error));
    int64_t group = request->attributes->head_dim;
    if (group == 0) {
        group = x.size[1];
    }
    if (group < 1 || x.size[1] % group != 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "norm: groups of %lld do not divide rows of %lld", (long long)group,
                         (long long)x.size[1]);
    }
    MIXT_TRY(mixt_expect(&request->in[NORM_WEIGHT], mixt_shape_static(1, group, 0, 0),
                         "norm: weight", error));
    request->out[NORM_Y] = x;
    request->out[NORM_INVERSE] = mixt_shape_columns(x, x.size[1] / group);
    /* for each chunk: its part of the weight's gradient, and one group in work */
    request->backward_workspace = mixt_divide_up(x.size[0], MIXT_SUM_ROWS) * 2 * group;
    return MIXT_OK;
}

void mixt_norm_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double values = mixt_in_values(request, NORM_X);
    *cost = (mixt_cost){4 * values, 8 * values, 8 * values, 16 * values};
}

mixt_status mixt_rope_shape(mixt_shape_request *request, mixt_error *error)
{
    const mixt_attributes *attributes = request->attributes;
    mixt_shape x = request->in[ROPE_X], table = request->in[ROPE_TABLE];
    int dims = attributes->rope_dims == 0 ? attributes->head_dim : attributes->rope_dims;
    MIXT_TRY(mixt_expect_matrix(&x, "rope: x", error));
    MIXT_TRY(mixt_expect_matrix(&table, "rope: table", error));
    if (attributes->heads < 1 || dims < 2 || dims % 2 != 0 || dims > attributes->head_dim) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "rope: %d values of %d heads of %d cannot be rotated in pairs", dims,
                         attributes->heads, attributes->head_dim);
    }
    MIXT_TRY(mixt_expect(&x,
                         mixt_shape_columns(x, (int64_t)attributes->heads * attributes->head_dim),
                         "rope: x", error));
    MIXT_TRY(mixt_expect(&request->in[ROPE_POSITIONS], mixt_shape_integers(mixt_shape_leading(x)),
                         "rope: positions", error));
    MIXT_TRY(
        mixt_expect(&table, mixt_shape_static(2, table.size[0], dims, 0), "rope: table", error));
    request->out[ROPE_Y] = x;
    request->backward_workspace = mixt_divide_up(x.size[0], MIXT_ROWS) * attributes->head_dim;
    return MIXT_OK;
}

void mixt_rope_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double values = mixt_in_values(request, ROPE_X);
    *cost = (mixt_cost){3 * values, 8 * values, 3 * values, 8 * values};
}

mixt_status mixt_swiglu_shape(mixt_shape_request *request, mixt_error *error)
{
    MIXT_TRY(mixt_expect_activation(request->attributes, "swiglu", error));
    MIXT_TRY(mixt_expect_matrix(&request->in[SWIGLU_GATE], "swiglu: gate", error));
    MIXT_TRY(mixt_expect(&request->in[SWIGLU_UP], request->in[SWIGLU_GATE], "swiglu: up", error));
    request->out[SWIGLU_Y] = request->in[SWIGLU_GATE];
    return MIXT_OK;
}

void mixt_swiglu_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double values = mixt_in_values(request, SWIGLU_GATE);
    *cost = (mixt_cost){5 * values, 12 * values, 10 * values, 20 * values};
}

mixt_status mixt_add_shape(mixt_shape_request *request, mixt_error *error)
{
    MIXT_TRY(mixt_expect_matrix(&request->in[ADD_A], "add: a", error));
    MIXT_TRY(mixt_expect(&request->in[ADD_B], request->in[ADD_A], "add: b", error));
    request->out[ADD_Y] = request->in[ADD_A];
    return MIXT_OK;
}

void mixt_add_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double values = mixt_in_values(request, ADD_A);
    *cost = (mixt_cost){values, 12 * values, 0, 16 * values};
}

mixt_status mixt_take_shape(mixt_shape_request *request, mixt_error *error)
{
    MIXT_TRY(mixt_expect_matrix(&request->in[TAKE_X], "take: x", error));
    int64_t rows = request->in[TAKE_ROWS].size[0];
    MIXT_TRY(mixt_expect(&request->in[TAKE_ROWS],
                         mixt_shape_integers(mixt_shape_static(1, mixt_most(rows, 1), 0, 0)),
                         "take: rows", error));
    request->out[TAKE_Y] = mixt_shape_static(2, rows, request->in[TAKE_X].size[1], 0);
    request->out[TAKE_Y].picked = true;
    return MIXT_OK;
}

void mixt_take_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    *cost = (mixt_cost){0, 8 * mixt_out_values(request, TAKE_Y), 0, 0};
}
