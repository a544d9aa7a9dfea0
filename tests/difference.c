/* Not by fmax, which passes over NAN, and on which gcc 12 for aarch64 ends with an internal error
 * (vect_transform_reduction) where the count is known. */
#include "difference.h"

#include <math.h>

double test_largest_difference(const float *a, const float *b, size_t count)
{
    double worst = 0;
    for (size_t i = 0; i < count; i++) {
        double difference = fabs((double)a[i] - (double)b[i]);
        if (isnan(difference)) {
            return difference;
        }
        worst = difference > worst ? difference : worst;
    }
    return worst;
}
