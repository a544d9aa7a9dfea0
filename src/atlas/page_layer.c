#include "atlas/page_layer.h"

#include <stdlib.h>
#include <string.h>

#include "atlas/statistics.h"

bool mixt_page_layer_create(const mixt_trace *trace, mixt_page_layer *made)
{
    size_t experts = (size_t)trace->info.experts;
    bool pairs = trace->info.experts_per_token > 1 && experts <= MIXT_PAGE_MATES_EXPERTS;
    *made = (mixt_page_layer){.experts = trace->info.experts};
    made->class_of = malloc((size_t)trace->vocab_size + 1);
    made->class_count = calloc(MIXT_CLASS_COUNT * experts, sizeof *made->class_count);
    made->count = calloc(experts, sizeof *made->count);
    made->weight = calloc(experts, sizeof *made->weight);
    made->pairs = pairs ? calloc(experts * experts, sizeof *made->pairs) : NULL;
    if (made->class_of == NULL || made->class_count == NULL || made->count == NULL ||
        made->weight == NULL || (pairs && made->pairs == NULL)) {
        return false;
    }
    for (int32_t token = 0; token < trace->vocab_size; token++) {
        size_t length;
        const uint8_t *bytes = mixt_trace_token_bytes(trace, token, &length);
        made->class_of[token] = (uint8_t)mixt_token_class_of(bytes, length);
    }
    return true;
}

void mixt_page_layer_free(mixt_page_layer *layer)
{
    free(layer->class_of);
    free(layer->class_count);
    free(layer->count);
    free(layer->weight);
    free(layer->pairs);
}

void mixt_page_layer_count(const mixt_trace *trace, int number, mixt_page_layer *layer)
{
    size_t experts = (size_t)layer->experts;
    int chosen = trace->chosen[number];
    layer->tokens = 0;
    memset(layer->class_count, 0, MIXT_CLASS_COUNT * experts * sizeof *layer->class_count);
    memset(layer->count, 0, experts * sizeof *layer->count);
    memset(layer->weight, 0, experts * sizeof *layer->weight);
    if (layer->pairs != NULL) {
        memset(layer->pairs, 0, experts * experts * sizeof *layer->pairs);
    }
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        const uint16_t *row = mixt_trace_experts(trace, number, i);
        const uint16_t *weights = mixt_trace_weights(trace, number, i);
        uint64_t *classes = layer->class_count + layer->class_of[trace->tokens[i]] * experts;
        bool any = false;
        for (int c = 0; c < chosen; c++) {
            if (row[c] == MIXT_TRACE_NONE) {
                continue;
            }
            any = true;
            classes[row[c]]++;
            layer->count[row[c]]++;
            layer->weight[row[c]] += (double)mixt_trace_weight(weights[c]);
            for (int d = 0; d < c && layer->pairs != NULL; d++) {
                if (row[d] != MIXT_TRACE_NONE) {
                    size_t low = row[c] < row[d] ? row[c] : row[d];
                    size_t high = row[c] < row[d] ? row[d] : row[c];
                    layer->pairs[low * experts + high]++;
                }
            }
        }
        layer->tokens += any;
    }
}

void mixt_page_layer_mates(const mixt_page_layer *layer, int expert, mixt_page_mate *mates)
{
    double bounds[MIXT_PAGE_MATES];
    int filled = 0;
    for (int i = 0; i < MIXT_PAGE_MATES; i++) {
        mates[i] = (mixt_page_mate){-1, 0};
    }
    double own = (double)layer->count[expert];
    for (int other = 0; other < layer->experts && layer->pairs != NULL && own > 0; other++) {
        size_t low = (size_t)(other < expert ? other : expert);
        size_t high = (size_t)(other < expert ? expert : other);
        double both = layer->pairs[low * (size_t)layer->experts + high];
        double share = (double)layer->count[other] / (double)layer->tokens;
        double bound;
        double upper;
        if (other == expert || both <= share * own) {
            continue;
        }
        mixt_wilson(both, own, &bound, &upper);
        bound /= share;
        int place = filled;
        while (place > 0 && bounds[place - 1] < bound) {
            place--;
        }
        if (place >= MIXT_PAGE_MATES) {
            continue;
        }
        filled += filled < MIXT_PAGE_MATES;
        memmove(mates + place + 1, mates + place, (size_t)(filled - place - 1) * sizeof *mates);
        memmove(bounds + place + 1, bounds + place, (size_t)(filled - place - 1) * sizeof *bounds);
        bounds[place] = bound;
        mates[place] = (mixt_page_mate){other, both / own / share};
    }
}
