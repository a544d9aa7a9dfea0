/* Skywork-MoE: Wei et al. 2024, arXiv 2406.06563. Router logits divided by their standard deviation
 * (over E - 1), softmax over all, the best two, divided by their sum. mixt chose the names in GGUF
 * files (docs/gguf.md); a plain conversion to `llama` would route differently. */
#include "model/arch.h"

static const mixt_tensor_row tensors[] = {
    MIXT_LLAMA_TENSORS,
    MIXT_MOE_TENSORS("block_sparse_moe", "w1", "w3", "w2"),
    MIXT_TENSORS_END,
};

static const mixt_config_row config[] = {
    MIXT_LLAMA_FIELDS(4096, 10000, 1e-6, 0, 0),
    MIXT_FIELD("num_experts", "expert_count", LIST_INTEGER, experts, true, 0, 2, MIXT_EXPERTS_MAX),
    /* two in the authors' code, where no key says it */
    MIXT_FIELD("num_experts_per_tok", "expert_used_count", INTEGER, experts_per_token, false, 2, 1,
               MIXT_EXPERTS_MAX),
    MIXT_EXPERT_FFN_FIELD("intermediate_size"),
    MIXT_FIELD("moe_gate_norm_std", "router_logit_std", NUMBER, router.normalise, false, 1, 1e-6,
               1e6),
    MIXT_FIELDS_END,
};

static const char *const fixed[] = {MIXT_SILU, "moe_use_logits_norm",
                                    "true",    "moe_expert_interval",
                                    "1",       "moe_2layer_gate",
                                    "false",   "moe_feature_no_mul_topk",
                                    "true",    "moe_use_skywork_gating",
                                    "false",   "rotary_percent",
                                    "1.0",     NULL};

static const char *const harmless[] = {NULL};

const mixt_family mixt_family_skywork = {
    .name = "skywork",
    .alias = "skywork_moe",
    .hf_class = "SkyworkForCausalLM",
    .title = "Skywork-MoE",
    .gguf_arch = "skywork",
    .tensors = tensors,
    .config = config,
    .fixed = fixed,
    .harmless = harmless,
    .authors_code = true,
    .constants = {.router = {.score = MIXT_SCORE_SOFTMAX, .renormalise = true, .scale = 1}},
};
