/* Routing whatever the logits: k distinct ids in range, ties to the lowest id, finite weights, a
 * consistent record; the losses against direct sums in double; the loss-free bias.
 *
 *   test_router [rows]     rows of the property test, also MIXT_ROUTER_ROWS (default 1,500,000) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <cmocka.h>

#include "route_batch.h"

static int64_t wanted_rows = 1500000;

/* true where a row in position `a` may stand before one in `b` */
static bool ordered(const float *logits, int a, int b)
{
    if (isnan(logits[a]) || isnan(logits[b])) {
        return !isnan(logits[a]) || (isnan(logits[b]) && a < b);
    }
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
}

static bool finite_row(const float *logits, int experts)
{
    bool finite = true;
    for (int e = 0; e < experts; e++) {
        finite = finite && isfinite(logits[e]);
    }
    return finite;
}

/* Distinct ids, each before the next, and none left out that should stand before the last. */
static void check_row(const route_batch *made, int64_t t)
{
    int experts = made->spec.experts, chosen = made->spec.chosen;
    const float *logits = (const float *)made->call.out[ROUTE_SCORES] + t * experts;
    const int32_t *ids = (const int32_t *)made->call.out[ROUTE_IDS] + t * chosen;
    const float *weights = (const float *)made->call.out[ROUTE_WEIGHTS] + t * chosen;
    bool taken[256] = {false};
    float sum = 0;
    for (int j = 0; j < chosen; j++) {
        if (ids[j] < 0 || ids[j] >= experts || taken[ids[j]] || !isfinite(weights[j])) {
            fail_msg("row %lld: choice %d is expert %d with weight %g", (long long)t, j, ids[j],
                     (double)weights[j]);
        }
        taken[ids[j]] = true;
        sum += weights[j];
        assert_true(j == 0 || ordered(logits, ids[j - 1], ids[j]));
    }
    for (int e = 0; e < experts; e++) {
        assert_true(taken[e] || ordered(logits, ids[chosen - 1], e));
    }
    bool finite = finite_row(logits, experts);
    if (made->spec.options.renormalise || !finite) {
        double scores = 0, want = 1; /* sigmoids of nearly nothing stay nearly nothing */
        for (int j = 0; j < chosen; j++) {
            scores += 1 / (1 + exp(-(double)logits[ids[j]]));
        }
        if (finite && made->spec.options.score == MIXT_SCORE_SIGMOID) {
            want = scores / (scores + MIXT_SIGMOID_EPSILON);
        }
        assert_true(fabs((double)sum - want) < 1e-5);
    }
}

static void test_property(void **state)
{
    (void)state;
    static const struct {
        int experts, chosen;
        mixt_score score;
        bool renormalise;
    } shapes[] = {
        {8, 2, MIXT_SCORE_SOFTMAX, true},        {8, 2, MIXT_SCORE_TOP_K_SOFTMAX, true},
        {8, 2, MIXT_SCORE_SIGMOID, true},        {64, 8, MIXT_SCORE_SOFTMAX, false},
        {4, 1, MIXT_SCORE_SOFTMAX, false},       {60, 4, MIXT_SCORE_SIGMOID, true},
        {16, 16, MIXT_SCORE_SOFTMAX, true},      {1, 1, MIXT_SCORE_SIGMOID, false},
        {33, 5, MIXT_SCORE_TOP_K_SOFTMAX, true}, {256, 8, MIXT_SCORE_SIGMOID, true},
    };
    const int64_t tokens = 1000;
    int64_t rows = 0, odd = 0;
    for (int64_t at = 0; rows < wanted_rows; at++) {
        /* half of the batches in the shape of Mixtral, the rest in turn */
        size_t i = at % 2 == 0 ? 0 : (size_t)(at / 2) % (sizeof shapes / sizeof shapes[0]);
        mixt_router_spec spec = {
            .experts = shapes[i].experts,
            .chosen = shapes[i].chosen,
            .options = {.score = shapes[i].score, .renormalise = shapes[i].renormalise, .scale = 1},
        };
        route_batch made;
        route_batch_create(&made, &spec, false, tokens, 1);
        int64_t not_finite = 0;
        for (int64_t t = 0; t < tokens; t++) {
            float *logits = (float *)made.call.out[ROUTE_SCORES] + t * spec.experts;
            route_fill_row((int)route_below(ROUTE_KINDS), spec.experts, logits);
            not_finite += !finite_row(logits, spec.experts);
        }
        mixt_route_decide_f32(&made.call);
        for (int64_t t = 0; t < tokens; t++) {
            check_row(&made, t);
        }
        route_check_record(&made);
        mixt_route route = {.tokens = tokens, .finite = made.call.out[ROUTE_FINITE]};
        assert_int_equal(mixt_route_broken(&route, NULL), not_finite);
        route_batch_free(&made);
        rows += tokens;
        odd += not_finite;
    }
    print_message("%lld rows, %lld of them with NaN or Inf\n", (long long)rows, (long long)odd);
    assert_true(rows > 0 && odd > rows / 10);
}

/* Selection alone against taking the best k times. */
static void test_selection(void **state)
{
    (void)state;
    int rows = 0;
    for (; rows < 20000; rows++) {
        int experts = 1 + (int)route_below(40), chosen = 1 + (int)route_below((uint64_t)experts);
        float scores[40];
        double wide[40];
        int32_t ids[40], wide_ids[40];
        bool taken[40] = {false};
        route_fill_row((int)route_below(ROUTE_KINDS), experts, scores);
        for (int e = 0; e < experts; e++) {
            wide[e] = (double)scores[e];
        }
        mixt_select_top_k_f32(scores, experts, chosen, ids);
        mixt_select_top_k_f64(wide, experts, chosen, wide_ids);
        for (int j = 0; j < chosen; j++) {
            int best = -1;
            for (int e = 0; e < experts; e++) {
                best = !taken[e] && (best < 0 || ordered(scores, e, best)) ? e : best;
            }
            taken[best] = true;
            assert_int_equal(ids[j], best);
            assert_int_equal(wide_ids[j], best);
        }
    }
    print_message("%d selections\n", rows);
}

/* ------------------------------------------------------------------------------------------ */
/* Losses */

/* balance and z by their definitions, in double, over the rows that are finite */
static void direct_losses(const route_batch *made, double losses[ROUTE_LOSS_COUNT])
{
    int experts = made->spec.experts, chosen = made->spec.chosen;
    int64_t tokens = made->call.tokens;
    double mean[256] = {0}, share[256] = {0};
    losses[ROUTE_LOSS_BALANCE] = losses[ROUTE_LOSS_DEVICE] = losses[ROUTE_LOSS_Z] = 0;
    for (int64_t t = 0; t < tokens; t++) {
        const float *logits = (const float *)made->call.out[ROUTE_SCORES] + t * experts;
        const int32_t *ids = (const int32_t *)made->call.out[ROUTE_IDS] + t * chosen;
        bool first = made->spec.options.balance == MIXT_BALANCE_GSHARD;
        for (int j = 0; j < (first ? 1 : chosen); j++) {
            share[ids[j]] += 1 / (double)(tokens * (first ? 1 : chosen));
        }
        if (!finite_row(logits, experts)) {
            continue;
        }
        double sum = 0, scores = 0, value[256];
        for (int e = 0; e < experts; e++) {
            double power = exp((double)logits[e]);
            value[e] = made->spec.options.score == MIXT_SCORE_SIGMOID ? power / (1 + power) : power;
            sum += power;
            scores += value[e];
        }
        for (int e = 0; e < experts; e++) {
            mean[e] += value[e] / scores / (double)tokens;
        }
        losses[ROUTE_LOSS_Z] += log(sum) * log(sum) / (double)tokens;
    }
    for (int e = 0; e < experts; e++) {
        losses[ROUTE_LOSS_BALANCE] += experts * share[e] * mean[e];
    }
    int groups = made->spec.options.balance_groups;
    for (int i = 0; i < experts * experts && groups > 0; i++) { /* pairs of the same group */
        bool same = i / experts * groups / experts == i % experts * groups / experts;
        losses[ROUTE_LOSS_DEVICE] += same ? groups * share[i / experts] * mean[i % experts] : 0;
    }
}

static void test_losses(void **state)
{
    (void)state;
    int cases = 0;
    for (int i = 0; i < 24; i++) {
        mixt_router_spec spec = {
            .experts = 2 + i,
            .chosen = 1 + i % 3 % (2 + i),
            .options = {.score = (mixt_score)(i / 2 % 2 * 2), .scale = 1},
        };
        spec.options.balance_groups = (2 + i) % 3 == 0 ? 3 : (2 + i) % 2 == 0 ? 2 : 0;
        spec.options.balance = i % 2 == 0 ? MIXT_BALANCE_SWITCH : MIXT_BALANCE_GSHARD;
        route_batch made;
        route_batch_create(&made, &spec, false, 1 + i * 37, 1);
        for (int64_t t = 0; t < made.call.tokens; t++) {
            float *logits = (float *)made.call.out[ROUTE_SCORES] + t * spec.experts;
            route_fill_row(t % 10 == 9 ? ROUTE_SOME_NAN : ROUTE_NORMAL, spec.experts, logits);
        }
        mixt_route_decide_f32(&made.call);
        double want[ROUTE_LOSS_COUNT];
        direct_losses(&made, want);
        const float *have = made.call.out[ROUTE_LOSSES];
        for (int loss = 0; loss < ROUTE_LOSS_COUNT; loss++) {
            if (!(fabs((double)have[loss] - want[loss]) <= 1e-5 * fabs(want[loss]))) {
                fail_msg("loss %d is %g, not %g", loss, (double)have[loss], want[loss]);
            }
        }
        route_batch_free(&made);
        cases++;
    }
    print_message("%d batches\n", cases);
}

/* At balance the loss is 1, whatever k: every expert the same logits over the tokens in turn. */
static void test_balance_is_one(void **state)
{
    (void)state;
    mixt_router_spec spec = {.experts = 8, .chosen = 2, .options = {.scale = 1}};
    route_batch made;
    route_batch_create(&made, &spec, false, 64, 1);
    for (int64_t i = 0; i < 64 * 8; i++) {
        int64_t t = i / 8, e = i % 8;
        ((float *)made.call.out[ROUTE_SCORES])[i] = e == t % 8 || e == (t + 1) % 8 ? 5 : -5;
    }
    mixt_route_decide_f32(&made.call);
    assert_true(fabsf(((const float *)made.call.out[ROUTE_LOSSES])[ROUTE_LOSS_BALANCE] - 1) <
                1e-6F);
    for (int e = 0; e < 8; e++) {
        assert_int_equal(((const int32_t *)made.call.out[ROUTE_COUNTS])[e], 16);
    }
    /* collapse: every token to the same two experts is near 8 / 2 */
    for (int64_t i = 0; i < 64 * 8; i++) {
        ((float *)made.call.out[ROUTE_SCORES])[i] = i % 8 < 2 ? 50 : 0;
    }
    mixt_route_decide_f32(&made.call);
    assert_true(fabsf(((const float *)made.call.out[ROUTE_LOSSES])[ROUTE_LOSS_BALANCE] - 4) <
                1e-5F);
    route_batch_free(&made);
}

/* A row that is not finite gives nothing to any gradient by itself. */
static void test_not_finite_backward(void **state)
{
    (void)state;
    mixt_router_spec spec = {
        .experts = 4, .chosen = 2, .options = {.renormalise = true, .scale = 1}};
    route_batch made;
    route_batch_create(&made, &spec, false, 3, 1);
    float x[3] = {1, NAN, 2}, weight[4] = {1, 2, -1, 0.5F}, d_weights[6] = {1, -1, 1, -1, 1, -1};
    float d_x[3] = {7, 7, 7};
    made.call.in[ROUTE_X] = x;
    made.call.in[ROUTE_WEIGHT] = weight;
    mixt_route_forward_f32(&made.call);
    made.call.d_out[ROUTE_WEIGHTS] = d_weights;
    made.call.d_in[ROUTE_X] = d_x;
    mixt_route_backward_f32(&made.call);
    assert_true(isfinite(d_x[0]) && d_x[0] != 0 && isfinite(d_x[2]));
    assert_true(d_x[1] == 0);
    const int32_t *finite = made.call.out[ROUTE_FINITE];
    assert_true(finite[0] == 1 && finite[1] == 0 && finite[2] == 1);
    const float *weights = made.call.out[ROUTE_WEIGHTS];
    assert_true(weights[2] == 0.5F && weights[3] == 0.5F);
    route_batch_free(&made);
}

/* hash: a token has the same experts wherever it stands, every expert its share, every layer a
 * table of its own, and no expert twice. */
static void test_hash(void **state)
{
    (void)state;
    enum { TOKENS = 4000, EXPERTS = 8, CHOSEN = 3 };
    mixt_router_spec spec = {.experts = EXPERTS,
                             .chosen = CHOSEN,
                             .options = {.select = 1, .renormalise = true, .scale = 1}};
    static int32_t tokens[TOKENS], first[2][TOKENS * CHOSEN];
    route_batch made;
    int64_t counts[2][EXPERTS] = {{0}}, firsts[EXPERTS] = {0}, same = 0;
    assert_string_equal(mixt_router_select_name(1), "hash");
    for (int layer = 0; layer < 2; layer++) {
        for (int pass = 0; pass < 2; pass++) {
            route_batch_create(&made, &spec, false, TOKENS, 1);
            made.call.in[ROUTE_TOKENS] = tokens;
            made.call.layer = layer;
            for (int t = 0; t < TOKENS; t++) { /* the second time backwards */
                tokens[t] = pass == 0 ? t : TOKENS - 1 - t;
                route_fill_row((int)route_below(ROUTE_KINDS), EXPERTS,
                               (float *)made.call.out[ROUTE_SCORES] + t * EXPERTS);
            }
            mixt_route_decide_f32(&made.call);
            route_check_record(&made);
            const int32_t *ids = made.call.out[ROUTE_IDS];
            for (int i = 0; i < TOKENS * CHOSEN; i++) {
                int32_t *before = &first[layer][tokens[i / CHOSEN] * CHOSEN + i % CHOSEN];
                assert_true(ids[i] >= 0 && ids[i] < EXPERTS);
                assert_true(i % CHOSEN == 0 || ids[i] != ids[i - 1]);
                assert_true(i % CHOSEN < 2 || ids[i] != ids[i - 2]);
                assert_true(pass == 0 || ids[i] == *before);
                *before = ids[i];
                counts[layer][ids[i]] += pass == 0;
                firsts[ids[i]] += pass == 0 && layer == 0 && i % CHOSEN == 0;
            }
            route_batch_free(&made);
        }
    }
    for (int e = 0; e < EXPERTS; e++) { /* binomial: 1500 +- 31 */
        assert_in_range(counts[0][e], 1350, 1650);
        assert_in_range(counts[1][e], 1350, 1650);
        assert_in_range(firsts[e], 420, 580); /* 500 +- 21 */
    }
    for (int i = 0; i < TOKENS * CHOSEN; i++) {
        same += first[0][i] == first[1][i];
    }
    assert_in_range(same, TOKENS * CHOSEN / 8 - 200, TOKENS * CHOSEN / 8 + 200);
}

static void test_hash_refusals(void **state)
{
    (void)state;
    const mixt_router_spec good = {
        .experts = 8, .chosen = 1, .options = {.select = 1, .renormalise = true, .scale = 1}};
    static const uint8_t mask[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    assert_int_equal(mixt_router_check(&good, NULL), MIXT_OK); /* weights of 1, as published */
    mixt_router_spec bad[4] = {good, good, good, good};
    bad[0].options.groups = 2;
    bad[1].options.select_bias = true;
    bad[2].mask = mask;
    bad[3].options.select = 99;
    static const char *const says[] = {"has no groups", "no selection bias", "leaves 0 experts",
                                       "select 99 is not known"};
    for (int i = 0; i < 4; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        assert_int_equal(mixt_router_check(&bad[i], &error), MIXT_ERROR_ARGUMENT);
        assert_non_null(strstr(error.message, says[i]));
    }
}

/* What a row compares, in double; false: experts that take no part. */
static void margin_values(const mixt_router_spec *spec, const float *logits, const float *bias,
                          double *values)
{
    bool scores = (bias != NULL || spec->options.groups > 0) &&
                  spec->options.score != MIXT_SCORE_TOP_K_SOFTMAX;
    double sum = 0;
    for (int e = 0; e < spec->experts; e++) {
        sum += exp((double)logits[e]);
    }
    for (int e = 0; e < spec->experts; e++) {
        double score = spec->options.score == MIXT_SCORE_SIGMOID ? 1 / (1 + exp(-(double)logits[e]))
                                                                 : exp((double)logits[e]) / sum;
        values[e] = (scores ? score : (double)logits[e]) + (bias != NULL ? (double)bias[e] : 0);
    }
}

static double group_score(const mixt_router_spec *spec, const double *values, int group)
{
    int size = spec->experts / spec->options.groups;
    double best = -INFINITY, second = -INFINITY;
    for (int e = group * size; e < (group + 1) * size; e++) {
        if (spec->mask == NULL || spec->mask[e] == 0) {
            second = values[e] > best ? best : values[e] > second ? values[e] : second;
            best = values[e] > best ? values[e] : best;
        }
    }
    return best + (spec->options.group_score == MIXT_GROUP_TOP_TWO ? second : 0);
}

static bool takes_part(const mixt_router_spec *spec, const double *values, int expert)
{
    int groups = spec->options.groups, above = 0;
    int own = groups > 0 ? expert / (spec->experts / groups) : 0;
    for (int group = 0; group < groups; group++) {
        above += group_score(spec, values, group) > group_score(spec, values, own);
    }
    bool forced = false;
    for (int j = 0; j < spec->chosen && spec->forced != NULL; j++) {
        forced = forced || spec->forced[j] == expert;
    }
    return !forced && (spec->mask == NULL || spec->mask[expert] == 0) &&
           (groups == 0 || above < spec->options.groups_used);
}

/* NaN where nothing is compared. */
static double plain_margin(const mixt_router_spec *spec, const float *logits, const float *bias,
                           const int32_t *ids)
{
    double values[16], last = INFINITY, best = -INFINITY;
    margin_values(spec, logits, bias, values);
    for (int e = 0; e < spec->experts; e++) {
        bool chosen = false;
        for (int j = 0; j < spec->chosen; j++) {
            chosen = chosen || ids[j] == e;
        }
        if (!takes_part(spec, values, e)) {
            continue;
        }
        last = chosen && values[e] < last ? values[e] : last;
        best = !chosen && values[e] > best ? values[e] : best;
    }
    return isinf(last) || isinf(best) ? NAN : last - best;
}

static void test_margins(void **state)
{
    (void)state;
    static const uint8_t mask[16] = {[3] = 1, [7] = 1, [12] = 1};
    static const int32_t some[4] = {-1, 5, -1, 9}, every[4] = {4, 5, 6, 9};
    static const struct {
        mixt_router_spec spec;
        bool bias;
    } cases[] = {
        {{16, 4, {.scale = 1}, NULL, NULL}, false},
        {{16, 4, {.scale = 1, .score = MIXT_SCORE_SIGMOID}, mask, some}, false},
        {{16, 4, {.scale = 1, .score = MIXT_SCORE_SIGMOID, .select_bias = true}, NULL, NULL}, true},
        {{16, 4, {.scale = 1, .score = MIXT_SCORE_TOP_K_SOFTMAX, .select_bias = true}, mask, NULL},
         true},
        {{16, 4, {.scale = 1, .groups = 4, .groups_used = 2}, NULL, NULL}, false},
        {{16,
          4,
          {.scale = 1,
           .score = MIXT_SCORE_SIGMOID,
           .groups = 4,
           .groups_used = 2,
           .group_score = MIXT_GROUP_TOP_TWO,
           .select_bias = true},
          mask,
          some},
         true},
        {{16, 4, {.scale = 1, .select = 3}, NULL, some}, false},
        {{16, 4, {.scale = 1}, NULL, every}, false},              /* nothing is compared */
        {{16, 16, {.scale = 1}, NULL, NULL}, false},              /* none is left */
        {{16, 16, {.scale = 1, .select = 2}, NULL, NULL}, false}, /* all */
        {{16, 4, {.scale = 1, .select = 1}, NULL, NULL}, false},  /* hash */
    };
    enum { ROWS = 200, WITH_MARGIN = 7 };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const mixt_router_spec *spec = &cases[i].spec;
        float bias[16];
        int32_t tokens[ROWS];
        route_batch made;
        assert_int_equal(mixt_router_check(spec, NULL), MIXT_OK);
        route_batch_create(&made, spec, false, ROWS, 1);
        for (int e = 0; e < 16; e++) {
            bias[e] = route_value(ROUTE_NORMAL) / 4;
        }
        for (int t = 0; t < ROWS; t++) {
            tokens[t] = t;
            route_fill_row(ROUTE_NORMAL, 16, route_logits(&made, t));
        }
        made.call.in[ROUTE_TOKENS] = tokens;
        made.call.in[ROUTE_SELECT_BIAS] = cases[i].bias ? bias : NULL;
        mixt_route_decide_f32(&made.call);
        for (int t = 0; t < ROWS; t++) {
            const float *logits = route_logits(&made, t), *used = cases[i].bias ? bias : NULL;
            float margin =
                mixt_router_margin_f32(route_compute->f32, spec, logits, used, route_ids(&made, t));
            double want = plain_margin(spec, logits, used, route_ids(&made, t));
            assert_true(i < WITH_MARGIN ? margin >= 0 && fabs((double)margin - want) < 1e-6
                                        : isnan(margin));
        }
        route_batch_free(&made);
    }
}

static void test_bias_update(void **state)
{
    (void)state;
    float bias[4] = {0, 1, -1, 0.5F};
    const int64_t counts[4] = {10, 20, 30, 20}; /* mean 20 */
    mixt_router_update_bias(bias, counts, 4, 0.001);
    assert_true(bias[0] == 0.001F && bias[1] == 1 && bias[2] == -1.001F && bias[3] == 0.5F);
    /* the bias brings a lopsided router to balance, and only the choice sees it */
    mixt_router_spec spec = {.experts = 4, .chosen = 1, .options = {.scale = 1}};
    route_batch made;
    route_batch_create(&made, &spec, false, 400, 1);
    float learned[4] = {0};
    made.call.in[ROUTE_SELECT_BIAS] = learned;
    for (int64_t i = 0; i < 1600; i++) {
        ((float *)made.call.out[ROUTE_SCORES])[i] =
            route_value(ROUTE_NORMAL) / 8 + (i % 4 == 2 ? 1 : 0);
    }
    int32_t most = 0;
    for (int step = 0; step < 1000; step++) {
        mixt_route_decide_f32(&made.call);
        int64_t load[4];
        most = 0;
        for (int e = 0; e < 4; e++) {
            load[e] = ((const int32_t *)made.call.out[ROUTE_COUNTS])[e];
            most = load[e] > most ? (int32_t)load[e] : most;
        }
        assert_true(step > 0 || most > 250);
        mixt_router_update_bias(learned, load, 4, 0.001);
    }
    print_message("largest load %d of 400 after 1000 steps of the bias\n", most);
    assert_true(most < 130);
    const float *logits = made.call.out[ROUTE_SCORES];
    int32_t id = ((const int32_t *)made.call.out[ROUTE_IDS])[0];
    double sum = 0;
    for (int e = 0; e < 4; e++) {
        sum += exp((double)logits[e]);
    }
    assert_true(fabs((double)((const float *)made.call.out[ROUTE_WEIGHTS])[0] -
                     exp((double)logits[id]) / sum) < 1e-6);
    route_batch_free(&made);
}

/* ------------------------------------------------------------------------------------------ */
/* Families: choices and weights of published code (tests/reference/router_families.py) */

typedef struct family {
    char name[32];
    int64_t tokens, d;
    mixt_router_spec spec;
    float *array[7]; /* x, weight, select_bias, logit_bias, logits, ids, weights */
} family;

static const char *const array_names[7] = {"x",      "weight", "select_bias", "logit_bias",
                                           "logits", "ids",    "weights"};

static bool family_read(FILE *file, family *read)
{
    int tokens, d, experts, chosen, attention, logit_bias, select_bias, top_two, score, renormalise;
    memset(read, 0, sizeof *read);
    mixt_router_options *o = &read->spec.options;
    if (fscanf(file, " case %31s %d %d %d %d %d %d %lf %lf %d %d %d %d %d %d %lf", read->name,
               &tokens, &d, &experts, &chosen, &attention, &logit_bias, &o->normalise, &o->soft_cap,
               &select_bias, &o->groups, &o->groups_used, &top_two, &score, &renormalise,
               &o->scale) != 16) {
        return false;
    }
    read->tokens = tokens;
    read->d = d;
    read->spec.experts = experts;
    read->spec.chosen = chosen;
    o->logits = attention != 0 ? MIXT_LOGITS_ATTENTION : MIXT_LOGITS_LINEAR;
    o->logit_bias = logit_bias != 0;
    o->select_bias = select_bias != 0;
    o->group_score = top_two != 0 ? MIXT_GROUP_TOP_TWO : MIXT_GROUP_MAX;
    o->score = (mixt_score)score;
    o->renormalise = renormalise != 0;
    for (int i = 0; i < 7; i++) {
        char name[32];
        long count;
        assert_int_equal(fscanf(file, "%31s %ld", name, &count), 2);
        assert_string_equal(name, array_names[i]);
        read->array[i] = count > 0 ? malloc((size_t)count * sizeof(float)) : NULL;
        for (long j = 0; j < count; j++) {
            assert_int_equal(fscanf(file, "%f", &read->array[i][j]), 1);
        }
    }
    return true;
}

static void family_check(const family *read)
{
    route_batch made;
    route_batch_create(&made, &read->spec, false, read->tokens, read->d);
    static const int slots[4] = {ROUTE_X, ROUTE_WEIGHT, ROUTE_SELECT_BIAS, ROUTE_LOGIT_BIAS};
    for (int i = 0; i < 4; i++) {
        made.call.in[slots[i]] = read->array[i];
    }
    mixt_route_forward_f32(&made.call);
    const float *logits = made.call.out[ROUTE_SCORES], *weights = made.call.out[ROUTE_WEIGHTS];
    const int32_t *ids = made.call.out[ROUTE_IDS];
    for (int64_t i = 0; i < read->tokens * read->spec.experts; i++) {
        if (!(fabsf(logits[i] - read->array[4][i]) <= 1e-5F)) {
            fail_msg("%s: logit %lld is %g, not %g", read->name, (long long)i, (double)logits[i],
                     (double)read->array[4][i]);
        }
    }
    for (int64_t i = 0; i < read->tokens * read->spec.chosen; i++) {
        if (ids[i] != (int32_t)read->array[5][i] ||
            !(fabsf(weights[i] - read->array[6][i]) <= 1e-5F * (float)read->spec.options.scale)) {
            fail_msg("%s: choice %lld is %d with %g, not %g with %g", read->name, (long long)i,
                     ids[i], (double)weights[i], (double)read->array[5][i],
                     (double)read->array[6][i]);
        }
    }
    route_batch_free(&made);
}

static void test_families(void **state)
{
    (void)state;
    FILE *file = fopen("tests/fixtures/router/families.txt", "r");
    assert_non_null(file);
    family read;
    int families = 0;
    for (; family_read(file, &read); families++) {
        family_check(&read);
        for (int i = 0; i < 7; i++) {
            free(read.array[i]);
        }
    }
    assert_true(feof(file));
    fclose(file);
    print_message("%d families\n", families);
    assert_int_equal(families, 10);
}

/* ------------------------------------------------------------------------------------------ */
/* Groups, masks, forced experts */

static void check_limits(const route_batch *made, int64_t t)
{
    const mixt_router_spec *spec = &made->spec;
    const int32_t *ids = (const int32_t *)made->call.out[ROUTE_IDS] + t * spec->chosen;
    int size = spec->options.groups > 0 ? spec->experts / spec->options.groups : spec->experts;
    bool taken[64] = {false}, used[64] = {false};
    int groups = 0;
    for (int j = 0; j < spec->chosen; j++) {
        bool forced = spec->forced != NULL && spec->forced[j] >= 0;
        assert_true(ids[j] >= 0 && ids[j] < spec->experts && !taken[ids[j]]);
        assert_true(spec->mask == NULL || spec->mask[ids[j]] == 0);
        assert_true(!forced || ids[j] == spec->forced[j]);
        taken[ids[j]] = true;
        if (!forced && !used[ids[j] / size]) {
            used[ids[j] / size] = true;
            groups++;
        }
    }
    assert_true(groups <= (spec->options.groups > 0 ? spec->options.groups_used : 1));
}

/* Whatever the check lets through keeps its promises on any logits. */
static void test_limits(void **state)
{
    (void)state;
    int refused = 0, routed = 0;
    for (int i = 0; i < 3000; i++) {
        uint8_t mask[32];
        int32_t forced[8];
        mixt_router_spec spec = {
            .experts = 32,
            .chosen = 1 + (int)route_below(8),
            .options = {.score = (mixt_score)route_below(3), .scale = 1},
        };
        spec.options.groups = route_below(3) == 0 ? 0 : 2 << route_below(4);
        spec.options.groups_used = 1 + (int)route_below((uint64_t)spec.options.groups + 1);
        spec.options.group_score = (mixt_group_score)route_below(2);
        for (int e = 0; e < 32; e++) {
            mask[e] = route_below(4) == 0;
        }
        for (int j = 0; j < 8; j++) {
            forced[j] = route_below(3) == 0 ? (int32_t)route_below(32) : -1;
        }
        spec.mask = route_below(3) == 0 ? NULL : mask;
        spec.forced = route_below(2) == 0 ? NULL : forced;
        spec.options.weights = MIXT_ROUTER_FROZEN;
        mixt_error error = MIXT_ERROR_INIT;
        if (mixt_router_check(&spec, &error) != MIXT_OK) {
            assert_true(strncmp(error.message, "router: ", 8) == 0);
            refused++;
            continue;
        }
        route_batch made;
        route_batch_create(&made, &spec, false, 10, 1);
        for (int64_t t = 0; t < 10; t++) {
            route_fill_row((int)route_below(ROUTE_KINDS), 32,
                           (float *)made.call.out[ROUTE_SCORES] + t * 32);
        }
        mixt_route_decide_f32(&made.call);
        for (int64_t t = 0; t < 10; t++) {
            check_limits(&made, t);
        }
        route_check_record(&made);
        route_batch_free(&made);
        routed++;
    }
    print_message("%d specs routed, %d refused\n", routed, refused);
    assert_true(routed > 500 && refused > 500);
}

/* Equal logits have no deviation: they stay as they are, and so does their gradient. */
static void test_equal_logits(void **state)
{
    (void)state;
    mixt_router_spec spec = {
        .experts = 4, .chosen = 2, .options = {.normalise = 2, .renormalise = true, .scale = 1}};
    route_batch made;
    route_batch_create(&made, &spec, false, 2, 1);
    float x[2] = {0.5F, 0}, weight[4] = {3, 3, 3, 3}, d_weights[4] = {1, -1, 1, -1};
    float d_weight[4] = {0};
    made.attributes.balance_weight = made.attributes.z_weight = 0;
    made.call.in[ROUTE_X] = x;
    made.call.in[ROUTE_WEIGHT] = weight;
    mixt_route_forward_f32(&made.call);
    for (int i = 0; i < 8; i++) {
        assert_true(((const float *)made.call.out[ROUTE_SCORES])[i] == (i < 4 ? 1.5F : 0));
    }
    made.call.d_out[ROUTE_WEIGHTS] = d_weights;
    made.call.d_in[ROUTE_WEIGHT] = d_weight;
    mixt_route_backward_f32(&made.call);
    assert_true(fabsf(d_weight[0] - 0.25F) < 1e-6F && fabsf(d_weight[1] + 0.25F) < 1e-6F);
    assert_true(d_weight[2] == 0 && d_weight[3] == 0);
    route_batch_free(&made);
}

/* ------------------------------------------------------------------------------------------ */
/* Specs */

static void test_refusals(void **state)
{
    (void)state;
    const mixt_router_spec good = {
        .experts = 8,
        .chosen = 2,
        .options = {.renormalise = true, .scale = 1, .balance_coefficient = 0.01},
    };
    assert_int_equal(mixt_router_check(&good, NULL), MIXT_OK);
    mixt_router_spec bad[16];
    for (int i = 0; i < 16; i++) {
        bad[i] = good;
    }
    bad[0].chosen = 9;
    bad[1].chosen = 0;
    bad[2].experts = 0;
    bad[3].experts = MIXT_EXPERTS_MAX + 1;
    bad[4].chosen = 1;
    bad[5].options.scale = 0;
    bad[6].options.scale = NAN;
    bad[7].options.balance_coefficient = -1;
    bad[8].options.z_coefficient = INFINITY;
    bad[9].options.bias_rate = NAN;
    bad[10].options.score = (mixt_score)9;
    bad[11].options.balance = (mixt_balance)9;
    bad[12].options.weights = (mixt_router_weights)9;
    bad[13].chosen = 1;
    bad[13].options.renormalise = false;
    bad[13].options.score = MIXT_SCORE_TOP_K_SOFTMAX;
    bad[14].experts = -1;
    bad[15].chosen = -1;
    for (int i = 0; i < 16; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        bool runs = i == 4 || i == 13; /* with weights of 1, which no training changes */
        assert_int_equal(runs ? mixt_router_check_training(&bad[i], &error)
                              : mixt_router_check(&bad[i], &error),
                         MIXT_ERROR_ARGUMENT);
        assert_int_equal(mixt_router_check(&bad[i], NULL) == MIXT_OK, runs);
        assert_true(strncmp(error.message, "router: ", 8) == 0);
        assert_null(strchr(error.message, '\n'));
    }
    mixt_router_spec frozen = bad[4];
    frozen.options.weights = MIXT_ROUTER_FROZEN;
    assert_int_equal(mixt_router_check(&frozen, NULL), MIXT_OK);
}

static void test_switch_refusals(void **state)
{
    (void)state;
    const uint8_t mask[8] = {1, 1, 1, 0, 1, 1, 1, 1}, half[8] = {1, 1, 1, 0, 0, 0, 0, 0};
    const int32_t outside[2] = {8, -1}, twice[2] = {3, 3}, masked[2] = {0, -1};
    const mixt_router_spec good = {
        .experts = 8,
        .chosen = 2,
        .options = {.renormalise = true, .scale = 1, .groups = 2, .groups_used = 1},
    };
    assert_int_equal(mixt_router_check(&good, NULL), MIXT_OK);
    mixt_router_spec bad[17];
    static const char *const says[17] = {
        "normalise",     "soft_cap",       "logits",          "deviation",    "do not divide",
        "groups_used",   "groups_used",    "group score",     "two best",     "less than",
        "mask leaves 1", "in some groups", "forced expert 8", "forced twice", "forced and masked",
        "do not divide", "do not divide"};
    for (int i = 0; i < 17; i++) {
        bad[i] = good;
    }
    bad[0].options.normalise = -1;
    bad[1].options.soft_cap = NAN;
    bad[2].options.logits = (mixt_router_logits)5;
    bad[3] = (mixt_router_spec){.experts = 1, .chosen = 1, .options = {.normalise = 1, .scale = 1}};
    bad[4].options.groups = 3;
    bad[5].options.groups_used = 0;
    bad[6].options.groups_used = 3;
    bad[7].options.group_score = (mixt_group_score)2;
    bad[8].options.groups = 8;
    bad[8].options.groups_used = 4;
    bad[8].options.group_score = MIXT_GROUP_TOP_TWO;
    bad[9].chosen = 5;
    bad[10].options.groups = 0;
    bad[10].mask = mask;
    bad[11].mask = half;
    bad[12].forced = outside;
    bad[13].forced = twice;
    bad[14].options.groups = 0;
    bad[14].mask = half;
    bad[14].forced = masked;
    bad[15].options.groups = -2;
    bad[16].options.groups = 16;
    for (int i = 0; i < 17; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        assert_int_equal(mixt_router_check(&bad[i], &error), MIXT_ERROR_ARGUMENT);
        assert_true(strncmp(error.message, "router: ", 8) == 0);
        assert_null(strchr(error.message, '\n'));
        if (strstr(error.message, says[i]) == NULL) {
            fail_msg("%d: '%s' does not say '%s'", i, error.message, says[i]);
        }
    }
    mixt_router_spec fits = bad[11]; /* groups of 1 and 4 experts are left */
    fits.chosen = 1;
    fits.options.renormalise = false;
    assert_int_equal(mixt_router_check(&fits, NULL), MIXT_OK);
}

int main(int argc, char **argv)
{
    route_random_begin(77);
    const char *rows = argc > 1 ? argv[1] : getenv("MIXT_ROUTER_ROWS");
    if (rows != NULL) {
        wanted_rows = strtoll(rows, NULL, 10);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_selection),
        cmocka_unit_test(test_property),
        cmocka_unit_test(test_losses),
        cmocka_unit_test(test_balance_is_one),
        cmocka_unit_test(test_not_finite_backward),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_hash_refusals),
        cmocka_unit_test(test_margins),
        cmocka_unit_test(test_bias_update),
        cmocka_unit_test(test_families),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_equal_logits),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_switch_refusals),
    };
    return cmocka_run_group_tests(tests, route_start, route_stop);
}
