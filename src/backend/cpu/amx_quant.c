/* Products with quantised weights with AMX: sixteen tokens times a panel's sixteen rows, a group of
 * k at a time. Cells of a panel are rows of B as TDPBSUD reads them, and bytes of activations are
 * rows of A as they lie. What is left is the work on sums, as quant_tile.h has it. Few tokens,
 * and types whose halves of blocks have scales, run as with VNNI.
 * tests/amx_emulated_quant.c compiles this file with the tile registers spelled out. */
#include "backend/cpu/avx512_quantise.h"

#include "backend/cpu/amx_registers.h"

#ifndef FILL
#define FILL mixt_fill_amx_matrix
#define vi_dot4(sum, a, b) _mm512_dpbusd_epi32(sum, a, b)
#define vi_dpwssd(sum, a, b) _mm512_dpwssd_epi32(sum, a, b)
#endif

#define QUANT_DOTS
#include "backend/cpu/quant_panel.h"

#include "backend/cpu/quant_tile.h"

#define TILE_TOKENS 16
#define TILE_TOKENS_LEAST 8 /* that are worth a tile of which the rest is thrown away */
#define GROUPS 4            /* of k, whose tiles are summed one behind the other */

/* Sums of products: for each of four groups [tokens, rows]. */
typedef struct group_sums {
    vi rows[GROUPS][TILE_TOKENS];
} group_sums;

#define GROUP_SUMS(i, a, b)                                                                        \
    AMX_ZERO(i);                                                                                   \
    AMX_LOAD(a, record_of(at, 0)->q + 4 * (cell + (i)*cells), (int64_t)at->x_bytes);               \
    AMX_LOAD(b, weights->cells + cell + (i)*cells, sizeof(vi));                                    \
    AMX_DOT_BYTES(i, a, b);                                                                        \
    AMX_STORE(i, to->rows[i], sizeof(vi));

/* Four groups of `cells` cells, as the registers are configured. */
INLINE void sum_groups(const tile *at, const panel *weights, int cell, const int cells,
                       group_sums *to){GROUP_SUMS(0, 4, 5) GROUP_SUMS(1, 6, 7) GROUP_SUMS(2, 4, 5)
                                           GROUP_SUMS(3, 6, 7)}

/* tile_256 for one panel. */
INLINE void matrix_256(const tile *at, int r, const tile_kind kind)
{
    const panel *weights = &at->panels[r];
    vi total[TILE_TOKENS];
    group_sums sums;
    EACH(t, TILE_TOKENS)
    total[t] = kind.offset == 0 ? vi_zero() : pairs_times(weights, record_of(at, t)->sums, 8);
    for (int group = 0; group < MIXT_STEP / 4 / kind.group; group += GROUPS) {
        for (int eighth = 0; eighth < GROUPS * kind.group / 8; eighth++) {
            fetch_eighth(at, group * kind.group / 8 + eighth);
        }
        sum_groups(at, weights, group * kind.group, kind.group, &sums);
        for (int i = 0; i < GROUPS; i++) {
            vi scale = kind.plain ? vi_zero() : weights->scales[group + i];
            EACH(t, TILE_TOKENS)
            {
                vi part = sums.rows[i][t];
                total[t] = vi_add32(total[t], kind.plain ? part : vi_mullo32(part, scale));
            }
        }
    }
    EACH(t, TILE_TOKENS)
    {
        const mixt_q8 *x = record_of(at, t);
        float *to = at->sums + t * ROWS + r * QUANT_LANES;
        vf sum = add_scaled(vf_load(to), weights->d[0], x->d[0], total[t]);
        if (kind.minima > 0) {
            vi minima =
                pairs_times(weights, kind.minima == 4 ? x->block_sums : x->sums, kind.minima);
            sum = add_scaled(sum, weights->m[0], x->d[0], minima);
        }
        vf_store(to, sum);
    }
}

/* tile_32 for one panel. Sums behind the last block are thrown away. */
INLINE void matrix_32(const tile *at, int r, const tile_kind kind)
{
    const panel *weights = &at->panels[r];
    vf sum[TILE_TOKENS];
    group_sums sums;
    EACH(t, TILE_TOKENS) sum[t] = vf_load(at->sums + t * ROWS + r * QUANT_LANES);
    for (int first = 0; first < at->blocks; first += GROUPS) {
        sum_groups(at, weights, 8 * first, 8, &sums);
        for (int block = first; block < first + GROUPS && block < at->blocks; block++) {
            fetch_eighth(at, block);
            EACH(t, TILE_TOKENS)
            {
                const mixt_q8 *x = record_of(at, t);
                vi part = sums.rows[block - first][t];
                if (kind.offset != 0) {
                    part = vi_add32(part, less(kind.offset, at, t, block, 3));
                }
                sum[t] = add_scaled(sum[t], weights->d[block], x->d[block], part);
                if (kind.minima > 0) {
                    sum[t] = add_scaled(sum[t], weights->m[block], x->d[block],
                                        vi_set32(x->totals[block]));
                }
            }
        }
    }
    EACH(t, TILE_TOKENS) vf_store(at->sums + t * ROWS + r * QUANT_LANES, sum[t]);
}

/* Sixteen tokens; what comes next is fetched by the first panel. */
#define MATRIX_FUNCTION(name, form, ...)                                                           \
    static void matrices_##name(tile at)                                                           \
    {                                                                                              \
        for (int r = 0; r < QUANT_PANELS; r++) {                                                   \
            form(&at, r, (tile_kind){__VA_ARGS__});                                                \
            at.lines = 0;                                                                          \
        }                                                                                          \
    }

MATRIX_FUNCTION(q2_k, matrix_256, 4, 4, 0, 8, false, false)
MATRIX_FUNCTION(q3_k, matrix_256, 4, 4, 4, 0, false, false)
MATRIX_FUNCTION(q4_k, matrix_256, 8, 8, 0, 4, false, false)
MATRIX_FUNCTION(q5_k, matrix_256, 8, 4, 0, 4, false, false)
MATRIX_FUNCTION(q6_k, matrix_256, 4, 2, 32, 0, false, false)
MATRIX_FUNCTION(signed_256, matrix_256, 8, 8, BYTE_BIAS, 0, false, false)
MATRIX_FUNCTION(multiples_16, matrix_256, 4, 4, BYTE_BIAS, 0, false, false)
MATRIX_FUNCTION(multiples_256, matrix_256, 8, 8, BYTE_BIAS, 0, true, false)
MATRIX_FUNCTION(q4_0, matrix_32, 8, 8, 8, 0, false, false)
MATRIX_FUNCTION(q4_1, matrix_32, 8, 8, 0, 1, false, false)
MATRIX_FUNCTION(q5_0, matrix_32, 8, 4, 16, 0, false, false)
MATRIX_FUNCTION(q5_1, matrix_32, 8, 4, 0, 1, false, false)
MATRIX_FUNCTION(mxfp4, matrix_32, 8, 4, 12, 0, false, false)
MATRIX_FUNCTION(signed_32, matrix_32, 8, 8, BYTE_BIAS, 0, false, false)

typedef struct matrix_kernel {
    void (*run)(tile at);
    int cells; /* of a group */
} matrix_kernel;

static const matrix_kernel matrix_of_type[MIXT_TYPE_COUNT] = {
    [MIXT_TYPE_Q4_0] = {matrices_q4_0, 8},
    [MIXT_TYPE_Q4_1] = {matrices_q4_1, 8},
    [MIXT_TYPE_Q5_0] = {matrices_q5_0, 8},
    [MIXT_TYPE_Q5_1] = {matrices_q5_1, 8},
    [MIXT_TYPE_Q8_0] = {matrices_signed_32, 8},
    [MIXT_TYPE_Q2_K] = {matrices_q2_k, 4},
    [MIXT_TYPE_Q3_K] = {matrices_q3_k, 4},
    [MIXT_TYPE_Q4_K] = {matrices_q4_k, 8},
    [MIXT_TYPE_Q5_K] = {matrices_q5_k, 8},
    [MIXT_TYPE_Q6_K] = {matrices_q6_k, 4},
    [MIXT_TYPE_IQ4_NL] = {matrices_signed_32, 8},
    [MIXT_TYPE_IQ4_XS] = {matrices_signed_256, 8},
    [MIXT_TYPE_MXFP4] = {matrices_mxfp4, 8},
    [MIXT_TYPE_IQ1_S] = {matrices_signed_256, 8},
    [MIXT_TYPE_IQ1_M] = {matrices_multiples_16, 4},
    [MIXT_TYPE_IQ2_XXS] = {matrices_signed_256, 8},
    [MIXT_TYPE_IQ2_XS] = {matrices_multiples_16, 4},
    [MIXT_TYPE_IQ2_S] = {matrices_multiples_16, 4},
    [MIXT_TYPE_IQ3_XXS] = {matrices_signed_256, 8},
    [MIXT_TYPE_IQ3_S] = {matrices_signed_256, 8},
    [MIXT_TYPE_TQ1_0] = {matrices_multiples_256, 8},
    [MIXT_TYPE_TQ2_0] = {matrices_multiples_256, 8},
};

static bool has_matrices(mixt_type type, int64_t tokens)
{
    return tokens >= TILE_TOKENS_LEAST && matrix_of_type[type].run != NULL;
}

/* Up to fifteen tokens, among zeros: a tile reads sixteen. */
static void run_last(const matrix_kernel *kernel, tile at, int tokens)
{
    struct {
        mixt_q8 records[TILE_TOKENS];
        float sums[TILE_TOKENS * ROWS];
    } whole = {0};
    for (int t = 0; t < tokens; t++) {
        whole.records[t] = *record_of(&at, t);
        memcpy(whole.sums + t * ROWS, at.sums + t * ROWS, ROWS * sizeof(float));
    }
    float *sums = at.sums;
    at.x = (const char *)whole.records;
    at.x_bytes = sizeof whole.records[0];
    at.sums = whole.sums;
    kernel->run(at);
    memcpy(sums, whole.sums, (size_t)(tokens * ROWS) * sizeof(float));
}

/* The step of all tokens: the last ones, if too few for a tile, by `tiles`. */
static void run_matrices(mixt_type type, void (*tiles)(tile at, int64_t count), tile at,
                         int64_t tokens)
{
    if (!has_matrices(type, tokens)) {
        tiles(at, tokens);
        return;
    }
    const matrix_kernel *kernel = &matrix_of_type[type];
    int rest = (int)(tokens % TILE_TOKENS);
    if (rest > 0 && rest < TILE_TOKENS_LEAST) {
        tile last = at;
        last.x += (size_t)(tokens - rest) * at.x_bytes;
        last.sums += (tokens - rest) * ROWS;
        last.lines = 0;
        tiles(last, rest);
        tokens -= rest;
        rest = 0;
    }
    for (; tokens >= TILE_TOKENS; tokens -= TILE_TOKENS) {
        kernel->run(at);
        at.x += TILE_TOKENS * at.x_bytes;
        at.sums += TILE_TOKENS * ROWS;
        at.lines = 0;
    }
    if (rest > 0) {
        run_last(kernel, at, rest);
    }
}

#include "backend/cpu/quant_multiples.h"

#define run_tiles(type, at, tokens) run_matrices(type, kernels_of_type[type].tiles, at, tokens)
#include "backend/cpu/quant_multiply.h"

#include "backend/cpu/quant_rows.h"

/* Registers 0 to 3 hold sums, 4 and 6 tokens, 5 and 7 cells. */
static void multiply_with_tiles(const mixt_matrix_task *task)
{
    static const amx_configuration eight = {
        .palette = AMX_PALETTE,
        .row_bytes = {64, 64, 64, 64, 32, 64, 32, 64},
        .rows = {16, 16, 16, 16, 16, 8, 16, 8},
    };
    static const amx_configuration four = {
        .palette = AMX_PALETTE,
        .row_bytes = {64, 64, 64, 64, 16, 64, 16, 64},
        .rows = {16, 16, 16, 16, 16, 4, 16, 4},
    };
    mixt_type type = task->matrix->type;
    if (!has_matrices(type, task->tokens)) {
        kernel_multiply(task);
        return;
    }
    AMX_CONFIGURE(matrix_of_type[type].cells == 8 ? &eight : &four);
    multiply_panels(task);
    AMX_RELEASE();
}

void FILL(mixt_kernels_f32 *table)
{
    static const mixt_matrix_kernels kernels = {ROWS, kernel_quantise, multiply_with_tiles};
    table->matrix = &kernels;
}
