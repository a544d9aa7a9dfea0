/* The generic block: a Llama/Mixtral forward as a plan, read from top to bottom like the paper. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"

typedef struct builder {
    const mixt_model *model;
    mixt_graph *graph;
    mixt_plan *plan;
} builder;

static mixt_value_id weight(builder *b, mixt_slot slot, int layer)
{
    int index = mixt_model_find(b->model, slot, layer);
    return index < 0 ? MIXT_NO_VALUE : b->graph->parameters[index];
}

static mixt_value_id norm(builder *b, mixt_value_id x, mixt_value_id w)
{
    mixt_attributes attributes = {.epsilon = b->model->options.norm_epsilon};
    mixt_value_id out[MIXT_SLOTS];
    mixt_plan_operator(b->plan, MIXT_OP_norm, &attributes, (mixt_value_id[]){x, w}, out);
    return out[0];
}

static mixt_value_id linear(builder *b, mixt_value_id x, mixt_value_id w)
{
    mixt_attributes attributes = {0};
    mixt_value_id out[MIXT_SLOTS];
    mixt_plan_operator(b->plan, MIXT_OP_linear, &attributes, (mixt_value_id[]){x, w, MIXT_NO_VALUE},
                       out);
    return out[0];
}

static mixt_value_id rope(builder *b, mixt_value_id x, int heads)
{
    mixt_attributes attributes = {.heads = heads, .head_dim = b->model->options.head_dim};
    mixt_value_id out[MIXT_SLOTS];
    mixt_plan_operator(b->plan, MIXT_OP_rope, &attributes,
                       (mixt_value_id[]){x, b->graph->positions, b->graph->rope}, out);
    return out[0];
}

static mixt_value_id add(builder *b, mixt_value_id x, mixt_value_id y)
{
    mixt_attributes attributes = {0};
    mixt_value_id out[MIXT_SLOTS];
    mixt_plan_operator(b->plan, MIXT_OP_add, &attributes, (mixt_value_id[]){x, y}, out);
    return out[0];
}

/* softmax(q k^T / sqrt(h)) v over grouped heads, causal, within documents. */
static mixt_value_id attention(builder *b, mixt_value_id x, int layer)
{
    const mixt_model_options *o = &b->model->options;
    mixt_graph *g = b->graph;
    mixt_value_id q = rope(b, linear(b, x, weight(b, MIXT_SLOT_Q, layer)), o->heads);
    mixt_value_id k = rope(b, linear(b, x, weight(b, MIXT_SLOT_K, layer)), o->kv_heads);
    mixt_value_id v = linear(b, x, weight(b, MIXT_SLOT_V, layer));
    mixt_attributes attributes = {.scale = 1.0 / sqrt((double)o->head_dim),
                                  .heads = o->heads,
                                  .kv_heads = o->kv_heads,
                                  .head_dim = o->head_dim,
                                  .window = g->options.window};
    if (g->options.phase == MIXT_PHASE_GENERATE) {
        mixt_shape cache =
            mixt_shape_static(2, g->options.cache_capacity, (int64_t)o->kv_heads * o->head_dim, 0);
        g->cache_k[layer] = mixt_plan_state(b->plan, "cache_k", cache);
        g->cache_v[layer] = mixt_plan_state(b->plan, "cache_v", cache);
        mixt_plan_operator(b->plan, MIXT_OP_kv_write, &attributes,
                           (mixt_value_id[]){k, v, g->slots, g->cache_k[layer], g->cache_v[layer]},
                           NULL);
        k = g->cache_k[layer];
        v = g->cache_v[layer];
        attributes.window = 0;
    }
    mixt_value_id out[MIXT_SLOTS];
    mixt_plan_operator(b->plan, MIXT_OP_attention, &attributes,
                       (mixt_value_id[]){q, k, v, g->first, g->last, MIXT_NO_VALUE}, out);
    return linear(b, out[0], weight(b, MIXT_SLOT_O, layer));
}

/* down(silu(gate x) * up x) */
static mixt_value_id mlp(builder *b, mixt_value_id x, mixt_slot gate, mixt_slot up, mixt_slot down,
                         int layer)
{
    mixt_attributes attributes = {0};
    mixt_value_id out[MIXT_SLOTS];
    b->plan->recompute = b->graph->options.recompute;
    mixt_value_id g = linear(b, x, weight(b, gate, layer));
    mixt_value_id u = linear(b, x, weight(b, up, layer));
    mixt_plan_operator(b->plan, MIXT_OP_swiglu, &attributes, (mixt_value_id[]){g, u}, out);
    b->plan->recompute = false;
    return linear(b, out[0], weight(b, down, layer));
}

static mixt_value_id mixture(builder *b, mixt_value_id x, int layer)
{
    const mixt_model_options *o = &b->model->options;
    mixt_graph *g = b->graph;
    int moe_layers = mixt_model_moe_layers(b->model);
    mixt_attributes attributes = {.router = &b->model->router,
                                  .balance_weight = o->router.balance_coefficient / moe_layers,
                                  .z_weight = o->router.z_coefficient / moe_layers};
    mixt_value_id *route = g->routes[g->moe_layers];
    g->route_layer[g->moe_layers++] = layer;
    mixt_plan_operator(b->plan, MIXT_OP_route, &attributes,
                       (mixt_value_id[]){x, weight(b, MIXT_SLOT_ROUTER, layer),
                                         weight(b, MIXT_SLOT_ROUTER_BIAS, layer), g->scale,
                                         MIXT_NO_VALUE},
                       route);
    for (int i = 0; i < 8 && g->options.keep_routes; i++) {
        mixt_plan_keep(b->plan, route[i]);
    }
    mixt_plan_keep(b->plan, route[2]); /* counts and losses are read after every step */
    mixt_plan_keep(b->plan, route[7]);
    mixt_value_id rows[MIXT_SLOTS], done[MIXT_SLOTS], out[MIXT_SLOTS];
    b->plan->recompute = g->options.recompute;
    mixt_plan_operator(b->plan, MIXT_OP_dispatch, &attributes,
                       (mixt_value_id[]){x, route[4], route[5]}, rows);
    mixt_plan_operator(b->plan, MIXT_OP_experts, &attributes,
                       (mixt_value_id[]){rows[0], route[3], weight(b, MIXT_SLOT_EXPERT_GATE, layer),
                                         weight(b, MIXT_SLOT_EXPERT_UP, layer),
                                         weight(b, MIXT_SLOT_EXPERT_DOWN, layer), MIXT_NO_VALUE,
                                         MIXT_NO_VALUE, MIXT_NO_VALUE},
                       done);
    b->plan->recompute = false;
    mixt_plan_operator(b->plan, MIXT_OP_combine, &attributes,
                       (mixt_value_id[]){done[0], route[1], route[5]}, out);
    if (o->shared_experts > 0) {
        mixt_value_id shared =
            mlp(b, x, MIXT_SLOT_SHARED_GATE, MIXT_SLOT_SHARED_UP, MIXT_SLOT_SHARED_DOWN, layer);
        return add(b, out[0], shared);
    }
    return out[0];
}

static mixt_value_id block(builder *b, mixt_value_id x, int layer)
{
    b->plan->layer = layer;
    x = add(b, x, attention(b, norm(b, x, weight(b, MIXT_SLOT_ATTENTION_NORM, layer)), layer));
    mixt_value_id h = norm(b, x, weight(b, MIXT_SLOT_FFN_NORM, layer));
    mixt_value_id y =
        mixt_model_layer_is_moe(b->model, layer)
            ? mixture(b, h, layer)
            : mlp(b, h, MIXT_SLOT_DENSE_GATE, MIXT_SLOT_DENSE_UP, MIXT_SLOT_DENSE_DOWN, layer);
    x = add(b, x, y);
    b->plan->layer = -1;
    return x;
}

static mixt_value_id integers(builder *b, const char *name, int64_t count)
{
    mixt_shape shape =
        count == 0 ? mixt_shape_tokens(b->plan->capacity, 1, 0) : mixt_shape_static(1, count, 0, 0);
    if (count == 0) {
        shape.rank = 1;
        shape.size[1] = 0;
    }
    return mixt_plan_input(b->plan, name, mixt_shape_integers(shape));
}

static void declare(builder *b)
{
    const mixt_model_options *o = &b->model->options;
    mixt_graph *g = b->graph;
    bool generate = g->options.phase == MIXT_PHASE_GENERATE;
    g->tokens = integers(b, "tokens", 0);
    g->positions = integers(b, "positions", 0);
    g->first = integers(b, "first", 0);
    g->last = integers(b, "last", 0);
    g->targets = generate ? MIXT_NO_VALUE : integers(b, "targets", 0);
    g->slots = generate ? integers(b, "slots", 0) : MIXT_NO_VALUE;
    g->take = generate ? integers(b, "take", 1) : MIXT_NO_VALUE;
    g->scale = mixt_plan_input(b->plan, "scale", mixt_shape_static(1, 2, 0, 0));
    int64_t positions = generate ? g->options.cache_capacity : g->options.window;
    g->rope = mixt_plan_input(b->plan, "rope", mixt_shape_static(2, positions, o->head_dim, 0));
    for (int i = 0; i < b->model->parameter_count; i++) {
        const mixt_parameter *p = &b->model->parameters[i];
        mixt_shape shape = mixt_shape_static(p->rank, p->size[0], p->size[1], p->size[2]);
        g->parameters[i] = mixt_plan_parameter(b->plan, p->name, i, p->trainable, shape);
    }
}

static void forward(builder *b)
{
    mixt_graph *g = b->graph;
    mixt_attributes attributes = {0};
    mixt_value_id out[MIXT_SLOTS];
    mixt_value_id table = weight(b, MIXT_SLOT_EMBED, -1);
    mixt_plan_operator(b->plan, MIXT_OP_embed, &attributes, (mixt_value_id[]){g->tokens, table},
                       out);
    mixt_value_id x = out[0];
    for (int layer = 0; layer < b->model->options.layers; layer++) {
        x = block(b, x, layer);
    }
    mixt_value_id head = b->model->options.tie_embeddings ? table : weight(b, MIXT_SLOT_OUTPUT, -1);
    if (g->options.phase == MIXT_PHASE_GENERATE) {
        mixt_plan_operator(b->plan, MIXT_OP_take, &attributes, (mixt_value_id[]){x, g->take}, out);
        g->logits = linear(b, norm(b, out[0], weight(b, MIXT_SLOT_OUTPUT_NORM, -1)), head);
        mixt_plan_keep(b->plan, g->logits);
        return;
    }
    x = norm(b, x, weight(b, MIXT_SLOT_OUTPUT_NORM, -1));
    mixt_plan_operator(b->plan, MIXT_OP_loss, &attributes,
                       (mixt_value_id[]){x, head, g->targets, g->scale}, out);
    g->nll = out[0];
    g->logits = out[1];
    mixt_plan_keep(b->plan, g->nll);
    if (g->options.keep_logits) {
        mixt_plan_keep(b->plan, g->logits);
    }
}

mixt_status mixt_graph_create(const mixt_model *model, const mixt_graph_options *options,
                              mixt_graph **result, mixt_error *error)
{
    *result = NULL;
    size_t layers = (size_t)model->options.layers;
    mixt_graph *graph = calloc(1, sizeof *graph);
    if (graph == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "plan: no memory");
    }
    graph->options = *options;
    graph->nll = graph->logits = MIXT_NO_VALUE;
    graph->parameters = calloc((size_t)model->parameter_count, sizeof *graph->parameters);
    graph->cache_k = calloc(layers, sizeof *graph->cache_k);
    graph->cache_v = calloc(layers, sizeof *graph->cache_v);
    graph->route_layer = calloc(layers, sizeof *graph->route_layer);
    graph->routes = calloc(layers, sizeof *graph->routes);
    static const char *const names[] = {"train", "score", "generate"};
    mixt_status status = mixt_plan_create(names[options->phase], options->capacity,
                                          options->real_size, &graph->plan, error);
    if (status == MIXT_OK &&
        (graph->parameters == NULL || graph->cache_k == NULL || graph->cache_v == NULL ||
         graph->route_layer == NULL || graph->routes == NULL)) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "plan: no memory");
    }
    if (status == MIXT_OK) {
        builder b = {model, graph, graph->plan};
        declare(&b);
        forward(&b);
        status = graph->plan->error.status == MIXT_OK && options->phase == MIXT_PHASE_TRAIN
                     ? mixt_plan_differentiate(graph->plan, graph->nll, error)
                     : MIXT_OK;
    }
    if (status == MIXT_OK) {
        status = mixt_plan_finish(graph->plan, error);
    }
    if (status != MIXT_OK) {
        mixt_graph_free(graph);
        return status;
    }
    *result = graph;
    return MIXT_OK;
}

void mixt_graph_free(mixt_graph *graph)
{
    if (graph == NULL) {
        return;
    }
    mixt_plan_free(graph->plan);
    free(graph->parameters);
    free(graph->cache_k);
    free(graph->cache_v);
    free(graph->route_layer);
    free(graph->routes);
    free(graph);
}

mixt_status mixt_model_plan_text(const mixt_model *model, const char *phase, int tokens,
                                 char **text, mixt_error *error)
{
    *text = NULL;
    mixt_graph_options options = {.capacity = tokens, .window = tokens, .real_size = sizeof(float)};
    if (strcmp(phase, "train") == 0) {
        options.phase = MIXT_PHASE_TRAIN;
    } else if (strcmp(phase, "score") == 0) {
        options.phase = MIXT_PHASE_SCORE;
    } else if (strcmp(phase, "prefill") == 0 || strcmp(phase, "decode") == 0) {
        options.phase = MIXT_PHASE_GENERATE;
        options.cache_capacity = model->options.context_length;
        options.capacity = phase[0] == 'd' ? 1 : tokens;
    } else {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "plan: phase '%s' is not train, score, prefill or decode", phase);
    }
    mixt_graph *graph;
    mixt_status status = mixt_graph_create(model, &options, &graph, error);
    if (status == MIXT_OK) {
        status = mixt_plan_print(graph->plan, text, error);
        mixt_graph_free(graph);
    }
    return status;
}
