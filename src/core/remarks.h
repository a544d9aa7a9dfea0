/* What a caller should hear although nothing failed: lines that an object collects while it is
 * opened. The library never prints; programs show them (mixt_model_remark). */
#ifndef MIXT_CORE_REMARKS_H
#define MIXT_CORE_REMARKS_H

#include <stddef.h>

#include "core/error.h"

/* Zeroed: none. */
typedef struct mixt_remarks {
    char **lines; /* [count] */
    size_t count, capacity;
} mixt_remarks;

/* Adds a line that is not there yet, made safe to print; behind the first fifty they are left out;
 * without memory it is lost. NULL: nobody listens. */
void mixt_remark(mixt_remarks *remarks, const char *format, ...) MIXT_PRINTF(2, 3);
/* Line `index`, NULL behind the last. */
const char *mixt_remarks_get(const mixt_remarks *remarks, int index);
void mixt_remarks_free(mixt_remarks *remarks);

#endif
