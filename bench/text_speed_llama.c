/* text_speed.c for llama.cpp: weights are mapped and not repacked, the only way in which it opens a
 * file larger than memory (or, as the last word says, read with its other load modes). Built
 * against a tree of llama.cpp:
 *
 *   cc -O2 -I LLAMA/include -I LLAMA/ggml/include bench/text_speed_llama.c -L BIN -lllama
 *
 *   text_speed_llama MODEL IDS PROMPT TOKENS THREADS */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "llama.h"
#include "text_speed.h"

static void quiet(enum ggml_log_level level, const char *text, void *user)
{
    (void)user;
    if (level == GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

static int feed(struct llama_context *context, llama_token *ids, int count)
{
    int status = llama_decode(context, llama_batch_get_one(ids, count));
    llama_synchronize(context);
    return status;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: text_speed_llama MODEL IDS PROMPT TOKENS THREADS\n");
        return 2;
    }
    int prompt = atoi(argv[3]), tokens = atoi(argv[4]), count = 0;
    llama_token *ids = calloc((size_t)(prompt + tokens) + 1, sizeof *ids);
    FILE *file = fopen(argv[2], "r");
    while (file != NULL && ids != NULL && count < prompt + tokens &&
           fscanf(file, "%d", &ids[count]) == 1) {
        count++;
    }
    if (file != NULL) {
        fclose(file);
    }
    if (count < prompt + tokens) {
        fprintf(stderr, "text_speed_llama: %s has too few ids\n", argv[2]);
        return 2;
    }
    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model_params how = llama_model_default_params();
    how.load_mode = LLAMA_LOAD_MODE_MMAP;
    how.use_extra_bufts = false;
    struct llama_model *model = llama_model_load_from_file(argv[1], how);
    struct llama_context_params shape = llama_context_default_params();
    shape.n_ctx = (uint32_t)(prompt + tokens + 8);
    shape.n_batch = (uint32_t)(prompt > 2048 ? prompt : 2048);
    shape.n_threads = shape.n_threads_batch = atoi(argv[5]);
    struct llama_context *context = model != NULL ? llama_init_from_model(model, shape) : NULL;
    if (context == NULL) {
        fprintf(stderr, "text_speed_llama: %s does not open\n", argv[1]);
        return 1;
    }
    double begin = now(), bytes;
    int status = tokens == 0 ? feed(context, ids, prompt) : 0; /* as text_speed warms up */
    double first_seconds = now() - begin;
    llama_memory_clear(llama_get_memory(context), true);
    begin = now();
    bytes = bytes_read();
    status = status == 0 && prompt > 0 ? feed(context, ids, prompt) : status;
    double prompt_seconds = now() - begin, prompt_bytes = bytes_read() - bytes, slowest = 0;
    begin = now();
    bytes = bytes_read();
    for (int i = 0; i < tokens && status == 0; i++) {
        double single = now();
        status = feed(context, ids + prompt + i, 1);
        single = now() - single;
        slowest = single > slowest ? single : slowest;
    }
    double seconds = now() - begin, read = bytes_read() - bytes, check = 0;
    const float *logits = status == 0 ? llama_get_logits_ith(context, -1) : NULL;
    int vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    for (int i = 0; logits != NULL && i < vocab; i++) {
        check += (double)logits[i] * (double)logits[i];
    }
    printf("{\"first_seconds\": %.6f, \"prompt_tokens\": %d, \"prompt_seconds\": %.6f, "
           "\"prompt_bytes\": %.0f, "
           "\"tokens\": %d, \"seconds\": %.6f, \"slowest\": %.6f, \"bytes\": %.0f, "
           "\"check\": %.9g}\n",
           first_seconds, prompt, prompt_seconds, prompt_bytes, tokens, seconds, slowest, read,
           check);
    llama_free(context);
    llama_model_free(model);
    free(ids);
    return status == 0 ? 0 : 1;
}
