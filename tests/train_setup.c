#include "train/trainer.h"
#include "train_setup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/files.h"
#include "hub.h"

mixt_model_options train_setup_model_options(void)
{
    mixt_model_options options = mixt_model_options_default();
    options.vocab_size = 257;
    options.context_length = 32;
    options.layers = 2;
    options.hidden_size = 32;
    options.heads = 4;
    options.kv_heads = 2;
    options.head_dim = 8;
    options.ffn_size = 16;
    options.experts = 4;
    options.experts_per_token = 2;
    options.separator = 256;
    return options;
}

static void write_corpus(const char *path, int variant)
{
    static const char *const words[] = {"red",  "green", "blue", "one",  "two", "three",
                                        "fish", "bird",  "tree", "runs", "is",  "and"};
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    unsigned state = 12345;
    for (int document = 0; document < 40; document++) {
        fprintf(file, "{\"domain\": \"%s\", \"text\": \"", document % 2 == 0 ? "a" : "b");
        int count = document % 7 == 0 ? 1 : 4 + document % 11;
        for (int i = 0; i < count; i++) {
            state = state * 1664525u + 1013904223u;
            int word = (int)(state >> 24) % 6 + (document % 2) * 6;
            fprintf(file, "%s%s", i == 0 ? "" : " ",
                    variant != 0 && document == 5 && i == 2 ? "ODD" : words[word]);
        }
        fprintf(file, "\"}\n");
    }
    assert_int_equal(fclose(file), 0);
}

mixt_data *train_setup_data(const char *folder, const mixt_tokenizer *tokenizer, int variant)
{
    char path[160];
    snprintf(path, sizeof path, "%s/corpus%d.jsonl", folder, variant);
    if (hub_process() == 0) {
        write_corpus(path, variant);
    }
    hub_meet(); /* it is there */
    const char *paths[] = {path};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_corpus *corpus = NULL;
    mixt_data *data = NULL;
    if (mixt_corpus_open(paths, 1, &corpus, &error) != MIXT_OK ||
        mixt_data_create(corpus, tokenizer, 0.2, &data, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    mixt_corpus_free(corpus);
    return data;
}

mixt_train_options train_setup_of_ranks(const train_setup *setup, int micro_batches)
{
    mixt_train_options options = setup->options;
    options.steps = 1000;
    options.schedule = MIXT_SCHEDULE_CONSTANT;
    options.batch_size = 1;
    options.accumulation = micro_batches;
    return options;
}

void train_setup_new_model(train_setup *setup, const mixt_model_options *options)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model_options standard = train_setup_model_options();
    mixt_model_free(setup->model);
    if (mixt_model_create(options != NULL ? options : &standard, 7, &setup->model, &error) !=
        MIXT_OK) {
        fail_msg("%s", error.message);
    }
}

void train_setup_open(train_setup *setup, int threads, const mixt_model_options *options)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context_options context_options = {.threads = threads};
    memset(setup, 0, sizeof *setup);
    const char *base = getenv("TMPDIR");
    snprintf(setup->folder, sizeof setup->folder, "%s/mixt-train-XXXXXX",
             base != NULL && strlen(base) < sizeof setup->folder / 2 ? base : "/tmp");
    if (hub_process() == 0) {
        assert_non_null(mkdtemp(setup->folder));
    }
    hub_tell(setup->folder, sizeof setup->folder);
    snprintf(setup->run, sizeof setup->run, "%s/run", setup->folder);
    if (mixt_context_create(&context_options, &setup->context, &error) != MIXT_OK ||
        mixt_tokenizer_bytes(&setup->tokenizer, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    setup->data = train_setup_data(setup->folder, setup->tokenizer, 0);
    train_setup_new_model(setup, options);
    setup->options = mixt_train_options_default();
    setup->options.optimizer = MIXT_OPTIMIZER_ADAMW;
    setup->options.steps = 12;
    setup->options.batch_size = 2;
    setup->options.window = 32;
    setup->options.warmup = 2;
    setup->options.learning_rate = 3e-3;
    setup->options.checkpoint_seconds = 0;
}

mixt_trainer *train_setup_trainer(train_setup *setup)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_trainer *trainer = NULL;
    if (mixt_trainer_create(setup->context, setup->model, setup->data, setup->tokenizer,
                            &setup->options, setup->run, &trainer, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    return trainer;
}

mixt_step_report train_setup_steps(mixt_trainer *trainer, int count)
{
    mixt_step_report report = {0};
    for (int i = 0; i < count; i++) {
        mixt_error error = MIXT_ERROR_INIT;
        if (mixt_trainer_step(trainer, &report, &error) != MIXT_OK) {
            fail_msg("%s", error.message);
        }
    }
    return report;
}

void train_setup_check_resume(void (*open)(train_setup *setup, int threads, int64_t parts),
                              int64_t parts, const mixt_model_options *options, bool recompute)
{
    char hashes[2][65];
    for (int broken = 0; broken < 2; broken++) {
        train_setup setup;
        open(&setup, 1 + broken, parts);
        setup.options.recompute = recompute && broken != 0;
        mixt_trainer *trainer = train_setup_trainer(&setup);
        train_setup_steps(trainer, 5);
        if (broken) {
            assert_int_equal(mixt_trainer_checkpoint(trainer, NULL), MIXT_OK);
            train_setup_steps(trainer, 2); /* lost */
            mixt_trainer_free(trainer);
            train_setup_new_model(&setup, options);
            trainer = train_setup_trainer(&setup);
            assert_non_null(mixt_trainer_resumed(trainer));
        }
        train_setup_steps(trainer, 7);
        strcpy(hashes[broken], mixt_trainer_state_hash(trainer));
        mixt_trainer_free(trainer);
        train_setup_close(&setup);
    }
    assert_string_equal(hashes[0], hashes[1]);
}

void train_setup_close(train_setup *setup)
{
    mixt_model_free(setup->model);
    mixt_data_free(setup->data);
    mixt_tokenizer_free(setup->tokenizer);
    mixt_context_free(setup->context);
    hub_meet(); /* nobody needs it any more */
    if (hub_process() == 0) {
        mixt_folder_remove(setup->folder, NULL);
    }
}

void train_setup_poke(mixt_trainer *trainer, size_t place, float value)
{
    mixt_device_memory_write(mixt_train_memory(trainer, MIXT_TRAIN_WEIGHTS), place * sizeof value,
                             &value, sizeof value);
    mixt_weights_changed(trainer->weights, trainer->model);
}
