/* Sizes of the logits' products. */
#include "router/method.h"

/* Whether the backward needs the raw rows again. */
bool mixt_logits_reads_raw(const mixt_router_spec *spec)
{
    return mixt_logits_columns(spec) > spec->experts || spec->options.normalise > 0;
}

int64_t mixt_logits_columns(const mixt_router_spec *spec)
{
    int parts = spec->options.logits == MIXT_LOGITS_ATTENTION ? 3
                : spec->options.noise != MIXT_NOISE_NONE      ? 2
                                                              : 1;
    return (int64_t)parts * spec->experts;
}

/* Raw rows that are more than the logits. */
int64_t mixt_logits_workspace(const mixt_router_spec *spec, bool training, int64_t capacity)
{
    bool more = spec->options.logits == MIXT_LOGITS_ATTENTION ||
                (spec->options.noise != MIXT_NOISE_NONE && training);
    return more ? capacity * mixt_logits_columns(spec) : 0;
}

/* raw rows, their gradients, and for each chunk of rows its part of the bias' gradient */
int64_t mixt_logits_backward_workspace(const mixt_router_spec *spec, int64_t capacity)
{
    int64_t rows = mixt_logits_reads_raw(spec) ? 2 * capacity * mixt_logits_columns(spec) : 0;
    return rows + mixt_divide_up(capacity, MIXT_SUM_ROWS) * spec->experts;
}
