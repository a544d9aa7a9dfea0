#include "atlas/statistics.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "mixt.h"

#define NORMAL_975 1.959963984540054

double mixt_student_975(double freedom)
{
    static const double table[] = {12.706204736432095, 4.302652729911275, 3.182446305284263};
    const double z = NORMAL_975;
    assert(freedom > 0);
    if (freedom < 3) { /* between whole numbers a line in 1 / freedom, which lies a little above */
        double inverse = 1 / fmax(freedom, 1);
        double part = inverse >= 0.5 ? 2 * inverse - 1 : 6 * inverse - 2;
        const double *end = inverse >= 0.5 ? table : table + 1;
        return part * end[0] + (1 - part) * end[1];
    }
    double z2 = z * z;
    double g1 = z * (z2 + 1) / 4;
    double g2 = z * (5 * z2 * z2 + 16 * z2 + 3) / 96;
    double g3 = z * (3 * z2 * z2 * z2 + 19 * z2 * z2 + 17 * z2 - 15) / 384;
    double g4 = z *
                (79 * z2 * z2 * z2 * z2 + 776 * z2 * z2 * z2 + 1482 * z2 * z2 - 1920 * z2 - 945) /
                92160;
    return z + (g1 + (g2 + (g3 + g4 / freedom) / freedom) / freedom) / freedom;
}

/* Continued fraction of the incomplete beta function (Abramowitz & Stegun 26.5.8, by Lentz's
 * method), which converges fast for x < (a + 1) / (a + b + 2). */
static double beta_fraction(double a, double b, double x)
{
    double c = 1;
    double d = 1 / (1 - (a + b) * x / (a + 1));
    double value = d;
    for (int m = 1; m <= 500; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        d = 1 / (1 + even * d);
        c = 1 + even / c;
        value *= c * d;
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1 / (1 + odd * d);
        c = 1 + odd / c;
        double step = c * d;
        value *= step;
        if (fabs(step - 1) < 1e-14) {
            break;
        }
    }
    return value;
}

double mixt_student_p(double t, double freedom)
{
    if (!(freedom > 0) || isnan(t)) {
        return NAN;
    }
    if (isinf(t) || t == 0) {
        return t == 0;
    }
    /* The regularised incomplete beta function of x = n / (n + t^2) at n / 2 and 1 / 2. */
    double a = freedom / 2, b = 0.5;
    double x = freedom / (freedom + t * t), y = t * t / (freedom + t * t);
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(y));
    if (x < (a + 1) / (a + b + 2)) {
        return front * beta_fraction(a, b, x) / a;
    }
    return 1 - front * beta_fraction(b, a, y) / b;
}

double mixt_expanded_tail(uint64_t units)
{
    assert(units >= 2);
    double n = (double)units;
    double reach = sqrt(n / (n - 1)) * mixt_student_975(n - 1);
    return 0.5 * erfc(reach / sqrt(2.0));
}

double mixt_sorted_quantile(const double *sorted, size_t count, double probability)
{
    assert(count >= 1 && probability >= 0 && probability <= 1);
    double place = probability * (double)(count - 1);
    size_t below = (size_t)place;
    if (below + 1 >= count) {
        return sorted[count - 1];
    }
    double part = place - (double)below;
    return sorted[below] + part * (sorted[below + 1] - sorted[below]);
}

static int compare_doubles(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;
    return (a > b) - (a < b);
}

void mixt_sort_doubles(double *values, size_t count)
{
    qsort(values, count, sizeof(double), compare_doubles);
}

void mixt_wilson(double hits, double trials, double *low, double *high)
{
    assert(hits >= 0 && hits <= trials);
    const double z2 = NORMAL_975 * NORMAL_975;
    if (trials <= 0) {
        *low = 0;
        *high = 1;
        return;
    }
    double share = hits / trials;
    double centre = (share + z2 / (2 * trials)) / (1 + z2 / trials);
    double reach = NORMAL_975 / (1 + z2 / trials) *
                   sqrt(share * (1 - share) / trials + z2 / (4 * trials * trials));
    *low = fmax(0.0, centre - reach);
    *high = fmin(1.0, centre + reach);
}

/* The chance that two independent uniform choices of k out of E meet is
 * 1 - prod_{i<k} (E-k-i)/(E-i), summed as logarithms so that neither end loses digits. */
double mixt_atlas_random_level(int experts, int experts_per_token, int which)
{
    if (experts < 1 || experts_per_token < 1 || experts_per_token > experts) {
        return 0;
    }
    if (which == 0) {
        return 1.0 / experts;
    }
    if (2 * (int64_t)experts_per_token > experts) {
        return 1;
    }
    double logarithm = 0;
    for (int i = 0; i < experts_per_token; i++) {
        logarithm += log1p(-(double)experts_per_token / (experts - i));
    }
    return -expm1(logarithm);
}
