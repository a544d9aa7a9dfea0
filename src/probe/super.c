/* Super experts by the rule of their paper (2507.23279): outputs that stand out among all experts'.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/statistics.h"
#include "probe/probe.h"

mixt_status mixt_super_find(const double *largest, int layers, int experts,
                            mixt_super_bounds *bounds, mixt_error *error)
{
    size_t count = (size_t)layers * (size_t)experts;
    double *sorted = malloc((count + 1) * sizeof *sorted);
    if (sorted == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "probe: no memory");
    }
    memcpy(sorted, largest, count * sizeof *sorted);
    mixt_sort_doubles(sorted, count);
    *bounds = (mixt_super_bounds){.percentile = mixt_sorted_quantile(sorted, count, 0.995),
                                  .share = sorted[count - 1] / 10,
                                  .layers = layers * 3 / 4};
    free(sorted);
    return MIXT_OK;
}

bool mixt_super_is(const mixt_super_bounds *bounds, int layer, double largest)
{
    return layer < bounds->layers && largest > fmax(bounds->percentile, bounds->share);
}
