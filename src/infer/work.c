/* What other ranks than 0 do while rank 0 runs a model whose experts are spread: each message of
 * rank 0 names a layer, of which this rank then computes its experts for the rows that come. */
#include <stdlib.h>

#include "backend/context.h"
#include "core/memory_limit.h"
#include "model/weights.h"
#include "ops/exchange.h"

typedef struct worker {
    mixt_context *context;
    const mixt_model *model;
    mixt_weights *weights;
    mixt_graph *graph; /* NULL: no plan was announced yet */
    mixt_instance *instance;
} worker;

static void free_plan(worker *w)
{
    mixt_instance_free(w->instance);
    mixt_graph_free(w->graph);
    w->instance = NULL;
    w->graph = NULL;
}

/* A plan without rows of its own. */
static mixt_status create_plan(worker *w, int64_t tokens, int64_t rows, mixt_error *error)
{
    const mixt_device *device = &w->context->device;
    mixt_graph_options options = {
        .phase = MIXT_PHASE_WORK, .capacity = tokens, .rows = rows, .real_size = sizeof(float)};
    MIXT_TRY(mixt_graph_create(w->model, &options, &w->graph, error));
    if (w->graph->plan->memory_size >= mixt_memory_available(NULL)) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "plan work: no memory for %.1f MB",
                         (double)w->graph->plan->memory_size / 1e6);
    }
    MIXT_TRY(mixt_instance_create(w->graph->plan, device, mixt_context_matmul(w->context),
                                  &w->instance, error));
    size_t bytes = w->graph->plan->values[w->graph->offsets].bytes;
    void *nothing = calloc(1, bytes);
    if (nothing == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "plan work: no memory");
    }
    mixt_instance_write(w->instance, w->graph->near, nothing, 0);
    mixt_instance_write(w->instance, w->graph->offsets, nothing, bytes);
    free(nothing);
    return mixt_weights_bind(w->weights, w->graph, w->instance, error);
}

/* Room for what rank 0 announces; where there is none, what was there before. */
static mixt_status grow(worker *w, const mixt_summons *summons, mixt_error *error)
{
    int64_t tokens = w->graph != NULL ? w->graph->options.capacity : 0;
    int64_t rows = w->graph != NULL ? w->graph->options.rows : 0;
    if (summons->tokens < 1 || summons->rows < 1 ||
        summons->rows > mixt_options_routed(&w->model->options)) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "rank 0 announces a plan of %lld tokens with %lld rows each",
                         (long long)summons->tokens, (long long)summons->rows);
    }
    if (summons->tokens <= tokens && summons->rows <= rows) {
        return MIXT_OK;
    }
    free_plan(w);
    mixt_status status = create_plan(w, summons->tokens > tokens ? summons->tokens : tokens,
                                     summons->rows > rows ? summons->rows : rows, error);
    if (status != MIXT_OK) {
        mixt_error again = MIXT_ERROR_INIT;
        free_plan(w);
        if (tokens > 0 && create_plan(w, tokens, rows, &again) != MIXT_OK) {
            free_plan(w);
        }
    }
    return status;
}

/* The experts of a layer. */
static mixt_status compute(worker *w, const mixt_summons *summons, mixt_error *error)
{
    const mixt_graph *g = w->graph;
    if (summons->layer < 0 || summons->layer >= w->model->options.layers ||
        !mixt_model_layer_is_moe(w->model, summons->layer)) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "rank 0 asks for experts of layer %d",
                         summons->layer);
    }
    if (g == NULL || summons->tokens < 1 || summons->tokens > g->options.capacity) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "rank 0 asks for experts of %lld tokens, which it did not announce",
                         (long long)summons->tokens);
    }
    int held = w->model->options.experts / w->model->ranks->expert; /* of the rank with fewest */
    if (summons->rows < 1 || summons->rows > held || summons->rows > MIXT_RANKS_CHUNKS) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "rank 0 asks for %lld chunks of %d experts",
                         (long long)summons->rows, held);
    }
    w->model->ranks->chunks = (int)summons->rows;
    int begin = g->layers[summons->layer];
    int end =
        summons->layer + 1 < w->model->options.layers ? g->layers[summons->layer + 1] : g->head;
    return mixt_instance_run(w->instance, summons->tokens, begin, end, error);
}

static mixt_status work(worker *w, mixt_ranks *ranks, mixt_error *error)
{
    for (;;) {
        mixt_summons summons;
        mixt_error full = MIXT_ERROR_INIT;
        MIXT_TRY(mixt_ranks_hear(ranks, 0, &summons, sizeof summons, error));
        switch (summons.kind) {
        case MIXT_SUMMONS_END:
            return MIXT_OK;
        case MIXT_SUMMONS_PLAN: /* of other copies: nothing */
            if (mixt_group_place(ranks, MIXT_GROUP_DATA) == 0) {
                (void)grow(w, &summons, &full);
            }
            (void)mixt_ranks_agree(ranks, full.status, &full);
            if (ranks->lost.status != MIXT_OK) {
                return mixt_fail(error, ranks->lost.status, "%s", ranks->lost.message);
            }
            break;
        case MIXT_SUMMONS_LAYER:
            MIXT_TRY(compute(w, &summons, error));
            break;
        default:
            return mixt_fail(error, MIXT_ERROR_FORMAT, "rank 0 sends a message of kind %d",
                             summons.kind);
        }
    }
}

mixt_status mixt_model_work(mixt_context *context, mixt_model *model, mixt_error *error)
{
    mixt_ranks *ranks = model->ranks;
    if (ranks == NULL || mixt_ranks_rank(ranks) == 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "ranks: work is what others than rank 0 do, with a model of theirs");
    }
    worker w = {.context = context, .model = model};
    MIXT_TRY(mixt_weights_create(model, &context->device, &w.weights, error));
    mixt_status status = work(&w, ranks, error);
    free_plan(&w);
    mixt_weights_free(w.weights);
    return status;
}

mixt_status mixt_model_dismiss(mixt_model *model, mixt_error *error)
{
    mixt_ranks *ranks = model->ranks;
    mixt_summons summons = {.kind = MIXT_SUMMONS_END};
    if (ranks == NULL || mixt_ranks_count(ranks) == 1) {
        return MIXT_OK;
    }
    if (mixt_ranks_rank(ranks) != 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "ranks: rank 0 dismisses the others");
    }
    return mixt_ranks_broadcast(ranks, MIXT_GROUP_ALL, 0, &summons, sizeof summons, error);
}
