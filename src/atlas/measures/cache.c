/* Hits of a cache of experts by its size. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/measures/measures.h"
#include "core/error.h"

/* Steps down the stacks, over all layers and policies, that are worth waiting for: of longer traces
 * fewer tokens are looked at, and fewer draws made. */
#define STEPS_MOST ((uint64_t)1 << 33)
#define DRAWS_LEAST 2

enum { LRU, LFU, OPTIMUM, POLICIES };
static const char *const policies[] = {"lru", "lfu", "optimum", NULL};

/* Uses of experts, one behind the other, and hits of every size of cache. */
typedef struct cache {
    const mixt_measuring *m;
    const mixt_stretches *stretches;
    int items;      /* experts that there are: E, or L E for all layers at once */
    uint32_t *item; /* [uses] */
    uint32_t *next; /* [uses] the next use of the same item, UINT32_MAX: none */
    uint8_t *group; /* [uses] */
    uint32_t uses;
    uint32_t *stack;  /* [items] of the policy: a cache of size c holds the first c */
    uint64_t *rank;   /* [items] what is higher stays longer */
    uint32_t *seen;   /* [items] scratch */
    double *hits;     /* [POLICIES, groups, items + 1]: at a depth; 0: at none */
    double *level;    /* [POLICIES, items + 1], mean of the draws, cumulated */
    uint16_t *routes; /* [T, k] made-up ones of a layer */
} cache;

static mixt_status no_memory(mixt_error *error)
{
    return mixt_fail(error, MIXT_ERROR_MEMORY, "measure cache: no memory");
}

static void find_next(cache *c)
{
    for (int i = 0; i < c->items; i++) {
        c->seen[i] = UINT32_MAX;
    }
    for (uint32_t t = c->uses; t-- > 0;) {
        c->next[t] = c->seen[c->item[t]];
        c->seen[c->item[t]] = t;
    }
}

/* Where `item` stood, from 1; 0: nowhere yet. It goes to the top, and what a cache of each size
 * puts out for it moves down: the one of lower rank of what came from above and what stands there
 * (Mattson et al. 1970, for policies that rank alike whatever the size). */
static uint32_t use_item(cache *c, uint32_t item, uint32_t *depth)
{
    uint32_t carried = item;
    for (uint32_t i = 0; i < *depth; i++) {
        uint32_t here = c->stack[i];
        if (here == item) {
            c->stack[i] = carried;
            return i + 1;
        }
        bool stays = i > 0 && c->rank[here] > c->rank[carried];
        c->stack[i] = stays ? here : carried;
        carried = stays ? carried : here;
    }
    c->stack[(*depth)++] = carried;
    return 0;
}

/* hits [groups, items + 1] of a policy, added. */
static void run(cache *c, int policy, double *hits)
{
    uint32_t depth = 0;
    memset(c->rank, 0, (size_t)c->items * sizeof *c->rank);
    for (uint32_t t = 0; t < c->uses; t++) {
        uint32_t item = c->item[t];
        uint32_t found = use_item(c, item, &depth);
        hits[(size_t)c->group[t] * (size_t)(c->items + 1) + found]++;
        /* Later uses rank higher, more uses before fewer, sooner uses before later ones. */
        c->rank[item] = policy == LRU   ? t + 1
                        : policy == LFU ? ((c->rank[item] >> 32) + 1) << 32 | t
                                        : UINT32_MAX - c->next[t];
    }
}

/* The uses of a layer's experts in the chosen stretches, from experts [T, k]. */
static void take_layer(cache *c, int layer, const uint16_t *experts)
{
    size_t k = (size_t)c->m->trace->info.experts_per_token;
    c->uses = 0;
    for (size_t s = 0; s < c->stretches->count; s++) {
        const mixt_stretch *stretch = &c->stretches->items[s];
        for (uint64_t i = stretch->begin; i < stretch->end; i++) {
            for (int place = 0; place < c->m->trace->chosen[layer]; place++) {
                uint16_t expert = experts[i * k + (size_t)place];
                if (expert != MIXT_TRACE_NONE) {
                    c->item[c->uses] = expert;
                    c->group[c->uses++] = (uint8_t)stretch->group;
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
    c->uses = 0;
    for (size_t s = 0; s < c->stretches->count; s++) {
        const mixt_stretch *stretch = &c->stretches->items[s];
        for (uint64_t i = stretch->begin; i < stretch->end; i++, at++) {
            for (size_t use = 0; use < (size_t)info->layers * k; use++) {
                size_t layer = use / k;
                uint16_t expert = routes[(layer * c->stretches->tokens + at) * k + use % k];
                if (expert != MIXT_TRACE_NONE) {
                    c->item[c->uses] = (uint32_t)(layer * (size_t)info->experts + expert);
                    c->group[c->uses++] = (uint8_t)stretch->group;
                }
            }
        }
    }
}

static void run_measured(cache *c)
{
    size_t size = (size_t)c->m->groups * (size_t)(c->items + 1);
    memset(c->hits, 0, POLICIES * size * sizeof *c->hits);
    find_next(c);
    for (int policy = 0; policy < POLICIES; policy++) {
        run(c, policy, c->hits + (size_t)policy * size);
    }
}

/* Adds the shares of hits of one draw to the level. */
static void add_draw(cache *c, int draws)
{
    size_t row = (size_t)c->items + 1;
    run_measured(c);
    for (int policy = 0; policy < POLICIES; policy++) {
        double sum = 0;
        for (size_t depth = 1; depth < row; depth++) {
            for (int g = 0; g < c->m->groups; g++) {
                sum += c->hits[((size_t)policy * (size_t)c->m->groups + (size_t)g) * row + depth];
            }
            c->level[(size_t)policy * row + depth] += sum / fmax(c->uses, 1) / draws;
        }
    }
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
            row[8] = c->uses;
            if (c->uses > 0) {
                mixt_span span = mixt_jackknife_ratio(top, bottom, c->m->groups, 0, 1);
                row[3] = sum / c->uses;
                row[4] = (double)size / c->items;
                row[5] = c->level[(size_t)policy * row_size + (size_t)size];
                row[6] = span.low;
                row[7] = span.high;
            }
        }
    }
    return MIXT_OK;
}

static mixt_status allocate(cache *c, uint64_t uses, mixt_error *error)
{
    size_t items = (size_t)c->items, groups = (size_t)c->m->groups;
    const mixt_trace_info *info = &c->m->trace->info;
    c->item = calloc(uses + 1, sizeof *c->item);
    c->next = calloc(uses + 1, sizeof *c->next);
    c->group = calloc(uses + 1, sizeof *c->group);
    c->stack = calloc(items, sizeof *c->stack);
    c->rank = calloc(items, sizeof *c->rank);
    c->seen = calloc(items, sizeof *c->seen);
    c->hits = calloc(POLICIES * groups * (items + 1), sizeof *c->hits);
    c->level = calloc(POLICIES * (items + 1), sizeof *c->level);
    c->routes = calloc(info->tokens * (uint64_t)info->experts_per_token + 1, sizeof *c->routes);
    bool whole = c->item != NULL && c->next != NULL && c->group != NULL && c->stack != NULL &&
                 c->rank != NULL && c->seen != NULL && c->hits != NULL && c->level != NULL &&
                 c->routes != NULL;
    return whole ? MIXT_OK : no_memory(error);
}

static void release(cache *c)
{
    free(c->item);
    free(c->next);
    free(c->group);
    free(c->stack);
    free(c->rank);
    free(c->seen);
    free(c->hits);
    free(c->level);
    free(c->routes);
}

/* Tokens and draws that `items` experts are worth, where `runs` such caches are looked at. */
static uint64_t affordable(const mixt_measuring *m, uint64_t uses_a_token, uint64_t items,
                           uint64_t runs, int *draws)
{
    uint64_t token = uses_a_token * items * runs * POLICIES; /* steps, at most */
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
    mixt_status status = allocate(&c, stretches.tokens * k, error);
    for (int layer = 0; layer < info->layers && status == MIXT_OK; layer++) {
        memset(c.level, 0, POLICIES * ((size_t)c.items + 1) * sizeof *c.level);
        for (int draw = 0; draw < draws && status == MIXT_OK; draw++) {
            status = mixt_null_draw(m, layer, MIXT_NULL_DOMAIN, (uint32_t)draw, c.routes, error);
            take_layer(&c, layer, c.routes);
            add_draw(&c, draws);
        }
        if (status == MIXT_OK) {
            take_layer(&c, layer, mixt_trace_experts(m->trace, layer, 0));
            run_measured(&c);
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
    mixt_status status =
        routes != NULL ? allocate(&c, stretches.tokens * places, error) : no_memory(error);
    for (int draw = 0; draw < draws && status == MIXT_OK; draw++) {
        status = gather(&c, draw, routes, error);
        if (status == MIXT_OK) {
            take_all(&c, routes);
            add_draw(&c, draws);
        }
    }
    status = status == MIXT_OK ? gather(&c, -1, routes, error) : status;
    if (status == MIXT_OK) {
        take_all(&c, routes);
        run_measured(&c);
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
     .help = "lru puts out the expert that was used longest ago, lfu the one used least often, "
             "optimum (Belady) the one that is needed last",
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
