/* What a router may be, and the shape rule and cost of route. */
#include <assert.h>
#include <math.h>

#include "router/method.h"

static const mixt_router_method methods[] = {
#define MIXT_ROUTER_METHOD(name, word, needs)                                                      \
    {word,                                                                                         \
     needs,                                                                                        \
     mixt_##name##_check,                                                                          \
     mixt_##name##_workspace,                                                                      \
     mixt_##name##_choose_f32,                                                                     \
     mixt_##name##_choose_f64,                                                                     \
     mixt_##name##_gradient_f32,                                                                   \
     mixt_##name##_gradient_f64},
#include "router/methods.def"
};

#define METHODS (int)(sizeof methods / sizeof methods[0])

const char mixt_router_selects[256] =
#define MIXT_ROUTER_METHOD(name, word, needs) " " word
#include "router/methods.def"
    ;

const char *mixt_router_select_name(int select)
{
    return select >= 0 && select < METHODS ? methods[select].name : NULL;
}

const mixt_router_method *mixt_router_method_of(const mixt_router_spec *spec)
{
    assert(spec->options.select >= 0 && spec->options.select < METHODS);
    return &methods[spec->options.select];
}

unsigned mixt_router_needs(const mixt_router_spec *spec)
{
    return mixt_router_method_of(spec)->needs;
}

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
    if (mixt_router_select_name(options->select) == NULL) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "router: select %d is not known",
                         options->select);
    }
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
    return mixt_router_method_of(spec)->check(spec, error);
}

mixt_status mixt_router_check_training(const mixt_router_spec *spec, mixt_error *error)
{
    const mixt_router_options *options = &spec->options;
    bool constant = options->renormalise || options->score == MIXT_SCORE_TOP_K_SOFTMAX;
    bool chooses = (mixt_router_needs(spec) & MIXT_NEEDS_TOKENS) == 0; /* by its logits */
    if (spec->chosen == 1 && constant && chooses && options->weights == MIXT_ROUTER_LEARNED) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "router: with 1 expert per token and renormalised weights every weight "
                         "is 1, so the router would not learn");
    }
    return MIXT_OK;
}

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
    if ((mixt_router_needs(spec) & MIXT_NEEDS_TOKENS) != 0) {
        MIXT_TRY(mixt_expect(&request->in[ROUTE_TOKENS],
                             mixt_shape_integers(mixt_shape_tokens(tokens, 1, 0)), "route: tokens",
                             error));
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
    request->forward_workspace =
        mixt_most(mixt_logits_workspace(spec, tokens), mixt_balance_workspace(tokens, experts));
    request->backward_workspace =
        tokens * experts /* d logits */ + mixt_logits_backward_workspace(spec, tokens);
    return MIXT_OK;
}

void mixt_route_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double x = mixt_in_values(request, ROUTE_X), weight = mixt_in_values(request, ROUTE_WEIGHT);
    double logits = mixt_out_values(request, ROUTE_SCORES);
    double products = 2 * x * (double)request->in[ROUTE_WEIGHT].size[0];
    *cost = (mixt_cost){products + 10 * logits, 4 * (x + weight + 3 * logits),
                        2 * products + 20 * logits, 8 * (x + weight + 2 * logits)};
}
