/* How far two rows of numbers, or two models, are apart. */
#ifndef MIXT_TESTS_DIFFERENCE_H
#define MIXT_TESTS_DIFFERENCE_H

#include <stddef.h>

#include "mixt.h"

/* max |a - b|; NAN where one of the numbers is. */
double test_largest_difference(const float *a, const float *b, size_t count);

/* Fails the test where a value of a parameter is not the same. Parameters that rotate pairs the
 * other way differ by rows, so both models must come from the same kind of file. */
void test_same_values(const char *what, const mixt_model *a, const mixt_model *b);
/* Tensor by tensor of two GGUF files the same name, type and bytes, in the same order. */
void test_same_tensors(const char *what, const char *path, const char *other);

#endif
