/* Qwen1.5-MoE and Qwen2-MoE: q, k and v with biases, one shared expert behind a sigmoid gate;
 * softmax over all, weights as they are unless norm_topk_prob. */
#include "model/arch.h"

static const mixt_tensor_row tensors[] = {
    MIXT_LLAMA_TENSORS,
    MIXT_QKV_BIAS_TENSORS,
    MIXT_MOE_TENSORS("mlp", "gate_proj", "up_proj", "down_proj"),
    MIXT_SHARED_TENSORS("shared_expert"),
    {MIXT_SLOT_SHARED_ROUTER, "model.layers.{L}.mlp.shared_expert_gate.weight",
     "blk.{L}.ffn_gate_inp_shexp.weight", 0, 0},
    MIXT_TENSORS_END,
};

static const mixt_config_row config[] = {
    MIXT_LLAMA_FIELDS(32768, 10000, 1e-6, 16, 0),
    MIXT_MOE_FIELDS("num_experts", 4),
    MIXT_EXPERT_FFN_FIELD("moe_intermediate_size"),
    MIXT_FIELD("shared_expert_intermediate_size", "expert_shared_feed_forward_length", INTEGER,
               shared_ffn_size, true, 0, 1, 1 << 24),
    /* of dense layers, which mixt refuses in this family */
    MIXT_DENSE_FFN_FIELD(false),
    MIXT_FIELD("norm_topk_prob", "expert_weights_norm", BOOL, router.renormalise, false, 0, 0, 1),
    MIXT_FIELD("qkv_bias", NULL, BOOL, attention.qkv_bias, false, 1, 0, 1),
    MIXT_BALANCE_FIELD("router_aux_loss_coef", 0.001),
    MIXT_FIELDS_END,
};

static const char *const fixed[] = {MIXT_SILU, "decoder_sparse_step", "1",     "mlp_only_layers",
                                    "[]",      "use_sliding_window",  "false", NULL};

/* of windows, which use_sliding_window turns off */
static const char *const harmless[] = {"sliding_window", "max_window_layers", NULL};

static const char *llama_cpp_lacks(const mixt_model_options *options)
{
    return options->router.renormalise ? "router.renormalise true" : NULL;
}

const mixt_family mixt_family_qwen2_moe = {
    .name = "qwen2_moe",
    .hf_class = "Qwen2MoeForCausalLM",
    .title = "Qwen1.5-MoE / Qwen2-MoE",
    .gguf_arch = "qwen2moe",
    .tensors = tensors,
    .config = config,
    .fixed = fixed,
    .harmless = harmless,
    .llama_cpp_lacks = llama_cpp_lacks,
    .constants = {.attention = {.qkv_bias = true},
                  .shared_experts = 1,
                  .shared_gate = true,
                  .router = {.score = MIXT_SCORE_SOFTMAX, .scale = 1}},
};
