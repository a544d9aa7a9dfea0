/* gpt-oss: OpenAI 2025. Sinks in the attention's softmax, a sliding window on every second layer,
 * biases everywhere, a clamped activation, softmax over the best k logits. */
#include "model/arch.h"

#define HF "model.layers.{L}."
#define EXPERTS HF "mlp.experts."

static const mixt_tensor_row tensors[] = {
    MIXT_EMBED_TENSORS,
    MIXT_ATTENTION_TENSORS,
    {MIXT_SLOT_ATTENTION_NORM, HF "input_layernorm.weight", "blk.{L}.attn_norm.weight", 0, 0},
    {MIXT_SLOT_FFN_NORM, HF "post_attention_layernorm.weight", "blk.{L}.post_attention_norm.weight",
     0, 0},
    {MIXT_SLOT_Q_BIAS, HF "self_attn.q_proj.bias", "blk.{L}.attn_q.bias", 0, 0},
    {MIXT_SLOT_K_BIAS, HF "self_attn.k_proj.bias", "blk.{L}.attn_k.bias", 0, 0},
    {MIXT_SLOT_V_BIAS, HF "self_attn.v_proj.bias", "blk.{L}.attn_v.bias", 0, 0},
    {MIXT_SLOT_O_BIAS, HF "self_attn.o_proj.bias", "blk.{L}.attn_output.bias", 0, 0},
    {MIXT_SLOT_SINKS, HF "self_attn.sinks", "blk.{L}.attn_sinks.weight", 0, 0},
    {MIXT_SLOT_ROUTER, HF "mlp.router.weight", "blk.{L}.ffn_gate_inp.weight", 0, 0},
    {MIXT_SLOT_ROUTER_LOGIT_BIAS, HF "mlp.router.bias", "blk.{L}.ffn_gate_inp.bias", 0, 0},
    {MIXT_SLOT_EXPERT_GATE, EXPERTS "gate_up_proj", "blk.{L}.ffn_gate_exps.weight",
     MIXT_LAYOUT_EVEN, 0},
    {MIXT_SLOT_EXPERT_UP, EXPERTS "gate_up_proj", "blk.{L}.ffn_up_exps.weight", MIXT_LAYOUT_ODD, 0},
    {MIXT_SLOT_EXPERT_DOWN, EXPERTS "down_proj", "blk.{L}.ffn_down_exps.weight",
     MIXT_LAYOUT_TRANSPOSED, 0},
    {MIXT_SLOT_EXPERT_GATE, EXPERTS "gate_up_proj", NULL, MIXT_LAYOUT_MXFP4_EVEN, 0},
    {MIXT_SLOT_EXPERT_UP, EXPERTS "gate_up_proj", NULL, MIXT_LAYOUT_MXFP4_ODD, 0},
    {MIXT_SLOT_EXPERT_DOWN, EXPERTS "down_proj", NULL, MIXT_LAYOUT_MXFP4, 0},
    MIXT_WHOLE_EXPERT_TENSORS,
    {MIXT_SLOT_EXPERT_GATE_BIAS, EXPERTS "gate_up_proj_bias", "blk.{L}.ffn_gate_exps.bias",
     MIXT_LAYOUT_EVEN, 0},
    {MIXT_SLOT_EXPERT_UP_BIAS, EXPERTS "gate_up_proj_bias", "blk.{L}.ffn_up_exps.bias",
     MIXT_LAYOUT_ODD, 0},
    {MIXT_SLOT_EXPERT_DOWN_BIAS, EXPERTS "down_proj_bias", "blk.{L}.ffn_down_exps.bias", 0, 0},
    MIXT_TENSORS_END,
};

static const mixt_config_row config[] = {
    MIXT_LLAMA_FIELDS(131072, 150000, 1e-5, 8, 64),
    MIXT_MOE_FIELDS("num_local_experts", 4),
    MIXT_EXPERTS_ALIAS("num_experts"),
    /* beside the key of the class in the published files */
    MIXT_FIELD("experts_per_token", NULL, INTEGER, experts_per_token, false, 0, 1,
               MIXT_EXPERTS_MAX),
    MIXT_EXPERT_FFN_FIELD("intermediate_size"),
    MIXT_FIELD("sliding_window", NULL, INTEGER, attention.window, false, 128, 1, 1 << 24),
    MIXT_FIELD(NULL, "attention.sliding_window", INTEGER, attention.window, true, 0, 1, 1 << 24),
    MIXT_BALANCE_FIELD("router_aux_loss_coef", 0.001),
    MIXT_FIELDS_END,
};

static const char *const fixed[] = {MIXT_SILU, "attention_bias", "true",  "swiglu_limit",
                                    "7.0",     "-swiglu_alpha",  "1.702", NULL};

/* the original context of YaRN again */
static const char *const harmless[] = {"initial_context_length", NULL};

/* the experts' width again; the window on layers 0, 2, 4, ... */
static const char *const gguf_fixed[] = {"?feed_forward_length", "0",
                                         "attention.sliding_window_pattern", "2", NULL};

const mixt_family mixt_family_gpt_oss = {
    .name = "gpt_oss",
    .hf_class = "GptOssForCausalLM",
    .title = "gpt-oss",
    .gguf_arch = "gpt-oss",
    .tensors = tensors,
    .config = config,
    .fixed = fixed,
    .harmless = harmless,
    .gguf_fixed = gguf_fixed,
    .constants =
        {.attention = {.qkv_bias = true, .output_bias = true, .sinks = true, .window_period = 2},
         .activation = MIXT_ACTIVATION_CLAMPED,
         .expert_bias = true,
         .rope = {.kind = MIXT_ROPE_YARN, /* GptOssConfig, where a folder says nothing */
                  .factor = 32,
                  .original_context = 4096,
                  .no_truncate = true},
         .router = {.score = MIXT_SCORE_TOP_K_SOFTMAX, .logit_bias = true, .scale = 1}},
};
