/* Resampling units: what the bootstrap draws and what random halves are made of. Tokens of one
 * document hang together, so a unit is a whole document. */
#ifndef MIXT_ATLAS_UNITS_H
#define MIXT_ATLAS_UNITS_H

#include "atlas/trace.h"

/* Below this many documents in a domain the bootstrap has too few to draw from: intervals come from
 * the jackknife, and blocks of the documents make the random halves. */
#define MIXT_UNITS_MIN_DOCUMENTS 8
/* Above this many, document i of a domain goes into unit i modulo this number: units stay unions
 * of whole documents, and the cost of resampling stays bounded. */
#define MIXT_UNITS_MAX 1024

/* One document. */
typedef struct mixt_unit_run {
    uint64_t begin; /* tokens [begin, end) */
    uint64_t end;
    uint32_t unit; /* within the domain */
    uint16_t domain;
} mixt_unit_run;

typedef struct mixt_units {
    mixt_unit_run *runs; /* in token order, covering the trace */
    size_t run_count;    /* documents of all domains */
    int domains;
    uint32_t *count;     /* [domains] units of a domain */
    uint64_t *documents; /* [domains] */
    uint64_t *tokens;    /* [domains] */
    uint32_t *order;     /* [T] token indexes sorted by domain */
    uint64_t *begin;     /* [domains + 1] into order */
} mixt_units;

/* NULL without memory. */
mixt_units *mixt_units_create(const mixt_trace *trace);
void mixt_units_free(mixt_units *units);

#endif
