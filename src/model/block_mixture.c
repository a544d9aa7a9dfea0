/* The mixture of experts of a block: route, dispatch, experts, combine, and the shared expert. */
#include "model/block.h"

/* The route record, whose counts and losses are read after every step. */
static mixt_value_id *route(mixt_builder *b, mixt_value_id x, int layer)
{
    mixt_graph *g = b->graph;
    const mixt_router_options *o = &b->model->options.router;
    int moe_layers = mixt_model_moe_layers(b->model);
    mixt_attributes attributes = {.router = mixt_model_router(b->model, layer),
                                  .balance_weight = o->balance_coefficient / moe_layers,
                                  .z_weight = o->z_coefficient / moe_layers};
    mixt_value_id *record = g->routes[g->moe_layers];
    g->route_layer[g->moe_layers++] = layer;
    mixt_plan_operator(b->plan, MIXT_OP_route, &attributes,
                       (mixt_value_id[]){x, mixt_build_weight(b, MIXT_SLOT_ROUTER, layer),
                                         mixt_build_weight(b, MIXT_SLOT_ROUTER_BIAS, layer),
                                         g->scale,
                                         mixt_build_weight(b, MIXT_SLOT_ROUTER_LOGIT_BIAS, layer),
                                         MIXT_NO_VALUE, MIXT_NO_VALUE, MIXT_NO_VALUE},
                       record);
    for (int i = 0; i < 8; i++) {
        if (g->options.keep_routes || i == 2 || i == 7) {
            mixt_plan_keep(b->plan, record[i]);
        }
    }
    return record;
}

/* Always on, behind a gate sigmoid(g.x) in some families. */
static mixt_value_id shared(mixt_builder *b, mixt_value_id x, int layer)
{
    static const mixt_slot slots[] = {MIXT_SLOT_SHARED_GATE, MIXT_SLOT_SHARED_UP,
                                      MIXT_SLOT_SHARED_DOWN};
    mixt_value_id y = mixt_build_mlp(b, x, slots, layer);
    if (b->model->options.shared_gate) {
        mixt_attributes none = {0};
        mixt_value_id g = mixt_build_linear(b, x, MIXT_SLOT_SHARED_ROUTER, MIXT_SLOT_COUNT, layer);
        y = BUILD(b, MIXT_OP_gate, none, y, g);
    }
    return y;
}

mixt_value_id mixt_build_mixture(mixt_builder *b, mixt_value_id x, int layer)
{
    mixt_attributes attributes = {.router = mixt_model_router(b->model, layer),
                                  .activation = b->model->options.activation};
    const mixt_value_id *record = route(b, x, layer);
    b->plan->recompute = b->graph->options.recompute;
    mixt_value_id rows = BUILD(b, MIXT_OP_dispatch, attributes, x, record[4], record[5]);
    mixt_value_id done = BUILD(b, MIXT_OP_experts, attributes, rows, record[3],
                               mixt_build_weight(b, MIXT_SLOT_EXPERT_GATE, layer),
                               mixt_build_weight(b, MIXT_SLOT_EXPERT_UP, layer),
                               mixt_build_weight(b, MIXT_SLOT_EXPERT_DOWN, layer),
                               mixt_build_weight(b, MIXT_SLOT_EXPERT_GATE_BIAS, layer),
                               mixt_build_weight(b, MIXT_SLOT_EXPERT_UP_BIAS, layer),
                               mixt_build_weight(b, MIXT_SLOT_EXPERT_DOWN_BIAS, layer));
    b->plan->recompute = false;
    mixt_value_id y = BUILD(b, MIXT_OP_combine, attributes, done, record[1], record[5]);
    return b->model->options.shared_ffn_size > 0 ? mixt_build_add(b, y, shared(b, x, layer)) : y;
}
