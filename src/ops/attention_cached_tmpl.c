/* attention of single rows over a cache, where reading keys and values is the work. Whole rows of
 * the cache are read one behind another, each thread a run of blocks of its own, so that it has one
 * stream of memory; of the softmax only the maxima have to wait for those of blocks before:
 *
 *   scores of each block and their maxima; the largest so far, block by block; weights and sums of
 *   each block's values; and for each head the sums added in the order of blocks.
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
    int64_t together;            /* parts of an item */
    int32_t *begin;              /* [row_count + 1]: the first part of each row */
    part *parts;                 /* [part_most] */
    real *scores;                /* [part_most, heads, MIXT_ATTENTION_BLOCK], then weights */
    real *sums;                  /* [part_most, heads, value_dim] */
    real *most, *added, *change; /* [part_most, heads]: the softmax of a block */
    real *highest;               /* [rows, heads] */
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
    bool more = index + 1 < run->part_count; /* likely of this thread */
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

/* What a row sees of a part, counted from its first key. */
static mixt_sight sight_of(const cached_run *run, const part *p, real *first, real *last)
{
    return mixt_attention_sight(run->call, (mixt_range){p->row, p->row + 1}, p->key,
                                keys_of(run, p), first, last);
}

/* Scores of a part are scaled, and the largest of each head is found. */
static void scale_part(const cached_run *run, int64_t index)
{
    const mixt_kernels *kernels = mixt_kernels_of(run->call);
    int64_t heads = run->sizes.heads, count = keys_of(run, &run->parts[index]);
    real first, last, scale = mixt_softmax_scale(&run->sizes);
    sight_of(run, &run->parts[index], &first, &last);
    for (int64_t head = 0; head < heads; head++) {
        real *x = run->scores + (index * heads + head) * MIXT_ATTENTION_BLOCK;
        if (run->sizes.soft_cap > 0) {
            mixt_attention_cap(kernels, &run->sizes, count, x);
        }
        kernels->scale(count, x, scale, x);
        run->most[index * heads + head] =
            kernels->max((int64_t)(last - first) + 1, x + (int64_t)first);
    }
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
        scale_part(run, i);
    }
}

/* The softmax of a part's heads behind what came before it. */
static void weigh_part(const cached_run *run, int64_t index)
{
    int64_t heads = run->sizes.heads, at = index * heads;
    const part *p = &run->parts[index];
    real first, last;
    mixt_sight sight = sight_of(run, p, &first, &last);
    MIXT_REAL(mixt_scores)
    scores = {
        .keys = keys_of(run, p),
        .queries = heads,
        .stride = MIXT_ATTENTION_BLOCK,
        .scores = run->scores + at * MIXT_ATTENTION_BLOCK,
        .scale = 1, /* scale_part did that */
        .first = sight == MIXT_SEES_ALL ? NULL : &first,
        .last = &last,
        .max = run->most + at,
        .sum = run->added + at,
        .change = run->change + at,
    };
    memset(scores.sum, 0, (size_t)heads * sizeof *scores.sum);
    mixt_kernels_of(run->call)->softmax_rows(&scores);
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
        weigh_part(run, i);
        mixt_kernels_of(run->call)->cached_sum(&values);
    }
}

/* The largest score before each part of a row, and in the end. */
static void order_row(void *context, int64_t row, int thread)
{
    (void)thread;
    const cached_run *run = context;
    int64_t heads = run->sizes.heads;
    real *highest = run->highest + row * heads;
    for (int64_t head = 0; head < heads; head++) {
        highest[head] = (real)-INFINITY;
    }
    for (int64_t i = run->begin[row]; i < run->begin[row + 1]; i++) {
        real *most = run->most + i * heads;
        for (int64_t head = 0; head < heads; head++) {
            real before = highest[head];
            highest[head] = most[head] > before ? most[head] : before;
            most[head] = before;
        }
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
    real sum = 0;
    memset(y, 0, (size_t)n * sizeof *y);
    for (int64_t i = run->begin[row]; i < run->begin[row + 1]; i++) {
        sum = MIXT_FMA(sum, run->change[i * heads + head], run->added[i * heads + head]);
        kernels->scale(n, y, run->change[i * heads + head], y);
        kernels->add(n, y, y, run->sums + (i * heads + head) * n);
    }
    mixt_attention_end end = {.t = t, .head = head, .max = run->highest[item], .sum = sum};
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
    run.most = run.sums + most * heads * run.sizes.value_dim;
    run.added = run.most + most * heads;
    run.change = run.added + most * heads;
    run.highest = run.change + most * heads;
    run.parts = (part *)(void *)(run.highest + count * heads);
    run.begin = (int32_t *)(void *)(run.parts + most);
    mixt_pool *pool = call->compute->pool;
    for (int64_t left = count; left > 0; left -= run.row_count, run.rows += run.row_count) {
        run.row_count = take_rows(&run, left);
        int64_t even = mixt_divide_up(run.part_count, call->compute->threads * ITEMS_OF_THREAD);
        run.together = mixt_most(mixt_least(even, PARTS_MOST), 1);
        int64_t items = mixt_divide_up(run.part_count, run.together);
        mixt_pool_run(pool, items, score_parts, &run);
        mixt_pool_run(pool, run.row_count, order_row, &run);
        mixt_pool_run(pool, items, sum_parts, &run);
        mixt_pool_run(pool, run.row_count * heads, end_head, &run);
    }
}
