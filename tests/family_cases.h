/* A tiny model of every family, for checks that hold for all of them. */
#ifndef MIXT_TESTS_FAMILY_CASES_H
#define MIXT_TESTS_FAMILY_CASES_H

#include "model/model.h"

typedef struct test_family {
    const char *name;
    void (*change)(mixt_model_options *options); /* of test_small_options */
} test_family;

extern const test_family test_families[];
extern const size_t test_family_count;

/* A new model of it, norms and biases moved. */
mixt_model *test_family_model(const test_family *family);
const test_family *test_family_find(const char *name);

/* Mixtures of every family as other implementations wrote them, in tests/fixtures/families. */
extern const char *const test_mixture_files[];
extern const size_t test_mixture_file_count;

#endif
