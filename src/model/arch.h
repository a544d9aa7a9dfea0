/* A model family is data: names of its tensors and of its keys, in Hugging Face folders and in GGUF
 * files, and what it always has. A generic block (block.c) reads it. New family of known shape: one
 * file and one row in families.def. No code outside a family's own file asks which family it is. */
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
    MIXT_SLOT_Q_UP,                /* [H h, query latent], behind Q_DOWN in the place of Q */
    MIXT_SLOT_DENSE_GATE_BIAS,     /* [D] */
    MIXT_SLOT_DENSE_UP_BIAS,       /* [D] */
    MIXT_SLOT_DENSE_DOWN_BIAS,     /* [d] */
    MIXT_SLOT_EXPERT_GATE_A,       /* [E, r, d]: adapters, of no family's files (adapters.c) */
    MIXT_SLOT_EXPERT_GATE_B,       /* [E, F, r] */
    MIXT_SLOT_EXPERT_UP_A,         /* [E, r, d] */
    MIXT_SLOT_EXPERT_UP_B,         /* [E, F, r] */
    MIXT_SLOT_EXPERT_DOWN_A,       /* [E, r, F] */
    MIXT_SLOT_EXPERT_DOWN_B,       /* [E, d, r] */
    MIXT_SLOT_COUNT
} mixt_slot;

typedef enum mixt_form {
    MIXT_FORM_FOLDER, /* Hugging Face: config.json and safetensors */
    MIXT_FORM_GGUF,
} mixt_form;

/* How a parameter lies in a file's tensor, where it is not one to one. Rows and columns are the
 * parameter's last two dimensions; a parameter of three dimensions is a stack [E, rows, columns] in
 * the file too, or, with {E} in the name, one matrix each. (layout.c) */
typedef enum mixt_layout {
    MIXT_LAYOUT_PLAIN,
    MIXT_LAYOUT_FIRST_HALF,  /* the first half of [.., 2 rows, columns] */
    MIXT_LAYOUT_SECOND_HALF, /* the second */
    MIXT_LAYOUT_TRANSPOSED,  /* [E, columns, rows] */
    MIXT_LAYOUT_EVEN,  /* columns 0, 2, .. of [E, columns, 2 rows]; a bias: of [E, 2 columns] */
    MIXT_LAYOUT_ODD,   /* columns 1, 3, .. */
    MIXT_LAYOUT_MXFP4, /* NAME_blocks u8 [E, rows, columns / 32, 16] and NAME_scales u8 */
    MIXT_LAYOUT_MXFP4_EVEN, /* rows 0, 2, .. of twice as many */
    MIXT_LAYOUT_MXFP4_ODD,
    MIXT_LAYOUT_KERNEL_FIRST,  /* column 0 of a convolution's [rows, columns, 2, 1] */
    MIXT_LAYOUT_KERNEL_SECOND, /* column 1 */
    MIXT_LAYOUT_KEY_UP,        /* the keys of [H (key + value), latent], each head transposed */
    MIXT_LAYOUT_VALUE_UP,      /* its values */
    MIXT_LAYOUT_PARTS, /* a name with {a,b,c}: three tensors, one below the other in the parameter
                        */
} mixt_layout;

/* A tensor's names: {L} is the layer, {E} the expert. NULL where that kind of file has none. A slot
 * may have several rows: the first whose tensor a file holds is read, the first is written. */
typedef struct mixt_tensor_row {
    mixt_slot slot;
    const char *hf;          /* in a Hugging Face folder */
    const char *gguf;        /* in a GGUF file */
    mixt_layout hf_layout;   /* in the folder */
    mixt_layout gguf_layout; /* in the file */
} mixt_tensor_row;

/* A field of mixt_model_options and its keys. */
typedef enum mixt_field_type {
    MIXT_FIELD_END,
    MIXT_FIELD_INTEGER,
    MIXT_FIELD_NUMBER,
    MIXT_FIELD_BOOL,
    MIXT_FIELD_SWITCH,       /* an enumeration, of which the key says whether it is 1 or 0 */
    MIXT_FIELD_NULL_INTEGER, /* 0 is written as null, and null read as 0 */
    MIXT_FIELD_NULL_NUMBER,
    MIXT_FIELD_TRAINING,      /* a number that only training reads: null is as absent */
    MIXT_FIELD_LENGTH,        /* an integer on which no logit depends: null is as absent */
    MIXT_FIELD_FROM_ONE,      /* 0 is written as 1 */
    MIXT_FIELD_LIST_INTEGER,  /* written as a list of one */
    MIXT_FIELD_BY_HEADS,      /* the file's number is this one times the heads */
    MIXT_FIELD_LESS_POSITION, /* the file's number is this one less attention.position_dim */
    MIXT_FIELD_PART_OF_HEAD,  /* the file's number is the part of a head that this one is */
} mixt_field_type;

/* Rows of the same field with a key are names for one thing: the first whose key is there is read,
 * the first of all is written and gives the fallback; a config.json where two of them say different
 * things is refused. A row without a key in one kind of file gives the fallback there if it is the
 * field's only row: where the authors' class and llama.cpp have different defaults there are two
 * rows, each with a key in one kind of file. */
typedef struct mixt_config_row {
    const char *key;  /* in config.json; "a.b": b in the object a; NULL: none */
    const char *gguf; /* behind "ARCH." in a GGUF file; NULL: none */
    mixt_field_type type;
    size_t offset;    /* in mixt_model_options */
    bool required;    /* the key, or that of an earlier row of the field, must be there */
    double fallback;  /* where no key is: the authors' class's own default, llama.cpp's for GGUF */
    double low, high; /* accepted range */
} mixt_config_row;

/* A family's one hook: mends options that its rows cannot say, after they were read and before they
 * are compared. `json` is the config.json (a json_t), or NULL for a GGUF file and new options. */
typedef mixt_status (*mixt_family_hook)(mixt_model_options *options, const void *json,
                                        mixt_error *error);

typedef struct mixt_family {
    const char *name;               /* also model_type in config.json */
    const char *alias;              /* another model_type, or NULL */
    const char *hf_class;           /* architectures[0] */
    const char *title;              /* for `mixt info` */
    const char *gguf_arch;          /* general.architecture */
    const mixt_tensor_row *tensors; /* ends with MIXT_TENSORS_END */
    const mixt_config_row *config;  /* ends with MIXT_FIELDS_END */
    /* key, JSON value pairs, ending with NULL: written as they are, and refused with another value
     * when read. Before a key: '?' it changes nothing that mixt computes, so that any value is
     * read;
     * '|' the value is a list of those that are accepted, the first of which is written; '-' it is
     * never written. */
    const char *const *fixed;
    /* Other keys that change nothing that mixt computes, or that the hook reads; ends with NULL.
     * Whatever no table names is refused unless its value is neutral (config_keys.c). */
    const char *const *harmless;
    /* As `fixed`, of keys behind "ARCH." in a GGUF file, none of which is written; or NULL */
    const char *const *gguf_fixed;
    /* What the family always has and no key says: the options before the rows are read. */
    mixt_model_options constants;
    bool hf_interleaved;         /* rotated pairs of q and k lie side by side in the folder */
    bool gguf_interleaved;       /* in the GGUF file */
    bool only_opened;            /* never chosen for a new model */
    bool universal;              /* holds every option set; no other program knows it */
    int gguf_layers, gguf_vocab; /* a GGUF file of its architecture without expert_gating_func but
                                    with these sizes is of the family; 0: none is */
    bool gguf_select_bias; /* llama.cpp reads a selection bias though the folder's form has none */
    bool authors_code;     /* transformers has it only with its authors' code */
    /* The option of these that llama.cpp, which reads the architecture, would not compute; NULL:
     * none */
    const char *(*llama_cpp_lacks)(const mixt_model_options *options);
    mixt_family_hook hook; /* or NULL */
} mixt_family;

/* llama_cpp_lacks of architectures in which it has no window: llama, grok. */
const char *mixt_llama_cpp_window(const mixt_model_options *options);

/* Fills fields that follow from others (head_dim, kv_heads, ...); 0 stands for "as usual". */
void mixt_model_fill(mixt_model_options *options);

/* The families, in the order in which they are asked whether they can hold an option set. */
const mixt_family *const *mixt_families(void); /* ends with NULL */
const mixt_family *mixt_family_by_name(const char *model_type);
const mixt_family *mixt_family_by_class(const char *hf_class);

/* Every field of mixt_model_options; `key` is its name, `required` says that it changes what a
 * model computes (else it is of training alone). Ends with MIXT_FIELDS_END. */
extern const mixt_config_row mixt_option_fields[];
/* A value of one of them, as people read it. */
void mixt_option_text(const mixt_config_row *row, double value, char text[40]);
/* Whether the values of an option are words. */
bool mixt_option_has_words(const mixt_config_row *row);
/* The first option that makes them another model, or another way of training it; NULL: none. */
const mixt_config_row *mixt_options_difference(const mixt_model_options *a,
                                               const mixt_model_options *b);

/* What a family holds -------------------------------------------------------------------------- */

/* true when a model of these options, written as this family, is the same model when it is read
 * again: by mixt, all options and every parameter; by others, who know the family's keys alone,
 * everything that changes what is computed. Found out by writing (in memory) and reading. */
bool mixt_family_holds(const mixt_family *family, const mixt_model_options *options,
                       mixt_form form);
/* Whether options that were written so and read again are the same; else the first that is not. */
bool mixt_options_come_back(const mixt_family *family, mixt_form form,
                            const mixt_model_options *options, const mixt_model_options *back,
                            char what[160]);
/* Leaves *family (or NULL) where that holds them in this form, else sets the first that does; fails
 * where none does, with what does not come back, or without the memory to find out. New models are
 * of the first that holds them as a folder. */
mixt_status mixt_family_to_write(const mixt_family **family, const mixt_model_options *options,
                                 mixt_form form, mixt_error *error);
/* Of the families that others know the one that is nearest to these options, and in `what` the
 * first option in which it differs ("router.scale 2 (mixtral: 1)"); NULL where it does not. */
const mixt_family *mixt_family_nearest(const mixt_model_options *options, mixt_form form,
                                       char what[160]);

/* Reading and writing by rows ----------------------------------------------------------------- */

/* A row's value as the file says it (true is 1), and back into the options. */
double mixt_row_get(const mixt_config_row *row, const mixt_model_options *options);
void mixt_row_set(const mixt_config_row *row, mixt_model_options *options, double value);
/* true for the first row of its field with a key in this form: the one that is written */
bool mixt_row_written(const mixt_config_row *rows, const mixt_config_row *row, mixt_form form);

/* Where rows are read from. has: the key is there. read: its value, checked against the row. */
typedef struct mixt_row_source {
    mixt_form form;
    void *user;
    bool (*has)(void *user, const char *key);
    mixt_status (*read)(void *user, const mixt_config_row *row, const char *key, double *value);
} mixt_row_source;

mixt_status mixt_rows_read(const mixt_config_row *rows, const mixt_row_source *source,
                           mixt_model_options *options);

/* The next row of a slot with a name in this form behind `after` (NULL: the first), or NULL. */
const mixt_tensor_row *mixt_family_row(const mixt_family *family, mixt_slot slot, mixt_form form,
                                       const mixt_tensor_row *after);

/* Rows that every family of the Llama line has in common. */
#define MIXT_EMBED_TENSORS                                                                         \
    {MIXT_SLOT_EMBED, "model.embed_tokens.weight", "token_embd.weight", 0, 0},                     \
        {MIXT_SLOT_OUTPUT_NORM, "model.norm.weight", "output_norm.weight", 0, 0},                  \
    {                                                                                              \
        MIXT_SLOT_OUTPUT, "lm_head.weight", "output.weight", 0, 0                                  \
    }
#define MIXT_NORM_TENSORS                                                                          \
    {MIXT_SLOT_ATTENTION_NORM, "model.layers.{L}.input_layernorm.weight",                          \
     "blk.{L}.attn_norm.weight", 0, 0},                                                            \
    {                                                                                              \
        MIXT_SLOT_FFN_NORM, "model.layers.{L}.post_attention_layernorm.weight",                    \
            "blk.{L}.ffn_norm.weight", 0, 0                                                        \
    }
#define MIXT_ATTENTION_TENSORS                                                                     \
    {MIXT_SLOT_Q, "model.layers.{L}.self_attn.q_proj.weight", "blk.{L}.attn_q.weight", 0, 0},      \
        {MIXT_SLOT_K, "model.layers.{L}.self_attn.k_proj.weight", "blk.{L}.attn_k.weight", 0, 0},  \
        {MIXT_SLOT_V, "model.layers.{L}.self_attn.v_proj.weight", "blk.{L}.attn_v.weight", 0, 0},  \
    {                                                                                              \
        MIXT_SLOT_O, "model.layers.{L}.self_attn.o_proj.weight", "blk.{L}.attn_output.weight", 0,  \
            0                                                                                      \
    }
#define MIXT_LLAMA_TENSORS MIXT_EMBED_TENSORS, MIXT_NORM_TENSORS, MIXT_ATTENTION_TENSORS
#define MIXT_DENSE_TENSORS                                                                         \
    {MIXT_SLOT_DENSE_GATE, "model.layers.{L}.mlp.gate_proj.weight", "blk.{L}.ffn_gate.weight", 0,  \
     0},                                                                                           \
        {MIXT_SLOT_DENSE_UP, "model.layers.{L}.mlp.up_proj.weight", "blk.{L}.ffn_up.weight", 0,    \
         0},                                                                                       \
    {                                                                                              \
        MIXT_SLOT_DENSE_DOWN, "model.layers.{L}.mlp.down_proj.weight", "blk.{L}.ffn_down.weight",  \
            0, 0                                                                                   \
    }
#define MIXT_DENSE_BIAS_TENSORS                                                                    \
    {MIXT_SLOT_DENSE_GATE_BIAS, "model.layers.{L}.mlp.gate_proj.bias", "blk.{L}.ffn_gate.bias", 0, \
     0},                                                                                           \
        {MIXT_SLOT_DENSE_UP_BIAS, "model.layers.{L}.mlp.up_proj.bias", "blk.{L}.ffn_up.bias", 0,   \
         0},                                                                                       \
    {                                                                                              \
        MIXT_SLOT_DENSE_DOWN_BIAS, "model.layers.{L}.mlp.down_proj.bias", "blk.{L}.ffn_down.bias", \
            0, 0                                                                                   \
    }
/* One tensor for each matrix of an expert, as the first GGUF files of Mixtral had them and `mixt
 * convert --layout experts` writes them. */
#define MIXT_WHOLE_EXPERT_TENSORS                                                                  \
    {MIXT_SLOT_EXPERT_GATE, NULL, "blk.{L}.ffn_gate.{E}.weight", 0, 0},                            \
        {MIXT_SLOT_EXPERT_UP, NULL, "blk.{L}.ffn_up.{E}.weight", 0, 0},                            \
    {                                                                                              \
        MIXT_SLOT_EXPERT_DOWN, NULL, "blk.{L}.ffn_down.{E}.weight", 0, 0                           \
    }
/* A router and experts below `hf` with these names of matrices; GGUF stacks the experts, very old
 * files have one tensor for each. transformers 5 may keep the stacks that it computes with, below
 * `mlp` whatever the family. */
#define MIXT_MOE_TENSORS(hf, gate, up, down)                                                       \
    {MIXT_SLOT_ROUTER, "model.layers.{L}." hf ".gate.weight", "blk.{L}.ffn_gate_inp.weight", 0,    \
     0},                                                                                           \
        {MIXT_SLOT_ROUTER_BIAS, "model.layers.{L}." hf ".gate.e_score_correction_bias",            \
         "blk.{L}.exp_probs_b.bias", 0, 0},                                                        \
        {MIXT_SLOT_EXPERT_GATE, "model.layers.{L}." hf ".experts.{E}." gate ".weight",             \
         "blk.{L}.ffn_gate_exps.weight", 0, 0},                                                    \
        {MIXT_SLOT_EXPERT_UP, "model.layers.{L}." hf ".experts.{E}." up ".weight",                 \
         "blk.{L}.ffn_up_exps.weight", 0, 0},                                                      \
        {MIXT_SLOT_EXPERT_DOWN, "model.layers.{L}." hf ".experts.{E}." down ".weight",             \
         "blk.{L}.ffn_down_exps.weight", 0, 0},                                                    \
        {MIXT_SLOT_ROUTER, "model.layers.{L}.mlp.gate.weight", NULL, 0, 0},                        \
        {MIXT_SLOT_EXPERT_GATE, "model.layers.{L}.mlp.experts.gate_up_proj", NULL,                 \
         MIXT_LAYOUT_FIRST_HALF, 0},                                                               \
        {MIXT_SLOT_EXPERT_UP, "model.layers.{L}.mlp.experts.gate_up_proj", NULL,                   \
         MIXT_LAYOUT_SECOND_HALF, 0},                                                              \
        {MIXT_SLOT_EXPERT_DOWN, "model.layers.{L}.mlp.experts.down_proj", NULL, 0, 0},             \
        {MIXT_SLOT_EXPERT_GATE, NULL, "blk.{L}.ffn_gate_up_exps.weight", 0,                        \
         MIXT_LAYOUT_FIRST_HALF},                                                                  \
        {MIXT_SLOT_EXPERT_UP, NULL, "blk.{L}.ffn_gate_up_exps.weight", 0,                          \
         MIXT_LAYOUT_SECOND_HALF},                                                                 \
        MIXT_WHOLE_EXPERT_TENSORS
#define MIXT_SHARED_TENSORS(hf)                                                                    \
    {MIXT_SLOT_SHARED_GATE, "model.layers.{L}.mlp." hf ".gate_proj.weight",                        \
     "blk.{L}.ffn_gate_shexp.weight", 0, 0},                                                       \
        {MIXT_SLOT_SHARED_UP, "model.layers.{L}.mlp." hf ".up_proj.weight",                        \
         "blk.{L}.ffn_up_shexp.weight", 0, 0},                                                     \
    {                                                                                              \
        MIXT_SLOT_SHARED_DOWN, "model.layers.{L}.mlp." hf ".down_proj.weight",                     \
            "blk.{L}.ffn_down_shexp.weight", 0, 0                                                  \
    }
#define MIXT_QKV_BIAS_TENSORS                                                                      \
    {MIXT_SLOT_Q_BIAS, "model.layers.{L}.self_attn.q_proj.bias", "blk.{L}.attn_q.bias", 0, 0},     \
        {MIXT_SLOT_K_BIAS, "model.layers.{L}.self_attn.k_proj.bias", "blk.{L}.attn_k.bias", 0, 0}, \
    {                                                                                              \
        MIXT_SLOT_V_BIAS, "model.layers.{L}.self_attn.v_proj.bias", "blk.{L}.attn_v.bias", 0, 0    \
    }
/* Biases of the attention's four products where the configuration has them. */
#define MIXT_ATTENTION_BIAS_TENSORS                                                                \
    MIXT_QKV_BIAS_TENSORS,                                                                         \
    {                                                                                              \
        MIXT_SLOT_O_BIAS, "model.layers.{L}.self_attn.o_proj.bias", "blk.{L}.attn_output.bias", 0, \
            0                                                                                      \
    }
#define MIXT_QK_NORM_TENSORS                                                                       \
    {MIXT_SLOT_Q_NORM, "model.layers.{L}.self_attn.q_norm.weight", "blk.{L}.attn_q_norm.weight",   \
     0, 0},                                                                                        \
    {                                                                                              \
        MIXT_SLOT_K_NORM, "model.layers.{L}.self_attn.k_norm.weight",                              \
            "blk.{L}.attn_k_norm.weight", 0, 0                                                     \
    }
#define MIXT_TENSORS_END                                                                           \
    {                                                                                              \
        MIXT_SLOT_COUNT, NULL, NULL, 0, 0                                                          \
    }

#define MIXT_FIELD(key, gguf, type, field, required, fallback, low, high)                          \
    {                                                                                              \
        key, gguf, MIXT_FIELD_##type, offsetof(mixt_model_options, field), required, fallback,     \
            low, high                                                                              \
    }
#define MIXT_FIELDS_END                                                                            \
    {                                                                                              \
        NULL, NULL, MIXT_FIELD_END, 0, false, 0, 0, 0                                              \
    }
/* What every family has, with its class's own defaults: positions, RoPE's base, the norms' epsilon.
 * llama.cpp has one default for all, or wants the key. */
#define MIXT_SHAPE_FIELDS(context, theta, epsilon)                                                 \
    MIXT_FIELD("vocab_size", "vocab_size", INTEGER, vocab_size, true, 0, 1, 1 << 24),              \
        MIXT_FIELD("hidden_size", "embedding_length", INTEGER, hidden_size, true, 0, 1, 1 << 20),  \
        MIXT_FIELD("num_hidden_layers", "block_count", INTEGER, layers, true, 0, 1, 4096),         \
        MIXT_FIELD("num_attention_heads", "attention.head_count", INTEGER, heads, true, 0, 1,      \
                   4096),                                                                          \
        MIXT_FIELD("max_position_embeddings", NULL, LENGTH, context_length, false, context, 1,     \
                   1 << 24),                                                                       \
        MIXT_FIELD(NULL, "context_length", INTEGER, context_length, true, 0, 1, 1 << 24),          \
        MIXT_FIELD("rope_theta", NULL, NUMBER, rope_theta, false, theta, 1, 1e12),                 \
        MIXT_FIELD(NULL, "rope.freq_base", NUMBER, rope_theta, false, 10000, 1, 1e12),             \
        MIXT_FIELD("rms_norm_eps", NULL, NUMBER, norm_epsilon, false, epsilon, 1e-12, 0.1),        \
        MIXT_FIELD(NULL, "attention.layer_norm_rms_epsilon", NUMBER, norm_epsilon, true, 0, 1e-12, \
                   0.1),                                                                           \
        MIXT_FIELD("initializer_range", NULL, TRAINING, initializer_range, false, 0.02, 0, 10)
/* Absent: `kv` heads of `dim` values. 0, as null: as many as of queries, hidden_size / heads. */
#define MIXT_KV_FIELDS(kv, dim)                                                                    \
    MIXT_FIELD("num_key_value_heads", NULL, NULL_INTEGER, kv_heads, false, kv, 1, 4096),           \
        MIXT_FIELD(NULL, "attention.head_count_kv", INTEGER, kv_heads, false, 0, 1, 4096),         \
        MIXT_FIELD("head_dim", NULL, NULL_INTEGER, head_dim, false, dim, 1, 4096),                 \
        MIXT_FIELD(NULL, "attention.key_length", NULL_INTEGER, head_dim, false, 0, 1, 4096)
#define MIXT_TIE_FIELD(fallback)                                                                   \
    MIXT_FIELD("tie_word_embeddings", NULL, BOOL, tie_embeddings, false, fallback, 0, 1)
#define MIXT_LLAMA_FIELDS(context, theta, epsilon, kv, dim)                                        \
    MIXT_SHAPE_FIELDS(context, theta, epsilon), MIXT_KV_FIELDS(kv, dim), MIXT_TIE_FIELD(0)
/* One key for the biases of q, k, v and of the output. */
#define MIXT_ATTENTION_BIAS_FIELDS                                                                 \
    MIXT_FIELD("attention_bias", NULL, BOOL, attention.qkv_bias, false, 0, 0, 1),                  \
        MIXT_FIELD("attention_bias", NULL, BOOL, attention.output_bias, false, 0, 0, 1)
#define MIXT_FFN_FIELD                                                                             \
    MIXT_FIELD("intermediate_size", "feed_forward_length", INTEGER, ffn_size, true, 0, 1, 1 << 24)
#define MIXT_EXPERT_FFN_FIELD(key)                                                                 \
    MIXT_FIELD(key, "expert_feed_forward_length", INTEGER, ffn_size, true, 0, 1, 1 << 24)
#define MIXT_DENSE_FFN_FIELD(required)                                                             \
    MIXT_FIELD("intermediate_size", "feed_forward_length", INTEGER, dense_ffn_size, required, 0,   \
               1, 1 << 24)
#define MIXT_BALANCE_FIELD(key, fallback)                                                          \
    MIXT_FIELD(key, NULL, TRAINING, router.balance_coefficient, false, fallback, 0, 1e6)
/* `chosen` experts for a token where no key says it; 0: the key must be there. */
#define MIXT_MOE_FIELDS(experts_key, chosen)                                                       \
    MIXT_FIELD(experts_key, "expert_count", INTEGER, experts, true, 0, 1, MIXT_EXPERTS_MAX),       \
        MIXT_FIELD("num_experts_per_tok", NULL, INTEGER, experts_per_token, (chosen) == 0, chosen, \
                   1, MIXT_EXPERTS_MAX),                                                           \
        MIXT_FIELD(NULL, "expert_used_count", INTEGER, experts_per_token, true, 0, 1,              \
                   MIXT_EXPERTS_MAX)
/* Fine-grained experts beside shared ones behind dense layers, as DeepSeek's later models and their
 * relatives have them, with the class's defaults of what may be absent. */
#define MIXT_FINE_EXPERT_FIELDS(chosen, shared, dense, norm, factor)                               \
    MIXT_MOE_FIELDS("n_routed_experts", chosen), MIXT_DENSE_FFN_FIELD(true),                       \
        MIXT_EXPERT_FFN_FIELD("moe_intermediate_size"),                                            \
        MIXT_FIELD("n_shared_experts", NULL, NULL_INTEGER, shared_experts, false, shared, 0, 256), \
        MIXT_FIELD(NULL, "expert_shared_count", NULL_INTEGER, shared_experts, false, 0, 0, 256),   \
        MIXT_FIELD("first_k_dense_replace", NULL, INTEGER, leading_dense_layers, false, dense, 0,  \
                   4096),                                                                          \
        MIXT_FIELD(NULL, "leading_dense_block_count", INTEGER, leading_dense_layers, false, 0, 0,  \
                   4096),                                                                          \
        MIXT_FIELD("norm_topk_prob", NULL, BOOL, router.renormalise, false, norm, 0, 1),           \
        MIXT_FIELD(NULL, "expert_weights_norm", BOOL, router.renormalise, false, 0, 0, 1),         \
        MIXT_FIELD("routed_scaling_factor", NULL, NUMBER, router.scale, false, factor, 1e-6, 1e6), \
        MIXT_FIELD(NULL, "expert_weights_scale", NUMBER, router.scale, false, 1, 0, 1e6)
/* Another name of the number of experts (attribute_map of the class). */
#define MIXT_EXPERTS_ALIAS(key)                                                                    \
    MIXT_FIELD(key, NULL, INTEGER, experts, false, 0, 1, MIXT_EXPERTS_MAX)

#define MIXT_SILU "|hidden_act", "[\"silu\", \"swish\"]"

#endif
