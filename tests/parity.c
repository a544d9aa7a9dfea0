#include "model_runner.h"
#include "parity.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "backend/context.h"
#include "core/memory.h"

static void require(mixt_status status, const mixt_error *error)
{
    if (status != MIXT_OK) {
        fail_msg("%s", error->message);
    }
}

void parity_open(parity_fixture *fixture, const char *name, const char *cpu, mixt_matmul matmul)
{
    char path[256];
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context_options options = {.threads = 2, .cpu = cpu, .matmul = matmul};
    *fixture = (parity_fixture){.name = name};
    require(mixt_context_create(&options, &fixture->context, &error), &error);
    snprintf(path, sizeof path, PARITY_FOLDER "%s", name);
    require(mixt_model_open(path, &fixture->model, &error), &error);
    require(mixt_model_load(fixture->model, &error), &error);
    /* What config.json of a foreign model does not say. */
    fixture->model->options.router.balance_coefficient = 0.01;
    fixture->model->options.router.z_coefficient = 0.001;
    fixture->model->router.options = fixture->model->options.router;
    snprintf(path, sizeof path, PARITY_FOLDER "%s/expected.safetensors", name);
    require(mixt_safetensors_open(path, &fixture->expected, &error), &error);
}

void parity_close(parity_fixture *fixture)
{
    mixt_safetensors_close(fixture->expected);
    mixt_model_free(fixture->model);
    mixt_context_free(fixture->context);
}

static const mixt_tensor_info *find(const parity_fixture *fixture, const char *batch,
                                    const char *name)
{
    char key[256];
    snprintf(key, sizeof key, "%s.%s", batch, name);
    return mixt_safetensors_find(fixture->expected, key);
}

bool parity_has(const parity_fixture *fixture, const char *batch, const char *name)
{
    return find(fixture, batch, name) != NULL;
}

double *parity_expected(const parity_fixture *fixture, const char *batch, const char *name,
                        size_t *count)
{
    mixt_error error = MIXT_ERROR_INIT;
    const mixt_tensor_info *tensor = find(fixture, batch, name);
    if (tensor == NULL) {
        fail_msg("%s: no tensor %s.%s", fixture->name, batch, name);
    }
    size_t elements = (size_t)mixt_tensor_elements(tensor);
    char *bytes = malloc((size_t)tensor->bytes + 1);
    double *values = malloc((elements + 1) * sizeof *values);
    assert_non_null(bytes);
    assert_non_null(values);
    require(
        mixt_safetensors_read(fixture->expected, tensor, 0, (size_t)tensor->bytes, bytes, &error),
        &error);
    for (size_t i = 0; i < elements; i++) {
        float single;
        int32_t integer;
        if (tensor->dtype == MIXT_DTYPE_F64) {
            memcpy(values + i, bytes + i * sizeof *values, sizeof *values);
        } else if (tensor->dtype == MIXT_DTYPE_F32) {
            memcpy(&single, bytes + i * sizeof single, sizeof single);
            values[i] = (double)single;
        } else if (tensor->dtype == MIXT_DTYPE_I32) {
            memcpy(&integer, bytes + i * sizeof integer, sizeof integer);
            values[i] = integer;
        } else {
            fail_msg("%s: %s has type %s", fixture->name, name, tensor->dtype_name);
        }
    }
    free(bytes);
    if (count != NULL) {
        *count = elements;
    }
    return values;
}

static void set_real(const parity_run *run, void *values, size_t index, double value)
{
    if (run->real_size == sizeof(double)) {
        ((double *)values)[index] = value;
    } else {
        ((float *)values)[index] = (float)value;
    }
}

double parity_real(const parity_run *run, const void *values, size_t index)
{
    return run->real_size == sizeof(double) ? ((const double *)values)[index]
                                            : (double)((const float *)values)[index];
}

static void bind(parity_run *run)
{
    const mixt_graph *g = run->graph;
    mixt_instance_bind(run->instance, g->rope, &run->rope, 0);
    for (int i = 0; i < run->model->parameter_count; i++) {
        size_t offset = run->model->parameters[i].offset * run->real_size;
        mixt_instance_bind(run->instance, g->parameters[i], &run->device_weights, offset);
        mixt_instance_bind(run->instance, g->plan->values[g->parameters[i]].gradient,
                           &run->device_gradients, offset);
    }
}

void parity_run_create(const parity_fixture *fixture, const mixt_graph_options *options,
                       parity_run *run)
{
    mixt_error error = MIXT_ERROR_INIT;
    const mixt_model *model = fixture->model;
    const mixt_device *device = &fixture->context->device;
    const mixt_backend *backend = mixt_device_backend(device, options->real_size);
    size_t size = model->weight_count * options->real_size;
    *run =
        (parity_run){.model = model, .real_size = options->real_size, .tokens = options->capacity};
    require(mixt_graph_create(model, options, &run->graph, &error), &error);
    require(mixt_instance_create(run->graph->plan, device, mixt_context_matmul(fixture->context),
                                 &run->instance, &error),
            &error);
    require(mixt_device_memory_create(backend, size, &run->device_weights, &error), &error);
    require(mixt_device_memory_create(backend, size, &run->device_gradients, &error), &error);
    require(mixt_rope_create(model, backend, options->window, &run->rope, &error), &error);
    require(mixt_batch_create(options->capacity, 0, &run->batch, &error), &error);
    run->weights = mixt_block_allocate(size);
    run->gradients = mixt_block_allocate(size);
    assert_true(run->weights != NULL && run->gradients != NULL);
    for (size_t i = 0; i < model->weight_count; i++) {
        set_real(run, run->weights, i, (double)model->weights[i]);
    }
    bind(run);
}

void parity_run_free(parity_run *run)
{
    size_t size = run->model->weight_count * run->real_size;
    mixt_instance_free(run->instance);
    mixt_graph_free(run->graph);
    mixt_block_free(run->weights, size);
    mixt_block_free(run->gradients, size);
    mixt_device_memory_free(&run->device_weights);
    mixt_device_memory_free(&run->device_gradients);
    mixt_device_memory_free(&run->rope);
    mixt_batch_free(&run->batch);
}

void parity_run_batch(parity_run *run, const double *tokens, const double *targets,
                      const double *documents)
{
    int64_t count = run->tokens, window = run->graph->options.window, start = 0;
    mixt_batch *batch = &run->batch;
    run->valid = 0;
    batch->rows = count;
    for (int64_t t = 0; t < count; t++) {
        if (t % window == 0 || (documents != NULL && documents[t] != documents[t - 1])) {
            start = t;
        }
        batch->tokens[t] = (int32_t)tokens[t];
        batch->positions[t] = (int32_t)(t - start);
        batch->first[t] = (int32_t)start;
        batch->last[t] = (int32_t)t;
        batch->targets[t] = targets[t] < 0 ? -1 : (int32_t)targets[t];
        run->valid += targets[t] >= 0;
    }
    mixt_batch_write(batch, run->graph, run->instance);
    test_write_scale(run->instance, run->graph, (double[]){1.0 / (double)run->valid, 1.0});
}

void parity_run_go(parity_run *run)
{
    mixt_error error = MIXT_ERROR_INIT;
    size_t bytes = run->model->weight_count * run->real_size;
    mixt_device_memory_write(&run->device_weights, 0, run->weights, bytes);
    mixt_device_memory_zero(&run->device_gradients);
    require(
        mixt_instance_run(run->instance, run->tokens, 0, run->graph->plan->record_count, &error),
        &error);
    mixt_device_memory_read(&run->device_gradients, 0, run->gradients, bytes);
}

void parity_run_losses(const parity_run *run, double losses[4])
{
    const mixt_graph *g = run->graph;
    const void *nll = mixt_instance_view(run->instance, g->nll);
    memset(losses, 0, 4 * sizeof *losses);
    for (int64_t t = 0; t < run->tokens; t++) {
        losses[0] += parity_real(run, nll, (size_t)t) / (double)run->valid;
    }
    for (int layer = 0; layer < g->moe_layers; layer++) {
        const void *own = mixt_instance_view(run->instance, g->routes[layer].value[ROUTE_LOSSES]);
        losses[1] += parity_real(run, own, ROUTE_LOSS_BALANCE) / g->moe_layers;
        losses[2] += parity_real(run, own, ROUTE_LOSS_Z) / g->moe_layers;
    }
    losses[3] = losses[0] + 0.01 * losses[1] + 0.001 * losses[2];
}

double parity_difference(const double *a, const double *b, size_t count)
{
    double most = 0, largest = 0;
    for (size_t i = 0; i < count; i++) {
        double difference = fabs(a[i] - b[i]);
        if (isnan(difference)) {
            return difference;
        }
        most = fmax(most, difference);
        largest = fmax(largest, fabs(b[i]));
    }
    return largest > 0 ? most / largest : most;
}

void parity_check(const char *what, const char *name, double difference, double bound)
{
    if (!(difference <= bound)) {
        fail_msg("%s: %s differs by %.3g, bound %.3g", what, name, difference, bound);
    }
}
