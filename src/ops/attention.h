/* Shared by the two directions of attention. */
#ifndef MIXT_OPS_ATTENTION_H
#define MIXT_OPS_ATTENTION_H

#include "ops/support.h"

#define MIXT_ATTENTION_BLOCK 64 /* query rows, and keys, of one block */

typedef struct mixt_attention_sizes {
    int64_t heads, kv_heads, head_dim;
    int64_t q_row, k_row;   /* values of a row of q and y, of k and v */
    int64_t sequence, keys; /* query rows and keys of one sequence */
    int64_t sequences, blocks;
    real scale;
} mixt_attention_sizes;

static inline mixt_attention_sizes mixt_attention_measure(const mixt_call *call)
{
    const mixt_attributes *attributes = call->attributes;
    mixt_attention_sizes sizes = {
        .heads = attributes->heads,
        .kv_heads = attributes->kv_heads,
        .head_dim = attributes->head_dim,
        .q_row = call->in_shape[0].size[1],
        .k_row = call->in_shape[1].size[1],
        .scale = (real)attributes->scale,
    };
    bool cache = attributes->window == 0;
    sizes.sequence = cache ? call->tokens : attributes->window;
    sizes.keys = cache ? mixt_rows(&call->in_shape[1], call->tokens) : attributes->window;
    sizes.sequences = mixt_chunks(call->tokens, sizes.sequence);
    sizes.blocks = mixt_chunks(sizes.sequence, MIXT_ATTENTION_BLOCK);
    return sizes;
}

/* Rows of a query block of a sequence; empty behind the last token. */
static inline mixt_range mixt_attention_rows(const mixt_call *call,
                                             const mixt_attention_sizes *sizes, int64_t sequence,
                                             int64_t block)
{
    int64_t begin = sequence * sizes->sequence, end = begin + sizes->sequence;
    end = mixt_least(mixt_least(end, call->tokens), begin + (block + 1) * MIXT_ATTENTION_BLOCK);
    begin += block * MIXT_ATTENTION_BLOCK;
    return (mixt_range){begin, begin < end ? end : begin};
}

/* The part of `rows` that holds every row that sees a key of [key, key + count); empty for none. */
static inline mixt_range mixt_attention_seeing(const mixt_call *call, mixt_range rows, int64_t key,
                                               int64_t count)
{
    const int32_t *first = call->in[3], *last = call->in[4];
    mixt_range seeing = {rows.end, rows.end};
    for (int64_t t = rows.begin; t < rows.end; t++) {
        if (first[t] < key + count && last[t] >= key && first[t] <= last[t]) {
            seeing.begin = t < seeing.begin ? t : seeing.begin;
            seeing.end = t + 1;
        }
    }
    seeing.end = seeing.begin < rows.end ? seeing.end : seeing.begin;
    return seeing;
}

/* Hides what row t may not see of the scores of keys [key, key + count); false where it sees none,
 * and then the scores are zeroed. */
static inline bool mixt_attention_mask(const mixt_call *call, int64_t t, int64_t key, int64_t count,
                                       real *scores)
{
    int64_t begin = ((const int32_t *)call->in[3])[t] - key;
    int64_t end = ((const int32_t *)call->in[4])[t] + 1 - key;
    begin = begin < 0 ? 0 : begin;
    end = mixt_least(end, count);
    if (begin >= end) {
        memset(scores, 0, (size_t)count * sizeof *scores);
        return false;
    }
    for (int64_t j = 0; j < begin; j++) {
        scores[j] = (real)-INFINITY;
    }
    for (int64_t j = end; j < count; j++) {
        scores[j] = (real)-INFINITY;
    }
    return true;
}

#endif
