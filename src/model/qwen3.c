/* Qwen3 (dense): RMSNorm of each head of q and k, head_dim apart from hidden_size / heads. Yang et
 * al. 2025, arXiv 2505.09388. */
#include "model/arch.h"

static const mixt_tensor_row tensors[] = {
    MIXT_LLAMA_TENSORS,          MIXT_DENSE_TENSORS, MIXT_QK_NORM_TENSORS,
    MIXT_ATTENTION_BIAS_TENSORS, MIXT_TENSORS_END,
};

static const mixt_config_row config[] = {
    MIXT_LLAMA_FIELDS(32768, 10000, 1e-6, 32, 128),
    MIXT_FFN_FIELD,
    MIXT_ATTENTION_BIAS_FIELDS,
    MIXT_FIELDS_END,
};

static const char *const fixed[] = {MIXT_SILU, "use_sliding_window", "false", NULL};

/* of windows, which use_sliding_window turns off */
static const char *const harmless[] = {"sliding_window", "max_window_layers", NULL};

const mixt_family mixt_family_qwen3 = {
    .name = "qwen3",
    .hf_class = "Qwen3ForCausalLM",
    .title = "Qwen3 (dense)",
    .gguf_arch = "qwen3",
    .tensors = tensors,
    .config = config,
    .fixed = fixed,
    .harmless = harmless,
    .constants = {.attention = {.qk_norm = MIXT_QK_NORM_HEAD},
                  .router = {.score = MIXT_SCORE_SOFTMAX, .renormalise = true, .scale = 1}},
};
