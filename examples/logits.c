/* Prints a model's logits behind every token of a text as JSON:
 *
 *     logits FOLDER TEXT > result.json
 *     python3 tests/reference/open_in_transformers.py FOLDER result.json
 *
 * The second line opens the same folder in transformers and compares. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mixt.h"

static void print_text(const char *text)
{
    putchar('"');
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == '"' || c == '\\') {
            printf("\\u%04x", c);
        } else {
            putchar(c);
        }
    }
    putchar('"');
}

/* The text's tokens one after the other, as in generation. */
static mixt_status print_logits(mixt_session *session, const int32_t *tokens, size_t count,
                                int vocab_size, mixt_error *error)
{
    printf(",\n\"logits\": [");
    for (size_t i = 0; i < count; i++) {
        mixt_status status = mixt_session_feed(session, &tokens[i], 1, error);
        if (status != MIXT_OK) {
            return status;
        }
        const float *logits = mixt_session_logits(session);
        for (int id = 0; id < vocab_size; id++) {
            printf("%s%.9g", id > 0 ? "," : i > 0 ? ",\n[" : "\n[", (double)logits[id]);
        }
        putchar(']');
    }
    printf("]}\n");
    return MIXT_OK;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: logits FOLDER TEXT\n");
        return 2;
    }
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context *context = NULL;
    mixt_tokenizer *tokenizer = NULL;
    mixt_model *model = NULL;
    mixt_session *session = NULL;
    int32_t *tokens = NULL;
    size_t count = 0;
    mixt_context_options options = {0};

    mixt_status status = mixt_context_create(&options, &context, &error);
    if (status == MIXT_OK) {
        status = mixt_model_open(argv[1], &model, &error);
    }
    if (status == MIXT_OK) {
        status = mixt_tokenizer_open(argv[1], &tokenizer, &error);
    }
    if (status == MIXT_OK) {
        status = mixt_tokenizer_encode(tokenizer, argv[2], strlen(argv[2]), false, &tokens, &count,
                                       &error);
    }
    if (status == MIXT_OK) {
        status = mixt_session_create(context, model, 0, &session, &error);
    }
    if (status == MIXT_OK) {
        mixt_model_info info;
        mixt_model_describe(model, &info);
        printf("{\"text\": ");
        print_text(argv[2]);
        printf(",\n\"tokens\": [");
        for (size_t i = 0; i < count; i++) {
            printf("%s%d", i > 0 ? "," : "", tokens[i]);
        }
        putchar(']');
        status = print_logits(session, tokens, count, info.options.vocab_size, &error);
    }
    if (status != MIXT_OK) {
        fprintf(stderr, "logits: %s\n", error.message);
    }
    free(tokens);
    mixt_session_free(session);
    mixt_tokenizer_free(tokenizer);
    mixt_model_free(model);
    mixt_context_free(context);
    return status == MIXT_OK ? 0 : mixt_status_is_refusal(status) ? 2 : 1;
}
