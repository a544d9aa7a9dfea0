/* Shape rules and costs of adamw and squares. */
#include "ops/shape.h"

mixt_status mixt_adamw_shape(mixt_shape_request *request, mixt_error *error)
{
    if (request->in[ADAMW_WEIGHT].rank < 1 ||
        request->in[ADAMW_WEIGHT].dtype != MIXT_ELEMENT_REAL) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "adamw: weight is not numbers");
    }
    mixt_shape weight = request->in[ADAMW_WEIGHT];
    MIXT_TRY(mixt_expect(&request->in[ADAMW_GRADIENT], weight, "adamw: gradient", error));
    MIXT_TRY(mixt_expect(&request->in[ADAMW_M], weight, "adamw: m", error));
    return mixt_expect(&request->in[ADAMW_V], weight, "adamw: v", error);
}

void mixt_adamw_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double values = mixt_in_values(request, ADAMW_WEIGHT);
    *cost = (mixt_cost){12 * values, 28 * values, 0, 0};
}

mixt_status mixt_squares_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape x = request->in[SQUARES_X];
    MIXT_TRY(mixt_expect(&x, mixt_shape_static(1, x.size[0], 0, 0), "squares: x", error));
    request->out[SQUARES_SUMS] =
        mixt_shape_static(1, mixt_divide_up(x.size[0], MIXT_SQUARES_PART), 0, 0);
    request->out[SQUARES_SUMS].dtype = MIXT_ELEMENT_F64;
    return MIXT_OK;
}

void mixt_squares_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double values = mixt_in_values(request, SQUARES_X);
    *cost = (mixt_cost){2 * values, 4 * values, 0, 0};
}
