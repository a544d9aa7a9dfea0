/* A measure: its description, its columns, and the function that fills a table. measures.c lists
 * them; a new one is a file with one of these and a line there. */
#ifndef MIXT_ATLAS_MEASURE_H
#define MIXT_ATLAS_MEASURE_H

#include "atlas/counts.h"
#include "atlas/load_log.h"
#include "atlas/table.h"
#include "atlas/units.h"
#include "core/random.h"

/* Documents are left out in so many groups for intervals. */
#define MIXT_MEASURE_GROUPS 20

/* What a measure works on. Everything is of the first trace; a measure of logs has the log, the
 * shuffles and the seed alone. */
typedef struct mixt_measuring {
    const mixt_load_log *log;
    const mixt_trace *trace; /* = traces[0] */
    const mixt_trace *const *traces;
    int trace_count;
    const mixt_units *units;
    const mixt_counts *counts;
    const uint8_t *group; /* [documents] below MIXT_MEASURE_GROUPS: documents take turns, domain by
                             domain, so that every group holds some of each */
    int groups;           /* with documents; below 2 there are no intervals */
    int shuffles;
    uint64_t seed;
} mixt_measuring;

/* What a p of the measure counts, and so how many draws are made where nobody says how many. */
typedef enum mixt_drawing {
    MIXT_DRAWS_LEVEL,   /* nothing: draws, if any, give levels */
    MIXT_DRAWS_COUNTS,  /* draws, each as much work as all domains x experts x layers */
    MIXT_DRAWS_CHOICES, /* draws, each as much work as all choices */
} mixt_drawing;

typedef struct mixt_measure_type {
    mixt_measure_info info;
    mixt_drawing drawing;
    const mixt_column *columns;
    int column_count;
    mixt_status (*fill)(const mixt_measuring *measuring, mixt_table *table, mixt_error *error);
} mixt_measure_type;

/* NULL behind the last. */
extern const mixt_measure_type *const mixt_measure_types[];

/* Delete-a-group jackknife, Student's t: without [groups] are the statistic with each group of
 * documents left out. NaN, NaN below two groups. Ends are clipped to [least, most]. Only how far
 * `without` spread counts: where a level moves with the value, they are the value less its level,
 * and the interval about the value holds the level as often as one about the difference holds 0. */
typedef struct mixt_span {
    double low, high;
} mixt_span;
mixt_span mixt_jackknife(double whole, const double *without, int groups, double least,
                         double most);
double mixt_jackknife_error(const double *without, int groups); /* the standard error alone */
/* Two-sided p of a difference that is 0, of which `without` are with each group left out; it is
 * below 0.05 where the interval does not hold 0. NaN below two groups, or where they do not spread.
 */
double mixt_jackknife_p(double difference, const double *without, int groups);
/* The same interval of the ratio of sums over groups, top [groups] by bottom [groups]; groups that
 * have nothing below do not count. */
mixt_span mixt_jackknife_ratio(const double *top, const double *bottom, int groups, double least,
                               double most);

/* counts [groups, E], set: how often a layer's tokens chose each expert, by group of documents. */
void mixt_measure_counts(const mixt_measuring *measuring, int layer, uint64_t *counts);

/* Made-up routes of one layer, experts [tokens, k] like the trace's, each token with as many
 * experts as it has in the trace, at the same places. */
typedef enum mixt_null {
    MIXT_NULL_UNIFORM,  /* any set, each as likely */
    MIXT_NULL_USE,      /* the experts that a domain's tokens have at each place of the choice are
                           dealt to them anew: keeps unequal use, nothing else */
    MIXT_NULL_DOMAIN,   /* rows change places within their domain: keeps sets, breaks what hangs on
                           token, place and document */
    MIXT_NULL_DOCUMENT, /* rows change places within their document */
} mixt_null;
mixt_status mixt_null_draw(const mixt_measuring *measuring, int layer, mixt_null null,
                           uint32_t draw, uint16_t *experts, mixt_error *error);

/* Counts [experts] of many uniform choices: normal, of that mean and variance, with the covariances
 * that a fixed sum gives. */
void mixt_null_counts(const mixt_random_key *key, int experts, double mean, double variance,
                      double *counts);

/* Of draws [count] under a level: mean, and (1 + how many are at least `value`) / (1 + count). */
double mixt_draws_mean(const double *draws, int count);
double mixt_draws_p(const double *draws, int count, double value);

#endif
