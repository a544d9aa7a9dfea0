/* The eight tile registers of AMX: 16 rows of 64 bytes each. tests/amx_emulated.h defines the same
 * macros in plain C before a kernel's file is included. */
#ifndef MIXT_BACKEND_CPU_AMX_REGISTERS_H
#define MIXT_BACKEND_CPU_AMX_REGISTERS_H

#include <stdint.h>

/* What LDTILECFG reads: rows and bytes of a row of each register. */
typedef struct amx_configuration {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} amx_configuration;
_Static_assert(sizeof(amx_configuration) == 64, "LDTILECFG");

#define AMX_PALETTE 1
#define AMX_WHOLE_ROWS                                                                             \
    {                                                                                              \
        16, 16, 16, 16, 16, 16, 16, 16                                                             \
    }

#ifndef AMX_LOAD
#include <immintrin.h>

#define AMX_CONFIGURE(configuration) _tile_loadconfig(configuration)
#define AMX_RELEASE() _tile_release()
#define AMX_ZERO(tile) _tile_zero(tile)
/* Rows `stride` bytes apart. (gcc 12 does not know that it reads memory.) */
#define AMX_LOAD(tile, from, stride)                                                               \
    do {                                                                                           \
        __asm__ volatile("" : : : "memory");                                                       \
        _tile_loadd(tile, from, stride);                                                           \
    } while (0)
#define AMX_STORE(tile, to, stride) _tile_stored(tile, to, stride)
/* sums += a b. A row of `a`: 32 bfloat16 (64 bytes with sign); a row of `b`: pairs (fours, bytes
 * without sign) of k for each of 16 columns; `sums`: 16 x 16 fp32 (int32). */
#define AMX_DOT_BF16(sums, a, b) _tile_dpbf16ps(sums, a, b)
#define AMX_DOT_BYTES(sums, a, b) _tile_dpbsud(sums, a, b)
#endif

#endif
