/* How surely routers choose, and what of their choices is known a layer earlier. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/measures/measures.h"
#include "core/error.h"

#define GROUPS MIXT_MEASURE_GROUPS

static mixt_status no_memory(const char *measure, mixt_error *error)
{
    return mixt_fail(error, MIXT_ERROR_MEMORY, "measure %s: no memory", measure);
}

static mixt_status need(bool there, const char *measure, const char *what, mixt_error *error)
{
    return there ? MIXT_OK
                 : mixt_fail(error, MIXT_ERROR_ARGUMENT, "measure %s: the trace has no %s", measure,
                             what);
}

/* A mean of something over tokens: sums and counts of each group of documents. */
typedef struct mean {
    double sum[GROUPS], count[GROUPS];
} mean;

/* The mean, its support and its interval. */
typedef struct estimate {
    double value, count;
    mixt_span span;
} estimate;

static estimate estimate_mean(const mean *m, int groups, double least, double most)
{
    double sum = 0, count = 0, without[GROUPS];
    int parts = 0;
    for (int g = 0; g < groups; g++) {
        sum += m->sum[g];
        count += m->count[g];
    }
    for (int g = 0; g < groups; g++) {
        if (m->count[g] > 0 && m->count[g] < count) {
            without[parts++] = (sum - m->sum[g]) / (count - m->count[g]);
        }
    }
    double value = count > 0 ? sum / count : NAN;
    return (estimate){value, count, mixt_jackknife(value, without, parts, least, most)};
}

static void add_mean(mean *to, const mean *from)
{
    for (int g = 0; g < GROUPS; g++) {
        to->sum[g] += from->sum[g];
        to->count[g] += from->count[g];
    }
}

static double layer_key(const mixt_trace *trace, int layer)
{
    return layer < 0 ? -1 : trace->layer_numbers[layer];
}

/* ------------------------------------------------------------------------------------------ */
/* entropy                                                                                    */

static const mixt_column entropy_columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "domain", .kind = MIXT_COLUMN_DOMAIN, .role = MIXT_ROLE_KEY},
    {.name = "entropy",
     .help = "mean over tokens of the router's entropy over all experts",
     .unit = "bits",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE},
    {.name = "random",
     .help = "log2 E: all experts alike",
     .unit = "bits",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_RANDOM},
    {.name = "use",
     .help = "entropy of the layer's use of its experts there: a router that knows nothing of the "
             "token",
     .unit = "bits",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_USE},
    {.name = "low", .unit = "bits", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_LOW},
    {.name = "high", .unit = "bits", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_HIGH},
    {.name = "tokens", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT},
};
enum {
    ENTROPY_LAYER,
    ENTROPY_DOMAIN,
    ENTROPY,
    ENTROPY_RANDOM,
    ENTROPY_USE,
    ENTROPY_LOW,
    ENTROPY_HIGH,
    ENTROPY_TOKENS,
    ENTROPY_COLUMNS
};

/* Bits of the use of a layer's experts in a domain, -1: in all. */
static double use_entropy(const mixt_measuring *m, int layer, int domain)
{
    const mixt_counts *counts = m->counts;
    double total = 0, sum = 0; /* sum n log2 n */
    for (int e = 0; e < counts->experts; e++) {
        double n = 0;
        for (int d = 0; d < counts->domains; d++) {
            if (domain < 0 || d == domain) {
                n += (double)mixt_counts_of(counts, layer, d, MIXT_CHOICE_ANY)[e];
            }
        }
        total += n;
        sum += n > 0 ? n * log2(n) : 0;
    }
    return total > 0 ? fmax(log2(total) - sum / total, 0) : NAN;
}

static mixt_status put_entropy(const mixt_measuring *m, const int key[2], const mean *of,
                               double use, mixt_table *table, mixt_error *error)
{
    double most = log2(m->trace->info.experts);
    estimate made = estimate_mean(of, m->groups, 0, most);
    if (!(made.count > 0)) {
        return MIXT_OK; /* a domain without tokens */
    }
    double *row = mixt_table_append(table);
    if (row == NULL) {
        return no_memory("entropy", error);
    }
    row[ENTROPY_LAYER] = layer_key(m->trace, key[0]);
    row[ENTROPY_DOMAIN] = key[1];
    row[ENTROPY] = made.value;
    row[ENTROPY_RANDOM] = most;
    row[ENTROPY_USE] = use;
    row[ENTROPY_LOW] = made.span.low;
    row[ENTROPY_HIGH] = made.span.high;
    row[ENTROPY_TOKENS] = made.count;
    return MIXT_OK;
}

/* means [domains] of a layer's entropies. */
static void sum_entropies(const mixt_measuring *m, int layer, mean *means)
{
    const mixt_trace *trace = m->trace;
    const uint16_t *entropies = trace->entropies + (uint64_t)layer * trace->info.tokens;
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        mean *of = &means[trace->domain[i]];
        int g = m->group[trace->document[i]];
        of->sum[g] += (double)mixt_f16_value(entropies[i]);
        of->count[g]++;
    }
}

static mixt_status fill_entropy_rows(const mixt_measuring *m, mean *means, mixt_table *table,
                                     mixt_error *error)
{
    int layers = m->trace->info.layers, domains = m->trace->info.domains;
    mean *every = means + domains; /* [1 + domains] of all layers */
    double use_of_all = 0;
    for (int layer = 0; layer < layers; layer++) {
        mean all = {0};
        memset(means, 0, (size_t)domains * sizeof *means);
        sum_entropies(m, layer, means);
        for (int d = 0; d < domains; d++) {
            add_mean(&all, &means[d]);
            add_mean(&every[1 + d], &means[d]);
        }
        add_mean(&every[0], &all);
        double use = use_entropy(m, layer, -1);
        use_of_all += use / layers;
        MIXT_TRY(put_entropy(m, (int[2]){layer, -1}, &all, use, table, error));
        for (int d = 0; d < domains && domains > 1; d++) {
            MIXT_TRY(put_entropy(m, (int[2]){layer, d}, &means[d], use_entropy(m, layer, d), table,
                                 error));
        }
    }
    for (int d = -1; d < (domains > 1 ? domains : 0); d++) {
        double use = d < 0 ? use_of_all : 0;
        for (int layer = 0; layer < layers && d >= 0; layer++) {
            use += use_entropy(m, layer, d) / layers;
        }
        MIXT_TRY(put_entropy(m, (int[2]){-1, d}, &every[1 + d], use, table, error));
    }
    return MIXT_OK;
}

static mixt_status fill_entropy(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    MIXT_TRY(need(m->trace->entropies != NULL, "entropy",
                  "entropies (mixt trace of this version writes them)", error));
    mean *means = calloc(2 * (size_t)m->trace->info.domains + 1, sizeof *means);
    mixt_status status =
        means != NULL ? fill_entropy_rows(m, means, table, error) : no_memory("entropy", error);
    free(means);
    return status;
}

const mixt_measure_type mixt_measure_entropy = {
    .info = {.name = "entropy",
             .title = "How evenly routers look at their experts",
             .source = "Shannon 1948; OLMoE, 2409.02060 (of loads)",
             .about = "The entropy of a router's distribution over all experts, mean over the "
                      "tokens: 0 where each token is sure of one, log2 E where all look alike.",
             .traces = 1},
    .columns = entropy_columns,
    .column_count = ENTROPY_COLUMNS,
    .fill = fill_entropy,
};

/* ------------------------------------------------------------------------------------------ */
/* margin                                                                                     */

#define HALVES 0x7C00 /* halves from 0 to below infinity, whose bits are in their order */
#define NEAR 0x211F   /* 0.01 as a half */
#define CLOSE 0x2E66  /* 0.1 */

static const mixt_column margin_columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "median",
     .help = "half of the tokens have a smaller margin",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE},
    {.name = "low", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_LOW},
    {.name = "high", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_HIGH},
    {.name = "p5",
     .help = "5 % of the tokens have at most this margin",
     .kind = MIXT_COLUMN_NUMBER,
     .role = MIXT_ROLE_VALUE,
     .group = 1},
    {.name = "p25", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_VALUE, .group = 2},
    {.name = "p75", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_VALUE, .group = 3},
    {.name = "p95", .kind = MIXT_COLUMN_NUMBER, .role = MIXT_ROLE_VALUE, .group = 4},
    {.name = "near",
     .help = "choices with a margin below 0.01, which rounding may turn",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_VALUE,
     .group = 5},
    {.name = "near_low", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_LOW, .group = 5},
    {.name = "near_high", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_HIGH, .group = 5},
    {.name = "close",
     .help = "choices with a margin below 0.1",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_VALUE,
     .group = 6},
    {.name = "close_low", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_LOW, .group = 6},
    {.name = "close_high", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_HIGH, .group = 6},
    {.name = "tokens", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT},
};
enum {
    MARGIN_LAYER,
    MEDIAN,
    MEDIAN_LOW,
    MEDIAN_HIGH,
    P5,
    P25,
    P75,
    P95,
    SHARE_NEAR,
    NEAR_LOW,
    NEAR_HIGH,
    SHARE_CLOSE,
    CLOSE_LOW,
    CLOSE_HIGH,
    MARGIN_TOKENS,
    MARGIN_COLUMNS
};

/* histogram [groups, HALVES] of a layer's margins; NaN is none. */
static void count_margins(const mixt_measuring *m, int layer, uint32_t *histogram)
{
    const mixt_trace *trace = m->trace;
    const uint16_t *margins = trace->margins + (uint64_t)layer * trace->info.tokens;
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        if (margins[i] < HALVES) {
            histogram[(size_t)m->group[trace->document[i]] * HALVES + margins[i]]++;
        }
    }
}

/* The smallest value of which so large a part of the count is not above it; the count is that of
 * all groups but `without` (-1: all). NaN where there is none. */
static double quantile(const mixt_measuring *m, const uint32_t *histogram, int without, double part)
{
    uint64_t total = 0, seen = 0;
    for (int g = 0; g < m->groups; g++) {
        for (size_t v = 0; g != without && v < HALVES; v++) {
            total += histogram[(size_t)g * HALVES + v];
        }
    }
    for (size_t v = 0; v < HALVES && total > 0; v++) {
        for (int g = 0; g < m->groups; g++) {
            seen += g != without ? histogram[(size_t)g * HALVES + v] : 0;
        }
        if ((double)seen >= part * (double)total && seen > 0) {
            return (double)mixt_f16_value((uint16_t)v);
        }
    }
    return NAN;
}

/* The mean of "the margin is below this". */
static mean below(const mixt_measuring *m, const uint32_t *histogram, size_t bound)
{
    mean made = {0};
    for (int g = 0; g < m->groups; g++) {
        for (size_t v = 0; v < HALVES; v++) {
            uint32_t n = histogram[(size_t)g * HALVES + v];
            made.sum[g] += v < bound ? n : 0;
            made.count[g] += n;
        }
    }
    return made;
}

static mixt_status put_margins(const mixt_measuring *m, int layer, const uint32_t *histogram,
                               mixt_table *table, mixt_error *error)
{
    static const double parts[] = {0.05, 0.25, 0.75, 0.95};
    mean near = below(m, histogram, NEAR), close = below(m, histogram, CLOSE);
    estimate of_near = estimate_mean(&near, m->groups, 0, 1);
    estimate of_close = estimate_mean(&close, m->groups, 0, 1);
    if (!(of_near.count > 0)) {
        return MIXT_OK; /* a layer that compares nothing */
    }
    double *row = mixt_table_append(table), without[GROUPS];
    int groups = 0;
    if (row == NULL) {
        return no_memory("margin", error);
    }
    for (int g = 0; g < m->groups; g++) {
        if (near.count[g] > 0 && near.count[g] < of_near.count) {
            without[groups++] = quantile(m, histogram, g, 0.5);
        }
    }
    row[MARGIN_LAYER] = layer_key(m->trace, layer);
    row[MEDIAN] = quantile(m, histogram, -1, 0.5);
    mixt_span span = mixt_jackknife(row[MEDIAN], without, groups, 0, INFINITY);
    row[MEDIAN_LOW] = span.low;
    row[MEDIAN_HIGH] = span.high;
    for (int i = 0; i < 4; i++) {
        row[P5 + i] = quantile(m, histogram, -1, parts[i]);
    }
    row[SHARE_NEAR] = of_near.value;
    row[NEAR_LOW] = of_near.span.low;
    row[NEAR_HIGH] = of_near.span.high;
    row[SHARE_CLOSE] = of_close.value;
    row[CLOSE_LOW] = of_close.span.low;
    row[CLOSE_HIGH] = of_close.span.high;
    row[MARGIN_TOKENS] = of_near.count;
    return MIXT_OK;
}

static mixt_status fill_margin(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    MIXT_TRY(need(m->trace->margins != NULL, "margin",
                  "margins (mixt trace of this version writes them)", error));
    size_t size = (size_t)m->groups * HALVES;
    uint32_t *histogram = calloc(2 * size, sizeof *histogram), *all = histogram + size;
    if (histogram == NULL) {
        return no_memory("margin", error);
    }
    mixt_status status = MIXT_OK;
    for (int layer = 0; layer < m->trace->info.layers && status == MIXT_OK; layer++) {
        memset(histogram, 0, size * sizeof *histogram);
        count_margins(m, layer, histogram);
        for (size_t i = 0; i < size; i++) {
            uint32_t room = UINT32_MAX - all[i];
            all[i] += histogram[i] < room ? histogram[i] : room;
        }
        status = put_margins(m, layer, histogram, table, error);
    }
    if (status == MIXT_OK) {
        status = put_margins(m, -1, all, table, error);
    }
    free(histogram);
    return status;
}

const mixt_measure_type mixt_measure_margin = {
    .info = {.name = "margin",
             .title = "How narrowly experts are chosen",
             .source = "2606.05688 (agreement between precisions)",
             .about = "How far the last chosen expert stands above the best one not chosen, in the "
                      "numbers that the router compares. Small margins are choices that rounding, "
                      "another precision or noise would have turned.",
             .traces = 1},
    .columns = margin_columns,
    .column_count = MARGIN_COLUMNS,
    .fill = fill_margin,
};

/* ------------------------------------------------------------------------------------------ */
/* lookahead                                                                                  */

static const mixt_column lookahead_columns[] = {
    {.name = "layer", .kind = MIXT_COLUMN_LAYER, .role = MIXT_ROLE_KEY},
    {.name = "recall",
     .help = "of a token's experts, those that the layer's router chooses by what the layer before "
             "read",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_VALUE},
    {.name = "random", .help = "k/E", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_RANDOM},
    {.name = "use",
     .help = "the same choices, of another token each",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_USE},
    {.name = "low", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_LOW},
    {.name = "high", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_HIGH},
    {.name = "first",
     .help = "tokens whose first expert is known",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_VALUE,
     .group = 1},
    {.name = "first_random",
     .help = "1/E",
     .kind = MIXT_COLUMN_SHARE,
     .role = MIXT_ROLE_RANDOM,
     .group = 1},
    {.name = "first_use", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_USE, .group = 1},
    {.name = "first_low", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_LOW, .group = 1},
    {.name = "first_high", .kind = MIXT_COLUMN_SHARE, .role = MIXT_ROLE_HIGH, .group = 1},
    {.name = "choices", .kind = MIXT_COLUMN_COUNT, .role = MIXT_ROLE_SUPPORT},
};
enum {
    AHEAD_LAYER,
    RECALL,
    RECALL_RANDOM,
    RECALL_USE,
    RECALL_LOW,
    RECALL_HIGH,
    FIRST,
    FIRST_RANDOM,
    FIRST_USE,
    FIRST_LOW,
    FIRST_HIGH,
    AHEAD_CHOICES,
    AHEAD_COLUMNS
};

/* Of a layer, or summed over several: what was hit, and what chance would hit. */
typedef struct ahead_sums {
    mean recall, first;
    double random, use, first_use; /* hits that levels expect */
} ahead_sums;

/* How often each expert was chosen, and chosen ahead: of all choices and of first ones. */
typedef struct ahead_use {
    double *chosen, *ahead, *first, *first_ahead; /* [E] */
    double ahead_total;
} ahead_use;

static void count_use(ahead_use *use, const uint16_t *row, const uint16_t *ahead, int k)
{
    for (int c = 0; c < k; c++) {
        if (row[c] != MIXT_TRACE_NONE) {
            use->chosen[row[c]]++;
        }
        if (ahead[c] != MIXT_TRACE_NONE) {
            use->ahead[ahead[c]]++;
            use->ahead_total++;
        }
    }
    if (row[0] != MIXT_TRACE_NONE && ahead[0] != MIXT_TRACE_NONE) {
        use->first[row[0]]++;
        use->first_ahead[ahead[0]]++;
    }
}

static void compare_rows(const mixt_measuring *m, int layer, ahead_use *use, ahead_sums *sums)
{
    const mixt_trace *trace = m->trace;
    int k = trace->info.experts_per_token;
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        const uint16_t *row = mixt_trace_experts(trace, layer, i);
        const uint16_t *ahead = trace->ahead + (row - trace->experts);
        int g = m->group[trace->document[i]];
        for (int c = 0; c < k; c++) {
            bool hit = false;
            for (int a = 0; a < k; a++) {
                hit = hit || ahead[a] == row[c];
            }
            sums->recall.sum[g] += hit && row[c] != MIXT_TRACE_NONE;
            sums->recall.count[g] += row[c] != MIXT_TRACE_NONE;
        }
        bool both = row[0] != MIXT_TRACE_NONE && ahead[0] != MIXT_TRACE_NONE;
        sums->first.sum[g] += both && row[0] == ahead[0];
        sums->first.count[g] += both;
        count_use(use, row, ahead, k);
    }
}

/* What is hit where each token has the choices ahead of another one: sum over experts of choices
 * times the share of tokens that have it ahead. */
static void expect_hits(const mixt_measuring *m, const ahead_use *use, ahead_sums *sums)
{
    double tokens = (double)m->trace->info.tokens, chosen = 0, firsts = 0;
    int experts = m->trace->info.experts;
    for (int e = 0; e < experts; e++) {
        chosen += use->chosen[e];
        firsts += use->first[e];
        sums->use += use->chosen[e] * use->ahead[e] / tokens;
    }
    for (int e = 0; e < experts && firsts > 0; e++) {
        sums->first_use += use->first[e] * use->first_ahead[e] / firsts;
    }
    sums->random += chosen * use->ahead_total / tokens / experts;
}

static mixt_status put_lookahead(const mixt_measuring *m, int layer, const ahead_sums *sums,
                                 mixt_table *table, mixt_error *error)
{
    estimate recall = estimate_mean(&sums->recall, m->groups, 0, 1);
    estimate first = estimate_mean(&sums->first, m->groups, 0, 1);
    double *row = mixt_table_append(table);
    if (row == NULL) {
        return no_memory("lookahead", error);
    }
    row[AHEAD_LAYER] = layer_key(m->trace, layer);
    row[RECALL] = recall.value;
    row[RECALL_RANDOM] = sums->random / recall.count;
    row[RECALL_USE] = sums->use / recall.count;
    row[RECALL_LOW] = recall.span.low;
    row[RECALL_HIGH] = recall.span.high;
    row[FIRST] = first.value;
    row[FIRST_RANDOM] = 1.0 / m->trace->info.experts;
    row[FIRST_USE] = sums->first_use / first.count;
    row[FIRST_LOW] = first.span.low;
    row[FIRST_HIGH] = first.span.high;
    row[AHEAD_CHOICES] = recall.count;
    return MIXT_OK;
}

static mixt_status fill_lookahead(const mixt_measuring *m, mixt_table *table, mixt_error *error)
{
    const mixt_trace *trace = m->trace;
    size_t experts = (size_t)trace->info.experts;
    MIXT_TRY(need(trace->ahead != NULL, "lookahead", "experts ahead (mixt trace --ahead)", error));
    double *used = calloc(4 * experts, sizeof *used);
    if (used == NULL) {
        return no_memory("lookahead", error);
    }
    ahead_sums all = {0};
    mixt_status status = MIXT_OK;
    for (int layer = 1; layer < trace->info.layers && status == MIXT_OK; layer++) {
        ahead_sums sums = {0};
        ahead_use use = {used, used + experts, used + 2 * experts, used + 3 * experts, 0};
        memset(used, 0, 4 * experts * sizeof *used);
        compare_rows(m, layer, &use, &sums);
        expect_hits(m, &use, &sums);
        status = put_lookahead(m, layer, &sums, table, error);
        add_mean(&all.recall, &sums.recall);
        add_mean(&all.first, &sums.first);
        all.random += sums.random;
        all.use += sums.use;
        all.first_use += sums.first_use;
    }
    if (status == MIXT_OK && trace->info.layers > 1) {
        status = put_lookahead(m, -1, &all, table, error);
    }
    free(used);
    return status;
}

const mixt_measure_type mixt_measure_lookahead = {
    .info = {.name = "lookahead",
             .title = "Experts that are known one layer earlier",
             .source = "Eliseev and Mazur 2023, 2312.17238",
             .about = "What a layer's router chooses when it reads what the router of the layer "
                      "before it read, beside what it chooses then: what a program that fetches "
                      "experts ahead would get right.",
             .traces = 1},
    .columns = lookahead_columns,
    .column_count = AHEAD_COLUMNS,
    .fill = fill_lookahead,
};
