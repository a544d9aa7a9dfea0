/* The trainer: one optimizer step over micro batches, on a plan. */
#include "train/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "train/log.h"
#include "train/options.h"
#include "train/schedule.h"

#define EVALUATE_TOKENS 65536 /* of each domain in an evaluation between steps */

double mixt_train_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ------------------------------------------------------------------------------------------ */
/* Making one                                                                                 */

static mixt_status check(const mixt_model *model, const mixt_train_options *options,
                         mixt_error *error)
{
    mixt_status status = mixt_train_options_check(options, error);
    if (status != MIXT_OK) {
        return status;
    }
    if (options->window > model->options.context_length) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "training: window %d is more than the model's context_length %d",
                         options->window, model->options.context_length);
    }
    if (model->routing != NULL) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "training: the model's routing was changed for running");
    }
    if ((double)options->batch_size * options->accumulation * options->window > 1e9) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "training: batch_size * accumulation * window is more than 10^9 tokens");
    }
    return MIXT_OK;
}

static mixt_status allocate(mixt_trainer *trainer, mixt_error *error)
{
    const mixt_model *model = trainer->model;
    const mixt_train_options *o = &trainer->options;
    size_t rows = (size_t)trainer->rows;
    size_t layers = (size_t)trainer->graph->moe_layers, experts = (size_t)model->options.experts;
    trainer->block_bytes = model->weight_count * sizeof(float);
    trainer->gradients = mixt_block_allocate(trainer->block_bytes);
    trainer->first_moments = mixt_block_allocate(trainer->block_bytes);
    trainer->second_moments = mixt_block_allocate(trainer->block_bytes);
    trainer->block_sums = calloc(model->weight_count / MIXT_NORM_BLOCK + 1, sizeof(double));
    trainer->rope = calloc((size_t)o->window * (size_t)model->options.rope.dims, sizeof(float));
    trainer->staged = calloc((size_t)o->accumulation * MIXT_INPUTS * rows, sizeof(int32_t));
    trainer->bound = calloc(MIXT_INPUTS * rows, sizeof(int32_t));
    trainer->counts = calloc(layers * experts + 1, sizeof(int64_t));
    if (trainer->gradients == NULL || trainer->first_moments == NULL ||
        trainer->second_moments == NULL || trainer->block_sums == NULL || trainer->rope == NULL ||
        trainer->staged == NULL || trainer->bound == NULL || trainer->counts == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY,
                         "training: no memory for %.1f GB of gradients and moments",
                         3e-9 * (double)trainer->block_bytes);
    }
    mixt_rope_table(model, o->window, sizeof(float), trainer->rope);
    return MIXT_OK;
}

void mixt_train_bind(mixt_instance *instance, const mixt_graph *graph, const mixt_model *model,
                     float *gradients)
{
    mixt_model_bind(model, graph, instance);
    for (int i = 0; gradients != NULL && i < model->parameter_count; i++) {
        mixt_value_id gradient = graph->plan->values[graph->parameters[i]].gradient;
        mixt_instance_bind(instance, gradient, gradients + model->parameters[i].offset);
    }
}

mixt_rows_input mixt_inputs_of(int32_t *block, int64_t rows)
{
    return (mixt_rows_input){
        block,           block + rows, block + 2 * rows, block + 3 * rows, block + 4 * rows,
        block + 5 * rows};
}

static void bind(mixt_trainer *trainer)
{
    const mixt_graph *graph = trainer->graph;
    mixt_rows_input input = mixt_inputs_of(trainer->bound, trainer->rows);
    mixt_instance *instance = trainer->instance;
    mixt_train_bind(instance, graph, trainer->model, trainer->gradients);
    mixt_instance_bind(instance, graph->tokens, input.tokens);
    mixt_instance_bind(instance, graph->positions, input.positions);
    mixt_instance_bind(instance, graph->first, input.first);
    mixt_instance_bind(instance, graph->last, input.last);
    mixt_instance_bind(instance, graph->targets, input.targets);
    if (graph->first_windowed != MIXT_NO_VALUE) {
        mixt_instance_bind(instance, graph->first_windowed, input.windowed);
    }
    mixt_instance_bind(instance, graph->scale, trainer->scale);
    mixt_instance_bind(instance, graph->rope, trainer->rope);
}

static mixt_status build(mixt_trainer *trainer, mixt_error *error)
{
    const mixt_train_options *o = &trainer->options;
    mixt_graph_options graph_options = {.phase = MIXT_PHASE_TRAIN,
                                        .capacity = trainer->rows,
                                        .window = o->window,
                                        .real_size = sizeof(float),
                                        .recompute = o->recompute};
    mixt_status status = mixt_graph_create(trainer->model, &graph_options, &trainer->graph, error);
    if (status == MIXT_OK) {
        status = mixt_instance_create(trainer->graph->plan, &mixt_backend_cpu_f32,
                                      trainer->context->compute, &trainer->instance, error);
    }
    if (status == MIXT_OK) {
        status = allocate(trainer, error);
    }
    if (status == MIXT_OK) {
        bind(trainer);
    }
    return status;
}

mixt_status mixt_trainer_make(mixt_context *context, mixt_model *model,
                              const mixt_train_options *options, mixt_trainer **result,
                              mixt_error *error)
{
    *result = NULL;
    mixt_status status = check(model, options, error);
    if (status == MIXT_OK) {
        status = mixt_model_load(model, error);
    }
    if (status != MIXT_OK) {
        return status;
    }
    mixt_trainer *trainer = calloc(1, sizeof *trainer);
    if (trainer == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "training: no memory");
    }
    *trainer = (mixt_trainer){.context = context,
                              .model = model,
                              .options = *options,
                              .rows = (int64_t)options->batch_size * options->window,
                              .created = mixt_train_time(),
                              .saved_step = -1};
    trainer->last_checkpoint = trainer->created;
    status = build(trainer, error);
    if (status != MIXT_OK) {
        mixt_trainer_free(trainer);
        return status;
    }
    *result = trainer;
    return MIXT_OK;
}

mixt_status mixt_trainer_create(mixt_context *context, mixt_model *model, const mixt_data *data,
                                const mixt_tokenizer *tokenizer, const mixt_train_options *options,
                                const char *folder, mixt_trainer **result, mixt_error *error)
{
    *result = NULL;
    if (mixt_data_vocab_size(data) > model->options.vocab_size) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "training: the data's tokenizer has %d ids, the model's vocab_size is %d",
                         mixt_data_vocab_size(data), model->options.vocab_size);
    }
    mixt_trainer *trainer;
    mixt_status status = mixt_trainer_make(context, model, options, &trainer, error);
    if (status != MIXT_OK) {
        return status;
    }
    trainer->data = data;
    trainer->tokenizer = tokenizer;
    trainer->folder = strdup(folder);
    status = trainer->folder == NULL
                 ? mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder)
                 : mixt_order_init(&trainer->order, data, options->seed, options->window, error);
    if (status == MIXT_OK) {
        status = mixt_state_open(trainer, error);
    }
    if (status == MIXT_OK) {
        status = mixt_log_open(folder, trainer->counters.step, &trainer->log, error);
    }
    if (status != MIXT_OK) {
        mixt_trainer_free(trainer);
        return status;
    }
    *result = trainer;
    return MIXT_OK;
}

void mixt_trainer_free(mixt_trainer *trainer)
{
    if (trainer == NULL) {
        return;
    }
    mixt_log_close(trainer->log);
    mixt_state_close(trainer);
    mixt_instance_free(trainer->instance);
    mixt_graph_free(trainer->graph);
    mixt_block_free(trainer->gradients, trainer->block_bytes);
    mixt_block_free(trainer->first_moments, trainer->block_bytes);
    mixt_block_free(trainer->second_moments, trainer->block_bytes);
    free(trainer->block_sums);
    free(trainer->rope);
    free(trainer->staged);
    free(trainer->bound);
    free(trainer->counts);
    free(trainer->resumed);
    free(trainer->folder);
    free(trainer);
}

/* ------------------------------------------------------------------------------------------ */
/* A step                                                                                     */

bool mixt_trainer_done(const mixt_trainer *trainer)
{
    const mixt_train_options *o = &trainer->options;
    return o->seconds > 0 ? trainer->counters.seconds >= o->seconds
                          : trainer->counters.step >= o->steps;
}

static double rate_of(const mixt_trainer *trainer)
{
    const mixt_train_options *o = &trainer->options;
    const mixt_counters *c = &trainer->counters;
    mixt_schedule_point point = {.step = c->step,
                                 .position = (double)c->step,
                                 .warm_end = (double)o->warmup,
                                 .end = (double)o->steps};
    if (o->seconds > 0) {
        point.position = c->seconds;
        point.warm_end = c->warm_end;
        point.end = o->seconds;
    }
    return mixt_schedule_rate(o, &point);
}

/* Inputs of all micro batches, moving (epoch, index) on; returns the rows with a target. */
static int64_t stage(mixt_trainer *trainer)
{
    mixt_counters *c = &trainer->counters;
    int64_t targets = 0;
    for (int micro = 0; micro < trainer->options.accumulation; micro++) {
        int32_t *block = trainer->staged + micro * MIXT_INPUTS * trainer->rows;
        mixt_rows_input input = mixt_inputs_of(block, trainer->rows);
        for (int w = 0; w < trainer->options.batch_size; w++) {
            uint64_t number = mixt_order_window(&trainer->order, c->epoch, c->index);
            targets += mixt_order_fill(&trainer->order, number,
                                       (int64_t)w * trainer->options.window, &input);
            if (++c->index == trainer->order.windows) {
                c->index = 0;
                c->epoch++;
            }
        }
    }
    return targets;
}

/* Adds what the plan left behind after a micro batch. */
static void collect(mixt_trainer *trainer, mixt_step_sums *sums)
{
    const mixt_graph *graph = trainer->graph;
    const float *nll = mixt_instance_data(trainer->instance, graph->nll);
    for (int64_t row = 0; row < trainer->rows; row++) {
        sums->nll += nll[row];
    }
    int experts = trainer->model->options.experts;
    for (int layer = 0; layer < graph->moe_layers; layer++) {
        const int32_t *counts = mixt_instance_data(trainer->instance, graph->routes[layer][2]);
        const float *losses = mixt_instance_data(trainer->instance, graph->routes[layer][7]);
        for (int e = 0; e < experts; e++) {
            trainer->counts[layer * experts + e] += counts[e];
        }
        sums->balance += losses[0];
        sums->z += losses[1];
        sums->broken += losses[2];
    }
}

mixt_status mixt_trainer_gradients(mixt_trainer *trainer, mixt_step_sums *sums, mixt_error *error)
{
    mixt_compute *compute = trainer->context->compute;
    mixt_matmul before = compute->matmul;
    int64_t rows = trainer->rows;
    int accumulation = trainer->options.accumulation;
    memset(trainer->gradients, 0, trainer->block_bytes);
    memset(trainer->counts, 0,
           (size_t)(trainer->graph->moe_layers * trainer->model->options.experts) *
               sizeof *trainer->counts);
    trainer->scale[0] = sums->targets > 0 ? (float)(1.0 / (double)sums->targets) : 0.0f;
    trainer->scale[1] = (float)(1.0 / accumulation);
    if (trainer->options.bf16) {
        compute->matmul = MIXT_MATMUL_BF16;
    }
    mixt_status status = MIXT_OK;
    for (int micro = 0; micro < accumulation && status == MIXT_OK; micro++) {
        memcpy(trainer->bound, trainer->staged + micro * MIXT_INPUTS * rows,
               (size_t)(MIXT_INPUTS * rows) * sizeof(int32_t));
        mixt_rows_input input = mixt_inputs_of(trainer->bound, rows);
        mixt_windowed_first(trainer->model, input.first, input.last, rows, input.windowed);
        status = mixt_instance_run(trainer->instance, rows, 0, trainer->graph->plan->record_count,
                                   error);
        if (status == MIXT_OK) {
            collect(trainer, sums);
        }
    }
    compute->matmul = before;
    if (status == MIXT_OK) {
        sums->gradient_norm = mixt_gradient_norm(compute, trainer->gradients,
                                                 trainer->model->weight_count, trainer->block_sums);
    }
    return status;
}

/* True where the step may be taken. The moments hold squares in fp32, so a gradient whose square
 * does not fit counts as infinite. */
static bool is_finite(const mixt_step_sums *sums, double gradient_scale)
{
    return isfinite(sums->nll) && isfinite(sums->balance) && isfinite(sums->z) &&
           sums->broken == 0 && isfinite(sums->gradient_norm) &&
           sums->gradient_norm * gradient_scale < 1e18;
}

static void fill_report(mixt_trainer *trainer, const mixt_step_sums *sums, double took,
                        mixt_step_report *report)
{
    const mixt_train_options *o = &trainer->options;
    const mixt_counters *c = &trainer->counters;
    double parts = (double)trainer->graph->moe_layers * o->accumulation;
    report->step = c->step;
    report->steps = o->steps;
    report->loss = sums->targets > 0 ? sums->nll / (double)sums->targets : 0;
    report->balance_loss = parts > 0 ? sums->balance / parts : 0;
    report->z_loss = parts > 0 ? sums->z / parts : 0;
    report->gradient_norm = sums->gradient_norm;
    report->tokens_per_second = (double)(trainer->rows * o->accumulation) / took;
    report->seconds = mixt_train_time() - trainer->created;
    double mean = c->seconds / (double)c->step; /* seconds of a step, so far */
    report->seconds_left = (double)(o->steps - c->step) * mean;
    if (o->seconds > 0) {
        report->seconds_left = o->seconds - c->seconds;
        report->steps = c->step + (int64_t)ceil(report->seconds_left / mean);
    }
    report->seconds_left = report->seconds_left > 0 ? report->seconds_left : 0;
    report->skipped = c->skipped;
    mixt_report_load(trainer, report);
}

/* Held-out scores of the weights as they are now, into the log. */
static mixt_status evaluate(mixt_trainer *trainer, mixt_error *error)
{
    int domains = mixt_data_domain_count(trainer->data);
    if (mixt_data_tokens(trainer->data, true) == 0) {
        return MIXT_OK;
    }
    mixt_score_row *rows = calloc((size_t)domains + 1, sizeof *rows);
    mixt_status status = rows == NULL ? mixt_fail(error, MIXT_ERROR_MEMORY, "evaluation: no memory")
                                      : mixt_evaluate(trainer->context, trainer->model,
                                                      trainer->data, true, trainer->options.window,
                                                      EVALUATE_TOKENS, rows, NULL, NULL, error);
    if (status == MIXT_OK) {
        status = mixt_log_scores(trainer->log, trainer->counters.step, rows, domains + 1, error);
    }
    free(rows);
    return status;
}

/* Log line, evaluation and checkpoint where they are due. */
static mixt_status afterwards(mixt_trainer *trainer, const mixt_step_report *report,
                              mixt_error *error)
{
    const mixt_train_options *o = &trainer->options;
    const mixt_counters *c = &trainer->counters;
    bool done = mixt_trainer_done(trainer);
    mixt_status status = MIXT_OK;
    if (done || report->was_skipped || c->step % o->log_every == 0) {
        status = mixt_log_step(trainer->log, report, c->tokens, error);
    }
    bool score = o->evaluate_every > 0 && c->step % o->evaluate_every == 0;
    if (status == MIXT_OK && score && !report->was_skipped) {
        status = evaluate(trainer, error);
    }
    bool late = o->checkpoint_seconds > 0 &&
                mixt_train_time() - trainer->last_checkpoint >= o->checkpoint_seconds;
    bool due = done || late || (o->checkpoint_every > 0 && c->step % o->checkpoint_every == 0);
    if (status == MIXT_OK && due) {
        status = mixt_trainer_checkpoint(trainer, error);
    }
    if (status == MIXT_OK && c->skipped_in_row >= MIXT_SKIPS_MAX) {
        status = mixt_fail(error, MIXT_ERROR_NUMERIC,
                           "%s: %d steps in a row gave NaN or Inf, the last is step %lld",
                           trainer->folder, MIXT_SKIPS_MAX, (long long)c->step);
    }
    return status;
}

mixt_status mixt_trainer_step(mixt_trainer *trainer, mixt_step_report *report, mixt_error *error)
{
    *report = (mixt_step_report){0};
    if (mixt_trainer_done(trainer)) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: the run has ended at step %lld",
                         trainer->folder, (long long)trainer->counters.step);
    }
    double begin = mixt_train_time();
    mixt_counters *c = &trainer->counters;
    mixt_counters before = *c;
    mixt_step_sums sums = {.targets = stage(trainer)};
    mixt_status status = mixt_trainer_gradients(trainer, &sums, error);
    if (status != MIXT_OK) {
        *c = before;
        return status;
    }
    const mixt_train_options *o = &trainer->options;
    double scale = o->clip > 0 && sums.gradient_norm > o->clip ? o->clip / sums.gradient_norm : 1.0;
    report->learning_rate = rate_of(trainer);
    report->was_skipped = !is_finite(&sums, scale);
    if (report->was_skipped) {
        c->skipped++;
        c->skipped_in_row++;
    } else {
        mixt_optimizer_step(trainer, report->learning_rate, scale);
        mixt_optimizer_bias(trainer);
        c->updates++;
        c->skipped_in_row = 0;
    }
    c->step++;
    c->tokens += trainer->rows * o->accumulation;
    double took = mixt_train_time() - begin;
    c->seconds += took;
    if (c->step <= o->warmup) {
        c->warm_end = c->seconds;
    }
    fill_report(trainer, &sums, took, report);
    return afterwards(trainer, report, error);
}

const char *mixt_trainer_resumed(const mixt_trainer *trainer)
{
    return trainer->resumed;
}
