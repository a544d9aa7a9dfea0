/* Shape rule and cost of low_rank. */
#include "ops/shape.h"

mixt_status mixt_low_rank_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape weight = request->in[LOW_RANK_WEIGHT], a = request->in[LOW_RANK_A];
    if (weight.rank != 3 || weight.dtype != MIXT_ELEMENT_REAL || weight.per_token) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "low_rank: weight is not a stack of matrices");
    }
    int64_t experts = weight.size[0], rank = a.rank == 3 ? a.size[1] : 0;
    if (rank < 1) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "low_rank: a is not a stack of matrices");
    }
    MIXT_TRY(
        mixt_expect(&a, mixt_shape_static(3, experts, rank, weight.size[2]), "low_rank: a", error));
    MIXT_TRY(mixt_expect(&request->in[LOW_RANK_B],
                         mixt_shape_static(3, experts, weight.size[1], rank), "low_rank: b",
                         error));
    request->out[LOW_RANK_Y] = weight;
    /* records of products; b^T dy and dy a^T before they are scaled */
    request->backward_workspace =
        mixt_gemm_list_reals(2 * experts) + experts * rank * (weight.size[1] + weight.size[2]);
    return MIXT_OK;
}

void mixt_low_rank_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double values = mixt_in_values(request, LOW_RANK_WEIGHT);
    double rank = (double)request->in[LOW_RANK_A].size[1];
    double small = mixt_in_values(request, LOW_RANK_A) + mixt_in_values(request, LOW_RANK_B);
    *cost = (mixt_cost){(2 * rank + 2) * values, 8 * values + 4 * small, 4 * rank * values,
                        8 * values + 8 * small};
}
