/* One run of a system of the vowel task. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/random.h"
#include "study/vowels.h"

static const double active_share = 0.05; /* a proportion that is not "effectively 0" */

typedef struct net {
    const mixt_vowel_task *task;
    mixt_vowel_shape shape;
    mixt_vowel_plan plan;
    mixt_instance *instance;
    mixt_device_memory weights, gradients;
    float *host; /* weights, then gradients */
} net;

/* ------------------------------------------------------------------------------------------ */
/* Values                                                                                     */

static mixt_status make_weights(net *n, const mixt_device *device, mixt_error *error)
{
    const mixt_vowel_task *task = n->task;
    const mixt_backend *backend = mixt_device_backend(device, sizeof(float));
    size_t bytes = n->plan.weight_count * sizeof(float);
    n->host = calloc(2 * n->plan.weight_count, sizeof *n->host);
    if (n->host == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "vowels: no memory");
    }
    MIXT_TRY(mixt_device_memory_create(backend, bytes, &n->weights, error));
    MIXT_TRY(mixt_device_memory_create(backend, bytes, &n->gradients, error));
    MIXT_TRY(mixt_instance_create(n->plan.plan, device, MIXT_MATMUL_EXACT, &n->instance, error));
    for (int i = 0; i < n->plan.parameter_count; i++) {
        const mixt_vowel_parameter *p = &n->plan.parameters[i];
        uint32_t number =
            (uint32_t)((task->run * MIXT_VOWEL_SYSTEMS + task->system) * MIXT_VOWEL_PARAMETERS + i);
        mixt_random_key key = {task->options->seed, MIXT_RANDOM_INIT, number};
        for (size_t j = 0; j < p->count && p->random; j++) {
            n->host[p->first + j] = (float)(task->options->deviation * mixt_random_normal(&key, j));
        }
        mixt_instance_bind(n->instance, p->value, &n->weights, p->first * sizeof(float));
        mixt_instance_bind(n->instance, n->plan.plan->values[p->value].gradient, &n->gradients,
                           p->first * sizeof(float));
    }
    mixt_device_memory_write(&n->weights, 0, n->host, bytes);
    return MIXT_OK;
}

/* Cases [from, from + count) become the plan's inputs. */
static mixt_status write_cases(net *n, int64_t from, int64_t count, mixt_error *error)
{
    const mixt_vowel_task *task = n->task;
    size_t values = (size_t)count * (size_t)n->shape.outputs;
    float *targets = malloc(values * sizeof *targets);
    float scale[MIXT_SCALES] = {[MIXT_SCALE_LOSS] = 1 / (float)count};
    if (targets == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "vowels: no memory");
    }
    for (size_t i = 0; i < values; i++) {
        int vowel = task->data->vowels[(size_t)from + i / (size_t)n->shape.outputs];
        targets[i] =
            mixt_vowel_target(task->options->coding, vowel, (int)(i % (size_t)n->shape.outputs));
    }
    mixt_instance_write(n->instance, n->plan.formants,
                        task->data->formants + from * MIXT_VOWEL_FORMANTS,
                        (size_t)count * MIXT_VOWEL_FORMANTS * sizeof(float));
    mixt_instance_write(n->instance, n->plan.targets, targets, values * sizeof *targets);
    mixt_instance_write(n->instance, n->plan.scale, scale, sizeof scale);
    free(targets);
    return MIXT_OK;
}

/* Mean squared error over cases and outputs. */
static double squared_error(const net *n, int64_t from, int64_t count)
{
    const float *mixture = mixt_instance_view(n->instance, n->plan.mixture);
    mixt_vowel_coding coding = n->task->options->coding;
    double sum = 0;
    for (int64_t i = 0; i < count * n->shape.outputs; i++) {
        int vowel = n->task->data->vowels[from + i / n->shape.outputs];
        double off =
            (double)mixture[i] - mixt_vowel_target(coding, vowel, (int)(i % n->shape.outputs));
        sum += off * off;
    }
    return sum / (double)(count * n->shape.outputs);
}

static double mean_loss(const net *n, int64_t count)
{
    const float *nll = mixt_instance_view(n->instance, n->plan.nll);
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        sum += nll[i];
    }
    return sum / (double)count;
}

/* The share of cases whose target is told: by the largest output, or by the half of one. */
static double correct(const net *n, int64_t from, int64_t count)
{
    const float *mixture = mixt_instance_view(n->instance, n->plan.mixture);
    int64_t right = 0;
    for (int64_t t = 0; t < count; t++) {
        const float *y = mixture + t * n->shape.outputs;
        int vowel = n->task->data->vowels[from + t], best = 0;
        for (int i = 1; i < n->shape.outputs; i++) {
            best = y[i] > y[best] ? i : best;
        }
        right += n->shape.outputs == 1
                     ? (y[0] > 0.5F) == (mixt_vowel_target(n->task->options->coding, vowel, 0) > 0)
                     : best == vowel;
    }
    return (double)right / (double)count;
}

static int active_experts(const net *n, int64_t count)
{
    const int32_t *ids = mixt_instance_view(n->instance, n->plan.ids);
    const float *proportions = mixt_instance_view(n->instance, n->plan.proportions);
    int active = 0;
    for (int e = 0; e < n->shape.experts; e++) {
        bool found = false;
        for (int64_t i = 0; i < count * n->shape.experts && !found; i++) {
            found = ids[i] == e && proportions[i] > active_share;
        }
        active += found;
    }
    return active;
}

/* ------------------------------------------------------------------------------------------ */
/* Training                                                                                   */

/* One step of gradient descent, behind a forward run over the training cases. */
static mixt_status descend(net *n, mixt_error *error)
{
    float *weights = n->host, *gradients = n->host + n->plan.weight_count;
    size_t bytes = n->plan.weight_count * sizeof(float);
    mixt_device_memory_zero(&n->gradients);
    MIXT_TRY(mixt_instance_run(n->instance, n->task->data->train, n->plan.plan->forward_count,
                               n->plan.plan->record_count, error));
    mixt_device_memory_read(&n->gradients, 0, gradients, bytes);
    for (size_t i = 0; i < n->plan.weight_count; i++) {
        weights[i] = (float)(weights[i] - n->task->rate * gradients[i]);
    }
    mixt_device_memory_write(&n->weights, 0, weights, bytes);
    return MIXT_OK;
}

static mixt_status train(net *n, mixt_vowel_run *run, mixt_error *error)
{
    const mixt_vowel_task *task = n->task;
    int64_t cases = task->data->train;
    double before = INFINITY;
    MIXT_TRY(write_cases(n, 0, cases, error));
    for (;; run->epochs++) {
        MIXT_TRY(mixt_instance_run(n->instance, cases, 0, n->plan.plan->forward_count, error));
        double loss = mean_loss(n, cases);
        run->error = squared_error(n, 0, cases);
        run->reached = run->error <= task->options->stop_error;
        bool risen = task->rise > 0 && run->epochs > 0 && loss > before + task->rise * fabs(before);
        if (run->reached || run->epochs >= task->epochs || !isfinite(run->error) ||
            !isfinite(loss) || risen) {
            break;
        }
        before = loss;
        MIXT_TRY(descend(n, error));
    }
    run->train = correct(n, 0, cases);
    run->active = n->shape.experts > 0 ? active_experts(n, cases) : 0;
    MIXT_TRY(write_cases(n, cases, task->data->test, error));
    MIXT_TRY(
        mixt_instance_run(n->instance, task->data->test, 0, n->plan.plan->forward_count, error));
    run->test = correct(n, cases, task->data->test);
    return MIXT_OK;
}

mixt_status mixt_vowel_train(const mixt_device *device, const mixt_vowel_task *task,
                             mixt_vowel_run *run, mixt_error *error)
{
    const mixt_vowel_data *data = task->data;
    net n = {
        .task = task,
        .shape = {.outputs = mixt_vowel_outputs(task->options->coding),
                  .linear = task->options->linear},
    };
    *run = (mixt_vowel_run){0};
    mixt_vowel_system_size(task->system, &n.shape.experts, &n.shape.hidden);
    mixt_status status =
        mixt_vowel_plan_create(&n.shape, data->train > data->test ? data->train : data->test,
                               sizeof(float), &n.plan, error);
    if (status == MIXT_OK) {
        status = make_weights(&n, device, error);
    }
    if (status == MIXT_OK) {
        status = train(&n, run, error);
    }
    mixt_instance_free(n.instance);
    mixt_device_memory_free(&n.weights);
    mixt_device_memory_free(&n.gradients);
    mixt_plan_free(n.plan.plan);
    free(n.host);
    return status;
}
