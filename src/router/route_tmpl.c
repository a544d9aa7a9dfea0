/* The route operator: logits, choices by the spec's method, the record, the losses. */
#include <assert.h>

#include "ops/support_tmpl.h"
#include "router/method.h"

bool MIXT_REAL(mixt_row_scores)(const mixt_kernels *kernels, const mixt_router_spec *spec,
                                const real *logits, real *scores, real *log_sum)
{
    int64_t experts = spec->experts;
    bool finite = true;
    for (int64_t i = 0; i < experts; i++) {
        finite = finite && isfinite(logits[i]);
    }
    if (!finite) {
        return false;
    }
    real max = kernels->max(experts, logits);
    real sum = kernels->exp_sum(experts, scores, logits, max);
    *log_sum = max + (real)log((double)sum);
    if (spec->options.score != MIXT_SCORE_SIGMOID) {
        kernels->scale(experts, scores, 1 / sum, scores);
        return true;
    }
    kernels->scale(experts, scores, -1, logits);
    (void)kernels->exp_sum(experts, scores, scores, 0);
    for (int64_t i = 0; i < experts; i++) {
        scores[i] = 1 / (1 + scores[i]);
    }
    return true;
}

/* counts, offsets, order and place from ids: a counting sort, stable in t and j. Choices of no
 * expert have no place; what is left of order behind the rows in use is -1. */
static void sort_choices(const mixt_call *call)
{
    const mixt_router_spec *spec = call->attributes->router;
    const int32_t *ids = call->out[ROUTE_IDS];
    int32_t *counts = call->out[ROUTE_COUNTS], *offsets = call->out[ROUTE_OFFSETS];
    int32_t *order = call->out[ROUTE_ORDER], *place = call->out[ROUTE_PLACE];
    int64_t choices = call->tokens * spec->chosen;
    assert(mixt_all_within(choices, ids, -1, spec->experts)); /* what every method owes */
    memset(counts, 0, (size_t)spec->experts * sizeof *counts);
    for (int64_t i = 0; i < choices; i++) {
        if (ids[i] >= 0) {
            counts[ids[i]]++;
        }
    }
    offsets[0] = 0;
    for (int e = 0; e < spec->experts; e++) {
        offsets[e + 1] = offsets[e] + counts[e];
        counts[e] = 0;
    }
    for (int64_t i = 0; i < choices; i++) {
        place[i] = -1;
        if (ids[i] >= 0) {
            place[i] = offsets[ids[i]] + counts[ids[i]]++;
            order[place[i]] = (int32_t)i;
        }
    }
    for (int64_t p = offsets[spec->experts]; p < choices; p++) {
        order[p] = -1;
    }
}

/* Which rows have only finite logits. */
static void mark_finite(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    int64_t experts = call->attributes->router->experts;
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        const real *logits = (const real *)call->out[ROUTE_SCORES] + t * experts;
        bool finite = true;
        for (int64_t e = 0; e < experts; e++) {
            finite = finite && isfinite(logits[e]);
        }
        ((int32_t *)call->out[ROUTE_FINITE])[t] = finite;
    }
}

void MIXT_REAL(mixt_route_decide)(const mixt_call *call)
{
    mixt_for_chunks(call, call->tokens, MIXT_ROWS, mark_finite);
    mixt_router_method_of(call->attributes->router)->MIXT_REAL(choose)(call);
    sort_choices(call);
    MIXT_REAL(mixt_balance_loss)(call);
}

void MIXT_REAL(mixt_route_forward)(const mixt_call *call)
{
    MIXT_REAL(mixt_logits_forward)(call);
    MIXT_REAL(mixt_route_decide)(call);
}

/* The choices themselves are constants. */
void MIXT_REAL(mixt_route_backward)(const mixt_call *call)
{
    int64_t values = call->tokens * call->attributes->router->experts;
    real *d_logits = call->workspace;
    if (call->d_out[ROUTE_WEIGHTS] != NULL) {
        mixt_router_method_of(call->attributes->router)->MIXT_REAL(gradient)(call, d_logits);
    } else {
        memset(d_logits, 0, (size_t)values * sizeof *d_logits);
    }
    MIXT_REAL(mixt_balance_gradient)(call, d_logits);
    const real *d_raw = MIXT_REAL(mixt_logits_backward)(call, d_logits, d_logits + values);
    mixt_linear_gradients(call, ROUTE_X, ROUTE_WEIGHT, d_raw, true);
}
