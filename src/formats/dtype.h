/* Element types of tensor files (core/half.h converts the short floats).
 * mixt runs on little-endian machines, as the files are: bytes go to memory as they are. */
#ifndef MIXT_FORMATS_DTYPE_H
#define MIXT_FORMATS_DTYPE_H

#include <stddef.h>
#include <stdint.h>

#include "core/half.h"

/* name in a safetensors header, bits of an element */
#define MIXT_DTYPE_LIST(X)                                                                         \
    X(BOOL, 8)                                                                                     \
    X(U8, 8)                                                                                       \
    X(I8, 8)                                                                                       \
    X(I16, 16)                                                                                     \
    X(U16, 16)                                                                                     \
    X(F16, 16)                                                                                     \
    X(BF16, 16)                                                                                    \
    X(I32, 32)                                                                                     \
    X(U32, 32)                                                                                     \
    X(F32, 32)                                                                                     \
    X(I64, 64)                                                                                     \
    X(U64, 64)                                                                                     \
    X(F64, 64)                                                                                     \
    X(C64, 64)                                                                                     \
    X(F8_E4M3, 8)                                                                                  \
    X(F8_E5M2, 8)                                                                                  \
    X(F8_E8M0, 8)                                                                                  \
    X(F8_E4M3FNUZ, 8)                                                                              \
    X(F8_E5M2FNUZ, 8)                                                                              \
    X(F6_E2M3, 6)                                                                                  \
    X(F6_E3M2, 6)                                                                                  \
    X(F4, 4)

typedef enum mixt_dtype {
    MIXT_DTYPE_UNKNOWN, /* a type newer than this list; refused when its data are asked for */
#define MIXT_DTYPE_ENUM(name, bits) MIXT_DTYPE_##name,
    MIXT_DTYPE_LIST(MIXT_DTYPE_ENUM)
#undef MIXT_DTYPE_ENUM
} mixt_dtype;

/* "F32"; "unknown" for MIXT_DTYPE_UNKNOWN. */
const char *mixt_dtype_name(mixt_dtype dtype);
mixt_dtype mixt_dtype_from_name(const char *name);
/* Bits of one element, 0 for MIXT_DTYPE_UNKNOWN. */
unsigned mixt_dtype_bits(mixt_dtype dtype);

#endif
