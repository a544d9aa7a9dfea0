#include "model_runner.h"

#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

double test_real(const void *array, size_t real_size, size_t index)
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

static void fill_integers(const test_batch *batch, int32_t *at, int64_t tokens, int *valid)
{
    int32_t *positions = at + tokens, *first = at + 2 * tokens, *last = at + 3 * tokens;
    *valid = 0;
    for (int64_t i = 0; i < tokens; i++) {
        int32_t in_window = (int32_t)(i % batch->window);
        at[i] = batch->tokens[i];
        positions[i] = batch->positions != NULL ? batch->positions[i] : in_window;
        first[i] = (int32_t)i - positions[i];
        last[i] = (int32_t)i;
        at[4 * tokens + i] = batch->targets[i];
        *valid += batch->targets[i] >= 0;
    }
}

static void bind(const mixt_model *model, test_run *run, size_t real_size)
{
    const mixt_graph *g = run->graph;
    int32_t *integers = run->integers;
    mixt_value_id ids[] = {g->tokens, g->positions, g->first, g->last, g->targets};
    for (int i = 0; i < 5; i++) {
        mixt_instance_bind(run->instance, ids[i], integers + i * run->tokens);
    }
    if (g->first_windowed != MIXT_NO_VALUE) {
        int32_t *windowed = integers + 5 * run->tokens;
        mixt_windowed_first(model, integers + 2 * run->tokens, integers + 3 * run->tokens,
                            run->tokens, windowed);
        mixt_instance_bind(run->instance, g->first_windowed, windowed);
    }
    mixt_instance_bind(run->instance, g->scale, run->scale);
    mixt_instance_bind(run->instance, g->rope, run->rope);
    for (int i = 0; i < model->parameter_count; i++) {
        size_t offset = model->parameters[i].offset * real_size;
        mixt_value_id id = g->parameters[i];
        mixt_instance_bind(run->instance, id, (char *)run->weights + offset);
        mixt_instance_bind(run->instance, g->plan->values[id].gradient,
                           (char *)run->gradients + offset);
    }
}

void test_run_create(const mixt_compute *compute, const mixt_model *model, const test_batch *batch,
                     size_t real_size, bool recompute, test_run *run)
{
    memset(run, 0, sizeof *run);
    mixt_error error = MIXT_ERROR_INIT;
    run->tokens = (int64_t)batch->rows * batch->window;
    mixt_graph_options options = {.phase = MIXT_PHASE_TRAIN,
                                  .capacity = run->tokens,
                                  .window = batch->window,
                                  .real_size = real_size,
                                  .recompute = recompute,
                                  .keep_logits = true,
                                  .keep_routes = true};
    if (mixt_graph_create(model, &options, &run->graph, &error) != MIXT_OK ||
        mixt_instance_create(run->graph->plan,
                             real_size == 8 ? &mixt_backend_cpu_f64 : &mixt_backend_cpu_f32,
                             compute, &run->instance, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    run->weights = calloc(model->weight_count, real_size);
    run->gradients = calloc(model->weight_count, real_size);
    run->integers = calloc((size_t)run->tokens * 6, sizeof(int32_t));
    run->rope = calloc((size_t)batch->window * (size_t)model->options.head_dim, real_size);
    run->scale = calloc(2, real_size);
    assert_non_null(run->scale);
    for (size_t i = 0; i < model->weight_count; i++) {
        put_real(run->weights, real_size, i, (double)model->weights[i]);
    }
    int valid;
    fill_integers(batch, run->integers, run->tokens, &valid);
    put_real(run->scale, real_size, 0, valid == 0 ? 0 : 1.0 / valid);
    put_real(run->scale, real_size, 1, 1.0);
    mixt_rope_table(model, batch->window, real_size, run->rope);
    bind(model, run, real_size);
    test_run_again(model, run, true);
}

double test_run_again(const mixt_model *model, test_run *run, bool backward)
{
    const mixt_plan *plan = run->graph->plan;
    size_t real_size = plan->real_size;
    mixt_error error = MIXT_ERROR_INIT;
    if (backward) {
        memset(run->gradients, 0, model->weight_count * real_size);
    }
    if (mixt_instance_run(run->instance, run->tokens, 0,
                          backward ? plan->record_count : plan->forward_count, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    const void *nll = mixt_instance_data(run->instance, run->graph->nll);
    double sum = 0;
    for (int64_t i = 0; i < run->tokens; i++) {
        sum += test_real(nll, real_size, (size_t)i);
    }
    run->cross_entropy = sum * test_real(run->scale, real_size, 0);
    run->balance = run->z = 0;
    for (int i = 0; i < run->graph->moe_layers; i++) {
        const void *losses = mixt_instance_data(run->instance, run->graph->routes[i][7]);
        run->balance += test_real(losses, real_size, 0) / run->graph->moe_layers;
        run->z += test_real(losses, real_size, 1) / run->graph->moe_layers;
    }
    return run->cross_entropy + model->options.router.balance_coefficient * run->balance +
           model->options.router.z_coefficient * run->z;
}

void test_run_free(test_run *run)
{
    mixt_instance_free(run->instance);
    mixt_graph_free(run->graph);
    free(run->weights);
    free(run->gradients);
    free(run->integers);
    free(run->rope);
    free(run->scale);
}
