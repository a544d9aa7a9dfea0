/* The library's version, and the promise that its structs may be of a newer header. */
#include "core/error.h"

const char *mixt_version(void)
{
    return MIXT_VERSION;
}

int mixt_version_number(void)
{
    return MIXT_VERSION_NUMBER;
}

mixt_status mixt_check_reserved(const char *type, const uint64_t *words, size_t count,
                                mixt_error *error)
{
    for (size_t i = 0; i < count; i++) {
        if (words[i] != 0) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                             "%s: reserved word %zu is not 0: set by a newer mixt.h than that of "
                             "this library (%s), or the struct did not start from {0}",
                             type, i, MIXT_VERSION);
        }
    }
    return MIXT_OK;
}
