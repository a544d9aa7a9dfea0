/* What shape rules and cost formulas are written with. */
#ifndef MIXT_OPS_SHAPE_H
#define MIXT_OPS_SHAPE_H

#include <assert.h>

#include "core/arithmetic.h"
#include "ops/operator.h"

#define MIXT_ROWS 32        /* rows of one parallel item */
#define MIXT_ELEMENTS 16384 /* values of one item of an elementwise operator */
#define MIXT_SUM_ROWS 128   /* rows summed into one partial gradient of a vector */

#define MIXT_MUON_GROUP 8 /* matrices of a stack that are worked on at once */

/* Active rows of a tensor in a call of `tokens`. */
static inline int64_t mixt_rows(const mixt_shape *shape, int64_t tokens)
{
    assert(!shape->per_token || (tokens >= 0 && tokens * shape->multiple <= shape->size[0]));
    return shape->per_token ? tokens * shape->multiple : shape->size[0];
}

/* Reals that hold `count` gemm records at the head of a workspace, 64-byte steps. */
static inline int64_t mixt_gemm_list_reals(int64_t count)
{
    return (int64_t)((size_t)count * sizeof(mixt_gemm_f64) + 63) / 64 * 64 / (int64_t)sizeof(float);
}

/* Reals that doubles lie in: 64-byte steps, in either precision. */
static inline int64_t mixt_round_up_reals(int64_t reals)
{
    return mixt_divide_up(reals, 16) * 16;
}

/* Shape checks: MIXT_OK, or one line that names `what` ("norm: weight") and both shapes.
 * matrix: real [rows, columns], both at least 1. expect: exactly `want`. activation: a known one.
 */
mixt_status mixt_expect_activation(const mixt_attributes *attributes, const char *what,
                                   mixt_error *error);
mixt_status mixt_expect_matrix(const mixt_shape *have, const char *what, mixt_error *error);
mixt_status mixt_expect(const mixt_shape *have, mixt_shape want, const char *what,
                        mixt_error *error);
/* `shape` with other columns. */
mixt_shape mixt_shape_columns(mixt_shape shape, int64_t columns);
/* The leading dimension of `shape` alone (rank 1). */
mixt_shape mixt_shape_leading(mixt_shape shape);
/* Values of a tensor in a call of `tokens`. */
double mixt_shape_values(const mixt_shape *shape, int64_t tokens);

/* The same of an operator's slots, for cost formulas; and the bytes of a weight. */
static inline double mixt_in_values(const mixt_cost_request *request, int slot)
{
    return mixt_shape_values(&request->in[slot], request->tokens);
}

static inline double mixt_out_values(const mixt_cost_request *request, int slot)
{
    return mixt_shape_values(&request->out[slot], request->tokens);
}

static inline double mixt_in_bytes(const mixt_cost_request *request, int slot)
{
    return mixt_in_values(request, slot) * request->value_bytes[slot];
}

#endif
