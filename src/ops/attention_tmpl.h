/* Shared by the two directions of attention. */
#ifndef MIXT_OPS_ATTENTION_TMPL_H
#define MIXT_OPS_ATTENTION_TMPL_H

#include "ops/attention.h"
#include "ops/gemm.h"
#include "ops/support_tmpl.h"

typedef struct mixt_attention_sizes {
    int64_t heads, kv_heads, head_dim, value_dim;
    int64_t q_row, k_row, v_row, y_row; /* values of a row of q, k, v, y; of k and v in a short type
                                           those of one kv head, which are widened together */
    int64_t v_head;                     /* of v from one kv head to the next */
    int64_t sequence, keys;             /* query rows and keys of one sequence */
    int64_t sequences, blocks;
    real scale, soft_cap;
} mixt_attention_sizes;

static inline mixt_attention_sizes mixt_attention_measure(const mixt_call *call)
{
    const mixt_attributes *attributes = call->attributes;
    const mixt_type_row *type = mixt_type_info(attributes->cache_type);
    bool narrow = attributes->cache_type != MIXT_TYPE_F32;
    int64_t v_columns = call->in_shape[ATTENTION_V].size[1];
    v_columns = narrow ? v_columns / type->bytes * type->elements : v_columns;
    mixt_attention_sizes sizes = {
        .heads = attributes->heads,
        .kv_heads = attributes->kv_heads,
        .head_dim = attributes->head_dim,
        .value_dim = mixt_attention_value_dim(attributes),
        .q_row = call->in_shape[ATTENTION_Q].size[1],
        .k_row = narrow ? attributes->head_dim : call->in_shape[ATTENTION_K].size[1],
        .v_row = narrow ? v_columns / attributes->kv_heads : v_columns,
        .y_row = call->out_shape[ATTENTION_Y].size[1],
        .v_head = v_columns / attributes->kv_heads,
        .scale = (real)attributes->scale,
        .soft_cap = (real)attributes->soft_cap,
    };
    bool cache = attributes->window == 0;
    int64_t rows = mixt_rows(&call->in_shape[ATTENTION_K], call->tokens);
    int64_t paged = call->in_shape[ATTENTION_PAGES].size[1] * MIXT_ATTENTION_BLOCK;
    sizes.sequence = cache ? call->tokens : attributes->window;
    sizes.keys = !cache ? attributes->window : paged > 0 ? paged : rows;
    sizes.sequences = mixt_divide_up(call->tokens, sizes.sequence);
    sizes.blocks = mixt_divide_up(sizes.sequence, MIXT_ATTENTION_BLOCK);
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
    return (mixt_range){begin, mixt_most(begin, end)};
}

/* What each row of a block sees of keys [key, key + count), counted from `key`; clamped, so that it
 * is exact as real. MIXT_SEES_ALL: no row has a hidden key among them. */
typedef enum mixt_sight { MIXT_SEES_NONE, MIXT_SEES_SOME, MIXT_SEES_ALL } mixt_sight;

static inline mixt_sight mixt_attention_sight(const mixt_call *call, mixt_range rows, int64_t key,
                                              int64_t count, real *first, real *last)
{
    bool all = true, any = false;
    for (int64_t t = rows.begin; t < rows.end; t++) {
        int64_t begin = ((const int32_t *)call->in[ATTENTION_FIRST])[t] - key;
        int64_t end = ((const int32_t *)call->in[ATTENTION_LAST])[t] - key;
        begin = begin < 0 ? 0 : mixt_least(begin, count);
        end = end < 0 ? -1 : mixt_least(end, count - 1);
        all = all && begin == 0 && end == count - 1;
        any = any || begin <= end;
        first[t - rows.begin] = (real)begin;
        last[t - rows.begin] = (real)end;
    }
    return all ? MIXT_SEES_ALL : any ? MIXT_SEES_SOME : MIXT_SEES_NONE;
}

/* Keys that the last of some queries sees, counted as `last` is. */
static inline int64_t mixt_attention_seen(const real *last, int64_t queries)
{
    real most = -1;
    for (int64_t i = 0; i < queries; i++) {
        most = last[i] > most ? last[i] : most;
    }
    return (int64_t)most + 1;
}

/* The state of row t's softmax behind its last block. */
typedef struct mixt_attention_end {
    int64_t t, head;
    real max, sum;
} mixt_attention_end;

/* The head's sink joins the sum as one more logit, and the logarithm of the sum is written. What y
 * has to be multiplied by. */
static inline real mixt_attention_finish(const mixt_call *call, mixt_attention_end *end)
{
    int64_t t = end->t;
    const real *sinks = call->in[ATTENTION_SINKS];
    bool sees = ((const int32_t *)call->in[ATTENTION_FIRST])[t] <=
                ((const int32_t *)call->in[ATTENTION_LAST])[t];
    real share = 1;
    if (sinks != NULL) {
        real sink = sinks[end->head], most = end->max > sink ? end->max : sink;
        real powers[2] = {end->max, sink};
        (void)mixt_kernels_of(call)->exp_sum(2, powers, powers, most);
        end->max = most;
        end->sum = end->sum * powers[0] + powers[1];
        share = powers[0];
    }
    real *log_sum = (real *)call->out[ATTENTION_LSE] + t * call->attributes->heads + end->head;
    *log_sum = sees || sinks != NULL ? end->max + (real)log((double)end->sum) : 0;
    return sees ? share / end->sum : 0;
}

/* n scores x become c tanh(scale x / c), as c - 2 c / (1 + exp(2 scale x / c)), which no x breaks.
 */
static inline void mixt_attention_cap(const mixt_kernels *kernels,
                                      const mixt_attention_sizes *sizes, int64_t n, real *x)
{
    real cap = sizes->soft_cap, twice = 2 * cap;
    kernels->scale(n, x, 2 * sizes->scale / cap, x);
    (void)kernels->exp_sum(n, x, x, 0);
    for (int64_t i = 0; i < n; i++) {
        x[i] = cap - twice / (1 + x[i]);
    }
}

/* What the softmax multiplies scores by: capped ones are scaled already. */
static inline real mixt_softmax_scale(const mixt_attention_sizes *sizes)
{
    return sizes->soft_cap > 0 ? 1 : sizes->scale;
}

/* Panels of A or B for the product tiles, from x(p, i) = x[p * x_k + i * x_width]. */
typedef struct mixt_panels {
    real *at;
    int64_t k, width;
} mixt_panels;

#define MIXT_GEMM_KERNELS(call) (&(call)->compute->MIXT_REAL_SUFFIX->gemm)

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

/* Columns that panels of `tile` columns take. */
static inline int64_t mixt_panel_columns(int64_t width, int tile)
{
    return mixt_divide_up(width, tile) * tile;
}

/* Values that panels of `width` take at most, whatever the tile. */
static inline int64_t mixt_panel_values(int64_t k, int64_t width)
{
    return k * (width + 32);
}

/* Values of panels of a block of rows by n values, whichever of both is their k. */
static inline int64_t mixt_block_values(int64_t n)
{
    return mixt_most(mixt_panel_values(n, MIXT_ATTENTION_BLOCK),
                     mixt_panel_values(MIXT_ATTENTION_BLOCK, n));
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

/* Writes x [n, columns] as rows of y, transposed and multiplied by `factors` [columns] where there
 * are any: y[column * y_row + i] = x[i * x_row + column] factor. Packing transposes, into `room` of
 * columns * mixt_panel_columns(n) values. */
typedef struct mixt_transposed {
    const real *x;
    int64_t x_row, n, columns;
    const real *factors;
    real *room;
} mixt_transposed;

static inline void mixt_put_transposed(const mixt_call *call, const mixt_transposed *from, real *y,
                                       int64_t y_row)
{
    int64_t width = MIXT_GEMM_KERNELS(call)->tile_columns;
    mixt_panels panels = {from->room, from->columns, from->n};
    mixt_pack_b(call, &panels, from->x, 1, from->x_row);
    for (int64_t column = 0; column < from->columns; column++) {
        for (int64_t i = 0; i < from->n; i += width) {
            const real *part = from->room + i * from->columns + column * width;
            int64_t count = mixt_least(width, from->n - i);
            if (from->factors != NULL) {
                mixt_kernels_of(call)->scale(count, y + column * y_row + i, from->factors[column],
                                             part);
            } else {
                memcpy(y + column * y_row + i, part, (size_t)count * sizeof *y);
            }
        }
    }
}

/* Keys and values of a kv head, in the rows' sequence. */
typedef struct mixt_attention_source {
    const mixt_call *call;
    const mixt_attention_sizes *sizes;
    mixt_pages pages;
    int64_t row, head; /* one of the rows, one of the heads that share them */
    int64_t before;    /* keys that are not there: in[ATTENTION_K] begins with this one */
} mixt_attention_source;

/* Rows of sizes.k_row and v_row values. */
typedef struct mixt_attention_keys {
    const real *k, *v;
} mixt_attention_keys;

/* Those at positions of one page; a short type's are widened into the end of the thread's
 * buffers, from MIXT_WIDENED_AT on. */
mixt_attention_keys MIXT_REAL(mixt_attention_find_keys)(const mixt_attention_source *from,
                                                        mixt_range at, int thread);

#define MIXT_WIDENED_VALUES ((int64_t)MIXT_ATTENTION_HEAD_MAX * MIXT_ATTENTION_BLOCK)
#define MIXT_WIDENED_AT ((int64_t)(MIXT_THREAD_BYTES / sizeof(real)) - 2 * MIXT_WIDENED_VALUES)

/* Training windows, and rows of one sequence over its cache (attention_blocks_tmpl.c). */
void MIXT_REAL(mixt_attention_window)(const mixt_call *call);

/* Blocks of queries that have packed keys in common, where there are `blocks` of each head. */
int64_t MIXT_REAL(mixt_attention_units)(const mixt_call *call, const mixt_attention_sizes *sizes,
                                        int64_t blocks);

/* Rows of a head, as many blocks as mixt_attention_units says; or up to 64 heads of one row that
 * share a kv head. With a carry the keys are a tile of all, which is what in[ATTENTION_K] has, and
 * begins at a multiple of 64. */
typedef struct mixt_attention_item {
    const mixt_call *call;
    mixt_range rows;
    int64_t head, heads; /* the first, and how many; one where there are more rows than one */
    int64_t origin;      /* key 0 of the sequence, as `first` and `last` count */
    real *carry;         /* of each block mixt_attention_carry(value_dim), or NULL */
    mixt_range keys;     /* of the tile */
    bool begins, ends;   /* it is the first, the last that the rows see */
} mixt_attention_item;

void MIXT_REAL(mixt_attention_run_item)(const mixt_attention_item *of, int thread);

#endif
