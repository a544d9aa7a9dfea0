#include "backend/cpu/tiers.h"

void mixt_fill_avx512(mixt_kernels_f32 *table)
{
    table->name = "avx512";
}
