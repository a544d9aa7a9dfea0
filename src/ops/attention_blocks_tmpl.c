/* Attention of blocks of queries: rows of a head, of a training window or of a sequence over its
 * cache; or heads of one row that share a kv head. An item is some blocks, which have the panels of
 * k and v in common. Scores lie transposed in panels, a column for each query: so the softmax runs
 * across queries, and its weights are the second product's B as they are. Keys behind the last that
 * a panel's queries see are left out. What a row's bits depend on is in attention_tmpl.c. */
#include "ops/attention_tmpl.h"

#define UNITS 4 /* blocks of queries of an item, at most */

typedef struct query_unit {
    mixt_range rows;
    int64_t count;        /* queries: rows of a head, or heads of a row */
    int64_t lowest, seen; /* keys of the sequence: the first that a row sees, behind the last */
    int64_t begin, end;   /* of the keys that all rows see, as `first` and `last` count */
    real *queries;        /* q^T, B [head_dim, count] */
    real *output;         /* y^T [value_dim, MIXT_ATTENTION_BLOCK] */
    real max[MIXT_ATTENTION_BLOCK], sum[MIXT_ATTENTION_BLOCK], change[MIXT_ATTENTION_BLOCK];
    real first[MIXT_ATTENTION_BLOCK], last[MIXT_ATTENTION_BLOCK];
} query_unit;

typedef struct block_item {
    const mixt_attention_item *of;
    const mixt_call *call;
    mixt_attention_sizes sizes;
    int64_t key, count; /* of the block of keys, as `first` and `last` count */
    real *keys;         /* k by key, A [head_dim, keys], one block of the chain behind the other */
    mixt_panels values; /* v by key, A [keys, value_dim] */
    real *scores;       /* [keys, queries] in panels of B */
    real *room;         /* for packing */
    int units;
    query_unit unit[UNITS];
} block_item;

#define SCORES (MIXT_ATTENTION_BLOCK * (MIXT_ATTENTION_BLOCK + 32))
_Static_assert(5 * MIXT_ATTENTION_HEAD_MAX * (MIXT_ATTENTION_BLOCK + 32) + SCORES <=
                   MIXT_WIDENED_AT,
               "the blocks of attention are larger than a thread's buffers");

/* Few enough to fit, and to have items for all threads. */
int64_t MIXT_REAL(mixt_attention_units)(const mixt_call *call, const mixt_attention_sizes *sizes,
                                        int64_t blocks)
{
    int64_t block = mixt_block_values(sizes->head_dim);
    int64_t room = MIXT_WIDENED_AT - SCORES - 3 * block;
    int64_t items = blocks * sizes->heads / ((int64_t)call->compute->threads * 16);
    int64_t units = mixt_least(mixt_least(room / (2 * block), items), UNITS);
    return mixt_most(1, mixt_least(units, sizes->blocks));
}

/* Where a block of the chain begins in panels of `width` columns. */
static int64_t panel_start(int64_t k, int64_t width, int tile)
{
    return k * mixt_panel_columns(width, tile);
}

static int64_t row_of(const block_item *item, const query_unit *unit, int64_t query)
{
    return unit->rows.begin + (item->of->heads > 1 ? 0 : query);
}

/* What the rows of a unit see. */
static void measure_unit(const block_item *item, query_unit *unit)
{
    const mixt_call *call = item->call;
    const int32_t *first = call->in[ATTENTION_FIRST], *last = call->in[ATTENTION_LAST];
    unit->seen = unit->begin = 0;
    unit->lowest = unit->end = INT64_MAX;
    for (int64_t t = unit->rows.begin; t < unit->rows.end; t++) {
        unit->begin = mixt_most(unit->begin, first[t]);
        unit->end = mixt_least(unit->end, last[t] + 1);
        if (first[t] <= last[t]) {
            assert(first[t] >= item->of->origin);
            unit->lowest = mixt_least(unit->lowest, first[t] - item->of->origin);
            unit->seen = mixt_most(unit->seen, last[t] + 1 - item->of->origin);
        }
    }
}

static void pack_queries(const block_item *item, const query_unit *unit)
{
    const mixt_call *call = item->call;
    const mixt_attention_sizes *sizes = &item->sizes;
    int tile = MIXT_GEMM_KERNELS(call)->tile_columns;
    int64_t stride = item->of->heads > 1 ? sizes->head_dim : sizes->q_row;
    const real *q = (const real *)call->in[ATTENTION_Q] + unit->rows.begin * sizes->q_row +
                    item->of->head * sizes->head_dim;
    for (int64_t begin = 0; begin < sizes->head_dim; begin += MIXT_GEMM_K_BLOCK) {
        mixt_panels part = {unit->queries + panel_start(begin, unit->count, tile),
                            mixt_least(sizes->head_dim - begin, MIXT_GEMM_K_BLOCK), unit->count};
        mixt_pack_b(call, &part, q + begin, 1, stride);
    }
}

/* The softmax before the first key, or where the tile of keys before left it. */
static void begin_softmax(const block_item *item, query_unit *unit, const real *carry)
{
    if (carry != NULL && !item->of->begins) {
        memcpy(unit->max, carry, sizeof unit->max);
        memcpy(unit->sum, carry + MIXT_ATTENTION_BLOCK, sizeof unit->sum);
        return;
    }
    for (int64_t i = 0; i < MIXT_ATTENTION_BLOCK; i++) {
        unit->max[i] = (real)-INFINITY;
        unit->sum[i] = 0;
    }
    memset(unit->output, 0, (size_t)(item->sizes.value_dim * MIXT_ATTENTION_BLOCK) * sizeof(real));
}

static void begin_keys(block_item *item, const mixt_attention_source *source, int thread)
{
    const mixt_call *call = item->call;
    const mixt_attention_sizes *sizes = &item->sizes;
    mixt_attention_keys keys = MIXT_REAL(mixt_attention_find_keys)(
        source, (mixt_range){item->key, item->key + item->count}, thread);
    int tile = MIXT_GEMM_KERNELS(call)->tile_rows;
    for (int64_t begin = 0; begin < sizes->head_dim; begin += MIXT_GEMM_K_BLOCK) {
        mixt_panels part = {item->keys + panel_start(begin, item->count, tile),
                            mixt_least(sizes->head_dim - begin, MIXT_GEMM_K_BLOCK), item->count};
        mixt_pack_a(call, &part, keys.k + begin, 1, sizes->k_row);
    }
    item->values.k = item->count;
    mixt_pack_a(call, &item->values, keys.v, sizes->v_row, 1);
}

/* q.k of a panel of queries and the first `keys` keys */
static void score_panel(const block_item *item, const query_unit *unit, int64_t column,
                        int64_t keys)
{
    const MIXT_REAL(mixt_gemm_kernels) *gemm = MIXT_GEMM_KERNELS(item->call);
    int64_t height = gemm->tile_rows, width = gemm->tile_columns;
    int64_t count = unit->count;
    real *c = item->scores + column * item->count;
    for (int64_t begin = 0; begin < item->sizes.head_dim; begin += MIXT_GEMM_K_BLOCK) {
        int64_t k = mixt_least(item->sizes.head_dim - begin, MIXT_GEMM_K_BLOCK);
        const real *a = item->keys + panel_start(begin, item->count, (int)height);
        const real *b = unit->queries + panel_start(begin, count, (int)width) + column * k;
        for (int64_t i = 0; i < keys; i += height) {
            gemm->tile(k, a + i * k, b, c + i * width, width, (int)mixt_least(height, keys - i),
                       (int)mixt_least(width, count - column), begin > 0);
        }
    }
}

static void softmax_panel(const block_item *item, query_unit *unit, int64_t column, int64_t keys,
                          bool all)
{
    const mixt_kernels *kernels = mixt_kernels_of(item->call);
    int64_t width = kernels->gemm.tile_columns;
    int64_t queries = mixt_least(width, unit->count - column);
    real *c = item->scores + column * item->count;
    for (int64_t key = 0; key < keys && item->sizes.soft_cap > 0; key++) {
        mixt_attention_cap(kernels, &item->sizes, queries, c + key * width);
    }
    MIXT_REAL(mixt_scores)
    scores = {
        .keys = keys,
        .queries = queries,
        .stride = width,
        .scores = c,
        .scale = mixt_softmax_scale(&item->sizes),
        .first = all ? NULL : unit->first + column,
        .last = unit->last + column,
        .max = unit->max + column,
        .sum = unit->sum + column,
        .change = unit->change + column,
    };
    kernels->softmax(&scores);
}

/* y^T = y^T change + v^T weights */
static void add_values(const block_item *item, const query_unit *unit, int64_t column, int64_t keys)
{
    const MIXT_REAL(mixt_gemm_kernels) *gemm = MIXT_GEMM_KERNELS(item->call);
    int64_t height = gemm->tile_rows, width = gemm->tile_columns, n = item->values.width;
    int64_t queries = mixt_least(width, unit->count - column);
    const real *weights = item->scores + column * item->count;
    for (int64_t i = 0; i < n; i++) {
        real *y = unit->output + i * MIXT_ATTENTION_BLOCK + column;
        mixt_kernels_of(item->call)->multiply(queries, y, y, unit->change + column);
    }
    for (int64_t i = 0; i < n; i += height) {
        gemm->tile(keys, item->values.at + i * item->count, weights,
                   unit->output + i * MIXT_ATTENTION_BLOCK + column, MIXT_ATTENTION_BLOCK,
                   (int)mixt_least(height, n - i), (int)queries, true);
    }
}

static mixt_sight sight_of(const block_item *item, query_unit *unit)
{
    mixt_sight sight = mixt_attention_sight(item->call, unit->rows, item->key, item->count,
                                            unit->first, unit->last);
    for (int64_t i = 1; i < item->of->heads; i++) {
        unit->first[i] = unit->first[0];
        unit->last[i] = unit->last[0];
    }
    return sight;
}

static void visit_keys(const block_item *item, query_unit *unit)
{
    int64_t width = MIXT_GEMM_KERNELS(item->call)->tile_columns;
    bool all = unit->begin <= item->key && item->key + item->count <= unit->end;
    if (!all && sight_of(item, unit) == MIXT_SEES_NONE) {
        return;
    }
    for (int64_t column = 0; column < unit->count; column += width) {
        int64_t queries = mixt_least(width, unit->count - column);
        int64_t keys = all ? item->count : mixt_attention_seen(unit->last + column, queries);
        if (keys > 0) { /* else nothing changes */
            score_panel(item, unit, column, keys);
            softmax_panel(item, unit, column, keys, all);
            add_values(item, unit, column, keys);
        }
    }
}

/* Divides by the sums and writes y and the logarithms of the sums; or leaves them to the next tile
 * of keys. */
static void end_unit(const block_item *item, query_unit *unit, real *carry)
{
    const mixt_call *call = item->call;
    const mixt_attention_sizes *sizes = &item->sizes;
    bool of_row = item->of->heads > 1;
    if (carry != NULL && !item->of->ends) {
        memcpy(carry, unit->max, sizeof unit->max);
        memcpy(carry + MIXT_ATTENTION_BLOCK, unit->sum, sizeof unit->sum);
        return;
    }
    for (int64_t i = 0; i < unit->count; i++) {
        mixt_attention_end end = {row_of(item, unit, i), item->of->head + (of_row ? i : 0),
                                  unit->max[i], unit->sum[i]};
        unit->change[i] = mixt_attention_finish(call, &end);
    }
    mixt_transposed output = {
        .x = unit->output,
        .x_row = MIXT_ATTENTION_BLOCK,
        .n = sizes->value_dim,
        .columns = unit->count,
        .factors = unit->change,
        .room = item->room,
    };
    mixt_put_transposed(call, &output,
                        (real *)call->out[ATTENTION_Y] + unit->rows.begin * sizes->y_row +
                            item->of->head * sizes->value_dim,
                        of_row ? sizes->value_dim : sizes->y_row);
}

/* The carry of a unit, whose sums are its output. */
static real *carry_of(const block_item *item, int unit)
{
    return item->of->carry == NULL
               ? NULL
               : item->of->carry + unit * mixt_attention_carry(item->sizes.value_dim);
}

/* Lays out the thread's buffers. */
static void begin_item(block_item *item, int thread)
{
    const mixt_attention_item *of = item->of;
    int64_t values = mixt_block_values(item->sizes.head_dim);
    assert(of->heads == 1 || of->rows.end == of->rows.begin + 1);
    item->scores = item->call->compute->gemm->a[thread];
    memset(item->scores, 0, SCORES * sizeof(real)); /* lanes behind the last query */
    item->keys = item->scores + SCORES;
    item->values = (mixt_panels){item->keys + values, 0, item->sizes.value_dim};
    item->room = item->values.at + values;
    real *at = item->room + values;
    for (int64_t t = of->rows.begin; t < of->rows.end; t += MIXT_ATTENTION_BLOCK) {
        assert(item->units < UNITS);
        query_unit *unit = &item->unit[item->units];
        real *carry = carry_of(item, item->units++);
        unit->rows = (mixt_range){t, mixt_least(t + MIXT_ATTENTION_BLOCK, of->rows.end)};
        unit->count = of->heads > 1 ? of->heads : unit->rows.end - t;
        unit->queries = at;
        unit->output = carry != NULL ? carry + 2 * MIXT_ATTENTION_BLOCK : at + values;
        at += 2 * values;
        measure_unit(item, unit);
        pack_queries(item, unit);
        begin_softmax(item, unit, carry);
    }
}

void MIXT_REAL(mixt_attention_run_item)(const mixt_attention_item *of, int thread)
{
    block_item item = {.of = of, .call = of->call};
    item.sizes = mixt_attention_measure(of->call);
    mixt_attention_source source = {
        .call = of->call,
        .sizes = &item.sizes,
        .pages = mixt_pages_of(of->call, ATTENTION_PAGES, ATTENTION_SEQUENCE),
        .row = of->rows.begin,
        .head = of->head,
        .before = of->carry != NULL ? of->keys.begin : 0,
    };
    int64_t lowest = INT64_MAX, seen = 0;
    begin_item(&item, thread);
    for (int i = 0; i < item.units; i++) {
        lowest = mixt_least(lowest, item.unit[i].lowest);
        seen = mixt_most(seen, item.unit[i].seen);
    }
    lowest -= lowest % MIXT_ATTENTION_BLOCK;
    if (of->carry != NULL) {
        lowest = mixt_most(lowest, of->keys.begin);
        seen = mixt_least(seen, of->keys.end);
    }
    for (int64_t key = lowest; key < seen; key += MIXT_ATTENTION_BLOCK) {
        item.key = of->origin + key;
        item.count = mixt_least(MIXT_ATTENTION_BLOCK, seen - key);
        begin_keys(&item, &source, thread);
        for (int i = 0; i < item.units; i++) {
            if (item.unit[i].seen > key) {
                visit_keys(&item, &item.unit[i]);
            }
        }
    }
    for (int i = 0; i < item.units; i++) {
        end_unit(&item, &item.unit[i], carry_of(&item, i));
    }
}

/* Late blocks, which see most, come first. */
static void run_window(void *context, int64_t at, int thread)
{
    const mixt_call *call = context;
    mixt_attention_sizes sizes = mixt_attention_measure(call);
    int64_t units = MIXT_REAL(mixt_attention_units)(call, &sizes, sizes.blocks * sizes.sequences);
    int64_t sequence = at / sizes.heads % sizes.sequences;
    int64_t parts = mixt_divide_up(sizes.blocks, units);
    int64_t part = parts - 1 - at / sizes.heads / sizes.sequences;
    int64_t begin = sequence * sizes.sequence, rows = units * MIXT_ATTENTION_BLOCK;
    mixt_range all = {begin + part * rows, begin + mixt_least((part + 1) * rows, sizes.sequence)};
    all.end = mixt_least(all.end, call->tokens);
    mixt_attention_item item = {.call = call,
                                .rows = all,
                                .head = at % sizes.heads,
                                .heads = 1,
                                .origin = sequence * sizes.keys};
    MIXT_REAL(mixt_attention_run_item)(&item, thread);
}

void MIXT_REAL(mixt_attention_window)(const mixt_call *call)
{
    mixt_attention_sizes sizes = mixt_attention_measure(call);
    int64_t units = MIXT_REAL(mixt_attention_units)(call, &sizes, sizes.blocks * sizes.sequences);
    int64_t parts = mixt_divide_up(sizes.blocks, units);
    mixt_pool_run(call->compute->pool, parts * sizes.sequences * sizes.heads, run_window,
                  (void *)call);
}
