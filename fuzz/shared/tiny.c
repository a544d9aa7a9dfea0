#include "tiny.h"

#include "model/model.h"

#define WEIGHTS_MAX (1 << 17) /* larger models would only take longer */
#define LAYERS_MAX 6

/* Weights from the seed; norms around 1. */
static void fill(mixt_model *model, uint64_t seed)
{
    fuzz_dice dice = fuzz_dice_of(seed);
    for (int p = 0; p < model->parameter_count; p++) {
        const mixt_parameter *parameter = &model->parameters[p];
        float around = parameter->rank == 1 ? 1 : 0;
        for (size_t i = 0; i < parameter->count; i++) {
            float value = (float)((double)(fuzz_draw(&dice) >> 40) / (1 << 24) - 0.5);
            model->weights[parameter->offset + i] = around + value;
        }
    }
}

mixt_model *fuzz_tiny_model(const char *text, uint64_t seed)
{
    mixt_model_options options;
    const mixt_family *family;
    mixt_model *model;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = mixt_model_config_parse(text, "config.json", &options, &family, &error);
    if (status != MIXT_OK) {
        fuzz_refused(status, &error);
        return NULL;
    }
    if (options.layers > LAYERS_MAX || (int64_t)options.experts * options.ffn_size > WEIGHTS_MAX) {
        return NULL;
    }
    status = mixt_model_layout(&options, family, "config.json", &model, &error);
    if (status != MIXT_OK) {
        fuzz_refused(status, &error);
        return NULL;
    }
    bool small = model->weight_count <= WEIGHTS_MAX;
    mixt_model_free(model);
    if (!small) {
        return NULL;
    }
    status = mixt_model_allocate(&options, family, "config.json", &model, &error);
    FUZZ_REQUIRE(status == MIXT_OK, error.message);
    fill(model, seed);
    return model;
}
