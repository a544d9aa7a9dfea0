/* Shape rule and cost of competitive. */
#include "ops/shape.h"

static mixt_status check_experts(const mixt_shape_request *request, mixt_error *error)
{
    mixt_shape outputs = request->in[COMPETITIVE_MEANS];
    mixt_shape ids = request->in[COMPETITIVE_IDS];
    int64_t d = request->in[COMPETITIVE_TARGETS].size[1], experts = outputs.size[1] / d;
    if (outputs.size[1] != experts * d) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "competitive: outputs of %lld values are not targets of %lld side by side",
                         (long long)outputs.size[1], (long long)d);
    }
    if (ids.rank == 0) {
        MIXT_TRY(mixt_expect(&outputs, request->in[COMPETITIVE_TARGETS],
                             "competitive: outputs without ids", error));
        return mixt_expect(&request->in[COMPETITIVE_WEIGHTS], ids,
                           "competitive: weights without ids", error);
    }
    if (ids.rank != 2 || ids.size[1] < 1 || ids.size[1] > experts) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "competitive: %lld choices of %lld experts for a token",
                         (long long)(ids.rank == 2 ? ids.size[1] : 0), (long long)experts);
    }
    mixt_shape chosen = mixt_shape_columns(outputs, ids.size[1]);
    MIXT_TRY(mixt_expect(&ids, mixt_shape_integers(chosen), "competitive: ids", error));
    return mixt_expect(&request->in[COMPETITIVE_WEIGHTS], chosen, "competitive: weights", error);
}

mixt_status mixt_competitive_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape outputs = request->in[COMPETITIVE_MEANS];
    mixt_shape targets = request->in[COMPETITIVE_TARGETS];
    MIXT_TRY(mixt_expect_matrix(&outputs, "competitive: outputs", error));
    MIXT_TRY(mixt_expect_matrix(&targets, "competitive: targets", error));
    MIXT_TRY(mixt_expect(&targets, mixt_shape_columns(outputs, targets.size[1]),
                         "competitive: targets", error));
    MIXT_TRY(check_experts(request, error));
    MIXT_TRY(mixt_expect(&request->in[COMPETITIVE_SCALE], mixt_shape_static(1, MIXT_SCALES, 0, 0),
                         "competitive: scale", error));
    mixt_shape ids = request->in[COMPETITIVE_IDS];
    request->out[COMPETITIVE_NLL] = mixt_shape_leading(outputs);
    request->out[COMPETITIVE_MIXTURE] = targets;
    request->out[COMPETITIVE_FIT] = mixt_shape_columns(outputs, ids.rank == 0 ? 1 : ids.size[1]);
    return MIXT_OK;
}

void mixt_competitive_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double choices = mixt_out_values(request, COMPETITIVE_FIT);
    double values = choices * (double)request->in[COMPETITIVE_TARGETS].size[1];
    double bytes = 4 * values + 12 * choices;
    *cost = (mixt_cost){5 * values + 5 * choices, bytes, 4 * values + 2 * choices,
                        bytes + 4 * mixt_in_values(request, COMPETITIVE_MEANS)};
}
