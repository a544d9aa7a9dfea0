/* What the forwards and backwards share (*_tmpl.c): the kernels of the precision in hand, and loops
 * over rows. Loops run over chunks whose size depends on nothing but the operator, and sums over
 * chunks are folded in rising order, so no bit depends on how many threads there are. */
#ifndef MIXT_OPS_SUPPORT_TMPL_H
#define MIXT_OPS_SUPPORT_TMPL_H

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "core/random.h"
#include "core/real.h"
#include "ops/shape.h"

typedef MIXT_REAL(mixt_kernels) mixt_kernels;
typedef MIXT_REAL(mixt_gemm) mixt_gemm;
typedef MIXT_REAL(mixt_gemm_chain) mixt_gemm_chain;
#define mixt_gemm_run MIXT_REAL(mixt_gemm_run)
#define mixt_gemm_run_chains MIXT_REAL(mixt_gemm_run_chains)
#define mixt_gemm_block MIXT_REAL(mixt_gemm_block)
#define mixt_linear_gradients MIXT_REAL(mixt_linear_gradients)

#define MIXT_PIECE 512 /* values that pass through a buffer on the stack */

static inline const mixt_kernels *mixt_kernels_of(const mixt_call *call)
{
    return call->compute->MIXT_REAL_SUFFIX;
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
    assert(item >= 0 && item * chunk < rows);
    return (mixt_range){item * chunk, mixt_least(rows, (item + 1) * chunk)};
}

/* For asserts: whether n numbers are in [least, bound). */
static inline bool mixt_all_within(int64_t n, const int32_t *x, int64_t least, int64_t bound)
{
    for (int64_t i = 0; i < n; i++) {
        if (x[i] < least || x[i] >= bound) {
            return false;
        }
    }
    return true;
}

/* One item for each chunk of rows; the item's context is the call. */
static inline void mixt_for_chunks(const mixt_call *call, int64_t rows, int64_t chunk,
                                   mixt_item_function function)
{
    mixt_pool_run(call->compute->pool, mixt_divide_up(rows, chunk), function, (void *)call);
}

/* The random numbers of a layer in a micro batch of a step: the index of value i of a batch's. */
static inline mixt_random_key mixt_draw_key(const int32_t *draw, mixt_random_purpose purpose,
                                            int layer)
{
    uint64_t seed = (uint64_t)(uint32_t)draw[MIXT_DRAW_SEED_HIGH] << 32;
    return (mixt_random_key){seed | (uint32_t)draw[MIXT_DRAW_SEED_LOW],
                             (uint32_t)purpose | (uint32_t)(layer + 1) << 8,
                             (uint32_t)draw[MIXT_DRAW_STEP]};
}

static inline uint64_t mixt_draw_index(const int32_t *draw, int64_t i)
{
    assert(i >= 0 && i < (int64_t)1 << 48);
    return (uint64_t)(uint32_t)draw[MIXT_DRAW_BATCH] << 48 | (uint64_t)i;
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

/* A row of a weight [rows, columns]: where it lies, or out of typed rows, which only fp32 calls
 * have, expanded into `room`. */
static inline const float *mixt_weight_row_f32(const mixt_call *call, int input, int64_t row,
                                               float *room)
{
    assert(row >= 0 && row < call->in_shape[input].size[0]);
    if (call->matrices[input] != NULL) {
        mixt_matrix_row(call->matrices[input], row, room);
        return room;
    }
    return (const float *)call->in[input] + row * call->in_shape[input].size[1];
}

static inline const double *mixt_weight_row_f64(const mixt_call *call, int input, int64_t row,
                                                double *room)
{
    assert(row >= 0 && row < call->in_shape[input].size[0]);
    (void)room;
    return (const double *)call->in[input] + row * call->in_shape[input].size[1];
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

/* The gradients of y = x weight^T from dy [rows, N]: dx = dy weight, d weight = dy^T x, for the
 * inputs `x` [rows, K] and `weight` [N, K] of a call (linear_tmpl.c). */
void mixt_linear_gradients(const mixt_call *call, int x, int weight, const real *dy, bool exact);

#endif
