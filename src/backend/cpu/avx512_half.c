/* Few rows of activations times weights of F16 and BF16, with AVX-512. Sums are AVX2's, in
 * twice as many registers: reading is what it waits for. */
#include "backend/cpu/avx2_rows.h"

#define LANE_SUMS 16
#include "backend/cpu/float_lanes.h"

void mixt_fill_avx512_half(mixt_kernels_f32 *table)
{
    table->gemm.stream_half = kernel_stream_half;
}
