/* What experts take: domains, classes of tokens, places in the document. */
#include <math.h>
#include <stdlib.h>

#include "atlas/measures/profile.h"
#include "atlas/statistics.h"
#include "atlas/token_class.h"
#include "core/error.h"

#define FEW_TOKENS                                                                                 \
    100 /* expected fewer, a variance is no smaller than that of independent tokens */
#define ALL_CELLS ((uint64_t)1 << 20) /* layers * E * categories: above, rows of a small p stay */
#define CELL_P 0.01

/* The columns behind the keys are the same in all tables here. */
#define CELL_COLUMNS(use, test)                                                                    \
    {.name = "share",                                                                              \
     .help = "of these tokens, those that have the expert",                                        \
     .kind = MIXT_COLUMN_SHARE,                                                                    \
     .role = MIXT_ROLE_VALUE},                                                                     \
        {.name = "share_random",                                                                   \
         .help = "k / E",                                                                          \
         .kind = MIXT_COLUMN_SHARE,                                                                \
         .role = MIXT_ROLE_RANDOM},                                                                \
        {.name = "share_use", .help = use, .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_USE},      \
        {.name = "share_low", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_LOW},                   \
        {.name = "share_high", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_HIGH},                 \
        {.name = "part",                                                                           \
         .help = "of the expert's tokens, those that are such",                                    \
         .kind = MIXT_COLUMN_SHARE,                                                                \
         .role = MIXT_ROLE_VALUE,                                                                  \
         .group = 1},                                                                              \
        {.name = "part_random",                                                                    \
         .help = "of all tokens",                                                                  \
         .kind = MIXT_COLUMN_SHARE,                                                                \
         .role = MIXT_ROLE_RANDOM,                                                                 \
         .group = 1},                                                                              \
        {.name = "lift",                                                                           \
         .help = "share by its level",                                                             \
         .kind = MIXT_COLUMN_NUMBER,                                                               \
         .role = MIXT_ROLE_VALUE,                                                                  \
         .group = 2},                                                                              \
        {.name = "lift_low", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_LOW, .group = 2},       \
        {.name = "lift_high", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_HIGH, .group = 2},     \
        {.name = "p", .help = test, .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_P, .group = 2},  \
        {.name = "q",                                                                              \
         .help = "over all layers, experts and these",                                             \
         .kind = MIXT_COLUMN_NUMBER,                                                               \
         .role = MIXT_ROLE_Q,                                                                      \
         .group = 2},                                                                              \
        {.name = "h",                                                                              \
         .help = "Cohen's: 2 asin sqrt(share) - 2 asin sqrt(level); 0.2 is small, 0.8 large",      \
         .kind = MIXT_COLUMN_NUMBER,                                                               \
         .role = MIXT_ROLE_EFFECT,                                                                 \
         .group = 2},                                                                              \
        {.name = "tokens",                                                                         \
         .help = "such tokens that have the expert",                                               \
         .kind = MIXT_COLUMN_COUNT,                                                                \
         .role = MIXT_ROLE_SUPPORT},                                                               \
    {                                                                                              \
        .name = "of", .help = "such tokens", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT  \
    }
enum {
    LAYER,
    EXPERT,
    CATEGORY,
    SHARE,
    SHARE_RANDOM,
    SHARE_USE,
    SHARE_LOW,
    SHARE_HIGH,
    PART,
    PART_RANDOM,
    LIFT,
    LIFT_LOW,
    LIFT_HIGH,
    CELL_P_,
    CELL_Q,
    CELL_H,
    TOKENS,
    OF,
    COLUMNS,
};

/* One cell of a profile without a group of documents; -1: of all. */
typedef struct cell {
    double count, level, tokens;
} cell;

static cell cell_of(const mixt_profile *p, size_t category, size_t expert, int without)
{
    size_t width = p->categories * p->experts, at = category * p->experts + expert;
    cell c = {.count = mixt_profile_sum(p->count, width, at, p->groups, without),
              .tokens = mixt_profile_sum(p->tokens, p->categories, category, p->groups, without)};
    if (p->level != NULL) {
        c.level = mixt_profile_sum(p->level, width, at, p->groups, without);
    }
    return c;
}

/* What the whole layer gives: an expert's tokens, all tokens, all choices. */
typedef struct layer_totals {
    double *chosen; /* [E] */
    double tokens, slots;
} layer_totals;

static void fill_cell(const mixt_profile *p, const layer_totals *totals, size_t category,
                      size_t expert, double *row)
{
    cell c = cell_of(p, category, expert, -1);
    row[EXPERT] = (double)expert;
    row[CATEGORY] = (double)category;
    row[SHARE] = c.count / c.tokens;
    row[SHARE_RANDOM] = mixt_profile_sum(p->slots, p->categories, category, p->groups, -1) /
                        c.tokens / (double)p->experts;
    row[SHARE_USE] =
        p->level != NULL ? c.level / c.tokens : totals->chosen[expert] / totals->tokens;
    row[PART] = c.count / totals->chosen[expert];
    row[PART_RANDOM] = c.tokens / totals->tokens;
    row[LIFT] = row[SHARE] / row[SHARE_USE];
    row[CELL_H] = 2 * asin(sqrt(row[SHARE])) - 2 * asin(sqrt(fmin(row[SHARE_USE], 1)));
    row[TOKENS] = c.count;
    row[OF] = c.tokens;
}

/* Against the level within documents: the lift without each group. */
static void test_within(const mixt_profile *p, size_t category, size_t expert, double *row)
{
    double shares[MIXT_MEASURE_GROUPS] = {0}, lifts[MIXT_MEASURE_GROUPS] = {0};
    int groups = 0;
    for (int g = 0; g < p->groups; g++) {
        if (p->tokens[(size_t)g * p->categories + category] > 0) {
            cell c = cell_of(p, category, expert, g);
            shares[groups] = c.count / c.tokens;
            lifts[groups++] = c.count / c.level;
        }
    }
    double level = row[SHARE_USE] * row[OF];
    mixt_span free_span = mixt_jackknife(0, lifts, groups, -INFINITY, INFINITY);
    mixt_span span = mixt_jackknife(row[SHARE], shares, groups, 0, 1);
    row[SHARE_LOW] = span.low;
    row[SHARE_HIGH] = span.high;
    if (groups < 2 || !isfinite(free_span.high)) { /* all that was expected is in one group */
        return;
    }
    double t95 = mixt_student_975(groups - 1), error = free_span.high / t95;
    if (fmin(level, row[TOKENS]) < FEW_TOKENS) {
        double drawn = sqrt((1 - row[SHARE_USE]) / level);
        error = fmax(error, drawn * MIXT_NORMAL_975 / t95); /* no estimate: not Student's */
    }
    row[LIFT_LOW] = fmax(row[LIFT] - t95 * error, 0);
    row[LIFT_HIGH] = row[LIFT] + t95 * error;
    row[CELL_P_] = error > 0 ? mixt_student_p((row[LIFT] - 1) / error, groups - 1) : 1;
}

/* A share, its variance and the degrees of freedom of that. */
typedef struct estimate {
    double share, variance, freedom;
} estimate;

/* Of some categories together, from the groups that have tokens of them: count [groups], tokens
 * [groups]. */
static estimate estimate_share(const double *count, const double *tokens, int groups)
{
    double all = 0, taken = 0, without[MIXT_MEASURE_GROUPS];
    int used = 0;
    for (int g = 0; g < groups; g++) {
        all += tokens[g];
        taken += count[g];
    }
    for (int g = 0; g < groups; g++) {
        if (tokens[g] > 0 && tokens[g] < all) {
            without[used++] = (taken - count[g]) / (all - tokens[g]);
        }
    }
    estimate e = {.share = taken / all, .variance = NAN, .freedom = used - 1};
    if (used >= 2) {
        double error =
            mixt_jackknife(0, without, used, -INFINITY, INFINITY).high / mixt_student_975(used - 1);
        e.variance = error * error;
    }
    return e;
}

/* Against the other domains: documents of this one and of those are different documents, so the
 * difference of shares has both variances (Welch 1947). */
static void test_between(const mixt_profile *p, size_t domain, size_t expert, double *row)
{
    double count[2][MIXT_MEASURE_GROUPS] = {{0}}, tokens[2][MIXT_MEASURE_GROUPS] = {{0}};
    for (int g = 0; g < p->groups; g++) {
        for (size_t d = 0; d < p->categories; d++) {
            size_t at = (size_t)g * p->categories + d;
            count[d != domain][g] += p->count[at * p->experts + expert];
            tokens[d != domain][g] += p->tokens[at];
        }
    }
    estimate here = estimate_share(count[0], tokens[0], p->groups);
    estimate rest = estimate_share(count[1], tokens[1], p->groups);
    if (isnan(here.variance)) {
        return;
    }
    if (fmin(row[SHARE_USE] * row[OF], row[TOKENS]) < FEW_TOKENS) {
        here.variance = fmax(here.variance, row[SHARE_USE] * (1 - row[SHARE_USE]) / row[OF]);
    }
    double reach = mixt_student_975(here.freedom) * sqrt(here.variance);
    row[SHARE_LOW] = fmax(here.share - reach, 0);
    row[SHARE_HIGH] = fmin(here.share + reach, 1);
    row[LIFT_LOW] = row[SHARE_LOW] / row[SHARE_USE];
    row[LIFT_HIGH] = row[SHARE_HIGH] / row[SHARE_USE];
    double variance = here.variance + rest.variance;
    double freedom = variance * variance /
                     (here.variance * here.variance / here.freedom +
                      rest.variance * rest.variance / fmax(rest.freedom, 1));
    row[CELL_P_] = variance > 0
                       ? mixt_student_p((here.share - rest.share) / sqrt(variance), freedom)
                   : isnan(variance) ? NAN
                                     : here.share == rest.share;
}

static mixt_status add_layer(const mixt_profile *p, int layer, layer_totals *totals,
                             mixt_table *table, uint64_t *left_out, mixt_error *error)
{
    const mixt_trace *trace = p->m->trace;
    bool all = (uint64_t)trace->info.layers * p->experts * p->categories <= ALL_CELLS;
    totals->tokens = (double)trace->info.tokens;
    for (size_t e = 0; e < p->experts; e++) {
        totals->chosen[e] = 0;
        for (size_t c = 0; c < p->categories; c++) {
            totals->chosen[e] += cell_of(p, c, e, -1).count;
        }
    }
    for (size_t e = 0; e < p->experts; e++) {
        for (size_t c = 0; c < p->categories; c++) {
            if (mixt_profile_sum(p->tokens, p->categories, c, p->groups, -1) == 0) {
                continue;
            }
            double *row = mixt_table_append(table);
            if (row == NULL) {
                return mixt_fail(error, MIXT_ERROR_MEMORY, "measure %s: no memory",
                                 table->measure->name);
            }
            row[LAYER] = trace->layer_numbers[layer];
            fill_cell(p, totals, c, e, row);
            if (totals->chosen[e] > 0) {
                (p->level != NULL ? test_within : test_between)(p, c, e, row);
            }
            if (!all && !(row[CELL_P_] <= CELL_P)) {
                table->rows--;
                *left_out += !isnan(row[CELL_P_]);
            }
        }
    }
    return MIXT_OK;
}

/* q counts the cells that were tested and left out; those have a larger p than any that stayed. */
static mixt_status discover(mixt_table *table, uint64_t left_out, mixt_error *error)
{
    MIXT_TRY(mixt_table_discover(table, error));
    uint64_t tested = 0;
    for (uint64_t r = 0; r < table->rows; r++) {
        tested += !isnan(mixt_table_value(table, r, CELL_P_));
    }
    for (uint64_t r = 0; r < table->rows && left_out != 0 && tested != 0; r++) {
        double *q = &table->cells[r * (uint64_t)table->column_count + CELL_Q];
        *q = isnan(*q) ? *q : fmin(1, *q * ((double)(tested + left_out) / (double)tested));
    }
    if (left_out != 0) {
        mixt_buffer_format(&table->note,
                           "%llu cells whose p is above %g are left out; q counts "
                           "them. ",
                           (unsigned long long)left_out, CELL_P);
    }
    return MIXT_OK;
}

/* category [T] is released here. */
static mixt_status fill_profile(const mixt_measuring *m, uint16_t *category, size_t categories,
                                mixt_table *table, mixt_error *error)
{
    bool domains = category == NULL;
    mixt_profile profile = {0};
    layer_totals totals = {.chosen = calloc((size_t)m->trace->info.experts, sizeof(double))};
    uint64_t left_out = 0;
    mixt_status status =
        totals.chosen != NULL
            ? mixt_profile_make(m, domains ? m->trace->domain : category, categories, !domains,
                                &profile, error)
            : mixt_fail(error, MIXT_ERROR_MEMORY, "measure %s: no memory", table->measure->name);
    bool made = status == MIXT_OK;
    for (int layer = 0; layer < m->trace->info.layers && status == MIXT_OK; layer++) {
        mixt_profile_count(&profile, layer);
        status = add_layer(&profile, layer, &totals, table, &left_out, error);
    }
    if (status == MIXT_OK) {
        status = discover(table, left_out, error);
    }
    if (made) {
        mixt_profile_release(&profile);
    }
    free(totals.chosen);
    free(category);
    return status;
}

/* -- domains ------------------------------------------------------------------------------ */

static const mixt_column domain_columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "expert", .kind = MIXT_COLUMN_EXPERT, .role = MIXT_ROLE_KEY},
    {.name = "domain", .kind = MIXT_COLUMN_DOMAIN, .role = MIXT_ROLE_KEY},
    CELL_COLUMNS("of all tokens", "that the domain is like the others: Welch's t over documents"),
};

static mixt_status fill_domains(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    return fill_profile(m, NULL, (size_t)m->trace->info.domains, table, error);
}

const mixt_measure_type mixt_measure_domains = {
    .info = {.name = "domains",
             .title = "Experts by domain",
             .source = "domain specialisation of OLMoE, 2409.02060",
             .about = "Of a domain's tokens, the part that has the expert; and of the expert's "
                      "tokens, the part that comes of the domain.",
             .traces = 1},
    .columns = domain_columns,
    .column_count = COLUMNS,
    .fill = fill_domains,
};

/* -- classes ------------------------------------------------------------------------------ */

/* In the order of mixt_token_class, whose names they are (tests/test_together.c holds them). */
static const char *const class_words[] = {
    "space", "newline",      "digits", "punctuation", "operators", "function", "keywords", "words",
    "names", "continuation", "mixed",  "scripts",     "bytes",     "other",    NULL,
};
_Static_assert(sizeof class_words / sizeof *class_words == MIXT_CLASS_COUNT + 1, "a word a class");

#define WITHIN_LEVEL "when tokens change places within their documents"
#define WITHIN_TEST "that the lift is 1: Student's t over groups of documents"

static const mixt_column class_columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "expert", .kind = MIXT_COLUMN_EXPERT, .role = MIXT_ROLE_KEY},
    {.name = "class",
     .help = "of the token, by its bytes (docs/atlas.md)",
     .kind = MIXT_COLUMN_WORD,
     .role = MIXT_ROLE_KEY,
     .words = class_words},
    CELL_COLUMNS(WITHIN_LEVEL, WITHIN_TEST),
};

static mixt_status fill_classes(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    uint16_t *category = mixt_profile_classes(m->trace);
    return category == NULL ? mixt_fail(error, MIXT_ERROR_MEMORY, "measure classes: no memory")
                            : fill_profile(m, category, MIXT_CLASS_COUNT, table, error);
}

const mixt_measure_type mixt_measure_classes = {
    .info = {.name = "classes",
             .title = "Experts by class of token",
             .source = "classes of docs/atlas.md; level: tokens shuffled within documents",
             .about = "Of the tokens of a class, the part that has the expert, beside what the "
                      "same documents would give if it did not look at the token.",
             .traces = 1},
    .columns = class_columns,
    .column_count = COLUMNS,
    .fill = fill_classes,
};

/* -- positions ---------------------------------------------------------------------------- */

static const mixt_column position_columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "expert", .kind = MIXT_COLUMN_EXPERT, .role = MIXT_ROLE_KEY},
    {.name = "position",
     .help =
         "first place of the bin in the document, from 0; the bin ends before twice that plus 1",
     .kind = MIXT_COLUMN_COUNT,
     .role = MIXT_ROLE_KEY},
    CELL_COLUMNS(WITHIN_LEVEL, WITHIN_TEST),
};

static mixt_status fill_positions(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    uint16_t *category = mixt_profile_positions(m->trace);
    size_t bins = 0;
    for (uint64_t i = 0; category != NULL && i < m->trace->info.tokens; i++) {
        bins = category[i] >= bins ? (size_t)category[i] + 1 : bins;
    }
    MIXT_TRY(category == NULL ? mixt_fail(error, MIXT_ERROR_MEMORY, "measure positions: no memory")
                              : fill_profile(m, category, bins, table, error));
    for (uint64_t r = 0; r < table->rows; r++) {
        double *position = &table->cells[r * (uint64_t)table->column_count + CATEGORY];
        *position = exp2(*position) - 1;
    }
    return MIXT_OK;
}

const mixt_measure_type mixt_measure_positions = {
    .info = {.name = "positions",
             .title = "Experts by place in the document",
             .source = "bins by powers of two; level: tokens shuffled within documents",
             .about = "Of the tokens at places 0, 1 to 2, 3 to 6, ... of their document, the part "
                      "that has the expert.",
             .traces = 1},
    .columns = position_columns,
    .column_count = COLUMNS,
    .fill = fill_positions,
};
