/* Sizes of the logits' products. */
#include "router/method.h"

/* Whether the backward needs the raw rows again. */
bool mixt_logits_reads_raw(const mixt_router_spec *spec)
{
    return spec->options.logits == MIXT_LOGITS_ATTENTION || spec->options.normalise > 0;
}

int64_t mixt_logits_columns(const mixt_router_spec *spec)
{
    return spec->options.logits == MIXT_LOGITS_ATTENTION ? 3 * (int64_t)spec->experts
                                                         : spec->experts;
}

int64_t mixt_logits_workspace(const mixt_router_spec *spec, int64_t capacity)
{
    return spec->options.logits == MIXT_LOGITS_ATTENTION ? capacity * mixt_logits_columns(spec) : 0;
}

/* raw rows, their gradients, and for each chunk of rows its part of the bias' gradient */
int64_t mixt_logits_backward_workspace(const mixt_router_spec *spec, int64_t capacity)
{
    int64_t rows = mixt_logits_reads_raw(spec) ? 2 * capacity * mixt_logits_columns(spec) : 0;
    return rows + mixt_divide_up(capacity, MIXT_SUM_ROWS) * spec->experts;
}
