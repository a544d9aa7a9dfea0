/* A program as a user of the library writes it, in C17 and in C++17 alike: makes a model, trains
 * it, runs it and shows its routing. What it prints depends on no machine. user FOLDER     a folder
 * of its own */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mixt.h>

#ifdef __cplusplus
#define ZERO                                                                                       \
    {                                                                                              \
    }
#else
#define ZERO                                                                                       \
    {                                                                                              \
        0                                                                                          \
    }
#endif

static mixt_error error = MIXT_ERROR_INIT;

static void need(mixt_status status, const char *what)
{
    if (status != MIXT_OK) {
        fprintf(stderr, "%s: %s: %s\n", what, mixt_status_name(status), error.message);
        exit(1);
    }
}

static mixt_data *read_text(const char *folder, const mixt_tokenizer *tokenizer)
{
    char path[300];
    mixt_corpus *corpus;
    mixt_data *data;
    snprintf(path, sizeof path, "%s/text.txt", folder);
    FILE *file = fopen(path, "w");
    for (int i = 0; file != NULL && i < 200; i++) {
        fprintf(file, "line %d of a text about %d experts\n", i, i * 7 % 13);
    }
    if (file == NULL || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
    const char *paths[1] = {path};
    need(mixt_corpus_open(paths, 1, &corpus, &error), "corpus");
    need(mixt_data_create(corpus, tokenizer, 0, &data, &error), "data");
    mixt_corpus_free(corpus);
    return data;
}

static void train(mixt_context *context, mixt_model *model, const mixt_data *data,
                  const mixt_tokenizer *tokenizer, const char *folder)
{
    char run[300];
    mixt_trainer *trainer;
    mixt_step_report report = ZERO;
    mixt_train_options options = mixt_train_options_default();
    options.steps = 4;
    options.window = 32;
    options.batch_size = 2;
    snprintf(run, sizeof run, "%s/run", folder);
    need(mixt_trainer_create(context, model, data, tokenizer, &options, run, &trainer, &error),
         "trainer");
    while (!mixt_trainer_done(trainer)) {
        need(mixt_trainer_step(trainer, &report, &error), "step");
    }
    printf("step %d loss %.4f state %.16s\n", (int)report.step, report.loss,
           mixt_trainer_state_hash(trainer));
    mixt_trainer_free(trainer);
}

static void show(mixt_context *context, const mixt_model *model, const mixt_data *data,
                 const mixt_tokenizer *tokenizer, const char *folder)
{
    char path[300];
    mixt_score_row rows[2] = {ZERO, ZERO};
    mixt_trace *trace;
    mixt_trace_info info = ZERO;
    mixt_trace_options options = ZERO;
    mixt_atlas_options atlas = ZERO;
    need(mixt_evaluate(context, model, data, false, 32, 0, rows, NULL, NULL, &error), "evaluate");
    printf("tokens %d of %d bytes, nats %.2f\n", (int)rows[1].tokens, (int)rows[1].bytes,
           rows[1].nats);
    snprintf(path, sizeof path, "%s/trace.safetensors", folder);
    options.output = path;
    options.window = 32;
    need(mixt_trace_write(context, model, data, tokenizer, &options, NULL, NULL, &error), "trace");
    need(mixt_trace_open(path, &trace, &error), "open");
    mixt_trace_describe(trace, &info);
    printf("routed %d tokens to %d experts in %d layers\n", (int)info.tokens, info.experts,
           info.layers);
    need(mixt_atlas_print(trace, &atlas, stdout, &error), "atlas");
    mixt_trace_free(trace);
}

static void run(mixt_context *context, const mixt_model *model, const mixt_tokenizer *tokenizer)
{
    mixt_session *session;
    mixt_sampling sampling = mixt_sampling_default();
    int32_t *ids;
    size_t count;
    need(mixt_tokenizer_encode(tokenizer, "line", 4, false, &ids, &count, &error), "encode");
    need(mixt_session_create(context, model, 32, &session, &error), "session");
    need(mixt_session_feed(session, ids, count, &error), "feed");
    printf("drawn:");
    for (uint64_t i = 0; i < 8; i++) {
        int32_t token = 0;
        need(mixt_sample(&sampling, mixt_session_logits(session),
                         mixt_tokenizer_vocab_size(tokenizer), ids, count, i, &token, &error),
             "sample");
        printf(" %d", (int)token);
        need(mixt_session_feed(session, &token, 1, &error), "feed");
    }
    printf("\n");
    free(ids);
    mixt_session_free(session);
}

int main(int argc, char **argv)
{
    mixt_context *context;
    mixt_tokenizer *tokenizer;
    mixt_model *model;
    mixt_model_info info = ZERO;
    mixt_context_options context_options = ZERO;
    mixt_model_options options = mixt_model_options_default();
    mixt_chat_options chat_options = mixt_chat_options_default();
    mixt_chat_message message = {"user", "hello"};
    char *text;
    if (argc != 2 || mixt_version_number() != MIXT_VERSION_NUMBER) {
        fprintf(stderr, "usage: user FOLDER, with mixt %s; this is %s\n", MIXT_VERSION,
                mixt_version());
        return 2;
    }
    printf("mixt %s\n", mixt_version());
    need(mixt_chat_render(mixt_chat_builtin("chatml"), &message, 1, &chat_options, &text, &error),
         "chat");
    printf("%s\n", text);
    free(text);
    context_options.threads = 1;
    need(mixt_context_create(&context_options, &context, &error), "context");
    need(mixt_tokenizer_bytes(&tokenizer, &error), "tokenizer");
    options.vocab_size = mixt_tokenizer_vocab_size(tokenizer);
    options.context_length = 64;
    options.layers = 2;
    options.hidden_size = 32;
    options.heads = options.kv_heads = 2;
    options.head_dim = 16;
    options.ffn_size = 32;
    options.experts = 4;
    need(mixt_model_create(&options, 1, &model, &error), "model");
    mixt_model_describe(model, &info);
    printf("%s of %d parameters; words:%s\n", info.family, (int)info.parameters_total,
           mixt_router_selects);
    mixt_data *data = read_text(argv[1], tokenizer);
    train(context, model, data, tokenizer, argv[1]);
    show(context, model, data, tokenizer, argv[1]);
    run(context, model, tokenizer);
    mixt_data_free(data);
    mixt_model_free(model);
    mixt_tokenizer_free(tokenizer);
    mixt_context_free(context);
    return 0;
}
