/* The derivative of attention (attention_tmpl.c). With s = scale q k, p = exp(s - lse) and
 * delta = sum(dy * y) - d lse, by row and head:
 *   dv = p^T dy,  ds = p * (dy v^T - delta) * scale,  dq = ds k,  dk = ds^T q.
 * A cap, s = c tanh(scale q k / c), multiplies ds by 1 - (s / c)^2. A sink is a key whose value is
 * zero: its d logit is -exp(sink - lse) delta, summed over the rows.
 * An item is a sequence and a kv head: it alone adds to its keys and to its heads' queries, blocks
 * in rising order, so the sums have one order whatever the threads do. */
#include "ops/attention_tmpl.h"

static void delta_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    int64_t heads = call->attributes->heads, n = mixt_attention_value_dim(call->attributes);
    const real *d_lse = call->d_out[ATTENTION_LSE];
    real *delta = call->workspace;
    mixt_range range = mixt_chunk(call->tokens, MIXT_ROWS, item);
    for (int64_t i = range.begin * heads; i < range.end * heads; i++) {
        delta[i] = mixt_kernels_of(call)->dot(n, (const real *)call->d_out[ATTENTION_Y] + i * n,
                                              (const real *)call->out[ATTENTION_Y] + i * n);
        delta[i] -= d_lse != NULL ? d_lse[i] : 0;
    }
}

static void sink_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const real *sinks = call->in[ATTENTION_SINKS];
    const real *lse = call->out[ATTENTION_LSE];
    const real *delta = call->workspace;
    int64_t heads = call->attributes->heads;
    real *sum = (real *)call->workspace + call->tokens * heads + item * heads;
    memset(sum, 0, (size_t)heads * sizeof *sum);
    mixt_range range = mixt_chunk(call->tokens, MIXT_SUM_ROWS, item);
    for (int64_t t = range.begin; t < range.end; t++) {
        for (int64_t head = 0; head < heads; head++) {
            real p = sinks[head] - lse[t * heads + head];
            (void)mixt_kernels_of(call)->exp_sum(1, &p, &p, 0);
            sum[head] -= p * delta[t * heads + head];
        }
    }
}

/* A block of queries of one head beside a block of keys. Weights and their derivatives are held
 * transposed, [keys, queries], as in the forward. */
typedef struct block_pair {
    const mixt_call *call;
    mixt_attention_sizes sizes;
    int64_t head, kv_head;
    mixt_range rows;    /* queries */
    int64_t key, count; /* keys */
    int64_t q_at, y_at; /* where the block starts in q, dq; in dy */
    int64_t k_at, v_at; /* and in k, dk; in v, dv */
    real first[MIXT_ATTENTION_BLOCK], last[MIXT_ATTENTION_BLOCK];
    real lse[MIXT_ATTENTION_BLOCK], delta[MIXT_ATTENTION_BLOCK];
    real weights[MIXT_ATTENTION_BLOCK * MIXT_ATTENTION_BLOCK];   /* p^T [keys, queries] */
    real d_weights[MIXT_ATTENTION_BLOCK * MIXT_ATTENTION_BLOCK]; /* ds^T [keys, queries] */
    real capped[MIXT_ATTENTION_BLOCK * MIXT_ATTENTION_BLOCK];    /* scores, where there is a cap */
    mixt_panels keys_a;                                          /* k by key, A [head_dim, keys] */
    mixt_panels values_a;                                        /* v by key, A [head_dim, keys] */
    mixt_panels keys_b;                                          /* k, B [keys, head_dim] */
    real *a, *b; /* room for one more operand of either side */
} block_pair;

/* Everything that a thread packs lies in its buffers, which are one block. */
_Static_assert((size_t)(4 * MIXT_ATTENTION_HEAD_MAX * (MIXT_ATTENTION_BLOCK + 32) +
                        MIXT_ATTENTION_BLOCK * (MIXT_ATTENTION_BLOCK + 32)) *
                       sizeof(real) <=
                   MIXT_GEMM_THREAD_BYTES,
               "the blocks of attention are larger than a thread's buffers");

/* Operands that the pair's keys give, packed once for all of their queries. */
static void begin_keys(block_pair *pair, int thread)
{
    const mixt_call *call = pair->call;
    const mixt_attention_sizes *sizes = &pair->sizes;
    int64_t n = sizes->head_dim, row = sizes->k_row, count = pair->count;
    int64_t step = mixt_block_values(n);
    const real *k = (const real *)call->in[ATTENTION_K] + pair->k_at;
    const real *v = (const real *)call->in[ATTENTION_V] + pair->v_at;
    pair->keys_a = (mixt_panels){call->compute->gemm->a[thread], n, count};
    pair->values_a = (mixt_panels){pair->keys_a.at + step, sizes->value_dim, count};
    pair->a = pair->values_a.at + step;
    pair->keys_b = (mixt_panels){
        pair->a + mixt_panel_values(MIXT_ATTENTION_BLOCK, MIXT_ATTENTION_BLOCK), count, n};
    pair->b = pair->keys_b.at + step;
    mixt_pack_a(call, &pair->keys_a, k, 1, row);
    mixt_pack_a(call, &pair->values_a, v, 1, sizes->v_row);
    mixt_pack_b(call, &pair->keys_b, k, row, 1);
}

/* ds of capped scores to ds of plain ones: the slope of the cap, and the scale. */
static void uncap(block_pair *pair)
{
    const mixt_attention_sizes *sizes = &pair->sizes;
    int64_t rows = pair->rows.end - pair->rows.begin;
    for (int64_t key = 0; key < pair->count; key++) {
        const real *capped = pair->capped + key * MIXT_ATTENTION_BLOCK;
        real *d = pair->d_weights + key * MIXT_ATTENTION_BLOCK;
        for (int64_t i = 0; i < rows; i++) {
            real share = capped[i] / sizes->soft_cap;
            d[i] *= (1 - share * share) * sizes->scale;
        }
    }
}

static void cap_scores(block_pair *pair)
{
    int64_t rows = pair->rows.end - pair->rows.begin;
    for (int64_t key = 0; key < pair->count; key++) {
        real *scores = pair->weights + key * MIXT_ATTENTION_BLOCK;
        mixt_attention_cap(mixt_kernels_of(pair->call), &pair->sizes, rows, scores);
        memcpy(pair->capped + key * MIXT_ATTENTION_BLOCK, scores, (size_t)rows * sizeof *scores);
    }
}

/* p^T and ds^T of the pair */
static void weigh(block_pair *pair, mixt_sight sight)
{
    const mixt_call *call = pair->call;
    int64_t rows = pair->rows.end - pair->rows.begin, heads = pair->sizes.heads;
    for (int64_t i = 0; i < rows; i++) {
        int64_t at = (pair->rows.begin + i) * heads + pair->head;
        pair->lse[i] = ((const real *)call->out[ATTENTION_LSE])[at];
        pair->delta[i] = ((const real *)call->workspace)[at];
    }
    mixt_panels queries = {pair->b, pair->sizes.head_dim, rows};
    mixt_pack_b(call, &queries, (const real *)call->in[ATTENTION_Q] + pair->q_at, 1,
                pair->sizes.q_row);
    mixt_multiply_panels(call, &pair->keys_a, &queries, pair->weights, MIXT_ATTENTION_BLOCK, false);
    queries.k = pair->sizes.value_dim;
    mixt_pack_b(call, &queries, (const real *)call->d_out[ATTENTION_Y] + pair->y_at, 1,
                pair->sizes.y_row);
    mixt_multiply_panels(call, &pair->values_a, &queries, pair->d_weights, MIXT_ATTENTION_BLOCK,
                         false);
    if (pair->sizes.soft_cap > 0) {
        cap_scores(pair);
    }
    MIXT_REAL(mixt_scores)
    scores = {
        .keys = pair->count,
        .queries = rows,
        .stride = MIXT_ATTENTION_BLOCK,
        .scores = pair->weights,
        .scale = mixt_softmax_scale(&pair->sizes),
        .first = sight == MIXT_SEES_ALL ? NULL : pair->first,
        .last = pair->last,
        .lse = pair->lse,
        .delta = pair->delta,
        .d_scores = pair->d_weights,
    };
    mixt_kernels_of(call)->softmax_backward(&scores);
    if (pair->sizes.soft_cap > 0) {
        uncap(pair);
    }
}

/* Rows of a tensor that a block begins at: n values of each, `row` apart. */
typedef struct block_rows {
    real *at;
    int64_t row, n;
} block_rows;

/* d keys [keys, n] += c^T other, with c^T [keys, queries] and other by query */
static void add_to_keys(const block_pair *pair, const real *c, const real *other, int64_t other_row,
                        block_rows to)
{
    int64_t rows = pair->rows.end - pair->rows.begin;
    mixt_panels left = {pair->a, rows, pair->count}, right = {pair->b, rows, to.n};
    mixt_pack_a(pair->call, &left, c, 1, MIXT_ATTENTION_BLOCK);
    mixt_pack_b(pair->call, &right, other, other_row, 1);
    mixt_multiply_panels(pair->call, &left, &right, to.at, to.row, true);
}

static void add_to_both(const block_pair *pair)
{
    const mixt_call *call = pair->call;
    const mixt_attention_sizes *sizes = &pair->sizes;
    real *dk = call->d_in[ATTENTION_K], *dv = call->d_in[ATTENTION_V];
    if (dv != NULL) {
        add_to_keys(pair, pair->weights, (const real *)call->d_out[ATTENTION_Y] + pair->y_at,
                    sizes->y_row, (block_rows){dv + pair->v_at, sizes->v_row, sizes->value_dim});
    }
    if (dk != NULL) {
        add_to_keys(pair, pair->d_weights, (const real *)call->in[ATTENTION_Q] + pair->q_at,
                    sizes->q_row, (block_rows){dk + pair->k_at, sizes->k_row, sizes->head_dim});
    }
}

/* dq [queries, head_dim] += ds k */
static void add_to_queries(const block_pair *pair)
{
    real *dq = pair->call->d_in[ATTENTION_Q];
    mixt_panels left = {pair->a, pair->count, pair->rows.end - pair->rows.begin};
    if (dq != NULL) {
        mixt_pack_a(pair->call, &left, pair->d_weights, MIXT_ATTENTION_BLOCK, 1);
        mixt_multiply_panels(pair->call, &left, &pair->keys_b, dq + pair->q_at, pair->sizes.q_row,
                             true);
    }
}

/* All queries of a sequence and of the heads of a kv head that see the pair's keys. */
static void visit_queries(block_pair *pair, int64_t sequence)
{
    const mixt_call *call = pair->call;
    const mixt_attention_sizes *sizes = &pair->sizes;
    int64_t group = sizes->heads / sizes->kv_heads;
    for (int64_t block = 0; block < sizes->blocks; block++) {
        pair->rows = mixt_attention_rows(call, sizes, sequence, block);
        mixt_sight sight =
            mixt_attention_sight(call, pair->rows, pair->key, pair->count, pair->first, pair->last);
        if (pair->rows.begin == pair->rows.end || sight == MIXT_SEES_NONE) {
            continue;
        }
        for (int64_t i = 0; i < group; i++) {
            pair->head = pair->kv_head * group + i;
            pair->q_at = pair->rows.begin * sizes->q_row + pair->head * sizes->head_dim;
            pair->y_at = pair->rows.begin * sizes->y_row + pair->head * sizes->value_dim;
            weigh(pair, sight);
            add_to_both(pair);
            add_to_queries(pair);
        }
    }
}

/* Zeroes what the item adds to, unless it adds to what is there: its heads' columns of some rows.
 */
static void begin_gradient(const mixt_call *call, int input, mixt_range rows, int64_t row,
                           mixt_range columns)
{
    for (int64_t t = rows.begin; call->d_in[input] != NULL && !call->add[input] && t < rows.end;
         t++) {
        memset((real *)call->d_in[input] + t * row + columns.begin, 0,
               (size_t)(columns.end - columns.begin) * sizeof(real));
    }
}

static void begin_gradients(const block_pair *pair, int64_t sequence, mixt_range keys)
{
    const mixt_attention_sizes *sizes = &pair->sizes;
    int64_t n = sizes->head_dim, group = n * (sizes->heads / sizes->kv_heads);
    begin_gradient(pair->call, ATTENTION_K, keys, sizes->k_row,
                   (mixt_range){pair->kv_head * n, (pair->kv_head + 1) * n});
    begin_gradient(
        pair->call, ATTENTION_V, keys, sizes->v_row,
        (mixt_range){pair->kv_head * sizes->v_head, (pair->kv_head + 1) * sizes->v_head});
    begin_gradient(pair->call, ATTENTION_Q,
                   mixt_chunk(pair->call->tokens, sizes->sequence, sequence), sizes->q_row,
                   (mixt_range){pair->kv_head * group, (pair->kv_head + 1) * group});
}

static void attention_backward_item(void *context, int64_t item, int thread)
{
    const mixt_call *call = context;
    block_pair pair;
    pair.call = call;
    pair.sizes = mixt_attention_measure(call);
    pair.kv_head = item % pair.sizes.kv_heads;
    int64_t sequence = item / pair.sizes.kv_heads;
    int64_t origin = call->attributes->window > 0 ? sequence * pair.sizes.keys : 0;
    int64_t end =
        mixt_least(origin + pair.sizes.keys, mixt_rows(&call->in_shape[ATTENTION_K], call->tokens));
    begin_gradients(&pair, sequence, (mixt_range){origin, end});
    for (pair.key = origin; pair.key < end; pair.key += MIXT_ATTENTION_BLOCK) {
        pair.count = mixt_least(MIXT_ATTENTION_BLOCK, end - pair.key);
        pair.k_at = pair.key * pair.sizes.k_row + pair.kv_head * pair.sizes.head_dim;
        pair.v_at = pair.key * pair.sizes.v_row + pair.kv_head * pair.sizes.v_head;
        begin_keys(&pair, thread);
        visit_queries(&pair, sequence);
    }
}

void MIXT_REAL(mixt_attention_backward)(const mixt_call *call)
{
    mixt_attention_sizes sizes = mixt_attention_measure(call);
    assert(call->in[ATTENTION_PAGES] == NULL); /* which are of generation */
    if (call->d_out[ATTENTION_Y] == NULL) {
        int64_t keys = mixt_rows(&call->in_shape[ATTENTION_K], call->tokens);
        mixt_put_zero(call, ATTENTION_Q, call->tokens * sizes.q_row);
        mixt_put_zero(call, ATTENTION_K, keys * sizes.k_row);
        mixt_put_zero(call, ATTENTION_V, keys * sizes.v_row);
        mixt_put_zero(call, ATTENTION_SINKS, sizes.heads);
        return;
    }
    mixt_for_chunks(call, call->tokens, MIXT_ROWS, delta_rows);
    if (call->d_in[ATTENTION_SINKS] != NULL) {
        mixt_for_chunks(call, call->tokens, MIXT_SUM_ROWS, sink_rows);
        mixt_put_zero(call, ATTENTION_SINKS, sizes.heads);
        mixt_add_sum(mixt_kernels_of(call), sizes.heads, call->d_in[ATTENTION_SINKS],
                     (const real *)call->workspace + call->tokens * sizes.heads,
                     mixt_divide_up(call->tokens, MIXT_SUM_ROWS), sizes.heads);
    }
    mixt_pool_run(call->compute->pool, sizes.sequences * sizes.kv_heads, attention_backward_item,
                  (void *)call);
}
