#include "atlas_large.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/trace_writer.h"

enum { VOCABULARY = 32000, DOCUMENT = 2000, CHUNK = 500, DOMAINS_MOST = 64, LAYERS_MOST = 256 };

/* Any number from any other (the finaliser of splitmix64). */
static uint64_t mix(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

/* Words of letters; every seventh begins a line, some want to be markup. */
static const char *bytes_of(const void *vocabulary, int32_t id, size_t *length)
{
    static char text[64];
    (void)vocabulary;
    if (id % 1000 == 999) {
        snprintf(text, sizeof text, "</script><b>%d\xe2\x80\xae", (int)id);
    } else if (id % 97 == 0) {
        snprintf(text, sizeof text, ".\n");
    } else {
        uint64_t letters = mix((uint64_t)id);
        size_t count = 2 + letters % 7;
        text[0] = ' ';
        for (size_t i = 1; i <= count; i++) {
            letters = mix(letters);
            text[i] = (char)('a' + letters % 26);
        }
        text[count + 1] = '\0';
    }
    *length = strlen(text);
    return text;
}

/* Experts of one token at one layer: a third by its word, a third by its domain, a third by chance;
 * low numbers more often, so that some are hardly ever chosen. */
static void route(const atlas_large_options *o, uint64_t seed, const uint64_t sources[3],
                  int32_t *experts, float *weights)
{
    int made = 0;
    float sum = 0;
    for (uint64_t draw = 0; made < o->experts_per_token; draw++) {
        uint64_t drawn = mix(seed ^ mix(sources[draw % 3] + draw * 7919));
        double u = (double)(drawn >> 11) * 0x1p-53;
        int32_t expert = (int32_t)((0.3 * u + 0.7 * u * u) * o->experts);
        expert = (int32_t)((uint64_t)(expert + 1) * (seed % 31 + 1) * 2654435761u % 4294967296u *
                               (uint64_t)o->experts >>
                           32); /* other ones at other layers */
        bool twice = false;
        for (int c = 0; c < made; c++) {
            twice = twice || experts[c] == expert;
        }
        if (!twice) {
            experts[made] = expert;
            weights[made] = 1.0f / (float)(made + 1);
            sum += weights[made++];
        } else if (draw > 200) {
            experts[made] = -1;
            weights[made++] = 0;
        }
    }
    for (int c = 0; c < made; c++) {
        weights[c] /= sum;
    }
}

typedef struct rows {
    int32_t tokens[CHUNK], documents[CHUNK];
    int32_t *experts; /* [layers, CHUNK, k] */
    float *weights;
} rows;

static void fill(const atlas_large_options *o, uint64_t begin, int domain, rows *r)
{
    int k = o->experts_per_token;
    for (int i = 0; i < CHUNK; i++) {
        uint64_t position = begin + (uint64_t)i;
        double u = (double)(mix(position) >> 11) * 0x1p-53;
        r->tokens[i] = (int32_t)(u * u * u * VOCABULARY); /* some words are frequent */
        r->documents[i] = (int32_t)(position / DOCUMENT);
        bool other = (int)(mix(position * 3 + 1) % 100) < o->noise;
        for (int layer = 0; layer < o->layers; layer++) {
            const uint64_t sources[3] = {(uint64_t)r->tokens[i], 1000003u + (uint64_t)domain,
                                         position * 1000 + (uint64_t)(other && layer > 2)};
            size_t at = ((size_t)layer * CHUNK + (size_t)i) * (size_t)k;
            route(o, mix((uint64_t)layer), sources, r->experts + at, r->weights + at);
        }
    }
}

mixt_status atlas_large_write(const char *path, const atlas_large_options *options,
                              mixt_error *error)
{
    int numbers[LAYERS_MOST];
    char names[DOMAINS_MOST][40];
    const char *domains[DOMAINS_MOST];
    for (int i = 0; i < options->layers; i++) {
        numbers[i] = i;
    }
    for (int d = 0; d < options->domains; d++) {
        snprintf(names[d], sizeof names[d], d == 3 ? "<script>alert(%d)</script>" : "domain %d", d);
        domains[d] = names[d];
    }
    const mixt_trace_header header = {.layers = options->layers,
                                      .layer_numbers = numbers,
                                      .experts = options->experts,
                                      .experts_per_token = options->experts_per_token,
                                      .domains = options->domains,
                                      .domain_names = domains,
                                      .model = options->noise > 0 ? "large, noisy" : "large",
                                      .vocab_size = VOCABULARY,
                                      .token_bytes = bytes_of};
    mixt_trace_writer *writer = NULL;
    size_t cells = (size_t)options->layers * CHUNK * (size_t)options->experts_per_token;
    rows *r = calloc(1, sizeof *r);
    r->experts = calloc(cells, sizeof *r->experts);
    r->weights = calloc(cells, sizeof *r->weights);
    mixt_status status = mixt_trace_writer_create(path, &header, &writer, error);
    for (uint64_t at = 0; at + CHUNK <= options->tokens && status == MIXT_OK; at += CHUNK) {
        int domain = (int)(at / DOCUMENT % (uint64_t)options->domains);
        fill(options, at, domain, r);
        const mixt_trace_chunk chunk = {.count = CHUNK,
                                        .domain = domain,
                                        .tokens = r->tokens,
                                        .documents = r->documents,
                                        .experts = r->experts,
                                        .weights = r->weights};
        status = mixt_trace_writer_append(writer, &chunk, error);
    }
    if (status == MIXT_OK) {
        status = mixt_trace_writer_finish(writer, error);
    }
    mixt_trace_writer_free(writer);
    free(r->experts);
    free(r->weights);
    free(r);
    return status;
}
