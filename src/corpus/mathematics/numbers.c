#include "corpus/mathematics/mathematics.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

int64_t mixt_math_between(math *m, int64_t low, int64_t high)
{
    assert(low <= high);
    return low + (int64_t)mixt_random_below(&m->key, m->draws++, (uint64_t)(high - low) + 1);
}

int64_t mixt_math_nonzero(math *m, int64_t limit)
{
    int64_t value = mixt_math_between(m, 1, limit);
    return mixt_math_chance(m, 50) ? -value : value;
}

bool mixt_math_chance(math *m, int percent)
{
    return mixt_math_between(m, 0, 99) < percent;
}

int64_t mixt_math_sized(math *m, int digits)
{
    int64_t value =
        mixt_math_between(m, 0, mixt_math_power(10, (int)mixt_math_between(m, 1, digits)) - 1);
    return mixt_math_chance(m, 50) ? -value : value;
}

const char *mixt_math_pick(math *m, const char *const *texts, size_t count)
{
    return texts[mixt_math_between(m, 0, (int64_t)count - 1)];
}

char mixt_math_letter(math *m)
{
    assert(m->letters_used != (1u << 26) - 1);
    for (;;) {
        int letter = (int)mixt_math_between(m, 0, 25);
        if ((m->letters_used >> letter & 1) == 0) {
            m->letters_used |= 1u << letter;
            return (char)('a' + letter);
        }
    }
}

void mixt_math_shuffle(math *m, void *items, size_t count, size_t size)
{
    char *bytes = items, kept[64];
    assert(size <= sizeof kept);
    for (size_t i = count; i > 1; i--) {
        size_t other = (size_t)mixt_math_between(m, 0, (int64_t)i - 1);
        memcpy(kept, bytes + other * size, size);
        memmove(bytes + other * size, bytes + (i - 1) * size, size);
        memcpy(bytes + (i - 1) * size, kept, size);
    }
}

int64_t mixt_math_gcd(int64_t a, int64_t b)
{
    while (b != 0) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a < 0 ? -a : a;
}

int64_t mixt_math_power(int64_t base, int exponent)
{
    int64_t result = 1;
    while (exponent-- > 0) {
        result *= base;
    }
    return result;
}

fraction mixt_math_fraction(int64_t top, int64_t bottom)
{
    assert(bottom != 0);
    int64_t divisor = mixt_math_gcd(top, bottom);
    if (bottom < 0) {
        divisor = -divisor;
    }
    return (fraction){top / divisor, bottom / divisor};
}

static fraction add(fraction a, fraction b)
{
    return mixt_math_fraction(a.top * b.bottom + b.top * a.bottom, a.bottom * b.bottom);
}

fraction mixt_math_subtract(fraction a, fraction b)
{
    return add(a, (fraction){-b.top, b.bottom});
}

fraction mixt_math_multiply(fraction a, fraction b)
{
    return mixt_math_fraction(a.top * b.top, a.bottom * b.bottom);
}

/* b is not 0. */
static fraction quotient(fraction a, fraction b)
{
    return mixt_math_fraction(a.top * b.bottom, a.bottom * b.top);
}

int mixt_math_compare(fraction a, fraction b)
{
    int64_t difference = a.top * b.bottom - b.top * a.bottom;
    return (difference > 0) - (difference < 0);
}

void mixt_math_write_fraction(mixt_buffer *to, fraction value)
{
    mixt_buffer_format(to, "%" PRId64, value.top);
    if (value.bottom != 1) {
        mixt_buffer_format(to, "/%" PRId64, value.bottom);
    }
}

void mixt_math_write_decimal(mixt_buffer *to, decimal value)
{
    while (value.places > 0 && value.digits % 10 == 0) {
        value.digits /= 10;
        value.places--;
    }
    int64_t scale = mixt_math_power(10, value.places);
    int64_t size = value.digits < 0 ? -value.digits : value.digits;
    mixt_buffer_format(to, "%s%" PRId64, value.digits < 0 ? "-" : "", size / scale);
    if (value.places > 0) {
        mixt_buffer_format(to, ".%0*" PRId64, value.places, size % scale);
    }
}

decimal mixt_math_decimal(math *m, int digits)
{
    decimal value = {mixt_math_sized(m, digits), 0};
    if (mixt_math_chance(m, 50)) {
        value.places = (int)mixt_math_between(m, 1, 4);
    }
    return value;
}

fraction mixt_math_decimal_value(decimal value)
{
    return mixt_math_fraction(value.digits, mixt_math_power(10, value.places));
}

const char *mixt_math_number_word(int number)
{
    static const char *const words[] = {"zero",  "one",   "two",  "three", "four",   "five",  "six",
                                        "seven", "eight", "nine", "ten",   "eleven", "twelve"};
    return words[number];
}

const char *mixt_math_ordinal(int number)
{
    static const char *const words[] = {"zeroth", "first",   "second", "third", "fourth", "fifth",
                                        "sixth",  "seventh", "eighth", "ninth", "tenth"};
    return words[number];
}

/* --- Expressions -------------------------------------------------------------------------------
 */

/* What stands around an expression, and so where it needs brackets. */
typedef enum context {
    IN_SUM,      /* nothing binds closer */
    IN_PRODUCT,  /* sums need brackets */
    UNDER_SLASH, /* so do products, fractions and negative numbers */
} context;

static void write_number(mixt_buffer *to, fraction value, context around)
{
    bool brackets = around == UNDER_SLASH ? value.top < 0 || value.bottom != 1
                                          : around == IN_PRODUCT && value.bottom != 1;
    mixt_buffer_text(to, brackets ? "(" : "");
    mixt_math_write_fraction(to, value);
    mixt_buffer_text(to, brackets ? ")" : "");
}

static void write_in(math *m, mixt_buffer *to, fraction value, int size, context around)
{
    bool is_sum = value.top == 0 || mixt_math_chance(m, 50);
    bool is_big = value.bottom > 100000 || value.top > 100000000 || value.top < -100000000;
    if (size <= 0 || (!is_sum && is_big)) {
        write_number(to, value, around);
        return;
    }
    int left = (int)mixt_math_between(m, 0, size - 1);
    bool brackets = is_sum ? around != IN_SUM : around == UNDER_SLASH;
    mixt_buffer_text(to, brackets ? "(" : "");
    if (is_sum) {
        bool minus = mixt_math_chance(m, 50);
        fraction first = {mixt_math_between(m, -30, 30), 1};
        fraction second =
            minus ? mixt_math_subtract(first, value) : mixt_math_subtract(value, first);
        write_in(m, to, first, left, IN_SUM);
        mixt_buffer_text(to, minus ? " - " : " + ");
        write_in(m, to, second, size - 1 - left, minus ? IN_PRODUCT : IN_SUM);
    } else {
        bool divide = mixt_math_chance(m, 60);
        fraction second = {mixt_math_nonzero(m, 30), 1};
        fraction first = divide ? mixt_math_multiply(value, second) : quotient(value, second);
        write_in(m, to, first, left, divide ? UNDER_SLASH : IN_PRODUCT);
        mixt_buffer_text(to, divide ? "/" : "*");
        write_in(m, to, second, size - 1 - left, divide ? UNDER_SLASH : IN_PRODUCT);
    }
    mixt_buffer_text(to, brackets ? ")" : "");
}

void mixt_math_write_expression(math *m, mixt_buffer *to, fraction value, int size)
{
    write_in(m, to, value, size, IN_SUM);
}

void mixt_math_write_operand(math *m, mixt_buffer *to, int64_t value)
{
    bool is_big = value > 1000000 || value < -1000000;
    if (is_big || mixt_math_chance(m, 60) || m->preamble.length > 120) {
        mixt_buffer_format(to, "%" PRId64, value);
        return;
    }
    char letter = mixt_math_letter(m);
    mixt_buffer_format(to, "%c", letter);
    int64_t first = mixt_math_between(m, -99, 99);
    switch (mixt_math_between(m, 0, 3)) {
    case 0:
        mixt_buffer_format(&m->preamble, "Let %c = %" PRId64 " + %" PRId64 ". ", letter, first,
                           value - first);
        break;
    case 1:
        mixt_buffer_format(&m->preamble, "Let %c = %" PRId64 " - %" PRId64 ". ", letter, first,
                           first - value);
        break;
    case 2:
        mixt_buffer_format(&m->preamble, "Let %c be ", letter);
        mixt_math_write_expression(m, &m->preamble, (fraction){value, 1},
                                   (int)mixt_math_between(m, 1, 4));
        mixt_buffer_text(&m->preamble, ". ");
        break;
    default: {
        int64_t factor = mixt_math_nonzero(m, 9);
        mixt_buffer_text(&m->preamble, "Suppose ");
        mixt_math_write_equation(m, &m->preamble, &factor, &letter, 1, factor * value);
        mixt_buffer_text(&m->preamble, ". ");
        break;
    }
    }
}
