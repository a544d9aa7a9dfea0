/* GLM-4.7-Flash: DeepSeek-V3's block with other sizes and without groups of experts. In GGUF files
 * it is a DeepSeek-V3. */
#include <jansson.h>
#include <string.h>

#include "model/mla.h"

static const mixt_tensor_row tensors[] = {
    MIXT_MLA_MODEL_TENSORS,
    MIXT_TENSORS_END,
};

static const mixt_config_row config[] = {
    MIXT_SHAPE_FIELDS(202752, 10000, 1e-5),
    MIXT_TIE_FIELD(0),
    MIXT_MLA_FIELDS(768, 4, 1, 1, 1, 1.8, 1, 1),
    MIXT_EXPERTS_ALIAS("num_local_experts"),
    MIXT_FIELDS_END,
};

static const char *const fixed[] = {
    MIXT_SILU,     "attention_bias", "false",        "rope_interleave", "true", "-scoring_func",
    "\"sigmoid\"", "-topk_method",   "\"noaux_tc\"", "-moe_layer_freq", "1",    NULL};

static const char *const harmless[] = {"num_nextn_predict_layers", "num_mtp_layers",
                                       "mlp_layer_types", NULL};

static const char *const gguf_fixed[] = {MIXT_MLA_GGUF_FIXED, NULL};

static mixt_status refuse(mixt_error *error, const char *what)
{
    return mixt_fail(error, MIXT_ERROR_UNSUPPORTED, "mlp_layer_types: %s", what);
}

/* Which layers are dense: transformers lists them, and where its list is absent only the first is;
 * the published file says first_k_dense_replace. */
static mixt_status read_layer_types(mixt_model_options *options, const void *json,
                                    mixt_error *error)
{
    const json_t *types = json == NULL ? NULL : json_object_get(json, "mlp_layer_types");
    if (types == NULL || json_is_null(types)) {
        return MIXT_OK;
    }
    if (!json_is_array(types) || json_array_size(types) != (size_t)options->layers) {
        return refuse(error, "is no list with one entry for each layer");
    }
    int dense = 0;
    for (int i = 0; i < options->layers; i++) {
        const char *type = json_string_value(json_array_get(types, (size_t)i));
        bool is_dense = type != NULL && strcmp(type, "dense") == 0;
        if (!is_dense && (type == NULL || strcmp(type, "sparse") != 0)) {
            return refuse(error, "an entry is neither \"dense\" nor \"sparse\"");
        }
        if (is_dense && dense < i) {
            return refuse(error, "only dense layers before all sparse ones are supported");
        }
        dense += is_dense;
    }
    bool says = json_object_get(json, "first_k_dense_replace") != NULL;
    if (says && options->leading_dense_layers != dense) {
        return refuse(error, "first_k_dense_replace says another number of dense layers");
    }
    options->leading_dense_layers = dense;
    return MIXT_OK;
}

const mixt_family mixt_family_glm4_moe_lite = {
    .name = "glm4_moe_lite",
    .hf_class = "Glm4MoeLiteForCausalLM",
    .title = "GLM-4.7-Flash",
    .gguf_arch = "deepseek2",
    .gguf_layers = 47, /* llama.cpp knows the published files by them */
    .gguf_vocab = 154880,
    .tensors = tensors,
    .config = config,
    .fixed = fixed,
    .harmless = harmless,
    .gguf_fixed = gguf_fixed,
    .constants = {.router = {.score = MIXT_SCORE_SIGMOID,
                             .select_bias = true,
                             .group_score = MIXT_GROUP_TOP_TWO,
                             .renormalise = true,
                             .scale = 1}},
    .hf_interleaved = true,
    .gguf_interleaved = true,
    .only_opened = true,
    .hook = read_layer_types,
};
