/* Row kernels with AVX2 and FMA: sixteen lanes are two registers. */
#include "backend/cpu/avx2_lanes.h"

#include "backend/cpu/vector.h"

void mixt_fill_avx2(mixt_kernels_f32 *table)
{
    fill_rows(table);
    mixt_fill_avx2_gemm(table);
    mixt_fill_avx2_rows(table);
    mixt_fill_avx2_half(table);
    mixt_fill_avx2_matrix(table);
}
