/* What the expert of a token tells of it: mutual information with the domain, the kind of token,
 * the token and the token before it, each beside what shuffled labels give. */
#ifndef MIXT_ATLAS_INFORMATION_H
#define MIXT_ATLAS_INFORMATION_H

#include "atlas/token_class.h"
#include "atlas/units.h"

enum {
    MIXT_LABEL_DOMAIN,
    MIXT_LABEL_CLASS,
    MIXT_LABEL_TOKEN,
    MIXT_LABEL_PREVIOUS,
    MIXT_LABEL_COUNT, /* those of docs/atlas.md; further ones of docs/measures/joint.md: */
    MIXT_LABEL_POSITION = MIXT_LABEL_COUNT, /* place in the document, by powers of two */
    MIXT_LABEL_TOKEN_DOMAIN,   /* both; shuffled: the documents' domains, no token moves */
    MIXT_LABEL_TOKEN_PREVIOUS, /* both; shuffled: tokens of one id within their document */
    MIXT_LABEL_BEFORE,         /* the token's first choice at the layer before */
    MIXT_LABEL_ALL,
};

enum { MIXT_TOLD_FIRST, MIXT_TOLD_ALL, MIXT_TOLD_COUNT }; /* by the first choice, by all choices */

/* Documents are left out in so many groups for the interval. */
#define MIXT_INFORMATION_GROUPS 20

/* rows [layers + 1, MIXT_LABEL_COUNT, MIXT_TOLD_COUNT] for MoE layers first_layer ...; the last
 * entry is the mean of these layers. Labels are shuffled alike for every layer. */
mixt_status mixt_information_measure(const mixt_trace *trace, const mixt_units *units,
                                     int first_layer, int layers, mixt_information *rows,
                                     mixt_error *error);

/* The same for any labels, with what else the measures of measures/joint.c want. */
typedef struct mixt_information_plan {
    const mixt_trace *trace;
    const mixt_units *units;
    int first_layer, layers;
    int first_label, labels; /* labels first_label to labels - 1, up to MIXT_LABEL_ALL */
    int shuffles;            /* at least 1; fewer where so many choices would be read */
    uint64_t seed;
} mixt_information_plan;

typedef struct mixt_told {
    mixt_information information;
    double p;                             /* 1 + shuffles with as much, over 1 + shuffles */
    double less[MIXT_INFORMATION_GROUPS]; /* the excess without each of `groups` groups */
    int groups;
    double movable; /* part of the tokens that shuffles can move */
} mixt_told;

/* rows [layers + 1, labels, MIXT_TOLD_COUNT]: those below first_label are left alone. */
mixt_status mixt_information_tell(const mixt_information_plan *plan, mixt_told *rows,
                                  mixt_error *error);

/* Standard error of an excess by the variances of its jackknife and of a shuffle. */
double mixt_information_error(double jackknife, double shuffled, int shuffles);

/* share [MIXT_CLASS_COUNT]: part of the trace's tokens that is of each class. */
void mixt_information_classes(const mixt_trace *trace, double *share);

/* More than every shuffle, and by an interval that holds no zero, where there is one. */
bool mixt_information_exceeds(const mixt_information *row);

/* A part of the entropy of the experts, 0 where it is 0. */
static inline double mixt_information_share(const mixt_information *row, double bits)
{
    return row->entropy > 0 ? bits / row->entropy : 0;
}

static inline bool mixt_information_has_interval(const mixt_information *row)
{
    return row->shuffles > 0 && row->low <= row->high; /* false for NaN */
}

/* "domain", "class", "token", "previous". */
const char *mixt_label_name(int label);

#endif
