/* 50 steps of AdamW (warm-up, cosine, clipping, weight decay on matrices), 30 of Muon beside it,
 * and 12 of adapters alone, against PyTorch's (PEFT's) loss curves on the same batches. Expected
 * values: tests/reference/model_adamw.py, model_muon.py and model_lora.py. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "backend/context.h"
#include "core/memory.h"
#include "formats/json.h"
#include "guard.h"
#include "model/adapters.h"
#include "parity.h"
#include "train/schedule.h"
#include "train/trainer.h"

#define ROWS 2
#define LENGTH 24
#define TOKENS (ROWS * LENGTH)

typedef enum curve_method { ADAMW, MUON, LORA } curve_method;

static const char *const method_files[] = {"adamw", "muon", "lora"};

typedef struct curve {
    parity_fixture fixture;
    parity_run run;
    curve_method method;
    json_t *expected;
    mixt_device_memory moments[2]; /* first and second, laid out as the weights */
    double worst[2];               /* loss, gradient norm */
    const mixt_compute *muons;     /* that Muon's steps are computed on */
} curve;

static double option(const curve *c, const char *name)
{
    const json_t *value = json_object_get(json_object_get(c->expected, "options"), name);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

static double at_step(const curve *c, const char *name, int64_t step)
{
    const json_t *value = json_array_get(json_object_get(c->expected, name), (size_t)step);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

/* Adapters as model_lora.py begins them; they alone learn. */
static void add_adapters(const curve *c)
{
    mixt_model *model = c->fixture.model;
    mixt_adapters adapters = {
        .rank = (int)option(c, "rank"), .alpha = option(c, "alpha"), .targets = MIXT_LORA_ALL};
    assert_int_equal(mixt_adapters_add(model, &adapters, 1, NULL), MIXT_OK);
    mixt_parameters_train(model, MIXT_PART_ADAPTERS);
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        int matrix = ((int)p->slot - MIXT_SLOT_EXPERT_GATE_A) / 2, experts = (int)p->size[0];
        for (size_t k = 0; mixt_slot_is_adapter(p->slot) && k < p->count; k++) {
            size_t each = p->count / (size_t)experts;
            double at = (double)(k % each), first = 2.1 * p->layer + 1.3 * (double)(k / each);
            first += 0.7 * matrix;
            bool a = p->slot == mixt_adapter_a((mixt_slot)(MIXT_SLOT_EXPERT_GATE + matrix));
            model->weights[p->offset + k] =
                (float)(a ? 0.3 * sin(first + 0.37 * at) : 0.2 * cos(first + 0.53 * at));
        }
    }
}

static void curve_open(curve *c, const char *name, curve_method method, size_t real_size)
{
    char path[256];
    mixt_error error = MIXT_ERROR_INIT;
    memset(c, 0, sizeof *c);
    parity_open(&c->fixture, name, NULL, MIXT_MATMUL_EXACT);
    c->muons = c->fixture.context->device.compute;
    c->method = method;
    snprintf(path, sizeof path, PARITY_FOLDER "%s/expected-%s.json", name, method_files[method]);
    if (mixt_json_read(path, MIXT_JSON_CONFIG_MAX, &c->expected, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    assert_int_equal((int)option(c, "rows"), ROWS);
    assert_int_equal((int)option(c, "length"), LENGTH);
    if (method == LORA) {
        add_adapters(c);
    }
    mixt_graph_options options = {
        .phase = MIXT_PHASE_TRAIN, .capacity = TOKENS, .window = LENGTH, .real_size = real_size};
    parity_run_create(&c->fixture, &options, &c->run);
    const mixt_backend *backend = mixt_device_backend(&c->fixture.context->device, real_size);
    size_t bytes = c->fixture.model->weight_count * real_size;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(mixt_device_memory_create(backend, bytes, &c->moments[i], NULL), MIXT_OK);
    }
}

static void curve_close(curve *c)
{
    for (int i = 0; i < 2; i++) {
        mixt_device_memory_free(&c->moments[i]);
    }
    parity_run_free(&c->run);
    parity_close(&c->fixture);
    json_decref(c->expected);
}

/* The tokens or targets of a step, row by row. */
static void read_batch(const curve *c, const char *name, int64_t step, double *values)
{
    const json_t *rows = json_array_get(json_object_get(c->expected, name), (size_t)step);
    assert_int_equal(json_array_size(rows), ROWS);
    for (size_t i = 0; i < TOKENS; i++) {
        values[i] = json_number_value(json_array_get(json_array_get(rows, i / LENGTH), i % LENGTH));
    }
}

static double gradient_norm(const parity_run *run)
{
    double sum = 0;
    for (int i = 0; i < run->model->parameter_count; i++) {
        const mixt_parameter *p = &run->model->parameters[i];
        for (size_t j = 0; j < p->count; j++) {
            double value = parity_real(run, run->gradients, p->offset + j);
            sum += value * value;
        }
    }
    return sqrt(sum);
}

/* Matrices of attention, experts and MLPs, as model_muon.py finds them: the one with a name of a
 * table, head or router is none. */
static bool is_muons(const curve *c, const mixt_parameter *p)
{
    return c->method == MUON && p->rank >= 2 && strstr(p->name, "embed_tokens") == NULL &&
           strstr(p->name, "lm_head") == NULL && strstr(p->name, ".gate.weight") == NULL;
}

static void step_of_muon(curve *c, const mixt_parameter *p, const mixt_muon_arguments *arguments)
{
    size_t size = c->run.real_size, offset = p->offset * size;
    mixt_attributes attributes = {.muon = arguments};
    mixt_shape_request request = {.attributes = &attributes, .capacity = 1};
    for (int i = 0; i < MUON_INPUTS; i++) {
        request.in[i] = mixt_shape_static(3, p->rank == 3 ? p->size[0] : 1, p->size[p->rank - 2],
                                          p->size[p->rank - 1]);
    }
    assert_int_equal(mixt_muon_shape(&request, NULL), MIXT_OK);
    mixt_device_memory workspace;
    const mixt_backend *backend = mixt_device_backend(&c->fixture.context->device, size);
    assert_int_equal(mixt_device_memory_create(backend, (size_t)request.forward_workspace * size,
                                               &workspace, NULL),
                     MIXT_OK);
    mixt_call call = {.compute = c->muons,
                      .attributes = &attributes,
                      .tokens = 1,
                      .in_shape = request.in,
                      .workspace = workspace.data};
    call.in[MUON_WEIGHT] = (char *)c->run.device_weights.data + offset;
    call.in[MUON_GRADIENT] = (char *)c->run.device_gradients.data + offset;
    call.in[MUON_M] = (char *)c->moments[0].data + offset;
    backend->forward[MIXT_OP_muon](&call);
    mixt_device_memory_free(&workspace);
}

static void update(curve *c, int64_t step, double norm)
{
    const mixt_model *model = c->fixture.model;
    size_t size = c->run.real_size;
    double beta1 = option(c, "beta1"), beta2 = option(c, "beta2");
    mixt_adamw_arguments arguments = {
        .scale = fmin(1.0, option(c, "clip") / (norm + 1e-6)), /* torch's clip_grad_norm_ */
        .rate = at_step(c, "rate", step),
        .beta1 = beta1,
        .beta2 = beta2,
        .epsilon = option(c, "epsilon"),
        .correction1 = 1 - pow(beta1, (double)(step + 1)),
        .correction2 = 1 - pow(beta2, (double)(step + 1)),
    };
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        size_t offset = p->offset * size;
        if (!p->trainable) {
            continue;
        }
        if (is_muons(c, p)) {
            step_of_muon(c, p,
                         &(mixt_muon_arguments){.scale = arguments.scale,
                                                .rate = arguments.rate,
                                                .momentum = option(c, "momentum"),
                                                .decay = option(c, "weight_decay"),
                                                .steps = 5});
            continue;
        }
        mixt_attributes attributes = {.adamw = &arguments};
        mixt_shape shapes[MIXT_SLOTS];
        for (int s = 0; s < MIXT_SLOTS; s++) {
            shapes[s] = mixt_shape_static(1, (int64_t)p->count, 0, 0);
        }
        mixt_call call = {.compute = c->fixture.context->device.compute,
                          .attributes = &attributes,
                          .tokens = 1,
                          .in_shape = shapes};
        call.in[ADAMW_WEIGHT] = (char *)c->run.device_weights.data + offset;
        call.in[ADAMW_GRADIENT] = (char *)c->run.device_gradients.data + offset;
        call.in[ADAMW_M] = (char *)c->moments[0].data + offset;
        call.in[ADAMW_V] = (char *)c->moments[1].data + offset;
        arguments.decay = p->decay ? option(c, "weight_decay") : 0;
        mixt_device_backend(&c->fixture.context->device, size)->forward[MIXT_OP_adamw](&call);
    }
    mixt_device_memory_read(&c->run.device_weights, 0, c->run.weights, model->weight_count * size);
}

static void step_and_compare(curve *c, int64_t step)
{
    double tokens[TOKENS], targets[TOKENS], losses[4];
    read_batch(c, "tokens", step, tokens);
    read_batch(c, "targets", step, targets);
    parity_run_batch(&c->run, tokens, targets, NULL);
    parity_run_go(&c->run);
    parity_run_losses(&c->run, losses);
    double norm = gradient_norm(&c->run);
    c->worst[0] = fmax(c->worst[0], fabs(losses[3] - at_step(c, "total", step)));
    c->worst[1] = fmax(c->worst[1], fabs(norm / at_step(c, "gradient_norm", step) - 1));
    assert_false(isnan(losses[3]));
    assert_false(isnan(norm));
    update(c, step, norm);
}

/* Euclidean norm of each final weight tensor that learns; experts have one each. */
static double compare_norms(const curve *c)
{
    const json_t *norms = json_object_get(c->expected, "final_norms");
    const mixt_model *model = c->fixture.model;
    double worst = 0;
    size_t compared = 0;
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        size_t experts = p->rank == 3 ? (size_t)p->size[0] : 1, each = p->count / experts;
        for (size_t e = 0; p->trainable && e < experts; e++) {
            char name[128];
            double sum = 0;
            mixt_parameter_expert_name(p, (int)e, name);
            for (size_t j = 0; j < each; j++) {
                double value = parity_real(&c->run, c->run.weights, p->offset + e * each + j);
                sum += value * value;
            }
            const json_t *expected = json_object_get(norms, name);
            assert_non_null(expected);
            worst = fmax(worst, fabs(sqrt(sum) / json_number_value(expected) - 1));
            compared++;
        }
    }
    assert_int_equal(compared, json_object_size(norms));
    return worst;
}

static void follow(const char *name, curve_method method, size_t real_size, double bound)
{
    curve c;
    curve_open(&c, name, method, real_size);
    int all = (int)option(&c, "steps"), steps = guard_sample(all, all / 4);
    for (int64_t step = 0; step < steps; step++) {
        step_and_compare(&c, step);
    }
    double norms = steps == all ? compare_norms(&c) : 0; /* of the weights after all */
    print_message("%s %s fp%zu: over %d steps the loss differs by %.1e, the gradient norm by %.1e, "
                  "final weights' norms by %.1e\n",
                  name, method_files[method], real_size * 8, steps, c.worst[0], c.worst[1], norms);
    parity_check(name, "loss", c.worst[0], bound);
    parity_check(name, "gradient norm", c.worst[1], bound);
    parity_check(name, "final norms", norms, bound);
    curve_close(&c);
}

static void test_double(void **state)
{
    (void)state;
    follow("moe", ADAMW, sizeof(double), 1e-10);
    follow("dense", ADAMW, sizeof(double), 1e-10);
    follow("moe", MUON, sizeof(double), 1e-10);
    follow("dense", MUON, sizeof(double), 1e-10);
    follow("moe", LORA, sizeof(double), 1e-10);
}

static void test_single(void **state)
{
    (void)state;
    follow("moe", ADAMW, sizeof(float), 1e-4);
    follow("dense", ADAMW, sizeof(float), 1e-4);
    follow("moe", MUON, sizeof(float), 1e-4);
    follow("dense", MUON, sizeof(float), 1e-4);
    follow("moe", LORA, sizeof(float), 1e-4);
}

/* Muon's products with operands of bfloat16 stray no further from fp64 than torch's iteration, all
 * of which is in bfloat16. */
static void follow_rounded(const char *name)
{
    curve c;
    curve_open(&c, name, MUON, sizeof(float));
    mixt_context_prepare_bf16(c.fixture.context);
    mixt_compute rounded = *c.fixture.context->device.compute;
    rounded.matmul = MIXT_MATMUL_BF16;
    c.muons = &rounded;
    double torchs = 0;
    int all = (int)option(&c, "steps"), steps = guard_sample(all, all / 4);
    for (int64_t step = 0; step < steps; step++) {
        step_and_compare(&c, step);
        torchs = fmax(torchs, fabs(at_step(&c, "total_bf16", step) - at_step(&c, "total", step)));
    }
    print_message("%s muon bf16: over %d steps the loss differs by %.1e, torch's by %.1e\n", name,
                  steps, c.worst[0], torchs);
    parity_check(name, "loss", c.worst[0], 4 * torchs);
    assert_true(c.worst[0] > 1e-5); /* it did round */
    curve_close(&c);
}

static void test_rounded(void **state)
{
    (void)state;
    follow_rounded("moe");
    follow_rounded("dense");
}

static mixt_train_options trainer_options(const curve *c, int accumulation)
{
    mixt_train_options o = mixt_train_options_default();
    o.steps = (int64_t)option(c, "steps");
    o.batch_size = ROWS / accumulation;
    o.accumulation = accumulation;
    o.window = LENGTH;
    o.learning_rate = option(c, "learning_rate");
    o.minimum_rate = option(c, "minimum_rate") / o.learning_rate;
    o.warmup = (int64_t)option(c, "warmup");
    o.schedule = MIXT_SCHEDULE_COSINE;
    o.beta1 = option(c, "beta1");
    o.beta2 = option(c, "beta2");
    o.epsilon = option(c, "epsilon");
    o.weight_decay = option(c, "weight_decay");
    o.clip = option(c, "clip");
    o.optimizer = c->method == MUON ? MIXT_OPTIMIZER_MUON : MIXT_OPTIMIZER_ADAMW;
    o.lora_rank = c->method == LORA ? (int)option(c, "rank") : 0;
    o.lora_alpha = c->method == LORA ? option(c, "alpha") : 0;
    return o;
}

static void stage_step(const curve *c, mixt_trainer *trainer, int64_t step)
{
    double tokens[TOKENS], targets[TOKENS];
    read_batch(c, "tokens", step, tokens);
    read_batch(c, "targets", step, targets);
    for (int64_t t = 0; t < TOKENS; t++) {
        int64_t micro = t / trainer->rows, row = t % trainer->rows;
        mixt_batch *batch = &trainer->batches[micro];
        batch->rows = trainer->rows;
        batch->tokens[row] = (int32_t)tokens[t];
        batch->targets[row] = (int32_t)targets[t];
        batch->positions[row] = (int32_t)(t % LENGTH);
        batch->first[row] = (int32_t)(row - t % LENGTH);
        batch->last[row] = (int32_t)row;
    }
}

/* The trainer's own gradients, norm, schedule and optimizer. */
static void follow_trainer(const char *name, curve_method method, int accumulation)
{
    curve c;
    curve_open(&c, name, method, sizeof(float));
    mixt_trainer *trainer;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_train_options o = trainer_options(&c, accumulation);
    if (mixt_trainer_make(c.fixture.context, c.fixture.model, &o, &trainer, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    double parts = fmax(1, (double)trainer->graph->moe_layers * accumulation);
    for (int64_t step = 0; step < guard_sample((int)o.steps, (int)o.steps / 4); step++) {
        mixt_step_sums sums = {.targets = TOKENS};
        stage_step(&c, trainer, step);
        assert_int_equal(mixt_trainer_gradients(trainer, &sums, &error), MIXT_OK);
        double loss = sums.nll / TOKENS + 0.01 * sums.balance / parts + 0.001 * sums.z / parts;
        c.worst[0] = fmax(c.worst[0], fabs(loss - at_step(&c, "total", step)));
        c.worst[1] =
            fmax(c.worst[1], fabs(sums.gradient_norm / at_step(&c, "gradient_norm", step) - 1));
        mixt_schedule_point point = {step, (double)step, (double)o.warmup, (double)o.steps};
        double rate = mixt_schedule_rate(&o, &point);
        assert_true(fabs(rate / at_step(&c, "rate", step) - 1) < 1e-13);
        double clip = fmin(1, o.clip / sums.gradient_norm);
        assert_int_equal(mixt_optimizer_step(trainer, rate, clip, &error), MIXT_OK);
        trainer->counters.updates++;
    }
    print_message("%s, the trainer with %d micro batches: the loss differs by %.1e, the gradient "
                  "norm by %.1e\n",
                  name, accumulation, c.worst[0], c.worst[1]);
    parity_check(name, "loss", c.worst[0], 1e-4);
    parity_check(name, "gradient norm", c.worst[1], 1e-4);
    mixt_trainer_free(trainer);
    curve_close(&c);
}

/* The balance loss is taken over a micro batch, so only the dense model may be split. */
static void test_trainer(void **state)
{
    (void)state;
    follow_trainer("moe", ADAMW, 1);
    follow_trainer("dense", ADAMW, 1);
    follow_trainer("dense", ADAMW, 2);
    follow_trainer("moe", MUON, 1);
    follow_trainer("dense", MUON, 2);
    follow_trainer("moe", LORA, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_double),
        cmocka_unit_test(test_single),
        cmocka_unit_test(test_rounded),
        cmocka_unit_test(test_trainer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
