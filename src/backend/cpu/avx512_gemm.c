/* The matrix product's kernels with AVX-512. */
#include "backend/cpu/avx512_pack.h"
#include "backend/cpu/bf16_panel.h"

#define TILE_ADD(sum, a, b) _mm512_fmadd_ps(a, b, sum)
#include "backend/cpu/avx512_tile.h"

void mixt_fill_avx512_gemm(mixt_kernels_f32 *table)
{
    table->gemm = (mixt_gemm_kernels_f32){TILE_ROWS, TILE_COLUMNS, false, kernel_pack, kernel_tile};
    table->gemm_bf16 =
        (mixt_gemm_kernels_f32){TILE_ROWS, TILE_COLUMNS, false, kernel_pack_bf16, kernel_tile};
}
