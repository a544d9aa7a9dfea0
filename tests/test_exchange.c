/* exchange, arrive and give_back over ranks that are threads: rows against a plain reference for
 * random and adversarial counts, far_experts against the three with experts between, and what a
 * rank says that cannot be. test_exchange_model.c has whole models.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <cmocka.h>

#include "backend/cpu/compute.h"
#include "core/random.h"
#include "hub.h"
#include "ops/shape.h"
#include "route_batch.h"
#include "scratch.h"

#define RANKS_MAX 8

/* ------------------------------------------------------------------------------------------ */
/* Rows */

typedef enum counts_kind {
    RANDOM,
    ALL_TO_ONE,     /* expert */
    NONE_TO_A_RANK, /* the second one's experts get nothing */
    A_RANK_WITHOUT, /* tokens: the second one */
    ALL_IN_GROUPS,  /* without weights */
    NOTHING,
    KINDS
} counts_kind;

typedef struct rows_case {
    int ranks, experts, identity, zero, tokens, near, d;
    counts_kind kind;
    size_t real_size;
} rows_case;

/* One rank's side of a case, made before the ranks run. */
typedef struct rows_rank {
    const rows_case *c;
    const struct rows_rank *all;
    mixt_compute *compute;
    int rank, failures;
    int32_t offsets[64];
} rows_rank;

/* What a value of a rank's near row is: exact in fp32, different everywhere. */
static double near_value(int rank, int64_t row, int64_t column)
{
    return (double)(rank * 100003 + row * 101 + column);
}

static void make_counts(rows_rank *r, uint64_t seed)
{
    const rows_case *c = r->c;
    mixt_random_key key = {seed, MIXT_RANDOM_DATA, (uint32_t)r->rank};
    int groups = c->experts + c->identity + c->zero;
    int32_t counts[64] = {0};
    int rows = c->tokens * c->near;
    bool none = c->kind == NOTHING || (c->kind == A_RANK_WITHOUT && r->rank == 1);
    for (int i = 0; i < rows && !none; i++) {
        int e = (int)mixt_random_below(&key, (uint64_t)i, (uint64_t)groups);
        int first = c->experts / c->ranks, last = 2 * c->experts / c->ranks;
        e = c->kind == ALL_TO_ONE ? c->experts / 2 : e;
        e = c->kind == NONE_TO_A_RANK && e >= first && e < last ? 0 : e;
        e = c->kind == ALL_IN_GROUPS && c->identity + c->zero > 0 ? groups - 1 : e;
        counts[e]++;
    }
    r->offsets[0] = 0;
    for (int e = 0; e < groups; e++) {
        r->offsets[e + 1] = r->offsets[e] + counts[e];
    }
}

static void put(const rows_case *c, void *to, int64_t i, double value)
{
    if (c->real_size == sizeof(double)) {
        ((double *)to)[i] = value;
    } else {
        ((float *)to)[i] = (float)value;
    }
}

static double get(const rows_case *c, const void *from, int64_t i)
{
    return c->real_size == sizeof(double) ? ((const double *)from)[i]
                                          : (double)((const float *)from)[i];
}

/* An operator of a case with its memory. */
typedef struct rows_call {
    mixt_shape_request request;
    mixt_attributes attributes;
    mixt_fault fault;
    mixt_call call;
} rows_call;

static void *make_values(const rows_case *c, int64_t count)
{
    unsigned char *values = malloc((size_t)(count + 1) * c->real_size);
    memset(values, 0xff, (size_t)(count + 1) * c->real_size); /* NaN */
    return values;
}

static void prepare_call(const rows_rank *r, mixt_ranks *ranks, mixt_op op, rows_call *made)
{
    const rows_case *c = r->c;
    mixt_error error = MIXT_ERROR_INIT;
    made->attributes.ranks = ranks;
    made->attributes.identity_experts = c->identity;
    made->attributes.zero_experts = c->zero;
    made->request.attributes = &made->attributes;
    made->request.capacity = c->tokens;
    HUB_CHECK(mixt_operator_row(op)->shape(&made->request, &error) == MIXT_OK);
    mixt_fault_clear(&made->fault);
    made->call = (mixt_call){.compute = r->compute,
                             .attributes = &made->attributes,
                             .tokens = c->tokens,
                             .layer = 3,
                             .fault = &made->fault,
                             .in_shape = made->request.in,
                             .out_shape = made->request.out};
}

static void run_call(const rows_rank *r, mixt_op op, rows_call *made, bool backward)
{
    static const mixt_op_function functions[5][2][2] = {
        /* of which, fp64, backward */
        {{mixt_experts_forward_f32, mixt_experts_backward_f32},
         {mixt_experts_forward_f64, mixt_experts_backward_f64}},
        {{mixt_exchange_forward_f32, mixt_exchange_backward_f32},
         {mixt_exchange_forward_f64, mixt_exchange_backward_f64}},
        {{mixt_arrive_forward_f32, mixt_arrive_backward_f32},
         {mixt_arrive_forward_f64, mixt_arrive_backward_f64}},
        {{mixt_give_back_forward_f32, mixt_give_back_backward_f32},
         {mixt_give_back_forward_f64, mixt_give_back_backward_f64}},
        {{mixt_far_experts_forward_f32, mixt_far_experts_backward_f32},
         {mixt_far_experts_forward_f64, mixt_far_experts_backward_f64}}};
    bool wide = r->c->real_size == sizeof(double);
    int64_t reals = backward ? made->request.backward_workspace : made->request.forward_workspace;
    size_t bytes = (size_t)reals * r->c->real_size;
    /* exactly as large as was asked for, so that a sanitizer sees what is written behind it */
    void *workspace = NULL;
    HUB_CHECK(posix_memalign(&workspace, 64, bytes) == 0);
    memset(workspace, 0xff, bytes);
    made->call.workspace = workspace;
    functions[op - MIXT_OP_experts][wide][backward](&made->call);
    free(workspace);
}

static int expert_first(const rows_case *c, int place)
{
    return place * c->experts / c->ranks;
}

/* Whether the far row `at` of this rank is row `row` of rank `from`, times a factor. */
static bool same_row(const rows_case *c, const void *have, int64_t at, int from, int64_t row,
                     double plus)
{
    for (int64_t i = 0; i < c->d; i++) {
        if (get(c, have, at * c->d + i) != near_value(from, row, i) + plus) {
            return false;
        }
    }
    return true;
}

/* Far rows of this rank against those of all: experts rising, then ranks, then rows. */
static int wrong_far_rows(const rows_rank *r, const void *far, const int32_t *held,
                          const int32_t *parts, double plus)
{
    const rows_case *c = r->c;
    int wrong = 0, first = expert_first(c, r->rank), end = expert_first(c, r->rank + 1);
    int64_t at = 0;
    for (int e = first; e < end; e++) {
        wrong += held != NULL && held[e - first] != at;
        for (int from = 0; from < c->ranks; from++) {
            const int32_t *offsets = r->all[from].offsets;
            wrong += parts[(e - first) * c->ranks + from] != offsets[e + 1] - offsets[e];
            for (int64_t row = offsets[e]; row < offsets[e + 1]; row++) {
                wrong += !same_row(c, far, at++, from, row, plus);
            }
        }
    }
    for (int g = c->experts; g < c->experts + c->identity + c->zero; g++) {
        wrong += held != NULL && held[g - c->experts + end - first] != at;
        for (int64_t row = r->offsets[g]; row < r->offsets[g + 1]; row++) {
            wrong += !same_row(c, far, at++, r->rank, row, plus);
        }
    }
    return wrong + (held != NULL && held[end - first + c->identity + c->zero] != at);
}

static int wrong_near_rows(const rows_rank *r, const void *near, double plus)
{
    int wrong = 0;
    int groups = r->c->experts + r->c->identity + r->c->zero;
    for (int64_t row = 0; row < r->offsets[groups]; row++) {
        wrong += !same_row(r->c, near, row, r->rank, row, plus);
    }
    return wrong;
}

/* There and back, and the derivatives of both ways, alone and added to what is there. */
static mixt_status run_rows(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    rows_rank *r = (rows_rank *)user + rank;
    const rows_case *c = r->c;
    MIXT_TRY(mixt_ranks_arrange(ranks, 1, c->ranks, c->experts, error));
    int groups = c->experts + c->identity + c->zero, held = 0;
    int64_t near_rows = (int64_t)c->tokens * c->near, far_rows = near_rows * c->ranks;
    size_t near_bytes = (size_t)(near_rows * c->d) * c->real_size;
    int32_t told[64], parts[64 * RANKS_MAX];
    rows_call out = {.attributes.rows = c->near * c->ranks};
    rows_call in = {.attributes.rows = c->near * c->ranks};
    rows_call back = {.attributes.rows = c->near};
    out.request.in[EXCHANGE_ROWS] = mixt_shape_tokens(c->tokens, c->near, c->d);
    in.request.in[ARRIVE_ROWS] = out.request.in[EXCHANGE_ROWS];
    back.request.in[GIVE_BACK_ROWS] = in.request.in[ARRIVE_ARRIVED] =
        mixt_shape_tokens(c->tokens, c->near * c->ranks, c->d);
    out.request.in[EXCHANGE_OFFSETS] = in.request.in[ARRIVE_OFFSETS] =
        back.request.in[GIVE_BACK_OFFSETS] =
            mixt_shape_integers(mixt_shape_static(1, groups + 1, 0, 0));
    held = expert_first(c, r->rank + 1) - expert_first(c, r->rank);
    back.request.in[GIVE_BACK_PARTS] = in.request.in[ARRIVE_PARTS] =
        mixt_shape_integers(mixt_shape_static(2, held, c->ranks, 0));
    prepare_call(r, ranks, MIXT_OP_exchange, &out);
    prepare_call(r, ranks, MIXT_OP_arrive, &in);
    prepare_call(r, ranks, MIXT_OP_give_back, &back);
    void *near = make_values(c, near_rows * c->d), *far = make_values(c, far_rows * c->d);
    void *again = make_values(c, near_rows * c->d), *d_far = make_values(c, far_rows * c->d);
    void *arrived = make_values(c, far_rows * c->d);
    for (int64_t i = 0; i < r->offsets[groups] * c->d; i++) {
        put(c, near, i, near_value(r->rank, i / c->d, i % c->d));
    }
    out.call.in[EXCHANGE_ROWS] = near;
    out.call.in[EXCHANGE_OFFSETS] = in.call.in[ARRIVE_OFFSETS] = back.call.in[GIVE_BACK_OFFSETS] =
        r->offsets;
    out.call.out[EXCHANGE_ARRIVED] = in.call.in[ARRIVE_ARRIVED] = arrived;
    in.call.in[ARRIVE_ROWS] = near;
    out.call.out[EXCHANGE_HELD] = told;
    out.call.out[EXCHANGE_PARTS] = in.call.in[ARRIVE_PARTS] = back.call.in[GIVE_BACK_PARTS] = parts;
    in.call.out[ARRIVE_Y] = far;
    run_call(r, MIXT_OP_exchange, &out, false);
    run_call(r, MIXT_OP_arrive, &in, false);
    r->failures += wrong_far_rows(r, far, told, parts, 0);
    back.call.in[GIVE_BACK_ROWS] = far;
    back.call.out[GIVE_BACK_Y] = again;
    run_call(r, MIXT_OP_give_back, &back, false);
    r->failures += wrong_near_rows(r, again, 0);
    for (int add = 0; add < 2; add++) {
        double first = add != 0 ? 1.0 : 0; /* what is there already is itself once more */
        back.call.d_out[GIVE_BACK_Y] = near;
        back.call.d_in[GIVE_BACK_ROWS] = d_far;
        back.call.add[GIVE_BACK_ROWS] = add != 0;
        for (int64_t i = 0; i < far_rows * c->d; i++) {
            put(c, d_far, i, first);
        }
        run_call(r, MIXT_OP_give_back, &back, true);
        r->failures += wrong_far_rows(r, d_far, NULL, parts, first);
    }
    in.call.d_out[ARRIVE_Y] = far;
    in.call.d_in[ARRIVE_ARRIVED] = out.call.d_out[EXCHANGE_ARRIVED] = arrived;
    in.call.d_in[ARRIVE_ROWS] = out.call.d_in[EXCHANGE_ROWS] = memset(again, 0xff, near_bytes);
    out.call.add[EXCHANGE_ROWS] = true; /* to what the other has begun */
    run_call(r, MIXT_OP_arrive, &in, true);
    run_call(r, MIXT_OP_exchange, &out, true);
    r->failures += wrong_near_rows(r, again, 0);
    r->failures += mixt_call_failed(&out.call) || mixt_call_failed(&back.call) ||
                   mixt_call_failed(&in.call) || ranks->begun.first != ranks->begun.end;
    free(arrived);
    free(near);
    free(far);
    free(again);
    free(d_far);
    return MIXT_OK;
}

/* ------------------------------------------------------------------------------------------ */
/* Experts between, in chunks                                                                 */

enum { FFN = 3, CHUNKS_MOST = 3 };

/* What ranks compute of near rows and their gradient, with far_experts or with three operators. */
typedef struct rows_made {
    void *y, *d_near, *weights, *d_weights; /* of gate, up and down */
} rows_made;

typedef struct chunks_run {
    const rows_rank *r;
    mixt_ranks *ranks;
    int chunks; /* 0: three operators */
    int groups, held;
    mixt_shape near, far, offsets, parts, told;
    mixt_status (*intact)(const void *user, mixt_error *error);
    void *x, *d_y;
    void *rows[8]; /* arrived, far, done, gate, up, hidden, d_arrived, d_far */
    int32_t held_offsets[64], given_parts[64 * RANKS_MAX];
} chunks_run;

static size_t matrix_values(const chunks_run *run)
{
    return (size_t)run->held * FFN * (size_t)run->r->c->d;
}

/* Weights of a range of experts, and where their gradients go. */
static void give_weights(const chunks_run *run, const rows_made *made, rows_call *call)
{
    const rows_case *c = run->r->c;
    size_t bytes = matrix_values(run) * c->real_size;
    for (int i = 0; i < 3; i++) {
        int slot = EXPERTS_W_GATE + i;
        call->request.in[slot] = slot == EXPERTS_W_DOWN
                                     ? mixt_shape_static(3, run->held, c->d, FFN)
                                     : mixt_shape_static(3, run->held, FFN, c->d);
        call->call.in[slot] = (char *)made->weights + (size_t)i * bytes;
        call->call.d_in[slot] = (char *)made->d_weights + (size_t)i * bytes;
    }
    call->attributes.exact_parts = c->kind % 2 == 1;
}

static void prepare_kept(const chunks_run *run, mixt_op op, rows_call *made)
{
    mixt_call before = made->call;
    prepare_call(run->r, run->ranks, op, made);
    memcpy(made->call.in, before.in, sizeof before.in);
    memcpy(made->call.out, before.out, sizeof before.out);
    memcpy(made->call.d_in, before.d_in, sizeof before.d_in);
    memcpy(made->call.d_out, before.d_out, sizeof before.d_out);
}

static void run_exchange(chunks_run *run, rows_call *out)
{
    out->attributes.rows = (int)run->far.multiple;
    out->attributes.chunks = run->chunks;
    out->request.in[EXCHANGE_ROWS] = run->near;
    out->request.in[EXCHANGE_OFFSETS] = run->offsets;
    out->call.in[EXCHANGE_ROWS] = run->x;
    out->call.in[EXCHANGE_OFFSETS] = (void *)run->r->offsets;
    out->call.out[EXCHANGE_ARRIVED] = run->rows[0];
    out->call.out[EXCHANGE_HELD] = run->held_offsets;
    out->call.out[EXCHANGE_PARTS] = run->given_parts;
    out->call.d_out[EXCHANGE_ARRIVED] = run->rows[6];
    prepare_kept(run, MIXT_OP_exchange, out);
    run_call(run->r, MIXT_OP_exchange, out, false);
}

static void run_three(chunks_run *run, const rows_made *made)
{
    rows_call in = {.attributes.rows = (int)run->far.multiple}, experts = {.attributes = {0}},
              back = {.attributes.rows = (int)run->near.multiple};
    in.request.in[ARRIVE_ROWS] = run->near;
    in.request.in[ARRIVE_OFFSETS] = back.request.in[GIVE_BACK_OFFSETS] = run->offsets;
    in.request.in[ARRIVE_ARRIVED] = experts.request.in[EXPERTS_ROWS] =
        back.request.in[GIVE_BACK_ROWS] = run->far;
    in.request.in[ARRIVE_PARTS] = experts.request.in[EXPERTS_PARTS] =
        back.request.in[GIVE_BACK_PARTS] = run->parts;
    experts.request.in[EXPERTS_OFFSETS] = run->told;
    in.call.in[ARRIVE_ROWS] = run->x;
    in.call.in[ARRIVE_OFFSETS] = back.call.in[GIVE_BACK_OFFSETS] = (void *)run->r->offsets;
    in.call.in[ARRIVE_ARRIVED] = run->rows[0];
    in.call.in[ARRIVE_PARTS] = experts.call.in[EXPERTS_PARTS] = back.call.in[GIVE_BACK_PARTS] =
        run->given_parts;
    in.call.out[ARRIVE_Y] = experts.call.in[EXPERTS_ROWS] = run->rows[1];
    experts.call.in[EXPERTS_OFFSETS] = run->held_offsets;
    experts.call.out[EXPERTS_Y] = back.call.in[GIVE_BACK_ROWS] = run->rows[2];
    experts.call.out[EXPERTS_GATE] = run->rows[3];
    experts.call.out[EXPERTS_UP] = run->rows[4];
    experts.call.out[EXPERTS_HIDDEN] = run->rows[5];
    back.call.out[GIVE_BACK_Y] = made->y;
    back.call.d_out[GIVE_BACK_Y] = run->d_y;
    back.call.d_in[GIVE_BACK_ROWS] = experts.call.d_out[EXPERTS_Y] = run->rows[2];
    experts.call.d_in[EXPERTS_ROWS] = in.call.d_out[ARRIVE_Y] = run->rows[7];
    in.call.d_in[ARRIVE_ARRIVED] = run->rows[6];
    in.call.d_in[ARRIVE_ROWS] = made->d_near;
    give_weights(run, made, &experts);
    prepare_kept(run, MIXT_OP_arrive, &in);
    prepare_kept(run, MIXT_OP_experts, &experts);
    prepare_kept(run, MIXT_OP_give_back, &back);
    run_call(run->r, MIXT_OP_arrive, &in, false);
    run_call(run->r, MIXT_OP_experts, &experts, false);
    run_call(run->r, MIXT_OP_give_back, &back, false);
    run_call(run->r, MIXT_OP_give_back, &back, true);
    run_call(run->r, MIXT_OP_experts, &experts, true);
    run_call(run->r, MIXT_OP_arrive, &in, true);
}

static void run_far(chunks_run *run, const rows_made *made)
{
    rows_call far = {.attributes = {.rows = (int)run->far.multiple,
                                    .chunks = run->chunks,
                                    .intact = run->intact}};
    far.request.in[FAR_EXPERTS_NEAR] = run->near;
    far.request.in[FAR_EXPERTS_OFFSETS] = run->told;
    far.request.in[FAR_EXPERTS_NEAR_OFFSETS] = run->offsets;
    far.request.in[FAR_EXPERTS_ARRIVED] = run->far;
    far.request.in[FAR_EXPERTS_PARTS] = run->parts;
    far.request.wanted = 1U << FAR_EXPERTS_ARRIVED;
    far.call.in[FAR_EXPERTS_NEAR] = run->x;
    far.call.in[FAR_EXPERTS_OFFSETS] = run->held_offsets;
    far.call.in[FAR_EXPERTS_NEAR_OFFSETS] = (void *)run->r->offsets;
    far.call.in[FAR_EXPERTS_ARRIVED] = run->rows[0];
    far.call.in[FAR_EXPERTS_PARTS] = run->given_parts;
    far.call.out[FAR_EXPERTS_Y] = made->y;
    far.call.out[FAR_EXPERTS_ROWS] = run->rows[1];
    far.call.out[FAR_EXPERTS_GATE] = run->rows[3];
    far.call.out[FAR_EXPERTS_UP] = run->rows[4];
    far.call.out[FAR_EXPERTS_HIDDEN] = run->rows[5];
    far.call.d_out[FAR_EXPERTS_Y] = run->d_y;
    far.call.d_in[FAR_EXPERTS_NEAR] = made->d_near;
    far.call.d_in[FAR_EXPERTS_ARRIVED] = run->rows[6];
    give_weights(run, made, &far);
    prepare_kept(run, MIXT_OP_far_experts, &far);
    run_call(run->r, MIXT_OP_far_experts, &far, false);
    if (run->intact != NULL) {
        HUB_CHECK(strstr(far.fault.error.message, "layer 3: exchange: torn") != NULL);
    } else {
        run_call(run->r, MIXT_OP_far_experts, &far, true);
    }
}

/* Small numbers, another for each value of each rank. */
static void *make_numbers(const rows_case *c, size_t count, uint64_t seed)
{
    mixt_random_key key = {seed, MIXT_RANDOM_DATA, 9};
    void *values = make_values(c, (int64_t)count);
    for (size_t i = 0; i < count; i++) {
        put(c, values, (int64_t)i, (double)mixt_random_below(&key, i, 2001) / 1000 - 1);
    }
    return values;
}

static void start_run(chunks_run *run)
{
    const rows_case *c = run->r->c;
    size_t values = (size_t)(c->tokens * c->near * c->d);
    run->groups = c->experts + c->identity + c->zero;
    run->held = expert_first(c, run->r->rank + 1) - expert_first(c, run->r->rank);
    run->near = mixt_shape_tokens(c->tokens, c->near, c->d);
    run->far = mixt_shape_tokens(c->tokens, c->near * c->ranks, c->d);
    run->offsets = mixt_shape_integers(mixt_shape_static(1, run->groups + 1, 0, 0));
    run->parts = mixt_shape_integers(mixt_shape_static(2, run->held, c->ranks, 0));
    run->told =
        mixt_shape_integers(mixt_shape_static(1, run->held + c->identity + c->zero + 1, 0, 0));
    run->x = make_numbers(c, values, 100 + (uint64_t)run->r->rank);
    run->d_y = make_numbers(c, values, 200 + (uint64_t)run->r->rank);
    for (int i = 0; i < 8; i++) {
        run->rows[i] = make_values(c, (int64_t)values * c->ranks * FFN);
    }
}

static void end_run(chunks_run *run)
{
    free(run->x);
    free(run->d_y);
    for (int i = 0; i < 8; i++) {
        free(run->rows[i]);
    }
}

static void make_made(const chunks_run *run, rows_made *made)
{
    const rows_case *c = run->r->c;
    int64_t values = c->tokens * c->near * c->d, matrix = (int64_t)matrix_values(run);
    *made = (rows_made){make_values(c, values), make_values(c, values),
                        make_numbers(c, (size_t)(3 * matrix), 300 + (uint64_t)run->r->rank),
                        make_values(c, 3 * matrix)};
}

static void compute_rows(const rows_rank *r, mixt_ranks *ranks, int chunks, rows_made *made)
{
    rows_call out = {.attributes = {0}};
    chunks_run run = {.r = r, .ranks = ranks, .chunks = chunks};
    start_run(&run);
    make_made(&run, made);
    out.call.d_in[EXCHANGE_ROWS] = made->d_near;
    run_exchange(&run, &out);
    if (chunks == 0) {
        run_three(&run, made);
    } else {
        run_far(&run, made);
    }
    out.call.add[EXCHANGE_ROWS] = true;
    run_call(r, MIXT_OP_exchange, &out, true);
    HUB_CHECK(!mixt_call_failed(&out.call) && ranks->begun.first == ranks->begun.end);
    end_run(&run);
}

static void free_made(rows_made *made)
{
    free(made->y);
    free(made->d_near);
    free(made->weights);
    free(made->d_weights);
}

/* The same bits in any number of chunks. */
static mixt_status run_chunks(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    rows_rank *r = (rows_rank *)user + rank;
    const rows_case *c = r->c;
    rows_made three, far;
    MIXT_TRY(mixt_ranks_arrange(ranks, 1, c->ranks, c->experts, error));
    size_t rows = (size_t)r->offsets[c->experts + c->identity + c->zero];
    size_t held = (size_t)(expert_first(c, rank + 1) - expert_first(c, rank));
    size_t matrix = held * FFN * (size_t)c->d;
    compute_rows(r, ranks, 0, &three);
    for (int chunks = 1; chunks <= CHUNKS_MOST && chunks <= c->experts / c->ranks; chunks++) {
        compute_rows(r, ranks, chunks, &far);
        r->failures += memcmp(far.y, three.y, rows * (size_t)c->d * c->real_size) != 0;
        r->failures += memcmp(far.d_near, three.d_near, rows * (size_t)c->d * c->real_size) != 0;
        r->failures += memcmp(far.d_weights, three.d_weights, 3 * matrix * c->real_size) != 0;
        free_made(&far);
    }
    free_made(&three);
    return MIXT_OK;
}

static mixt_compute *computes[RANKS_MAX];

static int start_computes(void **state)
{
    mixt_error error = MIXT_ERROR_INIT;
    for (int i = 0; i < RANKS_MAX; i++) {
        mixt_context_options options = {.threads = 1 + i % 2};
        must(mixt_compute_create(&options, &computes[i], &error), &error);
    }
    return route_start(state) + scratch_make(state);
}

static int stop_computes(void **state)
{
    for (int i = 0; i < RANKS_MAX; i++) {
        mixt_compute_free(computes[i]);
    }
    return route_stop(state) + scratch_remove(state);
}

static void run_late(int ranks, hub_function run, rows_rank *all, uint64_t seed, int delay)
{
    mixt_error errors[RANKS_MAX];
    const hub_options options = {.count = ranks, .seed = seed + 1, .delay = delay};
    hub_run_with(&options, run, all, errors);
    for (int r = 0; r < ranks; r++) {
        must(errors[r].status, &errors[r]);
    }
}

static void check_rows(const rows_case *c, hub_function run, uint64_t seed, int delay)
{
    rows_rank all[RANKS_MAX];
    int failures[RANKS_MAX];
    for (int r = 0; r < c->ranks; r++) {
        all[r] = (rows_rank){.c = c, .all = all, .compute = computes[r], .rank = r};
        make_counts(&all[r], seed);
    }
    if (delay > 0) {
        run_late(c->ranks, run, all, seed, delay);
    } else {
        hub_run(c->ranks, run, all);
    }
    for (int r = 0; r < c->ranks; r++) {
        failures[r] = all[r].failures;
    }
    hub_gather(failures, sizeof failures[0]);
    for (int r = 0; r < c->ranks; r++) {
        if (failures[r] != 0) {
            fail_msg("%d experts of %d ranks, counts %d: rank %d has %d wrong rows", c->experts,
                     c->ranks, (int)c->kind, r, failures[r]);
        }
    }
}

static void test_rows_of_ranks(void **state)
{
    (void)state;
    static const int shapes[][6] = {/* experts, identity, zero, tokens, near, d */
                                    {5, 0, 0, 7, 2, 3},
                                    {8, 0, 0, 40, 3, 17},
                                    {16, 2, 1, 33, 4, 8},
                                    {7, 0, 3, 1, 1, 1},
                                    {5, 1, 0, 200, 1, 33}};
    int cases = 0;
    for (int ranks = 1; ranks <= RANKS_MAX; ranks++) {
        if (!hub_has(ranks)) {
            continue;
        }
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
            for (int kind = 0; kind < KINDS; kind++) {
                const int *p = shapes[s];
                rows_case c = {ranks, p[0], p[1], p[2], p[3], p[4], p[5], (counts_kind)kind, 4};
                /* what is late is the hub's */
                int repeats = p[0] < ranks ? 0 : kind != RANDOM ? 1 : hub_ranks(0) == 0 ? 6 : 2;
                for (int repeat = 0; repeat < repeats; repeat++) {
                    c.real_size = repeat % 2 == 0 ? 4 : 8;
                    check_rows(&c, run_rows, (uint64_t)cases, repeat < 3 ? 0 : 300);
                    check_rows(&c, run_chunks, (uint64_t)(cases++), repeat < 3 ? 0 : 300);
                }
            }
        }
    }
    print_message("%d cases of rows\n", cases);
}

static mixt_status torn(const void *user, mixt_error *error)
{
    (void)user;
    return mixt_fail(error, MIXT_ERROR_IO, "torn");
}

/* The second rank's experts cannot be read: it gives nothing to the first one, but what was under
 * way to it has come, so that nothing is written where its memory was. */
static mixt_status fail_in_first_chunk(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    const rows_case c = {2, 6, 1, 0, 20, 2, 3, RANDOM, 4};
    rows_rank r = {.c = &c, .compute = computes[rank], .rank = rank};
    rows_call out = {.attributes = {0}};
    rows_made made;
    int64_t came = 0, sent = 0;
    (void)user;
    MIXT_TRY(mixt_ranks_arrange(ranks, 1, 2, 6, error));
    make_counts(&r, 7);
    chunks_run run = {.r = &r, .ranks = ranks, .chunks = 3, .intact = rank == 1 ? torn : NULL};
    start_run(&run);
    make_made(&run, &made);
    run_exchange(&run, &out);
    for (int i = 0; i < 3 && rank == 0; i++) {
        HUB_CHECK(mixt_ranks_end_first(ranks, error) == MIXT_OK);
    }
    if (rank == 1) {
        run_far(&run, &made);
        for (int e = 0; e < run.held; e++) {
            sent += run.given_parts[e * 2] * c.d;
        }
        for (int64_t i = 0; i < c.tokens * c.near * c.ranks * c.d; i++) {
            came += !isnan(get(&c, run.rows[0], i));
        }
        HUB_CHECK(sent > 0 && came == sent && ranks->begun.first == ranks->begun.end);
        HUB_CHECK(mixt_ranks_lost(ranks));
    }
    free_made(&made);
    end_run(&run);
    return MIXT_OK;
}

static void test_torn_files(void **state)
{
    (void)state;
    hub_only();
    for (uint64_t seed = 1; seed <= 3; seed++) {
        mixt_error errors[2];
        const hub_options options = {.count = 2, .seed = seed, .delay = 20000};
        hub_run_with(&options, fail_in_first_chunk, NULL, errors);
        must(errors[0].status, &errors[0]);
        must(errors[1].status, &errors[1]);
    }
}

/* Ranks of which the last says what cannot be, or says nothing. */
typedef struct liar {
    int32_t count;     /* of rows of each expert, which it says */
    bool silent;       /* it ends instead */
    const char *lines; /* what each of the others says then */
} liar;

/* In the place of exchange: counts, as of every expert. */
static mixt_status lie(mixt_ranks *ranks, int32_t count, mixt_error *error)
{
    int32_t counts[4] = {count, count, count, count}, said[2 * 3];
    const size_t out[3] = {4, 4, 8}, in[3] = {8, 8, 8};
    const mixt_exchange exchange = {MIXT_GROUP_EXPERT, counts, out, said, in};
    return mixt_ranks_exchange(ranks, &exchange, error);
}

static mixt_status hear_liar(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    const liar *l = user;
    MIXT_TRY(mixt_ranks_arrange(ranks, 1, 3, 4, error));
    if (rank == 2) { /* holds experts 2 and 3 */
        return l->silent ? mixt_fail(error, MIXT_ERROR_IO, "gone") : lie(ranks, l->count, error);
    }
    const rows_case c = {3, 4, 1, 0, 5, 2, 3, RANDOM, 4};
    rows_rank r = {.c = &c, .compute = computes[rank], .rank = rank};
    make_counts(&r, 7);
    int32_t held[3] = {-1, -1, -1}, parts[3] = {-1, -1, -1};
    float near[30], far[90], arrived[90];
    for (int i = 0; i < 30; i++) {
        near[i] = 1;
    }
    rows_call out = {.attributes.rows = 6}, in = {.attributes.rows = 6},
              back = {.attributes.rows = 2};
    out.request.in[EXCHANGE_ROWS] = mixt_shape_tokens(5, 2, 3);
    in.request.in[ARRIVE_ROWS] = out.request.in[EXCHANGE_ROWS];
    back.request.in[GIVE_BACK_ROWS] = in.request.in[ARRIVE_ARRIVED] = mixt_shape_tokens(5, 6, 3);
    out.request.in[EXCHANGE_OFFSETS] = in.request.in[ARRIVE_OFFSETS] =
        back.request.in[GIVE_BACK_OFFSETS] = mixt_shape_integers(mixt_shape_static(1, 6, 0, 0));
    back.request.in[GIVE_BACK_PARTS] = in.request.in[ARRIVE_PARTS] =
        mixt_shape_integers(mixt_shape_static(2, 1, 3, 0));
    prepare_call(&r, ranks, MIXT_OP_exchange, &out);
    prepare_call(&r, ranks, MIXT_OP_arrive, &in);
    prepare_call(&r, ranks, MIXT_OP_give_back, &back);
    out.call.in[EXCHANGE_ROWS] = out.call.d_in[EXCHANGE_ROWS] = near;
    out.call.in[EXCHANGE_OFFSETS] = in.call.in[ARRIVE_OFFSETS] = back.call.in[GIVE_BACK_OFFSETS] =
        r.offsets;
    out.call.out[EXCHANGE_ARRIVED] = out.call.d_out[EXCHANGE_ARRIVED] = arrived;
    in.call.in[ARRIVE_ARRIVED] = in.call.d_in[ARRIVE_ARRIVED] = arrived;
    in.call.in[ARRIVE_ROWS] = in.call.d_in[ARRIVE_ROWS] = near;
    in.call.out[ARRIVE_Y] = in.call.d_out[ARRIVE_Y] = far;
    out.call.out[EXCHANGE_HELD] = held;
    out.call.out[EXCHANGE_PARTS] = in.call.in[ARRIVE_PARTS] = back.call.in[GIVE_BACK_PARTS] = parts;
    back.call.in[GIVE_BACK_ROWS] = far;
    back.call.out[GIVE_BACK_Y] = near;
    run_call(&r, MIXT_OP_exchange, &out, false);
    run_call(&r, MIXT_OP_arrive, &in, false);
    HUB_CHECK(strstr(out.fault.error.message, l->lines) != NULL);
    int32_t stay = r.offsets[5] - r.offsets[4];
    HUB_CHECK(held[0] == 0 && held[1] == 0 && held[2] == stay);
    HUB_CHECK(parts[0] == 0 && parts[1] == 0 && parts[2] == 0);
    run_call(&r, MIXT_OP_give_back, &back, false);
    HUB_CHECK(mixt_call_failed(&back.call));
    for (int i = 0; i < r.offsets[5] * 3; i++) {
        HUB_CHECK(near[i] == (i < r.offsets[4] * 3 ? 0.0f : 1.0f));
    }
    run_call(&r, MIXT_OP_arrive, &in, true);
    run_call(&r, MIXT_OP_exchange, &out, true);
    HUB_CHECK(mixt_call_failed(&in.call) && ranks->begun.first == ranks->begun.end);
    MIXT_TRY(mixt_ranks_barrier(ranks, MIXT_GROUP_ALL, error)); /* nothing is done any more */
    return mixt_fail(error, MIXT_ERROR_ARGUMENT, "ranks went on");
}

/* A count that is negative, one of more rows than fit, and a rank that is gone: a fault, nothing
 * written outside, zeros in the place of rows, and the end of all exchanges. */
static void test_liars(void **state)
{
    (void)state;
    hub_only();
    static const liar cases[] = {{-5, false, "layer 3: exchange: rank 2 sends -5 rows of expert "},
                                 {31, false, "layer 3: exchange: rank 2 sends 31 rows of expert "},
                                 {INT32_MAX, false, "rank 2 sends 2147483647 rows of expert "},
                                 {0, true, "layer 3: exchange: "}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mixt_error errors[3];
        hub_options options = {.count = 3};
        hub_run_with(&options, hear_liar, (void *)&cases[i], errors);
        for (int r = 0; r < 2; r++) {
            print_message("%s\n", errors[r].message);
            assert_true(errors[r].status != MIXT_OK && errors[r].status != MIXT_ERROR_ARGUMENT);
        }
    }
}

/* The second rank says how often it chose the first expert; the first one counts the step's. */
static mixt_status count_step(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    int32_t said = *(const int32_t *)user, all[2 * 4], counts[4] = {said, 0, 0, 0};
    MIXT_TRY(mixt_ranks_arrange(ranks, 2, 1, 4, error));
    if (rank == 1) {
        return mixt_ranks_gather(ranks, MIXT_GROUP_ALL, counts, sizeof counts, all, error);
    }
    const mixt_router_spec spec = {
        .experts = 4,
        .chosen = 1,
        .options = {.balance_scope = MIXT_BALANCE_OVER_STEP, .scale = 1}};
    route_batch batch;
    route_batch_create(&batch, &spec, true, 3, 4);
    float x[3 * 4] = {0, 9, 0, 0, 0, 0, 0, 9, 0, 9, 0, 0}, weight[4 * 4] = {0};
    int32_t seen[2 * 4] = {0, 0, 0, 0, 1, 0, 0, 5};
    for (int i = 0; i < 4; i++) {
        weight[i * 5] = 1;
    }
    mixt_fault fault;
    mixt_fault_clear(&fault);
    batch.attributes.ranks = ranks;
    batch.request.in[ROUTE_SEEN] = mixt_shape_integers(mixt_shape_static(2, 2, 4, 0));
    HUB_CHECK(mixt_route_shape(&batch.request, error) == MIXT_OK);
    free(batch.call.workspace);
    batch.call.workspace = malloc((size_t)batch.request.forward_workspace * sizeof(float));
    batch.call.fault = &fault;
    batch.call.in[ROUTE_X] = x;
    batch.call.in[ROUTE_WEIGHT] = weight;
    batch.call.in[ROUTE_SEEN] = seen;
    mixt_route_forward_f32(&batch.call);
    bool possible = said >= 0 && said <= 3;
    const int32_t want[2 * 4] = {1, 2, 0, 6, possible ? 1 + said : 1, 2, 0, 6};
    HUB_CHECK(memcmp(seen, want, sizeof want) == 0);
    HUB_CHECK(mixt_call_failed(&batch.call) != possible);
    HUB_CHECK(possible || strstr(fault.error.message, "route: rank 1 counts ") != NULL);
    route_batch_free(&batch);
    return possible ? MIXT_OK : mixt_fail(error, MIXT_ERROR_FORMAT, "%s", fault.error.message);
}

static void test_counts_of_a_step(void **state)
{
    (void)state;
    hub_only();
    const int32_t cases[] = {0, 3, -1, 4, INT32_MIN};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mixt_error errors[2];
        hub_options options = {.count = 2};
        hub_run_with(&options, count_step, (void *)&cases[i], errors);
        assert_int_equal(errors[0].status, i < 2 ? MIXT_OK : MIXT_ERROR_FORMAT);
    }
}

/* Attributes that the shape rules refuse; what they refuse of shapes is in test_operators.c. */
static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        int rows, zero_experts;
        bool alone;
        const char *rule;
    } cases[] = {{0, 0, false, "10 tokens of 0 rows are not exchanged"},
                 {INT32_MAX, 0, false, "10 tokens of 2147483647 rows are not exchanged"},
                 {2, 0, true, "10 tokens of 2 rows are not exchanged"},
                 {2, 4, false, "fewer experts than ranks"}};
    mixt_ranks ranks = {.data = 1, .expert = 1};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mixt_attributes attributes = {.ranks = cases[i].alone ? NULL : &ranks,
                                      .rows = cases[i].rows,
                                      .zero_experts = cases[i].zero_experts};
        mixt_shape_request request = {.attributes = &attributes, .capacity = 10};
        mixt_error error = MIXT_ERROR_INIT;
        request.in[EXCHANGE_ROWS] = mixt_shape_tokens(10, 2, 3);
        request.in[EXCHANGE_OFFSETS] = mixt_shape_integers(mixt_shape_static(1, 5, 0, 0));
        must_refuse(mixt_exchange_shape(&request, &error), &error, "exchange", cases[i].rule, "");
        error = (mixt_error)MIXT_ERROR_INIT;
        request.in[GIVE_BACK_PARTS] = mixt_shape_integers(mixt_shape_static(2, 4, 1, 0));
        must_refuse(mixt_give_back_shape(&request, &error), &error, "give_back", cases[i].rule, "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),         cmocka_unit_test(test_rows_of_ranks),
        cmocka_unit_test(test_torn_files),       cmocka_unit_test(test_liars),
        cmocka_unit_test(test_counts_of_a_step),
    };
    return cmocka_run_group_tests(tests, start_computes, stop_computes);
}
