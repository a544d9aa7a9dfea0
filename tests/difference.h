/* How far two rows of numbers are apart. */
#ifndef MIXT_TESTS_DIFFERENCE_H
#define MIXT_TESTS_DIFFERENCE_H

#include <stddef.h>

/* max |a - b|; NAN where one of the numbers is. */
double test_largest_difference(const float *a, const float *b, size_t count);

#endif
