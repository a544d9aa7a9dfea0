/* Row kernels with AVX-512: sixteen lanes are one register. */
#include "backend/cpu/avx512_lanes.h"

#include "backend/cpu/vector.h"

void mixt_fill_avx512(mixt_kernels_f32 *table)
{
    fill_rows(table);
    mixt_fill_avx512_gemm(table);
    mixt_fill_avx512_rows(table);
    mixt_fill_avx512_half(table);
    mixt_fill_avx512_matrix(table);
}
