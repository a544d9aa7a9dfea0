#include "atlas/interval.h"

#include <assert.h>
#include <math.h>

#include "atlas/statistics.h"

/* Units up to here have their degrees of freedom from the shares of the pairs; with more, one less
 * than units. */
#define EXACT_FREEDOM_UNITS 16
#define RELATIVE_ZERO 1e-12 /* of the variance of independent pairs: no variance but rounding */

#define LAGS_MOST 160 /* sqrt(MIXT_SERIES_STEPS), and those that must be quiet */

/* -- Block length --------------------------------------------------------------------------- */

/* Sum over the width of the autocovariances at a lag; means [width]. */
static double autocovariance(const float *values, size_t count, size_t width, const double *means,
                             size_t lag)
{
    double sum = 0;
    for (size_t i = 0; i + lag < count; i++) {
        const float *left = values + i * width;
        const float *right = values + (i + lag) * width;
        for (size_t e = 0; e < width; e++) {
            sum += ((double)left[e] - means[e]) * ((double)right[e] - means[e]);
        }
    }
    return sum / (double)count;
}

/* The lag behind which `quiet` autocorrelations in a row are insignificant, else the last
 * significant one (empirical rule of Politis & White, section 3). covariance [most + 1]. */
static size_t last_significant(const float *values, size_t count, size_t width, const double *means,
                               double *covariance, size_t most)
{
    double logarithm = log10((double)count);
    size_t quiet = (size_t)fmax(5, ceil(sqrt(logarithm)));
    double threshold = 2 * sqrt(logarithm / (double)count);
    size_t last = 0;
    for (size_t lag = 1; lag <= most && lag <= last + quiet; lag++) {
        covariance[lag] = autocovariance(values, count, width, means, lag);
        if (fabs(covariance[lag]) >= threshold * covariance[0]) {
            last = lag;
        }
    }
    return last;
}

double mixt_block_length(const float *values, size_t count, size_t width)
{
    if (count < 2) {
        return 0;
    }
    double n = (double)count;
    size_t most = (size_t)ceil(sqrt(n)) + (size_t)fmax(5, ceil(sqrt(log10(n))));
    most = most < count ? most : count - 1;
    double means[MIXT_SERIES_GROUPS] = {0}, covariance[LAGS_MOST + 1];
    assert(count <= MIXT_SERIES_STEPS && width <= MIXT_SERIES_GROUPS && most <= LAGS_MOST);
    for (size_t i = 0; i < count * width; i++) {
        means[i % width] += (double)values[i] / n;
    }
    covariance[0] = autocovariance(values, count, width, means, 0);
    if (covariance[0] <= 0) {
        return 0;
    }
    size_t last = last_significant(values, count, width, means, covariance, most);
    size_t window = last == 0 ? 1 : 2 * last < most ? 2 * last : most;
    double spectrum = covariance[0]; /* at frequency 0 */
    double slope = 0;                /* sum of |lag| covariance */
    for (size_t lag = 1; lag <= window; lag++) {
        double part = (double)lag / (double)window;
        double weight = part <= 0.5 ? 1 : 2 * (1 - part); /* flat top */
        double value = autocovariance(values, count, width, means, lag);
        spectrum += 2 * weight * value;
        slope += 2 * weight * (double)lag * value;
    }
    if (spectrum <= 0) {
        return 1; /* neighbours repel each other: blocks of any length are wide enough */
    }
    /* (2 G^2 / D)^(1/3) n^(1/3), with D = 4/3 g(0)^2 for fixed blocks. */
    double length = cbrt(1.5 * n) * pow(fabs(slope) / spectrum, 2.0 / 3);
    double bound = ceil(fmin(3 * sqrt(n), n / 3));
    return fmax(1, fmin(length, bound));
}

/* -- Estimates ------------------------------------------------------------------------------ */

/* Of weighted units whose rates vary alike, the degrees of freedom of the jackknife's variance
 * (Satterthwaite: (tr A)^2 / tr A^2 of the quadratic form, as Bell & McCaffrey 2002 do). With
 * l_d = e_d - sum over j != d of share_j / (1 - share_d) e_j the form is sum share_d^2 l_d l_d'. */
static double freedom_of(const double *share, size_t count)
{
    double trace = 0;
    double square = 0;
    for (size_t d = 0; d < count; d++) {
        for (size_t e = 0; e < count; e++) {
            double product = 0; /* l_d . l_e */
            for (size_t j = 0; j < count; j++) {
                double left = j == d ? 1 : -share[j] / (1 - share[d]);
                double right = j == e ? 1 : -share[j] / (1 - share[e]);
                product += left * right;
            }
            double weighted = share[d] * share[e] * product;
            trace += d == e ? weighted : 0;
            square += weighted * weighted;
        }
    }
    return trace * trace / square;
}

/* Student's interval on the scale of logarithms of odds, which stays between 0 and 1 and is as
 * lopsided as a share near them needs. */
static void fill_interval(mixt_estimate *estimate)
{
    double value = estimate->value;
    assert(value > 0 && value < 1);
    double centre = log(value / (1 - value));
    double reach =
        mixt_student_975(estimate->freedom) * sqrt(estimate->variance) / (value * (1 - value));
    estimate->low = 1 / (1 + exp(reach - centre));
    estimate->high = 1 / (1 + exp(-reach - centre));
}

/* All units at 0 or at 1: no spread to see. With units of any kind as trials (each at 0 or 1
 * throughout, the worst case for what was not seen) Clopper and Pearson's bound is left. */
static void bound_by_units(mixt_estimate *estimate)
{
    double reach = 1 - pow(0.025, 1.0 / (double)estimate->units);
    if (estimate->units < 2) {
        return;
    }
    if (estimate->value < 0.5) {
        estimate->high = reach;
    } else {
        estimate->low = 1 - reach;
    }
}

mixt_estimate mixt_estimate_of_units(const double *hits, const double *pairs, size_t stride,
                                     size_t count)
{
    mixt_estimate estimate = {.low = 0, .high = 1};
    double share[EXACT_FREEDOM_UNITS];
    double all_hits = 0;
    for (size_t u = 0; u < count; u++) {
        all_hits += hits[u * stride];
        estimate.pairs += pairs[u * stride];
        estimate.units += pairs[u * stride] > 0;
    }
    if (estimate.pairs <= 0) {
        return estimate;
    }
    estimate.value = all_hits / estimate.pairs;
    if (estimate.units < 2 || all_hits <= 0 || all_hits >= estimate.pairs) {
        bound_by_units(&estimate);
        return estimate;
    }
    size_t active = 0;
    for (size_t u = 0; u < count; u++) {
        if (pairs[u * stride] <= 0) {
            continue;
        }
        double moved = (hits[u * stride] - estimate.value * pairs[u * stride]) /
                       (estimate.pairs - pairs[u * stride]); /* when the unit is left out */
        estimate.variance += moved * moved;
        if (active < EXACT_FREEDOM_UNITS) {
            share[active] = pairs[u * stride] / estimate.pairs;
        }
        active++;
    }
    double units = (double)estimate.units;
    double independent = estimate.value * (1 - estimate.value) / estimate.pairs;
    estimate.variance *= (units - 1) / units;
    estimate.freedom = active <= EXACT_FREEDOM_UNITS ? freedom_of(share, active) : units - 1;
    if (estimate.variance < RELATIVE_ZERO * independent) { /* alike by accident */
        estimate.variance = independent;
    }
    fill_interval(&estimate);
    return estimate;
}

mixt_estimate mixt_estimate_of_series(const float *hits, const float *pairs, size_t count,
                                      uint64_t runs, float *residual)
{
    double all_hits[MIXT_BLOCKS_MOST] = {0};
    double all_pairs[MIXT_BLOCKS_MOST] = {0};
    mixt_estimate none = {.low = 0, .high = 1};
    for (size_t i = 0; i < count; i++) {
        all_hits[0] += (double)hits[i];
        all_pairs[0] += (double)pairs[i];
    }
    none.pairs = all_pairs[0];
    none.value = none.pairs > 0 ? all_hits[0] / none.pairs : 0;
    none.units = none.pairs > 0;
    if (runs < MIXT_RUNS_LEAST) {
        return none;
    }
    for (size_t i = 0; i < count; i++) {
        residual[i] = (float)((double)hits[i] - none.value * (double)pairs[i]);
    }
    double length = mixt_block_length(residual, count, 1);
    double most = length > 0 ? (double)count / (MIXT_BLOCKS_STRETCH * length) : 0;
    if (most < MIXT_BLOCKS_LEAST) {
        return none;
    }
    size_t blocks = most < MIXT_BLOCKS_MOST ? (size_t)most : MIXT_BLOCKS_MOST;
    all_hits[0] = all_pairs[0] = 0;
    for (size_t i = 0; i < count; i++) {
        size_t block = i * blocks / count;
        all_hits[block] += (double)hits[i];
        all_pairs[block] += (double)pairs[i];
    }
    mixt_estimate estimate = mixt_estimate_of_units(all_hits, all_pairs, 1, blocks);
    return estimate.units < MIXT_BLOCKS_LEAST ? none : estimate;
}

mixt_estimate mixt_estimate_of_domains(const mixt_estimate *domains, size_t count)
{
    mixt_estimate all = {.low = 0, .high = 1};
    double below = 0; /* by what the bounded domains widen it */
    double above = 0;
    double square = 0; /* sum of variance^2 / freedom */
    for (size_t d = 0; d < count; d++) {
        all.pairs += domains[d].pairs;
    }
    for (size_t d = 0; d < count && all.pairs > 0; d++) {
        double share = domains[d].pairs / all.pairs;
        double variance = share * share * domains[d].variance;
        all.value += share * domains[d].value;
        all.units += domains[d].units;
        if (domains[d].freedom > 0) {
            all.variance += variance;
            square += variance * variance / domains[d].freedom;
        } else {
            below += share * (domains[d].value - domains[d].low);
            above += share * (domains[d].high - domains[d].value);
        }
    }
    if (all.variance > 0) {
        all.freedom = all.variance * all.variance / square; /* Welch and Satterthwaite */
        fill_interval(&all);
    } else {
        all.low = all.high = all.value;
    }
    all.low = fmax(0, all.low - below);
    all.high = all.pairs > 0 ? fmin(1, all.high + above) : 1;
    return all;
}
