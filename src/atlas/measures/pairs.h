/* What the measures of two traces of the same text share (pairs.c, breaks.c). */
#ifndef MIXT_ATLAS_MEASURES_PAIRS_H
#define MIXT_ATLAS_MEASURES_PAIRS_H

#include "atlas/measures/measures.h"

/* Refused where the traces are not of the same text, document by document and domain by domain, or
 * their models' layers do not match; with `same_experts`, where these have not as many experts. The
 * message names the measure, what differs, and where first. */
mixt_status mixt_pair_check(const mixt_measuring *measuring, const char *name, bool same_experts,
                            mixt_error *error);

/* The two sets of experts of a token. */
typedef struct mixt_pair_sets {
    int first, second; /* experts in each */
    int both;          /* experts in both */
} mixt_pair_sets;

/* seen [E] and *stamp remember which experts the last rows held: zeros at the beginning. */
mixt_pair_sets mixt_pair_compare(const mixt_measuring *measuring, int layer, uint64_t index,
                                 uint64_t *seen, uint64_t *stamp);

/* Experts in both over experts in the larger set; neither may be empty. */
static inline double mixt_pair_share(mixt_pair_sets sets)
{
    return (double)sets.both / (double)(sets.first > sets.second ? sets.first : sets.second);
}

#endif
