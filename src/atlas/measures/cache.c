/* Hits of a cache of experts by its size. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/measures/measures.h"
#include "core/error.h"
#include "store/simulate.h"

/* Steps down the stacks, over all layers and policies, that are worth waiting for: of longer traces
 * fewer tokens are looked at, and fewer draws made. */
#define STEPS_MOST ((uint64_t)1 << 33)
#define DRAWS_LEAST 2

/* The policies of a store of experts (src/store/policy.c) that need no profile, and the optimum. */
enum { LRU, LFU, OPTIMUM, FADING, POLICIES };
static const char *const policies[] = {"lru", "lfu", MIXT_POLICY_OPTIMUM, "fading", NULL};
#define COSTED 3 /* policies among which STEPS_MOST is divided */

/* Uses of experts, one behind the other, and hits of every size of cache. */
typedef struct cache {
    const mixt_measuring *m;
    const mixt_stretches *stretches;
    int items;              /* experts that there are: E, or L E for all layers at once */
    mixt_simulated uses;    /* its requests are `requests` */
    int32_t *first;         /* [layers + 1] of its shape */
    mixt_request *requests; /* [uses] */
    uint32_t *depth;        /* [uses] */
    uint8_t *group;         /* [uses] */
    double *hits;           /* [POLICIES, groups, items + 1]: at a depth; 0: at none */
    double *level;          /* [POLICIES, items + 1], mean of the draws, cumulated */
    uint16_t *routes;       /* [T, k] made-up ones of a layer */
} cache;

static mixt_status no_memory(mixt_error *error)
{
    return mixt_fail(error, MIXT_ERROR_MEMORY, "measure cache: no memory");
}

/* hits [groups, items + 1] of a policy, added. Choices come one after the other, but for our own
 * policy, which is made for what a pool asks it: it knows all that a token wants of a layer. */
static mixt_status run(cache *c, int policy, double *hits, mixt_error *error)
{
    c->uses.singly = policy != FADING;
    MIXT_TRY(mixt_simulate_depths(&c->uses, policies[policy], c->depth, error));
    for (uint64_t t = 0; t < c->uses.count; t++) {
        hits[(size_t)c->group[t] * (size_t)(c->items + 1) + c->depth[t]]++;
    }
    return MIXT_OK;
}

static void add_use(cache *c, size_t item, bool begins, int group)
{
    c->requests[c->uses.count] = (mixt_request){(int32_t)item, 1, begins};
    c->group[c->uses.count++] = (uint8_t)group;
}

/* The uses of a layer's experts in the chosen stretches, from experts [T, k]. */
static void take_layer(cache *c, int layer, const uint16_t *experts)
{
    size_t k = (size_t)c->m->trace->info.experts_per_token;
    c->uses.count = 0;
    c->uses.shape.chosen = &c->m->trace->chosen[layer];
    for (size_t s = 0; s < c->stretches->count; s++) {
        const mixt_stretch *stretch = &c->stretches->items[s];
        for (uint64_t i = stretch->begin; i < stretch->end; i++) {
            bool begins = true;
            for (int place = 0; place < c->m->trace->chosen[layer]; place++) {
                uint16_t expert = experts[i * k + (size_t)place];
                if (expert != MIXT_TRACE_NONE) {
                    add_use(c, expert, begins, stretch->group);
                    begins = false;
                }
            }
        }
    }
}

/* The same of all layers, token by token; routes [L, chosen tokens, k]. */
static void take_all(cache *c, const uint16_t *routes)
{
    const mixt_trace_info *info = &c->m->trace->info;
    size_t k = (size_t)info->experts_per_token;
    uint64_t at = 0;
    c->uses.count = 0;
    c->uses.shape.chosen = c->m->trace->chosen;
    for (size_t s = 0; s < c->stretches->count; s++) {
        const mixt_stretch *stretch = &c->stretches->items[s];
        for (uint64_t i = stretch->begin; i < stretch->end; i++, at++) {
            bool begins = true;
            for (size_t use = 0; use < (size_t)info->layers * k; use++) {
                size_t layer = use / k;
                uint16_t expert = routes[(layer * c->stretches->tokens + at) * k + use % k];
                if (expert != MIXT_TRACE_NONE) {
                    add_use(c, layer * (size_t)info->experts + expert, begins, stretch->group);
                    begins = false;
                }
            }
        }
    }
}

static mixt_status run_measured(cache *c, mixt_error *error)
{
    size_t size = (size_t)c->m->groups * (size_t)(c->items + 1);
    memset(c->hits, 0, POLICIES * size * sizeof *c->hits);
    for (int policy = 0; policy < POLICIES; policy++) {
        MIXT_TRY(run(c, policy, c->hits + (size_t)policy * size, error));
    }
    return MIXT_OK;
}

/* Adds the shares of hits of one draw to the level. */
static mixt_status add_draw(cache *c, int draws, mixt_error *error)
{
    size_t row = (size_t)c->items + 1;
    MIXT_TRY(run_measured(c, error));
    for (int policy = 0; policy < POLICIES; policy++) {
        double sum = 0;
        for (size_t depth = 1; depth < row; depth++) {
            for (int g = 0; g < c->m->groups; g++) {
                sum += c->hits[((size_t)policy * (size_t)c->m->groups + (size_t)g) * row + depth];
            }
            c->level[(size_t)policy * row + depth] += sum / fmax((double)c->uses.count, 1) / draws;
        }
    }
    return MIXT_OK;
}

/* Every size up to 32, then steps of a sixteenth, and the last. */
static int next_size(int size, int items)
{
    int next = size + (size < 32 ? 1 : size / 16);
    return size < items && next > items ? items : next;
}

static mixt_status put_rows(const cache *c, double layer, mixt_table *table, mixt_error *error)
{
    size_t row_size = (size_t)c->items + 1, groups = (size_t)c->m->groups;
    for (int policy = 0; policy < POLICIES; policy++) {
        double top[MIXT_MEASURE_GROUPS] = {0}, bottom[MIXT_MEASURE_GROUPS] = {0};
        const double *hits = c->hits + (size_t)policy * groups * row_size;
        for (size_t i = 0; i < groups * row_size; i++) {
            bottom[i / row_size] += hits[i];
        }
        for (int size = 1, done = 0; size <= c->items; size = next_size(size, c->items)) {
            double sum = 0;
            for (size_t g = 0; g < groups; g++) {
                for (int depth = done + 1; depth <= size; depth++) {
                    top[g] += hits[g * row_size + (size_t)depth];
                }
                sum += top[g];
            }
            done = size;
            double *row = mixt_table_append(table);
            if (row == NULL) {
                return no_memory(error);
            }
            row[0] = layer;
            row[1] = policy;
            row[2] = size;
            row[8] = (double)c->uses.count;
            if (c->uses.count > 0) {
                mixt_span span = mixt_jackknife_ratio(top, bottom, c->m->groups, 0, 1);
                row[3] = sum / (double)c->uses.count;
                row[4] = (double)size / c->items;
                row[5] = c->level[(size_t)policy * row_size + (size_t)size];
                row[6] = span.low;
                row[7] = span.high;
            }
        }
    }
    return MIXT_OK;
}

/* For `layers` of E experts, and so many uses. */
static mixt_status allocate(cache *c, int layers, uint64_t uses, mixt_error *error)
{
    size_t items = (size_t)c->items, groups = (size_t)c->m->groups;
    const mixt_trace_info *info = &c->m->trace->info;
    c->first = calloc((size_t)layers + 1, sizeof *c->first);
    c->requests = calloc(uses + 1, sizeof *c->requests);
    c->depth = calloc(uses + 1, sizeof *c->depth);
    c->group = calloc(uses + 1, sizeof *c->group);
    c->hits = calloc(POLICIES * groups * (items + 1), sizeof *c->hits);
    c->level = calloc(POLICIES * (items + 1), sizeof *c->level);
    c->routes = calloc(info->tokens * (uint64_t)info->experts_per_token + 1, sizeof *c->routes);
    if (c->first == NULL || c->requests == NULL || c->depth == NULL || c->group == NULL ||
        c->hits == NULL || c->level == NULL || c->routes == NULL) {
        return no_memory(error);
    }
    for (int layer = 0; layer <= layers; layer++) {
        c->first[layer] = layer * info->experts;
    }
    c->uses = (mixt_simulated){
        .shape = {.layers = layers, .first = c->first}, .classes = 1, .requests = c->requests};
    return MIXT_OK;
}

static void release(cache *c)
{
    free(c->first);
    free(c->requests);
    free(c->depth);
    free(c->group);
    free(c->hits);
    free(c->level);
    free(c->routes);
}

/* Tokens and draws that `items` experts are worth, where `runs` such caches are looked at. */
static uint64_t affordable(const mixt_measuring *m, uint64_t uses_a_token, uint64_t items,
                           uint64_t runs, int *draws)
{
    uint64_t token = uses_a_token * items * runs * COSTED; /* steps, at most */
    uint64_t most = STEPS_MOST / token + 1;
    uint64_t tokens = m->trace->info.tokens < most ? m->trace->info.tokens : most;
    uint64_t times = STEPS_MOST / (token * tokens + 1);
    times = times < DRAWS_LEAST ? DRAWS_LEAST : times;
    *draws = times < (uint64_t)m->shuffles ? (int)times : m->shuffles;
    return most;
}

static mixt_status fill_layers(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    const mixt_trace_info *info = &m->trace->info;
    int draws;
    uint64_t k = (uint64_t)info->experts_per_token;
    uint64_t most = affordable(m, k, (uint64_t)info->experts, (uint64_t)info->layers, &draws);
    mixt_stretches stretches;
    MIXT_TRY(mixt_stretches_choose(m, most, &stretches, error));
    cache c = {.m = m, .stretches = &stretches, .items = info->experts};
    mixt_status status = allocate(&c, 1, stretches.tokens * k, error);
    for (int layer = 0; layer < info->layers && status == MIXT_OK; layer++) {
        memset(c.level, 0, POLICIES * ((size_t)c.items + 1) * sizeof *c.level);
        for (int draw = 0; draw < draws && status == MIXT_OK; draw++) {
            status = mixt_null_draw(m, layer, MIXT_NULL_DOMAIN, (uint32_t)draw, c.routes, error);
            if (status == MIXT_OK) {
                take_layer(&c, layer, c.routes);
                status = add_draw(&c, draws, error);
            }
        }
        if (status == MIXT_OK) {
            take_layer(&c, layer, mixt_trace_experts(m->trace, layer, 0));
            status = run_measured(&c, error);
        }
        if (status == MIXT_OK) {
            status = put_rows(&c, m->trace->layer_numbers[layer], table, error);
        }
    }
    mixt_stretches_say(&stretches, m, "Layers are", &table->note);
    release(&c);
    mixt_stretches_free(&stretches);
    return status;
}

/* routes [L, chosen tokens, k] of the trace (draw -1) or of a draw. */
static mixt_status gather(const cache *c, int draw, uint16_t *routes, mixt_error *error)
{
    const mixt_trace *trace = c->m->trace;
    size_t k = (size_t)trace->info.experts_per_token;
    for (int layer = 0; layer < trace->info.layers; layer++) {
        const uint16_t *experts = mixt_trace_experts(trace, layer, 0);
        if (draw >= 0) {
            MIXT_TRY(
                mixt_null_draw(c->m, layer, MIXT_NULL_DOMAIN, (uint32_t)draw, c->routes, error));
            experts = c->routes;
        }
        for (size_t s = 0; s < c->stretches->count; s++) {
            const mixt_stretch *stretch = &c->stretches->items[s];
            size_t bytes = (size_t)(stretch->end - stretch->begin) * k * sizeof *routes;
            memcpy(routes, experts + stretch->begin * k, bytes);
            routes += bytes / sizeof *routes;
        }
    }
    return MIXT_OK;
}

/* One cache that all layers share. */
static mixt_status fill_shared(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    const mixt_trace_info *info = &m->trace->info;
    int draws;
    uint64_t places = (uint64_t)info->layers * (uint64_t)info->experts_per_token;
    uint64_t items = (uint64_t)info->layers * (uint64_t)info->experts;
    uint64_t most = affordable(m, places, items, 1, &draws);
    mixt_stretches stretches;
    MIXT_TRY(mixt_stretches_choose(m, most, &stretches, error));
    cache c = {.m = m, .stretches = &stretches, .items = (int)items};
    uint16_t *routes = calloc(stretches.tokens * places + 1, sizeof *routes);
    mixt_status status = routes != NULL
                             ? allocate(&c, info->layers, stretches.tokens * places, error)
                             : no_memory(error);
    for (int draw = 0; draw < draws && status == MIXT_OK; draw++) {
        status = gather(&c, draw, routes, error);
        if (status == MIXT_OK) {
            take_all(&c, routes);
            status = add_draw(&c, draws, error);
        }
    }
    status = status == MIXT_OK ? gather(&c, -1, routes, error) : status;
    if (status == MIXT_OK) {
        take_all(&c, routes);
        status = run_measured(&c, error);
    }
    if (status == MIXT_OK) {
        status = put_rows(&c, -1, table, error);
    }
    mixt_stretches_say(&stretches, m, "The cache of all layers is", &table->note);
    free(routes);
    release(&c);
    mixt_stretches_free(&stretches);
    return status;
}

static const mixt_column columns[] = {
    {.name = "layer",
     .help = "all: one cache for the experts of every layer",
     .kind = MIXT_COLUMN_LAYER,
     .role = MIXT_ROLE_KEY},
    {.name = "policy",
     .help =
         "lru puts out the expert that was used longest ago, lfu the one used least often, "
         "optimum (Belady) the one that is needed last, fading the one that by its uses of late "
         "will be (`mixt run --memory` has it)",
     .kind = MIXT_COLUMN_WORD,
     .role = MIXT_ROLE_KEY,
     .words = policies},
    {.name = "size", .unit = "experts", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_KEY},
    {.name = "hits",
     .help = "of the uses of experts, those that find theirs there",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_VALUE},
    {.name = "random",
     .help = "any experts in the cache: its size over all experts",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_RANDOM},
    {.name = "use",
     .help = "the same cache where each domain's tokens come in any order",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_USE},
    {.name = "low", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_LOW},
    {.name = "high", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_HIGH},
    {.name = "uses", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT},
};
enum { COLUMNS = sizeof columns / sizeof *columns };

static mixt_status fill(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    const mixt_trace_info *info = &m->trace->info;
    mixt_buffer_format(&table->note, "A token works with %d experts at a layer",
                       info->experts_per_token);
    if (info->layers > 1) {
        mixt_buffer_format(&table->note, " and up to %d over all of them",
                           info->layers * info->experts_per_token);
    }
    mixt_buffer_text(&table->note, ": a smaller cache cannot hold what one token needs.");
    MIXT_TRY(fill_layers(m, table, error));
    return info->layers > 1 ? fill_shared(m, table, error) : MIXT_OK;
}

const mixt_measure_type mixt_measure_cache = {
    .info = {.name = "cache",
             .title = "Hits of a cache of experts",
             .source = "Mattson et al. 1970; Belady 1966; moe-lrc (2505.16056) for experts",
             .about = "How often an expert is found in a cache of so many, which starts empty and "
                      "goes on from token to token and document to document, each token's "
                      "choices one after the other, best first.",
             .traces = 1},
    .columns = columns,
    .column_count = COLUMNS,
    .fill = fill,
};
