/* Rows of a cache as they lie: scores of queries and sums of values. Included by vector.h, whose
 * lanes it uses.
 *
 * Scores have the matrix product's chain over k, so keys are lanes: sixteen rows are read sixteen
 * values at a time and transposed in registers. For sums the values of a head are lanes. Both go
 * through tiles of whole rows, head by head; meanwhile the next tile is fetched, line by line as it
 * lies in memory. */

#define CACHED_HEADS 4   /* kv heads whose chains run side by side */
#define CACHED_TILE 8192 /* bytes of rows that are summed together */
#define CACHED_TILE_LONG 32768
/* A kernel of `function` with the cache's type as a constant. Each type's is a function of its own:
 * of all in one the compiler makes worse code. */
#define OF_TYPE(function, type, suffix)                                                            \
    static __attribute__((noinline)) void function##_##suffix(const mixt_cached_f32 *c)            \
    {                                                                                              \
        function(c, type);                                                                         \
    }
#define KERNEL_BY_TYPE(kernel, function)                                                           \
    OF_TYPE(function, MIXT_TYPE_F32, f32)                                                          \
    OF_TYPE(function, MIXT_TYPE_F16, f16)                                                          \
    OF_TYPE(function, MIXT_TYPE_BF16, bf16)                                                        \
    OF_TYPE(function, MIXT_TYPE_Q8_0, q8_0)                                                        \
    static void kernel(const mixt_cached_f32 *c)                                                   \
    {                                                                                              \
        assert(c->group <= MIXT_CACHED_GROUP && c->n <= MIXT_CACHED_MAX);                          \
        c->type == MIXT_TYPE_F16    ? function##_f16(c)                                            \
        : c->type == MIXT_TYPE_BF16 ? function##_bf16(c)                                           \
        : c->type == MIXT_TYPE_Q8_0 ? function##_q8_0(c)                                           \
                                    : function##_f32(c);                                           \
    }
#define ALWAYS static inline __attribute__((always_inline))

/* What is fetched ahead: `step` more bytes each time. */
typedef struct fetch {
    const char *at, *end;
    int64_t step;
} fetch;

ALWAYS void fetch_more(fetch *f)
{
    const char *to = f->end - f->at < f->step ? f->end : f->at + f->step;
    for (; f->at < to; f->at += 64) {
        __builtin_prefetch(f->at, 0, 3);
    }
}

/* One line more. */
ALWAYS void fetch_line(fetch *f)
{
    __builtin_prefetch(f->at, 0, 3);
    f->at += 64;
}

/* The tile behind rows [row, row + step): of these rows, or the first of those that come next. */
static fetch fetch_behind(const mixt_cached_f32 *c, int64_t row, int64_t step, int64_t pieces)
{
    int64_t rest = c->rows - row - step;
    const char *next = c->next != NULL ? c->next : c->at;
    const char *at = rest > 0 ? c->at + (row + step) * c->stride : next;
    int64_t bytes =
        rest <= 0 && c->next == NULL ? 0 : (rest > 0 && rest < step ? rest : step) * c->stride;
    return (fetch){at, at + bytes, (step * c->stride + pieces - 1) / pieces};
}

/* Values k to k + 15 of a head's row, of Q8_0 without the block's factor. */
ALWAYS v16 cached_load(const mixt_type type, const char *row, int64_t k)
{
    const void *at = row;
    return type == MIXT_TYPE_F16    ? v_load_f16((const uint16_t *)at + k)
           : type == MIXT_TYPE_BF16 ? v_load_bf16((const uint16_t *)at + k)
           : type == MIXT_TYPE_Q8_0 ? v_load_bytes(((const mixt_q8_0_block *)at)[k / 32].q + k % 32)
                                    : v_load((const float *)at + k, LANES);
}

/* What is left behind whole vectors; rows of Q8_0 have no such rest. */
static v16 cached_rest(mixt_type type, const char *row, int64_t k, int count)
{
    float room[LANES] = {0};
    if (type == MIXT_TYPE_F32) {
        return v_load((const float *)(const void *)row + k, count);
    }
    widen_values(count, room, (const uint16_t *)(const void *)row + k, type);
    return v_load(room, LANES);
}

/* Sixteen rows of a kv head, and of Q8_0 the factors of their blocks, gathered before they are
 * needed: a load of what was just stored in parts would wait. */
typedef struct key_rows {
    fetch *ahead;
    const char *at[LANES];
    uint16_t factors[MIXT_CACHED_MAX / 32][LANES];
} key_rows;

/* The last of `count` rows stands for those that are not there. */
ALWAYS void begin_rows(const mixt_cached_f32 *c, const mixt_type type, const char *at, int count,
                       key_rows *rows)
{
    for (int i = 0; i < LANES; i++) {
        rows->at[i] = at + (i < count ? i : count - 1) * c->stride;
        for (int64_t b = 0; b < c->n / 32 && type == MIXT_TYPE_Q8_0; b++) {
            rows->factors[b][i] = ((const mixt_q8_0_block *)(const void *)rows->at[i])[b].d;
        }
    }
}

/* sum += x[k] values[k] one after the other */
ALWAYS v16 chain(const float *x, const v16 *values, int count, v16 sum)
{
    UNROLL for (int i = 0; i < count; i++)
    {
        sum = v_fma(v_set(x[i]), values[i], sum);
    }
    return sum;
}

/* The same of two heads with one query each, side by side: neither waits for its own last sum. */
ALWAYS void chain_two(const float *const x[2], const v16 *const values[2], const int count,
                      v16 *const sums[2])
{
    v16 first = *sums[0], second = *sums[1];
    UNROLL for (int i = 0; i < count; i++)
    {
        first = v_fma(v_set(x[0][i]), values[0][i], first);
        second = v_fma(v_set(x[1][i]), values[1][i], second);
    }
    *sums[0] = first;
    *sums[1] = second;
}

/* Values [k, k + count) of sixteen rows, a vector for each. */
ALWAYS void load_columns(const mixt_type type, const key_rows *rows, int64_t k, int count,
                         v16 values[LANES])
{
    UNROLL for (int i = 0; i < LANES; i++)
    {
        if (type == MIXT_TYPE_F32 || (type != MIXT_TYPE_Q8_0 && i % 2 == 0)) {
            fetch_line(rows->ahead);
        }
        values[i] = count == LANES ? cached_load(type, rows->at[i], k)
                                   : cached_rest(type, rows->at[i], k, count);
    }
    v_transpose(values);
    if (type == MIXT_TYPE_Q8_0) {
        v16 d = v_load_f16(rows->factors[k / 32]);
        UNROLL for (int i = 0; i < LANES; i++)
        {
            values[i] = v_multiply(d, values[i]);
        }
    }
}

/* Values from k on of sixteen rows into the sums of the head's queries. */
ALWAYS void score_columns(const mixt_cached_f32 *c, const mixt_type type, const key_rows *rows,
                          const float *x, int64_t k, v16 *sums)
{
    int count = c->n - k < LANES ? (int)(c->n - k) : LANES;
    v16 values[LANES];
    load_columns(type, rows, k, count, values);
    for (int64_t j = 0; j < c->group; j++) {
        const float *from = x + j * c->x_row + k;
        sums[j] = count == LANES ? chain(from, values, LANES, sums[j])
                                 : chain(from, values, count, sums[j]);
    }
}

ALWAYS void score_two_columns(const mixt_type type, const key_rows rows[2], const float *const x[2],
                              int64_t k, v16 *const sums[2])
{
    v16 values[2][LANES];
    load_columns(type, &rows[0], k, LANES, values[0]);
    load_columns(type, &rows[1], k, LANES, values[1]);
    chain_two((const float *[]){x[0] + k, x[1] + k}, (const v16 *[]){values[0], values[1]}, LANES,
              sums);
}

#ifdef V_DWORDS
/* Types that are transposed as dwords of two or four values. */
#define SCORE_STEP(type) (V_DWORDS(type) ? 2 * LANES : LANES)

/* Values 8 i to 8 i + 7 of the step. Bytes come 2^24 times as large as they are, of which `d`
 * knows: nothing is rounded on the way to d q, which has 19 bits. */
ALWAYS void unpack(const mixt_type type, const v16 *dwords, const int i, v16 d, v16 values[8])
{
    UNROLL for (int k = 0; k < 8; k++)
    {
        values[k] = type == MIXT_TYPE_BF16 ? v_dword_bf16(dwords[4 * i + k / 2], k % 2)
                    : type == MIXT_TYPE_Q8_0
                        ? v_multiply(d, v_dword_byte(dwords[2 * i + k / 4], k % 4))
                        : V_DWORD_F16(dwords[4 * i + k / 2], k % 2);
    }
}

/* Thirty-two values from k on of sixteen rows, and what is to be multiplied with bytes. */
ALWAYS void load_dwords(const mixt_type type, const key_rows *rows, int64_t k, v16 dwords[LANES],
                        v16 *d)
{
    if (type == MIXT_TYPE_Q8_0) {
        v_load_quads(rows->at, k / 32 * (int64_t)sizeof(mixt_q8_0_block) + 2, dwords);
        *d = v_multiply(v_load_f16(rows->factors[k / 32]), v_set(0x1p-24F));
        return;
    }
    UNROLL for (int i = 0; i < LANES; i++)
    {
        fetch_line(rows->ahead);
        dwords[i] = v_load((const float *)(const void *)(rows->at[i] + 2 * k), LANES);
    }
    v_transpose(dwords);
    *d = v_set(0);
}

ALWAYS void score_dwords(const mixt_cached_f32 *c, const mixt_type type, const key_rows *rows,
                         const float *x, int64_t k, v16 *sums)
{
    v16 dwords[LANES], d, values[8], only = sums[0];
    load_dwords(type, rows, k, dwords, &d);
    UNROLL for (int i = 0; i < 4; i++)
    {
        unpack(type, dwords, i, d, values);
        if (c->group == 1) {
            only = chain(x + k + 8 * i, values, 8, only);
            continue;
        }
        for (int64_t j = 0; j < c->group; j++) {
            sums[j] = chain(x + j * c->x_row + k + 8 * i, values, 8, sums[j]);
        }
    }
    sums[0] = c->group == 1 ? only : sums[0];
}

ALWAYS void score_two_dwords(const mixt_type type, const key_rows rows[2], const float *const x[2],
                             int64_t k, v16 *const sums[2])
{
    v16 dwords[2][LANES], d[2], values[2][8];
    load_dwords(type, &rows[0], k, dwords[0], &d[0]);
    load_dwords(type, &rows[1], k, dwords[1], &d[1]);
    UNROLL for (int i = 0; i < 4; i++)
    {
        unpack(type, dwords[0], i, d[0], values[0]);
        unpack(type, dwords[1], i, d[1], values[1]);
        const float *from[2] = {x[0] + k + 8 * i, x[1] + k + 8 * i};
        chain_two(from, (const v16 *[]){values[0], values[1]}, 8, sums);
    }
}

ALWAYS void score_two(const mixt_type type, const key_rows rows[2], const float *const x[2],
                      int64_t k, v16 *const sums[2])
{
    if (V_DWORDS(type)) {
        score_two_dwords(type, rows, x, k, sums);
    } else {
        score_two_columns(type, rows, x, k, sums);
    }
}

ALWAYS void score_step(const mixt_cached_f32 *c, const mixt_type type, const key_rows *rows,
                       const float *x, int64_t k, v16 *sums)
{
    if (V_DWORDS(type) && c->n - k >= 2 * LANES) {
        score_dwords(c, type, rows, x, k, sums);
        return;
    }
    score_columns(c, type, rows, x, k, sums);
    if (V_DWORDS(type) && c->n - k > LANES) {
        score_columns(c, type, rows, x, k + LANES, sums);
    }
}
#else
#define SCORE_STEP(type) LANES
#define score_step score_columns
#define score_two score_two_columns
#endif

/* Rows [row, row + 16) with kv heads [head, head + count). */
ALWAYS void score_heads(const mixt_cached_f32 *c, const mixt_type type, int64_t row, int64_t head,
                        int64_t count, fetch *ahead)
{
    v16 sums[CACHED_HEADS][MIXT_CACHED_GROUP], totals[CACHED_HEADS][MIXT_CACHED_GROUP];
    key_rows rows[CACHED_HEADS];
    int keys = c->rows - row < LANES ? (int)(c->rows - row) : LANES;
    for (int64_t h = 0; h < count; h++) {
        begin_rows(c, type, c->at + row * c->stride + (head + h) * c->head_bytes, keys, &rows[h]);
        rows[h].ahead = ahead;
    }
    for (int64_t begin = 0; begin < c->n; begin += MIXT_GEMM_K_BLOCK) {
        int64_t end = c->n - begin < MIXT_GEMM_K_BLOCK ? c->n : begin + MIXT_GEMM_K_BLOCK;
        for (int64_t i = 0; i < count * c->group; i++) {
            sums[i / c->group][i % c->group] = v_set(0);
        }
        for (int64_t k = begin; k < end; k += SCORE_STEP(type)) {
            int64_t h = 0;
            for (; c->group == 1 && c->n - k >= SCORE_STEP(type) && h + 2 <= count; h += 2) {
                const float *x[2] = {c->x + (head + h) * c->x_row,
                                     c->x + (head + h + 1) * c->x_row};
                if (type == MIXT_TYPE_Q8_0) {
                    fetch_more(ahead);
                    fetch_more(ahead);
                }
                score_two(type, &rows[h], x, k, (v16 *[]){sums[h], sums[h + 1]});
            }
            for (; h < count; h++) {
                if (type == MIXT_TYPE_Q8_0) {
                    fetch_more(ahead);
                }
                score_step(c, type, &rows[h], c->x + (head + h) * c->group * c->x_row, k, sums[h]);
            }
        }
        for (int64_t i = 0; i < count * c->group; i++) {
            v16 *total = &totals[i / c->group][i % c->group];
            *total = begin == 0 ? sums[i / c->group][i % c->group]
                                : v_add(*total, sums[i / c->group][i % c->group]);
        }
    }
    for (int64_t i = 0; i < count * c->group; i++) {
        v_store(c->y + (head * c->group + i) * c->y_row + row, totals[i / c->group][i % c->group],
                keys);
    }
}

ALWAYS void score_rows(const mixt_cached_f32 *c, const mixt_type type)
{
    for (int64_t row = 0; row < c->rows; row += LANES) {
        int64_t pieces = c->heads * ((c->n + SCORE_STEP(type) - 1) / SCORE_STEP(type));
        fetch ahead = fetch_behind(c, row, LANES, pieces);
        for (int64_t head = 0; head < c->heads; head += CACHED_HEADS) {
            int64_t count = c->heads - head < CACHED_HEADS ? c->heads - head : CACHED_HEADS;
            score_heads(c, type, row, head, count, &ahead);
        }
    }
}

KERNEL_BY_TYPE(kernel_cached_dot, score_rows)

#define SUM_VECTORS 4

/* A query's part of a tile. */
typedef struct summed {
    int64_t begin, end; /* rows */
    const char *at;     /* of its kv head */
    const float *x;
    float *y;
} summed;

/* Values [i, i + 64) of a query's sum. */
ALWAYS void sum_vectors(const mixt_cached_f32 *c, const mixt_type type, const summed *s, int64_t i,
                        fetch *ahead)
{
    float *y = s->y + i;
    v16 sums[SUM_VECTORS];
    UNROLL for (int v = 0; v < SUM_VECTORS; v++)
    {
        sums[v] = s->begin == 0 ? v_set(0) : v_load(y + v * LANES, LANES);
    }
    for (int64_t r = s->begin; r < s->end; r++) {
        const char *row = s->at + r * c->stride;
        if (type != MIXT_TYPE_Q8_0) {
            fetch_more(ahead);
        }
        v16 weight = v_set(s->x[r]), d[SUM_VECTORS / 2];
        UNROLL for (int v = 0; v < SUM_VECTORS / 2; v++)
        {
            const mixt_q8_0_block *blocks = (const void *)row;
            d[v] = type == MIXT_TYPE_Q8_0 ? v_set_f16(blocks[i / 32 + v].d) : v_set(0);
        }
        UNROLL for (int v = 0; v < SUM_VECTORS; v++)
        {
            v16 value = cached_load(type, row, i + v * LANES);
            value = type == MIXT_TYPE_Q8_0 ? v_multiply(d[v / 2], value) : value;
            sums[v] = v_fma(weight, value, sums[v]);
        }
    }
    UNROLL for (int v = 0; v < SUM_VECTORS; v++)
    {
        v_store(y + v * LANES, sums[v], LANES);
    }
}

/* The same of up to sixteen values. */
ALWAYS void sum_rest(const mixt_cached_f32 *c, const mixt_type type, const summed *s, int64_t i)
{
    int count = c->n - i < LANES ? (int)(c->n - i) : LANES;
    v16 sum = s->begin == 0 ? v_set(0) : v_load(s->y + i, count);
    for (int64_t r = s->begin; r < s->end; r++) {
        const char *row = s->at + r * c->stride;
        v16 value = count == LANES ? cached_load(type, row, i) : cached_rest(type, row, i, count);
        if (type == MIXT_TYPE_Q8_0) {
            value = v_multiply(v_set_f16(((const mixt_q8_0_block *)(const void *)row)[i / 32].d),
                               value);
        }
        sum = v_fma(v_set(s->x[r]), value, sum);
    }
    v_store(s->y + i, sum, count);
}

ALWAYS void sum_rows(const mixt_cached_f32 *c, const mixt_type type)
{
    const int64_t wide = SUM_VECTORS * LANES, queries = c->heads * c->group;
    /* lines are fetched beside each row, or of short rows beside each part of a tile */
    const int64_t tile = type == MIXT_TYPE_Q8_0 ? CACHED_TILE_LONG : CACHED_TILE;
    int64_t step = tile / c->stride, parts = queries * ((c->n + wide - 1) / wide);
    step = step < 1 ? 1 : step > LANES ? LANES : step;
    for (int64_t row = 0; row < c->rows; row += step) {
        fetch ahead = fetch_behind(c, row, step, type == MIXT_TYPE_Q8_0 ? parts : parts * step);
        for (int64_t j = 0; j < queries; j++) {
            summed s = {.begin = row,
                        .end = c->rows - row < step ? c->rows : row + step,
                        .at = c->at + j / c->group * c->head_bytes,
                        .x = c->x + j * c->x_row,
                        .y = c->y + j * c->y_row};
            int64_t i = 0;
            for (; i + wide <= c->n; i += wide) {
                if (type == MIXT_TYPE_Q8_0) {
                    fetch_more(&ahead);
                }
                sum_vectors(c, type, &s, i, &ahead);
            }
            for (; i < c->n; i += LANES) {
                sum_rest(c, type, &s, i);
            }
        }
    }
}

KERNEL_BY_TYPE(kernel_cached_sum, sum_rows)
