/* One token, with NEON: lanes are blocks that follow each other in the file, whatever rows they
 * belong to, so that weights stream through the core in the order in which they lie in memory and
 * no panel is written. Activations are held upright: column b belongs to block b of a row, so lanes
 * that begin at block b read columns b, b + 1, ... (the first columns stand once more behind the
 * last). Each block gives two floats, d_weights d_x and its sum of products (with minima two more),
 * and rows chain them afterwards. Included behind quant_multiply.h. */

typedef struct upright {
    int64_t blocks, width; /* of a row; blocks + QUANT_LANES columns */
    int32_t *cells;        /* [cells, width] */
    int32_t *sums;         /* [4 or 8 pairs of words, or 1, width] */
    float *d;              /* [width] */
} upright;

/* What 16 (or 8) blocks give. */
typedef struct dots {
    vi products, minima;
    vf d, m;
} dots;

#define CELL(x, at, cell) vi_loadu((x)->cells + (cell) * (x)->width + (at))
#define SUMS(x, at, i) vi_loadu((x)->sums + (i) * (x)->width + (at))

#ifdef QUANT_DOTS
#define DOT(part, w, x) part = vb_next(part, w, x)
#else
#define DOT(part, w, x)                                                                            \
    part = vb_next(part, w, x);                                                                    \
    PIN(part)
#endif
#define SCALED(total, part, scale) total = vb_scaled(total, part, scale)
#define UNSCALED(total, part) total = vb_added(total, part)

/* Blocks ahead of those in work are fetched, in rising order (which the hardware's prefetcher then
 * follows) and at an even pace: the lanes themselves touch memory in no order it would follow. */
#define STREAM_VECTORS 2
/* Further ahead pages are touched, so that their addresses are known in time: mapped files lie in
 * small pages. */
#define STREAM_PAGES 32768

/* ------------------------------------------------------------------------------------------ */
/* Blocks of 256                                                                              */

INLINE vi byte_scale(vi x, const int byte)
{
    return SCALE_OF_BYTE(x, byte);
}

INLINE vi signed_scale(vi x, const int byte)
{
    return SCALE_OF_SIGNED_BYTE(x, byte);
}

INLINE k_head load_k_head(source *from)
{
    vi head[4];
    stream_quads(from, 0, head);
    return k_head_of(head);
}

/* Minima times sums over 32. */
INLINE vi dot_minima(const k_head *head, const upright *x, int64_t at)
{
    vi total = vi_madd(vi_pick(head->min[0], 0, NONE, 1, NONE), SUMS(x, at, 0));
    total = vi_add32(total, vi_madd(vi_pick(head->min[0], 2, NONE, 3, NONE), SUMS(x, at, 1)));
    total = vi_add32(total, vi_madd(vi_pick(head->min[1], 0, NONE, 1, NONE), SUMS(x, at, 2)));
    return vi_add32(total, vi_madd(vi_pick(head->min[1], 2, NONE, 3, NONE), SUMS(x, at, 3)));
}

INLINE dots dots_q4_k(source *from, const upright *x, int64_t at)
{
    k_head head = load_k_head(from);
    const vi low = vi_set32(LOW_NIBBLES);
    vi total = vi_zero();
    EACH(i, 4)
    {
        vi q[8];
        vb first = vb_zero(), second = vb_zero();
        stream_quads(from, (size_t)(16 + 32 * i), q);
        stream_quads(from, (size_t)(32 + 32 * i), q + 4);
        EACH(j, 8)
        {
            DOT(first, vi_and(q[j], low), CELL(x, at, 16 * i + j));
            DOT(second, vi_and(vi_srl32(q[j], 4), low), CELL(x, at, 16 * i + 8 + j));
        }
        SCALED(total, first, byte_scale(head.scale[i / 2], i % 2 * 2));
        SCALED(total, second, byte_scale(head.scale[i / 2], i % 2 * 2 + 1));
    }
    return (dots){total, dot_minima(&head, x, at), head.d, head.m};
}

INLINE dots dots_q5_k(source *from, const upright *x, int64_t at)
{
    k_head head = load_k_head(from);
    const vi low = vi_set32(LOW_NIBBLES);
    vi total = vi_zero(), high[8];
    stream_quads(from, 16, high);
    stream_quads(from, 32, high + 4);
    EACH(i, 4)
    {
        vi scale = byte_scale(head.scale[i / 2], i % 2 * 2);
        vi next = byte_scale(head.scale[i / 2], i % 2 * 2 + 1);
        EACH(half, 2)
        {
            vi q[4];
            vb first = vb_zero(), second = vb_zero();
            stream_quads(from, (size_t)(48 + 32 * i + 16 * half), q);
            EACH(j, 4)
            {
                vi bits = vi_srl32(high[4 * half + j], 2 * i);
                vi a = AND_OR(vi_sll32(bits, 4), BYTES(16), vi_and(q[j], low));
                vi b = AND_OR(vi_sll32(bits, 3), BYTES(16), vi_and(vi_srl32(q[j], 4), low));
                DOT(first, a, CELL(x, at, 16 * i + 4 * half + j));
                DOT(second, b, CELL(x, at, 16 * i + 8 + 4 * half + j));
            }
            SCALED(total, first, scale);
            SCALED(total, second, next);
        }
    }
    return (dots){total, dot_minima(&head, x, at), head.d, head.m};
}

/* 16 values of each of four groups of Q6_K: their bytes, and cells from `cell` on, 8 apart. */
INLINE vi add_sixes(vi total, const vi values[4], vi scale, const upright *x, int64_t column)
{
    vb part = vb_zero(), rest = vb_zero();
    DOT(part, values[0], vi_loadu(x->cells + column));
    DOT(part, values[1], vi_loadu(x->cells + column + x->width));
    DOT(rest, values[2], vi_loadu(x->cells + column + 2 * x->width));
    DOT(rest, values[3], vi_loadu(x->cells + column + 3 * x->width));
    SCALED(total, part, scale);
    SCALED(total, rest, scale);
    return total;
}

INLINE dots dots_q6_k(source *from, const upright *x, int64_t at)
{
    const vi low = vi_set32(LOW_NIBBLES);
    vi total = vi_zero(), offset = vi_zero(), scale[4];
    stream_quads(from, 192, scale);
    EACH(i, 4)
    {
        vi first[4], second[4], high[4], values[4];
        const int group = i / 2 * 8 + i % 2; /* the first of four, 2 apart */
        size_t quad = (size_t)(i / 2 * 64 + i % 2 * 16);
        int64_t column = (i / 2 * 32 + i % 2 * 4) * x->width + at;
        stream_quads(from, quad, first);
        stream_quads(from, quad + 32, second);
        stream_quads(from, (size_t)(128 + 16 * i), high);
        EACH(j, 4)
        values[j] = AND_OR(vi_sll32(high[j], 4), BYTES(48), vi_and(first[j], low));
        total = add_sixes(total, values, signed_scale(scale[group / 4], group % 4), x, column);
        EACH(j, 4)
        values[j] = AND_OR(vi_sll32(high[j], 2), BYTES(48), vi_and(second[j], low));
        total = add_sixes(total, values, signed_scale(scale[group / 4], group % 4 + 2), x,
                          column + 8 * x->width);
        EACH(j, 4)
        values[j] = AND_OR(high[j], BYTES(48), vi_and(vi_srl32(first[j], 4), low));
        total = add_sixes(total, values, signed_scale(scale[group / 4 + 1], group % 4), x,
                          column + 16 * x->width);
        EACH(j, 4)
        values[j] = AND_OR(vi_srl32(high[j], 2), BYTES(48), vi_and(vi_srl32(second[j], 4), low));
        total = add_sixes(total, values, signed_scale(scale[group / 4 + 1], group % 4 + 2), x,
                          column + 24 * x->width);
    }
    EACH(i, 4)
    {
        vi s = scale[i];
        vi pair = vi_sra16(vi_pick(s, NONE, 0, NONE, 1), 8);
        vi next = vi_sra16(vi_pick(s, NONE, 2, NONE, 3), 8);
        offset = vi_add32(offset, vi_madd(pair, SUMS(x, at, 2 * i)));
        offset = vi_add32(offset, vi_madd(next, SUMS(x, at, 2 * i + 1)));
    }
    total = vi_sub32(total, vi_sll32(offset, 5));
    return (dots){total, vi_zero(), vf_half(vi_srl32(load_last(from, 206), 16)), vf_set(0)};
}

/* ------------------------------------------------------------------------------------------ */
/* Blocks of 32                                                                               */

INLINE dots dots_q4_0(source *from, const upright *x, int64_t at)
{
    const vi low = vi_set32(LOW_NIBBLES);
    vi q[4], total = vi_zero();
    vb part = vb_zero();
    fetch_stream(from, QUANT_LANES * sizeof(mixt_q4_0_block));
    load_quads(from, 2, q);
    EACH(j, 4)
    {
        DOT(part, vi_and(q[j], low), CELL(x, at, j));
        DOT(part, vi_and(vi_srl32(q[j], 4), low), CELL(x, at, j + 4));
    }
    UNSCALED(total, part);
    total = vi_sub32(total, vi_sll32(SUMS(x, at, 0), 3));
    return (dots){total, vi_zero(), vf_half(load_first(from, 0)), vf_set(0)};
}

INLINE dots dots_q5_0(source *from, const upright *x, int64_t at)
{
    vi head[4], q[4], cells[8], total = vi_zero();
    vb part = vb_zero(), rest = vb_zero();
    fetch_stream(from, QUANT_LANES * sizeof(mixt_q5_0_block));
    load_quads(from, 6, q);
    load_quads(from, 0, head);
    unpack_fives(q, fifth_bits(head), cells);
    EACH(j, 4)
    {
        DOT(part, cells[j], CELL(x, at, j));
        DOT(rest, cells[j + 4], CELL(x, at, j + 4));
    }
    UNSCALED(total, part);
    UNSCALED(total, rest);
    total = vi_sub32(total, vi_sll32(SUMS(x, at, 0), 4));
    return (dots){total, vi_zero(), vf_half(head[0]), vf_set(0)};
}

INLINE dots dots_q8_0(source *from, const upright *x, int64_t at)
{
    vi q[8];
    fetch_stream(from, QUANT_LANES * sizeof(mixt_q8_0_block));
    load_quads(from, 2, q);
    load_quads(from, 18, q + 4);
#ifdef QUANT_SIGNED
    vi total = vi_zero();
    EACH(j, 8) DOT(total, q[j], CELL(x, at, j));
#else
    vw products = vw_zero();
    EACH(j, 8)
    {
        vi cells[2];
        put_signed(q[j], cells);
        products = vw_next(products, cells[0], CELL(x, at, 2 * j));
        products = vw_next(products, cells[1], CELL(x, at, 2 * j + 1));
    }
    vi total = vw_sum(products);
#endif
    return (dots){total, vi_zero(), vf_half(load_first(from, 0)), vf_set(0)};
}

/* ------------------------------------------------------------------------------------------ */
/* Rows                                                                                       */

#define SINGLE_ROWS QUANT_LANES /* rows that are chained together */

/* What one token's rows are worked out in, in the thread's scratch. */
typedef struct single {
    upright x;
    float *scale, *products, *min_scale, *minima; /* [SINGLE_ROWS, blocks] */
    const uint8_t *weights;                       /* the first block */
    size_t bytes;                                 /* of a block */
} single;

/* The floats of SINGLE_ROWS rows: a vector for each QUANT_LANES blocks. */
#define SINGLE_FUNCTION(name, call, has_minima)                                                    \
    static void name(const single *run)                                                            \
    {                                                                                              \
        int64_t at = 0;                                                                            \
        source from = {run->weights, run->bytes, NULL};                                            \
        for (int64_t i = 0; i < run->x.blocks * SINGLE_ROWS; i += QUANT_LANES) {                   \
            from.ahead = from.base + STREAM_VECTORS * QUANT_LANES * run->bytes;                    \
            __builtin_prefetch(from.base + STREAM_PAGES, 0, 3);                                    \
            dots sums = call(&from, &run->x, at);                                                  \
            vf d = vf_load(run->x.d + at);                                                         \
            vf_store(run->scale + i, vf_multiply(sums.d, d));                                      \
            vf_store(run->products + i, vf_convert(sums.products));                                \
            if (has_minima) {                                                                      \
                vf_store(run->min_scale + i, vf_multiply(sums.m, d));                              \
                vf_store(run->minima + i, vf_convert(sums.minima));                                \
            }                                                                                      \
            from.base += QUANT_LANES * run->bytes;                                                 \
            at = (at + QUANT_LANES) % run->x.blocks;                                               \
        }                                                                                          \
    }

SINGLE_FUNCTION(single_q4_k, dots_q4_k, true)
SINGLE_FUNCTION(single_q5_k, dots_q5_k, true)
SINGLE_FUNCTION(single_q6_k, dots_q6_k, false)
SINGLE_FUNCTION(single_q4_0, dots_q4_0, false)
SINGLE_FUNCTION(single_q5_0, dots_q5_0, false)
SINGLE_FUNCTION(single_q8_0, dots_q8_0, false)

typedef struct single_kernels {
    void (*run)(const single *run);
    bool minima;
    int sums; /* rows of upright sums */
} single_kernels;

static const single_kernels singles_of_type[MIXT_TYPE_COUNT] = {
    [MIXT_TYPE_Q4_0] = {single_q4_0, false, 1}, [MIXT_TYPE_Q5_0] = {single_q5_0, false, 1},
    [MIXT_TYPE_Q8_0] = {single_q8_0, false, 1}, [MIXT_TYPE_Q4_K] = {single_q4_k, true, 4},
    [MIXT_TYPE_Q5_K] = {single_q5_k, true, 4},  [MIXT_TYPE_Q6_K] = {single_q6_k, false, 8},
};

/* How activations are read: words only where bytes of weights may have no sign. */
static mixt_q8_kind kind_of_columns(const mixt_matrix *matrix)
{
    mixt_q8_kind kind = mixt_q8_kind_of(matrix->type);
#ifdef QUANT_SIGNED
    kind.wide = false;
#endif
    return kind;
}

static int cells_of_block(const mixt_matrix *matrix)
{
    mixt_q8_kind kind = kind_of_columns(matrix);
    return (kind.by_32 ? 8 : MIXT_STEP / 4) * (kind.wide ? 2 : 1);
}

/* Column `block` of the upright activations. */
static void put_column(const mixt_matrix_task *task, const upright *x, int sums, int64_t block)
{
    mixt_q8_kind kind = kind_of_columns(task->matrix);
    int cells = cells_of_block(task->matrix);
    int64_t step = kind.by_32 ? block / MIXT_STEP_BLOCKS : block;
    int part = kind.by_32 ? (int)(block % MIXT_STEP_BLOCKS) : 0;
    const mixt_q8 *record =
        (const void *)(task->activations + (size_t)step * task->activation_bytes);
    const char *q =
        kind.wide ? (const char *)((const mixt_q8_wide *)record)->q : (const char *)record->q;
    q += (size_t)(part * cells) * 4;
    for (int cell = 0; cell < cells; cell++) {
        memcpy(x->cells + cell * x->width + block, q + 4 * cell, 4);
    }
    for (int i = 0; i < sums; i++) {
        const char *from = sums == 1   ? (const char *)&record->totals[part]
                           : sums == 4 ? (const char *)&record->block_sums[2 * i]
                                       : (const char *)&record->sums[2 * i];
        memcpy(x->sums + i * x->width + block, from, 4);
    }
    x->d[block] = record->d[part];
}

/* The first columns once more behind the last, in cells, sums and scales alike. */
static void repeat_columns(const upright *x, int rows)
{
    for (int i = 0; i < rows; i++) {
        int32_t *row = x->cells + i * x->width;
        for (int64_t at = x->blocks; at < x->width; at += x->blocks) {
            int64_t rest = x->width - at;
            memcpy(row + at, row, (size_t)(rest < x->blocks ? rest : x->blocks) * sizeof *row);
        }
    }
}

/* Lays out the scratch and the activations; false where the scratch is too small. */
static bool single_start(const mixt_matrix_task *task, single *run)
{
    const mixt_matrix *matrix = task->matrix;
    const mixt_type_row *info = mixt_type_info(matrix->type);
    int sums = singles_of_type[matrix->type].sums, cells = cells_of_block(matrix);
    upright *x = &run->x;
    x->blocks = matrix->k / info->elements;
    x->width = x->blocks + QUANT_LANES;
    size_t row = (size_t)x->width * sizeof(float);
    size_t floats = (size_t)(x->blocks * SINGLE_ROWS + 4) * sizeof(float);
    floats = (floats + 63) / 64 * 64;
    if ((size_t)(cells + sums + 1) * row + 64 + 4 * floats > MIXT_MATRIX_SCRATCH) {
        return false;
    }
    char *memory = task->scratch;
    run->scale = (float *)(void *)memory;
    run->products = (float *)(void *)(memory + floats);
    run->min_scale = (float *)(void *)(memory + 2 * floats);
    run->minima = (float *)(void *)(memory + 3 * floats);
    x->cells = (int32_t *)(void *)(memory + 4 * floats);
    x->sums = x->cells + cells * x->width;
    x->d = (float *)(void *)(x->sums + sums * x->width);
    run->bytes = (size_t)info->bytes;
    for (int64_t block = 0; block < x->blocks; block++) {
        put_column(task, x, sums, block);
    }
    repeat_columns(x, cells + sums + 1);
    return true;
}

/* Chains SINGLE_ROWS rows, a row in each lane. */
static vf single_chain(const single *run, bool minima)
{
    const size_t stride = (size_t)run->x.blocks * sizeof(float);
    const source scale = {(const uint8_t *)run->scale, stride, NULL};
    const source products = {(const uint8_t *)run->products, stride, NULL};
    const source min_scale = {(const uint8_t *)run->min_scale, stride, NULL};
    const source least = {(const uint8_t *)run->minima, stride, NULL};
    vf sum = vf_set(0);
    for (int64_t block = 0; block < run->x.blocks; block += 4) {
        vi a[4], b[4], c[4], d[4];
        size_t at = (size_t)block * sizeof(float);
        load_quads(&scale, at, a);
        load_quads(&products, at, b);
        if (minima) {
            load_quads(&min_scale, at, c);
            load_quads(&least, at, d);
        }
        for (int i = 0; i < 4 && block + i < run->x.blocks; i++) {
            sum = vf_fma(vf_of_bits(a[i]), vf_of_bits(b[i]), sum);
            if (minima) {
                sum = vf_fma(vf_of_bits(c[i]), vf_of_bits(d[i]), sum);
            }
        }
    }
    return sum;
}

/* One token times all rows but the last few; returns the first row that is left. Rows with gaps
 * between them are all left: blocks are counted as if there were none. */
static int64_t multiply_single(const mixt_matrix_task *task)
{
    const mixt_matrix *matrix = task->matrix;
    const single_kernels *kernels = &singles_of_type[matrix->type];
    bool together = matrix->row_bytes == mixt_type_row_bytes(matrix->type, matrix->k);
    single run;
    int64_t row = task->row_begin;
    if (task->tokens != 1 || !together || kernels->run == NULL ||
        task->row_end - row < SINGLE_ROWS || !single_start(task, &run)) {
        return row;
    }
    for (; row + SINGLE_ROWS <= task->row_end; row += SINGLE_ROWS) {
        run.weights = (const uint8_t *)task->matrix->data + (size_t)row * task->matrix->row_bytes;
        kernels->run(&run);
        vf sum = single_chain(&run, kernels->minima);
        float *c = task->c + row;
        vf_store(c, task->accumulate ? vf_add(vf_load(c), sum) : sum);
    }
    return row;
}

static void kernel_multiply(const mixt_matrix_task *task)
{
    mixt_matrix_task rest = *task;
    mixt_type type = task->matrix->type;
    if (task->tokens == 1 && (mixt_type_is_multiples(type) || mixt_type_has_parts(type))) {
        multiply_multiples(task);
        return;
    }
    rest.row_begin = multiply_single(task);
    multiply_panels(&rest);
}
