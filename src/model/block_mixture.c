/* The mixture of experts of a block: route, dispatch, experts, combine, and the shared expert. */
#include "model/block.h"

/* The route record, whose counts, losses and finite rows are read after every step. */
static const mixt_value_id *route(mixt_builder *b, mixt_value_id x, int layer)
{
    mixt_graph *g = b->graph;
    const mixt_router_options *o = &b->model->options.router;
    int moe_layers = mixt_model_moe_layers(b->model);
    mixt_attributes attributes = {.router = mixt_model_router(b->model, layer),
                                  .balance_weight = o->balance_coefficient / moe_layers,
                                  .z_weight = o->z_coefficient / moe_layers};
    bool by_token = (mixt_router_needs(attributes.router) & MIXT_NEEDS_TOKENS) != 0;
    mixt_value_id tokens = by_token ? g->tokens : MIXT_NO_VALUE;
    mixt_outputs made =
        BUILD_ALL(b, MIXT_OP_route, attributes, {ROUTE_X, x},
                  {ROUTE_WEIGHT, mixt_build_weight(b, MIXT_SLOT_ROUTER, layer)},
                  {ROUTE_SELECT_BIAS, mixt_build_weight(b, MIXT_SLOT_ROUTER_BIAS, layer)},
                  {ROUTE_SCALE, g->scale},
                  {ROUTE_LOGIT_BIAS, mixt_build_weight(b, MIXT_SLOT_ROUTER_LOGIT_BIAS, layer)},
                  {ROUTE_TOKENS, tokens});
    mixt_route_values *record = &g->routes[g->moe_layers++];
    record->layer = layer;
    record->spec = attributes.router;
    for (int i = 0; i < ROUTE_OUTPUTS; i++) {
        record->value[i] = made.value[i];
        if (g->options.keep_routes || i == ROUTE_COUNTS || i == ROUTE_LOSSES || i == ROUTE_FINITE) {
            mixt_plan_keep(b->plan, record->value[i]);
        }
    }
    return record->value;
}

/* Always on, behind a gate sigmoid(g.x) in some families. */
static mixt_value_id shared(mixt_builder *b, mixt_value_id x, int layer)
{
    static const mixt_mlp_slots slots = {MIXT_SLOT_SHARED_GATE, MIXT_SLOT_SHARED_UP,
                                         MIXT_SLOT_SHARED_DOWN, MIXT_SLOT_COUNT,
                                         MIXT_SLOT_COUNT,       MIXT_SLOT_COUNT};
    mixt_value_id y = mixt_build_mlp(b, x, &slots, layer);
    if (b->model->options.shared_gate) {
        mixt_attributes none = {0};
        mixt_value_id g = mixt_build_linear(b, x, MIXT_SLOT_SHARED_ROUTER, MIXT_SLOT_COUNT, layer);
        y = BUILD(b, MIXT_OP_gate, none, {GATE_X, y}, {GATE_G, g});
    }
    return y;
}

/* y = sum over the chosen experts j of weight_j expert_j(x) + shared(x) */
mixt_value_id mixt_build_mixture(mixt_builder *b, mixt_value_id x, int layer)
{
    mixt_attributes attributes = {.router = mixt_model_router(b->model, layer),
                                  .activation = b->model->options.activation};
    const mixt_value_id *record = route(b, x, layer);
    mixt_value_id rows = BUILD_RECOMPUTED(
        b, MIXT_OP_dispatch, attributes, {DISPATCH_X, x}, {DISPATCH_OFFSETS, record[ROUTE_OFFSETS]},
        {DISPATCH_ORDER, record[ROUTE_ORDER]}, {DISPATCH_PLACE, record[ROUTE_PLACE]});
    mixt_value_id done =
        BUILD_RECOMPUTED(b, MIXT_OP_experts, attributes, {EXPERTS_ROWS, rows},
                         {EXPERTS_OFFSETS, record[ROUTE_OFFSETS]},
                         {EXPERTS_W_GATE, mixt_build_weight(b, MIXT_SLOT_EXPERT_GATE, layer)},
                         {EXPERTS_W_UP, mixt_build_weight(b, MIXT_SLOT_EXPERT_UP, layer)},
                         {EXPERTS_W_DOWN, mixt_build_weight(b, MIXT_SLOT_EXPERT_DOWN, layer)},
                         {EXPERTS_B_GATE, mixt_build_weight(b, MIXT_SLOT_EXPERT_GATE_BIAS, layer)},
                         {EXPERTS_B_UP, mixt_build_weight(b, MIXT_SLOT_EXPERT_UP_BIAS, layer)},
                         {EXPERTS_B_DOWN, mixt_build_weight(b, MIXT_SLOT_EXPERT_DOWN_BIAS, layer)});
    mixt_value_id y =
        BUILD(b, MIXT_OP_combine, attributes, {COMBINE_ROWS, done},
              {COMBINE_WEIGHTS, record[ROUTE_WEIGHTS]}, {COMBINE_PLACE, record[ROUTE_PLACE]});
    return b->model->options.shared_ffn_size > 0 ? mixt_build_add(b, y, shared(b, x, layer)) : y;
}
