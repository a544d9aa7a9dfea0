/* What experts take, by categories of tokens: counts of one layer by groups of documents, and
 * tables of experts by categories. */
#ifndef MIXT_ATLAS_MEASURES_PROFILE_H
#define MIXT_ATLAS_MEASURES_PROFILE_H

#include "atlas/measures/measures.h"

typedef struct mixt_profile {
    const mixt_measuring *m;
    const uint16_t *category; /* [T] */
    size_t categories, experts;
    int groups;
    double *count;  /* [groups, categories, E] tokens of the category that have the expert */
    double *level;  /* likewise: expected when tokens change places within their documents; NULL
                       where the caller asked for none */
    double *tokens; /* [groups, categories] */
    double *slots;  /* [groups, categories] experts of these tokens */
    double *of_document; /* room: [E + categories] of one document */
    uint32_t *touched;   /* room: [E] */
} mixt_profile;

mixt_status mixt_profile_make(const mixt_measuring *m, const uint16_t *category, size_t categories,
                              bool level, mixt_profile *profile, mixt_error *error);
void mixt_profile_release(mixt_profile *profile);
/* Counts a layer anew. */
void mixt_profile_count(mixt_profile *profile, int layer);

/* Sum of values [groups, width] at `index` over all groups but one; -1: over all. */
static inline double mixt_profile_sum(const double *values, size_t width, size_t index, int groups,
                                      int without)
{
    double sum = 0;
    for (int g = 0; g < groups; g++) {
        sum += g != without ? values[(size_t)g * width + index] : 0;
    }
    return sum;
}

/* Class of each token's id, [T]; NULL without memory. */
uint16_t *mixt_profile_classes(const mixt_trace *trace);
/* floor(log2(1 + place in the document)), [T]; NULL without memory. */
uint16_t *mixt_profile_positions(const mixt_trace *trace);

#endif
