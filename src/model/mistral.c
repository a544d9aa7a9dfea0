/* Mistral: a Llama whose layers may see a sliding window. Jiang et al. 2023, arXiv 2310.06825. In
 * GGUF files it is a Llama. */
#include "model/arch.h"

static const mixt_tensor_row tensors[] = {
    MIXT_LLAMA_TENSORS,
    MIXT_DENSE_TENSORS,
    MIXT_TENSORS_END,
};

static const mixt_config_row config[] = {
    MIXT_LLAMA_FIELDS(131072, 10000, 1e-6, 8, 0),
    MIXT_FFN_FIELD,
    MIXT_FIELD("sliding_window", NULL, NULL_INTEGER, attention.window, false, 4096, 1, 1 << 24),
    MIXT_FIELD(NULL, "attention.sliding_window", NULL_INTEGER, attention.window, false, 0, 0,
               1 << 24),
    MIXT_FIELDS_END,
};

static const char *const fixed[] = {MIXT_SILU, NULL};

static const char *const harmless[] = {NULL};

const mixt_family mixt_family_mistral = {
    .name = "mistral",
    .hf_class = "MistralForCausalLM",
    .title = "Mistral (dense)",
    .gguf_arch = "llama",
    .tensors = tensors,
    .config = config,
    .fixed = fixed,
    .harmless = harmless,
    .llama_cpp_lacks = mixt_llama_cpp_window,
    .constants = {.router = {.score = MIXT_SCORE_SOFTMAX, .renormalise = true, .scale = 1}},
    .gguf_interleaved = true,
};
