/* Two scorers over the same data: what fidelity and sensitivity share. */
#ifndef MIXT_EVAL_COMPARE_H
#define MIXT_EVAL_COMPARE_H

#include "eval/score.h"

/* Of a token at one layer, as in mixt_fidelity_layer; kl in nats. sets < 0: nothing to compare. */
typedef struct mixt_compared_route {
    float sets, first, kept, kl;
} mixt_compared_route;

typedef struct mixt_comparison {
    mixt_context *context;
    mixt_scorer *a, *b;
    int layers;
    float *kl;                   /* [capacity] of the predictions, nats */
    bool *same;                  /* [capacity]: the likeliest next token */
    mixt_compared_route *routes; /* [capacity, layers] */
} mixt_comparison;

/* Refused where the models cannot be compared. Close it in any case. */
mixt_status mixt_comparison_open(mixt_context *context, const mixt_model *first,
                                 const mixt_model *other, const mixt_data *data,
                                 const mixt_fidelity_options *options, mixt_comparison *comparison,
                                 mixt_error *error);
void mixt_comparison_close(mixt_comparison *comparison);
/* Fills the arrays for rows [0, rows) of the batch that both ran last. */
void mixt_comparison_run(mixt_comparison *comparison);

#endif
