/* The VNNI products with their instructions spelled out, on the panels of the library. */
#include "avx512_emulated.h"

#include "avx512_emulated_dots.h"

#define QUANT_DOTS
#include "backend/cpu/quant_panel.h"

#include "backend/cpu/quant_tile.h"

#include "backend/cpu/quant_multiples.h"

#include "backend/cpu/quant_multiply.h"

#include "backend/cpu/quant_rows.h"

void mixt_fill_avx512_emulated_vnni(mixt_kernels_f32 *table)
{
    static const mixt_matrix_kernels kernels = {ROWS, kernel_quantise, kernel_multiply};
    table->matrix = &kernels;
}
