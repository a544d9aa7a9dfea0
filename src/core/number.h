/* Numbers as text, with a decimal point whatever locale the program around us has set: printf,
 * strtod and jansson follow LC_NUMERIC, files and reports may not. Nothing else in the library
 * formats or reads fractions (make lint). */
#ifndef MIXT_CORE_NUMBER_H
#define MIXT_CORE_NUMBER_H

#include <locale.h>
#include <stdarg.h>
#include <stddef.h>

#include "core/error.h"

#define MIXT_NUMBER_SIZE 32 /* bytes of any number as the functions below write it */

/* The shortest decimal that reads back as the same number: 0.0003, 1e-08, 300, inf, nan. */
void mixt_number_write(double value, char text[MIXT_NUMBER_SIZE]);
void mixt_number_write_float(float value, char text[MIXT_NUMBER_SIZE]);

/* strtod of the C locale; `end` may be NULL. */
double mixt_number_read(const char *text, char **end);

/* snprintf and vsnprintf of the C locale. */
int mixt_format(char *text, size_t size, const char *format, ...) MIXT_PRINTF(3, 4);
int mixt_format_list(char *text, size_t size, const char *format, va_list list) MIXT_PRINTF(3, 0);

/* The calling thread's locale becomes C, and what it was again: around calls of other libraries
 * that write or read numbers. */
locale_t mixt_locale_enter(void);
void mixt_locale_leave(locale_t before);

#endif
