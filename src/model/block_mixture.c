/* The mixture of experts of a block: route, dispatch, experts, combine, and the shared expert. */
#include "core/arithmetic.h"
#include "model/adapters.h"
#include "model/block.h"
#include "ops/exchange.h"

/* What the router is given: the rows, or a mean of a document's; in training with jitter. */
static mixt_value_id decide_by(mixt_builder *b, mixt_value_id x)
{
    const mixt_graph *g = b->graph;
    const mixt_router_options *o = &b->model->options.router;
    mixt_attributes attributes = {.segment = o->segment, .jitter = o->jitter};
    if (o->unit != MIXT_UNIT_TOKEN) {
        mixt_value_id sums =
            mixt_build_state(b, "sums", MIXT_TYPE_F32, b->model->options.hidden_size);
        x = BUILD(b, MIXT_OP_pool, attributes, {POOL_X, x}, {POOL_FIRST, g->first},
                  {POOL_LAST, g->last}, {POOL_CACHE, sums}, {POOL_PAGES, g->pages},
                  {POOL_SEQUENCE, g->sequence});
    }
    return o->jitter > 0 && g->draw != MIXT_NO_VALUE
               ? BUILD(b, MIXT_OP_jitter, attributes, {JITTER_X, x}, {JITTER_DRAW, g->draw})
               : x;
}

/* Whose micro batches a step has beside this rank's. */
static mixt_ranks *step_ranks(const mixt_builder *b)
{
    mixt_ranks *ranks = b->model->ranks;
    bool train = b->graph->options.phase == MIXT_PHASE_TRAIN;
    return train && ranks != NULL && mixt_group_size(ranks, MIXT_GROUP_ALL) > 1 ? ranks : NULL;
}

static mixt_attributes route_attributes(const mixt_builder *b, int layer)
{
    const mixt_router_options *o = &b->model->options.router;
    mixt_phase phase = b->graph->options.phase;
    int routers = mixt_model_routers(b->model);
    const mixt_graph_options *g = &b->graph->options;
    return (mixt_attributes){
        .router = mixt_model_router(b->model, layer),
        .variants = g->routers == NULL ? NULL : g->routers + layer * g->sequences,
        .columns = (int)mixt_least(g->chosen, mixt_options_routed(&b->model->options)),
        .training = phase == MIXT_PHASE_TRAIN,
        .capacity = phase == MIXT_PHASE_TRAIN   ? o->capacity
                    : phase == MIXT_PHASE_SCORE ? o->evaluation_capacity
                                                : 0,
        .ranks = step_ranks(b),
        .balance_weight = o->balance_coefficient / routers,
        .device_weight = o->device_balance_coefficient / routers,
        .z_weight = o->z_coefficient / routers};
}

/* What the loss of a layer counts over a whole step. */
static mixt_value_id seen(mixt_builder *b)
{
    const mixt_model_options *o = &b->model->options;
    int routed = mixt_options_routed(o);
    mixt_shape counts = step_ranks(b) != NULL ? mixt_shape_static(2, 2, routed, 0)
                                              : mixt_shape_static(1, routed, 0, 0);
    bool step = b->graph->options.phase == MIXT_PHASE_TRAIN &&
                o->router.balance_scope == MIXT_BALANCE_OVER_STEP;
    return step ? mixt_plan_state(b->plan, "seen", mixt_shape_integers(counts)) : MIXT_NO_VALUE;
}

/* A layer's own decision, by rows that are given to its router. */
static mixt_outputs decide(mixt_builder *b, mixt_value_id x, int layer)
{
    mixt_graph *g = b->graph;
    mixt_attributes attributes = route_attributes(b, layer);
    if ((mixt_router_needs(attributes.router) & MIXT_GIVES_MORE) != 0 && attributes.training) {
        attributes.capacity = 0; /* its experts take as many as they are to have */
    }
    bool by_token = (mixt_router_needs(attributes.router) & MIXT_NEEDS_TOKENS) != 0;
    bool by_document = mixt_router_needs_first(attributes.router, attributes.training);
    g->seen[g->moe_layers] = seen(b);
    return BUILD_ALL(b, MIXT_OP_route, attributes, {ROUTE_X, x},
                     {ROUTE_WEIGHT, mixt_build_weight(b, MIXT_SLOT_ROUTER, layer)},
                     {ROUTE_SELECT_BIAS, mixt_build_weight(b, MIXT_SLOT_ROUTER_BIAS, layer)},
                     {ROUTE_SCALE, g->scale},
                     {ROUTE_LOGIT_BIAS, mixt_build_weight(b, MIXT_SLOT_ROUTER_LOGIT_BIAS, layer)},
                     {ROUTE_TOKENS, by_token ? g->tokens : MIXT_NO_VALUE},
                     {ROUTE_BALANCE, g->balance},
                     {ROUTE_FIRST, by_document ? g->first : MIXT_NO_VALUE}, {ROUTE_DRAW, g->draw},
                     {ROUTE_SEEN, g->seen[g->moe_layers]}, {ROUTE_VARIANT, g->variant});
}

/* The choices that a layer's router would have made where the router before it made its own. */
static mixt_value_id decide_ahead(mixt_builder *b, int layer)
{
    if (!b->graph->options.look_ahead || b->routed == MIXT_NO_VALUE) {
        return MIXT_NO_VALUE;
    }
    mixt_value_id ids = decide(b, b->routed, layer).value[ROUTE_IDS];
    mixt_plan_keep(b->plan, ids);
    return ids;
}

mixt_value_id mixt_build_foresight(mixt_builder *b, mixt_value_id x, int layer)
{
    const mixt_model *model = b->model;
    if (model->stored == NULL || b->graph->options.phase == MIXT_PHASE_TRAIN ||
        layer == model->options.layers || !mixt_model_layer_is_moe(model, layer) ||
        !mixt_model_layer_routes(model, layer) || model->options.router.unit != MIXT_UNIT_TOKEN) {
        return MIXT_NO_VALUE;
    }
    mixt_value_id h = mixt_build_norm(b, x, MIXT_SLOT_FFN_NORM, layer, 0);
    mixt_value_id ids = decide(b, h, layer).value[ROUTE_IDS];
    mixt_plan_keep(b->plan, ids);
    return ids;
}

static int next_mixture(const mixt_model *model, int layer)
{
    do {
        layer++;
    } while (layer < model->options.layers && !mixt_model_layer_is_moe(model, layer));
    return layer;
}

/* The route record, whose counts, losses and finite rows are read after every step. */
static const mixt_value_id *route(mixt_builder *b, mixt_value_id x, int layer)
{
    mixt_graph *g = b->graph;
    mixt_route_values *record = &g->routes[g->moe_layers];
    if (mixt_model_layer_routes(b->model, layer)) {
        mixt_value_id by = decide_by(b, x);
        mixt_outputs made = decide(b, by, layer);
        record->ahead = decide_ahead(b, layer);
        record->foreseen = b->foreseen;
        record->foreseen_late = b->foreseen_late;
        b->foreseen = mixt_build_foresight(b, b->stream, next_mixture(b->model, layer));
        b->routed = by;
        record->made = layer;
        record->select_bias = mixt_build_weight(b, MIXT_SLOT_ROUTER_BIAS, layer);
        bool quantile = g->options.phase == MIXT_PHASE_TRAIN &&
                        b->model->options.router.bias_update == MIXT_BIAS_QUANTILE;
        for (int i = 0; i < ROUTE_OUTPUTS; i++) {
            record->value[i] = made.value[i];
            if (g->options.keep_routes || i == ROUTE_COUNTS || i == ROUTE_LOSSES ||
                i == ROUTE_FINITE || i == ROUTE_OFFSETS || (i == ROUTE_SCORES && quantile)) {
                mixt_plan_keep(b->plan, record->value[i]);
            }
        }
    } else { /* as the first layer with experts decided */
        *record = g->routes[0];
        record->foreseen = record->foreseen_late = MIXT_NO_VALUE;
        record->ahead = g->options.look_ahead ? record->value[ROUTE_IDS] : MIXT_NO_VALUE;
        g->seen[g->moe_layers] = MIXT_NO_VALUE;
    }
    record->layer = layer;
    record->spec = mixt_model_router(b->model, layer);
    g->moe_layers++;
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

/* An expert matrix, with its adapters where it has some. That is made again for the backward in any
 * case: the matrices of all layers at once would be as large as all experts. */
static mixt_value_id expert_weight(mixt_builder *b, mixt_slot slot, int layer)
{
    const mixt_adapters *adapters = b->model->adapters;
    mixt_value_id weight = mixt_build_weight(b, slot, layer);
    mixt_value_id a = mixt_build_weight(b, mixt_adapter_a(slot), layer);
    if (a == MIXT_NO_VALUE || b->graph->options.merged) {
        return weight;
    }
    mixt_attributes attributes = {.scale = adapters->alpha / adapters->rank};
    return BUILD_AGAIN(b, MIXT_OP_low_rank, attributes, {LOW_RANK_WEIGHT, weight}, {LOW_RANK_A, a},
                       {LOW_RANK_B, mixt_build_weight(b, mixt_adapter_b(slot), layer)});
}

/* Whether rank 0 alone has tokens, and the others compute their experts for it. */
static bool headed(const mixt_builder *b)
{
    return b->graph->options.phase != MIXT_PHASE_TRAIN;
}

/* Rows that all ranks may send to this one's experts together, for each token of theirs. All
 * methods give a token different experts, so a rank sends no more than the rows that its tokens
 * have, nor more for a token than there are experts here; in training a capacity may leave fewer.
 */
static int far_rows(const mixt_builder *b, int layer, int near)
{
    const mixt_model_options *o = &b->model->options;
    const mixt_graph_options *g = &b->graph->options;
    int64_t tokens = g->capacity, held = b->model->share.count;
    if (headed(b)) { /* of rank 0 alone */
        return g->phase == MIXT_PHASE_WORK ? (int)mixt_least(g->rows, held) : near;
    }
    int64_t behind = (int64_t)o->identity_experts + o->zero_experts; /* whose rows stay */
    mixt_attributes route = route_attributes(b, layer);
    int64_t each = INT64_MAX; /* rows of an expert */
    if (route.training && (mixt_router_needs(route.router) & MIXT_GIVES_MORE) == 0) {
        each = mixt_router_capacity(route.router, route.capacity, tokens);
    }
    each = mixt_least(each, tokens);
    int64_t other = mixt_least(near * tokens, held * each);
    int64_t own = mixt_least(near * tokens, (held + behind) * each);
    return (int)mixt_divide_up(own + (b->model->ranks->expert - 1) * other, tokens);
}

/* Rows where their experts are, with the offsets of those. */
typedef struct exchanged {
    mixt_value_id rows, offsets;
    mixt_value_id parts; /* which rank sent what; MIXT_NO_VALUE: all experts are here */
    int near;            /* rows of a token before */
    int chunks;          /* in which they go */
} exchanged;

static mixt_attributes exchange_attributes(const mixt_builder *b, int rows, int chunks)
{
    return (mixt_attributes){.ranks = b->model->ranks,
                             .rows = rows,
                             .chunks = chunks,
                             .head = headed(b),
                             .identity_experts = b->model->options.identity_experts,
                             .zero_experts = b->model->options.zero_experts};
}

/* By what each rank knows of all: as many tokens, and as many rows of each, as it has at most. */
static int chunks_of(const mixt_builder *b, int near)
{
    const mixt_model_options *o = &b->model->options;
    double values = (double)b->plan->capacity * near * (double)o->hidden_size;
    return mixt_exchange_chunks(b->model->ranks, values * (double)b->plan->real_size);
}

static exchanged exchange(mixt_builder *b, mixt_value_id rows, mixt_value_id offsets, int layer)
{
    const mixt_ranks *ranks = b->model->ranks;
    exchanged there = {rows, offsets, MIXT_NO_VALUE, 0, 1};
    if (ranks == NULL || ranks->expert == 1 || rows < 0) {
        return there;
    }
    there.near = (int)b->plan->values[rows].shape.multiple;
    there.chunks = chunks_of(b, there.near);
    mixt_outputs made = mixt_build(
        b, MIXT_OP_exchange, exchange_attributes(b, far_rows(b, layer, there.near), there.chunks),
        b->graph->options.recompute,
        BUILD_INPUTS({EXCHANGE_ROWS, rows}, {EXCHANGE_OFFSETS, offsets}));
    there.rows = made.value[EXCHANGE_ARRIVED];
    there.offsets = made.value[EXCHANGE_HELD];
    there.parts = made.value[EXCHANGE_PARTS];
    return there;
}

/* Ends it: rows in the order of the experts that are here. */
static void arrive(mixt_builder *b, mixt_value_id sent, mixt_value_id offsets, exchanged *there)
{
    if (there->parts != MIXT_NO_VALUE) {
        int rows = (int)b->plan->values[there->rows].shape.multiple;
        there->rows = BUILD_RECOMPUTED(b, MIXT_OP_arrive, exchange_attributes(b, rows, 1),
                                       {ARRIVE_ROWS, sent}, {ARRIVE_OFFSETS, offsets},
                                       {ARRIVE_ARRIVED, there->rows}, {ARRIVE_PARTS, there->parts});
    }
}

/* What experts made of them, where their tokens are. */
static mixt_value_id give_back(mixt_builder *b, mixt_value_id rows, mixt_value_id offsets,
                               const exchanged *there)
{
    if (there->parts == MIXT_NO_VALUE) {
        return rows;
    }
    return BUILD_RECOMPUTED(b, MIXT_OP_give_back, exchange_attributes(b, there->near, 1),
                            {GIVE_BACK_ROWS, rows}, {GIVE_BACK_OFFSETS, offsets},
                            {GIVE_BACK_PARTS, there->parts});
}

static mixt_attributes experts_attributes(const mixt_builder *b, int layer)
{
    return (mixt_attributes){.router = mixt_model_router(b->model, layer),
                             .activation = b->model->options.activation,
                             .identity_experts = b->model->options.identity_experts,
                             .zero_experts = b->model->options.zero_experts};
}

/* The six inputs that experts and far_experts have of a layer's experts. */
#define EXPERT_WEIGHTS(b, NAME, layer)                                                             \
    {NAME##_W_GATE, expert_weight(b, MIXT_SLOT_EXPERT_GATE, layer)},                               \
        {NAME##_W_UP, expert_weight(b, MIXT_SLOT_EXPERT_UP, layer)},                               \
        {NAME##_W_DOWN, expert_weight(b, MIXT_SLOT_EXPERT_DOWN, layer)},                           \
        {NAME##_B_GATE, mixt_build_weight(b, MIXT_SLOT_EXPERT_GATE_BIAS, layer)},                  \
        {NAME##_B_UP, mixt_build_weight(b, MIXT_SLOT_EXPERT_UP_BIAS, layer)},                      \
    {                                                                                              \
        NAME##_B_DOWN, mixt_build_weight(b, MIXT_SLOT_EXPERT_DOWN_BIAS, layer)                     \
    }

static mixt_status intact(const void *user, mixt_error *error)
{
    return mixt_model_intact(user, error);
}

/* All that stands between exchange and combine, where rows go in chunks; and where rank 0 says in
 * how many. */
static mixt_value_id far_experts(mixt_builder *b, mixt_value_id rows, mixt_value_id offsets,
                                 const exchanged *there)
{
    int layer = b->layer, far = (int)b->plan->values[there->rows].shape.multiple;
    mixt_attributes attributes = exchange_attributes(b, far, there->chunks);
    attributes.activation = b->model->options.activation;
    attributes.exact_parts = b->graph->options.exact_reduce;
    if (b->graph->options.phase == MIXT_PHASE_WORK) {
        attributes.intact = intact;
        attributes.intact_user = b->model;
    }
    return BUILD_RECOMPUTED(b, MIXT_OP_far_experts, attributes, {FAR_EXPERTS_NEAR, rows},
                            {FAR_EXPERTS_OFFSETS, there->offsets},
                            EXPERT_WEIGHTS(b, FAR_EXPERTS, layer),
                            {FAR_EXPERTS_PARTS, there->parts}, {FAR_EXPERTS_NEAR_OFFSETS, offsets},
                            {FAR_EXPERTS_ARRIVED, there->rows});
}

/* What the experts make of rows in their order, wherever those experts are; while rows are on their
 * way there, the shared expert's `*always` of x, where that is wanted (NULL: it is not). */
static mixt_value_id compute(mixt_builder *b, mixt_value_id rows, mixt_value_id offsets,
                             mixt_value_id x, mixt_value_id *always)
{
    int layer = b->layer;
    mixt_attributes attributes = experts_attributes(b, layer);
    exchanged there = exchange(b, rows, offsets, layer);
    if (always != NULL && there.parts != MIXT_NO_VALUE) {
        *always = shared(b, x, layer);
    }
    if (there.chunks > 1 || b->graph->options.phase == MIXT_PHASE_WORK) {
        return far_experts(b, rows, offsets, &there);
    }
    arrive(b, rows, offsets, &there);
    attributes.exact_parts = b->graph->options.exact_reduce && there.parts != MIXT_NO_VALUE;
    bool copies = attributes.exact_parts && b->model->ranks->data > 1;
    attributes.ranks = copies ? b->model->ranks : NULL;
    mixt_value_id done =
        BUILD_RECOMPUTED(b, MIXT_OP_experts, attributes, {EXPERTS_ROWS, there.rows},
                         {EXPERTS_OFFSETS, there.offsets}, EXPERT_WEIGHTS(b, EXPERTS, layer),
                         {EXPERTS_PARTS, attributes.exact_parts ? there.parts : MIXT_NO_VALUE});
    return give_back(b, done, offsets, &there);
}

void mixt_build_work(mixt_builder *b, mixt_value_id rows, mixt_value_id offsets, int layer)
{
    b->layer = layer;
    (void)compute(b, rows, offsets, MIXT_NO_VALUE, NULL);
    b->layer = -1;
}

/* y = sum over the chosen experts j of weight_j expert_j(x) + shared(x) */
mixt_value_id mixt_build_mixture(mixt_builder *b, mixt_value_id x, int layer)
{
    mixt_attributes attributes = experts_attributes(b, layer);
    const mixt_value_id *record = route(b, x, layer);
    const bool both = b->model->options.shared_ffn_size > 0;
    /* the shared expert first where others are still being read */
    bool early = both && b->model->stored != NULL && b->graph->options.phase != MIXT_PHASE_TRAIN;
    mixt_value_id always = early ? shared(b, x, layer) : MIXT_NO_VALUE;
    mixt_value_id rows = BUILD_RECOMPUTED(
        b, MIXT_OP_dispatch, attributes, {DISPATCH_X, x}, {DISPATCH_OFFSETS, record[ROUTE_OFFSETS]},
        {DISPATCH_ORDER, record[ROUTE_ORDER]}, {DISPATCH_PLACE, record[ROUTE_PLACE]});
    mixt_value_id done =
        compute(b, rows, record[ROUTE_OFFSETS], x, both && !early ? &always : NULL);
    mixt_value_id y =
        BUILD(b, MIXT_OP_combine, attributes, {COMBINE_ROWS, done},
              {COMBINE_WEIGHTS, record[ROUTE_WEIGHTS]}, {COMBINE_PLACE, record[ROUTE_PLACE]});
    mixt_mixture_values *made = &b->graph->mixtures[b->graph->moe_layers - 1];
    *made = (mixt_mixture_values){done, y, y};
    if (both) {
        always = always == MIXT_NO_VALUE ? shared(b, x, layer) : always;
        made->output = mixt_build_add(b, y, always);
    }
    return made->output;
}
