/* How the use of experts settles while a model is trained, from the run's own counts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/load_log.h"
#include "atlas/measures/measures.h"
#include "core/error.h"
#include "core/random.h"

/* Up to so many choices of a step are drawn one by one for the level of random choices. */
#define EXACT_CHOICES ((int64_t)1 << 16)

enum { MOST, EFFECTIVE, UNUSED, MOVED, STATISTICS };

/* Of one layer at one step. */
typedef struct layer_load {
    double value[STATISTICS], level[STATISTICS];
    int64_t choices;
} layer_load;

typedef struct training {
    const mixt_load_log *log;
    const mixt_measuring *m;
    double *made;  /* [E], counts of a draw */
    int *experts;  /* [E], shuffled */
    int64_t drawn; /* choices and tokens of the levels that were drawn last; 0: none were */
    int64_t drawn_tokens;
    double random[STATISTICS];
} training;

/* Statistics of counts [E] but how much they moved; false where all are 0. */
static bool tell(const double *counts, int experts, double value[STATISTICS])
{
    mixt_evenness even;
    bool told = mixt_evenness_of(counts, experts, &even);
    if (told) {
        value[MOST] = even.most;
        value[EFFECTIVE] = even.effective;
        value[UNUSED] = even.unused;
    }
    return told;
}

/* Counts of uniform choices into `made`: each of the tokens takes a set of experts, of sizes that
 * differ by 1 at most; of many choices, the normal distribution of the same moments. */
static void draw_counts(training *t, int64_t choices, int64_t tokens, uint32_t draw)
{
    int experts = t->log->experts;
    const mixt_random_key key = {t->m->seed, MIXT_RANDOM_RESAMPLE, draw};
    uint64_t next = 0;
    memset(t->made, 0, (size_t)experts * sizeof *t->made);
    if (choices > EXACT_CHOICES) {
        double mean = (double)choices / experts, part = mean / (double)tokens;
        mixt_null_counts(&key, experts, mean, mean * fmax(1 - part, 0), t->made);
        return;
    }
    int64_t given = 0;
    for (int64_t token = 0; token < tokens; token++) {
        int64_t until = choices * (token + 1) / tokens;
        for (int place = 0; given < until; given++, place++) {
            int other = place % experts;
            other += (int)mixt_random_below(&key, next++, (uint64_t)(experts - other));
            int expert = t->experts[other];
            t->experts[other] = t->experts[place % experts];
            t->experts[place % experts] = expert;
            t->made[expert]++;
        }
    }
}

/* The levels of uniform choices, which steps of the same size share. */
static void measure_random(training *t, int64_t choices, int64_t tokens)
{
    if (t->drawn == choices && t->drawn_tokens == tokens) {
        return;
    }
    int draws = t->m->shuffles;
    double value[STATISTICS];
    memset(t->random, 0, sizeof t->random);
    for (int draw = 0; draw < draws; draw++) {
        draw_counts(t, choices, tokens, (uint32_t)draw);
        tell(t->made, t->log->experts, value);
        for (int i = 0; i < MOVED; i++) {
            t->random[i] += value[i] / draws;
        }
    }
    t->drawn = choices;
    t->drawn_tokens = tokens;
}

static const int64_t *counts_of(const training *t, size_t line, int layer)
{
    return t->log->counts + t->log->lines[line].counts + (size_t)layer * (size_t)t->log->experts;
}

/* Half the sum of the differences of both steps' shares, and what two samples of these sizes of one
 * distribution, that of both together, would differ by: each difference is about normal. */
static void measure_move(const training *t, size_t line, int layer, layer_load *load)
{
    const int64_t *now = counts_of(t, line, layer), *before = counts_of(t, line - 1, layer);
    double all = (double)load->choices, earlier = 0, moved = 0, level = 0;
    for (int e = 0; e < t->log->experts; e++) {
        earlier += (double)before[e];
    }
    if (earlier <= 0) {
        return;
    }
    for (int e = 0; e < t->log->experts; e++) {
        double share = ((double)now[e] + (double)before[e]) / (all + earlier);
        double variance = share * (1 - share) * (1 / all + 1 / earlier);
        moved += fabs((double)now[e] / all - (double)before[e] / earlier) / 2;
        level += sqrt(2 * variance / acos(-1.0)) / 2;
    }
    load->value[MOVED] = moved;
    load->level[MOVED] = level;
}

static void measure_layer(training *t, size_t line, int layer, layer_load *load)
{
    const int64_t *counts = counts_of(t, line, layer);
    load->choices = 0;
    for (int i = 0; i < STATISTICS; i++) {
        load->value[i] = load->level[i] = NAN;
    }
    for (int e = 0; e < t->log->experts; e++) {
        load->choices += counts[e];
    }
    for (int e = 0; e < t->log->experts; e++) {
        t->made[e] = (double)counts[e];
    }
    if (!tell(t->made, t->log->experts, load->value)) {
        return;
    }
    measure_random(t, load->choices, t->log->lines[line].tokens);
    memcpy(load->level, t->random, MOVED * sizeof *load->level);
    if (line > 0) {
        measure_move(t, line, layer, load);
    }
}

#define OF_STEP(number, word, kind_, role_, level_, help_)                                         \
    {.name = word, .help = help_, .kind = kind_, .role = MIXT_ROLE_VALUE, .group = number},        \
    {                                                                                              \
        .name = word "_" level_, .kind = kind_, .role = role_, .group = number                     \
    }

static const mixt_column columns[] = {
    {.name = "step", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_KEY},
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    OF_STEP(MOST, "max_over_mean", MIXT_COLUMN_NUMBER, MIXT_ROLE_RANDOM, "random",
            "the most used expert over the mean"),
    OF_STEP(EFFECTIVE, "effective", MIXT_COLUMN_SHARE, MIXT_ROLE_RANDOM, "random",
            "exp(entropy) / E, the part of the experts in effect use"),
    OF_STEP(UNUSED, "unused", MIXT_COLUMN_SHARE, MIXT_ROLE_RANDOM, "random",
            "experts that no token of the step chose"),
    OF_STEP(MOVED, "moved", MIXT_COLUMN_SHARE, MIXT_ROLE_USE, "use",
            "choices that would have to change for the shares of the line before"),
    {.name = "choices", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT},
};
enum { COLUMNS = sizeof columns / sizeof *columns, FIRST_VALUE = 2 };

static mixt_status put(mixt_table *table, int64_t step, int number, const layer_load *load,
                       mixt_error *error)
{
    double *row = mixt_table_append(table);
    if (row == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "measure training: no memory");
    }
    row[0] = (double)step;
    row[1] = number;
    for (int i = 0; i < STATISTICS; i++) {
        row[FIRST_VALUE + 2 * i] = load->value[i];
        row[FIRST_VALUE + 2 * i + 1] = load->level[i];
    }
    row[COLUMNS - 1] = (double)load->choices;
    return MIXT_OK;
}

/* The mean over layers, then each layer. */
static mixt_status put_step(training *t, size_t line, layer_load *loads, mixt_table *table,
                            mixt_error *error)
{
    int layers = t->log->layers, with[STATISTICS] = {0};
    layer_load all = {.choices = 0};
    for (int layer = 0; layer < layers; layer++) {
        measure_layer(t, line, layer, &loads[layer]);
        all.choices += loads[layer].choices;
        for (int i = 0; i < STATISTICS; i++) {
            bool has = !isnan(loads[layer].value[i]);
            all.value[i] += has ? loads[layer].value[i] : 0;
            all.level[i] += has ? loads[layer].level[i] : 0;
            with[i] += has;
        }
    }
    for (int i = 0; i < STATISTICS; i++) {
        all.value[i] = with[i] > 0 ? all.value[i] / with[i] : NAN;
        all.level[i] = with[i] > 0 ? all.level[i] / with[i] : NAN;
    }
    int64_t step = t->log->lines[line].step;
    MIXT_TRY(put(table, step, -1, &all, error));
    for (int layer = 0; layer < layers && layers > 1; layer++) {
        MIXT_TRY(put(table, step, t->log->numbers[layer], &loads[layer], error));
    }
    return MIXT_OK;
}

static mixt_status fill(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    const mixt_load_log *log = m->log;
    size_t experts = (size_t)log->experts;
    training t = {.log = log, .m = m};
    layer_load *loads = calloc((size_t)log->layers, sizeof *loads);
    t.made = calloc(experts, sizeof *t.made);
    t.experts = calloc(experts, sizeof *t.experts);
    mixt_status status = MIXT_OK;
    if (loads == NULL || t.made == NULL || t.experts == NULL) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "measure training: no memory");
    }
    for (size_t e = 0; e < experts && status == MIXT_OK; e++) {
        t.experts[e] = (int)e;
    }
    for (size_t line = 0; line < log->count && status == MIXT_OK; line++) {
        status = put_step(&t, line, loads, table, error);
    }
    free(loads);
    free(t.made);
    free(t.experts);
    return status;
}

const mixt_measure_type mixt_measure_training = {
    .info = {.name = "training",
             .title = "Use of experts over training",
             .source = "the load report of OLMoE (2409.02060) and of Megatron-LM's logs",
             .about = "Step by step of a run's log: how unevenly its tokens fell on the experts, "
                      "and how far "
                      "the shares have moved since the line before.",
             .traces = 0},
    .columns = columns,
    .column_count = COLUMNS,
    .fill = fill};
