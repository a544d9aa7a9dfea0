/* What blocks mean, and how floats become blocks. Dequantised values equal ggml's bit for bit. */
#ifndef MIXT_QUANT_QUANT_H
#define MIXT_QUANT_QUANT_H

#include "core/error.h"
#include "quant/types.h"

/* `count` elements (whole blocks) from `blocks` as fp32. */
void mixt_dequantise(mixt_type type, const void *blocks, float *values, int64_t count);

/* Values [first, first + count) of a row of a matrix (whole blocks) as fp32. */
void mixt_matrix_values(const mixt_matrix *matrix, int64_t row, int64_t first, int64_t count,
                        float *values);

/* The first of these blocks whose scale (or value) is NaN or infinite, or -1. */
int64_t mixt_find_bad_block(mixt_type type, const void *blocks, int64_t count);

/* Whether mixt_quantise makes blocks of a type; the others are read only. */
bool mixt_type_can_quantise(mixt_type type);

/* rows x columns values into blocks. `importance` [columns], or NULL: weights of the squared error
 * of each column (mean squares of activations). Never fails on values: a block with NaN or Inf is
 * an error that names row and block. */
mixt_status mixt_quantise(mixt_type type, const float *values, int64_t rows, int64_t columns,
                          const float *importance, void *blocks, mixt_error *error);

#endif
