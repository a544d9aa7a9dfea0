/* What `mixt info` says of a model. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/number.h"
#include "model/parameters.h"

/* ------------------------------------------------------------------------------------------ */
/* Routing in words                                                                           */

typedef struct sentence {
    char *text;
    size_t size, used;
} sentence;

static void say(sentence *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(sentence *s, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = mixt_format_list(s->text + s->used, s->size - s->used, format, arguments);
    va_end(arguments);
    s->used += length > 0 ? (size_t)length : 0;
    s->used = s->used < s->size ? s->used : s->size - 1;
}

/* What is decided for, and where. */
static void say_unit(sentence *s, const mixt_router_options *r)
{
    if (r->scope == MIXT_SCOPE_GLOBAL) {
        say(s, "one decision for all layers, ");
    }
    if (r->unit == MIXT_UNIT_SEQUENCE) {
        say(s, "for a document by the mean of its rows, ");
    } else if (r->unit == MIXT_UNIT_SEGMENT) {
        say(s, "for %d token%s at a time by the mean of the rows before, ", r->segment,
            r->segment == 1 ? "" : "s");
    }
}

static void say_logits(sentence *s, const mixt_router_options *r, int experts)
{
    if (r->logits == MIXT_LOGITS_ATTENTION) {
        say(s, "attention of %d experts to one another, ", experts);
    }
    if (r->logit_bias) {
        say(s, "logits with a bias, ");
    }
    if (r->normalise != 0) {
        say(s, "logits divided by their deviation");
        say(s, r->normalise == 1 ? ", " : " times %g, ", r->normalise);
    }
    if (r->soft_cap != 0) {
        say(s, "capped at %g by tanh, ", r->soft_cap);
    }
    if (r->noise == MIXT_NOISE_TOP_K) {
        say(s, "noise of learned deviation added in training, ");
    }
}

static void say_choice(sentence *s, const mixt_router_options *r, int experts, int chosen)
{
    bool late = r->score == MIXT_SCORE_TOP_K_SOFTMAX;
    mixt_router_spec spec = {.options = *r};
    if ((mixt_router_needs(&spec) & MIXT_SEES_FUTURE) != 0) {
        say(s, "the best %d of %d experts (%s%s), ", chosen, experts,
            mixt_router_select_name(r->select),
            r->choice_scope == MIXT_CHOICE_OVER_SEQUENCE ? " within each document" : "");
    } else if (r->select != 0 && chosen == experts) {
        say(s, "all %d experts, ", experts);
    } else if (r->select != 0) {
        say(s, "%d of %d experts chosen by %s, ", chosen, experts,
            mixt_router_select_name(r->select));
    }
    if (r->select != 0) {
        say(s, "weighed by the %s over %s, %srenormalised, scale %g",
            r->score == MIXT_SCORE_SIGMOID ? "sigmoid" : "softmax", late ? "them" : "all",
            r->renormalise || late ? "" : "not ", r->scale);
        return;
    }
    if (late) {
        say(s, "the best %d of %d logits, softmax over them", chosen, experts);
    } else {
        say(s, "%s over %d experts", r->score == MIXT_SCORE_SIGMOID ? "sigmoid" : "softmax",
            experts);
    }
    if (r->select_bias || r->bias_rate != 0) {
        say(s, ", a bias added for the choice alone");
    }
    if (r->groups > 0) {
        say(s, ", the best %d of %d groups by their %s", r->groups_used, r->groups,
            r->group_score == MIXT_GROUP_MAX ? "best score" : "two best scores");
    }
    if (!late) {
        say(s, ", the best %d, weights %srenormalised", chosen, r->renormalise ? "" : "not ");
    }
    say(s, ", scale %g", r->scale);
}

static void say_routing(const mixt_model_options *o, char *text, size_t size)
{
    sentence s = {text, size, 0};
    text[0] = '\0';
    if (o->experts == 0) {
        return;
    }
    say_unit(&s, &o->router);
    int routed = mixt_options_routed(o);
    say_logits(&s, &o->router, routed);
    say_choice(&s, &o->router, routed, o->experts_per_token);
    if (routed > o->experts) {
        say(&s, ", behind the %d with weights ", o->experts);
    }
    if (o->identity_experts > 0) {
        say(&s, "%d that give%s the row back", o->identity_experts,
            o->identity_experts == 1 ? "s" : "");
    }
    if (o->zero_experts > 0) {
        say(&s, "%s%d that give%s nothing", o->identity_experts > 0 ? " and " : "", o->zero_experts,
            o->zero_experts == 1 ? "s" : "");
    }
    if (o->router.weights != MIXT_ROUTER_LEARNED) {
        say(&s, o->router.weights == MIXT_ROUTER_FROZEN ? ", the router random and never trained"
                                                        : ", the router random");
    }
    if (o->router.evaluation_capacity > 0) {
        say(&s, ", held-out text within %g times an expert's equal share, the %s dropped",
            o->router.evaluation_capacity,
            o->router.drop == MIXT_DROP_WEIGHT ? "least in weight" : "last");
    }
    if (o->shared_ffn_size > 0) {
        say(&s, "; beside them a shared expert of width %d%s", o->shared_ffn_size,
            o->shared_gate ? " behind a sigmoid gate" : "");
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Sizes                                                                                      */

static void add_use(mixt_type_use uses[MIXT_TYPE_COUNT], mixt_type type, int tensors, size_t values)
{
    const mixt_type_row *row = mixt_type_info(type);
    uses[type].type = row->name;
    uses[type].tensors += tensors;
    uses[type].parameters += values;
    uses[type].bytes += (uint64_t)values / (uint64_t)row->elements * (uint64_t)row->bytes;
}

static int compare_uses(const void *a, const void *b)
{
    uint64_t x = ((const mixt_type_use *)a)->bytes, y = ((const mixt_type_use *)b)->bytes;
    return (x < y) - (x > y);
}

static void describe_types(const mixt_model *model, mixt_model_info *info)
{
    mixt_type_use uses[MIXT_TYPE_COUNT] = {0};
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        const mixt_held *held = model->held != NULL ? &model->held[i] : NULL;
        bool rows = held != NULL && held->matrices != NULL;
        for (int m = 0; rows && m < held->count; m++) {
            const mixt_matrix *matrix = &held->matrices[m];
            add_use(uses, matrix->type, 1, (size_t)matrix->n * (size_t)matrix->k);
        }
        if (!rows) {
            add_use(uses, MIXT_TYPE_F32, p->rank == 3 ? (int)p->size[0] : 1, p->count);
        }
    }
    for (int type = 0; type < MIXT_TYPE_COUNT; type++) {
        if (uses[type].parameters != 0 && info->type_count < MIXT_TYPES_MAX) {
            info->types[info->type_count++] = uses[type];
            info->weight_bytes += uses[type].bytes;
        }
    }
    qsort(info->types, (size_t)info->type_count, sizeof *info->types, compare_uses);
}

void mixt_model_describe(const mixt_model *model, mixt_model_info *info)
{
    *info = (mixt_model_info){
        .options = model->options,
        .family = model->family->name,
        .title = model->family->title,
        .file_type = model->file_type,
        .adapter = model->merged,
        .authors_code = model->family->authors_code,
        .moe_layers = mixt_model_moe_layers(model),
        .held_out = model->options.experts > 0 ? mixt_router_held_out(&model->options.router) : "",
        .mapped = model->source != NULL};
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        const mixt_model_options *o = &model->options;
        size_t experts = (size_t)o->experts, chosen = (size_t)o->experts_per_token;
        bool of_experts = mixt_slot_is_expert(p->slot) || mixt_slot_is_adapter(p->slot);
        bool some = of_experts && chosen < experts; /* not all with weights */
        size_t count = p->count;
        if (of_experts && model->share.count > 0) { /* as many as all ranks have */
            count = count / (size_t)model->share.count * experts;
        }
        info->parameters_total += count;
        info->parameters_active += some ? count / experts * chosen : count;
    }
    describe_types(model, info);
    info->bits_per_weight = 8 * (double)info->weight_bytes / (double)info->parameters_total;
    say_routing(&model->options, info->routing, sizeof info->routing);
    if (model->family->universal) {
        mixt_family_nearest(&model->options, MIXT_FORM_FOLDER, info->alone);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Families                                                                                   */

int mixt_family_count(void)
{
    int count = 0;
    while (mixt_families()[count] != NULL) {
        count++;
    }
    return count;
}

/* Latent attention and sinks have no backward. */
static bool has_backward(const mixt_family *family)
{
    if (family->universal) {
        return true; /* but for models with these */
    }
    for (const mixt_tensor_row *row = family->tensors; row->slot != MIXT_SLOT_COUNT; row++) {
        if (row->slot == MIXT_SLOT_K_UP || row->slot == MIXT_SLOT_SINKS) {
            return false;
        }
    }
    return true;
}

void mixt_family_describe(int index, mixt_family_info *info)
{
    *info = (mixt_family_info){0};
    if (index >= 0 && index < mixt_family_count()) {
        const mixt_family *family = mixt_families()[index];
        *info = (mixt_family_info){.name = family->name,
                                   .hf_class = family->hf_class,
                                   .gguf_arch = family->gguf_arch,
                                   .title = family->title,
                                   .trainable = has_backward(family)};
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Options                                                                                    */

bool mixt_model_option(const mixt_model_options *options, int index, const char **name,
                       double *value)
{
    const mixt_config_row *row = mixt_option_fields;
    for (int i = 0; i < index && row->type != MIXT_FIELD_END; i++) {
        row++;
    }
    if (index < 0 || row->type == MIXT_FIELD_END) {
        return false;
    }
    *name = row->key;
    *value = mixt_row_get(row, options);
    return true;
}
