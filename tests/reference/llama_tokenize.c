/* Ids that llama.cpp gives for hexadecimal lines on standard input, for tokenizer_vectors.py.
 *   cc llama_tokenize.c -I LLAMA/include -I LLAMA/ggml/include -L LLAMA/build/bin -lllama
 *   ./a.out VOCABULARY.gguf 0|1 (special tokens in the text count) */
#include <llama.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void quiet(enum ggml_log_level level, const char *text, void *user)
{
    (void)level;
    (void)text;
    (void)user;
}

int main(int count, char **arguments)
{
    if (count != 3) {
        return 2;
    }
    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    struct llama_model *model = llama_model_load_from_file(arguments[1], params);
    if (model == NULL) {
        return 1;
    }
    const struct llama_vocab *vocabulary = llama_model_get_vocab(model);
    static char line[1 << 20], text[1 << 19];
    static llama_token ids[1 << 20];
    while (fgets(line, sizeof line, stdin) != NULL) {
        size_t length = strcspn(line, "\n") / 2;
        for (size_t i = 0; i < length; i++) {
            char digits[3] = {line[2 * i], line[2 * i + 1], 0};
            text[i] = (char)strtoul(digits, NULL, 16);
        }
        int32_t made = llama_tokenize(vocabulary, text, (int32_t)length, ids, 1 << 20, false,
                                      strcmp(arguments[2], "1") == 0);
        for (int32_t i = 0; i < made; i++) {
            printf(i == 0 ? "%d" : " %d", ids[i]);
        }
        printf("\n");
    }
    llama_model_free(model);
    return 0;
}
