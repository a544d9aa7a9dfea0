/* One file of this folder for measures that belong together; atlas/measures.c lists them. */
#ifndef MIXT_ATLAS_MEASURES_MEASURES_H
#define MIXT_ATLAS_MEASURES_MEASURES_H

#include "atlas/measure.h"

extern const mixt_measure_type mixt_measure_load; /* load.c */

#endif
