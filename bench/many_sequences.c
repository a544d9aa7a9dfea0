/* Sequences that are decoded together by one engine, against one alone: tokens a second of all of
 * them, the numbers of sequences in turn so that a machine that changes meets all alike. It knows
 * the public header alone.
 *
 *   many_sequences FILE [TOKENS [PROMPT [THREADS]]]     TOKENS (64) behind a PROMPT (64) of each */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "mixt.h"

#define MOST 16
#define ROUNDS 3

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static int32_t best(const float *logits, int count)
{
    int32_t at = 0;
    float most = logits[0];
    for (int i = 1; i < count; i++) {
        if (logits[i] > most) {
            most = logits[i];
            at = i;
        }
    }
    return at;
}

typedef struct figures {
    double prompt, generation; /* tokens a second, the best of all rounds */
} figures;

/* One round of `count` sequences. */
static mixt_status measure(mixt_engine *engine, int vocab_size, int count, int prompt, int tokens,
                           figures *best_so_far, mixt_error *error)
{
    mixt_sequence *sequences[MOST] = {NULL};
    mixt_status status = MIXT_OK;
    for (int i = 0; i < count && status == MIXT_OK; i++) {
        status = mixt_sequence_create(engine, NULL, &sequences[i], error);
        for (int t = 0; t < prompt && status == MIXT_OK; t++) { /* random ids, no two texts alike */
            int32_t token = (int32_t)((uint32_t)(t * 7919 + i * 104729 + 1) * 2654435761U %
                                      (uint32_t)vocab_size);
            status = mixt_sequence_feed(sequences[i], &token, 1, error);
        }
    }
    double begin = now();
    while (status == MIXT_OK && mixt_engine_waiting(engine) > 0) {
        status = mixt_engine_step(engine, error);
    }
    double middle = now();
    for (int t = 0; t < tokens && status == MIXT_OK; t++) {
        for (int i = 0; i < count && status == MIXT_OK; i++) {
            int32_t token = best(mixt_sequence_logits(sequences[i]), vocab_size);
            status = mixt_sequence_feed(sequences[i], &token, 1, error);
        }
        status = status == MIXT_OK ? mixt_engine_step(engine, error) : status;
    }
    double end = now(), prompts = count * prompt / (middle - begin);
    double generated = count * tokens / (end - middle);
    best_so_far->prompt = prompts > best_so_far->prompt ? prompts : best_so_far->prompt;
    best_so_far->generation =
        generated > best_so_far->generation ? generated : best_so_far->generation;
    for (int i = 0; i < count; i++) {
        mixt_sequence_free(sequences[i]);
    }
    return status;
}

static mixt_status compare(mixt_context *context, const mixt_model *model, int prompt, int tokens,
                           mixt_error *error)
{
    static const int counts[] = {1, 2, 4, 8, 16};
    figures all[5] = {{0}};
    mixt_engine *engine;
    mixt_model_info info;
    mixt_engine_options options = mixt_engine_options_default();
    options.sequences = MOST;
    options.context_length = prompt + tokens + 1;
    options.no_sharing = true;
    mixt_model_describe(model, &info);
    mixt_status status = mixt_engine_create(context, model, &options, &engine, error);
    for (int round = 0; round < ROUNDS && status == MIXT_OK; round++) {
        for (int i = 0; i < 5 && status == MIXT_OK; i++) {
            status =
                measure(engine, info.options.vocab_size, counts[i], prompt, tokens, &all[i], error);
        }
    }
    printf("sequences   prompts t/s   generation t/s   of one\n");
    for (int i = 0; i < 5 && status == MIXT_OK; i++) {
        printf("%9d %13.1f %16.1f %7.2fx\n", counts[i], all[i].prompt, all[i].generation,
               all[i].generation / all[0].generation);
    }
    mixt_engine_free(engine);
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 5) {
        fprintf(stderr, "usage: many_sequences FILE [TOKENS [PROMPT [THREADS]]]\n");
        return 2;
    }
    mixt_context_options machine = {.threads = argc > 4 ? atoi(argv[4]) : 0};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context *context = NULL;
    mixt_model *model = NULL;
    mixt_status status = mixt_context_create(&machine, &context, &error);
    if (status == MIXT_OK) {
        status = mixt_model_open(argv[1], &model, &error);
    }
    if (status == MIXT_OK) {
        status = compare(context, model, argc > 3 ? atoi(argv[3]) : 64,
                         argc > 2 ? atoi(argv[2]) : 64, &error);
    }
    if (status != MIXT_OK) {
        fprintf(stderr, "many_sequences: %s\n", error.message);
    }
    mixt_model_free(model);
    mixt_context_free(context);
    return status == MIXT_OK ? 0 : 1;
}
