/* How often each expert was chosen: by layer, domain and rank of the choice. */
#ifndef MIXT_ATLAS_COUNTS_H
#define MIXT_ATLAS_COUNTS_H

#include "atlas/trace.h"

typedef enum mixt_choice {
    MIXT_CHOICE_FIRST,
    MIXT_CHOICE_SECOND, /* all zero where k = 1 */
    MIXT_CHOICE_ANY,    /* all k choices */
    MIXT_CHOICE_COUNT,
} mixt_choice;

/* count [E] of one layer and domain (-1: all) over choice `rank` (-1: all k); *total their sum. */
void mixt_count_experts(const mixt_trace *trace, int layer, int domain, int rank, uint64_t *count,
                        uint64_t *total);

typedef struct mixt_counts {
    int layers, domains, experts;
    uint64_t *count; /* [L, domains, MIXT_CHOICE_COUNT, E] */
} mixt_counts;

mixt_counts *mixt_counts_create(const mixt_trace *trace);
void mixt_counts_free(mixt_counts *counts);

static inline const uint64_t *mixt_counts_of(const mixt_counts *counts, int layer, int domain,
                                             mixt_choice choice)
{
    size_t row = ((size_t)layer * (size_t)counts->domains + (size_t)domain) * MIXT_CHOICE_COUNT;
    return counts->count + (row + (size_t)choice) * (size_t)counts->experts;
}

/* Balance of one layer over all domains and choices. */
typedef struct mixt_load {
    double max_over_mean; /* most used expert over the mean; 1 is balance */
    int dead;             /* experts never chosen */
    double effective;     /* exp(entropy) / E; 1 is balance */
} mixt_load;

/* share [E] (may be NULL): each expert's part of the layer's assignments. */
mixt_load mixt_load_of(const mixt_counts *counts, int layer, double *share);

#endif
