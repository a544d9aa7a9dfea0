/* How evenly a layer's experts are used, and how a token's weight lies on its choices. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/measures/measures.h"
#include "core/error.h"
#include "core/random.h"

/* Up to so many choices of a layer are drawn one by one for the level of random choices. */
#define EXACT_CHOICES ((uint64_t)1 << 16)

enum { JAIN, EFFECTIVE, MOST, VARIATION, TOPS, TOPS_MOST = 6, STATISTICS = TOPS + TOPS_MOST };

/* What is told of the use of a layer's experts. */
typedef struct layer_use {
    double value[STATISTICS], random[STATISTICS];
    mixt_span span[STATISTICS];
    double without[STATISTICS]
                  [MIXT_MEASURE_GROUPS]; /* with each group left out, where that is told */
    bool told[MIXT_MEASURE_GROUPS];
    uint64_t choices;
} layer_use;

typedef struct use {
    const mixt_measuring *m;
    int tops[TOPS_MOST]; /* numbers of experts, rising */
    int top_count;
    uint64_t *counts; /* [groups, E] */
    double *made;     /* [E], counts that a statistic is taken of */
    double *sorted;   /* [E] */
    uint16_t *routes; /* [T, k], made-up ones, or NULL */
} use;

static mixt_status no_memory(mixt_error *error)
{
    return mixt_fail(error, MIXT_ERROR_MEMORY, "measure of use: no memory");
}

/* 1, 2, 5, and a tenth, a quarter and half of the experts, each once. */
static void choose_tops(use *u)
{
    int experts = u->m->trace->info.experts;
    const int wanted[TOPS_MOST] = {
        1, 2, 5, (experts + 9) / 10, (experts + 3) / 4, (experts + 1) / 2};
    for (int i = 0; i < TOPS_MOST; i++) {
        int at = u->top_count;
        while (at > 0 && u->tops[at - 1] > wanted[i]) {
            at--;
        }
        if (wanted[i] > experts || (at > 0 && u->tops[at - 1] == wanted[i])) {
            continue;
        }
        memmove(u->tops + at + 1, u->tops + at, (size_t)(u->top_count - at) * sizeof *u->tops);
        u->tops[at] = wanted[i];
        u->top_count++;
    }
}

bool mixt_evenness_of(const double *counts, int experts, mixt_evenness *evenness)
{
    double total = 0, squares = 0, entropy = 0, most = 0, unused = 0;
    for (int e = 0; e < experts; e++) {
        total += counts[e];
    }
    if (total <= 0) {
        return false;
    }
    for (int e = 0; e < experts; e++) {
        double share = counts[e] / total;
        squares += share * share;
        entropy -= share > 0 ? share * log(share) : 0;
        most = fmax(most, share);
        unused += counts[e] <= 0;
    }
    *evenness = (mixt_evenness){.jain = 1 / (experts * squares),
                                .effective = exp(entropy) / experts,
                                .most = most * experts,
                                .variation = sqrt(fmax(experts * squares - 1, 0)),
                                .unused = unused / experts};
    return true;
}

static int falling(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x < *y) - (*x > *y);
}

/* Statistics of the counts `made`; false where nothing was chosen. */
static bool tell(const use *u, double value[STATISTICS])
{
    int experts = u->m->trace->info.experts;
    mixt_evenness even;
    if (!mixt_evenness_of(u->made, experts, &even)) {
        return false;
    }
    value[JAIN] = even.jain;
    value[EFFECTIVE] = even.effective;
    value[MOST] = even.most;
    value[VARIATION] = even.variation;
    memcpy(u->sorted, u->made, (size_t)experts * sizeof *u->sorted);
    qsort(u->sorted, (size_t)experts, sizeof *u->sorted, falling);
    double sum = 0, total = 0;
    for (int e = 0; e < experts; e++) {
        total += u->made[e];
    }
    for (int e = 0, top = 0; top < u->top_count; e++) {
        sum += u->sorted[e] / total;
        if (e + 1 == u->tops[top]) {
            value[TOPS + top++] = sum;
        }
    }
    return true;
}

/* The counts of all groups but one; -1: of all. */
static void add_groups(const use *u, int left_out)
{
    size_t experts = (size_t)u->m->trace->info.experts;
    memset(u->made, 0, experts * sizeof *u->made);
    for (int g = 0; g < u->m->groups; g++) {
        for (size_t e = 0; e < experts && g != left_out; e++) {
            u->made[e] += (double)u->counts[(size_t)g * experts + e];
        }
    }
}

/* Mean and variance of the tokens that take an expert, where each takes any set of its size. */
static void uniform_moments(const use *u, int layer, double *mean, double *variance)
{
    const mixt_trace *trace = u->m->trace;
    double experts = trace->info.experts;
    *mean = *variance = 0;
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        double part = mixt_trace_set_size(trace, layer, mixt_trace_experts(trace, layer, i));
        part /= experts;
        *mean += part;
        *variance += part * (1 - part);
    }
}

/* Counts of uniform choices into `made`: drawn token by token, or, of many, from the normal
 * distribution that has the same mean, variance and covariances. */
static mixt_status draw_counts(const use *u, int layer, uint32_t draw, const double moments[2],
                               mixt_error *error)
{
    const mixt_trace *trace = u->m->trace;
    int experts = trace->info.experts;
    uint64_t places = trace->info.tokens * (uint64_t)trace->info.experts_per_token;
    if (u->routes != NULL) {
        MIXT_TRY(mixt_null_draw(u->m, layer, MIXT_NULL_UNIFORM, draw, u->routes, error));
        memset(u->made, 0, (size_t)experts * sizeof *u->made);
        for (uint64_t i = 0; i < places; i++) {
            if (u->routes[i] != MIXT_TRACE_NONE) {
                u->made[u->routes[i]]++;
            }
        }
        return MIXT_OK;
    }
    const mixt_random_key key = {u->m->seed + ((uint64_t)layer << 32), MIXT_RANDOM_RESAMPLE, draw};
    mixt_null_counts(&key, experts, moments[0], moments[1], u->made);
    return MIXT_OK;
}

static mixt_status measure_random(const use *u, int layer, layer_use *made, mixt_error *error)
{
    double moments[2], value[STATISTICS] = {0};
    int draws = u->m->shuffles;
    uniform_moments(u, layer, &moments[0], &moments[1]);
    for (int i = 0; i < STATISTICS; i++) {
        made->random[i] = 0;
    }
    for (int draw = 0; draw < draws; draw++) {
        MIXT_TRY(draw_counts(u, layer, (uint32_t)draw, moments, error));
        bool told = tell(u, value);
        for (int i = 0; i < STATISTICS; i++) {
            made->random[i] += told ? value[i] / draws : NAN;
        }
    }
    return MIXT_OK;
}

/* The intervals, of the groups that were told. */
static void measure_spans(const use *u, layer_use *made)
{
    double without[MIXT_MEASURE_GROUPS];
    for (int i = 0; i < STATISTICS; i++) {
        bool open = i == MOST || i == VARIATION;
        int groups = 0;
        for (int g = 0; g < u->m->groups; g++) {
            without[groups] = made->without[i][g];
            groups += made->told[g];
        }
        made->span[i] = mixt_jackknife(made->value[i], without, groups, 0, open ? INFINITY : 1);
    }
}

static mixt_status measure_layer(const use *u, int layer, layer_use *made, mixt_error *error)
{
    double value[STATISTICS] = {0};
    size_t experts = (size_t)u->m->trace->info.experts;
    mixt_measure_counts(u->m, layer, u->counts);
    *made = (layer_use){.choices = 0};
    for (int i = 0; i < STATISTICS; i++) {
        made->value[i] = NAN;
    }
    add_groups(u, -1);
    tell(u, made->value);
    for (int g = 0; g < u->m->groups; g++) {
        uint64_t of_group = 0;
        for (size_t e = 0; e < experts; e++) {
            of_group += u->counts[(size_t)g * experts + e];
        }
        made->choices += of_group;
        add_groups(u, g);
        made->told[g] = of_group > 0 && tell(u, value);
        for (int i = 0; i < STATISTICS; i++) {
            made->without[i][g] = value[i];
        }
    }
    measure_spans(u, made);
    return measure_random(u, layer, made, error);
}

/* Adds a layer to what all of them, `layers`, have on average. Without a layer that has no choices
 * there would be no mean, so it is left out: `with` counts the others. */
static void add_to_all(const use *u, const layer_use *of, layer_use *all, int *with)
{
    bool first = *with == 0;
    if (of->choices == 0) {
        return;
    }
    ++*with;
    all->choices += of->choices;
    for (int i = 0; i < STATISTICS; i++) {
        all->value[i] += (of->value[i] - all->value[i]) / *with;
        all->random[i] += (of->random[i] - all->random[i]) / *with;
        for (int g = 0; g < u->m->groups; g++) {
            /* where a group is all that the layer has, the mean without it is of the others */
            double without = of->told[g] ? of->without[i][g] : of->value[i];
            all->without[i][g] += (without - all->without[i][g]) / *with;
        }
    }
    for (int g = 0; g < u->m->groups; g++) {
        all->told[g] = (all->told[g] || first) && of->told[g];
    }
}

typedef mixt_status (*put_use)(const use *u, int number, const layer_use *of, mixt_table *table,
                               mixt_error *error);

/* The mean over layers, then each of them. */
static mixt_status measure_all(const use *u, put_use put, mixt_table *table, mixt_error *error)
{
    const mixt_trace *trace = u->m->trace;
    int layers = trace->info.layers, with = 0;
    layer_use *of = calloc((size_t)layers + 1, sizeof *of), *all = of + layers;
    mixt_status status = of != NULL ? MIXT_OK : no_memory(error);
    for (int layer = 0; layer < layers && status == MIXT_OK; layer++) {
        status = measure_layer(u, layer, &of[layer], error);
        if (status == MIXT_OK) {
            add_to_all(u, &of[layer], all, &with);
        }
    }
    if (status == MIXT_OK && layers > 1 && with > 0) {
        measure_spans(u, all);
        status = put(u, -1, all, table, error);
    }
    for (int layer = 0; layer < layers && status == MIXT_OK; layer++) {
        status = put(u, trace->layer_numbers[layer], &of[layer], table, error);
    }
    free(of);
    return status;
}

static mixt_status begin(const mixt_measuring *m, use *u, mixt_error *error)
{
    size_t experts = (size_t)m->trace->info.experts;
    uint64_t places = m->trace->info.tokens * (uint64_t)m->trace->info.experts_per_token;
    *u = (use){.m = m};
    choose_tops(u);
    u->counts = calloc((size_t)m->groups * experts, sizeof *u->counts);
    u->made = calloc(experts, sizeof *u->made);
    u->sorted = calloc(experts, sizeof *u->sorted);
    u->routes = places <= EXACT_CHOICES ? calloc(places + 1, sizeof *u->routes) : NULL;
    bool whole = u->counts != NULL && u->made != NULL && u->sorted != NULL &&
                 (u->routes != NULL || places > EXACT_CHOICES);
    return whole ? MIXT_OK : no_memory(error);
}

static void end(use *u)
{
    free(u->counts);
    free(u->made);
    free(u->sorted);
    free(u->routes);
}

/* ---- balance */

#define OF_BALANCE(number, word, kind_, help_)                                                     \
    {.name = word, .help = help_, .kind = kind_, .role = MIXT_ROLE_VALUE, .group = number},        \
        {.name = word "_random", .kind = kind_, .role = MIXT_ROLE_RANDOM, .group = number},        \
        {.name = word "_low", .kind = kind_, .role = MIXT_ROLE_LOW, .group = number},              \
    {                                                                                              \
        .name = word "_high", .kind = kind_, .role = MIXT_ROLE_HIGH, .group = number               \
    }

static const mixt_column balance_columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    OF_BALANCE(0, "jain", MIXT_COLUMN_NUMBER, "Jain's index, 1 where all are used alike"),
    OF_BALANCE(1, "effective", MIXT_COLUMN_SHARE,
               "exp(entropy) / E, the part of the experts in effect use"),
    OF_BALANCE(2, "max_over_mean", MIXT_COLUMN_NUMBER, "the most used expert over the mean"),
    OF_BALANCE(3, "variation", MIXT_COLUMN_NUMBER,
               "standard deviation of the experts' use over its mean"),
    {.name = "choices", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT},
};
enum { BALANCE_COLUMNS = sizeof balance_columns / sizeof *balance_columns };

static mixt_status put_balance(const use *u, int number, const layer_use *of, mixt_table *table,
                               mixt_error *error)
{
    (void)u;
    double *row = mixt_table_append(table);
    if (row == NULL) {
        return no_memory(error);
    }
    row[0] = number;
    for (int i = JAIN; i <= VARIATION; i++) {
        row[1 + 4 * i] = of->value[i];
        row[2 + 4 * i] = of->random[i];
        row[3 + 4 * i] = of->span[i].low;
        row[4 + 4 * i] = of->span[i].high;
    }
    row[BALANCE_COLUMNS - 1] = (double)of->choices;
    return MIXT_OK;
}

static mixt_status fill_use(const mixt_measuring *m, put_use put, mixt_table *table,
                            mixt_error *error)
{
    use u;
    mixt_status status = begin(m, &u, error);
    if (status == MIXT_OK) {
        status = measure_all(&u, put, table, error);
    }
    end(&u);
    return status;
}

static mixt_status fill_balance(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    return fill_use(m, put_balance, table, error);
}

const mixt_measure_type mixt_measure_balance = {
    .info = {.name = "balance",
             .title = "Balance of the experts' use",
             .source = "Jain, Chiu & Hawe 1984, DEC-TR-301; Shazeer et al. 2017, 1701.06538",
             .about = "How evenly each layer's choices lie on its experts, beside what uniform "
                      "random choices of as many tokens give.",
             .traces = 1},
    .columns = balance_columns,
    .column_count = BALANCE_COLUMNS,
    .fill = fill_balance,
};

/* ---- concentration */

static const mixt_column concentration_columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "experts",
     .help = "so many, the most used ones",
     .kind = MIXT_COLUMN_COUNT,
     .role = MIXT_ROLE_KEY},
    {.name = "share",
     .help = "of the layer's choices",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_VALUE},
    {.name = "random",
     .help = "of as many uniform choices, whose most used experts are picked too",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_RANDOM},
    {.name = "low", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_LOW},
    {.name = "high", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_HIGH},
    {.name = "even", .help = "N/E", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_SUPPORT},
    {.name = "choices", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT},
};
enum { CONCENTRATION_COLUMNS = sizeof concentration_columns / sizeof *concentration_columns };

static mixt_status put_tops(const use *u, int number, const layer_use *of, mixt_table *table,
                            mixt_error *error)
{
    for (int top = 0; top < u->top_count; top++) {
        double *row = mixt_table_append(table);
        if (row == NULL) {
            return no_memory(error);
        }
        row[0] = number;
        row[1] = u->tops[top];
        row[2] = of->value[TOPS + top];
        row[3] = of->random[TOPS + top];
        row[4] = of->span[TOPS + top].low;
        row[5] = of->span[TOPS + top].high;
        row[6] = (double)u->tops[top] / u->m->trace->info.experts;
        row[7] = (double)of->choices;
    }
    return MIXT_OK;
}

static mixt_status fill_concentration(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    return fill_use(m, put_tops, table, error);
}

const mixt_measure_type mixt_measure_concentration = {
    .info = {.name = "concentration",
             .title = "Share of the most used experts",
             .source = "Megatron-LM, tools/moe_routing (PR 5220)",
             .about = "The part of a layer's choices that its N most used experts get.",
             .traces = 1},
    .columns = concentration_columns,
    .column_count = CONCENTRATION_COLUMNS,
    .fill = fill_concentration,
};

/* ---- ranks */

static const mixt_column rank_columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "rank",
     .help = "1: a token's first choice",
     .kind = MIXT_COLUMN_COUNT,
     .role = MIXT_ROLE_KEY},
    {.name = "share",
     .help = "of the token's weights, the mean of those with an expert at this place",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_VALUE},
    {.name = "even",
     .help = "equal weights on a token's choices",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_RANDOM},
    {.name = "low", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_LOW},
    {.name = "high", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_HIGH},
    {.name = "weight",
     .help = "as the layer multiplies by it, scaled or not",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE,
     .group = 1},
    {.name = "weight_low", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_LOW, .group = 1},
    {.name = "weight_high", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_HIGH, .group = 1},
    {.name = "tokens", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT},
};
enum { RANK_COLUMNS = sizeof rank_columns / sizeof *rank_columns };

enum { SUM_SHARE, SUM_EVEN, SUM_WEIGHT, SUM_TOKENS, SUMS };

/* sums [SUMS, k, MIXT_MEASURE_GROUPS] of a layer; `values` [k] is scratch. */
static void sum_weights(const mixt_measuring *m, int layer, float *values, double *sums)
{
    const mixt_trace *trace = m->trace;
    size_t k = (size_t)trace->info.experts_per_token, step = k * MIXT_MEASURE_GROUPS;
    memset(sums, 0, SUMS * step * sizeof *sums);
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        const uint16_t *row = mixt_trace_experts(trace, layer, i);
        double total = 0;
        int size = mixt_trace_set_size(trace, layer, row);
        mixt_f16_to_f32(mixt_trace_weights(trace, layer, i), values, k);
        for (size_t c = 0; c < k; c++) {
            total += row[c] != MIXT_TRACE_NONE ? (double)values[c] : 0;
        }
        for (size_t c = 0; c < k && size > 0; c++) {
            if (row[c] != MIXT_TRACE_NONE) {
                double *at = sums + c * MIXT_MEASURE_GROUPS + m->group[trace->document[i]];
                at[SUM_SHARE * step] += total > 0 ? (double)values[c] / total : 1.0 / size;
                at[SUM_EVEN * step] += 1.0 / size;
                at[SUM_WEIGHT * step] += (double)values[c];
                at[SUM_TOKENS * step] += 1;
            }
        }
    }
}

static double sum_of(const double *groups)
{
    double sum = 0;
    for (int g = 0; g < MIXT_MEASURE_GROUPS; g++) {
        sum += groups[g];
    }
    return sum;
}

static mixt_status put_ranks(const mixt_measuring *m, int layer, const double *sums,
                             mixt_table *table, mixt_error *error)
{
    size_t step = (size_t)m->trace->info.experts_per_token * MIXT_MEASURE_GROUPS;
    for (int c = 0; c < m->trace->chosen[layer]; c++) {
        const double *at = sums + (size_t)c * MIXT_MEASURE_GROUPS;
        double *row = mixt_table_append(table);
        if (row == NULL) {
            return no_memory(error);
        }
        double tokens = sum_of(at + SUM_TOKENS * step);
        row[0] = m->trace->layer_numbers[layer];
        row[1] = c + 1;
        row[9] = tokens;
        if (tokens > 0) {
            mixt_span share = mixt_jackknife_ratio(at + SUM_SHARE * step, at + SUM_TOKENS * step,
                                                   m->groups, 0, 1);
            mixt_span weight = mixt_jackknife_ratio(at + SUM_WEIGHT * step, at + SUM_TOKENS * step,
                                                    m->groups, -INFINITY, INFINITY);
            row[2] = sum_of(at + SUM_SHARE * step) / tokens;
            row[3] = sum_of(at + SUM_EVEN * step) / tokens;
            row[4] = share.low;
            row[5] = share.high;
            row[6] = sum_of(at + SUM_WEIGHT * step) / tokens;
            row[7] = weight.low;
            row[8] = weight.high;
        }
    }
    return MIXT_OK;
}

static mixt_status fill_ranks(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    size_t k = (size_t)m->trace->info.experts_per_token;
    double *sums = calloc(SUMS * k * MIXT_MEASURE_GROUPS, sizeof *sums);
    float *values = calloc(k, sizeof *values);
    mixt_status status = sums != NULL && values != NULL ? MIXT_OK : no_memory(error);
    for (int layer = 0; layer < m->trace->info.layers && status == MIXT_OK; layer++) {
        sum_weights(m, layer, values, sums);
        status = put_ranks(m, layer, sums, table, error);
    }
    free(sums);
    free(values);
    return status;
}

const mixt_measure_type mixt_measure_ranks = {
    .info = {.name = "ranks",
             .title = "Weights by rank of the choice",
             .source = "the trace's router weights; Jiang et al. 2024, 2401.04088 for their use",
             .about = "How much of a token's weight lies on its first, second, ... choice.",
             .traces = 1},
    .columns = rank_columns,
    .column_count = RANK_COLUMNS,
    .fill = fill_ranks,
};
