/* Rows that the families with multi-head latent attention (MLA) have in common. */
#ifndef MIXT_MODEL_MLA_H
#define MIXT_MODEL_MLA_H

#include "model/arch.h"

#define MIXT_MLA_ROW(slot, hf, gguf)                                                               \
    {                                                                                              \
        MIXT_SLOT_##slot, "model.layers.{L}.self_attn." hf ".weight", "blk.{L}." gguf ".weight",   \
            0, 0                                                                                   \
    }

/* GGUF files of before 2025 keep the two matrices of kv_b in one. */
#define MIXT_MLA_TENSORS                                                                           \
    MIXT_MLA_ROW(Q, "q_proj", "attn_q"), MIXT_MLA_ROW(Q_DOWN, "q_a_proj", "attn_q_a"),             \
        MIXT_MLA_ROW(Q_DOWN_NORM, "q_a_layernorm", "attn_q_a_norm"),                               \
        MIXT_MLA_ROW(Q_UP, "q_b_proj", "attn_q_b"),                                                \
        MIXT_MLA_ROW(KV_DOWN, "kv_a_proj_with_mqa", "attn_kv_a_mqa"),                              \
        MIXT_MLA_ROW(KV_DOWN_NORM, "kv_a_layernorm", "attn_kv_a_norm"),                            \
        {MIXT_SLOT_K_UP, "model.layers.{L}.self_attn.kv_b_proj.weight", "blk.{L}.attn_k_b.weight", \
         MIXT_LAYOUT_KEY_UP, 0},                                                                   \
        {MIXT_SLOT_V_UP, "model.layers.{L}.self_attn.kv_b_proj.weight", "blk.{L}.attn_v_b.weight", \
         MIXT_LAYOUT_VALUE_UP, 0},                                                                 \
        {MIXT_SLOT_K_UP, NULL, "blk.{L}.attn_kv_b.weight", 0, MIXT_LAYOUT_KEY_UP},                 \
        {MIXT_SLOT_V_UP, NULL, "blk.{L}.attn_kv_b.weight", 0, MIXT_LAYOUT_VALUE_UP},               \
        MIXT_MLA_ROW(O, "o_proj", "attn_output")

#define MIXT_MLA_MODEL_TENSORS                                                                     \
    MIXT_EMBED_TENSORS, MIXT_NORM_TENSORS, MIXT_MLA_TENSORS,                                       \
        MIXT_MOE_TENSORS("mlp", "gate_proj", "up_proj", "down_proj"),                              \
        MIXT_SHARED_TENSORS("shared_experts"), MIXT_DENSE_TENSORS

/* Sizes of the latent attention, and fine-grained experts in groups, with the class's defaults of
 * what may be absent. What GGUF files say of the absorbed form (key_length,
 * value_length, head_count_kv) is written beside these. head_dim and qk_head_dim are what
 * transformers 5 writes of the sizes that it computes. */
#define MIXT_MLA_FIELDS(rank, chosen, shared, dense, norm, factor, all, used)                      \
    MIXT_FIELD("num_key_value_heads", NULL, NULL_INTEGER, kv_heads, false, 0, 1, 4096),            \
        MIXT_FIELD("kv_lora_rank", "attention.kv_lora_rank", INTEGER, attention.latent_size, true, \
                   0, 1, 1 << 16),                                                                 \
        MIXT_FIELD("q_lora_rank", NULL, NULL_INTEGER, attention.query_latent_size, false, rank, 1, \
                   1 << 16),                                                                       \
        MIXT_FIELD(NULL, "attention.q_lora_rank", NULL_INTEGER, attention.query_latent_size,       \
                   false, 0, 0, 1 << 16),                                                          \
        MIXT_FIELD("qk_rope_head_dim", "rope.dimension_count", INTEGER, attention.position_dim,    \
                   true, 0, 2, 4096),                                                              \
        MIXT_FIELD("head_dim", NULL, NULL_INTEGER, attention.position_dim, false, 0, 2, 4096),     \
        MIXT_FIELD("qk_nope_head_dim", NULL, LESS_POSITION, head_dim, true, 0, 1, 4096),           \
        MIXT_FIELD("qk_head_dim", NULL, NULL_INTEGER, head_dim, false, 0, 2, 8192),                \
        MIXT_FIELD(NULL, "attention.key_length_mla", INTEGER, head_dim, false, 0, 2, 8192),        \
        MIXT_FIELD(NULL, "attention.key_length", INTEGER, head_dim, true, 0, 2, 8192),             \
        MIXT_FIELD("v_head_dim", "attention.value_length_mla", INTEGER, attention.value_dim, true, \
                   0, 1, 4096),                                                                    \
        MIXT_FIELD(NULL, "attention.value_length", INTEGER, attention.value_dim, true, 0, 1,       \
                   4096),                                                                          \
        MIXT_FINE_EXPERT_FIELDS(chosen, shared, dense, norm, factor),                              \
        MIXT_FIELD("n_group", NULL, FROM_ONE, router.groups, false, all, 1, 4096),                 \
        MIXT_FIELD(NULL, "expert_group_count", FROM_ONE, router.groups, false, 0, 0, 4096),        \
        MIXT_FIELD("topk_group", NULL, FROM_ONE, router.groups_used, false, used, 1, 4096),        \
        MIXT_FIELD(NULL, "expert_group_used_count", FROM_ONE, router.groups_used, false, 0, 0,     \
                   4096),                                                                          \
        MIXT_BALANCE_FIELD("aux_loss_alpha", 0.001)

/* llama.cpp: the heads of the absorbed form */
#define MIXT_MLA_GGUF_FIXED "?attention.head_count_kv", "1"

#endif
