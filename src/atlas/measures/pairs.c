/* How far two routers agree about the same text: a checkpoint and the last one, a model and its
 * quantised copy, one model in two contexts. docs/measures/pairs.md has the formulas. */
#include "atlas/measures/pairs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/random.h"

/* Pairs of tokens that a level without closed form is the mean of: so many for every shuffle. */
#define PAIRS_OF_SHUFFLE 256

/* -- Two traces of one text ------------------------------------------------------------------ */

static const char *domain_at(const mixt_trace *trace, uint64_t index)
{
    return trace->domain_names[trace->domain[index]];
}

/* Where the usual cause of another text lies. */
#define SAME_SWITCHES "; were both made with the same --data, -n and --heldout?"

static mixt_status check_text(const mixt_measuring *m, const char *name, mixt_error *error)
{
    const mixt_trace *a = m->traces[0], *b = m->traces[1];
    uint64_t least = a->info.tokens < b->info.tokens ? a->info.tokens : b->info.tokens;
    for (uint64_t i = 0; i < least; i++) {
        unsigned long long at = i;
        if (a->tokens[i] != b->tokens[i]) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                             "measure %s: the traces are not of the same text: token %llu, in "
                             "document %d of %.80s, is %d and %d" SAME_SWITCHES,
                             name, at, (int)a->document[i], domain_at(a, i), (int)a->tokens[i],
                             (int)b->tokens[i]);
        }
        if (a->document[i] != b->document[i]) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                             "measure %s: the traces cut their text otherwise: token %llu, of "
                             "%.80s, is in documents %d and %d" SAME_SWITCHES,
                             name, at, domain_at(a, i), (int)a->document[i], (int)b->document[i]);
        }
        bool begins = i == 0 || a->document[i] != a->document[i - 1];
        if (begins && strcmp(domain_at(a, i), domain_at(b, i)) != 0) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                             "measure %s: the traces name domains otherwise: domain[%llu] is "
                             "%.80s and %.80s",
                             name, at, domain_at(a, i), domain_at(b, i));
        }
    }
    if (a->info.tokens != b->info.tokens) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "measure %s: the traces are not of the same text: they have %llu and %llu "
                         "tokens" SAME_SWITCHES,
                         name, (unsigned long long)a->info.tokens,
                         (unsigned long long)b->info.tokens);
    }
    return MIXT_OK;
}

mixt_status mixt_pair_check(const mixt_measuring *m, const char *name, bool same_experts,
                            mixt_error *error)
{
    const mixt_trace *a = m->traces[0], *b = m->traces[1];
    MIXT_TRY(check_text(m, name, error));
    if (a->info.layers != b->info.layers) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "measure %s: the traces have %d and %d layers with experts", name,
                         a->info.layers, b->info.layers);
    }
    for (int layer = 0; layer < a->info.layers; layer++) {
        if (a->layer_numbers[layer] != b->layer_numbers[layer]) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                             "measure %s: the traces' layers differ: layers[%d] is %d and %d", name,
                             layer, a->layer_numbers[layer], b->layer_numbers[layer]);
        }
    }
    if (same_experts && a->info.experts != b->info.experts) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "measure %s: the models have %d and %d experts, whose numbers do not "
                         "correspond (kinship compares them)",
                         name, a->info.experts, b->info.experts);
    }
    return MIXT_OK;
}

/* -- A number of a layer and domain, with its levels ----------------------------------------- */

/* Sums over tokens by group of documents; the levels are summed over the same tokens. */
typedef struct cell {
    double sum[MIXT_MEASURE_GROUPS], count[MIXT_MEASURE_GROUPS];
    double random, use;
} cell;

#define NUMBERS_MAX 3

/* What a measure of this file adds up: NUMBERS_MAX numbers at most of each token. */
typedef struct pairing {
    const mixt_measuring *m;
    mixt_table *table;
    int numbers;
    bool by_domain; /* a row for each domain beside those over all */
    cell *layer;    /* [domains, numbers]: of the layer on its way */
    cell *all;      /* [domains, numbers]: of all layers */
    uint64_t *seen; /* [E], see mixt_pair_compare */
    uint64_t stamp;
    double *scratch;  /* [size of the measure's choice] */
    uint64_t skipped; /* places that could not be compared */
} pairing;

static double total_of(const double *by_group, int groups)
{
    double total = 0;
    for (int g = 0; g < groups; g++) {
        total += by_group[g];
    }
    return total;
}

/* Value, random, use, low, high into cells [5] of a row. Returns what the value rests on. */
static double put_cell(const pairing *p, const cell *c, double most, double *to)
{
    int groups = p->m->groups, left = 0;
    double sum = total_of(c->sum, groups), count = total_of(c->count, groups);
    double without[MIXT_MEASURE_GROUPS];
    for (int g = 0; g < groups; g++) {
        if (c->count[g] > 0 && c->count[g] < count) {
            without[left++] = (sum - c->sum[g]) / (count - c->count[g]);
        }
    }
    if (count > 0) {
        to[0] = sum / count;
        to[1] = c->random / count;
        to[2] = c->use / count;
        mixt_span span = mixt_jackknife(to[0], without, left, 0, most);
        to[3] = span.low;
        to[4] = span.high;
    }
    return count;
}

static void add_cell(cell *to, const cell *from)
{
    for (int g = 0; g < MIXT_MEASURE_GROUPS; g++) {
        to->sum[g] += from->sum[g];
        to->count[g] += from->count[g];
    }
    to->random += from->random;
    to->use += from->use;
}

/* Keys, then value, random, use, low, high of each number, then the tokens of the first. */
static mixt_status put_row(const pairing *p, const cell *cells, double number, int domain,
                           double most, mixt_error *error)
{
    double *row = mixt_table_append(p->table);
    if (row == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "measure %s: no memory",
                         p->table->measure->name);
    }
    int at = 0;
    row[at++] = number;
    if (p->by_domain) {
        row[at++] = domain;
    }
    double count = 0;
    for (int i = 0; i < p->numbers; i++, at += 5) {
        double rests = put_cell(p, &cells[i], most, row + at);
        count = i == 0 ? rests : count;
    }
    row[at] = count;
    return MIXT_OK;
}

/* Rows of a layer: over all domains, then each that has tokens. */
static mixt_status put_rows(const pairing *p, const cell *cells, double number, double most,
                            mixt_error *error)
{
    int domains = p->m->trace->info.domains;
    cell sums[NUMBERS_MAX] = {0};
    for (int i = 0; i < domains * p->numbers; i++) {
        add_cell(&sums[i % p->numbers], &cells[i]);
    }
    MIXT_TRY(put_row(p, sums, number, -1, most, error));
    for (int domain = 0; domain < domains && p->by_domain; domain++) {
        if (p->m->units->tokens[domain] > 0) {
            MIXT_TRY(put_row(p, cells + domain * p->numbers, number, domain, most, error));
        }
    }
    return MIXT_OK;
}

/* Fills p->layer of a layer, and its levels. */
typedef mixt_status (*layer_reader)(pairing *p, int layer, mixt_error *error);

/* The table of a measure: layer by layer, then all layers. `scratch`: doubles that it needs. */
static mixt_status run_layers(pairing *p, layer_reader read, size_t scratch, double most,
                              mixt_error *error)
{
    const mixt_trace *trace = p->m->trace;
    size_t cells = (size_t)trace->info.domains * (size_t)p->numbers;
    p->layer = calloc(cells, sizeof *p->layer);
    p->all = calloc(cells, sizeof *p->all);
    p->seen = calloc((size_t)trace->info.experts, sizeof *p->seen);
    p->scratch = calloc(scratch + 1, sizeof *p->scratch);
    mixt_status status = MIXT_OK;
    if (p->layer == NULL || p->all == NULL || p->seen == NULL || p->scratch == NULL) {
        status =
            mixt_fail(error, MIXT_ERROR_MEMORY, "measure %s: no memory", p->table->measure->name);
    }
    for (int layer = 0; layer < trace->info.layers && status == MIXT_OK; layer++) {
        memset(p->layer, 0, cells * sizeof *p->layer);
        memset(p->scratch, 0, scratch * sizeof *p->scratch);
        status = read(p, layer, error);
        for (size_t i = 0; i < cells; i++) {
            add_cell(&p->all[i], &p->layer[i]);
        }
        if (status == MIXT_OK) {
            status = put_rows(p, p->layer, trace->layer_numbers[layer], most, error);
        }
    }
    if (status == MIXT_OK) {
        status = put_rows(p, p->all, -1, most, error);
    }
    free(p->layer);
    free(p->all);
    free(p->seen);
    free(p->scratch);
    return status;
}

static void add_token(pairing *p, uint64_t index, int number, double value)
{
    const mixt_trace *trace = p->m->trace;
    cell *to = &p->layer[trace->domain[index] * p->numbers + number];
    int group = p->m->group[trace->document[index]];
    to->sum[group] += value;
    to->count[group]++;
}

mixt_pair_sets mixt_pair_compare(const mixt_measuring *m, int layer, uint64_t index, uint64_t *seen,
                                 uint64_t *stamp)
{
    const mixt_trace *a = m->traces[0], *b = m->traces[1];
    const uint16_t *first = mixt_trace_experts(a, layer, index);
    const uint16_t *second = mixt_trace_experts(b, layer, index);
    mixt_pair_sets sets = {0};
    ++*stamp;
    for (int c = 0; c < a->chosen[layer]; c++) {
        if (first[c] != MIXT_TRACE_NONE) {
            seen[first[c]] = *stamp;
            sets.first++;
        }
    }
    for (int c = 0; c < b->chosen[layer]; c++) {
        if (second[c] != MIXT_TRACE_NONE) {
            sets.both += seen[second[c]] == *stamp;
            sets.second++;
        }
    }
    return sets;
}

/* -- Sets and first choices ------------------------------------------------------------------ */

enum { SETS, FIRST };

/* How often each expert stands in the sets of each size, and as the first choice: of a domain of
 * one trace, scratch [k + 1, E], row 0 for first choices; sizes behind it [k + 1]. */
static double *use_of(const pairing *p, int which, int domain)
{
    size_t experts = (size_t)p->m->trace->info.experts, before = 0;
    for (int t = 0; t < which; t++) {
        before += (size_t)p->m->trace->info.domains *
                  ((size_t)p->m->traces[t]->info.experts_per_token + 1) * (experts + 1);
    }
    size_t k = (size_t)p->m->traces[which]->info.experts_per_token;
    return p->scratch + before + (size_t)domain * (k + 1) * (experts + 1);
}

static size_t use_values(const mixt_measuring *m)
{
    size_t k = (size_t)m->traces[0]->info.experts_per_token +
               (size_t)m->traces[1]->info.experts_per_token + 2;
    return (size_t)m->trace->info.domains * k * ((size_t)m->trace->info.experts + 1);
}

/* Of a row of use [E + 1]: its last value counts the tokens. */
static void count_use(const pairing *p, int which, int layer, uint64_t index)
{
    const mixt_trace *trace = p->m->traces[which];
    const uint16_t *row = mixt_trace_experts(trace, layer, index);
    size_t experts = (size_t)trace->info.experts;
    double *use = use_of(p, which, p->m->trace->domain[index]);
    double *of_size = use + (size_t)mixt_trace_set_size(trace, layer, row) * (experts + 1);
    if (row[0] != MIXT_TRACE_NONE) {
        use[row[0]]++;
        use[experts]++;
    }
    for (int c = 0; c < trace->chosen[layer] && of_size != use; c++) {
        if (row[c] != MIXT_TRACE_NONE) {
            of_size[row[c]]++;
        }
    }
    if (of_size != use) {
        of_size[experts]++;
    }
}

/* Sum over experts of how often a holds it times how often b does. */
static double dot(const double *a, const double *b, size_t experts)
{
    double sum = 0;
    for (size_t e = 0; e < experts; e++) {
        sum += a[e] * b[e];
    }
    return sum;
}

/* The mean over all pairs of a row of the first and a row of the second trace in a domain: what
 * agreement would be if the second's rows changed places. */
static void level_of_use(const pairing *p, int domain, double *sets, double *first)
{
    const mixt_trace *a = p->m->traces[0], *b = p->m->traces[1];
    size_t experts = (size_t)a->info.experts, row = experts + 1;
    const double *x = use_of(p, 0, domain), *y = use_of(p, 1, domain);
    *first = x[experts] * y[experts] > 0 ? dot(x, y, experts) / (x[experts] * y[experts]) : 0;
    double met = 0, pairs = 0;
    for (size_t i = 1; i <= (size_t)a->info.experts_per_token; i++) {
        for (size_t j = 1; j <= (size_t)b->info.experts_per_token; j++) {
            const double *s = x + i * row, *t = y + j * row;
            if (s[experts] > 0 && t[experts] > 0) {
                met += dot(s, t, experts) / (double)(i > j ? i : j);
                pairs += s[experts] * t[experts];
            }
        }
    }
    *sets = pairs > 0 ? met / pairs : 0;
}

static void level_choices(pairing *p)
{
    for (int domain = 0; domain < p->m->trace->info.domains; domain++) {
        cell *c = p->layer + domain * p->numbers;
        double sets, first;
        level_of_use(p, domain, &sets, &first);
        c[SETS].use = sets * total_of(c[SETS].count, p->m->groups);
        c[FIRST].use = first * total_of(c[FIRST].count, p->m->groups);
        c[FIRST].random =
            total_of(c[FIRST].count, p->m->groups) / (double)p->m->trace->info.experts;
    }
}

static mixt_status read_choices(pairing *p, int layer, mixt_error *error)
{
    const mixt_trace *a = p->m->traces[0], *b = p->m->traces[1];
    (void)error;
    for (uint64_t i = 0; i < a->info.tokens; i++) {
        count_use(p, 0, layer, i);
        count_use(p, 1, layer, i);
        mixt_pair_sets sets = mixt_pair_compare(p->m, layer, i, p->seen, &p->stamp);
        if (sets.first > 0 && sets.second > 0) {
            int least = sets.first < sets.second ? sets.first : sets.second;
            add_token(p, i, SETS, mixt_pair_share(sets));
            p->layer[a->domain[i] * p->numbers + SETS].random +=
                (double)least / (double)a->info.experts;
        }
        uint16_t x = *mixt_trace_experts(a, layer, i), y = *mixt_trace_experts(b, layer, i);
        if (x != MIXT_TRACE_NONE && y != MIXT_TRACE_NONE) {
            add_token(p, i, FIRST, x == y);
        }
    }
    level_choices(p);
    return MIXT_OK;
}

#define NUMBER(name_, help_, group_, kind_, unit_)                                                 \
    {.name = name_,                                                                                \
     .help = help_,                                                                                \
     .unit = unit_,                                                                                \
     .kind = kind_,                                                                                \
     .role = MIXT_ROLE_VALUE,                                                                      \
     .group = group_},                                                                             \
        {.name = name_ "_random",                                                                  \
         .unit = unit_,                                                                            \
         .kind = kind_,                                                                            \
         .role = MIXT_ROLE_RANDOM,                                                                 \
         .group = group_},                                                                         \
        {.name = name_ "_use",                                                                     \
         .unit = unit_,                                                                            \
         .kind = kind_,                                                                            \
         .role = MIXT_ROLE_USE,                                                                    \
         .group = group_},                                                                         \
        {.name = name_ "_low",                                                                     \
         .unit = unit_,                                                                            \
         .kind = kind_,                                                                            \
         .role = MIXT_ROLE_LOW,                                                                    \
         .group = group_},                                                                         \
    {                                                                                              \
        .name = name_ "_high", .unit = unit_, .kind = kind_, .role = MIXT_ROLE_HIGH,               \
        .group = group_                                                                            \
    }
#define SHARE(name, help, group) NUMBER(name, help, group, MIXT_COLUMN_SHARE, "")
#define LAYER                                                                                      \
    {                                                                                              \
        .name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY                          \
    }
#define DOMAIN                                                                                     \
    {                                                                                              \
        .name = "domain", .kind = MIXT_COLUMN_DOMAIN, .role = MIXT_ROLE_KEY                        \
    }
#define TOKENS                                                                                     \
    {                                                                                              \
        .name = "tokens", .help = "tokens (times layers where all are meant)",                     \
        .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT                                       \
    }
#define COUNT_OF(columns) ((int)(sizeof columns / sizeof *columns))

static const mixt_column saturation_columns[] = {
    LAYER,
    SHARE("saturation", "experts of a token that the second trace has too", 0),
    SHARE("first", "tokens with the same first choice", 1),
    TOKENS,
};
static const mixt_column agreement_columns[] = {
    LAYER,
    DOMAIN,
    SHARE("sets", "experts in both sets over those in the larger", 0),
    SHARE("first", "tokens with the same first choice", 1),
    TOKENS,
};

static mixt_status fill_choices(const mixt_measuring *m, mixt_table *table, bool by_domain,
                                mixt_error *error)
{
    pairing p = {.m = m, .table = table, .numbers = 2, .by_domain = by_domain};
    MIXT_TRY(mixt_pair_check(m, table->measure->name, true, error));
    return run_layers(&p, read_choices, use_values(m), 1, error);
}

static mixt_status fill_saturation(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    return fill_choices(m, table, false, error);
}

static mixt_status fill_agreement(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    return fill_choices(m, table, true, error);
}

const mixt_measure_type mixt_measure_saturation = {
    .info = {.name = "saturation",
             .title = "Router saturation",
             .source = "OLMoE, 2409.02060",
             .about =
                 "How many of a token's experts at a checkpoint (the first trace) are those of "
                 "the last one (the second), layer by layer.",
             .traces = 2},
    .columns = saturation_columns,
    .column_count = COUNT_OF(saturation_columns),
    .fill = fill_saturation,
};

const mixt_measure_type mixt_measure_agreement = {
    .info = {.name = "agreement",
             .title = "Agreement of two routers",
             .source = "OLMoE, 2409.02060; VSRAQ, 2606.05688",
             .about = "How many of a token's experts, and how many first choices, are the same in "
                      "two precisions, contexts or models, by layer and domain.",
             .traces = 2},
    .columns = agreement_columns,
    .column_count = COUNT_OF(agreement_columns),
    .fill = fill_agreement,
};

/* -- Weight that moved ----------------------------------------------------------------------- */

enum { KEPT, MOVED, CHANGED };

/* A token's experts and their weights, which sum to 1. */
typedef struct weighed {
    const uint16_t *experts;
    double weights[MIXT_TRACE_MAX_EXPERTS];
    int places;
} weighed;

/* false where no expert has a weight. */
static bool weigh(const mixt_trace *trace, int layer, uint64_t index, weighed *w)
{
    const uint16_t *halfs = mixt_trace_weights(trace, layer, index);
    double total = 0;
    w->experts = mixt_trace_experts(trace, layer, index);
    w->places = trace->chosen[layer];
    for (int c = 0; c < w->places; c++) {
        bool some = w->experts[c] != MIXT_TRACE_NONE;
        w->weights[c] = some ? fmax((double)mixt_trace_weight(halfs[c]), 0) : 0;
        total += w->weights[c];
    }
    for (int c = 0; c < w->places; c++) {
        w->weights[c] /= total;
    }
    return total > 0 && isfinite(total);
}

typedef struct movement {
    double kept;  /* of the first's weight, on experts that the second chose too */
    double moved; /* half the sum of |w - w'| over experts */
    bool changed; /* the sets differ */
} movement;

/* place [E]: one more than the expert's place in `a`, zeros before and after. */
static movement compare_weights(const weighed *a, const weighed *b, uint64_t *place)
{
    movement found = {0};
    double common = 0;
    int both = 0, of_a = 0, of_b = 0;
    for (int c = 0; c < a->places; c++) {
        if (a->experts[c] != MIXT_TRACE_NONE) {
            place[a->experts[c]] = (uint64_t)c + 1;
            of_a++;
        }
    }
    for (int c = 0; c < b->places; c++) {
        uint64_t at = b->experts[c] != MIXT_TRACE_NONE ? place[b->experts[c]] : 0;
        of_b += b->experts[c] != MIXT_TRACE_NONE;
        if (at != 0) {
            found.kept += a->weights[at - 1];
            common += fmin(a->weights[at - 1], b->weights[c]);
            both++;
        }
    }
    for (int c = 0; c < a->places; c++) {
        if (a->experts[c] != MIXT_TRACE_NONE) {
            place[a->experts[c]] = 0;
        }
    }
    found.moved = 1 - common;
    found.changed = both != of_a || both != of_b;
    return found;
}

/* Sums of what pairs of rows of a domain give, a row of each trace drawn for itself. */
static void level_weights(pairing *p, int layer, weighed *w)
{
    const mixt_measuring *m = p->m;
    const mixt_units *units = m->units;
    for (int domain = 0; domain < units->domains; domain++) {
        mixt_random_key key = {m->seed + ((uint64_t)layer << 32), MIXT_RANDOM_RESAMPLE,
                               (uint32_t)domain};
        uint64_t begin = units->begin[domain], count = units->begin[domain + 1] - begin;
        int64_t pairs = count > 0 ? (int64_t)m->shuffles * PAIRS_OF_SHUFFLE : 0;
        double sums[3] = {0}, drawn = 0;
        for (int64_t i = 0; i < pairs; i++) {
            uint64_t a = units->order[begin + mixt_random_below(&key, 2 * (uint64_t)i, count)];
            uint64_t b = units->order[begin + mixt_random_below(&key, 2 * (uint64_t)i + 1, count)];
            if (weigh(m->traces[0], layer, a, &w[0]) && weigh(m->traces[1], layer, b, &w[1])) {
                movement found = compare_weights(&w[0], &w[1], p->seen);
                sums[KEPT] += found.kept;
                sums[MOVED] += found.moved;
                sums[CHANGED] += found.changed;
                drawn++;
            }
        }
        for (int n = 0; n < p->numbers && drawn > 0; n++) {
            cell *c = &p->layer[domain * p->numbers + n];
            c->use = sums[n] / drawn * total_of(c->count, m->groups);
        }
    }
}

/* The chance that two uniform sets of k and j of E experts are the same. */
static double same_by_chance(int experts, int k, int j)
{
    double chance = k == j ? 1 : 0;
    for (int i = 0; i < k; i++) {
        chance *= (double)(i + 1) / (double)(experts - k + i + 1);
    }
    return chance;
}

static mixt_status read_weights(pairing *p, int layer, mixt_error *error)
{
    const mixt_trace *a = p->m->traces[0], *b = p->m->traces[1];
    int experts = a->info.experts;
    weighed *w = malloc(2 * sizeof *w);
    if (w == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "measure flips_effect: no memory");
    }
    for (uint64_t i = 0; i < a->info.tokens; i++) {
        if (!weigh(a, layer, i, &w[0]) || !weigh(b, layer, i, &w[1])) {
            continue;
        }
        movement found = compare_weights(&w[0], &w[1], p->seen);
        cell *c = &p->layer[a->domain[i] * p->numbers];
        int k = mixt_trace_set_size(a, layer, w[0].experts);
        int j = mixt_trace_set_size(b, layer, w[1].experts);
        add_token(p, i, KEPT, found.kept);
        add_token(p, i, MOVED, found.moved);
        add_token(p, i, CHANGED, found.changed);
        c[KEPT].random += (double)j / experts;
        c[MOVED].random = NAN; /* it depends on the weights */
        c[CHANGED].random += 1 - same_by_chance(experts, k, j);
    }
    level_weights(p, layer, w);
    free(w);
    return MIXT_OK;
}

static const mixt_column flips_columns[] = {
    LAYER,
    DOMAIN,
    SHARE("kept", "routing weight of the first on experts that the second chose too", 0),
    SHARE("moved", "routing weight that is on another expert", 1),
    SHARE("changed", "tokens whose sets differ", 2),
    TOKENS,
};

static mixt_status fill_flips(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    pairing p = {.m = m, .table = table, .numbers = 3, .by_domain = true};
    MIXT_TRY(mixt_pair_check(m, table->measure->name, true, error));
    return run_layers(&p, read_weights, 0, 1, error);
}

const mixt_measure_type mixt_measure_flips_effect = {
    .info = {.name = "flips_effect",
             .title = "Agreement, weighted by the effect on the output",
             .source = "VSRAQ, 2606.05688; SRA-MoE, openreview H0NoX02erJ",
             .about =
                 "How much routing weight stays on the same experts: an exchanged expert counts "
                 "by its weight in the layer's output.",
             .traces = 2},
    .columns = flips_columns,
    .column_count = COUNT_OF(flips_columns),
    .fill = fill_flips,
};

/* -- Distributions of the routers ------------------------------------------------------------ */

/* log2 of the softmax of a token's logits [E]; false where one is NaN or none is finite. -inf, an
 * expert that was masked, has the probability 0. */
static bool log_softmax(const mixt_trace *trace, int layer, uint64_t index, double *logs)
{
    size_t experts = (size_t)trace->info.experts;
    const uint16_t *halfs =
        trace->logits + ((uint64_t)layer * trace->info.tokens + index) * (uint64_t)experts;
    double most = -INFINITY, sum = 0;
    for (size_t e = 0; e < experts; e++) {
        logs[e] = (double)mixt_trace_weight(halfs[e]);
        if (isnan(logs[e])) {
            return false;
        }
        most = fmax(most, logs[e]);
    }
    if (!isfinite(most)) {
        return false;
    }
    for (size_t e = 0; e < experts; e++) {
        sum += exp(logs[e] - most);
    }
    for (size_t e = 0; e < experts; e++) {
        logs[e] = (logs[e] - most - log(sum)) * 1.4426950408889634; /* 1 / ln 2 */
    }
    return true;
}

/* What the level of a domain needs, [2 E + 1] of scratch: sums of p, of log q, of sum p log p. */
static double *sums_of(const pairing *p, int domain)
{
    return p->scratch + (size_t)domain * (2 * (size_t)p->m->trace->info.experts + 1);
}

/* Sum p log2 (p / q), infinite where q lacks what p has. */
static double divergence(const double *p, const double *q, size_t experts, double *sums)
{
    double sum = 0, own = 0;
    for (size_t e = 0; e < experts; e++) {
        double chance = exp2(p[e]);
        if (chance > 0) {
            sum += chance * (p[e] - q[e]);
            own += chance * p[e];
        }
    }
    for (size_t e = 0; e < experts && isfinite(sum); e++) {
        sums[e] += exp2(p[e]);
        sums[experts + e] += q[e];
    }
    sums[2 * experts] += isfinite(sum) ? own : 0;
    return sum;
}

static void level_divergence(pairing *p)
{
    size_t experts = (size_t)p->m->trace->info.experts;
    for (int domain = 0; domain < p->m->trace->info.domains; domain++) {
        cell *c = &p->layer[domain];
        const double *sums = sums_of(p, domain);
        double count = total_of(c->count, p->m->groups), cross = 0;
        for (size_t e = 0; e < experts; e++) {
            cross += sums[e] > 0 ? sums[e] * sums[experts + e] : 0;
        }
        if (count > 0) {
            c->use = sums[2 * experts] - cross / count;
            c->random = sums[2 * experts] + count * log2((double)experts);
        }
    }
}

static mixt_status read_logits(pairing *p, int layer, mixt_error *error)
{
    const mixt_trace *a = p->m->traces[0], *b = p->m->traces[1];
    size_t experts = (size_t)a->info.experts;
    double *logs = calloc(2 * experts, sizeof *logs);
    if (logs == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "measure router_kl: no memory");
    }
    for (uint64_t i = 0; i < a->info.tokens; i++) {
        bool both = log_softmax(a, layer, i, logs) && log_softmax(b, layer, i, logs + experts);
        double value =
            both ? divergence(logs, logs + experts, experts, sums_of(p, a->domain[i])) : NAN;
        if (isfinite(value)) {
            add_token(p, i, 0, fmax(value, 0));
        } else {
            p->skipped++;
        }
    }
    level_divergence(p);
    free(logs);
    return MIXT_OK;
}

static const mixt_column kl_columns[] = {
    LAYER,
    DOMAIN,
    NUMBER("kl", "Kullback-Leibler divergence of the first's distribution from the second's", 0,
           MIXT_COLUMN_NUMBER, "bits"),
    TOKENS,
};

static mixt_status fill_kl(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    pairing p = {.m = m, .table = table, .numbers = 1, .by_domain = true};
    size_t sums = 2 * (size_t)m->trace->info.experts + 1;
    MIXT_TRY(mixt_pair_check(m, table->measure->name, true, error));
    MIXT_TRY(run_layers(&p, read_logits, (size_t)m->trace->info.domains * sums, INFINITY, error));
    if (p.skipped > 0) {
        mixt_buffer_format(&table->note,
                           "Left out: %llu tokens of layers where a logit is not a number, or "
                           "where the second trace masks an expert that the first does not.",
                           (unsigned long long)p.skipped);
    }
    return MIXT_OK;
}

const mixt_measure_type mixt_measure_router_kl = {
    .info = {.name = "router_kl",
             .title = "Divergence of two routers",
             .source = "VSRAQ, 2606.05688",
             .about = "How far the second router's distribution over experts (softmax of its "
                      "logits) is from the first's, token by token.",
             .traces = 2,
             .logits = true},
    .columns = kl_columns,
    .column_count = COUNT_OF(kl_columns),
    .fill = fill_kl,
};
