/* What a probe needs before its first batch: layers, groups of documents, classes, targets,
 * routers, and the one block of sums. */
#include <stdlib.h>
#include <string.h>

#include "atlas/token_class.h"
#include "core/memory.h"
#include "probe/probe.h"

const double mixt_probe_sigmas[MIXT_PROBE_SIGMAS] = {0.01, 0.03, 0.1, 0.3, 1};
const double mixt_probe_difficulty[MIXT_PROBE_DIFFICULTIES - 1] = {0.5, 2};

#define DRAWS_MOST 4096 /* change.c numbers them so */
/* Of a batch; with more experts a token fewer, so that memory is the same. */
#define ROWS_USUAL 2048
#define KS_ALL 16 /* routers with so many experts are tried with every number of them */

static mixt_status no_memory(mixt_error *error)
{
    return mixt_fail(error, MIXT_ERROR_MEMORY, "probe: no memory");
}

mixt_probe_options mixt_probe_options_default(void)
{
    return (mixt_probe_options){.experiments = MIXT_PROBE_ALL, .last_layer = -1, .draws = 8};
}

/* The model's number of place `place` among the layers with experts. */
static int model_layer(const mixt_model *model, int place)
{
    int layer = 0;
    for (; place > 0 || !mixt_model_layer_is_moe(model, layer); layer++) {
        place -= mixt_model_layer_is_moe(model, layer);
    }
    return layer;
}

bool mixt_probe_wants_layer(const mixt_probe *probe, int layer)
{
    int number = model_layer(probe->model, layer), last = probe->options->last_layer;
    return mixt_model_layer_routes(probe->model, number) && number >= probe->options->first_layer &&
           (last < 0 || number <= last);
}

static mixt_status check_target(const mixt_probe *probe, const mixt_probe_target *target,
                                mixt_error *error)
{
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_probe_target, target, error));
    if (target->count < 1 || target->count > MIXT_PROBE_TOGETHER) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "probe: %d experts together are not 1 to %d",
                         target->count, MIXT_PROBE_TOGETHER);
    }
    for (int i = 0; i < target->count; i++) {
        int layer = target->layer[i], expert = target->expert[i];
        if (layer < 0 || layer >= probe->model->options.layers ||
            !mixt_model_layer_routes(probe->model, layer)) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                             "probe: layer %d has no router that chooses among experts", layer);
        }
        if (expert < 0 || expert >= probe->experts) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "probe: expert %d is not in 0..%d", expert,
                             probe->experts - 1);
        }
    }
    return MIXT_OK;
}

/* By layer, then expert. */
static int compare_targets(const void *a, const void *b)
{
    const mixt_probe_target *x = a, *y = b;
    for (int i = 0; i < x->count && i < y->count; i++) {
        if (x->layer[i] != y->layer[i]) {
            return x->layer[i] < y->layer[i] ? -1 : 1;
        }
        if (x->expert[i] != y->expert[i]) {
            return x->expert[i] < y->expert[i] ? -1 : 1;
        }
    }
    return x->count - y->count;
}

/* Those of the options, or each expert of each layer that is asked for. */
static mixt_status list_targets(mixt_probe *probe, mixt_error *error)
{
    const mixt_probe_options *options = probe->options;
    bool given = options->targets != NULL;
    size_t rows = given ? options->target_count : (size_t)probe->experts;
    probe->targets = calloc(rows * (size_t)probe->layers + 1, sizeof *probe->targets);
    if (probe->targets == NULL) {
        return no_memory(error);
    }
    for (size_t i = 0; i < rows; i++) {
        mixt_probe_target target = {.count = 1, .layer = {-1}, .expert = {(int)i}};
        target = given ? options->targets[i] : target;
        bool everywhere = target.count == 1 && target.layer[0] == -1;
        for (int layer = 0; layer < (everywhere ? probe->layers : 1); layer++) {
            if (everywhere && !mixt_probe_wants_layer(probe, layer)) {
                continue;
            }
            target.layer[0] = everywhere ? model_layer(probe->model, layer) : target.layer[0];
            MIXT_TRY(check_target(probe, &target, error));
            probe->targets[probe->target_count++] = target;
        }
    }
    qsort(probe->targets, probe->target_count, sizeof *probe->targets, compare_targets);
    return MIXT_OK;
}

/* 1 to E where these are few; else steps that grow, the model's own number and its neighbours. */
static mixt_status list_ks(mixt_probe *probe, mixt_error *error)
{
    probe->ks = calloc((size_t)probe->experts + 1, sizeof *probe->ks);
    if (probe->ks == NULL) {
        return no_memory(error);
    }
    int own = probe->model->router.chosen, next = 1;
    int most = (probe->experiments & MIXT_PROBE_TOP_K) != 0 ? probe->experts : 0;
    for (int k = 1; k <= most; k++) {
        bool near = k >= own - 1 && k <= own + 1;
        if (probe->experts <= KS_ALL || near || k == next || k == probe->experts) {
            probe->ks[probe->k_count++] = k;
        }
        next = k < next ? next : next < 4 ? next + 1 : next * 3 / 2;
    }
    return MIXT_OK;
}

/* Documents take turns, domain by domain, so that every group has some of each. */
static mixt_status deal_groups(mixt_probe *probe, mixt_error *error)
{
    const mixt_data_split *split = mixt_data_split_of(probe->data, probe->options->heldout);
    probe->group = calloc(split->document_count + 1, sizeof *probe->group);
    if (probe->group == NULL) {
        return no_memory(error);
    }
    size_t next = 0;
    for (int domain = 0; domain < probe->domains; domain++) {
        for (size_t d = 0; d < split->document_count; d++) {
            if (split->documents[d].domain == domain) {
                probe->group[d] = (uint8_t)(next++ % MIXT_PROBE_GROUPS);
            }
        }
    }
    probe->groups = MIXT_PROBE_GROUPS;
    return MIXT_OK;
}

static mixt_status tell_classes(mixt_probe *probe, mixt_error *error)
{
    int rows = probe->model->options.vocab_size;
    int ids = mixt_tokenizer_vocab_size(probe->tokenizer);
    probe->class_of = malloc((size_t)rows + 1);
    if (probe->class_of == NULL) {
        return no_memory(error);
    }
    for (int id = 0; id < rows; id++) {
        size_t length = 0;
        const char *bytes =
            id < ids ? mixt_tokenizer_bytes_of(probe->tokenizer, id, &length) : NULL;
        mixt_token_class class =
            bytes == NULL ? MIXT_CLASS_OTHER : mixt_token_class_of((const uint8_t *)bytes, length);
        probe->class_of[id] = (uint8_t) class;
    }
    return MIXT_OK;
}

static mixt_status make_routers(mixt_probe *probe, mixt_error *error)
{
    size_t layers = (size_t)probe->model->options.layers, experts = (size_t)probe->experts;
    size_t count = layers * MIXT_PROBE_NUMBERS;
    probe->base = calloc(layers, sizeof *probe->base);
    probe->changed = calloc(count, sizeof *probe->changed);
    probe->routers = calloc(count, sizeof *probe->routers);
    if (probe->base == NULL || probe->changed == NULL || probe->routers == NULL) {
        return no_memory(error);
    }
    for (size_t i = 0; i < count; i++) {
        probe->changed[i].mask = calloc(experts, sizeof *probe->changed[i].mask);
        probe->changed[i].forced = calloc(experts, sizeof *probe->changed[i].forced);
        if (probe->changed[i].mask == NULL || probe->changed[i].forced == NULL) {
            return no_memory(error);
        }
    }
    for (size_t layer = 0; layer < layers; layer++) {
        probe->base[layer] = *mixt_model_router(probe->model, (int)layer);
        /* Nothing learns: one renormalised expert for a token is allowed. */
        probe->base[layer].options.weights = MIXT_ROUTER_FROZEN;
    }
    mixt_probe_reset(probe);
    return MIXT_OK;
}

void mixt_probe_reset(mixt_probe *probe)
{
    for (int layer = 0; layer < probe->model->options.layers; layer++) {
        for (int i = 0; i < MIXT_PROBE_NUMBERS; i++) {
            probe->routers[layer * MIXT_PROBE_NUMBERS + i] = &probe->base[layer];
        }
    }
}

mixt_probe_router *mixt_probe_change(mixt_probe *probe, int layer, int number)
{
    int place = layer * MIXT_PROBE_NUMBERS + number;
    mixt_probe_router *router = &probe->changed[place];
    const mixt_router_spec *base = &probe->base[layer];
    size_t experts = (size_t)probe->experts;
    router->spec = *base;
    memset(router->mask, 0, experts * sizeof *router->mask);
    for (size_t e = 0; e < experts; e++) {
        router->forced[e] = -1;
    }
    if (base->mask != NULL) {
        memcpy(router->mask, base->mask, experts * sizeof *router->mask);
        router->spec.mask = router->mask;
    }
    if (base->forced != NULL) {
        memcpy(router->forced, base->forced, (size_t)base->chosen * sizeof *router->forced);
        router->spec.forced = router->forced;
    }
    probe->routers[place] = &router->spec;
    return router;
}

mixt_status mixt_probe_scorer(mixt_probe *probe, int chosen, mixt_scorer **scorer,
                              mixt_error *error)
{
    const mixt_probe_options *options = probe->options;
    int own = probe->model->router.chosen;
    const mixt_scorer_options scoring = {.heldout = options->heldout,
                                         .window = options->window,
                                         .max_tokens = options->max_tokens,
                                         .drops = true, /* route records stay readable */
                                         .routers = probe->routers,
                                         .router_count = MIXT_PROBE_NUMBERS,
                                         .chosen = chosen,
                                         .rows = chosen > own ? ROWS_USUAL * own / chosen : 0};
    return mixt_scorer_create(probe->context, probe->model, probe->data, &scoring, scorer, error);
}

/* How many numbers each sum has. */
static void size_sums(mixt_probe *probe)
{
    size_t layers = (size_t)probe->layers, experts = (size_t)probe->experts;
    size_t groups = (size_t)probe->groups, targets = probe->target_count;
    size_t cell = groups * (size_t)probe->buckets;
    size_t route = groups * (size_t)(probe->buckets + MIXT_PROBE_DIFFICULTIES) * ROUTE_SUMS;
    bool similar = (probe->experiments & MIXT_PROBE_NORMS) != 0;
    const struct {
        mixt_probe_sum sum;
        int64_t experiments; /* any of these needs it */
        size_t count;
    } sizes[] = {
        {SUM_CURSOR, MIXT_PROBE_ALL, CURSORS},
        {SUM_TOKENS, MIXT_PROBE_ALL, cell},
        {SUM_BASE, MIXT_PROBE_ALL, cell},
        {SUM_MASK, MIXT_PROBE_MASK, targets * cell},
        {SUM_FIRST, MIXT_PROBE_FIRST, targets * cell},
        {SUM_TOP_K, MIXT_PROBE_TOP_K, (size_t)probe->k_count * cell},
        {SUM_ALONE, MIXT_PROBE_LENS, layers * cell},
        {SUM_ROUTES, MIXT_PROBE_ROUTES, (layers + 1) * route},
        {SUM_USE, MIXT_PROBE_ALL, layers * experts * groups * USE_SUMS},
        {SUM_OUTPUT, MIXT_PROBE_ALL, layers * experts * OUTPUT_SUMS},
        {SUM_MEANS, MIXT_PROBE_NORMS, similar ? layers * experts * (size_t)probe->width : 0},
        {SUM_LENS, MIXT_PROBE_LENS, layers * groups * LENS_SUMS},
        {SUM_NOISE, MIXT_PROBE_NOISE, layers * MIXT_PROBE_SIGMAS * groups * NOISE_SUMS},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        bool needed = (probe->experiments & sizes[i].experiments) != 0;
        probe->sum_count[sizes[i].sum] = needed ? sizes[i].count : 0;
        probe->sum_values += probe->sum_count[sizes[i].sum];
    }
}

static mixt_status make_sums(mixt_probe *probe, mixt_error *error)
{
    size_sums(probe);
    probe->sums = calloc(probe->sum_values, sizeof *probe->sums);
    if (probe->sums == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "probe: no memory for %.1f MB of sums",
                         (double)probe->sum_values * sizeof *probe->sums / 1e6);
    }
    double *next = probe->sums;
    for (int i = 0; i < SUM_COUNT; i++) {
        probe->sum[i] = next;
        next += probe->sum_count[i];
    }
    return MIXT_OK;
}

static mixt_status check_options(const mixt_probe *probe, mixt_error *error)
{
    const mixt_probe_options *o = probe->options;
    const mixt_model *model = probe->model;
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_probe_options, o, error));
    if (probe->layers == 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "probe: the model is dense, it has no experts to look at");
    }
    if (o->experiments <= 0 || (o->experiments & ~(int64_t)MIXT_PROBE_ALL) != 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "probe: experiments %lld are not known",
                         (long long)o->experiments);
    }
    if (o->first_layer < 0 || o->first_layer >= model->options.layers || o->last_layer < -1 ||
        o->last_layer >= model->options.layers ||
        (o->last_layer >= 0 && o->last_layer < o->first_layer)) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "probe: layers %d to %d are not among the model's 0..%d", o->first_layer,
                         o->last_layer, model->options.layers - 1);
    }
    if (o->draws < 0 || o->draws > DRAWS_MOST) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "probe: draws %d are not in 0..%d", o->draws,
                         DRAWS_MOST);
    }
    bool any = false;
    for (int layer = 0; layer < probe->layers; layer++) {
        any = any || mixt_probe_wants_layer(probe, layer);
    }
    return any ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_ARGUMENT,
                           "probe: no layer from %d on that is asked for has a router",
                           o->first_layer);
}

mixt_status mixt_probe_open(mixt_probe *probe, mixt_error *error)
{
    const mixt_model *model = probe->model;
    probe->experiments = probe->options->experiments;
    probe->layers = mixt_model_moe_layers(model);
    probe->experts = model->router.experts;
    probe->domains = mixt_data_domain_count(probe->data);
    probe->buckets = probe->domains + MIXT_CLASS_COUNT;
    probe->width = model->options.hidden_size;
    probe->layer = -1;
    MIXT_TRY(check_options(probe, error));
    MIXT_TRY(list_targets(probe, error));
    MIXT_TRY(list_ks(probe, error));
    MIXT_TRY(deal_groups(probe, error));
    MIXT_TRY(tell_classes(probe, error));
    MIXT_TRY(make_routers(probe, error));
    return make_sums(probe, error);
}

void mixt_probe_close(mixt_probe *probe)
{
    size_t count = (size_t)probe->model->options.layers * MIXT_PROBE_NUMBERS;
    for (size_t i = 0; probe->changed != NULL && i < count; i++) {
        free(probe->changed[i].mask);
        free(probe->changed[i].forced);
    }
    free(probe->changed);
    free(probe->routers);
    free(probe->base);
    free(probe->group);
    free(probe->class_of);
    free(probe->targets);
    free(probe->ks);
    free(probe->sums);
    free(probe->partial);
}
