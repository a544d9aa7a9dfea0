/* The machines that mixt is compiled for; every other is refused here, before anything else is
 * compiled (the Makefile asks this file first). Predefined macros of gcc and clang alone. */
#ifndef MIXT_CORE_MACHINE_H
#define MIXT_CORE_MACHINE_H

#if __SIZEOF_POINTER__ != 8
#error "mixt needs a 64-bit machine: it maps whole model files and counts their bytes in size_t"
#elif __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "mixt needs a little-endian machine: tensors are used as they lie in their files"
#elif defined(__x86_64__)
#define MIXT_MACHINE "x86_64" /* tiers avx*.c of backend/cpu */
#elif defined(__aarch64__)
#define MIXT_MACHINE "aarch64" /* tiers neon*.c */
#else
#define MIXT_MACHINE "other" /* the scalar tier */
#endif

#endif
