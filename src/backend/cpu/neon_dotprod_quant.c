/* Products with quantised weights with the dot products of bytes of ARMv8.2. */
#define QUANT_DOTS
#define FILL mixt_fill_neon_dotprod_matrix
#include "backend/cpu/neon_quant.h"
