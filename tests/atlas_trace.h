/* Synthetic routing traces for tests. */
#ifndef TESTS_ATLAS_TRACE_H
#define TESTS_ATLAS_TRACE_H

#include "atlas/trace.h"

typedef struct atlas_trace_options {
    int layers, experts, experts_per_token;
    int domains, documents; /* documents of each domain */
    int document_tokens;    /* about so many: they vary by a third around it */
    uint64_t seed;
    const double
        *stay;   /* [layers]: chance that a token keeps the experts of the one before; NULL 0 */
    double skew; /* 0: experts alike; else expert e has the weight exp(-skew e / E) */
    const int *chosen;        /* [layers] choices of each, up to experts_per_token; NULL: all */
    double none;              /* chance that a choice has no expert */
    double domain_shift;      /* the last domain prefers the upper half of the experts so much */
    const char *const *names; /* [domains], NULL: "domain 0", ... */
    const char *const *words; /* vocabulary, NULL-terminated; NULL: letters and a few words */
    const char *model;        /* NULL: "synthetic" */
} atlas_trace_options;

/* Uniform, independent choices are {.layers = .., ...} with the rest zero. The result passes
 * mixt_trace_check. */
mixt_trace *atlas_trace_make(const atlas_trace_options *options);

/* A trace with one domain and one document from rows of first choices, k = 1; MIXT_TRACE_NONE is
 * one too. */
mixt_trace *atlas_trace_of_choices(const uint16_t *choices, int count, int experts);

/* Opening the file is refused by one line that names it and holds `message`. */
void atlas_trace_refused(const char *path, const char *message);

#endif
