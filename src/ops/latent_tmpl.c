/* latent: attention over cached latents in the expanded form (Multi-head Latent Attention, arXiv
 * 2405.04434). Keys and values of a tile of latents are made by the matrices of some heads, and all
 * rows meet them before the next tile is made, so that what is expanded stays in a cache of the
 * processor and needs no memory that grows with the context:
 *
 *   for each sequence, group of heads and tile of its keys
 *     latents [keys, size + position] of the cache, as reals
 *     k = [latent k_up | position], v = latent v_up^T: matrix products of these rows
 *     the online softmax of each block of rows goes on from where the tile before left it
 *
 * Tiles are multiples of the 64 keys over which the softmax is online, so a row's bits depend on
 * neither tiles, groups nor the rows beside it. */
#include "ops/attention_tmpl.h"
#include "ops/latent.h"
#include "quant/quant.h"

typedef struct latent_run {
    const mixt_call *call;
    mixt_latent_sizes sizes;
    mixt_latent_tile tile;
    mixt_pages pages;
    mixt_range rows;       /* of the batch, of one sequence */
    mixt_range keys;       /* of the tile */
    int64_t head, heads;   /* of the group */
    int64_t blocks, units; /* of 64 rows; of an item */
    bool begins, ends;     /* the tile is the first, the last */
    real *k_up, *v_up;     /* [heads, size, nope], [heads, value_dim, size] */
    real *latents;         /* [keys, size + position] */
    real *k, *v;           /* [keys, heads, head_dim], [keys, heads, value_dim] */
    real *carry;           /* [heads, blocks, mixt_attention_carry] */
    mixt_gemm *list;       /* [2 heads] */
    mixt_call part;        /* attention of the group over the tile */
    mixt_attributes group; /* its attributes */
    mixt_shape in_shape[MIXT_SLOTS], out_shape[MIXT_SLOTS];
} latent_run;

static int64_t nope_of(const latent_run *run)
{
    return run->sizes.head_dim - run->sizes.position;
}

static bool is_expanded(const mixt_call *call, int64_t t)
{
    return ((const int32_t *)call->in[LATENT_FIRST])[t] <=
           ((const int32_t *)call->in[LATENT_LAST])[t];
}

/* Rows of the matrix of head `head`, or where they are typed of their values, into `room`. */
static void matrix_values(const mixt_call *call, int slot, int64_t head, real *room)
{
    const mixt_matrix *matrix = &call->matrices[slot][head];
    for (int64_t row = 0; row < matrix->n; row++) {
        float *to = (float *)(void *)room + row * matrix->k; /* typed rows are of fp32 calls */
        mixt_matrix_values(matrix, row, 0, matrix->k, to);
    }
}

static void expand_matrices(void *context, int64_t item, int thread)
{
    (void)thread;
    const latent_run *run = context;
    int64_t head = item / 2, size = run->sizes.size;
    if (item % 2 == 0 && run->call->matrices[LATENT_K_UP] != NULL) {
        matrix_values(run->call, LATENT_K_UP, run->head + head,
                      run->k_up + head * size * nope_of(run));
    }
    if (item % 2 == 1 && run->call->matrices[LATENT_V_UP] != NULL) {
        matrix_values(run->call, LATENT_V_UP, run->head + head,
                      run->v_up + head * size * run->sizes.value_dim);
    }
}

/* Cells of a page: as reals, and what RoPE turned behind the part of each head's key that the
 * products will write. */
static void load_latents(void *context, int64_t item, int thread)
{
    (void)thread;
    const latent_run *run = context;
    const mixt_call *call = run->call;
    const mixt_latent_sizes *s = &run->sizes;
    mixt_type type = call->attributes->cache_type;
    int64_t key = run->keys.begin + item * MIXT_ROWS, width = s->size + s->position;
    int64_t end = mixt_least(run->keys.end, key + MIXT_ROWS), columns = run->heads * s->head_dim;
    const mixt_shape *shape = &call->in_shape[LATENT_CACHE];
    int64_t stride = shape->size[1] * (type == MIXT_TYPE_F32 ? (int64_t)sizeof(real) : 1);
    for (; key < end; key++) {
        int64_t row = mixt_pages_row(&run->pages, run->rows.begin, key);
        const char *from = (const char *)call->in[LATENT_CACHE] + row * stride;
        real *to = run->latents + (key - run->keys.begin) * width;
        real *k = run->k + (key - run->keys.begin) * columns + nope_of(run);
        assert(row < shape->size[0]);
        if (type == MIXT_TYPE_F32) {
            memcpy(to, from, (size_t)width * sizeof *to);
        } else {
            mixt_kernels_of(call)->widen(width, to, from, type);
        }
        for (int64_t head = 0; head < run->heads; head++, k += s->head_dim) {
            memcpy(k, to + s->size, (size_t)s->position * sizeof *k);
        }
    }
}

/* k = latent k_up, v = latent v_up^T of each head of the group. */
static void expand_keys(const latent_run *run)
{
    const mixt_latent_sizes *s = &run->sizes;
    int64_t keys = run->keys.end - run->keys.begin, nope = nope_of(run);
    for (int64_t head = 0; head < run->heads; head++) {
        mixt_gemm product = {
            .m = keys,
            .n = nope,
            .k = s->size,
            .a = run->latents,
            .a_row = s->size + s->position,
            .a_column = 1,
            .b = run->k_up + head * s->size * nope,
            .b_row = nope,
            .b_column = 1,
            .c = run->k + head * s->head_dim,
            .c_row = run->heads * s->head_dim,
        };
        run->list[2 * head] = product;
        product.n = s->value_dim;
        product.b = run->v_up + head * s->value_dim * s->size;
        product.b_row = 1;
        product.b_column = s->size;
        product.c = run->v + head * s->value_dim;
        product.c_row = run->heads * s->value_dim;
        run->list[2 * head + 1] = product;
    }
    mixt_gemm_run(run->call->compute, run->list, 2 * run->heads);
}

/* Blocks of rows come in falling order: the last see most. */
static void attend_tile(void *context, int64_t item, int thread)
{
    const latent_run *run = context;
    int64_t parts = mixt_divide_up(run->blocks, run->units), head = item % run->heads;
    int64_t block = (parts - 1 - item / run->heads) * run->units;
    int64_t begin = run->rows.begin + block * MIXT_ATTENTION_BLOCK;
    mixt_attention_item part = {
        .call = &run->part,
        .rows = {begin, mixt_least(begin + run->units * MIXT_ATTENTION_BLOCK, run->rows.end)},
        .head = head,
        .heads = 1,
        .carry =
            run->carry + (head * run->blocks + block) * mixt_attention_carry(run->sizes.value_dim),
        .keys = run->keys,
        .begins = run->begins,
        .ends = run->ends,
    };
    MIXT_REAL(mixt_attention_run_item)(&part, thread);
}

/* The call that attention of the group is: its keys and values are the tile. */
static void begin_group(latent_run *run, int64_t head)
{
    const mixt_call *call = run->call;
    const mixt_latent_sizes *s = &run->sizes;
    run->head = head;
    run->heads = mixt_least(run->tile.heads, s->heads - head);
    run->group.heads = run->group.kv_heads = (int)run->heads;
    run->in_shape[ATTENTION_K].size[1] = run->heads * s->head_dim;
    run->in_shape[ATTENTION_V].size[1] = run->heads * s->value_dim;
    run->part.in[ATTENTION_Q] = (real *)call->in[LATENT_Q] + head * s->head_dim;
    run->part.out[ATTENTION_Y] = (real *)call->out[LATENT_Y] + head * s->value_dim;
    if (call->matrices[LATENT_K_UP] == NULL) {
        run->k_up = (real *)call->in[LATENT_K_UP] + head * s->size * nope_of(run);
    }
    if (call->matrices[LATENT_V_UP] == NULL) {
        run->v_up = (real *)call->in[LATENT_V_UP] + head * s->size * s->value_dim;
    }
    mixt_pool_run(call->compute->pool, 2 * run->heads, expand_matrices, run);
}

/* Rows [begin, end) of one sequence. */
static void run_rows(latent_run *run, int64_t begin, int64_t end)
{
    const mixt_call *call = run->call;
    const int32_t *first = call->in[LATENT_FIRST], *last = call->in[LATENT_LAST];
    mixt_pool *pool = call->compute->pool;
    int64_t lowest = first[begin], highest = last[end - 1];
    lowest -= lowest % MIXT_ATTENTION_BLOCK;
    run->rows = (mixt_range){begin, end};
    run->blocks = mixt_divide_up(end - begin, MIXT_ATTENTION_BLOCK);
    for (int64_t head = 0; head < run->sizes.heads; head += run->heads) {
        begin_group(run, head);
        mixt_attention_sizes sizes = mixt_attention_measure(&run->part);
        run->units = MIXT_REAL(mixt_attention_units)(&run->part, &sizes, run->blocks);
        int64_t items = mixt_divide_up(run->blocks, run->units) * run->heads;
        for (int64_t key = lowest; key <= highest; key = run->keys.end) {
            run->keys = (mixt_range){key, mixt_least(key + run->tile.keys, highest + 1)};
            run->begins = key == lowest;
            run->ends = run->keys.end > highest;
            mixt_pool_run(pool, mixt_divide_up(run->keys.end - key, MIXT_ROWS), load_latents, run);
            expand_keys(run);
            mixt_pool_run(pool, items, attend_tile, run);
        }
    }
}

static void prepare(latent_run *run)
{
    const mixt_call *call = run->call;
    const mixt_attributes *a = call->attributes;
    const mixt_shape *k_up = &call->in_shape[LATENT_K_UP], *q = &call->in_shape[LATENT_Q];
    mixt_latent_sizes *s = &run->sizes;
    *s = (mixt_latent_sizes){a->heads, k_up->size[1], a->head_dim - k_up->size[2], a->head_dim,
                             a->value_dim};
    run->tile = mixt_latent_tile_of(s, q->size[0]);
    run->pages = mixt_pages_of(call, LATENT_PAGES, LATENT_SEQUENCE);
    int64_t heads = run->tile.heads, blocks = mixt_divide_up(q->size[0], MIXT_ATTENTION_BLOCK);
    run->list = call->workspace;
    run->latents = (real *)call->workspace + mixt_gemm_list_reals(2 * heads);
    run->k = run->latents + run->tile.keys * (s->size + s->position);
    run->v = run->k + run->tile.keys * heads * s->head_dim;
    run->carry = run->v + run->tile.keys * heads * s->value_dim;
    real *lse = run->carry + blocks * heads * mixt_attention_carry(s->value_dim);
    run->k_up = lse + q->size[0] * heads;
    run->v_up = run->k_up + heads * s->size * nope_of(run);
    run->group = (mixt_attributes){.scale = a->scale,
                                   .soft_cap = a->soft_cap,
                                   .head_dim = a->head_dim,
                                   .value_dim = a->value_dim};
    run->in_shape[ATTENTION_Q] = *q;
    run->in_shape[ATTENTION_K] = run->in_shape[ATTENTION_V] =
        mixt_shape_static(2, run->tile.keys, 0, 0);
    run->out_shape[ATTENTION_Y] = call->out_shape[LATENT_Y];
    run->part = (mixt_call){.compute = call->compute,
                            .attributes = &run->group,
                            .tokens = call->tokens,
                            .in_shape = run->in_shape,
                            .out_shape = run->out_shape};
    run->part.in[ATTENTION_K] = run->k;
    run->part.in[ATTENTION_V] = run->v;
    run->part.in[ATTENTION_FIRST] = call->in[LATENT_FIRST];
    run->part.in[ATTENTION_LAST] = call->in[LATENT_LAST];
    run->part.out[ATTENTION_LSE] = lse;
}

void MIXT_REAL(mixt_latent_forward)(const mixt_call *call)
{
    int64_t columns = call->out_shape[LATENT_Y].size[1], end;
    latent_run run = {.call = call};
    prepare(&run);
    for (int64_t begin = 0; begin < call->tokens; begin = end) {
        bool expanded = is_expanded(call, begin);
        for (end = begin + 1; end < call->tokens && is_expanded(call, end) == expanded &&
                              mixt_pages_same(&run.pages, begin, end);) {
            end++;
        }
        if (expanded) {
            run_rows(&run, begin, end);
        } else {
            memcpy((real *)call->out[LATENT_Y] + begin * columns,
                   (const real *)call->in[LATENT_OTHERS] + begin * columns,
                   (size_t)((end - begin) * columns) * sizeof(real));
        }
    }
}
