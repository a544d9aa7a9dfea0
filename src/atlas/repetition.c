#include "atlas/repetition.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/statistics.h"
#include "core/error.h"
#include "core/random.h"

#define REPLICATES 1000
#define RESAMPLE_SEED 0x6d697874 /* fixed: the same trace gives the same interval */
#define RANDOM_PAIRS 32768       /* for sets of more than two: standard error below 0.3 % */
#define EXACT_SETS_EXPERTS 512   /* pairs of two are counted in an E x E table up to here */

typedef struct bootstrap {
    const mixt_trace *trace;
    const mixt_units *units;
    int first_layer;
    int columns;       /* layers * MIXT_REPEAT_COUNT */
    size_t *offset;    /* [domains + 1] first unit of a domain in the arrays below */
    double *pairs;     /* [units] */
    double *hits;      /* [units, columns] */
    double *ratio;     /* [columns, REPLICATES] of one domain */
    double *all_hits;  /* [columns, REPLICATES] */
    double *all_pairs; /* [REPLICATES] */
    double *drawn;     /* [columns] hits of one replicate */
    uint32_t *active;  /* units of a domain that have pairs */
} bootstrap;

static void bootstrap_release(bootstrap *state)
{
    free(state->offset);
    free(state->pairs);
    free(state->hits);
    free(state->ratio);
    free(state->all_hits);
    free(state->all_pairs);
    free(state->drawn);
    free(state->active);
}

static bool bootstrap_allocate(bootstrap *state)
{
    const mixt_units *units = state->units;
    size_t columns = (size_t)state->columns;
    state->offset = calloc((size_t)units->domains + 1, sizeof *state->offset);
    if (state->offset == NULL) {
        return false;
    }
    for (int d = 0; d < units->domains; d++) {
        state->offset[d + 1] = state->offset[d] + units->count[d];
    }
    size_t all = state->offset[units->domains];
    state->pairs = calloc(all, sizeof(double));
    state->hits = calloc(all * columns, sizeof(double));
    state->ratio = calloc(columns * REPLICATES, sizeof(double));
    state->all_hits = calloc(columns * REPLICATES, sizeof(double));
    state->all_pairs = calloc(REPLICATES, sizeof(double));
    state->drawn = calloc(columns, sizeof(double));
    state->active = calloc(MIXT_UNITS_MAX, sizeof(uint32_t));
    return state->pairs != NULL && state->hits != NULL && state->ratio != NULL &&
           state->all_hits != NULL && state->all_pairs != NULL && state->drawn != NULL &&
           state->active != NULL;
}

/* Pairs and hits of one layer, by unit. A pair belongs to the unit of its first token.
 * last_row [E]: 1 + index of the last token that chose an expert. */
static void count_layer(bootstrap *state, int column, uint64_t *last_row)
{
    const mixt_trace *trace = state->trace;
    int layer = state->first_layer + column / MIXT_REPEAT_COUNT;
    int k = trace->info.experts_per_token;
    memset(last_row, 0, (size_t)trace->info.experts * sizeof *last_row);
    for (size_t r = 0; r < state->units->run_count; r++) {
        const mixt_unit_run *run = &state->units->runs[r];
        size_t unit = state->offset[run->domain] + run->unit;
        double *hits = state->hits + unit * (size_t)state->columns + column;
        for (uint64_t i = run->begin; i < run->end; i++) {
            const uint16_t *row = mixt_trace_experts(trace, layer, i);
            for (int c = 0; c < k; c++) {
                last_row[row[c]] = i + 1;
            }
            if (i + 1 >= trace->info.tokens || trace->document[i + 1] != trace->document[i]) {
                continue;
            }
            const uint16_t *next = row + k;
            bool meets = false;
            for (int c = 0; c < k && !meets; c++) {
                meets = last_row[next[c]] == i + 1;
            }
            hits[MIXT_REPEAT_FIRST] += next[0] == row[0];
            hits[MIXT_REPEAT_SETS] += meets;
            state->pairs[unit] += column == 0;
        }
    }
}

/* Draws as many units as the domain has, with replacement, REPLICATES times. Every layer sees the
 * same draws. Returns the number of units that have pairs. */
static uint32_t resample_domain(bootstrap *state, int domain)
{
    uint32_t active = 0;
    for (uint32_t u = 0; u < state->units->count[domain]; u++) {
        if (state->pairs[state->offset[domain] + u] > 0) {
            state->active[active++] = u;
        }
    }
    const mixt_random_key key = {RESAMPLE_SEED, MIXT_RANDOM_RESAMPLE, (uint32_t)domain};
    for (size_t b = 0; b < REPLICATES && active != 0; b++) {
        double pairs = 0;
        memset(state->drawn, 0, (size_t)state->columns * sizeof *state->drawn);
        for (uint32_t i = 0; i < active; i++) {
            uint64_t draw = mixt_random_below(&key, b * active + i, active);
            size_t unit = state->offset[domain] + state->active[draw];
            const double *hits = state->hits + unit * (size_t)state->columns;
            pairs += state->pairs[unit];
            for (int c = 0; c < state->columns; c++) {
                state->drawn[c] += hits[c];
            }
        }
        state->all_pairs[b] += pairs;
        for (int c = 0; c < state->columns; c++) {
            state->ratio[(size_t)c * REPLICATES + b] = state->drawn[c] / pairs;
            state->all_hits[(size_t)c * REPLICATES + b] += state->drawn[c];
        }
    }
    return active;
}

/* The rate with its interval from `replicates` [REPLICATES] (sorted here). */
static mixt_rate make_rate(double hits, double pairs, uint64_t units, double *replicates)
{
    mixt_rate rate = {0, 0, 1, (uint64_t)pairs};
    if (pairs <= 0) {
        return rate;
    }
    rate.value = hits / pairs;
    if (units < 2) { /* one unit says nothing about how units differ */
        return rate;
    }
    double tail = mixt_expanded_tail(units);
    mixt_sort_doubles(replicates, REPLICATES);
    rate.low = mixt_sorted_quantile(replicates, REPLICATES, tail);
    rate.high = mixt_sorted_quantile(replicates, REPLICATES, 1 - tail);
    if (rate.low >= rate.high) { /* all units alike, as at 0 % or 100 %: the pairs still bound it */
        mixt_wilson(hits, pairs, &rate.low, &rate.high);
    }
    return rate;
}

/* Chance that two different random tokens of a domain have the same first choice. */
static double usage_first(const mixt_trace *trace, const mixt_units *units, int layer, int domain,
                          uint64_t *count)
{
    uint64_t n = units->tokens[domain];
    memset(count, 0, (size_t)trace->info.experts * sizeof *count);
    for (uint64_t i = units->begin[domain]; i < units->begin[domain + 1]; i++) {
        count[mixt_trace_experts(trace, layer, units->order[i])[0]]++;
    }
    double sum = 0;
    for (int e = 0; e < trace->info.experts && n > 1; e++) {
        sum += (double)count[e] / (double)n * ((double)count[e] - 1) / (double)(n - 1);
    }
    return sum;
}

/* Same for sets of two: |A and B| - [A = B] is 1 exactly where they meet, so pairs of tokens that
 * share an expert less pairs of tokens with equal sets. table [E, E], count [E]. */
static double usage_of_two(const mixt_trace *trace, const mixt_units *units, int layer, int domain,
                           uint64_t *count, uint32_t *table)
{
    size_t experts = (size_t)trace->info.experts;
    double n = (double)units->tokens[domain];
    memset(count, 0, experts * sizeof *count);
    memset(table, 0, experts * experts * sizeof *table);
    for (uint64_t i = units->begin[domain]; i < units->begin[domain + 1]; i++) {
        const uint16_t *row = mixt_trace_experts(trace, layer, units->order[i]);
        size_t low = row[0] < row[1] ? row[0] : row[1];
        size_t high = row[0] < row[1] ? row[1] : row[0];
        count[row[0]]++;
        count[row[1]]++;
        table[low * experts + high]++;
    }
    double meeting = 0; /* ordered pairs of different tokens */
    for (size_t e = 0; e < experts; e++) {
        meeting += (double)count[e] * ((double)count[e] - 1);
        for (size_t f = e + 1; f < experts; f++) {
            double same = table[e * experts + f];
            meeting -= same * (same - 1);
        }
    }
    return n > 1 ? meeting / (n * (n - 1)) : 0;
}

/* Same for any k, from random pairs of different tokens. */
static double usage_of_sets(const mixt_trace *trace, const mixt_units *units, int layer, int domain)
{
    int k = trace->info.experts_per_token;
    uint64_t n = units->tokens[domain];
    const uint32_t *order = units->order + units->begin[domain];
    const mixt_random_key key = {RESAMPLE_SEED + 1, MIXT_RANDOM_RESAMPLE,
                                 (uint32_t)(layer * units->domains + domain)};
    if (n < 2) {
        return 0;
    }
    uint64_t meeting = 0;
    for (uint64_t p = 0; p < RANDOM_PAIRS; p++) {
        uint64_t a = mixt_random_below(&key, 2 * p, n);
        uint64_t b = mixt_random_below(&key, 2 * p + 1, n - 1);
        b += b >= a;
        const uint16_t *left = mixt_trace_experts(trace, layer, order[a]);
        const uint16_t *right = mixt_trace_experts(trace, layer, order[b]);
        bool meets = false;
        for (int i = 0; i < k * k && !meets; i++) {
            meets = left[i / k] == right[i % k];
        }
        meeting += meets;
    }
    return (double)meeting / RANDOM_PAIRS;
}

/* Both usage levels of every domain at one layer; the level over all domains is their mean
 * weighted by pairs, because a pair never leaves its domain. */
static mixt_status measure_usage(const mixt_trace *trace, const mixt_units *units, int layer,
                                 mixt_repetition *rows, mixt_error *error)
{
    size_t experts = (size_t)trace->info.experts;
    int k = trace->info.experts_per_token;
    bool exact = k == 2 && experts <= EXACT_SETS_EXPERTS;
    uint64_t *count = calloc(experts, sizeof *count);
    uint32_t *table = exact ? calloc(experts * experts, sizeof *table) : NULL;
    if (count == NULL || (exact && table == NULL)) {
        free(count);
        free(table);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "repetition: no memory");
    }
    double sums[MIXT_REPEAT_COUNT] = {0};
    double pairs = 0;
    for (int d = 0; d < units->domains; d++) {
        mixt_repetition *row = rows + d * MIXT_REPEAT_COUNT;
        row[MIXT_REPEAT_FIRST].usage = usage_first(trace, units, layer, d, count);
        row[MIXT_REPEAT_SETS].usage = k == 1  ? row[MIXT_REPEAT_FIRST].usage
                                      : exact ? usage_of_two(trace, units, layer, d, count, table)
                                              : usage_of_sets(trace, units, layer, d);
        for (int w = 0; w < MIXT_REPEAT_COUNT; w++) {
            sums[w] += row[w].usage * (double)row[w].rate.pairs;
        }
        pairs += (double)row[0].rate.pairs;
    }
    for (int w = 0; w < MIXT_REPEAT_COUNT; w++) {
        rows[units->domains * MIXT_REPEAT_COUNT + w].usage = pairs > 0 ? sums[w] / pairs : 0;
    }
    free(count);
    free(table);
    return MIXT_OK;
}

/* Rates of one domain (or of all, domain == domains) into their rows. */
static void fill_rows(bootstrap *state, int domain, uint64_t units, bool blocks,
                      mixt_repetition *rows)
{
    bool all = domain == state->units->domains;
    size_t begin = all ? 0 : state->offset[domain];
    size_t end = all ? state->offset[domain] : state->offset[domain + 1];
    const mixt_trace_info *info = &state->trace->info;
    for (int c = 0; c < state->columns; c++) {
        double hits = 0;
        double pairs = 0;
        double *replicates = (all ? state->all_hits : state->ratio) + (size_t)c * REPLICATES;
        for (size_t u = begin; u < end; u++) {
            hits += state->hits[u * (size_t)state->columns + (size_t)c];
            pairs += state->pairs[u];
        }
        for (size_t b = 0; all && b < REPLICATES && pairs > 0; b++) {
            replicates[b] /= state->all_pairs[b];
        }
        int layer = c / MIXT_REPEAT_COUNT;
        int which = c % MIXT_REPEAT_COUNT;
        mixt_repetition *row =
            rows + ((layer * (info->domains + 1)) + domain) * MIXT_REPEAT_COUNT + which;
        row->rate = make_rate(hits, pairs, units, replicates);
        row->random = mixt_atlas_random_level(info->experts, info->experts_per_token, which);
        row->units = units;
        row->blocks = blocks;
    }
}

mixt_status mixt_repetition_measure(const mixt_trace *trace, const mixt_units *units,
                                    int first_layer, int layers, mixt_repetition *rows,
                                    mixt_error *error)
{
    bootstrap state = {.trace = trace,
                       .units = units,
                       .first_layer = first_layer,
                       .columns = layers * MIXT_REPEAT_COUNT};
    uint64_t *last_row = calloc((size_t)trace->info.experts, sizeof *last_row);
    if (last_row == NULL || !bootstrap_allocate(&state)) {
        free(last_row);
        bootstrap_release(&state);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "repetition: no memory");
    }
    for (int layer = 0; layer < layers; layer++) {
        count_layer(&state, layer * MIXT_REPEAT_COUNT, last_row);
    }
    uint64_t freedom = 0; /* units less one of each domain: every domain is resampled by itself */
    bool blocks = false;
    for (int d = 0; d < units->domains; d++) {
        uint32_t active = resample_domain(&state, d);
        fill_rows(&state, d, active, units->blocks[d], rows);
        freedom += active > 0 ? active - 1 : 0;
        blocks = blocks || (active > 0 && units->blocks[d]);
    }
    fill_rows(&state, units->domains, freedom + 1, blocks, rows);
    free(last_row);
    bootstrap_release(&state);
    mixt_status status = MIXT_OK;
    for (int layer = 0; layer < layers && status == MIXT_OK; layer++) {
        mixt_repetition *row = rows + layer * (units->domains + 1) * MIXT_REPEAT_COUNT;
        status = measure_usage(trace, units, first_layer + layer, row, error);
    }
    return status;
}

mixt_status mixt_atlas_repetition(const mixt_trace *trace, int layer, int domain, int which,
                                  mixt_rate *rate, mixt_error *error)
{
    const mixt_trace_info *info = &trace->info;
    *rate = (mixt_rate){0};
    if (layer < 0 || layer >= info->layers || domain < -1 || domain >= info->domains || which < 0 ||
        which >= MIXT_REPEAT_COUNT) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "repetition of layer %d, domain %d, measure %d: the trace has %d layers "
                         "and %d domains",
                         layer, domain, which, info->layers, info->domains);
    }
    mixt_units *units = mixt_units_create(trace);
    mixt_repetition *rows = calloc(((size_t)info->domains + 1) * MIXT_REPEAT_COUNT, sizeof *rows);
    mixt_status status = MIXT_OK;
    if (units == NULL || rows == NULL) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "repetition: no memory");
    } else {
        status = mixt_repetition_measure(trace, units, layer, 1, rows, error);
    }
    if (status == MIXT_OK) {
        int row = domain < 0 ? info->domains : domain;
        *rate = rows[row * MIXT_REPEAT_COUNT + which].rate;
    }
    free(rows);
    mixt_units_free(units);
    return status;
}
