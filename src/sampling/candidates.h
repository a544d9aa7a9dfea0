/* Candidates for the next token, and the parts of samplers that all of them share. */
#ifndef MIXT_SAMPLING_CANDIDATES_H
#define MIXT_SAMPLING_CANDIDATES_H

#include <stdbool.h>
#include <stdint.h>

#include "mixt.h"

typedef struct mixt_candidate {
    int32_t id;
    double logit;
    double probability; /* once mixt_candidates_softmax was there */
} mixt_candidate;

typedef struct mixt_candidates {
    mixt_candidate *list; /* [count] */
    int count;
    bool sorted;        /* by falling logit, ties by rising id */
    double temperature; /* that the logits are still to be divided by */
} mixt_candidates;

/* Sorts the best `wanted` to the front and forgets the others. */
void mixt_candidates_best(mixt_candidates *candidates, int wanted);
static inline void mixt_candidates_sort(mixt_candidates *candidates)
{
    mixt_candidates_best(candidates, candidates->count);
}
/* Sorts, and computes probabilities, the temperature in them. */
void mixt_candidates_softmax(mixt_candidates *candidates);
/* Divides the logits by the temperature. */
void mixt_candidates_settle(mixt_candidates *candidates);
/* Of probabilities that are there, in nats. */
double mixt_candidates_entropy(const mixt_candidates *candidates);
/* Place in the list at which the sum of probabilities passes `draw` in [0, 1). */
int mixt_candidates_draw(const mixt_candidates *candidates, double draw);

#endif
