/* What one sequence draws with, and the step before its chain. */
#ifndef MIXT_SAMPLING_SAMPLER_H
#define MIXT_SAMPLING_SAMPLER_H

#include "sampling/chain.h"

/* Logits with the options' biases as candidates, into list [vocab_size]: those above -INFINITY and
 * in `allowed` (a bit for each id; NULL: all). Refuses NaN and +INFINITY, and a list without any
 * candidate. */
mixt_status mixt_sampling_gather(const mixt_sampler_options *options, const float *logits,
                                 int vocab_size, const uint64_t *allowed,
                                 mixt_candidates *candidates, mixt_error *error);

#endif
