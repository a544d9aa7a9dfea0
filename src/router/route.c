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
        {"device_balance_coefficient", options->device_balance_coefficient},
        {"z_coefficient", options->z_coefficient},
        {"bias_rate", options->bias_rate},
        {"jitter", options->jitter},
        {"capacity", options->capacity},
        {"evaluation_capacity", options->evaluation_capacity},
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

static mixt_status check_choices(const mixt_router_options *options, mixt_error *error)
{
    const struct {
        const char *name;
        int value, last;
    } choices[] = {
        {"weights", (int)options->weights, MIXT_ROUTER_REDRAWN},
        {"balance loss", (int)options->balance, MIXT_BALANCE_SKYWORK},
        {"balance scope", (int)options->balance_scope, MIXT_BALANCE_OVER_SEQUENCE},
        {"bias update", (int)options->bias_update, MIXT_BIAS_QUANTILE},
        {"unit", (int)options->unit, MIXT_UNIT_SEGMENT},
        {"scope", (int)options->scope, MIXT_SCOPE_GLOBAL},
        {"noise", (int)options->noise, MIXT_NOISE_TOP_K},
        {"drop", (int)options->drop, MIXT_DROP_WEIGHT},
        {"choice scope", (int)options->choice_scope, MIXT_CHOICE_OVER_SEQUENCE},
    };
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        if (choices[i].value < 0 || choices[i].value > choices[i].last) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "router: %s %d is not known",
                             choices[i].name, choices[i].value);
        }
    }
    return MIXT_OK;
}

/* What quantile balancing cannot work with. */
static const char *check_quantile(const mixt_router_spec *spec)
{
    const mixt_router_options *o = &spec->options;
    if (!o->select_bias || o->bias_rate > 0) {
        return "quantile balancing needs a selection bias and no rate";
    }
    if (mixt_router_needs(spec) != 0) {
        return "quantile balancing is for tokens that choose their k best experts";
    }
    if (o->groups > 0) {
        return "quantile balancing knows no groups";
    }
    return spec->chosen == spec->experts ? "quantile balancing needs experts that are not chosen"
                                         : NULL;
}

static mixt_status check_balance_groups(const mixt_router_spec *spec, mixt_error *error)
{
    const mixt_router_options *o = &spec->options;
    if (o->balance_groups < 0 ||
        (o->balance_groups > 0 && spec->experts % o->balance_groups != 0)) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "router: balance_groups %d does not divide %d experts", o->balance_groups,
                         spec->experts);
    }
    const char *wrong = NULL;
    if (o->device_balance_coefficient > 0 && o->balance_groups < 2) {
        wrong = "a device balance coefficient needs balance_groups, 2 or more";
    } else if (o->balance_groups > 1 && o->balance == MIXT_BALANCE_SKYWORK) {
        wrong = "the loss over balance_groups counts choices, and Skywork's counts none";
    }
    return wrong == NULL ? MIXT_OK : mixt_fail(error, MIXT_ERROR_ARGUMENT, "router: %s", wrong);
}

/* Options that only work with, or without, others. */
static mixt_status check_together(const mixt_router_spec *spec, mixt_error *error)
{
    const mixt_router_options *o = &spec->options;
    const char *wrong = NULL;
    if ((o->unit == MIXT_UNIT_SEGMENT) != (o->segment > 0)) {
        wrong = "a segment's tokens are said where, and only where, the unit is segment";
    } else if (o->unit != MIXT_UNIT_TOKEN && (mixt_router_needs(spec) & MIXT_SEES_FUTURE) != 0) {
        wrong = "only tokens are assigned by what others chose, not sequences or segments";
    } else if (o->jitter >= 1) {
        wrong = "jitter is not below 1";
    } else if (o->noise != MIXT_NOISE_NONE && o->logits != MIXT_LOGITS_LINEAR) {
        wrong = "noise is for linear logits alone";
    } else if (o->balance == MIXT_BALANCE_SKYWORK && o->balance_scope == MIXT_BALANCE_OVER_STEP) {
        wrong = "Skywork's balance loss counts no choices, so none of the step before";
    } else if (o->adaptive_balance && !(o->balance_coefficient > 0)) {
        wrong = "an adaptive balance coefficient needs one to begin with";
    } else if (o->choice_scope != MIXT_CHOICE_OVER_BATCH &&
               (mixt_router_needs(spec) & MIXT_GIVES_MORE) == 0) {
        wrong = "a choice scope is for select expert-choice alone";
    } else if (o->adaptive_balance && (mixt_router_needs(spec) & MIXT_GIVES_MORE) != 0) {
        wrong = "an adaptive balance coefficient follows drops, and these experts drop nothing";
    }
    wrong = wrong == NULL && o->bias_update == MIXT_BIAS_QUANTILE ? check_quantile(spec) : wrong;
    return wrong == NULL ? MIXT_OK : mixt_fail(error, MIXT_ERROR_ARGUMENT, "router: %s", wrong);
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
    MIXT_TRY(check_choices(options, error));
    MIXT_TRY(check_together(spec, error));
    MIXT_TRY(check_balance_groups(spec, error));
    return mixt_router_method_of(spec)->check(spec, error);
}

double mixt_router_factor(const mixt_router_spec *spec)
{
    return spec->options.capacity > 0 ? spec->options.capacity : 1;
}

int mixt_router_width(const mixt_router_spec *spec, bool training)
{
    bool more = training && (mixt_router_needs(spec) & MIXT_GIVES_MORE) != 0;
    return more ? spec->experts : spec->chosen;
}

int mixt_router_rows(const mixt_router_spec *spec, bool training)
{
    bool more = training && (mixt_router_needs(spec) & MIXT_GIVES_MORE) != 0;
    double rows = ceil((double)spec->chosen * mixt_router_factor(spec));
    return more && rows < spec->experts ? (int)rows : more ? spec->experts : spec->chosen;
}

int64_t mixt_router_capacity(const mixt_router_spec *spec, double factor, int64_t tokens)
{
    double equal = (double)tokens * spec->chosen / spec->experts;
    return factor > 0 && factor * equal < (double)INT32_MAX ? (int64_t)ceil(factor * equal)
                                                            : INT64_MAX;
}

bool mixt_router_needs_first(const mixt_router_spec *spec, bool training)
{
    return training && ((mixt_router_needs(spec) & MIXT_NEEDS_FIRST) != 0 ||
                        spec->options.balance_scope == MIXT_BALANCE_OVER_SEQUENCE);
}

/* What has to be known of held-out scores, each where it holds, all in one line. */
#define SEES_LATER                                                                                 \
    "the router decides once for a document's tokens in a window and sees the later ones, which "  \
    "generation cannot"
#define EXPERTS_CHOSE                                                                              \
    "each token has its own k best experts, as in generation; training let experts choose"
#define WAS_BALANCED                                                                               \
    "each token has its own k best experts, as in generation; training balanced them over the "    \
    "batch"
#define WAS_REDRAWN "the router is the one that training began with; in each step it was drawn anew"
#define DROPS                                                                                      \
    "what is dropped beyond a capacity hangs on what is scored beside it, later tokens too; "      \
    "generation drops nothing"
#define AND "; and "
#define WITH(first) first, first AND DROPS, first AND WAS_REDRAWN, first AND WAS_REDRAWN AND DROPS

/* By 4 times how experts are chosen, 2 where the router is redrawn, 1 where there is a capacity. */
static const char *const held_out[16] = {
    "",
    DROPS,
    WAS_REDRAWN,
    WAS_REDRAWN AND DROPS,
    WITH(SEES_LATER),
    WITH(EXPERTS_CHOSE),
    WITH(WAS_BALANCED),
};

const char *mixt_router_held_out(const mixt_router_options *options)
{
    mixt_router_spec spec = {.options = *options};
    unsigned needs = mixt_router_needs(&spec);
    int chosen = options->unit == MIXT_UNIT_SEQUENCE ? 1
                 : (needs & MIXT_SEES_FUTURE) == 0   ? 0
                 : (needs & MIXT_GIVES_MORE) != 0    ? 2
                                                     : 3;
    int redrawn = options->weights == MIXT_ROUTER_REDRAWN;
    return held_out[4 * chosen + 2 * redrawn + (options->evaluation_capacity > 0)];
}

mixt_status mixt_router_check_training(const mixt_router_spec *spec, mixt_error *error)
{
    const mixt_router_options *options = &spec->options;
    bool constant = options->renormalise || options->score == MIXT_SCORE_TOP_K_SOFTMAX;
    /* by its logits, one expert for each token */
    bool chooses = (mixt_router_needs(spec) & (MIXT_NEEDS_TOKENS | MIXT_GIVES_MORE)) == 0;
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

/* Columns of ids, weights and place, and of rows in expert order. */
static void width_of(const mixt_attributes *attributes, int *columns, int *rows)
{
    bool training = attributes->training;
    *columns = mixt_router_width(attributes->router, training);
    *rows = mixt_router_rows(attributes->router, training);
    if (attributes->columns > *columns) {
        *columns = *rows = attributes->columns;
    }
}

/* The optional inputs that are integers, and the factors of the balance loss. */
static mixt_status expect_integers(const mixt_shape_request *request, mixt_error *error)
{
    const mixt_router_spec *spec = request->attributes->router;
    bool training = request->attributes->training;
    bool draws = training && spec->options.noise != MIXT_NOISE_NONE;
    mixt_shape rows = mixt_shape_tokens(request->capacity, 1, 0);
    const struct {
        int slot;
        bool needed;
        mixt_shape shape;
        const char *name;
    } inputs[] = {
        {ROUTE_TOKENS, (mixt_router_needs(spec) & MIXT_NEEDS_TOKENS) != 0, rows, "route: tokens"},
        {ROUTE_FIRST, mixt_router_needs_first(spec, training), rows, "route: first"},
        {ROUTE_DRAW, draws, mixt_shape_static(1, MIXT_DRAWS, 0, 0), "route: draw"},
        {ROUTE_SEEN, training && spec->options.balance_scope == MIXT_BALANCE_OVER_STEP,
         request->attributes->ranks != NULL ? mixt_shape_static(2, 2, spec->experts, 0)
                                            : mixt_shape_static(1, spec->experts, 0, 0),
         "route: seen"},
        {ROUTE_VARIANT, request->attributes->variants != NULL, rows, "route: variant"},
    };
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++) {
        const mixt_shape *have = &request->in[inputs[i].slot];
        if (inputs[i].needed) {
            MIXT_TRY(
                mixt_expect(have, mixt_shape_integers(inputs[i].shape), inputs[i].name, error));
        }
    }
    const mixt_shape *factors = &request->in[ROUTE_BALANCE];
    return factors->rank == 0 ? MIXT_OK
                              : mixt_expect(factors, mixt_shape_static(1, factors->size[0], 0, 0),
                                            "route: balance", error);
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
    MIXT_TRY(expect_integers(request, error));
    bool training = request->attributes->training;
    if (training && (request->attributes->variants != NULL || request->attributes->columns > 0)) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "router: rows are routed alike in training");
    }
    if (request->attributes->columns > spec->experts) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "router: %d columns for %d experts",
                         request->attributes->columns, spec->experts);
    }
    int columns, room;
    width_of(request->attributes, &columns, &room);
    for (int j = 0; j < spec->chosen && spec->forced != NULL && training; j++) {
        if (spec->forced[j] >= 0 && mixt_router_width(spec, training) != spec->chosen) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                             "router: experts that choose their tokens cannot be forced on them");
        }
    }
    mixt_shape choices = mixt_shape_tokens(tokens, 1, columns);
    request->out[ROUTE_IDS] = mixt_shape_integers(choices);
    request->out[ROUTE_WEIGHTS] = choices;
    request->out[ROUTE_COUNTS] = mixt_shape_integers(mixt_shape_static(1, experts, 0, 0));
    request->out[ROUTE_OFFSETS] = mixt_shape_integers(mixt_shape_static(1, experts + 1, 0, 0));
    request->out[ROUTE_ORDER] = mixt_shape_integers(mixt_shape_tokens(tokens, room, 0));
    request->out[ROUTE_PLACE] = mixt_shape_integers(choices);
    request->out[ROUTE_SCORES] = mixt_shape_tokens(tokens, 1, experts);
    request->out[ROUTE_FINITE] = mixt_shape_integers(mixt_shape_tokens(tokens, 1, 0));
    request->out[ROUTE_LOSSES] = mixt_shape_static(1, ROUTE_LOSS_COUNT, 0, 0);
    const int64_t workspaces[] = {
        mixt_logits_workspace(spec, training, tokens),
        mixt_router_method_of(spec)->workspace(spec, training, tokens),
        request->attributes->capacity > 0 ? tokens * choices.size[1] : 0, /* weights of an expert */
        mixt_balance_workspace(spec, tokens) +
            mixt_balance_ranks_workspace(spec, request->attributes->ranks),
    };
    for (size_t i = 0; i < sizeof workspaces / sizeof workspaces[0]; i++) {
        request->forward_workspace = mixt_most(request->forward_workspace, workspaces[i]);
    }
    request->backward_workspace =
        tokens * experts /* d logits */ + mixt_most(mixt_logits_backward_workspace(spec, tokens),
                                                    mixt_balance_backward_workspace(spec, tokens));
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
