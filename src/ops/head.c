/* Shape rules and costs of embed and loss. */
#include "ops/head.h"

mixt_status mixt_embed_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape tokens = request->in[EMBED_TOKENS], table = request->in[EMBED_TABLE];
    MIXT_TRY(mixt_expect_matrix(&table, "embed: table", error));
    MIXT_TRY(mixt_expect(&tokens, mixt_shape_integers(mixt_shape_tokens(request->capacity, 1, 0)),
                         "embed: tokens", error));
    request->out[EMBED_X] = mixt_shape_tokens(request->capacity, 1, table.size[1]);
    return MIXT_OK;
}

void mixt_embed_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double values = mixt_out_values(request, EMBED_X);
    double read = values * request->value_bytes[EMBED_TABLE]; /* as many as are written */
    *cost = (mixt_cost){values, 4 * values + read, 2 * values, 12 * values};
}

mixt_status mixt_loss_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape x = request->in[LOSS_X], weight = request->in[LOSS_WEIGHT];
    MIXT_TRY(mixt_expect_matrix(&x, "loss: x", error));
    MIXT_TRY(mixt_expect_matrix(&weight, "loss: weight", error));
    MIXT_TRY(mixt_expect(&weight, mixt_shape_static(2, weight.size[0], x.size[1], 0),
                         "loss: weight", error));
    MIXT_TRY(mixt_expect(&request->in[LOSS_TARGETS], mixt_shape_integers(mixt_shape_leading(x)),
                         "loss: targets", error));
    MIXT_TRY(mixt_expect(&request->in[LOSS_SCALE], mixt_shape_static(1, MIXT_SCALES, 0, 0),
                         "loss: scale", error));
    request->out[LOSS_NLL] = mixt_shape_leading(x);
    request->out[LOSS_LOGITS] = mixt_shape_columns(x, weight.size[0]);
    request->out[LOSS_LIKELIEST] = mixt_shape_integers(mixt_shape_leading(x));
    request->backward_workspace = mixt_least(MIXT_LOSS_SLAB, x.size[0]) * weight.size[0];
    return MIXT_OK;
}

void mixt_loss_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double logits = mixt_out_values(request, LOSS_LOGITS);
    double products = 2 * logits * (double)request->in[LOSS_X].size[1];
    double bytes = 4 * mixt_in_values(request, LOSS_X) + mixt_in_bytes(request, LOSS_WEIGHT);
    *cost = (mixt_cost){products + 3 * logits, bytes + 8 * logits, 2 * products + 4 * logits,
                        2 * bytes + 8 * logits};
}
