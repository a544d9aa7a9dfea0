/* The trainer: one optimizer step over micro batches, on a plan. */
#include "train/trainer.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model/adapters.h"
#include "train/log.h"
#include "train/options.h"
#include "train/schedule.h"

double mixt_train_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ------------------------------------------------------------------------------------------ */
/* Making one                                                                                 */

/* A part that is named has something to learn. */
static mixt_status check_parts(const mixt_model *model, int64_t parts, mixt_error *error)
{
    for (int i = 0; parts != MIXT_PART_ALL && mixt_train_part_name(i) != NULL; i++) {
        int64_t part = (int64_t)1 << i;
        if ((parts & part) != 0 && mixt_model_learning(model, part) == 0) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                             "training: parts: the model has nothing of %s that learns",
                             mixt_train_part_name(i));
        }
    }
    return MIXT_OK;
}

/* What the options say of adapters; rank 0: there are none. */
static mixt_adapters adapters_of(const mixt_train_options *options)
{
    mixt_adapters none = {0};
    return options->lora_rank == 0
               ? none
               : (mixt_adapters){
                     .rank = options->lora_rank,
                     .alpha = options->lora_alpha > 0 ? options->lora_alpha : options->lora_rank,
                     .targets = options->lora_targets != 0 ? options->lora_targets : MIXT_LORA_ALL,
                     .base = (char *)options->lora_base};
}

/* The parts that learn beside the adapters, or without any. */
static int64_t parts_of(const mixt_train_options *options)
{
    int64_t parts = options->parts != 0 ? options->parts : MIXT_PART_ALL;
    return options->lora_rank == 0 ? parts : parts == MIXT_PART_ALL ? 0 : parts;
}

static mixt_status check_adapters(const mixt_model *model, const mixt_train_options *options,
                                  mixt_error *error)
{
    mixt_adapters adapters = adapters_of(options);
    if (adapters.rank == 0 && (options->lora_alpha != 0 || options->lora_targets != 0)) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "training: %s: of adapters, which lora_rank makes",
                         options->lora_alpha != 0 ? "lora_alpha" : "lora_targets");
    }
    if (adapters.rank == 0 && model->adapters != NULL) {
        return mixt_fail(
            error, MIXT_ERROR_ARGUMENT,
            "training: the model has adapters of rank %d, which lora_rank goes on with",
            model->adapters->rank);
    }
    if (adapters.rank == 0) {
        return MIXT_OK;
    }
    if ((parts_of(options) & MIXT_PART_EXPERTS) != 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "training: parts: experts stay as they are under adapters (lora_rank)");
    }
    return mixt_adapters_check(model, &adapters, error);
}

mixt_status mixt_trainer_check(const mixt_model *model, const mixt_train_options *options,
                               mixt_error *error)
{
    MIXT_TRY(mixt_train_options_check(options, error));
    if (options->window > model->options.context_length) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "training: window %d is more than the model's context_length %d",
                         options->window, model->options.context_length);
    }
    if (model->options.experts > 0) {
        MIXT_TRY(mixt_router_check_training(&model->router, error));
    }
    if (model->routing != NULL) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "training: the model's routing was changed for running");
    }
    MIXT_TRY(check_adapters(model, options, error));
    MIXT_TRY(mixt_train_check_ranks(model, options, error));
    MIXT_TRY(check_parts(model, parts_of(options), error));
    if ((double)options->batch_size * options->accumulation * options->window > 1e9) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "training: batch_size * accumulation * window is more than 10^9 tokens");
    }
    return MIXT_OK;
}

mixt_status mixt_train_check(const mixt_model_options *model, const mixt_train_options *options,
                             mixt_error *error)
{
    mixt_model *layout;
    MIXT_TRY(mixt_model_layout(model, NULL, "model", &layout, error));
    mixt_status status = mixt_trainer_check(layout, options, error);
    mixt_model_free(layout);
    return status;
}

static mixt_status allocate(mixt_trainer *trainer, mixt_error *error)
{
    const mixt_model *model = trainer->model;
    const mixt_backend *backend = mixt_device_backend(&trainer->context->device, sizeof(float));
    size_t layers = (size_t)trainer->graph->moe_layers, experts = (size_t)model->router.experts;
    MIXT_TRY(mixt_train_meet(trainer, error));
    MIXT_TRY(mixt_train_blocks_create(trainer, error));
    trainer->counts = calloc(layers * experts + 1, sizeof(int64_t));
    trainer->batches = calloc((size_t)trainer->runs, sizeof *trainer->batches);
    if (trainer->counts == NULL || trainer->batches == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "training: no memory");
    }
    for (int i = 0; i < trainer->runs; i++) {
        MIXT_TRY(mixt_batch_create(trainer->rows, 0, &trainer->batches[i], error));
    }
    return mixt_rope_create(model, backend, trainer->options.window, &trainer->rope, error);
}

static mixt_status bind(mixt_trainer *trainer, mixt_error *error)
{
    const mixt_graph *graph = trainer->graph;
    const mixt_model *model = trainer->model;
    mixt_instance *instance = trainer->instance;
    for (int i = 0; i < model->parameter_count; i++) {
        mixt_value_id gradient = graph->plan->values[graph->parameters[i]].gradient;
        if (gradient != MIXT_NO_VALUE) {
            mixt_instance_bind(instance, gradient, mixt_train_memory(trainer, MIXT_TRAIN_GRADIENTS),
                               mixt_train_place(trainer, MIXT_TRAIN_GRADIENTS, i) * sizeof(float));
        }
    }
    mixt_instance_bind(instance, graph->rope, &trainer->rope, 0);
    return mixt_weights_bind(trainer->weights, graph, instance, error);
}

static mixt_status build(mixt_trainer *trainer, mixt_error *error)
{
    const mixt_train_options *o = &trainer->options;
    mixt_graph_options graph_options = {.phase = MIXT_PHASE_TRAIN,
                                        .capacity = trainer->rows,
                                        .window = o->window,
                                        .real_size = sizeof(float),
                                        .recompute = o->recompute,
                                        .exact_reduce = o->exact_reduce};
    if (o->bf16) {
        mixt_context_prepare_bf16(trainer->context);
    }
    MIXT_TRY(mixt_graph_create(trainer->model, &graph_options, &trainer->graph, error));
    MIXT_TRY(allocate(trainer, error));
    MIXT_TRY(mixt_instance_create(trainer->graph->plan, &trainer->context->device,
                                  mixt_train_matmul(trainer), &trainer->instance, error));
    MIXT_TRY(
        mixt_weights_create(trainer->model, &trainer->context->device, &trainer->weights, error));
    MIXT_TRY(bind(trainer, error));
    MIXT_TRY(mixt_balancer_create(trainer, error));
    MIXT_TRY(mixt_redraw_create(trainer, error));
    return mixt_optimizer_create(trainer, error);
}

mixt_status mixt_trainer_make(mixt_context *context, mixt_model *model,
                              const mixt_train_options *asked, mixt_trainer **result,
                              mixt_error *error)
{
    *result = NULL;
    const mixt_adapters adapters = adapters_of(asked);
    mixt_train_options chosen = *asked, *options = &chosen;
    MIXT_TRY(mixt_trainer_check(model, options, error));
    MIXT_TRY(mixt_train_options_choose(&model->options, options, NULL, error));
    MIXT_TRY(adapters.rank > 0 ? mixt_adapters_add(model, &adapters, options->seed, error)
                               : mixt_model_load(model, error));
    mixt_trainer *trainer = calloc(1, sizeof *trainer);
    if (trainer == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "training: no memory");
    }
    int64_t parts = parts_of(options) | (adapters.rank > 0 ? MIXT_PART_ADAPTERS : 0);
    mixt_parameters_train(model, parts);
    *trainer = (mixt_trainer){.context = context,
                              .model = model,
                              .options = *options,
                              .rows = (int64_t)options->batch_size * options->window,
                              .block_bytes = model->weight_count * sizeof(float),
                              .created = mixt_train_time(),
                              .saved_step = -1};
    trainer->options.parts = parts;
    trainer->options.lora_alpha = adapters.alpha;
    trainer->options.lora_targets = adapters.targets;
    if (options->momentum == 0) {
        trainer->options.momentum = MIXT_TRAIN_MOMENTUM;
    }
    if (options->muon_steps == 0) {
        trainer->options.muon_steps = MIXT_TRAIN_MUON_STEPS;
    }
    trainer->last_checkpoint = trainer->created;
    mixt_status status = build(trainer, error);
    if (status != MIXT_OK) {
        mixt_trainer_free(trainer);
        return status;
    }
    *result = trainer;
    return MIXT_OK;
}

/* What goes wrong on one rank ends all. */
static mixt_status agree(const mixt_model *model, mixt_status status, mixt_error *error)
{
    return model->ranks != NULL ? mixt_ranks_agree(model->ranks, status, error) : status;
}

mixt_status mixt_trainer_create(mixt_context *context, mixt_model *model, const mixt_data *data,
                                const mixt_tokenizer *tokenizer, const mixt_train_options *options,
                                const char *folder, mixt_trainer **result, mixt_error *error)
{
    *result = NULL;
    MIXT_TRY(mixt_data_check_ids(data, model->options.vocab_size, error));
    mixt_trainer *trainer = NULL;
    mixt_train_options settled = *options;
    MIXT_TRY(mixt_train_settle(model, folder, &settled, error));
    mixt_status status = mixt_trainer_make(context, model, &settled, &trainer, error);
    status = agree(model, status, error);
    if (status != MIXT_OK) {
        mixt_trainer_free(trainer);
        return status;
    }
    trainer->data = data;
    trainer->tokenizer = tokenizer;
    trainer->folder = strdup(folder);
    status = trainer->folder == NULL
                 ? mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder)
                 : mixt_order_init(&trainer->order, data, options->seed, options->window, error);
    status = agree(model, status, error);
    if (status == MIXT_OK) {
        status = mixt_train_compare(trainer, error);
    }
    if (status == MIXT_OK) {
        status = agree(model, mixt_state_open(trainer, error), error);
    }
    if (status == MIXT_OK && mixt_train_leads(trainer)) {
        status = mixt_log_open(folder, trainer->counters.step, trainer->graph->moe_layers > 0,
                               &trainer->log, error);
    }
    status = agree(model, status, error);
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
    mixt_optimizer_free(trainer->optimizer);
    mixt_balancer_free(trainer->balancer);
    mixt_instance_free(trainer->instance);
    mixt_graph_free(trainer->graph);
    mixt_weights_free(trainer->weights);
    mixt_train_blocks_free(trainer);
    mixt_train_slices_free(trainer);
    mixt_train_leave(trainer);
    mixt_device_memory_free(&trainer->rope);
    for (int i = 0; trainer->batches != NULL && i < trainer->runs; i++) {
        mixt_batch_free(&trainer->batches[i]);
    }
    free(trainer->batches);
    free(trainer->counts);
    free(trainer->first_draw);
    free(trainer->step_draw);
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

int64_t mixt_trainer_steps(const mixt_trainer *trainer)
{
    return trainer->counters.step;
}

mixt_optimizer_kind mixt_trainer_optimizer(const mixt_trainer *trainer)
{
    return trainer->options.optimizer;
}

uint64_t mixt_trainer_learning(const mixt_trainer *trainer, int64_t parts)
{
    int64_t learning = parts & trainer->options.parts;
    return learning != 0 ? mixt_model_learning(trainer->model, learning) : 0;
}

uint64_t mixt_trainer_values(const mixt_trainer *trainer)
{
    const mixt_model *model = trainer->model;
    uint64_t count = 0;
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        count += mixt_slot_is_adapter(p->slot) ? 0 : mixt_parameter_whole(model, p);
    }
    return count;
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

/* Inputs of this rank's micro batches, moving (epoch, index) on over all; *targets: the rows with
 * one, of all. */
static mixt_status stage(mixt_trainer *trainer, int64_t *targets, mixt_error *error)
{
    mixt_counters *c = &trainer->counters;
    *targets = 0;
    for (int micro = 0, run = 0; micro < trainer->options.accumulation; micro++) {
        mixt_batch *batch = NULL;
        if (run < trainer->runs && micro == mixt_train_micro(trainer, run)) {
            batch = &trainer->batches[run++];
            batch->rows = trainer->rows;
        }
        for (int w = 0; w < trainer->options.batch_size; w++) {
            if (batch != NULL) {
                uint64_t number = mixt_order_window(&trainer->order, c->epoch, c->index);
                *targets += mixt_order_fill(&trainer->order, number,
                                            (int64_t)w * trainer->options.window, batch);
            }
            if (++c->index == trainer->order.windows) {
                c->index = 0;
                c->epoch++;
            }
        }
    }
    return mixt_train_add(trainer, targets, error);
}

/* Adds what the plan left behind after a micro batch. */
static void collect(mixt_trainer *trainer, int run, mixt_step_sums *sums)
{
    const mixt_graph *graph = trainer->graph;
    const float *nll = mixt_instance_view(trainer->instance, graph->nll);
    for (int64_t row = 0; row < trainer->rows; row++) {
        sums->nll += nll[row];
    }
    for (int layer = 0; layer < graph->moe_layers; layer++) {
        mixt_route route;
        mixt_instance_route(trainer->instance, &graph->routes[layer], &route);
        for (int e = 0; e < route.experts; e++) {
            trainer->counts[layer * route.experts + e] += route.counts[e];
            sums->choices += route.counts[e];
            sums->dropped += route.counts[e];
        }
        sums->dropped -= route.offsets[route.experts];
        sums->balance += route.losses[ROUTE_LOSS_BALANCE];
        sums->device += route.losses[ROUTE_LOSS_DEVICE];
        sums->z += route.losses[ROUTE_LOSS_Z];
        sums->broken += mixt_route_broken(&route, NULL);
        mixt_balancer_collect(trainer, layer, run, &route);
    }
}

/* Which random numbers the micro batch draws. */
static void write_draw(mixt_trainer *trainer, int micro)
{
    int32_t draw[MIXT_DRAWS] = {
        [MIXT_DRAW_SEED_LOW] = (int32_t)(uint32_t)trainer->options.seed,
        [MIXT_DRAW_SEED_HIGH] = (int32_t)(uint32_t)(trainer->options.seed >> 32),
        [MIXT_DRAW_STEP] = (int32_t)(uint32_t)trainer->counters.step,
        [MIXT_DRAW_BATCH] = micro,
    };
    mixt_instance_write(trainer->instance, trainer->graph->draw, draw, sizeof draw);
}

static mixt_status run_batch(mixt_trainer *trainer, int run, mixt_error *error)
{
    const mixt_graph *graph = trainer->graph;
    assert(trainer->batches[run].rows == trainer->rows);
    write_draw(trainer, mixt_train_micro(trainer, run));
    mixt_batch_write(&trainer->batches[run], graph, trainer->instance);
    return mixt_instance_run(trainer->instance, trainer->rows, 0, graph->plan->record_count, error);
}

/* The same with ranks: what it left behind goes to all of them at the step's end. */
static mixt_status run_together(mixt_trainer *trainer, int run, mixt_error *error)
{
    bool exact = trainer->options.exact_reduce, last = run + 1 == trainer->runs;
    if (exact) {
        mixt_train_clear_run(trainer);
    }
    MIXT_TRY(run_batch(trainer, run, error));
    trainer->micro[run] = (mixt_step_sums){0};
    collect(trainer, run, &trainer->micro[run]);
    return exact || last ? mixt_train_reduce(trainer, last, error) : MIXT_OK;
}

mixt_status mixt_trainer_gradients(mixt_trainer *trainer, mixt_step_sums *sums, mixt_error *error)
{
    const mixt_graph *graph = trainer->graph;
    size_t counts = (size_t)(graph->moe_layers * trainer->model->router.experts);
    float scale[2] = {sums->targets > 0 ? (float)(1.0 / (double)sums->targets) : 0.0f,
                      (float)(1.0 / trainer->options.accumulation)};
    mixt_status status = MIXT_OK;
    memset(trainer->counts, 0, counts * sizeof *trainer->counts);
    mixt_train_clear(trainer);
    mixt_instance_write(trainer->instance, graph->scale, scale, sizeof scale);
    mixt_balancer_begin(trainer);
    mixt_redraw_begin(trainer);
    for (int run = 0; run < trainer->runs && status == MIXT_OK; run++) {
        if (trainer->ranks != NULL) {
            status = run_together(trainer, run, error);
            continue;
        }
        status = run_batch(trainer, run, error);
        if (status == MIXT_OK) {
            collect(trainer, run, sums);
        }
    }
    mixt_redraw_end(trainer);
    MIXT_TRY(status);
    if (trainer->ranks != NULL) {
        MIXT_TRY(mixt_train_gather(trainer, sums, error));
    }
    return mixt_optimizer_norm(trainer, MIXT_TRAIN_GRADIENTS, &sums->gradient_norm, error);
}

/* True where the step may be taken. The moments hold squares in fp32, so a gradient whose square
 * does not fit counts as infinite. */
static bool is_finite(const mixt_step_sums *sums, double gradient_scale)
{
    return isfinite(sums->nll) && isfinite(sums->balance) && isfinite(sums->device) &&
           isfinite(sums->z) && sums->broken == 0 && isfinite(sums->gradient_norm) &&
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
    report->device_balance_loss = parts > 0 ? sums->device / parts : 0;
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
    double share = o->seconds > 0 ? c->seconds / o->seconds : (double)c->step / (double)o->steps;
    report->share = share < 1 ? share : 1;
    report->skipped = c->skipped;
    report->dropped = sums->choices > 0 ? (double)sums->dropped / (double)sums->choices : 0;
    mixt_report_load(trainer, report);
}

/* Most tokens of a domain in either part: of the training documents no more are scored than of the
 * held-out ones, which are fewer. */
static uint64_t tokens_to_score(const mixt_trainer *trainer)
{
    uint64_t most = 0, limit = (uint64_t)trainer->options.evaluate_tokens;
    for (int i = 0; i < mixt_data_domain_count(trainer->data); i++) {
        uint64_t tokens, bytes;
        mixt_data_domain_size(trainer->data, true, i, &tokens, &bytes);
        most = tokens > most ? tokens : most;
    }
    return limit > 0 && limit < most ? limit : most;
}

static double mean_loss(const mixt_score_row *row)
{
    return row->tokens > 0 ? row->nats / (double)row->tokens : 0;
}

/* Scores of the weights as they are now, into report and log. They draw no random number and change
 * nothing that a step reads. */
static mixt_status score(mixt_trainer *trainer, mixt_step_report *report, mixt_error *error)
{
    int domains = mixt_data_domain_count(trainer->data);
    mixt_score_row *rows = calloc((size_t)domains + 1, sizeof *rows);
    mixt_status status =
        rows == NULL ? mixt_fail(error, MIXT_ERROR_MEMORY, "evaluation: no memory") : MIXT_OK;
    for (int heldout = 0; heldout < 2 && status == MIXT_OK; heldout++) {
        status = mixt_evaluate(trainer->context, trainer->model, trainer->data, heldout,
                               trainer->options.window, tokens_to_score(trainer), rows, NULL, NULL,
                               error);
        *(heldout ? &report->heldout_loss : &report->train_loss) = mean_loss(&rows[domains]);
    }
    if (status == MIXT_OK) {
        report->evaluated = true;
        status = mixt_log_scores(trainer->log, trainer->counters.step, rows, domains + 1, error);
    }
    if (status == MIXT_OK) {
        status = mixt_log_losses(trainer->log, report, error);
    }
    free(rows);
    return status;
}

/* Rank 0 scores; the others give it their experts, or wait, and get the losses. */
static mixt_status score_together(mixt_trainer *trainer, mixt_step_report *report,
                                  mixt_error *error)
{
    mixt_model *model = trainer->model;
    bool spread = model->ranks != NULL && model->ranks->expert > 1;
    int64_t scored = 1; /* which may take longer than a rank lets others wait */
    mixt_status status;
    if (mixt_train_leads(trainer)) {
        status = score(trainer, report, error);
        mixt_status dismissed = spread ? mixt_model_dismiss(model, error) : MIXT_OK;
        status = status == MIXT_OK ? dismissed : status;
        MIXT_TRY(mixt_train_share(trainer, &scored, sizeof scored, error));
    } else {
        status = spread ? mixt_model_work(trainer->context, model, error) : MIXT_OK;
        MIXT_TRY(mixt_ranks_await(trainer->ranks, &scored, sizeof scored, error));
    }
    MIXT_TRY(mixt_ranks_agree(trainer->ranks, status, error));
    double losses[] = {report->train_loss, report->heldout_loss};
    MIXT_TRY(mixt_train_share(trainer, losses, sizeof losses, error));
    report->train_loss = losses[0];
    report->heldout_loss = losses[1];
    report->evaluated = true;
    return MIXT_OK;
}

static mixt_status evaluate(mixt_trainer *trainer, mixt_step_report *report, mixt_error *error)
{
    if (mixt_data_tokens(trainer->data, true) == 0) {
        return MIXT_OK;
    }
    return mixt_train_ranks(trainer) > 1 ? score_together(trainer, report, error)
                                         : score(trainer, report, error);
}

static int number_of_layer(const void *user, int layer)
{
    return ((const mixt_graph *)user)->routes[layer].layer;
}

/* The log's lines of a step. */
static mixt_status write_log(mixt_trainer *trainer, const mixt_step_report *report,
                             mixt_error *error)
{
    const mixt_counters *c = &trainer->counters;
    const mixt_model_options *m = &trainer->model->options;
    const mixt_graph *graph = trainer->graph;
    bool due = mixt_trainer_done(trainer) || report->was_skipped ||
               c->step % trainer->options.log_every == 0;
    if (due) {
        mixt_log_balance balance = {m->experts > 0 && m->router.capacity > 0,
                                    m->experts > 0 && m->router.balance_groups > 1,
                                    mixt_options_routed(m) > m->experts,
                                    mixt_balancer_coefficients(trainer), graph->moe_layers};
        MIXT_TRY(mixt_log_step(trainer->log, report, c->tokens, &balance, error));
    }
    if (graph->moe_layers == 0 || report->was_skipped || !mixt_log_load_due(c->step)) {
        return MIXT_OK;
    }
    const mixt_log_load load = {graph->moe_layers, trainer->model->router.experts,
                                number_of_layer,   graph,
                                trainer->counts,   trainer->rows * trainer->options.accumulation};
    return mixt_log_loads(trainer->log, c->step, &load, error);
}

/* Log line, evaluation and checkpoint where they are due. */
static mixt_status afterwards(mixt_trainer *trainer, mixt_step_report *report, mixt_error *error)
{
    const mixt_train_options *o = &trainer->options;
    const mixt_counters *c = &trainer->counters;
    bool done = mixt_trainer_done(trainer);
    mixt_status status = trainer->log != NULL ? write_log(trainer, report, error) : MIXT_OK;
    bool score = o->evaluate_every > 0 && c->step % o->evaluate_every == 0;
    if (status == MIXT_OK && score && !report->was_skipped) {
        status = evaluate(trainer, report, error);
    }
    bool late = o->checkpoint_seconds > 0 &&
                mixt_train_time() - trainer->last_checkpoint >= o->checkpoint_seconds;
    if (status == MIXT_OK && o->checkpoint_seconds > 0) {
        status = mixt_train_share(trainer, &late, sizeof late, error);
    }
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
    mixt_step_sums sums = {0};
    mixt_status status = stage(trainer, &sums.targets, error);
    if (status == MIXT_OK) {
        status = mixt_trainer_gradients(trainer, &sums, error);
    }
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
        MIXT_TRY(mixt_optimizer_step(trainer, report->learning_rate, scale, error));
        mixt_optimizer_bias(trainer);
        MIXT_TRY(mixt_balancer_end(trainer, error));
        c->updates++;
        c->skipped_in_row = 0;
    }
    c->step++;
    c->tokens += trainer->rows * o->accumulation;
    double took = mixt_train_time() - begin; /* rank 0's, so that all end and decay alike */
    MIXT_TRY(mixt_train_share(trainer, &took, sizeof took, error));
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
