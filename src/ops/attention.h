/* Shared by the two directions of attention. */
#ifndef MIXT_OPS_ATTENTION_H
#define MIXT_OPS_ATTENTION_H

#include "ops/gemm.h"
#include "ops/support.h"

#define MIXT_ATTENTION_BLOCK 64     /* query rows, and keys, of one block */
#define MIXT_ATTENTION_HEAD_MAX 256 /* head_dim that the pack buffers hold, in fp64 too */

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

/* What each row of a block sees of keys [key, key + count), counted from `key`; clamped, so that it
 * is exact as real. MIXT_SEES_ALL: no row has a hidden key among them. */
typedef enum mixt_sight { MIXT_SEES_NONE, MIXT_SEES_SOME, MIXT_SEES_ALL } mixt_sight;

static inline mixt_sight mixt_attention_sight(const mixt_call *call, mixt_range rows, int64_t key,
                                              int64_t count, real *first, real *last)
{
    bool all = true, any = false;
    for (int64_t t = rows.begin; t < rows.end; t++) {
        int64_t begin = ((const int32_t *)call->in[3])[t] - key;
        int64_t end = ((const int32_t *)call->in[4])[t] - key;
        begin = begin < 0 ? 0 : mixt_least(begin, count);
        end = end < 0 ? -1 : mixt_least(end, count - 1);
        all = all && begin == 0 && end == count - 1;
        any = any || begin <= end;
        first[t - rows.begin] = (real)begin;
        last[t - rows.begin] = (real)end;
    }
    return all ? MIXT_SEES_ALL : any ? MIXT_SEES_SOME : MIXT_SEES_NONE;
}

/* Panels of A or B for the product tiles, from x(p, i) = x[p * x_k + i * x_width]. */
typedef struct mixt_panels {
    real *at;
    int64_t k, width;
} mixt_panels;

#if MIXT_REAL_IS_DOUBLE
#define MIXT_GEMM_KERNELS(call) (&(call)->compute->f64->gemm)
#else
#define MIXT_GEMM_KERNELS(call) (&(call)->compute->f32->gemm)
#endif

static inline void mixt_pack_a(const mixt_call *call, const mixt_panels *to, const real *x,
                               int64_t x_k, int64_t x_width)
{
    const MIXT_REAL(mixt_gemm_kernels) *gemm = MIXT_GEMM_KERNELS(call);
    gemm->pack(to->k, to->width, x, x_k, x_width, to->at, gemm->tile_rows);
}

static inline void mixt_pack_b(const mixt_call *call, const mixt_panels *to, const real *x,
                               int64_t x_k, int64_t x_width)
{
    const MIXT_REAL(mixt_gemm_kernels) *gemm = MIXT_GEMM_KERNELS(call);
    gemm->pack(to->k, to->width, x, x_k, x_width, to->at, gemm->tile_columns);
}

/* Values that panels of `width` take at most, whatever the tile. */
static inline int64_t mixt_panel_values(int64_t k, int64_t width)
{
    return k * (width + 32);
}

/* c [a->width, b->width] (+)= the product of packed panels; k is one block of the chain. */
static inline void mixt_multiply_panels(const mixt_call *call, const mixt_panels *a,
                                        const mixt_panels *b, real *c, int64_t c_row,
                                        bool accumulate)
{
    const MIXT_REAL(mixt_gemm_kernels) *gemm = MIXT_GEMM_KERNELS(call);
    int64_t height = gemm->tile_rows, width = gemm->tile_columns;
    for (int64_t j = 0; j < b->width; j += width) {
        for (int64_t i = 0; i < a->width; i += height) {
            gemm->tile(a->k, a->at + i * a->k, b->at + j * b->k, c + i * c_row + j, c_row,
                       (int)mixt_least(height, a->width - i), (int)mixt_least(width, b->width - j),
                       accumulate);
        }
    }
}

#endif
