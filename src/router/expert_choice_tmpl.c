/* Experts choose their tokens (expert_choice.c). */
#include <assert.h>
#include <stdlib.h>

#include "ops/support_tmpl.h"
#include "router/method.h"

/* Scores by expert [E, T]. Rows that are not finite rank below all others. */
static void score_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_router_spec *spec = call->attributes->router;
    real scores[MIXT_EXPERTS_MAX], log_sum, *columns = call->workspace;
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        const real *logits = (const real *)call->out[ROUTE_SCORES] + t * spec->experts;
        bool finite =
            MIXT_REAL(mixt_row_scores)(mixt_kernels_of(call), spec, logits, scores, &log_sum);
        for (int64_t e = 0; e < spec->experts; e++) {
            columns[e * call->tokens + t] = finite ? scores[e] : -(real)INFINITY;
        }
    }
}

static int compare_falling(const void *a, const void *b)
{
    real x = *(const real *)a, y = *(const real *)b;
    return (x < y) - (x > y);
}

/* One expert's tokens among rows [begin, end): the best, of equal ones the first. */
static void take_best(const mixt_call *call, int64_t expert, int64_t begin, int64_t end)
{
    const mixt_router_spec *spec = call->attributes->router;
    int64_t experts = spec->experts, count = end - begin;
    const real *column = (const real *)call->workspace + expert * call->tokens;
    real *sorted = (real *)call->workspace + (experts + expert) * call->tokens;
    int32_t *ids = (int32_t *)call->out[ROUTE_IDS] + expert;
    int64_t takes =
        (int64_t)(mixt_router_factor(spec) * (double)count * spec->chosen / (double)experts);
    takes = mixt_least(takes, count);
    if (takes == 0) {
        return;
    }
    memcpy(sorted, column + begin, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, compare_falling);
    real least = sorted[takes - 1];
    int64_t equal = takes; /* of the least score that are taken */
    for (int64_t i = 0; sorted[i] > least; i++) {
        equal--;
    }
    for (int64_t t = begin; t < end; t++) {
        bool last = column[t] == least && equal > 0;
        equal -= last;
        if (column[t] > least || last) {
            ids[t * experts] = (int32_t)expert;
        }
    }
}

/* Column e of the ids: e where expert e takes the token. */
static void choose_tokens(void *context, int64_t expert, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_router_spec *spec = call->attributes->router;
    const int32_t *first = call->in[ROUTE_FIRST];
    int32_t *ids = (int32_t *)call->out[ROUTE_IDS] + expert;
    for (int64_t t = 0; t < call->tokens; t++) {
        ids[t * spec->experts] = -1;
    }
    if (spec->mask != NULL && spec->mask[expert] != 0) {
        return;
    }
    for (int64_t begin = 0, end; begin < call->tokens; begin = end) {
        end = begin + 1;
        while (end < call->tokens && (spec->options.choice_scope == MIXT_CHOICE_OVER_BATCH ||
                                      first[end] == first[begin])) {
            end++;
        }
        take_best(call, expert, begin, end);
    }
}

/* A token's experts, best first, then -1. */
static void gather_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_router_spec *spec = call->attributes->router;
    int experts = spec->experts;
    const real *columns = call->workspace;
    real scores[MIXT_EXPERTS_MAX], log_sum;
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        const real *logits = (const real *)call->out[ROUTE_SCORES] + t * experts;
        int32_t *ids = (int32_t *)call->out[ROUTE_IDS] + t * experts;
        int held = 0;
        for (int e = 0; e < experts; e++) {
            if (ids[e] < 0) {
                continue;
            }
            real score = columns[e * call->tokens + t];
            int at = held++;
            for (; at > 0 && score > columns[ids[at - 1] * call->tokens + t]; at--) {
                ids[at] = ids[at - 1];
            }
            ids[at] = e; /* at <= e: what is overwritten was looked at */
        }
        for (; held < experts; held++) {
            ids[held] = -1;
        }
        bool finite =
            MIXT_REAL(mixt_row_scores)(mixt_kernels_of(call), spec, logits, scores, &log_sum);
        MIXT_REAL(mixt_weigh_row)(call, t, finite ? scores : NULL);
    }
}

void MIXT_REAL(mixt_expert_choice_choose)(const mixt_call *call)
{
    if (!call->attributes->training) {
        MIXT_REAL(mixt_best_choose)(call);
        return;
    }
    mixt_for_chunks(call, call->tokens, MIXT_ROWS, score_rows);
    mixt_for_chunks(call, call->attributes->router->experts, 1, choose_tokens);
    mixt_for_chunks(call, call->tokens, MIXT_ROWS, gather_rows);
}

void MIXT_REAL(mixt_expert_choice_gradient)(const mixt_call *call, real *d_logits)
{
    MIXT_REAL(mixt_weigh_gradient)(call, d_logits);
}
