/* The systems of the vowel task as plans, and their training. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/random.h"
#include "study/vowels.h"

enum { PARAMETERS_MAX = 4 };

static const double active_share = 0.05; /* a proportion that is not "effectively 0" */
static const double steady_rise = 0.01;

typedef struct parameter {
    mixt_value_id value;
    size_t offset, count; /* in the block */
    bool random;          /* normal at the start, else 0 */
} parameter;

typedef struct net {
    const mixt_vowel_task *task;
    int experts, hidden, outputs;
    mixt_router_spec gate;
    mixt_plan *plan;
    mixt_instance *instance;
    mixt_value_id formants, targets, scale;
    mixt_value_id nll, mixture, ids, proportions; /* the last two of mixtures alone */
    parameter parameters[PARAMETERS_MAX];
    int parameter_count;
    size_t weight_count;
    mixt_device_memory weights, gradients;
    float *host; /* weights, then gradients */
} net;

void mixt_vowel_system_size(int system, int *experts, int *hidden)
{
    static const int sizes[MIXT_VOWEL_SYSTEMS][2] = {{4, 0}, {8, 0}, {0, 6}, {0, 12}};
    *experts = sizes[system][0];
    *hidden = sizes[system][1];
}

int mixt_vowel_parameters(int system, mixt_vowel_coding coding)
{
    int experts, hidden, inputs = MIXT_VOWEL_FORMANTS + 1, outputs = mixt_vowel_outputs(coding);
    mixt_vowel_system_size(system, &experts, &hidden);
    return experts > 0 ? experts * inputs * (outputs + 1)
                       : hidden * inputs + outputs * (hidden + 1);
}

/* ------------------------------------------------------------------------------------------ */
/* The plan                                                                                   */

static mixt_value_id add_parameter(net *n, const char *name, mixt_shape shape, bool random)
{
    parameter *p = &n->parameters[n->parameter_count];
    *p = (parameter){
        .value = mixt_plan_parameter(n->plan, name, n->parameter_count, true, shape),
        .offset = n->weight_count,
        .count = (size_t)(shape.rank == 2 ? shape.size[0] * shape.size[1] : shape.size[0]),
        .random = random,
    };
    n->weight_count += p->count;
    n->parameter_count++;
    return p->value;
}

static void append(net *n, mixt_op op, const mixt_attributes *attributes, const mixt_value_id *in,
                   mixt_value_id *out)
{
    static const mixt_attributes none = {0};
    mixt_operation operation = {
        .op = op, .layer = -1, .attributes = attributes == NULL ? &none : attributes, .in = in};
    for (int i = 0; i < MIXT_SLOTS; i++) {
        out[i] = MIXT_NO_VALUE;
    }
    mixt_plan_operator(n->plan, &operation, out);
}

/* [T, columns] of x [T, width] by a matrix and a bias of its own; logistic where `squash`. */
static mixt_value_id add_layer(net *n, mixt_value_id x, int64_t columns, int64_t width, bool squash)
{
    mixt_value_id out[MIXT_SLOTS];
    mixt_value_id in[LINEAR_INPUTS] = {
        [LINEAR_X] = x,
        [LINEAR_WEIGHT] = add_parameter(n, "weight", mixt_shape_static(2, columns, width, 0), true),
        [LINEAR_BIAS] = add_parameter(n, "bias", mixt_shape_static(1, columns, 0, 0), true),
    };
    append(n, MIXT_OP_linear, NULL, in, out);
    if (squash) {
        append(n, MIXT_OP_sigmoid, NULL, (mixt_value_id[SIGMOID_INPUTS]){out[LINEAR_Y]}, out);
    }
    return out[0];
}

/* The dense soft mixture: the router with all experts chosen and a bias to its logits. */
static void add_gate(net *n)
{
    n->gate = (mixt_router_spec){
        .experts = n->experts,
        .chosen = n->experts,
        .options = {.logit_bias = true, .score = MIXT_SCORE_SOFTMAX, .scale = 1},
    };
    mixt_attributes attributes = {.router = &n->gate};
    mixt_shape weight = mixt_shape_static(2, n->experts, MIXT_VOWEL_FORMANTS, 0);
    mixt_value_id in[ROUTE_INPUTS], out[MIXT_SLOTS];
    for (int i = 0; i < ROUTE_INPUTS; i++) {
        in[i] = MIXT_NO_VALUE;
    }
    in[ROUTE_X] = n->formants;
    in[ROUTE_WEIGHT] = add_parameter(n, "gate", weight, false);
    in[ROUTE_LOGIT_BIAS] =
        add_parameter(n, "gate bias", mixt_shape_static(1, n->experts, 0, 0), false);
    in[ROUTE_SCALE] = n->scale;
    append(n, MIXT_OP_route, &attributes, in, out);
    n->ids = out[ROUTE_IDS];
    n->proportions = out[ROUTE_WEIGHTS];
    mixt_plan_keep(n->plan, n->ids);
    mixt_plan_keep(n->plan, n->proportions);
}

static mixt_status build(net *n, mixt_error *error)
{
    const mixt_vowel_data *data = n->task->data;
    int64_t cases = data->train > data->test ? data->train : data->test;
    bool squash = !n->task->options->linear;
    MIXT_TRY(mixt_plan_create("train", cases, sizeof(float), &n->plan, error));
    n->formants =
        mixt_plan_input(n->plan, "formants", mixt_shape_tokens(cases, 1, MIXT_VOWEL_FORMANTS));
    n->targets = mixt_plan_input(n->plan, "targets", mixt_shape_tokens(cases, 1, n->outputs));
    n->scale = mixt_plan_input(n->plan, "scale", mixt_shape_static(1, MIXT_SCALES, 0, 0));
    n->ids = n->proportions = MIXT_NO_VALUE;
    mixt_value_id means, out[MIXT_SLOTS];
    if (n->experts > 0) {
        means = add_layer(n, n->formants, (int64_t)n->experts * n->outputs, MIXT_VOWEL_FORMANTS,
                          squash);
        add_gate(n);
    } else {
        means = add_layer(n, n->formants, n->hidden, MIXT_VOWEL_FORMANTS, true);
        means = add_layer(n, means, n->outputs, n->hidden, squash);
    }
    mixt_value_id in[COMPETITIVE_INPUTS] = {
        [COMPETITIVE_MEANS] = means,
        [COMPETITIVE_IDS] = n->ids,
        [COMPETITIVE_WEIGHTS] = n->proportions,
        [COMPETITIVE_TARGETS] = n->targets,
        [COMPETITIVE_SCALE] = n->scale,
    };
    append(n, MIXT_OP_competitive, NULL, in, out);
    n->nll = out[COMPETITIVE_NLL];
    n->mixture = out[COMPETITIVE_MIXTURE];
    mixt_plan_keep(n->plan, n->nll);
    mixt_plan_keep(n->plan, n->mixture);
    MIXT_TRY(mixt_plan_differentiate(n->plan, n->nll, error));
    return mixt_plan_finish(n->plan, error);
}

/* ------------------------------------------------------------------------------------------ */
/* Values                                                                                     */

static mixt_status make_weights(net *n, const mixt_device *device, mixt_error *error)
{
    const mixt_vowel_task *task = n->task;
    const mixt_backend *backend = mixt_device_backend(device, sizeof(float));
    size_t bytes = n->weight_count * sizeof(float);
    n->host = calloc(2 * n->weight_count, sizeof *n->host);
    if (n->host == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "vowels: no memory");
    }
    MIXT_TRY(mixt_device_memory_create(backend, bytes, &n->weights, error));
    MIXT_TRY(mixt_device_memory_create(backend, bytes, &n->gradients, error));
    MIXT_TRY(mixt_instance_create(n->plan, device, MIXT_MATMUL_EXACT, &n->instance, error));
    for (int i = 0; i < n->parameter_count; i++) {
        const parameter *p = &n->parameters[i];
        uint32_t number =
            (uint32_t)((task->run * MIXT_VOWEL_SYSTEMS + task->system) * PARAMETERS_MAX + i);
        mixt_random_key key = {task->options->seed, MIXT_RANDOM_INIT, number};
        for (size_t j = 0; j < p->count && p->random; j++) {
            n->host[p->offset + j] =
                (float)(task->options->deviation * mixt_random_normal(&key, j));
        }
        mixt_instance_bind(n->instance, p->value, &n->weights, p->offset * sizeof(float));
        mixt_instance_bind(n->instance, n->plan->values[p->value].gradient, &n->gradients,
                           p->offset * sizeof(float));
    }
    mixt_device_memory_write(&n->weights, 0, n->host, bytes);
    return MIXT_OK;
}

/* Cases [from, from + count) become the plan's inputs. */
static mixt_status write_cases(net *n, int64_t from, int64_t count, mixt_error *error)
{
    const mixt_vowel_task *task = n->task;
    size_t values = (size_t)count * (size_t)n->outputs;
    float *targets = malloc(values * sizeof *targets);
    float scale[MIXT_SCALES] = {[MIXT_SCALE_LOSS] = 1 / (float)count};
    if (targets == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "vowels: no memory");
    }
    for (size_t i = 0; i < values; i++) {
        int vowel = task->data->vowels[(size_t)from + i / (size_t)n->outputs];
        targets[i] = mixt_vowel_target(task->options->coding, vowel, (int)(i % (size_t)n->outputs));
    }
    mixt_instance_write(n->instance, n->formants, task->data->formants + from * MIXT_VOWEL_FORMANTS,
                        (size_t)count * MIXT_VOWEL_FORMANTS * sizeof(float));
    mixt_instance_write(n->instance, n->targets, targets, values * sizeof *targets);
    mixt_instance_write(n->instance, n->scale, scale, sizeof scale);
    free(targets);
    return MIXT_OK;
}

/* Mean squared error over cases and outputs. */
static double squared_error(const net *n, int64_t from, int64_t count)
{
    const float *mixture = mixt_instance_view(n->instance, n->mixture);
    mixt_vowel_coding coding = n->task->options->coding;
    double sum = 0;
    for (int64_t i = 0; i < count * n->outputs; i++) {
        int vowel = n->task->data->vowels[from + i / n->outputs];
        double off = (double)mixture[i] - mixt_vowel_target(coding, vowel, (int)(i % n->outputs));
        sum += off * off;
    }
    return sum / (double)(count * n->outputs);
}

static double mean_loss(const net *n, int64_t count)
{
    const float *nll = mixt_instance_view(n->instance, n->nll);
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        sum += nll[i];
    }
    return sum / (double)count;
}

/* The share of cases whose target is told: by the largest output, or by the half of one. */
static double correct(const net *n, int64_t from, int64_t count)
{
    const float *mixture = mixt_instance_view(n->instance, n->mixture);
    int64_t right = 0;
    for (int64_t t = 0; t < count; t++) {
        const float *y = mixture + t * n->outputs;
        int vowel = n->task->data->vowels[from + t], best = 0;
        for (int i = 1; i < n->outputs; i++) {
            best = y[i] > y[best] ? i : best;
        }
        right += n->outputs == 1
                     ? (y[0] > 0.5F) == (mixt_vowel_target(n->task->options->coding, vowel, 0) > 0)
                     : best == vowel;
    }
    return (double)right / (double)count;
}

static int active_experts(const net *n, int64_t count)
{
    const int32_t *ids = mixt_instance_view(n->instance, n->ids);
    const float *proportions = mixt_instance_view(n->instance, n->proportions);
    int active = 0;
    for (int e = 0; e < n->experts; e++) {
        bool found = false;
        for (int64_t i = 0; i < count * n->experts && !found; i++) {
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
    float *weights = n->host, *gradients = n->host + n->weight_count;
    size_t bytes = n->weight_count * sizeof(float);
    mixt_device_memory_zero(&n->gradients);
    MIXT_TRY(mixt_instance_run(n->instance, n->task->data->train, n->plan->forward_count,
                               n->plan->record_count, error));
    mixt_device_memory_read(&n->gradients, 0, gradients, bytes);
    for (size_t i = 0; i < n->weight_count; i++) {
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
        MIXT_TRY(mixt_instance_run(n->instance, cases, 0, n->plan->forward_count, error));
        double loss = mean_loss(n, cases);
        run->error = squared_error(n, 0, cases);
        run->reached = run->error <= task->options->stop_error;
        bool risen = !(loss <= before + steady_rise * fabs(before)) && run->epochs > 0;
        if (run->reached || run->epochs >= task->epochs || !isfinite(run->error) ||
            !isfinite(loss) || (task->steady && risen)) {
            break;
        }
        before = loss;
        MIXT_TRY(descend(n, error));
    }
    run->train = correct(n, 0, cases);
    run->active = n->experts > 0 ? active_experts(n, cases) : 0;
    MIXT_TRY(write_cases(n, cases, task->data->test, error));
    MIXT_TRY(mixt_instance_run(n->instance, task->data->test, 0, n->plan->forward_count, error));
    run->test = correct(n, cases, task->data->test);
    return MIXT_OK;
}

mixt_status mixt_vowel_train(const mixt_device *device, const mixt_vowel_task *task,
                             mixt_vowel_run *run, mixt_error *error)
{
    net n = {.task = task, .outputs = mixt_vowel_outputs(task->options->coding)};
    *run = (mixt_vowel_run){0};
    mixt_vowel_system_size(task->system, &n.experts, &n.hidden);
    mixt_status status = build(&n, error);
    if (status == MIXT_OK) {
        status = make_weights(&n, device, error);
    }
    if (status == MIXT_OK) {
        status = train(&n, run, error);
    }
    mixt_instance_free(n.instance);
    mixt_device_memory_free(&n.weights);
    mixt_device_memory_free(&n.gradients);
    mixt_plan_free(n.plan);
    free(n.host);
    return status;
}
