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

#include "backend/cpu/compute.h"
#include "core/random.h"
#include "router/method.h"

enum { TOP_K, HASH, ALL, EXPERT_CHOICE, SINKHORN };

static int64_t wanted_rows = 300000;
static mixt_compute *compute;

static const mixt_random_key key = {78, MIXT_RANDOM_DATA, 3};
static uint64_t drawn;

static uint64_t below(uint64_t bound)
{
    return mixt_random_below(&key, drawn++, bound);
}

/* ------------------------------------------------------------------------------------------ */
/* A batch through the route operator */

typedef struct batch {
    mixt_router_spec spec;
    mixt_attributes attributes;
    mixt_shape_request request;
    mixt_call call;
    int32_t *first, draw[MIXT_DRAWS];
    float scale[MIXT_SCALES];
} batch;

static size_t values_of(const mixt_shape *shape)
{
    return (size_t)(shape->size[0] * (shape->rank > 1 ? shape->size[1] : 1));
}

static void batch_create(batch *made, const mixt_router_spec *spec, bool training, int64_t tokens)
{
    memset(made, 0, sizeof *made);
    made->spec = *spec;
    made->attributes = (mixt_attributes){
        .router = &made->spec, .training = training, .balance_weight = 1, .z_weight = 1};
    mixt_shape_request *request = &made->request;
    request->attributes = &made->attributes;
    request->capacity = tokens;
    request->in[ROUTE_X] = mixt_shape_tokens(tokens, 1, 2);
    request->in[ROUTE_WEIGHT] = mixt_shape_static(2, mixt_logits_columns(spec), 2, 0);
    request->in[ROUTE_SCALE] = mixt_shape_static(1, MIXT_SCALES, 0, 0);
    request->in[ROUTE_FIRST] = mixt_shape_integers(mixt_shape_tokens(tokens, 1, 0));
    request->in[ROUTE_DRAW] = mixt_shape_integers(mixt_shape_static(1, MIXT_DRAWS, 0, 0));
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_route_shape(request, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    made->call = (mixt_call){.compute = compute,
                             .attributes = &made->attributes,
                             .tokens = tokens,
                             .in_shape = request->in,
                             .out_shape = request->out};
    made->first = calloc((size_t)tokens, sizeof *made->first);
    made->call.in[ROUTE_FIRST] = made->first;
    made->call.in[ROUTE_DRAW] = made->draw;
    made->call.in[ROUTE_SCALE] = made->scale;
    for (int i = 0; i < ROUTE_OUTPUTS; i++) {
        size_t bytes = values_of(&request->out[i]) * 4;
        made->call.out[i] = malloc(bytes);
        memset(made->call.out[i], 0xff, bytes);
    }
    int64_t reals = mixt_most(request->forward_workspace, request->backward_workspace);
    made->call.workspace = malloc((size_t)reals * sizeof(float));
}

static void batch_free(batch *made)
{
    for (int i = 0; i < ROUTE_OUTPUTS; i++) {
        free(made->call.out[i]);
    }
    free(made->first);
    free(made->call.workspace);
}

static float *logits_of(const batch *made, int64_t t)
{
    return (float *)made->call.out[ROUTE_SCORES] + t * made->spec.experts;
}

static const int32_t *ids_of(const batch *made, int64_t t)
{
    return (const int32_t *)made->call.out[ROUTE_IDS] + t * made->request.out[ROUTE_IDS].size[1];
}

static const float *weights_of(const batch *made, int64_t t)
{
    return (const float *)made->call.out[ROUTE_WEIGHTS] + t * made->request.out[ROUTE_IDS].size[1];
}

/* ------------------------------------------------------------------------------------------ */
/* What holds on any logits */

enum { NORMAL, TIES, HUGE_VALUES, SOME_NAN, SOME_INFINITE, BITS, KINDS };

static float value_of_kind(int kind)
{
    uint64_t bits = mixt_random_bits(&key, drawn++);
    uint32_t pattern = (uint32_t)bits;
    float value = (float)(int32_t)(bits >> 40) / 2097152.0F - 4;
    switch (kind) {
    case TIES:
        return (float)(bits % 3);
    case HUGE_VALUES:
        return (bits & 1 ? 3.4e38F : -3.4e38F) * (float)(bits >> 60) / 16;
    case SOME_NAN:
        return bits % 4 == 0 ? NAN : value;
    case SOME_INFINITE:
        return bits % 3 == 0 ? (bits & 1 ? INFINITY : -INFINITY) : value;
    case BITS:
        memcpy(&value, &pattern, sizeof value);
        return value;
    default:
        return value;
    }
}

/* How many experts a row has: distinct ones, none masked, -1 and 0 behind them. */
static int check_row(const batch *made, int64_t t)
{
    int columns = (int)made->request.out[ROUTE_IDS].size[1], count = 0;
    const int32_t *ids = ids_of(made, t);
    const float *weights = weights_of(made, t);
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

/* Order and places follow from the ids, and there was room for all. */
static void check_record(const batch *made)
{
    const int32_t *offsets = made->call.out[ROUTE_OFFSETS], *order = made->call.out[ROUTE_ORDER];
    const int32_t *place = made->call.out[ROUTE_PLACE], *counts = made->call.out[ROUTE_COUNTS];
    const int32_t *ids = made->call.out[ROUTE_IDS];
    int64_t room = (int64_t)values_of(&made->request.out[ROUTE_ORDER]), choices = 0;
    for (size_t i = 0; i < values_of(&made->request.out[ROUTE_IDS]); i++) {
        choices += ids[i] >= 0;
    }
    assert_true(offsets[0] == 0 && offsets[made->spec.experts] == choices && choices <= room);
    for (int e = 0; e < made->spec.experts; e++) {
        assert_int_equal(offsets[e + 1] - offsets[e], counts[e]);
        for (int32_t p = offsets[e]; p < offsets[e + 1]; p++) {
            assert_true(ids[order[p]] == e && place[order[p]] == p);
        }
    }
    for (int64_t p = choices; p < room; p++) {
        assert_int_equal(order[p], -1);
    }
}

/* Every expert has its share of every document, no more and no less. */
static void check_capacity(const batch *made)
{
    int experts = made->spec.experts;
    bool whole = made->spec.options.choice_scope == MIXT_CHOICE_OVER_BATCH;
    for (int64_t begin = 0, end; begin < made->call.tokens; begin = end) {
        int64_t have[64] = {0};
        for (end = begin; end < made->call.tokens && (whole || made->first[end] == begin); end++) {
            const int32_t *ids = ids_of(made, end);
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
    int select = ALL + (int)below(3), e = experts[below(6)];
    *spec = (mixt_router_spec){
        .experts = e,
        .chosen = select == ALL ? e : 1 + (int)below((uint64_t)e / 2 + 1),
        .options = {.select = select, .renormalise = below(2) == 0, .scale = 1},
    };
    spec->options.score = below(2) == 0 ? MIXT_SCORE_SOFTMAX : MIXT_SCORE_SIGMOID;
    if (select == EXPERT_CHOICE) {
        spec->options.choice_scope = (mixt_choice_scope)below(2);
        spec->options.capacity = below(2) == 0 ? 0 : 0.25 * (double)(1 + below(12));
    }
    if (below(4) == 0 && e > 4) {
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
        bool training = below(4) > 0;
        batch made;
        batch_create(&made, &spec, training, tokens);
        for (int64_t t = 0, begin = 0; t < tokens; t++) {
            begin = below(20) == 0 ? t : begin;
            made.first[t] = (int32_t)begin;
            int kind = (int)below(KINDS);
            for (int e = 0; e < spec.experts; e++) {
                logits_of(&made, t)[e] = value_of_kind(kind);
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
        check_record(&made);
        if (chosen_by_experts) {
            check_capacity(&made);
        }
        batch_free(&made);
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
    batch made;
    batch_create(&made, &spec, p->training != 0, p->tokens);
    memcpy(logits_of(&made, 0), p->logits, (size_t)(p->tokens * p->experts) * sizeof(float));
    mixt_route_decide_f32(&made.call);
    for (int t = 0; t < p->tokens; t++) {
        float have[64] = {0};
        int count = check_row(&made, t);
        for (int j = 0; j < count; j++) {
            have[ids_of(&made, t)[j]] = weights_of(&made, t)[j];
        }
        for (int e = 0; e < p->experts; e++) {
            float want = p->weights[t * p->experts + e];
            if ((have[e] == 0) != (want == 0) || !(fabsf(have[e] - want) <= 1e-6F)) {
                fail_msg("%s: expert %d weighs %g for token %d, not %g", p->name, e,
                         (double)have[e], t, (double)want);
            }
        }
    }
    batch_free(&made);
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
    batch made;
    batch_create(&made, &spec, true, TOKENS);
    for (int i = 0; i < TOKENS * EXPERTS; i++) {
        double favour = skew * (i % EXPERTS) / EXPERTS;
        logits_of(&made, 0)[i] = (float)(favour + mixt_random_normal(&own, (uint64_t)i));
    }
    mixt_route_decide_f32(&made.call);
    int32_t most = 0;
    for (int e = 0; e < EXPERTS; e++) {
        int32_t count = ((const int32_t *)made.call.out[ROUTE_COUNTS])[e];
        most = count > most ? count : most;
    }
    batch_free(&made);
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
        batch made;
        batch_create(&made, &spec, run > 0, TOKENS);
        made.draw[MIXT_DRAW_STEP] = run == 2;
        made.draw[MIXT_DRAW_BATCH] = run == 3;
        made.call.layer = run == 4;
        made.call.in[ROUTE_X] = x;
        made.call.in[ROUTE_WEIGHT] = (void *)weight;
        mixt_route_forward_f32(&made.call);
        double sum = 0, squares = 0;
        int same = 0;
        for (int i = 0; i < TOKENS * EXPERTS; i++) {
            float logit = logits_of(&made, 0)[i];
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
        batch_free(&made);
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
    batch made;
    batch_create(&made, &spec, false, 10);
    for (int i = 0; i < 40; i++) {
        logits_of(&made, 0)[i] = (float)below(100);
    }
    mixt_route_decide_f32(&made.call);
    for (int t = 0; t < 10; t++) {
        assert_int_equal(ids_of(&made, t)[1], 3);
        assert_int_equal(check_row(&made, t), 2);
    }
    mixt_shape_request request = made.request;
    mixt_error error = MIXT_ERROR_INIT;
    made.attributes.training = true;
    assert_int_equal(mixt_route_shape(&request, &error), MIXT_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "cannot be forced"));
    batch_free(&made);
}

static int start(void **state)
{
    (void)state;
    return mixt_compute_create(&(mixt_context_options){.threads = 2}, &compute, NULL) != MIXT_OK;
}

static int stop(void **state)
{
    (void)state;
    mixt_compute_free(compute);
    return 0;
}

int main(int argc, char **argv)
{
    const char *rows = argc > 1 ? argv[1] : getenv("MIXT_ROUTER_ROWS");
    if (rows != NULL) {
        wanted_rows = strtoll(rows, NULL, 10);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_property),          cmocka_unit_test(test_published),
        cmocka_unit_test(test_sinkhorn_balances), cmocka_unit_test(test_noise),
        cmocka_unit_test(test_refusals),          cmocka_unit_test(test_forced_choice),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
