/* mixt's own family: every option is a key and every place of the block has a name, so that it
 * holds what no published family does (a selection bias beside softmax, a factor on the weights of
 * a Mixtral, biases in a dense model). Asked last. Other programs refuse its model_type and its
 * architecture by themselves, where under another family's name they would compute something else.
 */
#include "model/arch.h"

#define HF "model.layers.{L}."
#define ATTENTION HF "self_attn."
#define MLP HF "mlp."
#define BIG 1e308

static const mixt_tensor_row tensors[] = {
    MIXT_LLAMA_TENSORS,
    MIXT_QK_NORM_TENSORS,
    MIXT_ATTENTION_BIAS_TENSORS,
    {MIXT_SLOT_SINKS, ATTENTION "sinks", "blk.{L}.attn_sinks.weight", 0, 0},
    {MIXT_SLOT_ATTENTION_POST_NORM, HF "attention_output_layernorm.weight",
     "blk.{L}.attn_output_norm.weight", 0, 0},
    {MIXT_SLOT_FFN_POST_NORM, HF "mlp_output_layernorm.weight", "blk.{L}.layer_output_norm.weight",
     0, 0},
    {MIXT_SLOT_FILTER_1_PREVIOUS, ATTENTION "filter_1_previous.weight",
     "blk.{L}.attn_filter_1_prev.weight", 0, 0},
    {MIXT_SLOT_FILTER_1, ATTENTION "filter_1.weight", "blk.{L}.attn_filter_1.weight", 0, 0},
    {MIXT_SLOT_FILTER_1_BIAS, ATTENTION "filter_1.bias", "blk.{L}.attn_filter_1.bias", 0, 0},
    {MIXT_SLOT_FILTER_2_PREVIOUS, ATTENTION "filter_2_previous.weight",
     "blk.{L}.attn_filter_2_prev.weight", 0, 0},
    {MIXT_SLOT_FILTER_2, ATTENTION "filter_2.weight", "blk.{L}.attn_filter_2.weight", 0, 0},
    {MIXT_SLOT_FILTER_2_BIAS, ATTENTION "filter_2.bias", "blk.{L}.attn_filter_2.bias", 0, 0},
    {MIXT_SLOT_FILTER_NORM, ATTENTION "filter_norm.weight", "blk.{L}.attn_filter_norm.weight", 0,
     0},
    {MIXT_SLOT_Q_DOWN, ATTENTION "q_a_proj.weight", "blk.{L}.attn_q_a.weight", 0, 0},
    {MIXT_SLOT_Q_DOWN_NORM, ATTENTION "q_a_layernorm.weight", "blk.{L}.attn_q_a_norm.weight", 0, 0},
    {MIXT_SLOT_Q_UP, ATTENTION "q_b_proj.weight", "blk.{L}.attn_q_b.weight", 0, 0},
    {MIXT_SLOT_KV_DOWN, ATTENTION "kv_a_proj_with_mqa.weight", "blk.{L}.attn_kv_a_mqa.weight", 0,
     0},
    {MIXT_SLOT_KV_DOWN_NORM, ATTENTION "kv_a_layernorm.weight", "blk.{L}.attn_kv_a_norm.weight", 0,
     0},
    {MIXT_SLOT_K_UP, ATTENTION "kv_b_proj.weight", "blk.{L}.attn_k_b.weight", MIXT_LAYOUT_KEY_UP,
     0},
    {MIXT_SLOT_V_UP, ATTENTION "kv_b_proj.weight", "blk.{L}.attn_v_b.weight", MIXT_LAYOUT_VALUE_UP,
     0},
    MIXT_MOE_TENSORS("mlp", "gate_proj", "up_proj", "down_proj"),
    {MIXT_SLOT_ROUTER_LOGIT_BIAS, MLP "gate.bias", "blk.{L}.ffn_gate_inp.bias", 0, 0},
    {MIXT_SLOT_EXPERT_GATE_BIAS, MLP "experts.{E}.gate_proj.bias", "blk.{L}.ffn_gate_exps.bias", 0,
     0},
    {MIXT_SLOT_EXPERT_UP_BIAS, MLP "experts.{E}.up_proj.bias", "blk.{L}.ffn_up_exps.bias", 0, 0},
    {MIXT_SLOT_EXPERT_DOWN_BIAS, MLP "experts.{E}.down_proj.bias", "blk.{L}.ffn_down_exps.bias", 0,
     0},
    MIXT_SHARED_TENSORS("shared_experts"),
    {MIXT_SLOT_SHARED_ROUTER, MLP "shared_expert_gate.weight", "blk.{L}.ffn_gate_inp_shexp.weight",
     0, 0},
    MIXT_DENSE_TENSORS,
    MIXT_DENSE_BIAS_TENSORS,
    MIXT_TENSORS_END,
};

/* Keys by the option's name, alike in both forms; absent ones are off. */
#define SIZE(key, field, low, high) MIXT_FIELD(key, key, INTEGER, field, true, 0, low, high)
#define COUNT(key, field, high) MIXT_FIELD(key, key, INTEGER, field, false, 0, 0, high)
#define FLAG(key, field) MIXT_FIELD(key, key, BOOL, field, false, 0, 0, 1)
#define NUMBER(key, field, fallback, low, high)                                                    \
    MIXT_FIELD(key, key, NUMBER, field, false, fallback, low, high)

static const mixt_config_row config[] = {
    SIZE("vocab_size", vocab_size, 1, 1 << 24),
    MIXT_FIELD("max_position_embeddings", "context_length", INTEGER, context_length, true, 0, 1,
               1 << 24),
    SIZE("num_hidden_layers", layers, 1, 4096),
    SIZE("hidden_size", hidden_size, 1, 1 << 20),
    SIZE("num_attention_heads", heads, 1, 4096),
    SIZE("num_key_value_heads", kv_heads, 1, 4096),
    SIZE("head_dim", head_dim, 2, 8192),
    SIZE("intermediate_size", ffn_size, 1, 1 << 24),
    MIXT_FIELD("num_experts", "expert_count", INTEGER, experts, true, 0, 0, MIXT_EXPERTS_MAX),
    COUNT("num_experts_per_tok", experts_per_token, MIXT_EXPERTS_MAX),
    COUNT("shared_experts", shared_experts, 256),
    COUNT("shared_intermediate_size", shared_ffn_size, 1 << 24),
    FLAG("shared_gate", shared_gate),
    FLAG("expert_bias", expert_bias),
    FLAG("dense_bias", dense_bias),
    COUNT("leading_dense_layers", leading_dense_layers, 4096),
    COUNT("dense_intermediate_size", dense_ffn_size, 1 << 28),
    NUMBER("rope_theta", rope_theta, 10000, 1, BIG),
    NUMBER("rms_norm_eps", norm_epsilon, 1e-5, 1e-300, 1),
    MIXT_FIELD("initializer_range", NULL, NUMBER, initializer_range, false, 0.02, 0, BIG),
    MIXT_TIE_FIELD(0),
    COUNT("activation", activation, 2),
    FLAG("post_norms", post_norms),
    NUMBER("embedding_scale", embedding_scale, 1, -BIG, BIG),
    NUMBER("logit_scale", logit_scale, 1, -BIG, BIG),
    COUNT("qk_norm", attention.qk_norm, 2),
    FLAG("qkv_bias", attention.qkv_bias),
    FLAG("attention_output_bias", attention.output_bias),
    NUMBER("attention_clip", attention.clip, 0, 0, BIG),
    NUMBER("attention_scale", attention.scale, 0, 0, BIG),
    NUMBER("attention_soft_cap", attention.soft_cap, 0, 0, BIG),
    COUNT("sliding_window", attention.window, 1 << 24),
    COUNT("sliding_window_period", attention.window_period, 4096),
    FLAG("attention_sinks", attention.sinks),
    FLAG("attention_filter", attention.filter),
    FLAG("mixed_qk", attention.mixed_qk),
    COUNT("latent_size", attention.latent_size, 1 << 16),
    COUNT("query_latent_size", attention.query_latent_size, 1 << 16),
    COUNT("position_dim", attention.position_dim, 4096),
    COUNT("value_dim", attention.value_dim, 8192),
    COUNT("rope_dims", rope.dims, 8192),
    FLAG("rope_interleaved", rope.interleaved),
    COUNT("router_select", router.select, 255),
    COUNT("router_logits", router.logits, 255),
    FLAG("router_logit_bias", router.logit_bias),
    NUMBER("router_deviation", router.normalise, 0, 0, BIG),
    NUMBER("router_soft_cap", router.soft_cap, 0, 0, BIG),
    FLAG("router_select_bias", router.select_bias),
    COUNT("router_groups", router.groups, 4096),
    COUNT("router_groups_used", router.groups_used, 4096),
    COUNT("router_group_score", router.group_score, 255),
    COUNT("router_score", router.score, 255),
    FLAG("router_renormalise", router.renormalise),
    NUMBER("router_scale", router.scale, 1, -BIG, BIG),
    COUNT("router_unit", router.unit, 255),
    COUNT("router_segment", router.segment, 1 << 24),
    COUNT("router_scope", router.scope, 255),
    COUNT("router_noise", router.noise, 255),
    NUMBER("router_evaluation_capacity", router.evaluation_capacity, 0, 0, BIG),
    COUNT("router_drop", router.drop, 255),
    COUNT("moe_period", moe_period, 4096),
    COUNT("identity_experts", identity_experts, MIXT_EXPERTS_MAX),
    COUNT("zero_experts", zero_experts, MIXT_EXPERTS_MAX),
    MIXT_FIELDS_END,
};

static const char *const fixed[] = {NULL};

static const char *const harmless[] = {NULL};

const mixt_family mixt_family_own = {
    .name = "mixt",
    .hf_class = "MixtForCausalLM",
    .title = "mixt",
    .gguf_arch = "mixt-own", /* "mixt." begins what we add to files of others' */
    .tensors = tensors,
    .config = config,
    .fixed = fixed,
    .harmless = harmless,
    .constants = {.router = {.score = MIXT_SCORE_SOFTMAX, .scale = 1}},
    .universal = true,
};
