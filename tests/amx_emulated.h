/* The tile registers of AMX in plain C, as Intel's manual (SDM volume 2) spells the instructions
 * out: so tests run the kernels of backend/cpu/amx_*.c on any processor with AVX-512. */
#ifndef MIXT_TESTS_AMX_EMULATED_H
#define MIXT_TESTS_AMX_EMULATED_H

#include "ops/kernels.h"

#if defined(__x86_64__)
/* Products of bfloat16 (amx_bf16.c). */
void mixt_fill_amx_emulated_bf16(mixt_kernels_f32 *table);
/* Products with quantised weights (amx_quant.c). */
void mixt_fill_amx_emulated_matrix(mixt_kernels_f32 *table);
#else /* no context there has the tier that they would fill */
static inline void mixt_fill_amx_emulated_bf16(mixt_kernels_f32 *table)
{
    (void)table;
}
#endif

#endif
