#include "core/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/number.h"
#include "core/utf8.h"

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

void mixt_text_plain(char *text)
{
    size_t left = strlen(text);
    for (unsigned char *c = (unsigned char *)text; left > 0;) {
        size_t length = mixt_utf8_character(c, left);
        bool shown = length != 0 && !mixt_utf8_acts(mixt_utf8_decode(c, length));
        length = length == 0 ? 1 : length;
        if (!shown) {
            memset(c, '?', length);
        }
        c += length;
        left -= length;
    }
}

/* The status of the message that stays. */
MIXT_PRINTF(4, 0)
static mixt_status fail_line(mixt_error *error, mixt_status status, int number, const char *format,
                             va_list arguments)
{
    if (error == NULL || error->status != MIXT_OK) {
        return error == NULL ? status : error->status;
    }
    error->status = status;
    mixt_format_list(error->message, sizeof error->message, format, arguments);
    if (number != 0) {
        size_t used = strlen(error->message);
        snprintf(error->message + used, sizeof error->message - used, ": %s", strerror(number));
    }
    mixt_text_plain(error->message);
    return status;
}

mixt_status mixt_fail(mixt_error *error, mixt_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    mixt_status kept = fail_line(error, status, 0, format, arguments);
    va_end(arguments);
    return kept;
}

mixt_status mixt_fail_errno(mixt_error *error, int number, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    mixt_status kept = fail_line(error, MIXT_ERROR_IO, number, format, arguments);
    va_end(arguments);
    return kept;
}

mixt_status mixt_go_on(mixt_progress progress, void *user, double done, double total,
                       mixt_error *error)
{
    return progress == NULL || progress(user, done, total)
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_INTERRUPTED, "interrupted; nothing was written");
}
