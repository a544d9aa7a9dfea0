/* Grok-1: xAI's model.py. Four norms a layer, scores capped by 30 tanh(s / 30), GELU experts, tied
 * embeddings with a scale on either end. The weights of the two experts are used as they are, as in
 * the authors' code; others divide them by their sum (router.renormalise). */
#include "model/arch.h"

#define HF "model.layers.{L}."

static const mixt_tensor_row tensors[] = {
    MIXT_EMBED_TENSORS,
    {MIXT_SLOT_ATTENTION_NORM, HF "pre_attn_norm.weight", "blk.{L}.attn_norm.weight", 0, 0},
    {MIXT_SLOT_ATTENTION_POST_NORM, HF "post_attn_norm.weight", "blk.{L}.attn_output_norm.weight",
     0, 0},
    {MIXT_SLOT_FFN_NORM, HF "pre_moe_norm.weight", "blk.{L}.ffn_norm.weight", 0, 0},
    {MIXT_SLOT_FFN_POST_NORM, HF "post_moe_norm.weight", "blk.{L}.layer_output_norm.weight", 0, 0},
    {MIXT_SLOT_FFN_POST_NORM, NULL, "blk.{L}.post_ffw_norm.weight", 0, 0},
    {MIXT_SLOT_OUTPUT_NORM, "model.norm.scale", NULL, 0, 0},
    {MIXT_SLOT_ATTENTION_NORM, HF "pre_attn_norm.scale", NULL, 0, 0},
    {MIXT_SLOT_ATTENTION_POST_NORM, HF "post_attn_norm.scale", NULL, 0, 0},
    {MIXT_SLOT_FFN_NORM, HF "pre_moe_norm.scale", NULL, 0, 0},
    {MIXT_SLOT_FFN_POST_NORM, HF "post_moe_norm.scale", NULL, 0, 0},
    {MIXT_SLOT_Q, HF "attn.q_proj.weight", "blk.{L}.attn_q.weight", 0, 0},
    {MIXT_SLOT_K, HF "attn.k_proj.weight", "blk.{L}.attn_k.weight", 0, 0},
    {MIXT_SLOT_V, HF "attn.v_proj.weight", "blk.{L}.attn_v.weight", 0, 0},
    {MIXT_SLOT_O, HF "attn.o_proj.weight", "blk.{L}.attn_output.weight", 0, 0},
    MIXT_MOE_TENSORS("moe_block", "linear", "linear_v", "linear_1"),
    MIXT_TENSORS_END,
};

static const mixt_config_row config[] = {
    MIXT_SHAPE_FIELDS(8192, 10000, 1e-5),
    MIXT_TIE_FIELD(1),
    MIXT_KV_FIELDS(8, 0),
    MIXT_MOE_FIELDS("num_experts", 2),
    MIXT_EXPERTS_ALIAS("num_local_experts"),
    MIXT_FFN_FIELD,
    MIXT_FIELD("attn_output_multiplier", "attention.output_scale", NUMBER, attention.scale, false,
               0.08838834764831845, 1e-9, 1e9),
    MIXT_FIELD("max_attn_value", "attn_logit_softcapping", NUMBER, attention.soft_cap, false, 30,
               1e-9, 1e9),
    MIXT_FIELD("embedding_multiplier_scale", "embedding_scale", NUMBER, embedding_scale, false,
               78.38367176906169, 1e-9, 1e9),
    MIXT_FIELD("output_multiplier_scale", "logit_scale", NUMBER, logit_scale, false,
               0.5773502691896257, 1e-9, 1e9),
    MIXT_FIELD(NULL, "expert_weights_norm", BOOL, router.renormalise, false, 0, 0, 1),
    MIXT_BALANCE_FIELD("router_aux_loss_coef", 0.001),
    MIXT_FIELDS_END,
};

/* One of these words in every conversion; the authors' code has the tanh form alone. */
static const char *const fixed[] = {"-|hidden_act",
                                    "[\"gelu\", \"gelu_new\", \"gelu_pytorch_tanh\"]", NULL};

static const char *const harmless[] = {NULL};

/* llama.cpp reads it and applies it nowhere, as the authors */
static const char *const gguf_fixed[] = {"?router_logit_softcapping", "30", NULL};

const mixt_family mixt_family_grok = {
    .name = "grok-1",
    .hf_class = "Grok1ModelForCausalLM",
    .title = "Grok-1",
    .gguf_arch = "grok",
    .tensors = tensors,
    .config = config,
    .fixed = fixed,
    .harmless = harmless,
    .gguf_fixed = gguf_fixed,
    .authors_code = true,
    .llama_cpp_lacks = mixt_llama_cpp_window,
    .constants = {.post_norms = true,
                  .activation = MIXT_ACTIVATION_GELU,
                  .router = {.score = MIXT_SCORE_SOFTMAX, .scale = 1}},
};
