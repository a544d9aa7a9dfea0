/* A routing trace in memory: who chose which experts for every token, at every layer with experts.
 * The measures, tables and the page read these arrays and nothing else. */
#ifndef MIXT_ATLAS_TRACE_H
#define MIXT_ATLAS_TRACE_H

#include <assert.h>

#include "core/memory.h"
#include "formats/dtype.h"
#include "formats/safetensors.h"
#include "mixt.h"

/* Bounds on what a trace may declare; the product bounds the memory of the tables. */
#define MIXT_TRACE_MAX_EXPERTS 4096
#define MIXT_TRACE_MAX_LAYERS 1024
#define MIXT_TRACE_MAX_DOMAINS 4096
#define MIXT_TRACE_MAX_CELLS ((uint64_t)1 << 24) /* layers * experts * domains */
/* ... of which so many are there for the asking, and more for every choice in the file. */
#define MIXT_TRACE_FREE_CELLS ((uint64_t)1 << 19)
#define MIXT_TRACE_CHOICE_CELLS 64

/* In `experts`: no expert at this place of the row (dropped by a capacity, not chosen, or behind
 * what the layer chooses); its weight is 0. The route record says -1. */
#define MIXT_TRACE_NONE 65535

struct mixt_trace {
    mixt_trace_info info;
    mixt_arena *arena;         /* owns every string */
    const char **domain_names; /* [domains] */
    int *layer_numbers;        /* [L]: the model's number of each MoE layer, rising */
    int *chosen;               /* [L]: choices of a token, 1 to k; places behind them hold none */
    uint64_t *dropped;         /* [L]: of T * chosen choices, those without an expert */
    bool none_allowed;         /* a version of the file that knows MIXT_TRACE_NONE */
    bool has_none;             /* MIXT_TRACE_NONE stands somewhere */
    int32_t *tokens;           /* [T] */
    int32_t *document;         /* [T]: 0, 0, ..., 1, ...: documents lie one behind the other */
    uint16_t *domain;          /* [T]: the same for all tokens of a document */
    uint16_t *experts;         /* [L, T, k], best first, distinct, or MIXT_TRACE_NONE */
    uint16_t *weights;         /* [L, T, k] as IEEE half precision bits */
    uint8_t *vocab_bytes;      /* all tokens' bytes, one behind the other */
    int64_t *vocab_offsets;    /* [vocab_size + 1] into vocab_bytes */
    int vocab_size;
    /* Not in every file, NULL without. Numbers stay in the file, mapped: mixt_trace_intact. */
    const uint16_t *logits;    /* [L, T, E] router logits as half precision bits, which nobody has
                                  checked: they may be more than memory holds */
    const uint16_t *margins;   /* [L, T] likewise: how far the last chosen expert lies above the
                                  best one that was not chosen, in the numbers that the layer's
                                  router compares (mixt_router_margin); 0 or more, NaN where it
                                  compared nothing */
    const uint16_t *entropies; /* [L, T] likewise: of the router's distribution over all experts, 0
                                  to log2 E bits */
    int32_t *predicted;        /* [T] the model's likeliest next token */
    uint16_t *ahead; /* [L, T, k] experts that the layer's router chooses when it reads what the
                        router of the layer before it read; none at the first layer */
    mixt_safetensors *file;   /* where they lie; NULL: in nobody's */
    uint64_t *document_start; /* [documents + 1] token index */
};

/* Shapes filled in by the caller in `info` (tokens, layers, experts, experts_per_token, domains)
 * and in vocab_size: allocates the arrays, zeroed; every layer makes all k choices, and none is
 * allowed. NULL without memory. */
mixt_trace *mixt_trace_allocate(const mixt_trace_info *info, int vocab_size,
                                size_t vocab_byte_count);

/* What the tables are made for: 1 to k of E experts a token, and the bounds above. */
bool mixt_trace_tabulates(int layers, int experts, int experts_per_token, int domains);

/* Whether a trace has choices enough for the tables that its header asks for. */
bool mixt_trace_fills(const mixt_trace_info *info);

/* Whether the numbers of the layers, at least one, rise from 0 or more. */
bool mixt_trace_layers_rise(const int *layer_numbers, int layers);

/* Checks every rule of docs/traces.md on the filled arrays, counts documents and what was dropped,
 * fills document_start and has_none. `name` is the file named in the message. */
mixt_status mixt_trace_check(mixt_trace *trace, const char *name, mixt_error *error);

/* An error where the file that numbers lie in was changed while it was in use: whoever has read
 * them asks, and believes what came out only then. */
mixt_status mixt_trace_intact(const mixt_trace *trace, mixt_error *error);

/* Which experts have no weights, behind "k of E experts"; nothing where all have some. */
void mixt_trace_say_weightless(const mixt_trace *trace, mixt_buffer *out);

/* The experts [k] and weights [k] of token `index` at MoE layer `layer`. */
static inline const uint16_t *mixt_trace_experts(const mixt_trace *trace, int layer, uint64_t index)
{
    assert(layer >= 0 && layer < trace->info.layers && index < trace->info.tokens);
    uint64_t row = (uint64_t)layer * trace->info.tokens + index;
    return trace->experts + row * (uint64_t)trace->info.experts_per_token;
}

static inline const uint16_t *mixt_trace_weights(const mixt_trace *trace, int layer, uint64_t index)
{
    assert(layer >= 0 && layer < trace->info.layers && index < trace->info.tokens);
    uint64_t row = (uint64_t)layer * trace->info.tokens + index;
    return trace->weights + row * (uint64_t)trace->info.experts_per_token;
}

/* Experts that a token has at a layer: 0 to the layer's choices. `row` is mixt_trace_experts. */
static inline int mixt_trace_set_size(const mixt_trace *trace, int layer, const uint16_t *row)
{
    int size = trace->chosen[layer];
    for (int c = 0; trace->has_none && c < trace->chosen[layer]; c++) {
        size -= row[c] == MIXT_TRACE_NONE;
    }
    return size;
}

/* The fewest choices that any layer makes; k where all make the same. */
int mixt_trace_least_chosen(const mixt_trace *trace);

/* A choice without an expert at any layer. */
bool mixt_trace_has_dropped(const mixt_trace *trace);

static inline double mixt_trace_dropped_share(const mixt_trace *trace, int layer)
{
    return (double)trace->dropped[layer] /
           ((double)trace->info.tokens * (double)trace->chosen[layer]);
}

/* Bytes of a vocabulary entry. */
const uint8_t *mixt_trace_token_bytes(const mixt_trace *trace, int32_t token, size_t *length);

/* The layer that the Mixtral paper calls the middle one: 15 of 0..31. */
static inline int mixt_trace_middle_layer(const mixt_trace *trace)
{
    return (trace->info.layers - 1) / 2;
}

/* Logits [E] of token `index`; the trace has some. */
static inline const uint16_t *mixt_trace_logits(const mixt_trace *trace, int layer, uint64_t index)
{
    assert(layer >= 0 && layer < trace->info.layers && index < trace->info.tokens);
    uint64_t row = (uint64_t)layer * trace->info.tokens + index;
    return trace->logits + row * (uint64_t)trace->info.experts;
}

/* A weight, a margin, an entropy as a float. */
static inline float mixt_trace_weight(uint16_t half)
{
    float value;
    mixt_f16_to_f32(&half, &value, 1);
    return value;
}

#endif
