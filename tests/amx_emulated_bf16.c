/* The bfloat16 tiles of AMX with their registers spelled out. */
#include "amx_emulated.h"

#include "amx_emulated_registers.h"

#define FILL mixt_fill_amx_emulated_bf16
#include "backend/cpu/amx_bf16.c"
