/* What a run says of each of its rows beside the experts that were chosen: how clearly the routers
 * chose, and which token the model takes for the likeliest behind it. */
#ifndef MIXT_EVAL_SIGNALS_H
#define MIXT_EVAL_SIGNALS_H

#include "backend/context.h"
#include "model/model.h"

/* mixt_router_margin and mixt_router_entropy of every row of the last run at a layer, whose record
 * was kept. margins, entropies: [rows]. */
void mixt_signals_of_route(const mixt_context *context, const mixt_instance *instance,
                           const mixt_route_values *values, float *margins, float *entropies);

/* Of each row of logits [count, vocabulary] the place of the largest of the first `tokens`, the
 * first of equal ones; 0 where one is no number. */
typedef struct mixt_logit_rows {
    const float *logits;
    const int32_t *largest; /* [count] of all `vocabulary`, -1: not known */
    int64_t count, vocabulary, tokens;
} mixt_logit_rows;
void mixt_signals_likeliest(const mixt_context *context, const mixt_logit_rows *rows,
                            int32_t *likeliest);

#endif
