/* The measures by name. */
#include "atlas/measures/measures.h"

const mixt_measure_type *const mixt_measure_types[] = {
    &mixt_measure_load,
    NULL,
};
