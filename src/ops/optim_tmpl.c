/* adamw: one step on a tensor's values. squares: what a norm is made of. */
#include <assert.h>

#include "ops/support_tmpl.h"

static void adamw_values(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    mixt_range range = mixt_chunk(mixt_values(call, ADAMW_WEIGHT), MIXT_ELEMENTS, item);
    mixt_kernels_of(call)->adamw(
        range.end - range.begin, (real *)call->in[ADAMW_WEIGHT] + range.begin,
        (real *)call->in[ADAMW_M] + range.begin, (real *)call->in[ADAMW_V] + range.begin,
        (const real *)call->in[ADAMW_GRADIENT] + range.begin, call->attributes->adamw);
}

void MIXT_REAL(mixt_adamw_forward)(const mixt_call *call)
{
    assert(call->attributes->adamw != NULL);
    mixt_for_chunks(call, mixt_values(call, ADAMW_WEIGHT), MIXT_ELEMENTS, adamw_values);
}

static void squares_part(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    const real *x = call->in[SQUARES_X];
    mixt_range range = mixt_chunk(call->in_shape[SQUARES_X].size[0], MIXT_SQUARES_PART, item);
    double lanes[8] = {0}; /* lane j: elements j, j + 8, ... */
    int64_t i = range.begin;
    for (; i + 8 <= range.end; i += 8) {
        for (int64_t j = 0; j < 8; j++) {
            double value = (double)x[i + j];
            lanes[j] += value * value;
        }
    }
    for (int64_t j = 0; i < range.end; i++, j++) {
        double value = (double)x[i];
        lanes[j] += value * value;
    }
    ((double *)call->out[SQUARES_SUMS])[item] = ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) +
                                                ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

void MIXT_REAL(mixt_squares_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, call->in_shape[SQUARES_X].size[0], MIXT_SQUARES_PART, squares_part);
}
