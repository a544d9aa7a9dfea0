/* DeepSeekMoE: Dai et al. 2024, arXiv 2401.06066. Fine-grained experts, shared experts stored as
 * one MLP, leading dense layers; softmax over all, weights as they are unless norm_topk_prob. */
#include "model/arch.h"

static const mixt_tensor_row tensors[] = {
    MIXT_LLAMA_TENSORS,
    {MIXT_SLOT_ROUTER, "model.layers.{L}.mlp.gate.weight"},
    {MIXT_SLOT_ROUTER_BIAS, "model.layers.{L}.mlp.gate.e_score_correction_bias"},
    {MIXT_SLOT_EXPERT_GATE, "model.layers.{L}.mlp.experts.{E}.gate_proj.weight"},
    {MIXT_SLOT_EXPERT_UP, "model.layers.{L}.mlp.experts.{E}.up_proj.weight"},
    {MIXT_SLOT_EXPERT_DOWN, "model.layers.{L}.mlp.experts.{E}.down_proj.weight"},
    {MIXT_SLOT_SHARED_GATE, "model.layers.{L}.mlp.shared_experts.gate_proj.weight"},
    {MIXT_SLOT_SHARED_UP, "model.layers.{L}.mlp.shared_experts.up_proj.weight"},
    {MIXT_SLOT_SHARED_DOWN, "model.layers.{L}.mlp.shared_experts.down_proj.weight"},
    {MIXT_SLOT_DENSE_GATE, "model.layers.{L}.mlp.gate_proj.weight"},
    {MIXT_SLOT_DENSE_UP, "model.layers.{L}.mlp.up_proj.weight"},
    {MIXT_SLOT_DENSE_DOWN, "model.layers.{L}.mlp.down_proj.weight"},
    {MIXT_SLOT_COUNT, NULL},
};

static const mixt_config_row config[] = {
    MIXT_LLAMA_FIELDS,
    MIXT_FIELD("intermediate_size", INTEGER, dense_ffn_size, true, 0, 1, 1 << 24),
    MIXT_FIELD("moe_intermediate_size", INTEGER, ffn_size, true, 0, 1, 1 << 24),
    MIXT_FIELD("n_routed_experts", INTEGER, experts, true, 0, 1, MIXT_EXPERTS_MAX),
    MIXT_FIELD("num_experts_per_tok", INTEGER, experts_per_token, true, 0, 1, MIXT_EXPERTS_MAX),
    MIXT_FIELD("n_shared_experts", INTEGER, shared_experts, false, 0, 0, 256),
    MIXT_FIELD("first_k_dense_replace", INTEGER, leading_dense_layers, false, 0, 0, 4096),
    MIXT_FIELD("norm_topk_prob", BOOL, router.renormalise, false, 0, 0, 1),
    MIXT_FIELD("aux_loss_alpha", NUMBER, router.balance_coefficient, false, 0.001, 0, 1e6),
    {NULL, MIXT_FIELD_BOOL, 0, false, 0, 0, 0},
};

static const char *const fixed[] = {
    "hidden_act", "\"silu\"", "attention_bias", "false",       "moe_layer_freq", "1",
    "?seq_aux",   "true",     "scoring_func",   "\"softmax\"", "rope_scaling",   "null",
    NULL};

static bool fits(const mixt_model_options *options)
{
    return options->experts > 0 && options->router.score == MIXT_SCORE_SOFTMAX &&
           options->router.scale == 1.0;
}

const mixt_family mixt_family_deepseek = {
    "deepseek", "DeepseekForCausalLM", "DeepSeekMoE", tensors, config,
    fixed,      MIXT_SCORE_SOFTMAX,    false,         fits};
