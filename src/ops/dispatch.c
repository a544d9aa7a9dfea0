/* Shape rules and costs of dispatch and combine. */
#include "ops/shape.h"

mixt_status mixt_dispatch_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape x = request->in[DISPATCH_X], place = request->in[DISPATCH_PLACE];
    MIXT_TRY(mixt_expect_matrix(&x, "dispatch: x", error));
    MIXT_TRY(
        mixt_expect(&x, mixt_shape_tokens(request->capacity, 1, x.size[1]), "dispatch: x", error));
    int64_t chosen = mixt_most(place.size[1], 1);
    MIXT_TRY(mixt_expect(&place,
                         mixt_shape_integers(mixt_shape_tokens(request->capacity, 1, chosen)),
                         "dispatch: place", error));
    MIXT_TRY(mixt_expect(
        &request->in[DISPATCH_OFFSETS],
        mixt_shape_integers(mixt_shape_static(1, request->in[DISPATCH_OFFSETS].size[0], 0, 0)),
        "dispatch: offsets", error));
    /* rows for each token: as many as it has choices, or fewer where not all are taken */
    int64_t room = mixt_least(mixt_most(request->in[DISPATCH_ORDER].multiple, 1), chosen);
    MIXT_TRY(mixt_expect(&request->in[DISPATCH_ORDER],
                         mixt_shape_integers(mixt_shape_tokens(request->capacity, room, 0)),
                         "dispatch: order", error));
    request->out[DISPATCH_ROWS] = mixt_shape_tokens(request->capacity, room, x.size[1]);
    return MIXT_OK;
}

void mixt_dispatch_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double x = mixt_in_values(request, DISPATCH_X), rows = mixt_out_values(request, DISPATCH_ROWS);
    *cost = (mixt_cost){0, 8 * rows, rows, 4 * (x + rows)};
}

mixt_status mixt_combine_shape(mixt_shape_request *request, mixt_error *error)
{
    mixt_shape rows = request->in[COMBINE_ROWS], place = request->in[COMBINE_PLACE];
    MIXT_TRY(mixt_expect_matrix(&rows, "combine: rows", error));
    int64_t chosen = mixt_most(place.size[1], 1);
    mixt_shape choices = mixt_shape_tokens(request->capacity, 1, chosen);
    MIXT_TRY(mixt_expect(&place, mixt_shape_integers(choices), "combine: place", error));
    MIXT_TRY(mixt_expect(&request->in[COMBINE_WEIGHTS], choices, "combine: weights", error));
    int64_t room = mixt_least(mixt_most(rows.multiple, 1), chosen);
    MIXT_TRY(mixt_expect(&rows, mixt_shape_tokens(request->capacity, room, rows.size[1]),
                         "combine: rows", error));
    request->out[COMBINE_Y] = mixt_shape_tokens(request->capacity, 1, rows.size[1]);
    return MIXT_OK;
}

void mixt_combine_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double rows = mixt_in_values(request, COMBINE_ROWS), y = mixt_out_values(request, COMBINE_Y);
    *cost = (mixt_cost){2 * rows, 4 * (rows + y), 3 * rows, 4 * (2 * rows + y)};
}
