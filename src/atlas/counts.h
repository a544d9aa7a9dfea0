/* How often each expert was chosen: by layer, domain and rank of the choice. Choices without an
 * expert count nowhere: every share is one of the choices that were made. */
#ifndef MIXT_ATLAS_COUNTS_H
#define MIXT_ATLAS_COUNTS_H

#include <assert.h>

#include "atlas/trace.h"

typedef enum mixt_choice {
    MIXT_CHOICE_FIRST,
    MIXT_CHOICE_SECOND, /* all zero where a layer makes one */
    MIXT_CHOICE_ANY,    /* all choices */
    MIXT_CHOICE_COUNT,
} mixt_choice;

typedef struct mixt_counts {
    int layers, domains, experts;
    uint64_t *count; /* [L, domains, MIXT_CHOICE_COUNT, E] */
    uint64_t *total; /* [L, domains, MIXT_CHOICE_COUNT]: sums of `count` */
} mixt_counts;

mixt_counts *mixt_counts_create(const mixt_trace *trace);
void mixt_counts_free(mixt_counts *counts);

static inline size_t mixt_counts_row(const mixt_counts *counts, int layer, int domain,
                                     mixt_choice choice)
{
    assert(layer >= 0 && layer < counts->layers && domain >= 0 && domain < counts->domains);
    size_t row = (size_t)layer * (size_t)counts->domains + (size_t)domain;
    return row * MIXT_CHOICE_COUNT + (size_t)choice;
}

static inline const uint64_t *mixt_counts_of(const mixt_counts *counts, int layer, int domain,
                                             mixt_choice choice)
{
    return counts->count + mixt_counts_row(counts, layer, domain, choice) * (size_t)counts->experts;
}

/* Choices made; 0 where the domain has no tokens, or none of them an expert. */
static inline uint64_t mixt_counts_total(const mixt_counts *counts, int layer, int domain,
                                         mixt_choice choice)
{
    return counts->total[mixt_counts_row(counts, layer, domain, choice)];
}

/* An expert's part of the choices made, 0 where there are none. */
static inline double mixt_counts_share(const mixt_counts *counts, int layer, int domain,
                                       mixt_choice choice, int expert)
{
    assert(expert >= 0 && expert < counts->experts);
    uint64_t total = mixt_counts_total(counts, layer, domain, choice);
    const uint64_t *count = mixt_counts_of(counts, layer, domain, choice);
    return total != 0 ? (double)count[expert] / (double)total : 0;
}

/* Balance of one layer over all domains and the choices made; 0, E, E and 0 where none was. */
typedef struct mixt_load {
    double max_over_mean; /* most used expert over the mean; 1 is balance */
    int dead;             /* experts never chosen */
    int never_first;      /* experts that are no token's first choice */
    double effective;     /* exp(entropy) / E; 1 is balance */
} mixt_load;

/* share [E] (may be NULL): each expert's part of the layer's assignments. */
mixt_load mixt_load_of(const mixt_counts *counts, int layer, double *share);

#endif
