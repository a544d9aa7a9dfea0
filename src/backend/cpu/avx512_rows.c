/* Few rows of activations times typed weights, with AVX-512. */
#include "backend/cpu/avx512_rows.h"

#include "backend/cpu/float_rows.h"

#define STREAM_GROUPS 2
#define STREAM_IN_TURN false
#include "backend/cpu/float_stream.h"

void mixt_fill_avx512_rows(mixt_kernels_f32 *table)
{
    table->gemm.stream = kernel_stream;
}
