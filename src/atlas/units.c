#include "atlas/units.h"

#include <assert.h>
#include <stdlib.h>

static void count_documents(const mixt_trace *trace, mixt_units *units)
{
    for (uint64_t d = 0; d < trace->info.documents; d++) {
        uint64_t begin = trace->document_start[d];
        uint64_t end = trace->document_start[d + 1];
        uint16_t domain = trace->domain[begin];
        uint32_t unit = (uint32_t)(units->documents[domain]++ % MIXT_UNITS_MAX);
        units->runs[d] = (mixt_unit_run){begin, end, unit, domain};
        units->tokens[domain] += end - begin;
    }
    units->run_count = (size_t)trace->info.documents;
    for (int domain = 0; domain < units->domains; domain++) {
        uint64_t documents = units->documents[domain];
        units->count[domain] = (uint32_t)(documents < MIXT_UNITS_MAX ? documents : MIXT_UNITS_MAX);
        units->begin[domain + 1] = units->begin[domain] + units->tokens[domain];
    }
}

static void sort_tokens(const mixt_trace *trace, mixt_units *units, uint64_t *next)
{
    for (int domain = 0; domain < units->domains; domain++) {
        next[domain] = units->begin[domain];
    }
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        units->order[next[trace->domain[i]]++] = (uint32_t)i;
    }
}

mixt_units *mixt_units_create(const mixt_trace *trace)
{
    assert(trace->document_start != NULL); /* mixt_trace_check was there */
    size_t domains = (size_t)trace->info.domains;
    mixt_units *units = calloc(1, sizeof *units);
    uint64_t *next = calloc(domains, sizeof *next);
    if (units == NULL || next == NULL) {
        free(units);
        free(next);
        return NULL;
    }
    units->domains = trace->info.domains;
    units->count = calloc(domains, sizeof *units->count);
    units->documents = calloc(domains, sizeof *units->documents);
    units->tokens = calloc(domains, sizeof *units->tokens);
    units->runs = calloc((size_t)trace->info.documents, sizeof *units->runs);
    units->order = calloc((size_t)trace->info.tokens, sizeof *units->order);
    units->begin = calloc(domains + 1, sizeof *units->begin);
    bool complete = units->count != NULL && units->documents != NULL && units->tokens != NULL &&
                    units->runs != NULL && units->order != NULL && units->begin != NULL;
    if (complete) {
        count_documents(trace, units);
        sort_tokens(trace, units, next);
    }
    free(next);
    if (!complete) {
        mixt_units_free(units);
        return NULL;
    }
    return units;
}

void mixt_units_free(mixt_units *units)
{
    if (units == NULL) {
        return;
    }
    free(units->runs);
    free(units->count);
    free(units->documents);
    free(units->tokens);
    free(units->order);
    free(units->begin);
    free(units);
}
