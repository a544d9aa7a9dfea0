/* Shape rule and cost of shift. */
#include "ops/pages.h"

mixt_status mixt_shift_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape source = request->in[SHIFT_SOURCE];
    int64_t window = request->attributes->window;
    MIXT_TRY(mixt_expect_matrix(&source, "shift: source", error));
    mixt_shape rows = mixt_shape_tokens(request->capacity, 1, source.size[1]);
    if (window < 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "shift: a window of %lld is not possible",
                         (long long)window);
    }
    MIXT_TRY(mixt_expect(
        &source, window > 0 ? rows : mixt_shape_static(2, source.size[0], source.size[1], 0),
        "shift: source", error));
    mixt_shape bounds = mixt_shape_integers(mixt_shape_leading(rows));
    MIXT_TRY(mixt_expect(&request->in[SHIFT_FIRST], bounds, "shift: first", error));
    MIXT_TRY(mixt_expect(&request->in[SHIFT_LAST], bounds, "shift: last", error));
    MIXT_TRY(mixt_expect_pages(request, SHIFT_PAGES, SHIFT_SEQUENCE, SHIFT_SOURCE, "shift", error));
    request->out[SHIFT_Y] = rows;
    return MIXT_OK;
}

void mixt_shift_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double bytes = 8 * mixt_out_values(request, SHIFT_Y);
    *cost = (mixt_cost){0, bytes, 0, 1.5 * bytes};
}
