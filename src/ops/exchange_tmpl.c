/* exchange sends rows to the ranks that hold their experts, where arrive takes them in; give_back
 * brings them back. The one way is the other's derivative. Near rows are those of this rank's
 * tokens in the order of all experts, so that what goes to a place of MIXT_GROUP_EXPERT is one
 * piece; far rows are those of this rank's experts, each rank's behind the other's. What comes from
 * other ranks or goes to them lies by place in between: a part of it is one place's rows of an
 * expert. This rank's own part is copied straight between near and far. What other ranks say is
 * checked; where it cannot be, or they cannot be heard, the run has a fault and goes on with zeros,
 * and nothing is exchanged any more. */
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
    int32_t *begins;        /* [e, n]: where parts begin by place, or near where they are own */
    real *by_place;         /* what comes from others or goes to them */
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
    int places = run->sizes.places, own = run->sizes.own;
    size_t row = (size_t)run->d * sizeof(real);
    int32_t begin = 0;
    for (int place = 0; place < places; place++) {
        int32_t before = begin;
        const int32_t *near = run->offsets + first_of(run, place);
        for (int64_t e = 0; e < run->sizes.held; e++) {
            run->begins[e * places + place] = place == own ? near[e] : begin;
            begin += place == own ? 0 : run->parts[e * places + place];
        }
        run->far_bytes[place] = (size_t)(begin - before) * row;
        run->near_bytes[place] = (size_t)(run->offsets[first_of(run, place + 1)] - near[0]) * row;
    }
}

/* Copies or adds parts between far rows and by place, or near where they are own. */
typedef struct parts_run {
    const exchange_run *run;
    real *far, *near; /* near NULL: own parts are left out */
    bool arrive;      /* to far; else the other way */
    bool add[2];      /* to far or by place, to near */
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

/* Far rows of what came by place and of near ones. */
static void take_in(const exchange_run *run, real *far, const real *near, bool add)
{
    parts_run move = {run, far, (real *)near, true, {add, false}};
    mixt_pool_run(run->call->compute->pool, run->sizes.held, move_expert, &move);
}

/* Far rows to by place and near. */
static void give_out(const exchange_run *run, const real *far, real *near, bool add, bool add_near)
{
    parts_run move = {run, (real *)far, near, false, {add, add_near}};
    mixt_pool_run(run->call->compute->pool, run->sizes.held, move_expert, &move);
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

/* Begins what mixt_ranks_end is to end: near rows go out and by place in, or the other way. */
static void *begin(const exchange_run *run, const real *near, real *by_place)
{
    mixt_error error = MIXT_ERROR_INIT;
    void *request = NULL;
    mixt_exchange rows = {MIXT_GROUP_EXPERT, near, run->near_bytes, by_place, run->far_bytes};
    if (over(run) || mixt_ranks_begin(run->ranks, &rows, &request, &error) != MIXT_OK) {
        fail(run, &error);
    }
    return request;
}

static void *begin_back(const exchange_run *run, const real *by_place, real *near)
{
    mixt_error error = MIXT_ERROR_INIT;
    void *request = NULL;
    mixt_exchange rows = {MIXT_GROUP_EXPERT, by_place, run->far_bytes, near, run->near_bytes};
    if (over(run) || mixt_ranks_begin(run->ranks, &rows, &request, &error) != MIXT_OK) {
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
    void *request = run->ranks->begun;
    run->ranks->begun = NULL;
    return end(run, request);
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

/* Counts there and back, and near rows on their way. */
void MIXT_REAL(mixt_exchange_forward)(const mixt_call *call)
{
    exchange_run run =
        exchange_start(call, EXCHANGE_OFFSETS, call->in_shape[EXCHANGE_ROWS].size[1]);
    const mixt_exchange_sizes *sizes = &run.sizes;
    mixt_error error = MIXT_ERROR_INIT;
    int64_t stay = run.offsets[sizes->experts + sizes->groups] - near_end(&run);
    int64_t room = mixt_rows(&call->out_shape[EXCHANGE_ARRIVED], call->tokens) - stay;
    assert(room >= 0 && run.ranks->begun == NULL);
    if (exchange_counts(&run, &error) != MIXT_OK || check_said(&run, room, &error) != MIXT_OK) {
        fail(&run, &error);
        memset(run.said, 0, (size_t)(sizes->held * sizes->places) * sizeof *run.said);
    }
    tell_parts(&run, call->out[EXCHANGE_PARTS], call->out[EXCHANGE_HELD]);
    run.parts = call->out[EXCHANGE_PARTS];
    find_pieces(&run);
    run.ranks->begun = begin(&run, call->in[EXCHANGE_ROWS], call->out[EXCHANGE_ARRIVED]);
}

/* The gradient came in where the backward of arrive began it; without that there is none. */
void MIXT_REAL(mixt_exchange_backward)(const mixt_call *call)
{
    mixt_ranks *ranks = call->attributes->ranks;
    mixt_error error = MIXT_ERROR_INIT;
    void *request = ranks->begun;
    bool came = ranks->lost.status == MIXT_OK && mixt_ranks_end(ranks, request, &error) == MIXT_OK;
    ranks->begun = NULL;
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
        take_in(&run, far, near, false);
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
    give_out(&run, d_far, d_near, call->add[ARRIVE_ARRIVED], add);
    if (d_near != NULL) {
        put_groups(&run, d_near, near_end(&run), d_far, far_rows(&run, run.sizes.held), add);
    }
    if (d_near != NULL && d_arrived != NULL) {
        assert(run.ranks->begun == NULL && (!add || run.sizes.places == 1));
        run.ranks->begun = begin_back(&run, d_arrived, d_near);
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
    find_pieces(&run);
    if (!over(&run)) {
        give_out(&run, far, near, false, false);
    }
    if (!end(&run, begin_back(&run, run.by_place, near))) {
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
    find_pieces(&run);
    int64_t far_end = far_rows(&run, run.sizes.held);
    if (end(&run, begin(&run, d_near, run.by_place))) {
        take_in(&run, d_far, d_near, add);
    } else {
        clear(&run, d_far, far_end, add);
    }
    put_groups(&run, d_far, far_end, d_near, near_end(&run), add);
}
