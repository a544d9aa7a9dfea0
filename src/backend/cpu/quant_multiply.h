/* Rows of a matrix times tokens, panel by panel: each step of ROWS rows is unpacked once, and meets
 * all tokens while it lies in the first cache. Included behind quant_tile.h. */

#include <assert.h>

typedef struct type_kernels {
    void (*unpack_256)(source *from, panel *to);
    void (*unpack_32)(source *from, panel *to, int block);
    void (*tiles)(tile at, int64_t count);
} type_kernels;

static const type_kernels kernels_of_type[MIXT_TYPE_COUNT] = {
    [MIXT_TYPE_Q4_0] = {NULL, unpack_q4_0, tiles_q4_0},
    [MIXT_TYPE_Q4_1] = {NULL, unpack_q4_1, tiles_q4_1},
    [MIXT_TYPE_Q5_0] = {NULL, unpack_q5_0, tiles_q5_0},
    [MIXT_TYPE_Q5_1] = {NULL, unpack_q5_1, tiles_q5_1},
    [MIXT_TYPE_Q8_0] = {NULL, unpack_q8_0, tiles_signed_32},
    [MIXT_TYPE_Q2_K] = {unpack_q2_k, NULL, tiles_q2_k},
    [MIXT_TYPE_Q3_K] = {unpack_q3_k, NULL, tiles_q3_k},
    [MIXT_TYPE_Q4_K] = {unpack_q4_k, NULL, tiles_q4_k},
    [MIXT_TYPE_Q5_K] = {unpack_q5_k, NULL, tiles_q5_k},
    [MIXT_TYPE_Q6_K] = {unpack_q6_k, NULL, tiles_q6_k},
    [MIXT_TYPE_IQ4_NL] = {NULL, unpack_iq4_nl, tiles_signed_32},
    [MIXT_TYPE_IQ4_XS] = {unpack_iq4_xs, NULL, tiles_iq4_xs},
    [MIXT_TYPE_MXFP4] = {NULL, unpack_mxfp4, tiles_mxfp4},
    [MIXT_TYPE_IQ1_S] = {unpack_iq1_s, NULL, tiles_multiples_32},
    [MIXT_TYPE_IQ1_M] = {unpack_iq1_m, NULL, tiles_multiples_16},
    [MIXT_TYPE_IQ2_XXS] = {unpack_iq2_xxs, NULL, tiles_twos_32},
    [MIXT_TYPE_IQ2_XS] = {unpack_iq2_xs, NULL, tiles_twos_16},
    [MIXT_TYPE_IQ2_S] = {unpack_iq2_s, NULL, tiles_twos_16},
    [MIXT_TYPE_IQ3_XXS] = {unpack_iq3_xxs, NULL, tiles_multiples_32},
    [MIXT_TYPE_IQ3_S] = {unpack_iq3_s, NULL, tiles_multiples_32},
    [MIXT_TYPE_TQ1_0] = {unpack_tq1_0, NULL, tiles_multiples_256},
    [MIXT_TYPE_TQ2_0] = {unpack_tq2_0, NULL, tiles_multiples_256},
    [MIXT_TYPE_NVFP4] = {NULL, unpack_nvfp4, tiles_16},
    [MIXT_TYPE_Q1_0] = {NULL, unpack_q1_0, tiles_16},
    [MIXT_TYPE_Q2_0] = {NULL, unpack_q2_0, tiles_16},
};

#ifndef run_tiles /* else a tier's own */
#define run_tiles(type, at, tokens) kernels_of_type[type].tiles(at, tokens)
#endif

#define STEP_BYTES_MAX 320 /* of a row: 8 blocks of Q8_0 are 272 */

/* A thread's scratch. */
typedef struct scratch {
    panel panels[QUANT_PANELS];
    uint8_t rows[QUANT_LANES][STEP_BYTES_MAX];
    float sums[];
} scratch;

typedef struct step_range {
    size_t offset, bytes; /* in a row */
    int blocks;
    const uint8_t *ahead; /* the same share of the rows that come next, or NULL */
} step_range;

/* The step of rows [row, row + QUANT_LANES), where some are behind the end as zeros. */
static source source_of(const mixt_matrix_task *task, int64_t row, const step_range *step,
                        scratch *memory)
{
    const mixt_matrix *matrix = task->matrix;
    int64_t rows = task->row_end - row;
    const uint8_t *base = (const uint8_t *)matrix->data + step->offset;
    if (rows >= QUANT_LANES) {
        return (source){base + (size_t)row * matrix->row_bytes, matrix->row_bytes, NULL};
    }
    memset(memory->rows, 0, sizeof memory->rows);
    for (int64_t i = 0; i < rows; i++) {
        memcpy(memory->rows[i], base + (size_t)(row + i) * matrix->row_bytes, step->bytes);
    }
    return (source){memory->rows[0], STEP_BYTES_MAX, NULL};
}

static void unpack_step(const mixt_matrix_task *task, int64_t row, const step_range *step,
                        scratch *memory)
{
    mixt_type type = task->matrix->type;
    const mixt_type_row *info = mixt_type_info(type);
    const type_kernels *kernels = &kernels_of_type[type];
    for (int r = 0; r < QUANT_PANELS; r++) {
        source from = source_of(task, row + r * QUANT_LANES, step, memory);
        from.ahead =
            step->ahead == NULL ? NULL : step->ahead + (size_t)(r * QUANT_LANES) * step->bytes / 2;
        if (kernels->unpack_256 != NULL) {
            kernels->unpack_256(&from, &memory->panels[r]);
            continue;
        }
        for (int block = 0; block < step->blocks; block++) { /* or parts of longer ones */
            if (block * 32 % info->elements == 0) {
                fetch_ahead(&from, (size_t)(QUANT_LANES * info->bytes));
            }
            kernels->unpack_32(&from, &memory->panels[r], block);
            from.base += (block + 1) * 32 % info->elements == 0 ? info->bytes : 0;
        }
    }
}

#ifdef QUANT_PAIRS
/* Arranges the panels of bytes for several tokens. */
static bool pair_panels(const mixt_matrix_task *task, const step_range *step, scratch *memory)
{
    mixt_type type = task->matrix->type;
    if (task->tokens == 1) {
        return false;
    }
    int cells = kernels_of_type[type].unpack_256 != NULL ? MIXT_STEP / 4 : 8 * step->blocks;
    for (int r = 0; r < QUANT_PANELS; r++) {
        pair_rows(&memory->panels[r], cells);
    }
    return true;
}
#endif

static void put_sums(const mixt_matrix_task *task, int64_t row, const float *sums)
{
    int64_t rows = task->row_end - row < ROWS ? task->row_end - row : ROWS;
    for (int64_t t = 0; t < task->tokens; t++, sums += ROWS) {
        float *c = task->c + t * task->c_row + row;
        if (rows == ROWS) {
            EACH(r, QUANT_PANELS)
            {
                vf sum = vf_load(sums + r * QUANT_LANES);
                float *to = c + r * QUANT_LANES;
                vf_store(to, task->accumulate ? vf_add(vf_load(to), sum) : sum);
            }
            continue;
        }
        for (int64_t i = 0; i < rows; i++) {
            c[i] = task->accumulate ? c[i] + sums[i] : sums[i];
        }
    }
}

static void multiply_panels(const mixt_matrix_task *task)
{
    const mixt_matrix *matrix = task->matrix;
    const mixt_type_row *info = mixt_type_info(matrix->type);
    scratch *memory = task->scratch;
    assert(kernels_of_type[matrix->type].tiles != NULL && task->row_begin % QUANT_LANES == 0);
    assert(task->tokens <= MIXT_MATRIX_TOKENS && task->row_end <= matrix->n);
    assert((uintptr_t)task->scratch % 64 == 0 && (uintptr_t)task->activations % 64 == 0);
    int64_t steps = mixt_divide_up(matrix->k, MIXT_STEP);
    size_t step_bytes = (size_t)(MIXT_STEP / info->elements * info->bytes);
    for (int64_t row = task->row_begin; row < task->row_end; row += ROWS) {
        memset(memory->sums, 0, (size_t)task->tokens * ROWS * sizeof(float));
        for (int64_t step = 0; step < steps; step++) {
            step_range range = {.offset = (size_t)step * step_bytes, .bytes = step_bytes};
            int64_t rest = matrix->k - step * MIXT_STEP;
            range.blocks = rest < MIXT_STEP ? (int)(rest / 32) : MIXT_STEP_BLOCKS;
            if (rest < MIXT_STEP) {
                range.bytes = (size_t)(rest / info->elements * info->bytes);
            }
            if (row + ROWS < task->row_end) {
                range.ahead = (const uint8_t *)matrix->data +
                              (size_t)(row + ROWS) * matrix->row_bytes +
                              (size_t)step * step_bytes * ROWS;
            }
            unpack_step(task, row, &range, memory);
            tile at = {
                .panels = memory->panels,
                .x = task->activations + (size_t)(step * task->tokens) * task->activation_bytes,
                .x_bytes = task->activation_bytes,
                .blocks = range.blocks,
                .sums = memory->sums,
#ifdef QUANT_PAIRS
                .paired = pair_panels(task, &range, memory),
#endif
            };
            if (range.ahead != NULL) {
                size_t half = ROWS * range.bytes / 2;
                at.ahead = range.ahead + half;
                at.lines = (int)(half / 64 / 8) + 1;
            }
            run_tiles(matrix->type, at, task->tokens);
        }
        put_sums(task, row, memory->sums);
    }
}

_Static_assert(sizeof(scratch) + MIXT_MATRIX_TOKENS * ROWS * sizeof(float) <= MIXT_MATRIX_SCRATCH,
               "scratch");
