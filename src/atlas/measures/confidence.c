/* Whether routers choose more surely where the model predicts well. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/measures/measures.h"
#include "core/error.h"

#define GROUPS MIXT_MEASURE_GROUPS
#define HALVES 0x7C00 /* halves from 0 to below infinity, whose bits are in their order */

static const char *const signals[] = {"entropy", "margin", NULL};

static const mixt_column columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "signal",
     .help = "what says how sure the router is",
     .kind = MIXT_COLUMN_WORD,
     .role = MIXT_ROLE_KEY,
     .words = signals},
    {.name = "difference",
     .help = "mean where the next token was predicted right, less the mean where it was not",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE},
    {.name = "random", .help = "0", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_RANDOM},
    {.name = "use",
     .help = "what is left of it where the outcomes change places within each document",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_USE},
    {.name = "low", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_LOW},
    {.name = "high", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_HIGH},
    {.name = "p",
     .help = "of as large a distance from the level `use`: Student's t over groups of documents",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_P},
    {.name = "q", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_Q},
    {.name = "larger",
     .help = "chance that a token that was predicted right has the larger signal than one that was "
             "not; 50 %: no difference",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_EFFECT},
    {.name = "right",
     .help = "mean where the next token was predicted right",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE,
     .group = 1},
    {.name = "wrong",
     .help = "mean where it was not",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE,
     .group = 2},
    {.name = "tokens", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT},
};
enum {
    LAYER,
    SIGNAL,
    DIFFERENCE,
    RANDOM,
    USE,
    LOW,
    HIGH,
    P,
    Q,
    LARGER,
    RIGHT,
    WRONG,
    TOKENS,
    COLUMNS
};

/* Of a token: whether the next one is known and was predicted. */
enum { OUTCOME_NONE, OUTCOME_WRONG, OUTCOME_RIGHT };

typedef struct comparing {
    const mixt_measuring *m;
    uint8_t *outcome;    /* [T] */
    float *values;       /* [T] of the signal, NaN: none */
    float *mean;         /* [T] over layers */
    uint16_t *layers;    /* [T] that are in it */
    uint64_t *histogram; /* [2, HALVES]: wrong, right, by the signal's bits as a half */
} comparing;

/* Sums of one signal at one layer. */
typedef struct sums {
    double sum[2][GROUPS], count[2][GROUPS]; /* wrong, right */
    double expected[GROUPS]; /* of the sum where it was right, with outcomes in other places */
} sums;

static void find_outcomes(const mixt_trace *trace, uint8_t *outcome)
{
    for (uint64_t i = 0; i + 1 < trace->info.tokens; i++) {
        if (trace->document[i] == trace->document[i + 1]) {
            outcome[i] =
                trace->predicted[i] == trace->tokens[i + 1] ? OUTCOME_RIGHT : OUTCOME_WRONG;
        }
    }
}

/* One document, tokens [begin, end). Where r of its n outcomes are right and change places, their
 * sum has the mean r S / n. */
static void add_document(const comparing *c, uint64_t begin, uint64_t end, int group, sums *s)
{
    double n = 0, right = 0, sum = 0;
    for (uint64_t i = begin; i < end; i++) {
        if (c->outcome[i] == OUTCOME_NONE || isnan(c->values[i])) {
            continue;
        }
        double value = (double)c->values[i];
        int which = c->outcome[i] == OUTCOME_RIGHT;
        s->sum[which][group] += value;
        s->count[which][group]++;
        c->histogram[which * HALVES + mixt_f16_bits(c->values[i])]++;
        n++;
        right += which;
        sum += value;
    }
    if (n > 0) {
        s->expected[group] += right * sum / n;
    }
}

/* The difference and its level, of all groups but one; -1: of all. False where there is nothing to
 * compare. */
static bool find_difference(const sums *s, int groups, int left_out, double *value, double *level)
{
    double sum[2] = {0}, count[2] = {0}, expected = 0;
    for (int g = 0; g < groups; g++) {
        for (int which = 0; which < 2 && g != left_out; which++) {
            sum[which] += s->sum[which][g];
            count[which] += s->count[which][g];
        }
        expected += g != left_out ? s->expected[g] : 0;
    }
    if (!(count[0] > 0 && count[1] > 0)) {
        return false;
    }
    *value = sum[1] / count[1] - sum[0] / count[0];
    *level = expected / count[1] - (sum[0] + sum[1] - expected) / count[0];
    return true;
}

/* Chance that a right one is larger than a wrong one, ties by half. */
static double larger(const uint64_t *histogram)
{
    double below = 0, wins = 0, right = 0;
    for (size_t v = 0; v < HALVES; v++) {
        double wrong_here = (double)histogram[v], right_here = (double)histogram[HALVES + v];
        wins += right_here * (below + wrong_here / 2);
        below += wrong_here;
        right += right_here;
    }
    return wins / (below * right);
}

static mixt_status put_row(const comparing *c, const int key[2], const sums *s, mixt_table *table,
                           mixt_error *error)
{
    double sum[2] = {0}, count[2] = {0}, beyond[GROUPS], value, level;
    int groups = 0;
    for (int g = 0; g < c->m->groups; g++) {
        bool held_some = s->count[0][g] + s->count[1][g] > 0;
        for (int which = 0; which < 2; which++) {
            sum[which] += s->sum[which][g];
            count[which] += s->count[which][g];
        }
        if (held_some && find_difference(s, c->m->groups, g, &value, &level)) {
            beyond[groups++] = value - level;
        }
    }
    if (!find_difference(s, c->m->groups, -1, &value, &level)) {
        return MIXT_OK;
    }
    double *row = mixt_table_append(table);
    if (row == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "measure confidence: no memory");
    }
    row[LAYER] = key[0] < 0 ? -1 : c->m->trace->layer_numbers[key[0]];
    row[SIGNAL] = key[1];
    row[RIGHT] = sum[1] / count[1];
    row[WRONG] = sum[0] / count[0];
    row[DIFFERENCE] = value;
    row[RANDOM] = 0;
    row[USE] = level;
    mixt_span span = mixt_jackknife(value, beyond, groups, -INFINITY, INFINITY);
    row[LOW] = span.low;
    row[HIGH] = span.high;
    row[P] = mixt_jackknife_p(value - level, beyond, groups);
    row[LARGER] = larger(c->histogram);
    row[TOKENS] = count[0] + count[1];
    return MIXT_OK;
}

static mixt_status compare(const comparing *c, const int key[2], mixt_table *table,
                           mixt_error *error)
{
    sums s = {0};
    const mixt_units *units = c->m->units;
    memset(c->histogram, 0, 2 * HALVES * sizeof *c->histogram);
    for (size_t d = 0; d < units->run_count; d++) {
        add_document(c, units->runs[d].begin, units->runs[d].end, c->m->group[d], &s);
    }
    return put_row(c, key, &s, table, error);
}

/* One signal, [L, T] halves: every layer, then the mean over layers. */
static mixt_status compare_signal(const comparing *c, int signal, const uint16_t *halves,
                                  mixt_table *table, mixt_error *error)
{
    uint64_t tokens = c->m->trace->info.tokens;
    memset(c->mean, 0, tokens * sizeof *c->mean);
    memset(c->layers, 0, tokens * sizeof *c->layers);
    for (int layer = 0; layer < c->m->trace->info.layers; layer++) {
        const uint16_t *of = halves + (uint64_t)layer * tokens;
        mixt_f16_to_f32(of, c->values, tokens);
        for (uint64_t i = 0; i < tokens; i++) {
            bool there = of[i] < HALVES;
            c->mean[i] += there ? c->values[i] : 0;
            c->layers[i] = (uint16_t)(c->layers[i] + there);
        }
        MIXT_TRY(compare(c, (int[2]){layer, signal}, table, error));
    }
    for (uint64_t i = 0; i < tokens; i++) {
        c->values[i] = c->layers[i] > 0 ? c->mean[i] / (float)c->layers[i] : NAN;
    }
    return compare(c, (int[2]){-1, signal}, table, error);
}

static mixt_status compare_all(const comparing *c, mixt_table *table, mixt_error *error)
{
    const mixt_trace *trace = c->m->trace;
    uint64_t known = 0, right = 0;
    find_outcomes(trace, c->outcome);
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        known += c->outcome[i] != OUTCOME_NONE;
        right += c->outcome[i] == OUTCOME_RIGHT;
    }
    if (trace->entropies != NULL) {
        MIXT_TRY(compare_signal(c, 0, trace->entropies, table, error));
    }
    if (trace->margins != NULL) {
        MIXT_TRY(compare_signal(c, 1, trace->margins, table, error));
    }
    mixt_buffer_format(&table->note,
                       "The next token was predicted right behind %llu of %llu tokens.",
                       (unsigned long long)right, (unsigned long long)known);
    return mixt_table_discover(table, error);
}

static mixt_status fill(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    const mixt_trace *trace = m->trace;
    size_t tokens = (size_t)trace->info.tokens;
    if (trace->predicted == NULL || (trace->entropies == NULL && trace->margins == NULL)) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "measure confidence: the trace has no predicted tokens with entropies or "
                         "margins (mixt trace of this version writes them)");
    }
    comparing c = {.m = m,
                   .outcome = calloc(tokens, sizeof *c.outcome),
                   .values = calloc(tokens, sizeof *c.values),
                   .mean = calloc(tokens, sizeof *c.mean),
                   .layers = calloc(tokens, sizeof *c.layers),
                   .histogram = calloc((size_t)2 * HALVES, sizeof *c.histogram)};
    bool complete = c.outcome != NULL && c.values != NULL && c.mean != NULL && c.layers != NULL &&
                    c.histogram != NULL;
    mixt_status status = complete
                             ? compare_all(&c, table, error)
                             : mixt_fail(error, MIXT_ERROR_MEMORY, "measure confidence: no memory");
    free(c.outcome);
    free(c.values);
    free(c.mean);
    free(c.layers);
    free(c.histogram);
    return status;
}

const mixt_measure_type mixt_measure_confidence = {
    .info = {.name = "confidence",
             .title = "Surer routers where the model is right",
             .source = "2605.07260 (routers choose well where the token is easy)",
             .about = "The entropy of the routers and their margins where the model predicted the "
                      "next token right, against where it did not.",
             .traces = 1},
    .columns = columns,
    .column_count = COLUMNS,
    .fill = fill,
};
