/* How far the domains differ in the experts they use. */
#ifndef MIXT_ATLAS_DISTANCE_H
#define MIXT_ATLAS_DISTANCE_H

#include "atlas/counts.h"
#include "atlas/units.h"

/* Total variation distance (half the sum of absolute differences) of a domain's proportions over
 * all choices that were made from the mean of the domains' proportions; 0 alike, 1 no expert in
 * common. Domains without a choice at a layer have none: they stay out, with zeros here. */
typedef struct mixt_distance {
    double value;
    double level; /* mean distance when only the choice of documents makes a difference */
    double high;  /* 95th percentile of that */
    bool leveled; /* whether the documents can tell level and high; else both are 0 */
} mixt_distance;

/* Farther than chance alone would carry it. */
static inline bool mixt_distance_exceeds_chance(const mixt_distance *distance)
{
    return distance->leveled && distance->value > distance->high;
}

/* rows [L, domains]. The level comes from splitting every domain's own documents by coins: half the
 * difference of the two halves' proportions has the spread of the domain's own sampling error
 * (var((a-b)/2) = var((a+b)/2)), and these differences go through the same distance. Fewer than
 * MIXT_UNITS_MIN_DOCUMENTS documents are cut into blocks, as long as the experts' use depends on
 * its past; a domain with too few blocks has no level, and with a single one no domain has. */
mixt_status mixt_distance_measure(const mixt_trace *trace, const mixt_units *units,
                                  const mixt_counts *counts, mixt_distance *rows,
                                  mixt_error *error);

#endif
