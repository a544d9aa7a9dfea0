/* Products of few rows of activations with typed rows of weights: a tile is multiplied while it is
 * in registers, by every token, so that weights are read once and nothing is packed. Each element
 * is the chain of the product driver (ops/kernels.h): F32 and F8, as F16 and BF16 are summed by
 * lanes (float_lanes.h). Behind float_rows.h. Where STREAM_PAIRS is defined these are products in
 * bfloat16, with weights of BF16; then there are
 *
 *   r_add_pair(sum, word, x)   sum + the products of a word's two values with those of x, a dword
 *   round_pairs(k, x, to)      k values to bfloat16
 */

#define STREAM_TOKENS MIXT_STREAM_TOKENS
/* Rows that go side by side, so that their chains hide each other's latency. */
#define STREAM_ROWS (STREAM_GROUPS * ROW_LANES)

#ifdef STREAM_PAIRS
typedef uint32_t activation; /* two bfloat16 */
#else
typedef float activation;
#endif

typedef struct stream {
    const mixt_stream_task *task;
    const activation *x[STREAM_TOKENS]; /* a row again where there are fewer */
} stream;

/* Fetches what will be wanted ROW_AHEAD bytes behind offset `at`: of these rows or of those
 * `step` further on. */
INLINE void fetch_ahead(const row_group *group, size_t at, size_t row_end)
{
    const size_t stride = group->matrix->row_bytes;
    size_t ahead = at + ROW_AHEAD;
    ahead = ahead < row_end ? ahead : ahead - row_end + (size_t)group->step * stride;
    EACH(i, ROW_LANES) r_prefetch(group->data + ahead + (size_t)i * stride);
}

/* Where a cache line of each row begins, or its half. */
typedef struct line_at {
    const stream *of;
    int64_t k;
    int bytes; /* 64 or 32 */
} line_at;

#ifdef STREAM_PAIRS
/* Products in bfloat16: words of weights are pairs of k, and so are those of activations. */
INLINE void add_word(const mixt_type type, vw word, vr factor, const stream *s, int64_t at,
                     const int tokens, vr *sums)
{
    (void)type;
    (void)factor;
    EACH(t, tokens) sums[t] = r_add_pair(sums[t], word, s->x[t][at / 2]);
}

static void add_edge(const row_group *group, const stream *s, int64_t k, int count, int tokens,
                     vr *sums)
{
    vw words[TILE_WORDS];
    edge_words(group, k, count, words);
    for (int i = 0; i < count / 2; i++) {
        for (int t = 0; t < tokens; t++) {
            sums[t] = r_add_pair(sums[t], words[i], s->x[t][k / 2 + i]);
        }
    }
}
#else
INLINE void add_word(const mixt_type type, vw word, vr factor, const stream *s, int64_t at,
                     const int tokens, vr *sums)
{
    vr values[WORD_VALUES_MAX];
    take_apart(type, word, factor, values);
    EACH(j, word_values(type))
    {
        EACH(t, tokens) sums[t] = r_fma(values[j], r_set(s->x[t][at + j]), sums[t]);
    }
}

/* Less than a line of rows that may be fewer. */
static void add_edge(const row_group *group, const stream *s, int64_t k, int count, int tokens,
                     vr *sums)
{
    float values[TILE_VALUES_MAX * ROW_LANES];
    edge_values(group, k, count, values);
    for (int t = 0; t < tokens; t++) {
        for (int i = 0; i < count; i++) {
            sums[t] = r_fma(r_load(values + i * ROW_LANES), r_set(s->x[t][k + i]), sums[t]);
        }
    }
}
#endif

/* A cache line of each row, or half of one: of several groups a word of each in turn. */
INLINE void add_line(const row_group *group, const int groups, line_at line, const mixt_type type,
                     const int tokens, vr (*sums)[STREAM_TOKENS])
{
    const int per = word_values(type);
    const int bytes = line.bytes < TILE_BYTES ? line.bytes : TILE_BYTES;
    const int64_t k = line.k;
    vr factor[STREAM_GROUPS];
    EACH(g, groups)
    {
        fetch_ahead(&group[g], (size_t)(k * 4 / per), (size_t)(group->matrix->k * 4 / per));
        factor[g] = type == MIXT_TYPE_F8_E4M3 ? factors_at(&group[g], k) : r_set(1);
    }
    EACH(part, line.bytes / bytes)
    {
        vw words[STREAM_GROUPS][TILE_WORDS];
        EACH(g, groups)
        {
            load_words(group[g].data + k * 4 / per + part * bytes, group->matrix->row_bytes,
                       bytes / 4, words[g]);
        }
        EACH(i, bytes / 4)
        {
            const int64_t at = k + (part * bytes / 4 + i) * per;
            EACH(g, groups) add_word(type, words[g][i], factor[g], line.of, at, tokens, sums[g]);
        }
    }
}

/* The same of groups that are read together. Codes of 8 bits are taken apart by so many
 * instructions that a processor does not see as far as the next group's chains, if it comes behind
 * the line. */
INLINE void add_lines(const row_group *group, const int groups, line_at line, const mixt_type type,
                      const int tokens, vr (*sums)[STREAM_TOKENS])
{
    if (STREAM_IN_TURN && type == MIXT_TYPE_F8_E4M3 && tokens == 1 && line.bytes == 64) {
        add_line(group, groups, line, type, tokens, sums);
    } else {
        EACH(g, groups) add_line(&group[g], 1, line, type, tokens, &sums[g]);
    }
}

/* The tokens' sums over a block of k for the rows from `skip` on. */
static void store_sums(const mixt_stream_task *task, const row_group *group, const vr *sums,
                       int skip, bool accumulate)
{
    for (int64_t t = 0; t < task->tokens; t++) {
        float *c = task->c + t * task->c_row + group->row;
        if (skip == 0 && group->valid == ROW_LANES) {
            r_store(c, accumulate ? r_add(r_load(c), sums[t]) : sums[t]);
            continue;
        }
        float lanes[ROW_LANES];
        r_store(lanes, sums[t]);
        for (int i = skip; i < group->valid; i++) {
            c[i] = accumulate ? c[i] + lanes[i] : lanes[i];
        }
    }
}

/* Groups of rows from `row` on, of each those that exist; what lies before `skip` is not stored. */
typedef struct slice {
    int64_t row;
    int valid, skip;
} slice;

/* Whether rows begin in the middle of a cache line, which then is better read as a half and whole
 * lines: lines of rows that lie a multiple of 4,096 bytes apart share a set of the first cache,
 * which holds eight, and what is read in two steps is fetched twice. */
static bool starts_in_half(const row_group *group)
{
    return ROW_LANES > 8 && group->matrix->row_bytes % 64 == 0 && (uintptr_t)group->data % 64 == 32;
}

/* `groups` groups of rows, all of k. */
INLINE void stream_rows(const stream *s, const mixt_type type, const int groups, const int tokens,
                        const slice *of)
{
    const int valid = of->valid;
    const mixt_matrix *matrix = s->task->matrix;
    const int tile = word_values(type) * TILE_WORDS, line = word_values(type) * 16;
    row_group group[STREAM_GROUPS];
    EACH(g, groups)
    {
        group[g] = group_at(matrix, of->row + g * ROW_LANES, valid);
        group[g].step = groups * ROW_LANES;
    }
    const bool half = starts_in_half(&group[0]);
    for (int64_t begin = 0; begin < matrix->k; begin += MIXT_GEMM_K_BLOCK) {
        int64_t at = begin, end = mixt_least(begin + MIXT_GEMM_K_BLOCK, matrix->k);
        vr sums[STREAM_GROUPS][STREAM_TOKENS];
        EACH(g, groups)
        {
            EACH(t, tokens) sums[g][t] = r_set(0);
        }
        if (half && valid == ROW_LANES && at + line / 2 <= end) {
            add_lines(group, groups, (line_at){s, at, 32}, type, tokens, sums);
            at += line / 2;
        }
        for (; valid == ROW_LANES && at + line <= end; at += line) {
            add_lines(group, groups, (line_at){s, at, 64}, type, tokens, sums);
        }
        if (half && valid == ROW_LANES && at + line / 2 <= end) {
            add_lines(group, groups, (line_at){s, at, 32}, type, tokens, sums);
            at += line / 2;
        }
        EACH(g, groups)
        {
            for (int64_t k = at; k < end; k += tile) {
                add_edge(&group[g], s, k, end - k < tile ? (int)(end - k) : tile, tokens, sums[g]);
            }
            store_sums(s->task, &group[g], sums[g], of->skip, s->task->accumulate || begin > 0);
        }
    }
}

/* All rows of a task. The last ones, where they are less than a group, are done once more with
 * those before them, or, if there are none, as a group with rows that are not there. */
INLINE void stream_all(const stream *s, const mixt_type type, const int groups, const int tokens)
{
    const mixt_stream_task *task = s->task;
    int64_t row = task->row_begin, end = task->row_end;
    for (; row + groups * ROW_LANES <= end; row += groups * ROW_LANES) {
        stream_rows(s, type, groups, tokens, &(slice){row, ROW_LANES, 0});
    }
    for (; row + ROW_LANES <= end; row += ROW_LANES) {
        stream_rows(s, type, 1, tokens, &(slice){row, ROW_LANES, 0});
    }
    if (row < end && end >= ROW_LANES) {
        stream_rows(s, type, 1, tokens,
                    &(slice){end - ROW_LANES, ROW_LANES, (int)(ROW_LANES - (end - row))});
    } else if (row < end) {
        stream_rows(s, type, 1, tokens, &(slice){row, (int)(end - row), 0});
    }
}

#define STREAM_FUNCTIONS(type)                                                                     \
    static void stream_##type##_1(const stream *s)                                                 \
    {                                                                                              \
        stream_all(s, MIXT_TYPE_##type, STREAM_GROUPS, 1);                                         \
    }                                                                                              \
    static void stream_##type##_2(const stream *s)                                                 \
    {                                                                                              \
        stream_all(s, MIXT_TYPE_##type, STREAM_GROUPS, 2);                                         \
    }                                                                                              \
    static void stream_##type##_4(const stream *s)                                                 \
    {                                                                                              \
        stream_all(s, MIXT_TYPE_##type, 1, 4);                                                     \
    }                                                                                              \
    static void stream_##type##_8(const stream *s)                                                 \
    {                                                                                              \
        stream_all(s, MIXT_TYPE_##type, 1, 8);                                                     \
    }

/* The function for so many tokens of a type's. */
#define STREAM_ENTRIES(type)                                                                       \
    {                                                                                              \
        stream_##type##_1, stream_##type##_2, stream_##type##_4, stream_##type##_8                 \
    }
typedef void (*const stream_function)(const stream *s);

static int which_tokens(int64_t tokens)
{
    assert(tokens >= 1 && tokens <= STREAM_TOKENS);
    return tokens > 4 ? 3 : tokens > 2 ? 2 : (int)tokens - 1;
}

#ifdef STREAM_PAIRS
STREAM_FUNCTIONS(BF16)

static void kernel_stream(const mixt_stream_task *task)
{
    stream_function functions[4] = STREAM_ENTRIES(BF16);
    stream s = {.task = task};
    const int64_t row = task->matrix->k / 2;
    uint64_t before = mixt_flush_enter();
    for (int64_t t = 0; t < STREAM_TOKENS; t++) {
        uint32_t *to = (uint32_t *)task->scratch + t * row;
        if (t < task->tokens) {
            round_pairs(task->matrix->k, task->a + t * task->a_row, to);
        }
        s.x[t] = t < task->tokens ? to : s.x[0];
    }
    functions[which_tokens(task->tokens)](&s);
    mixt_flush_leave(before);
}
#else
STREAM_FUNCTIONS(F32)
STREAM_FUNCTIONS(F8_E4M3)

static void kernel_stream(const mixt_stream_task *task)
{
    stream_function functions[2][4] = {STREAM_ENTRIES(F32), STREAM_ENTRIES(F8_E4M3)};
    stream s = {.task = task};
    for (int64_t t = 0; t < STREAM_TOKENS; t++) {
        s.x[t] = task->a + mixt_least(t, task->tokens - 1) * task->a_row;
    }
    assert(!mixt_in_lanes(task->matrix->type));
    functions[task->matrix->type == MIXT_TYPE_F8_E4M3][which_tokens(task->tokens)](&s);
}
#endif
