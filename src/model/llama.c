/* Llama (and Mistral): the dense baseline. Touvron et al. 2023, arXiv 2302.13971. */
#include "model/arch.h"

static const mixt_tensor_row tensors[] = {
    MIXT_LLAMA_TENSORS,
    {MIXT_SLOT_DENSE_GATE, "model.layers.{L}.mlp.gate_proj.weight"},
    {MIXT_SLOT_DENSE_UP, "model.layers.{L}.mlp.up_proj.weight"},
    {MIXT_SLOT_DENSE_DOWN, "model.layers.{L}.mlp.down_proj.weight"},
    {MIXT_SLOT_COUNT, NULL},
};

static const mixt_config_row config[] = {
    MIXT_LLAMA_FIELDS,
    MIXT_FIELD("intermediate_size", INTEGER, ffn_size, true, 0, 1, 1 << 24),
    {NULL, MIXT_FIELD_BOOL, 0, false, 0, 0, 0},
};

static const char *const fixed[] = {
    "hidden_act", "\"silu\"", "attention_bias", "false",        "?attention_dropout",
    "0.0",        "mlp_bias", "false",          "rope_scaling", "null",
    NULL};

static bool fits(const mixt_model_options *options)
{
    return options->experts == 0;
}

const mixt_family mixt_family_llama = {
    "llama", "LlamaForCausalLM", "Llama (dense)", tensors, config, fixed, MIXT_SCORE_SOFTMAX, true,
    fits};
