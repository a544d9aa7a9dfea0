/* What the chosen experts weigh, whoever chose them: their scores, before or after the choice,
 * divided by their sum or not, times the spec's scale; and the way back to the logits. */
#include "ops/support_tmpl.h"
#include "router/method.h"

/* What the weights of the chosen are divided by. */
static real divisor(const mixt_router_spec *spec, real sum)
{
    return spec->options.score == MIXT_SCORE_SIGMOID ? sum + (real)MIXT_SIGMOID_EPSILON : sum;
}

/* How many experts token t has: -1, no expert, stands behind them. */
static int count_chosen(const mixt_call *call, const int32_t *ids)
{
    int columns = (int)call->out_shape[ROUTE_IDS].size[1], chosen = 0;
    while (chosen < columns && ids[chosen] >= 0) {
        chosen++;
    }
    return chosen;
}

/* Weights of the chosen, before the spec's scale, from what they are made of: scores of the row, or
 * logits where the softmax comes after the choice. */
static void row_weights(const mixt_kernels *kernels, const mixt_router_spec *spec,
                        const real *values, int chosen, const int32_t *ids, real *weights)
{
    bool after = spec->options.score == MIXT_SCORE_TOP_K_SOFTMAX;
    for (int j = 0; j < chosen; j++) {
        weights[j] = values[ids[j]];
    }
    if (!after && !spec->options.renormalise) {
        return;
    }
    real sum = after ? kernels->exp_sum(chosen, weights, weights, kernels->max(chosen, weights))
                     : divisor(spec, kernels->sum(chosen, weights));
    for (int j = 0; j < chosen; j++) {
        weights[j] = sum > 0 ? weights[j] / sum : 1 / (real)chosen;
    }
}

void MIXT_REAL(mixt_weigh_row)(const mixt_call *call, int64_t t, const real *scores)
{
    const mixt_router_spec *spec = mixt_router_of_row(call, t);
    int64_t columns = call->out_shape[ROUTE_IDS].size[1];
    bool after = spec->options.score == MIXT_SCORE_TOP_K_SOFTMAX;
    const real *logits = (const real *)call->out[ROUTE_SCORES] + t * spec->experts;
    const int32_t *ids = (const int32_t *)call->out[ROUTE_IDS] + t * columns;
    real *weights = (real *)call->out[ROUTE_WEIGHTS] + t * columns;
    int chosen = count_chosen(call, ids);
    for (int64_t j = chosen; j < columns; j++) {
        weights[j] = 0;
    }
    if (scores == NULL || chosen == 0) {
        for (int j = 0; j < chosen; j++) {
            weights[j] = 1 / (real)chosen;
        }
        return;
    }
    row_weights(mixt_kernels_of(call), spec, after ? logits : scores, chosen, ids, weights);
    for (int j = 0; j < chosen; j++) {
        weights[j] *= (real)spec->options.scale;
    }
}

/* d scores of the chosen from d weights: weights = scale s_j, or scale s_j / sum s. Either kind is
 * written over `d_scores` [k]; the sum over the chosen is of the token's own experts only. */
static void chosen_gradient(const mixt_router_spec *spec, const real *scores, int chosen,
                            const int32_t *ids, const real *d_weights, real *d_scores)
{
    real sum = 0, along = 0, scale = (real)spec->options.scale;
    for (int j = 0; j < chosen; j++) {
        sum += scores[ids[j]];
        along += d_weights[j] * scores[ids[j]];
    }
    sum = divisor(spec, sum);
    for (int j = 0; j < chosen; j++) {
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
    int64_t columns = call->out_shape[ROUTE_IDS].size[1];
    const int32_t *ids = (const int32_t *)call->out[ROUTE_IDS] + t * columns;
    const real *weights = (const real *)call->out[ROUTE_WEIGHTS] + t * columns;
    const real *d_weights = (const real *)call->d_out[ROUTE_WEIGHTS] + t * columns;
    int chosen = count_chosen(call, ids);
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
    chosen_gradient(spec, scores, chosen, ids, d_weights, d_scores);
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
        const real *logits = (const real *)call->out[ROUTE_SCORES] + t * spec->experts;
        real *d_logits = run->d_logits + t * spec->experts;
        memset(d_logits, 0, (size_t)spec->experts * sizeof *d_logits);
        if (MIXT_REAL(mixt_row_scores)(mixt_kernels_of(call), spec, logits, scores, &log_sum)) {
            row_gradient(call, t, scores, d_logits);
        }
    }
}

void MIXT_REAL(mixt_weigh_gradient)(const mixt_call *call, real *d_logits)
{
    gradient_run run = {call, d_logits};
    mixt_pool_run(call->compute->pool, mixt_divide_up(call->tokens, MIXT_ROWS), gradient_rows,
                  &run);
}
