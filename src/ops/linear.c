/* Shape rules and costs of linear and head_linear. */
#include "ops/latent.h"

mixt_status mixt_linear_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape x = request->in[LINEAR_X], weight = request->in[LINEAR_WEIGHT];
    MIXT_TRY(mixt_expect_matrix(&x, "linear: x", error));
    MIXT_TRY(mixt_expect_matrix(&weight, "linear: weight", error));
    MIXT_TRY(mixt_expect(&weight, mixt_shape_static(2, weight.size[0], x.size[1], 0),
                         "linear: weight", error));
    request->out[LINEAR_Y] = mixt_shape_columns(x, weight.size[0]);
    if (request->in[LINEAR_BIAS].rank != 0) {
        MIXT_TRY(mixt_expect(&request->in[LINEAR_BIAS], mixt_shape_static(1, weight.size[0], 0, 0),
                             "linear: bias", error));
        request->backward_workspace = mixt_divide_up(x.size[0], MIXT_SUM_ROWS) * weight.size[0];
    }
    return MIXT_OK;
}

void mixt_linear_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double products =
        2 * mixt_in_values(request, LINEAR_X) * (double)request->in[LINEAR_WEIGHT].size[0];
    double bytes = 4 * (mixt_in_values(request, LINEAR_X) + mixt_out_values(request, LINEAR_Y)) +
                   mixt_in_bytes(request, LINEAR_WEIGHT);
    *cost = (mixt_cost){products, bytes, 2 * products, 2 * bytes};
}

mixt_status mixt_head_linear_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape x = request->in[HEAD_LINEAR_X], weight = request->in[HEAD_LINEAR_WEIGHT];
    int64_t heads = request->attributes->heads, n = weight.size[1];
    MIXT_TRY(mixt_expect_matrix(&x, "head_linear: x", error));
    if (heads < 1 || x.size[1] % heads != 0 || weight.rank != 3 || n < 1) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "head_linear: rows of %lld are not %lld heads, or the weight is not "
                         "[heads, B, A]",
                         (long long)x.size[1], (long long)heads);
    }
    MIXT_TRY(mixt_expect(&weight, mixt_shape_static(3, heads, n, x.size[1] / heads),
                         "head_linear: weight", error));
    for (int i = HEAD_LINEAR_FIRST; i <= HEAD_LINEAR_LAST && request->attributes->partial; i++) {
        MIXT_TRY(mixt_expect(&request->in[i], mixt_shape_integers(mixt_shape_leading(x)),
                             "head_linear: first, last", error));
    }
    request->out[HEAD_LINEAR_Y] = mixt_shape_columns(x, heads * n);
    request->forward_workspace = mixt_gemm_list_reals(heads);
    request->backward_workspace = mixt_gemm_list_reals(2 * heads);
    return MIXT_OK;
}

void mixt_head_linear_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double products = 2 * mixt_in_values(request, HEAD_LINEAR_X) *
                      (double)request->in[HEAD_LINEAR_WEIGHT].size[1];
    if (request->attributes->partial && request->tokens >= MIXT_LATENT_ROWS) {
        *cost = (mixt_cost){0, 0, 0, 0};
        return;
    }
    double bytes =
        4 * (mixt_in_values(request, HEAD_LINEAR_X) + mixt_out_values(request, HEAD_LINEAR_Y)) +
        mixt_in_bytes(request, HEAD_LINEAR_WEIGHT);
    *cost = (mixt_cost){products, bytes, 2 * products, 2 * bytes};
}
