/* Reads a text with a model of which so many megabytes may be in memory, and says what was read:
 *   cc larger_than_memory.c $(pkg-config --cflags --libs mixt) -o larger_than_memory
 *   ./larger_than_memory mixtral-Q4_K_M.gguf "The licence of the program" 12000
 * Without the number: what machine and cgroup have free.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mixt.h>

static void say(const mixt_model *model)
{
    mixt_store_statistics store;
    mixt_error error = MIXT_ERROR_INIT;
    char *report = NULL;
    if (!mixt_store_describe(model, &store)) {
        puts("all of it fits: its files are mapped");
        return;
    }
    printf("%lld of %lld experts fit; %llu of %llu that were wanted were there\n",
           (long long)store.slots, (long long)store.experts, (unsigned long long)store.hits,
           (unsigned long long)store.requests);
    if (mixt_store_report(model, &report, &error) == MIXT_OK) {
        fputs(report, stdout);
    } else {
        fprintf(stderr, "larger_than_memory: %s\n", error.message);
    }
    free(report);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: larger_than_memory MODEL TEXT [MEGABYTES]\n");
        return 2;
    }
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context *context = NULL;
    mixt_model *model = NULL;
    mixt_tokenizer *tokenizer = NULL;
    mixt_session *session = NULL;
    int32_t *ids = NULL;
    size_t count = 0;

    /* The model is stored before anything else uses it; a policy's name or a trace as a profile
     * would be more options. */
    mixt_store_options options = {0};
    options.memory = argc > 3 ? strtoull(argv[3], NULL, 10) * 1000000 : 0;
    mixt_status status = mixt_context_create(&(mixt_context_options){0}, &context, &error);
    if (status == MIXT_OK) {
        status = mixt_model_open(argv[1], &model, &error);
    }
    if (status == MIXT_OK) {
        status = mixt_model_store(model, &options, &error);
    }
    if (status == MIXT_OK) {
        status = mixt_tokenizer_open(argv[1], &tokenizer, &error);
    }
    if (status == MIXT_OK) {
        status =
            mixt_tokenizer_encode(tokenizer, argv[2], strlen(argv[2]), false, &ids, &count, &error);
    }
    if (status == MIXT_OK) {
        status = mixt_session_create(context, model, 0, &session, &error);
    }
    for (size_t i = 0; status == MIXT_OK && i < count; i++) {
        status = mixt_session_feed(session, &ids[i], 1, &error); /* an expert may not be read */
    }
    if (status == MIXT_OK) {
        say(model);
    } else {
        fprintf(stderr, "larger_than_memory: %s\n", error.message);
    }
    mixt_session_free(session);
    free(ids);
    mixt_tokenizer_free(tokenizer);
    mixt_model_free(model);
    mixt_context_free(context);
    return status == MIXT_OK ? 0 : mixt_status_is_refusal(status) ? 2 : 1;
}
