/* A backend whose memory is not the host's, for tests: it proves that nothing outside a backend
 * follows a pointer into a device's memory, and that operators are given nothing else.
 *
 * What it hands out are addresses of a range that nobody may touch. The bytes lie in a second
 * range, which only the functions here know: each operator is the CPU's, called with every pointer
 * checked and then translated.
 *
 * A test program that is linked with these files and --wrap=mixt_backend_cpu,
 * --wrap=mixt_instance_run runs on it without knowing. */
#ifndef MIXT_TESTS_GUARDED_H
#define MIXT_TESTS_GUARDED_H

#include "ops/backend.h"

/* Zeros, on a cache line; NULL: no memory. The page behind a block cannot be read, not even by
 * operators. */
void *guarded_allocate(size_t size);
/* Ends the program where `block` is no such block or bytes behind its end were written. */
void guarded_release(void *block, size_t size);
/* Where `size` bytes at a device address really are; NULL where they do not lie inside one block
 * that is in use. */
void *guarded_real(const void *address, size_t size);
/* Why guarded_real gave NULL, as a text that the next call overwrites. */
const char *guarded_fault(const void *address, size_t size);

/* Says what went wrong on stderr and ends the program. */
_Noreturn void guarded_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Takes the place of mixt_backend_cpu (backend/cpu/compute.h). */
const mixt_backend *__wrap_mixt_backend_cpu(size_t real_size);
/* The CPU's own. */
const mixt_backend *__real_mixt_backend_cpu(size_t real_size);

#endif
