/* Student's t test of two samples. */
#include <math.h>

#include "study/vowels.h"

enum { FRACTION_STEPS = 10000 };

/* The continued fraction of the incomplete beta function (Abramowitz & Stegun 26.5.8), by Lentz's
 * method. */
static double beta_fraction(double x, double a, double b)
{
    const double least = 1e-300;
    double c = 1, d = 1 / fmax(fabs(1 - (a + b) * x / (a + 1)), least), value;
    d = 1 - (a + b) * x / (a + 1) < 0 ? -d : d;
    value = d;
    for (int m = 1; m <= FRACTION_STEPS; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        double before = value;
        const double terms[2] = {even, odd};
        for (int i = 0; i < 2; i++) {
            d = 1 + terms[i] * d;
            c = 1 + terms[i] / c;
            d = 1 / (fabs(d) < least ? least : d);
            c = fabs(c) < least ? least : c;
            value *= d * c;
        }
        if (fabs(value - before) <= 1e-15 * fabs(value)) {
            break;
        }
    }
    return value;
}

/* I_x(a, b), the regularised incomplete beta function. */
static double beta(double x, double a, double b)
{
    if (!(x > 0 && x < 1)) {
        return x <= 0 ? 0 : x >= 1 ? 1 : x;
    }
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    return x < (a + 1) / (a + b + 2) ? front * beta_fraction(x, a, b) / a
                                     : 1 - front * beta_fraction(1 - x, b, a) / b;
}

double mixt_student_tails(double t, double freedom)
{
    return beta(freedom / (freedom + t * t), freedom / 2, 0.5);
}

double mixt_student_reach(double freedom)
{
    double low = 0.1, high = 13; /* 12.71 with one degree of freedom, 1.96 with many */
    for (int i = 0; i < 80; i++) {
        double middle = (low + high) / 2;
        bool beyond = mixt_student_tails(middle, freedom) > 0.05;
        low = beyond ? middle : low;
        high = beyond ? high : middle;
    }
    return (low + high) / 2;
}

static double mean_of(const double *values, int count)
{
    double sum = 0;
    for (int i = 0; i < count; i++) {
        sum += values[i];
    }
    return sum / count;
}

static double squares_of(const double *values, int count)
{
    double mean = mean_of(values, count), sum = 0;
    for (int i = 0; i < count; i++) {
        sum += (values[i] - mean) * (values[i] - mean);
    }
    return sum;
}

double mixt_student_pooled(const double *first, int first_count, const double *second,
                           int second_count)
{
    if (first_count < 2 || second_count < 2) {
        return NAN;
    }
    double variance = (squares_of(first, first_count) + squares_of(second, second_count)) /
                      (first_count + second_count - 2);
    if (!(variance > 0)) {
        return NAN;
    }
    return (mean_of(first, first_count) - mean_of(second, second_count)) /
           sqrt(variance * (1.0 / first_count + 1.0 / second_count));
}
