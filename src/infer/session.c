/* A session: one sequence against a KV cache. Two plans share the cache and the weights: one of up
 * to PREFILL_MOST tokens for prompts, one of a single token for generation; both give a row the
 * same bits. The weights of a model that was made here are packed once into the order the kernels
 * read; those of an opened one are read where its files are mapped. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "backend/cpu/context.h"
#include "core/memory.h"
#include "model/model.h"

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
    int64_t chunk;    /* tokens of the prefill plan */
    size_t chosen;    /* most experts that a layer chooses */
    size_t length;    /* positions filled */
    runner prefill, decode;
    float *cache; /* of each of the graphs' caches in turn [capacity, columns] */
    size_t cache_bytes;
    float *rope;       /* [capacity, rope.dims] */
    int32_t *integers; /* tokens, positions, first, last, slots, first_windowed: [6, chunk], take */
    float scale[2];
    float *logits;        /* [V] */
    int32_t *route_ids;   /* [moe_layers, k] of the last token */
    float *route_weights; /* [moe_layers, k] */
    mixt_packed **packed; /* one for a matrix, E for experts, parameters in order */
    int packed_count;
    int *packed_first; /* of each parameter, -1 where it is not packed */
};

/* The cache is zeros that cost no memory until a position is written. NULL: no memory. */
static float *map_cache(size_t bytes)
{
    size_t most = bytes == 0 ? 1 : bytes;
    void *cache = mmap(NULL, most, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return cache == MAP_FAILED ? NULL : cache;
}

static void unmap_cache(float *cache, size_t bytes)
{
    if (cache != NULL) {
        munmap(cache, bytes == 0 ? 1 : bytes);
    }
}

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
    for (int i = 0; i < session->packed_count; i++) {
        mixt_packed_free(session->packed[i]);
    }
    free(session->packed);
    free(session->packed_first);
    unmap_cache(session->cache, session->cache_bytes);
    free(session->rope);
    free(session->integers);
    free(session->logits);
    free(session->route_ids);
    free(session->route_weights);
    free(session);
}

/* Packs parameter `index` when it is a matrix that products read. */
static mixt_status pack_parameter(mixt_session *session, int index, mixt_error *error)
{
    const mixt_parameter *p = &session->model->parameters[index];
    session->packed_first[index] = -1;
    bool head = p->slot == MIXT_SLOT_OUTPUT ||
                (p->slot == MIXT_SLOT_EMBED && session->model->options.tie_embeddings);
    if (p->rank < 2 || (p->slot == MIXT_SLOT_EMBED && !head) || p->slot == MIXT_SLOT_ROUTER) {
        return MIXT_OK; /* the router's product is tiny and always exact */
    }
    int64_t count = p->rank == 3 ? p->size[0] : 1;
    int64_t n = p->size[p->rank - 2], k = p->size[p->rank - 1];
    session->packed_first[index] = session->packed_count;
    for (int64_t e = 0; e < count; e++) {
        mixt_gemm_f32 product = {.n = n,
                                 .k = k,
                                 .b = session->model->weights + p->offset + (size_t)(e * n * k),
                                 .b_row = 1,
                                 .b_column = k};
        mixt_status status = mixt_pack_f32(session->context->compute, &product,
                                           &session->packed[session->packed_count], error);
        if (status != MIXT_OK) {
            return status;
        }
        session->packed_count++;
    }
    return MIXT_OK;
}

static mixt_status pack_weights(mixt_session *session, mixt_error *error)
{
    const mixt_model *model = session->model;
    size_t most = 1;
    for (int i = 0; i < model->parameter_count; i++) {
        most += model->parameters[i].rank == 3 ? (size_t)model->parameters[i].size[0] : 1;
    }
    session->packed = calloc(most, sizeof *session->packed);
    session->packed_first = calloc((size_t)model->parameter_count, sizeof *session->packed_first);
    if (session->packed == NULL || session->packed_first == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "session: no memory");
    }
    if (model->weights == NULL || session->context->compute->matmul == MIXT_MATMUL_BLAS) {
        memset(session->packed_first, 0xff,
               (size_t)model->parameter_count * sizeof *session->packed_first);
        return MIXT_OK; /* mapped rows are read in place; BLAS packs by itself */
    }
    mixt_status status = MIXT_OK;
    for (int i = 0; i < model->parameter_count && status == MIXT_OK; i++) {
        status = pack_parameter(session, i, error);
    }
    return status;
}

static void bind(mixt_session *session, runner *r)
{
    const mixt_model *model = session->model;
    const mixt_graph *g = r->graph;
    int32_t *integers = session->integers;
    mixt_value_id ids[] = {g->tokens, g->positions,      g->first, g->last,
                           g->slots,  g->first_windowed, g->take};
    for (int i = 0; i < 7; i++) {
        if (ids[i] != MIXT_NO_VALUE) {
            mixt_instance_bind(r->instance, ids[i], integers + i * session->chunk);
        }
    }
    mixt_instance_bind(r->instance, g->scale, session->scale);
    mixt_instance_bind(r->instance, g->rope, session->rope);
    mixt_model_bind(model, g, r->instance);
    for (int i = 0; i < model->parameter_count; i++) {
        if (session->packed_first[i] >= 0) {
            mixt_instance_bind_packed(r->instance, g->parameters[i],
                                      (const mixt_packed *const *)session->packed +
                                          session->packed_first[i]);
        }
    }
    float *cache = session->cache;
    for (int i = 0; i < g->cache_count; i++) {
        mixt_instance_bind(r->instance, g->caches[i].value, cache);
        cache += session->capacity * g->caches[i].columns;
    }
}

static mixt_status create_runner(mixt_session *session, int64_t tokens, runner *r,
                                 mixt_error *error)
{
    mixt_graph_options options = {.phase = MIXT_PHASE_GENERATE,
                                  .capacity = tokens,
                                  .cache_capacity = session->capacity,
                                  .real_size = sizeof(float),
                                  .keep_routes = true};
    mixt_status status = mixt_graph_create(session->model, &options, &r->graph, error);
    if (status == MIXT_OK) {
        status = mixt_instance_create(r->graph->plan, &mixt_backend_cpu_f32,
                                      session->context->compute, &r->instance, error);
    }
    return status;
}

static mixt_status create_prefill(mixt_session *session, mixt_error *error)
{
    int64_t chunk = session->capacity < PREFILL_MOST ? session->capacity : PREFILL_MOST;
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

static mixt_status allocate(mixt_session *session, mixt_error *error)
{
    const mixt_model_options *o = &session->model->options;
    size_t routes = (size_t)mixt_model_moe_layers(session->model) * session->chosen;
    size_t row = 0;
    for (int i = 0; i < session->decode.graph->cache_count; i++) {
        row += (size_t)session->decode.graph->caches[i].columns * sizeof(float);
    }
    if (!mixt_multiply_size(row, (size_t)session->capacity, &session->cache_bytes) ||
        session->cache_bytes > SIZE_MAX / 4) {
        return mixt_fail(error, MIXT_ERROR_MEMORY,
                         "session: a cache of %lld positions is too large",
                         (long long)session->capacity);
    }
    session->cache = map_cache(session->cache_bytes);
    session->rope = calloc((size_t)session->capacity * (size_t)o->rope.dims, sizeof(float));
    session->integers = calloc(6 * (size_t)session->chunk + 1, sizeof(int32_t));
    session->logits = calloc((size_t)o->vocab_size, sizeof(float));
    session->route_ids = calloc(routes + 1, sizeof(int32_t));
    session->route_weights = calloc(routes + 1, sizeof(float));
    if (session->cache == NULL || session->rope == NULL || session->integers == NULL ||
        session->logits == NULL || session->route_ids == NULL || session->route_weights == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "session: no memory for %.1f MB of cache",
                         (double)session->cache_bytes / 1e6);
    }
    mixt_rope_table(session->model, session->capacity, sizeof(float), session->rope);
    return MIXT_OK;
}

mixt_status mixt_session_create(mixt_context *context, const mixt_model *model, int context_length,
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
    int64_t usual = model->options.context_length;
    usual = usual < CONTEXT_USUAL ? usual : CONTEXT_USUAL;
    session->capacity = context_length == 0 ? usual : context_length;
    for (int layer = 0; layer < model->options.layers; layer++) {
        size_t chosen = (size_t)mixt_model_router(model, layer)->chosen;
        session->chosen = chosen > session->chosen ? chosen : session->chosen;
    }
    mixt_status status = create_prefill(session, error);
    if (status == MIXT_OK) {
        status = create_runner(session, 1, &session->decode, error);
    }
    if (status == MIXT_OK) {
        status = allocate(session, error);
    }
    if (status == MIXT_OK) {
        status = pack_weights(session, error);
    }
    if (status == MIXT_OK) {
        bind(session, &session->prefill);
        bind(session, &session->decode);
    }
    if (status != MIXT_OK) {
        mixt_session_free(session);
        return status;
    }
    *result = session;
    return MIXT_OK;
}

static void read_routes(mixt_session *session, const runner *r, size_t row)
{
    for (int layer = 0; layer < r->graph->moe_layers; layer++) {
        const int32_t *ids = mixt_instance_data(r->instance, r->graph->routes[layer][0]);
        const float *weights = mixt_instance_data(r->instance, r->graph->routes[layer][1]);
        size_t k = (size_t)mixt_model_router(session->model, r->graph->route_layer[layer])->chosen;
        for (size_t i = 0; i < session->chosen; i++) {
            size_t at = (size_t)layer * session->chosen + i;
            session->route_ids[at] = i < k ? ids[row * k + i] : -1;
            session->route_weights[at] = i < k ? weights[row * k + i] : 0;
        }
    }
}

static mixt_status check_finite(const mixt_session *session, const runner *r, mixt_error *error)
{
    for (int layer = 0; layer < r->graph->moe_layers; layer++) {
        const float *losses = mixt_instance_data(r->instance, r->graph->routes[layer][7]);
        if (losses[2] != 0) {
            return mixt_fail(error, MIXT_ERROR_NUMERIC,
                             "layer %d: the router's logits are not finite at position %zu",
                             r->graph->route_layer[layer], session->length);
        }
    }
    return MIXT_OK;
}

static mixt_status feed_chunk(mixt_session *session, const int32_t *tokens, size_t count,
                              mixt_error *error)
{
    runner *r = count == 1 ? &session->decode : &session->prefill;
    int64_t chunk = session->chunk;
    int32_t *in = session->integers;
    for (int64_t i = 0; i < (int64_t)count; i++) {
        int32_t position = (int32_t)((int64_t)session->length + i);
        in[i] = tokens[i];
        in[chunk + i] = position;
        in[2 * chunk + i] = 0;
        in[3 * chunk + i] = position;
        in[4 * chunk + i] = position;
    }
    mixt_windowed_first(session->model, in + 2 * chunk, in + 3 * chunk, (int64_t)count,
                        in + 5 * chunk);
    in[6 * chunk] = (int32_t)count - 1;
    mixt_status status =
        mixt_instance_run(r->instance, (int64_t)count, 0, r->graph->plan->record_count, error);
    if (status == MIXT_OK) {
        status = mixt_model_intact(session->model, error);
    }
    if (status == MIXT_OK) {
        status = check_finite(session, r, error);
    }
    if (status != MIXT_OK) {
        return status;
    }
    memcpy(session->logits, mixt_instance_data(r->instance, r->graph->logits),
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
