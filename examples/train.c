/* Trains a tiny Mixture-of-Experts model on a folder of text and saves it:
 *   cc train.c $(pkg-config --cflags --libs mixt) -o train
 *   ./train text/ model/ 50
 */
#include <stdio.h>
#include <stdlib.h>

#include <mixt.h>

static mixt_status train(mixt_context *context, mixt_model *model, const mixt_data *data,
                         const mixt_tokenizer *tokenizer, mixt_train_options options,
                         const char *folder, mixt_error *error)
{
    mixt_trainer *trainer = NULL;
    mixt_step_report report = {0};
    mixt_status status =
        mixt_trainer_create(context, model, data, tokenizer, &options, folder, &trainer, error);
    while (status == MIXT_OK && !mixt_trainer_done(trainer)) {
        status = mixt_trainer_step(trainer, &report, error);
        if (status == MIXT_OK) {
            printf("step %lld  loss %.4f  %.0f tokens/s  load %.2f\n", (long long)report.step,
                   report.loss, report.tokens_per_second, report.load_max_over_mean);
        }
    }
    mixt_trainer_free(trainer);
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: train TEXT FOLDER [STEPS]\n");
        return 2;
    }
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context *context = NULL;
    mixt_tokenizer *tokenizer = NULL;
    mixt_corpus *corpus = NULL;
    mixt_data *data = NULL;
    mixt_model *model = NULL;

    mixt_model_options shape = mixt_model_options_default();
    shape.layers = 2;
    shape.hidden_size = 64;
    shape.heads = 4;
    shape.kv_heads = 2;
    shape.head_dim = 16;
    shape.ffn_size = 64;
    shape.experts = 4;
    shape.context_length = 64;
    mixt_train_options options = mixt_train_options_default();
    options.steps = argc > 3 ? atoi(argv[3]) : 50;
    options.window = 64;
    options.batch_size = 4;
    options.warmup = 5;

    const char *const paths[] = {argv[1]};
    mixt_status status = mixt_context_create(&(mixt_context_options){0}, &context, &error);
    if (status == MIXT_OK) {
        status = mixt_tokenizer_bytes(&tokenizer, &error); /* 256 bytes and a separator */
    }
    if (status == MIXT_OK) {
        status = mixt_corpus_open(paths, 1, &corpus, &error);
    }
    if (status == MIXT_OK) {
        status = mixt_data_create(corpus, tokenizer, 0.0, &data, &error);
    }
    if (status == MIXT_OK) {
        shape.vocab_size = mixt_tokenizer_vocab_size(tokenizer);
        status = mixt_model_create(&shape, options.seed, &model, &error);
    }
    if (status == MIXT_OK) {
        status = train(context, model, data, tokenizer, options, argv[2], &error);
    }
    if (status == MIXT_OK) {
        status = mixt_tokenizer_save(tokenizer, argv[2], &error);
    }
    if (status == MIXT_OK) {
        status = mixt_model_save(model, argv[2], &error);
    }

    if (status != MIXT_OK) {
        fprintf(stderr, "train: %s\n", error.message);
    }
    mixt_model_free(model);
    mixt_data_free(data);
    mixt_corpus_free(corpus);
    mixt_tokenizer_free(tokenizer);
    mixt_context_free(context);
    return status == MIXT_OK ? 0 : mixt_status_is_refusal(status) ? 2 : 1;
}
