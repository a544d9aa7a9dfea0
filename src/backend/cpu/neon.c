/* Row kernels with NEON: sixteen lanes are four registers. */
#include "backend/cpu/neon_lanes.h"

#include "backend/cpu/vector.h"

void mixt_fill_neon(mixt_kernels_f32 *table)
{
    fill_rows(table);
    mixt_fill_neon_gemm(table);
    mixt_fill_neon_rows(table);
    mixt_fill_neon_half(table);
    mixt_fill_neon_matrix(table);
}
