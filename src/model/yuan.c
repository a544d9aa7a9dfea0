/* Yuan 2.0-M32: Wu et al. 2024, arXiv 2405.17976. Attention Router over q, k and v of the experts,
 * Localized Filtering-based Attention on q and k, whose rows are packed head by head across both
 * matrices. mixt chose the names in GGUF files (docs/gguf.md). */
#include "model/arch.h"

#define HF "model.layers.{L}."
#define FILTER HF "self_attn.lf_gate."

static const mixt_tensor_row tensors[] = {
    MIXT_LLAMA_TENSORS,
    {MIXT_SLOT_FILTER_1_PREVIOUS, FILTER "conv1.weight", "blk.{L}.attn_filter_1_prev.weight",
     MIXT_LAYOUT_KERNEL_FIRST, 0},
    {MIXT_SLOT_FILTER_1, FILTER "conv1.weight", "blk.{L}.attn_filter_1.weight",
     MIXT_LAYOUT_KERNEL_SECOND, 0},
    {MIXT_SLOT_FILTER_1_BIAS, FILTER "conv1.bias", "blk.{L}.attn_filter_1.bias", 0, 0},
    {MIXT_SLOT_FILTER_2_PREVIOUS, FILTER "conv2.weight", "blk.{L}.attn_filter_2_prev.weight",
     MIXT_LAYOUT_KERNEL_FIRST, 0},
    {MIXT_SLOT_FILTER_2, FILTER "conv2.weight", "blk.{L}.attn_filter_2.weight",
     MIXT_LAYOUT_KERNEL_SECOND, 0},
    {MIXT_SLOT_FILTER_2_BIAS, FILTER "conv2.bias", "blk.{L}.attn_filter_2.bias", 0, 0},
    {MIXT_SLOT_FILTER_NORM, FILTER "output_layernorm.weight", "blk.{L}.attn_filter_norm.weight", 0,
     0},
    {MIXT_SLOT_ROUTER, HF "mlp.gate.{query,key,value}.weight", "blk.{L}.ffn_gate_inp.weight",
     MIXT_LAYOUT_PARTS, 0},
    {MIXT_SLOT_ROUTER_BIAS, HF "mlp.gate.e_score_correction_bias", "blk.{L}.exp_probs_b.bias", 0,
     0},
    {MIXT_SLOT_EXPERT_GATE, HF "mlp.experts.{E}.w1.weight", "blk.{L}.ffn_gate_exps.weight",
     MIXT_LAYOUT_FIRST_HALF, 0},
    {MIXT_SLOT_EXPERT_UP, HF "mlp.experts.{E}.w1.weight", "blk.{L}.ffn_up_exps.weight",
     MIXT_LAYOUT_SECOND_HALF, 0},
    {MIXT_SLOT_EXPERT_DOWN, HF "mlp.experts.{E}.w2.weight", "blk.{L}.ffn_down_exps.weight", 0, 0},
    MIXT_WHOLE_EXPERT_TENSORS,
    MIXT_TENSORS_END,
};

static const mixt_config_row config[] = {
    MIXT_SHAPE_FIELDS(8192, 10000, 1e-6),
    MIXT_TIE_FIELD(1),
    MIXT_FIELD("attention_projection_size", NULL, BY_HEADS, head_dim, false, 0, 1, 1 << 24),
    MIXT_FIELD(NULL, "attention.key_length", INTEGER, head_dim, false, 0, 1, 4096),
    MIXT_FIELD("moe_config.moe_num_experts", "expert_count", INTEGER, experts, true, 0, 1,
               MIXT_EXPERTS_MAX),
    MIXT_FIELD("moe_config.moe_top_k", "expert_used_count", INTEGER, experts_per_token, true, 0, 1,
               MIXT_EXPERTS_MAX),
    MIXT_FIELD("moe_config.ffn_hidden_size", "expert_feed_forward_length", INTEGER, ffn_size, true,
               0, 1, 1 << 24),
    MIXT_FIELD("moe_config.norm_topk_prob", "expert_weights_norm", BOOL, router.renormalise, false,
               1, 0, 1),
    MIXT_FIELDS_END,
};

static const char *const fixed[] = {
    MIXT_SILU, "moe_config.gated_linear_unit", "true", "use_moe", "true", "-causal_mask", "true",
    NULL};

/* the width is that of moe_config; masks between the documents of a packed row */
static const char *const harmless[] = {"intermediate_size",
                                       "model_max_length",
                                       "dropout",
                                       "eod_token",
                                       "eod_token_id",
                                       "reset_attention_mask",
                                       "reset_position_ids",
                                       "use_loss_mask",
                                       "use_flash_attention",
                                       NULL};

/* RoPE turns hidden_size / heads of the values of a head, which is longer. */
static mixt_status rotate_part(mixt_model_options *options, const void *json, mixt_error *error)
{
    (void)json;
    (void)error;
    if (options->rope.dims == 0 && options->heads > 0) {
        options->rope.dims = options->hidden_size / options->heads;
    }
    return MIXT_OK;
}

const mixt_family mixt_family_yuan = {
    .name = "yuan",
    .hf_class = "YuanForCausalLM",
    .title = "Yuan 2.0-M32",
    .gguf_arch = "yuan",
    .tensors = tensors,
    .config = config,
    .fixed = fixed,
    .harmless = harmless,
    .authors_code = true,
    .constants = {.attention = {.filter = true, .mixed_qk = true},
                  .router = {.logits = MIXT_LOGITS_ATTENTION,
                             .score = MIXT_SCORE_SOFTMAX,
                             .renormalise = true,
                             .scale = 1}},
    .hook = rotate_part,
};
