#include "atlas/distance.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/statistics.h"
#include "core/error.h"
#include "core/random.h"

#define SPLITS 200
#define SPLIT_SEED 0x73706c74 /* fixed: the same trace gives the same level */

typedef struct splitter {
    const mixt_trace *trace;
    const mixt_units *units;
    const mixt_counts *counts;
    size_t *offset;    /* [domains + 1] first unit of a domain */
    float *unit_count; /* [units, E] assignments at one layer */
    uint32_t *active;  /* [units]: those of a domain with a choice at the layer, from its offset */
    uint32_t *active_count; /* [domains] */
    double *error;          /* [domains, E] half differences of one split */
    double *half;           /* [E] */
    double *distance;       /* [domains, SPLITS] */
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

static void count_units(splitter *state, int layer)
{
    const mixt_units *units = state->units;
    size_t experts = (size_t)state->counts->experts;
    int k = state->trace->info.experts_per_token;
    int chosen = state->trace->chosen[layer];
    memset(state->unit_count, 0, state->offset[units->domains] * experts * sizeof(float));
    for (size_t r = 0; r < units->run_count; r++) {
        const mixt_unit_run *run = &units->runs[r];
        float *count = state->unit_count + (state->offset[run->domain] + run->unit) * experts;
        const uint16_t *row = mixt_trace_experts(state->trace, layer, run->begin);
        for (uint64_t i = run->begin; i < run->end; i++, row += k) {
            for (int c = 0; c < chosen; c++) {
                if (row[c] != MIXT_TRACE_NONE) {
                    count[row[c]] += 1;
                }
            }
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
        for (uint32_t u = 0; u < units->count[d]; u++) {
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
    count_units(state, layer);
    find_active(state);
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
        rows[d].level = sum / SPLITS;
        rows[d].high = mixt_sorted_quantile(sample, SPLITS, 0.95);
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
        state.offset[d + 1] = state.offset[d] + units->count[d];
    }
    if (state.offset != NULL) {
        state.unit_count = calloc(state.offset[domains] * experts, sizeof *state.unit_count);
        state.active = calloc(state.offset[domains], sizeof *state.active);
    }
    state.active_count = calloc(domains, sizeof *state.active_count);
    state.error = calloc(domains * experts, sizeof *state.error);
    state.half = calloc(experts, sizeof *state.half);
    state.distance = calloc(domains * SPLITS, sizeof *state.distance);
    mixt_status status = MIXT_OK;
    if (state.offset == NULL || state.unit_count == NULL || state.active == NULL ||
        state.active_count == NULL || state.error == NULL || state.half == NULL ||
        state.distance == NULL) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "distance of domains: no memory");
    }
    for (int layer = 0; layer < trace->info.layers && status == MIXT_OK; layer++) {
        measure_layer(&state, layer, rows + (size_t)layer * domains);
    }
    free(state.offset);
    free(state.unit_count);
    free(state.active);
    free(state.active_count);
    free(state.error);
    free(state.half);
    free(state.distance);
    return status;
}
