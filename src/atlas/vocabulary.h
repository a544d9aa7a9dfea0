/* The tokens that an expert takes most: where routers follow syntax, it shows here. */
#ifndef MIXT_ATLAS_VOCABULARY_H
#define MIXT_ATLAS_VOCABULARY_H

#include "atlas/trace.h"

#define MIXT_TOP_MIN_OCCURRENCES 10 /* rarer tokens stay out */

typedef struct mixt_top_token {
    int32_t token;        /* -1: no further token is above 1/E */
    uint64_t occurrences; /* in the trace, that have a first choice at the layer */
    double share;         /* of them that have this expert as first choice */
} mixt_top_token;

/* rows [E, per_expert] of one MoE layer: tokens whose occurrences go to the expert first more often
 * than 1/E, ordered by the lower end of the share's 95 % Wilson interval, so that 900 of 1000
 * comes before 10 of 10. */
mixt_status mixt_top_tokens(const mixt_trace *trace, int layer, int per_expert,
                            mixt_top_token *rows, mixt_error *error);

#endif
