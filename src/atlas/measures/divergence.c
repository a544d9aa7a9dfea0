/* How different experts are in what they take. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/measures/profile.h"
#include "atlas/statistics.h"
#include "atlas/token_class.h"
#include "core/error.h"

#define ALL_PAIRS_EXPERTS 16         /* up to so many experts the table has every pair */
#define PAIR_CELLS ((size_t)1 << 21) /* pairs * cells of the ids' distributions */
#define CELLS_MOST ((size_t)1 << 16)
#define DRAW_WORK ((double)((uint64_t)1 << 31)) /* draws * layers * pairs * cells */
#define LEAST_DRAWS 4

static const char *const of_words[] = {"ids", "classes", NULL};

static const mixt_column pair_columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "of",
     .help = "distributions over ids (the rare ones pooled by class), or over classes",
     .kind = MIXT_COLUMN_WORD,
     .role = MIXT_ROLE_KEY,
     .words = of_words},
    {.name = "expert", .kind = MIXT_COLUMN_EXPERT, .role = MIXT_ROLE_KEY},
    {.name = "other",
     .help = "both -1: mean over all pairs",
     .kind = MIXT_COLUMN_EXPERT,
     .role = MIXT_ROLE_KEY},
    {.name = "divergence",
     .help = "Jensen and Shannon's; 1: they share nothing",
     .unit = "bits",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE},
    {.name = "use",
     .help = "the same when tokens change places within their documents",
     .unit = "bits",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_USE},
    {.name = "low", .unit = "bits", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_LOW},
    {.name = "high", .unit = "bits", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_HIGH},
    {.name = "p",
     .help = "shuffles that reach it",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_P},
    {.name = "q", .help = "over all rows", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_Q},
    {.name = "excess",
     .help = "above the level of shuffles",
     .unit = "bits",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_EFFECT},
    {.name = "tokens",
     .help = "of the expert that has fewer; of the mean: pairs",
     .kind = MIXT_COLUMN_COUNT,
     .role = MIXT_ROLE_SUPPORT},
};
enum { LAYER, OF, EXPERT, OTHER, VALUE, USE, LOW, HIGH, P, Q, EXCESS, TOKENS, COLUMNS };

/* Of one pair i < j of experts. */
typedef struct pair {
    float value, level; /* level: sum over draws */
    float sum, square;  /* of the values without each group, less the value */
    uint16_t i, j;
    uint16_t reached; /* draws */
} pair;

typedef struct divergences {
    const mixt_measuring *m;
    int of; /* 0: ids, 1: classes */
    int groups, draws;
    size_t cells, experts, pairs;
    uint32_t *cell;  /* [T] cell of each token */
    uint32_t *count; /* [groups, E, cells] */
    double *part;    /* [E, cells] shares of each expert's tokens; all 0: it has none */
    double *tokens;  /* [E] */
    pair *pair;      /* [pairs] */
    uint16_t *rows;  /* [T, k] */
    double mean, without[MIXT_MEASURE_GROUPS], level, reached, used;
} divergences;

/* rows [T, k] of a layer into count. */
static void count_cells(divergences *v, int layer, const uint16_t *rows)
{
    const mixt_trace *trace = v->m->trace;
    size_t k = (size_t)trace->info.experts_per_token;
    memset(v->count, 0, (size_t)v->groups * v->experts * v->cells * sizeof *v->count);
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        size_t group = (size_t)(v->m->group[trace->document[i]] % v->groups);
        uint32_t *count = v->count + group * v->experts * v->cells + v->cell[i];
        for (int c = 0; c < trace->chosen[layer]; c++) {
            if (rows[i * k + (size_t)c] != MIXT_TRACE_NONE) {
                count[rows[i * k + (size_t)c] * v->cells]++;
            }
        }
    }
}

/* The shares of all groups but one; -1: of all. */
static void share_cells(divergences *v, int without)
{
    size_t size = v->experts * v->cells;
    for (size_t e = 0; e < v->experts; e++) {
        double *part = v->part + e * v->cells;
        v->tokens[e] = 0;
        for (size_t c = 0; c < v->cells; c++) {
            uint64_t n = 0;
            for (int g = 0; g < v->groups; g++) {
                n += g != without ? v->count[(size_t)g * size + e * v->cells + c] : 0;
            }
            part[c] = (double)n;
            v->tokens[e] += part[c];
        }
        for (size_t c = 0; c < v->cells && v->tokens[e] > 0; c++) {
            part[c] /= v->tokens[e];
        }
    }
}

/* In bits. Where only one of them is above 0, the logarithm is 0 beside the 1 in front. */
static double jensen_shannon(const double *p, const double *q, size_t count)
{
    double sum = 0;
    for (size_t x = 0; x < count; x++) {
        if (p[x] > 0 && q[x] > 0) {
            double both = p[x] + q[x];
            sum += p[x] * log2(p[x] / both) + q[x] * log2(q[x] / both);
        }
    }
    return fmax(1 + sum / 2, 0);
}

/* What a walk over all pairs is for. */
typedef enum walk { WALK_VALUE, WALK_WITHOUT, WALK_DRAW } walk;

/* Mean over pairs of experts that have tokens; NaN without. */
static double walk_pairs(divergences *v, walk purpose)
{
    double sum = 0, used = 0;
    size_t at = 0;
    for (size_t i = 0; i < v->experts; i++) {
        for (size_t j = i + 1; j < v->experts; j++, at++) {
            pair *one = &v->pair[at];
            bool both = v->tokens[i] > 0 && v->tokens[j] > 0;
            double value =
                both ? jensen_shannon(v->part + i * v->cells, v->part + j * v->cells, v->cells)
                     : NAN;
            sum += both ? value : 0;
            used += both;
            if (purpose == WALK_VALUE) {
                *one = (pair){.value = (float)value, .i = (uint16_t)i, .j = (uint16_t)j};
            } else if (purpose == WALK_WITHOUT) {
                float change = (float)value - one->value;
                one->sum += change;
                one->square += change * change;
            } else {
                one->level += (float)value;
                one->reached = (uint16_t)(one->reached + ((float)value >= one->value));
            }
        }
    }
    v->used = used;
    return used > 0 ? sum / used : NAN;
}

static mixt_status measure_layer(divergences *v, int layer, mixt_error *error)
{
    count_cells(v, layer, mixt_trace_experts(v->m->trace, layer, 0));
    share_cells(v, -1);
    v->mean = walk_pairs(v, WALK_VALUE);
    for (int g = 0; g < v->groups && v->groups >= 2; g++) {
        share_cells(v, g);
        v->without[g] = walk_pairs(v, WALK_WITHOUT);
    }
    v->level = v->reached = 0;
    for (int draw = 0; draw < v->draws; draw++) {
        MIXT_TRY(mixt_null_draw(v->m, layer, MIXT_NULL_DOCUMENT, (uint32_t)draw, v->rows, error));
        count_cells(v, layer, v->rows);
        share_cells(v, -1);
        double mean = walk_pairs(v, WALK_DRAW);
        v->level += mean / v->draws;
        v->reached += mean >= v->mean;
    }
    return MIXT_OK;
}

static double *add_row(const divergences *v, int layer, mixt_table *table)
{
    double *row = mixt_table_append(table);
    if (row != NULL) {
        row[LAYER] = v->m->trace->layer_numbers[layer];
        row[OF] = v->of;
    }
    return row;
}

static bool add_pair(const divergences *v, int layer, const pair *one, mixt_table *table)
{
    double *row = add_row(v, layer, table);
    if (row == NULL) {
        return false;
    }
    double groups = v->groups;
    double spread = one->square - (double)one->sum * one->sum / groups;
    double reach = NAN;
    if (v->groups >= 2) {
        reach = mixt_student_975(groups - 1) * sqrt(fmax(spread, 0) * (groups - 1) / groups);
    }
    row[EXPERT] = one->i;
    row[OTHER] = one->j;
    row[VALUE] = one->value;
    row[USE] = (double)one->level / v->draws;
    row[LOW] = isnan(reach) ? NAN : fmax(one->value - reach, 0);
    row[HIGH] = isnan(reach) ? NAN : fmin(one->value + reach, 1);
    row[P] = (1.0 + one->reached) / (1.0 + v->draws);
    row[EXCESS] = row[VALUE] - row[USE];
    row[TOKENS] = fmin(v->tokens[one->i], v->tokens[one->j]);
    return true;
}

static bool add_layer(const divergences *v, int layer, mixt_table *table)
{
    double *row = add_row(v, layer, table);
    if (row == NULL) {
        return false;
    }
    mixt_span span = mixt_jackknife(v->mean, v->without, v->groups, 0, 1);
    row[EXPERT] = row[OTHER] = -1;
    row[TOKENS] = v->used;
    if (v->used == 0) {
        return true;
    }
    row[VALUE] = v->mean;
    row[USE] = v->level;
    row[LOW] = span.low;
    row[HIGH] = span.high;
    row[P] = (1 + v->reached) / (1 + v->draws);
    row[EXCESS] = v->mean - v->level;
    const pair *least = NULL, *most = NULL;
    for (size_t at = 0; at < v->pairs; at++) {
        const pair *one = &v->pair[at];
        if (isnan(one->value)) {
            continue;
        }
        least = least == NULL || one->value < least->value ? one : least;
        most = most == NULL || one->value > most->value ? one : most;
        if (v->experts <= ALL_PAIRS_EXPERTS && !add_pair(v, layer, one, table)) {
            return false;
        }
    }
    return v->experts <= ALL_PAIRS_EXPERTS ||
           (add_pair(v, layer, least, table) && add_pair(v, layer, most, table));
}

/* -- Cells ---------------------------------------------------------------------------------- */

typedef struct frequent {
    uint64_t count;
    int32_t id;
} frequent;

static int by_count(const void *left, const void *right)
{
    const frequent *a = left, *b = right;
    return a->count != b->count ? (a->count < b->count) - (a->count > b->count)
                                : (a->id > b->id) - (a->id < b->id);
}

/* The most frequent ids get a cell of their own, behind the classes' cells. Returns false without
 * memory. */
static bool choose_cells(divergences *v, size_t most)
{
    const mixt_trace *trace = v->m->trace;
    size_t vocabulary = (size_t)trace->vocab_size;
    frequent *ids = calloc(vocabulary, sizeof *ids);
    uint32_t *cell_of = calloc(vocabulary, sizeof *cell_of);
    uint16_t *classes = mixt_profile_classes(trace);
    bool made = ids != NULL && cell_of != NULL && classes != NULL;
    if (made) {
        for (size_t id = 0; id < vocabulary; id++) {
            ids[id].id = (int32_t)id;
        }
        for (uint64_t i = 0; i < trace->info.tokens; i++) {
            ids[trace->tokens[i]].count++;
        }
        qsort(ids, vocabulary, sizeof *ids, by_count);
        v->cells = MIXT_CLASS_COUNT;
        for (size_t at = 0; at < vocabulary && at < most && ids[at].count > 0; at++) {
            cell_of[ids[at].id] = (uint32_t)v->cells++;
        }
        for (uint64_t i = 0; i < trace->info.tokens; i++) {
            uint32_t own = cell_of[trace->tokens[i]];
            v->cell[i] = own != 0 ? own : classes[i];
        }
    }
    free(ids);
    free(cell_of);
    free(classes);
    return made;
}

static void release(divergences *v)
{
    free(v->cell);
    free(v->count);
    free(v->part);
    free(v->tokens);
    free(v->pair);
    free(v->rows);
}

static mixt_status make(const mixt_measuring *m, int of, divergences *v, mixt_error *error)
{
    const mixt_trace_info *info = &m->trace->info;
    size_t experts = (size_t)info->experts, pairs = experts * (experts - 1) / 2;
    size_t most = PAIR_CELLS / (pairs + 1);
    *v = (divergences){.m = m, .of = of, .groups = m->groups, .experts = experts, .pairs = pairs};
    v->cell = calloc(info->tokens, sizeof *v->cell);
    bool made = v->cell != NULL && choose_cells(v, of == 1             ? 0
                                                   : most < CELLS_MOST ? most
                                                                       : CELLS_MOST);
    double work = (double)(pairs + 1) * (double)v->cells * info->layers;
    v->draws = (int)fmin(m->shuffles, fmax(LEAST_DRAWS, DRAW_WORK / (work + 1)));
    while (v->groups > 2 && (size_t)v->groups * experts * v->cells > (PAIR_CELLS << 4)) {
        v->groups--;
    }
    if (made) {
        v->count = calloc((size_t)v->groups * experts * v->cells, sizeof *v->count);
        v->part = calloc(experts * v->cells, sizeof *v->part);
        v->tokens = calloc(experts, sizeof *v->tokens);
        v->pair = calloc(pairs + 1, sizeof *v->pair);
        v->rows = calloc(info->tokens * (uint64_t)info->experts_per_token, sizeof *v->rows);
    }
    if (!made || v->count == NULL || v->part == NULL || v->tokens == NULL || v->pair == NULL ||
        v->rows == NULL) {
        release(v);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "measure divergence: no memory");
    }
    return MIXT_OK;
}

static mixt_status fill_divergence(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    int draws = m->shuffles;
    mixt_status status = MIXT_OK;
    for (int of = 0; of < 2 && status == MIXT_OK; of++) {
        divergences v;
        MIXT_TRY(make(m, of, &v, error));
        for (int layer = 0; layer < m->trace->info.layers && status == MIXT_OK; layer++) {
            status = measure_layer(&v, layer, error);
            if (status == MIXT_OK && !add_layer(&v, layer, table)) {
                status = mixt_fail(error, MIXT_ERROR_MEMORY, "measure divergence: no memory");
            }
        }
        if (of == 0) {
            mixt_buffer_format(&table->note,
                               "The %zu most frequent ids stand for themselves, the others for "
                               "their class. ",
                               v.cells - MIXT_CLASS_COUNT);
        }
        draws = v.draws < draws ? v.draws : draws;
        release(&v);
    }
    table->draws = draws;
    return status == MIXT_OK ? mixt_table_discover(table, error) : status;
}

const mixt_measure_type mixt_measure_divergence = {
    .info = {.name = "divergence",
             .title = "How different experts are in what they take",
             .source = "Jensen-Shannon divergence, Lin 1991",
             .about = "Divergence of the ids, and of the classes, of two experts' tokens: the mean "
                      "over pairs, and pairs.",
             .traces = 1},
    .drawing = MIXT_DRAWS_CHOICES,
    .columns = pair_columns,
    .column_count = COLUMNS,
    .fill = fill_divergence,
};
