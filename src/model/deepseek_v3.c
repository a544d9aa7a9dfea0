/* DeepSeek-V3: arXiv 2412.19437. V2's attention; sigmoid scores, a bias that only the choice sees,
 * groups scored by their two best experts, weights divided by their sum and scaled. */
#include "model/mla.h"

static const mixt_tensor_row tensors[] = {
    MIXT_MLA_MODEL_TENSORS,
    MIXT_TENSORS_END,
};

static const mixt_config_row config[] = {
    MIXT_SHAPE_FIELDS(4096, 10000, 1e-6),
    MIXT_TIE_FIELD(0),
    MIXT_MLA_FIELDS(1536, 8, 1, 3, 1, 2.5, 8, 4),
    MIXT_EXPERTS_ALIAS("num_local_experts"),
    MIXT_FIELDS_END,
};

/* Multi-token prediction is another layer behind the last, for training; its tensors are left. */
static const char *const fixed[] = {MIXT_SILU,
                                    "attention_bias",
                                    "false",
                                    "moe_layer_freq",
                                    "1",
                                    "scoring_func",
                                    "\"sigmoid\"",
                                    "topk_method",
                                    "\"noaux_tc\"",
                                    "rope_interleave",
                                    "true",
                                    "?num_nextn_predict_layers",
                                    "0",
                                    NULL};

static const char *const harmless[] = {"num_mtp_layers", NULL};

static const char *const gguf_fixed[] = {MIXT_MLA_GGUF_FIXED, NULL};

const mixt_family mixt_family_deepseek_v3 = {
    .name = "deepseek_v3",
    .alias = "kimi_k2", /* Kimi-K2: the same class */
    .hf_class = "DeepseekV3ForCausalLM",
    .title = "DeepSeek-V3",
    .gguf_arch = "deepseek2",
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
};
