/* Paths of first choices over three layers that are taken most often, beside what they would be if
 * layers chose without regard to each other. They are picked on one half of the documents and
 * counted on the other: the most frequent ones of a sample are frequent by luck as well. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/measures/measures.h"
#include "core/error.h"
#include "core/random.h"

#define TOP 16                         /* paths of a layer */
#define MOVES_MOST ((uint64_t)1 << 28) /* tokens read, over all draws and layers */
#define DRAWS_LEAST 4
#define SLOTS 64 /* of the small table in which a layer's paths are found */

static const mixt_column columns[] = {
    {.name = "layer",
     .help = "the first of three",
     .kind = MIXT_COLUMN_LAYER,
     .role = MIXT_ROLE_KEY},
    {.name = "first", .kind = MIXT_COLUMN_EXPERT, .role = MIXT_ROLE_KEY},
    {.name = "second", .kind = MIXT_COLUMN_EXPERT, .role = MIXT_ROLE_KEY},
    {.name = "third", .kind = MIXT_COLUMN_EXPERT, .role = MIXT_ROLE_KEY},
    {.name = "share",
     .help = "of the tokens whose first choices are these",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_VALUE},
    {.name = "random", .help = "1/E^3", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_RANDOM},
    {.name = "use",
     .help = "at each layer the tokens of a document changed places",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_USE},
    {.name = "low", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_LOW},
    {.name = "high", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_HIGH},
    {.name = "p", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_P},
    {.name = "q", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_Q},
    {.name = "lift",
     .help = "share over use",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_EFFECT},
    {.name = "tokens",
     .help = "of the half that is counted, with a first choice at all three",
     .kind = MIXT_COLUMN_COUNT,
     .role = MIXT_ROLE_SUPPORT},
};
enum { LAYER, FIRST, SECOND, THIRD, SHARE, RANDOM, USE, LOW, HIGH, P, Q, LIFT, TOKENS, COLUMNS };

#define NO_PATH UINT64_MAX

/* Experts of three layers, 16 bits each. */
typedef struct tally {
    uint64_t path;
    uint64_t count;
} tally;

/* What one layer shows. */
typedef struct picked {
    int count;
    uint64_t path[TOP];
    uint64_t tokens[MIXT_MEASURE_GROUPS];
    uint64_t seen[TOP][MIXT_MEASURE_GROUPS];
    uint64_t moved[TOP]; /* over the draws */
    int reached[TOP];    /* draws with as many */
    uint8_t slot[SLOTS]; /* number of a path + 1, by its hash */
} picked;

typedef struct router {
    const mixt_measuring *m;
    picked *of;         /* [layers - 2] */
    tally *table;       /* [room] */
    size_t room;        /* a power of two, twice the tokens */
    uint32_t *place[2]; /* [T] whose choices the second and third layer read */
    int draws;
} router;

static size_t hash(uint64_t path, size_t room)
{
    return (size_t)((path * 0x9e3779b97f4a7c15u) >> 32) & (room - 1);
}

/* place [3]: the tokens whose choices are read at the three layers. */
static uint64_t path_of(const mixt_trace *trace, int layer, const uint64_t *place)
{
    uint64_t path = 0;
    for (int i = 0; i < 3; i++) {
        uint16_t expert = mixt_trace_experts(trace, layer + i, place[i])[0];
        if (expert == MIXT_TRACE_NONE) {
            return NO_PATH;
        }
        path = path << 16 | expert;
    }
    return path;
}

/* Paths are picked by groups of even number, and counted by the others; one group does both. */
static bool picks(const router *r, uint64_t token)
{
    return r->m->groups < 2 || r->m->group[r->m->trace->document[token]] % 2 == 0;
}

static bool counts(const router *r, uint64_t token)
{
    return r->m->groups < 2 || !picks(r, token);
}

static int by_count(const void *a, const void *b)
{
    const tally *x = a, *y = b;
    return x->count != y->count ? (x->count < y->count) - (x->count > y->count)
                                : (x->path > y->path) - (x->path < y->path);
}

static void pick(router *r, int layer)
{
    const mixt_trace *trace = r->m->trace;
    picked *of = &r->of[layer];
    size_t used = 0;
    memset(r->table, 0, r->room * sizeof *r->table);
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        uint64_t path = picks(r, i) ? path_of(trace, layer, (uint64_t[]){i, i, i}) : NO_PATH;
        if (path != NO_PATH) {
            size_t at = hash(path, r->room);
            while (r->table[at].count > 0 && r->table[at].path != path) {
                at = (at + 1) & (r->room - 1);
            }
            r->table[at].path = path;
            r->table[at].count++;
        }
    }
    for (size_t i = 0; i < r->room; i++) { /* the best TOP, in order, at the front */
        tally one = r->table[i];
        if (one.count == 0 || (used == TOP && by_count(&one, &r->table[TOP - 1]) >= 0)) {
            continue;
        }
        size_t at = used < TOP ? used++ : TOP - 1;
        for (; at > 0 && by_count(&one, &r->table[at - 1]) < 0; at--) {
            r->table[at] = r->table[at - 1];
        }
        r->table[at] = one;
    }
    of->count = (int)used;
    for (int i = 0; i < of->count; i++) {
        of->path[i] = r->table[i].path;
        size_t at = hash(of->path[i], SLOTS);
        while (of->slot[at] != 0) {
            at = (at + 1) % SLOTS;
        }
        of->slot[at] = (uint8_t)(i + 1);
    }
}

/* The number of a picked path; -1: another. */
static int find(const picked *of, uint64_t path)
{
    for (size_t at = hash(path, SLOTS); of->slot[at] != 0; at = (at + 1) % SLOTS) {
        if (of->path[of->slot[at] - 1] == path) {
            return of->slot[at] - 1;
        }
    }
    return -1;
}

/* Tokens change places within their document, at the second and the third layer each by itself. */
static void move(router *r, int draw)
{
    const mixt_units *units = r->m->units;
    for (int p = 0; p < 2; p++) {
        mixt_random_key key = {r->m->seed + (uint64_t)p, MIXT_RANDOM_RESAMPLE, (uint32_t)draw};
        for (size_t d = 0; d < units->run_count; d++) {
            uint64_t begin = units->runs[d].begin;
            for (uint64_t i = begin; i < units->runs[d].end; i++) {
                uint64_t j = draw == 0 ? i : begin + mixt_random_below(&key, i, i - begin + 1);
                r->place[p][i] = r->place[p][j];
                r->place[p][j] = (uint32_t)i;
            }
        }
    }
}

/* draw 0: as they are. */
static void count(router *r, int layer, int draw)
{
    const mixt_trace *trace = r->m->trace;
    picked *of = &r->of[layer];
    uint64_t moved[TOP] = {0};
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        if (!counts(r, i)) {
            continue;
        }
        uint64_t path = path_of(trace, layer, (uint64_t[]){i, r->place[0][i], r->place[1][i]});
        int found = path != NO_PATH ? find(of, path) : -1;
        int group = r->m->group[trace->document[i]];
        if (draw == 0) {
            of->tokens[group] += path != NO_PATH;
            if (found >= 0) {
                of->seen[found][group]++;
            }
        } else if (found >= 0) {
            moved[found]++;
        }
    }
    for (int i = 0; i < of->count && draw > 0; i++) {
        uint64_t seen = 0;
        for (int g = 0; g < r->m->groups; g++) {
            seen += of->seen[i][g];
        }
        of->moved[i] += moved[i];
        of->reached[i] += moved[i] >= seen;
    }
}

static mixt_status append(const router *r, int layer, int i, mixt_table *table, mixt_error *error)
{
    const mixt_measuring *m = r->m;
    const picked *of = &r->of[layer];
    double *row = mixt_table_append(table);
    if (row == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "measure routes: no memory");
    }
    double seen = 0, tokens = 0, without[MIXT_MEASURE_GROUPS];
    int groups = 0;
    for (int g = 0; g < m->groups; g++) {
        seen += (double)of->seen[i][g];
        tokens += (double)of->tokens[g];
    }
    row[LAYER] = m->trace->layer_numbers[layer];
    row[FIRST] = (double)(of->path[i] >> 32);
    row[SECOND] = (double)(of->path[i] >> 16 & 0xffff);
    row[THIRD] = (double)(of->path[i] & 0xffff);
    row[RANDOM] = pow(m->trace->info.experts, -3);
    row[TOKENS] = tokens;
    if (tokens == 0) {
        return MIXT_OK;
    }
    for (int g = 0; g < m->groups; g++) {
        if (of->tokens[g] > 0 && (double)of->tokens[g] < tokens) {
            without[groups++] = (seen - (double)of->seen[i][g]) / (tokens - (double)of->tokens[g]);
        }
    }
    row[SHARE] = seen / tokens;
    row[USE] = (double)of->moved[i] / r->draws / tokens;
    row[LIFT] = of->moved[i] > 0 ? row[SHARE] / row[USE] : NAN;
    mixt_span span = mixt_jackknife(row[SHARE], without, groups, 0, 1);
    row[LOW] = span.low;
    row[HIGH] = span.high;
    if (m->groups > 1) {
        row[P] = (1.0 + of->reached[i]) / (1.0 + r->draws);
    }
    return MIXT_OK;
}

static mixt_status measure(router *r, mixt_table *table, mixt_error *error)
{
    int paths = r->m->trace->info.layers - 2;
    for (int layer = 0; layer < paths; layer++) {
        pick(r, layer);
    }
    for (int draw = 0; draw <= r->draws; draw++) {
        move(r, draw);
        for (int layer = 0; layer < paths; layer++) {
            count(r, layer, draw);
        }
    }
    for (int layer = 0; layer < paths; layer++) {
        for (int i = 0; i < r->of[layer].count; i++) {
            MIXT_TRY(append(r, layer, i, table, error));
        }
    }
    mixt_buffer_format(&table->note,
                       "The %d most frequent paths of each layer, picked on %s of the documents "
                       "and counted on %s.",
                       TOP, r->m->groups < 2 ? "all" : "one half",
                       r->m->groups < 2 ? "the same" : "the other");
    table->draws = r->draws;
    return mixt_table_discover(table, error);
}

static mixt_status fill(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    const mixt_trace_info *info = &m->trace->info;
    if (info->layers < 3) {
        mixt_buffer_text(&table->note, "A path takes three layers.");
        return MIXT_OK;
    }
    router r = {.m = m, .room = 2 * TOP};
    uint64_t most = MOVES_MOST / ((uint64_t)info->layers * info->tokens);
    most = most < DRAWS_LEAST ? DRAWS_LEAST : most;
    r.draws = most < (uint64_t)m->shuffles ? (int)most : m->shuffles;
    while (r.room < 2 * info->tokens) {
        r.room *= 2;
    }
    r.of = calloc((size_t)info->layers - 2, sizeof *r.of);
    r.table = calloc(r.room, sizeof *r.table);
    r.place[0] = calloc((size_t)info->tokens, sizeof *r.place[0]);
    r.place[1] = calloc((size_t)info->tokens, sizeof *r.place[1]);
    mixt_status status = r.of != NULL && r.table != NULL && r.place[0] != NULL && r.place[1] != NULL
                             ? measure(&r, table, error)
                             : mixt_fail(error, MIXT_ERROR_MEMORY, "measure routes: no memory");
    free(r.of);
    free(r.table);
    free(r.place[0]);
    free(r.place[1]);
    return status;
}

const mixt_measure_type mixt_measure_routes = {
    .info =
        {.name = "routes",
         .title = "Paths through three layers",
         .source =
             "paths of first choices, with the level of shuffled tokens; docs/measures/routes.md",
         .about = "The paths of first choices over three layers that most tokens take, beside "
                  "how often they would be taken if layers chose without regard to each other.",
         .traces = 1},
    .drawing = MIXT_DRAWS_CHOICES,
    .columns = columns,
    .column_count = COLUMNS,
    .fill = fill,
};
