#include "atlas/counts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

void mixt_count_experts(const mixt_trace *trace, int layer, int domain, int rank, uint64_t *count,
                        uint64_t *total)
{
    int k = trace->info.experts_per_token;
    int first = rank < 0 ? 0 : rank;
    int end = rank < 0 ? k : rank + 1;
    memset(count, 0, (size_t)trace->info.experts * sizeof *count);
    *total = 0;
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        if (domain >= 0 && trace->domain[i] != domain) {
            continue;
        }
        const uint16_t *row = mixt_trace_experts(trace, layer, i);
        for (int c = first; c < end; c++) {
            count[row[c]]++;
        }
        *total += (uint64_t)(end - first);
    }
}

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
    uint64_t total;
    mixt_count_experts(trace, layer, domain, choice, count, &total);
    for (int e = 0; e < info->experts; e++) {
        shares[e] = total != 0 ? (double)count[e] / (double)total : 0;
    }
    free(count);
    return MIXT_OK;
}

mixt_counts *mixt_counts_create(const mixt_trace *trace)
{
    const mixt_trace_info *info = &trace->info;
    mixt_counts *counts = calloc(1, sizeof *counts);
    if (counts == NULL) {
        return NULL;
    }
    size_t layer_size = (size_t)info->domains * MIXT_CHOICE_COUNT * (size_t)info->experts;
    counts->layers = info->layers;
    counts->domains = info->domains;
    counts->experts = info->experts;
    counts->count = calloc((size_t)info->layers * layer_size, sizeof *counts->count);
    if (counts->count == NULL) {
        free(counts);
        return NULL;
    }
    for (int layer = 0; layer < info->layers; layer++) {
        uint64_t *table = counts->count + (size_t)layer * layer_size;
        for (uint64_t i = 0; i < info->tokens; i++) {
            const uint16_t *row = mixt_trace_experts(trace, layer, i);
            uint64_t *cell =
                table + (size_t)trace->domain[i] * MIXT_CHOICE_COUNT * (size_t)info->experts;
            cell[row[0]]++;
            if (info->experts_per_token > 1) {
                cell[(size_t)MIXT_CHOICE_SECOND * (size_t)info->experts + row[1]]++;
            }
            for (int c = 0; c < info->experts_per_token; c++) {
                cell[(size_t)MIXT_CHOICE_ANY * (size_t)info->experts + row[c]]++;
            }
        }
    }
    return counts;
}

void mixt_counts_free(mixt_counts *counts)
{
    if (counts != NULL) {
        free(counts->count);
        free(counts);
    }
}

mixt_load mixt_load_of(const mixt_counts *counts, int layer, double *share)
{
    uint64_t total = 0;
    uint64_t most = 0;
    int dead = 0;
    double entropy_sum = 0; /* sum n log n */
    for (int e = 0; e < counts->experts; e++) {
        uint64_t n = 0;
        for (int d = 0; d < counts->domains; d++) {
            n += mixt_counts_of(counts, layer, d, MIXT_CHOICE_ANY)[e];
        }
        total += n;
        most = n > most ? n : most;
        dead += n == 0;
        entropy_sum += n != 0 ? (double)n * log((double)n) : 0;
        if (share != NULL) {
            share[e] = (double)n;
        }
    }
    double sum = (double)total;
    for (int e = 0; share != NULL && e < counts->experts; e++) {
        share[e] /= sum;
    }
    double entropy = log(sum) - entropy_sum / sum; /* nats */
    return (mixt_load){(double)most * counts->experts / sum, dead, exp(entropy) / counts->experts};
}
