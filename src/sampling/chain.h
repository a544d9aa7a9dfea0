/* The samplers of one draw, in the order that options name. A chain knows numbers alone: what was
 * checked of the options, and what the text so far means for it. */
#ifndef MIXT_SAMPLING_CHAIN_H
#define MIXT_SAMPLING_CHAIN_H

#include <stddef.h>

#include "core/memory.h"
#include "sampling/candidates.h"

enum { MIXT_CHAIN_STAGES_MAX = 32, MIXT_MIROSTAT_CANDIDATES = 100 };

typedef enum mixt_stage {
    MIXT_STAGE_PENALTIES,
    MIXT_STAGE_DRY,
    MIXT_STAGE_TOP_N_SIGMA,
    MIXT_STAGE_TOP_K,
    MIXT_STAGE_TYPICAL,
    MIXT_STAGE_TOP_P,
    MIXT_STAGE_MIN_P,
    MIXT_STAGE_XTC,
    MIXT_STAGE_TEMPERATURE,
    MIXT_STAGE_MIROSTAT, /* not in an order: it takes the place of all but temperature */
} mixt_stage;

typedef struct mixt_chain {
    mixt_sampler_options options; /* its pointers are the caller's */
    mixt_stage stages[MIXT_CHAIN_STAGES_MAX];
    int stage_count;
} mixt_chain;

/* What the text so far says to the samplers. */
typedef struct mixt_chain_text {
    const int32_t *tokens; /* [count] */
    size_t count;
    size_t unbroken;         /* of these, the last ones, behind the newest breaker of dry */
    const int32_t *breakers; /* [breaker_count] tokens that dry never penalizes, by rising id */
    size_t breaker_count;
    int32_t *marks; /* [vocab_size], all 0 between calls */
    int vocab_size;
    uint64_t drawn; /* numbers the draw */
    double mirostat_mu;
} mixt_chain_text;

/* Checks options and lays out their order. */
mixt_status mixt_chain_create(const mixt_sampler_options *options, mixt_chain *chain,
                              mixt_error *error);
/* Thins out the candidates, none of which has a logit that is not finite, and leaves at least one;
 * at the end probabilities are there. False without memory. */
bool mixt_chain_run(const mixt_chain *chain, const mixt_chain_text *text,
                    mixt_candidates *candidates);
/* Draws one of them: its place in the list. */
int mixt_chain_draw(const mixt_chain *chain, const mixt_chain_text *text,
                    const mixt_candidates *candidates);

/* The dry penalties (dry.c). False without memory. */
bool mixt_dry_apply(const mixt_sampler_options *options, const mixt_chain_text *text,
                    mixt_candidates *candidates);

#endif
