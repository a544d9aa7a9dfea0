/* Shape rules and costs of scale, clamp, sigmoid and gate. */
#include <math.h>

#include "ops/shape.h"

mixt_status mixt_scale_shape(mixt_shape_request *request, mixt_error *error)
{
    MIXT_TRY(mixt_expect_matrix(&request->in[SCALE_X], "scale: x", error));
    if (!isfinite(request->attributes->scale)) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "scale: %g is not usable",
                         request->attributes->scale);
    }
    request->out[SCALE_Y] = request->in[SCALE_X];
    return MIXT_OK;
}

void mixt_scale_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double values = mixt_in_values(request, SCALE_X);
    *cost = (mixt_cost){values, 8 * values, values, 8 * values};
}

mixt_status mixt_clamp_shape(mixt_shape_request *request, mixt_error *error)
{
    MIXT_TRY(mixt_expect_matrix(&request->in[CLAMP_X], "clamp: x", error));
    if (!(request->attributes->limit > 0)) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "clamp: limit %g is not more than 0",
                         request->attributes->limit);
    }
    request->out[CLAMP_Y] = request->in[CLAMP_X];
    return MIXT_OK;
}

void mixt_clamp_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double values = mixt_in_values(request, CLAMP_X);
    *cost = (mixt_cost){2 * values, 8 * values, 2 * values, 12 * values};
}

mixt_status mixt_sigmoid_shape(mixt_shape_request *request, mixt_error *error)
{
    MIXT_TRY(mixt_expect_matrix(&request->in[SIGMOID_X], "sigmoid: x", error));
    request->out[SIGMOID_Y] = request->in[SIGMOID_X];
    return MIXT_OK;
}

void mixt_sigmoid_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double values = mixt_in_values(request, SIGMOID_X);
    *cost = (mixt_cost){4 * values, 8 * values, 3 * values, 12 * values};
}

mixt_status mixt_gate_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape x = request->in[GATE_X];
    MIXT_TRY(mixt_expect_matrix(&x, "gate: x", error));
    MIXT_TRY(mixt_expect(&request->in[GATE_G], mixt_shape_columns(x, 1), "gate: g", error));
    request->out[GATE_Y] = x;
    return MIXT_OK;
}

void mixt_gate_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double values = mixt_in_values(request, GATE_X);
    *cost = (mixt_cost){values, 8 * values, 3 * values, 16 * values};
}
