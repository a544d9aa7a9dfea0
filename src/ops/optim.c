/* adamw: one step on a tensor's values. */
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
