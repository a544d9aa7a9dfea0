/* DeepSeek-V2: arXiv 2405.04434. Multi-head latent attention (MLA), softmax over all experts, the
 * best k within the best groups (a group's score is its best expert), weights times a factor. */
#include <jansson.h>
#include <string.h>

#include "model/mla.h"

static const mixt_tensor_row tensors[] = {
    MIXT_MLA_MODEL_TENSORS,
    MIXT_TENSORS_END,
};

static const mixt_config_row config[] = {
    MIXT_SHAPE_FIELDS(2048, 10000, 1e-6),
    MIXT_TIE_FIELD(0),
    MIXT_MLA_FIELDS(1536, 0, 2, 0, 0, 1, 0, 0),
    MIXT_EXPERTS_ALIAS("num_experts"),
    MIXT_FIELDS_END,
};

static const char *const fixed[] = {MIXT_SILU,
                                    "attention_bias",
                                    "false",
                                    "moe_layer_freq",
                                    "1",
                                    "?seq_aux",
                                    "true",
                                    "scoring_func",
                                    "\"softmax\"",
                                    "?topk_method",
                                    "\"group_limited_greedy\"",
                                    NULL};

static const char *const harmless[] = {NULL};

static const char *const gguf_fixed[] = {MIXT_MLA_GGUF_FIXED, NULL};

/* topk_method says whether the groups count: not where it is absent. One group is the same as none.
 * The authors' code either normalises weights or scales them, transformers only scales. */
static mixt_status choose_groups(mixt_model_options *options, const void *json, mixt_error *error)
{
    const json_t *method = json_object_get(json, "topk_method");
    const char *name = method != NULL ? json_string_value(method) : "greedy";
    if (json == NULL) {
        return MIXT_OK;
    }
    if (name != NULL && strcmp(name, "greedy") == 0) {
        options->router.groups = options->router.groups_used = 0;
    } else if (name == NULL || strcmp(name, "group_limited_greedy") != 0) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "topk_method: only greedy and group_limited_greedy are supported");
    }
    if (options->router.renormalise && options->router.scale != 1) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "norm_topk_prob: with a routed_scaling_factor of %g it is not supported",
                         options->router.scale);
    }
    return MIXT_OK;
}

const mixt_family mixt_family_deepseek_v2 = {
    .name = "deepseek_v2",
    .hf_class = "DeepseekV2ForCausalLM",
    .title = "DeepSeek-V2",
    .gguf_arch = "deepseek2",
    .tensors = tensors,
    .config = config,
    .fixed = fixed,
    .harmless = harmless,
    .gguf_fixed = gguf_fixed,
    .constants = {.router = {.score = MIXT_SCORE_SOFTMAX,
                             .group_score = MIXT_GROUP_MAX,
                             .scale = 1}},
    .hf_interleaved = true,
    .gguf_interleaved = true,
    .gguf_select_bias = true,
    .hook = choose_groups,
};
