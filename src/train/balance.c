/* What balances experts over a step: the counts that the balance loss of a step looks at, the
 * coefficients that follow drop rates, quantile balancing. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/arithmetic.h"
#include "train/trainer.h"

typedef struct mixt_balancer {
    int layers, experts;
    mixt_device_memory seen; /* i32 [layers], each of ROUTE_SEEN; empty where nobody looks */
    double *coefficients;    /* [layers] a, with adaptive_balance; NULL: all stay as they are */
    int64_t *counts;         /* [2, layers], of: */
    int64_t *choices;        /* of the step */
    int64_t *dropped;        /* of them; without a capacity what factor 1 would drop */
    float *factors;          /* [model layers] of ROUTE_BALANCE */
    float **required;        /* [layers][E, rows], with quantile balancing; NULL: as seen */
    float *gathered; /* [N, E, rows] of a layer with ranks, and the same as [E, rows of a step] */
    int64_t rows;    /* of a step that are this rank's */
} mixt_balancer;

/* ------------------------------------------------------------------------------------------ */
/* Making one                                                                                 */

static mixt_status create_seen(mixt_trainer *trainer, mixt_error *error)
{
    mixt_balancer *b = trainer->balancer;
    const mixt_backend *backend = mixt_device_backend(&trainer->context->device, sizeof(float));
    if (trainer->model->options.router.balance_scope != MIXT_BALANCE_OVER_STEP || b->layers == 0) {
        return MIXT_OK;
    }
    size_t bytes = trainer->graph->plan->values[trainer->graph->seen[0]].bytes;
    MIXT_TRY(mixt_device_memory_create(backend, (size_t)b->layers * bytes, &b->seen, error));
    for (int i = 0; i < b->layers; i++) {
        mixt_instance_bind(trainer->instance, trainer->graph->seen[i], &b->seen, (size_t)i * bytes);
    }
    return MIXT_OK;
}

/* The selection bias of a layer with experts that quantile balancing sets, -1: none. */
static int bias_of(const mixt_trainer *trainer, int layer)
{
    const mixt_route_values *route = &trainer->graph->routes[layer];
    bool moves = (trainer->options.parts & MIXT_PART_ROUTER) != 0;
    return moves && trainer->model->options.router.bias_update == MIXT_BIAS_QUANTILE
               ? mixt_model_find(trainer->model, MIXT_SLOT_ROUTER_BIAS, route->layer)
               : -1;
}

static mixt_status create_required(mixt_trainer *trainer, mixt_error *error)
{
    mixt_balancer *b = trainer->balancer;
    size_t values = (size_t)b->experts * (size_t)b->rows;
    size_t ranks = (size_t)mixt_train_ranks(trainer);
    for (int i = 0; i < b->layers; i++) {
        if (bias_of(trainer, i) < 0) {
            continue;
        }
        b->required[i] = calloc(values, sizeof(float));
        if (ranks > 1 && b->gathered == NULL) {
            b->gathered = calloc(2 * ranks * values, sizeof(float));
        }
        if (b->required[i] == NULL || (ranks > 1 && b->gathered == NULL)) {
            return mixt_fail(error, MIXT_ERROR_MEMORY,
                             "training: no memory for %.1f GB of a step's router scores, which "
                             "quantile balancing looks at",
                             4e-9 * (double)values * b->layers);
        }
    }
    return MIXT_OK;
}

mixt_status mixt_balancer_create(mixt_trainer *trainer, mixt_error *error)
{
    const mixt_model *model = trainer->model;
    const mixt_router_options *o = &model->options.router;
    mixt_balancer *b = calloc(1, sizeof *b);
    trainer->balancer = b;
    if (b == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "training: no memory");
    }
    b->layers = trainer->graph->moe_layers;
    b->experts = model->router.experts;
    b->rows = trainer->rows * trainer->runs;
    size_t layers = (size_t)b->layers + 1;
    b->counts = calloc(2 * layers, sizeof *b->counts);
    b->choices = b->counts;
    b->dropped = b->counts + b->layers;
    b->required = calloc(layers, sizeof *b->required);
    b->factors = calloc((size_t)model->options.layers, sizeof *b->factors);
    bool adapts = o->adaptive_balance && b->layers > 0;
    b->coefficients = adapts ? calloc(layers, sizeof *b->coefficients) : NULL;
    if (b->counts == NULL || b->required == NULL || b->factors == NULL ||
        (adapts && b->coefficients == NULL)) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "training: no memory");
    }
    for (int i = 0; i < b->layers && adapts; i++) {
        b->coefficients[i] = o->balance_coefficient;
    }
    MIXT_TRY(create_seen(trainer, error));
    return create_required(trainer, error);
}

void mixt_balancer_free(mixt_balancer *b)
{
    if (b == NULL) {
        return;
    }
    for (int i = 0; b->required != NULL && i < b->layers; i++) {
        free(b->required[i]);
    }
    mixt_device_memory_free(&b->seen);
    free(b->required);
    free(b->coefficients);
    free(b->counts);
    free(b->gathered);
    free(b->factors);
    free(b);
}

double *mixt_balancer_coefficients(const mixt_trainer *trainer)
{
    return trainer->balancer->coefficients;
}

int64_t *mixt_balancer_counts(const mixt_trainer *trainer)
{
    return trainer->balancer->counts;
}

/* ------------------------------------------------------------------------------------------ */
/* A step                                                                                     */

void mixt_balancer_begin(mixt_trainer *trainer)
{
    mixt_balancer *b = trainer->balancer;
    double first = trainer->model->options.router.balance_coefficient;
    size_t layers = (size_t)b->layers;
    memset(b->counts, 0, 2 * layers * sizeof *b->counts);
    if (b->seen.data != NULL) {
        mixt_device_memory_zero(&b->seen);
    }
    for (int i = 0; i < b->layers && b->coefficients != NULL; i++) {
        b->factors[trainer->graph->routes[i].layer] = (float)(b->coefficients[i] / first);
    }
    mixt_instance_write(trainer->instance, trainer->graph->balance, b->factors,
                        (size_t)trainer->model->options.layers * sizeof *b->factors);
}

typedef struct required_run {
    const mixt_trainer *trainer;
    const mixt_route *route;
    const mixt_router_spec *spec;
    const float *bias; /* [E] */
    float *required;   /* [E, rows] */
    int64_t first;     /* of them, this batch's first row */
} required_run;

#define REQUIRED_ROWS 32 /* of one item */

static void required_rows(void *context, int64_t item, int thread)
{
    (void)thread;
    const required_run *run = context;
    const mixt_kernels_f32 *kernels = run->trainer->context->device.compute->f32;
    int experts = run->route->experts;
    int64_t begin = item * REQUIRED_ROWS;
    int64_t end = mixt_least(run->route->tokens, begin + REQUIRED_ROWS);
    float row[MIXT_EXPERTS_MAX];
    for (int64_t t = begin; t < end; t++) {
        mixt_router_required_bias(kernels, run->spec, run->route->scores + t * experts, run->bias,
                                  row);
        for (int e = 0; e < experts; e++) {
            run->required[e * run->trainer->balancer->rows + run->first + t] = row[e];
        }
    }
}

static void read_bias(const mixt_trainer *trainer, int layer, float *bias)
{
    const mixt_parameter *p = &trainer->model->parameters[bias_of(trainer, layer)];
    mixt_device_memory_read(mixt_weights_block(trainer->weights), p->offset * sizeof(float), bias,
                            p->count * sizeof(float));
}

void mixt_balancer_collect(mixt_trainer *trainer, int layer, int run, const mixt_route *route)
{
    mixt_balancer *b = trainer->balancer;
    const mixt_router_spec *spec = trainer->graph->routes[layer].spec;
    double factor = spec->options.capacity > 0 ? spec->options.capacity : 1;
    int64_t capacity = mixt_router_capacity(spec, factor, route->tokens);
    b->dropped[layer] += mixt_router_dropped(route->counts, route->experts, capacity);
    for (int e = 0; e < route->experts; e++) {
        b->choices[layer] += route->counts[e];
    }
    if (b->required[layer] != NULL) {
        float bias[MIXT_EXPERTS_MAX];
        required_run rows = {trainer, route, spec, bias, b->required[layer], run * trainer->rows};
        read_bias(trainer, layer, bias);
        mixt_pool_run(trainer->context->device.compute->pool,
                      mixt_divide_up(route->tokens, REQUIRED_ROWS), required_rows, &rows);
    }
}

typedef struct quantile_run {
    const mixt_trainer *trainer;
    float *required; /* [E, rows] */
    int64_t rows;    /* of a step */
    double bias[MIXT_EXPERTS_MAX];
} quantile_run;

static void quantile_expert(void *context, int64_t item, int thread)
{
    (void)thread;
    quantile_run *run = context;
    const mixt_router_spec *spec = &run->trainer->model->router;
    int64_t rows = run->rows;
    double share = (double)spec->chosen / spec->experts;
    run->bias[item] = mixt_router_quantile(run->required + item * rows, rows, share);
}

/* The rows of all ranks, [E, rows of a step], in the order of micro batches. */
static mixt_status gather_required(const mixt_trainer *trainer, int layer, quantile_run *run,
                                   mixt_error *error)
{
    const mixt_balancer *b = trainer->balancer;
    int64_t ranks = mixt_train_ranks(trainer), experts = b->experts, rows = trainer->rows;
    size_t bytes = (size_t)(experts * b->rows) * sizeof(float);
    *run = (quantile_run){.trainer = trainer, .required = b->required[layer], .rows = b->rows};
    if (ranks == 1) {
        return MIXT_OK;
    }
    MIXT_TRY(mixt_ranks_gather(trainer->ranks, MIXT_GROUP_ALL, run->required, bytes, b->gathered,
                               error));
    run->required = b->gathered + ranks * experts * b->rows;
    run->rows = ranks * b->rows;
    for (int64_t e = 0; e < experts; e++) {
        for (int64_t micro = 0; micro < trainer->options.accumulation; micro++) {
            int64_t place = micro % ranks * experts + e;
            memcpy(run->required + e * run->rows + micro * rows,
                   b->gathered + place * b->rows + micro / ranks * rows,
                   (size_t)rows * sizeof(float));
        }
    }
    return MIXT_OK;
}

static mixt_status set_bias(mixt_trainer *trainer, int layer, mixt_error *error)
{
    const mixt_parameter *p = &trainer->model->parameters[bias_of(trainer, layer)];
    int experts = trainer->balancer->experts;
    float centred[MIXT_EXPERTS_MAX];
    quantile_run run;
    MIXT_TRY(gather_required(trainer, layer, &run, error));
    mixt_pool_run(trainer->context->device.compute->pool, experts, quantile_expert, &run);
    mixt_router_centre(run.bias, experts, centred);
    mixt_device_memory_write(mixt_weights_block(trainer->weights), p->offset * sizeof(float),
                             centred, p->count * sizeof(float));
    return MIXT_OK;
}

mixt_status mixt_balancer_end(mixt_trainer *trainer, mixt_error *error)
{
    mixt_balancer *b = trainer->balancer;
    double most = trainer->model->options.router.balance_coefficient;
    for (int i = 0; i < b->layers; i++) {
        if (b->required[i] != NULL) {
            MIXT_TRY(set_bias(trainer, i, error));
        }
        if (b->coefficients != NULL && b->choices[i] > 0) {
            b->coefficients[i] = mixt_router_adapt(
                b->coefficients[i], (double)b->dropped[i] / (double)b->choices[i], most);
        }
    }
    return MIXT_OK;
}
