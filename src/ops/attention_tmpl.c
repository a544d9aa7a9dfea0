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

/* The state of a block of queries: rows of one head, or in generation heads of one row that share a
 * kv head. Scores are held transposed, [keys, queries], so
 * that the softmax runs across queries and the weights are the second product's B as they are. */
typedef struct query_block {
    const mixt_call *call;
    mixt_attention_sizes sizes;
    mixt_pages pages;
    int64_t head, heads; /* the first, and how many; one where there are more rows than one */
    mixt_range rows;
    int64_t count;                     /* queries */
    real max[MIXT_ATTENTION_BLOCK];    /* of the scores so far, by row */
    real sum[MIXT_ATTENTION_BLOCK];    /* of exp(score - max) so far */
    real change[MIXT_ATTENTION_BLOCK]; /* of the sums by the last block of keys */
    real first[MIXT_ATTENTION_BLOCK], last[MIXT_ATTENTION_BLOCK];
    real scores[MIXT_ATTENTION_BLOCK * MIXT_ATTENTION_BLOCK];
    mixt_panels queries; /* q^T, B [head_dim, rows] */
    mixt_panels keys;    /* k or v^T, A */
    mixt_panels weights; /* B [keys, rows] */
    real *output;        /* y^T [head_dim, MIXT_ATTENTION_BLOCK] */
} query_block;

/* A few rows are multiplied one by one: the same bits for less work. So are fewer heads of a row,
 * which have their keys in common, than FEW_HEADS. */
#define FEW_ROWS 8
#define FEW_HEADS 3

static int64_t row_of(const query_block *block, int64_t query)
{
    return block->rows.begin + (block->heads > 1 ? 0 : query);
}

static int64_t head_of(const query_block *block, int64_t query)
{
    return block->head + (block->heads > 1 ? query : 0);
}

static real *output_of(const query_block *block, int64_t query)
{
    return (real *)block->call->out[ATTENTION_Y] + row_of(block, query) * block->sizes.y_row +
           head_of(block, query) * block->sizes.value_dim;
}

static const real *query_of(const query_block *block, int64_t query)
{
    return (const real *)block->call->in[ATTENTION_Q] + row_of(block, query) * block->sizes.q_row +
           head_of(block, query) * block->sizes.head_dim;
}

/* The online softmax of queries [begin, end) of the block over `count` keys, of capped scores where
 * there is a cap. */
static void softmax_block(query_block *block, mixt_range queries, int64_t count, int64_t stride,
                          mixt_sight sight)
{
    int64_t at = queries.begin;
    const mixt_kernels *kernels = mixt_kernels_of(block->call);
    for (int64_t key = 0; key < count && block->sizes.soft_cap > 0; key++) {
        mixt_attention_cap(kernels, &block->sizes, queries.end - at, block->scores + key * stride);
    }
    MIXT_REAL(mixt_scores)
    scores = {
        .keys = count,
        .queries = queries.end - at,
        .stride = stride,
        .scores = block->scores,
        .scale = mixt_softmax_scale(&block->sizes),
        .first = sight == MIXT_SEES_ALL ? NULL : block->first + at,
        .last = block->last + at,
        .max = block->max + at,
        .sum = block->sum + at,
        .change = block->change + at,
    };
    kernels->softmax(&scores);
}

/* Everything that a thread packs lies in its buffers, which are one block. */
#define BLOCKS_BYTES                                                                               \
    ((size_t)(2 * MIXT_ATTENTION_HEAD_MAX * (MIXT_ATTENTION_BLOCK + 32) +                          \
              MIXT_ATTENTION_BLOCK * (MIXT_ATTENTION_BLOCK + 32) +                                 \
              MIXT_ATTENTION_HEAD_MAX * MIXT_ATTENTION_BLOCK) *                                    \
     sizeof(real))
_Static_assert(BLOCKS_BYTES <= MIXT_GEMM_THREAD_BYTES,
               "the blocks of attention are larger than a thread's buffers");

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

_Static_assert(BLOCKS_BYTES <= MIXT_WIDENED_AT * sizeof(real) &&
                   MIXT_GEMM_A_BYTES + MIXT_GEMM_B_BYTES <= MIXT_WIDENED_AT * sizeof(real),
               "widened keys lie in the blocks of attention");

static mixt_attention_keys widened(const mixt_attention_source *from, mixt_range rows, int thread)
{
    const mixt_call *call = from->call;
    real *k = (real *)call->compute->gemm->a[thread] + MIXT_WIDENED_AT;
    real *v = call->in[ATTENTION_V] == call->in[ATTENTION_K] ? k : k + MIXT_WIDENED_VALUES;
    widen_rows(from, ATTENTION_K, rows, from->sizes->head_dim, k);
    if (v != k) {
        widen_rows(from, ATTENTION_V, rows, from->sizes->v_head, v);
    }
    return (mixt_attention_keys){k, v, rows.end - rows.begin};
}

mixt_attention_keys MIXT_REAL(mixt_attention_find_keys)(const mixt_attention_source *from,
                                                        mixt_range at, int thread)
{
    int64_t count = at.end - at.begin;
    const mixt_call *call = from->call;
    const mixt_attention_sizes *sizes = from->sizes;
    int64_t kv_head = from->head / (sizes->heads / sizes->kv_heads);
    int64_t row = mixt_pages_row(&from->pages, from->row, at.begin);
    assert(row + count <= mixt_rows(&call->in_shape[ATTENTION_K], call->tokens));
    if (call->attributes->cache_type != MIXT_TYPE_F32) {
        return widened(from, (mixt_range){row, row + count}, thread);
    }
    return (mixt_attention_keys){
        (const real *)call->in[ATTENTION_K] + row * sizes->k_row + kv_head * sizes->head_dim,
        (const real *)call->in[ATTENTION_V] + row * sizes->v_row + kv_head * sizes->v_head, count};
}

/* The values are summed as the product's chain is: multiply-adds in rising key from zero, then to
 * what y was. */
static void visit_rows(query_block *block, const mixt_attention_keys *keys, mixt_sight sight,
                       int thread)
{
    const mixt_call *call = block->call;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    real sum[MIXT_ATTENTION_HEAD_MAX];
    const mixt_attention_sizes *sizes = &block->sizes;
    int64_t count = keys->count;
    for (int64_t at = 0; at < block->count; at++) {
        real *y = output_of(block, at);
        mixt_gemm product = {
            .m = 1,
            .n = count,
            .k = sizes->head_dim,
            .a = query_of(block, at),
            .a_row = sizes->head_dim,
            .a_column = 1,
            .b = keys->k,
            .b_row = 1,
            .b_column = sizes->k_row,
            .c = block->scores,
            .c_row = count,
        };
        mixt_gemm_block(call->compute, thread, &product);
        softmax_block(block, (mixt_range){at, at + 1}, count, 1, sight);
        kernels->scale(sizes->value_dim, y, block->change[at], y);
        memset(sum, 0, (size_t)sizes->value_dim * sizeof *sum);
        for (int64_t key = 0; key < count; key++) {
            kernels->axpy(sizes->value_dim, sum, block->scores[key], keys->v + key * sizes->v_row);
        }
        kernels->add(sizes->value_dim, y, y, sum);
    }
}

static void visit_block(query_block *block, const mixt_attention_keys *keys, mixt_sight sight)
{
    const mixt_call *call = block->call;
    const mixt_attention_sizes *sizes = &block->sizes;
    int64_t rows = block->count, count = keys->count;
    mixt_panels scored = {block->keys.at, sizes->head_dim, count};
    mixt_panels values = {block->keys.at, count, sizes->value_dim};
    mixt_multiply_long(call, &scored, keys->k, sizes->k_row, &block->queries, block->scores);
    softmax_block(block, (mixt_range){0, rows}, count, MIXT_ATTENTION_BLOCK, sight);
    for (int64_t i = 0; i < sizes->value_dim; i++) {
        real *y = block->output + i * MIXT_ATTENTION_BLOCK;
        mixt_kernels_of(call)->multiply(rows, y, y, block->change);
    }
    mixt_pack_a(call, &values, keys->v, sizes->v_row, 1);
    block->weights.k = count;
    mixt_pack_b(call, &block->weights, block->scores, MIXT_ATTENTION_BLOCK, 1);
    mixt_multiply_panels(call, &values, &block->weights, block->output, MIXT_ATTENTION_BLOCK, true);
}

/* Lays out the thread's pack buffers and packs the queries. */
static void begin_block(query_block *block, int thread)
{
    const mixt_attention_sizes *sizes = &block->sizes;
    int64_t rows = block->count;
    block->queries = (mixt_panels){block->call->compute->gemm->a[thread], sizes->head_dim, rows};
    block->keys.at = block->queries.at + mixt_panel_values(sizes->head_dim, MIXT_ATTENTION_BLOCK);
    block->weights = (mixt_panels){block->keys.at + mixt_block_values(sizes->head_dim), 0, rows};
    block->output =
        block->weights.at + mixt_panel_values(MIXT_ATTENTION_BLOCK, MIXT_ATTENTION_BLOCK);
    memset(block->output, 0, (size_t)(sizes->value_dim * MIXT_ATTENTION_BLOCK) * sizeof(real));
    mixt_pack_long_b(block->call, &block->queries, query_of(block, 0),
                     block->heads > 1 ? sizes->head_dim : sizes->q_row);
}

/* Divides by the sums and writes y and the logarithms of the sums. */
static void end_block(query_block *block, bool few)
{
    const mixt_call *call = block->call;
    int64_t n = block->sizes.value_dim;
    for (int64_t at = 0; at < block->count; at++) {
        mixt_attention_end end = {.t = row_of(block, at),
                                  .head = head_of(block, at),
                                  .max = block->max[at],
                                  .sum = block->sum[at]};
        real inverse = mixt_attention_finish(call, &end), *y = output_of(block, at);
        for (int64_t i = 0; i < n && !few; i++) {
            y[i] = block->output[i * MIXT_ATTENTION_BLOCK + at] * inverse;
        }
        if (few) {
            mixt_kernels_of(call)->scale(n, y, inverse, y);
        }
    }
}

static mixt_sight sight_of(query_block *block, int64_t key, int64_t count)
{
    mixt_sight sight =
        mixt_attention_sight(block->call, block->rows, key, count, block->first, block->last);
    for (int64_t i = 1; i < block->heads; i++) {
        block->first[i] = block->first[0];
        block->last[i] = block->last[0];
    }
    return sight;
}

/* All blocks of keys that a block of queries sees. */
static void attend(query_block *block, int thread)
{
    const mixt_call *call = block->call;
    const mixt_attention_sizes *sizes = &block->sizes;
    const int32_t *first = call->in[ATTENTION_FIRST], *last = call->in[ATTENTION_LAST];
    int64_t lowest = INT64_MAX, highest = -1;
    mixt_attention_source source = {call, sizes, block->pages, block->rows.begin, block->head};
    bool few = block->count < FEW_HEADS;
    for (int64_t i = 0; i < block->count; i++) {
        int64_t t = row_of(block, i);
        block->max[i] = (real)-INFINITY;
        block->sum[i] = 0;
        memset(output_of(block, i), 0, (size_t)sizes->value_dim * sizeof(real));
        if (first[t] <= last[t]) {
            assert(first[t] >= 0 && last[t] < sizes->keys);
            lowest = mixt_least(lowest, first[t]);
            highest = mixt_most(highest, last[t]);
        }
    }
    if (!few) {
        begin_block(block, thread);
    }
    for (int64_t key = lowest - lowest % MIXT_ATTENTION_BLOCK; key <= highest;
         key += MIXT_ATTENTION_BLOCK) {
        int64_t count = mixt_least(MIXT_ATTENTION_BLOCK, sizes->keys - key);
        count = mixt_least(count, highest + 1 - key);
        mixt_sight sight = sight_of(block, key, count);
        if (sight == MIXT_SEES_NONE) {
            continue;
        }
        mixt_attention_keys keys =
            MIXT_REAL(mixt_attention_find_keys)(&source, (mixt_range){key, key + count}, thread);
        if (few) {
            visit_rows(block, &keys, sight, thread);
        } else {
            visit_block(block, &keys, sight);
        }
    }
    end_block(block, few);
}

static void of_call(query_block *block, const mixt_call *call)
{
    block->call = call;
    block->sizes = mixt_attention_measure(call);
    block->pages = mixt_pages_of(call, ATTENTION_PAGES, ATTENTION_SEQUENCE);
}

/* The state of a block of rows between two tiles of keys. */
static void carry_state(query_block *block, real *carry, bool back)
{
    size_t row = MIXT_ATTENTION_BLOCK * sizeof(real);
    size_t sums = (size_t)block->sizes.value_dim * row;
    real *sum = carry + MIXT_ATTENTION_BLOCK, *output = sum + MIXT_ATTENTION_BLOCK;
    if (back) {
        memcpy(block->max, carry, row);
        memcpy(block->sum, sum, row);
        memcpy(block->output, output, sums);
        return;
    }
    memcpy(carry, block->max, row);
    memcpy(sum, block->sum, row);
    memcpy(output, block->output, sums);
}

void MIXT_REAL(mixt_attention_visit_tile)(const mixt_attention_visit *visit, int thread)
{
    query_block block;
    const mixt_call *call = visit->call;
    of_call(&block, call);
    const mixt_attention_sizes *sizes = &block.sizes;
    block.head = visit->head;
    block.heads = 1;
    block.rows = visit->rows;
    block.count = visit->rows.end - visit->rows.begin;
    begin_block(&block, thread);
    for (int64_t i = 0; i < MIXT_ATTENTION_BLOCK; i++) {
        block.max[i] = (real)-INFINITY;
        block.sum[i] = 0;
    }
    if (!visit->begins) {
        carry_state(&block, visit->carry, true);
    }
    int64_t kv_head = block.head / (sizes->heads / sizes->kv_heads);
    int64_t seen = ((const int32_t *)call->in[ATTENTION_LAST])[block.rows.end - 1] + (int64_t)1;
    int64_t end = mixt_least(visit->keys.end, seen);
    for (int64_t key = visit->keys.begin; key < end; key += MIXT_ATTENTION_BLOCK) {
        int64_t count = mixt_least(MIXT_ATTENTION_BLOCK, end - key), at = key - visit->keys.begin;
        mixt_sight sight = sight_of(&block, key, count);
        if (sight == MIXT_SEES_NONE) {
            continue;
        }
        mixt_attention_keys keys = {
            (const real *)call->in[ATTENTION_K] + at * sizes->k_row + kv_head * sizes->head_dim,
            (const real *)call->in[ATTENTION_V] + at * sizes->v_row + kv_head * sizes->v_head,
            count};
        visit_block(&block, &keys, sight);
    }
    if (visit->ends) {
        end_block(&block, false);
    } else {
        carry_state(&block, visit->carry, false);
    }
}

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

static void attention_forward_cached(void *context, int64_t item, int thread)
{
    const cached_rows *rows = context;
    query_block block;
    of_call(&block, rows->call);
    const mixt_attention_sizes *sizes = &block.sizes;
    int64_t of_blocks = rows->block_count * sizes->heads, group = sizes->heads / sizes->kv_heads;
    if (item < of_blocks) {
        row_block of = rows->blocks[item / sizes->heads];
        mixt_attention_item item_of = {
            rows->call, {of.begin, of.begin + of.count}, item % sizes->heads, 0};
        MIXT_REAL(mixt_attention_run_item)(&item_of, thread);
        return;
    }
    item -= of_blocks;
    int64_t part = item % rows->parts, kv_head = item / rows->parts % sizes->kv_heads;
    int64_t t = rows->single[item / rows->parts / sizes->kv_heads].begin;
    block.head = kv_head * group + part * rows->heads;
    block.heads = block.count = mixt_least(rows->heads, group - part * rows->heads);
    block.rows = (mixt_range){t, t + 1};
    attend(&block, thread);
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
