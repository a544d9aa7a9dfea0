/* GLM-4.5, 4.6 and 4.7: arXiv 2508.06471. Grouped queries with biases, RoPE on the first half of a
 * head, in the larger ones RMSNorm of each head of q and k; sigmoid scores, a bias that only the
 * choice sees, weights divided by their sum and scaled, a shared expert. */
#include "model/arch.h"

static const mixt_tensor_row tensors[] = {
    MIXT_EMBED_TENSORS,
    {MIXT_SLOT_ATTENTION_NORM, "model.layers.{L}.input_layernorm.weight",
     "blk.{L}.attn_norm.weight", 0, 0},
    {MIXT_SLOT_FFN_NORM, "model.layers.{L}.post_attention_layernorm.weight",
     "blk.{L}.post_attention_norm.weight", 0, 0},
    MIXT_ATTENTION_TENSORS,
    MIXT_QKV_BIAS_TENSORS,
    MIXT_QK_NORM_TENSORS,
    MIXT_MOE_TENSORS("mlp", "gate_proj", "up_proj", "down_proj"),
    MIXT_SHARED_TENSORS("shared_experts"),
    MIXT_DENSE_TENSORS,
    MIXT_TENSORS_END,
};

static const mixt_config_row config[] = {
    MIXT_LLAMA_FIELDS(131072, 10000, 1e-5, 8, 0),
    MIXT_FIELD("partial_rotary_factor", NULL, PART_OF_HEAD, rope.dims, false, 0.5, 0, 1),
    MIXT_FINE_EXPERT_FIELDS(8, 1, 1, 1, 1),
    MIXT_EXPERTS_ALIAS("num_local_experts"),
    MIXT_FIELD("use_qk_norm", NULL, SWITCH, attention.qk_norm, false, 0, 0, 1),
    MIXT_FIELD("attention_bias", NULL, BOOL, attention.qkv_bias, false, 0, 0, 1),
    MIXT_FIELDS_END,
};

/* Multi-token prediction is another layer behind the last, for training; its tensors are left. */
static const char *const fixed[] = {MIXT_SILU, "n_group", "1", "topk_group", "1", NULL};

static const char *const harmless[] = {"num_nextn_predict_layers", "num_mtp_layers", NULL};

const mixt_family mixt_family_glm4_moe = {
    .name = "glm4_moe",
    .hf_class = "Glm4MoeForCausalLM",
    .title = "GLM-4.5 / 4.6 / 4.7",
    .gguf_arch = "glm4moe",
    .tensors = tensors,
    .config = config,
    .fixed = fixed,
    .harmless = harmless,
    .constants = {.router = {.score = MIXT_SCORE_SIGMOID,
                             .select_bias = true,
                             .renormalise = true,
                             .scale = 1}},
};
