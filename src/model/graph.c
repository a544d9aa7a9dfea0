/* The plan of a model: its inputs and parameters, the embedding, the blocks, the head. */
#include <stdlib.h>
#include <string.h>

#include "core/arithmetic.h"
#include "model/block.h"
#include "ops/latent.h"

#define CACHES_MAX 5 /* of a layer: keys, values, two rows of the filter, the router's sums */

int64_t mixt_graph_pages(const mixt_graph_options *options)
{
    return mixt_divide_up(options->cache_capacity, MIXT_ATTENTION_BLOCK);
}

size_t mixt_graph_cache_bytes(const mixt_graph *graph)
{
    size_t bytes = 0;
    for (int i = 0; i < graph->cache_count; i++) {
        size_t more = graph->caches[i].bytes;
        bytes = bytes > SIZE_MAX - more ? SIZE_MAX : bytes + more;
    }
    return bytes;
}

mixt_value_id mixt_build_state(mixt_builder *b, const char *name, mixt_type type, int64_t columns)
{
    mixt_graph *g = b->graph;
    if (g->options.phase != MIXT_PHASE_GENERATE) {
        return MIXT_NO_VALUE;
    }
    mixt_value_id value = mixt_plan_state(
        b->plan, name,
        mixt_cache_shape(type, g->options.cache_pages * MIXT_ATTENTION_BLOCK, columns));
    g->caches[g->cache_count++] =
        (mixt_graph_cache){value, columns, value < 0 ? 0 : b->plan->values[value].bytes};
    return value;
}

void mixt_build_cache(mixt_builder *b, mixt_type type, mixt_value_id *first, mixt_value_id *second)
{
    mixt_graph *g = b->graph;
    if (g->options.phase != MIXT_PHASE_GENERATE || *first < 0) {
        return;
    }
    mixt_value_id *rows[] = {first, second}, cache[2] = {MIXT_NO_VALUE, MIXT_NO_VALUE};
    for (int i = 0; i < 2 && rows[i] != NULL; i++) {
        cache[i] = mixt_build_state(b, i == 0 ? "cache" : "cache_v", type,
                                    b->plan->values[*rows[i]].shape.size[1]);
    }
    mixt_attributes attributes = {.cache_type = type};
    BUILD_ALL(b, MIXT_OP_kv_write, attributes, {KV_WRITE_K, *first},
              {KV_WRITE_V, second == NULL ? MIXT_NO_VALUE : *second}, {KV_WRITE_SLOTS, g->slots},
              {KV_WRITE_CACHE_K, cache[0]}, {KV_WRITE_CACHE_V, cache[1]});
    for (int i = 0; i < 2 && rows[i] != NULL; i++) {
        *rows[i] = cache[i];
    }
}

bool mixt_model_layer_is_windowed(const mixt_model *model, int layer)
{
    const mixt_attention_options *a = &model->options.attention;
    return a->window > 0 && (a->window_period == 0 || layer % a->window_period == 0);
}

bool mixt_model_latent(const mixt_model *model, mixt_latent_sizes *sizes)
{
    const mixt_model_options *o = &model->options;
    const mixt_attention_options *a = &o->attention;
    *sizes =
        (mixt_latent_sizes){o->heads, a->latent_size, a->position_dim, o->head_dim, a->value_dim};
    return a->latent_size > 0 && a->window == 0 && !a->sinks && a->value_dim > 0 &&
           a->value_dim <= o->head_dim && o->head_dim <= MIXT_ATTENTION_HEAD_MAX;
}

static mixt_value_id integers(mixt_builder *b, const char *name, int64_t count)
{
    mixt_shape shape =
        count == 0 ? mixt_shape_tokens(b->plan->capacity, 1, 0) : mixt_shape_static(1, count, 0, 0);
    if (count == 0) {
        shape.rank = 1;
        shape.size[1] = 0;
    }
    return mixt_plan_input(b->plan, name, mixt_shape_integers(shape));
}

static void declare_parameters(mixt_builder *b)
{
    for (int i = 0; i < b->model->parameter_count; i++) {
        const mixt_parameter *p = &b->model->parameters[i];
        mixt_shape shape = mixt_shape_static(p->rank, p->size[0], p->size[1], p->size[2]);
        b->graph->parameters[i] = mixt_plan_parameter(b->plan, p->name, i, p->trainable, shape);
    }
}

static void declare(mixt_builder *b)
{
    const mixt_model_options *o = &b->model->options;
    mixt_graph *g = b->graph;
    bool generate = g->options.phase == MIXT_PHASE_GENERATE;
    g->tokens = integers(b, "tokens", 0);
    g->positions = integers(b, "positions", 0);
    g->first = integers(b, "first", 0);
    g->last = integers(b, "last", 0);
    g->first_windowed = o->attention.window > 0 ? integers(b, "first_windowed", 0) : MIXT_NO_VALUE;
    mixt_latent_sizes latent;
    bool two = generate && !g->options.absorbed && mixt_model_latent(b->model, &latent);
    g->first_absorbed = two ? integers(b, "first_absorbed", 0) : MIXT_NO_VALUE;
    g->first_expanded = two ? integers(b, "first_expanded", 0) : MIXT_NO_VALUE;
    g->targets = generate ? MIXT_NO_VALUE : integers(b, "targets", 0);
    g->slots = generate ? integers(b, "slots", 0) : MIXT_NO_VALUE;
    g->sequence = generate ? integers(b, "sequence", 0) : MIXT_NO_VALUE;
    g->variant = g->options.routers == NULL ? MIXT_NO_VALUE
                 : generate                 ? g->sequence
                                            : integers(b, "variant", 0);
    mixt_shape table = mixt_shape_static(2, g->options.sequences, mixt_graph_pages(&g->options), 0);
    g->pages =
        generate ? mixt_plan_input(b->plan, "pages", mixt_shape_integers(table)) : MIXT_NO_VALUE;
    int64_t takes = g->options.takes > 0 ? g->options.takes : 1;
    g->take = generate ? integers(b, "take", takes) : MIXT_NO_VALUE;
    g->scale = mixt_plan_input(b->plan, "scale", mixt_shape_static(1, 2, 0, 0));
    const mixt_router_options *r = &o->router;
    bool train = g->options.phase == MIXT_PHASE_TRAIN && o->experts > 0;
    g->draw = train && (r->noise != MIXT_NOISE_NONE || r->jitter > 0)
                  ? integers(b, "draw", MIXT_DRAWS)
                  : MIXT_NO_VALUE;
    g->balance = train && r->adaptive_balance
                     ? mixt_plan_input(b->plan, "balance", mixt_shape_static(1, o->layers, 0, 0))
                     : MIXT_NO_VALUE;
    int64_t positions = !generate                  ? g->options.window
                        : g->options.rope_rows > 0 ? g->options.rope_rows
                                                   : g->options.cache_capacity;
    g->rope = mixt_plan_state(b->plan, "rope", mixt_shape_static(2, positions, o->rope.dims, 0));
    declare_parameters(b);
}

/* What a rank does for rows of another: no record is the first of a layer that has no experts. */
static void work(mixt_builder *b)
{
    mixt_graph *g = b->graph;
    const mixt_model_options *o = &b->model->options;
    g->near =
        mixt_plan_input(b->plan, "near", mixt_shape_tokens(b->plan->capacity, 1, o->hidden_size));
    g->offsets = integers(b, "offsets", mixt_options_routed(o) + 1);
    declare_parameters(b);
    for (int layer = 0; layer < o->layers; layer++) {
        g->layers[layer] = b->plan->record_count;
        if (mixt_model_layer_is_moe(b->model, layer)) {
            mixt_build_work(b, g->near, g->offsets, layer);
        }
    }
    g->head = b->plan->record_count;
}

/* The last norm. */
static mixt_value_id last_states(mixt_builder *b, mixt_value_id x)
{
    return mixt_build_norm(b, x, MIXT_SLOT_OUTPUT_NORM, -1, 0);
}

/* Where logits are scaled, the states are: the head's product carries it on. */
static mixt_value_id before_head(mixt_builder *b, mixt_value_id states)
{
    mixt_attributes attributes = {.scale = b->model->options.logit_scale};
    return attributes.scale == 1 ? states : BUILD(b, MIXT_OP_scale, attributes, {SCALE_X, states});
}

static void forward(mixt_builder *b)
{
    mixt_graph *g = b->graph;
    const mixt_model_options *o = &b->model->options;
    mixt_attributes none = {0}, embed = {.scale = o->embedding_scale};
    mixt_value_id table = mixt_build_weight(b, MIXT_SLOT_EMBED, -1);
    mixt_value_id head = o->tie_embeddings ? table : mixt_build_weight(b, MIXT_SLOT_OUTPUT, -1);
    mixt_value_id x =
        BUILD(b, MIXT_OP_embed, embed, {EMBED_TOKENS, g->tokens}, {EMBED_TABLE, table});
    for (int layer = 0; layer < o->layers; layer++) {
        x = mixt_build_block(b, x, layer);
    }
    g->head = b->plan->record_count;
    if (g->options.phase == MIXT_PHASE_GENERATE) {
        x = BUILD(b, MIXT_OP_take, none, {TAKE_X, x}, {TAKE_ROWS, g->take});
        g->states = last_states(b, x);
        g->logits_head = b->plan->record_count;
        g->logits = BUILD(b, MIXT_OP_linear, none, {LINEAR_X, before_head(b, g->states)},
                          {LINEAR_WEIGHT, head});
        mixt_plan_keep(b->plan, g->states);
        mixt_plan_keep(b->plan, g->logits);
        return;
    }
    x = before_head(b, last_states(b, x));
    mixt_outputs out = BUILD_ALL(b, MIXT_OP_loss, none, {LOSS_X, x}, {LOSS_WEIGHT, head},
                                 {LOSS_TARGETS, g->targets}, {LOSS_SCALE, g->scale});
    g->nll = out.value[LOSS_NLL];
    g->logits = out.value[LOSS_LOGITS];
    g->likeliest = out.value[LOSS_LIKELIEST];
    mixt_plan_keep(b->plan, g->nll);
    if (g->options.keep_logits) {
        mixt_plan_keep(b->plan, g->logits);
        mixt_plan_keep(b->plan, g->likeliest);
    }
}

/* Fills in what was left open. Rows of the cache are numbered in 32 bits. */
static mixt_status complete(mixt_graph_options *options, mixt_error *error)
{
    if (options->phase != MIXT_PHASE_GENERATE) {
        return MIXT_OK;
    }
    int64_t most = INT32_MAX / MIXT_ATTENTION_BLOCK, each = mixt_graph_pages(options);
    options->sequences = options->sequences > 0 ? options->sequences : 1;
    if (each > most || options->sequences > most / mixt_most(each, 1)) {
        return mixt_fail(error, MIXT_ERROR_MEMORY,
                         "plan: %lld sequences of %lld positions are too many",
                         (long long)options->sequences, (long long)options->cache_capacity);
    }
    options->cache_pages =
        options->cache_pages > 0 ? options->cache_pages : options->sequences * each;
    if (options->cache_pages > most) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "plan: a cache of %lld pages is too large",
                         (long long)options->cache_pages);
    }
    return MIXT_OK;
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
    graph->model = model;
    graph->options = *options;
    graph->nll = graph->logits = graph->likeliest = graph->states = MIXT_NO_VALUE;
    graph->parameters = calloc((size_t)model->parameter_count, sizeof *graph->parameters);
    graph->caches = calloc(layers * CACHES_MAX, sizeof *graph->caches);
    graph->routes = calloc(layers, sizeof *graph->routes);
    graph->mixtures = calloc(layers, sizeof *graph->mixtures);
    graph->seen = calloc(layers, sizeof *graph->seen);
    graph->layers = calloc(layers, sizeof *graph->layers);
    static const char *const names[] = {"train", "score", "generate", "work"};
    mixt_status status = complete(&graph->options, error);
    status = status != MIXT_OK ? status
                               : mixt_plan_create(names[options->phase], options->capacity,
                                                  options->real_size, &graph->plan, error);
    if (status == MIXT_OK &&
        (graph->parameters == NULL || graph->caches == NULL || graph->routes == NULL ||
         graph->mixtures == NULL || graph->seen == NULL || graph->layers == NULL)) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "plan: no memory");
    }
    if (status == MIXT_OK) {
        mixt_builder b = {.model = model,
                          .graph = graph,
                          .plan = graph->plan,
                          .layer = -1,
                          .routed = MIXT_NO_VALUE,
                          .stream = MIXT_NO_VALUE,
                          .foreseen = MIXT_NO_VALUE,
                          .foreseen_late = MIXT_NO_VALUE};
        if (options->phase == MIXT_PHASE_WORK) {
            work(&b);
        } else {
            declare(&b);
            forward(&b);
        }
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
    free(graph->caches);
    free(graph->routes);
    free(graph->mixtures);
    free(graph->seen);
    free(graph->layers);
    free(graph);
}

int64_t mixt_graph_rows(const mixt_graph *graph)
{
    int64_t rows = 0;
    for (int i = 0; i < graph->moe_layers; i++) {
        mixt_value_id ids = graph->routes[i].value[ROUTE_ORDER];
        rows = mixt_most(rows, graph->plan->values[ids].shape.multiple);
    }
    return rows;
}

/* The graph of a phase by its name, for a look at its plan. */
static mixt_status graph_of_phase(const mixt_model *model, const char *phase, int tokens,
                                  mixt_graph **graph, mixt_error *error)
{
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
    return mixt_graph_create(model, &options, graph, error);
}

mixt_status mixt_model_plan_text(const mixt_model *model, const char *phase, int tokens,
                                 char **text, mixt_error *error)
{
    mixt_graph *graph;
    *text = NULL;
    MIXT_TRY(graph_of_phase(model, phase, tokens, &graph, error));
    mixt_status status = mixt_plan_print(graph->plan, text, error);
    mixt_graph_free(graph);
    return status;
}

mixt_status mixt_model_options_describe(const mixt_model_options *options, int tokens,
                                        mixt_model_info *info, double *forward, double *backward,
                                        mixt_error *error)
{
    mixt_model *model;
    mixt_graph *graph = NULL;
    *forward = *backward = 0;
    MIXT_TRY(mixt_model_layout(options, NULL, "model", &model, error));
    mixt_status status = graph_of_phase(model, "train", tokens, &graph, error);
    if (status == MIXT_OK) {
        mixt_model_describe(model, info);
        for (int i = 0; i < graph->plan->record_count; i++) {
            double flops, bytes;
            mixt_plan_cost(graph->plan, i, graph->plan->capacity, NULL, &flops, &bytes);
            *(graph->plan->records[i].pass == MIXT_PASS_FORWARD ? forward : backward) += flops;
        }
        mixt_graph_free(graph);
    }
    mixt_model_free(model);
    return status;
}
