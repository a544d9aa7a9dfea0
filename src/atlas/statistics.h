/* Small statistics that the measures share. */
#ifndef MIXT_ATLAS_STATISTICS_H
#define MIXT_ATLAS_STATISTICS_H

#include <stddef.h>
#include <stdint.h>

#define MIXT_NORMAL_975 1.959964 /* of the normal distribution, at 0.975 */

/* Student's t at 0.975: exact for 1, 2 and 3 degrees of freedom; above, the Cornish-Fisher
 * expansion (Abramowitz & Stegun 26.7.5), within 0.3 %. */
double mixt_student_975(double freedom);

/* Two-sided: how likely Student's t lies at least as far from 0. NaN where t is, or freedom <= 0.
 */
double mixt_student_p(double t, double freedom);

/* Lower tail probability that widens a percentile bootstrap over `units` resampled units so that
 * its ends lie as far out as Student's interval: Phi(-sqrt(n/(n-1)) t(0.975, n-1)), which tends to
 * 0.025. (The "expanded percentile interval" of Hesterberg 2015, "What teachers should know about
 * the bootstrap": without it few units give too narrow an interval.) units >= 2. */
double mixt_expanded_tail(uint64_t units);

/* Quantile of sorted values by linear interpolation between order statistics (numpy's default). */
double mixt_sorted_quantile(const double *sorted, size_t count, double probability);
void mixt_sort_doubles(double *values, size_t count);

/* 95 % Wilson score interval of hits / trials. */
void mixt_wilson(double hits, double trials, double *low, double *high);

#endif
