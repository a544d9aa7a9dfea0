/* Cases of exchange, arrive and give_back where one rank has all experts; tests/test_exchange.c has
 * several ranks. */
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
