/* The scalar kernels for fp64 with the fused multiply-add instruction in place of a library call:
 * the same operations, so the same bits. */
#define MIXT_REAL_DOUBLE
#define TABLE mixt_kernels_fma_f64
#include "backend/cpu/scalar_tmpl.c"
