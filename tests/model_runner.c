#include "model_runner.h"

#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static double real_at(const void *array, size_t real_size, size_t index)
{
    return real_size == 8 ? ((const double *)array)[index] : (double)((const float *)array)[index];
}

static void put_real(void *array, size_t real_size, size_t index, double value)
{
    if (real_size == 8) {
        ((double *)array)[index] = value;
    } else {
        ((float *)array)[index] = (float)value;
    }
}

static void fill_batch(const test_batch *from, mixt_batch *batch, int *valid)
{
    *valid = 0;
    for (int64_t i = 0; i < batch->capacity; i++) {
        int32_t in_window = (int32_t)(i % from->window);
        batch->tokens[i] = from->tokens[i];
        batch->positions[i] = from->positions != NULL ? from->positions[i] : in_window;
        batch->first[i] = (int32_t)i - batch->positions[i];
        batch->last[i] = (int32_t)i;
        batch->targets[i] = from->targets[i];
        *valid += from->targets[i] >= 0;
    }
    batch->rows = batch->capacity;
}

void test_write_scale(mixt_instance *instance, const mixt_graph *graph, const double scale[2])
{
    float narrow[2] = {(float)scale[0], (float)scale[1]};
    if (graph->options.real_size == sizeof(double)) {
        mixt_instance_write(instance, graph->scale, scale, 2 * sizeof *scale);
    } else {
        mixt_instance_write(instance, graph->scale, narrow, sizeof narrow);
    }
}

void test_run_fill(test_run *run, const test_batch *batch)
{
    int valid;
    fill_batch(batch, &run->batch, &valid);
    run->scale[0] = valid == 0 ? 0 : 1.0 / valid;
    run->scale[1] = 1.0;
}

static void bind(const mixt_model *model, test_run *run, size_t real_size)
{
    const mixt_graph *g = run->graph;
    mixt_instance_bind(run->instance, g->rope, &run->rope, 0);
    for (int i = 0; i < g->moe_layers && run->seen.data != NULL; i++) {
        mixt_instance_bind(run->instance, g->seen[i], &run->seen,
                           (size_t)i * g->plan->values[g->seen[0]].bytes);
    }
    for (int i = 0; i < model->parameter_count; i++) {
        size_t offset = model->parameters[i].offset * real_size;
        mixt_value_id id = g->parameters[i];
        mixt_instance_bind(run->instance, id, &run->device_weights, offset);
        mixt_instance_bind(run->instance, g->plan->values[id].gradient, &run->device_gradients,
                           offset);
    }
}

static void create_run(const mixt_device *device, const mixt_model *model, const test_batch *batch,
                       const mixt_graph_options *options, test_run *run)
{
    memset(run, 0, sizeof *run);
    mixt_error error = MIXT_ERROR_INIT;
    size_t real_size = options->real_size;
    const mixt_backend *backend = mixt_device_backend(device, real_size);
    size_t bytes = model->weight_count * real_size;
    run->tokens = options->capacity;
    if (mixt_graph_create(model, options, &run->graph, &error) != MIXT_OK ||
        mixt_instance_create(run->graph->plan, device, device->compute->matmul, &run->instance,
                             &error) != MIXT_OK ||
        mixt_device_memory_create(backend, bytes, &run->device_weights, &error) != MIXT_OK ||
        mixt_device_memory_create(backend, bytes, &run->device_gradients, &error) != MIXT_OK ||
        mixt_rope_create(model, backend, batch->window, &run->rope, &error) != MIXT_OK ||
        mixt_batch_create(run->tokens, 0, &run->batch, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    run->weights = calloc(model->weight_count, real_size);
    run->gradients = calloc(model->weight_count, real_size);
    assert_true(run->weights != NULL && run->gradients != NULL);
    const float *weights = mixt_model_block(model);
    for (size_t i = 0; i < model->weight_count; i++) {
        put_real(run->weights, real_size, i, (double)weights[i]);
    }
    const mixt_graph *graph = run->graph;
    if (graph->moe_layers > 0 && graph->seen[0] >= 0) {
        size_t seen = graph->plan->values[graph->seen[0]].bytes * (size_t)graph->moe_layers;
        assert_int_equal(mixt_device_memory_create(backend, seen, &run->seen, NULL), MIXT_OK);
    }
    test_run_fill(run, batch);
    bind(model, run, real_size);
    test_run_again(model, run, options->phase == MIXT_PHASE_TRAIN);
}

void test_run_create_with(const mixt_device *device, const mixt_model *model,
                          const test_batch *batch, const mixt_graph_options *options, test_run *run)
{
    mixt_graph_options filled = *options;
    filled.capacity = (int64_t)batch->rows * batch->window;
    filled.window = batch->window;
    filled.keep_logits = filled.keep_routes = true;
    create_run(device, model, batch, &filled, run);
}

void test_run_create(const mixt_device *device, const mixt_model *model, const test_batch *batch,
                     size_t real_size, bool recompute, test_run *run)
{
    mixt_graph_options options = {
        .phase = MIXT_PHASE_TRAIN, .real_size = real_size, .recompute = recompute};
    test_run_create_with(device, model, batch, &options, run);
}

void test_score_create(const mixt_device *device, const mixt_model *model, const test_batch *batch,
                       test_run *run)
{
    mixt_graph_options options = {.phase = MIXT_PHASE_SCORE, .real_size = sizeof(float)};
    test_run_create_with(device, model, batch, &options, run);
}

double test_run_again(const mixt_model *model, test_run *run, bool backward)
{
    const mixt_plan *plan = run->graph->plan;
    size_t real_size = plan->real_size, bytes = model->weight_count * real_size;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_device_memory_write(&run->device_weights, 0, run->weights, bytes);
    mixt_device_memory_zero(&run->device_gradients);
    mixt_batch_write(&run->batch, run->graph, run->instance);
    static const int32_t draw[MIXT_DRAWS] = {5, 0, 7, 0};
    test_write_scale(run->instance, run->graph, run->scale);
    mixt_instance_write(run->instance, run->graph->draw, draw, sizeof draw);
    if (mixt_instance_run(run->instance, run->tokens, 0,
                          backward ? plan->record_count : plan->forward_count, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    if (backward) {
        mixt_device_memory_read(&run->device_gradients, 0, run->gradients, bytes);
    }
    const void *nll = mixt_instance_view(run->instance, run->graph->nll);
    double sum = 0;
    for (int64_t i = 0; i < run->tokens; i++) {
        sum += real_at(nll, real_size, (size_t)i);
    }
    run->cross_entropy = sum * (real_size == 8 ? run->scale[0] : (double)(float)run->scale[0]);
    run->balance = run->device = run->z = 0;
    for (int i = 0; i < run->graph->moe_layers; i++) {
        const void *losses =
            mixt_instance_view(run->instance, run->graph->routes[i].value[ROUTE_LOSSES]);
        run->balance += real_at(losses, real_size, ROUTE_LOSS_BALANCE) / run->graph->moe_layers;
        run->device += real_at(losses, real_size, ROUTE_LOSS_DEVICE) / run->graph->moe_layers;
        run->z += real_at(losses, real_size, ROUTE_LOSS_Z) / run->graph->moe_layers;
    }
    return run->cross_entropy + model->options.router.balance_coefficient * run->balance +
           model->options.router.device_balance_coefficient * run->device +
           model->options.router.z_coefficient * run->z;
}

void test_run_free(test_run *run)
{
    mixt_instance_free(run->instance);
    mixt_graph_free(run->graph);
    free(run->weights);
    free(run->gradients);
    mixt_device_memory_free(&run->device_weights);
    mixt_device_memory_free(&run->device_gradients);
    mixt_device_memory_free(&run->rope);
    mixt_device_memory_free(&run->seen);
    mixt_batch_free(&run->batch);
}
