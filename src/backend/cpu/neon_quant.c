/* Products with quantised weights with NEON as every ARMv8 processor has it. */
#define FILL mixt_fill_neon_matrix
#include "backend/cpu/neon_quant.h"
