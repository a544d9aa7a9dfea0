/* Attention of blocks of queries: windows of a batch's own keys in training, and rows of a sequence
 * over its cache. An item is a head and some blocks of queries, which have the panels of k and v in
 * common. Scores lie transposed in panels, a column for each query: so the softmax runs across
 * queries, and its weights are the second product's B as they are. Keys behind the last that a
 * panel's queries see are left out. What a row's bits depend on is in attention_tmpl.c. */
#include "ops/attention_tmpl.h"

#define UNITS 4 /* blocks of queries of an item, at most */

typedef struct query_unit {
    mixt_range rows;
    int64_t lowest, seen; /* keys of the sequence: the first that a row sees, behind the last */
    int64_t begin, end;   /* of the keys that all rows see, as `first` and `last` count */
    real *queries;        /* q^T, B [head_dim, rows] */
    real *output;         /* y^T [value_dim, MIXT_ATTENTION_BLOCK] */
    real max[MIXT_ATTENTION_BLOCK], sum[MIXT_ATTENTION_BLOCK], change[MIXT_ATTENTION_BLOCK];
    real first[MIXT_ATTENTION_BLOCK], last[MIXT_ATTENTION_BLOCK];
} query_unit;

typedef struct block_item {
    const mixt_call *call;
    mixt_attention_sizes sizes;
    int64_t head, origin; /* mixt_attention_item */
    int64_t key, count;   /* of the block of keys, as `first` and `last` count */
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

static void begin_unit(block_item *item, query_unit *unit)
{
    const mixt_call *call = item->call;
    const mixt_attention_sizes *sizes = &item->sizes;
    const int32_t *first = call->in[ATTENTION_FIRST], *last = call->in[ATTENTION_LAST];
    int64_t count = unit->rows.end - unit->rows.begin;
    int tile = MIXT_GEMM_KERNELS(call)->tile_columns;
    const real *q = (const real *)call->in[ATTENTION_Q] + unit->rows.begin * sizes->q_row +
                    item->head * sizes->head_dim;
    unit->seen = unit->begin = 0;
    unit->lowest = unit->end = INT64_MAX;
    for (int64_t i = 0; i < count; i++) {
        int64_t t = unit->rows.begin + i, origin = item->origin;
        unit->max[i] = (real)-INFINITY;
        unit->sum[i] = 0;
        assert(first[t] > last[t] || (first[t] >= origin && last[t] - origin < sizes->keys));
        unit->begin = mixt_most(unit->begin, first[t]);
        unit->end = mixt_least(unit->end, last[t] + 1);
        if (first[t] <= last[t]) {
            unit->lowest = mixt_least(unit->lowest, first[t] - origin);
            unit->seen = mixt_most(unit->seen, last[t] + 1 - origin);
        }
    }
    for (int64_t begin = 0; begin < sizes->head_dim; begin += MIXT_GEMM_K_BLOCK) {
        mixt_panels part = {unit->queries + panel_start(begin, count, tile),
                            mixt_least(sizes->head_dim - begin, MIXT_GEMM_K_BLOCK), count};
        mixt_pack_b(call, &part, q + begin, 1, sizes->q_row);
    }
    memset(unit->output, 0, (size_t)(sizes->value_dim * MIXT_ATTENTION_BLOCK) * sizeof(real));
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
    int64_t count = unit->rows.end - unit->rows.begin;
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
    int64_t queries = mixt_least(width, unit->rows.end - unit->rows.begin - column);
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
    int64_t queries = mixt_least(width, unit->rows.end - unit->rows.begin - column);
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

static void visit_keys(const block_item *item, query_unit *unit)
{
    int64_t width = MIXT_GEMM_KERNELS(item->call)->tile_columns;
    int64_t count = unit->rows.end - unit->rows.begin;
    bool all = unit->begin <= item->key && item->key + item->count <= unit->end;
    if (!all && mixt_attention_sight(item->call, unit->rows, item->key, item->count, unit->first,
                                     unit->last) == MIXT_SEES_NONE) {
        return;
    }
    for (int64_t column = 0; column < count; column += width) {
        int64_t queries = mixt_least(width, count - column);
        int64_t keys = all ? item->count : mixt_attention_seen(unit->last + column, queries);
        if (keys > 0) { /* else nothing changes */
            score_panel(item, unit, column, keys);
            softmax_panel(item, unit, column, keys, all);
            add_values(item, unit, column, keys);
        }
    }
}

/* Divides by the sums and writes y and the logarithms of the sums. */
static void end_unit(const block_item *item, query_unit *unit)
{
    const mixt_call *call = item->call;
    const mixt_attention_sizes *sizes = &item->sizes;
    int64_t count = unit->rows.end - unit->rows.begin;
    for (int64_t i = 0; i < count; i++) {
        mixt_attention_end end = {unit->rows.begin + i, item->head, unit->max[i], unit->sum[i]};
        unit->change[i] = mixt_attention_finish(call, &end);
    }
    mixt_transposed output = {
        .x = unit->output,
        .x_row = MIXT_ATTENTION_BLOCK,
        .n = sizes->value_dim,
        .columns = count,
        .factors = unit->change,
        .room = item->room,
    };
    mixt_put_transposed(call, &output,
                        (real *)call->out[ATTENTION_Y] + unit->rows.begin * sizes->y_row +
                            item->head * sizes->value_dim,
                        sizes->y_row);
}

/* Lays out the thread's buffers. */
static void begin_item(block_item *item, mixt_range rows, int thread)
{
    const mixt_call *call = item->call;
    const mixt_attention_sizes *sizes = &item->sizes;
    int64_t values = mixt_block_values(sizes->head_dim);
    item->scores = call->compute->gemm->a[thread];
    memset(item->scores, 0, SCORES * sizeof(real)); /* lanes behind the last query */
    item->keys = item->scores + SCORES;
    item->values = (mixt_panels){item->keys + values, 0, sizes->value_dim};
    item->room = item->values.at + values;
    real *at = item->room + values;
    item->units = 0;
    for (int64_t t = rows.begin; t < rows.end; t += MIXT_ATTENTION_BLOCK) {
        assert(item->units < UNITS);
        query_unit *unit = &item->unit[item->units++];
        unit->rows = (mixt_range){t, mixt_least(t + MIXT_ATTENTION_BLOCK, rows.end)};
        unit->queries = at;
        unit->output = at + values;
        at += 2 * values;
        begin_unit(item, unit);
    }
}

void MIXT_REAL(mixt_attention_run_item)(const mixt_attention_item *of, int thread)
{
    const mixt_call *call = of->call;
    block_item item = {.call = call, .head = of->head, .origin = of->origin};
    item.sizes = mixt_attention_measure(call);
    mixt_pages pages = mixt_pages_of(call, ATTENTION_PAGES, ATTENTION_SEQUENCE);
    mixt_attention_source source = {call, &item.sizes, pages, of->rows.begin, of->head};
    int64_t lowest = INT64_MAX, seen = 0;
    begin_item(&item, of->rows, thread);
    for (int i = 0; i < item.units; i++) {
        lowest = mixt_least(lowest, item.unit[i].lowest);
        seen = mixt_most(seen, item.unit[i].seen);
    }
    for (int64_t key = lowest - lowest % MIXT_ATTENTION_BLOCK; key < seen;
         key += MIXT_ATTENTION_BLOCK) {
        item.key = item.origin + key;
        item.count = mixt_least(MIXT_ATTENTION_BLOCK, seen - key);
        begin_keys(&item, &source, thread);
        for (int i = 0; i < item.units; i++) {
            if (item.unit[i].seen > key) {
                visit_keys(&item, &item.unit[i]);
            }
        }
    }
    for (int i = 0; i < item.units; i++) {
        end_unit(&item, &item.unit[i]);
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
    mixt_attention_item item = {call, all, at % sizes.heads, sequence * sizes.keys};
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
