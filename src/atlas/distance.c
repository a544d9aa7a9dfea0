#include "atlas/distance.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/interval.h"
#include "atlas/statistics.h"
#include "core/error.h"
#include "core/random.h"

#define SPLITS 200
#define SPLIT_SEED 0x73706c74 /* fixed: the same trace gives the same level */

/* Blocks of few documents: about so many where the dependence allows it. */
#define BLOCKS 16
#define BLOCKS_ROOM (BLOCKS + MIXT_UNITS_MIN_DOCUMENTS)
/* What the length of the blocks is made from: counts of up to so many groups of experts in up to so
 * many steps of several tokens, and a last step for each document. */
#define SERIES_STEPS 1024
#define SERIES_ROOM (SERIES_STEPS + MIXT_UNITS_MIN_DOCUMENTS)

typedef struct splitter {
    const mixt_trace *trace;
    const mixt_units *units;
    const mixt_counts *counts;
    size_t *offset; /* [domains + 1] first unit of a domain */
    size_t *cut;    /* [domains, MIXT_UNITS_MIN_DOCUMENTS - 1] runs of the domains that are cut */
    float *unit_count; /* [units, E] assignments at one layer */
    uint32_t *active;  /* [units]: those of a domain with a choice at the layer, from its offset */
    uint32_t *active_count; /* [domains] */
    double *error;          /* [domains, E] half differences of one split */
    double *half;           /* [E] */
    double *distance;       /* [domains, SPLITS] */
    float *series;          /* [SERIES_ROOM, MIXT_SERIES_GROUPS] counts of few documents */
} splitter;

/* Distance of each row of values [domains, E] from the mean of the used rows; rows of domains
 * without a choice at the layer stay out. */
static void distances_from_mean(const splitter *state, const double *values, size_t stride,
                                double *result)
{
    const uint32_t *active = state->active_count;
    size_t experts = (size_t)state->counts->experts;
    int used = 0;
    for (int d = 0; d < state->units->domains; d++) {
        used += active[d] != 0;
        result[(size_t)d * stride] = 0;
    }
    for (size_t e = 0; e < experts; e++) {
        double mean = 0;
        for (int d = 0; d < state->units->domains; d++) {
            mean += active[d] != 0 ? values[(size_t)d * experts + e] : 0;
        }
        mean /= used;
        for (int d = 0; d < state->units->domains; d++) {
            if (active[d] != 0) {
                result[(size_t)d * stride] += 0.5 * fabs(values[(size_t)d * experts + e] - mean);
            }
        }
    }
}

static bool is_cut(const mixt_units *units, int domain)
{
    return units->documents[domain] < MIXT_UNITS_MIN_DOCUMENTS;
}

/* Document `number` of a domain that is cut. */
static const mixt_unit_run *cut_run(const splitter *state, int domain, uint64_t number)
{
    size_t at = (size_t)domain * (MIXT_UNITS_MIN_DOCUMENTS - 1) + (size_t)number;
    return &state->units->runs[state->cut[at]];
}

/* Adds the experts of tokens [begin, end); expert e to count[e % groups]. */
static void add_experts(const splitter *state, int layer, uint64_t begin, uint64_t end,
                        float *count, size_t groups)
{
    int k = state->trace->info.experts_per_token;
    int chosen = state->trace->chosen[layer];
    const uint16_t *row = mixt_trace_experts(state->trace, layer, begin);
    for (uint64_t i = begin; i < end; i++, row += k) {
        for (int c = 0; c < chosen; c++) {
            if (row[c] != MIXT_TRACE_NONE) {
                count[row[c] % groups] += 1;
            }
        }
    }
}

/* Takes the mean of each group over the steps from them. */
static void centre(float *steps, size_t count, size_t groups)
{
    for (size_t g = 0; g < groups; g++) {
        double mean = 0;
        for (size_t i = 0; i < count; i++) {
            mean += (double)steps[i * groups + g] / (double)count;
        }
        for (size_t i = 0; i < count; i++) {
            steps[i * groups + g] -= (float)mean;
        }
    }
}

/* Tokens in a block of a domain's documents. */
static uint64_t block_tokens(const splitter *state, int layer, int domain)
{
    const mixt_units *units = state->units;
    uint64_t tokens = units->tokens[domain];
    uint64_t step = (tokens + SERIES_STEPS - 1) / SERIES_STEPS;
    size_t experts = (size_t)state->counts->experts;
    size_t groups = experts < MIXT_SERIES_GROUPS ? experts : MIXT_SERIES_GROUPS;
    size_t count = 0;
    memset(state->series, 0, SERIES_ROOM * groups * sizeof *state->series);
    for (uint64_t d = 0; d < units->documents[domain]; d++) {
        const mixt_unit_run *run = cut_run(state, domain, d);
        size_t first = count; /* documents may differ: each has its own mean */
        for (uint64_t i = run->begin; i < run->end; i += step, count++) {
            uint64_t end = run->end - i < step ? run->end : i + step;
            assert(count < SERIES_ROOM);
            add_experts(state, layer, i, end, state->series + count * groups, groups);
        }
        centre(state->series + first * groups, count - first, groups);
    }
    double length = mixt_block_length(state->series, count, groups);
    double least = (double)tokens / BLOCKS;
    if (length <= 0) {
        return tokens;
    }
    return (uint64_t)ceil(fmax(least, MIXT_BLOCKS_STRETCH * length * (double)step));
}

/* Blocks of `length` of one document, the last up to twice as long; returns the next free unit. */
static uint32_t count_blocks(splitter *state, int layer, const mixt_unit_run *run, uint64_t length,
                             uint32_t unit)
{
    size_t experts = (size_t)state->counts->experts;
    for (uint64_t begin = run->begin; begin < run->end; unit++) {
        uint64_t end = run->end - begin < 2 * length ? run->end : begin + length;
        assert(unit < BLOCKS_ROOM);
        add_experts(state, layer, begin, end,
                    state->unit_count + (state->offset[run->domain] + unit) * experts, experts);
        begin = end;
    }
    return unit;
}

static void count_units(splitter *state, int layer)
{
    const mixt_units *units = state->units;
    size_t experts = (size_t)state->counts->experts;
    memset(state->unit_count, 0, state->offset[units->domains] * experts * sizeof(float));
    for (int d = 0; d < units->domains; d++) {
        uint64_t length = is_cut(units, d) ? block_tokens(state, layer, d) : 0;
        uint32_t unit = 0;
        for (uint64_t i = 0; i < units->documents[d] && length != 0; i++) {
            unit = count_blocks(state, layer, cut_run(state, d, i), length, unit);
        }
    }
    for (size_t r = 0; r < units->run_count; r++) {
        const mixt_unit_run *run = &units->runs[r];
        if (!is_cut(units, run->domain)) {
            add_experts(state, layer, run->begin, run->end,
                        state->unit_count + (state->offset[run->domain] + run->unit) * experts,
                        experts);
        }
    }
}

/* A unit whose tokens have no expert at all says nothing about proportions. */
static void find_active(splitter *state)
{
    const mixt_units *units = state->units;
    size_t experts = (size_t)state->counts->experts;
    for (int d = 0; d < units->domains; d++) {
        uint32_t count = 0;
        for (uint32_t u = 0; u < state->offset[d + 1] - state->offset[d]; u++) {
            const float *row = state->unit_count + (state->offset[d] + u) * experts;
            size_t e = 0;
            while (e < experts && row[e] == 0) {
                e++;
            }
            if (e < experts) {
                state->active[state->offset[d] + count++] = u;
            }
        }
        state->active_count[d] = count;
    }
}

/* Half the difference between the proportions of two random halves of a domain, into error [E]. */
static void split_domain(splitter *state, int layer, int domain, uint64_t split, double *error)
{
    size_t experts = (size_t)state->counts->experts;
    uint32_t units = state->active_count[domain];
    const uint32_t *active = state->active + state->offset[domain];
    const uint64_t *all = mixt_counts_of(state->counts, layer, domain, MIXT_CHOICE_ANY);
    const mixt_random_key key = {SPLIT_SEED, MIXT_RANDOM_RESAMPLE, (uint32_t)domain};
    const float *counts = state->unit_count + state->offset[domain] * experts;
    memset(state->half, 0, experts * sizeof *state->half);
    uint32_t chosen = 0;
    uint64_t coins = 0;
    for (uint32_t u = 0; u < units; u++) {
        if (u % 64 == 0) {
            coins = mixt_random_bits(&key, split * (MIXT_UNITS_MAX / 64) + u / 64);
        }
        bool take = (coins >> (u % 64) & 1) != 0;
        if (u + 1 == units) { /* neither half may stay empty */
            take = chosen == 0 || (take && chosen + 1 < units);
        }
        chosen += take;
        for (size_t e = 0; e < experts && take; e++) {
            state->half[e] += (double)counts[active[u] * experts + e];
        }
    }
    double left = 0;
    double total = 0;
    for (size_t e = 0; e < experts; e++) {
        left += state->half[e];
        total += (double)all[e];
    }
    assert(units < 2 || (left > 0 && left < total)); /* every active unit has a choice */
    for (size_t e = 0; e < experts; e++) {
        double right = (double)all[e] - state->half[e];
        error[e] = units < 2 ? 0 : 0.5 * (state->half[e] / left - right / (total - left));
    }
}

static void measure_layer(splitter *state, int layer, mixt_distance *rows)
{
    size_t experts = (size_t)state->counts->experts;
    int domains = state->units->domains;
    bool bounded = true; /* no domain's error is quite unknown */
    count_units(state, layer);
    find_active(state);
    for (int d = 0; d < domains; d++) {
        bounded = bounded && state->active_count[d] != 1;
    }
    for (uint64_t s = 0; s < SPLITS; s++) {
        for (int d = 0; d < domains; d++) {
            if (state->active_count[d] != 0) {
                split_domain(state, layer, d, s, state->error + (size_t)d * experts);
            }
        }
        distances_from_mean(state, state->error, SPLITS, state->distance + s);
    }
    for (int d = 0; d < domains; d++) {
        double *sample = state->distance + (size_t)d * SPLITS;
        double sum = 0;
        mixt_sort_doubles(sample, SPLITS);
        for (int s = 0; s < SPLITS; s++) {
            sum += sample[s];
        }
        rows[d].leveled = bounded && state->active_count[d] >= MIXT_UNITS_MIN_DOCUMENTS;
        rows[d].level = rows[d].leveled ? sum / SPLITS : 0;
        rows[d].high = rows[d].leveled ? mixt_sorted_quantile(sample, SPLITS, 0.95) : 0;
        for (size_t e = 0; e < experts; e++) {
            state->error[(size_t)d * experts + e] =
                mixt_counts_share(state->counts, layer, d, MIXT_CHOICE_ANY, (int)e);
        }
    }
    distances_from_mean(state, state->error, 1, state->distance);
    for (int d = 0; d < domains; d++) {
        rows[d].value = state->distance[d];
    }
}

mixt_status mixt_distance_measure(const mixt_trace *trace, const mixt_units *units,
                                  const mixt_counts *counts, mixt_distance *rows, mixt_error *error)
{
    size_t experts = (size_t)counts->experts;
    size_t domains = (size_t)units->domains;
    splitter state = {.trace = trace, .units = units, .counts = counts};
    assert(counts->layers == trace->info.layers && counts->domains == units->domains);
    state.offset = calloc(domains + 1, sizeof *state.offset);
    for (size_t d = 0; d < domains && state.offset != NULL; d++) {
        state.offset[d + 1] =
            state.offset[d] + (is_cut(units, (int)d) ? BLOCKS_ROOM : units->count[d]);
    }
    state.cut = calloc(domains * (MIXT_UNITS_MIN_DOCUMENTS - 1), sizeof *state.cut);
    for (size_t r = 0; r < units->run_count && state.cut != NULL; r++) {
        const mixt_unit_run *run = &units->runs[r];
        if (is_cut(units, run->domain)) {
            state.cut[run->domain * (MIXT_UNITS_MIN_DOCUMENTS - 1) + run->unit] = r;
        }
    }
    if (state.offset != NULL) {
        state.unit_count = calloc(state.offset[domains] * experts, sizeof *state.unit_count);
        state.active = calloc(state.offset[domains], sizeof *state.active);
    }
    state.active_count = calloc(domains, sizeof *state.active_count);
    state.error = calloc(domains * experts, sizeof *state.error);
    state.half = calloc(experts, sizeof *state.half);
    state.distance = calloc(domains * SPLITS, sizeof *state.distance);
    state.series = calloc(SERIES_ROOM * MIXT_SERIES_GROUPS, sizeof *state.series);
    mixt_status status = MIXT_OK;
    if (state.offset == NULL || state.cut == NULL || state.unit_count == NULL ||
        state.active == NULL || state.active_count == NULL || state.error == NULL ||
        state.half == NULL || state.distance == NULL || state.series == NULL) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "distance of domains: no memory");
    }
    for (int layer = 0; layer < trace->info.layers && status == MIXT_OK; layer++) {
        measure_layer(&state, layer, rows + (size_t)layer * domains);
    }
    free(state.offset);
    free(state.cut);
    free(state.unit_count);
    free(state.active);
    free(state.active_count);
    free(state.error);
    free(state.half);
    free(state.distance);
    free(state.series);
    return status;
}
