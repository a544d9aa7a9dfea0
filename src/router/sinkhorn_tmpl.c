/* Sinkhorn's algorithm (sinkhorn.c): rows and columns are divided by their sums in turn until the
 * experts' factors d move by less than TOLERANCE on average, as Megatron-LM does it. A token's own
 * factor does not change which of its values are largest, so that only d is kept, and each row may
 * be divided by its largest value, which keeps exp in range. */
#include "ops/support_tmpl.h"
#include "router/method.h"

#define TOLERANCE 1e-4
#define ROUNDS 200   /* most of them: rows far apart converge slowly */
#define EPSILON 1e-8 /* added to every sum */

typedef struct balance {
    const mixt_call *call;
    real *powers;  /* [T, E]: exp(logit - the row's largest); zeros in rows that are not finite */
    real *factors; /* [E]: d */
    real *sums;    /* [chunks, E] */
} balance;

static void raise_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const balance *b = context;
    const mixt_kernels *kernels = mixt_kernels_of(b->call);
    int64_t experts = b->call->attributes->router->experts;
    const int32_t *finite = b->call->out[ROUTE_FINITE];
    mixt_range range = mixt_chunk(b->call->tokens, MIXT_SUM_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        const real *logits = (const real *)b->call->out[ROUTE_SCORES] + t * experts;
        real *powers = b->powers + t * experts;
        if (finite[t] == 0) {
            memset(powers, 0, (size_t)experts * sizeof *powers);
        } else {
            (void)kernels->exp_sum(experts, powers, logits, kernels->max(experts, logits));
        }
    }
}

/* A chunk's part of the experts' sums, each row times its own factor. */
static void sum_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const balance *b = context;
    const mixt_kernels *kernels = mixt_kernels_of(b->call);
    int64_t experts = b->call->attributes->router->experts;
    real *sums = b->sums + item * experts, tokens = (real)b->call->tokens;
    memset(sums, 0, (size_t)experts * sizeof *sums);
    mixt_range range = mixt_chunk(b->call->tokens, MIXT_SUM_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        const real *powers = b->powers + t * experts;
        real sum = kernels->dot(experts, b->factors, powers) + (real)EPSILON;
        kernels->axpy(experts, sums, 1 / (tokens * sum), powers);
    }
}

/* New factors of the experts from the sums; their mean change. */
static double update_factors(const balance *b)
{
    int64_t experts = b->call->attributes->router->experts;
    int64_t chunks = mixt_divide_up(b->call->tokens, MIXT_SUM_ROWS);
    double change = 0;
    mixt_add_sum(mixt_kernels_of(b->call), experts, b->sums, b->sums + experts, chunks - 1,
                 experts);
    for (int64_t e = 0; e < experts; e++) {
        real factor = 1 / ((real)experts * (b->sums[e] + (real)EPSILON));
        change += fabs((double)factor - (double)b->factors[e]) / (double)experts;
        b->factors[e] = factor;
    }
    return change;
}

static void choose_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const balance *b = context;
    const mixt_call *call = b->call;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    const mixt_router_spec *spec = call->attributes->router;
    real scores[MIXT_EXPERTS_MAX], balanced[MIXT_EXPERTS_MAX], log_sum;
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        const real *logits = (const real *)call->out[ROUTE_SCORES] + t * spec->experts;
        int32_t *ids = (int32_t *)call->out[ROUTE_IDS] + t * spec->chosen;
        bool finite = MIXT_REAL(mixt_row_scores)(kernels, spec, logits, scores, &log_sum);
        kernels->add(spec->experts, balanced, logits, b->factors); /* now their logarithms */
        MIXT_REAL(mixt_best_row)(spec, finite ? balanced : logits, ids);
        MIXT_REAL(mixt_weigh_row)(call, t, finite ? scores : NULL);
    }
}

void MIXT_REAL(mixt_sinkhorn_choose)(const mixt_call *call)
{
    int64_t experts = call->attributes->router->experts;
    int64_t chunks = mixt_divide_up(call->tokens, MIXT_SUM_ROWS);
    real *workspace = call->workspace;
    balance b = {call, workspace, workspace + call->tokens * experts,
                 workspace + (call->tokens + 1) * experts};
    if (!call->attributes->training) {
        MIXT_REAL(mixt_best_choose)(call);
        return;
    }
    for (int64_t e = 0; e < experts; e++) {
        b.factors[e] = 1;
    }
    mixt_pool_run(call->compute->pool, chunks, raise_rows, &b);
    for (int round = 0; round < ROUNDS; round++) {
        mixt_pool_run(call->compute->pool, chunks, sum_rows, &b);
        if (update_factors(&b) <= TOLERANCE) {
            break;
        }
    }
    for (int64_t e = 0; e < experts; e++) {
        b.factors[e] = (real)log((double)b.factors[e]);
    }
    mixt_pool_run(call->compute->pool, mixt_divide_up(call->tokens, MIXT_ROWS), choose_rows, &b);
}

void MIXT_REAL(mixt_sinkhorn_gradient)(const mixt_call *call, real *d_logits)
{
    MIXT_REAL(mixt_weigh_gradient)(call, d_logits);
}
