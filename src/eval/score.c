#include "eval/score.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/arithmetic.h"
#include "model/stored.h"

#define BATCH_ROWS 2048                 /* rows of a batch where memory allows */
#define LOGIT_VALUES ((int64_t)1 << 26) /* rows * vocabulary of a batch: 256 MB of logits */

static mixt_status check_data(const mixt_model *model, const mixt_data *data, mixt_error *error)
{
    return mixt_data_check_ids(data, model->options.vocab_size, error);
}

/* Tokens of a document that are read: not the last, behind which nothing is scored. */
static uint64_t rows_of(const mixt_scorer *scorer, const mixt_data_document *document)
{
    return scorer->options.trace || document->length == 0 ? document->length : document->length - 1;
}

/* Tokens to read in all under the limit. */
static mixt_status count_total(mixt_scorer *scorer, const mixt_data *data, mixt_error *error)
{
    size_t domains = (size_t)mixt_data_domain_count(data);
    uint64_t limit = scorer->options.max_tokens;
    scorer->used = calloc(domains + 1, sizeof *scorer->used);
    if (scorer->used == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "evaluation: no memory");
    }
    for (size_t i = 0; i < scorer->split->document_count; i++) {
        const mixt_data_document *d = &scorer->split->documents[i];
        scorer->used[d->domain] += rows_of(scorer, d);
    }
    for (size_t i = 0; i < domains; i++) {
        scorer->total += limit > 0 && limit < scorer->used[i] ? limit : scorer->used[i];
        scorer->used[i] = 0;
    }
    return MIXT_OK;
}

static mixt_status build(mixt_scorer *scorer, mixt_context *context, const mixt_model *model,
                         mixt_error *error)
{
    int64_t window = scorer->options.window;
    int64_t usual = scorer->options.rows > 0 ? scorer->options.rows : BATCH_ROWS;
    int64_t most = mixt_least(LOGIT_VALUES / model->options.vocab_size, usual);
    scorer->capacity = (most < window ? 1 : most / window) * window;
    mixt_graph_options options = {.phase = MIXT_PHASE_SCORE,
                                  .capacity = scorer->capacity,
                                  .window = window,
                                  .real_size = sizeof(float),
                                  .cache_type = mixt_cache_element(context->cache_type),
                                  .keep_routes = scorer->options.trace || scorer->options.drops,
                                  .look_ahead = scorer->options.look_ahead,
                                  .keep_logits = scorer->options.trace || scorer->options.logits,
                                  .routers = scorer->options.routers,
                                  .sequences = scorer->options.router_count,
                                  .chosen = scorer->options.chosen};
    scorer->pieces = calloc((size_t)scorer->capacity, sizeof *scorer->pieces);
    if (scorer->pieces == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "evaluation: no memory");
    }
    MIXT_TRY(mixt_batch_create(scorer->capacity, 0, &scorer->batch, error));
    MIXT_TRY(mixt_graph_create(model, &options, &scorer->graph, error));
    return mixt_instance_create(scorer->graph->plan, &context->device, mixt_context_matmul(context),
                                &scorer->instance, error);
}

static mixt_status bind(mixt_scorer *scorer, mixt_context *context, mixt_error *error)
{
    static const float scale[2] = {0}; /* of gradients, which there are none of */
    const mixt_backend *backend = mixt_device_backend(&context->device, sizeof(float));
    const mixt_graph *graph = scorer->graph;
    mixt_instance_write(scorer->instance, graph->scale, scale, sizeof scale);
    MIXT_TRY(
        mixt_rope_create(scorer->model, backend, scorer->options.window, &scorer->rope, error));
    mixt_instance_bind(scorer->instance, graph->rope, &scorer->rope, 0);
    MIXT_TRY(mixt_weights_create(scorer->model, &context->device, &scorer->weights, error));
    MIXT_TRY(mixt_weights_bind(scorer->weights, graph, scorer->instance, error));
    mixt_error refused = MIXT_ERROR_INIT;
    mixt_status status = mixt_stored_reserve(scorer->model, graph->plan->memory_size, &refused);
    if (status != MIXT_OK) {
        return mixt_fail(error, status, "%s; shorter windows than %d tokens need less",
                         refused.message, scorer->options.window);
    }
    scorer->reserved = graph->plan->memory_size;
    return MIXT_OK;
}

mixt_status mixt_scorer_open(mixt_context *context, const mixt_model *model,
                             const mixt_scorer_options *options, mixt_scorer **result,
                             mixt_error *error)
{
    *result = NULL;
    if (options->window < 1 || options->window > model->options.context_length) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "window %d is not in 1..%d, the model's context_length", options->window,
                         model->options.context_length);
    }
    mixt_scorer *scorer = calloc(1, sizeof *scorer);
    if (scorer == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "evaluation: no memory");
    }
    scorer->model = model;
    scorer->options = *options;
    mixt_status status = build(scorer, context, model, error);
    if (status == MIXT_OK) {
        status = bind(scorer, context, error);
    }
    if (status != MIXT_OK) {
        mixt_scorer_free(scorer);
        return status;
    }
    *result = scorer;
    return MIXT_OK;
}

mixt_status mixt_scorer_create(mixt_context *context, const mixt_model *model,
                               const mixt_data *data, const mixt_scorer_options *options,
                               mixt_scorer **result, mixt_error *error)
{
    *result = NULL;
    mixt_status status = check_data(model, data, error);
    if (status == MIXT_OK) {
        status = mixt_scorer_open(context, model, options, result, error);
    }
    if (status == MIXT_OK) {
        (*result)->split = mixt_data_split_of(data, options->heldout);
        status = count_total(*result, data, error);
    }
    if (status != MIXT_OK) {
        mixt_scorer_free(*result);
        *result = NULL;
    }
    return status;
}

void mixt_scorer_free(mixt_scorer *scorer)
{
    if (scorer == NULL) {
        return;
    }
    mixt_stored_release(scorer->model, scorer->reserved);
    mixt_instance_free(scorer->instance);
    mixt_graph_free(scorer->graph);
    mixt_weights_free(scorer->weights);
    mixt_device_memory_free(&scorer->rope);
    mixt_batch_free(&scorer->batch);
    free(scorer->pieces);
    free(scorer->used);
    free(scorer);
}

/* Rows of the next piece, 0 at the end; passes over what is scored in full. */
static uint64_t next_count(mixt_scorer *scorer)
{
    uint64_t limit = scorer->options.max_tokens;
    for (; scorer->document < scorer->split->document_count; scorer->document++) {
        const mixt_data_document *d = &scorer->split->documents[scorer->document];
        uint64_t left = rows_of(scorer, d) - scorer->from;
        if (limit > 0) {
            uint64_t allowed = limit - scorer->used[d->domain];
            left = allowed < left ? allowed : left;
        }
        if (left > 0) {
            return left < (uint64_t)scorer->options.window ? left
                                                           : (uint64_t)scorer->options.window;
        }
        scorer->from = 0;
    }
    return 0;
}

static void fill_piece(mixt_scorer *scorer, int64_t row, uint64_t count)
{
    const mixt_data_document *d = &scorer->split->documents[scorer->document];
    mixt_batch *batch = &scorer->batch;
    uint64_t start = d->start + scorer->from;
    mixt_data_copy(scorer->split, start, (size_t)count, batch->tokens + row);
    mixt_batch_sequence(batch, row, (int64_t)count);
    for (int64_t i = 0; i < (int64_t)count; i++) {
        bool inside = scorer->from + (uint64_t)i + 1 < d->length;
        batch->targets[row + i] =
            inside ? mixt_data_token(scorer->split, start + (uint64_t)i + 1) : -1;
    }
    scorer->pieces[scorer->piece_count++] =
        (mixt_excerpt){scorer->document, scorer->from, (int64_t)count, row};
    scorer->from += count;
    scorer->used[d->domain] += count;
    scorer->done += count;
}

mixt_status mixt_scorer_run(mixt_scorer *scorer, int64_t rows, mixt_error *error)
{
    assert(rows > 0 && rows % scorer->options.window == 0 && rows <= scorer->capacity);
    scorer->batch.rows = rows;
    mixt_batch_write(&scorer->batch, scorer->graph, scorer->instance);
    MIXT_TRY(
        mixt_instance_run(scorer->instance, rows, 0, scorer->graph->plan->record_count, error));
    return mixt_model_intact(scorer->model, error);
}

int64_t mixt_scorer_fill(mixt_scorer *scorer)
{
    int64_t window = scorer->options.window, row = 0, end = window;
    scorer->piece_count = 0;
    uint64_t count;
    while ((count = next_count(scorer)) > 0) {
        if (row + (int64_t)count > end) { /* the sequence is full: begin the next */
            mixt_batch_nothing(&scorer->batch, row, end);
            if (end == scorer->capacity) {
                row = end;
                break;
            }
            row = end;
            end += window;
        }
        fill_piece(scorer, row, count);
        row += (int64_t)count;
    }
    if (scorer->piece_count == 0) {
        return 0;
    }
    mixt_batch_nothing(&scorer->batch, row, end);
    scorer->batch.rows = end;
    return end;
}

mixt_status mixt_scorer_next(mixt_scorer *scorer, mixt_error *error)
{
    int64_t rows = mixt_scorer_fill(scorer);
    return rows > 0 ? mixt_scorer_run(scorer, rows, error) : MIXT_OK;
}
