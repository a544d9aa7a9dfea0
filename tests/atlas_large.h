/* A made-up trace as large as what people run, written straight into a file. */
#ifndef TESTS_ATLAS_LARGE_H
#define TESTS_ATLAS_LARGE_H

#include <stdint.h>

#include "mixt.h"

typedef struct atlas_large_options {
    int layers, experts, experts_per_token, domains;
    uint64_t tokens;
    int noise; /* of 100 tokens, so many choose otherwise: another precision of the same model */
} atlas_large_options;

mixt_status atlas_large_write(const char *path, const atlas_large_options *options,
                              mixt_error *error);

#endif
