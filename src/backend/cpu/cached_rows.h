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
#define CACHED_TILE_GROUPS 16384
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

/* What is fetched ahead, into the second cache, because that is faster: `step` more bytes each
 * time. */
typedef struct fetch {
    const char *at, *end;
    int64_t step;
} fetch;

ALWAYS void fetch_more(fetch *f)
{
    const char *to = f->end - f->at < f->step ? f->end : f->at + f->step;
    for (; f->at < to; f->at += 64) {
        __builtin_prefetch(f->at, 0, 2);
    }
}

/* One line more. */
ALWAYS void fetch_line(fetch *f)
{
    __builtin_prefetch(f->at, 0, 2);
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

/* Sixteen rows of some kv heads, and the sums of their queries. */
typedef struct score_tile {
    const mixt_cached_f32 *cached;
    int64_t head, count; /* kv heads [head, head + count) */
    fetch *ahead;
    key_rows rows[CACHED_HEADS];
    v16 sums[CACHED_HEADS * MIXT_CACHED_GROUP];
} score_tile;

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

#ifdef V_TURNED
/* Values of a step: a line of each row, of Q8_0 a block. */
#define SCORE_STEP(type) ((type) == MIXT_TYPE_F32 ? LANES : 2 * LANES)

/* Of the sixteen lines that are fetched ahead meanwhile some are while a step is turned, the others
 * evenly by the chains, because a burst of them would have to wait. */
#define TURN_LINES(type, group) ((type) == MIXT_TYPE_F32 || (group) == 1 ? 4 : 0)

/* A step of sixteen rows, keys across, and what is to be multiplied with bytes. */
typedef struct turned {
    _Alignas(64) char values[LANES * 64];
    v16 d;
} turned;

/* Queries side by side, of which the first begins at x, and what is fetched meanwhile. */
typedef struct side {
    const float *x;
    int64_t x_row;
    v16 *sums;
    fetch *ahead; /* or NULL */
} side;

ALWAYS void turn_step(const mixt_type type, const key_rows *rows, int64_t k, int lines, turned *to)
{
    if (type == MIXT_TYPE_Q8_0) {
        /* bytes come 2^24 times as large: nothing is rounded on the way to d q */
        to->d = v_multiply(v_load_f16(rows->factors[k / 32]), v_set(0x1p-24F));
    }
    const int64_t at = type == MIXT_TYPE_Q8_0  ? k / 32 * (int64_t)sizeof(mixt_q8_0_block) + 2
                       : type == MIXT_TYPE_F32 ? 4 * k
                                               : 2 * k;
    const int pieces = type == MIXT_TYPE_Q8_0 ? 1 : 2;
    UNROLL for (int i = 0; i < 2 * pieces; i++)
    {
        int half = i / pieces, piece = i % pieces;
        if (lines > 0 && type != MIXT_TYPE_Q8_0) {
            fetch_line(rows->ahead);
        }
        v_turn(rows->at, at + 32 * piece, half, type == MIXT_TYPE_F16, to->values + 512 * piece);
    }
}

/* Value 4 i + place of a step. */
ALWAYS v16 turned_value(const mixt_type type, const turned *from, int64_t i, const int place)
{
    return type == MIXT_TYPE_F32    ? v_turned_f32(from->values, i, place)
           : type == MIXT_TYPE_F16  ? v_turned_f16(from->values, i, place)
           : type == MIXT_TYPE_BF16 ? v_turned_bf16(from->values, i, place)
                                    : v_multiply(from->d, v_turned_byte(from->values, i, place));
}

/* `count` queries side by side, so that none waits for its own last sum: of a head each or, `same`,
 * all of one. */
ALWAYS void score_turned(const mixt_type type, const int count, const bool same, const turned *from,
                         const side *q)
{
    const int lines = (same ? LANES - TURN_LINES(type, 2) : count * (LANES - TURN_LINES(type, 1))) *
                      4 / SCORE_STEP(type);
    v16 sums[4];
    UNROLL for (int j = 0; j < count; j++) sums[j] = q->sums[j];
    for (int64_t i = 0; i < SCORE_STEP(type) / 4; i++) {
        if (type != MIXT_TYPE_Q8_0 && q->ahead != NULL) {
            UNROLL for (int j = 0; j < lines; j++) fetch_line(q->ahead);
        }
        UNROLL for (int place = 0; place < 4; place++)
        {
            v16 value = turned_value(type, from, i, place);
            UNROLL for (int j = 0; j < count; j++)
            {
                value = same || j == 0 ? value : turned_value(type, from + j, i, place);
                sums[j] = v_fma(v_set(q->x[j * q->x_row + 4 * i + place]), value, sums[j]);
            }
        }
    }
    UNROLL for (int j = 0; j < count; j++) q->sums[j] = sums[j];
}

/* Any number of them. */
ALWAYS void score_queries(const mixt_type type, const bool same, int64_t count, const turned *from,
                          side q)
{
    for (int64_t more; count > 0; count -= more) {
        more = count >= 4 ? 4 : count >= 2 ? 2 : 1;
        if (more == 4) {
            score_turned(type, 4, same, from, &q);
        } else if (more == 2) {
            score_turned(type, 2, same, from, &q);
        } else {
            score_turned(type, 1, true, from, &q);
        }
        q.x += more * q.x_row;
        q.sums += more;
        from += same ? 0 : more;
        q.ahead = same ? NULL : q.ahead;
    }
}

/* Values from k on: a step, or what is left. */
ALWAYS void score_step(const mixt_type type, score_tile *t, int64_t k)
{
    const mixt_cached_f32 *c = t->cached;
    side q = {c->x + t->head * c->group * c->x_row + k, c->x_row, t->sums, t->ahead};
    if (c->n - k < SCORE_STEP(type)) {
        for (int64_t h = 0; h < t->count; h++) {
            const float *x = c->x + (t->head + h) * c->group * c->x_row;
            score_columns(c, type, &t->rows[h], x, k, t->sums + h * c->group);
            if (c->n - k > LANES) {
                score_columns(c, type, &t->rows[h], x, k + LANES, t->sums + h * c->group);
            }
        }
        return;
    }
    turned from[CACHED_HEADS];
    for (int64_t h = 0; h < t->count; h++) {
        if (type == MIXT_TYPE_Q8_0) {
            fetch_more(t->ahead);
        }
        turn_step(type, &t->rows[h], k, TURN_LINES(type, c->group), &from[h]);
    }
    if (c->group == 1) {
        score_queries(type, false, t->count, from, q);
        return;
    }
    for (int64_t h = 0; h < t->count; h++, q.x += c->group * q.x_row, q.sums += c->group) {
        score_queries(type, true, c->group, &from[h], q);
    }
}
#else
#ifdef V_DWORDS
/* Types that are transposed as dwords of two or four values. */
#define SCORE_STEP(type) (V_DWORDS(type) ? 2 * LANES : LANES)

/* A quarter of the lines that a step reads, which are fetched beside a quarter of its chain: all at
 * once they would have to wait. Rows of Q8_0 are fetched by the step. */
ALWAYS void fetch_quarter(const mixt_type type, fetch *ahead)
{
    const int lines = type == MIXT_TYPE_Q8_0 ? 0 : LANES / 4;
    UNROLL for (int i = 0; i < lines; i++) fetch_line(ahead);
}

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
        fetch_quarter(type, rows->ahead);
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
        fetch_quarter(type, rows[0].ahead);
        unpack(type, dwords[0], i, d[0], values[0]);
        fetch_quarter(type, rows[1].ahead);
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

ALWAYS void score_one(const mixt_cached_f32 *c, const mixt_type type, const key_rows *rows,
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
#define score_one score_columns
#define score_two score_two_columns
#endif

/* Values from k on: a step, or what is left. */
ALWAYS void score_step(const mixt_type type, score_tile *t, int64_t k)
{
    const mixt_cached_f32 *c = t->cached;
    int64_t h = 0;
    for (; c->group == 1 && c->n - k >= SCORE_STEP(type) && h + 2 <= t->count; h += 2) {
        const float *x[2] = {c->x + (t->head + h) * c->x_row, c->x + (t->head + h + 1) * c->x_row};
        if (type == MIXT_TYPE_Q8_0) {
            fetch_more(t->ahead);
            fetch_more(t->ahead);
        }
        score_two(type, &t->rows[h], x, k, (v16 *[]){&t->sums[h], &t->sums[h + 1]});
    }
    for (; h < t->count; h++) {
        if (type == MIXT_TYPE_Q8_0) {
            fetch_more(t->ahead);
        }
        const float *x = c->x + (t->head + h) * c->group * c->x_row;
        score_one(c, type, &t->rows[h], x, k, t->sums + h * c->group);
    }
}
#endif

/* Sixteen rows from `row` on. */
ALWAYS void score_heads(const mixt_type type, score_tile *t, int64_t row)
{
    const mixt_cached_f32 *c = t->cached;
    v16 totals[CACHED_HEADS * MIXT_CACHED_GROUP];
    int keys = c->rows - row < LANES ? (int)(c->rows - row) : LANES;
    for (int64_t h = 0; h < t->count; h++) {
        begin_rows(c, type, c->at + row * c->stride + (t->head + h) * c->head_bytes, keys,
                   &t->rows[h]);
        t->rows[h].ahead = t->ahead;
    }
    for (int64_t begin = 0; begin < c->n; begin += MIXT_GEMM_K_BLOCK) {
        int64_t end = c->n - begin < MIXT_GEMM_K_BLOCK ? c->n : begin + MIXT_GEMM_K_BLOCK;
        for (int64_t i = 0; i < t->count * c->group; i++) {
            t->sums[i] = v_set(0);
        }
        for (int64_t k = begin; k < end; k += SCORE_STEP(type)) {
            score_step(type, t, k);
        }
        for (int64_t i = 0; i < t->count * c->group; i++) {
            totals[i] = begin == 0 ? t->sums[i] : v_add(totals[i], t->sums[i]);
        }
    }
    for (int64_t i = 0; i < t->count * c->group; i++) {
        v_store(c->y + (t->head * c->group + i) * c->y_row + row, totals[i], keys);
    }
}

ALWAYS void score_rows(const mixt_cached_f32 *c, const mixt_type type)
{
    for (int64_t row = 0; row < c->rows; row += LANES) {
        int64_t pieces = c->heads * ((c->n + SCORE_STEP(type) - 1) / SCORE_STEP(type));
        fetch ahead = fetch_behind(c, row, LANES, pieces);
        score_tile tile = {.cached = c, .ahead = &ahead};
        for (; tile.head < c->heads; tile.head += CACHED_HEADS) {
            tile.count = c->heads - tile.head < CACHED_HEADS ? c->heads - tile.head : CACHED_HEADS;
            score_heads(type, &tile, row);
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

/* Values [i, i + 16) of the sums of `count` queries of a head: each row is widened once. */
ALWAYS void sum_side(const mixt_cached_f32 *c, const mixt_type type, const int count,
                     const summed *s, int64_t i, fetch *ahead)
{
    v16 sums[4];
    UNROLL for (int j = 0; j < count; j++)
    {
        sums[j] = s->begin == 0 ? v_set(0) : v_load(s->y + j * c->y_row + i, LANES);
    }
    for (int64_t r = s->begin; r < s->end; r++) {
        const char *row = s->at + r * c->stride;
        fetch_more(ahead);
        v16 value = cached_load(type, row, i);
        if (type == MIXT_TYPE_Q8_0) {
            value = v_multiply(v_set_f16(((const mixt_q8_0_block *)(const void *)row)[i / 32].d),
                               value);
        }
        UNROLL for (int j = 0; j < count; j++)
        {
            sums[j] = v_fma(v_set(s->x[j * c->x_row + r]), value, sums[j]);
        }
    }
    UNROLL for (int j = 0; j < count; j++) v_store(s->y + j * c->y_row + i, sums[j], LANES);
}
/* The queries of each head together. */
ALWAYS void sum_groups(const mixt_cached_f32 *c, const mixt_type type)
{
    const int64_t whole = c->n / LANES, passes = (c->group + 3) / 4;
    int64_t step = CACHED_TILE_GROUPS / c->stride;
    step = step < 1 ? 1 : step > LANES ? LANES : step;
    for (int64_t row = 0; row < c->rows; row += step) {
        fetch ahead = fetch_behind(c, row, step, c->heads * passes * (whole + 1) * step);
        for (int64_t j = 0, more; j < c->heads * c->group; j += more) {
            int64_t left = c->group - j % c->group;
            more = left >= 4 ? 4 : left >= 2 ? 2 : 1;
            summed s = {.begin = row,
                        .end = c->rows - row < step ? c->rows : row + step,
                        .at = c->at + j / c->group * c->head_bytes,
                        .x = c->x + j * c->x_row,
                        .y = c->y + j * c->y_row};
            for (int64_t i = 0; i < whole * LANES; i += LANES) {
                if (more == 4) {
                    sum_side(c, type, 4, &s, i, &ahead);
                } else if (more == 2) {
                    sum_side(c, type, 2, &s, i, &ahead);
                } else {
                    sum_side(c, type, 1, &s, i, &ahead);
                }
            }
            for (int64_t q = 0; q < more && c->n > whole * LANES; q++) {
                sum_rest(c, type, &s, whole * LANES);
                s.x += c->x_row;
                s.y += c->y_row;
            }
        }
    }
}

ALWAYS void sum_rows(const mixt_cached_f32 *c, const mixt_type type)
{
    if (c->group > 1) {
        sum_groups(c, type);
        return;
    }
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
