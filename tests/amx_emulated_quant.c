/* Products with quantised weights on the tiles of AMX, with their registers and the instructions of
 * VNNI spelled out. */
#include "amx_emulated.h"

#include "amx_emulated_registers.h"

#include "avx512_emulated_dots.h"

#define FILL mixt_fill_amx_emulated_matrix
#include "backend/cpu/amx_quant.c"
