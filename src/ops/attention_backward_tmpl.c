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

/* A block of queries of one head, whose operands are packed once for all blocks of keys. */
typedef struct query_unit {
    mixt_range rows;
    int64_t head;
    int64_t begin, end; /* of the keys that all rows see, counted from the batch's first row */
    int64_t seen_begin, seen_end;    /* of those that a row sees */
    mixt_panels q_by_row, dy_by_row; /* A [head_dim, rows] and [value_dim, rows] */
    mixt_panels q, dy;               /* A [rows, head_dim] and [rows, value_dim] */
    real first[MIXT_ATTENTION_BLOCK], last[MIXT_ATTENTION_BLOCK];
    real lse[MIXT_ATTENTION_BLOCK], delta[MIXT_ATTENTION_BLOCK];
} query_unit;

#define UNITS 8 /* at most, of an item at a time */

/* Some units beside a block of keys. Weights and their derivatives are [rows, keys] in panels of B,
 * and what they are multiplied into lies transposed until the block's queries are through. */
typedef struct block_pair {
    const mixt_call *call;
    mixt_attention_sizes sizes;
    int64_t kv_head;
    int64_t key, count;                 /* keys */
    real *weights, *d_weights, *capped; /* p, ds, and scores where there is a cap */
    mixt_panels keys_b, values_b;       /* k and v by key, B [head_dim, keys], [value_dim, keys] */
    mixt_panels keys;                   /* k, B [keys, head_dim] */
    mixt_panels d_keys, d_values; /* dk^T, dv^T [head_dim, keys], [value_dim, keys] in panels; the
                                     same where k and v are one input, as of latent attention */
    real *room;                   /* ds^T, A [keys, rows]; or for packing */
    real *operands;               /* of the units */
    int units;
    query_unit unit[UNITS];
} block_pair;

/* Values of the thread's buffers that all units share: four blocks of scores, six blocks that
 * are as long as a head. A unit has four. */
#define SCORES (MIXT_ATTENTION_BLOCK * (MIXT_ATTENTION_BLOCK + 32))
#define SHARED_BLOCKS 6
#define UNIT_BLOCKS 4
_Static_assert((4 * SCORES + (size_t)(SHARED_BLOCKS + UNIT_BLOCKS) * MIXT_ATTENTION_HEAD_MAX *
                                 (MIXT_ATTENTION_BLOCK + 8)) *
                       sizeof(real) <=
                   MIXT_THREAD_BYTES,
               "the blocks of attention are larger than a thread's buffers");

/* The longest panels of a block of rows by n values in this tier, whichever of both is their k. */
static int64_t block_values(const mixt_call *call, int64_t n)
{
    const MIXT_REAL(mixt_gemm_kernels) *gemm = MIXT_GEMM_KERNELS(call);
    int64_t width = mixt_most(mixt_panel_columns(MIXT_ATTENTION_BLOCK, gemm->tile_columns),
                              mixt_panel_columns(MIXT_ATTENTION_BLOCK, gemm->tile_rows));
    int64_t columns = mixt_most(mixt_panel_columns(n, gemm->tile_columns),
                                mixt_panel_columns(n, gemm->tile_rows));
    return mixt_most(n * width, MIXT_ATTENTION_BLOCK * columns);
}

/* Is v the beginning of k's columns? */
static bool one_input(const mixt_call *call)
{
    return call->d_in[ATTENTION_K] != NULL && call->d_in[ATTENTION_K] == call->d_in[ATTENTION_V];
}

/* Lays out the thread's buffers; returns how many units they hold. */
static int lay_out(block_pair *pair, int thread)
{
    int64_t block = block_values(pair->call, pair->sizes.head_dim);
    real *at = pair->call->compute->gemm->a[thread];
    memset(at, 0, 3 * SCORES * sizeof *at); /* lanes behind the last key */
    pair->weights = at;
    pair->d_weights = at + SCORES;
    pair->capped = at + 2 * SCORES;
    at += 3 * SCORES;
    pair->keys_b.at = at;
    pair->values_b.at = at + block;
    pair->keys.at = at + 2 * block;
    pair->d_keys.at = at + 3 * block;
    pair->d_values.at = one_input(pair->call) ? pair->d_keys.at : at + 4 * block;
    pair->room = at + 5 * block;
    pair->operands = pair->room + SCORES + block; /* whichever is longer */
    int64_t room = (int64_t)(MIXT_THREAD_BYTES / sizeof(real)) - 4 * SCORES;
    int64_t units = (room - SHARED_BLOCKS * block) / (UNIT_BLOCKS * block);
    assert(units >= 1 &&
           SCORES >= MIXT_ATTENTION_BLOCK *
                         mixt_panel_columns(MIXT_ATTENTION_BLOCK,
                                            MIXT_GEMM_KERNELS(pair->call)->tile_columns));
    return (int)mixt_least(units, UNITS);
}

static void begin_unit(const block_pair *pair, query_unit *unit, real *at)
{
    const mixt_call *call = pair->call;
    const mixt_attention_sizes *sizes = &pair->sizes;
    const int32_t *first = call->in[ATTENTION_FIRST], *last = call->in[ATTENTION_LAST];
    int64_t rows = unit->rows.end - unit->rows.begin;
    int64_t block = block_values(call, sizes->head_dim);
    const real *q = (const real *)call->in[ATTENTION_Q] + unit->rows.begin * sizes->q_row +
                    unit->head * sizes->head_dim;
    const real *dy = (const real *)call->d_out[ATTENTION_Y] + unit->rows.begin * sizes->y_row +
                     unit->head * sizes->value_dim;
    unit->begin = unit->seen_end = 0;
    unit->end = unit->seen_begin = INT64_MAX;
    for (int64_t i = 0; i < rows; i++) {
        int64_t t = unit->rows.begin + i;
        unit->lse[i] = ((const real *)call->out[ATTENTION_LSE])[t * sizes->heads + unit->head];
        unit->delta[i] = ((const real *)call->workspace)[t * sizes->heads + unit->head];
        unit->begin = mixt_most(unit->begin, first[t]);
        unit->end = mixt_least(unit->end, last[t] + 1);
        if (first[t] <= last[t]) {
            unit->seen_begin = mixt_least(unit->seen_begin, first[t]);
            unit->seen_end = mixt_most(unit->seen_end, last[t] + 1);
        }
    }
    unit->q_by_row = (mixt_panels){at, sizes->head_dim, rows};
    unit->dy_by_row = (mixt_panels){at + block, sizes->value_dim, rows};
    unit->q = (mixt_panels){at + 2 * block, rows, sizes->head_dim};
    unit->dy = (mixt_panels){at + 3 * block, rows, sizes->value_dim};
    mixt_pack_a(call, &unit->q_by_row, q, 1, sizes->q_row);
    mixt_pack_a(call, &unit->dy_by_row, dy, 1, sizes->y_row);
    mixt_pack_a(call, &unit->q, q, sizes->q_row, 1);
    mixt_pack_a(call, &unit->dy, dy, sizes->y_row, 1);
}

/* Where a gradient of the keys lies: the block's rows of an input's kv head. */
static real *gradient_of_keys(const block_pair *pair, int input, int64_t row, int64_t n)
{
    real *gradient = pair->call->d_in[input];
    return gradient != NULL ? gradient + pair->key * row + pair->kv_head * n : NULL;
}

/* A gradient of the keys [keys, n] into panels, transposed: what is there, or zeros. */
static void begin_gradient(const block_pair *pair, mixt_panels to, const real *gradient,
                           int64_t row, bool zero)
{
    int width = MIXT_GEMM_KERNELS(pair->call)->tile_columns;
    if (gradient == NULL || zero) {
        memset(to.at, 0, (size_t)(to.k * mixt_panel_columns(to.width, width)) * sizeof(real));
    } else {
        mixt_pack_b(pair->call, &to, gradient, 1, row);
    }
}

static void end_gradient(const block_pair *pair, mixt_panels from, real *gradient, int64_t row)
{
    int64_t width = MIXT_GEMM_KERNELS(pair->call)->tile_columns;
    for (int64_t column = 0; gradient != NULL && column < from.width; column += width) {
        mixt_transposed part = {
            .x = from.at + column * from.k,
            .x_row = width,
            .n = from.k,
            .columns = mixt_least(width, from.width - column),
            .room = pair->room,
        };
        mixt_put_transposed(pair->call, &part, gradient + column * row, row);
    }
}

/* Operands that the pair's keys give, packed once for the units. */
static void begin_keys(block_pair *pair)
{
    const mixt_call *call = pair->call;
    const mixt_attention_sizes *sizes = &pair->sizes;
    int64_t n = sizes->head_dim, count = pair->count;
    const real *k =
        (const real *)call->in[ATTENTION_K] + pair->key * sizes->k_row + pair->kv_head * n;
    const real *v = (const real *)call->in[ATTENTION_V] + pair->key * sizes->v_row +
                    pair->kv_head * sizes->v_head;
    pair->keys_b = (mixt_panels){pair->keys_b.at, n, count};
    pair->values_b = (mixt_panels){pair->values_b.at, sizes->value_dim, count};
    pair->keys = (mixt_panels){pair->keys.at, count, n};
    mixt_pack_b(call, &pair->keys_b, k, 1, sizes->k_row);
    mixt_pack_b(call, &pair->values_b, v, 1, sizes->v_row);
    mixt_pack_b(call, &pair->keys, k, sizes->k_row, 1);
}

/* Some rows of a unit, from a tile's first on, beside one panel of keys. */
typedef struct panel_part {
    int64_t column, width; /* keys of the block */
    int64_t begin, rows;   /* the first row, and those from there on */
    real *weights, *d_weights, *capped;
} panel_part;

/* c [rows, keys] = a b^T of a part, c in the panel's rows */
static void multiply_part(const block_pair *pair, const panel_part *part, const mixt_panels *a,
                          const mixt_panels *b, real *c)
{
    const MIXT_REAL(mixt_gemm_kernels) *gemm = MIXT_GEMM_KERNELS(pair->call);
    int64_t height = gemm->tile_rows;
    for (int64_t i = 0; i < part->rows; i += height) {
        gemm->tile(a->k, a->at + (part->begin + i) * a->k, b->at + part->column * b->k,
                   c + i * gemm->tile_columns, gemm->tile_columns,
                   (int)mixt_least(height, part->rows - i), (int)part->width, false);
    }
}

/* The first rows of c^T [c.k, keys] += a^T w, with a [rows, n] and w [rows, keys] of the part */
static void add_transposed(const block_pair *pair, const panel_part *part, const mixt_panels *a,
                           const real *w, mixt_panels to)
{
    const MIXT_REAL(mixt_gemm_kernels) *gemm = MIXT_GEMM_KERNELS(pair->call);
    int64_t height = gemm->tile_rows, width = gemm->tile_columns;
    real *c = to.at + part->column * to.k;
    for (int64_t i = 0; i < a->width; i += height) {
        gemm->tile(part->rows, a->at + i * a->k + part->begin * height, w, c + i * width, width,
                   (int)mixt_least(height, a->width - i), (int)part->width, true);
    }
}

static void cap_scores(const block_pair *pair, const panel_part *part)
{
    int64_t width = MIXT_GEMM_KERNELS(pair->call)->tile_columns;
    for (int64_t i = 0; i < part->rows; i++) {
        real *scores = part->weights + i * width;
        mixt_attention_cap(mixt_kernels_of(pair->call), &pair->sizes, part->width, scores);
        memcpy(part->capped + i * width, scores, (size_t)part->width * sizeof *scores);
    }
}

/* ds of capped scores to ds of plain ones: the slope of the cap, and the scale. */
static void uncap(const block_pair *pair, const panel_part *part)
{
    int64_t width = MIXT_GEMM_KERNELS(pair->call)->tile_columns;
    for (int64_t i = 0; i < part->rows; i++) {
        for (int64_t key = 0; key < part->width; key++) {
            real share = part->capped[i * width + key] / pair->sizes.soft_cap;
            part->d_weights[i * width + key] *= (1 - share * share) * pair->sizes.scale;
        }
    }
}

/* p and ds of the part */
static void weigh(const block_pair *pair, const query_unit *unit, const panel_part *part, bool all)
{
    const mixt_attention_sizes *sizes = &pair->sizes;
    multiply_part(pair, part, &unit->q_by_row, &pair->keys_b, part->weights);
    multiply_part(pair, part, &unit->dy_by_row, &pair->values_b, part->d_weights);
    if (sizes->soft_cap > 0) {
        cap_scores(pair, part);
    }
    MIXT_REAL(mixt_scores)
    scores = {
        .keys = part->width,
        .queries = part->rows,
        .stride = MIXT_GEMM_KERNELS(pair->call)->tile_columns,
        .scores = part->weights,
        .scale = mixt_softmax_scale(sizes),
        .first = all ? NULL : unit->first + part->begin,
        .last = unit->last + part->begin,
        .lse = unit->lse + part->begin,
        .delta = unit->delta + part->begin,
        .d_scores = part->d_weights,
        .origin = part->column,
    };
    mixt_kernels_of(pair->call)->softmax_backward(&scores);
    if (sizes->soft_cap > 0) {
        uncap(pair, part);
    }
}

/* ds^T of the part for the tiles that are multiplied with k: A [keys, rows] */
static void transpose_part(const block_pair *pair, const panel_part *part)
{
    const MIXT_REAL(mixt_gemm_kernels) *gemm = MIXT_GEMM_KERNELS(pair->call);
    int64_t height = gemm->tile_rows, width = gemm->tile_columns;
    for (int64_t i = 0; i < part->rows; i += height) {
        gemm->pack(part->width, mixt_least(height, part->rows - i), part->d_weights + i * width, 1,
                   width, pair->room + (part->begin + i) * pair->count + part->column * height,
                   (int)height);
    }
}

/* dq [rows, head_dim] += ds k */
static void add_to_queries(const block_pair *pair, const query_unit *unit, bool all)
{
    const mixt_attention_sizes *sizes = &pair->sizes;
    const MIXT_REAL(mixt_gemm_kernels) *gemm = MIXT_GEMM_KERNELS(pair->call);
    int64_t height = gemm->tile_rows, width = gemm->tile_columns;
    int64_t rows = unit->rows.end - unit->rows.begin, n = sizes->head_dim;
    real *dq =
        (real *)pair->call->d_in[ATTENTION_Q] + unit->rows.begin * sizes->q_row + unit->head * n;
    for (int64_t i = 0; i < rows; i += height) {
        int64_t count = mixt_least(height, rows - i);
        int64_t keys = all ? pair->count : mixt_attention_seen(unit->last + i, count);
        for (int64_t column = 0; keys > 0 && column < n; column += width) {
            gemm->tile(keys, pair->room + i * pair->count, pair->keys.at + column * pair->count,
                       dq + i * sizes->q_row + column, sizes->q_row, (int)count,
                       (int)mixt_least(width, n - column), true);
        }
    }
}

/* The first row of the first tile that sees keys from `key` of the block on. */
static int64_t first_tile(const query_unit *unit, int64_t rows, int64_t key, int64_t height)
{
    int64_t i = 0;
    while (i < rows && unit->last[i] < (real)key) {
        i++;
    }
    return i < rows ? i - i % height : rows;
}

static void visit_unit(const block_pair *pair, query_unit *unit)
{
    const mixt_call *call = pair->call;
    const MIXT_REAL(mixt_gemm_kernels) *gemm = MIXT_GEMM_KERNELS(call);
    int64_t width = gemm->tile_columns, rows = unit->rows.end - unit->rows.begin;
    bool all = unit->begin <= pair->key && pair->key + pair->count <= unit->end;
    if (!all) {
        (void)mixt_attention_sight(call, unit->rows, pair->key, pair->count, unit->first,
                                   unit->last);
    }
    for (int64_t column = 0; column < pair->count; column += width) {
        int64_t begin = all ? 0 : first_tile(unit, rows, column, gemm->tile_rows);
        int64_t at = column * rows + begin * width;
        panel_part part = {
            .column = column,
            .width = mixt_least(width, pair->count - column),
            .begin = begin,
            .rows = rows - begin,
            .weights = pair->weights + at,
            .d_weights = pair->d_weights + at,
            .capped = pair->capped + at,
        };
        if (part.rows == 0) {
            continue;
        }
        weigh(pair, unit, &part, all);
        if (call->d_in[ATTENTION_V] != NULL) {
            add_transposed(pair, &part, &unit->dy, part.weights, pair->d_values);
        }
        if (call->d_in[ATTENTION_K] != NULL) {
            add_transposed(pair, &part, &unit->q, part.d_weights, pair->d_keys);
        }
        if (call->d_in[ATTENTION_Q] != NULL) {
            transpose_part(pair, &part);
        }
    }
    if (call->d_in[ATTENTION_Q] != NULL) {
        add_to_queries(pair, unit, all);
    }
}

/* Columns of v behind those that are values have no gradient. */
static void clear_unused(const block_pair *pair, real *dv)
{
    const mixt_attention_sizes *sizes = &pair->sizes;
    size_t unused = (size_t)(sizes->v_head - sizes->value_dim) * sizeof *dv;
    bool none = dv == NULL || unused == 0 || pair->call->add[ATTENTION_V];
    for (int64_t key = 0; !none && key < pair->count; key++) {
        memset(dv + key * sizes->v_row + sizes->value_dim, 0, unused);
    }
}

/* All blocks of keys of a sequence beside the units: the sums of a key's gradient are those of the
 * units before, and begin with zero where there are none. */
static void visit_keys(block_pair *pair, mixt_range keys, bool first)
{
    const mixt_call *call = pair->call;
    const mixt_attention_sizes *sizes = &pair->sizes;
    for (pair->key = keys.begin; pair->key < keys.end; pair->key += MIXT_ATTENTION_BLOCK) {
        pair->count = mixt_least(MIXT_ATTENTION_BLOCK, keys.end - pair->key);
        real *dk = gradient_of_keys(pair, ATTENTION_K, sizes->k_row, sizes->head_dim);
        real *dv = gradient_of_keys(pair, ATTENTION_V, sizes->v_row, sizes->v_head);
        bool fresh = first && !call->add[ATTENTION_K], one = one_input(call);
        pair->d_keys = (mixt_panels){pair->d_keys.at, sizes->head_dim, pair->count};
        pair->d_values =
            (mixt_panels){pair->d_values.at, one ? sizes->head_dim : sizes->value_dim, pair->count};
        assert(!one || (sizes->v_row == sizes->k_row && sizes->v_head == sizes->head_dim));
        begin_keys(pair);
        begin_gradient(pair, pair->d_keys, dk, sizes->k_row, fresh);
        if (!one) {
            if (first) {
                clear_unused(pair, dv);
            }
            begin_gradient(pair, pair->d_values, dv, sizes->v_row,
                           first && !call->add[ATTENTION_V]);
        }
        for (int i = 0; i < pair->units; i++) {
            query_unit *unit = &pair->unit[i];
            if (unit->seen_begin < pair->key + pair->count && unit->seen_end > pair->key) {
                visit_unit(pair, unit);
            }
        }
        end_gradient(pair, pair->d_keys, dk, sizes->k_row);
        if (!one) {
            end_gradient(pair, pair->d_values, dv, sizes->v_row);
        }
    }
}

/* Zeroes the heads' columns of a sequence's rows, unless the item adds to what is there. */
static void begin_queries(const block_pair *pair, int64_t sequence)
{
    const mixt_call *call = pair->call;
    const mixt_attention_sizes *sizes = &pair->sizes;
    int64_t group = sizes->head_dim * (sizes->heads / sizes->kv_heads);
    real *dq = call->d_in[ATTENTION_Q];
    mixt_range rows = mixt_chunk(call->tokens, sizes->sequence, sequence);
    for (int64_t t = rows.begin; dq != NULL && !call->add[ATTENTION_Q] && t < rows.end; t++) {
        memset(dq + t * sizes->q_row + pair->kv_head * group, 0, (size_t)group * sizeof *dq);
    }
}

static void attention_backward_item(void *context, int64_t item, int thread)
{
    const mixt_call *call = context;
    block_pair pair;
    pair.call = call;
    pair.sizes = mixt_attention_measure(call);
    const mixt_attention_sizes *sizes = &pair.sizes;
    pair.kv_head = item % sizes->kv_heads;
    int64_t sequence = item / sizes->kv_heads, group = sizes->heads / sizes->kv_heads;
    mixt_range keys = {sequence * sizes->keys, (sequence + 1) * sizes->keys};
    keys.end = mixt_least(keys.end, mixt_rows(&call->in_shape[ATTENTION_K], call->tokens));
    int most = lay_out(&pair, thread);
    int64_t block = UNIT_BLOCKS * block_values(call, sizes->head_dim);
    begin_queries(&pair, sequence);
    bool first = true;
    pair.units = 0;
    for (int64_t at = 0; at < sizes->blocks * group; at++) {
        query_unit *unit = &pair.unit[pair.units];
        unit->rows = mixt_attention_rows(call, sizes, sequence, at / group);
        unit->head = pair.kv_head * group + at % group;
        if (unit->rows.begin < unit->rows.end) {
            begin_unit(&pair, unit, pair.operands + pair.units * block);
            pair.units++;
        }
        if (pair.units == most || at + 1 == sizes->blocks * group) {
            visit_keys(&pair, keys, first);
            first = false;
            pair.units = 0;
        }
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
