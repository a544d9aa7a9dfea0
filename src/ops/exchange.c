/* Shape rules and costs of exchange and give_back. */
#include "ops/shape.h"

/* Groups of experts without weights, behind those with them. */
static int64_t groups_of(const mixt_attributes *attributes)
{
    return (int64_t)attributes->identity_experts + attributes->zero_experts;
}

static mixt_status check_offsets(const mixt_shape_request *request, int slot, const char *what,
                                 int64_t *experts, mixt_error *error)
{
    mixt_shape offsets = request->in[slot];
    MIXT_TRY(mixt_expect(&offsets, mixt_shape_integers(mixt_shape_static(1, offsets.size[0], 0, 0)),
                         what, error));
    *experts = offsets.size[0] - 1 - groups_of(request->attributes);
    return *experts >= request->attributes->ranks->expert
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: fewer experts than ranks", what);
}

/* This rank's of so many experts. */
static int64_t held_experts(const mixt_ranks *ranks, int64_t experts)
{
    int place = mixt_group_place(ranks, MIXT_GROUP_EXPERT);
    return mixt_experts_first(ranks, (int)experts, place + 1) -
           mixt_experts_first(ranks, (int)experts, place);
}

mixt_status mixt_exchange_shape(mixt_shape_request *request, mixt_error *error)
{
    const mixt_attributes *attributes = request->attributes;
    mixt_shape rows = request->in[EXCHANGE_ROWS];
    int64_t experts;
    MIXT_TRY(mixt_expect_matrix(&rows, "exchange: rows", error));
    MIXT_TRY(check_offsets(request, EXCHANGE_OFFSETS, "exchange: offsets", &experts, error));
    int64_t held = held_experts(attributes->ranks, experts), n = attributes->ranks->expert;
    request->out[EXCHANGE_RECEIVED] =
        mixt_shape_tokens(request->capacity, attributes->rows, rows.size[1]);
    request->out[EXCHANGE_HELD] =
        mixt_shape_integers(mixt_shape_static(1, held + groups_of(attributes) + 1, 0, 0));
    request->out[EXCHANGE_PARTS] = mixt_shape_integers(mixt_shape_static(2, held, n, 0));
    /* what comes in or goes out, by rank */
    request->forward_workspace = request->backward_workspace =
        request->capacity * attributes->rows * rows.size[1];
    return MIXT_OK;
}

mixt_status mixt_give_back_shape(mixt_shape_request *request, mixt_error *error)
{
    const mixt_attributes *attributes = request->attributes;
    mixt_shape rows = request->in[GIVE_BACK_ROWS];
    int64_t experts;
    MIXT_TRY(mixt_expect_matrix(&rows, "give_back: rows", error));
    MIXT_TRY(check_offsets(request, GIVE_BACK_OFFSETS, "give_back: offsets", &experts, error));
    int64_t held = held_experts(attributes->ranks, experts), n = attributes->ranks->expert;
    MIXT_TRY(mixt_expect(&request->in[GIVE_BACK_PARTS],
                         mixt_shape_integers(mixt_shape_static(2, held, n, 0)), "give_back: parts",
                         error));
    request->out[GIVE_BACK_Y] =
        mixt_shape_tokens(request->capacity, attributes->rows, rows.size[1]);
    request->forward_workspace = request->backward_workspace = rows.size[0] * rows.size[1];
    return MIXT_OK;
}

/* Of bytes that a rank sends and receives, those of memory are counted: in, out, and once between.
 */
void mixt_exchange_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double rows = mixt_in_values(request, EXCHANGE_ROWS);
    *cost = (mixt_cost){0, 16 * rows, 0, 16 * rows};
}

void mixt_give_back_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double rows = mixt_out_values(request, GIVE_BACK_Y);
    *cost = (mixt_cost){0, 16 * rows, 0, 16 * rows};
}
