/* Mixtral: Jiang et al. 2024, arXiv 2401.04088. Softmax over all experts, the best k, divided by
 * their sum (the same numbers as a softmax over the best k logits). */
#include "model/arch.h"

static const mixt_tensor_row tensors[] = {
    MIXT_LLAMA_TENSORS,
    {MIXT_SLOT_ROUTER, "model.layers.{L}.block_sparse_moe.gate.weight"},
    {MIXT_SLOT_ROUTER_BIAS, "model.layers.{L}.block_sparse_moe.gate.e_score_correction_bias"},
    {MIXT_SLOT_EXPERT_GATE, "model.layers.{L}.block_sparse_moe.experts.{E}.w1.weight"},
    {MIXT_SLOT_EXPERT_UP, "model.layers.{L}.block_sparse_moe.experts.{E}.w3.weight"},
    {MIXT_SLOT_EXPERT_DOWN, "model.layers.{L}.block_sparse_moe.experts.{E}.w2.weight"},
    {MIXT_SLOT_COUNT, NULL},
};

static const mixt_config_row config[] = {
    MIXT_LLAMA_FIELDS,
    MIXT_FIELD("intermediate_size", INTEGER, ffn_size, true, 0, 1, 1 << 24),
    MIXT_FIELD("num_local_experts", INTEGER, experts, true, 0, 1, MIXT_EXPERTS_MAX),
    MIXT_FIELD("num_experts_per_tok", INTEGER, experts_per_token, true, 0, 1, MIXT_EXPERTS_MAX),
    MIXT_FIELD("router_aux_loss_coef", NUMBER, router.balance_coefficient, false, 0.001, 0, 1e6),
    {NULL, MIXT_FIELD_BOOL, 0, false, 0, 0, 0},
};

static const char *const fixed[] = {"hidden_act",
                                    "\"silu\"",
                                    "?attention_dropout",
                                    "0.0",
                                    "?sliding_window",
                                    "null",
                                    "?router_jitter_noise",
                                    "0.0",
                                    "?output_router_logits",
                                    "false",
                                    NULL};

static bool fits(const mixt_model_options *options)
{
    bool renormalised =
        options->router.score == MIXT_SCORE_TOP_K_SOFTMAX ||
        (options->router.score == MIXT_SCORE_SOFTMAX && options->router.renormalise);
    return options->experts > 0 && options->shared_experts == 0 &&
           options->leading_dense_layers == 0 && renormalised && options->router.scale == 1.0;
}

const mixt_family mixt_family_mixtral = {
    "mixtral", "MixtralForCausalLM", "Mixtral", tensors, config,
    fixed,     MIXT_SCORE_SOFTMAX,   true,      fits};
