/* Cases of exchange, arrive, give_back and far_experts where one rank has all experts;
 * tests/test_exchange.c has several ranks. */
#include "operator_cases.h"

/* {T, capacity, d, m, E, experts without weights behind them, percent of rows in use} */

static const int64_t exchange_rows[][CASE_NUMBERS] = {
    {1, 1, 1, 1, 1, 0, 100},   {5, 7, 3, 2, 4, 0, 100}, {100, 128, 17, 3, 8, 0, 100},
    {40, 40, 33, 2, 3, 2, 70}, {9, 9, 5, 2, 4, 1, 100}, {3, 3, 5, 2, 4, 3, 0},
};

static mixt_ranks one_rank = {.data = 1, .expert = 1};

static void fill_offsets(const operator_case *c, int32_t *offsets)
{
    int64_t groups = c->p[4] + c->p[5];
    int32_t counts[16] = {0};
    for (int64_t i = 0; i < c->tokens * c->p[3] * c->p[6] / 100; i++) {
        counts[case_below(groups)]++;
    }
    offsets[0] = 0;
    for (int64_t e = 0; e < groups; e++) {
        offsets[e + 1] = offsets[e] + counts[e];
    }
}

static void prepare(operator_case *c, int rows)
{
    one_rank.lost = (mixt_error)MIXT_ERROR_INIT;
    c->attributes.ranks = &one_rank;
    c->attributes.rows = (int)c->p[3];
    c->attributes.identity_experts = (int)c->p[5] / 2;
    c->attributes.zero_experts = (int)(c->p[5] - c->p[5] / 2);
    c->request.in[rows] = by_token(c, c->p[3], c->p[2]);
    c->differentiable = SLOT(rows);
    c->ragged_in = c->p[6] < 100 ? SLOT(rows) : 0;
}

/* Nothing comes from others. */
static void exchange_prepare(operator_case *c)
{
    prepare(c, EXCHANGE_ROWS);
    c->request.in[EXCHANGE_OFFSETS] = mixt_shape_integers(fixed(c->p[4] + c->p[5] + 1, 0));
    c->functional = SLOT(EXCHANGE_ARRIVED);
    c->ragged_out = SLOT(EXCHANGE_ARRIVED);
}

static void exchange_fill(operator_case *c)
{
    fill_offsets(c, c->integer[EXCHANGE_OFFSETS]);
}

static void exchange_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    const int32_t *offsets = c->integer[EXCHANGE_OFFSETS];
    int64_t groups = c->p[4] + c->p[5];
    (void)out;
    for (int64_t e = 0; e <= groups; e++) {
        integer_out[EXCHANGE_HELD][e] = offsets[e];
        if (e < c->p[4]) {
            integer_out[EXCHANGE_PARTS][e] = offsets[e + 1] - offsets[e];
        }
    }
}

static void arrive_prepare(operator_case *c)
{
    prepare(c, ARRIVE_ROWS);
    c->request.in[ARRIVE_OFFSETS] = mixt_shape_integers(fixed(c->p[4] + c->p[5] + 1, 0));
    c->request.in[ARRIVE_ARRIVED] = c->request.in[ARRIVE_ROWS];
    c->request.in[ARRIVE_PARTS] = mixt_shape_integers(fixed(c->p[4], 1));
    c->functional = SLOT(ARRIVE_Y);
    c->ragged_out = c->p[6] < 100 ? SLOT(ARRIVE_Y) : 0;
}

/* One rank's rows of each expert. */
static void fill_parts(const operator_case *c, const int32_t *offsets, int32_t *parts)
{
    for (int64_t e = 0; e < c->p[4]; e++) {
        parts[e] = offsets[e + 1] - offsets[e];
    }
}

static void arrive_fill(operator_case *c)
{
    fill_offsets(c, c->integer[ARRIVE_OFFSETS]);
    fill_parts(c, c->integer[ARRIVE_OFFSETS], c->integer[ARRIVE_PARTS]);
}

static void arrive_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    int64_t values = c->integer[ARRIVE_OFFSETS][c->p[4] + c->p[5]] * c->p[2];
    for (int64_t i = 0; i < values; i++) {
        out[ARRIVE_Y][i] = c->value[ARRIVE_ROWS][i];
    }
}

static void give_back_prepare(operator_case *c)
{
    prepare(c, GIVE_BACK_ROWS);
    c->request.in[GIVE_BACK_OFFSETS] = mixt_shape_integers(fixed(c->p[4] + c->p[5] + 1, 0));
    c->request.in[GIVE_BACK_PARTS] = mixt_shape_integers(fixed(c->p[4], 1));
    c->functional = SLOT(GIVE_BACK_Y);
    c->ragged_out = c->p[6] < 100 ? SLOT(GIVE_BACK_Y) : 0;
}

static void give_back_fill(operator_case *c)
{
    fill_offsets(c, c->integer[GIVE_BACK_OFFSETS]);
    fill_parts(c, c->integer[GIVE_BACK_OFFSETS], c->integer[GIVE_BACK_PARTS]);
}

static void give_back_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    int64_t values = c->integer[GIVE_BACK_OFFSETS][c->p[4] + c->p[5]] * c->p[2];
    for (int64_t i = 0; i < values; i++) {
        out[GIVE_BACK_Y][i] = c->value[GIVE_BACK_ROWS][i];
    }
}

const operator_subject exchange_subject = {MIXT_OP_exchange,
                                           TABLE(exchange),
                                           0,
                                           exchange_prepare,
                                           exchange_fill,
                                           exchange_naive,
                                           SLOT(EXCHANGE_ROWS) | SLOT(EXCHANGE_OFFSETS),
                                           0};
const operator_subject arrive_subject = {
    MIXT_OP_arrive, TABLE(exchange),   0, arrive_prepare, arrive_fill,
    arrive_naive,   SLOT(ARRIVE_ROWS), 0};
const operator_subject give_back_subject = {
    MIXT_OP_give_back, TABLE(exchange),      0, give_back_prepare, give_back_fill,
    give_back_naive,   SLOT(GIVE_BACK_ROWS), 0};

/* The numbers of experts (operator_cases_mixture.c), the last one: chunks, and 10 where gradients
 * are summed part by part. */
static const int64_t far_experts_rows[][CASE_NUMBERS] = {
    {1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1},
    {1, 2, 5, 7, 4, 2, 0, 0, 0, 0, 3},
    {40, 50, 9, 13, 6, 2, 0, 0, 0, 0, 2},
    {70, 70, 12, 8, 7, 2, 0, 4 + MIXT_ACTIVATION_CLAMPED, 0, 0, 3},
    {33, 33, 16, 24, 5, 1, 0, 4 + MIXT_ACTIVATION_SILU, 30, 0, 5},
    {70, 70, 12, 8, 3, 2, 0, 0, 0, 21, 2},
    {33, 40, 5, 6, 2, 2, 0, MIXT_ACTIVATION_GELU, 30, 12, 2},
    {40, 50, 9, 13, 6, 2, 0, 4 + MIXT_ACTIVATION_CLAMPED, 0, 0, 14},
};

static void far_experts_prepare(operator_case *c)
{
    experts_subject.prepare(c);
    int64_t groups = c->request.in[EXPERTS_OFFSETS].size[0];
    one_rank = (mixt_ranks){.data = 1, .expert = 1, .lost = MIXT_ERROR_INIT};
    c->attributes.ranks = &one_rank;
    c->attributes.rows = (int)c->p[5];
    c->attributes.chunks = (int)c->p[10] % 10;
    c->attributes.exact_parts = c->p[10] >= 10;
    c->request.in[FAR_EXPERTS_PARTS] = mixt_shape_integers(fixed(c->p[4], 1));
    c->request.in[FAR_EXPERTS_NEAR_OFFSETS] = mixt_shape_integers(fixed(groups, 0));
    c->request.in[FAR_EXPERTS_ARRIVED] = c->request.in[FAR_EXPERTS_NEAR];
    c->functional = SLOT(FAR_EXPERTS_Y);
    c->ragged_out = c->p[8] > 0 ? SLOT(FAR_EXPERTS_Y) | SLOT(FAR_EXPERTS_ROWS) : 0;
    if (c->p[8] > 0 || c->p[9] > 0) {
        c->ragged_out |= SLOT(FAR_EXPERTS_GATE) | SLOT(FAR_EXPERTS_UP) | SLOT(FAR_EXPERTS_HIDDEN);
    }
}

static void far_experts_fill(operator_case *c)
{
    int64_t groups = c->request.in[FAR_EXPERTS_OFFSETS].size[0] - 1;
    int32_t counts[16] = {0}, *offsets = c->integer[FAR_EXPERTS_OFFSETS];
    for (int64_t i = 0; i < c->tokens * c->p[5]; i++) {
        counts[case_below(groups)] += case_below(100) >= c->p[8];
    }
    offsets[0] = 0;
    for (int64_t e = 0; e < groups; e++) {
        offsets[e + 1] = offsets[e] + counts[e];
    }
    for (int64_t e = 0; e <= groups; e++) {
        c->integer[FAR_EXPERTS_NEAR_OFFSETS][e] = offsets[e];
    }
    fill_parts(c, offsets, c->integer[FAR_EXPERTS_PARTS]);
}

static void far_experts_naive(const operator_case *c, double *const *out,
                              int32_t *const *integer_out)
{
    double *experts_out[MIXT_SLOTS] = {[EXPERTS_Y] = out[FAR_EXPERTS_Y],
                                       [EXPERTS_GATE] = out[FAR_EXPERTS_GATE],
                                       [EXPERTS_UP] = out[FAR_EXPERTS_UP],
                                       [EXPERTS_HIDDEN] = out[FAR_EXPERTS_HIDDEN]};
    int64_t groups = c->request.in[FAR_EXPERTS_OFFSETS].size[0] - 1;
    for (int64_t i = 0; i < c->integer[FAR_EXPERTS_OFFSETS][groups] * c->p[2]; i++) {
        out[FAR_EXPERTS_ROWS][i] = c->value[FAR_EXPERTS_NEAR][i];
    }
    experts_subject.naive(c, experts_out, integer_out);
}

const operator_subject far_experts_subject = {MIXT_OP_far_experts,
                                              TABLE(far_experts),
                                              2e-5,
                                              far_experts_prepare,
                                              far_experts_fill,
                                              far_experts_naive,
                                              0,
                                              SLOT(FAR_EXPERTS_B_GATE) | SLOT(FAR_EXPERTS_B_UP) |
                                                  SLOT(FAR_EXPERTS_B_DOWN)};
