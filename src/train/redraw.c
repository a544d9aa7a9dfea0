/* Routers that are random anew in every step (2402.13089). Between steps the block holds their
 * first draw, which is what is saved, scored and run; a step's own draw is a function of seed and
 * step, so that there is nothing to save of it. */
#include <stdlib.h>

#include "core/random.h"
#include "train/trainer.h"

/* The next redrawn router from parameter *i on, or NULL. */
static const mixt_parameter *next_router(const mixt_model *model, int *i)
{
    bool redrawn = model->options.router.weights == MIXT_ROUTER_REDRAWN;
    while (redrawn && *i < model->parameter_count) {
        const mixt_parameter *p = &model->parameters[(*i)++];
        if (p->slot == MIXT_SLOT_ROUTER) {
            return p;
        }
    }
    return NULL;
}

mixt_status mixt_redraw_create(mixt_trainer *trainer, mixt_error *error)
{
    const mixt_parameter *p;
    size_t values = 0;
    for (int i = 0; (p = next_router(trainer->model, &i)) != NULL;) {
        values += p->count;
    }
    trainer->first_draw = values > 0 ? malloc(values * sizeof *trainer->first_draw) : NULL;
    trainer->step_draw = values > 0 ? malloc(values * sizeof *trainer->step_draw) : NULL;
    bool good = values == 0 || (trainer->first_draw != NULL && trainer->step_draw != NULL);
    return good ? MIXT_OK : mixt_fail(error, MIXT_ERROR_MEMORY, "training: no memory");
}

void mixt_redraw_begin(mixt_trainer *trainer)
{
    const mixt_device_memory *block = mixt_weights_block(trainer->weights);
    const mixt_parameter *p;
    mixt_random_key key = {trainer->options.seed, MIXT_RANDOM_ROUTER,
                           (uint32_t)trainer->counters.step};
    double deviation = trainer->model->options.initializer_range;
    float *first = trainer->first_draw, *now = trainer->step_draw;
    for (int i = 0; (p = next_router(trainer->model, &i)) != NULL;) {
        size_t offset = p->offset * sizeof *now, bytes = p->count * sizeof *now;
        for (size_t j = 0; j < p->count; j++) {
            now[j] = (float)(deviation * mixt_random_normal(&key, (uint64_t)i << 40 | j));
        }
        mixt_device_memory_read(block, offset, first, bytes);
        mixt_device_memory_write(block, offset, now, bytes);
        first += p->count;
        now += p->count;
    }
}

void mixt_redraw_end(mixt_trainer *trainer)
{
    const mixt_device_memory *block = mixt_weights_block(trainer->weights);
    const mixt_parameter *p;
    const float *first = trainer->first_draw;
    for (int i = 0; (p = next_router(trainer->model, &i)) != NULL;) {
        mixt_device_memory_write(block, p->offset * sizeof *first, first, p->count * sizeof *first);
        first += p->count;
    }
}
