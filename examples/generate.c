/* Continues a prompt with a model folder, greedily:
 *   cc generate.c $(pkg-config --cflags --libs mixt) -o generate
 *   ./generate demo/model "The licence" 40
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mixt.h>

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: generate FOLDER PROMPT [TOKENS]\n");
        return 2;
    }
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context *context = NULL;
    mixt_model *model = NULL;
    mixt_tokenizer *tokenizer = NULL;
    mixt_session *session = NULL;
    int32_t *prompt = NULL;
    size_t count = 0;
    mixt_model_info info = {0};

    /* Zeroed options mean: every core, the best CPU tier, exact products. */
    mixt_status status = mixt_context_create(&(mixt_context_options){0}, &context, &error);
    if (status == MIXT_OK) {
        status = mixt_model_open(argv[1], &model, &error);
    }
    if (status == MIXT_OK) {
        mixt_model_describe(model, &info);
        status = mixt_tokenizer_open(argv[1], &tokenizer, &error);
    }
    if (status == MIXT_OK) {
        status = mixt_tokenizer_encode(tokenizer, argv[2], strlen(argv[2]), false, &prompt, &count,
                                       &error);
    }
    if (status == MIXT_OK) {
        status = mixt_session_create(context, model, 0, &session, &error);
    }
    if (status == MIXT_OK) {
        status = mixt_session_feed(session, prompt, count, &error);
    }

    mixt_sampling sampling = mixt_sampling_default();
    sampling.temperature = 0; /* greedy */
    size_t tokens = argc > 3 ? (size_t)atoi(argv[3]) : 40;
    size_t room = (size_t)info.options.context_length;
    for (size_t i = 0; status == MIXT_OK && i < tokens && mixt_session_length(session) < room;
         i++) {
        int32_t token = 0;
        status = mixt_sample(&sampling, mixt_session_logits(session), info.options.vocab_size,
                             prompt, count, i, &token, &error);
        if (status != MIXT_OK || token == mixt_tokenizer_separator(tokenizer)) {
            break;
        }
        size_t length = 0;
        const char *bytes = mixt_tokenizer_bytes_of(tokenizer, token, &length);
        fwrite(bytes, 1, bytes != NULL ? length : 0, stdout);
        status = mixt_session_feed(session, &token, 1, &error);
    }
    putchar('\n');

    if (status != MIXT_OK) {
        fprintf(stderr, "generate: %s\n", error.message);
    }
    mixt_session_free(session);
    free(prompt);
    mixt_tokenizer_free(tokenizer);
    mixt_model_free(model);
    mixt_context_free(context);
    return status == MIXT_OK ? 0 : mixt_status_is_refusal(status) ? 2 : 1;
}
