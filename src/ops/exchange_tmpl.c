/* exchange sends rows to the ranks that hold their experts, where arrive takes them in; give_back
 * brings them back. The one way is the other's derivative. Near rows are those of this rank's
 * tokens in the order of all experts, so that what goes to a place of MIXT_GROUP_EXPERT is one
 * piece; far rows are those of this rank's experts, each rank's behind the other's. What comes from
 * other ranks or goes to them lies by place in between: a part of it is one place's rows of an
 * expert. This rank's own part is copied straight between near and far. What other ranks say is
 * checked; where it cannot be, or they cannot be heard, the run has a fault and goes on with zeros,
 * and nothing is exchanged any more.
 *
 * far_experts has the experts between the two, and rows go in chunks: those of a range of each
 * place's experts, which are one piece of near rows, of far rows, and of each place's rows between.
 * All chunks set out at once, so that they arrive one behind the other; a chunk is computed when it
 * is there, and its results set out while the next one is computed. */
#include "ops/exchange.h"
#include "ops/experts.h"
#include "ops/support_tmpl.h"

typedef struct exchange_run {
    const mixt_call *call;
    mixt_ranks *ranks;
    mixt_exchange_sizes sizes;
    int64_t d;
    const int32_t *offsets;   /* [E + G + 1]: near rows */
    const int32_t *parts;     /* [e, n]: far rows, by expert and place */
    size_t *near_bytes;       /* [n]: of the rows that are near for this rank and far for a place */
    size_t *far_bytes;        /* [n]: and the other way */
    size_t *near_at, *far_at; /* [n]: where those of a chunk begin, in bytes */
    int32_t *counts;          /* [E]: near rows of each expert */
    int32_t *said;            /* [n, e]: what the places have of this rank's experts */
    int32_t *begins;          /* [e, n]: where parts begin by place, or near where they are own */
    int32_t *chunk_offsets;   /* [e + G + 1]: of the experts of a chunk */
    int chunks;
    real *by_place; /* what comes from others or goes to them */
} exchange_run;

/* offsets, sizes and workspace. */
static exchange_run exchange_start(const mixt_call *call, int offsets, int64_t d)
{
    const mixt_attributes *attributes = call->attributes;
    exchange_run run = {
        .call = call,
        .ranks = attributes->ranks,
        .sizes = mixt_exchange_sizes_of(attributes, call->in_shape[offsets].size[0]),
        .d = d,
        .offsets = call->in[offsets],
        .near_bytes = call->workspace,
    };
    const mixt_exchange_sizes *sizes = &run.sizes;
    run.far_bytes = run.near_bytes + sizes->places;
    run.near_at = run.far_bytes + sizes->places;
    run.far_at = run.near_at + sizes->places;
    run.counts = (int32_t *)(void *)(run.far_at + sizes->places);
    run.said = run.counts + sizes->experts;
    run.begins = run.said + sizes->held * sizes->places;
    run.chunk_offsets = run.begins + sizes->held * sizes->places;
    run.chunks = (int)mixt_most(attributes->chunks, 1);
    run.by_place = (real *)call->workspace + mixt_exchange_lists_reals(sizes);
    return run;
}

static void fail(const exchange_run *run, const mixt_error *error)
{
    mixt_call_fail_ranks(run->call, "exchange", error);
}

static bool over(const exchange_run *run)
{
    return run->ranks->lost.status != MIXT_OK;
}

/* The experts of a place begin at: */
static int64_t first_of(const exchange_run *run, int place)
{
    return mixt_experts_first(run->ranks, (int)run->sizes.experts, place);
}

/* The experts of a chunk at a place, counted from the place's first one. */
static mixt_range chunk_of(const exchange_run *run, int place, int chunk)
{
    int64_t held = first_of(run, place + 1) - first_of(run, place);
    return (mixt_range){held * chunk / run->chunks, held * (chunk + 1) / run->chunks};
}

static int64_t far_rows(const exchange_run *run, int64_t expert)
{
    int64_t rows = 0;
    for (int64_t i = 0; i < expert * run->sizes.places; i++) {
        rows += run->parts[i];
    }
    return rows;
}

/* Where parts begin: of a chunk place by place, not before its far rows do nor behind their end, so
 * that what is done with a chunk may lie where its other rows were. */
static void find_pieces(exchange_run *run)
{
    int places = run->sizes.places, own = run->sizes.own;
    const int32_t *near = run->offsets + first_of(run, own);
    for (int chunk = 0; chunk < run->chunks; chunk++) {
        mixt_range experts = chunk_of(run, own, chunk);
        int32_t begin = (int32_t)far_rows(run, experts.begin);
        for (int place = 0; place < places; place++) {
            for (int64_t e = experts.begin; e < experts.end; e++) {
                run->begins[e * places + place] = place == own ? near[e] : begin;
                begin += place == own ? 0 : run->parts[e * places + place];
            }
        }
    }
}

/* The pieces of a chunk: where they begin, and how long they are. */
static void find_chunk(const exchange_run *run, int chunk)
{
    int places = run->sizes.places, own = run->sizes.own;
    size_t row = (size_t)run->d * sizeof(real);
    mixt_range far = chunk_of(run, own, chunk);
    for (int place = 0; place < places; place++) {
        mixt_range near = chunk_of(run, place, chunk);
        const int32_t *offsets = run->offsets + first_of(run, place);
        int32_t rows = 0;
        for (int64_t e = far.begin; e < far.end && place != own; e++) {
            rows += run->parts[e * places + place];
        }
        run->near_at[place] = (size_t)offsets[near.begin] * row;
        run->near_bytes[place] = (size_t)(offsets[near.end] - offsets[near.begin]) * row;
        run->far_at[place] = rows > 0 ? (size_t)run->begins[far.begin * places + place] * row : 0;
        run->far_bytes[place] = (size_t)rows * row;
    }
}

/* Copies or adds parts between far rows and by place, or near where they are own. */
typedef struct parts_run {
    const exchange_run *run;
    real *far, *near; /* near NULL: own parts are left out */
    bool arrive;      /* to far; else the other way */
    bool add[2];      /* to far or by place, to near */
    mixt_range experts;
} parts_run;

static void move_expert(void *context, int64_t item, int thread)
{
    (void)thread;
    const parts_run *move = context;
    const exchange_run *run = move->run;
    int64_t e = move->experts.begin + item;
    const mixt_kernels *kernels = mixt_kernels_of(run->call);
    real *far = move->far + far_rows(run, e) * run->d;
    for (int place = 0; place < run->sizes.places; place++) {
        bool own = place == run->sizes.own;
        int64_t i = e * run->sizes.places + place, values = run->parts[i] * run->d;
        real *base = own ? move->near : run->by_place;
        real *part = base != NULL ? base + run->begins[i] * run->d : NULL;
        if (part != NULL && move->arrive) {
            mixt_put(kernels, values, far, part, move->add[0]);
        } else if (part != NULL) {
            mixt_put(kernels, values, part, far, move->add[own]);
        }
        far += values;
    }
}

static void move_parts(parts_run *move, int chunk)
{
    const exchange_run *run = move->run;
    move->experts = chunk_of(run, run->sizes.own, chunk);
    mixt_pool_run(run->call->compute->pool, move->experts.end - move->experts.begin, move_expert,
                  move);
}

/* Far rows of what came by place and of near ones. */
static void take_in(const exchange_run *run, int chunk, real *far, const real *near, bool add)
{
    parts_run move = {.run = run, .far = far, .near = (real *)near, .arrive = true, .add = {add}};
    move_parts(&move, chunk);
}

/* Far rows to by place and near. */
static void give_out(const exchange_run *run, int chunk, const real *far, real *near,
                     const bool add[2])
{
    parts_run move = {.run = run, .far = (real *)far, .near = near, .add = {add[0], add[1]}};
    move_parts(&move, chunk);
}

/* Near rows of groups without weights, which lie behind all others on both sides. */
static int64_t near_end(const exchange_run *run)
{
    return run->offsets[run->sizes.experts];
}

static void put_groups(const exchange_run *run, real *to, int64_t to_row, const real *from,
                       int64_t from_row, bool add)
{
    int64_t rows = run->offsets[run->sizes.experts + run->sizes.groups] - near_end(run);
    mixt_put(mixt_kernels_of(run->call), rows * run->d, to + to_row * run->d,
             from + from_row * run->d, add);
}

static void clear(const exchange_run *run, real *rows, int64_t count, bool add)
{
    if (!add) {
        memset(rows, 0, (size_t)(count * run->d) * sizeof *rows);
    }
}

/* Begins what mixt_ranks_end is to end: near rows go out and by place in, or `back`. */
static void *begin(const exchange_run *run, int chunk, bool back, const real *from, real *to)
{
    mixt_error error = MIXT_ERROR_INIT;
    void *request = NULL;
    size_t *bytes[2] = {run->near_bytes, run->far_bytes}, *at[2] = {run->near_at, run->far_at};
    const mixt_exchange rows = {MIXT_GROUP_EXPERT, from, bytes[back], to, bytes[!back]};
    const mixt_exchange_at begins = {at[back], at[!back]};
    find_chunk(run, chunk);
    if (over(run) || mixt_ranks_begin(run->ranks, &rows, &begins, &request, &error) != MIXT_OK) {
        fail(run, &error);
    }
    return request;
}

/* Whether all came. */
static bool end(const exchange_run *run, void *request)
{
    mixt_error error = MIXT_ERROR_INIT;
    if (over(run) || mixt_ranks_end(run->ranks, request, &error) != MIXT_OK) {
        fail(run, &error);
    }
    return !over(run);
}

/* What another operator began. */
static bool end_begun(const exchange_run *run)
{
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_ranks_end_first(run->ranks, &error) != MIXT_OK) {
        fail(run, &error);
    }
    return !over(run);
}

/* What comes from each place, as it says, if that can be. */
static mixt_status check_said(const exchange_run *run, int64_t room, mixt_error *error)
{
    for (int place = 0; place < run->sizes.places; place++) {
        const int32_t *said = run->said + place * run->sizes.held;
        for (int64_t e = 0; e < run->sizes.held; e++) {
            if (said[e] < 0 || said[e] > room) {
                return mixt_fail(error, MIXT_ERROR_FORMAT,
                                 "rank %d sends %d rows of expert %d, %lld would fit",
                                 mixt_group_rank(run->ranks, MIXT_GROUP_EXPERT, place), said[e],
                                 (int)(first_of(run, run->sizes.own) + e), (long long)room);
            }
            room -= said[e];
        }
    }
    return MIXT_OK;
}

/* The others learn that rows of this layer come. */
static mixt_status summon(const exchange_run *run, mixt_error *error)
{
    mixt_summons summons = {.kind = MIXT_SUMMONS_LAYER,
                            .layer = run->call->layer,
                            .tokens = run->call->tokens,
                            .rows = run->chunks};
    return mixt_ranks_broadcast(run->ranks, MIXT_GROUP_EXPERT, 0, &summons, sizeof summons, error);
}

/* Where only place 0 has rows, nobody else says how many. */
static void silence(exchange_run *run)
{
    int own = run->sizes.own;
    for (int place = 0; place < run->sizes.places; place++) {
        run->near_bytes[place] = own == 0 ? run->near_bytes[place] : 0;
        run->far_bytes[place] = place == 0 ? run->far_bytes[place] : 0;
    }
    memset(run->said, 0, (size_t)(run->sizes.held * run->sizes.places) * sizeof *run->said);
}

/* Counts of each place's experts there, and those of this rank's here. */
static mixt_status exchange_counts(exchange_run *run, mixt_error *error)
{
    bool head = run->call->attributes->head;
    if (over(run)) {
        return mixt_fail(error, run->ranks->lost.status, "%s", run->ranks->lost.message);
    }
    for (int64_t e = 0; e < run->sizes.experts; e++) {
        run->counts[e] = run->offsets[e + 1] - run->offsets[e];
    }
    for (int place = 0; place < run->sizes.places; place++) {
        run->near_bytes[place] =
            (size_t)(first_of(run, place + 1) - first_of(run, place)) * sizeof *run->counts;
        run->far_bytes[place] = (size_t)run->sizes.held * sizeof *run->said;
    }
    if (head) {
        silence(run);
        MIXT_TRY(run->sizes.own == 0 ? summon(run, error) : MIXT_OK);
    }
    mixt_exchange counts = {MIXT_GROUP_EXPERT, run->counts, run->near_bytes, run->said,
                            run->far_bytes};
    return mixt_ranks_exchange(run->ranks, &counts, error);
}

/* Parts, and the offsets of far rows, with `stay` rows behind them by near offsets. */
static void tell_parts(const exchange_run *run, int32_t *parts, int32_t *held)
{
    int places = run->sizes.places;
    held[0] = 0;
    for (int64_t e = 0; e < run->sizes.held; e++) {
        held[e + 1] = held[e];
        for (int place = 0; place < places; place++) {
            parts[e * places + place] = run->said[place * run->sizes.held + e];
            held[e + 1] += parts[e * places + place];
        }
    }
    const int32_t *behind = run->offsets + run->sizes.experts;
    for (int64_t g = 0; g < run->sizes.groups; g++) {
        held[run->sizes.held + g + 1] = held[run->sizes.held + g] + behind[g + 1] - behind[g];
    }
}

/* Of one rank alone there may be what nobody ended, as there was nothing to wait for. */
static void forget_begun(mixt_ranks *ranks)
{
    for (int i = ranks->begun.first; i < ranks->begun.end; i++) {
        assert(ranks->begun.requests[i] == NULL || ranks->lost.status != MIXT_OK);
    }
    ranks->begun.first = ranks->begun.end = 0;
}

/* Where only place 0 has rows, it says in how many chunks they go, of at most as many as planned:
 * the fewer there are, the fewer are worth it. */
static void choose_chunks(exchange_run *run)
{
    const mixt_exchange_sizes *sizes = &run->sizes;
    double bytes = (double)run->offsets[sizes->experts] * (double)run->d * sizeof(real);
    if (run->call->attributes->head && sizes->own == 0) {
        run->chunks = (int)mixt_least(run->chunks, mixt_exchange_chunks(run->ranks, bytes));
        run->ranks->chunks = run->chunks;
    } else if (run->call->attributes->head) {
        run->chunks = run->ranks->chunks;
    }
}

/* Counts there and back, and near rows on their way. */
void MIXT_REAL(mixt_exchange_forward)(const mixt_call *call)
{
    exchange_run run =
        exchange_start(call, EXCHANGE_OFFSETS, call->in_shape[EXCHANGE_ROWS].size[1]);
    const mixt_exchange_sizes *sizes = &run.sizes;
    mixt_error error = MIXT_ERROR_INIT;
    int64_t stay = run.offsets[sizes->experts + sizes->groups] - near_end(&run);
    int64_t room = mixt_rows(&call->out_shape[EXCHANGE_ARRIVED], call->tokens) - stay;
    assert(room >= 0);
    forget_begun(run.ranks);
    choose_chunks(&run);
    if (exchange_counts(&run, &error) != MIXT_OK || check_said(&run, room, &error) != MIXT_OK) {
        fail(&run, &error);
        memset(run.said, 0, (size_t)(sizes->held * sizes->places) * sizeof *run.said);
    }
    tell_parts(&run, call->out[EXCHANGE_PARTS], call->out[EXCHANGE_HELD]);
    run.parts = call->out[EXCHANGE_PARTS];
    find_pieces(&run);
    for (int chunk = 0; chunk < run.chunks; chunk++) {
        mixt_ranks_leave(run.ranks, begin(&run, chunk, false, call->in[EXCHANGE_ROWS],
                                          call->out[EXCHANGE_ARRIVED]));
    }
}

/* The gradient came in where the backward of arrive began it; without that there is none. */
void MIXT_REAL(mixt_exchange_backward)(const mixt_call *call)
{
    mixt_ranks *ranks = call->attributes->ranks;
    mixt_error error = MIXT_ERROR_INIT;
    bool came = true;
    do {
        came = mixt_ranks_end_first(ranks, &error) == MIXT_OK && came;
    } while (ranks->begun.first < ranks->begun.end);
    if (!came) {
        mixt_call_fail_ranks(call, "exchange", &error);
    }
    if (call->d_in[EXCHANGE_ROWS] != NULL && (!came || !call->add[EXCHANGE_ROWS])) {
        memset(call->d_in[EXCHANGE_ROWS], 0,
               (size_t)mixt_values(call, EXCHANGE_ROWS) * sizeof(real));
    }
}

static exchange_run arrive_start(const mixt_call *call)
{
    exchange_run run = exchange_start(call, ARRIVE_OFFSETS, call->in_shape[ARRIVE_ROWS].size[1]);
    run.parts = call->in[ARRIVE_PARTS];
    run.chunks = 1;
    find_pieces(&run);
    return run;
}

void MIXT_REAL(mixt_arrive_forward)(const mixt_call *call)
{
    exchange_run run = arrive_start(call);
    const real *near = call->in[ARRIVE_ROWS];
    real *far = call->out[ARRIVE_Y];
    int64_t far_end = far_rows(&run, run.sizes.held);
    run.by_place = call->in[ARRIVE_ARRIVED];
    if (end_begun(&run)) {
        take_in(&run, 0, far, near, false);
    } else {
        clear(&run, far, far_end, false);
    }
    put_groups(&run, far, far_end, near, near_end(&run), false);
}

/* What is this rank's own is done here; the rest begins its way back. */
void MIXT_REAL(mixt_arrive_backward)(const mixt_call *call)
{
    const real *d_far = call->d_out[ARRIVE_Y];
    real *d_near = call->d_in[ARRIVE_ROWS], *d_arrived = call->d_in[ARRIVE_ARRIVED];
    bool add = call->add[ARRIVE_ROWS];
    if (d_far == NULL) {
        mixt_put_zero(call, ARRIVE_ROWS, mixt_values(call, ARRIVE_ROWS));
        mixt_put_zero(call, ARRIVE_ARRIVED, mixt_values(call, ARRIVE_ARRIVED));
        return;
    }
    exchange_run run = arrive_start(call);
    run.by_place = d_arrived;
    give_out(&run, 0, d_far, d_near, (const bool[2]){call->add[ARRIVE_ARRIVED], add});
    if (d_near != NULL) {
        put_groups(&run, d_near, near_end(&run), d_far, far_rows(&run, run.sizes.held), add);
    }
    if (d_near != NULL && d_arrived != NULL) {
        assert(!add || run.sizes.places == 1);
        mixt_ranks_leave(run.ranks, begin(&run, 0, true, d_arrived, d_near));
    }
}

/* Far rows to the ranks whose tokens they are. */
void MIXT_REAL(mixt_give_back_forward)(const mixt_call *call)
{
    exchange_run run =
        exchange_start(call, GIVE_BACK_OFFSETS, call->in_shape[GIVE_BACK_ROWS].size[1]);
    const real *far = call->in[GIVE_BACK_ROWS];
    real *near = call->out[GIVE_BACK_Y];
    run.parts = call->in[GIVE_BACK_PARTS];
    run.chunks = 1;
    find_pieces(&run);
    if (!over(&run)) {
        give_out(&run, 0, far, near, (const bool[2]){false, false});
    }
    if (!end(&run, begin(&run, 0, true, run.by_place, near))) {
        clear(&run, near, near_end(&run), false);
    }
    put_groups(&run, near, near_end(&run), far, far_rows(&run, run.sizes.held), false);
}

void MIXT_REAL(mixt_give_back_backward)(const mixt_call *call)
{
    const real *d_near = call->d_out[GIVE_BACK_Y];
    real *d_far = call->d_in[GIVE_BACK_ROWS];
    bool add = call->add[GIVE_BACK_ROWS];
    if (d_far == NULL || d_near == NULL) {
        mixt_put_zero(call, GIVE_BACK_ROWS, mixt_values(call, GIVE_BACK_ROWS));
        return;
    }
    exchange_run run =
        exchange_start(call, GIVE_BACK_OFFSETS, call->in_shape[GIVE_BACK_ROWS].size[1]);
    run.parts = call->in[GIVE_BACK_PARTS];
    run.chunks = 1;
    find_pieces(&run);
    int64_t far_end = far_rows(&run, run.sizes.held);
    if (end(&run, begin(&run, 0, false, d_near, run.by_place))) {
        take_in(&run, 0, d_far, d_near, add);
    } else {
        clear(&run, d_far, far_end, add);
    }
    put_groups(&run, d_far, far_end, d_near, near_end(&run), add);
}

/* ------------------------------------------------------------------------------------------ */
/* Experts between the two ways                                                               */

/* A call of experts for those of a chunk: weights, rows and gradients from its first expert on. */
typedef struct experts_call {
    mixt_call call;
    mixt_attributes attributes;
    mixt_shape in[MIXT_SLOTS], out[MIXT_SLOTS];
    mixt_range experts;
    int64_t row; /* of the first expert */
} experts_call;

_Static_assert((int)FAR_EXPERTS_W_GATE == (int)EXPERTS_W_GATE &&
                   (int)FAR_EXPERTS_PARTS == (int)EXPERTS_PARTS,
               "slots of weights and parts have the numbers of experts");

/* Its offsets from 0 on; groups without weights are the last chunk's. */
static void tell_offsets(const exchange_run *run, experts_call *made, bool last)
{
    const int32_t *offsets = run->call->in[FAR_EXPERTS_OFFSETS];
    int64_t count = made->experts.end - made->experts.begin + (last ? run->sizes.groups : 0);
    offsets += made->experts.begin;
    for (int64_t i = 0; i <= count; i++) {
        run->chunk_offsets[i] = offsets[i] - offsets[0];
    }
    made->row = offsets[0];
    made->call.in[EXPERTS_OFFSETS] = run->chunk_offsets;
    made->in[EXPERTS_OFFSETS].size[0] = count + 1;
    if (!last) {
        made->attributes.identity_experts = made->attributes.zero_experts = 0;
    }
}

/* An input that has a row, or a matrix, for each expert. */
static void point_at_experts(experts_call *made, int slot)
{
    mixt_call *call = &made->call;
    mixt_shape *shape = &made->in[slot];
    int64_t values = made->experts.begin;
    for (int i = 1; i < shape->rank; i++) {
        values *= shape->size[i];
    }
    shape->size[0] = made->experts.end - made->experts.begin;
    if (call->in[slot] != NULL && slot == EXPERTS_PARTS) {
        call->in[slot] = (int32_t *)call->in[slot] + values;
    } else if (call->in[slot] != NULL) {
        call->in[slot] = (real *)call->in[slot] + values;
    }
    if (call->d_in[slot] != NULL) {
        call->d_in[slot] = (real *)call->d_in[slot] + values;
    }
    if (call->packed[slot] != NULL) {
        call->packed[slot] += made->experts.begin;
    }
    if (call->matrices[slot] != NULL) {
        call->matrices[slot] += made->experts.begin;
    }
    assert(call->stores[slot] == NULL); /* a model is in one place, on disk or on ranks */
}

/* A run with what it needs beside the lists: rows once or twice, and the experts' workspace. */
typedef struct far_run {
    exchange_run exchange;
    real *rows[2];
    real *workspace;
} far_run;

static far_run far_start(const mixt_call *call, int sides)
{
    const mixt_attributes *attributes = call->attributes;
    far_run far = {.exchange = exchange_start(call, FAR_EXPERTS_NEAR_OFFSETS,
                                              call->in_shape[FAR_EXPERTS_NEAR].size[1])};
    const mixt_shape *shape = &call->in_shape[FAR_EXPERTS_ARRIVED];
    int64_t reals = mixt_round_up_reals(shape->size[0] * shape->size[1]);
    far.rows[0] = far.exchange.by_place;
    far.rows[1] = far.rows[0] + reals;
    far.workspace = far.rows[0] + sides * reals;
    far.exchange.parts = call->in[FAR_EXPERTS_PARTS];
    far.exchange.chunks = attributes->head ? attributes->ranks->chunks : far.exchange.chunks;
    find_pieces(&far.exchange);
    return far;
}

static real *from_row(const experts_call *made, const void *rows, int64_t width)
{
    return rows != NULL ? (real *)rows + made->row * width : NULL;
}

/* All of it but results and gradients of rows. */
static void make_call(const far_run *far, int chunk, experts_call *made)
{
    const exchange_run *run = &far->exchange;
    const mixt_call *call = run->call;
    const mixt_shape *rows = &call->in_shape[FAR_EXPERTS_ARRIVED];
    int64_t width = call->in_shape[FAR_EXPERTS_W_GATE].size[1];
    *made = (experts_call){.call = *call, .attributes = *call->attributes};
    made->call.attributes = &made->attributes;
    made->call.in_shape = memcpy(made->in, call->in_shape, sizeof made->in);
    made->call.out_shape = made->out;
    made->call.workspace = far->workspace;
    made->experts = chunk_of(run, run->sizes.own, chunk);
    tell_offsets(run, made, chunk == run->chunks - 1);
    for (int slot = EXPERTS_W_GATE; slot <= EXPERTS_PARTS; slot++) {
        point_at_experts(made, slot);
    }
    bool totals = call->attributes->exact_parts && run->ranks->data > 1;
    made->attributes.ranks = totals ? run->ranks : NULL;
    if (!call->attributes->exact_parts) {
        made->call.in[EXPERTS_PARTS] = NULL;
        made->in[EXPERTS_PARTS].rank = 0;
    }
    for (int slot = 0; slot < MIXT_SLOTS; slot++) {
        made->call.d_out[slot] = made->call.out[slot] = NULL;
    }
    made->in[EXPERTS_ROWS] = made->out[EXPERTS_Y] = *rows;
    made->out[EXPERTS_GATE] = made->out[EXPERTS_UP] = made->out[EXPERTS_HIDDEN] =
        mixt_shape_columns(*rows, width);
    made->call.in[EXPERTS_ROWS] = from_row(made, call->out[FAR_EXPERTS_ROWS], run->d);
    made->call.out[EXPERTS_GATE] = from_row(made, call->out[FAR_EXPERTS_GATE], width);
    made->call.out[EXPERTS_UP] = from_row(made, call->out[FAR_EXPERTS_UP], width);
    made->call.out[EXPERTS_HIDDEN] = from_row(made, call->out[FAR_EXPERTS_HIDDEN], width);
}

static void clear_chunk(const exchange_run *run, int chunk, real *rows)
{
    mixt_range experts = chunk_of(run, run->sizes.own, chunk);
    int64_t begin = far_rows(run, experts.begin);
    clear(run, rows + begin * run->d, far_rows(run, experts.end) - begin, false);
}

/* What files did not give is not given to others. Then what is under way ends first, since its
 * memory may go with the run: the other ranks have begun all of it, or will without this one. */
static void check_intact(const exchange_run *run, void **requests, int count)
{
    const mixt_attributes *attributes = run->call->attributes;
    mixt_error error = MIXT_ERROR_INIT;
    if (attributes->intact == NULL ||
        attributes->intact(attributes->intact_user, &error) == MIXT_OK) {
        return;
    }
    while (run->ranks->begun.first < run->ranks->begun.end) {
        (void)end_begun(run);
    }
    for (int i = 0; i < count; i++) {
        (void)end(run, requests[i]);
        requests[i] = NULL;
    }
    fail(run, &error);
}

void MIXT_REAL(mixt_far_experts_forward)(const mixt_call *call)
{
    far_run far = far_start(call, 1);
    exchange_run *run = &far.exchange;
    const real *near = call->in[FAR_EXPERTS_NEAR];
    real *rows = call->out[FAR_EXPERTS_ROWS], *y = call->out[FAR_EXPERTS_Y];
    int64_t far_end = far_rows(run, run->sizes.held);
    void *requests[MIXT_RANKS_CHUNKS];
    bool came = true;
    run->by_place = call->in[FAR_EXPERTS_ARRIVED];
    put_groups(run, rows, far_end, near, near_end(run), false);
    for (int chunk = 0; chunk < run->chunks; chunk++) {
        experts_call made;
        if (end_begun(run)) {
            take_in(run, chunk, rows, near, false);
        } else {
            clear_chunk(run, chunk, rows);
        }
        make_call(&far, chunk, &made);
        made.call.out[EXPERTS_Y] = from_row(&made, far.rows[0], run->d);
        MIXT_REAL(mixt_experts_compute)(&made.call);
        check_intact(run, requests, chunk);
        if (!over(run)) {
            give_out(run, chunk, far.rows[0], y, (const bool[2]){false, false});
        }
        requests[chunk] = begin(run, chunk, true, run->by_place, y);
    }
    for (int chunk = 0; chunk < run->chunks; chunk++) {
        came = end(run, requests[chunk]) && came;
    }
    if (!came) {
        clear(run, y, near_end(run), false);
    }
    put_groups(run, y, near_end(run), far.rows[0], far_end, false);
}

/* Without a gradient of what it gave. */
static void put_no_gradient(const mixt_call *call)
{
    for (int slot = 0; slot < FAR_EXPERTS_INPUTS; slot++) {
        mixt_put_zero(call, slot, mixt_values(call, slot));
    }
}

/* What comes in by place goes into the order of experts, gradients of rows take its place, and by
 * place again that of the gradients of results, from where they leave. */
void MIXT_REAL(mixt_far_experts_backward)(const mixt_call *call)
{
    const real *d_y = call->d_out[FAR_EXPERTS_Y];
    real *d_near = call->d_in[FAR_EXPERTS_NEAR], *d_arrived = call->d_in[FAR_EXPERTS_ARRIVED];
    bool wanted = d_near != NULL; /* so that of what arrived is, too, where anything may */
    const bool add[2] = {false, call->add[FAR_EXPERTS_NEAR]};
    if (d_y == NULL) {
        put_no_gradient(call);
        return;
    }
    far_run far = far_start(call, d_arrived != NULL ? 1 : 2);
    exchange_run *run = &far.exchange;
    real *d_rows = far.rows[0], *d_done = d_arrived != NULL ? d_arrived : far.rows[1];
    int64_t far_end = far_rows(run, run->sizes.held);
    void *requests[MIXT_RANKS_CHUNKS];
    assert(!wanted || run->sizes.places == 1 || (d_arrived != NULL && !add[1]));
    assert(d_arrived == NULL || !call->add[FAR_EXPERTS_ARRIVED]);
    put_groups(run, d_done, far_end, d_y, near_end(run), false);
    for (int chunk = 0; chunk < run->chunks; chunk++) {
        requests[chunk] = begin(run, chunk, false, d_y, d_rows);
    }
    for (int chunk = 0; chunk < run->chunks; chunk++) {
        experts_call made;
        run->by_place = d_rows;
        if (end(run, requests[chunk])) {
            take_in(run, chunk, d_done, d_y, false);
        } else {
            clear_chunk(run, chunk, d_done);
        }
        make_call(&far, chunk, &made);
        made.call.d_out[EXPERTS_Y] = from_row(&made, d_done, run->d);
        made.call.d_in[EXPERTS_ROWS] = wanted ? from_row(&made, d_rows, run->d) : NULL;
        made.call.add[EXPERTS_ROWS] = false;
        MIXT_REAL(mixt_experts_derive)(&made.call);
        run->by_place = d_done;
        if (wanted) {
            give_out(run, chunk, d_rows, d_near, add);
        }
        if (wanted && d_arrived != NULL) {
            mixt_ranks_leave(run->ranks, begin(run, chunk, true, d_arrived, d_near));
        }
    }
    if (wanted) {
        put_groups(run, d_near, near_end(run), d_rows, far_end, add[1]);
    }
}
