#include "formats/dtype.h"

#include <string.h>

typedef struct dtype_row {
    const char *name;
    unsigned bits;
} dtype_row;

static const dtype_row rows[] = {{"unknown", 0},
#define DTYPE_ROW(name, bits) {#name, bits},
                                 MIXT_DTYPE_LIST(DTYPE_ROW)
#undef DTYPE_ROW
};

#define ROW_COUNT (sizeof rows / sizeof rows[0])

const char *mixt_dtype_name(mixt_dtype dtype)
{
    return (size_t)dtype < ROW_COUNT ? rows[dtype].name : rows[0].name;
}

unsigned mixt_dtype_bits(mixt_dtype dtype)
{
    return (size_t)dtype < ROW_COUNT ? rows[dtype].bits : 0;
}

mixt_dtype mixt_dtype_from_name(const char *name)
{
    for (size_t i = 1; i < ROW_COUNT; i++) {
        if (strcmp(rows[i].name, name) == 0) {
            return (mixt_dtype)i;
        }
    }
    return MIXT_DTYPE_UNKNOWN;
}
