/* A routing trace in memory: who chose which experts for every token, at every layer with experts.
 * The measures, tables and the page read these arrays and nothing else. */
#ifndef MIXT_ATLAS_TRACE_H
#define MIXT_ATLAS_TRACE_H

#include "core/memory.h"
#include "formats/dtype.h"
#include "mixt.h"

/* Bounds on what a trace may declare; the product bounds the memory of the tables. */
#define MIXT_TRACE_MAX_EXPERTS 4096
#define MIXT_TRACE_MAX_LAYERS 1024
#define MIXT_TRACE_MAX_DOMAINS 4096
#define MIXT_TRACE_MAX_CELLS ((uint64_t)1 << 24) /* layers * experts * domains */

struct mixt_trace {
    mixt_trace_info info;
    mixt_arena *arena;         /* owns every string */
    const char **domain_names; /* [domains] */
    int *layer_numbers;        /* [L]: the model's number of each MoE layer, rising */
    int32_t *tokens;           /* [T] */
    int32_t *document;         /* [T]: 0, 0, ..., 1, ...: documents lie one behind the other */
    uint16_t *domain;          /* [T]: the same for all tokens of a document */
    uint16_t *experts;         /* [L, T, k], best first, distinct */
    uint16_t *weights;         /* [L, T, k] as IEEE half precision bits */
    uint8_t *vocab_bytes;      /* all tokens' bytes, one behind the other */
    int64_t *vocab_offsets;    /* [vocab_size + 1] into vocab_bytes */
    int vocab_size;
    bool has_logits;          /* router logits are in the file; they are not read */
    uint64_t *document_start; /* [documents + 1] token index */
};

/* Shapes filled in by the caller in `info` (tokens, layers, experts, experts_per_token, domains)
 * and in vocab_size: allocates the arrays, zeroed. NULL without memory. */
mixt_trace *mixt_trace_allocate(const mixt_trace_info *info, int vocab_size,
                                size_t vocab_byte_count);

/* Checks every rule of docs/traces.md on the filled arrays, counts documents and fills
 * document_start. `name` is the file named in the message. */
mixt_status mixt_trace_check(mixt_trace *trace, const char *name, mixt_error *error);

/* The experts [k] and weights [k] of token `index` at MoE layer `layer`. */
static inline const uint16_t *mixt_trace_experts(const mixt_trace *trace, int layer, uint64_t index)
{
    uint64_t row = (uint64_t)layer * trace->info.tokens + index;
    return trace->experts + row * (uint64_t)trace->info.experts_per_token;
}

static inline const uint16_t *mixt_trace_weights(const mixt_trace *trace, int layer, uint64_t index)
{
    uint64_t row = (uint64_t)layer * trace->info.tokens + index;
    return trace->weights + row * (uint64_t)trace->info.experts_per_token;
}

/* Bytes of a vocabulary entry. */
const uint8_t *mixt_trace_token_bytes(const mixt_trace *trace, int32_t token, size_t *length);

/* The layer that the Mixtral paper calls the middle one: 15 of 0..31. */
static inline int mixt_trace_middle_layer(const mixt_trace *trace)
{
    return (trace->info.layers - 1) / 2;
}

/* A weight as a float. */
static inline float mixt_trace_weight(uint16_t half)
{
    float value;
    mixt_f16_to_f32(&half, &value, 1);
    return value;
}

#endif
