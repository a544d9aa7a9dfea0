/* Quantised activations, and what the kernels of products with quantised weights are called with.
 * The definition is docs/numerics.md, "Products with quantised weights"; the scalar tier
 * (backend/cpu/scalar_quant.c) spells it out. */
#ifndef MIXT_OPS_QUANTISED_H
#define MIXT_OPS_QUANTISED_H

#include <stdbool.h>
#include <stdint.h>

#include "quant/multiples.h"

/* A step is 256 values of k: one block of the K types, up to eight blocks (or parts) of 32. */
#define MIXT_STEP 256
#define MIXT_STEP_BLOCKS 8

/* One step of one row of activations: value = d q, |q| <= 127. Values behind the row's end and
 * groups that hold a value that is not finite are zeros. */
typedef struct mixt_q8 {
    _Alignas(64) int8_t q[MIXT_STEP];
    int16_t starts[32]; /* x86 without VNNI: where 16-bit sums of products start (quant_tile.h) */
    int16_t sums[16];   /* of q over 16 */
    int16_t block_sums[8]; /* of q over 32 */
    int32_t large;         /* likewise, wide: a bit for each 16 values: those of IQ2 may not fit */
    float d[8];            /* of each 32 values, or of all 256 in d[0]; NaN where not finite */
    int32_t totals[8];     /* block_sums in 32 bits */
} mixt_q8;

/* With q widened to 16 bits behind it, for weights that need all 8 bits. */
typedef struct mixt_q8_wide {
    mixt_q8 narrow;
    _Alignas(64) int16_t q[MIXT_STEP];
} mixt_q8_wide;

typedef struct mixt_q8_kind {
    bool by_32; /* a scale for each 32 values instead of each 256 */
    bool wide;
} mixt_q8_kind;

static inline mixt_q8_kind mixt_q8_kind_of(mixt_type type)
{
    return (mixt_q8_kind){
        .by_32 = mixt_type_info(type)->elements < MIXT_STEP,
        .wide = type == MIXT_TYPE_Q8_0 || type == MIXT_TYPE_IQ4_NL || type == MIXT_TYPE_IQ4_XS ||
                mixt_type_is_multiples(type) || mixt_type_has_parts(type),
    };
}

static inline size_t mixt_q8_bytes(mixt_q8_kind kind)
{
    return kind.wide ? sizeof(mixt_q8_wide) : sizeof(mixt_q8);
}

/* Rows [row_begin, row_end) of a matrix times `tokens` rows of activations. */
typedef struct mixt_matrix_task {
    const mixt_matrix *matrix;
    int64_t row_begin, row_end;
    const char *activations; /* [steps, tokens] records of the matrix's kind */
    size_t activation_bytes; /* of a record */
    int64_t tokens;
    float *c; /* [tokens, c_row]: element (token, row) */
    int64_t c_row;
    bool accumulate;
    void *scratch; /* of this thread, MIXT_MATRIX_SCRATCH bytes on a cache line */
} mixt_matrix_task;

#define MIXT_MATRIX_TOKENS 512 /* most tokens of a task */
#define MIXT_MATRIX_ROWS 32    /* most rows of a panel */
#define MIXT_MATRIX_SCRATCH                                                                        \
    (MIXT_MATRIX_TOKENS * MIXT_MATRIX_ROWS * sizeof(float) + ((size_t)64 << 10))

typedef struct mixt_matrix_kernels {
    int panel_rows; /* rows that are done together: tasks begin at multiples */
    /* `count` values (whole blocks, at most a step) of a row. */
    void (*quantise)(const float *x, int count, mixt_q8_kind kind, mixt_q8 *to);
    void (*multiply)(const mixt_matrix_task *task);
} mixt_matrix_kernels;

#endif
