/* Seconds and bytes read for a prompt and for tokens behind it, one at a time, as a given text has
 * them: the same tokens, so the same routes, as text_speed_llama.c gives llama.cpp. It knows the
 * public header alone. JSON on standard output, the store's report on standard error.
 *
 *   text_speed MODEL IDS PROMPT TOKENS THREADS [MEMORY [POLICY [PREFETCH [PROFILE]]]]
 *
 * IDS: a file of token ids; PROMPT of them are fed at once, TOKENS singly. MEMORY: none (the file
 * is mapped), auto, or bytes; POLICY: a name or "-"; PREFETCH: measured, never, always; PROFILE: a
 * trace. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mixt.h"
#include "text_speed.h"

typedef struct task {
    int32_t *ids;
    int prompt, tokens;
    double first_seconds, prompt_seconds, seconds, slowest;
    double prompt_bytes, bytes; /* that this process had read from disks */
    double check;               /* sum of the last logits' squares: the same for every budget */
} task;

static bool read_ids(const char *path, task *t)
{
    FILE *file = fopen(path, "r");
    int wanted = t->prompt + t->tokens, count = 0;
    t->ids = calloc((size_t)wanted + 1, sizeof *t->ids);
    while (file != NULL && t->ids != NULL && count < wanted &&
           fscanf(file, "%d", &t->ids[count]) == 1) {
        count++;
    }
    if (file != NULL) {
        fclose(file);
    }
    return t->ids != NULL && count == wanted;
}

static mixt_status store(mixt_model *model, int count, char **words, mixt_error *error)
{
    mixt_store_options options = {0};
    if (count < 1 || strcmp(words[0], "none") == 0) {
        return MIXT_OK;
    }
    options.memory = strcmp(words[0], "auto") == 0 ? 0 : strtoull(words[0], NULL, 10);
    options.policy = count > 1 && strcmp(words[1], "-") != 0 ? words[1] : NULL;
    if (count > 2) {
        options.prefetch = strcmp(words[2], "never") == 0    ? MIXT_STORE_PREFETCH_NEVER
                           : strcmp(words[2], "always") == 0 ? MIXT_STORE_PREFETCH_ALWAYS
                                                             : MIXT_STORE_PREFETCH_MEASURED;
    }
    options.profile = count > 3 ? words[3] : NULL;
    return mixt_model_store(model, &options, error);
}

/* A prompt before the one that is measured, where prompts alone are: the system clears the memory
 * of a pool when it is first written, which a program does once. */
static mixt_status warm_up(mixt_context *context, const mixt_model *model, const task *t,
                           mixt_error *error)
{
    mixt_session *session = NULL;
    mixt_status status = mixt_session_create(context, model, t->prompt, &session, error);
    if (status == MIXT_OK) {
        status = mixt_session_feed(session, t->ids, (size_t)t->prompt, error);
    }
    mixt_session_free(session);
    return status;
}

static mixt_status measure(mixt_context *context, mixt_model *model, task *t, mixt_error *error)
{
    mixt_session *session = NULL;
    double begin = now(), bytes;
    mixt_status status = t->tokens == 0 ? warm_up(context, model, t, error) : MIXT_OK;
    t->first_seconds = now() - begin;
    mixt_store_reset(model);
    if (status == MIXT_OK) {
        status = mixt_session_create(context, model, t->prompt + t->tokens, &session, error);
    }
    begin = now();
    bytes = bytes_read();
    if (status == MIXT_OK && t->prompt > 0) {
        status = mixt_session_feed(session, t->ids, (size_t)t->prompt, error);
    }
    t->prompt_seconds = now() - begin;
    t->prompt_bytes = bytes_read() - bytes;
    if (t->tokens > 0) {
        mixt_store_reset(model);
    }
    begin = now();
    bytes = bytes_read();
    for (int i = 0; i < t->tokens && status == MIXT_OK; i++) {
        double single = now();
        status = mixt_session_feed(session, &t->ids[t->prompt + i], 1, error);
        single = now() - single;
        t->slowest = single > t->slowest ? single : t->slowest;
    }
    t->seconds = now() - begin;
    t->bytes = bytes_read() - bytes;
    mixt_model_info info;
    mixt_model_describe(model, &info);
    const float *logits = status == MIXT_OK ? mixt_session_logits(session) : NULL;
    for (int i = 0; logits != NULL && i < info.options.vocab_size; i++) {
        t->check += (double)logits[i] * (double)logits[i];
    }
    mixt_session_free(session);
    return status;
}

static void print(const task *t, const mixt_model *model)
{
    mixt_store_statistics s;
    printf("{\"first_seconds\": %.6f, \"prompt_tokens\": %d, \"prompt_seconds\": %.6f, "
           "\"prompt_bytes\": %.0f, "
           "\"tokens\": %d, \"seconds\": %.6f, \"slowest\": %.6f, \"bytes\": %.0f, "
           "\"check\": %.9g",
           t->first_seconds, t->prompt, t->prompt_seconds, t->prompt_bytes, t->tokens, t->seconds,
           t->slowest, t->bytes, t->check);
    if (mixt_store_describe(model, &s)) {
        printf(", \"store\": {\"policy\": \"%s\", \"reader\": \"%s\", \"memory\": %llu, "
               "\"resident_bytes\": %llu, \"other_bytes\": %llu, \"pool_bytes\": %llu, "
               "\"expert_bytes\": %llu, \"token_bytes\": %llu, \"experts\": %lld, "
               "\"slots\": %lld, \"requests\": %llu, \"hits\": %llu, \"bytes_read\": %llu, "
               "\"seconds\": %.6f, \"disk_seconds\": %.6f, \"wait_seconds\": %.6f, "
               "\"prefetched\": %llu, \"prefetch_used\": %llu, \"prefetch_bytes_wasted\": %llu}",
               s.policy, s.reader, (unsigned long long)s.memory,
               (unsigned long long)s.resident_bytes, (unsigned long long)s.other_bytes,
               (unsigned long long)s.pool_bytes, (unsigned long long)s.expert_bytes,
               (unsigned long long)s.token_bytes, (long long)s.experts, (long long)s.slots,
               (unsigned long long)s.requests, (unsigned long long)s.hits,
               (unsigned long long)s.bytes_read, s.seconds, s.disk_seconds, s.wait_seconds,
               (unsigned long long)s.prefetched, (unsigned long long)s.prefetch_used,
               (unsigned long long)s.prefetch_bytes_wasted);
        mixt_store_point *points = NULL;
        int count = 0, at = 0;
        mixt_error error = MIXT_ERROR_INIT;
        if (mixt_store_curve(model, &points, &count, &at, &error) == MIXT_OK && at < count) {
            const mixt_store_point *p = &points[at];
            printf(", \"simulated\": {\"lru\": %.6f, \"lfu\": %.6f, \"optimum\": %.6f, "
                   "\"own\": %.6f, \"uniform\": %.6f}",
                   p->lru, p->lfu, p->optimum, p->own, p->uniform);
        }
        free(points);
    }
    printf("}\n");
    char *text = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_store_report(model, &text, &error) == MIXT_OK && text != NULL) {
        fputs(text, stderr);
    }
    free(text);
}

int main(int argc, char **argv)
{
    if (argc < 6 || argc > 10) {
        fprintf(stderr, "usage: text_speed MODEL IDS PROMPT TOKENS THREADS"
                        " [MEMORY [POLICY [PREFETCH [PROFILE]]]]\n");
        return 2;
    }
    task t = {.prompt = atoi(argv[3]), .tokens = atoi(argv[4])};
    mixt_context_options machine = {.threads = atoi(argv[5])};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_context *context = NULL;
    mixt_model *model = NULL;
    if (!read_ids(argv[2], &t)) {
        fprintf(stderr, "text_speed: %s has fewer ids than %d\n", argv[2], t.prompt + t.tokens);
        free(t.ids);
        return 2;
    }
    mixt_status status = mixt_context_create(&machine, &context, &error);
    if (status == MIXT_OK) {
        status = mixt_model_open(argv[1], &model, &error);
    }
    if (status == MIXT_OK) {
        status = store(model, argc - 6, argv + 6, &error);
    }
    if (status == MIXT_OK) {
        status = measure(context, model, &t, &error);
    }
    if (status == MIXT_OK) {
        print(&t, model);
    } else {
        fprintf(stderr, "text_speed: %s\n", error.message);
    }
    free(t.ids);
    mixt_model_free(model);
    mixt_context_free(context);
    return status == MIXT_OK ? 0 : 1;
}
