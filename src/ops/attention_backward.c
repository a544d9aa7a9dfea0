/* The derivative of attention (attention.c). With p = exp(scale q k - lse) and
 * delta = sum(dy * y) - d lse, by row and head:
 *   dv = p^T dy,  ds = p * (dy v^T - delta) * scale,  dq = ds k,  dk = ds^T q.
 * An item is a sequence and a kv head: it alone adds to its keys and to its heads' queries, blocks
 * in rising order, so the sums have one order whatever the threads do. */
#include "ops/attention.h"

static void delta_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    int64_t heads = call->attributes->heads, n = call->attributes->head_dim;
    const real *d_lse = call->d_out[1];
    real *delta = call->workspace;
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item);
    for (int64_t i = range.begin * heads; i < range.end * heads; i++) {
        delta[i] = mixt_kernels_of(call)->dot(n, (const real *)call->d_out[0] + i * n,
                                              (const real *)call->out[0] + i * n);
        delta[i] -= d_lse != NULL ? d_lse[i] : 0;
    }
}

/* A block of queries of one head beside a block of keys. */
typedef struct block_pair {
    const mixt_call *call;
    mixt_attention_sizes sizes;
    int64_t head, kv_head;
    mixt_range rows;    /* queries that see one of the keys */
    int64_t key, count; /* keys */
    int64_t q_at, k_at; /* where the block starts in q, dy, dq; in k, v, dk, dv */
    int thread;
    real weights[MIXT_ATTENTION_BLOCK * MIXT_ATTENTION_BLOCK];   /* p [rows, count] */
    real d_weights[MIXT_ATTENTION_BLOCK * MIXT_ATTENTION_BLOCK]; /* ds [rows, count] */
} block_pair;

/* c [rows, count] = left right^T over a head's dimension; left by query, right by key. */
static void compare(const block_pair *pair, const real *left, const real *right, real *c)
{
    mixt_gemm product = {
        .m = pair->rows.end - pair->rows.begin,
        .n = pair->count,
        .k = pair->sizes.head_dim,
        .a = left + pair->q_at,
        .a_row = pair->sizes.q_row,
        .a_column = 1,
        .b = right + pair->k_at,
        .b_row = 1,
        .b_column = pair->sizes.k_row,
        .c = c,
        .c_row = pair->count,
    };
    mixt_gemm_block(pair->call->compute, pair->thread, &product);
}

/* p and ds of the pair */
static void weigh(block_pair *pair)
{
    const mixt_call *call = pair->call;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int64_t rows = pair->rows.end - pair->rows.begin, count = pair->count;
    compare(pair, call->in[0], call->in[1], pair->weights);
    kernels->scale(rows * count, pair->weights, pair->sizes.scale, pair->weights);
    compare(pair, call->d_out[0], call->in[2], pair->d_weights);
    for (int64_t i = 0; i < rows; i++) {
        int64_t t = pair->rows.begin + i, row = t * pair->sizes.heads + pair->head;
        real *weights = pair->weights + i * count, *d_weights = pair->d_weights + i * count;
        real delta = ((const real *)call->workspace)[row];
        if (mixt_attention_mask(call, t, pair->key, count, weights)) {
            (void)kernels->exp_sum(count, weights, weights, ((const real *)call->out[1])[row]);
        }
        kernels->multiply(count, d_weights, d_weights, weights);
        kernels->axpy(count, d_weights, -delta, weights);
    }
    kernels->scale(rows * count, pair->d_weights, pair->sizes.scale, pair->d_weights);
}

/* d keys [count, head_dim] += c^T other, with c [rows, count] and other by query */
static void add_to_keys(const block_pair *pair, const real *c, const real *other, real *d_keys)
{
    if (d_keys == NULL) {
        return;
    }
    mixt_gemm product = {
        .m = pair->count,
        .n = pair->sizes.head_dim,
        .k = pair->rows.end - pair->rows.begin,
        .a = c,
        .a_row = 1,
        .a_column = pair->count,
        .b = other + pair->q_at,
        .b_row = pair->sizes.q_row,
        .b_column = 1,
        .c = d_keys + pair->k_at,
        .c_row = pair->sizes.k_row,
        .accumulate = true,
    };
    mixt_gemm_block(pair->call->compute, pair->thread, &product);
}

static void add_to_queries(const block_pair *pair)
{
    const mixt_call *call = pair->call;
    if (call->d_in[0] == NULL) {
        return;
    }
    mixt_gemm product = {
        .m = pair->rows.end - pair->rows.begin,
        .n = pair->sizes.head_dim,
        .k = pair->count,
        .a = pair->d_weights,
        .a_row = pair->count,
        .a_column = 1,
        .b = (const real *)call->in[1] + pair->k_at,
        .b_row = pair->sizes.k_row,
        .b_column = 1,
        .c = (real *)call->d_in[0] + pair->q_at,
        .c_row = pair->sizes.q_row,
        .accumulate = true,
    };
    mixt_gemm_block(call->compute, pair->thread, &product);
}

/* All queries of a sequence and of the heads of a kv head that see the pair's keys. */
static void visit_queries(block_pair *pair, int64_t sequence)
{
    const mixt_call *call = pair->call;
    const mixt_attention_sizes *sizes = &pair->sizes;
    int64_t group = sizes->heads / sizes->kv_heads;
    for (pair->head = pair->kv_head * group; pair->head < (pair->kv_head + 1) * group;
         pair->head++) {
        for (int64_t block = 0; block < sizes->blocks; block++) {
            mixt_range rows = mixt_attention_rows(call, sizes, sequence, block);
            pair->rows = mixt_attention_seeing(call, rows, pair->key, pair->count);
            if (pair->rows.begin == pair->rows.end) {
                continue;
            }
            pair->q_at = pair->rows.begin * sizes->q_row + pair->head * sizes->head_dim;
            weigh(pair);
            add_to_keys(pair, pair->weights, call->d_out[0], call->d_in[2]);
            add_to_keys(pair, pair->d_weights, call->in[0], call->d_in[1]);
            add_to_queries(pair);
        }
    }
}

static void attention_backward_item(void *context, int64_t item, int thread)
{
    const mixt_call *call = context;
    block_pair pair;
    pair.call = call;
    pair.sizes = mixt_attention_measure(call);
    pair.thread = thread;
    pair.kv_head = item % pair.sizes.kv_heads;
    int64_t sequence = item / pair.sizes.kv_heads;
    int64_t origin = call->attributes->window > 0 ? sequence * pair.sizes.keys : 0;
    int64_t end = mixt_least(origin + pair.sizes.keys, mixt_rows(&call->in_shape[1], call->tokens));
    for (pair.key = origin; pair.key < end; pair.key += MIXT_ATTENTION_BLOCK) {
        pair.count = mixt_least(MIXT_ATTENTION_BLOCK, end - pair.key);
        pair.k_at = pair.key * pair.sizes.k_row + pair.kv_head * pair.sizes.head_dim;
        visit_queries(&pair, sequence);
    }
}

void MIXT_REAL(mixt_attention_backward)(const mixt_call *call)
{
    mixt_attention_sizes sizes = mixt_attention_measure(call);
    int64_t keys = mixt_rows(&call->in_shape[1], call->tokens);
    mixt_put_zero(call, 0, call->tokens * sizes.q_row);
    mixt_put_zero(call, 1, keys * sizes.k_row);
    mixt_put_zero(call, 2, keys * sizes.k_row);
    if (call->d_out[0] == NULL) {
        return;
    }
    mixt_for_chunks(call, call->tokens, MIXT_ROWS, delta_rows);
    mixt_pool_run(call->compute->pool, sizes.sequences * sizes.kv_heads, attention_backward_item,
                  (void *)call);
}
