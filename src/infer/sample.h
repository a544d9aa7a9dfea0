/* What survives the samplers, for mixt_sample and its tests. */
#ifndef MIXT_INFER_SAMPLE_H
#define MIXT_INFER_SAMPLE_H

#include "mixt.h"

typedef struct mixt_candidate {
    int32_t id;
    double logit;
    double probability;
} mixt_candidate;

typedef struct mixt_candidates {
    mixt_candidate *list; /* by falling probability; the caller frees it */
    int count;
} mixt_candidates;

typedef struct mixt_history {
    const int32_t *tokens;
    size_t count;
} mixt_history;

mixt_status mixt_sample_candidates(const mixt_sampling *sampling, const float *logits,
                                   int vocab_size, const mixt_history *history,
                                   mixt_candidates *result, mixt_error *error);

#endif
