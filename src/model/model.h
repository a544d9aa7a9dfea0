/* A model: options, family, parameters, and weights. One that was made or is trained has them in
 * one fp32 block, each tensor at an offset; one that was opened has them where its files are mapped
 * (model/storage.h). */
#ifndef MIXT_MODEL_MODEL_H
#define MIXT_MODEL_MODEL_H

#include "core/remarks.h"
#include "dist/ranks.h"
#include "model/arch.h"
#include "plan/plan.h"

typedef struct mixt_parameter {
    mixt_slot slot;
    int layer;      /* -1 outside the layers */
    char name[112]; /* its own; the Hugging Face name where one tensor holds it; {E} left in */
    char gguf_name[64];
    int rank;
    int64_t size[4]; /* experts: [E, rows, columns] */
    size_t count;    /* values */
    size_t offset;   /* in model->weights, in values, 64-byte aligned */
    bool decay;      /* AdamW's weight decay: matrices yes, norms no */
    bool trainable;  /* false: frozen routers, selection bias, parts that a trainer leaves */
} mixt_parameter;

/* The weights of one parameter of an opened model: typed rows, or fp32 values. */
typedef struct mixt_held {
    mixt_matrix *matrices; /* [count]: one, or one for each expert or head; NULL: values */
    int count;
    float *values;          /* [parameter.count] */
    struct mixt_laid *laid; /* [count] where matrices without data come from (model/laid.h); NULL:
                               all of them have it. Lives as long as the source */
} mixt_held;

/* The experts of every layer that a model holds: all, or in a spread model this rank's. The first
 * size of their parameters is `count`. */
typedef struct mixt_expert_share {
    int first, count;
} mixt_expert_share;

struct mixt_model {
    mixt_model_options options;
    const mixt_family *family;
    mixt_router_spec router;
    mixt_parameter *parameters;
    int parameter_count;
    mixt_expert_share share;
    mixt_ranks *ranks;              /* that it is spread over, or trained with; NULL: it is alone */
    size_t weight_count;            /* values in the block, gaps included */
    size_t expert_begin;            /* spread over ranks: experts lie from here on, all else before;
                                       weight_count where every rank has all of them */
    float *weights;                 /* the block, or NULL; read it by mixt_model_block */
    struct mixt_weights *trained;   /* a device whose block is newer, or NULL (model/weights.h) */
    mixt_held *held;                /* of each parameter where there is no block, else NULL */
    struct mixt_source *source;     /* files that `held` points into */
    struct mixt_stored *stored;     /* experts that are read when they are wanted, or NULL */
    struct mixt_adapters *adapters; /* low-rank updates of experts, or NULL (model/adapters.h) */
    struct mixt_routing *routing;   /* changed routing of each layer, or NULL */
    mixt_remarks remarks;           /* what should be known of its files */
    const char *file_type;          /* the mix that a GGUF file says it is ("Q3_K_L"), or NULL */
    char *merged;                   /* LoRA adapters that were merged, in words, or NULL */
};

/* Options, family and parameters without weights, after checking the options. `place` begins error
 * lines
 * ("model", or the path of a config.json). */
mixt_status mixt_model_layout(const mixt_model_options *options, const mixt_family *family,
                              const char *place, mixt_model **model, mixt_error *error);
/* The same with a block of zero weights. */
mixt_status mixt_model_allocate(const mixt_model_options *options, const mixt_family *family,
                                const char *place, mixt_model **model, mixt_error *error);
/* Fills derived fields and refuses what cannot work. */
mixt_status mixt_model_check(mixt_model_options *options, const char *place, mixt_error *error);
/* The same of options that a file says: what cannot work is the file's fault then. */
mixt_status mixt_model_check_file(mixt_model_options *options, const char *path, mixt_error *error);
/* mixt_model_fits, where what went wrong (no memory) is to be told from an answer. */
mixt_status mixt_model_compare(const mixt_model *model, const mixt_model_options *options,
                               bool *fits, mixt_error *error);
/* Says to the ranks that work for this one (mixt_model_work) what plan will ask them for rows; an
 * error where one of them has no memory for it. Nothing where experts are not spread, or all ranks
 * run such a plan. */
struct mixt_graph;
mixt_status mixt_model_announce(const mixt_model *model, const struct mixt_graph *graph,
                                mixt_error *error);
/* Refuses what is not done with a model whose experts are spread over ranks. */
mixt_status mixt_model_refuse_spread(const mixt_model *model, const char *what, mixt_error *error);
/* The model as it is in its files, from which rank 0 still reads what other ranks hold, where that
 * says which model it is. Lives as long as the model, until it is freed. */
mixt_status mixt_model_whole(const mixt_model *model, mixt_model *whole, mixt_error *error);
void mixt_model_whole_free(mixt_model *whole);
/* Index of a parameter, -1 where the model has none. */
int mixt_model_find(const mixt_model *model, mixt_slot slot, int layer);
bool mixt_model_layer_is_moe(const mixt_model *model, int layer);
int mixt_model_moe_layers(const mixt_model *model);
int mixt_options_moe_layers(const mixt_model_options *options);
/* What routers choose among: experts with weights, behind them those that compute nothing. */
int mixt_options_routed(const mixt_model_options *options);
/* Has it experts, and a router of its own to choose among them? */
bool mixt_model_layer_routes(const mixt_model *model, int layer);
int mixt_model_routers(const mixt_model *model);
/* How a layer routes: as the model does, or as mixt_model_change_routing left it. */
const mixt_router_spec *mixt_model_router(const mixt_model *model, int layer);
/* The name of an expert's own tensor: {E} replaced. */
void mixt_parameter_expert_name(const mixt_parameter *parameter, int expert, char name[128]);
/* SHA-256 of options and weights, 64 hexadecimal digits and NUL. */
mixt_status mixt_model_hash(const mixt_model *model, char hash[65], mixt_error *error);

/* The block as it is now, NULL where the model is mapped. */
const float *mixt_model_block(const mixt_model *model);
/* Turns the weights of an opened model into the fp32 block, for training; nothing where they are.
 */
mixt_status mixt_model_load(mixt_model *model, mixt_error *error);
/* Values [first, first + count) of a parameter as fp32, whole rows where it is a matrix. */
void mixt_model_values(const mixt_model *model, int parameter, size_t first, size_t count,
                       float *values);
/* An error where a mapped file shrank, so that what was computed since may be wrong. */
mixt_status mixt_model_intact(const mixt_model *model, mixt_error *error);

/* generation_config.json as text (malloc'd). */
mixt_status mixt_model_generation_text(const mixt_model *model, char **text, mixt_error *error);
/* config.json as text (malloc'd), and back into options. */
mixt_status mixt_model_config_text(const mixt_model *model, char **text, mixt_error *error);
mixt_status mixt_model_config_read(const char *path, mixt_model_options *options,
                                   const mixt_family **family, mixt_error *error);
/* The text of these options as this family, with or without what only mixt reads; and back from
 * memory, `name` standing for the file in messages. */
mixt_status mixt_config_text(const mixt_family *family, const mixt_model_options *options, bool own,
                             char **text, mixt_error *error);
mixt_status mixt_model_config_parse(const char *text, const char *name, mixt_model_options *options,
                                    const mixt_family **family, mixt_error *error);
/* The same model as the family as which it is written in this form: the block, names and all else
 * stay the model's. Nothing of *written has to be freed. */
mixt_status mixt_model_written(const mixt_model *model, mixt_form form, mixt_model *written,
                               mixt_error *error);

/* ------------------------------------------------------------------------------------------ */
/* The plan of a model                                                                        */

typedef enum mixt_phase {
    MIXT_PHASE_TRAIN,    /* loss and gradients of windows */
    MIXT_PHASE_SCORE,    /* loss of windows, no gradient */
    MIXT_PHASE_GENERATE, /* sequences against a KV cache, logits of the rows that are wanted */
    MIXT_PHASE_WORK,     /* this rank's experts, layer by layer, for rows of rank 0 */
} mixt_phase;

static inline mixt_type mixt_cache_element(mixt_cache_type type)
{
    return type == MIXT_CACHE_F16    ? MIXT_TYPE_F16
           : type == MIXT_CACHE_BF16 ? MIXT_TYPE_BF16
           : type == MIXT_CACHE_Q8_0 ? MIXT_TYPE_Q8_0
                                     : MIXT_TYPE_F32;
}

typedef struct mixt_graph_options {
    mixt_phase phase;
    int64_t capacity;       /* tokens */
    int64_t window;         /* train, score: rows of one sequence; capacity is a multiple */
    int64_t cache_capacity; /* generate: positions that a sequence may have */
    int64_t sequences;      /* generate: that may have rows in a batch; 0: one. score: routers of a
                               layer */
    int64_t cache_pages;    /* generate: pages of 64 positions; 0: what all sequences may have */
    int64_t takes;          /* generate: most rows whose logits are wanted; 0: one */
    /* of keys, values, latents: F32 (reals), F16, BF16, Q8_0; score: they are rounded so */
    mixt_type cache_type;
    size_t real_size; /* 4 or 8 */
    bool recompute;   /* train: expert and FFN activations are made again in backward */
    bool keep_logits; /* score: loss logits stay readable */
    bool keep_routes; /* route records stay readable */
    bool look_ahead;  /* score: routers also decide by what the router before them read */
    bool merged;      /* experts' matrices come with their adapters in them */
    /* train, experts spread over ranks: each rank's part of an expert's gradient is made from zero
     * and added to it, in the order of ranks */
    bool exact_reduce;
    /* generate, score: [layers, sequences], the router of each sequence in each layer (NULL: the
     * layer's), in scoring of each number in mixt_batch.variant; and the most experts that one
     * chooses (0: as many as the layer's) */
    const mixt_router_spec *const *routers;
    int chosen;
    int64_t
        rope_rows; /* generate: of the RoPE table, by which positions count (0: cache_capacity) */
    int64_t rows;  /* work: that a token of rank 0 has at most */
    bool absorbed; /* generate: latent attention in that form alone */
} mixt_graph_options;

/* A state that lives from call to call: a row for each position of the cache's pages. */
typedef struct mixt_graph_cache {
    mixt_value_id value;
    int64_t columns;
    size_t bytes; /* of all rows */
} mixt_graph_cache;

/* What a layer's experts gave. */
typedef struct mixt_mixture_values {
    mixt_value_id rows;   /* [T * k, d]: of each choice, in the route record's order */
    mixt_value_id routed; /* [T, d]: their weighted sum */
    mixt_value_id output; /* [T, d]: with the shared expert; routed itself where there is none */
} mixt_mixture_values;

/* Ids of the values that whoever runs the plan writes, binds and reads. The inputs by row are
 * those of mixt_batch (model/batch.h). */
typedef struct mixt_graph {
    const mixt_model *model;
    mixt_plan *plan;
    mixt_graph_options options;
    mixt_value_id tokens;         /* i32 [T] */
    mixt_value_id positions;      /* i32 [T] */
    mixt_value_id first;          /* i32 [T] */
    mixt_value_id first_windowed; /* i32 [T]; MIXT_NO_VALUE: no layer has a window */
    mixt_value_id last;           /* i32 [T] */
    /* i32 [T]: `first` for rows in either form of latent attention, behind `last` for the others;
     * MIXT_NO_VALUE where there is one form, which has `first` */
    mixt_value_id first_absorbed, first_expanded;
    mixt_value_id targets;       /* i32 [T] (train, score) */
    mixt_value_id slots;         /* i32 [T] (generate) */
    mixt_value_id sequence;      /* i32 [T] (generate) */
    mixt_value_id variant;       /* i32 [T]: of routers; MIXT_NO_VALUE: there are none */
    mixt_value_id pages;         /* i32 [sequences, pages of each] (generate) */
    mixt_value_id take;          /* i32 [takes] (generate) */
    mixt_value_id near, offsets; /* work: rows of this rank's own, of which there are none */
    mixt_value_id scale;         /* real [2]: of the cross-entropy, of the routing losses */
    mixt_value_id draw;          /* i32 [MIXT_DRAWS] (train); MIXT_NO_VALUE: nothing is drawn */
    mixt_value_id balance;       /* real [layers] (train), of ROUTE_BALANCE; or MIXT_NO_VALUE */
    mixt_value_id rope;          /* state: real [P, rope.dims] */
    mixt_value_id nll;           /* real [T] */
    mixt_value_id likeliest;     /* i32 [T] (train, score), of LOSS_LIKELIEST; with keep_logits */
    mixt_value_id states;        /* generate: [takes, d], what the head sees before logit_scale */
    mixt_value_id logits;        /* [T, V] (train, score) or [takes, V] (generate) */
    int *layers;                 /* the first record of each layer */
    int head;                    /* the first record behind the layers */
    int logits_head;             /* generate: the first one behind the states */
    mixt_value_id *parameters;   /* of each parameter of the model */
    mixt_graph_cache *caches;    /* what generation remembers of each position, all layers' */
    int cache_count;
    int moe_layers;
    mixt_route_values *routes; /* of each MoE layer; with one decision for all, the same values */
    mixt_mixture_values *mixtures; /* of each MoE layer; readable while they live */
    mixt_value_id *seen;           /* of each MoE layer (train), of ROUTE_SEEN; or MIXT_NO_VALUE */
} mixt_graph;

mixt_status mixt_graph_create(const mixt_model *model, const mixt_graph_options *options,
                              mixt_graph **graph, mixt_error *error);
void mixt_graph_free(mixt_graph *graph);
/* Rows that a token has at most behind a graph's routers. */
int64_t mixt_graph_rows(const mixt_graph *graph);
/* Generation: pages that a sequence may have. */
int64_t mixt_graph_pages(const mixt_graph_options *options);
/* Bytes of all caches, one behind the other; SIZE_MAX where they are more. */
size_t mixt_graph_cache_bytes(const mixt_graph *graph);
bool mixt_model_layer_is_windowed(const mixt_model *model, int layer);
/* Whether the model has latent attention that can be computed in its expanded form too, and then
 * its sizes. */
struct mixt_latent_sizes;
bool mixt_model_latent(const mixt_model *model, struct mixt_latent_sizes *sizes);

/* The options of what a file holds in which the rows of q and k lie as pairs or as halves: writing
 * brings them into that order, but for latent attention. */
mixt_model_options mixt_model_as_laid(const mixt_model_options *options, bool interleaved);
/* What cosines and sines are multiplied by: 1 but for YaRN and LongRoPE. */
double mixt_rope_factor(const mixt_model_options *options);
/* YaRN's growth for this factor alone: 0.1 ln(factor) + 1. */
double mixt_rope_growth(double factor);
/* Of q.k, YaRN's part for latent attention included. */
double mixt_rope_attention_scale(const mixt_model_options *options);
/* What pair i is slower by than without scaling, as GGUF files hold it (linear, Llama 3,
 * LongRoPE). */
float mixt_rope_divisor(const mixt_model_options *options, int64_t pair, bool long_sequence);
/* Does the table of the first `positions` depend on how long a sequence is? */
bool mixt_rope_by_length(const mixt_model_options *options, int64_t positions);
/* Do both turn every pair alike, whatever the length of a sequence? Filled or not. */
bool mixt_rope_same(const mixt_model_options *a, const mixt_model_options *b);
/* Rows [first, first + count) of the RoPE table [.., rope.dims] of a sequence of `length`
 * positions, as fp32 or fp64 (real_size 4 or 8): cos in the first half of a row, sin in the second.
 */
void mixt_rope_table(const mixt_model_options *options, int64_t first, int64_t count,
                     int64_t length, size_t real_size, void *table);
/* Bytes of such a table. */
size_t mixt_rope_bytes(const mixt_model *model, int64_t positions, size_t real_size);
/* The table of a sequence of `positions` in a device's memory. Callers that make room for head_dim
 * columns have enough. */
mixt_status mixt_rope_create(const mixt_model *model, const mixt_backend *backend,
                             int64_t positions, mixt_device_memory *table, mixt_error *error);
/* Writes positions [first, first + count) of a sequence of `length` into rows from `row` on. */
typedef struct mixt_rope_rows {
    int64_t first, count, length, row;
} mixt_rope_rows;
mixt_status mixt_rope_update(const mixt_model *model, const mixt_rope_rows *rows,
                             mixt_device_memory *table, mixt_error *error);

#endif
