/* DeepSeekMoE: Dai et al. 2024, arXiv 2401.06066. Fine-grained experts, shared experts stored as
 * one MLP, leading dense layers; softmax over all, weights as they are unless norm_topk_prob. */
#include "model/arch.h"

static const mixt_tensor_row tensors[] = {
    MIXT_LLAMA_TENSORS,
    MIXT_MOE_TENSORS("mlp", "gate_proj", "up_proj", "down_proj"),
    MIXT_SHARED_TENSORS("shared_experts"),
    MIXT_DENSE_TENSORS,
    MIXT_TENSORS_END,
};

static const mixt_config_row config[] = {
    MIXT_LLAMA_FIELDS(2048, 10000, 1e-6, 32, 0),
    MIXT_MOE_FIELDS("n_routed_experts", 0),
    MIXT_DENSE_FFN_FIELD(true),
    MIXT_EXPERT_FFN_FIELD("moe_intermediate_size"),
    MIXT_FIELD("n_shared_experts", "expert_shared_count", NULL_INTEGER, shared_experts, false, 0, 0,
               256),
    MIXT_FIELD("first_k_dense_replace", "leading_dense_block_count", INTEGER, leading_dense_layers,
               false, 0, 0, 4096),
    MIXT_FIELD("norm_topk_prob", "expert_weights_norm", BOOL, router.renormalise, false, 0, 0, 1),
    MIXT_FIELD(NULL, "expert_weights_scale", NUMBER, router.scale, false, 1, 1e-6, 1e6),
    MIXT_BALANCE_FIELD("aux_loss_alpha", 0.001),
    MIXT_FIELDS_END,
};

static const char *const fixed[] = {
    MIXT_SILU,  "attention_bias", "false",        "moe_layer_freq", "1",
    "?seq_aux", "true",           "scoring_func", "\"softmax\"",    NULL};

static const char *const harmless[] = {NULL};

static const char *llama_cpp_lacks(const mixt_model_options *options)
{
    return options->router.renormalise     ? "router.renormalise true"
           : options->shared_ffn_size == 0 ? "shared_experts 0"
                                           : NULL;
}

const mixt_family mixt_family_deepseek = {
    .name = "deepseek",
    .hf_class = "DeepseekForCausalLM",
    .title = "DeepSeekMoE",
    .gguf_arch = "deepseek",
    .tensors = tensors,
    .config = config,
    .fixed = fixed,
    .harmless = harmless,
    .authors_code = true,
    .llama_cpp_lacks = llama_cpp_lacks,
    .constants = {.router = {.score = MIXT_SCORE_SOFTMAX, .scale = 1}},
    .gguf_interleaved = true,
};
