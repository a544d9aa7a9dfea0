/* Buffers between two pages that may not be touched, for tests of kernels. */
#ifndef MIXT_TESTS_GUARD_H
#define MIXT_TESTS_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct guard {
    unsigned char *mapping;
    size_t mapped;
    unsigned char *inside; /* first byte between the pages */
    size_t size;           /* bytes between them, whole pages */
} guard;

/* What bytes hold that nobody has written: as fp32 a NaN. */
#define GUARD_POISON 0xFF

guard guard_create(size_t size);
void guard_free(guard *buffer);
/* `size` poisoned bytes that lie flush against the page behind the buffer (at_end), or against the
 * page before it; 8 KiB on their other side are poisoned too. */
void *guard_place(guard *buffer, size_t size, bool at_end);
/* Whether the bytes around `size` bytes at `place` still hold the poison. */
bool guard_intact(const guard *buffer, const void *place, size_t size);

/* Counter-based random bits for test data: the same for the same arguments. */
uint64_t guard_random(uint64_t seed, uint64_t counter);
/* Uniform in [-1, 1). */
float guard_uniform(uint64_t seed, uint64_t counter);

/* How many of something, or how far apart: `few` where the processor is emulated (MIXT_EMULATED,
 * set by tests/emulate.sh), which is some 15 times as slow. */
int guard_few(int all, int few);

/* The same of a numeric sweep, whose cases differ in numbers and sizes alone: `few` under
 * sanitizers and on the guarded backend too. What those find, a case of the same shape finds; the
 * whole sweep is the release build's, on buffers that end at pages which may not be touched. */
int guard_sample(int all, int few);

#endif
