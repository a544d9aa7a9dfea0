#include "backend/cpu/tiers.h"

void mixt_fill_avx512bf16(mixt_kernels_f32 *table)
{
    (void)table;
}
