/* Do the measures' levels hold? Made-up traces whose experts are chosen without structure must stay
 * within the levels as often as 95 % says, for every measure that mixt_measure_describe lists and
 * that has a p, or an interval beside a level; and a structure that is planted must be found by the
 * measures made for it and by no other. `test_measures_calibration table` (make check-calibration)
 * prints docs/measures/calibration.md's tables from more traces, of all measures or those named
 * behind their number. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "atlas/statistics.h"
#include "atlas_trace.h"
#include "core/random.h"
#include "formats/dtype.h"
#include "mixt.h"
#include "sanitized.h"

#define EXPERTS 8
#define CHOICES 2
#define LAYERS 3
#define PLANTED_LAYER 1
#define SEEDS_TABLE 400
#define CELLS_MOST 64 /* columns with a p or an interval, over all measures */

/* How much is done: `make check` does less than the tables rest on. */
typedef struct extent {
    int seeds;
    int shuffles; /* p <= 0.05 for 1 of 20 or 2 of 40 ranks: exactly 5 % */
    int document_tokens;
    int planted_seeds, planted_shuffles; /* a few of many rows can stand out after correction */
} extent;

static const extent in_check = {2, 19, 40, 1, 139};
/* Under a sanitizer only what must be found is looked for. */
static const extent in_tables = {SEEDS_TABLE, 39, 70, 20, 199};
static const extent *how_much = &in_check;

typedef enum structure {
    UNIFORM,
    UNEQUAL,       /* experts are used unequally, alike everywhere */
    OWN_DOCUMENTS, /* each document has its own use, drawn alike for all domains */
    NULLS,         /* those above have nothing to find, but see `finds` */
    TOPIC = NULLS, /* an expert takes half of the first choices of one domain */
    SYNTAX,        /* an expert takes the digits and marks, and no more choices than others */
    COMMITTEE,     /* two experts are preferred in every domain */
    PAIR,          /* who is chosen first mostly brings its neighbour */
    PATH,          /* the next layer's first choice often is this one's */
    STRUCTURES,
} structure;

static const char *const structure_names[] = {"uniform",      "unequal use",   "own documents",
                                              "topic expert", "syntax expert", "committee",
                                              "pair",         "path"};

#define BIT(structure) (1u << (structure))

/* What measures find: must, and what else they may as well, being about it in another way. */
typedef struct finding {
    const char *measure;
    unsigned must, may;
} finding;

static const finding finds[] = {
    {"committee", BIT(COMMITTEE), BIT(UNEQUAL)},
    {"signatures", BIT(TOPIC), 0},
    {"joint", BIT(TOPIC) | BIT(SYNTAX), 0},
    {"persistence", BIT(PATH), 0},
    {"routes", BIT(PATH), 0},
    {"domains", BIT(TOPIC), 0},
    {"languages", BIT(TOPIC), 0},
    {"classes", BIT(SYNTAX), 0},
    {"vocabulary", BIT(SYNTAX), BIT(TOPIC)}, /* topics have their own words */
    {"tokens", 0, BIT(SYNTAX) | BIT(TOPIC)},
    {"divergence", 0, BIT(SYNTAX) | BIT(TOPIC)},
    {"coactivation", BIT(PAIR), BIT(OWN_DOCUMENTS)},
    {"togetherness", BIT(PAIR), BIT(OWN_DOCUMENTS)},
    {"positions", 0, 0},
    {"confidence", 0, 0},
    {"kinship", 0, BIT(OWN_DOCUMENTS)}, /* both traces know which document it is */
    {"reuse", 0, BIT(OWN_DOCUMENTS)},   /* these see that a document keeps to its experts */
    {"reuse_quantiles", 0, BIT(OWN_DOCUMENTS)},
    {"cache", 0, BIT(OWN_DOCUMENTS)},
    {"segments", 0, BIT(OWN_DOCUMENTS)},
};

/* Levels that are known not to be exact, and why: they are careful, more than 97 of 100 hold. Of
 * those with `least` below 93 so many must. */
typedef struct caution {
    const char *measure, *value; /* value NULL: all that have no p */
    int least;
    const char *why;
} caution;

#define ORDER "near even use the most used expert spreads less than a jackknife takes it to"
#define ALONE "the interval is of the value alone, and the level moves with it"
#define SQUARE "a square, whose jackknife is corrected, but never below the shuffles' variance"

static const caution cautious[] = {
    {"committee", "share", 93, "mostly no expert stands: the share is 0 with a p of 1"},
    {"routes", "share", 93, "few tokens take one path: many draws have as many"},
    {"balance", NULL, 93, ORDER},
    {"concentration", "share", 93, ORDER},
    {"domains", "share", 93, ALONE},
    {"classes", "share", 93, ALONE},
    {"positions", "share", 93, ALONE},
    {"reuse", "share", 93, ALONE},
    {"cache", "hits", 93, ALONE},
    {"segments", NULL, 93, ALONE},
    {"joint", "excess", 93, SQUARE},
    {"persistence", "excess", 93, SQUARE},
    {"ranks", "share", 0, "about the weights, which are made up without a router"},
    {"entropy", "entropy", 0, "about the router's numbers, which are made up"},
};

/* -- Made-up traces ------------------------------------------------------------------------- */

/* k different experts by weights [EXPERTS], the first one given (-1: drawn). */
static void draw_row(const double *weights, int first, const mixt_random_key *key, uint64_t token,
                     uint16_t *row)
{
    double left[EXPERTS];
    memcpy(left, weights, sizeof left);
    for (int c = 0; c < CHOICES; c++) {
        double total = 0;
        int expert = 0;
        for (int e = 0; e < EXPERTS; e++) {
            total += left[e];
        }
        double place = mixt_random_uniform(key, token * 8 + (uint64_t)c) * total;
        while (expert + 1 < EXPERTS && (left[expert] == 0 || place >= left[expert])) {
            place -= left[expert++];
        }
        while (left[expert] == 0) {
            expert--;
        }
        expert = c == 0 && first >= 0 ? first : expert;
        left[expert] = 0;
        row[c] = (uint16_t)expert;
    }
}

static bool is_mark(const mixt_trace *trace, uint64_t token)
{
    size_t length;
    const uint8_t *bytes = mixt_trace_token_bytes(trace, trace->tokens[token], &length);
    return length == 1 && strchr("(;){}73.,", bytes[0]) != NULL;
}

static void use_of(structure what, int document, int layer, uint64_t seed, double *weights)
{
    const mixt_random_key key = {seed, MIXT_RANDOM_DATA, 77};
    for (int e = 0; e < EXPERTS; e++) {
        uint64_t index = ((uint64_t)document * LAYERS + (uint64_t)layer) * EXPERTS + (uint64_t)e;
        weights[e] = what == UNEQUAL         ? exp(-1.5 * ((e + 3 * layer) % EXPERTS) / EXPERTS)
                     : what == OWN_DOCUMENTS ? exp(0.5 * mixt_random_normal(&key, index))
                                             : 1;
        if (what == SYNTAX && layer == PLANTED_LAYER && e == 2) {
            weights[e] = 0.31; /* of other tokens, so that a quarter of all tokens has it */
        }
        if (what == COMMITTEE && layer == PLANTED_LAYER && e >= 2 && e < 4) {
            weights[e] = 4;
        }
    }
}

/* The first choice that a structure plants; -1: none. */
static int planted_first(const mixt_trace *trace, structure what, int layer, uint64_t token,
                         double coin)
{
    if (layer != PLANTED_LAYER) {
        return -1;
    }
    if (what == TOPIC) {
        return trace->domain[token] == 1 && coin < 0.5 ? 5 : -1;
    }
    if (what == SYNTAX) {
        return is_mark(trace, token) ? 2 : -1; /* 18 % of the tokens */
    }
    return what == PATH && coin < 0.5 ? mixt_trace_experts(trace, layer - 1, token)[0] : -1;
}

static void fill_routes(mixt_trace *trace, structure what, uint64_t seed)
{
    for (int layer = 0; layer < LAYERS; layer++) {
        const mixt_random_key key = {seed, MIXT_RANDOM_DATA, (uint32_t)(100 + layer)};
        const mixt_random_key coins = {seed, MIXT_RANDOM_DATA, (uint32_t)(200 + layer)};
        for (uint64_t i = 0; i < trace->info.tokens; i++) {
            double weights[EXPERTS];
            double coin = mixt_random_uniform(&coins, i);
            uint16_t *row = trace->experts + ((uint64_t)layer * trace->info.tokens + i) * CHOICES;
            use_of(what, trace->document[i], layer, seed, weights);
            draw_row(weights, planted_first(trace, what, layer, i, coin), &key, i, row);
            if (what == PAIR && layer == PLANTED_LAYER && coin < 0.5) {
                row[1] = row[0] ^ 1; /* all experts alike: only who goes with whom */
            }
        }
    }
}

static uint16_t *halves(mixt_trace *trace, uint64_t count)
{
    uint16_t *made = mixt_arena_allocate(trace->arena, count, sizeof *made);
    assert_non_null(made);
    return made;
}

/* Router logits that agree with the choices, and all else that a trace may hold, by chance. */
static void fill_optional(mixt_trace *trace, uint64_t seed)
{
    uint64_t rows = LAYERS * trace->info.tokens;
    const mixt_random_key key = {seed, MIXT_RANDOM_DATA, 300}, more = {seed, MIXT_RANDOM_DATA, 301};
    uint16_t *logits = halves(trace, rows * EXPERTS);
    uint16_t *ahead = malloc(rows * CHOICES * sizeof *ahead); /* these two are not the arena's */
    uint16_t *margins = halves(trace, rows), *entropies = halves(trace, rows);
    int32_t *predicted = malloc(trace->info.tokens * sizeof *predicted);
    const double even[EXPERTS] = {1, 1, 1, 1, 1, 1, 1, 1};
    assert_non_null(predicted);
    assert_non_null(ahead);
    for (uint64_t i = 0; i < rows; i++) {
        float values[EXPERTS];
        float two[] = {(float)mixt_random_uniform(&more, 2 * i),
                       (float)(3 * mixt_random_uniform(&more, 2 * i + 1))};
        for (int e = 0; e < EXPERTS; e++) {
            values[e] = (float)(2 * mixt_random_uniform(&key, i * EXPERTS + (uint64_t)e) - 2);
        }
        for (int c = 0; c < CHOICES; c++) {
            values[trace->experts[i * CHOICES + (uint64_t)c]] += (float)(2 * (CHOICES - c));
        }
        mixt_f32_to_f16(values, logits + i * EXPERTS, EXPERTS);
        mixt_f32_to_f16(&two[0], margins + i, 1);
        mixt_f32_to_f16(&two[1], entropies + i, 1);
        draw_row(even, -1, &more, (uint64_t)1 << 40 | i, ahead + i * CHOICES);
        if (i < trace->info.tokens) { /* the first layer has none before it */
            memset(ahead + i * CHOICES, 0xff, CHOICES * sizeof *ahead);
            predicted[i] = (int32_t)mixt_random_below(&more, (uint64_t)1 << 50 | i,
                                                      (uint64_t)trace->vocab_size);
        }
    }
    trace->logits = logits;
    trace->margins = margins;
    trace->entropies = entropies;
    trace->predicted = predicted;
    trace->ahead = ahead;
}

/* routes: another number gives the same text other choices. */
static mixt_trace *make_trace(structure what, uint64_t seed, uint64_t routes, int document_tokens)
{
    atlas_trace_options options = {.layers = LAYERS,
                                   .experts = EXPERTS,
                                   .experts_per_token = CHOICES,
                                   .domains = 3,
                                   .documents = 10,
                                   .document_tokens = document_tokens,
                                   .seed = 1000 + seed};
    mixt_trace *trace = atlas_trace_make(&options);
    const mixt_random_key key = {seed, MIXT_RANDOM_DATA, 50};
    mixt_error error = MIXT_ERROR_INIT;
    static const int own_words[] = {0, 12, 30}; /* of domains; no marks among the next five */
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        if (mixt_random_uniform(&key, 2 * i) < 0.3) {
            trace->tokens[i] =
                own_words[trace->domain[i]] + (int32_t)mixt_random_below(&key, 2 * i + 1, 5);
        }
    }
    fill_routes(trace, what, 17 + seed + (routes << 32));
    fill_optional(trace, seed + (routes << 32));
    if (mixt_trace_check(trace, "made up", &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    return trace;
}

/* -- How often levels hold ------------------------------------------------------------------ */

/* One value of a measure: its columns, and what the traces gave. */
typedef struct cell {
    const mixt_measure_info *measure;
    char name[48]; /* of the value's column */
    int group;
    bool by_p; /* else by an interval about a level */
    double sum[NULLS], squares[NULLS], rows[NULLS];
    int seeds[NULLS];
} cell;

typedef struct cells {
    cell of[CELLS_MOST];
    int count;
} cells;

static int column_with(const mixt_column *columns, int count, int role, int group)
{
    for (int c = 0; c < count; c++) {
        if (columns[c].role == role && columns[c].group == group) {
            return c;
        }
    }
    return -1;
}

static bool holds_p(const mixt_table *table, uint64_t row, int p, double *held)
{
    double value = mixt_table_value(table, row, p);
    *held = value > 0.05;
    return !isnan(value);
}

static bool holds_level(const mixt_table *table, uint64_t row, const int *columns, double *held)
{
    double level = mixt_table_value(table, row, columns[0]);
    double low = mixt_table_value(table, row, columns[1]);
    double high = mixt_table_value(table, row, columns[2]);
    *held = low <= level && level <= high;
    return !isnan(level) && !isnan(low) && low < high;
}

static cell *cell_of(cells *all, const mixt_measure_info *measure, const char *name, int group)
{
    for (int i = 0; i < all->count; i++) {
        if (all->of[i].measure == measure && all->of[i].group == group) {
            return &all->of[i];
        }
    }
    assert_true(all->count < CELLS_MOST);
    cell *made = &all->of[all->count++];
    *made = (cell){.measure = measure, .group = group};
    snprintf(made->name, sizeof made->name, "%s", name);
    return made;
}

/* Of one trace's rows the part that holds, by each value of the table. */
static void count_held(const mixt_table *table, structure what, cells *all)
{
    const mixt_column *columns;
    int count = mixt_table_columns(table, &columns);
    for (int group = 0; group < 16; group++) {
        int value = column_with(columns, count, MIXT_ROLE_VALUE, group);
        int p = column_with(columns, count, MIXT_ROLE_P, group);
        int use = column_with(columns, count, MIXT_ROLE_USE, group);
        if (use < 0 && what == UNIFORM) {
            use = column_with(columns, count, MIXT_ROLE_RANDOM, group);
        }
        const int about[] = {use, column_with(columns, count, MIXT_ROLE_LOW, group),
                             column_with(columns, count, MIXT_ROLE_HIGH, group)};
        if (value < 0 || (p < 0 && (about[0] < 0 || about[1] < 0 || about[2] < 0))) {
            continue;
        }
        double sum = 0, rows = 0, held;
        for (uint64_t row = 0; row < mixt_table_rows(table); row++) {
            if (p >= 0 ? holds_p(table, row, p, &held) : holds_level(table, row, about, &held)) {
                sum += held;
                rows += 1;
            }
        }
        cell *of = cell_of(all, mixt_table_measure(table), columns[value].name, group);
        of->by_p = p >= 0;
        if (rows > 0) {
            of->sum[what] += sum / rows;
            of->squares[what] += sum / rows * (sum / rows);
            of->rows[what] += rows;
            of->seeds[what]++;
        }
    }
}

/* The table; the made-up traces hold what every measure needs. */
static mixt_table *measure(const mixt_measure_info *info, const mixt_trace *const *traces,
                           uint64_t seed, int shuffles)
{
    mixt_measure_options options = {.shuffles = shuffles, .seed = seed};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_table *table = NULL;
    if (mixt_measure(info->name, traces, info->traces, &options, &table, &error) == MIXT_OK) {
        return table;
    }
    fail_msg("the made-up trace is refused: %s", error.message);
    return NULL;
}

static char **wanted_names; /* NULL behind the last; none: all measures */

/* Logs of runs are not made up here: what is counted of them has no interval and no p. */
static bool is_wanted(const mixt_measure_info *info)
{
    bool wanted = wanted_names == NULL || wanted_names[0] == NULL;
    for (int i = 0; !wanted && wanted_names[i] != NULL; i++) {
        wanted = strcmp(wanted_names[i], info->name) == 0;
    }
    return wanted && info->traces > 0;
}

static void run_seed(structure what, uint64_t seed, cells *all)
{
    mixt_trace *one = make_trace(what, seed, 0, how_much->document_tokens);
    mixt_trace *other = make_trace(what, seed, 1, how_much->document_tokens);
    const mixt_trace *traces[] = {one, other};
    for (int i = 0; mixt_measure_describe(i) != NULL; i++) {
        if (is_wanted(mixt_measure_describe(i))) {
            mixt_table *table = measure(mixt_measure_describe(i), traces, seed, how_much->shuffles);
            count_held(table, what, all);
            mixt_table_free(table);
        }
    }
    mixt_trace_free(one);
    mixt_trace_free(other);
}

/* Its error by the spread over traces, but not less than that of as many independent rows. */
static double rate_of(const cell *of, structure what, double *error)
{
    double n = of->seeds[what], mean = of->sum[what] / n;
    double least = sqrt(0.95 * 0.05 / fmax(1, of->rows[what]));
    *error = sqrt(fmax(0, of->squares[what] / n - mean * mean) / fmax(1, n - 1));
    *error = fmax(*error, least);
    return mean;
}

static const finding *finding_of(const char *measure)
{
    for (size_t i = 0; i < sizeof finds / sizeof *finds; i++) {
        if (strcmp(finds[i].measure, measure) == 0) {
            return &finds[i];
        }
    }
    return NULL;
}

static bool may_find(const char *measure, structure what)
{
    const finding *of = finding_of(measure);
    return of != NULL && ((of->must | of->may) & BIT(what)) != 0;
}

static const caution *caution_of(const cell *of)
{
    for (size_t i = 0; i < sizeof cautious / sizeof *cautious; i++) {
        const char *value = cautious[i].value;
        if (strcmp(cautious[i].measure, of->measure->name) == 0 &&
            (value != NULL ? strcmp(value, of->name) == 0 : !of->by_p)) {
            return &cautious[i];
        }
    }
    return NULL;
}

/* 93 to 97 of 100 within what the number of traces leaves open: 3.3 standard errors, more where few
 * traces tell of their spread, but no more than if all rows of a trace held or failed together. */
static bool is_calibrated(const cell *of, structure what)
{
    double error, rate = rate_of(of, what, &error), traces = of->seeds[what];
    double together = 3.3 * sqrt(0.95 * 0.05 / fmax(1, traces));
    double reach = 3.3 / 1.96 * error * (traces > 1 ? mixt_student_975((int)traces - 1) : INFINITY);
    reach = fmin(reach, together);
    const caution *known = caution_of(of);
    double least = known != NULL ? known->least / 100.0 : 0.93;
    bool high = rate - reach > 0.97 && known == NULL;
    return of->seeds[what] == 0 || may_find(of->measure->name, what) ||
           (rate + reach >= least && !high);
}

static void test_levels(void **state)
{
    (void)state;
    cells all = {.count = 0};
    int failed = 0;
    for (int what = UNIFORM; what < NULLS; what++) {
        for (uint64_t seed = 0; seed < (uint64_t)how_much->seeds; seed++) {
            run_seed((structure)what, seed, &all);
        }
    }
    for (int i = 0; i < all.count; i++) {
        for (int what = UNIFORM; what < NULLS; what++) {
            if (!is_calibrated(&all.of[i], (structure)what)) {
                double error, rate = rate_of(&all.of[i], (structure)what, &error);
                print_error("%s, %s: %.1f +- %.1f of 100 within the level of %s\n",
                            structure_names[what], all.of[i].measure->name, 100 * rate, 100 * error,
                            all.of[i].name);
                failed++;
            }
        }
    }
    assert_true(all.count >= 6);
    assert_int_equal(failed, 0);
}

/* -- Planted structure ---------------------------------------------------------------------- */

/* Whether any row stands out after correction. */
static bool is_found(const mixt_table *table)
{
    const mixt_column *columns;
    int count = mixt_table_columns(table, &columns);
    for (int c = 0; c < count; c++) {
        for (uint64_t row = 0; row < mixt_table_rows(table) && columns[c].role == MIXT_ROLE_Q;
             row++) {
            if (mixt_table_value(table, row, c) <= 0.05) {
                return true;
            }
        }
    }
    return false;
}

static bool has_q(const mixt_table *table)
{
    const mixt_column *columns;
    int count = mixt_table_columns(table, &columns), found = 0;
    for (int c = 0; c < count; c++) {
        found += columns[c].role == MIXT_ROLE_Q;
    }
    return found > 0;
}

/* Whether a measure corrects for many tests, which one shuffle tells as well as many. */
static bool corrects(const mixt_measure_info *info)
{
    bool found = false;
    if (info->traces == 1) {
        mixt_trace *trace = make_trace(TOPIC, 500, 0, 40);
        const mixt_trace *traces[] = {trace};
        mixt_table *table = measure(info, traces, 0, 1);
        found = table != NULL && has_q(table);
        mixt_table_free(table);
        mixt_trace_free(trace);
    }
    return found;
}

/* found [measures, STRUCTURES]: of `planted_seeds` traces; -1: the measure has no q. */
static int count_found(int (*found)[STRUCTURES])
{
    int measures = 0;
    for (; mixt_measure_describe(measures) != NULL; measures++) {
        const mixt_measure_info *info = mixt_measure_describe(measures);
        bool has = is_wanted(info) && corrects(info);
        for (int what = TOPIC; what < STRUCTURES; what++) {
            found[measures][what] = has ? 0 : -1;
            const finding *of = finding_of(info->name);
            bool must = of != NULL && (of->must & BIT(what)) != 0;
            bool may = of != NULL && (of->may & BIT(what)) != 0; /* either way says nothing */
            if (how_much == &in_check && (may || (SANITIZED && !must))) {
                continue;
            }
            for (int i = 0; i < how_much->planted_seeds && has; i++) {
                uint64_t seed = (uint64_t)(i * STRUCTURES + what);
                mixt_trace *trace = make_trace((structure)what, 500 + seed, 0, 70);
                const mixt_trace *traces[] = {trace};
                mixt_table *table = measure(info, traces, seed, how_much->planted_shuffles);
                assert_non_null(table);
                found[measures][what] += is_found(table);
                mixt_table_free(table);
                mixt_trace_free(trace);
            }
        }
    }
    return measures;
}

/* What must be found is, and of what must not one in twenty traces may be: more than 2 of the 5
 * structures come of that once in 800. */
static void test_planted(void **state)
{
    (void)state;
    int found[CELLS_MOST][STRUCTURES];
    int measures = count_found(found), failed = 0;
    for (int m = 0; m < measures; m++) {
        const char *name = mixt_measure_describe(m)->name;
        const finding *of = finding_of(name);
        int by_chance = 0;
        if (of == NULL && found[m][TOPIC] >= 0) {
            print_error("%s: tests/test_measures_calibration.c does not say what it finds\n", name);
            failed++;
        }
        for (int what = TOPIC; what < STRUCTURES && of != NULL && found[m][what] >= 0; what++) {
            if ((of->must & BIT(what)) != 0 && found[m][what] < how_much->planted_seeds) {
                print_error("%s: not found by %s\n", structure_names[what], name);
                failed++;
            }
            by_chance += may_find(name, (structure)what) ? 0 : found[m][what];
        }
        if (by_chance > 2) {
            print_error("%s: found in %d traces without what it is about\n", name, by_chance);
            failed++;
        }
    }
    assert_int_equal(failed, 0);
}

/* -- Tables --------------------------------------------------------------------------------- */

static void print_levels(void)
{
    cells all = {.count = 0};
    for (int what = UNIFORM; what < NULLS; what++) {
        for (uint64_t seed = 0; seed < (uint64_t)how_much->seeds; seed++) {
            run_seed((structure)what, seed, &all);
        }
    }
    printf("| measure | value | by |");
    for (int what = UNIFORM; what < NULLS; what++) {
        printf(" %s |", structure_names[what]);
    }
    printf(" |\n|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < all.count; i++) {
        const cell *of = &all.of[i];
        const caution *known = caution_of(of);
        printf("| %s | %s | %s |", of->measure->name, of->name, of->by_p ? "p" : "interval");
        for (int what = UNIFORM; what < NULLS; what++) {
            double error, rate = rate_of(of, (structure)what, &error);
            if (of->seeds[what] == 0) {
                printf(" - |");
            } else {
                printf(" %.1f (%.1f)%s |", 100 * rate, 100 * error,
                       may_find(of->measure->name, (structure)what) ? " *" : "");
            }
        }
        printf(" %s |\n", known != NULL ? known->why : "");
        fflush(stdout);
    }
}

static void print_planted(void)
{
    int found[CELLS_MOST][STRUCTURES];
    int measures = count_found(found);
    printf("\n| measure |");
    for (int what = TOPIC; what < STRUCTURES; what++) {
        printf(" %s |", structure_names[what]);
    }
    printf("\n|---|---|---|---|---|---|\n");
    for (int m = 0; m < measures; m++) {
        if (found[m][TOPIC] >= 0) {
            printf("| %s |", mixt_measure_describe(m)->name);
            for (int what = TOPIC; what < STRUCTURES; what++) {
                printf(" %d |", found[m][what]);
            }
            printf("\n");
        }
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "table") == 0) {
        extent wanted = in_tables;
        wanted.seeds = argc > 2 ? atoi(argv[2]) : wanted.seeds;
        wanted_names = argc > 3 ? argv + 3 : NULL;
        wanted.planted_seeds = wanted.seeds < 20 ? wanted.seeds : 20;
        how_much = &wanted;
        print_levels();
        print_planted();
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_planted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
