/* attention: causal grouped-query attention without a T x T matrix, after FlashAttention-2 (Dao
 * 2023); kv_write, which fills its cache, and cache_round, which does to rows what a cache does.
 *
 * A row's softmax is online over its own blocks of 64 keys, counted from the start of its sequence:
 * blocks that the row does not see leave its maximum, sum and output alone, and keys that it does
 * not see weigh exactly zero. So a row's bits are the same in a training window, in a prompt and
 * alone behind a cache. */
#include <assert.h>

#include "ops/attention_cached_tmpl.h"

static void copy_row(const mixt_call *call, int from, int64_t row, int cache, int64_t slot)
{
    int64_t n = call->in_shape[from].size[1];
    assert(call->in[from] == NULL || (slot >= 0 && slot < call->in_shape[cache].size[0]));
    mixt_type type = call->attributes->cache_type;
    if (call->in[from] != NULL && type != MIXT_TYPE_F32) {
        mixt_kernels_of(call)->narrow(
            n, (char *)call->in[cache] + slot * call->in_shape[cache].size[1],
            (const real *)call->in[from] + row * n, type);
    } else if (call->in[from] != NULL) {
        memcpy((real *)call->in[cache] + slot * n, (const real *)call->in[from] + row * n,
               (size_t)n * sizeof(real));
    }
}

static void kv_write_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const int32_t *slots = call->in[KV_WRITE_SLOTS];
    assert((call->in[KV_WRITE_V] == NULL) == (call->in[KV_WRITE_CACHE_V] == NULL));
    mixt_range range =
        mixt_chunk(mixt_rows(&call->in_shape[KV_WRITE_K], call->tokens), MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        copy_row(call, KV_WRITE_K, t, KV_WRITE_CACHE_K, slots[t]);
        copy_row(call, KV_WRITE_V, t, KV_WRITE_CACHE_V, slots[t]);
    }
}

void MIXT_REAL(mixt_kv_write_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, mixt_rows(&call->in_shape[KV_WRITE_K], call->tokens), MIXT_ROWS,
                    kv_write_rows);
}

static void cache_round_rows(void *context, int64_t item, int thread)
{
    enum { PART = 256 }; /* whole blocks of every type */
    (void)thread;
    const mixt_call *call = context;
    mixt_type type = call->attributes->cache_type;
    int64_t n = call->in_shape[CACHE_ROUND_X].size[1];
    mixt_range range =
        mixt_chunk(mixt_rows(&call->in_shape[CACHE_ROUND_X], call->tokens), MIXT_ROWS, item);
    const real *x = (const real *)call->in[CACHE_ROUND_X] + range.begin * n;
    real *y = (real *)call->out[CACHE_ROUND_Y] + range.begin * n;
    _Alignas(64) char narrow[PART * sizeof(uint16_t)];
    for (int64_t at = 0, all = (range.end - range.begin) * n; at < all; at += PART) {
        int64_t count = mixt_least(PART, all - at);
        if (type == MIXT_TYPE_F32) {
            memcpy(y + at, x + at, (size_t)count * sizeof *y);
            continue;
        }
        mixt_kernels_of(call)->narrow(count, narrow, x + at, type);
        mixt_kernels_of(call)->widen(count, y + at, narrow, type);
    }
}

void MIXT_REAL(mixt_cache_round_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, mixt_rows(&call->in_shape[CACHE_ROUND_X], call->tokens), MIXT_ROWS,
                    cache_round_rows);
}

/* Rows of the kv head's columns of k or v in a short type, widened. */
static void widen_rows(const mixt_attention_source *from, int slot, mixt_range rows,
                       int64_t columns, real *to)
{
    const mixt_call *call = from->call;
    mixt_type type = call->attributes->cache_type;
    int64_t kv_head = from->head / (from->sizes->heads / from->sizes->kv_heads);
    int64_t stride = call->in_shape[slot].size[1];
    const char *at = (const char *)call->in[slot] + rows.begin * stride +
                     kv_head * (int64_t)mixt_type_row_bytes(type, columns);
    for (int64_t row = rows.begin; row < rows.end; row++) {
        mixt_kernels_of(call)->widen(columns, to, at, type);
        at += stride;
        to += columns;
    }
}

static mixt_attention_keys widened(const mixt_attention_source *from, mixt_range rows, int thread)
{
    const mixt_call *call = from->call;
    real *k = (real *)call->compute->gemm->a[thread] + MIXT_WIDENED_AT;
    real *v = call->in[ATTENTION_V] == call->in[ATTENTION_K] ? k : k + MIXT_WIDENED_VALUES;
    widen_rows(from, ATTENTION_K, rows, from->sizes->head_dim, k);
    if (v != k) {
        widen_rows(from, ATTENTION_V, rows, from->sizes->v_head, v);
    }
    return (mixt_attention_keys){k, v};
}

mixt_attention_keys MIXT_REAL(mixt_attention_find_keys)(const mixt_attention_source *from,
                                                        mixt_range at, int thread)
{
    int64_t count = at.end - at.begin;
    const mixt_call *call = from->call;
    const mixt_attention_sizes *sizes = from->sizes;
    int64_t kv_head = from->head / (sizes->heads / sizes->kv_heads);
    int64_t row = mixt_pages_row(&from->pages, from->row, at.begin) - from->before;
    assert(row + count <= mixt_rows(&call->in_shape[ATTENTION_K], call->tokens));
    if (call->attributes->cache_type != MIXT_TYPE_F32) {
        return widened(from, (mixt_range){row, row + count}, thread);
    }
    return (mixt_attention_keys){
        (const real *)call->in[ATTENTION_K] + row * sizes->k_row + kv_head * sizes->head_dim,
        (const real *)call->in[ATTENTION_V] + row * sizes->v_row + kv_head * sizes->v_head};
}

/* Fewer rows are none of a block, but single ones; so many heads, if there are as many, are one
 * item. */
#define FEW_ROWS 8

/* A cache: blocks of rows of one sequence (attention_blocks_tmpl.c), an item for each head of them;
 * and rows that are too few for a block: where many heads share their keys, an item for some of
 * these heads, else they are left to attention_cached_tmpl.c. In both lists, which lie in the
 * workspace, comes first what sees most. */
typedef struct row_block {
    int32_t begin, count;
} row_block;

_Static_assert(2 * sizeof(row_block) + sizeof(int32_t) <= MIXT_ATTENTION_LIST_REALS * sizeof(real),
               "the lists of attention are larger than its workspace");

typedef struct cached_rows {
    const mixt_call *call;
    row_block *blocks, *single;
    int64_t block_count, single_count;
    int64_t heads, parts; /* of an item of a single row; items of its kv head */
} cached_rows;

static int64_t keys_seen(const mixt_call *call, const row_block *rows)
{
    const int32_t *first = call->in[ATTENTION_FIRST], *last = call->in[ATTENTION_LAST];
    return (int64_t)(last[rows->begin + rows->count - 1] - first[rows->begin] + 1) * rows->count;
}

static void insert(const mixt_call *call, row_block *list, int64_t *count, row_block rows)
{
    int64_t at = (*count)++, seen = keys_seen(call, &rows);
    for (; at > 0 && keys_seen(call, &list[at - 1]) < seen; at--) {
        list[at] = list[at - 1];
    }
    list[at] = rows;
}

/* Heads of one item of a single row: enough to read the keys once for all of them, and items enough
 * for the threads. */
static int64_t heads_of_item(const mixt_call *call, const mixt_attention_sizes *sizes, int64_t rows)
{
    int64_t group = sizes->heads / sizes->kv_heads, threads = call->compute->threads;
    int64_t parts = mixt_divide_up(threads, sizes->kv_heads * mixt_most(rows, 1));
    int64_t heads = mixt_least(mixt_divide_up(group, parts), MIXT_ATTENTION_BLOCK);
    return mixt_most(heads, FEW_ROWS);
}

/* Rows that see nothing, where another operator has them. */
static bool is_elsewhere(const mixt_call *call, int64_t t)
{
    return call->attributes->partial && ((const int32_t *)call->in[ATTENTION_FIRST])[t] >
                                            ((const int32_t *)call->in[ATTENTION_LAST])[t];
}

static void divide_rows(cached_rows *rows, const mixt_attention_sizes *sizes)
{
    const mixt_call *call = rows->call;
    int64_t units = MIXT_REAL(mixt_attention_units)(call, sizes, sizes->blocks);
    mixt_pages pages = mixt_pages_of(call, ATTENTION_PAGES, ATTENTION_SEQUENCE);
    int64_t group = sizes->heads / sizes->kv_heads, end;
    for (int64_t begin = 0; begin < call->tokens; begin = end) {
        int64_t most = mixt_least(begin + units * MIXT_ATTENTION_BLOCK, call->tokens);
        end = begin + 1;
        if (is_elsewhere(call, begin)) {
            continue;
        }
        while (end < most && mixt_pages_same(&pages, begin, end) && !is_elsewhere(call, end)) {
            end++;
        }
        if (end - begin >= FEW_ROWS) {
            insert(call, rows->blocks, &rows->block_count,
                   (row_block){(int32_t)begin, (int32_t)(end - begin)});
            continue;
        }
        for (int64_t t = begin; t < end; t++) {
            insert(call, rows->single, &rows->single_count, (row_block){(int32_t)t, 1});
        }
    }
    rows->heads = heads_of_item(call, sizes, rows->single_count);
    rows->parts = mixt_divide_up(group, rows->heads);
}

static void attention_forward_cached(void *context, int64_t at, int thread)
{
    const cached_rows *rows = context;
    mixt_attention_sizes sizes = mixt_attention_measure(rows->call);
    int64_t of_blocks = rows->block_count * sizes.heads, group = sizes.heads / sizes.kv_heads;
    mixt_attention_item item = {.call = rows->call, .heads = 1};
    row_block of;
    if (at < of_blocks) {
        of = rows->blocks[at / sizes.heads];
        item.head = at % sizes.heads;
    } else {
        at -= of_blocks;
        int64_t part = at % rows->parts, kv_head = at / rows->parts % sizes.kv_heads;
        of = rows->single[at / rows->parts / sizes.kv_heads];
        item.head = kv_head * group + part * rows->heads;
        item.heads = mixt_least(rows->heads, group - part * rows->heads);
    }
    item.rows = (mixt_range){of.begin, of.begin + of.count};
    MIXT_REAL(mixt_attention_run_item)(&item, thread);
}

void MIXT_REAL(mixt_attention_forward)(const mixt_call *call)
{
    mixt_attention_sizes sizes = mixt_attention_measure(call);
    if (call->attributes->window > 0) {
        MIXT_REAL(mixt_attention_window)(call);
        return;
    }
    row_block *lists = call->workspace;
    cached_rows rows = {.call = call, .blocks = lists, .single = lists + call->tokens};
    divide_rows(&rows, &sizes);
    if (sizes.heads / sizes.kv_heads <= MIXT_ATTENTION_GROUP_MAX && rows.single_count > 0) {
        int32_t *alone = (int32_t *)(void *)(lists + 2 * call->tokens);
        for (int64_t i = 0; i < rows.single_count; i++) {
            alone[i] = rows.single[i].begin;
        }
        int64_t lists_end = mixt_divide_up(MIXT_ATTENTION_LIST_REALS * call->tokens, 16) * 16;
        MIXT_REAL(mixt_attention_cached)
        (call, alone, rows.single_count, (real *)call->workspace + lists_end);
        rows.single_count = 0;
    }
    mixt_pool_run(call->compute->pool,
                  rows.block_count * sizes.heads + rows.single_count * sizes.kv_heads * rows.parts,
                  attention_forward_cached, &rows);
}
