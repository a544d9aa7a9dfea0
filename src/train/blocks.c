/* The blocks of a trainer: weights, gradients and both moments, and where a parameter lies in each.
 * What is not trained has no place in the last three, so that it costs no memory and nothing of it
 * is saved. */
#include <stdlib.h>

#include "core/memory_limit.h"
#include "model/parameters.h"
#include "train/trainer.h"

const mixt_device_memory *mixt_train_memory(const mixt_trainer *trainer, mixt_train_block block)
{
    return block == MIXT_TRAIN_WEIGHTS ? mixt_weights_block(trainer->weights)
                                       : &trainer->blocks.memory[block];
}

size_t mixt_train_place(const mixt_trainer *trainer, mixt_train_block block, int parameter)
{
    return trainer->blocks.places[(int)block * trainer->model->parameter_count + parameter];
}

bool mixt_train_uses_muon(const mixt_trainer *trainer, const mixt_parameter *parameter)
{
    return trainer->options.optimizer == MIXT_OPTIMIZER_MUON &&
           mixt_parameter_is_matrix(parameter) && parameter->slot != MIXT_SLOT_EMBED &&
           parameter->slot != MIXT_SLOT_OUTPUT;
}

/* Selection biases and frozen routers keep the places that they always had: the order in which the
 * squares of gradients are added up hangs on them. */
bool mixt_train_has(const mixt_trainer *trainer, mixt_train_block block, const mixt_parameter *p)
{
    bool learns = (mixt_slot_part(p->slot) & trainer->options.parts) != 0;
    bool has_none = block == MIXT_TRAIN_SECOND_MOMENTS && mixt_train_uses_muon(trainer, p);
    return block == MIXT_TRAIN_WEIGHTS || (learns && !has_none);
}

/* Values of a parameter that a block has room for. */
static size_t values_of(const mixt_trainer *trainer, mixt_train_block block, int parameter)
{
    const mixt_parameter *p = &trainer->model->parameters[parameter];
    if (!mixt_train_has(trainer, block, p)) {
        return 0;
    }
    if (block == MIXT_TRAIN_WEIGHTS || block == MIXT_TRAIN_GRADIENTS) {
        return p->count;
    }
    mixt_train_range own = mixt_train_own(trainer, parameter);
    return own.end - own.begin;
}

static void lay_out(mixt_trainer *trainer, mixt_train_block block)
{
    const mixt_model *model = trainer->model;
    size_t *places = trainer->blocks.places + (int)block * model->parameter_count;
    size_t used = 0;
    for (int region = 0; region < MIXT_TRAIN_REGIONS; region++) {
        for (int i = 0; i < model->parameter_count; i++) {
            if (mixt_train_region(trainer, i) == region) {
                size_t values = values_of(trainer, block, i);
                places[i] = values > 0 ? used : MIXT_NOWHERE;
                used += mixt_round_up(values, MIXT_ALIGNMENT / sizeof(float));
            }
        }
    }
    trainer->blocks.values[block] = used > 0 ? used : MIXT_ALIGNMENT / sizeof(float);
}

/* Pages are given when they are first written to, so what does not fit would end the process in the
 * middle of a step. */
static mixt_status check_room(const mixt_trainer *trainer, size_t bytes, mixt_error *error)
{
    const char *limit;
    const uint64_t activations = trainer->graph->plan->memory_size;
    const uint64_t available = mixt_memory_available(&limit);
    if (bytes + activations <= available) {
        return MIXT_OK;
    }
    return mixt_fail(error, MIXT_ERROR_MEMORY,
                     "training: %.1f GB of gradients and moments and %.1f GB of activations do not "
                     "fit the %.1f GB of memory that are free (%s)",
                     1e-9 * (double)bytes, 1e-9 * (double)activations, 1e-9 * (double)available,
                     limit);
}

mixt_status mixt_train_blocks_create(mixt_trainer *trainer, mixt_error *error)
{
    const mixt_backend *backend = mixt_device_backend(&trainer->context->device, sizeof(float));
    mixt_train_blocks *blocks = &trainer->blocks;
    mixt_error inner = MIXT_ERROR_INIT;
    size_t bytes = 0;
    blocks->places =
        calloc((size_t)trainer->model->parameter_count * MIXT_TRAIN_BLOCKS, sizeof *blocks->places);
    if (blocks->places == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "training: no memory");
    }
    for (int i = 0; i < MIXT_TRAIN_BLOCKS; i++) {
        lay_out(trainer, (mixt_train_block)i);
        if (i == MIXT_TRAIN_GRADIENTS) { /* which the moments follow */
            MIXT_TRY(mixt_train_slices_create(trainer, error));
        }
        bytes += i == MIXT_TRAIN_WEIGHTS ? 0 : blocks->values[i] * sizeof(float);
    }
    MIXT_TRY(check_room(trainer, bytes, error));
    for (int i = 0; i < MIXT_TRAIN_BLOCKS; i++) {
        if (i != MIXT_TRAIN_WEIGHTS &&
            mixt_device_memory_create(backend, blocks->values[i] * sizeof(float),
                                      &blocks->memory[i], &inner) != MIXT_OK) {
            return mixt_fail(error, MIXT_ERROR_MEMORY,
                             "training: no memory for %.1f GB of gradients and moments",
                             1e-9 * (double)bytes);
        }
    }
    return MIXT_OK;
}

void mixt_train_blocks_free(mixt_trainer *trainer)
{
    for (int i = 0; i < MIXT_TRAIN_BLOCKS; i++) {
        mixt_device_memory_free(&trainer->blocks.memory[i]);
    }
    free(trainer->blocks.places);
}
