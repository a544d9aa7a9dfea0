/* Llama: the dense baseline. Touvron et al. 2023, arXiv 2302.13971. */
#include "model/arch.h"

static const mixt_tensor_row tensors[] = {
    MIXT_LLAMA_TENSORS,      MIXT_DENSE_TENSORS, MIXT_ATTENTION_BIAS_TENSORS,
    MIXT_DENSE_BIAS_TENSORS, MIXT_TENSORS_END,
};

static const mixt_config_row config[] = {
    MIXT_LLAMA_FIELDS(2048, 10000, 1e-6, 0, 0),
    MIXT_FFN_FIELD,
    MIXT_ATTENTION_BIAS_FIELDS,
    MIXT_FIELD("mlp_bias", NULL, BOOL, dense_bias, false, 0, 0, 1),
    /* a Mistral in a GGUF file */
    MIXT_FIELD(NULL, "attention.sliding_window", NULL_INTEGER, attention.window, false, 0, 0,
               1 << 24),
    MIXT_FIELDS_END,
};

static const char *const fixed[] = {MIXT_SILU, NULL};

static const char *const harmless[] = {"is_llama_config", NULL};

const mixt_family mixt_family_llama = {
    .name = "llama",
    .hf_class = "LlamaForCausalLM",
    .title = "Llama (dense)",
    .gguf_arch = "llama",
    .tensors = tensors,
    .config = config,
    .fixed = fixed,
    .harmless = harmless,
    .llama_cpp_lacks = mixt_llama_cpp_window,
    .constants = {.router = {.score = MIXT_SCORE_SOFTMAX, .renormalise = true, .scale = 1}},
    .gguf_interleaved = true,
};
