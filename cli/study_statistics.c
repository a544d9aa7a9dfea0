#include "study_statistics.h"

#include <math.h>

/* Continued fraction of the incomplete beta function (Abramowitz & Stegun 26.5.8), by Lentz's
 * method. */
static double beta_fraction(double a, double b, double x)
{
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double value = d;
    for (int m = 1; m <= 1000; m++) {
        double change = 1;
        for (int part = 0; part < 2; part++) {
            double n = part == 0 ? m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
                                 : -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
            d = 1 + n * d;
            c = 1 + n / c;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            c = fabs(c) < tiny ? tiny : c;
            change = d * c;
            value *= change;
        }
        if (fabs(change - 1) < 1e-15) {
            break;
        }
    }
    return value;
}

static double incomplete_beta(double a, double b, double x)
{
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    return x < (a + 1) / (a + b + 2) ? front * beta_fraction(a, b, x) / a
                                     : 1 - front * beta_fraction(b, a, 1 - x) / b;
}

/* P(T > t) */
static double upper_tail(double t, double freedom)
{
    return 0.5 * incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t));
}

double study_student(double freedom)
{
    double low = 0.1, high = 13; /* 12.71 with one degree of freedom, 1.96 with many */
    for (int i = 0; i < 80; i++) {
        double middle = (low + high) / 2;
        if (upper_tail(middle, freedom) > 0.025) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return (low + high) / 2;
}

study_estimate study_estimate_of(const double *values, size_t count)
{
    study_estimate e = {0, NAN, NAN, NAN, NAN};
    double sum = 0, squares = 0;
    for (size_t i = 0; i < count; i++) {
        if (!isnan(values[i])) {
            sum += values[i];
            e.count++;
        }
    }
    if (e.count == 0) {
        return e;
    }
    double n = (double)e.count;
    e.mean = sum / n;
    for (size_t i = 0; i < count; i++) {
        squares += isnan(values[i]) ? 0 : (values[i] - e.mean) * (values[i] - e.mean);
    }
    if (e.count > 1) {
        e.error = sqrt(squares / (n - 1) / n);
        double reach = study_student(n - 1) * e.error;
        e.low = e.mean - reach;
        e.high = e.mean + reach;
    }
    return e;
}
