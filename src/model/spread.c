/* First weights of a model; and models whose experts are spread over ranks, each of which holds its
 * share of every layer's. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/random.h"
#include "model/adapters.h"
#include "model/laid.h"
#include "model/stored.h"
#include "ops/exchange.h"

/* A spread model has the numbers that its experts would have in the whole one. */
static void initialize(mixt_model *model, int index, uint64_t seed)
{
    const mixt_parameter *p = &model->parameters[index];
    float *w = model->weights + p->offset;
    bool bias = mixt_slot_is_bias(p->slot), expert = mixt_slot_is_expert(p->slot);
    if (bias || mixt_slot_is_norm(p->slot)) {
        float value = bias ? 0.0f : 1.0f;
        for (size_t i = 0; i < p->count; i++) {
            w[i] = value;
        }
        return;
    }
    double deviation = model->options.initializer_range;
    if (p->slot == MIXT_SLOT_O || p->slot == MIXT_SLOT_EXPERT_DOWN ||
        p->slot == MIXT_SLOT_SHARED_DOWN || p->slot == MIXT_SLOT_DENSE_DOWN) {
        deviation /= sqrt(2.0 * model->options.layers); /* GPT-2's residual scaling */
    }
    mixt_random_key key = {seed, MIXT_RANDOM_INIT, (uint32_t)index};
    uint64_t before =
        expert ? p->count / (uint64_t)model->share.count * (uint64_t)model->share.first : 0;
    for (size_t i = 0; i < p->count; i++) {
        w[i] = (float)(deviation * mixt_random_normal(&key, before + i));
    }
}

mixt_status mixt_model_create(const mixt_model_options *options, uint64_t seed, mixt_model **model,
                              mixt_error *error)
{
    MIXT_TRY(mixt_model_allocate(options, NULL, "model", model, error));
    for (int i = 0; i < (*model)->parameter_count; i++) {
        initialize(*model, i, seed);
    }
    return MIXT_OK;
}

/* This rank's experts of so many. */
static mixt_expert_share share_of(const mixt_ranks *ranks, int experts)
{
    int place = mixt_group_place(ranks, MIXT_GROUP_EXPERT);
    int first = mixt_experts_first(ranks, experts, place);
    return (mixt_expert_share){first, mixt_experts_first(ranks, experts, place + 1) - first};
}

mixt_status mixt_model_create_spread(const mixt_model_options *options, uint64_t seed,
                                     mixt_ranks *ranks, mixt_model **result, mixt_error *error)
{
    mixt_model *model;
    *result = NULL;
    MIXT_TRY(mixt_model_layout(options, NULL, "model", &model, error));
    model->ranks = ranks;
    if (ranks->expert > 1) {
        mixt_parameters_share(model, share_of(ranks, model->options.experts));
    }
    size_t bytes = model->weight_count * sizeof(float);
    model->weights = mixt_block_allocate(bytes);
    if (model->weights == NULL) {
        mixt_model_free(model);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "model: no memory for %.1f GB of weights",
                         (double)bytes / 1e9);
    }
    for (int i = 0; i < model->parameter_count; i++) {
        initialize(model, i, seed);
    }
    *result = model;
    return MIXT_OK;
}

/* What is held of a parameter of experts becomes what is held of these. */
static void keep_share(mixt_held *held, const mixt_parameter *p, mixt_expert_share share)
{
    size_t first = (size_t)share.first, count = (size_t)share.count;
    if (held->matrices != NULL) {
        memmove(held->matrices, held->matrices + first, count * sizeof *held->matrices);
        held->count = share.count;
        held->laid = held->laid != NULL ? held->laid + first : NULL;
    } else {
        held->values += p->count / (size_t)p->size[0] * first;
    }
}

/* The same of a model with a block of weights, which another one takes the place of. */
static mixt_status keep_block(mixt_model *model, mixt_expert_share share, mixt_error *error)
{
    const float *from = mixt_model_block(model);
    mixt_model before = *model;
    size_t bytes = (size_t)model->parameter_count * sizeof *model->parameters;
    model->parameters = malloc(bytes);
    float *weights = NULL;
    if (model->parameters != NULL) {
        memcpy(model->parameters, before.parameters, bytes);
        mixt_parameters_share(model, share);
        weights = mixt_block_allocate(model->weight_count * sizeof *weights);
    }
    if (weights == NULL) {
        free(model->parameters);
        *model = before;
        return mixt_fail(error, MIXT_ERROR_MEMORY, "ranks: no memory for a share of the weights");
    }
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i], *old = &before.parameters[i];
        size_t first = mixt_slot_is_expert(p->slot)
                           ? old->count / (size_t)old->size[0] * (size_t)share.first
                           : 0;
        memcpy(weights + p->offset, from + old->offset + first, p->count * sizeof *weights);
    }
    free(before.parameters);
    mixt_block_free(before.weights, before.weight_count * sizeof *weights);
    model->weights = weights;
    return MIXT_OK;
}

mixt_status mixt_model_spread(mixt_model *model, mixt_ranks *ranks, mixt_error *error)
{
    if (model->ranks == ranks) {
        return MIXT_OK;
    }
    if (ranks->expert == 1) {
        model->ranks = ranks;
        return MIXT_OK;
    }
    if (model->trained != NULL || model->adapters != NULL) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "ranks: only a model that nothing uses yet, without adapters, is spread");
    }
    MIXT_TRY(mixt_stored_refuse(model, "its experts are spread over ranks", error));
    mixt_expert_share share = share_of(ranks, model->options.experts);
    if (model->held == NULL) {
        MIXT_TRY(keep_block(model, share, error));
        model->ranks = ranks;
        return MIXT_OK;
    }
    model->ranks = ranks;
    for (int i = 0; i < model->parameter_count; i++) {
        if (mixt_slot_is_expert(model->parameters[i].slot)) {
            keep_share(&model->held[i], &model->parameters[i], share);
        }
    }
    mixt_parameters_share(model, share);
    return MIXT_OK;
}

mixt_status mixt_model_announce(const mixt_model *model, const mixt_graph *graph, mixt_error *error)
{
    mixt_ranks *ranks = model->ranks;
    mixt_phase phase = graph->options.phase;
    if (ranks == NULL || ranks->expert == 1 || phase == MIXT_PHASE_TRAIN ||
        phase == MIXT_PHASE_WORK) {
        return MIXT_OK;
    }
    mixt_summons summons = {.kind = MIXT_SUMMONS_PLAN,
                            .tokens = graph->options.capacity,
                            .rows = mixt_graph_rows(graph)};
    MIXT_TRY(mixt_ranks_broadcast(ranks, MIXT_GROUP_ALL, 0, &summons, sizeof summons, error));
    return mixt_ranks_agree(ranks, MIXT_OK, error);
}

mixt_status mixt_model_whole(const mixt_model *model, mixt_model *whole, mixt_error *error)
{
    size_t count = (size_t)model->parameter_count;
    bool all = model->share.count == model->options.experts;
    *whole = *model;
    if (!all && (model->held == NULL || model->share.first > 0)) {
        whole->parameters = NULL;
        whole->held = NULL;
        return mixt_model_refuse_spread(model, "known as a whole here", error);
    }
    whole->parameters = malloc(count * sizeof *whole->parameters);
    whole->held = model->held != NULL ? malloc(count * sizeof *whole->held) : NULL;
    if (whole->parameters == NULL || (model->held != NULL && whole->held == NULL)) {
        mixt_model_whole_free(whole);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "model: no memory");
    }
    memcpy(whole->parameters, model->parameters, count * sizeof *whole->parameters);
    if (model->held != NULL) {
        memcpy(whole->held, model->held, count * sizeof *whole->held);
    }
    for (size_t i = 0; i < count && !all; i++) {
        mixt_parameter *p = &whole->parameters[i];
        if (mixt_slot_is_expert(p->slot)) { /* rank 0's experts are the first, others behind them */
            p->count = p->count / (size_t)p->size[0] * (size_t)model->options.experts;
            p->size[0] = model->options.experts;
            whole->held[i].count = whole->held[i].matrices != NULL ? model->options.experts : 0;
        }
    }
    return MIXT_OK;
}

void mixt_model_whole_free(mixt_model *whole)
{
    free(whole->parameters);
    free(whole->held);
    whole->parameters = NULL;
    whole->held = NULL;
}

mixt_status mixt_model_refuse_spread(const mixt_model *model, const char *what, mixt_error *error)
{
    return model->ranks == NULL || model->ranks->expert == 1
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                           "model: its experts are spread over %d ranks, so it is not %s",
                           model->ranks->expert, what);
}
