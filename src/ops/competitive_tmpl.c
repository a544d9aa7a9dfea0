/* competitive: the negative log-likelihood of a target under a mixture of Gaussians of variance 1,
 * whose means are the experts' outputs and whose proportions are the router's weights. */
#include "ops/support_tmpl.h"

/* One token: its choices, and where their outputs lie. */
typedef struct competition {
    int64_t d, chosen;
    const real *target, *outputs;
    const int32_t *ids;  /* NULL: one expert */
    const real *weights; /* [chosen] */
    real *fit;           /* [chosen] */
} competition;

static const real certain = 1;

static competition competition_of(const mixt_call *call, int64_t t)
{
    int64_t d = call->in_shape[COMPETITIVE_TARGETS].size[1];
    int64_t chosen = call->out_shape[COMPETITIVE_FIT].size[1];
    bool one = call->in[COMPETITIVE_IDS] == NULL;
    return (competition){
        .d = d,
        .chosen = chosen,
        .target = (const real *)call->in[COMPETITIVE_TARGETS] + t * d,
        .outputs = (const real *)call->in[COMPETITIVE_MEANS] +
                   t * call->in_shape[COMPETITIVE_MEANS].size[1],
        .ids = one ? NULL : (const int32_t *)call->in[COMPETITIVE_IDS] + t * chosen,
        .weights = one ? &certain : (const real *)call->in[COMPETITIVE_WEIGHTS] + t * chosen,
        .fit = (real *)call->out[COMPETITIVE_FIT] + t * chosen,
    };
}

/* The outputs of choice j; NULL: no expert. */
static const real *outputs_of(const competition *c, int64_t j)
{
    int64_t expert = c->ids == NULL ? 0 : c->ids[j];
    return expert < 0 ? NULL : c->outputs + expert * c->d;
}

/* fit[j] = -|target - o_j|^2 / 2, and the largest of them; false where there is no expert. */
static bool measure(const competition *c, real *best)
{
    bool any = false;
    *best = 0;
    for (int64_t j = 0; j < c->chosen; j++) {
        const real *o = outputs_of(c, j);
        real squares = 0;
        for (int64_t i = 0; o != NULL && i < c->d; i++) {
            squares += (c->target[i] - o[i]) * (c->target[i] - o[i]);
        }
        c->fit[j] = -squares / 2;
        if (o != NULL && !(any && c->fit[j] <= *best)) {
            *best = c->fit[j];
            any = true;
        }
    }
    return any;
}

static void mix(const competition *c, real *mixture)
{
    memset(mixture, 0, (size_t)c->d * sizeof *mixture);
    for (int64_t j = 0; j < c->chosen; j++) {
        const real *o = outputs_of(c, j);
        for (int64_t i = 0; o != NULL && i < c->d; i++) {
            mixture[i] += c->weights[j] * o[i];
        }
    }
}

/* With e_j = -|target - o_j|^2 / 2 and m the largest of them:
 * nll = -m - log sum_j p_j exp(e_j - m), fit_j = exp(e_j - m) / sum. */
static void competitive_forward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int64_t rows = mixt_rows(&call->in_shape[COMPETITIVE_TARGETS], call->tokens);
    mixt_range range = mixt_chunk(rows, MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        competition c = competition_of(call, t);
        real best, *nll = (real *)call->out[COMPETITIVE_NLL] + t;
        mix(&c, (real *)call->out[COMPETITIVE_MIXTURE] + t * c.d);
        if (!measure(&c, &best)) {
            memset(c.fit, 0, (size_t)c.chosen * sizeof *c.fit);
            *nll = 0;
            continue;
        }
        for (int64_t j = 0; j < c.chosen; j++) {
            c.fit[j] = outputs_of(&c, j) == NULL ? best : c.fit[j];
        }
        (void)kernels->exp_sum(c.chosen, c.fit, c.fit, best);
        for (int64_t j = 0; j < c.chosen; j++) {
            c.fit[j] = outputs_of(&c, j) == NULL ? 0 : c.fit[j];
        }
        real sum = kernels->dot(c.chosen, c.weights, c.fit);
        *nll = -best - (real)log((double)sum);
        kernels->scale(c.chosen, c.fit, 1 / sum, c.fit);
    }
}

void MIXT_REAL(mixt_competitive_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, mixt_rows(&call->in_shape[COMPETITIVE_TARGETS], call->tokens), MIXT_ROWS,
                    competitive_forward_rows);
}

/* d o_i = -scale p_i fit_i (target - o_i), where p_i fit_i is how much of the target expert i
 * answers for, and d p_i = -scale fit_i. */
static void competitive_backward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    real scale = ((const real *)call->in[COMPETITIVE_SCALE])[MIXT_SCALE_LOSS];
    int64_t columns = call->in_shape[COMPETITIVE_MEANS].size[1];
    int64_t rows = mixt_rows(&call->in_shape[COMPETITIVE_TARGETS], call->tokens);
    mixt_range range = mixt_chunk(rows, MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        competition c = competition_of(call, t);
        real *d_outputs = call->d_in[COMPETITIVE_MEANS];
        real *d_weights = call->d_in[COMPETITIVE_WEIGHTS];
        if (d_outputs != NULL && !call->add[COMPETITIVE_MEANS]) {
            memset(d_outputs + t * columns, 0, (size_t)columns * sizeof *d_outputs);
        }
        for (int64_t j = 0; j < c.chosen; j++) {
            const real *o = outputs_of(&c, j);
            real answers = scale * c.weights[j] * c.fit[j];
            for (int64_t i = 0; d_outputs != NULL && o != NULL && i < c.d; i++) {
                d_outputs[t * columns + (o - c.outputs) + i] -= answers * (c.target[i] - o[i]);
            }
            if (d_weights != NULL) {
                real *to = d_weights + t * c.chosen + j;
                *to = (call->add[COMPETITIVE_WEIGHTS] ? *to : 0) - scale * c.fit[j];
            }
        }
    }
}

void MIXT_REAL(mixt_competitive_backward)(const mixt_call *call)
{
    mixt_for_chunks(call, mixt_rows(&call->in_shape[COMPETITIVE_TARGETS], call->tokens), MIXT_ROWS,
                    competitive_backward_rows);
}
