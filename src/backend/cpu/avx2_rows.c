/* Few rows of activations times typed weights, with AVX2. */
#include "backend/cpu/avx2_rows.h"

#include "backend/cpu/float_rows.h"

#define STREAM_GROUPS 2
#define STREAM_IN_TURN true
#include "backend/cpu/float_stream.h"

void mixt_fill_avx2_rows(mixt_kernels_f32 *table)
{
    table->gemm.stream = kernel_stream;
}
