/* attention: causal grouped-query attention without a T x T matrix, after FlashAttention-2 (Dao
 * 2023); and kv_write, which fills its cache.
 *
 * A row's softmax is online over its own blocks of 64 keys, counted from the start of its sequence:
 * blocks that the row does not see leave its maximum, sum and output alone, and keys that it does
 * not see weigh exactly zero. So a row's bits are the same in a training window, in a prompt and
 * alone behind a cache. */
#include "ops/attention.h"

#if !MIXT_REAL_IS_DOUBLE

/* kv_write */

mixt_status mixt_kv_write_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape k = request->in[0], cache = request->in[3];
    MIXT_TRY(mixt_expect_matrix(&k, "kv_write: k", error));
    MIXT_TRY(mixt_expect_matrix(&cache, "kv_write: cache_k", error));
    MIXT_TRY(mixt_expect(&request->in[1], k, "kv_write: v", error));
    MIXT_TRY(mixt_expect(&request->in[2], mixt_shape_integers(mixt_shape_leading(k)),
                         "kv_write: slots", error));
    MIXT_TRY(mixt_expect(&cache, mixt_shape_static(2, cache.size[0], k.size[1], 0),
                         "kv_write: cache_k", error));
    return mixt_expect(&request->in[4], cache, "kv_write: cache_v", error);
}

void mixt_kv_write_cost(const mixt_attributes *attributes, const mixt_shape *in,
                        const mixt_shape *out, int64_t tokens, mixt_cost *cost)
{
    (void)attributes;
    (void)out;
    *cost = (mixt_cost){0, 16 * mixt_shape_values(&in[0], tokens), 0, 0};
}

/* attention */

mixt_status mixt_attention_shape(mixt_shape_request *request, mixt_error *error)
{
    const mixt_attributes *attributes = request->attributes;
    mixt_shape q = request->in[0], k = request->in[1];
    int64_t heads = attributes->heads, kv_heads = attributes->kv_heads, n = attributes->head_dim;
    if (heads < 1 || kv_heads < 1 || n < 1 || heads % kv_heads != 0 || attributes->window < 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "attention: %lld heads on %lld kv heads of %lld are not possible",
                         (long long)heads, (long long)kv_heads, (long long)n);
    }
    MIXT_TRY(mixt_expect_matrix(&q, "attention: q", error));
    MIXT_TRY(mixt_expect_matrix(&k, "attention: k", error));
    MIXT_TRY(
        mixt_expect(&q, mixt_shape_tokens(request->capacity, 1, heads * n), "attention: q", error));
    mixt_shape keys = attributes->window > 0 ? mixt_shape_tokens(request->capacity, 1, 1) : k;
    MIXT_TRY(mixt_expect(&k, mixt_shape_columns(keys, kv_heads * n), "attention: k", error));
    MIXT_TRY(mixt_expect(&request->in[2], k, "attention: v", error));
    mixt_shape rows = mixt_shape_integers(mixt_shape_leading(q));
    MIXT_TRY(mixt_expect(&request->in[3], rows, "attention: first", error));
    MIXT_TRY(mixt_expect(&request->in[4], rows, "attention: last", error));
    request->out[0] = q;
    request->out[1] = mixt_shape_columns(q, heads);
    request->backward_workspace = q.size[0] * heads; /* delta */
    return MIXT_OK;
}

/* Counts the causal half of a window's keys; with a cache, all of it. */
void mixt_attention_cost(const mixt_attributes *attributes, const mixt_shape *in,
                         const mixt_shape *out, int64_t tokens, mixt_cost *cost)
{
    (void)out;
    double pairs = (double)tokens * (double)in[1].size[0];
    if (attributes->window > 0) {
        double window = (double)attributes->window, rest = (double)(tokens % attributes->window);
        double whole = (double)(tokens / attributes->window);
        pairs = (whole * window * (window + 1) + rest * (rest + 1)) / 2;
    }
    double product = 2 * pairs * attributes->heads * attributes->head_dim;
    double softmax = 5 * pairs * attributes->heads;
    double q = mixt_shape_values(&in[0], tokens), k = mixt_shape_values(&in[1], tokens);
    *cost =
        (mixt_cost){2 * product + softmax, 8 * (q + k), 5 * product + 2 * softmax, 16 * (q + k)};
}
#endif

static void kv_write_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const int32_t *slots = call->in[2];
    int64_t n = call->in_shape[0].size[1];
    mixt_range range = mixt_chunk(mixt_rows(&call->in_shape[0], call->tokens), MIXT_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        for (int i = 0; i < 2; i++) {
            memcpy((real *)call->in[3 + i] + slots[t] * n, (const real *)call->in[i] + t * n,
                   (size_t)n * sizeof(real));
        }
    }
}

void MIXT_REAL(mixt_kv_write_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, mixt_rows(&call->in_shape[0], call->tokens), MIXT_ROWS, kv_write_rows);
}

/* The state of a block of query rows of one head. */
typedef struct query_block {
    const mixt_call *call;
    mixt_attention_sizes sizes;
    int64_t head;
    mixt_range rows;
    real max[MIXT_ATTENTION_BLOCK]; /* of the scores so far, by row */
    real sum[MIXT_ATTENTION_BLOCK]; /* of exp(score - max) so far */
    real scores[MIXT_ATTENTION_BLOCK * MIXT_ATTENTION_BLOCK];
} query_block;

static real *output_of(const query_block *block, int64_t t)
{
    return (real *)block->call->out[0] + t * block->sizes.q_row +
           block->head * block->sizes.head_dim;
}

/* Turns the scores of `count` keys into exp(score - max) with the new maximum, and brings sums and
 * outputs so far to it. */
static void soften(query_block *block, mixt_range seeing, int64_t key, int64_t count)
{
    const mixt_kernels *kernels = mixt_kernels_of(block->call);
    real change[MIXT_ATTENTION_BLOCK], added[MIXT_ATTENTION_BLOCK];
    int64_t rows = seeing.end - seeing.begin, offset = seeing.begin - block->rows.begin;
    for (int64_t i = 0; i < rows; i++) {
        real *scores = block->scores + i * count, *max = &block->max[offset + i];
        change[i] = added[i] = 0;
        if (mixt_attention_mask(block->call, seeing.begin + i, key, count, scores)) {
            real highest = kernels->max(count, scores);
            highest = highest <= *max ? *max : highest; /* NaN stays */
            change[i] = *max - highest;
            *max = highest;
            added[i] = kernels->exp_sum(count, scores, scores, highest);
        }
    }
    (void)kernels->exp_sum(rows, change, change, 0);
    for (int64_t i = 0; i < rows; i++) {
        if (change[i] != 1) {
            real *y = output_of(block, seeing.begin + i);
            block->sum[offset + i] *= change[i];
            kernels->scale(block->sizes.head_dim, y, change[i], y);
        }
        block->sum[offset + i] += added[i];
    }
}

static void visit_keys(query_block *block, int thread, int64_t key, int64_t count)
{
    const mixt_call *call = block->call;
    const mixt_attention_sizes *sizes = &block->sizes;
    mixt_range seeing = mixt_attention_seeing(call, block->rows, key, count);
    int64_t kv_head = block->head / (sizes->heads / sizes->kv_heads);
    int64_t at = key * sizes->k_row + kv_head * sizes->head_dim;
    if (seeing.begin == seeing.end) {
        return;
    }
    mixt_gemm scores = {
        .m = seeing.end - seeing.begin,
        .n = count,
        .k = sizes->head_dim,
        .a =
            (const real *)call->in[0] + seeing.begin * sizes->q_row + block->head * sizes->head_dim,
        .a_row = sizes->q_row,
        .a_column = 1,
        .b = (const real *)call->in[1] + at,
        .b_row = 1,
        .b_column = sizes->k_row,
        .c = block->scores,
        .c_row = count,
    };
    mixt_gemm_block(call->compute, thread, &scores);
    mixt_kernels_of(call)->scale(scores.m * count, block->scores, sizes->scale, block->scores);
    soften(block, seeing, key, count);
    mixt_gemm values = {
        .m = seeing.end - seeing.begin,
        .n = sizes->head_dim,
        .k = count,
        .a = block->scores,
        .a_row = count,
        .a_column = 1,
        .b = (const real *)call->in[2] + at,
        .b_row = sizes->k_row,
        .b_column = 1,
        .c = output_of(block, seeing.begin),
        .c_row = sizes->q_row,
        .accumulate = true,
    };
    mixt_gemm_block(call->compute, thread, &values);
}

/* An item is a block of query rows and a head; late blocks, which see most, come first. */
static void attention_forward_block(void *context, int64_t item, int thread)
{
    const mixt_call *call = context;
    const int32_t *first = call->in[3], *last = call->in[4];
    query_block block;
    block.call = call;
    block.sizes = mixt_attention_measure(call);
    const mixt_attention_sizes *sizes = &block.sizes;
    block.head = item % sizes->heads;
    int64_t sequence = item / sizes->heads % sizes->sequences;
    block.rows = mixt_attention_rows(call, sizes, sequence,
                                     sizes->blocks - 1 - item / sizes->heads / sizes->sequences);
    int64_t origin = call->attributes->window > 0 ? sequence * sizes->keys : 0;
    int64_t lowest = INT64_MAX, highest = -1;
    for (int64_t t = block.rows.begin; t < block.rows.end; t++) {
        block.max[t - block.rows.begin] = (real)-INFINITY;
        block.sum[t - block.rows.begin] = 0;
        memset(output_of(&block, t), 0, (size_t)sizes->head_dim * sizeof(real));
        if (first[t] <= last[t]) {
            lowest = mixt_least(lowest, first[t] - origin);
            highest = last[t] - origin > highest ? last[t] - origin : highest;
        }
    }
    for (int64_t key = lowest - lowest % MIXT_ATTENTION_BLOCK; key <= highest;
         key += MIXT_ATTENTION_BLOCK) {
        visit_keys(&block, thread, origin + key,
                   mixt_least(MIXT_ATTENTION_BLOCK, highest + 1 - key));
    }
    for (int64_t t = block.rows.begin; t < block.rows.end; t++) {
        real sum = block.sum[t - block.rows.begin], *y = output_of(&block, t);
        real *log_sum = (real *)call->out[1] + t * sizes->heads + block.head;
        *log_sum = 0; /* a row that sees nothing: y = 0 */
        if (first[t] <= last[t]) {
            mixt_kernels_of(call)->scale(sizes->head_dim, y, 1 / sum, y);
            *log_sum = block.max[t - block.rows.begin] + (real)log((double)sum);
        }
    }
}

void MIXT_REAL(mixt_attention_forward)(const mixt_call *call)
{
    mixt_attention_sizes sizes = mixt_attention_measure(call);
    mixt_pool_run(call->compute->pool, sizes.blocks * sizes.sequences * sizes.heads,
                  attention_forward_block, (void *)call);
}
