/* A model family is data: names of its tensors and config keys, and the fixed choices of its
 * router. A generic block (block.c) reads it. New family of known shape: one file and one row in
 * families.def. No code outside a family's own file asks which family it is. */
#ifndef MIXT_MODEL_ARCH_H
#define MIXT_MODEL_ARCH_H

#include "core/error.h"
#include "router/router.h"

/* Places in a block where a tensor goes. */
typedef enum mixt_slot {
    MIXT_SLOT_EMBED,               /* [V, d] */
    MIXT_SLOT_OUTPUT_NORM,         /* [d] */
    MIXT_SLOT_OUTPUT,              /* [V, d]; absent when embeddings are tied */
    MIXT_SLOT_ATTENTION_NORM,      /* [d] */
    MIXT_SLOT_Q,                   /* [H h, d] */
    MIXT_SLOT_K,                   /* [G h, d] */
    MIXT_SLOT_V,                   /* [G h, d] */
    MIXT_SLOT_O,                   /* [d, H h] */
    MIXT_SLOT_FFN_NORM,            /* [d] */
    MIXT_SLOT_ROUTER,              /* [E, d]; Attention Router: q, k, v [3 E, d] */
    MIXT_SLOT_ROUTER_BIAS,         /* [E], selection only (loss-free balancing) */
    MIXT_SLOT_EXPERT_GATE,         /* [E, F, d] */
    MIXT_SLOT_EXPERT_UP,           /* [E, F, d] */
    MIXT_SLOT_EXPERT_DOWN,         /* [E, d, F] */
    MIXT_SLOT_SHARED_GATE,         /* [S F, d] */
    MIXT_SLOT_SHARED_UP,           /* [S F, d] */
    MIXT_SLOT_SHARED_DOWN,         /* [d, S F] */
    MIXT_SLOT_DENSE_GATE,          /* [D, d] */
    MIXT_SLOT_DENSE_UP,            /* [D, d] */
    MIXT_SLOT_DENSE_DOWN,          /* [d, D] */
    MIXT_SLOT_Q_BIAS,              /* [H h] */
    MIXT_SLOT_K_BIAS,              /* [G h] */
    MIXT_SLOT_V_BIAS,              /* [G h] */
    MIXT_SLOT_O_BIAS,              /* [d] */
    MIXT_SLOT_Q_NORM,              /* [h] or [H h] */
    MIXT_SLOT_K_NORM,              /* [h] or [G h] */
    MIXT_SLOT_SINKS,               /* [H] */
    MIXT_SLOT_ATTENTION_POST_NORM, /* [d], of the branch before it is added */
    MIXT_SLOT_FFN_POST_NORM,       /* [d] */
    MIXT_SLOT_FILTER_1_PREVIOUS,   /* [d/2, d], LFA: y[t] = A x[t-1] + B x[t] + b, twice */
    MIXT_SLOT_FILTER_1,            /* [d/2, d] */
    MIXT_SLOT_FILTER_1_BIAS,       /* [d/2] */
    MIXT_SLOT_FILTER_2_PREVIOUS,   /* [d, d/2] */
    MIXT_SLOT_FILTER_2,            /* [d, d/2] */
    MIXT_SLOT_FILTER_2_BIAS,       /* [d] */
    MIXT_SLOT_FILTER_NORM,         /* [d] */
    MIXT_SLOT_Q_DOWN,              /* [query latent, d], MLA */
    MIXT_SLOT_Q_DOWN_NORM,         /* [query latent] */
    MIXT_SLOT_KV_DOWN,             /* [latent + position, d] */
    MIXT_SLOT_KV_DOWN_NORM,        /* [latent] */
    MIXT_SLOT_K_UP,                /* [H, latent, h - position]: a head's key matrix transposed */
    MIXT_SLOT_V_UP,                /* [H, value, latent] */
    MIXT_SLOT_ROUTER_LOGIT_BIAS,   /* [E] */
    MIXT_SLOT_EXPERT_GATE_BIAS,    /* [E, F] */
    MIXT_SLOT_EXPERT_UP_BIAS,      /* [E, F] */
    MIXT_SLOT_EXPERT_DOWN_BIAS,    /* [E, d] */
    MIXT_SLOT_SHARED_ROUTER,       /* [1, d], gate of the shared expert */
    MIXT_SLOT_COUNT
} mixt_slot;

/* A tensor's name in Hugging Face files: {L} is the layer, {E} the expert (one tensor each). */
typedef struct mixt_tensor_row {
    mixt_slot slot;
    const char *name;
} mixt_tensor_row;

/* A field of mixt_model_options and its key in config.json. */
typedef enum mixt_field_type {
    MIXT_FIELD_INTEGER,
    MIXT_FIELD_NUMBER,
    MIXT_FIELD_BOOL
} mixt_field_type;

typedef struct mixt_config_row {
    const char *key;
    mixt_field_type type;
    size_t offset; /* in mixt_model_options */
    bool required; /* else `fallback` holds when it is absent */
    double fallback;
    double low, high; /* accepted range */
} mixt_config_row;

typedef struct mixt_family {
    const char *name;               /* also model_type in config.json */
    const char *hf_class;           /* architectures[0] */
    const char *title;              /* for `mixt info` */
    const mixt_tensor_row *tensors; /* ends with a NULL name */
    const mixt_config_row *config;  /* ends with a NULL key */
    /* key, JSON value pairs, ending with NULL: written as they are, and refused with another value
     * when read, but for keys behind a '?', which change nothing that mixt computes */
    const char *const *fixed;
    mixt_score score; /* the family's own, where config.json does not say */
    bool renormalise;
    /* true when the family can hold a model of these options */
    bool (*fits)(const mixt_model_options *options);
} mixt_family;

/* The families, in the order in which they are asked whether an option set fits. */
const mixt_family *const *mixt_families(void); /* ends with NULL */
const mixt_family *mixt_family_by_name(const char *model_type);
const mixt_family *mixt_family_for(const mixt_model_options *options);
const char *mixt_family_tensor(const mixt_family *family, mixt_slot slot);

/* Rows that every family of the Llama line has in common. */
#define MIXT_LLAMA_TENSORS                                                                         \
    {MIXT_SLOT_EMBED, "model.embed_tokens.weight"}, {MIXT_SLOT_OUTPUT_NORM, "model.norm.weight"},  \
        {MIXT_SLOT_OUTPUT, "lm_head.weight"},                                                      \
        {MIXT_SLOT_ATTENTION_NORM, "model.layers.{L}.input_layernorm.weight"},                     \
        {MIXT_SLOT_Q, "model.layers.{L}.self_attn.q_proj.weight"},                                 \
        {MIXT_SLOT_K, "model.layers.{L}.self_attn.k_proj.weight"},                                 \
        {MIXT_SLOT_V, "model.layers.{L}.self_attn.v_proj.weight"},                                 \
        {MIXT_SLOT_O, "model.layers.{L}.self_attn.o_proj.weight"},                                 \
    {                                                                                              \
        MIXT_SLOT_FFN_NORM, "model.layers.{L}.post_attention_layernorm.weight"                     \
    }

#define MIXT_FIELD(key, type, field, required, fallback, low, high)                                \
    {                                                                                              \
        key, MIXT_FIELD_##type, offsetof(mixt_model_options, field), required, fallback, low, high \
    }
#define MIXT_LLAMA_FIELDS                                                                          \
    MIXT_FIELD("vocab_size", INTEGER, vocab_size, true, 0, 1, 1 << 24),                            \
        MIXT_FIELD("hidden_size", INTEGER, hidden_size, true, 0, 1, 1 << 20),                      \
        MIXT_FIELD("num_hidden_layers", INTEGER, layers, true, 0, 1, 4096),                        \
        MIXT_FIELD("num_attention_heads", INTEGER, heads, true, 0, 1, 4096),                       \
        MIXT_FIELD("num_key_value_heads", INTEGER, kv_heads, false, 0, 1, 4096),                   \
        MIXT_FIELD("head_dim", INTEGER, head_dim, false, 0, 1, 4096),                              \
        MIXT_FIELD("max_position_embeddings", INTEGER, context_length, false, 2048, 1, 1 << 24),   \
        MIXT_FIELD("rope_theta", NUMBER, rope_theta, false, 10000, 1, 1e12),                       \
        MIXT_FIELD("rms_norm_eps", NUMBER, norm_epsilon, false, 1e-6, 1e-12, 0.1),                 \
        MIXT_FIELD("initializer_range", NUMBER, initializer_range, false, 0.02, 0, 10),            \
        MIXT_FIELD("tie_word_embeddings", BOOL, tie_embeddings, false, 0, 0, 1)

#endif
