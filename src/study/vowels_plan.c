/* The systems of the vowel task as plans: experts and gate, or layers of units, and the loss. */
#include "core/error.h"
#include "study/vowels.h"

void mixt_vowel_system_size(int system, int *experts, int *hidden)
{
    static const int sizes[MIXT_VOWEL_SYSTEMS][2] = {{4, 0}, {8, 0}, {0, 6}, {0, 12}};
    *experts = sizes[system][0];
    *hidden = sizes[system][1];
}

static mixt_value_id add_parameter(mixt_vowel_plan *p, const char *name, mixt_shape shape,
                                   bool random)
{
    mixt_vowel_parameter *to = &p->parameters[p->parameter_count];
    *to = (mixt_vowel_parameter){
        .value = mixt_plan_parameter(p->plan, name, p->parameter_count, true, shape),
        .first = p->weight_count,
        .count = (size_t)(shape.rank == 2 ? shape.size[0] * shape.size[1] : shape.size[0]),
        .random = random,
    };
    p->weight_count += to->count;
    p->parameter_count++;
    return to->value;
}

static void append(mixt_vowel_plan *p, mixt_op op, const mixt_attributes *attributes,
                   const mixt_value_id *in, mixt_value_id *out)
{
    static const mixt_attributes none = {0};
    mixt_operation operation = {
        .op = op, .layer = -1, .attributes = attributes == NULL ? &none : attributes, .in = in};
    for (int i = 0; i < MIXT_SLOTS; i++) {
        out[i] = MIXT_NO_VALUE;
    }
    mixt_plan_operator(p->plan, &operation, out);
}

/* [T, columns] of x [T, width] by a matrix and a bias of its own; logistic where `squash`. */
static mixt_value_id add_layer(mixt_vowel_plan *p, mixt_value_id x, int64_t columns, int64_t width,
                               bool squash)
{
    mixt_value_id out[MIXT_SLOTS];
    mixt_shape weight = mixt_shape_static(2, columns, width, 0);
    mixt_value_id in[LINEAR_INPUTS] = {
        [LINEAR_X] = x,
        [LINEAR_WEIGHT] = add_parameter(p, "weight", weight, true),
    };
    in[LINEAR_BIAS] = add_parameter(p, "bias", mixt_shape_static(1, columns, 0, 0), true);
    append(p, MIXT_OP_linear, NULL, in, out);
    if (squash) {
        in[SIGMOID_X] = out[LINEAR_Y];
        append(p, MIXT_OP_sigmoid, NULL, in, out);
    }
    return out[0];
}

/* The dense soft mixture: the router with all experts chosen, and a bias to its logits. */
static void add_gate(mixt_vowel_plan *p, int experts)
{
    p->gate = (mixt_router_spec){
        .experts = experts,
        .chosen = experts,
        .options = {.logit_bias = true, .score = MIXT_SCORE_SOFTMAX, .scale = 1},
    };
    mixt_attributes attributes = {.router = &p->gate};
    mixt_shape weight = mixt_shape_static(2, experts, MIXT_VOWEL_FORMANTS, 0);
    mixt_value_id in[ROUTE_INPUTS], out[MIXT_SLOTS];
    for (int i = 0; i < ROUTE_INPUTS; i++) {
        in[i] = MIXT_NO_VALUE;
    }
    in[ROUTE_X] = p->formants;
    in[ROUTE_WEIGHT] = add_parameter(p, "gate", weight, false);
    in[ROUTE_LOGIT_BIAS] =
        add_parameter(p, "gate bias", mixt_shape_static(1, experts, 0, 0), false);
    in[ROUTE_SCALE] = p->scale;
    append(p, MIXT_OP_route, &attributes, in, out);
    p->ids = out[ROUTE_IDS];
    p->proportions = out[ROUTE_WEIGHTS];
    mixt_plan_keep(p->plan, p->ids);
    mixt_plan_keep(p->plan, p->proportions);
}

mixt_status mixt_vowel_plan_create(const mixt_vowel_shape *shape, int64_t cases, size_t real_size,
                                   mixt_vowel_plan *p, mixt_error *error)
{
    *p = (mixt_vowel_plan){.ids = MIXT_NO_VALUE, .proportions = MIXT_NO_VALUE};
    MIXT_TRY(mixt_plan_create("train", cases, real_size, &p->plan, error));
    p->formants =
        mixt_plan_input(p->plan, "formants", mixt_shape_tokens(cases, 1, MIXT_VOWEL_FORMANTS));
    p->targets = mixt_plan_input(p->plan, "targets", mixt_shape_tokens(cases, 1, shape->outputs));
    p->scale = mixt_plan_input(p->plan, "scale", mixt_shape_static(1, MIXT_SCALES, 0, 0));
    mixt_value_id means, out[MIXT_SLOTS];
    if (shape->experts > 0) {
        means = add_layer(p, p->formants, (int64_t)shape->experts * shape->outputs,
                          MIXT_VOWEL_FORMANTS, !shape->linear);
        add_gate(p, shape->experts);
    } else {
        means = add_layer(p, p->formants, shape->hidden, MIXT_VOWEL_FORMANTS, true);
        means = add_layer(p, means, shape->outputs, shape->hidden, !shape->linear);
    }
    mixt_value_id in[COMPETITIVE_INPUTS] = {
        [COMPETITIVE_MEANS] = means,
        [COMPETITIVE_IDS] = p->ids,
        [COMPETITIVE_WEIGHTS] = p->proportions,
        [COMPETITIVE_TARGETS] = p->targets,
        [COMPETITIVE_SCALE] = p->scale,
    };
    append(p, MIXT_OP_competitive, NULL, in, out);
    p->nll = out[COMPETITIVE_NLL];
    p->mixture = out[COMPETITIVE_MIXTURE];
    mixt_plan_keep(p->plan, p->nll);
    mixt_plan_keep(p->plan, p->mixture);
    MIXT_TRY(mixt_plan_differentiate(p->plan, p->nll, error));
    return mixt_plan_finish(p->plan, error);
}
