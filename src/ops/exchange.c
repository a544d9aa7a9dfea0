/* Shape rules and costs of exchange, arrive and give_back. */
#include "ops/exchange.h"

#include "ops/shape.h"

/* Groups of experts without weights, behind those with them. */
static int64_t groups_of(const mixt_attributes *attributes)
{
    return (int64_t)attributes->identity_experts + attributes->zero_experts;
}

mixt_exchange_sizes mixt_exchange_sizes_of(const mixt_attributes *attributes, int64_t offsets)
{
    const mixt_ranks *ranks = attributes->ranks;
    int experts = (int)(offsets - 1 - groups_of(attributes));
    int own = mixt_group_place(ranks, MIXT_GROUP_EXPERT);
    int first = mixt_experts_first(ranks, experts, own);
    return (mixt_exchange_sizes){
        .places = ranks->expert,
        .own = own,
        .experts = experts,
        .held = mixt_experts_first(ranks, experts, own + 1) - first,
        .groups = groups_of(attributes),
    };
}

int64_t mixt_exchange_lists_reals(const mixt_exchange_sizes *sizes)
{
    int64_t bytes = 2 * sizes->places * (int64_t)sizeof(size_t) +
                    (sizes->experts + 2 * sizes->held * sizes->places) * (int64_t)sizeof(int32_t);
    return mixt_round_up_reals(mixt_divide_up(bytes, (int64_t)sizeof(float)));
}

/* What both are given: rows of tokens, offsets of all experts, ranks that share them. */
static mixt_status check_request(const mixt_shape_request *request, int rows, int offsets,
                                 const char *name, mixt_error *error)
{
    const mixt_attributes *attributes = request->attributes;
    mixt_shape x = request->in[rows], list = request->in[offsets];
    char what[64];
    snprintf(what, sizeof what, "%s: rows", name);
    MIXT_TRY(mixt_expect_matrix(&x, what, error));
    MIXT_TRY(mixt_expect(&x,
                         mixt_shape_tokens(request->capacity, mixt_most(x.multiple, 1), x.size[1]),
                         what, error));
    snprintf(what, sizeof what, "%s: offsets", name);
    MIXT_TRY(mixt_expect(&list, mixt_shape_integers(mixt_shape_static(1, list.size[0], 0, 0)), what,
                         error));
    if (attributes->ranks == NULL || attributes->rows < 1 ||
        request->capacity > INT32_MAX / attributes->rows) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: %lld tokens of %d rows are not exchanged",
                         name, (long long)request->capacity, attributes->rows);
    }
    if (list.size[0] - 1 - groups_of(attributes) < attributes->ranks->expert) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: fewer experts than ranks", name);
    }
    return MIXT_OK;
}

mixt_status mixt_exchange_shape(mixt_shape_request *request, mixt_error *error)
{
    const mixt_attributes *attributes = request->attributes;
    mixt_shape rows = request->in[EXCHANGE_ROWS];
    MIXT_TRY(check_request(request, EXCHANGE_ROWS, EXCHANGE_OFFSETS, "exchange", error));
    mixt_exchange_sizes sizes =
        mixt_exchange_sizes_of(attributes, request->in[EXCHANGE_OFFSETS].size[0]);
    request->out[EXCHANGE_ARRIVED] =
        mixt_shape_tokens(request->capacity, attributes->rows, rows.size[1]);
    request->out[EXCHANGE_HELD] =
        mixt_shape_integers(mixt_shape_static(1, sizes.held + sizes.groups + 1, 0, 0));
    request->out[EXCHANGE_PARTS] =
        mixt_shape_integers(mixt_shape_static(2, sizes.held, sizes.places, 0));
    request->forward_workspace = mixt_exchange_lists_reals(&sizes);
    return MIXT_OK;
}

static mixt_status check_parts(const mixt_shape_request *request, int slot,
                               const mixt_exchange_sizes *sizes, const char *what,
                               mixt_error *error)
{
    return mixt_expect(&request->in[slot],
                       mixt_shape_integers(mixt_shape_static(2, sizes->held, sizes->places, 0)),
                       what, error);
}

mixt_status mixt_arrive_shape(mixt_shape_request *request, mixt_error *error)
{
    MIXT_TRY(check_request(request, ARRIVE_ROWS, ARRIVE_OFFSETS, "arrive", error));
    mixt_exchange_sizes sizes =
        mixt_exchange_sizes_of(request->attributes, request->in[ARRIVE_OFFSETS].size[0]);
    mixt_shape arrived = mixt_shape_tokens(request->capacity, request->attributes->rows,
                                           request->in[ARRIVE_ROWS].size[1]);
    MIXT_TRY(mixt_expect(&request->in[ARRIVE_ARRIVED], arrived, "arrive: arrived", error));
    MIXT_TRY(check_parts(request, ARRIVE_PARTS, &sizes, "arrive: parts", error));
    request->out[ARRIVE_Y] = arrived;
    request->forward_workspace = request->backward_workspace = mixt_exchange_lists_reals(&sizes);
    return MIXT_OK;
}

/* Beside the lists there is room for what comes in or goes out, by rank. */
mixt_status mixt_give_back_shape(mixt_shape_request *request, mixt_error *error)
{
    const mixt_attributes *attributes = request->attributes;
    mixt_shape rows = request->in[GIVE_BACK_ROWS];
    MIXT_TRY(check_request(request, GIVE_BACK_ROWS, GIVE_BACK_OFFSETS, "give_back", error));
    mixt_exchange_sizes sizes =
        mixt_exchange_sizes_of(attributes, request->in[GIVE_BACK_OFFSETS].size[0]);
    MIXT_TRY(check_parts(request, GIVE_BACK_PARTS, &sizes, "give_back: parts", error));
    request->out[GIVE_BACK_Y] =
        mixt_shape_tokens(request->capacity, attributes->rows, rows.size[1]);
    request->forward_workspace = request->backward_workspace =
        mixt_exchange_lists_reals(&sizes) + rows.size[0] * rows.size[1];
    return MIXT_OK;
}

/* Of bytes that a rank sends and receives, those of memory are counted: out of it and in, and once
 * more into another order; as if as many came as go. */
void mixt_exchange_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double rows = mixt_in_values(request, EXCHANGE_ROWS);
    *cost = (mixt_cost){0, 8 * rows, 0, 8 * rows};
}

void mixt_arrive_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double rows = mixt_in_values(request, ARRIVE_ROWS);
    *cost = (mixt_cost){0, 8 * rows, 0, 8 * rows};
}

void mixt_give_back_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double rows = mixt_out_values(request, GIVE_BACK_Y);
    *cost = (mixt_cost){0, 16 * rows, 0, 16 * rows};
}
