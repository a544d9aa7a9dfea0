/* Token choice: every token takes its k best experts. Score before or after the choice,
 * renormalised or not, with a bias that only the choice sees: all of it is data in the spec. */
#include "router/method.h"

#if !MIXT_REAL_IS_DOUBLE
mixt_status mixt_top_k_check(const mixt_router_spec *spec, mixt_error *error)
{
    const mixt_router_options *options = &spec->options;
    if (options->score != MIXT_SCORE_SOFTMAX && options->score != MIXT_SCORE_TOP_K_SOFTMAX &&
        options->score != MIXT_SCORE_SIGMOID) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "router: score %d is not known",
                         (int)options->score);
    }
    bool constant = options->renormalise || options->score == MIXT_SCORE_TOP_K_SOFTMAX;
    if (spec->chosen == 1 && constant && options->weights == MIXT_ROUTER_LEARNED) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "router: with 1 expert per token and renormalised weights every weight "
                         "is 1, so the router would not learn");
    }
    return MIXT_OK;
}
#endif

/* NaN ranks below everything; equal scores (and two NaN) keep the lower id first. */
static inline bool ranks_above(real a, real b)
{
    return a > b || (isnan(b) && !isnan(a));
}

void MIXT_REAL(mixt_select_top_k)(const real *scores, int experts, int chosen, int32_t *ids)
{
    int held = 0;
    for (int e = 0; e < experts; e++) {
        if (held == chosen && !ranks_above(scores[e], scores[ids[held - 1]])) {
            continue;
        }
        int at = held < chosen ? held++ : held - 1;
        for (; at > 0 && ranks_above(scores[e], scores[ids[at - 1]]); at--) {
            ids[at] = ids[at - 1];
        }
        ids[at] = e;
    }
}

/* Weights of the chosen, before the spec's scale, from what they are made of: scores of the row, or
 * logits where the softmax comes after the choice. */
static void row_weights(const mixt_kernels *kernels, const mixt_router_spec *spec,
                        const real *values, const int32_t *ids, real *weights)
{
    int chosen = spec->chosen;
    bool after = spec->options.score == MIXT_SCORE_TOP_K_SOFTMAX;
    for (int j = 0; j < chosen; j++) {
        weights[j] = values[ids[j]];
    }
    if (!after && !spec->options.renormalise) {
        return;
    }
    real sum = after ? kernels->exp_sum(chosen, weights, weights, kernels->max(chosen, weights))
                     : kernels->sum(chosen, weights);
    for (int j = 0; j < chosen; j++) {
        weights[j] = sum > 0 ? weights[j] / sum : 1 / (real)chosen;
    }
}

static void choose_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    const mixt_router_spec *spec = call->attributes->router;
    int experts = spec->experts, chosen = spec->chosen;
    real scores[MIXT_EXPERTS_MAX], biased[MIXT_EXPERTS_MAX], log_sum;
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        const real *logits = (const real *)call->out[6] + t * experts;
        int32_t *ids = (int32_t *)call->out[0] + t * chosen;
        real *weights = (real *)call->out[1] + t * chosen;
        if (!MIXT_REAL(mixt_row_scores)(kernels, spec, logits, scores, &log_sum)) {
            MIXT_REAL(mixt_select_top_k)(logits, experts, chosen, ids);
            for (int j = 0; j < chosen; j++) {
                weights[j] = 1 / (real)chosen;
            }
            continue;
        }
        const real *by = logits; /* in the order of the scores, without their rounding */
        bool after = spec->options.score == MIXT_SCORE_TOP_K_SOFTMAX;
        if (call->in[2] != NULL) {
            kernels->add(experts, biased, after ? logits : scores, call->in[2]);
            by = biased;
        }
        MIXT_REAL(mixt_select_top_k)(by, experts, chosen, ids);
        row_weights(kernels, spec, after ? logits : scores, ids, weights);
        for (int j = 0; j < chosen; j++) {
            weights[j] *= (real)spec->options.scale;
        }
    }
}

void MIXT_REAL(mixt_top_k_choose)(const mixt_call *call)
{
    mixt_for_chunks(call, call->tokens, MIXT_ROWS, choose_rows);
}

/* d scores of the chosen from d weights: weights = scale s_j, or scale s_j / sum s. Either kind is
 * written over `d_scores` [k]; the sum over the chosen is of the token's own experts only. */
static void chosen_gradient(const mixt_router_spec *spec, const real *scores, const int32_t *ids,
                            const real *d_weights, real *d_scores)
{
    real sum = 0, along = 0, scale = (real)spec->options.scale;
    for (int j = 0; j < spec->chosen; j++) {
        sum += scores[ids[j]];
        along += d_weights[j] * scores[ids[j]];
    }
    for (int j = 0; j < spec->chosen; j++) {
        if (!spec->options.renormalise) {
            d_scores[j] = scale * d_weights[j];
        } else {
            d_scores[j] = sum > 0 ? scale * (d_weights[j] - along / sum) / sum : 0;
        }
    }
}

/* d logits of one row, which holds zeros: softmax over the chosen alone, over all, or sigmoid. */
static void row_gradient(const mixt_call *call, int64_t t, const real *scores, real *d_logits)
{
    const mixt_router_spec *spec = call->attributes->router;
    int chosen = spec->chosen;
    const int32_t *ids = (const int32_t *)call->out[0] + t * chosen;
    const real *weights = (const real *)call->out[1] + t * chosen;
    const real *d_weights = (const real *)call->d_out[1] + t * chosen;
    real along = 0, d_scores[MIXT_EXPERTS_MAX];
    if (spec->options.score == MIXT_SCORE_TOP_K_SOFTMAX) {
        for (int j = 0; j < chosen; j++) {
            along += d_weights[j] * weights[j] / (real)spec->options.scale;
        }
        for (int j = 0; j < chosen; j++) {
            d_logits[ids[j]] = weights[j] * (d_weights[j] - along);
        }
        return;
    }
    chosen_gradient(spec, scores, ids, d_weights, d_scores);
    if (spec->options.score == MIXT_SCORE_SIGMOID) {
        for (int j = 0; j < chosen; j++) {
            real score = scores[ids[j]];
            d_logits[ids[j]] = d_scores[j] * score * (1 - score);
        }
        return;
    }
    for (int j = 0; j < chosen; j++) {
        along += d_scores[j] * scores[ids[j]];
    }
    mixt_kernels_of(call)->scale(spec->experts, d_logits, -along, scores);
    for (int j = 0; j < chosen; j++) {
        d_logits[ids[j]] += d_scores[j] * scores[ids[j]];
    }
}

typedef struct gradient_run {
    const mixt_call *call;
    real *d_logits;
} gradient_run;

static void gradient_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const gradient_run *run = context;
    const mixt_call *call = run->call;
    const mixt_router_spec *spec = call->attributes->router;
    real scores[MIXT_EXPERTS_MAX], log_sum;
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        const real *logits = (const real *)call->out[6] + t * spec->experts;
        real *d_logits = run->d_logits + t * spec->experts;
        memset(d_logits, 0, (size_t)spec->experts * sizeof *d_logits);
        if (MIXT_REAL(mixt_row_scores)(mixt_kernels_of(call), spec, logits, scores, &log_sum)) {
            row_gradient(call, t, scores, d_logits);
        }
    }
}

void MIXT_REAL(mixt_top_k_gradient)(const mixt_call *call, real *d_logits)
{
    gradient_run run = {call, d_logits};
    mixt_pool_run(call->compute->pool, mixt_chunks(call->tokens, MIXT_ROWS), gradient_rows, &run);
}
