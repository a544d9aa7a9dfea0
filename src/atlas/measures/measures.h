/* One file of this folder for measures that belong together; atlas/measures.c lists them. */
#ifndef MIXT_ATLAS_MEASURES_MEASURES_H
#define MIXT_ATLAS_MEASURES_MEASURES_H

#include "atlas/measure.h"

/* Tokens [begin, end) of a document. */
typedef struct mixt_stretch {
    uint64_t begin, end;
    int group; /* of the document, in mixt_measuring */
} mixt_stretch;

/* Of a trace whose work would be too much: every so-many-th document, with at most so many tokens
 * in all; the whole trace where it fits. What is left out is said in the table's note. */
typedef struct mixt_stretches {
    mixt_stretch *items;
    size_t count;
    uint64_t tokens;
} mixt_stretches;

mixt_status mixt_stretches_choose(const mixt_measuring *measuring, uint64_t most,
                                  mixt_stretches *stretches, mixt_error *error);
/* A sentence of the note where not all tokens were taken; `what` is measured of them. */
void mixt_stretches_say(const mixt_stretches *stretches, const mixt_measuring *measuring,
                        const char *what, mixt_buffer *note);
void mixt_stretches_free(mixt_stretches *stretches);

/* How evenly counts [experts] lie on experts; false where all are 0. use.c */
typedef struct mixt_evenness {
    double jain, effective, most, variation; /* docs/measures/use.md */
    double unused;                           /* part of the experts whose count is 0 */
} mixt_evenness;
bool mixt_evenness_of(const double *counts, int experts, mixt_evenness *evenness);
/* load.c */
extern const mixt_measure_type mixt_measure_load;
/* use.c */
extern const mixt_measure_type mixt_measure_balance;
extern const mixt_measure_type mixt_measure_concentration;
extern const mixt_measure_type mixt_measure_ranks;
/* training.c */
extern const mixt_measure_type mixt_measure_training;
/* committee.c */
extern const mixt_measure_type mixt_measure_committee;
/* together.c */
extern const mixt_measure_type mixt_measure_coactivation;
extern const mixt_measure_type mixt_measure_togetherness;
/* specialisation.c */
extern const mixt_measure_type mixt_measure_domains;
extern const mixt_measure_type mixt_measure_classes;
extern const mixt_measure_type mixt_measure_positions;
/* vocabulary.c */
extern const mixt_measure_type mixt_measure_vocabulary;
extern const mixt_measure_type mixt_measure_tokens;
/* divergence.c */
extern const mixt_measure_type mixt_measure_divergence;
/* languages.c */
extern const mixt_measure_type mixt_measure_languages;
/* signature.c */
extern const mixt_measure_type mixt_measure_signatures;
/* reliability.c */
extern const mixt_measure_type mixt_measure_reliability;
/* reuse.c */
extern const mixt_measure_type mixt_measure_reuse;
extern const mixt_measure_type mixt_measure_reuse_quantiles;
/* cache.c */
extern const mixt_measure_type mixt_measure_cache;
/* segments.c */
extern const mixt_measure_type mixt_measure_segments;
/* joint.c */
extern const mixt_measure_type mixt_measure_joint;
extern const mixt_measure_type mixt_measure_persistence;
/* routes.c */
extern const mixt_measure_type mixt_measure_routes;
/* router.c */
extern const mixt_measure_type mixt_measure_entropy;
extern const mixt_measure_type mixt_measure_margin;
extern const mixt_measure_type mixt_measure_lookahead;
/* confidence.c */
extern const mixt_measure_type mixt_measure_confidence;
/* pairs.c */
extern const mixt_measure_type mixt_measure_saturation;
extern const mixt_measure_type mixt_measure_agreement;
extern const mixt_measure_type mixt_measure_flips_effect;
extern const mixt_measure_type mixt_measure_router_kl;
/* breaks.c */
extern const mixt_measure_type mixt_measure_breaks;
/* kinship.c */
extern const mixt_measure_type mixt_measure_kinship;

#endif
