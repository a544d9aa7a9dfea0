#include "study_statistics.h"

#include <math.h>

#include "mixt.h"

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
        double reach = mixt_student_reach(n - 1) * e.error;
        e.low = e.mean - reach;
        e.high = e.mean + reach;
    }
    return e;
}
