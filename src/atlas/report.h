/* All measures of a trace, computed once for the tables and the page. */
#ifndef MIXT_ATLAS_REPORT_H
#define MIXT_ATLAS_REPORT_H

#include <assert.h>

#include "atlas/counts.h"
#include "atlas/distance.h"
#include "atlas/information.h"
#include "atlas/repetition.h"
#include "atlas/vocabulary.h"

/* What the numbers say, in words: clauses that are sentences of their own with a full stop. */
typedef struct mixt_verdict {
    char headline[200];
    char repetition[1000];
    char domains[1000];
    char information[1000];
    int shown; /* of the paper's two observations: 0, 1 or 2 */
} mixt_verdict;

typedef struct mixt_report {
    const mixt_trace *trace;
    mixt_units *units;
    mixt_counts *counts;
    mixt_repetition *repetition;   /* [L, domains + 1, MIXT_REPEAT_COUNT] */
    mixt_distance *distance;       /* [L, domains] */
    mixt_load *load;               /* [L] */
    mixt_information *information; /* [L + 1, MIXT_LABEL_COUNT, MIXT_TOLD_COUNT]; NULL: left out */
    double class_share[MIXT_CLASS_COUNT]; /* of the tokens */
    int key_layers[3];                    /* first, middle, last: each once */
    int key_layer_count;
    mixt_verdict verdict;
} mixt_report;

/* Without `informed` what experts tell is left out, which takes most of the time. */
mixt_status mixt_report_create(const mixt_trace *trace, bool informed, mixt_report **report,
                               mixt_error *error);
void mixt_report_free(mixt_report *report);

/* domain == domains: over all. */
static inline const mixt_repetition *mixt_report_repetition(const mixt_report *report, int layer,
                                                            int domain, int which)
{
    int domains = report->trace->info.domains;
    assert(layer >= 0 && layer < report->trace->info.layers && domain >= 0 && domain <= domains);
    assert(which >= 0 && which < MIXT_REPEAT_COUNT);
    return &report->repetition[(layer * (domains + 1) + domain) * MIXT_REPEAT_COUNT + which];
}

static inline const mixt_distance *mixt_report_distance(const mixt_report *report, int layer,
                                                        int domain)
{
    assert(layer >= 0 && layer < report->trace->info.layers);
    assert(domain >= 0 && domain < report->trace->info.domains);
    return &report->distance[layer * report->trace->info.domains + domain];
}

/* layer == layers: their mean. */
static inline const mixt_information *mixt_report_information(const mixt_report *report, int layer,
                                                              int label, int which)
{
    assert(layer >= 0 && layer <= report->trace->info.layers);
    assert(label >= 0 && label < MIXT_LABEL_COUNT && which >= 0 && which < MIXT_TOLD_COUNT);
    assert(report->information != NULL);
    return &report->information[(layer * MIXT_LABEL_COUNT + label) * MIXT_TOLD_COUNT + which];
}

/* "first", "middle" or "last" where the layer is one of these, else "". */
const char *mixt_report_layer_role(const mixt_report *report, int layer);

/* A domain that the trace names but has no tokens of. */
static inline bool mixt_report_is_empty(const mixt_report *report, int domain)
{
    return domain < report->trace->info.domains && report->units->tokens[domain] == 0;
}

/* Any rate without an interval, any distance without its level by chance; and why, for the tables
 * and the page. */
bool mixt_report_lacks_interval(const mixt_report *report);
bool mixt_report_lacks_level(const mixt_report *report);
#define MIXT_NOTE_SINGLE "a domain of one document: the interval is about that document alone."
#define MIXT_NOTE_NO_INTERVAL                                                                      \
    "no interval: a single document that is too short for its runs, or whose pairs all (or all "   \
    "but a few runs) agree, bounds nothing."
#define MIXT_NOTE_NO_LEVEL                                                                         \
    "too few documents, or too short for how long experts are kept, to say what chance gives."

/* Tokens [*begin, *begin + *count) of a domain to show: from its first document of at least
 * `wanted` tokens, else from its longest one. A third into it where it is long enough, because
 * documents begin with licences and headings, and behind a line's end where one is near. *count 0
 * where the domain is empty. */
void mixt_report_excerpt(const mixt_report *report, int domain, uint64_t wanted, uint64_t *begin,
                         uint64_t *count);
/* The same of up to `most` documents: the first one as above, others of at least `wanted` tokens
 * spread evenly over the domain's. Fills begin, count [most] and returns how many. */
int mixt_report_excerpts(const mixt_report *report, int domain, uint64_t wanted, int most,
                         uint64_t *begin, uint64_t *count);

/* All numbers as one JSON object (report_json.c). */
void mixt_report_json(const mixt_report *report, mixt_buffer *out);

/* Fills report->verdict from the numbers (verdict.c). */
mixt_status mixt_verdict_make(mixt_report *report, mixt_error *error);

#endif
