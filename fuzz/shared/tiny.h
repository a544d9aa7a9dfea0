/* Models that fit a configuration. */
#ifndef MIXT_FUZZ_TINY_H
#define MIXT_FUZZ_TINY_H

#include "fuzz.h"

/* The model of this config.json, of weights from the seed; NULL where it is refused, which is
 * looked at, or larger than such a model need be. */
mixt_model *fuzz_tiny_model(const char *text, uint64_t seed);

#endif
