#include "core/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *mixt_status_name(mixt_status status)
{
    switch (status) {
#define MIXT_STATUS_CASE(name, text)                                                               \
    case MIXT_##name:                                                                              \
        return text;
        MIXT_STATUS_LIST(MIXT_STATUS_CASE)
#undef MIXT_STATUS_CASE
    }
    return "unknown status";
}

bool mixt_status_is_refusal(mixt_status status)
{
    return status == MIXT_ERROR_ARGUMENT || status == MIXT_ERROR_FORMAT ||
           status == MIXT_ERROR_UNSUPPORTED || status == MIXT_ERROR_NOT_FOUND;
}

MIXT_PRINTF(4, 0)
static void fail_line(mixt_error *error, mixt_status status, int number, const char *format,
                      va_list arguments)
{
    if (error == NULL || error->status != MIXT_OK) {
        return;
    }
    error->status = status;
    vsnprintf(error->message, sizeof error->message, format, arguments);
    if (number != 0) {
        size_t used = strlen(error->message);
        snprintf(error->message + used, sizeof error->message - used, ": %s", strerror(number));
    }
    for (char *c = error->message; *c != '\0'; c++) { /* one line, whatever a file's text held */
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            *c = '?';
        }
    }
}

mixt_status mixt_fail(mixt_error *error, mixt_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fail_line(error, status, 0, format, arguments);
    va_end(arguments);
    return status;
}

mixt_status mixt_fail_errno(mixt_error *error, int number, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fail_line(error, MIXT_ERROR_IO, number, format, arguments);
    va_end(arguments);
    return MIXT_ERROR_IO;
}
