/* Products with quantised weights with AVX-512 F, BW, DQ, VL. */
#include "backend/cpu/avx512_quantise.h"

#define vi_dpwssd(sum, a, b) _mm512_add_epi32(sum, _mm512_madd_epi16(a, b))

#include "backend/cpu/quant_panel.h"

#include "backend/cpu/quant_tile.h"

#include "backend/cpu/quant_multiples.h"

#include "backend/cpu/quant_multiply.h"

#include "backend/cpu/quant_single.h"

void mixt_fill_avx512_matrix(mixt_kernels_f32 *table)
{
    static const mixt_matrix_kernels kernels = {ROWS, kernel_quantise, kernel_multiply};
    table->matrix = &kernels;
}
