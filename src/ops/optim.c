/* adamw: one step on a tensor's values. squares: what a norm is made of. */
#include "ops/support.h"

#if !MIXT_REAL_IS_DOUBLE
mixt_status mixt_adamw_shape(mixt_shape_request *request, mixt_error *error)
{
    if (request->in[ADAMW_WEIGHT].rank < 1 ||
        request->in[ADAMW_WEIGHT].dtype != MIXT_ELEMENT_REAL) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "adamw: weight is not numbers");
    }
    mixt_shape weight = request->in[ADAMW_WEIGHT];
    MIXT_TRY(mixt_expect(&request->in[ADAMW_GRADIENT], weight, "adamw: gradient", error));
    MIXT_TRY(mixt_expect(&request->in[ADAMW_M], weight, "adamw: m", error));
    return mixt_expect(&request->in[ADAMW_V], weight, "adamw: v", error);
}

void mixt_adamw_cost(const mixt_attributes *attributes, const mixt_shape *in, const mixt_shape *out,
                     int64_t tokens, mixt_cost *cost)
{
    (void)attributes;
    (void)out;
    double values = mixt_shape_values(&in[ADAMW_WEIGHT], tokens);
    *cost = (mixt_cost){12 * values, 28 * values, 0, 0};
}
#endif

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
    mixt_for_chunks(call, mixt_values(call, ADAMW_WEIGHT), MIXT_ELEMENTS, adamw_values);
}

/* squares */

#if !MIXT_REAL_IS_DOUBLE
mixt_status mixt_squares_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape x = request->in[SQUARES_X];
    MIXT_TRY(mixt_expect(&x, mixt_shape_static(1, x.size[0], 0, 0), "squares: x", error));
    request->out[SQUARES_SUMS] =
        mixt_shape_static(1, mixt_chunks(x.size[0], MIXT_SQUARES_PART), 0, 0);
    request->out[SQUARES_SUMS].dtype = MIXT_ELEMENT_F64;
    return MIXT_OK;
}

void mixt_squares_cost(const mixt_attributes *attributes, const mixt_shape *in,
                       const mixt_shape *out, int64_t tokens, mixt_cost *cost)
{
    (void)attributes;
    (void)out;
    double values = mixt_shape_values(&in[SQUARES_X], tokens);
    *cost = (mixt_cost){2 * values, 4 * values, 0, 0};
}
#endif

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
