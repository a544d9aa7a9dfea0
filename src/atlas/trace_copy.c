#include "atlas/trace_copy.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"

#define CHUNK 256 /* tokens that are on their way at once */

struct mixt_trace_copier {
    const mixt_trace *trace;
    int32_t numbers[CHUNK]; /* of the document */
    int32_t *experts;       /* [L, CHUNK, k] */
    float *weights;         /* [L, CHUNK, k] */
    float *logits;          /* [L, CHUNK, E]; NULL: the trace has none, as all below */
    float *margins;         /* [L, CHUNK] */
    float *entropies;       /* [L, CHUNK] */
    int32_t *ahead;         /* [L, CHUNK, k] */
};

mixt_trace_header mixt_trace_header_of(const mixt_trace *trace)
{
    const mixt_trace_info *info = &trace->info;
    return (mixt_trace_header){.layers = info->layers,
                               .layer_numbers = trace->layer_numbers,
                               .experts = info->experts,
                               .identity_experts = info->identity_experts,
                               .zero_experts = info->zero_experts,
                               .experts_per_token = info->experts_per_token,
                               .experts_per_layer = trace->chosen,
                               .domains = info->domains,
                               .domain_names = trace->domain_names,
                               .model = info->model,
                               .model_hash = info->model_hash,
                               .corpus_hash = info->corpus_hash,
                               .tokenizer_hash = info->tokenizer_hash,
                               .router_select = info->router_select,
                               .held_out = info->held_out,
                               .vocab_size = trace->vocab_size,
                               .logits = trace->logits != NULL,
                               .margins = trace->margins != NULL,
                               .entropies = trace->entropies != NULL,
                               .predicted = trace->predicted != NULL,
                               .ahead = trace->ahead != NULL};
}

/* Room for `count` numbers of 4 bytes where the trace has them; sets *failed without memory. */
static void *make_room(bool wanted, size_t count, bool *failed)
{
    void *array = wanted ? malloc(count * 4) : NULL;
    *failed = *failed || (wanted && array == NULL);
    return array;
}

mixt_status mixt_trace_copier_create(const mixt_trace *trace, mixt_trace_copier **copier,
                                     mixt_error *error)
{
    const mixt_trace_info *info = &trace->info;
    size_t rows = (size_t)info->layers * CHUNK, choices = rows * (size_t)info->experts_per_token;
    mixt_trace_copier *c = calloc(1, sizeof *c);
    bool failed = c == NULL;
    *copier = NULL;
    if (!failed) {
        c->experts = make_room(true, choices, &failed);
        c->weights = make_room(true, choices, &failed);
        c->logits = make_room(trace->logits != NULL, rows * (size_t)info->experts, &failed);
        c->margins = make_room(trace->margins != NULL, rows, &failed);
        c->entropies = make_room(trace->entropies != NULL, rows, &failed);
        c->ahead = make_room(trace->ahead != NULL, choices, &failed);
    }
    if (failed) {
        mixt_trace_copier_free(c);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "trace: no memory");
    }
    c->trace = trace;
    *copier = c;
    return MIXT_OK;
}

void mixt_trace_copier_free(mixt_trace_copier *copier)
{
    if (copier != NULL) {
        free(copier->experts);
        free(copier->weights);
        free(copier->logits);
        free(copier->margins);
        free(copier->entropies);
        free(copier->ahead);
        free(copier);
    }
}

/* Rows [begin, begin + count) of every layer of an array [L, T, width] become [L, count, width]. */
static void copy_halves(const mixt_trace *trace, const uint16_t *from, size_t width, uint64_t begin,
                        size_t count, float *to)
{
    for (size_t layer = 0; to != NULL && layer < (size_t)trace->info.layers; layer++) {
        mixt_f16_to_f32(from + (layer * trace->info.tokens + begin) * width,
                        to + layer * count * width, count * width);
    }
}

static void copy_experts(const mixt_trace *trace, const uint16_t *from, uint64_t begin,
                         size_t count, int32_t *to)
{
    size_t k = (size_t)trace->info.experts_per_token;
    for (size_t layer = 0; to != NULL && layer < (size_t)trace->info.layers; layer++) {
        const uint16_t *row = from + (layer * trace->info.tokens + begin) * k;
        for (size_t i = 0; i < count * k; i++) {
            *to++ = row[i] == MIXT_TRACE_NONE ? -1 : row[i];
        }
    }
}

mixt_status mixt_trace_copier_append(mixt_trace_copier *copier, const mixt_trace_part *part,
                                     mixt_trace_writer *writer, mixt_error *error)
{
    mixt_trace_copier *c = copier;
    const mixt_trace *trace = c->trace;
    size_t k = (size_t)trace->info.experts_per_token, experts = (size_t)trace->info.experts;
    mixt_status status = MIXT_OK;
    for (size_t i = 0; i < CHUNK; i++) {
        c->numbers[i] = part->document;
    }
    for (uint64_t at = part->begin; at < part->end && status == MIXT_OK; at += CHUNK) {
        size_t count = part->end - at < CHUNK ? (size_t)(part->end - at) : CHUNK;
        copy_experts(trace, trace->experts, at, count, c->experts);
        copy_experts(trace, trace->ahead, at, count, c->ahead);
        copy_halves(trace, trace->weights, k, at, count, c->weights);
        copy_halves(trace, trace->logits, experts, at, count, c->logits);
        copy_halves(trace, trace->margins, 1, at, count, c->margins);
        copy_halves(trace, trace->entropies, 1, at, count, c->entropies);
        const mixt_trace_chunk chunk = {.count = count,
                                        .domain = part->domain,
                                        .tokens = trace->tokens + at,
                                        .documents = c->numbers,
                                        .experts = c->experts,
                                        .weights = c->weights,
                                        .logits = c->logits,
                                        .margins = c->margins,
                                        .entropies = c->entropies,
                                        .predicted =
                                            trace->predicted != NULL ? trace->predicted + at : NULL,
                                        .ahead = c->ahead};
        status = mixt_trace_writer_append(writer, &chunk, error);
    }
    return status;
}
