/* Engines: options, plans and memory. Two plans share cache and weights: one for many rows, one for
 * as many as there are sequences that generate; both give a row the same bits. The weights of a
 * model that was made here are packed once into the order the kernels read; those of an opened one
 * are read where its files are mapped. */
#include "infer/engine.h"

#include <stdlib.h>
#include <string.h>

#include "core/arithmetic.h"

#define CONTEXT_MOST (1 << 24)
#define SEQUENCES_MOST 4096
#define BATCH_MOST 65536
#define BATCH_LEAST 32 /* rows of the larger plan where there is no memory for more */
#define LOGITS_USUAL 32
#define STEP_STORED 4096 /* rows of a step where experts are read from files */
#define FIT_STEP 256     /* positions: a context that is made to fit is a multiple of these */

mixt_engine_options mixt_engine_options_default(void)
{
    return (mixt_engine_options){.sequences = 8, .batch_tokens = 512};
}

static void free_runner(mixt_runner *r)
{
    mixt_instance_free(r->instance);
    mixt_graph_free(r->graph);
    *r = (mixt_runner){0};
}

void mixt_engine_free(mixt_engine *engine)
{
    if (engine == NULL) {
        return;
    }
    assert(engine->oldest == NULL);
    mixt_stored_release(engine->model, engine->reserved);
    free_runner(&engine->many);
    free_runner(&engine->few);
    mixt_weights_free(engine->weights);
    mixt_device_memory_free(&engine->cache);
    mixt_device_memory_free(&engine->rope);
    mixt_batch_free(&engine->batch);
    mixt_page_pool_free(engine->pool);
    for (mixt_variant *v = engine->variants, *next; v != NULL; v = next) {
        next = v->next;
        mixt_routing_free(v->routing);
        free(v);
    }
    free(engine->page);
    free(engine->routers);
    free(engine->lines);
    free(engine->pieces);
    free(engine->logits);
    free(engine->states);
    free(engine->route_ids);
    free(engine->route_weights);
    free(engine->route_margins);
    free(engine->sweep.cuts);
    free(engine->sweep.ids);
    free(engine->sweep.weights);
    free(engine->sweep.margins);
    free(engine);
}

static mixt_status check_range(const mixt_engine *engine, const char *what, int64_t value,
                               int64_t least, int64_t most, mixt_error *error)
{
    return value >= least && value <= most
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: %s %lld is not in %lld..%lld",
                           engine->name, what, (long long)value, (long long)least, (long long)most);
}

/* Checks the options and puts what they mean in the place of zeros. */
static mixt_status fill_options(mixt_engine *engine, mixt_error *error)
{
    mixt_engine_options *o = &engine->options;
    const mixt_model_options *model = &engine->model->options;
    const int64_t block = MIXT_ATTENTION_BLOCK, rows_most = (int64_t)INT32_MAX / block * block;
    MIXT_TRY(check_range(engine, "context", o->context_length, 0, CONTEXT_MOST, error));
    MIXT_TRY(check_range(engine, "number of sequences", o->sequences, 1, SEQUENCES_MOST, error));
    MIXT_TRY(check_range(engine, "batch of tokens", o->batch_tokens, 1, BATCH_MOST, error));
    if (o->context_length == 0) {
        o->context_length = (int)mixt_least(model->context_length, MIXT_CONTEXT_USUAL);
    }
    int64_t each = mixt_divide_up(o->context_length, block) * block;
    if (o->positions == 0) {
        o->positions = mixt_least(each * o->sequences, rows_most);
    }
    MIXT_TRY(check_range(engine, "number of cached positions", o->positions, 1, rows_most, error));
    o->positions = mixt_divide_up(o->positions, block) * block;
    if (o->logits_rows == 0) {
        o->logits_rows = (int)mixt_least(mixt_most(o->sequences, LOGITS_USUAL), o->batch_tokens);
    }
    MIXT_TRY(check_range(engine, "number of rows with logits", o->logits_rows, 1, o->batch_tokens,
                         error));
    o->batch_tokens = (int)mixt_least(
        o->batch_tokens, mixt_least(o->positions, (int64_t)o->context_length * o->sequences));
    o->logits_rows = (int)mixt_least(o->logits_rows, o->batch_tokens);
    MIXT_TRY(check_range(engine, "number of rows of a step", o->step_tokens, 0, BATCH_MOST, error));
    MIXT_TRY(check_range(engine, "cache type", (int64_t)o->cache_type, MIXT_CACHE_F32,
                         MIXT_CACHE_Q8_0, error));
    MIXT_TRY(check_range(engine, "form of latent attention", (int64_t)o->latent, MIXT_LATENT_AUTO,
                         MIXT_LATENT_EXPANDED, error));
    for (int layer = 0; layer < model->layers; layer++) {
        size_t chosen = (size_t)mixt_model_router(engine->model, layer)->chosen;
        engine->chosen = chosen > engine->chosen ? chosen : engine->chosen;
    }
    int experts = mixt_options_routed(model);
    MIXT_TRY(check_range(engine, "number of experts of a token", o->experts_per_token_max, 0,
                         experts, error));
    engine->chosen = (size_t)mixt_most((int64_t)engine->chosen, o->experts_per_token_max);
    return MIXT_OK;
}

/* Steps of more than one batch: where the experts of a layer are read from files, so that they are
 * read once for all rows. A document for which the router decides once stands in one batch. */
static void fill_step(mixt_engine *engine)
{
    mixt_engine_options *o = &engine->options;
    mixt_store_statistics stored;
    if (o->step_tokens == 0 && mixt_store_describe(engine->model, &stored)) {
        o->step_tokens = STEP_STORED;
    }
    int64_t most = mixt_least(o->positions, (int64_t)o->context_length * o->sequences);
    o->step_tokens = engine->whole_first ? 0 : mixt_least(o->step_tokens, most);
    o->step_tokens = mixt_most(o->step_tokens, o->batch_tokens);
}

/* The model's own routing, as it is now, and the table of routers with nothing in it. */
static mixt_status create_routing(mixt_engine *engine, mixt_error *error)
{
    size_t places = (size_t)engine->options.sequences;
    size_t layers = (size_t)engine->model->options.layers;
    engine->variants = calloc(1, sizeof *engine->variants);
    engine->routers = calloc(layers * places, sizeof *engine->routers);
    engine->lines = calloc(places, sizeof *engine->lines);
    engine->pieces = calloc(places, sizeof *engine->pieces);
    if (engine->variants == NULL || engine->routers == NULL || engine->lines == NULL ||
        engine->pieces == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", engine->name);
    }
    engine->variants->number = engine->variant_count++;
    return mixt_routing_create(engine->model, NULL, &engine->variants->routing, error);
}

static mixt_status create_graph(const mixt_engine *engine, int64_t tokens, mixt_graph **graph,
                                mixt_error *error)
{
    const mixt_engine_options *o = &engine->options;
    mixt_matmul matmul = mixt_context_matmul(engine->context);
    const mixt_device *device = &engine->context->device;
    mixt_graph_options options = {
        .phase = MIXT_PHASE_GENERATE,
        .capacity = tokens,
        .cache_capacity = o->context_length,
        .sequences = o->sequences,
        .cache_pages = o->positions / MIXT_ATTENTION_BLOCK,
        .takes = o->logits_rows,
        .cache_type = mixt_cache_element(o->cache_type),
        .real_size = sizeof(float),
        .keep_routes = true,
        .merged = mixt_weights_merge(engine->model, device, matmul),
        .routers = engine->moe_layers > 0 ? engine->routers : NULL,
        .chosen = o->experts_per_token_max,
        .rope_rows = engine->rope_by_length ? o->step_tokens : 0,
        .absorbed = o->latent == MIXT_LATENT_ABSORBED,
    };
    return mixt_graph_create(engine->model, &options, graph, error);
}

static mixt_status create_runner(mixt_engine *engine, int64_t tokens, mixt_runner *r,
                                 mixt_error *error)
{
    MIXT_TRY(create_graph(engine, tokens, &r->graph, error));
    return mixt_instance_create(r->graph->plan, &engine->context->device,
                                mixt_context_matmul(engine->context), &r->instance, error);
}

static mixt_status create_many(mixt_engine *engine, mixt_error *error)
{
    for (int *rows = &engine->options.batch_tokens;; *rows /= 2) {
        mixt_error local = MIXT_ERROR_INIT;
        engine->options.logits_rows = (int)mixt_least(engine->options.logits_rows, *rows);
        mixt_status status = create_runner(engine, *rows, &engine->many, &local);
        if (status != MIXT_ERROR_MEMORY || *rows / 2 < BATCH_LEAST) {
            return status == MIXT_OK ? MIXT_OK : mixt_fail(error, status, "%s", local.message);
        }
        free_runner(&engine->many);
    }
}

static mixt_status create_cache(mixt_engine *engine, const mixt_backend *backend, mixt_error *error)
{
    const mixt_graph *g = engine->many.graph;
    size_t bytes = mixt_graph_cache_bytes(g), most = 1;
    mixt_error inner = MIXT_ERROR_INIT;
    if (bytes > SIZE_MAX / 4) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: a cache of %lld positions is too large",
                         engine->name, (long long)engine->options.positions);
    }
    if (mixt_device_memory_reserve(backend, bytes, &engine->cache, &inner) != MIXT_OK) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory for %.1f MB of cache",
                         engine->name, (double)bytes / 1e6);
    }
    engine->count.cache_bytes = bytes;
    for (int i = 0; i < g->cache_count; i++) {
        size_t page = g->caches[i].bytes / (size_t)g->options.cache_pages;
        most = page > most ? page : most;
    }
    engine->page = malloc(most);
    return engine->page != NULL
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", engine->name);
}

static mixt_status allocate(mixt_engine *engine, mixt_error *error)
{
    const mixt_model *model = engine->model;
    const mixt_backend *backend = mixt_device_backend(&engine->context->device, sizeof(float));
    MIXT_TRY(create_cache(engine, backend, error));
    MIXT_TRY(mixt_rope_create(
        model, backend, engine->rope_by_length ? engine->options.step_tokens : engine->capacity,
        &engine->rope, error));
    MIXT_TRY(mixt_batch_create_paged(engine->many.graph, &engine->batch, error));
    return mixt_page_pool_create(engine->options.positions / MIXT_ATTENTION_BLOCK, engine->sharing,
                                 &engine->pool, error);
}

static mixt_status bind(mixt_engine *engine, mixt_runner *r, mixt_error *error)
{
    const mixt_graph *g = r->graph;
    static const float scale[2] = {0}; /* of losses, which generation does not have */
    size_t offset = 0;
    mixt_instance_write(r->instance, g->scale, scale, sizeof scale);
    mixt_instance_bind(r->instance, g->rope, &engine->rope, 0);
    for (int i = 0; i < g->cache_count; i++) {
        mixt_instance_bind(r->instance, g->caches[i].value, &engine->cache, offset);
        offset += g->caches[i].bytes;
    }
    return mixt_weights_bind(engine->weights, g, r->instance, error);
}

/* What follows from the options. */
static mixt_status settle(mixt_engine *engine, mixt_error *error)
{
    const mixt_model *model = engine->model;
    const mixt_router_options *router = &model->options.router;
    MIXT_TRY(fill_options(engine, error));
    engine->capacity = engine->options.context_length;
    engine->moe_layers = (size_t)mixt_model_moe_layers(model);
    engine->rope_by_length = mixt_rope_by_length(&model->options, engine->capacity);
    engine->whole_first =
        engine->moe_layers > 0 && router->unit != MIXT_UNIT_TOKEN && router->segment == 0;
    fill_step(engine);
    bool both = mixt_model_latent(model, &engine->latent);
    if (engine->options.latent == MIXT_LATENT_EXPANDED && !both) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "%s: the model has no latent attention that could be expanded",
                         engine->name);
    }
    engine->forms = engine->options.latent != MIXT_LATENT_ABSORBED && both;
    engine->sharing =
        !engine->options.no_sharing && !engine->rope_by_length && !engine->whole_first;
    return MIXT_OK;
}

/* Bytes that plans, cache and the table of positions would have with these options. */
static mixt_status weigh(const mixt_engine *engine, const mixt_engine_options *options,
                         uint64_t *bytes, mixt_error *error)
{
    mixt_engine trial = *engine;
    mixt_graph *many = NULL, *few = NULL;
    trial.options = *options;
    MIXT_TRY(settle(&trial, error));
    const mixt_engine_options *o = &trial.options;
    mixt_status status = create_graph(&trial, o->batch_tokens, &many, error);
    if (status == MIXT_OK) {
        status = create_graph(&trial, mixt_least(o->sequences, o->batch_tokens), &few, error);
    }
    if (status == MIXT_OK) {
        int64_t rows = trial.rope_by_length ? o->step_tokens : trial.capacity;
        *bytes = (uint64_t)many->plan->memory_size + few->plan->memory_size +
                 mixt_graph_cache_bytes(many) + mixt_rope_bytes(trial.model, rows, sizeof(float));
    }
    mixt_graph_free(many);
    mixt_graph_free(few);
    return status;
}

/* What is made smaller until it fits. */
typedef enum fitted { FITTED_CONTEXT, FITTED_POSITIONS } fitted;

/* Sets the largest context (or number of cached positions) that fits: range[0] and some multiples
 * of range[2] more, less than range[1]. *value: 0 where none does. A context has as many positions
 * of the cache as itself, where their number is free. */
static mixt_status fit_one(const mixt_engine *engine, fitted what, const int64_t range[3],
                           mixt_engine_options *options, int64_t *value, mixt_error *error)
{
    uint64_t bytes, room = mixt_stored_room(engine->model);
    int64_t low = -1, high = mixt_divide_up(mixt_most(range[1] - range[0], 0), range[2]);
    mixt_engine_options tried = *options;
    bool free_positions = options->positions == 0;
    *value = 0;
    while (high - low > 1) { /* low fits, high does not */
        int64_t middle = low + (high - low) / 2, n = range[0] + middle * range[2];
        tried.context_length = what == FITTED_CONTEXT ? (int)n : tried.context_length;
        tried.positions = what == FITTED_POSITIONS || free_positions ? n : tried.positions;
        MIXT_TRY(weigh(engine, &tried, &bytes, error));
        if (bytes <= room) {
            low = middle;
            *value = n;
            *options = tried;
        } else {
            high = middle;
        }
    }
    return MIXT_OK;
}

static mixt_status refuse_size(const mixt_engine *engine, uint64_t bytes, const char *what,
                               int64_t value, mixt_error *error)
{
    mixt_error refused = MIXT_ERROR_INIT;
    if (mixt_stored_reserve(engine->model, bytes, &refused) == MIXT_OK) { /* others made room */
        mixt_stored_release(engine->model, bytes);
        return MIXT_OK;
    }
    return value == 0
               ? mixt_fail(error, MIXT_ERROR_MEMORY, "%s", refused.message)
               : mixt_fail(error, MIXT_ERROR_MEMORY, "%s; the %s that fits has %lld positions",
                           refused.message, what, (long long)value);
}

/* Where a limit of memory leaves less than the options mean, what the caller left open becomes
 * smaller: first the cache of all sequences, to one whole context at least, then the context. What
 * the caller chose stays, and the error names what would fit. */
static mixt_status fit(mixt_engine *engine, const mixt_engine_options *asked, mixt_error *error)
{
    const int64_t page = MIXT_ATTENTION_BLOCK, each = mixt_divide_up(engine->capacity, page) * page;
    bool free_context = asked->context_length == 0, free_positions = asked->positions == 0;
    const int64_t caches[3] = {free_positions ? each : page, engine->options.positions, page};
    const int64_t contexts[3] = {free_context ? FIT_STEP : page, engine->capacity,
                                 free_context ? FIT_STEP : page};
    mixt_engine_options options = *asked;
    uint64_t bytes;
    int64_t positions = 0, context = 0;
    MIXT_TRY(weigh(engine, asked, &bytes, error));
    if (bytes <= mixt_stored_room(engine->model)) {
        return MIXT_OK;
    }
    MIXT_TRY(fit_one(engine, FITTED_POSITIONS, caches, &options, &positions, error));
    if (positions == 0) {
        options = *asked;
        MIXT_TRY(fit_one(engine, FITTED_CONTEXT, contexts, &options, &context, error));
    }
    if ((positions > 0 && free_positions) || (context > 0 && free_context)) {
        engine->options = options;
        return settle(engine, error);
    }
    if (positions == 0 && context == 0 && free_context) { /* too short to be taken unasked */
        const int64_t shorter[3] = {page, mixt_least(FIT_STEP, engine->capacity), page};
        MIXT_TRY(fit_one(engine, FITTED_CONTEXT, shorter, &options, &context, error));
    }
    return refuse_size(engine, bytes, context > 0 ? "longest context" : "largest cache",
                       context > 0 ? context : positions, error);
}

static mixt_status build(mixt_engine *engine, mixt_error *error)
{
    const mixt_context *context = engine->context;
    const mixt_model *model = engine->model;
    const mixt_engine_options asked = engine->options;
    MIXT_TRY(settle(engine, error));
    MIXT_TRY(create_routing(engine, error));
    if (model->stored != NULL) {
        MIXT_TRY(fit(engine, &asked, error));
    }
    MIXT_TRY(create_many(engine, error));
    MIXT_TRY(create_runner(engine,
                           mixt_least(engine->options.sequences, engine->options.batch_tokens),
                           &engine->few, error));
    MIXT_TRY(allocate(engine, error));
    MIXT_TRY(mixt_weights_create(model, &context->device, &engine->weights, error));
    MIXT_TRY(mixt_weights_pack(engine->weights, mixt_context_matmul(context), error));
    MIXT_TRY(bind(engine, &engine->many, error));
    MIXT_TRY(bind(engine, &engine->few, error));
    uint64_t bytes = (uint64_t)engine->many.graph->plan->memory_size +
                     engine->few.graph->plan->memory_size + engine->cache.size + engine->rope.size;
    MIXT_TRY(mixt_stored_reserve(model, bytes, error));
    engine->reserved = bytes;
    return MIXT_OK;
}

mixt_status mixt_engine_build(mixt_context *context, const mixt_model *model,
                              const mixt_engine_options *options, const char *name,
                              mixt_engine **result, mixt_error *error)
{
    *result = NULL;
    mixt_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", name);
    }
    engine->context = context;
    engine->model = model;
    engine->options = *options;
    engine->name = name;
    mixt_status status = build(engine, error);
    if (status != MIXT_OK) {
        mixt_engine_free(engine);
        return status;
    }
    *result = engine;
    return MIXT_OK;
}

mixt_status mixt_engine_create(mixt_context *context, const mixt_model *model,
                               const mixt_engine_options *options, mixt_engine **engine,
                               mixt_error *error)
{
    mixt_engine_options usual = mixt_engine_options_default();
    *engine = NULL;
    options = options == NULL ? &usual : options;
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_engine_options, options, error));
    return mixt_engine_build(context, model, options, "engine", engine, error);
}

void mixt_engine_describe_options(const mixt_engine *engine, mixt_engine_options *options)
{
    *options = engine->options;
    options->experts_per_token_max = (int)engine->chosen;
}

mixt_status mixt_engine_make_room(mixt_engine *engine, const mixt_sequence_options *options,
                                  mixt_error *error)
{
    size_t logits = (size_t)engine->options.logits_rows * (size_t)engine->model->options.vocab_size;
    size_t rows = (size_t)engine->options.step_tokens * engine->moe_layers + 1;
    size_t states =
        (size_t)engine->options.logits_rows * (size_t)engine->model->options.hidden_size;
    if (options->all_logits && engine->logits == NULL) {
        engine->logits = malloc(logits * sizeof *engine->logits);
    }
    if (options->states && engine->states == NULL) {
        engine->states = malloc(states * sizeof *engine->states);
    }
    if (options->routes && engine->route_ids == NULL) {
        engine->route_ids = malloc(rows * (engine->chosen + 1) * sizeof *engine->route_ids);
    }
    if (options->routes && engine->route_weights == NULL) {
        engine->route_weights = malloc(rows * (engine->chosen + 1) * sizeof *engine->route_weights);
    }
    if (options->routes && engine->route_margins == NULL) {
        engine->route_margins = malloc(rows * sizeof *engine->route_margins);
    }
    bool routes =
        engine->route_ids != NULL && engine->route_weights != NULL && engine->route_margins != NULL;
    return (options->all_logits && engine->logits == NULL) ||
                   (options->states && engine->states == NULL) || (options->routes && !routes)
               ? mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory for logits, states and experts",
                           engine->name)
               : MIXT_OK;
}

static bool make_last_routes(mixt_engine *engine)
{
    mixt_sweep *s = &engine->sweep;
    size_t rows = (size_t)engine->options.sequences * engine->moe_layers + 1;
    s->ids = s->ids != NULL ? s->ids : malloc(rows * (engine->chosen + 1) * sizeof *s->ids);
    s->weights =
        s->weights != NULL ? s->weights : malloc(rows * (engine->chosen + 1) * sizeof *s->weights);
    s->margins = s->margins != NULL ? s->margins : malloc(rows * sizeof *s->margins);
    return s->ids != NULL && s->weights != NULL && s->margins != NULL;
}

/* Cuts of `blocks` blocks, which the limit of a stored model counts. */
static bool make_cuts(mixt_engine *engine, int64_t blocks)
{
    mixt_sweep *s = &engine->sweep;
    mixt_error none = MIXT_ERROR_INIT;
    size_t bytes = (size_t)blocks * s->cut_bytes;
    if (mixt_stored_reserve(engine->model, bytes, &none) != MIXT_OK) {
        return false;
    }
    s->cuts = malloc(bytes + 1);
    if (s->cuts == NULL) {
        mixt_stored_release(engine->model, bytes);
        return false;
    }
    engine->reserved += bytes;
    s->blocks = blocks;
    return true;
}

int64_t mixt_engine_make_sweep(mixt_engine *engine, int64_t rows)
{
    mixt_sweep *s = &engine->sweep;
    const mixt_runner *r = &engine->many;
    const int64_t batch = engine->options.batch_tokens;
    if (rows <= batch || !make_last_routes(engine)) {
        return batch;
    }
    for (int layer = 1; layer < engine->model->options.layers && s->cuts == NULL; layer++) {
        size_t bytes = mixt_instance_cut_bytes(r->instance, r->graph->layers[layer], batch);
        s->cut_bytes = bytes > s->cut_bytes ? bytes : s->cut_bytes;
    }
    /* at once for the largest step: a pool of experts that has to shrink begins anew */
    int64_t blocks = mixt_divide_up(engine->options.step_tokens, batch);
    while (s->cuts == NULL && blocks > 1 && !make_cuts(engine, blocks)) {
        blocks /= 2;
    }
    return mixt_least(mixt_most(s->blocks, 1) * batch, rows);
}

size_t mixt_engine_waiting(const mixt_engine *engine)
{
    size_t count = 0;
    for (const mixt_sequence *s = engine->oldest; s != NULL; s = s->next) {
        count += mixt_sequence_has_work(s);
    }
    return count;
}

void mixt_engine_describe(const mixt_engine *engine, mixt_engine_statistics *statistics)
{
    *statistics = engine->count;
    statistics->pages = mixt_page_pool_size(engine->pool);
    statistics->pages_used = mixt_page_pool_used(engine->pool);
    statistics->pages_kept = mixt_page_pool_kept(engine->pool);
    for (const mixt_sequence *s = engine->oldest; s != NULL; s = s->next) {
        bool work = mixt_sequence_has_work(s);
        statistics->sequences++;
        statistics->running += work && s->admitted;
        statistics->waiting += work && !s->admitted;
    }
}
