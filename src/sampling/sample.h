/* What survives the samplers, for mixt_sample and its tests. */
#ifndef MIXT_SAMPLING_SAMPLE_H
#define MIXT_SAMPLING_SAMPLE_H

#include "sampling/candidates.h"

typedef struct mixt_history {
    const int32_t *tokens;
    size_t count;
} mixt_history;

/* The caller frees result->list. */
mixt_status mixt_sample_candidates(const mixt_sampling *sampling, const float *logits,
                                   int vocab_size, const mixt_history *history,
                                   mixt_candidates *result, mixt_error *error);

#endif
