/* Qwen3-MoE: RMSNorm of each head of q and k, head_dim apart from hidden_size / heads; softmax over
 * all, weights divided by their sum where norm_topk_prob. */
#include "model/arch.h"

static const mixt_tensor_row tensors[] = {
    MIXT_LLAMA_TENSORS,
    MIXT_QK_NORM_TENSORS,
    MIXT_ATTENTION_BIAS_TENSORS,
    MIXT_MOE_TENSORS("mlp", "gate_proj", "up_proj", "down_proj"),
    MIXT_TENSORS_END,
};

static const mixt_config_row config[] = {
    MIXT_LLAMA_FIELDS(32768, 10000, 1e-6, 4, 0),
    MIXT_MOE_FIELDS("num_experts", 8),
    MIXT_EXPERTS_ALIAS("num_local_experts"),
    MIXT_EXPERT_FFN_FIELD("moe_intermediate_size"),
    /* of dense layers, which mixt refuses in this family */
    MIXT_DENSE_FFN_FIELD(false),
    /* the class's default is false, published files say true and GGUF files nothing */
    MIXT_FIELD("norm_topk_prob", NULL, BOOL, router.renormalise, false, 0, 0, 1),
    MIXT_FIELD(NULL, "expert_weights_norm", BOOL, router.renormalise, false, 1, 0, 1),
    MIXT_ATTENTION_BIAS_FIELDS,
    MIXT_BALANCE_FIELD("router_aux_loss_coef", 0.001),
    MIXT_FIELDS_END,
};

static const char *const fixed[] = {MIXT_SILU, "-use_qk_norm",
                                    "true",    "decoder_sparse_step",
                                    "1",       "mlp_only_layers",
                                    "[]",      "use_sliding_window",
                                    "false",   NULL};

/* of windows, which use_sliding_window turns off */
static const char *const harmless[] = {"sliding_window", "max_window_layers", NULL};

static const char *llama_cpp_lacks(const mixt_model_options *options)
{
    return !options->router.renormalise ? "router.renormalise false" : NULL;
}

const mixt_family mixt_family_qwen3_moe = {
    .name = "qwen3_moe",
    .hf_class = "Qwen3MoeForCausalLM",
    .title = "Qwen3-MoE",
    .gguf_arch = "qwen3moe",
    .tensors = tensors,
    .config = config,
    .fixed = fixed,
    .harmless = harmless,
    .llama_cpp_lacks = llama_cpp_lacks,
    .constants = {.attention = {.qk_norm = MIXT_QK_NORM_HEAD},
                  .router = {.score = MIXT_SCORE_SOFTMAX, .scale = 1}},
};
