#include "atlas_trace.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"
#include "formats/dtype.h"

static const char *const plain_words[] = {
    "the",  " of", " and", "\n",   " ",   "  ", "    ",  "(",      ")",    ";",     "{",  "}",
    "self", "if",  " =",   " a",   "ing", "er", " in",   "7",      "3",    " +",    ".",  ",",
    "x",    "int", " to",  "def ", "\t",  "é",  " that", "return", "What", " from", "ed", NULL};

static mixt_random_key key_of(uint64_t seed, uint32_t step)
{
    return (mixt_random_key){seed, MIXT_RANDOM_DATA, step};
}

static void fill_vocabulary(mixt_trace *trace, const char *const *words)
{
    int64_t at = 0;
    for (int i = 0; words[i] != NULL; i++) {
        memcpy(trace->vocab_bytes + at, words[i], strlen(words[i]));
        at += (int64_t)strlen(words[i]);
        trace->vocab_offsets[i + 1] = at;
    }
}

/* k different experts by repeated weighted draws. */
static void draw_experts(const atlas_trace_options *options, bool shifted, mixt_random_key key,
                         uint64_t index, uint16_t *row)
{
    int experts = options->experts;
    double *weight = malloc((size_t)experts * sizeof *weight);
    for (int e = 0; e < experts; e++) {
        weight[e] = exp(-options->skew * e / experts);
        if (shifted && e >= experts / 2) {
            weight[e] *= 1 + options->domain_shift;
        }
    }
    for (int c = 0; c < options->experts_per_token; c++) {
        double total = 0;
        for (int e = 0; e < experts; e++) {
            total += weight[e];
        }
        double place = mixt_random_uniform(&key, index * 64 + (uint64_t)c) * total;
        int chosen = 0;
        while (chosen + 1 < experts && (weight[chosen] == 0 || place >= weight[chosen])) {
            place -= weight[chosen++];
        }
        while (weight[chosen] == 0) { /* rounding at the upper end */
            chosen--;
        }
        weight[chosen] = 0;
        row[c] = (uint16_t)chosen;
    }
    free(weight);
}

static void fill_layer(mixt_trace *trace, const atlas_trace_options *options, int layer)
{
    int k = options->experts_per_token;
    double stay = options->stay != NULL ? options->stay[layer] : 0;
    mixt_random_key draws = key_of(options->seed, (uint32_t)(2 * layer + 10));
    mixt_random_key keeps = key_of(options->seed, (uint32_t)(2 * layer + 11));
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        uint64_t at = ((uint64_t)layer * trace->info.tokens + i) * (uint64_t)k;
        bool begins = i == 0 || trace->document[i] != trace->document[i - 1];
        if (!begins && mixt_random_uniform(&keeps, i) < stay) {
            memcpy(trace->experts + at, trace->experts + at - k, (size_t)k * sizeof(uint16_t));
        } else {
            draw_experts(options, trace->domain[i] == options->domains - 1, draws, i,
                         trace->experts + at);
        }
        float total = (float)(k * (k + 1)) / 2;
        for (int c = 0; c < k; c++) {
            float weight = (float)(k - c) / total;
            mixt_f32_to_f16(&weight, &trace->weights[at + (uint64_t)c], 1);
        }
    }
}

/* Takes away experts: behind what a layer chooses, and at random. */
static void drop_choices(mixt_trace *trace, const atlas_trace_options *options, int layer)
{
    uint64_t k = (uint64_t)options->experts_per_token;
    mixt_random_key drops = key_of(options->seed, (uint32_t)layer + 4096);
    trace->chosen[layer] = options->chosen != NULL ? options->chosen[layer] : (int)k;
    for (uint64_t i = 0; i < trace->info.tokens * k; i++) {
        uint64_t at = (uint64_t)layer * trace->info.tokens * k + i;
        if (i % k >= (uint64_t)trace->chosen[layer] ||
            mixt_random_uniform(&drops, i) < options->none) {
            trace->experts[at] = MIXT_TRACE_NONE;
            trace->weights[at] = 0;
        }
    }
}

mixt_trace *atlas_trace_make(const atlas_trace_options *options)
{
    const char *const *words = options->words != NULL ? options->words : plain_words;
    int vocab_size = 0;
    size_t vocab_bytes = 0;
    while (words[vocab_size] != NULL) {
        vocab_bytes += strlen(words[vocab_size++]);
    }
    mixt_random_key lengths = key_of(options->seed, 1);
    uint64_t documents = (uint64_t)options->domains * (uint64_t)options->documents;
    uint64_t third = (uint64_t)options->document_tokens / 3;
    uint64_t tokens = 0;
    for (uint64_t d = 0; d < documents; d++) {
        tokens += 2 * third + 1 + mixt_random_below(&lengths, d, 2 * third + 1);
    }
    mixt_trace_info info = {.tokens = tokens,
                            .layers = options->layers,
                            .experts = options->experts,
                            .experts_per_token = options->experts_per_token,
                            .domains = options->domains};
    mixt_trace *trace = mixt_trace_allocate(&info, vocab_size, vocab_bytes);
    fill_vocabulary(trace, words);
    trace->info.model = options->model != NULL ? options->model : "synthetic";
    for (int d = 0; d < options->domains; d++) {
        char name[32];
        snprintf(name, sizeof name, "domain %d", d);
        trace->domain_names[d] =
            mixt_arena_string(trace->arena, options->names != NULL ? options->names[d] : name);
    }
    mixt_random_key ids = key_of(options->seed, 2);
    uint64_t at = 0;
    for (uint64_t d = 0; d < documents; d++) {
        uint64_t length = 2 * third + 1 + mixt_random_below(&lengths, d, 2 * third + 1);
        for (uint64_t end = at + length; at < end; at++) {
            trace->tokens[at] = (int32_t)mixt_random_below(&ids, at, (uint64_t)vocab_size);
            trace->document[at] = (int32_t)d;
            trace->domain[at] = (uint16_t)(d / (uint64_t)options->documents);
        }
    }
    for (int layer = 0; layer < options->layers; layer++) {
        fill_layer(trace, options, layer);
        drop_choices(trace, options, layer);
    }
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_trace_check(trace, "synthetic", &error) != MIXT_OK) {
        fprintf(stderr, "%s\n", error.message);
        abort();
    }
    return trace;
}

mixt_trace *atlas_trace_of_choices(const uint16_t *choices, int count, int experts)
{
    mixt_trace_info info = {.tokens = (uint64_t)count,
                            .layers = 1,
                            .experts = experts,
                            .experts_per_token = 1,
                            .domains = 1};
    mixt_trace *trace = mixt_trace_allocate(&info, 1, 1);
    trace->vocab_bytes[0] = 'a';
    trace->vocab_offsets[1] = 1;
    trace->domain_names[0] = mixt_arena_string(trace->arena, "text");
    memcpy(trace->experts, choices, (size_t)count * sizeof *choices);
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_trace_check(trace, "choices", &error) != MIXT_OK) {
        fprintf(stderr, "%s\n", error.message);
        abort();
    }
    return trace;
}

void atlas_trace_refused(const char *path, const char *message)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_trace *trace = (mixt_trace *)8;
    mixt_status status = mixt_trace_open(path, &trace, &error);
    if (status == MIXT_OK) {
        fail_msg("accepted, though: %s", message);
    }
    assert_null(trace);
    assert_true(mixt_status_is_refusal(status));
    assert_int_equal(status, error.status);
    if (strstr(error.message, message) == NULL || strstr(error.message, path) == NULL ||
        strchr(error.message, '\n') != NULL) {
        fail_msg("expected \"%s\", was told \"%s\"", message, error.message);
    }
    assert_int_equal(mixt_trace_open(path, &trace, NULL), status);
}
