/* Experts taken out of a model: their matrices and biases, and their rows of routers; the rest
 * stays where it lies, with its types and bytes. */
#include <stdlib.h>
#include <string.h>

#include "model/adapters.h"
#include "model/laid.h"
#include "model/parameters.h"
#include "model/stored.h"

typedef struct pruning {
    mixt_model *model;
    mixt_model *after;   /* places of what stays, without weights */
    const uint8_t *drop; /* [MoE layers, E] */
    int experts, kept;   /* of a layer, with weights */
    int behind;          /* that routers choose among behind those */
    mixt_held *held;     /* [after's parameters], where the model is mapped */
    float *weights;      /* the new block, where it has one */
} pruning;

/* Place of a layer among those with experts. */
static int place_of(const mixt_model *model, int layer)
{
    int place = 0;
    for (int i = 0; i < layer; i++) {
        place += mixt_model_layer_is_moe(model, i);
    }
    return place;
}

/* How many experts [first, first + count) of a layer go. */
static int count_dropped(const uint8_t *drop, int first, int count)
{
    int dropped = 0;
    for (int e = first; e < first + count; e++) {
        dropped += drop[e] != 0;
    }
    return dropped;
}

static mixt_status check_groups(const mixt_model *model, const uint8_t *drop, int layer,
                                mixt_error *error)
{
    int groups = model->options.router.groups > 0 ? model->options.router.groups : 1;
    int size = model->options.experts / groups, each = count_dropped(drop, 0, size);
    for (int g = 1; g < groups; g++) {
        int others = count_dropped(drop, g * size, size);
        if (others != each) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                             "drop experts: layer %d: %d of group %d and %d of group 0: the router "
                             "chooses among groups of one size",
                             layer, others, g, each);
        }
    }
    return MIXT_OK;
}

/* As many in every layer; fills in how many stay. */
static mixt_status check_counts(pruning *p, mixt_error *error)
{
    const mixt_model *model = p->model;
    int first = -1, dropped = 0;
    for (int layer = 0; layer < model->options.layers; layer++) {
        if (!mixt_model_layer_is_moe(model, layer)) {
            continue;
        }
        const uint8_t *drop = p->drop + place_of(model, layer) * p->experts;
        int here = count_dropped(drop, 0, p->experts);
        if (first >= 0 && here != dropped) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                             "drop experts: %d of layer %d and %d of layer %d: files have one "
                             "number of experts for all layers",
                             dropped, first, here, layer);
        }
        if (!mixt_model_layer_routes(model, layer) &&
            memcmp(drop, p->drop, (size_t)p->experts) != 0) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                             "drop experts: layer %d has no router of its own, and loses others "
                             "than layer %d, which decides for it",
                             layer, first);
        }
        first = first < 0 ? layer : first;
        dropped = here;
        MIXT_TRY(check_groups(model, drop, layer, error));
    }
    p->kept = p->experts - dropped;
    return MIXT_OK;
}

static mixt_status check(pruning *p, mixt_error *error)
{
    const mixt_model *model = p->model;
    const mixt_model_options *o = &model->options;
    if (mixt_model_moe_layers(model) == 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "drop experts: the model is dense, it has none");
    }
    if (o->router.select != 0 && (mixt_router_needs(&model->router) & MIXT_NEEDS_TOKENS) != 0) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "drop experts: select %s: which expert a token has follows from how many "
                         "there are",
                         mixt_router_select_name(o->router.select));
    }
    if (model->adapters != NULL) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "drop experts: the model has adapters; save it and open it again");
    }
    if (model->routing != NULL) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "drop experts: the model's routing was changed, by expert");
    }
    MIXT_TRY(check_counts(p, error));
    if (p->kept < o->experts_per_token) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "drop experts: %d would stay, and every token has %d", p->kept,
                         o->experts_per_token);
    }
    mixt_model_options after = *o;
    after.experts = p->kept;
    return mixt_model_layout(&after, model->family, "drop experts", &p->after, error);
}

/* Is it one of a stack, or rows, by expert? And of how many of the router's experts. */
static bool is_by_expert(const pruning *p, const mixt_parameter *parameter, int *experts)
{
    mixt_slot slot = parameter->slot;
    bool router = slot == MIXT_SLOT_ROUTER || slot == MIXT_SLOT_ROUTER_BIAS ||
                  slot == MIXT_SLOT_ROUTER_LOGIT_BIAS;
    *experts = router ? p->experts + p->behind : p->experts;
    return router || mixt_slot_is_expert(slot);
}

/* Whether expert e of those that a router chooses among stays; those behind have no weights. */
static bool stays(const pruning *p, int layer, int expert)
{
    return expert >= p->experts || p->drop[place_of(p->model, layer) * p->experts + expert] == 0;
}

/* Values by expert, or by row of a router, of which an Attention Router has three sets. */
static void copy_values(const pruning *p, int index, float *to)
{
    const mixt_parameter *from = &p->model->parameters[index];
    int experts;
    if (!is_by_expert(p, from, &experts)) {
        mixt_model_values(p->model, index, 0, from->count, to);
        return;
    }
    int64_t sets = from->size[0] / experts;
    size_t each = from->count / (size_t)from->size[0];
    for (int64_t i = 0; i < sets * experts; i++) {
        if (stays(p, from->layer, (int)(i % experts))) {
            mixt_model_values(p->model, index, (size_t)i * each, each, to);
            to += each;
        }
    }
}

/* The matrices that stay, where they lie. */
static mixt_status hold(pruning *p, int index, mixt_error *error)
{
    const mixt_held *from = &p->model->held[index];
    const mixt_parameter *before = &p->model->parameters[index];
    const mixt_parameter *after = &p->after->parameters[index];
    mixt_held *to = &p->held[index];
    int experts;
    bool by_expert = is_by_expert(p, before, &experts);
    if (from->matrices == NULL) {
        to->values = from->values;
        if (by_expert) {
            to->values = mixt_source_memory(p->model->source, after->count * sizeof(float));
            if (to->values == NULL) {
                return mixt_fail(error, MIXT_ERROR_MEMORY, "drop experts: no memory");
            }
            copy_values(p, index, to->values);
        }
        return MIXT_OK;
    }
    to->matrices = calloc((size_t)from->count, sizeof *to->matrices);
    to->laid = from->laid != NULL
                   ? mixt_source_memory(p->model->source, (size_t)from->count * sizeof *to->laid)
                   : NULL;
    if (to->matrices == NULL || (from->laid != NULL && to->laid == NULL)) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "drop experts: no memory");
    }
    for (int i = 0; i < from->count; i++) {
        if (!by_expert || stays(p, before->layer, i)) {
            if (to->laid != NULL) {
                to->laid[to->count] = from->laid[i];
            }
            to->matrices[to->count++] = from->matrices[i];
        }
    }
    return MIXT_OK;
}

/* All that can fail, with the model as it was. */
static mixt_status prepare(pruning *p, mixt_error *error)
{
    mixt_status status = MIXT_OK;
    if (p->model->weights != NULL) {
        (void)mixt_model_block(p->model); /* what a device changed comes back */
        p->weights = mixt_block_allocate(p->after->weight_count * sizeof(float));
        status = p->weights != NULL
                     ? MIXT_OK
                     : mixt_fail(error, MIXT_ERROR_MEMORY, "drop experts: no memory");
    } else {
        p->held = calloc((size_t)p->after->parameter_count, sizeof *p->held);
        status = p->held != NULL ? MIXT_OK
                                 : mixt_fail(error, MIXT_ERROR_MEMORY, "drop experts: no memory");
    }
    for (int i = 0; i < p->after->parameter_count && status == MIXT_OK; i++) {
        if (p->weights != NULL) {
            copy_values(p, i, p->weights + p->after->parameters[i].offset);
        } else {
            status = hold(p, i, error);
        }
    }
    return status == MIXT_OK ? mixt_model_intact(p->model, error) : status;
}

/* The model gets what was prepared, and `after` what it had. */
static void take(pruning *p)
{
    mixt_model *model = p->model, *after = p->after;
    mixt_parameter *parameters = model->parameters;
    mixt_held *held = model->held;
    float *weights = model->weights;
    size_t weight_count = model->weight_count;
    for (int i = 0; i < after->parameter_count; i++) {
        after->parameters[i].trainable = parameters[i].trainable;
    }
    model->options = after->options;
    model->router = after->router;
    model->parameters = after->parameters;
    model->share = after->share;
    model->expert_begin = after->expert_begin;
    model->weight_count = after->weight_count;
    model->held = p->held;
    model->weights = p->weights;
    after->parameters = parameters;
    after->weight_count = weight_count;
    after->weights = weights;
    p->weights = NULL;
    p->held = held;
}

mixt_status mixt_model_drop_experts(mixt_model *model, const uint8_t *drop, mixt_error *error)
{
    MIXT_TRY(mixt_stored_refuse(model, "experts are dropped", error));
    MIXT_TRY(mixt_model_refuse_spread(model, "pruned", error));
    pruning p = {.model = model,
                 .drop = drop,
                 .experts = model->options.experts,
                 .behind = mixt_options_routed(&model->options) - model->options.experts};
    mixt_status status = check(&p, error);
    int count = p.after != NULL ? p.after->parameter_count : 0;
    if (status == MIXT_OK) {
        status = prepare(&p, error);
    }
    if (status == MIXT_OK) {
        take(&p);
    } else if (p.weights != NULL) {
        mixt_block_free(p.weights, p.after->weight_count * sizeof(float));
    }
    for (int i = 0; p.held != NULL && i < count; i++) {
        free(p.held[i].matrices);
    }
    free(p.held);
    mixt_model_free(p.after);
    return status;
}
