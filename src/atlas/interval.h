/* Intervals of a rate (hits of pairs) from few units: whole documents, or blocks of one document.
 */
#ifndef MIXT_ATLAS_INTERVAL_H
#define MIXT_ATLAS_INTERVAL_H

#include <stddef.h>
#include <stdint.h>

/* A document is cut into at most so many blocks, and into no fewer: few long blocks feel
 * dependence that is too faint for the block length below to see, and Student's t pays for their
 * number (docs/atlas.md has the coverage). */
#define MIXT_BLOCKS_MOST 7
#define MIXT_BLOCKS_LEAST 4
/* Blocks are this many times as long as the length below: it is best for the variance's mean
 * square error, where an interval suffers more from what blocks cut apart. */
#define MIXT_BLOCKS_STRETCH 2
/* Hits and misses must each stand in so many runs: below that a document does not show how long
 * its own runs are. */
#define MIXT_RUNS_LEAST 4

/* What units say about their rate. freedom 0: no variance; low and high bound the rate alone, and
 * 0 and 1 are no bounds at all. */
typedef struct mixt_estimate {
    double value;
    double pairs;
    double variance; /* of `value` */
    double freedom;  /* degrees of freedom of `variance` */
    double low, high;
    uint64_t units; /* with pairs */
} mixt_estimate;

#define MIXT_SERIES_STEPS 16384 /* longer series are summed over several tokens a step */
#define MIXT_SERIES_GROUPS 64

/* Block length, in steps of the series values [count, width] (at most the two above), after Politis
 * & White 2004
 * ("Automatic block-length selection for the dependent bootstrap") as corrected by Patton, Politis
 * & White 2009, for blocks of fixed length. Several values a step: by the sum of their
 * autocovariances. 1 where no dependence shows; 0 where the series is constant, which shows nothing
 * of its dependence. At most 2 sqrt(count) + 20 lags are looked at. */
double mixt_block_length(const float *values, size_t count, size_t width);

/* From units that are independent of each other, hits and pairs [count] at `stride`: delete-one
 * jackknife of the ratio of sums. Units without pairs stay out. */
mixt_estimate mixt_estimate_of_units(const double *hits, const double *pairs, size_t stride,
                                     size_t count);

/* From one document's steps, hits and pairs [count] in order; `runs` as above, of the rarer.
 * residual [count] is room to work in. */
mixt_estimate mixt_estimate_of_series(const float *hits, const float *pairs, size_t count,
                                      uint64_t runs, float *residual);

/* Of the sum of domains [count], each keeping its share of the pairs. Domains that are only bounded
 * widen the interval by their bounds. */
mixt_estimate mixt_estimate_of_domains(const mixt_estimate *domains, size_t count);

#endif
