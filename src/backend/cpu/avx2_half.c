/* Few rows of activations times weights of F16 and BF16, with AVX2. */
#include "backend/cpu/avx2_rows.h"

#define LANE_SUMS 8
#include "backend/cpu/float_lanes.h"

void mixt_fill_avx2_half(mixt_kernels_f32 *table)
{
    table->gemm.stream_half = kernel_stream_half;
}
