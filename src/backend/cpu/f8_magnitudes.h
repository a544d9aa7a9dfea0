/* Magnitudes of E4M3 (OCP) as bfloat16, which holds them exactly: exponents 1 to 15 are moved, the
 * first eight are multiples of 2^-9, the last is NaN. */
#ifndef MIXT_BACKEND_CPU_F8_MAGNITUDES_H
#define MIXT_BACKEND_CPU_F8_MAGNITUDES_H

#include <stdint.h>

#define F8_BITS(exponent, eighths) (((exponent) + 120) << 7 | (eighths) << 4)
#define F8_SEVEN(exponent)                                                                         \
    F8_BITS(exponent, 0), F8_BITS(exponent, 1), F8_BITS(exponent, 2), F8_BITS(exponent, 3),        \
        F8_BITS(exponent, 4), F8_BITS(exponent, 5), F8_BITS(exponent, 6)
#define F8_EIGHT(exponent) F8_SEVEN(exponent), F8_BITS(exponent, 7)

static const uint16_t f8_magnitudes[128] = {
    0,
    F8_BITS(-2, 0),
    F8_BITS(-1, 0),
    F8_BITS(-1, 4),
    F8_BITS(0, 0),
    F8_BITS(0, 2),
    F8_BITS(0, 4),
    F8_BITS(0, 6),
    F8_EIGHT(1),
    F8_EIGHT(2),
    F8_EIGHT(3),
    F8_EIGHT(4),
    F8_EIGHT(5),
    F8_EIGHT(6),
    F8_EIGHT(7),
    F8_EIGHT(8),
    F8_EIGHT(9),
    F8_EIGHT(10),
    F8_EIGHT(11),
    F8_EIGHT(12),
    F8_EIGHT(13),
    F8_EIGHT(14),
    F8_SEVEN(15),
    0x7FC0,
};

#endif
