/* adamw: one step on a tensor's values. */
#include "ops/support.h"

#if !MIXT_REAL_IS_DOUBLE
mixt_status mixt_adamw_shape(mixt_shape_request *request, mixt_error *error)
{
    static const char *const names[4] = {"", "adamw: gradient", "adamw: m", "adamw: v"};
    if (request->in[0].rank < 1 || request->in[0].dtype != MIXT_ELEMENT_REAL) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "adamw: weight is not numbers");
    }
    for (int i = 1; i < 4; i++) {
        MIXT_TRY(mixt_expect(&request->in[i], request->in[0], names[i], error));
    }
    return MIXT_OK;
}

void mixt_adamw_cost(const mixt_attributes *attributes, const mixt_shape *in, const mixt_shape *out,
                     int64_t tokens, mixt_cost *cost)
{
    (void)attributes;
    (void)out;
    double values = mixt_shape_values(&in[0], tokens);
    *cost = (mixt_cost){12 * values, 28 * values, 0, 0};
}
#endif

static int64_t values_of(const mixt_call *call)
{
    int64_t values = mixt_rows(&call->in_shape[0], call->tokens);
    for (int i = 1; i < call->in_shape[0].rank; i++) {
        values *= call->in_shape[0].size[i];
    }
    return values;
}

static void adamw_values(void *context, int64_t item, int thread)
{
    (void)thread;
    const mixt_call *call = context;
    mixt_range range = mixt_chunk(values_of(call), MIXT_ELEMENTS, item);
    mixt_kernels_of(call)->adamw(range.end - range.begin, (real *)call->in[0] + range.begin,
                                 (real *)call->in[2] + range.begin,
                                 (real *)call->in[3] + range.begin,
                                 (const real *)call->in[1] + range.begin, call->attributes->adamw);
}

void MIXT_REAL(mixt_adamw_forward)(const mixt_call *call)
{
    mixt_for_chunks(call, values_of(call), MIXT_ELEMENTS, adamw_values);
}
