#include "atlas/counts.h"

#include <math.h>
#include <stdlib.h>

#include "core/error.h"

mixt_status mixt_atlas_proportions(const mixt_trace *trace, int layer, int domain, int choice,
                                   double *shares, mixt_error *error)
{
    const mixt_trace_info *info = &trace->info;
    if (layer < 0 || layer >= info->layers || domain < -1 || domain >= info->domains ||
        choice < -1 || choice >= info->experts_per_token) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "proportions of layer %d, domain %d, choice %d: the trace has %d layers, "
                         "%d domains and %d choices",
                         layer, domain, choice, info->layers, info->domains,
                         info->experts_per_token);
    }
    uint64_t *count = calloc((size_t)info->experts, sizeof *count);
    if (count == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "proportions: no memory");
    }
    int first = choice < 0 ? 0 : choice;
    int end = choice < 0 ? info->experts_per_token : choice + 1;
    uint64_t total = 0;
    for (uint64_t i = 0; i < info->tokens; i++) {
        const uint16_t *row = mixt_trace_experts(trace, layer, i);
        for (int c = first; c < end && (domain < 0 || trace->domain[i] == domain); c++) {
            if (row[c] != MIXT_TRACE_NONE) {
                count[row[c]]++;
                total++;
            }
        }
    }
    for (int e = 0; e < info->experts; e++) {
        shares[e] = total != 0 ? (double)count[e] / (double)total : 0;
    }
    free(count);
    return MIXT_OK;
}

/* One row of `chosen` choices into the cells of its domain. */
static void count_token(mixt_counts *counts, int layer, int domain, const uint16_t *row, int chosen)
{
    size_t first = mixt_counts_row(counts, layer, domain, MIXT_CHOICE_FIRST);
    for (int c = 0; c < chosen; c++) {
        if (row[c] == MIXT_TRACE_NONE) {
            continue;
        }
        if (c <= MIXT_CHOICE_SECOND) {
            counts->count[(first + (size_t)c) * (size_t)counts->experts + row[c]]++;
            counts->total[first + (size_t)c]++;
        }
        counts->count[(first + MIXT_CHOICE_ANY) * (size_t)counts->experts + row[c]]++;
        counts->total[first + MIXT_CHOICE_ANY]++;
    }
}

mixt_counts *mixt_counts_create(const mixt_trace *trace)
{
    const mixt_trace_info *info = &trace->info;
    mixt_counts *counts = calloc(1, sizeof *counts);
    if (counts == NULL) {
        return NULL;
    }
    size_t rows = (size_t)info->layers * (size_t)info->domains * MIXT_CHOICE_COUNT;
    counts->layers = info->layers;
    counts->domains = info->domains;
    counts->experts = info->experts;
    counts->count = calloc(rows * (size_t)info->experts, sizeof *counts->count);
    counts->total = calloc(rows, sizeof *counts->total);
    if (counts->count == NULL || counts->total == NULL) {
        mixt_counts_free(counts);
        return NULL;
    }
    for (int layer = 0; layer < info->layers; layer++) {
        for (uint64_t i = 0; i < info->tokens; i++) {
            count_token(counts, layer, trace->domain[i], mixt_trace_experts(trace, layer, i),
                        trace->chosen[layer]);
        }
    }
    return counts;
}

void mixt_counts_free(mixt_counts *counts)
{
    if (counts != NULL) {
        free(counts->count);
        free(counts->total);
        free(counts);
    }
}

mixt_load mixt_load_of(const mixt_counts *counts, int layer, double *share)
{
    uint64_t total = 0;
    uint64_t most = 0;
    int dead = 0;
    int never_first = 0;
    double entropy_sum = 0; /* sum n log n */
    for (int e = 0; e < counts->experts; e++) {
        uint64_t n = 0;
        uint64_t first = 0;
        for (int d = 0; d < counts->domains; d++) {
            n += mixt_counts_of(counts, layer, d, MIXT_CHOICE_ANY)[e];
            first += mixt_counts_of(counts, layer, d, MIXT_CHOICE_FIRST)[e];
        }
        never_first += first == 0;
        total += n;
        most = n > most ? n : most;
        dead += n == 0;
        entropy_sum += n != 0 ? (double)n * log((double)n) : 0;
        if (share != NULL) {
            share[e] = (double)n;
        }
    }
    if (total == 0) {
        return (mixt_load){0, dead, never_first, 0};
    }
    double sum = (double)total;
    for (int e = 0; share != NULL && e < counts->experts; e++) {
        share[e] /= sum;
    }
    double entropy = log(sum) - entropy_sum / sum; /* nats */
    return (mixt_load){(double)most * counts->experts / sum, dead, never_first,
                       exp(entropy) / counts->experts};
}
