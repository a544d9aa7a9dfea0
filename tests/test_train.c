/* The trainer: schedules, data order, steps, evaluation, traces, benchmarks. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "atlas/load_log.h"
#include "core/files.h"
#include "difference.h"
#include "formats/json.h"
#include "train/log.h"
#include "train/schedule.h"
#include "train/trainer.h"
#include "train_setup.h"

#define PI 3.14159265358979323846

/* ------------------------------------------------------------------------------------------ */
/* Schedule                                                                                   */

static double rate(const mixt_train_options *options, int64_t step)
{
    mixt_schedule_point point = {step, (double)step, (double)options->warmup,
                                 (double)options->steps};
    return mixt_schedule_rate(options, &point);
}

static void schedules_match_closed_forms(void **state)
{
    (void)state;
    mixt_train_options o = mixt_train_options_default();
    o.steps = 110;
    o.warmup = 10;
    o.learning_rate = 2.0;
    o.minimum_rate = 0.1;
    for (int s = 0; s < 10; s++) {
        assert_float_equal(rate(&o, s), 2.0 * (s + 1) / 10, 1e-15);
    }
    for (int s = 10; s < 110; s++) {
        assert_float_equal(rate(&o, s), 0.2 + 0.9 * (1 + cos(PI * (s - 10) / 100.0)), 1e-12);
    }
    assert_float_equal(rate(&o, 60), 1.1, 1e-12); /* the middle of the cosine */
    o.schedule = MIXT_SCHEDULE_WSD;
    o.decay_fraction = 0.2; /* the last 22 steps, from 88 */
    for (int s = 10; s < 110; s++) {
        double expected = s <= 88 ? 2.0 : 2.0 - 1.8 * (s - 88) / 22.0;
        assert_float_equal(rate(&o, s), expected, 1e-12);
    }
    o.schedule = MIXT_SCHEDULE_CONSTANT;
    assert_float_equal(rate(&o, 109), 2.0, 0);
    o.warmup = 0;
    assert_float_equal(rate(&o, 0), 2.0, 0);
    o.warmup = 1000; /* a warm-up longer than the run never ends */
    assert_float_equal(rate(&o, 109), 2.0 * 110 / 1000, 1e-15);
    /* By time: half of what was left at the end of the warm-up is the middle of the cosine. */
    mixt_schedule_point point = {.step = 5000, .position = 60, .warm_end = 20, .end = 100};
    o.schedule = MIXT_SCHEDULE_COSINE;
    assert_float_equal(mixt_schedule_rate(&o, &point), 1.1, 1e-12);
    point.position = 130;
    assert_float_equal(mixt_schedule_rate(&o, &point), 0.2, 1e-12);
}

/* ------------------------------------------------------------------------------------------ */
/* Data order                                                                                 */

static void an_epoch_sees_every_window_once(void **state)
{
    (void)state;
    train_setup setup;
    train_setup_open(&setup, 1, NULL);
    mixt_order order;
    assert_int_equal(mixt_order_init(&order, setup.data, 3, 16, NULL), MIXT_OK);
    assert_true(order.windows > 20);
    int *seen = calloc(order.windows, sizeof *seen);
    int moved = 0;
    for (uint64_t i = 0; i < order.windows; i++) {
        uint64_t number = mixt_order_window(&order, 1, i);
        assert_true(number < order.windows);
        seen[number]++;
        moved += number != mixt_order_window(&order, 0, i);
    }
    for (uint64_t i = 0; i < order.windows; i++) {
        assert_int_equal(seen[i], 1);
    }
    assert_true(moved > 10); /* another epoch, another order */
    free(seen);
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_order_init(&order, setup.data, 3, 1 << 20, &error), MIXT_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "less than one window"));
    train_setup_close(&setup);
}

/* Walks the stream token by token and says what each row must hold. */
static void rows_respect_document_borders(void **state)
{
    (void)state;
    train_setup setup;
    train_setup_open(&setup, 1, NULL);
    mixt_order order;
    assert_int_equal(mixt_order_init(&order, setup.data, 3, 16, NULL), MIXT_OK);
    mixt_batch in;
    assert_int_equal(mixt_batch_create(32, 0, &in, NULL), MIXT_OK);
    int borders = 0;
    for (uint64_t w = 0; w < order.windows; w++) {
        int64_t counted = mixt_order_fill(&order, w, 16, &in);
        int first = 16, targets = 0;
        for (int row = 16; row < 32; row++) {
            size_t at = (size_t)w * 16 + (size_t)(row - 16);
            int32_t token = mixt_data_token(order.split, at);
            if (token == 256) { /* a separator begins a document */
                borders += row > 16;
                first = row;
            }
            bool end = at + 1 == order.split->token_count;
            assert_int_equal(in.tokens[row], token);
            assert_int_equal(in.first[row], first);
            assert_int_equal(in.last[row], row);
            assert_int_equal(in.positions[row], row - first);
            assert_int_equal(in.targets[row], end ? 256 : mixt_data_token(order.split, at + 1));
            targets += in.targets[row] >= 0;
        }
        assert_int_equal(counted, targets);
    }
    assert_true(borders > 10);
    mixt_batch_free(&in);
    train_setup_close(&setup);
}

/* ------------------------------------------------------------------------------------------ */
/* Steps                                                                                      */

typedef struct outcome {
    double first_loss, last_loss;
    char hash[65];
    float *weights;
    size_t count;
} outcome;

/* Trains a fresh model in a fresh folder to the end. */
static outcome train(const mixt_train_options *change, const mixt_model_options *model, int threads)
{
    outcome result = {0};
    train_setup setup;
    mixt_error error = MIXT_ERROR_INIT;
    train_setup_open(&setup, threads, model);
    mixt_trainer *trainer = NULL;
    if (mixt_trainer_create(setup.context, setup.model, setup.data, setup.tokenizer, change,
                            setup.run, &trainer, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    assert_null(mixt_trainer_resumed(trainer));
    while (!mixt_trainer_done(trainer)) {
        mixt_step_report report;
        if (mixt_trainer_step(trainer, &report, &error) != MIXT_OK) {
            fail_msg("%s", error.message);
        }
        assert_false(report.was_skipped);
        assert_true(report.gradient_norm > 0);
        result.first_loss = report.step == 1 ? report.loss : result.first_loss;
        result.last_loss = report.loss;
    }
    strcpy(result.hash, mixt_trainer_state_hash(trainer));
    mixt_trainer_free(trainer);
    result.count = setup.model->weight_count;
    result.weights = malloc(result.count * sizeof(float));
    memcpy(result.weights, mixt_model_block(setup.model), result.count * sizeof(float));
    train_setup_close(&setup);
    return result;
}

static mixt_train_options small_options(void)
{
    mixt_train_options options = mixt_train_options_default();
    options.steps = 6;
    options.batch_size = 2;
    options.window = 32;
    options.warmup = 2;
    options.learning_rate = 3e-3;
    options.checkpoint_seconds = 0;
    return options;
}

static void loss_goes_down(void **state)
{
    (void)state;
    mixt_train_options options = small_options();
    options.steps = 80;
    outcome result = train(&options, NULL, 1);
    assert_float_equal(result.first_loss, log(257), 0.1); /* nothing known yet */
    assert_true(result.last_loss < 2.6);
    free(result.weights);
}

static void threads_do_not_change_a_bit(void **state)
{
    (void)state;
    mixt_train_options options = small_options();
    outcome one = train(&options, NULL, 1), two = train(&options, NULL, 2);
    assert_string_equal(one.hash, two.hash);
    options.seed = 2;
    outcome other = train(&options, NULL, 1);
    assert_string_not_equal(one.hash, other.hash);
    free(one.weights);
    free(two.weights);
    free(other.weights);
}

static void recomputing_does_not_change_a_bit(void **state)
{
    (void)state;
    mixt_model_options model = train_setup_model_options();
    model.shared_experts = 1;
    model.leading_dense_layers = 1;
    mixt_train_options options = small_options();
    outcome kept = train(&options, &model, 1);
    options.recompute = true;
    outcome again = train(&options, &model, 1);
    assert_string_equal(kept.hash, again.hash);
    free(kept.weights);
    free(again.weights);
}

static double worst_difference(const outcome *a, const outcome *b)
{
    assert_int_equal(a->count, b->count);
    return test_largest_difference(a->weights, b->weights, a->count);
}

static void accumulation_equals_a_larger_batch(void **state)
{
    (void)state;
    mixt_model_options model = train_setup_model_options();
    /* The balance loss of a batch is not the mean of its halves' losses. */
    model.router.balance_coefficient = 0;
    mixt_train_options options = small_options();
    options.steps = 3;
    options.batch_size = 4;
    outcome whole = train(&options, &model, 1);
    options.batch_size = 2;
    options.accumulation = 2;
    outcome halves = train(&options, &model, 1);
    assert_float_equal(whole.last_loss, halves.last_loss, 1e-5);
    /* AdamW's first steps are as large as the rate whatever the gradient: 2 % of 3 steps. */
    assert_true(worst_difference(&whole, &halves) < 0.02 * 3 * 3e-3);
    free(whole.weights);
    free(halves.weights);
}

static void bf16_stays_close(void **state)
{
    (void)state;
    mixt_train_options options = small_options();
    outcome exact = train(&options, NULL, 1);
    options.bf16 = true;
    outcome bf16 = train(&options, NULL, 1);
    assert_string_not_equal(exact.hash, bf16.hash);
    assert_float_equal(exact.last_loss, bf16.last_loss, 0.02);
    free(exact.weights);
    free(bf16.weights);
}

typedef struct open_run {
    train_setup setup;
    mixt_trainer *trainer;
} open_run;

static void start_with(open_run *run, const mixt_model_options *model, int threads)
{
    train_setup_open(&run->setup, threads, model);
    run->trainer = train_setup_trainer(&run->setup);
}

static void start(open_run *run, const mixt_model_options *model)
{
    start_with(run, model, 1);
}

static void end(open_run *run)
{
    mixt_trainer_free(run->trainer);
    train_setup_close(&run->setup);
}

static mixt_step_report step(open_run *run)
{
    return train_setup_steps(run->trainer, 1);
}

/* Weights and both moments, one behind the other. */
static void read_blocks(const mixt_trainer *trainer, char *to)
{
    static const mixt_train_block blocks[] = {MIXT_TRAIN_WEIGHTS, MIXT_TRAIN_FIRST_MOMENTS,
                                              MIXT_TRAIN_SECOND_MOMENTS};
    for (size_t i = 0; i < 3; i++) {
        mixt_device_memory_read(mixt_train_memory(trainer, blocks[i]), 0,
                                to + i * trainer->block_bytes, trainer->block_bytes);
    }
}

static void nan_skips_the_step(void **state)
{
    (void)state;
    open_run run;
    start(&run, NULL);
    step(&run);
    mixt_model *model = run.setup.model;
    size_t bytes = model->weight_count * sizeof(float);
    int places[] = {mixt_model_find(model, MIXT_SLOT_Q, 0),
                    mixt_model_find(model, MIXT_SLOT_ROUTER, 1),
                    mixt_model_find(model, MIXT_SLOT_OUTPUT_NORM, -1)};
    float values[] = {NAN, INFINITY, -INFINITY};
    char *before = malloc(3 * bytes), *after = malloc(3 * bytes);
    for (int i = 0; i < 3; i++) {
        size_t place = model->parameters[places[i]].offset + 3;
        float good = mixt_model_block(model)[place];
        train_setup_poke(run.trainer, place, values[i]);
        read_blocks(run.trainer, before);
        mixt_step_report report = step(&run);
        assert_true(report.was_skipped);
        assert_int_equal(report.skipped, i + 1);
        assert_int_equal(report.step, 2 + 2 * i);
        read_blocks(run.trainer, after);
        assert_memory_equal(before, after, 3 * bytes);
        mixt_error error = MIXT_ERROR_INIT; /* and it never reaches a checkpoint */
        assert_int_equal(mixt_trainer_checkpoint(run.trainer, &error), MIXT_ERROR_NUMERIC);
        assert_non_null(strstr(error.message, "weights"));
        train_setup_poke(run.trainer, place, good);
        report = step(&run);
        assert_false(report.was_skipped);
        assert_true(isfinite(report.loss));
    }
    assert_int_equal(run.trainer->counters.updates, 4);
    free(before);
    free(after);
    end(&run);
}

static void endless_nan_ends_the_run(void **state)
{
    (void)state;
    open_run run;
    start(&run, NULL);
    run.trainer->options.steps = 1000;
    mixt_model *model = run.setup.model;
    train_setup_poke(run.trainer, model->parameters[mixt_model_find(model, MIXT_SLOT_Q, 0)].offset,
                     NAN);
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = MIXT_OK;
    int steps = 0;
    for (; steps < 200 && status == MIXT_OK; steps++) {
        mixt_step_report report;
        status = mixt_trainer_step(run.trainer, &report, &error);
    }
    assert_int_equal(status, MIXT_ERROR_NUMERIC);
    assert_int_equal(steps, MIXT_SKIPS_MAX);
    assert_non_null(strstr(error.message, "in a row"));
    end(&run);
}

static void frozen_routers_stay(void **state)
{
    (void)state;
    mixt_model_options options = train_setup_model_options();
    options.router.weights = MIXT_ROUTER_FROZEN;
    open_run run;
    start(&run, &options);
    const mixt_model *model = run.setup.model;
    const mixt_parameter *router = &model->parameters[mixt_model_find(model, MIXT_SLOT_ROUTER, 1)];
    const mixt_parameter *gate =
        &model->parameters[mixt_model_find(model, MIXT_SLOT_EXPERT_GATE, 1)];
    float before[128];
    float gate_before = mixt_model_block(model)[gate->offset];
    assert_int_equal(router->count, 128);
    memcpy(before, mixt_model_block(model) + router->offset, sizeof before);
    step(&run);
    step(&run);
    assert_memory_equal(before, mixt_model_block(model) + router->offset, sizeof before);
    assert_true(mixt_model_block(model)[gate->offset] != gate_before);
    end(&run);
}

static void selection_bias_follows_the_load(void **state)
{
    (void)state;
    mixt_model_options options = train_setup_model_options();
    options.router.bias_rate = 0.01;
    open_run run;
    start(&run, &options);
    mixt_step_report report = step(&run);
    for (int layer = 0; layer < 2; layer++) {
        const mixt_model *model = run.setup.model;
        const float *bias =
            mixt_model_block(model) +
            model->parameters[mixt_model_find(model, MIXT_SLOT_ROUTER_BIAS, layer)].offset;
        int64_t sum = 0;
        for (int e = 0; e < 4; e++) {
            int64_t load = run.trainer->counts[layer * 4 + e];
            double expected = load < 32 ? 0.01 : load > 32 ? -0.01 : 0.0; /* 64 tokens, 2 of 4 */
            assert_float_equal(bias[e], expected, 1e-8);
            sum += load;
        }
        assert_int_equal(sum, 128);
    }
    assert_true(report.load_max_over_mean >= 1);
    assert_true(report.effective_experts > 0 && report.effective_experts <= 1);
    end(&run);
}

static void weight_decay_spares_norms(void **state)
{
    (void)state;
    open_run run;
    start(&run, NULL);
    mixt_model *model = run.setup.model;
    /* With no gradient (all zero) only decay moves a weight. */
    mixt_device_memory_zero(mixt_train_memory(run.trainer, MIXT_TRAIN_GRADIENTS));
    run.trainer->options.weight_decay = 0.5;
    const mixt_parameter *norm = &model->parameters[mixt_model_find(model, MIXT_SLOT_FFN_NORM, 0)];
    const mixt_parameter *matrix = &model->parameters[mixt_model_find(model, MIXT_SLOT_Q, 0)];
    float n = mixt_model_block(model)[norm->offset], m = mixt_model_block(model)[matrix->offset];
    assert_int_equal(mixt_optimizer_step(run.trainer, 0.1, 1.0, NULL), MIXT_OK);
    assert_float_equal(mixt_model_block(model)[norm->offset], n, 0);
    assert_float_equal(mixt_model_block(model)[matrix->offset], m * 0.95f, 1e-7);
    end(&run);
}

/* The norm of the trainer's gradient block, which is filled by hand. */
static void gradient_norm_is_the_norm(void **state)
{
    (void)state;
    double norms[2];
    for (int threads = 1; threads <= 2; threads++) {
        open_run run;
        start_with(&run, NULL, threads);
        const mixt_device_memory *memory = mixt_train_memory(run.trainer, MIXT_TRAIN_GRADIENTS);
        size_t count = run.trainer->block_bytes / sizeof(float);
        float *values = malloc(run.trainer->block_bytes);
        double expected = 0, norm;
        for (size_t i = 0; i < count; i++) {
            values[i] = (float)((double)(i % 1013) - 500.0) * 1e-3f;
            expected += (double)values[i] * values[i];
        }
        mixt_device_memory_write(memory, 0, values, run.trainer->block_bytes);
        assert_int_equal(
            mixt_optimizer_norm(run.trainer, MIXT_TRAIN_GRADIENTS, &norms[threads - 1], NULL),
            MIXT_OK);
        assert_float_equal(norms[threads - 1], sqrt(expected), 1e-9);
        values[7] = NAN;
        mixt_device_memory_write(memory, 0, values, 8 * sizeof(float));
        mixt_optimizer_norm(run.trainer, MIXT_TRAIN_GRADIENTS, &norm, NULL);
        assert_true(isnan(norm));
        values[7] = 1e38f; /* does not overflow */
        mixt_device_memory_write(memory, 0, values, 8 * sizeof(float));
        mixt_optimizer_norm(run.trainer, MIXT_TRAIN_GRADIENTS, &norm, NULL);
        assert_float_equal(norm / 1e38, 1, 1e-6);
        free(values);
        end(&run);
    }
    assert_memory_equal(&norms[0], &norms[1], sizeof norms[0]);
}

/* Two documents in one window: what the first says must not reach the second. */
static void documents_do_not_see_each_other(void **state)
{
    (void)state;
    open_run run;
    start(&run, NULL);
    mixt_trainer *trainer = run.trainer;
    mixt_batch *in = &trainer->batches[0];
    in->rows = trainer->rows;
    float nll[2][64];
    for (int variant = 0; variant < 2; variant++) {
        for (int row = 0; row < 64; row++) {
            int place = row % 32, border = 12;
            int first = row - place + (place >= border ? border : 0);
            in->tokens[row] = place == 0 || place == border ? 256 : 60 + (row * 7) % 50;
            in->tokens[row] += variant == 1 && place == 5 ? 1 : 0;
            in->first[row] = first;
            in->last[row] = row;
            in->positions[row] = row - first;
            in->targets[row] = place + 1 < 32 ? 65 + row % 9 : -1;
        }
        mixt_step_sums sums = {.targets = 62};
        assert_int_equal(mixt_trainer_gradients(trainer, &sums, NULL), MIXT_OK);
        memcpy(nll[variant], mixt_instance_view(trainer->instance, trainer->graph->nll),
               sizeof nll[0]);
    }
    int changed = 0;
    for (int row = 0; row < 64; row++) {
        bool before = row % 32 < 12;
        if (!before || row % 32 < 5) {
            assert_memory_equal(&nll[0][row], &nll[1][row], sizeof(float));
        }
        changed += nll[0][row] != nll[1][row];
    }
    assert_true(changed >= 10); /* the first document did change */
    end(&run);
}

static void bad_options_are_refused_by_name(void **state)
{
    (void)state;
    train_setup setup;
    train_setup_open(&setup, 1, NULL);
    const char *const names[] = {"batch_size", "window",   "beta1", "epsilon",
                                 "clip",       "steps",    "clip",  "keep_checkpoints",
                                 "window",     "log_every"};
    mixt_train_options bad[sizeof names / sizeof *names];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bad[i] = setup.options;
    }
    bad[0].batch_size = 0;
    bad[1].window = 33;
    bad[2].beta1 = 1.0;
    bad[3].epsilon = 0.0;
    bad[4].clip = -1.0;
    bad[5].steps = 0;
    bad[6].clip = NAN;
    bad[7].keep_checkpoints = 1;
    bad[8].window = -1;
    bad[9].log_every = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        mixt_trainer *trainer = (mixt_trainer *)&setup;
        assert_int_equal(mixt_trainer_create(setup.context, setup.model, setup.data,
                                             setup.tokenizer, &bad[i], setup.run, &trainer, &error),
                         MIXT_ERROR_ARGUMENT);
        assert_null(trainer);
        assert_non_null(strstr(error.message, names[i]));
        assert_false(mixt_path_exists(setup.run)); /* nothing was made */
    }
    train_setup_close(&setup);
}

/* A run by time ends by itself and its rate falls to the minimum. */
static void time_ends_a_run(void **state)
{
    (void)state;
    open_run run;
    start(&run, NULL);
    run.trainer->options.seconds = 0.5;
    run.trainer->options.steps = 1;
    mixt_step_report report = {0};
    int64_t steps = 0;
    while (!mixt_trainer_done(run.trainer)) {
        double before = run.trainer->counters.seconds;
        report = step(&run);
        steps++;
        assert_true(run.trainer->counters.seconds > before);
    }
    assert_true(steps > 2);
    assert_true(run.trainer->counters.seconds >= 0.5);
    assert_true(report.learning_rate < 0.5 * 3e-3);
    assert_true(report.seconds_left == 0);
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_trainer_step(run.trainer, &report, &error), MIXT_ERROR_ARGUMENT);
    end(&run);
}

/* ------------------------------------------------------------------------------------------ */
/* Log                                                                                        */

static void the_log_has_a_line_for_each_step(void **state)
{
    (void)state;
    open_run run;
    start(&run, NULL);
    for (int i = 0; i < 3; i++) {
        step(&run);
    }
    char path[200], *text, *events;
    size_t length, event_length;
    snprintf(path, sizeof path, "%s/log.jsonl", run.setup.run);
    assert_int_equal(mixt_file_read(path, 1 << 20, &text, &length, NULL), MIXT_OK);
    int lines = 0;
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"), lines++) {
        json_t *object = json_loads(line, 0, NULL);
        assert_non_null(object);
        assert_int_equal(json_integer_value(json_object_get(object, "step")), lines + 1);
        assert_true(json_real_value(json_object_get(object, "loss")) > 1);
        assert_int_equal(json_integer_value(json_object_get(object, "tokens")), 64 * (lines + 1));
        json_decref(object);
    }
    assert_int_equal(lines, 3);
    free(text);
    assert_int_equal(mixt_log_sync(run.trainer->log, NULL), MIXT_OK);
    char **names;
    size_t count, found = 0;
    assert_int_equal(mixt_folder_list(run.setup.run, &names, &count, NULL), MIXT_OK);
    for (size_t i = 0; i < count; i++) {
        if (strncmp(names[i], "events.out.tfevents.", 20) != 0) {
            continue;
        }
        found++;
        snprintf(path, sizeof path, "%s/%s", run.setup.run, names[i]);
        assert_int_equal(mixt_file_read(path, 1 << 20, &events, &event_length, NULL), MIXT_OK);
        /* a record for the version and one for each step, each with this tag */
        int tags = 0;
        for (size_t at = 0; at + 9 < event_length; at++) {
            tags += memcmp(events + at, "grad_norm", 9) == 0;
        }
        assert_int_equal(tags, 3);
        free(events);
    }
    mixt_names_free(names, count);
    assert_int_equal(found, 1);
    end(&run);
}

/* load.jsonl has the step's counts of every expert. */
static void the_load_is_logged(void **state)
{
    (void)state;
    open_run run;
    start(&run, NULL);
    char path[200];
    mixt_load_log log;
    int64_t counts[2][8];
    size_t cells = (size_t)(run.trainer->graph->moe_layers * run.trainer->model->router.experts);
    assert_true(cells > 0 && cells <= 8);
    for (int i = 0; i < 2; i++) {
        step(&run);
        memcpy(counts[i], run.trainer->counts, cells * sizeof **counts);
    }
    snprintf(path, sizeof path, "%s", run.setup.run);
    assert_int_equal(mixt_load_log_read(path, &log, NULL), MIXT_OK);
    assert_int_equal(log.count, 2);
    assert_int_equal((size_t)(log.layers * log.experts), cells);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(log.lines[i].step, i + 1);
        assert_int_equal(log.lines[i].tokens, 64);
        assert_memory_equal(log.counts + log.lines[i].counts, counts[i], cells * sizeof **counts);
    }
    mixt_load_log_free(&log);
    end(&run);
}

static void evaluations_are_logged(void **state)
{
    (void)state;
    open_run run;
    start(&run, NULL);
    run.trainer->options.evaluate_every = 2;
    step(&run);
    step(&run);
    mixt_score_row rows[3];
    assert_int_equal(mixt_evaluate(run.setup.context, run.setup.model, run.setup.data, true, 32, 0,
                                   rows, NULL, NULL, NULL),
                     MIXT_OK);
    char path[200], *text;
    size_t length;
    snprintf(path, sizeof path, "%s/log.jsonl", run.setup.run);
    assert_int_equal(mixt_file_read(path, 1 << 20, &text, &length, NULL), MIXT_OK);
    const char *line = strstr(text, "{\"step\":2,\"heldout\":\"all\"");
    assert_non_null(line);
    json_t *object = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);
    assert_non_null(object);
    double bits = json_real_value(json_object_get(object, "bits_per_byte"));
    assert_float_equal(bits, rows[2].nats / log(2.0) / (double)rows[2].bytes, 1e-6);
    json_decref(object);
    free(text);
    end(&run);
}

/* Both losses of an evaluation are in the report, over at most so many tokens of each domain. */
static void evaluations_are_reported(void **state)
{
    (void)state;
    open_run run;
    start(&run, NULL);
    run.trainer->options.evaluate_every = 2;
    run.trainer->options.evaluate_tokens = 40;
    assert_false(step(&run).evaluated);
    mixt_step_report report = step(&run);
    assert_true(report.evaluated);
    for (int heldout = 0; heldout < 2; heldout++) {
        mixt_score_row rows[3];
        assert_int_equal(mixt_evaluate(run.setup.context, run.setup.model, run.setup.data, heldout,
                                       32, 40, rows, NULL, NULL, NULL),
                         MIXT_OK);
        double loss = heldout ? report.heldout_loss : report.train_loss;
        assert_true(rows[2].tokens <= 80);
        assert_float_equal(loss, rows[2].nats / (double)rows[2].tokens, 1e-12);
    }
    end(&run);
}

/* The part of the run that is done, in what ends it. */
static void share_is_of_what_ends_the_run(void **state)
{
    (void)state;
    open_run run;
    start(&run, NULL);
    run.trainer->options.steps = 8;
    assert_float_equal(step(&run).share, 1.0 / 8, 1e-12);
    assert_float_equal(step(&run).share, 2.0 / 8, 1e-12);
    run.trainer->options.seconds = 1e6;
    double share = step(&run).share;
    assert_true(share > 0);
    assert_float_equal(share, run.trainer->counters.seconds / 1e6, 1e-15);
    end(&run);
}

/* ------------------------------------------------------------------------------------------ */
/* Evaluation and traces                                                                      */

/* The same number by another way: a session that is fed the document token by token. */
static double session_nats(train_setup *setup, const mixt_data_split *split,
                           const mixt_data_document *document)
{
    mixt_session *session;
    double nats = 0;
    assert_int_equal(mixt_session_create(setup->context, setup->model, 32, &session, NULL),
                     MIXT_OK);
    for (size_t i = 0; i + 1 < document->length; i++) {
        int32_t token = mixt_data_token(split, document->start + i);
        int32_t next = mixt_data_token(split, document->start + i + 1);
        if (i % 32 == 0) {
            mixt_session_truncate(session, 0); /* a new window */
        }
        assert_int_equal(mixt_session_feed(session, &token, 1, NULL), MIXT_OK);
        const float *logits = mixt_session_logits(session);
        double sum = 0;
        for (int v = 0; v < 257; v++) {
            sum += exp(logits[v]);
        }
        nats += log(sum) - logits[next];
    }
    mixt_session_free(session);
    return nats;
}

static void evaluation_scores_every_token(void **state)
{
    (void)state;
    train_setup setup;
    train_setup_open(&setup, 2, NULL);
    for (int heldout = 0; heldout < 2; heldout++) {
        const mixt_data_split *split = mixt_data_split_of(setup.data, heldout != 0);
        double nats[3] = {0};
        uint64_t tokens[3] = {0}, bytes[3] = {0};
        for (size_t i = 0; i < split->document_count; i++) {
            const mixt_data_document *d = &split->documents[i];
            double n = session_nats(&setup, split, d);
            nats[d->domain] += n;
            nats[2] += n;
            tokens[d->domain] += d->length - 1;
            tokens[2] += d->length - 1;
            bytes[d->domain] += d->bytes;
            bytes[2] += d->bytes;
        }
        mixt_score_row rows[3];
        assert_int_equal(mixt_evaluate(setup.context, setup.model, setup.data, heldout != 0, 32, 0,
                                       rows, NULL, NULL, NULL),
                         MIXT_OK);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(rows[i].tokens, tokens[i]);
            assert_int_equal(rows[i].bytes, bytes[i]);
            assert_float_equal(rows[i].nats / nats[i], 1, 1e-5);
            assert_true((rows[i].domain == NULL) == (i == 2));
        }
        assert_int_equal(tokens[2], bytes[2]); /* every byte is a token here */
        assert_int_equal(mixt_evaluate(setup.context, setup.model, setup.data, heldout != 0, 32, 50,
                                       rows, NULL, NULL, NULL),
                         MIXT_OK);
        assert_int_equal(rows[0].tokens, 50);
        assert_int_equal(rows[0].bytes, 50);
        assert_int_equal(rows[2].tokens, 100);
    }
    mixt_error error = MIXT_ERROR_INIT;
    mixt_score_row rows[3];
    assert_int_equal(mixt_evaluate(setup.context, setup.model, setup.data, true, 33, 0, rows, NULL,
                                   NULL, &error),
                     MIXT_ERROR_ARGUMENT);
    train_setup_close(&setup);
}

static void a_trace_holds_what_a_session_routes(void **state)
{
    (void)state;
    train_setup setup;
    train_setup_open(&setup, 1, NULL);
    char path[200];
    snprintf(path, sizeof path, "%s/trace.safetensors", setup.folder);
    mixt_trace_options options = {
        .output = path, .model_name = "tiny", .window = 32, .heldout = true, .logits = true};
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_trace_write(setup.context, setup.model, setup.data, setup.tokenizer, &options, NULL,
                         NULL, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    mixt_trace *trace;
    if (mixt_trace_open(path, &trace, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    mixt_trace_info info;
    mixt_trace_describe(trace, &info);
    const mixt_data_split *split = mixt_data_split_of(setup.data, true);
    assert_int_equal(info.tokens, split->token_count - split->document_count);
    assert_int_equal(info.documents, split->document_count);
    assert_int_equal(info.layers, 2);
    assert_string_equal(info.model, "tiny");
    /* Shares of first choices in layer 1, from a session that is fed the same tokens. */
    double shares[4], expected[4] = {0};
    mixt_session *session;
    assert_int_equal(mixt_session_create(setup.context, setup.model, 32, &session, NULL), MIXT_OK);
    for (size_t i = 0; i < split->document_count; i++) {
        for (size_t j = 0; j < split->documents[i].length; j++) {
            int32_t token = mixt_data_token(split, split->documents[i].start + j);
            const int32_t *ids;
            const float *weights;
            if (j % 32 == 0) {
                mixt_session_truncate(session, 0);
            }
            assert_int_equal(mixt_session_feed(session, &token, 1, NULL), MIXT_OK);
            mixt_session_routes(session, &ids, &weights);
            expected[ids[2]] += token != 256;
        }
    }
    assert_int_equal(mixt_atlas_proportions(trace, 1, -1, 0, shares, &error), MIXT_OK);
    for (int e = 0; e < 4; e++) {
        assert_float_equal(shares[e], expected[e] / (double)info.tokens, 1e-12);
    }
    mixt_session_free(session);
    mixt_trace_free(trace);
    train_setup_close(&setup);
}

/* ------------------------------------------------------------------------------------------ */
/* Benchmarks                                                                                 */

static void bench_rows_are_there(void **state)
{
    (void)state;
    train_setup setup;
    train_setup_open(&setup, 1, NULL);
    size_t bytes = setup.model->weight_count * sizeof(float);
    char *before = malloc(bytes);
    memcpy(before, setup.model->weights, bytes);
    mixt_bench_options options = {.batch_size = 2,
                                  .window = 32,
                                  .prompt = 16,
                                  .generate = 4,
                                  .train = true,
                                  .operators = true,
                                  .repetitions = 2};
    mixt_bench_row *rows;
    size_t count;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_bench_run(setup.context, setup.model, &options, &rows, &count, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    const char *const wanted[] = {"train step", "experts", "attention", "adamw", "pp16", "tg4"};
    for (size_t w = 0; w < sizeof wanted / sizeof *wanted; w++) {
        int found = 0;
        double flops = 0; /* of its operators */
        for (size_t i = 0; i < count; i++) {
            found += strcmp(rows[i].name, wanted[w]) == 0;
            flops += strcmp(rows[i].direction, wanted[w]) == 0 ? rows[i].flops : 0;
            assert_true(rows[i].seconds > 0);
            assert_true(rows[i].tokens > 0);
            assert_true(rows[i].bytes > 0);
        }
        assert_int_equal(found, w == 1 || w == 2 ? 4 : 1); /* forward, backward, pp16, tg4 */
        for (size_t i = 0; i < count && flops > 0; i++) {
            if (strcmp(rows[i].name, wanted[w]) == 0) {
                assert_true(fabs(flops - rows[i].flops) <= 1e-9 * flops);
            }
        }
        assert_true(flops > 0 || w < 4);
    }
    assert_memory_equal(before, setup.model->weights, bytes); /* the weights stay */
    free(rows);
    free(before);
    train_setup_close(&setup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schedules_match_closed_forms),
        cmocka_unit_test(an_epoch_sees_every_window_once),
        cmocka_unit_test(rows_respect_document_borders),
        cmocka_unit_test(loss_goes_down),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(recomputing_does_not_change_a_bit),
        cmocka_unit_test(accumulation_equals_a_larger_batch),
        cmocka_unit_test(bf16_stays_close),
        cmocka_unit_test(nan_skips_the_step),
        cmocka_unit_test(endless_nan_ends_the_run),
        cmocka_unit_test(frozen_routers_stay),
        cmocka_unit_test(selection_bias_follows_the_load),
        cmocka_unit_test(weight_decay_spares_norms),
        cmocka_unit_test(gradient_norm_is_the_norm),
        cmocka_unit_test(documents_do_not_see_each_other),
        cmocka_unit_test(bad_options_are_refused_by_name),
        cmocka_unit_test(time_ends_a_run),
        cmocka_unit_test(the_log_has_a_line_for_each_step),
        cmocka_unit_test(the_load_is_logged),
        cmocka_unit_test(evaluations_are_logged),
        cmocka_unit_test(evaluations_are_reported),
        cmocka_unit_test(share_is_of_what_ends_the_run),
        cmocka_unit_test(evaluation_scores_every_token),
        cmocka_unit_test(a_trace_holds_what_a_session_routes),
        cmocka_unit_test(bench_rows_are_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
