#include "core/remarks.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/number.h"

#define REMARKS_MOST 50 /* lines; a file may give reason for any number */

void mixt_remark(mixt_remarks *remarks, const char *format, ...)
{
    char line[512];
    if (remarks == NULL) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    mixt_format_list(line, sizeof line, format, arguments);
    va_end(arguments);
    mixt_text_plain(line);
    if (remarks->count == REMARKS_MOST) {
        return;
    }
    if (remarks->count == REMARKS_MOST - 1) {
        snprintf(line, sizeof line, "and more of this kind");
    }
    for (size_t i = 0; i < remarks->count; i++) {
        if (strcmp(remarks->lines[i], line) == 0) {
            return;
        }
    }
    char *copy = strdup(line);
    if (copy == NULL || !mixt_grow(&remarks->lines, &remarks->capacity, remarks->count + 1,
                                   sizeof *remarks->lines)) {
        free(copy);
        return;
    }
    remarks->lines[remarks->count++] = copy;
}

const char *mixt_remarks_get(const mixt_remarks *remarks, int index)
{
    return index >= 0 && (size_t)index < remarks->count ? remarks->lines[index] : NULL;
}

void mixt_remarks_free(mixt_remarks *remarks)
{
    for (size_t i = 0; i < remarks->count; i++) {
        free(remarks->lines[i]);
    }
    free(remarks->lines);
    *remarks = (mixt_remarks){0};
}
