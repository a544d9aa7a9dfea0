/* A session: one sequence against a KV cache. Two plans share the cache and the weights: one of up
 * to PREFILL_MOST tokens for prompts, one of a single token for generation; both give a row the
 * same bits. The weights of a model that was made here are packed once into the order the kernels
 * read; those of an opened one are read where its files are mapped. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "backend/context.h"
#include "core/arithmetic.h"
#include "core/memory.h"
#include "infer/session.h"
#include "model/batch.h"
#include "model/weights.h"

/* Tokens of a prompt that are processed at once: many, so that an expert sees enough rows to be
 * worth unpacking; fewer where there is no memory for the plan. */
#define PREFILL_MOST 512
#define PREFILL_LEAST 32
#define CONTEXT_USUAL 4096 /* positions where the caller leaves the choice */

typedef struct runner {
    mixt_graph *graph;
    mixt_instance *instance;
} runner;

struct mixt_session {
    mixt_context *context;
    const mixt_model *model;
    int64_t capacity; /* positions */
    mixt_type cache_type;
    int64_t chunk; /* tokens of the prefill plan */
    size_t chosen; /* most experts that a layer chooses */
    size_t length; /* positions filled */
    runner prefill, decode;
    mixt_weights *weights;
    mixt_device_memory cache; /* of each of the graphs' caches in turn */
    mixt_device_memory rope;  /* [capacity, rope.dims] */
    bool rope_by_length;      /* its rows depend on how long the sequence is */
    mixt_batch batch;
    float *logits;        /* [V] */
    int32_t *route_ids;   /* [moe_layers, k] of the last token */
    float *route_weights; /* [moe_layers, k] */
};

void mixt_session_free(mixt_session *session)
{
    if (session == NULL) {
        return;
    }
    runner *runners[] = {&session->prefill, &session->decode};
    for (int i = 0; i < 2; i++) {
        mixt_instance_free(runners[i]->instance);
        mixt_graph_free(runners[i]->graph);
    }
    mixt_weights_free(session->weights);
    mixt_device_memory_free(&session->cache);
    mixt_device_memory_free(&session->rope);
    mixt_batch_free(&session->batch);
    free(session->logits);
    free(session->route_ids);
    free(session->route_weights);
    free(session);
}

static mixt_status bind(mixt_session *session, runner *r, mixt_error *error)
{
    const mixt_graph *g = r->graph;
    static const float scale[2] = {0}; /* of losses, which generation does not have */
    size_t offset = 0;
    mixt_instance_write(r->instance, g->scale, scale, sizeof scale);
    mixt_instance_bind(r->instance, g->rope, &session->rope, 0);
    for (int i = 0; i < g->cache_count; i++) {
        mixt_instance_bind(r->instance, g->caches[i].value, &session->cache, offset);
        offset += g->caches[i].bytes;
    }
    return mixt_weights_bind(session->weights, g, r->instance, error);
}

static mixt_status create_runner(mixt_session *session, int64_t tokens, runner *r,
                                 mixt_error *error)
{
    mixt_graph_options options = {.phase = MIXT_PHASE_GENERATE,
                                  .capacity = tokens,
                                  .cache_capacity = session->capacity,
                                  .cache_type = session->cache_type,
                                  .real_size = sizeof(float),
                                  .keep_routes = true,
                                  .merged =
                                      mixt_weights_merge(session->model, &session->context->device,
                                                         mixt_context_matmul(session->context))};
    MIXT_TRY(mixt_graph_create(session->model, &options, &r->graph, error));
    return mixt_instance_create(r->graph->plan, &session->context->device,
                                mixt_context_matmul(session->context), &r->instance, error);
}

static mixt_status create_prefill(mixt_session *session, mixt_error *error)
{
    int64_t chunk = mixt_least(session->capacity, PREFILL_MOST);
    for (;; chunk /= 2) {
        mixt_error local = MIXT_ERROR_INIT;
        mixt_status status = create_runner(session, chunk, &session->prefill, &local);
        if (status != MIXT_ERROR_MEMORY || chunk / 2 < PREFILL_LEAST) {
            session->chunk = chunk;
            return status == MIXT_OK ? MIXT_OK : mixt_fail(error, status, "%s", local.message);
        }
        mixt_instance_free(session->prefill.instance);
        mixt_graph_free(session->prefill.graph);
        session->prefill = (runner){0};
    }
}

static mixt_status create_cache(mixt_session *session, const mixt_backend *backend,
                                mixt_error *error)
{
    size_t bytes = mixt_graph_cache_bytes(session->decode.graph);
    mixt_error inner = MIXT_ERROR_INIT;
    if (bytes > SIZE_MAX / 4) {
        return mixt_fail(error, MIXT_ERROR_MEMORY,
                         "session: a cache of %lld positions is too large",
                         (long long)session->capacity);
    }
    if (mixt_device_memory_reserve(backend, bytes, &session->cache, &inner) != MIXT_OK) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "session: no memory for %.1f MB of cache",
                         (double)bytes / 1e6);
    }
    return MIXT_OK;
}

static mixt_status allocate(mixt_session *session, mixt_error *error)
{
    const mixt_model *model = session->model;
    const mixt_backend *backend = mixt_device_backend(&session->context->device, sizeof(float));
    size_t routes = (size_t)mixt_model_moe_layers(model) * session->chosen;
    MIXT_TRY(create_cache(session, backend, error));
    MIXT_TRY(mixt_rope_create(model, backend, session->capacity, &session->rope, error));
    session->rope_by_length = mixt_rope_by_length(&model->options, session->capacity);
    MIXT_TRY(mixt_batch_create_paged(session->prefill.graph, &session->batch, error));
    for (int64_t i = 0; i < session->batch.pages_per_sequence;
         i++) { /* one sequence has them all */
        session->batch.pages[i] = (int32_t)i;
    }
    session->logits = calloc((size_t)model->options.vocab_size, sizeof(float));
    session->route_ids = calloc(routes + 1, sizeof(int32_t));
    session->route_weights = calloc(routes + 1, sizeof(float));
    if (session->logits == NULL || session->route_ids == NULL || session->route_weights == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "session: no memory");
    }
    return MIXT_OK;
}

static mixt_status build(mixt_session *session, mixt_error *error)
{
    const mixt_context *context = session->context;
    MIXT_TRY(create_prefill(session, error));
    MIXT_TRY(create_runner(session, 1, &session->decode, error));
    MIXT_TRY(allocate(session, error));
    MIXT_TRY(mixt_weights_create(session->model, &context->device, &session->weights, error));
    MIXT_TRY(mixt_weights_pack(session->weights, mixt_context_matmul(context), error));
    MIXT_TRY(bind(session, &session->prefill, error));
    return bind(session, &session->decode, error);
}

mixt_status mixt_session_create(mixt_context *context, const mixt_model *model, int context_length,
                                mixt_session **session, mixt_error *error)
{
    return mixt_session_create_typed(context, model, context_length, MIXT_TYPE_F32, session, error);
}

mixt_status mixt_session_create_typed(mixt_context *context, const mixt_model *model,
                                      int context_length, mixt_type cache_type,
                                      mixt_session **result, mixt_error *error)
{
    *result = NULL;
    if (context_length < 0 || context_length > 1 << 24) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "session: context %d is not in 0..%d",
                         context_length, 1 << 24);
    }
    mixt_session *session = calloc(1, sizeof *session);
    if (session == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "session: no memory");
    }
    session->context = context;
    session->model = model;
    session->cache_type = cache_type;
    int64_t usual = mixt_least(model->options.context_length, CONTEXT_USUAL);
    session->capacity = context_length == 0 ? usual : context_length;
    for (int layer = 0; layer < model->options.layers; layer++) {
        size_t chosen = (size_t)mixt_model_router(model, layer)->chosen;
        session->chosen = chosen > session->chosen ? chosen : session->chosen;
    }
    mixt_status status = build(session, error);
    if (status != MIXT_OK) {
        mixt_session_free(session);
        return status;
    }
    *result = session;
    return MIXT_OK;
}

/* The choices of a row in every MoE layer; a layer that chooses fewer has -1 behind them. */
static void read_routes(mixt_session *session, const runner *r, size_t row)
{
    for (int layer = 0; layer < r->graph->moe_layers; layer++) {
        mixt_route route;
        mixt_instance_route(r->instance, &r->graph->routes[layer], &route);
        size_t k = (size_t)route.chosen;
        for (size_t i = 0; i < session->chosen; i++) {
            size_t at = (size_t)layer * session->chosen + i;
            session->route_ids[at] = i < k ? route.ids[row * k + i] : -1;
            session->route_weights[at] = i < k ? route.weights[row * k + i] : 0;
        }
    }
}

static mixt_status check_finite(const mixt_session *session, const runner *r, mixt_error *error)
{
    for (int layer = 0; layer < r->graph->moe_layers; layer++) {
        mixt_route route;
        mixt_instance_route(r->instance, &r->graph->routes[layer], &route);
        int64_t row;
        if (mixt_route_broken(&route, &row) != 0) {
            return mixt_fail(error, MIXT_ERROR_NUMERIC,
                             "layer %d: the router's logits are not finite at position %zu",
                             route.layer, session->length + (size_t)row);
        }
    }
    return MIXT_OK;
}

static mixt_status feed_chunk(mixt_session *session, const int32_t *tokens, size_t count,
                              mixt_error *error)
{
    runner *r = count == 1 ? &session->decode : &session->prefill;
    mixt_batch *batch = &session->batch;
    batch->rows = (int64_t)count;
    batch->take[0] = (int32_t)count - 1;
    for (size_t i = 0; i < count; i++) {
        mixt_batch_place(batch, (int64_t)i, tokens[i], 0, (int64_t)(session->length + i));
    }
    assert(count <= (size_t)session->chunk);
    mixt_batch_write(batch, r->graph, r->instance);
    MIXT_TRY(mixt_instance_run(r->instance, batch->rows, 0, r->graph->plan->record_count, error));
    MIXT_TRY(mixt_model_intact(session->model, error));
    MIXT_TRY(check_finite(session, r, error));
    mixt_instance_read(r->instance, r->graph->logits, 0, session->logits,
                       (size_t)session->model->options.vocab_size * sizeof(float));
    read_routes(session, r, count - 1);
    session->length += count;
    return MIXT_OK;
}

mixt_status mixt_session_feed(mixt_session *session, const int32_t *tokens, size_t count,
                              mixt_error *error)
{
    if (count == 0 || count > (size_t)session->capacity - session->length) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "%zu tokens behind %zu do not fit into a context of %lld", count,
                         session->length, (long long)session->capacity);
    }
    int vocab_size = session->model->options.vocab_size;
    for (size_t i = 0; i < count; i++) {
        if (tokens[i] < 0 || tokens[i] >= vocab_size) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "token %zu: id %d is not in 0..%d", i,
                             tokens[i], vocab_size - 1);
        }
    }
    if (session->rope_by_length) { /* what is fed is rotated as in a sequence that ends with it */
        MIXT_TRY(mixt_rope_update(session->model, (int64_t)session->length, (int64_t)count,
                                  &session->rope, error));
    }
    size_t chunk = (size_t)session->chunk;
    size_t before = session->length;
    for (size_t done = 0; done < count;) {
        size_t part = count - done < chunk ? count - done : chunk;
        mixt_status status = feed_chunk(session, tokens + done, part, error);
        if (status != MIXT_OK) {
            session->length = before;
            return status;
        }
        done += part;
    }
    return MIXT_OK;
}

const float *mixt_session_logits(const mixt_session *session)
{
    return session->logits;
}

size_t mixt_session_capacity(const mixt_session *session)
{
    return (size_t)session->capacity;
}

size_t mixt_session_length(const mixt_session *session)
{
    return session->length;
}

void mixt_session_truncate(mixt_session *session, size_t length)
{
    session->length = length < session->length ? length : session->length;
}

void mixt_session_routes(const mixt_session *session, const int32_t **ids, const float **weights)
{
    *ids = session->route_ids;
    *weights = session->route_weights;
}

void mixt_session_routes_shape(const mixt_session *session, int *moe_layers, int *chosen)
{
    *moe_layers = mixt_model_moe_layers(session->model);
    *chosen = (int)session->chosen;
}
