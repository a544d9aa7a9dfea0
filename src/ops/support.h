/* What the operator files share: the kernels of the precision in hand, loops over rows, shape
 * checks. Loops run over chunks whose size depends on nothing but the operator, and sums over
 * chunks are folded in rising order, so no bit depends on how many threads there are. */
#ifndef MIXT_OPS_SUPPORT_H
#define MIXT_OPS_SUPPORT_H

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "core/arithmetic.h"
#include "ops/operator.h"

typedef MIXT_REAL(mixt_kernels) mixt_kernels;
typedef MIXT_REAL(mixt_gemm) mixt_gemm;
#define mixt_gemm_run MIXT_REAL(mixt_gemm_run)
#define mixt_gemm_block MIXT_REAL(mixt_gemm_block)

#define MIXT_ROWS 32        /* rows of one parallel item */
#define MIXT_ELEMENTS 16384 /* values of one item of an elementwise operator */
#define MIXT_PIECE 512      /* values that pass through a buffer on the stack */
#define MIXT_SUM_ROWS 128   /* rows summed into one partial gradient of a vector */

static inline const mixt_kernels *mixt_kernels_of(const mixt_call *call)
{
#if MIXT_REAL_IS_DOUBLE
    return call->compute->f64;
#else
    return call->compute->f32;
#endif
}

/* Active rows of a tensor in this call. */
static inline int64_t mixt_rows(const mixt_shape *shape, int64_t tokens)
{
    return shape->per_token ? tokens * shape->multiple : shape->size[0];
}

static inline int64_t mixt_chunks(int64_t rows, int64_t chunk)
{
    return mixt_divide_up(rows, chunk);
}

/* Values of an input in this call. */
static inline int64_t mixt_values(const mixt_call *call, int input)
{
    const mixt_shape *shape = &call->in_shape[input];
    int64_t values = mixt_rows(shape, call->tokens);
    for (int i = 1; i < shape->rank; i++) {
        values *= shape->size[i];
    }
    return values;
}

typedef struct mixt_range {
    int64_t begin, end;
} mixt_range;

static inline mixt_range mixt_chunk(int64_t rows, int64_t chunk, int64_t item)
{
    return (mixt_range){item * chunk, mixt_least(rows, (item + 1) * chunk)};
}

/* One item for each chunk of rows; the item's context is the call. */
static inline void mixt_for_chunks(const mixt_call *call, int64_t rows, int64_t chunk,
                                   mixt_item_function function)
{
    mixt_pool_run(call->compute->pool, mixt_chunks(rows, chunk), function, (void *)call);
}

/* y = x, or y += x. */
static inline void mixt_put(const mixt_kernels *kernels, int64_t n, real *y, const real *x,
                            bool add)
{
    if (add) {
        kernels->add(n, y, y, x);
    } else if (y != x) {
        memcpy(y, x, (size_t)n * sizeof *y);
    }
}

/* y = activation(gate) * up, by the attributes, and the derivatives of it. */
static inline void mixt_activate(const mixt_call *call, int64_t n, real *y, const real *gate,
                                 const real *up)
{
    const mixt_kernels *kernels = mixt_kernels_of(call);
    switch (call->attributes->activation) {
    case MIXT_ACTIVATION_GELU:
        kernels->geglu(n, y, gate, up);
        break;
    case MIXT_ACTIVATION_CLAMPED:
        kernels->clamped_glu(n, y, gate, up);
        break;
    case MIXT_ACTIVATION_SILU:
    default:
        kernels->swiglu(n, y, gate, up);
    }
}

/* What the derivatives of a gated activation are written to. */
typedef struct mixt_gated {
    real *d_gate, *d_up;
} mixt_gated;

static inline void mixt_activate_backward(const mixt_call *call, int64_t n, mixt_gated to,
                                          const real *gate, const real *up, const real *dy)
{
    const mixt_kernels *kernels = mixt_kernels_of(call);
    switch (call->attributes->activation) {
    case MIXT_ACTIVATION_GELU:
        kernels->geglu_backward(n, to.d_gate, to.d_up, gate, up, dy);
        break;
    case MIXT_ACTIVATION_CLAMPED:
        kernels->clamped_glu_backward(n, to.d_gate, to.d_up, gate, up, dy);
        break;
    case MIXT_ACTIVATION_SILU:
    default:
        kernels->swiglu_backward(n, to.d_gate, to.d_up, gate, up, dy);
    }
}

/* The gradient of an input that got none: zeros, or nothing to add. */
static inline void mixt_put_zero(const mixt_call *call, int input, int64_t count)
{
    if (call->d_in[input] != NULL && !call->add[input]) {
        memset(call->d_in[input], 0, (size_t)count * sizeof(real));
    }
}

/* y += the sum of `count` vectors of n values that lie `stride` apart. */
static inline void mixt_add_sum(const mixt_kernels *kernels, int64_t n, real *y,
                                const real *vectors, int64_t count, int64_t stride)
{
    for (int64_t i = 0; i < count; i++) {
        kernels->add(n, y, y, vectors + i * stride);
    }
}

/* Reals that hold `count` gemm records at the head of a workspace, 64-byte steps. */
static inline int64_t mixt_gemm_list_reals(int64_t count)
{
    return (int64_t)((size_t)count * sizeof(mixt_gemm_f64) + 63) / 64 * 64 / (int64_t)sizeof(float);
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

#define MIXT_TRY(expression)                                                                       \
    do {                                                                                           \
        mixt_status status_ = (expression);                                                        \
        if (status_ != MIXT_OK) {                                                                  \
            return status_;                                                                        \
        }                                                                                          \
    } while (0)

#endif
