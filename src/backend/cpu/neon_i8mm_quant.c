/* Products with quantised weights with the matrix products of bytes of ARMv8.6. */
#define QUANT_DOTS
#define QUANT_PAIRS
#define FILL mixt_fill_neon_i8mm_matrix
#include "backend/cpu/neon_quant.h"
