/* Whole numbers: the smaller and the larger of two, and division that rounds up. */
#ifndef MIXT_CORE_ARITHMETIC_H
#define MIXT_CORE_ARITHMETIC_H

#include <stdint.h>

static inline int64_t mixt_least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t mixt_most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* a / b rounded up: a >= 0, b > 0. */
static inline int64_t mixt_divide_up(int64_t a, int64_t b)
{
    return a / b + (a % b != 0);
}

#endif
