/* Shape rule and cost of experts. */
#include "ops/shape.h"

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
    MIXT_TRY(mixt_expect(&request->in[EXPERTS_OFFSETS],
                         mixt_shape_integers(mixt_shape_static(1, experts + 1, 0, 0)),
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
    request->out[EXPERTS_Y] = rows;
    request->out[EXPERTS_GATE] = request->out[EXPERTS_UP] = mixt_shape_columns(rows, ffn);
    /* the list of products; then hidden, and in the backward d gate and d up as well */
    request->forward_workspace = mixt_gemm_list_reals(2 * experts) + rows.size[0] * ffn;
    request->backward_workspace = mixt_gemm_list_reals(4 * experts) + 3 * rows.size[0] * ffn;
    return MIXT_OK;
}

void mixt_experts_cost(const mixt_attributes *attributes, const mixt_shape *in,
                       const mixt_shape *out, int64_t tokens, mixt_cost *cost)
{
    (void)attributes;
    double rows = mixt_shape_values(&in[EXPERTS_ROWS], tokens),
           hidden = mixt_shape_values(&out[EXPERTS_GATE], tokens);
    double products = 6 * rows * (double)in[EXPERTS_W_GATE].size[1],
           experts = (double)in[EXPERTS_W_GATE].size[0];
    /* no more experts are read than there are rows */
    double read = (double)mixt_rows(&in[EXPERTS_ROWS], tokens);
    read =
        12 * mixt_shape_values(&in[EXPERTS_W_GATE], tokens) * (read < experts ? read / experts : 1);
    *cost = (mixt_cost){products + 5 * hidden, 8 * rows + 12 * hidden + read,
                        2 * products + 15 * hidden, 12 * rows + 20 * hidden + 2 * read};
}

size_t mixt_experts_hidden_offset(int64_t experts)
{
    return (size_t)mixt_gemm_list_reals(2 * experts) * sizeof(float);
}
