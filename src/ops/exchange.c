/* Shape rules and costs of exchange, arrive, give_back and far_experts. */
#include "ops/exchange.h"

#include "ops/experts.h"

#include "ops/shape.h"

#define CHUNK_BYTES 65536 /* a message that is worth one more */
#define CHUNKS_MOST 4     /* of which three quarters can be hidden; more chunks hide little more */

int mixt_exchange_chunks(const mixt_ranks *ranks, double bytes)
{
    double worth = bytes / ranks->expert / CHUNK_BYTES;
    int most = (int)mixt_least(ranks->held, MIXT_RANKS_CHUNKS); /* of all ranks */
    int chunks = ranks->chunks_told > 0 ? ranks->chunks_told
                 : worth < CHUNKS_MOST  ? (int)worth
                                        : CHUNKS_MOST;
    return (int)mixt_most(mixt_least(chunks, most), 1);
}

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
    int64_t numbers =
        sizes->experts + 2 * sizes->held * sizes->places + sizes->held + sizes->groups + 1;
    int64_t bytes =
        4 * sizes->places * (int64_t)sizeof(size_t) + numbers * (int64_t)sizeof(int32_t);
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

/* The experts in it, as if their rows were there. */
static void experts_request(const mixt_shape *in, const mixt_attributes *attributes, int64_t tokens,
                            mixt_shape_request *experts)
{
    *experts = (mixt_shape_request){.attributes = attributes, .capacity = tokens};
    for (int slot = FAR_EXPERTS_OFFSETS; slot <= FAR_EXPERTS_PARTS; slot++) {
        experts->in[slot] = in[slot];
    }
    experts->in[EXPERTS_ROWS] = in[FAR_EXPERTS_ARRIVED];
}

mixt_status mixt_far_experts_shape(mixt_shape_request *request, mixt_error *error)
{
    const mixt_attributes *attributes = request->attributes;
    mixt_shape near = request->in[FAR_EXPERTS_NEAR], far = request->in[FAR_EXPERTS_ARRIVED];
    mixt_shape_request experts;
    MIXT_TRY(
        check_request(request, FAR_EXPERTS_NEAR, FAR_EXPERTS_NEAR_OFFSETS, "far_experts", error));
    mixt_exchange_sizes sizes =
        mixt_exchange_sizes_of(attributes, request->in[FAR_EXPERTS_NEAR_OFFSETS].size[0]);
    MIXT_TRY(mixt_expect(&far, mixt_shape_tokens(request->capacity, attributes->rows, near.size[1]),
                         "far_experts: arrived", error));
    MIXT_TRY(check_parts(request, FAR_EXPERTS_PARTS, &sizes, "far_experts: parts", error));
    if (attributes->chunks > mixt_least(sizes.held, MIXT_RANKS_CHUNKS)) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "far_experts: %d chunks of %lld experts",
                         attributes->chunks, (long long)sizes.held);
    }
    experts_request(request->in, attributes, request->capacity, &experts);
    mixt_error inner = MIXT_ERROR_INIT;
    if (mixt_experts_within(&experts, &inner) != MIXT_OK) {
        return mixt_fail(error, inner.status, "far_%s", inner.message);
    }
    request->out[FAR_EXPERTS_Y] = near;
    request->out[FAR_EXPERTS_ROWS] = far;
    request->out[FAR_EXPERTS_GATE] = experts.out[EXPERTS_GATE];
    request->out[FAR_EXPERTS_UP] = experts.out[EXPERTS_UP];
    request->out[FAR_EXPERTS_HIDDEN] = experts.out[EXPERTS_HIDDEN];
    /* the lists, results in the order of experts, and what experts need; in the backward what comes
     * in by place, in whose place go gradients of rows, and gradients of results, where they do not
     * lie in that of what arrived */
    int64_t lists = mixt_exchange_lists_reals(&sizes);
    int64_t rows = mixt_round_up_reals(far.size[0] * far.size[1]);
    bool in_place = (request->wanted >> FAR_EXPERTS_ARRIVED & 1) != 0;
    request->forward_workspace = lists + rows + experts.forward_workspace;
    request->backward_workspace = lists + (in_place ? 1 : 2) * rows + experts.backward_workspace;
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

/* As of arrive, experts and give_back. */
void mixt_far_experts_cost(const mixt_cost_request *request, mixt_cost *cost)
{
    double near = mixt_in_values(request, FAR_EXPERTS_NEAR);
    mixt_shape_request experts;
    experts_request(request->in, request->attributes, request->tokens, &experts);
    experts.out[EXPERTS_Y] = request->out[FAR_EXPERTS_ROWS];
    experts.out[EXPERTS_GATE] = request->out[FAR_EXPERTS_GATE];
    mixt_cost_request inner = *request;
    inner.in = experts.in;
    inner.out = experts.out;
    mixt_experts_price(&inner, cost);
    cost->forward_bytes += 24 * near;
    cost->backward_bytes += 24 * near;
}
