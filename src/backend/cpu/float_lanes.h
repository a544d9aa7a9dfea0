/* Products of few rows of activations with rows of F16 or BF16 as they lie: eight values of a row
 * are a register, whose lane j sums every eighth k from j on, as the product driver does by
 * `tile_lanes` (ops/kernels.h). Rows are read one cache line behind another, and nothing but sums
 * is transposed. Included by one file for each instruction set, behind its rows (float_rows.h says
 * what those have), of which r_add, r_load, r_store, r_prefetch, load_words, values_f32, ROW_LANES
 * and TILE_WORDS (8 or 4) are used. Needs besides
 *
 *   v8                           eight floats
 *   v8_zero() v8_load(from) v8_store(to, x) v8_fma(a, b, c)
 *   v8_keep(x)                   makes the compiler hold it in a register
 *   v8_bf16(from), v8_f16(from)  eight values of these types
 *   LANE_SUMS                    registers of sums: tokens times the rows that go side by side
 */
#include <assert.h>
#include <math.h>

#include "backend/cpu/tiers.h"
#include "core/arithmetic.h"
#include "quant/quant.h"

#define LANES MIXT_GEMM_LANES
#define LANE_ROWS 8  /* of a group */
#define LINE_STEPS 4 /* registers of values on a cache line */
#define LANE_TOKENS MIXT_STREAM_TOKENS

/* A group of rows, of which `valid` exist, over [begin, end) of k, a block of the driver's. */
typedef struct lane_group {
    const mixt_stream_task *task;
    const char *data; /* of the first row */
    int64_t row;
    int valid;
    int64_t begin, end;
    const float *x; /* activations, [k / LANES][tokens of the kernel][LANES] */
} lane_group;

INLINE v8 v8_of(const mixt_type type, const char *from)
{
    return type == MIXT_TYPE_F16 ? v8_f16(from) : v8_bf16(from);
}

/* A register of each of `rows` rows, at their place k. */
INLINE void add_step(const lane_group *group, const mixt_type type, const int rows,
                     const int tokens, const char *at, int64_t k, v8 (*sums)[LANE_TOKENS])
{
    const size_t stride = group->task->matrix->row_bytes;
    v8 x[LANE_TOKENS];
    EACH(t, tokens)
    {
        x[t] = v8_load(group->x + k * tokens + t * LANES);
        if (rows > 1) {
            v8_keep(x[t]); /* not loaded again by each row */
        }
    }
    EACH(i, rows)
    {
        v8 weights = v8_of(type, at + (size_t)i * stride);
        EACH(t, tokens) sums[i][t] = v8_fma(weights, x[t], sums[i][t]);
    }
}

/* The sums of lanes of `rows` rows of the group from `first` on, to `to` [token][row][lane]. What
 * lies behind the group is fetched meanwhile, as many lines as are read and in the order of
 * addresses, which is faster than that in which they will be wanted (docs/performance.md). */
INLINE void sum_lanes(const lane_group *group, const mixt_type type, const int first,
                      const int rows, const int tokens, float (*to)[LANE_ROWS][LANES])
{
    const size_t stride = group->task->matrix->row_bytes;
    const char *at = group->data + (size_t)first * stride + 2 * group->begin;
    const char *ahead = group->data + LANE_ROWS * stride +
                        2 * (LANE_ROWS * group->begin + first * (group->end - group->begin));
    int64_t k = group->begin;
    v8 sums[LANE_ROWS][LANE_TOKENS];
    EACH(i, rows)
    {
        EACH(t, tokens) sums[i][t] = v8_zero();
    }
    for (; k + LINE_STEPS * LANES <= group->end; k += LINE_STEPS * LANES) {
        EACH(i, rows) r_prefetch(ahead + (size_t)i * 64);
        ahead += 64 * rows;
        EACH(step, LINE_STEPS)
        {
            add_step(group, type, rows, tokens, at + 2 * LANES * step, k + LANES * step, sums);
        }
        at += 2 * LINE_STEPS * LANES;
    }
    for (; k + LANES <= group->end; k += LANES) {
        add_step(group, type, rows, tokens, at, k, sums);
        at += 2 * LANES;
    }
    EACH(i, rows)
    {
        EACH(t, tokens) v8_store(to[t][first + i], sums[i][t]);
    }
}

/* What is left of k: one value more for the first lanes. */
static void add_rest(const lane_group *group, float (*sums)[LANE_ROWS][LANES])
{
    int64_t count = (group->end - group->begin) % LANES, k = group->end - count;
    for (int i = 0; i < group->valid && count > 0; i++) {
        float weights[LANES];
        mixt_matrix_values(group->task->matrix, group->row + i, k, count, weights);
        for (int64_t t = 0; t < group->task->tokens; t++) {
            const float *x = group->task->a + t * group->task->a_row;
            for (int64_t j = 0; j < count; j++) {
                sums[t][i][j] = fmaf(weights[j], x[k + j], sums[t][i][j]);
            }
        }
    }
}

/* Adds the lanes of ROW_LANES rows from `first` on in rising order, to C where it accumulates. */
static void store_lanes(const lane_group *group, int first, const float (*sums)[LANES], float *c,
                        bool accumulate)
{
    const int lanes = (int)mixt_least(group->end - group->begin, LANES);
    const int count = (int)mixt_least(group->valid - first, ROW_LANES);
    vw words[LANES];
    float total[ROW_LANES] = {0};
    EACH(part, LANES / TILE_WORDS)
    {
        load_words((const char *)(sums[first] + part * TILE_WORDS), LANES * sizeof(float),
                   TILE_WORDS, words + part * TILE_WORDS);
    }
    memcpy(total, c, accumulate ? (size_t)count * sizeof *c : 0);
    vr sum = values_f32(words[0]);
    sum = accumulate ? r_add(r_load(total), sum) : sum;
    for (int j = 1; j < lanes; j++) {
        sum = r_add(sum, values_f32(words[j]));
    }
    r_store(total, sum);
    memcpy(c, total, (size_t)count * sizeof *c);
}

/* All of k of a group, `rows` rows side by side. */
INLINE void stream_group(lane_group *group, const mixt_type type, const int rows, const int tokens)
{
    const mixt_stream_task *task = group->task;
    _Alignas(64) float sums[LANE_TOKENS][LANE_ROWS][LANES] = {{{0}}};
    for (group->begin = 0; group->begin < task->matrix->k; group->begin = group->end) {
        int first = 0;
        group->end = mixt_least(group->begin + MIXT_GEMM_K_BLOCK, task->matrix->k);
        for (; first + rows <= group->valid; first += rows) {
            sum_lanes(group, type, first, rows, tokens, sums);
        }
        for (; first < group->valid; first++) {
            sum_lanes(group, type, first, 1, tokens, sums);
        }
        add_rest(group, sums);
        for (int64_t t = 0; t < task->tokens; t++) {
            for (first = 0; first < group->valid; first += ROW_LANES) {
                store_lanes(group, first, (const float(*)[LANES])sums[t],
                            task->c + t * task->c_row + group->row + first,
                            task->accumulate || group->begin > 0);
            }
        }
    }
}

/* All rows of a task, the last ones perhaps a group that is not whole. Rows of activations lie
 * together then, and not a multiple of 4,096 bytes apart. */
INLINE void stream_lanes(const mixt_stream_task *task, const mixt_type type, const int tokens)
{
    const int rows = tokens == 1 ? 2 : LANE_SUMS / tokens; /* of one token two are read faster */
    const mixt_matrix *matrix = task->matrix;
    float *x = task->scratch;
    lane_group group = {.task = task, .x = tokens == 1 ? task->a : x};
    for (int64_t k = 0; tokens > 1 && k + LANES <= matrix->k; k += LANES) {
        for (int64_t t = 0; t < tokens; t++, x += LANES) {
            const float *from = task->a + mixt_least(t, task->tokens - 1) * task->a_row + k;
            v8_store(x, v8_load(from));
        }
    }
    for (group.row = task->row_begin; group.row < task->row_end; group.row += LANE_ROWS) {
        group.data = (const char *)matrix->data + (size_t)group.row * matrix->row_bytes;
        group.valid = (int)mixt_least(task->row_end - group.row, LANE_ROWS);
        stream_group(&group, type, rows, tokens);
    }
}

#define LANE_FUNCTION(type, tokens)                                                                \
    static void lanes_##type##_##tokens(const mixt_stream_task *task)                              \
    {                                                                                              \
        stream_lanes(task, MIXT_TYPE_##type, tokens);                                              \
    }
#define LANE_FUNCTIONS(type)                                                                       \
    LANE_FUNCTION(type, 1)                                                                         \
    LANE_FUNCTION(type, 2) LANE_FUNCTION(type, 4) LANE_FUNCTION(type, 8)
LANE_FUNCTIONS(F16)
LANE_FUNCTIONS(BF16)

static void kernel_stream_half(const mixt_stream_task *task)
{
    static void (*const functions[2][4])(const mixt_stream_task *task) = {
        {lanes_F16_1, lanes_F16_2, lanes_F16_4, lanes_F16_8},
        {lanes_BF16_1, lanes_BF16_2, lanes_BF16_4, lanes_BF16_8}};
    assert(mixt_in_lanes(task->matrix->type));
    assert(task->tokens >= 1 && task->tokens <= LANE_TOKENS);
    const int which = task->tokens > 4 ? 3 : task->tokens > 2 ? 2 : (int)task->tokens - 1;
    functions[task->matrix->type == MIXT_TYPE_BF16][which](task);
}
