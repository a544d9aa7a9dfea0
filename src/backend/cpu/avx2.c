#include "backend/cpu/tiers.h"

void mixt_fill_avx2(mixt_kernels_f32 *table)
{
    table->name = "avx2";
}
