/* Errors: every function that can meet bad input or a failing machine returns a mixt_status and,
 * where the caller passed a mixt_error, leaves one line there. The public half is in mixt.h. */
#ifndef MIXT_CORE_ERROR_H
#define MIXT_CORE_ERROR_H

#include "core/machine.h"
#include "mixt.h"

#if defined(__GNUC__)
#define MIXT_PRINTF(format_index, first) __attribute__((format(printf, format_index, first)))
#else
#define MIXT_PRINTF(format_index, first)
#endif

/* Fills `error` (when not NULL) with a formatted line and returns `status`, so that a failing
 * function reads `return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: ...", path);`. The first message
 * wins: a message that is already there is kept with its status, which is what is returned then,
 * because the innermost place knows most. */
mixt_status mixt_fail(mixt_error *error, mixt_status status, const char *format, ...)
    MIXT_PRINTF(3, 4);

/* Same, with ": strerror(number)" behind the line. */
mixt_status mixt_fail_errno(mixt_error *error, int number, const char *format, ...)
    MIXT_PRINTF(3, 4);

/* Refuses an options struct of the public header whose reserved words are not 0. */
#define MIXT_CHECK_RESERVED(type, options, error)                                                  \
    mixt_check_reserved(#type, (options)->reserved,                                                \
                        sizeof(options)->reserved / sizeof(options)->reserved[0], error)
mixt_status mixt_check_reserved(const char *type, const uint64_t *words, size_t count,
                                mixt_error *error);

/* Tells the caller how far a call is (progress NULL: nobody asked); an error where it is to end. */
mixt_status mixt_go_on(mixt_progress progress, void *user, double done, double total,
                       mixt_error *error);

/* Passes an error on, where nothing has to be released first. */
#define MIXT_TRY(expression)                                                                       \
    do {                                                                                           \
        mixt_status status_ = (expression);                                                        \
        if (status_ != MIXT_OK) {                                                                  \
            return status_;                                                                        \
        }                                                                                          \
    } while (0)

#endif
