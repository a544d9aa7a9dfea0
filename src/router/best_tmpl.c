/* The k best experts of every token, for methods that let tokens choose. Score before or after the
 * choice, renormalised or not, with a bias that only the choice sees, within the best groups,
 * around masked and forced experts: all of it is data in the spec. */
#include <assert.h>

#include "ops/support_tmpl.h"
#include "router/method.h"

/* NaN ranks below everything; equal scores (and two NaN) keep the lower id first. */
static inline bool ranks_above(real a, real b)
{
    return a > b || (isnan(b) && !isnan(a));
}

/* The best of those that are not excluded (NULL: none are), best first. */
static void select_best(const real *scores, const uint8_t *excluded, int count, int wanted,
                        int32_t *ids)
{
    int held = 0;
    for (int e = 0; e < count; e++) {
        bool full = held == wanted;
        if ((excluded != NULL && excluded[e] != 0) ||
            (full && (wanted == 0 || !ranks_above(scores[e], scores[ids[held - 1]])))) {
            continue;
        }
        int at = full ? held - 1 : held++;
        for (; at > 0 && ranks_above(scores[e], scores[ids[at - 1]]); at--) {
            ids[at] = ids[at - 1];
        }
        ids[at] = e;
    }
    assert(held == wanted); /* mixt_router_check leaves as many */
}

void MIXT_REAL(mixt_select_top_k)(const real *scores, int experts, int chosen, int32_t *ids)
{
    select_best(scores, NULL, experts, chosen, ids);
}

/* A group's score from what is not masked of it; false where all of it is. */
static bool score_group(const mixt_router_spec *spec, const real *scores, int group, real *score)
{
    int size = spec->experts / spec->options.groups, begin = group * size, found = 0;
    real best = 0, second = 0;
    for (int e = begin; e < begin + size; e++) {
        if (spec->mask != NULL && spec->mask[e] != 0) {
            continue;
        }
        if (found == 0 || ranks_above(scores[e], best)) {
            second = best;
            best = scores[e];
        } else if (found == 1 || ranks_above(scores[e], second)) {
            second = scores[e];
        }
        found++;
    }
    *score = best;
    if (spec->options.group_score == MIXT_GROUP_TOP_TWO && found > 1) {
        *score += second;
    }
    return found > 0;
}

/* Excludes all experts but those of the best groups, where there are groups. */
static void exclude_groups(const mixt_router_spec *spec, const real *scores, uint8_t *excluded)
{
    int groups = spec->options.groups, alive = 0;
    real group_scores[MIXT_EXPERTS_MAX];
    uint8_t dead[MIXT_EXPERTS_MAX];
    int32_t best[MIXT_EXPERTS_MAX];
    if (groups <= 0) {
        return;
    }
    int size = spec->experts / groups;
    assert(groups <= spec->experts && spec->experts <= MIXT_EXPERTS_MAX);
    for (int group = 0; group < groups; group++) {
        dead[group] = !score_group(spec, scores, group, &group_scores[group]);
        alive += dead[group] == 0;
    }
    int used = (int)mixt_least(alive, spec->options.groups_used);
    select_best(group_scores, dead, groups, used, best);
    memset(dead, 1, (size_t)groups);
    for (int i = 0; i < used; i++) {
        dead[best[i]] = 0;
    }
    for (int e = 0; e < spec->experts; e++) {
        excluded[e] = excluded[e] != 0 || dead[e / size] != 0;
    }
}

/* Excludes what mask and groups leave out, and forced experts; how many are left to choose. */
static int exclude(const mixt_router_spec *spec, const real *scores, uint8_t *excluded)
{
    int wanted = spec->chosen;
    memset(excluded, 0, (size_t)spec->experts);
    for (int e = 0; e < spec->experts && spec->mask != NULL; e++) {
        excluded[e] = spec->mask[e];
    }
    exclude_groups(spec, scores, excluded);
    for (int j = 0; j < spec->chosen && spec->forced != NULL; j++) {
        if (spec->forced[j] >= 0) {
            excluded[spec->forced[j]] = 1;
            wanted--;
        }
    }
    return wanted;
}

/* The k experts of a row: forced ones in their places, the best of what mask and groups leave in
 * the others. */
void MIXT_REAL(mixt_best_row)(const mixt_router_spec *spec, const real *scores, int32_t *ids)
{
    uint8_t excluded[MIXT_EXPERTS_MAX];
    int32_t best[MIXT_EXPERTS_MAX];
    int chosen = spec->chosen;
    assert(spec->experts <= MIXT_EXPERTS_MAX && chosen <= spec->experts);
    if (spec->mask == NULL && spec->forced == NULL && spec->options.groups == 0) {
        select_best(scores, NULL, spec->experts, chosen, ids);
        return;
    }
    int wanted = exclude(spec, scores, excluded);
    select_best(scores, excluded, spec->experts, wanted, best);
    for (int j = 0, next = 0; j < chosen; j++) {
        bool forced = spec->forced != NULL && spec->forced[j] >= 0;
        ids[j] = forced ? spec->forced[j] : best[next++];
    }
}

/* What the choice of a row compares: its logits, which are in the order of the scores without their
 * rounding, or else these with the selection bias, in `biased` [E]; sums of scores, which groups
 * have, are not in the order of sums of logits. scores: NULL where they are not needed. */
static const real *compared(const mixt_kernels *kernels, const mixt_router_spec *spec,
                            const real *logits, const real *scores, const real *bias, real *biased)
{
    bool after = spec->options.score == MIXT_SCORE_TOP_K_SOFTMAX;
    if (bias != NULL) {
        kernels->add(spec->experts, biased, after ? logits : scores, bias);
        return biased;
    }
    return spec->options.groups > 0 && !after ? scores : logits;
}

real MIXT_REAL(mixt_router_margin)(const mixt_kernels *kernels, const mixt_router_spec *spec,
                                   const real *logits, const real *select_bias, const int32_t *ids)
{
    real scores[MIXT_EXPERTS_MAX], biased[MIXT_EXPERTS_MAX], log_sum;
    uint8_t excluded[MIXT_EXPERTS_MAX];
    bool by_scores = (select_bias != NULL || spec->options.groups > 0) &&
                     spec->options.score != MIXT_SCORE_TOP_K_SOFTMAX;
    if ((mixt_router_needs(spec) & MIXT_NO_MARGIN) != 0 ||
        (by_scores && !MIXT_REAL(mixt_row_scores)(kernels, spec, logits, scores, &log_sum))) {
        return (real)NAN;
    }
    const real *values = compared(kernels, spec, logits, scores, select_bias, biased);
    int compares = exclude(spec, values, excluded), left = 0;
    real last = (real)INFINITY, best = -(real)INFINITY;
    for (int j = 0; j < spec->chosen; j++) {
        if (excluded[ids[j]] == 0) { /* not a forced one */
            last = values[ids[j]] < last ? values[ids[j]] : last;
            excluded[ids[j]] = 1;
        }
    }
    for (int e = 0; e < spec->experts; e++) {
        left += excluded[e] == 0;
        best = excluded[e] == 0 && values[e] > best ? values[e] : best;
    }
    return compares > 0 && left > 0 ? last - best : (real)NAN;
}

static void choose_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    const mixt_router_spec *spec = call->attributes->router;
    int experts = spec->experts;
    int64_t columns = call->out_shape[ROUTE_IDS].size[1];
    real scores[MIXT_EXPERTS_MAX], biased[MIXT_EXPERTS_MAX], log_sum;
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        const real *logits = (const real *)call->out[ROUTE_SCORES] + t * experts;
        const mixt_router_spec *row_spec = mixt_router_of_row(call, t);
        int32_t *ids = (int32_t *)call->out[ROUTE_IDS] + t * columns;
        mixt_route_fill(call, row_spec->chosen, ids);
        if (!MIXT_REAL(mixt_row_scores)(kernels, spec, logits, scores, &log_sum)) {
            MIXT_REAL(mixt_best_row)(row_spec, logits, ids);
            MIXT_REAL(mixt_weigh_row)(call, t, NULL);
            continue;
        }
        const real *by =
            compared(kernels, spec, logits, scores, call->in[ROUTE_SELECT_BIAS], biased);
        MIXT_REAL(mixt_best_row)(row_spec, by, ids);
        MIXT_REAL(mixt_weigh_row)(call, t, scores);
    }
}

void MIXT_REAL(mixt_best_choose)(const mixt_call *call)
{
    mixt_for_chunks(call, call->tokens, MIXT_ROWS, choose_rows);
}
