#include "atlas/repetition.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/interval.h"
#include "atlas/statistics.h"
#include "core/error.h"
#include "core/random.h"

#define REPLICATES 1000
#define RESAMPLE_SEED 0x6d697874 /* fixed: the same trace gives the same interval */
#define RANDOM_PAIRS 32768       /* for sets of more than two: standard error below 0.3 % */
#define EXACT_SETS_EXPERTS 512   /* pairs of two are counted in an E x E table up to here */

/* Sizes of the sets in the counted pairs of a domain at one layer, for the random level. */
typedef struct set_sizes {
    int least, most; /* 0: no pair yet */
    int last[2];     /* sizes of the pair before, */
    double level;    /* and the chance that uniform sets of these sizes meet */
    double sum;      /* of these chances over all pairs */
} set_sizes;

typedef struct bootstrap {
    const mixt_trace *trace;
    const mixt_units *units;
    int first_layer;
    int columns;            /* layers * MIXT_REPEAT_COUNT */
    size_t *offset;         /* [domains + 1] first unit of a domain in the arrays below */
    double *pairs;          /* [units, columns] */
    double *hits;           /* [units, columns] */
    double *ratio;          /* [columns, REPLICATES] of one domain */
    double *all_hits;       /* [columns, REPLICATES] */
    double *all_pairs;      /* [columns, REPLICATES] */
    double *drawn;          /* [2, columns] hits and pairs of one replicate */
    uint32_t *active;       /* units of a domain that have pairs */
    uint32_t *active_count; /* [columns] of one domain */
    uint64_t *freedom; /* [columns] units less one of each domain: each is resampled by itself */
    int *group;        /* [columns] those with the same active units */
    mixt_estimate *estimate; /* [columns, domains] */
    float *series;           /* [3, MIXT_SERIES_STEPS] hits and pairs of one document, room */
    set_sizes *sizes;        /* [layers, domains] */
    double *factorial;       /* [E + 1] log(n!) */
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
    free(state->active_count);
    free(state->freedom);
    free(state->group);
    free(state->estimate);
    free(state->series);
    free(state->sizes);
    free(state->factorial);
}

static bool bootstrap_allocate(bootstrap *state)
{
    const mixt_units *units = state->units;
    size_t columns = (size_t)state->columns;
    size_t experts = (size_t)state->trace->info.experts;
    state->offset = calloc((size_t)units->domains + 1, sizeof *state->offset);
    if (state->offset == NULL) {
        return false;
    }
    for (int d = 0; d < units->domains; d++) {
        state->offset[d + 1] = state->offset[d] + units->count[d];
    }
    size_t all = state->offset[units->domains];
    state->pairs = calloc(all * columns, sizeof(double));
    state->hits = calloc(all * columns, sizeof(double));
    state->ratio = calloc(columns * REPLICATES, sizeof(double));
    state->all_hits = calloc(columns * REPLICATES, sizeof(double));
    state->all_pairs = calloc(columns * REPLICATES, sizeof(double));
    state->drawn = calloc(2 * columns, sizeof(double));
    state->active = calloc(MIXT_UNITS_MAX, sizeof(uint32_t));
    state->active_count = calloc(columns, sizeof(uint32_t));
    state->freedom = calloc(columns, sizeof(uint64_t));
    state->group = calloc(columns, sizeof(int));
    state->estimate = calloc(columns * (size_t)units->domains, sizeof(mixt_estimate));
    state->series = calloc((size_t)3 * MIXT_SERIES_STEPS, sizeof(float));
    state->sizes = calloc(columns * (size_t)units->domains, sizeof(set_sizes));
    state->factorial = calloc(experts + 1, sizeof(double));
    for (size_t n = 1; n <= experts && state->factorial != NULL; n++) {
        state->factorial[n] = state->factorial[n - 1] + log((double)n);
    }
    return state->pairs != NULL && state->hits != NULL && state->ratio != NULL &&
           state->all_hits != NULL && state->all_pairs != NULL && state->drawn != NULL &&
           state->active != NULL && state->active_count != NULL && state->freedom != NULL &&
           state->group != NULL && state->estimate != NULL && state->series != NULL &&
           state->sizes != NULL && state->factorial != NULL;
}

/* Chance that uniform sets of a and b experts meet: 1 - C(E-a, b) / C(E, b). */
static double chance_to_meet(const bootstrap *state, int a, int b)
{
    int experts = state->trace->info.experts;
    const double *factorial = state->factorial;
    assert(a > 0 && a <= experts && b > 0 && b <= experts);
    return a + b > experts ? 1
                           : -expm1(factorial[experts - a] + factorial[experts - b] -
                                    factorial[experts - a - b] - factorial[experts]);
}

static void add_sizes(const bootstrap *state, set_sizes *sizes, int a, int b)
{
    int low = a < b ? a : b;
    int high = a < b ? b : a;
    if (low != sizes->last[0] || high != sizes->last[1]) {
        sizes->last[0] = low;
        sizes->last[1] = high;
        sizes->level = chance_to_meet(state, low, high);
        sizes->least = sizes->least == 0 || low < sizes->least ? low : sizes->least;
        sizes->most = high > sizes->most ? high : sizes->most;
    }
    sizes->sum += sizes->level;
}

/* Pairs and hits of one layer, by unit. A pair belongs to the unit of its first token.
 * last_row [E]: 1 + index of the last token that chose an expert. */
static void count_layer(bootstrap *state, int column, uint64_t *last_row)
{
    const mixt_trace *trace = state->trace;
    int layer = state->first_layer + column / MIXT_REPEAT_COUNT;
    int chosen = trace->chosen[layer];
    memset(last_row, 0, (size_t)trace->info.experts * sizeof *last_row);
    for (size_t r = 0; r < state->units->run_count; r++) {
        const mixt_unit_run *run = &state->units->runs[r];
        size_t unit = state->offset[run->domain] + run->unit;
        double *hits = state->hits + unit * (size_t)state->columns + column;
        double *pairs = state->pairs + unit * (size_t)state->columns + column;
        set_sizes *sizes =
            &state->sizes[column / MIXT_REPEAT_COUNT * state->units->domains + run->domain];
        for (uint64_t i = run->begin; i < run->end; i++) {
            const uint16_t *row = mixt_trace_experts(trace, layer, i);
            for (int c = 0; c < chosen; c++) {
                if (row[c] != MIXT_TRACE_NONE) {
                    last_row[row[c]] = i + 1;
                }
            }
            if (i + 1 >= trace->info.tokens || trace->document[i + 1] != trace->document[i]) {
                continue;
            }
            const uint16_t *next = mixt_trace_experts(trace, layer, i + 1);
            bool both = row[0] != MIXT_TRACE_NONE && next[0] != MIXT_TRACE_NONE;
            pairs[MIXT_REPEAT_FIRST] += both;
            hits[MIXT_REPEAT_FIRST] += both && next[0] == row[0];
            int size = mixt_trace_set_size(trace, layer, row);
            int next_size = mixt_trace_set_size(trace, layer, next);
            if (size == 0 || next_size == 0) {
                continue;
            }
            bool meets = false;
            for (int c = 0; c < chosen && !meets; c++) {
                meets = next[c] != MIXT_TRACE_NONE && last_row[next[c]] == i + 1;
            }
            pairs[MIXT_REPEAT_SETS] += 1;
            hits[MIXT_REPEAT_SETS] += meets;
            add_sizes(state, sizes, size, next_size);
        }
    }
}

/* Tokens i and i + 1, of one document: -1 where they are no pair of the measure, else whether they
 * repeat. */
static int pair_repeats(const mixt_trace *trace, int layer, int which, uint64_t i)
{
    const uint16_t *row = mixt_trace_experts(trace, layer, i);
    const uint16_t *next = mixt_trace_experts(trace, layer, i + 1);
    if (which == MIXT_REPEAT_FIRST) {
        bool both = row[0] != MIXT_TRACE_NONE && next[0] != MIXT_TRACE_NONE;
        return both ? row[0] == next[0] : -1;
    }
    if (mixt_trace_set_size(trace, layer, row) == 0 ||
        mixt_trace_set_size(trace, layer, next) == 0) {
        return -1;
    }
    int chosen = trace->chosen[layer];
    bool meets = false;
    for (int c = 0; c < chosen * chosen && !meets; c++) {
        uint16_t expert = row[c / chosen];
        meets = expert != MIXT_TRACE_NONE && expert == next[c % chosen];
    }
    return meets;
}

/* From blocks of the only document of a domain. */
static mixt_estimate estimate_document(const bootstrap *state, int column, const mixt_unit_run *run)
{
    int layer = state->first_layer + column / MIXT_REPEAT_COUNT;
    float *hits = state->series;
    float *pairs = state->series + MIXT_SERIES_STEPS;
    uint64_t count = run->end - run->begin - 1; /* of pairs */
    uint64_t step = (count + MIXT_SERIES_STEPS - 1) / MIXT_SERIES_STEPS;
    uint64_t runs[2] = {0}; /* of misses and of hits */
    int last = -1;
    memset(state->series, 0, (size_t)2 * MIXT_SERIES_STEPS * sizeof *state->series);
    for (uint64_t i = 0; i < count; i++) {
        int repeats = pair_repeats(state->trace, layer, column % MIXT_REPEAT_COUNT, run->begin + i);
        if (repeats >= 0) {
            runs[repeats] += repeats != last;
            hits[i / step] += (float)repeats;
            pairs[i / step] += 1;
            last = repeats;
        }
    }
    size_t steps = count == 0 ? 0 : (size_t)((count + step - 1) / step);
    return mixt_estimate_of_series(hits, pairs, steps, runs[0] < runs[1] ? runs[0] : runs[1],
                                   pairs + MIXT_SERIES_STEPS);
}

static const mixt_unit_run *only_document(const mixt_units *units, int domain)
{
    size_t r = 0;
    while (units->runs[r].domain != domain) {
        r++;
    }
    return &units->runs[r];
}

/* What the documents of a domain say, by themselves, about all columns. */
static void estimate_domain(bootstrap *state, int domain)
{
    const mixt_units *units = state->units;
    size_t columns = (size_t)state->columns;
    size_t at = state->offset[domain] * columns;
    const mixt_unit_run *run = units->documents[domain] == 1 ? only_document(units, domain) : NULL;
    for (size_t c = 0; c < columns; c++) {
        state->estimate[c * (size_t)units->domains + (size_t)domain] =
            run != NULL ? estimate_document(state, (int)c, run)
                        : mixt_estimate_of_units(state->hits + at + c, state->pairs + at + c,
                                                 columns, units->count[domain]);
    }
}

/* Enough documents, and not all alike. */
static bool is_drawn(const mixt_estimate *estimate)
{
    return estimate->freedom > 0 && estimate->units >= MIXT_UNITS_MIN_DOCUMENTS;
}

/* Whether the same units of a domain have pairs in two columns. */
static bool same_units(const bootstrap *state, int domain, int left, int right)
{
    for (size_t u = state->offset[domain]; u < state->offset[domain + 1]; u++) {
        const double *pairs = state->pairs + u * (size_t)state->columns;
        if ((pairs[left] > 0) != (pairs[right] > 0)) {
            return false;
        }
    }
    return true;
}

/* Draws `active` units with replacement, REPLICATES times, for the `count` columns of the group. */
static void resample_group(bootstrap *state, int domain, uint32_t active, int count)
{
    const mixt_random_key key = {RESAMPLE_SEED, MIXT_RANDOM_RESAMPLE, (uint32_t)domain};
    double *drawn_hits = state->drawn;
    double *drawn_pairs = state->drawn + state->columns;
    for (size_t b = 0; b < REPLICATES && active != 0; b++) {
        memset(state->drawn, 0, 2 * (size_t)state->columns * sizeof *state->drawn);
        for (uint32_t i = 0; i < active; i++) {
            uint64_t draw = mixt_random_below(&key, b * active + i, active);
            size_t unit = state->offset[domain] + state->active[draw];
            const double *hits = state->hits + unit * (size_t)state->columns;
            const double *pairs = state->pairs + unit * (size_t)state->columns;
            for (int g = 0; g < count; g++) {
                drawn_hits[g] += hits[state->group[g]];
                drawn_pairs[g] += pairs[state->group[g]];
            }
        }
        for (int g = 0; g < count; g++) {
            size_t at = (size_t)state->group[g] * REPLICATES + b;
            assert(drawn_pairs[g] > 0); /* every active unit has a pair */
            state->ratio[at] = drawn_hits[g] / drawn_pairs[g];
            state->all_hits[at] += drawn_hits[g];
            state->all_pairs[at] += drawn_pairs[g];
        }
    }
}

/* Draws as many units as the domain has, with replacement. Layers whose pairs lie in the same units
 * (all of them, where every token has its experts) see the same draws. */
static void resample_domain(bootstrap *state, int domain)
{
    for (int c = 0; c < state->columns; c++) {
        state->active_count[c] = UINT32_MAX; /* not yet drawn */
    }
    for (int c = 0; c < state->columns; c++) {
        if (state->active_count[c] != UINT32_MAX) {
            continue;
        }
        uint32_t active = 0;
        for (uint32_t u = 0; u < state->units->count[domain]; u++) {
            size_t unit = state->offset[domain] + u;
            if (state->pairs[unit * (size_t)state->columns + (size_t)c] > 0) {
                state->active[active++] = u;
            }
        }
        int count = 0;
        for (int other = c; other < state->columns; other++) {
            if (state->active_count[other] == UINT32_MAX && same_units(state, domain, c, other)) {
                state->active_count[other] = active;
                state->freedom[other] += active > 0 ? active - 1 : 0;
                state->group[count++] = other;
            }
        }
        resample_group(state, domain, active, count);
    }
}

/* The interval of the bootstrap from `replicates` [REPLICATES] (sorted here). */
static void draw_interval(double *replicates, uint64_t units, mixt_rate *rate)
{
    double tail = mixt_expanded_tail(units);
    mixt_sort_doubles(replicates, REPLICATES);
    double low = mixt_sorted_quantile(replicates, REPLICATES, tail);
    double high = mixt_sorted_quantile(replicates, REPLICATES, 1 - tail);
    if (low < high) { /* else alike by accident: what it is already holds */
        rate->low = low;
        rate->high = high;
    }
}

/* Chance that two different random tokens of a domain have the same first choice. */
static double usage_first(const mixt_trace *trace, const mixt_units *units, int layer, int domain,
                          uint64_t *count)
{
    uint64_t n = 0;
    memset(count, 0, (size_t)trace->info.experts * sizeof *count);
    for (uint64_t i = units->begin[domain]; i < units->begin[domain + 1]; i++) {
        uint16_t expert = mixt_trace_experts(trace, layer, units->order[i])[0];
        if (expert != MIXT_TRACE_NONE) {
            count[expert]++;
            n++;
        }
    }
    double sum = 0;
    for (int e = 0; e < trace->info.experts && n > 1; e++) {
        sum += (double)count[e] / (double)n * ((double)count[e] - 1) / (double)(n - 1);
    }
    return sum;
}

/* Same for sets of up to two: |A and B| is 1 exactly where they meet, but 2 where both are the same
 * two. So pairs of tokens that share an expert less pairs of tokens with equal sets of two.
 * table [E, E], count [E]. */
static double usage_of_two(const mixt_trace *trace, const mixt_units *units, int layer, int domain,
                           uint64_t *count, uint32_t *table)
{
    size_t experts = (size_t)trace->info.experts;
    double n = 0;
    memset(count, 0, experts * sizeof *count);
    memset(table, 0, experts * experts * sizeof *table);
    for (uint64_t i = units->begin[domain]; i < units->begin[domain + 1]; i++) {
        const uint16_t *row = mixt_trace_experts(trace, layer, units->order[i]);
        size_t low = row[0] < row[1] ? row[0] : row[1];
        size_t high = row[0] < row[1] ? row[1] : row[0]; /* MIXT_TRACE_NONE is the highest */
        if (high != MIXT_TRACE_NONE) {
            count[high]++;
            table[low * experts + high]++;
        }
        if (low != MIXT_TRACE_NONE) {
            count[low]++;
            n++;
        }
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

/* Same for any number, from random pairs of different tokens. tokens [domain's]: those with an
 * expert. */
static double usage_of_sets(const mixt_trace *trace, const mixt_units *units, int layer, int domain,
                            uint32_t *tokens)
{
    int chosen = trace->chosen[layer];
    uint64_t n = 0;
    const mixt_random_key key = {RESAMPLE_SEED + 1, MIXT_RANDOM_RESAMPLE,
                                 (uint32_t)(layer * units->domains + domain)};
    for (uint64_t i = units->begin[domain]; i < units->begin[domain + 1]; i++) {
        uint32_t token = units->order[i];
        const uint16_t *row = mixt_trace_experts(trace, layer, token);
        if (mixt_trace_set_size(trace, layer, row) != 0) {
            tokens[n++] = token;
        }
    }
    if (n < 2) {
        return 0;
    }
    uint64_t meeting = 0;
    for (uint64_t p = 0; p < RANDOM_PAIRS; p++) {
        uint64_t a = mixt_random_below(&key, 2 * p, n);
        uint64_t b = mixt_random_below(&key, 2 * p + 1, n - 1);
        b += b >= a;
        const uint16_t *left = mixt_trace_experts(trace, layer, tokens[a]);
        const uint16_t *right = mixt_trace_experts(trace, layer, tokens[b]);
        bool meets = false;
        for (int i = 0; i < chosen * chosen && !meets; i++) {
            uint16_t expert = left[i / chosen];
            meets = expert != MIXT_TRACE_NONE && expert == right[i % chosen];
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
    int chosen = trace->chosen[layer];
    bool exact = chosen == 2 && experts <= EXACT_SETS_EXPERTS;
    uint64_t *count = calloc(experts, sizeof *count);
    uint32_t *table = exact ? calloc(experts * experts, sizeof *table)
                            : calloc((size_t)trace->info.tokens, sizeof *table);
    if (count == NULL || table == NULL) {
        free(count);
        free(table);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "repetition: no memory");
    }
    double sums[MIXT_REPEAT_COUNT] = {0};
    double pairs[MIXT_REPEAT_COUNT] = {0};
    for (int d = 0; d < units->domains; d++) {
        mixt_repetition *row = rows + d * MIXT_REPEAT_COUNT;
        row[MIXT_REPEAT_FIRST].usage = usage_first(trace, units, layer, d, count);
        row[MIXT_REPEAT_SETS].usage = chosen == 1 ? row[MIXT_REPEAT_FIRST].usage
                                      : exact ? usage_of_two(trace, units, layer, d, count, table)
                                              : usage_of_sets(trace, units, layer, d, table);
        for (int w = 0; w < MIXT_REPEAT_COUNT; w++) {
            sums[w] += row[w].usage * (double)row[w].rate.pairs;
            pairs[w] += (double)row[w].rate.pairs;
        }
    }
    for (int w = 0; w < MIXT_REPEAT_COUNT; w++) {
        rows[units->domains * MIXT_REPEAT_COUNT + w].usage = pairs[w] > 0 ? sums[w] / pairs[w] : 0;
    }
    free(count);
    free(table);
    return MIXT_OK;
}

/* The random level of sets: the mean over the counted pairs of a domain (or of all). */
static double random_of_sets(const bootstrap *state, int layer, int domain, double pairs)
{
    int domains = state->units->domains;
    const set_sizes *sizes = state->sizes + layer * domains;
    const mixt_trace *trace = state->trace;
    set_sizes all = {0};
    for (int d = 0; d < domains; d++) {
        if ((d == domain || domain == domains) && sizes[d].most != 0) {
            bool less = all.least == 0 || sizes[d].least < all.least;
            all.least = less ? sizes[d].least : all.least;
            all.most = sizes[d].most > all.most ? sizes[d].most : all.most;
            all.sum += sizes[d].sum;
        }
    }
    if (all.least != all.most) {
        return all.sum / pairs;
    }
    int size = all.most != 0 ? all.most : trace->chosen[state->first_layer + layer];
    return mixt_atlas_random_level(trace->info.experts, size, MIXT_REPEAT_SETS);
}

/* Rates of one domain (or of all, domain == domains) into their rows. */
static void fill_rows(bootstrap *state, int domain, bool single, mixt_repetition *rows)
{
    int domains = state->units->domains;
    bool all = domain == domains;
    const mixt_trace_info *info = &state->trace->info;
    for (int c = 0; c < state->columns; c++) {
        const mixt_estimate *parts = state->estimate + (size_t)c * (size_t)domains;
        mixt_estimate estimate =
            all ? mixt_estimate_of_domains(parts, (size_t)domains) : parts[domain];
        double hits = 0;
        bool drawn = estimate.pairs > 0;
        for (int d = all ? 0 : domain; d < (all ? domains : domain + 1); d++) {
            drawn = drawn && (parts[d].pairs <= 0 || is_drawn(&parts[d]));
            for (size_t u = state->offset[d]; u < state->offset[d + 1]; u++) {
                hits += state->hits[u * (size_t)state->columns + (size_t)c];
            }
        }
        double *replicates = (all ? state->all_hits : state->ratio) + (size_t)c * REPLICATES;
        for (size_t b = 0; all && drawn && b < REPLICATES; b++) {
            replicates[b] /= state->all_pairs[(size_t)c * REPLICATES + b];
        }
        int layer = c / MIXT_REPEAT_COUNT;
        int which = c % MIXT_REPEAT_COUNT;
        mixt_repetition *row =
            rows + ((layer * (info->domains + 1)) + domain) * MIXT_REPEAT_COUNT + which;
        row->rate = (mixt_rate){.value = estimate.pairs > 0 ? hits / estimate.pairs : 0,
                                .low = estimate.low,
                                .high = estimate.high,
                                .pairs = (uint64_t)estimate.pairs};
        row->units = estimate.units;
        row->single = single;
        if (drawn) {
            uint64_t units = all ? state->freedom[c] + 1 : estimate.units;
            draw_interval(replicates, units, &row->rate);
        }
        row->random = which == MIXT_REPEAT_FIRST
                          ? mixt_atlas_random_level(info->experts, 1, which)
                          : random_of_sets(state, layer, domain, estimate.pairs);
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
    assert(first_layer >= 0 && layers >= 1 && first_layer + layers <= trace->info.layers);
    assert(units->domains == trace->info.domains);
    uint64_t *last_row = calloc((size_t)trace->info.experts, sizeof *last_row);
    if (last_row == NULL || !bootstrap_allocate(&state)) {
        free(last_row);
        bootstrap_release(&state);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "repetition: no memory");
    }
    for (int layer = 0; layer < layers; layer++) {
        count_layer(&state, layer * MIXT_REPEAT_COUNT, last_row);
    }
    bool single = false;
    for (int d = 0; d < units->domains; d++) {
        estimate_domain(&state, d);
        resample_domain(&state, d);
        fill_rows(&state, d, units->documents[d] == 1, rows);
        single = single || units->documents[d] == 1;
    }
    fill_rows(&state, units->domains, single, rows);
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
