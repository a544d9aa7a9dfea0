/* What keeps experts busy: the balance loss and the z-loss (the loss-free bias is in balance.c).
 * balance = E sum_i f_i P_i with f_i the share of choices (Switch: all k, GShard: first choices)
 * and P_i the mean over tokens of the row's scores, which sum to 1 (sigmoid scores are divided by
 * their sum, as DeepSeek-V3 does). f_i is a constant for the gradient.
 * z = mean over tokens of logsumexp(logits)^2 (ST-MoE).
 * Rows with a logit that is not finite are left out of both; choices of no
 * expert count for none. */
#include <assert.h>

#include "ops/support_tmpl.h"
#include "router/method.h"

/* The share of each row's own scores; softmax sums to 1 by itself. Returns the sum. */
static real normalise(const mixt_kernels *kernels, const mixt_router_spec *spec, real *scores)
{
    if (spec->options.score != MIXT_SCORE_SIGMOID) {
        return 1;
    }
    real sum = kernels->sum(spec->experts, scores);
    kernels->scale(spec->experts, scores, sum > 0 ? 1 / sum : 0, scores);
    return sum;
}

static void loss_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    const mixt_router_spec *spec = call->attributes->router;
    int experts = spec->experts;
    real scores[MIXT_EXPERTS_MAX], log_sum;
    real *partial = (real *)call->workspace + item * (experts + 1);
    memset(partial, 0, (size_t)(experts + 1) * sizeof *partial);
    mixt_range range = mixt_chunk(call->tokens, MIXT_BALANCE_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        const real *logits = (const real *)call->out[ROUTE_SCORES] + t * experts;
        if (!MIXT_REAL(mixt_row_scores)(kernels, spec, logits, scores, &log_sum)) {
            continue;
        }
        (void)normalise(kernels, spec, scores);
        kernels->add(experts, partial, partial, scores);
        partial[experts] += log_sum * log_sum;
    }
}

/* f_i of one expert: its share of what the loss counts. */
static double load_share(const mixt_call *call, int expert, const int32_t *first)
{
    const mixt_router_spec *spec = call->attributes->router;
    if (spec->options.balance == MIXT_BALANCE_GSHARD) {
        return (double)first[expert] / (double)call->tokens;
    }
    return (double)((const int32_t *)call->out[ROUTE_COUNTS])[expert] /
           ((double)call->tokens * spec->chosen);
}

static void count_first(const mixt_call *call, int32_t *first)
{
    const mixt_router_spec *spec = call->attributes->router;
    assert(spec->experts <= MIXT_EXPERTS_MAX);
    int64_t columns = call->out_shape[ROUTE_IDS].size[1];
    memset(first, 0, (size_t)spec->experts * sizeof *first);
    for (int64_t t = 0; t < call->tokens; t++) {
        int32_t id = ((const int32_t *)call->out[ROUTE_IDS])[t * columns];
        if (id >= 0) {
            first[id]++;
        }
    }
}

void MIXT_REAL(mixt_balance_loss)(const mixt_call *call)
{
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int experts = call->attributes->router->experts;
    int64_t chunks = mixt_divide_up(call->tokens, MIXT_BALANCE_ROWS);
    int32_t first[MIXT_EXPERTS_MAX];
    real *sums = call->workspace, *losses = call->out[ROUTE_LOSSES];
    mixt_for_chunks(call, call->tokens, MIXT_BALANCE_ROWS, loss_rows);
    for (int64_t item = 1; item < chunks; item++) {
        kernels->add(experts + 1, sums, sums, sums + item * (experts + 1));
    }
    count_first(call, first);
    double balance = 0;
    for (int e = 0; e < experts; e++) {
        balance += load_share(call, e, first) * (double)sums[e];
    }
    losses[ROUTE_LOSS_BALANCE] = (real)(balance * experts / (double)call->tokens);
    losses[ROUTE_LOSS_Z] = sums[experts] / (real)call->tokens;
}

typedef struct balance_run {
    const mixt_call *call;
    const real *pull; /* [E]: d loss / d P_i, for one token */
    real z;           /* d loss / d logsumexp^2 */
    real *d_logits;
} balance_run;

static void gradient_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const balance_run *run = context;
    const mixt_call *call = run->call;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    const mixt_router_spec *spec = call->attributes->router;
    int experts = spec->experts;
    bool sigmoid = spec->options.score == MIXT_SCORE_SIGMOID;
    real scores[MIXT_EXPERTS_MAX], log_sum;
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        const real *logits = (const real *)call->out[ROUTE_SCORES] + t * experts;
        real *d_logits = run->d_logits + t * experts;
        if (!MIXT_REAL(mixt_row_scores)(kernels, spec, logits, scores, &log_sum)) {
            continue;
        }
        real sum = normalise(kernels, spec, scores);
        real along = kernels->dot(experts, run->pull, scores), z = 2 * log_sum * run->z;
        for (int e = 0; e < experts; e++) {
            /* sigmoid: P = s / sum, d s / d logit = s (1 - s) with s = P sum */
            real slope = sigmoid ? scores[e] * (1 - scores[e] * sum) : scores[e];
            real softmax = sigmoid ? (real)exp((double)(logits[e] - log_sum)) : scores[e];
            d_logits[e] += (run->pull[e] - along) * slope + z * softmax;
        }
    }
}

void MIXT_REAL(mixt_balance_gradient)(const mixt_call *call, real *d_logits)
{
    const mixt_attributes *attributes = call->attributes;
    int experts = attributes->router->experts;
    double scale =
        (double)((const real *)call->in[ROUTE_SCALE])[MIXT_SCALE_ROUTER] / (double)call->tokens;
    int32_t first[MIXT_EXPERTS_MAX];
    real pull[MIXT_EXPERTS_MAX];
    if (scale == 0 || (attributes->balance_weight == 0 && attributes->z_weight == 0)) {
        return;
    }
    count_first(call, first);
    for (int e = 0; e < experts; e++) {
        pull[e] = (real)(scale * attributes->balance_weight * experts * load_share(call, e, first));
    }
    balance_run run = {call, pull, (real)(scale * attributes->z_weight), d_logits};
    mixt_pool_run(call->compute->pool, mixt_divide_up(call->tokens, MIXT_ROWS), gradient_rows,
                  &run);
}
