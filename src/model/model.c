#include "model/stored.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/sha256.h"
#include "model/adapters.h"
#include "model/routing.h"
#include "model/storage.h"

bool mixt_model_layer_is_moe(const mixt_model *model, int layer)
{
    const mixt_model_options *o = &model->options;
    int place = layer - o->leading_dense_layers + 1;
    return o->experts > 0 && place > 0 && (o->moe_period == 0 || place % o->moe_period == 0);
}

int mixt_options_moe_layers(const mixt_model_options *o)
{
    int behind = o->layers - o->leading_dense_layers;
    return o->experts > 0 ? behind / (o->moe_period > 0 ? o->moe_period : 1) : 0;
}

int mixt_model_moe_layers(const mixt_model *model)
{
    return mixt_options_moe_layers(&model->options);
}

bool mixt_model_layer_routes(const mixt_model *model, int layer)
{
    const mixt_model_options *o = &model->options;
    int period = o->moe_period > 0 ? o->moe_period : 1;
    return mixt_model_layer_is_moe(model, layer) &&
           (o->router.scope == MIXT_SCOPE_LAYER || layer == o->leading_dense_layers + period - 1);
}

int mixt_model_routers(const mixt_model *model)
{
    int layers = mixt_model_moe_layers(model);
    return model->options.router.scope == MIXT_SCOPE_GLOBAL && layers > 0 ? 1 : layers;
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

static mixt_status check_reserved(const mixt_model_options *options, mixt_error *error)
{
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_model_options, options, error));
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_attention_options, &options->attention, error));
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_rope_options, &options->rope, error));
    return MIXT_CHECK_RESERVED(mixt_router_options, &options->router, error);
}

mixt_status mixt_model_layout(const mixt_model_options *options, const mixt_family *family,
                              const char *place, mixt_model **result, mixt_error *error)
{
    *result = NULL;
    mixt_model_options checked = *options;
    MIXT_TRY(check_reserved(options, error));
    MIXT_TRY(mixt_model_check(&checked, place, error));
    if (family == NULL) {
        MIXT_TRY(mixt_family_to_write(&family, &checked, MIXT_FORM_FOLDER, error));
    }
    mixt_model *model = calloc(1, sizeof *model);
    if (model == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", place);
    }
    model->options = checked;
    model->share = (mixt_expert_share){0, checked.experts};
    model->family = family;
    model->router = (mixt_router_spec){.experts = mixt_options_routed(&checked),
                                       .chosen = checked.experts_per_token,
                                       .options = checked.router};
    mixt_status status = mixt_parameters_create(model, place, error);
    if (status != MIXT_OK) {
        mixt_model_free(model);
        return status;
    }
    *result = model;
    return MIXT_OK;
}

mixt_status mixt_model_options_check(const mixt_model_options *options, mixt_error *error)
{
    mixt_model *model;
    MIXT_TRY(mixt_model_layout(options, NULL, "model", &model, error));
    mixt_status status =
        model->options.experts > 0 ? mixt_router_check_training(&model->router, error) : MIXT_OK;
    mixt_model_free(model);
    return status;
}

mixt_status mixt_model_allocate(const mixt_model_options *options, const mixt_family *family,
                                const char *place, mixt_model **result, mixt_error *error)
{
    MIXT_TRY(mixt_model_layout(options, family, place, result, error));
    size_t bytes = (*result)->weight_count * sizeof(float);
    (*result)->weights = mixt_block_allocate(bytes);
    if ((*result)->weights == NULL) {
        mixt_model_free(*result);
        *result = NULL;
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory for %.1f GB of weights", place,
                         (double)bytes / 1e9);
    }
    return MIXT_OK;
}

void mixt_model_free(mixt_model *model)
{
    if (model != NULL) {
        mixt_stored_free(model->stored);
        mixt_model_release(model);
        mixt_block_free(model->weights, model->weight_count * sizeof(float));
        free(model->parameters);
        mixt_adapters_free(model);
        mixt_model_reset_routing(model);
        mixt_remarks_free(&model->remarks);
        free(model->merged);
        free(model);
    }
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

const char *mixt_model_remark(const mixt_model *model, int index)
{
    return mixt_remarks_get(&model->remarks, index);
}

mixt_status mixt_model_hash(const mixt_model *model, char hash[65], mixt_error *error)
{
    char *config = NULL;
    mixt_sha256 state;
    mixt_model whole;
    MIXT_TRY(mixt_model_config_text(model, &config, error));
    mixt_sha256_init(&state);
    mixt_sha256_update(&state, config, strlen(config));
    free(config);
    MIXT_TRY(mixt_model_whole(model, &whole, error));
    mixt_model_hash_weights(&whole, &state);
    mixt_model_whole_free(&whole);
    mixt_sha256_final_hex(&state, hash);
    return MIXT_OK;
}
