/* Repetition of consecutive tokens (Mixtral paper, table 5), with two levels to hold it against.
 * A pair of tokens counts where both have what is compared: a first choice, or any expert. */
#ifndef MIXT_ATLAS_REPETITION_H
#define MIXT_ATLAS_REPETITION_H

#include "atlas/units.h"

enum { MIXT_REPEAT_FIRST, MIXT_REPEAT_SETS, MIXT_REPEAT_COUNT };

typedef struct mixt_repetition {
    mixt_rate rate; /* from 0 to 1 where there is no interval */
    double random;  /* uniform choice of as many of E experts as each token of a pair has */
    double usage;   /* two random tokens of the same domain: what unequal use alone gives */
    uint64_t units; /* documents, or blocks of the only one, with pairs */
    bool single;    /* the domain (or one of all) is one document: the interval is about it alone */
} mixt_repetition;

/* rows [layers, domains + 1, MIXT_REPEAT_COUNT] for MoE layers first_layer ...; entry `domains` is
 * over all domains (each keeping its share of the pairs). */
mixt_status mixt_repetition_measure(const mixt_trace *trace, const mixt_units *units,
                                    int first_layer, int layers, mixt_repetition *rows,
                                    mixt_error *error);

/* Whether the units bound the rate. */
static inline bool mixt_repetition_has_interval(const mixt_repetition *repetition)
{
    return repetition->rate.low > 0 || repetition->rate.high < 1;
}

/* Above both levels with the whole interval. */
static inline bool mixt_repetition_is_above(const mixt_repetition *repetition)
{
    return repetition->rate.pairs != 0 && repetition->rate.low > repetition->random &&
           repetition->rate.low > repetition->usage;
}

/* The larger of the two levels. */
static inline double mixt_repetition_level(const mixt_repetition *repetition)
{
    return repetition->random > repetition->usage ? repetition->random : repetition->usage;
}

#endif
