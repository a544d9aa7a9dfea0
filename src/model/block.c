/* The generic block as a plan, read from top to bottom like the paper. What a family has or lacks
 * is an option of the model; no line here knows a family. */
#include "model/block.h"

#include <assert.h>

mixt_value_id mixt_build_weight(const mixt_builder *b, mixt_slot slot, int layer)
{
    int index = slot == MIXT_SLOT_COUNT ? -1 : mixt_model_find(b->model, slot, layer);
    return index < 0 ? MIXT_NO_VALUE : b->graph->parameters[index];
}

mixt_outputs mixt_build(mixt_builder *b, mixt_op op, mixt_attributes attributes, bool recompute,
                        const mixt_input *in, int count)
{
    mixt_value_id inputs[MIXT_SLOTS];
    mixt_outputs out = {{0}};
    for (int i = 0; i < MIXT_SLOTS; i++) {
        inputs[i] = MIXT_NO_VALUE;
    }
    for (int i = 0; i < count; i++) {
        assert(in[i].slot < mixt_operator_row(op)->inputs);
        inputs[in[i].slot] = in[i].value;
    }
    mixt_operation operation = {.op = op,
                                .layer = b->layer,
                                .recompute = recompute,
                                .attributes = &attributes,
                                .in = inputs};
    mixt_plan_operator(b->plan, &operation, out.value);
    return out;
}

mixt_value_id mixt_build_norm(mixt_builder *b, mixt_value_id x, mixt_slot slot, int layer,
                              int group)
{
    mixt_attributes attributes = {.epsilon = b->model->options.norm_epsilon, .head_dim = group};
    return BUILD(b, MIXT_OP_norm, attributes, {NORM_X, x},
                 {NORM_WEIGHT, mixt_build_weight(b, slot, layer)});
}

mixt_value_id mixt_build_linear(mixt_builder *b, mixt_value_id x, mixt_slot weight, mixt_slot bias,
                                int layer)
{
    mixt_attributes none = {0};
    return BUILD(b, MIXT_OP_linear, none, {LINEAR_X, x},
                 {LINEAR_WEIGHT, mixt_build_weight(b, weight, layer)},
                 {LINEAR_BIAS, mixt_build_weight(b, bias, layer)});
}

mixt_value_id mixt_build_add(mixt_builder *b, mixt_value_id x, mixt_value_id y)
{
    mixt_attributes none = {0};
    return BUILD(b, MIXT_OP_add, none, {ADD_A, x}, {ADD_B, y});
}

/* down(activation(gate x) * up x), each of the three with a bias where the model has one */
mixt_value_id mixt_build_mlp(mixt_builder *b, mixt_value_id x, const mixt_mlp_slots *slots,
                             int layer)
{
    mixt_attributes none = {0}, attributes = {.activation = b->model->options.activation};
    mixt_value_id gate =
        BUILD_RECOMPUTED(b, MIXT_OP_linear, none, {LINEAR_X, x},
                         {LINEAR_WEIGHT, mixt_build_weight(b, slots->gate, layer)},
                         {LINEAR_BIAS, mixt_build_weight(b, slots->gate_bias, layer)});
    mixt_value_id up = BUILD_RECOMPUTED(b, MIXT_OP_linear, none, {LINEAR_X, x},
                                        {LINEAR_WEIGHT, mixt_build_weight(b, slots->up, layer)},
                                        {LINEAR_BIAS, mixt_build_weight(b, slots->up_bias, layer)});
    mixt_value_id inner =
        BUILD_RECOMPUTED(b, MIXT_OP_swiglu, attributes, {SWIGLU_GATE, gate}, {SWIGLU_UP, up});
    return mixt_build_linear(b, inner, slots->down, slots->down_bias, layer);
}

/* x + part(norm(x)), or x + norm(part(norm(x))) */
mixt_value_id mixt_build_block(mixt_builder *b, mixt_value_id x, int layer)
{
    static const mixt_mlp_slots dense = {MIXT_SLOT_DENSE_GATE,    MIXT_SLOT_DENSE_UP,
                                         MIXT_SLOT_DENSE_DOWN,    MIXT_SLOT_DENSE_GATE_BIAS,
                                         MIXT_SLOT_DENSE_UP_BIAS, MIXT_SLOT_DENSE_DOWN_BIAS};
    bool post = b->model->options.post_norms;
    b->layer = layer;
    b->graph->layers[layer] = b->plan->record_count;
    b->foreseen_late = mixt_build_foresight(b, x, layer);
    mixt_value_id h = mixt_build_norm(b, x, MIXT_SLOT_ATTENTION_NORM, layer, 0);
    mixt_value_id y = mixt_build_attention(b, h, layer);
    y = post ? mixt_build_norm(b, y, MIXT_SLOT_ATTENTION_POST_NORM, layer, 0) : y;
    x = mixt_build_add(b, x, y);
    b->stream = x;
    h = mixt_build_norm(b, x, MIXT_SLOT_FFN_NORM, layer, 0);
    y = mixt_model_layer_is_moe(b->model, layer) ? mixt_build_mixture(b, h, layer)
                                                 : mixt_build_mlp(b, h, &dense, layer);
    y = post ? mixt_build_norm(b, y, MIXT_SLOT_FFN_POST_NORM, layer, 0) : y;
    x = mixt_build_add(b, x, y);
    b->layer = -1;
    return x;
}
