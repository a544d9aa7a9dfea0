#include "model/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/random.h"
#include "core/sha256.h"

mixt_model_options mixt_model_options_default(void)
{
    return (mixt_model_options){
        .vocab_size = 4096,
        .context_length = 256,
        .layers = 4,
        .hidden_size = 192,
        .heads = 6,
        .kv_heads = 2,
        .head_dim = 32,
        .ffn_size = 384,
        .experts = 8,
        .experts_per_token = 2,
        .rope_theta = 10000.0,
        .norm_epsilon = 1e-5,
        .initializer_range = 0.02,
        .separator = -1,
        .router = {.score = MIXT_SCORE_SOFTMAX,
                   .renormalise = true,
                   .scale = 1.0,
                   .weights = MIXT_ROUTER_LEARNED,
                   .balance = MIXT_BALANCE_SWITCH,
                   .balance_coefficient = 0.01,
                   .z_coefficient = 0.001},
    };
}

typedef struct range_row {
    const char *name;
    size_t offset;
    int low, high;
} range_row;

static const range_row ranges[] = {
    {"vocab_size", offsetof(mixt_model_options, vocab_size), 1, 1 << 24},
    {"context_length", offsetof(mixt_model_options, context_length), 1, 1 << 24},
    {"layers", offsetof(mixt_model_options, layers), 1, 4096},
    {"hidden_size", offsetof(mixt_model_options, hidden_size), 1, 1 << 20},
    {"heads", offsetof(mixt_model_options, heads), 1, 4096},
    {"kv_heads", offsetof(mixt_model_options, kv_heads), 1, 4096},
    {"head_dim", offsetof(mixt_model_options, head_dim), 2, 4096},
    {"ffn_size", offsetof(mixt_model_options, ffn_size), 1, 1 << 24},
    {"experts", offsetof(mixt_model_options, experts), 0, MIXT_EXPERTS_MAX},
    {"experts_per_token", offsetof(mixt_model_options, experts_per_token), 0, MIXT_EXPERTS_MAX},
    {"shared_experts", offsetof(mixt_model_options, shared_experts), 0, 256},
    {"leading_dense_layers", offsetof(mixt_model_options, leading_dense_layers), 0, 4096},
};

static void fill_derived(mixt_model_options *options)
{
    if (options->kv_heads == 0) {
        options->kv_heads = options->heads;
    }
    if (options->head_dim == 0 && options->heads > 0) {
        options->head_dim = options->hidden_size / options->heads;
    }
    if (options->experts == 0) {
        options->experts_per_token = 0;
        options->shared_experts = 0;
        options->leading_dense_layers = options->layers;
        options->dense_ffn_size = options->ffn_size;
    } else if (options->dense_ffn_size == 0) {
        options->dense_ffn_size = options->ffn_size * options->experts_per_token;
    }
    if (options->router.scale == 0.0) {
        options->router.scale = 1.0;
    }
}

mixt_status mixt_model_check(mixt_model_options *options, const char *place, mixt_error *error)
{
    fill_derived(options);
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        int value = *(const int *)(const void *)((const char *)options + ranges[i].offset);
        if (value < ranges[i].low || value > ranges[i].high) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: %s %d is not in %d..%d", place,
                             ranges[i].name, value, ranges[i].low, ranges[i].high);
        }
    }
    if (options->heads % options->kv_heads != 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: kv_heads %d does not divide heads %d",
                         place, options->kv_heads, options->heads);
    }
    if (options->head_dim % 2 != 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: head_dim %d is odd, RoPE needs pairs",
                         place, options->head_dim);
    }
    if (options->leading_dense_layers > options->layers) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "%s: leading_dense_layers %d is more than layers %d", place,
                         options->leading_dense_layers, options->layers);
    }
    if (!(options->norm_epsilon > 0) || !(options->norm_epsilon < 1) ||
        !(options->rope_theta >= 1) || !isfinite(options->rope_theta) ||
        !(options->initializer_range >= 0) || !isfinite(options->initializer_range)) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "%s: norm_epsilon, rope_theta or initializer_range is out of range",
                         place);
    }
    if (options->experts > 0) {
        mixt_router_spec spec = {options->experts, options->experts_per_token, options->router};
        mixt_error inner = MIXT_ERROR_INIT;
        mixt_status status = mixt_router_check(&spec, &inner);
        if (status != MIXT_OK) {
            return mixt_fail(error, status, "%s: %s", place, inner.message);
        }
    }
    return MIXT_OK;
}

bool mixt_model_layer_is_moe(const mixt_model *model, int layer)
{
    return model->options.experts > 0 && layer >= model->options.leading_dense_layers;
}

int mixt_model_moe_layers(const mixt_model *model)
{
    return model->options.experts > 0 ? model->options.layers - model->options.leading_dense_layers
                                      : 0;
}

/* Number in decimal for "{L}" or "{E}" in a tensor's name. */
static void replace_number(const char *pattern, const char *what, int number, char *to, size_t size)
{
    const char *at = strstr(pattern, what);
    if (at == NULL) {
        snprintf(to, size, "%s", pattern);
    } else {
        snprintf(to, size, "%.*s%d%s", (int)(at - pattern), pattern, number, at + 3);
    }
}

void mixt_parameter_expert_name(const mixt_parameter *parameter, int expert, char name[128])
{
    replace_number(parameter->name, "{E}", expert, name, 128);
}

/* Adds one parameter; false where its size does not fit. */
static bool add_parameter(mixt_model *model, mixt_slot slot, int layer, int rank,
                          const int64_t *size)
{
    mixt_parameter *p = &model->parameters[model->parameter_count];
    *p = (mixt_parameter){.slot = slot, .layer = layer, .rank = rank};
    replace_number(mixt_family_tensor(model->family, slot), "{L}", layer, p->name, sizeof p->name);
    size_t count = 1;
    for (int i = 0; i < rank; i++) {
        p->size[i] = size[i];
        if (!mixt_multiply_size(count, (size_t)size[i], &count)) {
            return false;
        }
    }
    size_t bytes;
    if (!mixt_multiply_size(count, sizeof(float), &bytes)) {
        return false;
    }
    p->count = count;
    p->offset = model->weight_count;
    p->decay = rank >= 2;
    bool router = slot == MIXT_SLOT_ROUTER;
    p->trainable = slot != MIXT_SLOT_ROUTER_BIAS &&
                   !(router && model->options.router.weights == MIXT_ROUTER_FROZEN);
    model->parameter_count++;
    size_t padded = mixt_round_up(count, MIXT_ALIGNMENT / sizeof(float));
    return padded != 0 && mixt_add_size(model->weight_count, padded, &model->weight_count) &&
           model->weight_count <= SIZE_MAX / 64;
}

#define ADD(slot, layer, rank, ...)                                                                \
    add_parameter(model, slot, layer, rank, (int64_t[]){__VA_ARGS__})

static bool add_layer(mixt_model *model, int layer)
{
    const mixt_model_options *o = &model->options;
    int64_t d = o->hidden_size, f = o->ffn_size, e = o->experts;
    int64_t q = (int64_t)o->heads * o->head_dim, kv = (int64_t)o->kv_heads * o->head_dim;
    bool good = ADD(MIXT_SLOT_ATTENTION_NORM, layer, 1, d) && ADD(MIXT_SLOT_Q, layer, 2, q, d) &&
                ADD(MIXT_SLOT_K, layer, 2, kv, d) && ADD(MIXT_SLOT_V, layer, 2, kv, d) &&
                ADD(MIXT_SLOT_O, layer, 2, d, q) && ADD(MIXT_SLOT_FFN_NORM, layer, 1, d);
    if (!mixt_model_layer_is_moe(model, layer)) {
        int64_t dense = o->dense_ffn_size;
        return good && ADD(MIXT_SLOT_DENSE_GATE, layer, 2, dense, d) &&
               ADD(MIXT_SLOT_DENSE_UP, layer, 2, dense, d) &&
               ADD(MIXT_SLOT_DENSE_DOWN, layer, 2, d, dense);
    }
    good = good && ADD(MIXT_SLOT_ROUTER, layer, 2, e, d);
    if (o->router.bias_rate != 0) {
        good = good && ADD(MIXT_SLOT_ROUTER_BIAS, layer, 1, e);
    }
    good = good && ADD(MIXT_SLOT_EXPERT_GATE, layer, 3, e, f, d) &&
           ADD(MIXT_SLOT_EXPERT_UP, layer, 3, e, f, d) &&
           ADD(MIXT_SLOT_EXPERT_DOWN, layer, 3, e, d, f);
    if (o->shared_experts > 0) {
        int64_t s = f * o->shared_experts;
        good = good && ADD(MIXT_SLOT_SHARED_GATE, layer, 2, s, d) &&
               ADD(MIXT_SLOT_SHARED_UP, layer, 2, s, d) &&
               ADD(MIXT_SLOT_SHARED_DOWN, layer, 2, d, s);
    }
    return good;
}

mixt_status mixt_model_allocate(const mixt_model_options *options, const mixt_family *family,
                                const char *place, mixt_model **result, mixt_error *error)
{
    *result = NULL;
    mixt_model_options checked = *options;
    mixt_status status = mixt_model_check(&checked, place, error);
    if (status != MIXT_OK) {
        return status;
    }
    family = family != NULL ? family : mixt_family_for(&checked);
    if (family == NULL) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "%s: no model family can hold these routing options", place);
    }
    mixt_model *model = calloc(1, sizeof *model);
    size_t most = 3 + (size_t)checked.layers * 16;
    if (model == NULL || (model->parameters = calloc(most, sizeof *model->parameters)) == NULL) {
        mixt_model_free(model);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", place);
    }
    model->options = checked;
    model->family = family;
    model->router = (mixt_router_spec){checked.experts, checked.experts_per_token, checked.router};
    int64_t v = checked.vocab_size, d = checked.hidden_size;
    bool good = ADD(MIXT_SLOT_EMBED, -1, 2, v, d);
    for (int layer = 0; layer < checked.layers && good; layer++) {
        good = add_layer(model, layer);
    }
    good = good && ADD(MIXT_SLOT_OUTPUT_NORM, -1, 1, d);
    if (!checked.tie_embeddings) {
        good = good && ADD(MIXT_SLOT_OUTPUT, -1, 2, v, d);
    }
    if (good) {
        model->weights = mixt_block_allocate(model->weight_count * sizeof(float));
    }
    if (model->weights == NULL) {
        double size = good ? (double)model->weight_count * sizeof(float) / 1e9 : INFINITY;
        mixt_model_free(model);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory for %.1f GB of weights", place,
                         size);
    }
    *result = model;
    return MIXT_OK;
}

void mixt_model_free(mixt_model *model)
{
    if (model != NULL) {
        mixt_block_free(model->weights, model->weight_count * sizeof(float));
        free(model->parameters);
        free(model);
    }
}

static void initialize(mixt_model *model, int index, uint64_t seed)
{
    const mixt_parameter *p = &model->parameters[index];
    float *w = model->weights + p->offset;
    if (p->rank == 1) {
        float value = p->slot == MIXT_SLOT_ROUTER_BIAS ? 0.0f : 1.0f;
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
    for (size_t i = 0; i < p->count; i++) {
        w[i] = (float)(deviation * mixt_random_normal(&key, i));
    }
}

mixt_status mixt_model_create(const mixt_model_options *options, uint64_t seed, mixt_model **model,
                              mixt_error *error)
{
    mixt_status status = mixt_model_allocate(options, NULL, "model", model, error);
    for (int i = 0; status == MIXT_OK && i < (*model)->parameter_count; i++) {
        initialize(*model, i, seed);
    }
    return status;
}

int mixt_model_find(const mixt_model *model, mixt_slot slot, int layer)
{
    for (int i = 0; i < model->parameter_count; i++) {
        if (model->parameters[i].slot == slot && model->parameters[i].layer == layer) {
            return i;
        }
    }
    return -1;
}

void mixt_model_describe(const mixt_model *model, mixt_model_info *info)
{
    *info = (mixt_model_info){.options = model->options,
                              .family = model->family->name,
                              .moe_layers = mixt_model_moe_layers(model)};
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        info->parameters_total += p->count;
        if (p->rank == 3) {
            info->parameters_active += p->count / (size_t)model->options.experts *
                                       (size_t)model->options.experts_per_token;
        } else {
            info->parameters_active += p->count;
        }
    }
    info->weight_bytes = info->parameters_total * sizeof(float);
}

int mixt_model_tensor_count(const mixt_model *model)
{
    return model->parameter_count;
}

const char *mixt_model_tensor(const mixt_model *model, int index, int64_t shape[4])
{
    if (index < 0 || index >= model->parameter_count) {
        return NULL;
    }
    memcpy(shape, model->parameters[index].size, 4 * sizeof *shape);
    return model->parameters[index].name;
}

void mixt_model_hash(const mixt_model *model, char hash[65])
{
    char *config = NULL;
    mixt_sha256 state;
    mixt_sha256_init(&state);
    if (mixt_model_config_text(model, &config, NULL) == MIXT_OK) {
        mixt_sha256_update(&state, config, strlen(config));
    }
    free(config);
    mixt_sha256_update(&state, model->weights, model->weight_count * sizeof(float));
    mixt_sha256_final_hex(&state, hash);
}
