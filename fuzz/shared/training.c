#include "training.h"

#include <string.h>

static mixt_tokenizer *tokenizer;
static mixt_data *data;

static void open_data(void)
{
    static const char lines[] = "{\"text\": \"red fish blue fish\", \"domain\": \"a\"}\n"
                                "{\"text\": \"one bird two birds\", \"domain\": \"b\"}\n"
                                "{\"text\": \"a tree is a tree is a tree\", \"domain\": \"a\"}\n";
    char path[FUZZ_PATH_MAX];
    const char *paths[] = {path};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_corpus *corpus;
    fuzz_write(fuzz_path("corpus.jsonl", path), lines, sizeof lines - 1);
    FUZZ_REQUIRE(mixt_tokenizer_bytes(&tokenizer, &error) == MIXT_OK, error.message);
    FUZZ_REQUIRE(mixt_corpus_open(paths, 1, &corpus, &error) == MIXT_OK, error.message);
    FUZZ_REQUIRE(mixt_data_create(corpus, tokenizer, 0, &data, &error) == MIXT_OK, error.message);
    mixt_corpus_free(corpus);
}

mixt_model *fuzz_smallest_model(void)
{
    mixt_model *model;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_model_options options = mixt_model_options_default();
    options.vocab_size = 257;
    options.context_length = 16;
    options.layers = 1;
    options.hidden_size = 4;
    options.heads = options.kv_heads = 1;
    options.ffn_size = 4;
    options.experts = 3;
    options.experts_per_token = 2;
    options.tie_embeddings = true;
    options.separator = 256;
    options.router.balance_coefficient = 0.1; /* that of the seeds */
    FUZZ_REQUIRE(mixt_model_create(&options, 1, &model, &error) == MIXT_OK, error.message);
    return model;
}

void fuzz_resume(const char *run)
{
    mixt_train_options options = mixt_train_options_default();
    mixt_error error = MIXT_ERROR_INIT;
    mixt_trainer *trainer;
    mixt_step_report report;
    if (data == NULL) {
        open_data();
    }
    options.steps = 4;
    options.batch_size = 1;
    options.window = 8;
    options.warmup = 1;
    options.checkpoint_seconds = 0;
    options.evaluate_every = 0;
    mixt_model *model = fuzz_smallest_model();
    mixt_status status = mixt_trainer_create(fuzz_context(), model, data, tokenizer, &options, run,
                                             &trainer, &error);
    if (status != MIXT_OK) {
        FUZZ_REQUIRE(trainer == NULL, error.message);
        fuzz_refused(status, &error);
    } else {
        FUZZ_REQUIRE(strlen(mixt_trainer_state_hash(trainer)) == 64, "a hash");
        if (!mixt_trainer_done(trainer)) {
            status = mixt_trainer_step(trainer, &report, &error);
        }
        if (status == MIXT_OK) {
            status = mixt_trainer_checkpoint(trainer, &error);
        }
        /* Weights and moments may be anything: a step that is not finite is an error at work. */
        FUZZ_REQUIRE(status == MIXT_OK || status == MIXT_ERROR_NUMERIC, error.message);
        mixt_trainer_free(trainer);
    }
    mixt_model_free(model);
}

void fuzz_trace(const char *path, bool logits)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_trace_options options = {
        .output = path, .model_name = "tiny", .window = 8, .logits = logits};
    if (data == NULL) {
        open_data();
    }
    mixt_model *model = fuzz_smallest_model();
    mixt_status status =
        mixt_trace_write(fuzz_context(), model, data, tokenizer, &options, NULL, NULL, &error);
    FUZZ_REQUIRE(status == MIXT_OK, error.message);
    mixt_model_free(model);
}

static bool count_down(void *user, double done, double total)
{
    int *left = user;
    (void)done;
    (void)total;
    return --*left != 0;
}

mixt_status fuzz_probe(const char *output, int steps, mixt_error *error)
{
    mixt_probe_options options = mixt_probe_options_default();
    if (data == NULL) {
        open_data();
    }
    options.output = output;
    options.model_name = "tiny";
    options.window = 8;
    options.experiments &= ~(MIXT_PROBE_FIRST | MIXT_PROBE_ROUTES); /* most of a state's numbers */
    options.save_seconds = 1e9;                                     /* but where it is left */
    options.progress = count_down;
    options.user = &steps;
    mixt_model *model = fuzz_smallest_model();
    mixt_status status = mixt_probe_run(fuzz_context(), model, data, tokenizer, &options, error);
    mixt_model_free(model);
    return status;
}
