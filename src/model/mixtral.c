/* Mixtral: Jiang et al. 2024, arXiv 2401.04088. Softmax over all experts, the best k, divided by
 * their sum (the same numbers as a softmax over the best k logits). */
#include "model/arch.h"

static const mixt_tensor_row tensors[] = {
    MIXT_LLAMA_TENSORS,
    MIXT_MOE_TENSORS("block_sparse_moe", "w1", "w3", "w2"),
    MIXT_TENSORS_END,
};

static const mixt_config_row config[] = {
    MIXT_LLAMA_FIELDS, MIXT_MOE_FIELDS("num_local_experts"),
    MIXT_FFN_FIELD,    MIXT_BALANCE_FIELD("router_aux_loss_coef", 0.001),
    MIXT_FIELDS_END,
};

/* Some early files say a sliding window of 4096 that the model was never trained with. */
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

const mixt_family mixt_family_mixtral = {
    .name = "mixtral",
    .hf_class = "MixtralForCausalLM",
    .title = "Mixtral",
    .gguf_arch = "llama",
    .tensors = tensors,
    .config = config,
    .fixed = fixed,
    .constants = {.router = {.score = MIXT_SCORE_SOFTMAX, .renormalise = true, .scale = 1}},
    .gguf_interleaved = true,
};
