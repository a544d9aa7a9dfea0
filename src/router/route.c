/* The route operator: logits, choices by the spec's method, the record, the losses. */
#include "router/method.h"

/* Every spec of today is a top-k variant (router.h); a spec field picks once there are more. */
static mixt_router_method method_of(const mixt_router_spec *spec)
{
    (void)spec;
    return MIXT_ROUTER_METHOD_top_k;
}

#if !MIXT_REAL_IS_DOUBLE
static mixt_status check_numbers(const mixt_router_options *options, mixt_error *error)
{
    const struct {
        const char *name;
        double value;
    } numbers[] = {
        {"normalise", options->normalise},
        {"soft_cap", options->soft_cap},
        {"balance_coefficient", options->balance_coefficient},
        {"z_coefficient", options->z_coefficient},
        {"bias_rate", options->bias_rate},
    };
    if (!isfinite(options->scale) || options->scale == 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "router: scale %g is not usable",
                         options->scale);
    }
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (!(numbers[i].value >= 0 && isfinite(numbers[i].value))) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "router: %s %g is not 0 or more",
                             numbers[i].name, numbers[i].value);
        }
    }
    return MIXT_OK;
}

mixt_status mixt_router_check(const mixt_router_spec *spec, mixt_error *error)
{
    static mixt_status (*const checks[])(const mixt_router_spec *, mixt_error *) = {
#define MIXT_ROUTER_METHOD(name) mixt_##name##_check,
#include "router/methods.def"
#undef MIXT_ROUTER_METHOD
    };
    const mixt_router_options *options = &spec->options;
    if (spec->experts < 1 || spec->experts > MIXT_EXPERTS_MAX) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "router: %d experts are not in 1..%d",
                         spec->experts, MIXT_EXPERTS_MAX);
    }
    if (spec->chosen < 1 || spec->chosen > spec->experts) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "router: %d experts per token of %d are not possible", spec->chosen,
                         spec->experts);
    }
    MIXT_TRY(check_numbers(options, error));
    if (options->logits != MIXT_LOGITS_LINEAR && options->logits != MIXT_LOGITS_ATTENTION) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "router: logits %d are not known",
                         (int)options->logits);
    }
    if (options->normalise > 0 && spec->experts < 2) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "router: logits of 1 expert have no deviation to normalise by");
    }
    if (options->weights != MIXT_ROUTER_LEARNED && options->weights != MIXT_ROUTER_FROZEN) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "router: weights %d are not known",
                         (int)options->weights);
    }
    if (options->balance != MIXT_BALANCE_SWITCH && options->balance != MIXT_BALANCE_GSHARD) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "router: balance loss %d is not known",
                         (int)options->balance);
    }
    return checks[method_of(spec)](spec, error);
}

mixt_status mixt_route_shape(mixt_shape_request *request, mixt_error *error)
{
    const mixt_router_spec *spec = request->attributes->router;
    MIXT_TRY(spec == NULL ? mixt_fail(error, MIXT_ERROR_ARGUMENT, "route: no router given")
                          : mixt_router_check(spec, error));
    mixt_shape x = request->in[ROUTE_X];
    int64_t experts = spec->experts, tokens = request->capacity;
    MIXT_TRY(mixt_expect_matrix(&x, "route: x", error));
    MIXT_TRY(mixt_expect(&x, mixt_shape_tokens(tokens, 1, x.size[1]), "route: x", error));
    MIXT_TRY(mixt_expect(&request->in[ROUTE_WEIGHT],
                         mixt_shape_static(2, mixt_logits_columns(spec), x.size[1], 0),
                         "route: weight", error));
    if (request->in[ROUTE_SELECT_BIAS].rank != 0) {
        MIXT_TRY(mixt_expect(&request->in[ROUTE_SELECT_BIAS], mixt_shape_static(1, experts, 0, 0),
                             "route: bias", error));
    }
    MIXT_TRY(mixt_expect(&request->in[ROUTE_SCALE], mixt_shape_static(1, MIXT_SCALES, 0, 0),
                         "route: scale", error));
    if (request->in[ROUTE_LOGIT_BIAS].rank != 0 || spec->options.logit_bias) {
        MIXT_TRY(mixt_expect(&request->in[ROUTE_LOGIT_BIAS], mixt_shape_static(1, experts, 0, 0),
                             "route: logit_bias", error));
    }
    mixt_shape choices = mixt_shape_tokens(tokens, 1, spec->chosen);
    request->out[ROUTE_IDS] = mixt_shape_integers(choices);
    request->out[ROUTE_WEIGHTS] = choices;
    request->out[ROUTE_COUNTS] = mixt_shape_integers(mixt_shape_static(1, experts, 0, 0));
    request->out[ROUTE_OFFSETS] = mixt_shape_integers(mixt_shape_static(1, experts + 1, 0, 0));
    request->out[ROUTE_ORDER] = mixt_shape_integers(mixt_shape_tokens(tokens, spec->chosen, 0));
    request->out[ROUTE_PLACE] = mixt_shape_integers(choices);
    request->out[ROUTE_SCORES] = mixt_shape_tokens(tokens, 1, experts);
    request->out[ROUTE_FINITE] = mixt_shape_integers(mixt_shape_tokens(tokens, 1, 0));
    request->out[ROUTE_LOSSES] = mixt_shape_static(1, ROUTE_LOSS_COUNT, 0, 0);
    int64_t raw = mixt_logits_workspace(spec, tokens),
            losses = mixt_balance_workspace(tokens, experts);
    request->forward_workspace = raw > losses ? raw : losses;
    request->backward_workspace =
        tokens * experts /* d logits */ + mixt_logits_backward_workspace(spec, tokens);
    return MIXT_OK;
}

void mixt_route_cost(const mixt_attributes *attributes, const mixt_shape *in, const mixt_shape *out,
                     int64_t tokens, mixt_cost *cost)
{
    (void)attributes;
    double x = mixt_shape_values(&in[ROUTE_X], tokens),
           weight = mixt_shape_values(&in[ROUTE_WEIGHT], tokens);
    double logits = mixt_shape_values(&out[ROUTE_SCORES], tokens);
    double products = 2 * x * (double)in[ROUTE_WEIGHT].size[0];
    *cost = (mixt_cost){products + 10 * logits, 4 * (x + weight + 3 * logits),
                        2 * products + 20 * logits, 8 * (x + weight + 2 * logits)};
}
#endif

#if !MIXT_REAL_IS_DOUBLE
int64_t mixt_route_broken(const mixt_route *route, int64_t *first)
{
    int64_t count = 0, at = route->tokens;
    for (int64_t t = route->tokens - 1; t >= 0; t--) {
        if (route->finite[t] == 0) {
            count++;
            at = t;
        }
    }
    if (first != NULL) {
        *first = at;
    }
    return count;
}
#endif

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

void MIXT_REAL(mixt_route_decide)(const mixt_call *call)
{
    static void (*const choose[])(const mixt_call *) = {
#define MIXT_ROUTER_METHOD(name) MIXT_REAL(mixt_##name##_choose),
#include "router/methods.def"
#undef MIXT_ROUTER_METHOD
    };
    choose[method_of(call->attributes->router)](call);
    sort_choices(call);
    MIXT_REAL(mixt_balance_loss)(call);
}

void MIXT_REAL(mixt_route_forward)(const mixt_call *call)
{
    MIXT_REAL(mixt_logits_forward)(call);
    MIXT_REAL(mixt_route_decide)(call);
}

/* dx = d raw weight, d weight = d raw^T x; the choices themselves are constants. */
void MIXT_REAL(mixt_route_backward)(const mixt_call *call)
{
    static void (*const gradient[])(const mixt_call *, real *) = {
#define MIXT_ROUTER_METHOD(name) MIXT_REAL(mixt_##name##_gradient),
#include "router/methods.def"
#undef MIXT_ROUTER_METHOD
    };
    int64_t columns = call->in_shape[ROUTE_WEIGHT].size[0],
            d = call->in_shape[ROUTE_WEIGHT].size[1];
    int64_t values = call->tokens * call->attributes->router->experts;
    real *d_logits = call->workspace;
    if (call->d_out[ROUTE_WEIGHTS] != NULL) {
        gradient[method_of(call->attributes->router)](call, d_logits);
    } else {
        memset(d_logits, 0, (size_t)values * sizeof *d_logits);
    }
    MIXT_REAL(mixt_balance_gradient)(call, d_logits);
    const real *d_raw = MIXT_REAL(mixt_logits_backward)(call, d_logits, d_logits + values);
    mixt_gemm products[2];
    int count = 0;
    if (call->d_in[ROUTE_X] != NULL) {
        products[count++] = (mixt_gemm){
            .m = call->tokens,
            .n = d,
            .k = columns,
            .a = d_raw,
            .a_row = columns,
            .a_column = 1,
            .b = call->in[ROUTE_WEIGHT],
            .b_row = d,
            .b_column = 1,
            .c = call->d_in[ROUTE_X],
            .c_row = d,
            .accumulate = call->add[ROUTE_X],
            .exact = true,
        };
    }
    if (call->d_in[ROUTE_WEIGHT] != NULL) {
        products[count++] = (mixt_gemm){
            .m = columns,
            .n = d,
            .k = call->tokens,
            .a = d_raw,
            .a_row = 1,
            .a_column = columns,
            .b = call->in[ROUTE_X],
            .b_row = d,
            .b_column = 1,
            .c = call->d_in[ROUTE_WEIGHT],
            .c_row = d,
            .accumulate = call->add[ROUTE_WEIGHT],
            .exact = true,
        };
    }
    mixt_gemm_run(call->compute, products, count);
}
