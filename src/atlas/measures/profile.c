#include "atlas/measures/profile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/token_class.h"
#include "core/error.h"

#define PROFILE_CELLS ((size_t)1 << 23) /* groups * categories * E: above, fewer groups */

mixt_status mixt_profile_make(const mixt_measuring *m, const uint16_t *category, size_t categories,
                              bool level, mixt_profile *profile, mixt_error *error)
{
    size_t experts = (size_t)m->trace->info.experts;
    int groups = m->groups;
    while (groups > 2 && (size_t)groups * categories * experts > PROFILE_CELLS) {
        groups--;
    }
    size_t rows = (size_t)groups * categories;
    *profile = (mixt_profile){.m = m,
                              .category = category,
                              .categories = categories,
                              .experts = experts,
                              .groups = groups};
    profile->count = calloc(rows * experts, sizeof *profile->count);
    profile->level = level ? calloc(rows * experts, sizeof *profile->level) : NULL;
    profile->tokens = calloc(rows, sizeof *profile->tokens);
    profile->slots = calloc(rows, sizeof *profile->slots);
    profile->of_document = calloc(experts + categories, sizeof *profile->of_document);
    profile->touched = calloc(experts, sizeof *profile->touched);
    if (profile->count == NULL || (level && profile->level == NULL) || profile->tokens == NULL ||
        profile->slots == NULL || profile->of_document == NULL || profile->touched == NULL) {
        mixt_profile_release(profile);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "what experts take: no memory");
    }
    return MIXT_OK;
}

void mixt_profile_release(mixt_profile *profile)
{
    free(profile->count);
    free(profile->level);
    free(profile->tokens);
    free(profile->slots);
    free(profile->of_document);
    free(profile->touched);
}

/* Of a document of n tokens: tokens of category c times tokens with expert e, by n. */
static void add_level(mixt_profile *p, size_t group, double tokens, size_t found)
{
    double *chosen = p->of_document, *categories = p->of_document + p->experts;
    for (size_t c = 0; c < p->categories; c++) {
        double *level = p->level + (group * p->categories + c) * p->experts;
        for (size_t i = 0; i < found && categories[c] > 0; i++) {
            level[p->touched[i]] += categories[c] * chosen[p->touched[i]] / tokens;
        }
    }
}

static void count_document(mixt_profile *p, int layer, uint64_t begin, uint64_t end)
{
    const mixt_trace *trace = p->m->trace;
    size_t group = (size_t)(p->m->group[trace->document[begin]] % p->groups), found = 0;
    double *chosen = p->of_document, *categories = p->of_document + p->experts;
    for (uint64_t i = begin; i < end; i++) {
        const uint16_t *row = mixt_trace_experts(trace, layer, i);
        size_t at = group * p->categories + p->category[i];
        double *count = p->count + at * p->experts;
        p->tokens[at]++;
        categories[p->category[i]]++;
        for (int c = 0; c < trace->chosen[layer]; c++) {
            if (row[c] != MIXT_TRACE_NONE) {
                count[row[c]]++;
                p->slots[at]++;
                if (chosen[row[c]]++ == 0) {
                    p->touched[found++] = row[c];
                }
            }
        }
    }
    if (p->level != NULL) {
        add_level(p, group, (double)(end - begin), found);
    }
    for (size_t i = 0; i < found; i++) {
        chosen[p->touched[i]] = 0;
    }
    for (uint64_t i = begin; i < end; i++) {
        categories[p->category[i]] = 0;
    }
}

void mixt_profile_count(mixt_profile *p, int layer)
{
    size_t rows = (size_t)p->groups * p->categories;
    memset(p->count, 0, rows * p->experts * sizeof *p->count);
    memset(p->tokens, 0, rows * sizeof *p->tokens);
    memset(p->slots, 0, rows * sizeof *p->slots);
    if (p->level != NULL) {
        memset(p->level, 0, rows * p->experts * sizeof *p->level);
    }
    const mixt_units *units = p->m->units;
    for (size_t d = 0; d < units->run_count; d++) {
        count_document(p, layer, units->runs[d].begin, units->runs[d].end);
    }
}

uint16_t *mixt_profile_classes(const mixt_trace *trace)
{
    uint16_t *category = calloc(trace->info.tokens, sizeof *category);
    uint16_t *of_token = calloc((size_t)trace->vocab_size, sizeof *of_token);
    if (category == NULL || of_token == NULL) {
        free(category);
        free(of_token);
        return NULL;
    }
    for (int32_t token = 0; token < trace->vocab_size; token++) {
        size_t length;
        const uint8_t *bytes = mixt_trace_token_bytes(trace, token, &length);
        of_token[token] = (uint16_t)mixt_token_class_of(bytes, length);
    }
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        category[i] = of_token[trace->tokens[i]];
    }
    free(of_token);
    return category;
}

uint16_t *mixt_profile_positions(const mixt_trace *trace)
{
    uint16_t *category = calloc(trace->info.tokens, sizeof *category);
    for (uint64_t i = 0; category != NULL && i < trace->info.tokens; i++) {
        uint64_t place = i - trace->document_start[trace->document[i]] + 1;
        category[i] = (uint16_t)(63 - __builtin_clzll(place));
    }
    return category;
}
