/* attention of single rows over a cache, where reading keys and values is the work. Whole rows of
 * the cache are read one behind another, each thread a run of blocks of its own, so that it has one
 * stream of memory; the softmax, which goes block by block, stands between:
 *
 *   scores of each block, the online softmax of each head, sums of each block's values, and for
 *   each head the sums added in the order of blocks.
 *
 * The operations of every row and head are those of attention_tmpl.c in their order. */
#include <assert.h>

#include "ops/attention_cached_tmpl.h"

/* A block of keys of a row. */
typedef struct part {
    int32_t row, key; /* of the batch; its first, a multiple of the block */
} part;

_Static_assert(sizeof(part) <= MIXT_ATTENTION_PART_REALS * sizeof(real),
               "parts are larger than their place");

typedef struct cached_run {
    const mixt_call *call;
    mixt_attention_sizes sizes;
    mixt_pages pages;
    const int32_t *rows; /* [row_count], of the batch */
    int64_t row_count;
    int64_t part_count, part_most;
    int64_t together; /* parts of an item */
    int32_t *begin;   /* [row_count + 1]: the first part of each row */
    part *parts;      /* [part_most] */
    real *scores;     /* [part_most, heads, MIXT_ATTENTION_BLOCK], then weights */
    real *sums;       /* [part_most, heads, value_dim] */
    real *change;     /* [part_most, heads] */
    real *most, *sum; /* [rows, heads] */
} cached_run;

static int64_t keys_of(const cached_run *run, const part *p)
{
    int64_t last = ((const int32_t *)run->call->in[ATTENTION_LAST])[p->row];
    return mixt_least(MIXT_ATTENTION_BLOCK, last + 1 - p->key);
}

/* Where the rows of a part begin in k or v. */
static const char *rows_at(const cached_run *run, int slot, const part *p)
{
    const mixt_shape *shape = &run->call->in_shape[slot];
    int64_t row = mixt_pages_row(&run->pages, p->row, p->key);
    int64_t size = shape->dtype == MIXT_ELEMENT_BYTE ? 1 : (int64_t)sizeof(real);
    assert(row + keys_of(run, p) <= shape->size[0]);
    return (const char *)run->call->in[slot] + row * shape->size[1] * size;
}

/* What both kernels are told of a part; `width` values of a head are read, and `whole` lie there.
 */
static MIXT_REAL(mixt_cached)
    cached(const cached_run *run, int slot, int64_t index, int64_t width, int64_t whole)
{
    const mixt_attributes *attributes = run->call->attributes;
    const mixt_shape *shape = &run->call->in_shape[slot];
    bool reals = attributes->cache_type == MIXT_TYPE_F32;
    int64_t last = (index / run->together + 1) * run->together;
    bool more = index + 1 < mixt_least(last, run->part_count);
    return (MIXT_REAL(mixt_cached)){
        .type = attributes->cache_type,
        .rows = keys_of(run, &run->parts[index]),
        .stride = shape->size[1] * (reals ? (int64_t)sizeof(real) : 1),
        .heads = attributes->kv_heads,
        .group = attributes->heads / attributes->kv_heads,
        .n = width,
        .head_bytes = reals ? whole * (int64_t)sizeof(real)
                            : (int64_t)mixt_type_row_bytes(attributes->cache_type, whole),
        .at = rows_at(run, slot, &run->parts[index]),
        .next = more ? rows_at(run, slot, &run->parts[index + 1]) : NULL,
    };
}

static mixt_range parts_of(const cached_run *run, int64_t item)
{
    int64_t begin = item * run->together;
    return (mixt_range){begin, mixt_least(begin + run->together, run->part_count)};
}

static void score_parts(void *context, int64_t item, int thread)
{
    (void)thread;
    const cached_run *run = context;
    const mixt_attention_sizes *sizes = &run->sizes;
    mixt_range range = parts_of(run, item);
    for (int64_t i = range.begin; i < range.end; i++) {
        MIXT_REAL(mixt_cached)
        keys = cached(run, ATTENTION_K, i, sizes->head_dim, sizes->head_dim);
        keys.x = (const real *)run->call->in[ATTENTION_Q] + run->parts[i].row * sizes->q_row;
        keys.x_row = sizes->head_dim;
        keys.y = run->scores + i * sizes->heads * MIXT_ATTENTION_BLOCK;
        keys.y_row = MIXT_ATTENTION_BLOCK;
        mixt_kernels_of(run->call)->cached_dot(&keys);
    }
}

static void sum_parts(void *context, int64_t item, int thread)
{
    (void)thread;
    const cached_run *run = context;
    const mixt_attention_sizes *sizes = &run->sizes;
    mixt_range range = parts_of(run, item);
    for (int64_t i = range.begin; i < range.end; i++) {
        MIXT_REAL(mixt_cached)
        values = cached(run, ATTENTION_V, i, sizes->value_dim, sizes->v_head);
        values.x = run->scores + i * sizes->heads * MIXT_ATTENTION_BLOCK;
        values.x_row = MIXT_ATTENTION_BLOCK;
        values.y = run->sums + i * sizes->heads * sizes->value_dim;
        values.y_row = sizes->value_dim;
        mixt_kernels_of(run->call)->cached_sum(&values);
    }
}

/* The online softmax of a row and head over its blocks. */
static void weigh_head(void *context, int64_t item, int thread)
{
    (void)thread;
    const cached_run *run = context;
    const mixt_kernels *kernels = mixt_kernels_of(run->call);
    int64_t heads = run->sizes.heads, row = item / heads, head = item % heads;
    run->most[item] = (real)-INFINITY;
    run->sum[item] = 0;
    for (int64_t i = run->begin[row]; i < run->begin[row + 1]; i++) {
        const part *p = &run->parts[i];
        real first, last, *x = run->scores + (i * heads + head) * MIXT_ATTENTION_BLOCK;
        int64_t count = keys_of(run, p);
        mixt_sight sight = mixt_attention_sight(run->call, (mixt_range){p->row, p->row + 1}, p->key,
                                                count, &first, &last);
        if (run->sizes.soft_cap > 0) {
            mixt_attention_cap(kernels, &run->sizes, count, x);
        }
        MIXT_REAL(mixt_scores)
        scores = {
            .keys = count,
            .queries = 1,
            .stride = 1,
            .scores = x,
            .scale = mixt_softmax_scale(&run->sizes),
            .first = sight == MIXT_SEES_ALL ? NULL : &first,
            .last = &last,
            .max = &run->most[item],
            .sum = &run->sum[item],
            .change = &run->change[i * heads + head],
        };
        kernels->softmax(&scores);
    }
}

/* The sums of a row and head become its output. */
static void end_head(void *context, int64_t item, int thread)
{
    (void)thread;
    const cached_run *run = context;
    const mixt_call *call = run->call;
    const mixt_kernels *kernels = mixt_kernels_of(call);
    int64_t heads = run->sizes.heads, n = run->sizes.value_dim;
    int64_t row = item / heads, head = item % heads, t = run->rows[row];
    real *y = (real *)call->out[ATTENTION_Y] + t * run->sizes.y_row + head * n;
    memset(y, 0, (size_t)n * sizeof *y);
    for (int64_t i = run->begin[row]; i < run->begin[row + 1]; i++) {
        kernels->scale(n, y, run->change[i * heads + head], y);
        kernels->add(n, y, y, run->sums + (i * heads + head) * n);
    }
    mixt_attention_end end = {.t = t, .head = head, .max = run->most[item], .sum = run->sum[item]};
    kernels->scale(n, y, mixt_attention_finish(call, &end), y);
}

static int64_t lowest_key(const mixt_call *call, int32_t t)
{
    int64_t first = ((const int32_t *)call->in[ATTENTION_FIRST])[t];
    return first - first % MIXT_ATTENTION_BLOCK;
}

static int64_t parts_of_row(const mixt_call *call, int32_t t)
{
    int64_t end = (int64_t)((const int32_t *)call->in[ATTENTION_LAST])[t] + 1;
    bool sees = ((const int32_t *)call->in[ATTENTION_FIRST])[t] < end;
    return sees ? mixt_divide_up(end - lowest_key(call, t), MIXT_ATTENTION_BLOCK) : 0;
}

/* As many of `count` rows as there is room for: their parts. */
static int64_t take_rows(cached_run *run, int64_t count)
{
    int64_t rows = 0;
    run->part_count = 0;
    for (; rows < count; rows++) {
        int64_t more = parts_of_row(run->call, run->rows[rows]);
        if (rows > 0 && run->part_count + more > run->part_most) {
            break;
        }
        assert(run->part_count + more <= run->part_most);
        run->begin[rows] = (int32_t)run->part_count;
        int64_t key = lowest_key(run->call, run->rows[rows]);
        for (int64_t i = 0; i < more; i++, key += MIXT_ATTENTION_BLOCK) {
            run->parts[run->part_count++] = (part){run->rows[rows], (int32_t)key};
        }
    }
    run->begin[rows] = (int32_t)run->part_count;
    return rows;
}

/* Runs of blocks: long ones for the stream of memory, and some for each thread. */
#define ITEMS_OF_THREAD 8
#define PARTS_MOST 16

void MIXT_REAL(mixt_attention_cached)(const mixt_call *call, const int32_t *rows, int64_t count,
                                      real *room)
{
    cached_run run = {.call = call, .sizes = mixt_attention_measure(call), .rows = rows};
    int64_t heads = run.sizes.heads, most = mixt_attention_parts(&call->in_shape[ATTENTION_K],
                                                                 &call->in_shape[ATTENTION_PAGES]);
    run.pages = mixt_pages_of(call, ATTENTION_PAGES, ATTENTION_SEQUENCE);
    run.part_most = most;
    run.scores = room;
    run.sums = run.scores + most * heads * MIXT_ATTENTION_BLOCK;
    run.change = run.sums + most * heads * run.sizes.value_dim;
    run.most = run.change + most * heads;
    run.sum = run.most + count * heads;
    run.parts = (part *)(void *)(run.sum + count * heads);
    run.begin = (int32_t *)(void *)(run.parts + most);
    mixt_pool *pool = call->compute->pool;
    for (int64_t left = count; left > 0; left -= run.row_count, run.rows += run.row_count) {
        run.row_count = take_rows(&run, left);
        int64_t even = mixt_divide_up(run.part_count, call->compute->threads * ITEMS_OF_THREAD);
        run.together = mixt_most(mixt_least(even, PARTS_MOST), 1);
        int64_t items = mixt_divide_up(run.part_count, run.together);
        mixt_pool_run(pool, items, score_parts, &run);
        mixt_pool_run(pool, run.row_count * heads, weigh_head, &run);
        mixt_pool_run(pool, items, sum_parts, &run);
        mixt_pool_run(pool, run.row_count * heads, end_head, &run);
    }
}
