/* The logits that experts are chosen by: a linear map or Yuan's Attention Router (Wu et al. 2024,
 * arXiv 2405.17976), the bias, in training noise (Shazeer et al. 2017, arXiv 1701.06538, section
 * 2.1), Skywork-MoE's normalisation (Wei et al. 2024, arXiv 2406.06563) and the soft cap; and the
 * way back through all of it.
 *
 * The products' rows are called raw: the logits themselves, with noise the logits and what its
 * deviation is the softplus of [2E], or q, k, v [3E] of the Attention Router, r_i = sum_j
 * softmax_j(q_i k_j) v_j. The backward makes them again where it needs them:
 * one product of [T, E] is less than keeping them. */
#include <assert.h>

#include "ops/support_tmpl.h"
#include "router/method.h"

typedef struct logits_run {
    const mixt_call *call;
    int64_t columns;
    real *raw;      /* [T, columns] */
    real *d_raw;    /* [T, columns]: the logits' own gradients where they are linear */
    real *d_logits; /* [T, E] */
    real *d_bias;   /* [chunks, E] */
} logits_run;

/* raw = x weight^T by the first n rows of the weight, always exact: a bit less in a logit is
 * another expert (Fedus et al. 2021, selective precision). */
static void multiply(const mixt_call *call, int64_t n, real *raw)
{
    int64_t d = call->in_shape[ROUTE_WEIGHT].size[1];
    assert(n <= call->in_shape[ROUTE_WEIGHT].size[0]);
    const mixt_matrix rows = {.type = MIXT_TYPE_F32,
                              .n = n,
                              .k = d,
                              .data = call->in[ROUTE_WEIGHT],
                              .row_bytes = (size_t)d * sizeof(float)};
    const bool few = sizeof(real) == sizeof(float) && call->tokens <= MIXT_STREAM_TOKENS;
    mixt_gemm product = {
        .m = call->tokens,
        .n = n,
        .k = d,
        .a = call->in[ROUTE_X],
        .a_row = d,
        .a_column = 1,
        .b = call->in[ROUTE_WEIGHT],
        .b_row = 1,
        .b_column = d,
        .matrix = few ? &rows : NULL, /* read where they lie, nothing is packed */
        .c = raw,
        .c_row = n,
        .exact = true,
    };
    mixt_gemm_run(call->compute, &product, 1);
}

static bool all_finite(int64_t n, const real *x)
{
    bool finite = true;
    for (int64_t i = 0; i < n; i++) {
        finite = finite && isfinite(x[i]);
    }
    return finite;
}

/* softmax_j(q_i k_j) into p [E] for one i. */
static void attend_to(const mixt_kernels *kernels, int64_t experts, real q, const real *k, real *p)
{
    kernels->scale(experts, p, q, k);
    real sum = kernels->exp_sum(experts, p, p, kernels->max(experts, p));
    kernels->scale(experts, p, 1 / sum, p);
}

static void attend(const mixt_kernels *kernels, int64_t experts, const real *raw, real *logits)
{
    real p[MIXT_EXPERTS_MAX];
    const real *q = raw, *k = raw + experts, *v = k + experts;
    for (int64_t i = 0; i < experts; i++) {
        attend_to(kernels, experts, q[i], k, p);
        logits[i] = kernels->dot(experts, p, v);
    }
}

/* Mean and variance (over E - 1) of a row, in double so that no finite row overflows. */
static void measure(int64_t experts, const real *logits, double *mean, double *variance)
{
    double sum = 0, squares = 0;
    for (int64_t e = 0; e < experts; e++) {
        sum += (double)logits[e];
    }
    *mean = sum / (double)experts;
    for (int64_t e = 0; e < experts; e++) {
        squares += ((double)logits[e] - *mean) * ((double)logits[e] - *mean);
    }
    *variance = squares / (double)(experts - 1);
}

static bool has_noise(const mixt_call *call)
{
    return call->attributes->training && call->attributes->router->options.noise != MIXT_NOISE_NONE;
}

/* The normal number of expert e for token t. */
static double draw_noise(const mixt_call *call, int64_t t, int64_t e)
{
    const int32_t *draw = call->in[ROUTE_DRAW];
    mixt_random_key key = mixt_draw_key(draw, MIXT_RANDOM_NOISE, call->layer);
    int64_t i = t * call->attributes->router->experts + e;
    return mixt_random_normal(&key, mixt_draw_index(draw, i));
}

static double softplus(double x)
{
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

/* Logits of row t before normalisation, from its raw row. */
static void plain_logits(const mixt_call *call, int64_t t, const real *raw, real *logits)
{
    const mixt_kernels *kernels = mixt_kernels_of(call);
    const mixt_router_spec *spec = call->attributes->router;
    if (spec->options.logits == MIXT_LOGITS_ATTENTION) {
        attend(kernels, spec->experts, raw, logits);
    } else if (raw != logits) {
        memcpy(logits, raw, (size_t)spec->experts * sizeof *logits);
    }
    if (call->in[ROUTE_LOGIT_BIAS] != NULL) {
        kernels->add(spec->experts, logits, logits, call->in[ROUTE_LOGIT_BIAS]);
    }
    for (int64_t e = 0; e < spec->experts && has_noise(call); e++) {
        double deviation = softplus((double)raw[spec->experts + e]);
        logits[e] = (real)((double)logits[e] + draw_noise(call, t, e) * deviation);
    }
}

static void forward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const logits_run *run = context;
    const mixt_call *call = run->call;
    const mixt_router_options *options = &call->attributes->router->options;
    int64_t experts = call->attributes->router->experts;
    int64_t columns = run->columns;
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        real *logits = (real *)call->out[ROUTE_SCORES] + t * experts;
        double mean, variance;
        plain_logits(call, t, run->raw + t * columns, logits);
        if (options->normalise > 0) {
            measure(experts, logits, &mean, &variance);
            double factor = variance > 0 ? options->normalise / sqrt(variance) : 1;
            for (int64_t e = 0; e < experts; e++) {
                logits[e] = (real)((double)logits[e] * factor);
            }
        }
        for (int64_t e = 0; e < experts && options->soft_cap > 0; e++) {
            logits[e] = (real)(options->soft_cap * tanh((double)logits[e] / options->soft_cap));
        }
    }
}

void MIXT_REAL(mixt_logits_forward)(const mixt_call *call)
{
    const mixt_router_options *options = &call->attributes->router->options;
    bool more = options->logits == MIXT_LOGITS_ATTENTION || has_noise(call);
    logits_run run = {.call = call,
                      .columns = more ? call->in_shape[ROUTE_WEIGHT].size[0]
                                      : call->attributes->router->experts,
                      .raw = more ? call->workspace : call->out[ROUTE_SCORES]};
    multiply(call, run.columns, run.raw);
    if (more || call->in[ROUTE_LOGIT_BIAS] != NULL || options->normalise > 0 ||
        options->soft_cap > 0) {
        mixt_pool_run(call->compute->pool, mixt_divide_up(call->tokens, MIXT_ROWS), forward_rows,
                      &run);
    }
}

/* With z = lambda r / std: d r = lambda / std (d z - (r - mean) (sum d z r) / ((E - 1) var)). */
static void normalise_backward(const mixt_call *call, int64_t t, const real *raw, real *d_logits)
{
    const mixt_router_spec *spec = call->attributes->router;
    int64_t experts = spec->experts;
    real plain[MIXT_EXPERTS_MAX];
    double mean, variance, along = 0;
    plain_logits(call, t, raw, plain);
    measure(experts, plain, &mean, &variance);
    if (!(variance > 0)) {
        return;
    }
    for (int64_t e = 0; e < experts; e++) {
        along += (double)d_logits[e] * (double)plain[e];
    }
    along /= (double)(experts - 1) * variance;
    for (int64_t e = 0; e < experts; e++) {
        double through = (double)d_logits[e] - ((double)plain[e] - mean) * along;
        d_logits[e] = (real)(spec->options.normalise / sqrt(variance) * through);
    }
}

/* With s_ij = q_i k_j, p_i = softmax(s_i): d v += g_i p_i, d s_ij = g_i p_ij (v_j - r_i),
 * d q_i = d s_i k, d k += q_i d s_i. */
static void attend_backward(const mixt_kernels *kernels, int64_t experts, const real *raw,
                            const real *d_logits, real *d_raw)
{
    real p[MIXT_EXPERTS_MAX];
    const real *q = raw, *k = raw + experts, *v = k + experts;
    real *dq = d_raw, *dk = d_raw + experts, *dv = dk + experts;
    memset(d_raw, 0, (size_t)(3 * experts) * sizeof *d_raw);
    for (int64_t i = 0; i < experts; i++) {
        attend_to(kernels, experts, q[i], k, p);
        real r = kernels->dot(experts, p, v);
        kernels->axpy(experts, dv, d_logits[i], p);
        for (int64_t j = 0; j < experts; j++) {
            p[j] = d_logits[i] * (p[j] * (v[j] - r));
        }
        dq[i] = kernels->dot(experts, p, k);
        kernels->axpy(experts, dk, q[i], p);
    }
}

/* d softplus(x) = sigmoid(x); outside training there is no noise. */
static void noise_backward(const mixt_call *call, int64_t t, const real *raw, const real *d_logits,
                           real *d_raw)
{
    int64_t experts = call->attributes->router->experts;
    memcpy(d_raw, d_logits, (size_t)experts * sizeof *d_raw);
    for (int64_t e = 0; e < experts; e++) {
        double slope =
            has_noise(call) ? draw_noise(call, t, e) / (1 + exp(-(double)raw[experts + e])) : 0;
        d_raw[experts + e] = (real)((double)d_logits[e] * slope);
    }
}

/* A row that is not finite chose nothing that could be differentiated: it gives zeros. */
static void backward_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const logits_run *run = context;
    const mixt_call *call = run->call;
    const mixt_router_options *options = &call->attributes->router->options;
    int64_t experts = call->attributes->router->experts, columns = run->columns;
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        const real *logits = (const real *)call->out[ROUTE_SCORES] + t * experts;
        const real *raw = run->raw + t * columns;
        real *d_logits = run->d_logits + t * experts, *d_raw = run->d_raw + t * columns;
        if (!all_finite(experts, logits) ||
            (mixt_logits_reads_raw(call->attributes->router) && !all_finite(columns, raw))) {
            memset(d_raw, 0, (size_t)columns * sizeof *d_raw);
            continue;
        }
        for (int64_t e = 0; e < experts && options->soft_cap > 0; e++) {
            real share = logits[e] / (real)options->soft_cap;
            d_logits[e] *= 1 - share * share;
        }
        if (options->normalise > 0) {
            normalise_backward(call, t, raw, d_logits);
        }
        if (options->logits == MIXT_LOGITS_ATTENTION) {
            attend_backward(mixt_kernels_of(call), experts, raw, d_logits, d_raw);
        } else if (columns > experts) {
            noise_backward(call, t, raw, d_logits, d_raw);
        }
    }
}

static void bias_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const logits_run *run = context;
    int64_t experts = run->call->attributes->router->experts;
    mixt_range range = mixt_chunk(run->call->tokens, MIXT_SUM_ROWS, item);
    real *sum = run->d_bias + item * experts;
    memset(sum, 0, (size_t)experts * sizeof *sum);
    mixt_add_sum(mixt_kernels_of(run->call), experts, sum, run->d_logits + range.begin * experts,
                 range.end - range.begin, experts);
}

const real *MIXT_REAL(mixt_logits_backward)(const mixt_call *call, real *d_logits, real *workspace)
{
    const mixt_router_spec *spec = call->attributes->router;
    const mixt_router_options *options = &spec->options;
    int64_t columns = call->in_shape[ROUTE_WEIGHT].size[0], rows = call->tokens * columns;
    logits_run run = {call, columns, call->out[ROUTE_SCORES], d_logits, d_logits, workspace};
    if (mixt_logits_reads_raw(spec)) {
        run.raw = workspace;
        run.d_bias = workspace + 2 * rows;
        multiply(call, columns, run.raw);
    }
    if (columns > spec->experts) {
        run.d_raw = workspace + rows;
    }
    if (mixt_logits_reads_raw(spec) || options->soft_cap > 0) {
        mixt_pool_run(call->compute->pool, mixt_divide_up(call->tokens, MIXT_ROWS), backward_rows,
                      &run);
    }
    if (call->d_in[ROUTE_LOGIT_BIAS] != NULL && call->in_shape[ROUTE_LOGIT_BIAS].rank != 0) {
        mixt_pool_run(call->compute->pool, mixt_divide_up(call->tokens, MIXT_SUM_ROWS), bias_rows,
                      &run);
        mixt_put_zero(call, ROUTE_LOGIT_BIAS, spec->experts);
        mixt_add_sum(mixt_kernels_of(call), spec->experts, call->d_in[ROUTE_LOGIT_BIAS], run.d_bias,
                     mixt_divide_up(call->tokens, MIXT_SUM_ROWS), spec->experts);
    }
    return run.d_raw;
}
