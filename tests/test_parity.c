/* mixt against PyTorch on the same weights and batch: logits, losses, routes and every gradient, in
 * fp32 and fp64, for whole windows and for documents inside windows; and generation against the
 * same logits. Expected values: tests/reference/model.py. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "backend/cpu/cpu.h"
#include "parity.h"

static const char *const models[] = {"moe", "moe-odd", "dense", "dense-tied"};
static const char *const batches[] = {"plain", "borders"};
#define COUNT(list) (sizeof(list) / sizeof *(list))

/* Bounds on relative differences (of the tensor's largest element). The fp64 gradients are stored
 * in fp32 in most fixtures, which alone is 6e-8. */
typedef struct bounds {
    double loss, logits, gradient, gradient_stored_single, route;
} bounds;

static const bounds fp32 = {1e-6, 1e-5, 1e-5, 1e-5, 1e-5};
static const bounds fp64 = {1e-13, 1e-12, 1e-11, 1.2e-7, 1e-12};
/* BLAS sums in another order; bfloat16 products round operands to 8 bits. */
static const bounds blas = {1e-5, 3e-5, 3e-5, 3e-5, 3e-5};
static const bounds bf16 = {1e-2, 5e-2, 5e-2, 5e-2, 5e-2};

typedef struct subject {
    const parity_fixture *fixture;
    const char *batch;
    parity_run *run;
    const bounds *bounds;
    double worst; /* gradient */
    char what[80];
} subject;

static double *reals(const parity_run *run, const void *values, size_t count)
{
    double *copy = malloc((count + 1) * sizeof *copy);
    for (size_t i = 0; i < count; i++) {
        copy[i] = parity_real(run, values, i);
    }
    return copy;
}

static void check_values(subject *s, const char *name, mixt_value_id value, double bound)
{
    size_t count;
    double *expected = parity_expected(s->fixture, s->batch, name, &count);
    double *own = reals(s->run, mixt_instance_view(s->run->instance, value), count);
    parity_check(s->what, name, parity_difference(own, expected, count), bound);
    free(own);
    free(expected);
}

static void check_losses(subject *s)
{
    static const char *const names[] = {"loss.cross_entropy", "loss.balance", "loss.z",
                                        "loss.total"};
    double losses[4];
    parity_run_losses(s->run, losses);
    for (int i = 0; i < 4; i++) {
        double *expected = parity_expected(s->fixture, s->batch, names[i], NULL);
        parity_check(s->what, names[i], parity_difference(losses + i, expected, 1),
                     s->bounds->loss);
        free(expected);
    }
}

static void check_routes(subject *s)
{
    const mixt_graph *g = s->run->graph;
    if (g->moe_layers == 0) {
        return;
    }
    size_t tokens = (size_t)s->run->tokens;
    size_t k = (size_t)s->fixture->model->options.experts_per_token;
    size_t experts = (size_t)s->fixture->model->options.experts;
    double *ids = parity_expected(s->fixture, s->batch, "router.ids", NULL);
    double *weights = parity_expected(s->fixture, s->batch, "router.weights", NULL);
    double *logits = parity_expected(s->fixture, s->batch, "router.logits", NULL);
    for (int layer = 0; layer < g->moe_layers; layer++) {
        const mixt_value_id *route = g->routes[layer].value;
        const int32_t *own_ids = mixt_instance_view(s->run->instance, route[ROUTE_IDS]);
        double *own_weights =
            reals(s->run, mixt_instance_view(s->run->instance, route[ROUTE_WEIGHTS]), tokens * k);
        double *own_logits = reals(
            s->run, mixt_instance_view(s->run->instance, route[ROUTE_SCORES]), tokens * experts);
        size_t row = (size_t)layer * tokens;
        for (size_t i = 0; i < tokens * k; i++) {
            assert_int_equal(own_ids[i], (int)ids[row * k + i]);
        }
        parity_check(s->what, "router.weights",
                     parity_difference(own_weights, weights + row * k, tokens * k),
                     s->bounds->route);
        parity_check(s->what, "router.logits",
                     parity_difference(own_logits, logits + row * experts, tokens * experts),
                     s->bounds->route);
        free(own_weights);
        free(own_logits);
    }
    free(ids);
    free(weights);
    free(logits);
}

/* One expected gradient against `count` values of the run's, from value `offset` on. */
static void check_gradient(subject *s, const char *tensor, size_t offset, size_t count)
{
    char name[160];
    size_t expected_count;
    snprintf(name, sizeof name, "gradient.%s", tensor);
    double *expected = parity_expected(s->fixture, s->batch, name, &expected_count);
    assert_int_equal(expected_count, count);
    double *own =
        reals(s->run, (const char *)s->run->gradients + offset * s->run->real_size, count);
    bool wide = strcmp(s->batch, "plain") == 0 &&
                (strcmp(s->fixture->name, "moe") == 0 || strcmp(s->fixture->name, "dense") == 0);
    double difference = parity_difference(own, expected, count);
    parity_check(s->what, name, difference,
                 wide ? s->bounds->gradient : s->bounds->gradient_stored_single);
    s->worst = fmax(s->worst, difference);
    free(own);
    free(expected);
}

static void check_gradients(subject *s)
{
    const mixt_model *model = s->fixture->model;
    size_t checked = 0;
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        size_t experts = p->rank == 3 ? (size_t)p->size[0] : 1, each = p->count / experts;
        for (size_t e = 0; e < experts; e++) {
            char name[128];
            mixt_parameter_expert_name(p, (int)e, name);
            check_gradient(s, name, p->offset + e * each, each);
            checked++;
        }
    }
    /* Nothing that PyTorch has a gradient of was left out. */
    size_t expected = 0;
    for (size_t i = 0; i < mixt_safetensors_count(s->fixture->expected); i++) {
        char prefix[64];
        snprintf(prefix, sizeof prefix, "%s.gradient.", s->batch);
        const char *name = mixt_safetensors_tensor(s->fixture->expected, i)->name;
        expected += strncmp(name, prefix, strlen(prefix)) == 0;
    }
    assert_int_equal(checked, expected);
}

static mixt_graph_options options_for(mixt_phase phase, size_t real_size)
{
    return (mixt_graph_options){.phase = phase,
                                .capacity = 48,
                                .window = 24,
                                .real_size = real_size,
                                .keep_logits = true,
                                .keep_routes = true};
}

static void load_batch(const parity_fixture *fixture, const char *batch, parity_run *run)
{
    double *tokens = parity_expected(fixture, batch, "tokens", NULL);
    double *targets = parity_expected(fixture, batch, "targets", NULL);
    double *documents = parity_has(fixture, batch, "documents")
                            ? parity_expected(fixture, batch, "documents", NULL)
                            : NULL;
    parity_run_batch(run, tokens, targets, documents);
    free(tokens);
    free(targets);
    free(documents);
}

/* Returns the worst gradient difference. */
static double compare(const parity_fixture *fixture, size_t real_size, bool recompute,
                      const bounds *limits)
{
    double worst = 0;
    for (size_t b = 0; b < COUNT(batches); b++) {
        parity_run run;
        mixt_graph_options options = options_for(MIXT_PHASE_TRAIN, real_size);
        options.recompute = recompute;
        parity_run_create(fixture, &options, &run);
        load_batch(fixture, batches[b], &run);
        parity_run_go(&run);
        subject s = {.fixture = fixture, .batch = batches[b], .run = &run, .bounds = limits};
        snprintf(s.what, sizeof s.what, "%s %s fp%zu%s", fixture->name, batches[b], real_size * 8,
                 recompute ? " recompute" : "");
        check_values(&s, "logits", run.graph->logits, limits->logits);
        check_losses(&s);
        check_routes(&s);
        check_gradients(&s);
        print_message("%-28s worst gradient %.1e of its largest element\n", s.what, s.worst);
        worst = fmax(worst, s.worst);
        parity_run_free(&run);
    }
    return worst;
}

static void compare_all(const char *cpu, mixt_matmul matmul, size_t real_size, const bounds *limits)
{
    for (size_t m = 0; m < COUNT(models); m++) {
        parity_fixture fixture;
        parity_open(&fixture, models[m], cpu, matmul);
        compare(&fixture, real_size, false, limits);
        parity_close(&fixture);
    }
}

static void test_double(void **state)
{
    (void)state;
    compare_all(NULL, MIXT_MATMUL_EXACT, sizeof(double), &fp64);
}

static void test_single_on_every_tier(void **state)
{
    (void)state;
    const char *const *tiers = mixt_cpu_tier_names;
    for (size_t i = 0; i < MIXT_CPU_TIERS; i++) {
        mixt_context *context;
        mixt_error error = MIXT_ERROR_INIT;
        mixt_context_options options = {.threads = 1, .cpu = tiers[i]};
        if (mixt_context_create(&options, &context, &error) != MIXT_OK) {
            print_message("%s: %s\n", tiers[i], error.message);
            assert_int_not_equal(i, 0); /* the scalar tier runs everywhere */
            continue;
        }
        print_message("tier %s\n", mixt_context_cpu(context));
        mixt_context_free(context);
        compare_all(tiers[i], MIXT_MATMUL_EXACT, sizeof(float), &fp32);
    }
}

static void test_blas(void **state)
{
    (void)state;
    compare_all(NULL, MIXT_MATMUL_BLAS, sizeof(float), &blas);
}

/* Operands rounded to 8 bits; dense models only, as a choice of experts may flip. */
static void test_bf16(void **state)
{
    (void)state;
    for (size_t m = 0; m < COUNT(models); m++) {
        parity_fixture fixture;
        parity_open(&fixture, models[m], NULL, MIXT_MATMUL_BF16);
        if (mixt_model_moe_layers(fixture.model) == 0) {
            double worst = compare(&fixture, sizeof(float), false, &bf16);
            assert_true(worst > 1e-3); /* it did round */
        }
        parity_close(&fixture);
    }
}

static void test_recompute(void **state)
{
    (void)state;
    for (size_t m = 0; m < COUNT(models); m++) {
        parity_fixture fixture;
        parity_open(&fixture, models[m], NULL, MIXT_MATMUL_EXACT);
        compare(&fixture, sizeof(double), true, &fp64);
        parity_close(&fixture);
    }
}

/* Scoring is the same forward: bit for bit. */
static void test_score_equals_train(void **state)
{
    (void)state;
    for (size_t m = 0; m < COUNT(models); m++) {
        parity_fixture fixture;
        parity_open(&fixture, models[m], NULL, MIXT_MATMUL_EXACT);
        parity_run runs[2];
        for (int i = 0; i < 2; i++) {
            mixt_graph_options options =
                options_for(i == 0 ? MIXT_PHASE_TRAIN : MIXT_PHASE_SCORE, sizeof(float));
            parity_run_create(&fixture, &options, &runs[i]);
            load_batch(&fixture, "borders", &runs[i]);
            parity_run_go(&runs[i]);
        }
        size_t count = 48 * (size_t)fixture.model->options.vocab_size;
        assert_memory_equal(mixt_instance_view(runs[0].instance, runs[0].graph->logits),
                            mixt_instance_view(runs[1].instance, runs[1].graph->logits),
                            count * sizeof(float));
        assert_memory_equal(mixt_instance_view(runs[0].instance, runs[0].graph->nll),
                            mixt_instance_view(runs[1].instance, runs[1].graph->nll),
                            48 * sizeof(float));
        parity_run_free(&runs[0]);
        parity_run_free(&runs[1]);
        parity_close(&fixture);
    }
}

/* Logits behind position `position` of the first window, and the routes there. */
static void check_session(const parity_fixture *fixture, const mixt_session *session,
                          size_t position, const char *what)
{
    size_t vocabulary = (size_t)fixture->model->options.vocab_size;
    const float *logits = mixt_session_logits(session);
    double *expected = parity_expected(fixture, "plain", "logits", NULL);
    double *own = malloc(vocabulary * sizeof *own);
    for (size_t i = 0; i < vocabulary; i++) {
        own[i] = (double)logits[i];
    }
    parity_check(what, fixture->name,
                 parity_difference(own, expected + position * vocabulary, vocabulary), 1e-5);
    free(own);
    free(expected);
    size_t layers = (size_t)mixt_model_moe_layers(fixture->model);
    if (layers == 0) {
        return;
    }
    const int32_t *ids;
    const float *weights;
    mixt_session_routes(session, &ids, &weights);
    size_t k = (size_t)fixture->model->options.experts_per_token;
    double *expected_ids = parity_expected(fixture, "plain", "router.ids", NULL);
    for (size_t layer = 0; layer < layers; layer++) {
        for (size_t j = 0; j < k; j++) {
            assert_int_equal(ids[layer * k + j],
                             (int)expected_ids[(layer * 48 + position) * k + j]);
        }
    }
    free(expected_ids);
}

static void test_generation(void **state)
{
    (void)state;
    for (size_t m = 0; m < COUNT(models); m++) {
        parity_fixture fixture;
        mixt_session *session;
        mixt_error error = MIXT_ERROR_INIT;
        int32_t tokens[24];
        parity_open(&fixture, models[m], NULL, MIXT_MATMUL_EXACT);
        double *values = parity_expected(&fixture, "plain", "tokens", NULL);
        for (int t = 0; t < 24; t++) {
            tokens[t] = (int32_t)values[t];
        }
        free(values);
        assert_int_equal(mixt_session_create(fixture.context, fixture.model, 0, &session, &error),
                         MIXT_OK);
        assert_int_equal(mixt_session_feed(session, tokens, 24, &error), MIXT_OK);
        check_session(&fixture, session, 23, "prefill");
        mixt_session_truncate(session, 0);
        for (size_t t = 0; t < 24; t++) {
            assert_int_equal(mixt_session_feed(session, tokens + t, 1, &error), MIXT_OK);
            check_session(&fixture, session, t, "token by token");
        }
        mixt_session_free(session);
        parity_close(&fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_double),
        cmocka_unit_test(test_single_on_every_tier),
        cmocka_unit_test(test_blas),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_recompute),
        cmocka_unit_test(test_generation),
        cmocka_unit_test(test_score_equals_train),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
