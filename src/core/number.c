#include "core/number.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define DOUBLE_DIGITS 17 /* significant digits that tell every double, every float, apart */
#define FLOAT_DIGITS 9

locale_t mixt_locale_enter(void)
{
    /* glibc and musl hand out a constant for all of "C": nothing is allocated or loaded. */
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    return uselocale(plain);
}

void mixt_locale_leave(locale_t before)
{
    uselocale(before);
}

int mixt_format_list(char *text, size_t size, const char *format, va_list list)
{
    locale_t before = mixt_locale_enter();
    int length = vsnprintf(text, size, format, list);
    mixt_locale_leave(before);
    return length;
}

int mixt_format(char *text, size_t size, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int length = mixt_format_list(text, size, format, list);
    va_end(list);
    return length;
}

double mixt_number_read(const char *text, char **end)
{
    locale_t before = mixt_locale_enter();
    double value = strtod(text, end);
    mixt_locale_leave(before);
    return value;
}

/* `single`: the same float is enough. */
static void write_shortest(double value, bool single, char text[MIXT_NUMBER_SIZE])
{
    if (fabs(value) < 1e15 && value == rint(value)) { /* 300, not 3e+02 */
        mixt_format(text, MIXT_NUMBER_SIZE, "%.0f", value);
        return;
    }
    for (int digits = 1; digits <= (single ? FLOAT_DIGITS : DOUBLE_DIGITS); digits++) {
        mixt_format(text, MIXT_NUMBER_SIZE, "%.*g", digits, value);
        double back = mixt_number_read(text, NULL);
        if (!isfinite(value) || (single ? (double)(float)back : back) == value) {
            return;
        }
    }
}

void mixt_number_write(double value, char text[MIXT_NUMBER_SIZE])
{
    write_shortest(value, false, text);
}

void mixt_number_write_float(float value, char text[MIXT_NUMBER_SIZE])
{
    write_shortest((double)value, true, text);
}
