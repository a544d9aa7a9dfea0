/* exchange sends rows to the ranks that hold their experts; give_back brings them back. Each is the
 * other's derivative, so there are two directions for four functions. Near rows are those of this
 * rank's tokens in the order of all experts, so that what goes to a place of MIXT_GROUP_EXPERT is
 * one piece; far rows are those of this rank's experts, each rank's behind the other's. What comes
 * to a rank or leaves it lies by place in between: a part of it is one place's rows of an expert.
 * What other ranks say is checked; where it cannot be, or they cannot be heard, the run has a fault
 * and goes on with zeros, and nothing is exchanged any more. */
#include "ops/exchange.h"
#include "ops/support_tmpl.h"

typedef struct exchange_run {
    const mixt_call *call;
    mixt_ranks *ranks;
    mixt_exchange_sizes sizes;
    int64_t d;
    const int32_t *offsets; /* [E + G + 1]: near rows */
    const int32_t *parts;   /* [e, n]: far rows, by expert and place */
    size_t *near_bytes;     /* [n]: of the rows that are near for this rank and far for a place */
    size_t *far_bytes;      /* [n]: and the other way */
    int32_t *counts;        /* [E]: near rows of each expert */
    int32_t *said;          /* [n, e]: what the places have of this rank's experts */
    int32_t *begins;        /* [e, n]: where parts begin by place */
    real *by_place;
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
    run.counts = (int32_t *)(void *)(run.far_bytes + sizes->places);
    run.said = run.counts + sizes->experts;
    run.begins = run.said + sizes->held * sizes->places;
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

/* What each place is given and gives, by the parts. */
static void find_pieces(exchange_run *run)
{
    int places = run->sizes.places;
    size_t row = (size_t)run->d * sizeof(real);
    int32_t begin = 0;
    for (int place = 0; place < places; place++) {
        int32_t before = begin;
        for (int64_t e = 0; e < run->sizes.held; e++) {
            run->begins[e * places + place] = begin;
            begin += run->parts[e * places + place];
        }
        run->far_bytes[place] = (size_t)(begin - before) * row;
        run->near_bytes[place] =
            (size_t)(run->offsets[first_of(run, place + 1)] - run->offsets[first_of(run, place)]) *
            row;
    }
}

/* Copies or adds parts between far rows and by place. */
typedef struct parts_run {
    const exchange_run *run;
    real *far;
    bool arrive, add; /* from by place to far; else the other way */
} parts_run;

static int64_t far_rows(const exchange_run *run, int64_t expert)
{
    int64_t rows = 0;
    for (int64_t i = 0; i < expert * run->sizes.places; i++) {
        rows += run->parts[i];
    }
    return rows;
}

static void move_expert(void *context, int64_t e, int thread)
{
    (void)thread;
    const parts_run *move = context;
    const exchange_run *run = move->run;
    const mixt_kernels *kernels = mixt_kernels_of(run->call);
    real *far = move->far + far_rows(run, e) * run->d;
    for (int64_t i = e * run->sizes.places; i < (e + 1) * run->sizes.places; i++) {
        real *piece = run->by_place + run->begins[i] * run->d;
        int64_t values = run->parts[i] * run->d;
        mixt_put(kernels, values, move->arrive ? far : piece, move->arrive ? piece : far,
                 move->add);
        far += values;
    }
}

static void move_parts(const exchange_run *run, real *far, bool arrive, bool add)
{
    parts_run move = {run, far, arrive, add};
    mixt_pool_run(run->call->compute->pool, run->sizes.held, move_expert, &move);
}

/* Rows of groups without weights stay here: behind all others on both sides. */
static void put_groups(const exchange_run *run, real *to, int64_t to_row, const real *from,
                       int64_t from_row, bool add)
{
    const int32_t *behind = run->offsets + run->sizes.experts;
    mixt_put(mixt_kernels_of(run->call), (behind[run->sizes.groups] - behind[0]) * run->d,
             to + to_row * run->d, from + from_row * run->d, add);
}

static void clear(const exchange_run *run, real *rows, int64_t count, bool add)
{
    if (!add) {
        memset(rows, 0, (size_t)(count * run->d) * sizeof *rows);
    }
}

/* Near rows to the ranks that hold their experts. */
static void send_out(exchange_run *run, const real *near, real *far, bool add)
{
    mixt_error error = MIXT_ERROR_INIT;
    int64_t near_end = run->offsets[run->sizes.experts], far_end = far_rows(run, run->sizes.held);
    find_pieces(run);
    mixt_exchange rows = {MIXT_GROUP_EXPERT, near, run->near_bytes, run->by_place, run->far_bytes};
    if (over(run) || mixt_ranks_exchange(run->ranks, &rows, &error) != MIXT_OK) {
        fail(run, &error);
        clear(run, far, far_end, add);
    } else {
        move_parts(run, far, true, add);
    }
    put_groups(run, far, far_end, near, near_end, add);
}

/* Far rows to the ranks whose tokens they are. `room`: for near rows that are added to others. */
static void send_back(exchange_run *run, const real *far, real *near, bool add, real *room)
{
    mixt_error error = MIXT_ERROR_INIT;
    int64_t near_end = run->offsets[run->sizes.experts], far_end = far_rows(run, run->sizes.held);
    real *arriving = add ? room : near;
    find_pieces(run);
    mixt_exchange rows = {MIXT_GROUP_EXPERT, run->by_place, run->far_bytes, arriving,
                          run->near_bytes};
    if (!over(run)) {
        move_parts(run, (real *)far, false, false);
    }
    if (over(run) || mixt_ranks_exchange(run->ranks, &rows, &error) != MIXT_OK) {
        fail(run, &error);
        clear(run, near, near_end, add);
    } else {
        mixt_put(mixt_kernels_of(run->call), near_end * run->d, near, arriving, add);
    }
    put_groups(run, near, near_end, far, far_end, add);
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
    mixt_summons summons = {
        .kind = MIXT_SUMMONS_LAYER, .layer = run->call->layer, .tokens = run->call->tokens};
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

void MIXT_REAL(mixt_exchange_forward)(const mixt_call *call)
{
    exchange_run run =
        exchange_start(call, EXCHANGE_OFFSETS, call->in_shape[EXCHANGE_ROWS].size[1]);
    const mixt_exchange_sizes *sizes = &run.sizes;
    mixt_error error = MIXT_ERROR_INIT;
    int64_t stay = run.offsets[sizes->experts + sizes->groups] - run.offsets[sizes->experts];
    int64_t room = mixt_rows(&call->out_shape[EXCHANGE_RECEIVED], call->tokens) - stay;
    assert(room >= 0);
    if (exchange_counts(&run, &error) != MIXT_OK || check_said(&run, room, &error) != MIXT_OK) {
        fail(&run, &error);
        memset(run.said, 0, (size_t)(sizes->held * sizes->places) * sizeof *run.said);
    }
    tell_parts(&run, call->out[EXCHANGE_PARTS], call->out[EXCHANGE_HELD]);
    run.parts = call->out[EXCHANGE_PARTS];
    send_out(&run, call->in[EXCHANGE_ROWS], call->out[EXCHANGE_RECEIVED], false);
}

void MIXT_REAL(mixt_exchange_backward)(const mixt_call *call)
{
    const mixt_shape *rows = &call->in_shape[EXCHANGE_ROWS];
    if (call->d_in[EXCHANGE_ROWS] == NULL || call->d_out[EXCHANGE_RECEIVED] == NULL) {
        mixt_put_zero(call, EXCHANGE_ROWS, mixt_values(call, EXCHANGE_ROWS));
        return;
    }
    exchange_run run = exchange_start(call, EXCHANGE_OFFSETS, rows->size[1]);
    const mixt_shape *received = &call->out_shape[EXCHANGE_RECEIVED];
    run.parts = call->out[EXCHANGE_PARTS];
    send_back(&run, call->d_out[EXCHANGE_RECEIVED], call->d_in[EXCHANGE_ROWS],
              call->add[EXCHANGE_ROWS], run.by_place + received->size[0] * received->size[1]);
}

void MIXT_REAL(mixt_give_back_forward)(const mixt_call *call)
{
    exchange_run run =
        exchange_start(call, GIVE_BACK_OFFSETS, call->in_shape[GIVE_BACK_ROWS].size[1]);
    run.parts = call->in[GIVE_BACK_PARTS];
    send_back(&run, call->in[GIVE_BACK_ROWS], call->out[GIVE_BACK_Y], false, NULL);
}

void MIXT_REAL(mixt_give_back_backward)(const mixt_call *call)
{
    if (call->d_in[GIVE_BACK_ROWS] == NULL || call->d_out[GIVE_BACK_Y] == NULL) {
        mixt_put_zero(call, GIVE_BACK_ROWS, mixt_values(call, GIVE_BACK_ROWS));
        return;
    }
    exchange_run run =
        exchange_start(call, GIVE_BACK_OFFSETS, call->in_shape[GIVE_BACK_ROWS].size[1]);
    run.parts = call->in[GIVE_BACK_PARTS];
    send_out(&run, call->d_out[GIVE_BACK_Y], call->d_in[GIVE_BACK_ROWS], call->add[GIVE_BACK_ROWS]);
}
