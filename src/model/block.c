/* The generic block as a plan, read from top to bottom like the paper. What a family has or lacks
 * is an option of the model; no line here knows a family. */
#include "model/block.h"

mixt_value_id mixt_build_weight(const mixt_builder *b, mixt_slot slot, int layer)
{
    int index = slot == MIXT_SLOT_COUNT ? -1 : mixt_model_find(b->model, slot, layer);
    return index < 0 ? MIXT_NO_VALUE : b->graph->parameters[index];
}

mixt_value_id mixt_build(mixt_builder *b, mixt_op op, mixt_attributes attributes,
                         const mixt_value_id *in, int count)
{
    mixt_value_id inputs[MIXT_SLOTS], out[MIXT_SLOTS];
    for (int i = 0; i < MIXT_SLOTS; i++) {
        inputs[i] = i < count ? in[i] : MIXT_NO_VALUE;
    }
    mixt_plan_operator(b->plan, op, &attributes, inputs, out);
    return out[0];
}

mixt_value_id mixt_build_norm(mixt_builder *b, mixt_value_id x, mixt_slot slot, int layer,
                              int group)
{
    mixt_attributes attributes = {.epsilon = b->model->options.norm_epsilon, .head_dim = group};
    return BUILD(b, MIXT_OP_norm, attributes, x, mixt_build_weight(b, slot, layer));
}

mixt_value_id mixt_build_linear(mixt_builder *b, mixt_value_id x, mixt_slot weight, mixt_slot bias,
                                int layer)
{
    mixt_attributes attributes = {0};
    return BUILD(b, MIXT_OP_linear, attributes, x, mixt_build_weight(b, weight, layer),
                 mixt_build_weight(b, bias, layer));
}

mixt_value_id mixt_build_add(mixt_builder *b, mixt_value_id x, mixt_value_id y)
{
    mixt_attributes attributes = {0};
    return BUILD(b, MIXT_OP_add, attributes, x, y);
}

/* down(activation(gate x) * up x) */
mixt_value_id mixt_build_mlp(mixt_builder *b, mixt_value_id x, const mixt_slot slots[3], int layer)
{
    mixt_attributes attributes = {.activation = b->model->options.activation};
    b->plan->recompute = b->graph->options.recompute;
    mixt_value_id gate = mixt_build_linear(b, x, slots[0], MIXT_SLOT_COUNT, layer);
    mixt_value_id up = mixt_build_linear(b, x, slots[1], MIXT_SLOT_COUNT, layer);
    mixt_value_id inner = BUILD(b, MIXT_OP_swiglu, attributes, gate, up);
    b->plan->recompute = false;
    return mixt_build_linear(b, inner, slots[2], MIXT_SLOT_COUNT, layer);
}

/* x + part(norm(x)), or x + norm(part(norm(x))) */
mixt_value_id mixt_build_block(mixt_builder *b, mixt_value_id x, int layer)
{
    static const mixt_slot dense[] = {MIXT_SLOT_DENSE_GATE, MIXT_SLOT_DENSE_UP,
                                      MIXT_SLOT_DENSE_DOWN};
    bool post = b->model->options.post_norms;
    b->plan->layer = layer;
    mixt_value_id h = mixt_build_norm(b, x, MIXT_SLOT_ATTENTION_NORM, layer, 0);
    mixt_value_id y = mixt_build_attention(b, h, layer);
    y = post ? mixt_build_norm(b, y, MIXT_SLOT_ATTENTION_POST_NORM, layer, 0) : y;
    x = mixt_build_add(b, x, y);
    h = mixt_build_norm(b, x, MIXT_SLOT_FFN_NORM, layer, 0);
    y = mixt_model_layer_is_moe(b->model, layer) ? mixt_build_mixture(b, h, layer)
                                                 : mixt_build_mlp(b, h, dense, layer);
    y = post ? mixt_build_norm(b, y, MIXT_SLOT_FFN_POST_NORM, layer, 0) : y;
    x = mixt_build_add(b, x, y);
    b->plan->layer = -1;
    return x;
}
