/* Writes the routing decisions of documents as a trace. The only place outside src/atlas that knows
 * its writer: what routes a model takes is asked here, what the file looks like is known there. */
#include <stdlib.h>
#include <string.h>

#include "atlas/trace_writer.h"
#include "core/arithmetic.h"
#include "core/memory.h"
#include "eval/score.h"
#include "eval/signals.h"

typedef struct tracer {
    const mixt_context *context;
    mixt_scorer *scorer;
    mixt_trace_writer *writer;
    int layers, experts;
    int chosen;   /* k of the trace: the most that a layer chooses */
    int *choices; /* [layers] of each */
    bool logits, look_ahead;
    int separator;
    int vocab_size;    /* the tokenizer's */
    int32_t documents; /* begun so far */
    size_t document;   /* of the last piece, + 1; 0: none yet */
    int32_t *numbers;  /* [capacity] */
    int32_t *ids;      /* [layers, capacity, k] and so on: a chunk on its way */
    float *weights;
    float *scores;
    float *margins, *entropies;         /* [layers, capacity] */
    float *row_margins, *row_entropies; /* [layers, capacity] of a batch's rows */
    int32_t *predicted;                 /* [capacity] likewise */
    int32_t *ahead;                     /* as ids */
} tracer;

/* What a token is in the vocabulary. */
static const char *token_bytes(const void *vocabulary, int32_t id, size_t *length)
{
    return mixt_tokenizer_bytes_of(vocabulary, id, length);
}

/* Layers may choose different numbers of experts; the trace has room for the largest. */
static bool find_choices(tracer *t)
{
    t->choices = calloc((size_t)t->layers, sizeof *t->choices);
    for (int layer = 0; layer < t->layers && t->choices != NULL; layer++) {
        int chosen = t->scorer->graph->routes[layer].spec->chosen;
        t->choices[layer] = chosen;
        t->chosen = chosen > t->chosen ? chosen : t->chosen;
    }
    return t->choices != NULL;
}

static mixt_status allocate(tracer *t, mixt_error *error)
{
    if (!find_choices(t)) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "trace: no memory");
    }
    size_t rows = (size_t)t->scorer->capacity;
    size_t values = rows * (size_t)t->layers * (size_t)t->chosen;
    t->numbers = calloc(rows, sizeof *t->numbers);
    t->ids = calloc(values, sizeof *t->ids);
    t->weights = calloc(values, sizeof *t->weights);
    t->scores =
        calloc(t->logits ? rows * (size_t)t->layers * (size_t)t->experts : 1, sizeof *t->scores);
    size_t signals = rows * (size_t)t->layers;
    t->margins = calloc(signals, sizeof *t->margins);
    t->entropies = calloc(signals, sizeof *t->entropies);
    t->row_margins = calloc(signals, sizeof *t->row_margins);
    t->row_entropies = calloc(signals, sizeof *t->row_entropies);
    t->predicted = calloc(rows, sizeof *t->predicted);
    t->ahead = calloc(t->look_ahead ? values : 1, sizeof *t->ahead);
    bool complete = t->ahead != NULL && t->margins != NULL && t->entropies != NULL &&
                    t->row_margins != NULL && t->row_entropies != NULL && t->predicted != NULL;
    return complete && t->numbers != NULL && t->ids != NULL && t->weights != NULL &&
                   t->scores != NULL
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_MEMORY, "trace: no memory");
}

/* What a layer would have chosen a layer earlier becomes [count, k] of the chunk. */
static void gather_ahead(const tracer *t, int layer, int64_t row, size_t count)
{
    size_t k = (size_t)t->chosen;
    int32_t *ahead = t->ahead + (size_t)layer * count * k;
    mixt_value_id value = t->scorer->graph->routes[layer].ahead;
    const int32_t *ids = mixt_instance_view(t->scorer->instance, value);
    size_t own = ids != NULL ? (size_t)t->scorer->graph->plan->values[value].shape.size[1] : 0;
    for (size_t i = 0; i < count * k; i++) {
        ahead[i] = i % k < own ? ids[((size_t)row + i / k) * own + i % k] : -1;
    }
}

/* Rows [row, row + count) of every layer's record become [layers, count, ...] of the chunk; places
 * behind a layer's own choices, and those of choices that a capacity dropped, hold no expert. */
static void gather(const tracer *t, int64_t row, size_t count)
{
    size_t k = (size_t)t->chosen, experts = (size_t)t->experts;
    for (int layer = 0; layer < t->layers; layer++) {
        mixt_route route;
        mixt_instance_route(t->scorer->instance, &t->scorer->graph->routes[layer], &route);
        size_t own = (size_t)route.chosen, to = (size_t)layer * count, first = (size_t)row;
        for (size_t i = 0; i < count * k; i++) {
            size_t from = (first + i / k) * own + i % k;
            bool taken = i % k < own && route.place[from] >= 0;
            t->ids[to * k + i] = taken ? route.ids[from] : -1;
            t->weights[to * k + i] = taken ? route.weights[from] : 0;
        }
        if (t->logits) {
            memcpy(t->scores + to * experts, route.scores + first * experts,
                   count * experts * sizeof *t->scores);
        }
        if (t->look_ahead) {
            gather_ahead(t, layer, row, count);
        }
        size_t from = (size_t)layer * (size_t)t->scorer->capacity + first;
        memcpy(t->margins + to, t->row_margins + from, count * sizeof *t->margins);
        memcpy(t->entropies + to, t->row_entropies + from, count * sizeof *t->entropies);
    }
}

/* What is computed of all rows of a batch at once. */
static void measure_batch(const tracer *t)
{
    const mixt_scorer *scorer = t->scorer;
    for (int layer = 0; layer < t->layers; layer++) {
        size_t at = (size_t)layer * (size_t)scorer->capacity;
        mixt_signals_of_route(t->context, scorer->instance, &scorer->graph->routes[layer],
                              t->row_margins + at, t->row_entropies + at);
    }
    int64_t vocabulary = scorer->model->options.vocab_size;
    /* rows of the head that no token of the tokenizer stands for predict nothing */
    const mixt_logit_rows rows = {mixt_instance_view(scorer->instance, scorer->graph->logits),
                                  mixt_instance_view(scorer->instance, scorer->graph->likeliest),
                                  scorer->batch.rows, vocabulary,
                                  mixt_least(vocabulary, t->vocab_size)};
    mixt_signals_likeliest(t->context, &rows, t->predicted);
}

static mixt_status append_piece(tracer *t, const mixt_excerpt *piece, mixt_error *error)
{
    const mixt_scorer *scorer = t->scorer;
    /* The separator in front of a document is read but is no text. */
    int64_t skip = piece->from == 0 && t->separator >= 0 ? 1 : 0;
    if (piece->count <= skip) {
        return MIXT_OK;
    }
    int64_t row = piece->row + skip;
    size_t count = (size_t)(piece->count - skip);
    t->documents += t->document != piece->document + 1;
    t->document = piece->document + 1;
    for (size_t i = 0; i < count; i++) {
        t->numbers[i] = t->documents - 1;
    }
    gather(t, row, count);
    mixt_trace_chunk chunk = {.count = count,
                              .domain = scorer->split->documents[piece->document].domain,
                              .tokens = scorer->batch.tokens + row,
                              .documents = t->numbers,
                              .experts = t->ids,
                              .weights = t->weights,
                              .logits = t->logits ? t->scores : NULL,
                              .margins = t->margins,
                              .entropies = t->entropies,
                              .predicted = t->predicted + row,
                              .ahead = t->look_ahead ? t->ahead : NULL};
    return mixt_trace_writer_append(t->writer, &chunk, error);
}

/* What has to be known of the decisions: of the router's, and of keys and values that were rounded.
 */
static void say_held_out(const tracer *t, const mixt_model *model, mixt_buffer *said)
{
    mixt_cache_type cache = t->context->cache_type;
    mixt_buffer_text(said, mixt_router_held_out(&model->options.router));
    if (cache != MIXT_CACHE_F32) {
        mixt_buffer_format(said, "%skeys and values were rounded as a cache of %s has them",
                           said->length > 0 ? "; and " : "",
                           mixt_type_info(mixt_cache_element(cache))->name);
    }
    mixt_buffer_append(said, "", 1);
}

static mixt_status create_writer(tracer *t, const mixt_model *model, const mixt_data *data,
                                 const mixt_tokenizer *tokenizer, const mixt_trace_options *options,
                                 mixt_error *error)
{
    int domains = mixt_data_domain_count(data);
    const char **names = calloc((size_t)domains + 1, sizeof *names);
    int *layers = calloc((size_t)t->layers, sizeof *layers);
    char hash[65];
    mixt_buffer held_out = {0};
    say_held_out(t, model, &held_out);
    if (names == NULL || layers == NULL || held_out.failed) {
        free(names);
        free(layers);
        mixt_buffer_free(&held_out);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "trace: no memory");
    }
    for (int i = 0; i < domains; i++) {
        names[i] = mixt_data_domain_name(data, i);
    }
    for (int i = 0; i < t->layers; i++) {
        layers[i] = t->scorer->graph->routes[i].layer;
    }
    int select = model->options.router.select;
    mixt_trace_header header = {.layers = t->layers,
                                .layer_numbers = layers,
                                .experts = t->experts,
                                .identity_experts = model->options.identity_experts,
                                .zero_experts = model->options.zero_experts,
                                .experts_per_token = t->chosen,
                                .experts_per_layer = t->choices,
                                .domains = domains,
                                .domain_names = names,
                                .model = options->model_name,
                                .model_hash = hash,
                                .corpus_hash = mixt_data_corpus_hash(data),
                                .tokenizer_hash = mixt_tokenizer_hash(tokenizer),
                                .router_select =
                                    select != 0 ? mixt_router_select_name(select) : NULL,
                                .held_out = held_out.data,
                                .vocab_size = t->vocab_size,
                                .token_bytes = token_bytes,
                                .vocabulary = tokenizer,
                                .logits = t->logits,
                                .margins = true,
                                .entropies = true,
                                .predicted = true,
                                .ahead = t->look_ahead};
    mixt_status status = mixt_model_hash(model, hash, error);
    if (status == MIXT_OK) {
        status = mixt_trace_writer_create(options->output, &header, &t->writer, error);
    }
    free(names);
    free(layers);
    mixt_buffer_free(&held_out);
    return status;
}

/* The first token of the batch, in the order of reading, whose choice means nothing in a layer, -1
 * where there is none; *count: the batch's tokens. Rows between texts count for neither. */
static int64_t first_broken(const tracer *t, const mixt_route *route, int64_t *count)
{
    int64_t broken = -1;
    *count = 0;
    for (int i = 0; i < t->scorer->piece_count; i++) {
        const mixt_excerpt *piece = &t->scorer->pieces[i];
        for (int64_t j = 0; j < piece->count && broken < 0; j++) {
            broken = route->finite[piece->row + j] == 0 ? *count + j : -1;
        }
        *count += piece->count;
    }
    return broken;
}

/* A choice by logits that are not finite means nothing and is not written. */
static mixt_status check_finite(const tracer *t, mixt_error *error)
{
    for (int layer = 0; layer < t->layers; layer++) {
        mixt_route route;
        mixt_instance_route(t->scorer->instance, &t->scorer->graph->routes[layer], &route);
        int64_t count, broken = first_broken(t, &route, &count);
        if (broken >= 0) {
            return mixt_fail(error, MIXT_ERROR_NUMERIC,
                             "trace: layer %d: the router's logits are not finite at token %lld "
                             "of the %llu read",
                             route.layer, (long long)t->scorer->done - count + broken + 1,
                             (unsigned long long)t->scorer->done);
        }
    }
    return MIXT_OK;
}

static mixt_status run(tracer *t, mixt_progress progress, void *user, mixt_error *error)
{
    mixt_status status = MIXT_OK;
    while (status == MIXT_OK) {
        status = mixt_scorer_next(t->scorer, error);
        if (status != MIXT_OK || t->scorer->piece_count == 0) {
            break;
        }
        status = check_finite(t, error);
        if (status == MIXT_OK) {
            measure_batch(t);
        }
        for (int i = 0; i < t->scorer->piece_count && status == MIXT_OK; i++) {
            status = append_piece(t, &t->scorer->pieces[i], error);
        }
        if (status == MIXT_OK) {
            status = mixt_go_on(progress, user, (double)t->scorer->done, (double)t->scorer->total,
                                error);
        }
    }
    return status == MIXT_OK ? mixt_trace_writer_finish(t->writer, error) : status;
}

mixt_status mixt_trace_write(mixt_context *context, const mixt_model *model, const mixt_data *data,
                             const mixt_tokenizer *tokenizer, const mixt_trace_options *options,
                             mixt_progress progress, void *user, mixt_error *error)
{
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_trace_options, options, error));
    if (mixt_model_moe_layers(model) == 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "trace: the model is dense, it has no routers to look at");
    }
    mixt_scorer_options scorer_options = {.heldout = options->heldout,
                                          .window = options->window,
                                          .max_tokens = options->max_tokens,
                                          .trace = true,
                                          .look_ahead = options->ahead};
    tracer t = {.context = context,
                .layers = mixt_model_moe_layers(model),
                .experts = model->router.experts,
                .logits = options->logits,
                .look_ahead = options->ahead,
                .separator = mixt_data_separator(data),
                .vocab_size = mixt_tokenizer_vocab_size(tokenizer)};
    mixt_status status =
        mixt_scorer_create(context, model, data, &scorer_options, &t.scorer, error);
    if (status == MIXT_OK) {
        status = allocate(&t, error);
    }
    if (status == MIXT_OK) {
        status = create_writer(&t, model, data, tokenizer, options, error);
    }
    if (status == MIXT_OK) {
        status = run(&t, progress, user, error);
    }
    mixt_trace_writer_free(t.writer);
    mixt_scorer_free(t.scorer);
    free(t.choices);
    free(t.numbers);
    free(t.ids);
    free(t.weights);
    free(t.scores);
    free(t.margins);
    free(t.entropies);
    free(t.row_margins);
    free(t.row_entropies);
    free(t.predicted);
    free(t.ahead);
    return status;
}
