/* Writes a GGUF file of a Mixtral with random weights: something to measure generation with where
 * the weights are larger than every cache. It knows the public header alone.
 *
 *   random_model LAYERS EXPERTS TYPE FILE     width 1024, 8 experts of width 1024 for a token */
#include <stdio.h>
#include <stdlib.h>

#include "mixt.h"

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: random_model LAYERS EXPERTS TYPE FILE\n");
        return 2;
    }
    mixt_model_options shape = mixt_model_options_default();
    shape.layers = atoi(argv[1]);
    shape.experts = atoi(argv[2]);
    shape.experts_per_token = 8;
    shape.vocab_size = 16384;
    shape.context_length = 1024;
    shape.hidden_size = 1024;
    shape.heads = 16;
    shape.kv_heads = 16;
    shape.head_dim = 64;
    shape.ffn_size = 1024;
    mixt_convert_options options = mixt_convert_options_default();
    options.type = argv[3];
    options.output = argv[4];
    mixt_context_options machine = {0};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context *context = NULL;
    mixt_model *model = NULL;
    mixt_status status = mixt_context_create(&machine, &context, &error);
    if (status == MIXT_OK) {
        status = mixt_model_create(&shape, 1, &model, &error);
    }
    if (status == MIXT_OK) {
        status = mixt_convert(context, model, &options, NULL, NULL, &error);
    }
    if (status != MIXT_OK) {
        fprintf(stderr, "random_model: %s\n", error.message);
    }
    mixt_model_free(model);
    mixt_context_free(context);
    return status == MIXT_OK ? 0 : 1;
}
