/* Inside the builder of a model's plan: shorthands for operators, and its parts. */
#ifndef MIXT_MODEL_BLOCK_H
#define MIXT_MODEL_BLOCK_H

#include "model/model.h"

typedef struct mixt_builder {
    const mixt_model *model;
    mixt_graph *graph;
    mixt_plan *plan;
    int layer;                   /* being built, -1 outside the layers */
    mixt_value_id routed;        /* what the last router read; MIXT_NO_VALUE before the first */
    mixt_value_id stream;        /* the residual stream before the layer's MLP or mixture */
    mixt_value_id foreseen;      /* of the next layer with experts: mixt_route_values.foreseen */
    mixt_value_id foreseen_late; /* of this layer */
} mixt_builder;

/* The value of a parameter, MIXT_NO_VALUE where the model has none. */
mixt_value_id mixt_build_weight(const mixt_builder *b, mixt_slot slot, int layer);
/* An input of an operator by its slot's name, as in {NORM_X, x}; slots that are not named are
 * absent. */
typedef struct mixt_input {
    int slot;
    mixt_value_id value;
} mixt_input;

/* What an operator gave, by its slots' names. */
typedef struct mixt_outputs {
    mixt_value_id value[MIXT_SLOTS];
} mixt_outputs;

/* One operator. `recompute`: what it gives is made again for the backward instead of kept. */
mixt_outputs mixt_build(mixt_builder *b, mixt_op op, mixt_attributes attributes, bool recompute,
                        const mixt_input *in, int count);
#define BUILD_INPUTS(...)                                                                          \
    (mixt_input[]){__VA_ARGS__}, (int)(sizeof((mixt_input[]){__VA_ARGS__}) / sizeof(mixt_input))
/* All outputs; the first one; the first one, which is made again for the backward where the graph's
 * options say so; or in any case. */
#define BUILD_ALL(b, op, attributes, ...)                                                          \
    mixt_build(b, op, attributes, false, BUILD_INPUTS(__VA_ARGS__))
#define BUILD(b, op, attributes, ...) BUILD_ALL(b, op, attributes, __VA_ARGS__).value[0]
#define BUILD_RECOMPUTED(b, op, attributes, ...)                                                   \
    mixt_build(b, op, attributes, (b)->graph->options.recompute, BUILD_INPUTS(__VA_ARGS__)).value[0]
#define BUILD_AGAIN(b, op, attributes, ...)                                                        \
    mixt_build(b, op, attributes, true, BUILD_INPUTS(__VA_ARGS__)).value[0]

/* RMSNorm by the weight in `slot`; of groups of `group` values, 0: of the whole row. */
mixt_value_id mixt_build_norm(mixt_builder *b, mixt_value_id x, mixt_slot slot, int layer,
                              int group);
/* x W^T + bias; a slot of MIXT_SLOT_COUNT, or one the model does not have, is no bias. */
mixt_value_id mixt_build_linear(mixt_builder *b, mixt_value_id x, mixt_slot weight, mixt_slot bias,
                                int layer);
mixt_value_id mixt_build_add(mixt_builder *b, mixt_value_id x, mixt_value_id y);
/* Generation: a new cache with a row for each position of its pages; nothing else. */
mixt_value_id mixt_build_state(mixt_builder *b, const char *name, mixt_type type, int64_t columns);
/* Generation: writes rows [T, columns] into a new cache, and *second (NULL: none) into another, and
 * gives the caches in their place. Nothing else: leaves them as they are. */
void mixt_build_cache(mixt_builder *b, mixt_type type, mixt_value_id *first, mixt_value_id *second);

/* Matrices of an MLP and their biases (MIXT_SLOT_COUNT: never any). */
typedef struct mixt_mlp_slots {
    mixt_slot gate, up, down, gate_bias, up_bias, down_bias;
} mixt_mlp_slots;

/* The parts of a block, each on normed rows x [T, d]. */
mixt_value_id mixt_build_attention(mixt_builder *b, mixt_value_id x, int layer);
mixt_value_id mixt_build_mlp(mixt_builder *b, mixt_value_id x, const mixt_mlp_slots *slots,
                             int layer);
mixt_value_id mixt_build_mixture(mixt_builder *b, mixt_value_id x, int layer);
/* The part of a layer that other ranks have rows for, where this one has none: rows [T, d] of which
 * offsets i32 [E + G + 1] say that none is any expert's. */
void mixt_build_work(mixt_builder *b, mixt_value_id rows, mixt_value_id offsets, int layer);
/* Where experts come from a store: what the layer's router would decide by the residual stream
 * x [T, d] as it is now, so that they can be read meanwhile; else MIXT_NO_VALUE. */
mixt_value_id mixt_build_foresight(mixt_builder *b, mixt_value_id x, int layer);
/* One layer: x [T, d] in, [T, d] out. */
mixt_value_id mixt_build_block(mixt_builder *b, mixt_value_id x, int layer);

#endif
