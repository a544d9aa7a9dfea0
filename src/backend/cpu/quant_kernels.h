/* All kernels of a tier for products with quantised weights. Included by one file for each way to
 * compute them, which has defined before what quant_panel.h asks for, kernel_quantise, and
 *
 *   FILL    the function that puts them into a table
 */
#include "backend/cpu/quant_panel.h"

#include "backend/cpu/quant_tile.h"

#include "backend/cpu/quant_multiples.h"

#include "backend/cpu/quant_multiply.h"

#if defined __x86_64__
#include "backend/cpu/quant_rows.h"
#else
#include "backend/cpu/quant_single.h"
#endif

void FILL(mixt_kernels_f32 *table)
{
    static const mixt_matrix_kernels kernels = {ROWS, kernel_quantise, kernel_multiply};
    table->matrix = &kernels;
}
