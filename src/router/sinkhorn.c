/* Balanced assignment (S-BASE, Clark et al. 2022, arXiv 2202.01169, by Sinkhorn's algorithm). In
 * training exp(logits) [T, E] is multiplied by a factor for each token and one for each expert so
 * that all tokens sum to 1 / T and all experts to 1 / E, and a token's experts are its k largest
 * values of that; else its k largest logits. What they weigh comes from the plain logits in both.
 * Megatron-LM's router of that name is score sigmoid with k = 1 and softmax with more, not
 * renormalised. */
#include "router/method.h"

/* exp(logits), the experts' factors before and now, and sums of each chunk of rows */
int64_t mixt_sinkhorn_workspace(const mixt_router_spec *spec, bool training, int64_t capacity)
{
    int64_t chunks = mixt_divide_up(capacity, MIXT_SUM_ROWS);
    return training ? (capacity + 1 + chunks) * spec->experts : 0;
}

mixt_status mixt_sinkhorn_check(const mixt_router_spec *spec, mixt_error *error)
{
    MIXT_TRY(mixt_plain_check(spec, error));
    return mixt_best_check(spec, error);
}
