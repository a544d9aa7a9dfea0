/* OLMoE: Muennighoff et al. 2024, arXiv 2409.02060. RMSNorm over the whole q and k vectors, q, k
 * and v clamped where clip_qkv says so; softmax over all, weights as they are. */
#include "model/arch.h"

static const mixt_tensor_row tensors[] = {
    MIXT_LLAMA_TENSORS,
    MIXT_QK_NORM_TENSORS,
    MIXT_ATTENTION_BIAS_TENSORS,
    MIXT_MOE_TENSORS("mlp", "gate_proj", "up_proj", "down_proj"),
    MIXT_TENSORS_END,
};

static const mixt_config_row config[] = {
    MIXT_LLAMA_FIELDS(4096, 10000, 1e-5, 0, 0),
    MIXT_MOE_FIELDS("num_experts", 8),
    MIXT_EXPERTS_ALIAS("num_local_experts"),
    MIXT_FFN_FIELD,
    MIXT_FIELD("clip_qkv", "attention.clamp_kqv", NULL_NUMBER, attention.clip, false, 0, 0, 1e30),
    MIXT_FIELD("norm_topk_prob", "expert_weights_norm", BOOL, router.renormalise, false, 0, 0, 1),
    MIXT_ATTENTION_BIAS_FIELDS,
    MIXT_BALANCE_FIELD("router_aux_loss_coef", 0.01),
    MIXT_FIELDS_END,
};

static const char *const fixed[] = {MIXT_SILU, NULL};

static const char *const harmless[] = {NULL};

static const char *llama_cpp_lacks(const mixt_model_options *options)
{
    return options->attention.clip > 0           ? "attention.clip"
           : options->router.renormalise         ? "router.renormalise true"
           : options->kv_heads != options->heads ? "fewer kv_heads than heads"
           : options->heads * options->head_dim != options->hidden_size
               ? "heads * head_dim that is not hidden_size"
               : NULL;
}

const mixt_family mixt_family_olmoe = {
    .name = "olmoe",
    .hf_class = "OlmoeForCausalLM",
    .title = "OLMoE",
    .gguf_arch = "olmoe",
    .tensors = tensors,
    .config = config,
    .fixed = fixed,
    .harmless = harmless,
    .llama_cpp_lacks = llama_cpp_lacks,
    .constants = {.attention = {.qk_norm = MIXT_QK_NORM_WHOLE},
                  .router = {.score = MIXT_SCORE_SOFTMAX, .scale = 1}},
};
