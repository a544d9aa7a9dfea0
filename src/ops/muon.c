/* Shape rule and cost of muon. */
#include "ops/shape.h"

mixt_status mixt_muon_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape weight = request->in[MUON_WEIGHT];
    if (weight.rank != 3 || weight.dtype != MIXT_ELEMENT_REAL || weight.per_token) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "muon: weight is not a stack of matrices");
    }
    MIXT_TRY(mixt_expect(&request->in[MUON_GRADIENT], weight, "muon: gradient", error));
    MIXT_TRY(mixt_expect(&request->in[MUON_M], weight, "muon: m", error));
    int64_t matrices = mixt_least(weight.size[0], MIXT_MUON_GROUP);
    int64_t values = weight.size[1] * weight.size[2];
    int64_t side = mixt_least(weight.size[1], weight.size[2]);
    /* records of products; squares in double; x and next; the product of x with itself, and the
     * polynomial of it */
    request->forward_workspace =
        mixt_gemm_list_reals(matrices) +
        2 * mixt_round_up_reals(matrices * mixt_divide_up(values, MIXT_ELEMENTS)) +
        2 * matrices * (values + side * side);
    return MIXT_OK;
}

void mixt_muon_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    const mixt_shape *weight = &request->in[MUON_WEIGHT];
    double values = mixt_in_values(request, MUON_WEIGHT);
    double side = (double)mixt_least(weight->size[1], weight->size[2]);
    double squares = (double)weight->size[0] * side * side;
    double products =
        (double)request->attributes->muon->steps * (3 * side * values + side * squares);
    *cost = (mixt_cost){products + 14 * values, 20 * values, 0, 0};
}
