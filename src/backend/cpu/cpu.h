/* Which instruction sets this processor and its operating system offer, in tiers. */
#ifndef MIXT_BACKEND_CPU_CPU_H
#define MIXT_BACKEND_CPU_CPU_H

#include <stdbool.h>

#include "mixt.h"

typedef enum mixt_cpu_tier {
    MIXT_CPU_SCALAR,
    MIXT_CPU_AVX2,   /* AVX2, FMA, F16C: Haswell, Zen and later */
    MIXT_CPU_AVX512, /* AVX-512 F, BW, DQ, VL: Skylake-X, Zen 4 and later */
} mixt_cpu_tier;

typedef struct mixt_cpu {
    mixt_cpu_tier tier;
    bool bf16; /* VDPBF16PS, in the AVX-512 tier */
    bool vnni; /* VPDPBUSD, VPDPWSSD, likewise */
} mixt_cpu;

/* What this processor has. */
mixt_cpu mixt_cpu_detect(void);
/* The tier to use: `wanted` (NULL: the variable MIXT_CPU, then the best). A name that is unknown
 * or more than the processor has is refused. */
mixt_status mixt_cpu_choose(const char *wanted, mixt_cpu *cpu, mixt_error *error);

#endif
