/* Few rows of activations times weights of F16 and BF16, with NEON. */
#include "backend/cpu/neon_rows.h"

#define LANE_SUMS 8
#include "backend/cpu/float_lanes.h"

void mixt_fill_neon_half(mixt_kernels_f32 *table)
{
    table->gemm.stream_half = kernel_stream_half;
}
