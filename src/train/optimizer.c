/* Gradient norm, AdamW over all parameters, loss-free bias update. */
#include <math.h>

#include "train/trainer.h"

typedef struct norm_work {
    const float *values;
    size_t count;
    double *sums;
} norm_work;

static void norm_block(void *context, int64_t item, int thread)
{
    (void)thread;
    const norm_work *work = context;
    size_t begin = (size_t)item * MIXT_NORM_BLOCK;
    size_t end = work->count - begin < MIXT_NORM_BLOCK ? work->count : begin + MIXT_NORM_BLOCK;
    double lanes[8] = {0}; /* lane j: elements j, j + 8, ... */
    size_t i = begin;
    for (; i + 8 <= end; i += 8) {
        for (size_t j = 0; j < 8; j++) {
            double x = work->values[i + j];
            lanes[j] += x * x;
        }
    }
    for (size_t j = 0; i < end; i++, j++) {
        double x = work->values[i];
        lanes[j] += x * x;
    }
    work->sums[item] = ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) +
                       ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

double mixt_gradient_norm(const mixt_compute *compute, const float *values, size_t count,
                          double *block_sums)
{
    norm_work work = {values, count, block_sums};
    int64_t blocks = (int64_t)((count + MIXT_NORM_BLOCK - 1) / MIXT_NORM_BLOCK);
    mixt_pool_run(compute->pool, blocks, norm_block, &work);
    double sum = 0;
    for (int64_t i = 0; i < blocks; i++) {
        sum += block_sums[i];
    }
    return sqrt(sum);
}

void mixt_optimizer_step(mixt_trainer *trainer, double rate, double gradient_scale)
{
    const mixt_train_options *o = &trainer->options;
    double t = (double)(trainer->counters.updates + 1);
    mixt_adamw_arguments step = {.scale = gradient_scale,
                                 .rate = rate,
                                 .beta1 = o->beta1,
                                 .beta2 = o->beta2,
                                 .epsilon = o->epsilon,
                                 .correction1 = 1.0 - pow(o->beta1, t),
                                 .correction2 = 1.0 - pow(o->beta2, t)};
    mixt_attributes attributes = {.adamw = &step};
    for (int i = 0; i < trainer->model->parameter_count; i++) {
        const mixt_parameter *p = &trainer->model->parameters[i];
        if (!p->trainable) {
            continue;
        }
        step.decay = p->decay ? o->weight_decay : 0.0;
        mixt_shape flat = mixt_shape_static(1, (int64_t)p->count, 0, 0);
        mixt_shape shapes[MIXT_SLOTS] = {flat, flat, flat, flat};
        mixt_call call = {.compute = trainer->context->compute,
                          .attributes = &attributes,
                          .tokens = 1,
                          .in_shape = shapes,
                          .out_shape = shapes,
                          .in = {trainer->model->weights + p->offset,
                                 trainer->gradients + p->offset, trainer->first_moments + p->offset,
                                 trainer->second_moments + p->offset}};
        trainer->instance->backend->forward[MIXT_OP_adamw](&call);
    }
}

void mixt_optimizer_bias(mixt_trainer *trainer)
{
    const mixt_model *model = trainer->model;
    double bias_rate = model->options.router.bias_rate;
    for (int i = 0; i < trainer->graph->moe_layers && bias_rate != 0; i++) {
        int p = mixt_model_find(model, MIXT_SLOT_ROUTER_BIAS, trainer->graph->route_layer[i]);
        if (p >= 0) {
            int experts = model->options.experts;
            mixt_router_update_bias(model->weights + model->parameters[p].offset,
                                    trainer->counts + (size_t)i * (size_t)experts, experts,
                                    bias_rate);
        }
    }
}
