/* Shape rule and cost of experts. */
#include "ops/experts.h"

#include "ops/shape.h"

/* Groups behind those of the weights. */
static int64_t weightless(const mixt_attributes *attributes)
{
    return (int64_t)attributes->identity_experts + attributes->zero_experts;
}

mixt_status mixt_experts_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape rows = request->in[EXPERTS_ROWS], gate = request->in[EXPERTS_W_GATE];
    MIXT_TRY(mixt_expect_activation(request->attributes, "experts", error));
    MIXT_TRY(mixt_expect_matrix(&rows, "experts: rows", error));
    int64_t experts = gate.size[0], ffn = gate.size[1], d = rows.size[1];
    if (gate.rank != 3 || experts < 1 || ffn < 1) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "experts: w_gate is not [E, F, d]");
    }
    MIXT_TRY(mixt_expect(&gate, mixt_shape_static(3, experts, ffn, d), "experts: w_gate", error));
    MIXT_TRY(mixt_expect(&request->in[EXPERTS_W_UP], gate, "experts: w_up", error));
    MIXT_TRY(mixt_expect(&request->in[EXPERTS_W_DOWN], mixt_shape_static(3, experts, d, ffn),
                         "experts: w_down", error));
    int64_t groups = experts + weightless(request->attributes);
    MIXT_TRY(mixt_expect(&request->in[EXPERTS_OFFSETS],
                         mixt_shape_integers(mixt_shape_static(1, groups + 1, 0, 0)),
                         "experts: offsets", error));
    static const struct {
        int input;
        const char *name;
    } biases[] = {{EXPERTS_B_GATE, "experts: b_gate"},
                  {EXPERTS_B_UP, "experts: b_up"},
                  {EXPERTS_B_DOWN, "experts: b_down"}};
    for (int i = 0; i < 3; i++) {
        const mixt_shape *bias = &request->in[biases[i].input];
        int64_t columns = biases[i].input == EXPERTS_B_DOWN ? d : ffn;
        if (bias->rank != 0) {
            MIXT_TRY(mixt_expect(bias, mixt_shape_static(2, experts, columns, 0), biases[i].name,
                                 error));
        }
    }
    const mixt_shape *parts = &request->in[EXPERTS_PARTS];
    if (parts->rank != 0) {
        MIXT_TRY(mixt_expect(
            parts,
            mixt_shape_integers(mixt_shape_static(2, experts, mixt_most(parts->size[1], 1), 0)),
            "experts: parts", error));
    }
    request->out[EXPERTS_Y] = rows;
    request->out[EXPERTS_GATE] = request->out[EXPERTS_UP] = request->out[EXPERTS_HIDDEN] =
        mixt_shape_columns(rows, ffn);
    /* the list of products, of which chains take a place each, and the experts of a wave; in the
     * backward also hidden again, d gate and d up, and products that are added part by part */
    request->forward_workspace = mixt_gemm_list_reals(5 * experts);
    request->backward_workspace = mixt_gemm_list_reals(5 * experts) + 3 * rows.size[0] * ffn +
                                  (request->attributes->exact_parts ? experts * ffn * d : 0);
    return MIXT_OK;
}

void mixt_experts_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    const mixt_shape *weight = &request->in[EXPERTS_W_GATE];
    double experts = (double)weight->size[0];
    double rows = (double)mixt_rows(&request->in[EXPERTS_ROWS], request->tokens);
    /* as if all rows met weights, where a token may have as many experts with weights */
    double most = (double)mixt_most(request->in[EXPERTS_ROWS].multiple, 1);
    double part = most > experts && weightless(request->attributes) > 0 ? experts / most : 1;
    double values = mixt_in_values(request, EXPERTS_ROWS);
    double hidden = part * mixt_out_values(request, EXPERTS_GATE);
    double products = 6 * part * values * (double)weight->size[1];
    /* no more experts are read than there are rows */
    double read = (mixt_in_bytes(request, EXPERTS_W_GATE) + mixt_in_bytes(request, EXPERTS_W_UP) +
                   mixt_in_bytes(request, EXPERTS_W_DOWN)) *
                  (rows < experts ? rows / experts : 1);
    *cost = (mixt_cost){products + 5 * hidden, 8 * values + 12 * hidden + read,
                        2 * products + 15 * hidden, 12 * values + 20 * hidden + 2 * read};
}

mixt_status mixt_experts_within(mixt_shape_request *request, mixt_error *error)
{
    return mixt_experts_shape(request, error);
}

void mixt_experts_price(const mixt_cost_request *request, mixt_cost *cost)
{
    mixt_experts_cost(request, cost);
}
