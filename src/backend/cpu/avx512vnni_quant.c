/* Products with quantised weights with AVX-512 VNNI: products of bytes are summed in 32 bits. */
#include "backend/cpu/avx512_quantise.h"

#define QUANT_DOTS
#define vi_dot4(sum, a, b) _mm512_dpbusd_epi32(sum, a, b)
#define vi_dpwssd(sum, a, b) _mm512_dpwssd_epi32(sum, a, b)

#include "backend/cpu/quant_panel.h"

#include "backend/cpu/quant_tile.h"

#include "backend/cpu/quant_multiples.h"

#include "backend/cpu/quant_multiply.h"

#include "backend/cpu/quant_single.h"

void mixt_fill_avx512vnni_matrix(mixt_kernels_f32 *table)
{
    static const mixt_matrix_kernels kernels = {ROWS, kernel_quantise, kernel_multiply};
    table->matrix = &kernels;
}
