/* The list of parameters: which places of the block a model fills, and their shapes. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "model/parameters.h"

bool mixt_slot_is_expert(mixt_slot slot)
{
    return slot == MIXT_SLOT_EXPERT_GATE || slot == MIXT_SLOT_EXPERT_UP ||
           slot == MIXT_SLOT_EXPERT_DOWN || slot == MIXT_SLOT_EXPERT_GATE_BIAS ||
           slot == MIXT_SLOT_EXPERT_UP_BIAS || slot == MIXT_SLOT_EXPERT_DOWN_BIAS;
}

bool mixt_slot_is_bias(mixt_slot slot)
{
    static const mixt_slot biases[] = {
        MIXT_SLOT_ROUTER_BIAS,      MIXT_SLOT_Q_BIAS,         MIXT_SLOT_K_BIAS,
        MIXT_SLOT_V_BIAS,           MIXT_SLOT_O_BIAS,         MIXT_SLOT_SINKS,
        MIXT_SLOT_FILTER_1_BIAS,    MIXT_SLOT_FILTER_2_BIAS,  MIXT_SLOT_ROUTER_LOGIT_BIAS,
        MIXT_SLOT_EXPERT_GATE_BIAS, MIXT_SLOT_EXPERT_UP_BIAS, MIXT_SLOT_EXPERT_DOWN_BIAS,
        MIXT_SLOT_DENSE_GATE_BIAS,  MIXT_SLOT_DENSE_UP_BIAS,  MIXT_SLOT_DENSE_DOWN_BIAS,
    };
    for (size_t i = 0; i < sizeof biases / sizeof *biases; i++) {
        if (biases[i] == slot) {
            return true;
        }
    }
    return false;
}

bool mixt_slot_is_norm(mixt_slot slot)
{
    static const mixt_slot norms[] = {
        MIXT_SLOT_OUTPUT_NORM,  MIXT_SLOT_ATTENTION_NORM, MIXT_SLOT_FFN_NORM,
        MIXT_SLOT_Q_NORM,       MIXT_SLOT_K_NORM,         MIXT_SLOT_ATTENTION_POST_NORM,
        MIXT_SLOT_FILTER_NORM,  MIXT_SLOT_FFN_POST_NORM,  MIXT_SLOT_Q_DOWN_NORM,
        MIXT_SLOT_KV_DOWN_NORM,
    };
    for (size_t i = 0; i < sizeof norms / sizeof *norms; i++) {
        if (norms[i] == slot) {
            return true;
        }
    }
    return false;
}

bool mixt_slot_is_adapter(mixt_slot slot)
{
    return slot >= MIXT_SLOT_EXPERT_GATE_A && slot <= MIXT_SLOT_EXPERT_DOWN_B;
}

bool mixt_slot_is_spread(mixt_slot slot)
{
    return mixt_slot_is_expert(slot) || mixt_slot_is_adapter(slot);
}

int64_t mixt_slot_part(mixt_slot slot)
{
    static const struct {
        mixt_slot slot;
        mixt_train_part part;
    } rows[] = {
        {MIXT_SLOT_EMBED, MIXT_PART_EMBEDDINGS},
        {MIXT_SLOT_OUTPUT, MIXT_PART_HEAD},
        {MIXT_SLOT_ROUTER, MIXT_PART_ROUTER},
        {MIXT_SLOT_ROUTER_BIAS, MIXT_PART_ROUTER},
        {MIXT_SLOT_ROUTER_LOGIT_BIAS, MIXT_PART_ROUTER},
        {MIXT_SLOT_SHARED_GATE, MIXT_PART_SHARED},
        {MIXT_SLOT_SHARED_UP, MIXT_PART_SHARED},
        {MIXT_SLOT_SHARED_DOWN, MIXT_PART_SHARED},
        {MIXT_SLOT_SHARED_ROUTER, MIXT_PART_SHARED},
        {MIXT_SLOT_DENSE_GATE, MIXT_PART_MLP},
        {MIXT_SLOT_DENSE_UP, MIXT_PART_MLP},
        {MIXT_SLOT_DENSE_DOWN, MIXT_PART_MLP},
        {MIXT_SLOT_DENSE_GATE_BIAS, MIXT_PART_MLP},
        {MIXT_SLOT_DENSE_UP_BIAS, MIXT_PART_MLP},
        {MIXT_SLOT_DENSE_DOWN_BIAS, MIXT_PART_MLP},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].slot == slot) {
            return rows[i].part;
        }
    }
    return mixt_slot_is_expert(slot)    ? MIXT_PART_EXPERTS
           : mixt_slot_is_adapter(slot) ? MIXT_PART_ADAPTERS
           : mixt_slot_is_norm(slot)    ? MIXT_PART_NORMS
                                        : MIXT_PART_ATTENTION;
}

/* Selection biases have no gradient: loss-free balancing moves them. */
static bool learns(const mixt_model *model, mixt_slot slot, int64_t parts)
{
    bool frozen = model->options.router.weights != MIXT_ROUTER_LEARNED;
    bool router = slot == MIXT_SLOT_ROUTER || slot == MIXT_SLOT_ROUTER_LOGIT_BIAS;
    return slot != MIXT_SLOT_ROUTER_BIAS && !(router && frozen) &&
           (mixt_slot_part(slot) & parts) != 0;
}

void mixt_parameters_train(mixt_model *model, int64_t parts)
{
    for (int i = 0; i < model->parameter_count; i++) {
        mixt_parameter *p = &model->parameters[i];
        p->trainable = learns(model, p->slot, parts);
    }
}

size_t mixt_parameter_whole(const mixt_model *model, const mixt_parameter *p)
{
    return mixt_slot_is_spread(p->slot)
               ? p->count / (size_t)p->size[0] * (size_t)model->options.experts
               : p->count;
}

uint64_t mixt_model_learning(const mixt_model *model, int64_t parts)
{
    uint64_t count = 0;
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        bool counts = learns(model, p->slot, parts != 0 ? parts : MIXT_PART_ALL);
        count += counts ? mixt_parameter_whole(model, p) : 0;
    }
    return count;
}

bool mixt_parameter_is_matrix(const mixt_parameter *parameter)
{
    return parameter->rank >= 2 && !mixt_slot_is_bias(parameter->slot) &&
           parameter->slot != MIXT_SLOT_ROUTER && parameter->slot != MIXT_SLOT_SHARED_ROUTER;
}

void mixt_put_layer(const char *pattern, int layer, char *to, size_t size)
{
    const char *at = strstr(pattern, "{L}");
    if (at == NULL) {
        snprintf(to, size, "%s", pattern);
    } else {
        snprintf(to, size, "%.*s%d%s", (int)(at - pattern), pattern, layer, at + 3);
    }
}

/* A parameter is called as the folder calls it where that is one to one, else as GGUF files do. */
static void name_parameter(const mixt_family *family, mixt_parameter *p)
{
    const mixt_tensor_row *hf = mixt_family_row(family, p->slot, MIXT_FORM_FOLDER, NULL);
    const mixt_tensor_row *gguf = mixt_family_row(family, p->slot, MIXT_FORM_GGUF, NULL);
    if (gguf != NULL) {
        mixt_put_layer(gguf->gguf, p->layer, p->gguf_name, sizeof p->gguf_name);
    }
    if (hf != NULL && hf->hf_layout == MIXT_LAYOUT_PLAIN) {
        mixt_put_layer(hf->hf, p->layer, p->name, sizeof p->name);
    } else {
        snprintf(p->name, sizeof p->name, "%s", p->gguf_name);
    }
    size_t length = strlen(p->name);
    if (p->rank == 3 && strstr(p->name, "{E}") == NULL) {
        snprintf(p->name + length, sizeof p->name - length, ".{E}");
    }
}

mixt_parameter *mixt_parameters_append(mixt_model *model, mixt_slot slot, int layer, int rank,
                                       const int64_t *size)
{
    mixt_parameter *p = &model->parameters[model->parameter_count];
    assert(rank <= 4);
    *p = (mixt_parameter){.slot = slot, .layer = layer, .rank = rank};
    size_t count = 1, bytes, total;
    for (int i = 0; i < rank; i++) {
        p->size[i] = size[i];
        if (!mixt_multiply_size(count, (size_t)size[i], &count)) {
            return NULL;
        }
    }
    if (!mixt_multiply_size(count, sizeof(float), &bytes)) {
        return NULL;
    }
    size_t padded = mixt_round_up(count, MIXT_ALIGNMENT / sizeof(float));
    if (padded == 0 || !mixt_add_size(model->weight_count, padded, &total) ||
        total > SIZE_MAX / 64) {
        return NULL;
    }
    p->count = count;
    p->offset = model->weight_count;
    p->decay = rank >= 2 && !mixt_slot_is_bias(slot);
    p->trainable = learns(model, slot, MIXT_PART_ALL);
    model->weight_count = total;
    model->parameter_count++;
    return p;
}

/* Adds one parameter; false where its size does not fit. */
static bool add_parameter(mixt_model *model, mixt_slot slot, int layer, int rank,
                          const int64_t *size)
{
    assert(model->parameter_count < 3 + model->options.layers * MIXT_SLOT_COUNT);
    mixt_parameter *p = mixt_parameters_append(model, slot, layer, rank, size);
    if (p != NULL) {
        name_parameter(model->family, p);
    }
    return p != NULL;
}

#define ADD(slot, rank, ...)                                                                       \
    add_parameter(model, MIXT_SLOT_##slot, layer, rank, (int64_t[]){__VA_ARGS__})

/* Multi-head latent attention: q, the latent with the shared rotated key, and the heads' matrices
 * out of the latent. */
static bool add_latent(mixt_model *model, int layer)
{
    const mixt_model_options *o = &model->options;
    const mixt_attention_options *a = &o->attention;
    int64_t d = o->hidden_size, heads = o->heads, q = heads * o->head_dim;
    int64_t latent = a->latent_size, query = a->query_latent_size;
    bool good =
        query > 0 ? ADD(Q_DOWN, 2, query, d) && ADD(Q_DOWN_NORM, 1, query) && ADD(Q_UP, 2, q, query)
                  : ADD(Q, 2, q, d);
    return good && ADD(KV_DOWN, 2, latent + a->position_dim, d) && ADD(KV_DOWN_NORM, 1, latent) &&
           ADD(K_UP, 3, heads, latent, o->head_dim - a->position_dim) &&
           ADD(V_UP, 3, heads, a->value_dim, latent) && ADD(O, 2, d, heads * a->value_dim);
}

static bool add_attention(mixt_model *model, int layer)
{
    const mixt_model_options *o = &model->options;
    const mixt_attention_options *a = &o->attention;
    int64_t d = o->hidden_size, h = o->head_dim;
    int64_t q = o->heads * h, kv = o->kv_heads * h;
    bool good = ADD(ATTENTION_NORM, 1, d);
    if (a->filter) {
        good = good && ADD(FILTER_1_PREVIOUS, 2, d / 2, d) && ADD(FILTER_1, 2, d / 2, d) &&
               ADD(FILTER_1_BIAS, 1, d / 2) && ADD(FILTER_2_PREVIOUS, 2, d, d / 2) &&
               ADD(FILTER_2, 2, d, d / 2) && ADD(FILTER_2_BIAS, 1, d) && ADD(FILTER_NORM, 1, d);
    }
    if (a->latent_size > 0) {
        good = good && add_latent(model, layer);
    } else {
        good = good && ADD(Q, 2, q, d) && ADD(K, 2, kv, d) && ADD(V, 2, kv, d) && ADD(O, 2, d, q);
    }
    if (a->qkv_bias) {
        good = good && ADD(Q_BIAS, 1, q) && ADD(K_BIAS, 1, kv) && ADD(V_BIAS, 1, kv);
    }
    good = good && (!a->output_bias || ADD(O_BIAS, 1, d));
    if (a->qk_norm != MIXT_QK_NORM_NONE) {
        bool whole = a->qk_norm == MIXT_QK_NORM_WHOLE;
        good = good && ADD(Q_NORM, 1, whole ? q : h) && ADD(K_NORM, 1, whole ? kv : h);
    }
    good = good && (!a->sinks || ADD(SINKS, 1, o->heads));
    return good && (!o->post_norms || ADD(ATTENTION_POST_NORM, 1, d)) && ADD(FFN_NORM, 1, d) &&
           (!o->post_norms || ADD(FFN_POST_NORM, 1, d));
}

static bool add_router(mixt_model *model, int layer)
{
    const mixt_model_options *o = &model->options;
    int64_t d = o->hidden_size, e = mixt_options_routed(o);
    int64_t parts = o->router.logits == MIXT_LOGITS_ATTENTION ? 3
                    : o->router.noise == MIXT_NOISE_TOP_K     ? 2
                                                              : 1;
    return ADD(ROUTER, 2, parts * e, d) &&
           (!o->router.logit_bias || ADD(ROUTER_LOGIT_BIAS, 1, e)) &&
           ((o->router.bias_rate == 0 && !o->router.select_bias) || ADD(ROUTER_BIAS, 1, e));
}

static bool add_mixture(mixt_model *model, int layer)
{
    const mixt_model_options *o = &model->options;
    int64_t d = o->hidden_size, f = o->ffn_size, e = model->share.count, s = o->shared_ffn_size;
    bool good = !mixt_model_layer_routes(model, layer) || add_router(model, layer);
    good = good && ADD(EXPERT_GATE, 3, e, f, d) && ADD(EXPERT_UP, 3, e, f, d) &&
           ADD(EXPERT_DOWN, 3, e, d, f);
    if (o->expert_bias) {
        good = good && ADD(EXPERT_GATE_BIAS, 2, e, f) && ADD(EXPERT_UP_BIAS, 2, e, f) &&
               ADD(EXPERT_DOWN_BIAS, 2, e, d);
    }
    if (s > 0) {
        good = good && ADD(SHARED_GATE, 2, s, d) && ADD(SHARED_UP, 2, s, d) &&
               ADD(SHARED_DOWN, 2, d, s);
    }
    return good && (!o->shared_gate || ADD(SHARED_ROUTER, 2, 1, d));
}

static bool add_layer(mixt_model *model, int layer)
{
    const mixt_model_options *o = &model->options;
    int64_t d = o->hidden_size, dense = o->dense_ffn_size;
    if (!add_attention(model, layer)) {
        return false;
    }
    if (mixt_model_layer_is_moe(model, layer)) {
        return add_mixture(model, layer);
    }
    return ADD(DENSE_GATE, 2, dense, d) && ADD(DENSE_UP, 2, dense, d) &&
           ADD(DENSE_DOWN, 2, d, dense) &&
           (!o->dense_bias || (ADD(DENSE_GATE_BIAS, 1, dense) && ADD(DENSE_UP_BIAS, 1, dense) &&
                               ADD(DENSE_DOWN_BIAS, 1, d)));
}

mixt_status mixt_parameters_create(mixt_model *model, const char *place, mixt_error *error)
{
    const mixt_model_options *o = &model->options;
    size_t most = 3 + (size_t)o->layers * MIXT_SLOT_COUNT;
    model->parameter_count = 0;
    model->weight_count = 0;
    model->parameters = calloc(most, sizeof *model->parameters);
    if (model->parameters == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", place);
    }
    int layer = -1;
    bool good = ADD(EMBED, 2, o->vocab_size, o->hidden_size);
    for (int i = 0; i < o->layers && good; i++) {
        good = add_layer(model, i);
    }
    good = good && ADD(OUTPUT_NORM, 1, o->hidden_size) &&
           (o->tie_embeddings || ADD(OUTPUT, 2, o->vocab_size, o->hidden_size));
    if (!good) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: more weights than memory can hold", place);
    }
    mixt_parameter *fitted =
        realloc(model->parameters, (size_t)model->parameter_count * sizeof *fitted);
    model->parameters = fitted != NULL ? fitted : model->parameters;
    model->expert_begin = model->weight_count;
    return MIXT_OK;
}

/* Places in the block: what is no expert's first. */
static void place_parameters(mixt_model *model)
{
    model->weight_count = 0;
    for (int experts = 0; experts < 2; experts++) {
        model->expert_begin = model->weight_count;
        for (int i = 0; i < model->parameter_count; i++) {
            mixt_parameter *p = &model->parameters[i];
            if (mixt_slot_is_spread(p->slot) == (experts != 0)) {
                p->offset = model->weight_count;
                model->weight_count += mixt_round_up(p->count, MIXT_ALIGNMENT / sizeof(float));
            }
        }
    }
}

void mixt_parameters_share(mixt_model *model, mixt_expert_share share)
{
    for (int i = 0; i < model->parameter_count; i++) {
        mixt_parameter *p = &model->parameters[i];
        if (mixt_slot_is_spread(p->slot)) {
            p->count = p->count / (size_t)p->size[0] * (size_t)share.count;
            p->size[0] = share.count;
        }
    }
    model->share = share;
    place_parameters(model);
}
