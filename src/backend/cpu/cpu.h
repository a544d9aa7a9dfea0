/* Which instruction sets this processor and its operating system offer, in tiers. */
#ifndef MIXT_BACKEND_CPU_CPU_H
#define MIXT_BACKEND_CPU_CPU_H

#include <stdbool.h>

#include "mixt.h"

/* Those of one kind of processor in rising order: each has what the ones before it have. */
typedef enum mixt_cpu_tier {
    MIXT_CPU_SCALAR,
    MIXT_CPU_AVX2,   /* AVX2, FMA, F16C: Haswell, Zen and later */
    MIXT_CPU_AVX512, /* AVX-512 F, BW, DQ, VL: Skylake-X, Zen 4 and later */
    MIXT_CPU_AMX,  /* AMX's tiles of bfloat16 and bytes, VNNI and BF16: Sapphire Rapids and later */
    MIXT_CPU_NEON, /* every 64-bit ARM processor */
    MIXT_CPU_DOTPROD, /* SDOT (ARMv8.2): Cortex-A76, Neoverse N1, Apple M1 and later */
    MIXT_CPU_I8MM,    /* SMMLA (ARMv8.6): Neoverse V1 and N2, Apple M2 and later */
} mixt_cpu_tier;
#define MIXT_CPU_TIERS 7
/* "scalar", "avx2", ...: of every kind of processor. */
extern const char *const mixt_cpu_tier_names[MIXT_CPU_TIERS];

typedef struct mixt_cpu {
    mixt_cpu_tier tier;
    bool bf16; /* VDPBF16PS, from the AVX-512 tier on */
    bool vnni; /* VPDPBUSD, VPDPWSSD, likewise */
} mixt_cpu;

/* What this processor has. */
mixt_cpu mixt_cpu_detect(void);
/* The tier to use: `wanted` (NULL: the variable MIXT_CPU, then the best). A name that is unknown
 * or more than the processor has is refused. */
mixt_status mixt_cpu_choose(const char *wanted, mixt_cpu *cpu, mixt_error *error);

#endif
