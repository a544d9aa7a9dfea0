/* MiniMax-M2 (github.com/MiniMax-AI/MiniMax-M2). Grouped queries, RMSNorm over the whole q
 * and k, RoPE on the first part of a head; sigmoid scores, a bias that only the choice sees,
 * weights divided by their sum, no shared expert. */
#include <jansson.h>

#include "model/arch.h"

static const mixt_tensor_row tensors[] = {
    MIXT_LLAMA_TENSORS,
    MIXT_QK_NORM_TENSORS,
    {MIXT_SLOT_ROUTER_BIAS, "model.layers.{L}.block_sparse_moe.e_score_correction_bias",
     "blk.{L}.exp_probs_b.bias", 0, 0},
    MIXT_MOE_TENSORS("block_sparse_moe", "w1", "w3", "w2"),
    MIXT_TENSORS_END,
};

static const mixt_config_row config[] = {
    MIXT_LLAMA_FIELDS(196608, 5e6, 1e-6, 8, 128),
    MIXT_FIELD("rotary_dim", NULL, NULL_INTEGER, rope.dims, false, 0, 2, 4096),
    MIXT_MOE_FIELDS("num_local_experts", 8),
    MIXT_EXPERTS_ALIAS("num_experts"),
    MIXT_EXPERT_FFN_FIELD("intermediate_size"),
    MIXT_FIELD(NULL, "feed_forward_length", INTEGER, ffn_size, false, 0, 1, 1 << 24),
    MIXT_BALANCE_FIELD("router_aux_loss_coef", 0.001),
    MIXT_FIELDS_END,
};

/* The factors on branches are MiniMax-01's; here they are 1. */
static const char *const fixed[] = {MIXT_SILU,       "-scoring_func",
                                    "\"sigmoid\"",   "-use_routing_bias",
                                    "true",          "-use_qk_norm",
                                    "true",          "-qk_norm_type",
                                    "\"per_layer\"", "-layernorm_full_attention_beta",
                                    "1.0",           "-layernorm_linear_attention_beta",
                                    "1.0",           "-layernorm_mlp_beta",
                                    "1.0",           NULL};

/* Of multi-token prediction, of shared experts, which have a size of 0, and of dense layers, of
 * which there are none. */
static const char *const harmless[] = {"use_mtp",
                                       "mtp_transformer_layers",
                                       "num_mtp_modules",
                                       "shared_moe_mode",
                                       "attn_type_list",
                                       "mlp_intermediate_size",
                                       NULL};

/* Kinds of attention: 0 is MiniMax-01's linear one. */
static mixt_status check_attention(mixt_model_options *options, const void *json, mixt_error *error)
{
    const json_t *types = json == NULL ? NULL : json_object_get(json, "attn_type_list");
    bool good = types == NULL || json_is_null(types) ||
                (json_is_array(types) && json_array_size(types) == (size_t)options->layers);
    for (size_t i = 0; good && i < json_array_size(types); i++) {
        good = json_number_value(json_array_get(types, i)) == 1;
    }
    return good ? MIXT_OK
                : mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                            "attn_type_list: only a 1 for each layer is supported");
}

const mixt_family mixt_family_minimax_m2 = {
    .name = "minimax_m2",
    .alias = "minimax", /* early copies; of MiniMax-01, which says so too, other keys are refused */
    .hf_class = "MiniMaxM2ForCausalLM",
    .title = "MiniMax-M2",
    .gguf_arch = "minimax-m2",
    .tensors = tensors,
    .config = config,
    .fixed = fixed,
    .harmless = harmless,
    .constants = {.attention = {.qk_norm = MIXT_QK_NORM_WHOLE},
                  .router = {.score = MIXT_SCORE_SIGMOID,
                             .select_bias = true,
                             .renormalise = true,
                             .scale = 1}},
    .hook = check_attention,
};
