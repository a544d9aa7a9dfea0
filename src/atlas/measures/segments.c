/* How few experts serve a stretch of text: SRP and SCH of Liang et al. 2025 (2505.16056). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/measures/measures.h"
#include "core/error.h"

/* Moves of a window over all layers and lengths that are worth waiting for. */
#define MOVES_MOST ((uint64_t)1 << 26)
#define DRAWS_LEAST 1

enum { LENGTH_LEAST = 4, LENGTH_MOST = 512, LENGTHS = 8 };
enum { CACHES = 2 }; /* of one and of two times the experts of a token */

/* Windows of one length, each token of a document beginning one that ends in it. */
typedef struct windows {
    double *experts[MIXT_MEASURE_GROUPS]; /* [length + 1]: experts with so many uses, summed over
                                             the windows */
    double cached[CACHES][MIXT_MEASURE_GROUPS]; /* uses of each window's most used experts */
    double uses[MIXT_MEASURE_GROUPS];
    double count[MIXT_MEASURE_GROUPS];
} windows;

typedef struct segments {
    const mixt_measuring *m;
    const mixt_stretches *stretches;
    int sizes[CACHES]; /* of the layer at work */
    windows w;
    double *space;    /* of w.experts */
    uint32_t *uses;   /* [E] in the window */
    uint64_t *since;  /* [E] the window since when it has so many */
    uint32_t *order;  /* [E] experts by falling uses */
    uint32_t *place;  /* [E] of an expert in `order` */
    uint32_t *first;  /* [LENGTH_MOST + 2]: in `order`, of those with so many uses */
    uint16_t *routes; /* [T, k] made-up ones */
} segments;

/* What is told of windows: best F1 and shares of hits. */
typedef struct told {
    double value[1 + CACHES];
} told;

static void clear(segments *s)
{
    size_t experts = (size_t)s->m->trace->info.experts;
    memset(s->uses, 0, experts * sizeof *s->uses);
    memset(s->since, 0, experts * sizeof *s->since);
    memset(s->first, 0, (LENGTH_MOST + 2) * sizeof *s->first);
    for (size_t e = 0; e < experts; e++) {
        s->order[e] = s->place[e] = (uint32_t)e;
    }
}

static void swap_places(segments *s, uint32_t a, uint32_t b)
{
    uint32_t x = s->order[a], y = s->order[b];
    s->order[a] = y;
    s->order[b] = x;
    s->place[y] = a;
    s->place[x] = b;
}

/* One use of an expert more (by 1) or fewer (by -1), before the window `now` is counted. Its place
 * in the order becomes the first, or last, of those that had as many; what the largest caches hold
 * changes where that lies within them. */
static void change(segments *s, int expert, int by, uint64_t now, double *counts, double *held)
{
    uint32_t had = s->uses[expert];
    counts[had] += (double)(now - s->since[expert]);
    s->since[expert] = now;
    uint32_t to = by > 0 ? s->first[had]++ : --s->first[had - 1];
    swap_places(s, s->place[expert], to);
    s->uses[expert] = had + (uint32_t)by;
    for (int i = 0; i < CACHES; i++) {
        held[i] += to < (uint32_t)s->sizes[i] ? by : 0;
    }
}

static void change_row(segments *s, const uint16_t *row, int by, uint64_t now, double *counts,
                       double *held)
{
    for (int c = 0; c < s->m->trace->info.experts_per_token; c++) {
        if (row[c] != MIXT_TRACE_NONE) {
            change(s, row[c], by, now, counts, held);
        }
    }
}

static int row_uses(const segments *s, const uint16_t *row)
{
    int uses = 0;
    for (int c = 0; c < s->m->trace->info.experts_per_token; c++) {
        uses += row[c] != MIXT_TRACE_NONE;
    }
    return uses;
}

/* All windows of a stretch, from experts [T, k]. */
static void slide(segments *s, const mixt_stretch *stretch, uint64_t length,
                  const uint16_t *experts)
{
    size_t k = (size_t)s->m->trace->info.experts_per_token;
    uint64_t tokens = stretch->end - stretch->begin;
    double *counts = s->w.experts[stretch->group];
    double held[CACHES] = {0}, uses = 0;
    const uint16_t *rows = experts + stretch->begin * k;
    if (tokens < length) {
        return;
    }
    clear(s);
    for (uint64_t i = 0; i < tokens; i++) {
        /* Before the first whole window everything happens at window 0, which counts nothing. */
        uint64_t now = i >= length ? i - length + 1 : 0;
        if (i >= length) {
            change_row(s, rows + (i - length) * k, -1, now, counts, held);
            uses -= row_uses(s, rows + (i - length) * k);
        }
        change_row(s, rows + i * k, 1, now, counts, held);
        uses += row_uses(s, rows + i * k);
        for (int c = 0; c < CACHES && i + 1 >= length; c++) {
            s->w.cached[c][stretch->group] += held[c];
        }
        s->w.uses[stretch->group] += i + 1 >= length ? uses : 0;
    }
    uint64_t count = tokens - length + 1;
    for (int e = 0; e < s->m->trace->info.experts; e++) {
        counts[s->uses[e]] += (double)(count - s->since[e]);
    }
    s->w.count[stretch->group] += (double)count;
}

static void slide_all(segments *s, uint64_t length, const uint16_t *experts)
{
    memset(s->space, 0, MIXT_MEASURE_GROUPS * (LENGTH_MOST + 1) * sizeof *s->space);
    s->w = (windows){0};
    for (int g = 0; g < MIXT_MEASURE_GROUPS; g++) {
        s->w.experts[g] = s->space + (size_t)g * (LENGTH_MOST + 1);
    }
    for (size_t i = 0; i < s->stretches->count; i++) {
        slide(s, &s->stretches->items[i], length, experts);
    }
}

/* Of all groups but one (-1: of all); false where there are no windows. */
static bool tell(const segments *s, uint64_t length, int left_out, told *t)
{
    double uses = 0, matches = 0, chosen = 0, cached[CACHES] = {0};
    for (int g = 0; g < s->m->groups; g++) {
        for (int c = 0; c < CACHES && g != left_out; c++) {
            cached[c] += s->w.cached[c][g];
        }
        uses += g != left_out ? s->w.uses[g] : 0;
    }
    t->value[0] = uses > 0 ? 0 : NAN;
    /* A window's set is of the experts with at least so many uses: the best number for all. */
    for (uint64_t least = length; least >= 1; least--) {
        for (int g = 0; g < s->m->groups; g++) {
            double count = g != left_out ? s->w.experts[g][least] : 0;
            matches += count * (double)least;
            chosen += count * (double)length;
        }
        double f1 = uses > 0 ? 2 * matches / (chosen + uses) : NAN;
        t->value[0] = f1 > t->value[0] ? f1 : t->value[0];
    }
    for (int c = 0; c < CACHES; c++) {
        t->value[1 + c] = uses > 0 ? cached[c] / uses : NAN;
    }
    return uses > 0;
}

static mixt_status mean_of_draws(segments *s, int layer, mixt_null null, int draws, told *means,
                                 mixt_error *error)
{
    for (int draw = 0; draw < draws; draw++) {
        MIXT_TRY(mixt_null_draw(s->m, layer, null, (uint32_t)draw, s->routes, error));
        for (int i = 0; i < LENGTHS; i++) {
            told t;
            slide_all(s, (uint64_t)LENGTH_LEAST << i, s->routes);
            tell(s, (uint64_t)LENGTH_LEAST << i, -1, &t);
            for (int v = 0; v < 1 + CACHES; v++) {
                means[i].value[v] += t.value[v] / draws;
            }
        }
    }
    return MIXT_OK;
}

enum { LAYER, LENGTH, VALUES, OF_VALUE = 5, WINDOWS = VALUES + (1 + CACHES) * OF_VALUE };

static mixt_status put_row(segments *s, int layer, uint64_t length, const told levels[2],
                           mixt_table *table, mixt_error *error)
{
    double without[1 + CACHES][MIXT_MEASURE_GROUPS], count = 0;
    told whole, part;
    int groups = 0;
    slide_all(s, length, mixt_trace_experts(s->m->trace, layer, 0));
    bool any = tell(s, length, -1, &whole);
    for (int g = 0; g < s->m->groups; g++) {
        count += s->w.count[g];
        if (s->w.uses[g] > 0 && tell(s, length, g, &part)) {
            for (int v = 0; v < 1 + CACHES; v++) {
                without[v][groups] = part.value[v];
            }
            groups++;
        }
    }
    if (!any) {
        return MIXT_OK; /* no document is that long, or nothing was chosen there */
    }
    double *row = mixt_table_append(table);
    if (row == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "measure segments: no memory");
    }
    row[LAYER] = s->m->trace->layer_numbers[layer];
    row[LENGTH] = (double)length;
    row[WINDOWS] = count;
    for (int v = 0; v < 1 + CACHES; v++) {
        double *at = row + VALUES + v * OF_VALUE;
        mixt_span span = mixt_jackknife(whole.value[v], without[v], groups, 0, 1);
        at[0] = whole.value[v];
        at[1] = levels[0].value[v];
        at[2] = levels[1].value[v];
        at[3] = span.low;
        at[4] = span.high;
    }
    return MIXT_OK;
}

static mixt_status fill_layer(segments *s, int layer, int draws, mixt_table *table,
                              mixt_error *error)
{
    told random[LENGTHS] = {0}, use[LENGTHS] = {0};
    int experts = s->m->trace->info.experts, chosen = s->m->trace->chosen[layer];
    for (int c = 0; c < CACHES; c++) {
        s->sizes[c] = (c + 1) * chosen < experts ? (c + 1) * chosen : experts;
    }
    MIXT_TRY(mean_of_draws(s, layer, MIXT_NULL_UNIFORM, draws, random, error));
    MIXT_TRY(mean_of_draws(s, layer, MIXT_NULL_DOMAIN, draws, use, error));
    for (int i = 0; i < LENGTHS; i++) {
        const told levels[2] = {random[i], use[i]};
        MIXT_TRY(put_row(s, layer, (uint64_t)LENGTH_LEAST << i, levels, table, error));
    }
    return MIXT_OK;
}

#define OF_WINDOWS(number, word, help_)                                                            \
    {.name = word,                                                                                 \
     .help = help_,                                                                                \
     .kind = MIXT_COLUMN_SHARE,                                                                    \
     .role = MIXT_ROLE_VALUE,                                                                      \
     .group = number},                                                                             \
        {.name = word "_random",                                                                   \
         .kind = MIXT_COLUMN_SHARE,                                                                \
         .role = MIXT_ROLE_RANDOM,                                                                 \
         .group = number},                                                                         \
        {.name = word "_use", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_USE, .group = number},  \
        {.name = word "_low", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_LOW, .group = number},  \
    {                                                                                              \
        .name = word "_high", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_HIGH, .group = number   \
    }

static const mixt_column columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "segment", .unit = "tokens", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_KEY},
    OF_WINDOWS(0, "srp",
               "best F1 of one set of experts for all tokens of a segment, each set of those that "
               "it uses often enough"),
    OF_WINDOWS(1, "sch1",
               "of a segment's uses, those of its k most used experts, where a token has k"),
    OF_WINDOWS(2, "sch2", "of its 2k most used ones"),
    {.name = "segments", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT},
};
enum { COLUMNS = sizeof columns / sizeof *columns };

static mixt_status allocate(segments *s, mixt_error *error)
{
    const mixt_trace_info *info = &s->m->trace->info;
    size_t experts = (size_t)info->experts;
    s->space = calloc(MIXT_MEASURE_GROUPS * (LENGTH_MOST + 1), sizeof *s->space);
    s->uses = calloc(experts, sizeof *s->uses);
    s->since = calloc(experts, sizeof *s->since);
    s->order = calloc(experts, sizeof *s->order);
    s->place = calloc(experts, sizeof *s->place);
    s->first = calloc(LENGTH_MOST + 2, sizeof *s->first);
    s->routes = calloc(info->tokens * (uint64_t)info->experts_per_token + 1, sizeof *s->routes);
    bool whole = s->space != NULL && s->uses != NULL && s->since != NULL && s->order != NULL &&
                 s->place != NULL && s->first != NULL && s->routes != NULL;
    return whole ? MIXT_OK : mixt_fail(error, MIXT_ERROR_MEMORY, "measure segments: no memory");
}

static void release(segments *s)
{
    free(s->space);
    free(s->uses);
    free(s->since);
    free(s->order);
    free(s->place);
    free(s->first);
    free(s->routes);
}

static mixt_status fill(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    const mixt_trace_info *info = &m->trace->info;
    uint64_t token = 2 * (uint64_t)info->experts_per_token * (uint64_t)info->layers * LENGTHS;
    uint64_t most = MOVES_MOST / token + 1;
    mixt_stretches stretches;
    MIXT_TRY(mixt_stretches_choose(m, most, &stretches, error));
    uint64_t times = MOVES_MOST / (token * stretches.tokens + 1);
    times = times < DRAWS_LEAST ? DRAWS_LEAST : times;
    int draws = times < (uint64_t)m->shuffles ? (int)times : m->shuffles;
    segments s = {.m = m, .stretches = &stretches};
    mixt_status status = allocate(&s, error);
    for (int layer = 0; layer < info->layers && status == MIXT_OK; layer++) {
        status = fill_layer(&s, layer, draws, table, error);
    }
    mixt_stretches_say(&stretches, m, "Segments are", &table->note);
    release(&s);
    mixt_stretches_free(&stretches);
    return status;
}

const mixt_measure_type mixt_measure_segments = {
    .info = {.name = "segments",
             .title = "How few experts serve a stretch of text",
             .source = "Liang et al. 2025, 2505.16056 (SRP, SCH), and its moe-lrc",
             .about = "Of all stretches of so many tokens inside documents: how well one fixed set "
                      "of experts stands in for the routing (SRP), and what part of the uses falls "
                      "on the most used ones (SCH).",
             .traces = 1},
    .columns = columns,
    .column_count = COLUMNS,
    .fill = fill,
};
