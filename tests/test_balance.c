/* What balances experts: losses, their gradients and quantile biases against other programs'
 * numbers (tests/reference/balance.py, device_balance.py), the pieces of both, and whole steps of
 * training. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <cmocka.h>

#include "core/files.h"
#include "difference.h"
#include "route_batch.h"
#include "train/trainer.h"
#include "train_setup.h"

/* ------------------------------------------------------------------------------------------ */
/* Numbers of others */

enum { BATCHES = 3, ROWS = 32, DOCUMENT = 8, EXPERTS = 8, CHOSEN = 2 };
#define VALUES (ROWS * EXPERTS) /* logits of a batch */

/* The named line of a fixture, which must have that many numbers. */
static float *read_line(const char *fixture, const char *wanted, long expected)
{
    char path[80];
    snprintf(path, sizeof path, "tests/fixtures/router/%s.txt", fixture);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char name[40] = "";
    long count;
    float *values = NULL;
    while (values == NULL && fscanf(file, "%39s %ld", name, &count) == 2) {
        float *read = malloc((size_t)count * sizeof *read);
        for (long i = 0; i < count; i++) {
            assert_int_equal(fscanf(file, "%f", &read[i]), 1);
        }
        if (strcmp(name, wanted) == 0) {
            assert_int_equal(count, expected);
            values = read;
        } else {
            free(read);
        }
    }
    fclose(file);
    if (values == NULL) {
        fail_msg("the fixture has no %s", wanted);
    }
    return values;
}

typedef struct routed {
    route_batch batch;
    int32_t seen[EXPERTS];
    float identity[EXPERTS * EXPERTS], d_x[VALUES];
} routed;

/* Ready to route rows whose logits are x itself. */
static void routed_open(routed *r, const mixt_router_options *options)
{
    mixt_router_spec spec = {.experts = EXPERTS, .chosen = CHOSEN, .options = *options};
    memset(r, 0, sizeof *r);
    spec.options.scale = 1;
    route_batch_create(&r->batch, &spec, true, ROWS, EXPERTS);
    r->batch.attributes.z_weight = 0;
    for (int i = 0; i < EXPERTS; i++) {
        r->identity[i * EXPERTS + i] = 1;
    }
    for (int t = 0; t < ROWS; t++) {
        r->batch.first[t] = t / DOCUMENT * DOCUMENT;
    }
    bool step = options->balance_scope == MIXT_BALANCE_OVER_STEP;
    r->batch.call.in[ROUTE_WEIGHT] = r->identity;
    r->batch.call.in[ROUTE_SEEN] = step ? r->seen : NULL;
    r->batch.call.d_in[ROUTE_X] = r->d_x;
}

/* Loss and gradient of the last batch, the others of the step before it where it counts them. With
 * groups those of their loss. */
static void check_loss(const char *name, const mixt_router_options *options)
{
    bool groups = options->balance_groups > 0;
    float *logits = read_line("balance", "logits", (long)BATCHES * VALUES),
          *want = read_line(groups ? "device_balance" : "balance", name, VALUES + 1);
    routed r;
    routed_open(&r, options);
    r.batch.attributes.balance_weight = groups ? 0 : 1;
    bool step = options->balance_scope == MIXT_BALANCE_OVER_STEP;
    for (int batch = step ? 0 : BATCHES - 1; batch < BATCHES; batch++) {
        r.batch.call.in[ROUTE_X] = logits + batch * VALUES;
        mixt_route_forward_f32(&r.batch.call);
    }
    mixt_route_backward_f32(&r.batch.call);
    const float *losses = r.batch.call.out[ROUTE_LOSSES];
    double loss = (double)losses[groups ? ROUTE_LOSS_DEVICE : ROUTE_LOSS_BALANCE];
    if (!(fabs(loss - (double)want[0]) <= 1e-6 * fabs((double)want[0]))) {
        fail_msg("%s: the loss is %.9g, not %.9g", name, loss, (double)want[0]);
    }
    const float zeros[VALUES] = {0};
    double worst = test_largest_difference(r.d_x, want + 1, VALUES),
           most = test_largest_difference(zeros, want + 1, VALUES);
    print_message("%-26s loss %.7f, gradient within %.1e\n", name, loss, worst / most);
    assert_true(worst <= 2e-6 * most);
    int64_t seen = 0;
    for (int e = 0; e < EXPERTS; e++) {
        seen += r.seen[e];
    }
    assert_int_equal(seen, step ? BATCHES * ROWS * CHOSEN : 0);
    route_batch_free(&r.batch);
    free(logits);
    free(want);
}

static void losses_are_those_of_others(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        mixt_balance balance;
        mixt_balance_scope scope;
        bool sigmoid;
    } rows[] = {
        {"megatron_batch_softmax", MIXT_BALANCE_SWITCH, MIXT_BALANCE_OVER_BATCH, false},
        {"megatron_batch_sigmoid", MIXT_BALANCE_SWITCH, MIXT_BALANCE_OVER_BATCH, true},
        {"megatron_step_softmax", MIXT_BALANCE_SWITCH, MIXT_BALANCE_OVER_STEP, false},
        {"megatron_step_sigmoid", MIXT_BALANCE_SWITCH, MIXT_BALANCE_OVER_STEP, true},
        {"megatron_sequence_softmax", MIXT_BALANCE_SWITCH, MIXT_BALANCE_OVER_SEQUENCE, false},
        {"megatron_sequence_sigmoid", MIXT_BALANCE_SWITCH, MIXT_BALANCE_OVER_SEQUENCE, true},
        {"deepseek_batch", MIXT_BALANCE_SWITCH, MIXT_BALANCE_OVER_BATCH, false},
        {"deepseek_sequence", MIXT_BALANCE_SWITCH, MIXT_BALANCE_OVER_SEQUENCE, false},
        {"skywork_softmax", MIXT_BALANCE_SKYWORK, MIXT_BALANCE_OVER_BATCH, false},
        {"skywork_sigmoid", MIXT_BALANCE_SKYWORK, MIXT_BALANCE_OVER_BATCH, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        mixt_router_options options = {.balance = rows[i].balance,
                                       .balance_scope = rows[i].scope,
                                       .score = rows[i].sigmoid ? MIXT_SCORE_SIGMOID
                                                                : MIXT_SCORE_SOFTMAX};
        check_loss(rows[i].name, &options);
    }
}

static void device_losses_are_those_of_the_papers(void **state)
{
    (void)state;
    static const char *const scopes[] = {"batch", "step", "sequence"};
    for (int i = 0; i < 3 * 2 * 3; i++) {
        char name[40];
        bool sigmoid = i / 3 % 2 == 1;
        mixt_router_options options = {.balance_scope = (mixt_balance_scope)(i / 6),
                                       .balance_groups = 2 << i % 3,
                                       .score = sigmoid ? MIXT_SCORE_SIGMOID : MIXT_SCORE_SOFTMAX};
        snprintf(name, sizeof name, "%s_%s_%d", scopes[i / 6], sigmoid ? "sigmoid" : "softmax",
                 options.balance_groups);
        check_loss(name, &options);
    }
}

/* The biases of a step of these rows, by the pieces that a trainer calls. */
static void quantile_bias(const mixt_router_spec *spec, const float *logits, int64_t rows,
                          const float *bias, float *centred)
{
    int experts = spec->experts;
    float *required = malloc((size_t)(rows * experts) * sizeof *required),
          *row = malloc((size_t)experts * 4);
    double *found = malloc((size_t)experts * sizeof *found);
    for (int64_t t = 0; t < rows; t++) {
        mixt_router_required_bias(route_compute->f32, spec, logits + t * experts, bias, row);
        for (int e = 0; e < experts; e++) {
            required[e * rows + t] = row[e];
        }
    }
    for (int e = 0; e < experts; e++) {
        found[e] = mixt_router_quantile(required + e * rows, rows, (double)spec->chosen / experts);
    }
    mixt_router_centre(found, experts, centred);
    free(required);
    free(row);
    free(found);
}

static void quantiles_are_those_of_others(void **state)
{
    (void)state;
    const struct {
        const char *name;
        double within; /* others take a neighbour of the quantile, or the edge of its bin */
    } rows[] = {{"torch_bias", 1e-6}, {"megatron_bias", 0.01}, {"titan_bias", 0.02}};
    float *logits = read_line("balance", "logits", (long)BATCHES * VALUES),
          *bias = read_line("balance", "bias", EXPERTS);
    mixt_router_spec spec = {
        EXPERTS, CHOSEN, {.score = MIXT_SCORE_SIGMOID, .scale = 1}, NULL, NULL};
    float have[EXPERTS];
    quantile_bias(&spec, logits, (int64_t)BATCHES * ROWS, bias, have);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        float *want = read_line("balance", rows[i].name, EXPERTS);
        double worst = test_largest_difference(have, want, EXPERTS);
        print_message("%-14s biases within %.1e\n", rows[i].name, worst);
        assert_true(worst <= rows[i].within);
        free(want);
    }
    free(logits);
    free(bias);
}

/* ------------------------------------------------------------------------------------------ */
/* Pieces */

static int compare_rising(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Against a sort: few and many values, ties, rising and falling ones. */
static void a_quantile_is_where_a_sort_has_it(void **state)
{
    (void)state;
    mixt_random_key key = {5, MIXT_RANDOM_DATA, 1};
    for (int round = 0; round < 4000; round++) {
        uint64_t draw = (uint64_t)round << 16;
        int64_t count = 1 + (int64_t)mixt_random_below(&key, draw++, round % 4 == 0 ? 5 : 300);
        double share = (double)(1 + mixt_random_below(&key, draw++, 15)) / 16;
        float values[300], sorted[300];
        for (int64_t i = 0; i < count; i++) {
            uint64_t drawn = mixt_random_below(&key, draw++, round % 3 == 0 ? 4 : 100000);
            values[i] = round % 5 == 0   ? (float)i
                        : round % 5 == 1 ? (float)-i
                                         : (float)drawn * 0.25F - 7;
        }
        memcpy(sorted, values, sizeof sorted);
        qsort(sorted, (size_t)count, sizeof *sorted, compare_rising);
        double at = share * (double)(count - 1), below = floor(at);
        double low = (double)sorted[(int)below], high = (double)sorted[(int)ceil(at)];
        assert_true(mixt_router_quantile(values, count, share) ==
                    low + (at - below) * (high - low));
        qsort(values, (size_t)count, sizeof *values, compare_rising);
        assert_memory_equal(values, sorted, (size_t)count * sizeof *values); /* the same ones */
    }
}

/* Rows that like some experts far more: biases from one step's rows, over and over, spread them. */
static void quantiles_balance_what_is_chosen(void **state)
{
    (void)state;
    enum { TOKENS = 4096, WIDE = 16, BEST = 2 };
    mixt_random_key key = {6, MIXT_RANDOM_DATA, 2};
    static const mixt_score scores[] = {MIXT_SCORE_SIGMOID, MIXT_SCORE_SOFTMAX,
                                        MIXT_SCORE_TOP_K_SOFTMAX};
    float *logits = malloc(sizeof(float) * TOKENS * WIDE);
    for (int i = 0; i < TOKENS * WIDE; i++) {
        logits[i] = (float)mixt_random_normal(&key, (uint64_t)i) + 0.2F * (float)(i % WIDE);
    }
    for (int s = 0; s < 3; s++) {
        mixt_router_spec spec = {WIDE, BEST, {.score = scores[s], .scale = 1}, NULL, NULL};
        float bias[WIDE] = {0}, next[WIDE], biased[WIDE];
        double violation[7];
        for (int round = 0; round < 7; round++) {
            int64_t counts[WIDE] = {0}, most = 0;
            for (int t = 0; t < TOKENS; t++) {
                int32_t ids[BEST];
                float row[WIDE], log_sum;
                const float *by = logits + t * WIDE;
                assert_true(mixt_row_scores_f32(route_compute->f32, &spec, by, row, &log_sum));
                by = scores[s] == MIXT_SCORE_TOP_K_SOFTMAX ? by : row;
                for (int e = 0; e < WIDE; e++) {
                    biased[e] = by[e] + bias[e];
                }
                mixt_select_top_k_f32(biased, WIDE, BEST, ids);
                for (int j = 0; j < BEST; j++) {
                    counts[ids[j]]++;
                }
            }
            for (int e = 0; e < WIDE; e++) {
                most = counts[e] > most ? counts[e] : most;
            }
            violation[round] = (double)most * WIDE / (TOKENS * BEST) - 1;
            quantile_bias(&spec, logits, TOKENS, bias, next);
            memcpy(bias, next, sizeof bias);
        }
        print_message("max violation after 0, 1, 2, 6 updates: %.3f %.3f %.3f %.3f\n", violation[0],
                      violation[1], violation[2], violation[6]);
        assert_true(violation[0] > 1 && violation[1] < violation[0] && violation[6] < 0.05);
    }
    free(logits);
}

/* One batch through forward and backward: both losses, and the gradient of x [T, E]. */
static void route_both(const mixt_router_spec *spec, const float *weights, const float *x,
                       float losses[ROUTE_LOSS_COUNT], float *d_x)
{
    int experts = spec->experts;
    route_batch batch;
    int32_t seen[64];
    float *identity = calloc((size_t)(experts * experts), sizeof *identity);
    route_batch_create(&batch, spec, true, ROWS, experts);
    batch.attributes.balance_weight = (double)weights[0];
    batch.attributes.device_weight = (double)weights[1];
    batch.attributes.z_weight = 0.25;
    batch.attributes.capacity = spec->options.select == 0 ? spec->options.capacity : 0;
    for (int e = 0; e < experts; e++) {
        identity[e * experts + e] = 1;
        seen[e] = 3 * e;
    }
    for (int t = 0; t < ROWS; t++) {
        batch.first[t] = t < 5 ? 0 : t < 20 ? 5 : 20;
    }
    batch.call.in[ROUTE_X] = (void *)(uintptr_t)x;
    batch.call.in[ROUTE_WEIGHT] = identity;
    batch.call.in[ROUTE_SEEN] = spec->options.balance_scope == MIXT_BALANCE_OVER_STEP ? seen : NULL;
    batch.call.d_in[ROUTE_X] = d_x;
    mixt_route_forward_f32(&batch.call);
    mixt_route_backward_f32(&batch.call);
    memcpy(losses, batch.call.out[ROUTE_LOSSES], ROUTE_LOSS_COUNT * sizeof *losses);
    route_batch_free(&batch);
    free(identity);
}

static mixt_router_spec random_grouped(mixt_random_key *key, uint64_t *at)
{
    int groups = 2 + (int)mixt_random_below(key, (*at)++, 5);
    int experts = groups * (1 + (int)mixt_random_below(key, (*at)++, 5));
    mixt_router_spec spec = {.experts = experts, .options = {.scale = 1}};
    mixt_router_options *o = &spec.options;
    spec.chosen = 1 + (int)mixt_random_below(key, (*at)++, (uint64_t)experts);
    o->balance_groups = groups;
    o->select = mixt_random_below(key, (*at)++, 4) == 0 ? 3 : 0; /* experts choose: ids of -1 */
    o->score = o->select == 3 ? MIXT_SCORE_SIGMOID : (mixt_score)mixt_random_below(key, (*at)++, 3);
    o->balance = (mixt_balance)mixt_random_below(key, (*at)++, 2);
    o->balance_scope = (mixt_balance_scope)mixt_random_below(key, (*at)++, 3);
    o->capacity = o->select == 0 && mixt_random_below(key, (*at)++, 2) == 0 ? 0.5 : 0;
    return spec;
}

/* Groups of one expert have the experts' loss and gradient, to the bit. Otherwise it does not
 * matter which expert of a group is which, and the pull is the same for all experts of one. */
static void groups_of_one_are_experts(void **state)
{
    (void)state;
    enum { ROUNDS = 600 };
    static const float experts_alone[] = {0.7F, 0}, groups_alone[] = {0, 0.7F};
    mixt_random_key key = {8, MIXT_RANDOM_DATA, 3};
    uint64_t at = 0;
    double apart = 0;
    for (int round = 0; round < ROUNDS; round++) {
        float x[ROWS * 64], swapped[ROWS * 64], d_x[2][ROWS * 64], losses[2][ROUTE_LOSS_COUNT];
        mixt_router_spec spec = random_grouped(&key, &at);
        int experts = spec.experts, size = experts / spec.options.balance_groups;
        size_t bytes = (size_t)(ROWS * experts) * sizeof(float);
        for (int i = 0; i < ROWS * experts; i++) {
            x[i] = (float)mixt_random_normal(&key, at++);
        }
        memcpy(swapped, x, sizeof x); /* the first and the last expert of the last group */
        for (int t = 0; t < ROWS; t++) {
            swapped[t * experts + experts - size] = x[t * experts + experts - 1];
            swapped[t * experts + experts - 1] = x[t * experts + experts - size];
        }
        bool step = spec.options.balance_scope == MIXT_BALANCE_OVER_STEP;
        route_both(&spec, groups_alone, x, losses[0], d_x[0]);
        route_both(&spec, groups_alone, swapped, losses[1], d_x[1]);
        double before = (double)losses[0][ROUTE_LOSS_DEVICE];
        apart = step ? apart : fmax(apart, fabs((double)losses[1][ROUTE_LOSS_DEVICE] / before - 1));
        spec.options.balance_groups = experts;
        route_both(&spec, groups_alone, x, losses[0], d_x[0]);
        spec.options.balance_groups = round % 2; /* none */
        route_both(&spec, experts_alone, x, losses[1], d_x[1]);
        assert_true(losses[1][ROUTE_LOSS_DEVICE] == 0 && losses[0][ROUTE_LOSS_DEVICE] > 0);
        assert_true(losses[0][ROUTE_LOSS_DEVICE] == losses[1][ROUTE_LOSS_BALANCE]);
        assert_memory_equal(d_x[0], d_x[1], bytes);
    }
    print_message("%d routers; a group's experts in another order: loss within %.1e\n", ROUNDS,
                  apart);
    assert_true(apart < 1e-6);
}

static void coefficients_follow_drops(void **state)
{
    (void)state;
    const int32_t counts[4] = {7, 0, 12, 5};
    assert_int_equal(mixt_router_dropped(counts, 4, 6), 7);
    assert_int_equal(mixt_router_dropped(counts, 4, INT64_MAX), 0);
    assert_float_equal(mixt_router_adapt(0.01, 0, 0.01), 0.0099, 1e-15);
    assert_float_equal(mixt_router_adapt(0.004, 0.02, 0.01), 0.99 * 0.004 + 0.01 * 0.004, 1e-15);
    assert_float_equal(mixt_router_adapt(0.01, 0.9, 0.01), 0.01, 1e-15);
}

static void what_cannot_work_together_is_refused(void **state)
{
    (void)state;
    const mixt_router_spec good = {8, 2, {.scale = 1, .balance_coefficient = 0.01}, NULL, NULL};
    static const char *const says[] = {"counts no choices",
                                       "needs one to begin with",
                                       "a selection bias",
                                       "no rate",
                                       "k best experts",
                                       "no groups",
                                       "not chosen",
                                       "balance_groups 3 does not divide 8 experts",
                                       "balance_groups 16 does not divide 8 experts",
                                       "balance_groups -2 does not divide 8 experts",
                                       "needs balance_groups, 2 or more",
                                       "counts choices, and Skywork's counts none",
                                       "device_balance_coefficient -1 is not 0 or more"};
    enum { BAD = sizeof says / sizeof *says };
    static const int groups[BAD] = {[7] = 3, 16, -2, 1, 4, 4};
    mixt_router_spec bad[BAD];
    for (int i = 0; i < BAD; i++) {
        bad[i] = good;
        bad[i].options.balance_groups = groups[i];
        bad[i].options.bias_update = i >= 2 && i < 7 ? MIXT_BIAS_QUANTILE : MIXT_BIAS_SIGN;
        bad[i].options.select_bias = i >= 3;
    }
    bad[0].options.balance = MIXT_BALANCE_SKYWORK;
    bad[0].options.balance_scope = MIXT_BALANCE_OVER_STEP;
    bad[1].options.adaptive_balance = true;
    bad[1].options.balance_coefficient = 0;
    bad[3].options.bias_rate = 0.001;
    bad[4].options.select = 1;
    bad[5].options.groups = 4;
    bad[5].options.groups_used = 2;
    bad[6].chosen = 8;
    bad[10].options.device_balance_coefficient = 0.05;
    bad[11].options.balance = MIXT_BALANCE_SKYWORK;
    bad[12].options.device_balance_coefficient = -1;
    assert_int_equal(mixt_router_check(&good, NULL), MIXT_OK);
    for (int i = 0; i < BAD; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        assert_int_equal(mixt_router_check(&bad[i], &error), MIXT_ERROR_ARGUMENT);
        if (strncmp(error.message, "router: ", 8) != 0 || strstr(error.message, says[i]) == NULL) {
            fail_msg("%d: '%s' does not say '%s'", i, error.message, says[i]);
        }
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Training */

typedef struct outcome {
    char hash[65];
    mixt_step_report last;
    double violation; /* mean of the last ten steps */
    double fullest;   /* share of the choices that the fullest of four groups has, the same */
} outcome;

/* Of four groups of experts, in the mean over the layers. */
static double fullest_group(const mixt_trainer *trainer)
{
    double mean = 0;
    int layers = trainer->graph->moe_layers, experts = trainer->model->options.experts;
    for (int layer = 0; layer < layers; layer++) {
        double groups[4] = {0}, most = 0, all = 0;
        for (int e = 0; e < experts; e++) {
            double count = (double)trainer->counts[layer * experts + e];
            groups[4 * e / experts] += count;
            most = fmax(most, groups[4 * e / experts]);
            all += count;
        }
        mean += most / all / layers;
    }
    return mean;
}

static outcome train(const mixt_model_options *model, bool recompute, int threads, int steps)
{
    train_setup s;
    outcome result = {{0}, {0}, 0, 0};
    train_setup_open(&s, threads, model);
    s.options.accumulation = 3;
    s.options.batch_size = 2;
    s.options.steps = steps;
    s.options.recompute = recompute;
    mixt_trainer *trainer = train_setup_trainer(&s);
    for (int i = 0; i < steps; i++) {
        result.last = train_setup_steps(trainer, 1);
        result.violation += i >= steps - 10 ? result.last.max_violation / 10 : 0;
        result.fullest += i >= steps - 10 ? fullest_group(trainer) / 10 : 0;
    }
    strcpy(result.hash, mixt_trainer_state_hash(trainer));
    mixt_trainer_free(trainer);
    train_setup_close(&s);
    return result;
}

/* Neither threads nor what is made again change a bit of it. */
static void runs_do_not_depend_on_threads(void **state)
{
    (void)state;
    char hashes[7][65];
    for (int i = 0; i < 7; i++) {
        mixt_model_options model = train_setup_model_options();
        mixt_router_options *r = &model.router;
        r->balance_coefficient = 0.01;
        r->balance_scope = i == 1   ? MIXT_BALANCE_OVER_STEP
                           : i == 2 ? MIXT_BALANCE_OVER_SEQUENCE
                                    : MIXT_BALANCE_OVER_BATCH;
        r->adaptive_balance = i == 3;
        r->bias_update = i == 4 ? MIXT_BIAS_QUANTILE : MIXT_BIAS_SIGN;
        r->balance_groups = i >= 5 ? 2 : 0;
        r->device_balance_coefficient = i == 5 ? 0.05 : i == 6 ? 0.1 : 0;
        outcome one = train(&model, false, 1, 4), other = train(&model, true, 3, 4);
        assert_string_equal(one.hash, other.hash);
        strcpy(hashes[i], one.hash);
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(hashes[i], hashes[j]);
        }
    }
}

/* Groups are measured without a coefficient too, and are evener with one; their experts need not
 * be. */
static void groups_balance_a_run(void **state)
{
    (void)state;
    outcome runs[3];
    for (int i = 0; i < 3; i++) {
        mixt_model_options model = train_setup_model_options();
        model.experts = 8;
        model.router.balance_coefficient = 0;
        model.router.balance_groups = i == 0 ? 0 : 4;
        model.router.device_balance_coefficient = i == 2 ? 0.05 : 0;
        runs[i] = train(&model, false, 1, 40);
        print_message("%d groups, coefficient %g: loss over them %.4f, the fullest has %.3f of the "
                      "choices, max violation %.3f\n",
                      model.router.balance_groups, model.router.device_balance_coefficient,
                      runs[i].last.device_balance_loss, runs[i].fullest, runs[i].violation);
    }
    assert_string_equal(runs[0].hash, runs[1].hash);
    assert_true(runs[0].last.device_balance_loss == 0 && runs[1].last.device_balance_loss > 0.5);
    assert_true(runs[2].fullest - 0.25 < (runs[1].fullest - 0.25) / 2);
}

static void quantiles_balance_a_run(void **state)
{
    (void)state;
    double violation[4];
    for (int i = 0; i < 4; i++) {
        mixt_model_options model = train_setup_model_options();
        model.experts = 8;
        model.router.score = MIXT_SCORE_SIGMOID;
        model.router.balance_coefficient = i == 1 ? 0.01 : 0;
        model.router.bias_rate = i == 2 ? 0.001 : 0;
        model.router.bias_update = i == 3 ? MIXT_BIAS_QUANTILE : MIXT_BIAS_SIGN;
        violation[i] = train(&model, false, 1, 40).violation;
    }
    print_message(
        "max violation, last 10 of 40 steps: nothing %.3f, loss 0.01 %.3f, rate 0.001 %.3f, "
        "quantiles %.3f\n",
        violation[0], violation[1], violation[2], violation[3]);
    assert_true(violation[3] < violation[0] && violation[3] < violation[1] &&
                violation[3] < violation[2]);
}

/* Drops are counted where there is a capacity, in training and in scores. */
static void drops_are_counted(void **state)
{
    (void)state;
    mixt_model_options model = train_setup_model_options();
    outcome free_of = train(&model, false, 1, 2);
    assert_true(free_of.last.dropped == 0 && free_of.last.max_violation > 0);
    assert_true(free_of.last.max_violation <= free_of.last.load_max_over_mean - 1 + 1e-12);
    model.router.capacity = model.router.evaluation_capacity = 0.5;
    outcome tight = train(&model, false, 1, 2);
    assert_true(tight.last.dropped >= 0.49 && tight.last.dropped < 0.9);
    train_setup s;
    train_setup_open(&s, 1, &model);
    mixt_score_row rows[3];
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(
        mixt_evaluate(s.context, s.model, s.data, false, 32, 0, rows, NULL, NULL, &error), MIXT_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rows[i].choices, rows[i].tokens * 2 * 2); /* 2 layers, 2 experts */
        assert_true(rows[i].dropped > 0 && rows[i].dropped < rows[i].choices);
    }
    assert_int_equal(rows[0].dropped + rows[1].dropped, rows[2].dropped);
    train_setup_close(&s);
}

/* The log has a layer's coefficient as the rule has it from what would have been dropped. */
static void coefficients_are_logged(void **state)
{
    (void)state;
    mixt_model_options model = train_setup_model_options();
    model.router.balance_coefficient = 0.02;
    model.router.adaptive_balance = true;
    model.router.balance_groups = 2;
    train_setup s;
    train_setup_open(&s, 1, &model);
    mixt_trainer *trainer = NULL;
    mixt_step_report report;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_trainer_create(s.context, s.model, s.data, s.tokenizer, &s.options, s.run,
                                         &trainer, &error),
                     MIXT_OK);
    assert_int_equal(mixt_trainer_step(trainer, &report, &error), MIXT_OK);
    double *now = mixt_balancer_coefficients(trainer);
    for (int layer = 0; layer < 2; layer++) {
        int64_t dropped = 0, all = 0, share = trainer->rows * 2 / 4;
        for (int e = 0; e < 4; e++) {
            int64_t count = trainer->counts[layer * 4 + e];
            dropped += count > share ? count - share : 0;
            all += count;
        }
        assert_float_equal(now[layer], mixt_router_adapt(0.02, (double)dropped / (double)all, 0.02),
                           1e-15);
    }
    char path[200], want[80], *text;
    size_t length;
    snprintf(path, sizeof path, "%s/log.jsonl", s.run);
    snprintf(want, sizeof want, "\"balance_coefficients\":[%.9g,%.9g]", now[0], now[1]);
    assert_int_equal(mixt_file_read(path, 1 << 20, &text, &length, NULL), MIXT_OK);
    assert_non_null(strstr(text, want));
    assert_non_null(strstr(text, "\"max_violation\":"));
    assert_null(strstr(text, "\"dropped\":"));
    snprintf(want, sizeof want, "\"device_balance\":%.9g,", report.device_balance_loss);
    assert_true(report.device_balance_loss > 0.5);
    assert_non_null(strstr(text, want));
    free(text);
    mixt_trainer_free(trainer);
    train_setup_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_are_those_of_others),
        cmocka_unit_test(device_losses_are_those_of_the_papers),
        cmocka_unit_test(quantiles_are_those_of_others),
        cmocka_unit_test(a_quantile_is_where_a_sort_has_it),
        cmocka_unit_test(quantiles_balance_what_is_chosen),
        cmocka_unit_test(groups_of_one_are_experts),
        cmocka_unit_test(coefficients_follow_drops),
        cmocka_unit_test(what_cannot_work_together_is_refused),
        cmocka_unit_test(runs_do_not_depend_on_threads),
        cmocka_unit_test(groups_balance_a_run),
        cmocka_unit_test(quantiles_balance_a_run),
        cmocka_unit_test(drops_are_counted),
        cmocka_unit_test(coefficients_are_logged),
    };
    return cmocka_run_group_tests(tests, route_start, route_stop);
}
