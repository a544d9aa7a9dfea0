#include "atlas/units.h"

#include <assert.h>
#include <stdlib.h>

/* Tokens in a block, where documents are too few: 16 blocks or so, of 16 to 256 tokens. */
static uint64_t block_length(uint64_t domain_tokens)
{
    uint64_t length = domain_tokens / 16;
    return length < 16 ? 16 : length > 256 ? 256 : length;
}

static void count_documents(const mixt_trace *trace, mixt_units *units)
{
    for (uint64_t d = 0; d < trace->info.documents; d++) {
        uint64_t begin = trace->document_start[d];
        int domain = trace->domain[begin];
        units->documents[domain]++;
        units->tokens[domain] += trace->document_start[d + 1] - begin;
    }
    for (int domain = 0; domain < units->domains; domain++) {
        units->blocks[domain] = units->documents[domain] < MIXT_UNITS_MIN_DOCUMENTS;
        units->begin[domain + 1] = units->begin[domain] + units->tokens[domain];
    }
}

/* Runs of the trace; with runs == NULL only counts them. */
static size_t cut_runs(const mixt_trace *trace, const mixt_units *units, mixt_unit_run *runs,
                       uint64_t *seen)
{
    size_t count = 0;
    for (uint64_t d = 0; d < trace->info.documents; d++) {
        uint64_t begin = trace->document_start[d];
        uint64_t end = trace->document_start[d + 1];
        uint16_t domain = trace->domain[begin];
        uint64_t length = units->blocks[domain] ? block_length(units->tokens[domain]) : end - begin;
        while (begin < end) {
            uint64_t stop = end - begin < 2 * length ? end : begin + length;
            if (runs != NULL) {
                uint32_t unit = (uint32_t)(seen[domain]++ % MIXT_UNITS_MAX);
                runs[count] = (mixt_unit_run){begin, stop, unit, domain};
            }
            count++;
            begin = stop;
        }
    }
    return count;
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
    uint64_t *seen = calloc(domains, sizeof *seen);
    if (units == NULL || seen == NULL) {
        free(units);
        free(seen);
        return NULL;
    }
    units->domains = trace->info.domains;
    units->count = calloc(domains, sizeof *units->count);
    units->documents = calloc(domains, sizeof *units->documents);
    units->tokens = calloc(domains, sizeof *units->tokens);
    units->blocks = calloc(domains, sizeof *units->blocks);
    units->order = calloc((size_t)trace->info.tokens, sizeof *units->order);
    units->begin = calloc(domains + 1, sizeof *units->begin);
    bool complete = units->count != NULL && units->documents != NULL && units->tokens != NULL &&
                    units->blocks != NULL && units->order != NULL && units->begin != NULL;
    if (complete) {
        count_documents(trace, units);
        units->run_count = cut_runs(trace, units, NULL, seen);
        units->runs = calloc(units->run_count, sizeof *units->runs);
        complete = units->runs != NULL;
    }
    if (complete) {
        cut_runs(trace, units, units->runs, seen);
        for (size_t i = 0; i < domains; i++) {
            units->count[i] = (uint32_t)(seen[i] < MIXT_UNITS_MAX ? seen[i] : MIXT_UNITS_MAX);
        }
        sort_tokens(trace, units, seen);
    }
    free(seen);
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
    free(units->blocks);
    free(units->order);
    free(units->begin);
    free(units);
}
