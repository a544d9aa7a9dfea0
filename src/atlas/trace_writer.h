/* Writes a trace file (docs/traces.md) in constant memory. The number of tokens is not known ahead
 * and tensors lie one behind the other in the file, so each tensor is collected in a temporary file
 * beside the output (without a name, so that nothing is left behind whatever happens); finish puts
 * them together, and the output appears under its name complete or not at all. */
#ifndef MIXT_ATLAS_TRACE_WRITER_H
#define MIXT_ATLAS_TRACE_WRITER_H

#include "mixt.h"

#define MIXT_TRACE_FORMAT "mixt-trace"
/* Version 1 has an expert at every place. One without is written as MIXT_TRACE_NONE in version 2,
 * so that nobody who knows version 1 alone takes 65535 for an expert. */
#define MIXT_TRACE_VERSION "1"
#define MIXT_TRACE_VERSION_NONE "2"

typedef struct mixt_trace_writer mixt_trace_writer;

typedef struct mixt_trace_header {
    int layers;               /* with experts */
    const int *layer_numbers; /* [layers]: the model's number of each, rising */
    int experts;
    int identity_experts, zero_experts; /* of them, the last ones: without weights */
    int experts_per_token;              /* k: the most that a layer chooses */
    const int *experts_per_layer;       /* [layers] choices of each, 1 to k; NULL: k in all */
    int domains;
    const char *const *domain_names; /* [domains] */
    const char *source;              /* that errors name; NULL: the trace's path */
    const char *model;               /* name; NULL counts as "" here and below */
    const char *model_hash;
    const char *corpus_hash;
    const char *tokenizer_hash;
    const char *router_select; /* word of mixt_router_selects; NULL: top-k */
    const char *held_out;      /* mixt_router_held_out, and what was rounded */
    int vocab_size;
    /* Bytes of a token, as mixt_tokenizer_bytes_of: NULL counts as an entry without bytes. */
    const char *(*token_bytes)(const void *vocabulary, int32_t id, size_t *length);
    const void *vocabulary;
    bool logits; /* append brings router logits; below likewise */
    bool margins, entropies, predicted, ahead;
} mixt_trace_header;

/* Some tokens that lie one behind the other in one domain. */
typedef struct mixt_trace_chunk {
    size_t count;
    int domain;
    const int32_t *tokens;    /* [count] */
    const int32_t *documents; /* [count]: the last document's number again or the next, from 0 */
    const int32_t *experts;   /* [layers, count, k], best first; -1: none, at any place */
    const float *weights;     /* [layers, count, k]; 0 where there is no expert */
    const float *logits;      /* [layers, count, experts]; NULL where the header has none, as all
                                 below */
    const float *margins;     /* [layers, count]; 0 or more, NaN: nothing was compared */
    const float *entropies;   /* [layers, count]; 0 to log2 of the experts */
    const int32_t *predicted; /* [count] */
    const int32_t *ahead;     /* [layers, count, k]; -1: none, as everywhere at the first layer */
} mixt_trace_chunk;

mixt_status mixt_trace_writer_create(const char *path, const mixt_trace_header *header,
                                     mixt_trace_writer **writer, mixt_error *error);
/* Checks ids, weights, domain and document numbers as mixt_trace_open would: a bad chunk is refused
 * here. */
mixt_status mixt_trace_writer_append(mixt_trace_writer *writer, const mixt_trace_chunk *chunk,
                                     mixt_error *error);
/* Assembles and renames. The writer must still be freed. */
mixt_status mixt_trace_writer_finish(mixt_trace_writer *writer, mixt_error *error);
/* Without finish, nothing of the file stays. */
void mixt_trace_writer_free(mixt_trace_writer *writer);

#endif
