/* Few rows of activations times typed weights, with NEON. */
#include "backend/cpu/neon_rows.h"

#include "backend/cpu/float_rows.h"

#define STREAM_GROUPS 4
#define STREAM_IN_TURN false
#include "backend/cpu/float_stream.h"

void mixt_fill_neon_rows(mixt_kernels_f32 *table)
{
    table->gemm.stream = kernel_stream;
}
