/* Mixtral: Jiang et al. 2024, arXiv 2401.04088. Softmax over all experts, the best k, divided by
 * their sum (the same numbers as a softmax over the best k logits). */
#include "model/arch.h"

static const mixt_tensor_row tensors[] = {
    MIXT_LLAMA_TENSORS,
    MIXT_MOE_TENSORS("block_sparse_moe", "w1", "w3", "w2"),
    MIXT_TENSORS_END,
};

static const mixt_config_row config[] = {
    MIXT_LLAMA_FIELDS(131072, 1e6, 1e-5, 8, 0),
    MIXT_MOE_FIELDS("num_local_experts", 2),
    MIXT_EXPERTS_ALIAS("num_experts"),
    MIXT_FFN_FIELD,
    /* Early copies of Mixtral-8x7B-Instruct say 4096. The authors' code has no window, the class
     * applies it; up to that many tokens both are the same. */
    MIXT_FIELD("sliding_window", NULL, NULL_INTEGER, attention.window, false, 0, 1, 1 << 24),
    MIXT_FIELD(NULL, "attention.sliding_window", NULL_INTEGER, attention.window, false, 0, 0,
               1 << 24),
    MIXT_BALANCE_FIELD("router_aux_loss_coef", 0.001),
    MIXT_FIELDS_END,
};

static const char *const fixed[] = {
    MIXT_SILU, "?attention_dropout",    "0.0",   "?router_jitter_noise",
    "0.0",     "?output_router_logits", "false", NULL};

static const char *const harmless[] = {NULL};

/* as llama.cpp always has it here */
static const char *const gguf_fixed[] = {"expert_weights_norm", "1", NULL};

const mixt_family mixt_family_mixtral = {
    .name = "mixtral",
    .hf_class = "MixtralForCausalLM",
    .title = "Mixtral",
    .gguf_arch = "llama",
    .tensors = tensors,
    .config = config,
    .fixed = fixed,
    .harmless = harmless,
    .gguf_fixed = gguf_fixed,
    .llama_cpp_lacks = mixt_llama_cpp_window,
    .constants = {.router = {.score = MIXT_SCORE_SOFTMAX, .renormalise = true, .scale = 1}},
    .gguf_interleaved = true,
};
