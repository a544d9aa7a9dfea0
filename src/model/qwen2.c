/* Qwen2 and Qwen2.5 (dense): a Llama whose q, k and v have biases. Yang et al. 2024, arXiv
 * 2407.10671. */
#include "model/arch.h"

static const mixt_tensor_row tensors[] = {
    MIXT_LLAMA_TENSORS,
    MIXT_DENSE_TENSORS,
    MIXT_QKV_BIAS_TENSORS,
    MIXT_TENSORS_END,
};

static const mixt_config_row config[] = {
    MIXT_LLAMA_FIELDS(32768, 10000, 1e-6, 32, 0),
    MIXT_FFN_FIELD,
    MIXT_FIELDS_END,
};

static const char *const fixed[] = {MIXT_SILU, "use_sliding_window", "false", NULL};

/* of windows, which use_sliding_window turns off */
static const char *const harmless[] = {"sliding_window", "max_window_layers", NULL};

static const char *llama_cpp_lacks(const mixt_model_options *options)
{
    return options->heads * options->head_dim != options->hidden_size
               ? "heads * head_dim that is not hidden_size"
               : NULL;
}

const mixt_family mixt_family_qwen2 = {
    .name = "qwen2",
    .hf_class = "Qwen2ForCausalLM",
    .title = "Qwen2 / Qwen2.5 (dense)",
    .gguf_arch = "qwen2",
    .tensors = tensors,
    .config = config,
    .fixed = fixed,
    .harmless = harmless,
    .llama_cpp_lacks = llama_cpp_lacks,
    .constants = {.attention = {.qkv_bias = true},
                  .router = {.score = MIXT_SCORE_SOFTMAX, .renormalise = true, .scale = 1}},
};
