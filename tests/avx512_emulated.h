/* Kernels whose instructions few processors have, with the instructions spelled out in AVX-512 F
 * and BW: so tests run them on any processor with AVX-512. */
#ifndef MIXT_TESTS_AVX512_EMULATED_H
#define MIXT_TESTS_AVX512_EMULATED_H

#include "ops/kernels.h"

#if defined(__x86_64__)
/* VDPBF16PS: the tile of products in bfloat16 (backend/cpu/avx512bf16.c). */
void mixt_fill_avx512_emulated_bf16(mixt_kernels_f32 *table);
/* VPDPBUSD and VPDPWSSD: products with quantised weights (backend/cpu/avx512vnni_quant.c). */
void mixt_fill_avx512_emulated_vnni(mixt_kernels_f32 *table);
#else /* no context there has the tier that they would fill */
static inline void mixt_fill_avx512_emulated_bf16(mixt_kernels_f32 *table)
{
    (void)table;
}
#endif

#endif
