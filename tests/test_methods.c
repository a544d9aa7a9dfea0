/* Methods that assign tokens and experts to one another: whatever the logits, ids are distinct or
 * -1, weights finite, every expert that chooses has its capacity; against published code on the
 * same logits (tests/reference/router_methods.py); how even Sinkhorn's loads are; noise in training
 * alone.
 *
 *   test_methods [rows]     rows of the property test, also MIXT_ROUTER_ROWS (default 300,000) */
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

enum { TOP_K, HASH, ALL, EXPERT_CHOICE, SINKHORN };

static int64_t wanted_rows = 300000;

/* ------------------------------------------------------------------------------------------ */
/* What holds on any logits */

/* How many experts a row has: distinct ones, none masked, -1 and 0 behind them. */
static int check_row(const route_batch *made, int64_t t)
{
    int columns = (int)made->request.out[ROUTE_IDS].size[1], count = 0;
    const int32_t *ids = route_ids(made, t);
    const float *weights = route_weights(made, t);
    bool taken[64] = {false};
    for (int j = 0; j < columns; j++) {
        assert_true(isfinite(weights[j]));
        if (ids[j] < 0) {
            assert_true(ids[j] == -1 && weights[j] == 0);
            continue;
        }
        assert_true(count == j && ids[j] < made->spec.experts && !taken[ids[j]]);
        assert_true(made->spec.mask == NULL || made->spec.mask[ids[j]] == 0);
        taken[ids[j]] = true;
        count++;
    }
    return count;
}

/* Every expert has its share of every document, no more and no less. */
static void check_capacity(const route_batch *made)
{
    int experts = made->spec.experts;
    bool whole = made->spec.options.choice_scope == MIXT_CHOICE_OVER_BATCH;
    for (int64_t begin = 0, end; begin < made->call.tokens; begin = end) {
        int64_t have[64] = {0};
        for (end = begin; end < made->call.tokens && (whole || made->first[end] == begin); end++) {
            const int32_t *ids = route_ids(made, end);
            for (int j = 0; j < experts && ids[j] >= 0; j++) {
                have[ids[j]]++;
            }
        }
        int64_t percent = llround(100 * mixt_router_factor(&made->spec));
        int64_t share = percent * (end - begin) * made->spec.chosen / (100 * (int64_t)experts);
        for (int e = 0; e < experts; e++) {
            bool masked = made->spec.mask != NULL && made->spec.mask[e] != 0;
            assert_int_equal(have[e], masked ? 0 : mixt_least(share, end - begin));
        }
    }
}

static void random_spec(mixt_router_spec *spec, uint8_t mask[64])
{
    static const int experts[] = {1, 4, 8, 13, 32, 64};
    int select = ALL + (int)route_below(3), e = experts[route_below(6)];
    *spec = (mixt_router_spec){
        .experts = e,
        .chosen = select == ALL ? e : 1 + (int)route_below((uint64_t)e / 2 + 1),
        .options = {.select = select, .renormalise = route_below(2) == 0, .scale = 1},
    };
    spec->options.score = route_below(2) == 0 ? MIXT_SCORE_SOFTMAX : MIXT_SCORE_SIGMOID;
    if (select == EXPERT_CHOICE) {
        spec->options.choice_scope = (mixt_choice_scope)route_below(2);
        spec->options.capacity = route_below(2) == 0 ? 0 : 0.25 * (double)(1 + route_below(12));
    }
    if (route_below(4) == 0 && e > 4) {
        memset(mask, 0, 64);
        mask[1] = mask[3] = 1;
        spec->mask = mask;
        spec->chosen = select == ALL ? e : (int)mixt_least(spec->chosen, e - 2);
    }
}

static void test_property(void **state)
{
    (void)state;
    const int64_t tokens = 500;
    int64_t rows = 0, without = 0, odd = 0;
    while (rows < wanted_rows) {
        uint8_t mask[64];
        mixt_router_spec spec;
        random_spec(&spec, mask);
        bool training = route_below(4) > 0;
        route_batch made;
        route_batch_create(&made, &spec, training, tokens, 2);
        for (int64_t t = 0, begin = 0; t < tokens; t++) {
            begin = route_below(20) == 0 ? t : begin;
            made.first[t] = (int32_t)begin;
            int kind = (int)route_below(ROUTE_KINDS);
            for (int e = 0; e < spec.experts; e++) {
                route_logits(&made, t)[e] = route_value(kind);
            }
        }
        mixt_route_decide_f32(&made.call);
        bool chosen_by_experts = training && spec.options.select == EXPERT_CHOICE;
        for (int64_t t = 0; t < tokens; t++) {
            int count = check_row(&made, t), masked = spec.mask != NULL ? 2 : 0;
            int all = spec.options.select == ALL ? spec.experts - masked : spec.chosen;
            assert_true(chosen_by_experts || count == all);
            without += count == 0;
            odd += ((const int32_t *)made.call.out[ROUTE_FINITE])[t] == 0;
        }
        route_check_record(&made);
        if (chosen_by_experts) {
            check_capacity(&made);
        }
        route_batch_free(&made);
        rows += tokens;
    }
    print_message("%lld rows, %lld with NaN or Inf, %lld that no expert takes\n", (long long)rows,
                  (long long)odd, (long long)without);
    assert_true(rows > 0 && odd > rows / 10 && without > 0);
}

/* ------------------------------------------------------------------------------------------ */
/* Published code */

typedef struct published {
    char name[32];
    int tokens, experts, number, training;
    bool experts_choose;
    float *logits, *weights; /* [T, E] */
} published;

static bool read_published(FILE *file, published *p)
{
    char kind[32];
    memset(p, 0, sizeof *p);
    if (fscanf(file, " %31s %31s %d %d %d", kind, p->name, &p->tokens, &p->experts, &p->number) !=
        5) {
        return false;
    }
    p->experts_choose = strcmp(kind, "choice") == 0;
    p->training = 1;
    assert_true(p->experts_choose || fscanf(file, "%d", &p->training) == 1);
    float **arrays[2] = {&p->logits, &p->weights};
    for (int i = 0; i < 2; i++) {
        *arrays[i] = malloc((size_t)(p->tokens * p->experts) * sizeof(float));
        for (int j = 0; j < p->tokens * p->experts; j++) {
            assert_int_equal(fscanf(file, "%f", &(*arrays[i])[j]), 1);
        }
    }
    return true;
}

/* The same experts with the same weights for every token. */
static void check_published(const published *p)
{
    mixt_router_spec spec = {.experts = p->experts,
                             .chosen = p->experts_choose ? 1 : p->number,
                             .options = {.scale = 1}};
    spec.options.select = p->experts_choose ? EXPERT_CHOICE : SINKHORN;
    if (p->experts_choose) {
        spec.options.capacity = (double)p->number * p->experts / p->tokens;
    } else {
        spec.options.score = p->number == 1 ? MIXT_SCORE_SIGMOID : MIXT_SCORE_SOFTMAX;
    }
    route_batch made;
    route_batch_create(&made, &spec, p->training != 0, p->tokens, 2);
    memcpy(route_logits(&made, 0), p->logits, (size_t)(p->tokens * p->experts) * sizeof(float));
    mixt_route_decide_f32(&made.call);
    for (int t = 0; t < p->tokens; t++) {
        float have[64] = {0};
        int count = check_row(&made, t);
        for (int j = 0; j < count; j++) {
            have[route_ids(&made, t)[j]] = route_weights(&made, t)[j];
        }
        for (int e = 0; e < p->experts; e++) {
            float want = p->weights[t * p->experts + e];
            if ((have[e] == 0) != (want == 0) || !(fabsf(have[e] - want) <= 1e-6F)) {
                fail_msg("%s: expert %d weighs %g for token %d, not %g", p->name, e,
                         (double)have[e], t, (double)want);
            }
        }
    }
    route_batch_free(&made);
}

static void test_published(void **state)
{
    (void)state;
    FILE *file = fopen("tests/fixtures/router/methods.txt", "r");
    assert_non_null(file);
    published p;
    int choices = 0, assignments = 0;
    while (read_published(file, &p)) {
        check_published(&p);
        choices += p.experts_choose;
        assignments += !p.experts_choose;
        free(p.logits);
        free(p.weights);
    }
    assert_true(feof(file));
    fclose(file);
    print_message("%d of expert choice, %d of Sinkhorn\n", choices, assignments);
    assert_true(choices == 4 && assignments == 6);
}

/* ------------------------------------------------------------------------------------------ */
/* What each is for */

/* The largest load over the mean, with logits that favour some experts. */
static double largest_load(int select, int chosen, double skew)
{
    enum { TOKENS = 2000, EXPERTS = 16 };
    mixt_router_spec spec = {
        .experts = EXPERTS, .chosen = chosen, .options = {.select = select, .scale = 1}};
    mixt_random_key own = {9, MIXT_RANDOM_DATA, 1};
    route_batch made;
    route_batch_create(&made, &spec, true, TOKENS, 2);
    for (int i = 0; i < TOKENS * EXPERTS; i++) {
        double favour = skew * (i % EXPERTS) / EXPERTS;
        route_logits(&made, 0)[i] = (float)(favour + mixt_random_normal(&own, (uint64_t)i));
    }
    mixt_route_decide_f32(&made.call);
    int32_t most = 0;
    for (int e = 0; e < EXPERTS; e++) {
        int32_t count = ((const int32_t *)made.call.out[ROUTE_COUNTS])[e];
        most = count > most ? count : most;
    }
    route_batch_free(&made);
    return (double)most * EXPERTS / (TOKENS * chosen);
}

static void test_sinkhorn_balances(void **state)
{
    (void)state;
    for (int chosen = 1; chosen <= 4; chosen *= 2) {
        for (int skew = 1; skew <= 4; skew += 3) {
            double plain = largest_load(TOP_K, chosen, skew);
            double even = largest_load(SINKHORN, chosen, skew);
            print_message("k %d, skew %d: largest load over the mean %.2f, top-k %.2f\n", chosen,
                          skew, even, plain);
            assert_true(plain > 1.5 && even < 1.25);
            assert_true(largest_load(EXPERT_CHOICE, chosen, skew) == 1);
        }
    }
}

/* Noise: in training normal numbers times the softplus of the second rows' products, others in
 * every step, layer and batch; elsewhere nothing. */
static void test_noise(void **state)
{
    (void)state;
    enum { TOKENS = 4000, EXPERTS = 4 };
    mixt_router_spec spec = {
        .experts = EXPERTS, .chosen = 2, .options = {.noise = MIXT_NOISE_TOP_K, .scale = 1}};
    static float x[TOKENS][2], before[TOKENS * EXPERTS];
    /* logits e x0, and softplus(x1) */
    const float weight[2 * EXPERTS][2] = {{0, 0}, {1, 0}, {2, 0}, {3, 0},
                                          {0, 1}, {0, 1}, {0, 1}, {0, 1}};
    for (int t = 0; t < TOKENS; t++) {
        x[t][0] = (float)(t % 7);
        x[t][1] = 0.5F;
    }
    for (int run = 0; run < 5; run++) { /* not training; a step; another; a batch; a layer */
        route_batch made;
        route_batch_create(&made, &spec, run > 0, TOKENS, 2);
        made.draw[MIXT_DRAW_STEP] = run == 2;
        made.draw[MIXT_DRAW_BATCH] = run == 3;
        made.call.layer = run == 4;
        made.call.in[ROUTE_X] = x;
        made.call.in[ROUTE_WEIGHT] = (void *)weight;
        mixt_route_forward_f32(&made.call);
        double sum = 0, squares = 0;
        int same = 0;
        for (int i = 0; i < TOKENS * EXPERTS; i++) {
            float logit = route_logits(&made, 0)[i];
            double noise = (double)logit - (double)(i / EXPERTS % 7) * (i % EXPERTS);
            sum += noise;
            squares += noise * noise;
            same += run > 0 && logit == before[i];
            before[i] = logit;
        }
        double count = TOKENS * EXPERTS, deviation = log(1 + exp(0.5));
        assert_true(run > 0 ? fabs(sum / count) < 0.05 : squares == 0);
        assert_true(run == 0 || fabs(sqrt(squares / count) - deviation) < 0.03);
        assert_true(same < 10);
        route_batch_free(&made);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    static const uint8_t all_masked[4] = {1, 1, 1, 1};
    static const int32_t forced[4] = {1, -1, -1, -1}, outside[2] = {7, -1};
    const mixt_router_options all = {.select = ALL, .scale = 1};
    const mixt_router_options choice = {.select = EXPERT_CHOICE, .scale = 1};
    const mixt_router_options even = {.select = SINKHORN, .scale = 1};
    struct {
        mixt_router_spec spec;
        const char *says;
    } bad[] = {
        {{4, 2, all, NULL, NULL}, "select all takes 4 experts per token, 2 are asked for"},
        {{4, 4, all, NULL, forced}, "none can be forced"},
        {{4, 4, all, all_masked, NULL}, "the mask leaves no expert"},
        {{4, 4, all, NULL, NULL}, "select all has no groups, 2 are asked for"},
        {{4, 2, choice, NULL, NULL}, "select expert-choice has no groups, 2 are asked for"},
        {{4, 2, choice, NULL, NULL}, "select expert-choice sees no selection bias"},
        {{4, 2, choice, NULL, NULL}, "score top-k-softmax"},
        {{4, 2, choice, all_masked, NULL}, "the mask leaves 0 experts"},
        {{4, 2, even, NULL, NULL}, "select sinkhorn has no groups"},
        {{4, 2, even, NULL, NULL}, "select sinkhorn sees no selection bias"},
        {{4, 2, even, NULL, outside}, "forced expert 7"},
        {{4, 2, even, NULL, NULL}, "a choice scope is for select expert-choice alone"},
        {{4, 2, even, NULL, NULL}, "only tokens are assigned"},
        {{4, 2, choice, NULL, NULL}, "noise is for linear logits alone"},
    };
    bad[3].spec.options.groups = bad[4].spec.options.groups = bad[8].spec.options.groups = 2;
    bad[5].spec.options.select_bias = true;
    bad[6].spec.options.score = MIXT_SCORE_TOP_K_SOFTMAX;
    bad[9].spec.options.bias_rate = 0.001;
    bad[11].spec.options.choice_scope = MIXT_CHOICE_OVER_SEQUENCE;
    bad[12].spec.options.unit = MIXT_UNIT_SEQUENCE;
    bad[13].spec.options.noise = MIXT_NOISE_TOP_K;
    bad[13].spec.options.logits = MIXT_LOGITS_ATTENTION;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        assert_int_equal(mixt_router_check(&bad[i].spec, &error), MIXT_ERROR_ARGUMENT);
        assert_true(strncmp(error.message, "router: ", 8) == 0);
        assert_null(strchr(error.message, '\n'));
        if (strstr(error.message, bad[i].says) == NULL) {
            fail_msg("%d: '%s' does not say '%s'", (int)i, error.message, bad[i].says);
        }
    }
}

/* Experts that choose in training cannot be forced there; where tokens choose they can. */
static void test_forced_choice(void **state)
{
    (void)state;
    static const int32_t forced[2] = {-1, 3};
    mixt_router_spec spec = {4, 2, {.select = EXPERT_CHOICE, .scale = 1}, NULL, forced};
    route_batch made;
    route_batch_create(&made, &spec, false, 10, 2);
    for (int i = 0; i < 40; i++) {
        route_logits(&made, 0)[i] = (float)route_below(100);
    }
    mixt_route_decide_f32(&made.call);
    for (int t = 0; t < 10; t++) {
        assert_int_equal(route_ids(&made, t)[1], 3);
        assert_int_equal(check_row(&made, t), 2);
    }
    mixt_shape_request request = made.request;
    mixt_error error = MIXT_ERROR_INIT;
    made.attributes.training = true;
    assert_int_equal(mixt_route_shape(&request, &error), MIXT_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "cannot be forced"));
    route_batch_free(&made);
}

int main(int argc, char **argv)
{
    route_random_begin(78);
    const char *rows = argc > 1 ? argv[1] : getenv("MIXT_ROUTER_ROWS");
    if (rows != NULL) {
        wanted_rows = strtoll(rows, NULL, 10);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_property),          cmocka_unit_test(test_published),
        cmocka_unit_test(test_sinkhorn_balances), cmocka_unit_test(test_noise),
        cmocka_unit_test(test_refusals),          cmocka_unit_test(test_forced_choice),
    };
    return cmocka_run_group_tests(tests, route_start, route_stop);
}
