/* Types of weight tensors: plain floats, and blocks of a few bits with their scales, laid out byte
 * for byte as GGUF files hold them (ggml's type numbers). A row is a whole number of blocks. */
#ifndef MIXT_QUANT_TYPES_H
#define MIXT_QUANT_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* name, GGUF type number (-1: only in folders), elements of a block, bytes of a block */
#define MIXT_TYPE_LIST(X)                                                                          \
    X(F32, 0, 1, 4)                                                                                \
    X(F16, 1, 1, 2)                                                                                \
    X(BF16, 30, 1, 2)                                                                              \
    X(Q4_0, 2, 32, 18)                                                                             \
    X(Q4_1, 3, 32, 20)                                                                             \
    X(Q5_0, 6, 32, 22)                                                                             \
    X(Q5_1, 7, 32, 24)                                                                             \
    X(Q8_0, 8, 32, 34)                                                                             \
    X(Q2_K, 10, 256, 84)                                                                           \
    X(Q3_K, 11, 256, 110)                                                                          \
    X(Q4_K, 12, 256, 144)                                                                          \
    X(Q5_K, 13, 256, 176)                                                                          \
    X(Q6_K, 14, 256, 210)                                                                          \
    X(IQ4_NL, 20, 32, 18)                                                                          \
    X(IQ4_XS, 23, 256, 136)                                                                        \
    X(MXFP4, 39, 32, 17)                                                                           \
    X(IQ1_S, 19, 256, 50)                                                                          \
    X(IQ1_M, 29, 256, 56)                                                                          \
    X(IQ2_XXS, 16, 256, 66)                                                                        \
    X(IQ2_XS, 17, 256, 74)                                                                         \
    X(IQ2_S, 22, 256, 82)                                                                          \
    X(IQ3_XXS, 18, 256, 98)                                                                        \
    X(IQ3_S, 21, 256, 110)                                                                         \
    X(TQ1_0, 34, 256, 54)                                                                          \
    X(TQ2_0, 35, 256, 66)                                                                          \
    X(NVFP4, 40, 64, 36)                                                                           \
    X(Q1_0, 41, 128, 18)                                                                           \
    X(Q2_0, 42, 64, 18)                                                                            \
    X(F8_E4M3, -1, 1, 1)

typedef enum mixt_type {
#define MIXT_TYPE_ENUM(name, number, elements, bytes) MIXT_TYPE_##name,
    MIXT_TYPE_LIST(MIXT_TYPE_ENUM)
#undef MIXT_TYPE_ENUM
        MIXT_TYPE_COUNT
} mixt_type;

typedef struct mixt_type_row {
    const char *name; /* "Q4_K" */
    int number;       /* in GGUF files; -1: none */
    int elements;     /* of a block */
    int bytes;        /* of a block */
} mixt_type_row;

const mixt_type_row *mixt_type_info(mixt_type type);
/* MIXT_TYPE_COUNT where mixt does not know the number or name (case is ignored). */
mixt_type mixt_type_from_number(int64_t number);
mixt_type mixt_type_from_name(const char *name);
/* Bytes of a row of `elements`, 0 where they are not whole blocks. */
size_t mixt_type_row_bytes(mixt_type type, int64_t elements);

/* Factors of a matrix of F8_E4M3, one for each block of the tensor that its rows lie in: row i of
 * the matrix is row first_row + i * row_step of the grid's, and value (row, column) is multiplied
 * by values[row / block_rows * columns + column / block_columns]. */
typedef struct mixt_scales {
    const float *values; /* [grid rows, columns]; NULL: none */
    int64_t block_rows, block_columns, columns;
    int64_t first_row, row_step; /* first_row < block_rows */
} mixt_scales;

/* A weight matrix as it lies in a file or in memory: n rows of k values, row i at
 * data + i * row_bytes. It borrows its bytes. */
typedef struct mixt_matrix {
    mixt_type type;
    int64_t n, k;
    const void *data;
    size_t row_bytes;
    mixt_scales scales;
} mixt_matrix;

/* Number of factors that the rows of a matrix use. */
int64_t mixt_scales_count(const mixt_matrix *matrix);

#endif
