/* Weights in rows of F32, F16, BF16 or F8_E4M3 as they lie in a file: a tile is TILE_WORDS 32-bit
 * words of ROW_LANES rows, transposed in registers, so that a lane is a row, and only then taken
 * apart into fp32. Nothing is written, but panels where the product driver wants them. Included by
 * one file for each instruction set, which has defined before (avx512_rows.h)
 *
 *   ROW_LANES, TILE_WORDS
 *   vw, vr                       ROW_LANES words, floats
 *   r_set(x) r_multiply r_add r_fma(a, b, c) r_load(from) r_store(to, x) r_prefetch(at)
 *   load_words(from, stride, count, words)  words 0 to count - 1 of rows `stride` bytes apart,
 *                                count: TILE_WORDS, or 8 where that is less
 *   values_f32(word), values_bf16(word, values), values_f16, values_f8
 *                                a word as the 1, 2 or 4 values that it holds
 */
#include <assert.h>
#include <string.h>

#include "backend/cpu/tiers.h"
#include "core/arithmetic.h"

#define TILE_BYTES (4 * TILE_WORDS)
#define WORD_VALUES_MAX 4
#define TILE_VALUES_MAX (WORD_VALUES_MAX * TILE_WORDS)
/* Bytes of a row ahead of a tile that are fetched: in sixteen rows more than the memory's latency.
 */
#define ROW_AHEAD 512

/* ROW_LANES rows: one behind the other in memory, the first at `data`. */
typedef struct row_group {
    const mixt_matrix *matrix;
    const char *data;
    int64_t row;
    int64_t step;                 /* streams: rows to the group that comes after */
    int valid;                    /* rows that exist; the others are zeros */
    bool has_factors, one_factor; /* F8: of a block; the same for all rows */
} row_group;

INLINE int word_values(const mixt_type type)
{
    return type == MIXT_TYPE_F32 ? 1 : type == MIXT_TYPE_F8_E4M3 ? 4 : 2;
}

/* Of functions that are one for each type: F32, F16, BF16, F8. */
static inline int type_index(mixt_type type)
{
    assert(mixt_type_info(type)->elements == 1);
    return type == MIXT_TYPE_F32 ? 0 : type == MIXT_TYPE_F16 ? 1 : type == MIXT_TYPE_BF16 ? 2 : 3;
}

static int64_t grid_row(const mixt_scales *scales, int64_t row)
{
    return (scales->first_row + row * scales->row_step) / scales->block_rows;
}

static row_group group_at(const mixt_matrix *matrix, int64_t row, int valid)
{
    const mixt_scales *scales = &matrix->scales;
    row_group group = {.matrix = matrix,
                       .data = (const char *)matrix->data + (size_t)row * matrix->row_bytes,
                       .row = row,
                       .valid = valid,
                       .has_factors = scales->values != NULL};
    group.one_factor = !group.has_factors || valid == 0 ||
                       grid_row(scales, row) == grid_row(scales, row + valid - 1);
    return group;
}

/* Factors of the rows for the block of columns that `k` lies in. */
static inline vr factors_at(const row_group *group, int64_t k)
{
    const mixt_scales *scales = &group->matrix->scales;
    float factors[ROW_LANES] = {0};
    if (!group->has_factors) {
        return r_set(1);
    }
    int64_t column = k / scales->block_columns;
    if (group->one_factor) {
        return r_set(scales->values[grid_row(scales, group->row) * scales->columns + column]);
    }
    for (int i = 0; i < group->valid; i++) {
        factors[i] = scales->values[grid_row(scales, group->row + i) * scales->columns + column];
    }
    return r_load(factors);
}

INLINE void take_apart(const mixt_type type, vw word, vr factor, vr values[WORD_VALUES_MAX])
{
    if (type == MIXT_TYPE_F32) {
        values[0] = values_f32(word);
    } else if (type == MIXT_TYPE_BF16) {
        values_bf16(word, values);
    } else if (type == MIXT_TYPE_F16) {
        values_f16(word, values);
    } else {
        values_f8(word, values);
        EACH(i, 4) values[i] = r_multiply(values[i], factor);
    }
}

/* Words of `count` values from k on (at most a tile) of the rows that exist, the others zeros:
 * where a whole tile would go beyond the rows or their ends. */
static void edge_words(const row_group *group, int64_t k, int count, vw words[TILE_WORDS])
{
    const int bytes = 4 / word_values(group->matrix->type);
    _Alignas(64) char tile[ROW_LANES * TILE_BYTES] = {0};
    for (int i = 0; i < group->valid; i++) {
        memcpy(tile + i * TILE_BYTES,
               group->data + (size_t)i * group->matrix->row_bytes + k * bytes,
               (size_t)(count * bytes));
    }
    load_words(tile, TILE_BYTES, TILE_WORDS, words);
}

/* The values, as [value, lane]. */
static void edge_values(const row_group *group, int64_t k, int count, float *to)
{
    const mixt_type type = group->matrix->type;
    vw words[TILE_WORDS];
    edge_words(group, k, count, words);
    vr factor = type == MIXT_TYPE_F8_E4M3 ? factors_at(group, k) : r_set(1);
    for (int i = 0; i < TILE_WORDS; i++) {
        vr values[WORD_VALUES_MAX];
        take_apart(type, words[i], factor, values);
        for (int j = 0; j < word_values(type); j++) {
            r_store(to + (i * word_values(type) + j) * ROW_LANES, values[j]);
        }
    }
}

/* Fills ROW_LANES columns of a panel. */
typedef void (*pack_function)(const row_group *group, const mixt_row_range *from, float *panel,
                              int panel_width);

/* `function` for each type, as a table `name` that type_index looks into. */
#define PACK_FUNCTION(name, function, type)                                                        \
    static void name##_##type(const row_group *group, const mixt_row_range *from, float *panel,    \
                              int panel_width)                                                     \
    {                                                                                              \
        function(MIXT_TYPE_##type, group, from, panel, panel_width);                               \
    }
#define PACK_FUNCTIONS(name, function)                                                             \
    PACK_FUNCTION(name, function, F32)                                                             \
    PACK_FUNCTION(name, function, F16)                                                             \
    PACK_FUNCTION(name, function, BF16)                                                            \
    PACK_FUNCTION(name, function, F8_E4M3)                                                         \
    static const pack_function name[] = {name##_F32, name##_F16, name##_BF16, name##_F8_E4M3};

/* All panels, whose cells are `cells` rows. */
static inline void pack_groups(pack_function pack, const mixt_row_range *from, int64_t cells,
                               float *panels, int panel_width)
{
    assert(panel_width % ROW_LANES == 0);
    for (int64_t i = 0; i < from->rows || i % panel_width != 0; i += ROW_LANES) {
        int64_t rest = mixt_least(mixt_most(from->rows - i, 0), ROW_LANES);
        row_group group = group_at(from->matrix, from->row + (rest > 0 ? i : 0), (int)rest);
        pack(&group, from, panels + i / panel_width * panel_width * cells + i % panel_width,
             panel_width);
    }
}
