/* Cases of what stands between a block and its router: pool and jitter. */
#include "operator_cases.h"

#include <math.h>
#include <string.h>

/* pool: {T, capacity, d, tokens of a segment or 0, documents, rows of a cache or 0: each document
 * is a sequence then, whose rows before the call are in it} */

static const int64_t pool_rows[][CASE_NUMBERS] = {
    {1, 1, 3, 0, 1},     {1, 4, 3, 2, 1},     {9, 9, 5, 0, 1},      {9, 12, 5, 1, 1},
    {70, 80, 130, 0, 4}, {70, 80, 130, 7, 4}, {65, 65, 2, 16, 3},   {40, 40, 64, 40, 1},
    {40, 40, 64, 41, 2}, {20, 20, 3, 5, 20},  {9, 9, 5, 4, 5, 640}, {70, 80, 66, 7, 3, 768},
};

static void pool_prepare(operator_case *c)
{
    c->attributes.segment = (int)c->p[3];
    c->request.in[POOL_X] = by_token(c, 1, c->p[2]);
    c->request.in[POOL_FIRST] = c->request.in[POOL_LAST] = mixt_shape_integers(by_token(c, 1, 0));
    c->differentiable = SLOT(POOL_X);
    if (c->p[5] > 0) {
        c->request.in[POOL_CACHE] = fixed(c->p[5], c->p[2]);
        case_prepare_pages(c, (case_pages){c->p[4], POOL_PAGES, POOL_CACHE});
    }
    c->functional = SLOT(POOL_Y);
}

/* Documents of about the same length. */
static void pool_fill(operator_case *c)
{
    if (c->p[5] > 0) {
        case_fill_pages(c, (case_pages){c->p[4], POOL_PAGES, POOL_CACHE}, c->integer[POOL_LAST]);
        memset(c->integer[POOL_FIRST], 0, (size_t)c->tokens * sizeof(int32_t));
        return;
    }
    for (int64_t t = 0; t < c->tokens; t++) {
        int64_t document = t * c->p[4] / c->tokens;
        c->integer[POOL_FIRST][t] = (int32_t)((document * c->tokens + c->p[4] - 1) / c->p[4]);
        c->integer[POOL_LAST][t] = (int32_t)t;
    }
}

/* Sums up to the row before go on with the rows of the call. */
static void pool_naive_cached(const operator_case *c, double *const *out)
{
    int64_t d = c->p[2], segment = c->p[3];
    for (int64_t i = 0; i < c->tokens * d; i++) {
        int64_t t = i / d, at = c->integer[POOL_LAST][t], before = at / segment * segment;
        int64_t own = t; /* the call's first row of the sequence */
        while (own > 0 && c->integer[POOL_SEQUENCE][own - 1] == c->integer[POOL_SEQUENCE][t]) {
            own--;
        }
        int64_t begin = c->integer[POOL_LAST][own], from = before < begin ? before : begin;
        double sum =
            from > 0 ? c->value[POOL_CACHE][case_row(c, POOL_PAGES, t, from - 1) * d + i % d] : 0;
        for (int64_t s = begin; s < before; s++) {
            sum += c->value[POOL_X][(own + s - begin) * d + i % d];
        }
        out[POOL_Y][i] = before > 0 ? sum / (double)before : 0;
    }
}

static void pool_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    int64_t d = c->p[2], segment = c->p[3];
    const int32_t *first = c->integer[POOL_FIRST];
    if (c->p[5] > 0) {
        pool_naive_cached(c, out);
        return;
    }
    for (int64_t t = 0; t < c->tokens; t++) {
        int64_t end = first[t] + (segment > 0 ? (t - first[t]) / segment * segment : 0);
        while (segment == 0 && end < c->tokens && first[end] == first[t]) {
            end++;
        }
        for (int64_t i = 0; i < d && end > first[t]; i++) {
            double sum = 0;
            for (int64_t s = first[t]; s < end; s++) {
                sum += c->value[POOL_X][s * d + i];
            }
            out[POOL_Y][t * d + i] = sum / (double)(end - first[t]);
        }
    }
}

const operator_subject pool_subject = {MIXT_OP_pool,
                                       TABLE(pool),
                                       1e-5,
                                       pool_prepare,
                                       pool_fill,
                                       pool_naive,
                                       SLOT(POOL_X) | SLOT(POOL_PAGES),
                                       SLOT(POOL_CACHE)};

/* jitter: {T, capacity, d, micro batch} */

static const int64_t jitter_rows[][CASE_NUMBERS] = {{1, 1, 1, 0}, {7, 9, 5, 3}, {200, 200, 100, 0}};

static void jitter_prepare(operator_case *c)
{
    c->attributes.jitter = 0.25;
    c->request.in[JITTER_X] = by_token(c, 1, c->p[2]);
    c->request.in[JITTER_DRAW] = mixt_shape_integers(fixed(MIXT_DRAWS, 0));
    c->differentiable = SLOT(JITTER_X);
    c->functional = SLOT(JITTER_Y);
}

static void jitter_fill(operator_case *c)
{
    int32_t *draw = c->integer[JITTER_DRAW];
    draw[MIXT_DRAW_SEED_LOW] = -5; /* all bits count */
    draw[MIXT_DRAW_SEED_HIGH] = 9;
    draw[MIXT_DRAW_STEP] = 77;
    draw[MIXT_DRAW_BATCH] = (int32_t)c->p[3];
}

static void jitter_naive(const operator_case *c, double *const *out, int32_t *const *integer_out)
{
    (void)integer_out;
    mixt_random_key key = {(uint64_t)9 << 32 | 0xfffffffb, MIXT_RANDOM_JITTER, 77};
    for (int64_t i = 0; i < c->tokens * c->p[2]; i++) {
        uint64_t index = (uint64_t)c->p[3] << 48 | (uint64_t)i;
        double factor = 0.75 + 0.5 * mixt_random_uniform(&key, index);
        out[JITTER_Y][i] = c->value[JITTER_X][i] * factor;
    }
}

const operator_subject jitter_subject = {
    MIXT_OP_jitter, TABLE(jitter), 1e-6,           jitter_prepare,
    jitter_fill,    jitter_naive,  SLOT(JITTER_X), 0};
