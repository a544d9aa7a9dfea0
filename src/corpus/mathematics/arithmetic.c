#include <inttypes.h>
#include <string.h>

#include "corpus/mathematics/mathematics.h"

static void write_integer(mixt_buffer *to, int64_t value)
{
    mixt_buffer_format(to, "%" PRId64, value);
}

/* Two decimals with the same number of places. */
static void align(decimal *a, decimal *b)
{
    while (a->places < b->places) {
        a->digits *= 10;
        a->places++;
    }
    while (b->places < a->places) {
        b->digits *= 10;
        b->places++;
    }
}

void mixt_math_add_or_subtract(math *m)
{
    decimal a = mixt_math_decimal(m, 8), b = mixt_math_decimal(m, 8), result;
    bool minus = mixt_math_chance(m, 50);
    const char *before, *between, *after;
    static const char *const forms[2][6][3] = {
        {{"What is ", " plus ", "?"},
         {"Add ", " and ", "."},
         {"Work out ", " + ", "."},
         {"What is the sum of ", " and ", "?"},
         {"Total of ", " and ", "."},
         {"", " + ", ""}},
        {{"What is ", " minus ", "?"},
         {"Subtract ", " from ", "."},
         {"Work out ", " - ", "."},
         {"Take ", " away from ", "."},
         {"What is ", " less than ", "?"},
         {"", " - ", ""}},
    };
    int64_t form = mixt_math_between(m, 0, 5);
    before = forms[minus][form][0];
    between = forms[minus][form][1];
    after = forms[minus][form][2];
    mixt_buffer_text(&m->question, before);
    mixt_math_write_decimal(&m->question, a);
    mixt_buffer_text(&m->question, between);
    mixt_math_write_decimal(&m->question, b);
    mixt_buffer_text(&m->question, after);
    align(&a, &b);
    bool reversed = minus && (form == 1 || form == 3 || form == 4); /* "take a away from b" */
    result.places = a.places;
    result.digits = !minus     ? a.digits + b.digits
                    : reversed ? b.digits - a.digits
                               : a.digits - b.digits;
    mixt_math_write_decimal(&m->answer, result);
}

static void write_in_base(mixt_buffer *to, int64_t value, int base)
{
    char digits[70];
    size_t at = sizeof digits;
    uint64_t rest = (uint64_t)(value < 0 ? -value : value);
    do {
        digits[--at] = "0123456789abcdefghijklmnopqrstuvwxyz"[rest % (uint64_t)base];
        rest /= (uint64_t)base;
    } while (rest != 0);
    if (value < 0) {
        digits[--at] = '-';
    }
    mixt_buffer_append(to, digits + at, sizeof digits - at);
}

void mixt_math_add_or_subtract_in_base(math *m)
{
    int base = (int)mixt_math_between(m, 2, 16);
    int64_t a = mixt_math_sized(m, 8), b = mixt_math_sized(m, 8);
    bool minus = mixt_math_chance(m, 50);
    mixt_buffer_format(&m->question, "In base %d, what is ", base);
    write_in_base(&m->question, a, base);
    mixt_buffer_text(&m->question, minus ? " - " : " + ");
    write_in_base(&m->question, b, base);
    mixt_buffer_text(&m->question, "?");
    write_in_base(&m->answer, minus ? a - b : a + b, base);
}

void mixt_math_base_conversion(math *m)
{
    int from = (int)mixt_math_between(m, 2, 16), to = (int)mixt_math_between(m, 2, 15);
    int64_t value = mixt_math_sized(m, 8);
    to += to >= from;
    bool asked = mixt_math_chance(m, 50);
    mixt_buffer_text(&m->question, asked ? "What is " : "");
    write_in_base(&m->question, value, from);
    mixt_buffer_format(&m->question, asked ? " (base %d) in base %d?" : " (base %d) to base %d",
                       from, to);
    write_in_base(&m->answer, value, to);
}

void mixt_math_product(math *m)
{
    decimal a = mixt_math_decimal(m, 6), b = mixt_math_decimal(m, 4);
    static const char *const forms[][3] = {{"What is ", " times ", "?"},
                                           {"Multiply ", " and ", "."},
                                           {"Product of ", " and ", "."},
                                           {"What is the product of ", " and ", "?"},
                                           {"Calculate ", "*", "."},
                                           {"Work out ", " * ", "."},
                                           {"", " times ", ""}};
    const char *const *form = forms[mixt_math_between(m, 0, 6)];
    mixt_buffer_text(&m->question, form[0]);
    mixt_math_write_decimal(&m->question, a);
    mixt_buffer_text(&m->question, form[1]);
    mixt_math_write_decimal(&m->question, b);
    mixt_buffer_text(&m->question, form[2]);
    mixt_math_write_decimal(&m->answer, (decimal){a.digits * b.digits, a.places + b.places});
}

void mixt_math_quotient(math *m)
{
    int64_t b = mixt_math_sized(m, 4), a = mixt_math_sized(m, 6);
    b = b == 0 ? 7 : b;
    if (mixt_math_chance(m, 70)) {
        a *= b;
    }
    static const char *const forms[][3] = {{"What is ", " divided by ", "?"},
                                           {"Divide ", " by ", "."},
                                           {"Calculate ", " divided by ", "."},
                                           {"", " divided by ", ""}};
    const char *const *form = forms[mixt_math_between(m, 0, 3)];
    mixt_buffer_text(&m->question, form[0]);
    write_integer(&m->question, a);
    mixt_buffer_text(&m->question, form[1]);
    write_integer(&m->question, b);
    mixt_buffer_text(&m->question, form[2]);
    mixt_math_write_fraction(&m->answer, mixt_math_fraction(a, b));
}

/* A nested expression in brackets, sums and quotients. */
void mixt_math_mixed(math *m)
{
    fraction value = {mixt_math_sized(m, 3), 1};
    if (mixt_math_chance(m, 50)) {
        value = mixt_math_fraction(value.top, mixt_math_between(m, 1, 40));
    }
    const char *before = MATH_PICK(m, "What is ", "Evaluate ", "Calculate ", "");
    mixt_buffer_text(&m->question, before);
    mixt_math_write_expression(m, &m->question, value, (int)mixt_math_between(m, 2, 7));
    mixt_buffer_text(&m->question, before[0] == 'W' ? "?" : before[0] != '\0' ? "." : "");
    mixt_math_write_fraction(&m->answer, value);
}

void mixt_math_sum_of_many(math *m)
{
    int64_t sum = 0;
    int count = (int)mixt_math_between(m, 3, 8), open = 0;
    mixt_buffer_text(&m->question, MATH_PICK(m, "What is ", "Calculate ", "Evaluate "));
    bool asked = m->question.data[0] == 'W';
    int sign = 1; /* of the term that comes, inside the open bracket */
    int outer = 1;
    for (int i = 0; i < count; i++) {
        int64_t value = mixt_math_between(m, -60, 60);
        if (i != 0) {
            bool minus = mixt_math_chance(m, 50);
            mixt_buffer_text(&m->question, minus ? " - " : " + ");
            sign = minus ? -1 : 1;
            if (open == 0 && i + 1 < count && mixt_math_chance(m, 35)) {
                mixt_buffer_text(&m->question, "(");
                open = (int)mixt_math_between(m, 1, count - i - 1) + 1;
                outer = sign;
                sign = 1;
            }
        }
        write_integer(&m->question, value);
        sum += (open != 0 ? outer : 1) * sign * value;
        if (open != 0 && --open == 0) {
            mixt_buffer_text(&m->question, ")");
        }
    }
    mixt_buffer_text(&m->question, asked ? "?" : ".");
    write_integer(&m->answer, sum);
}

void mixt_math_nearest_root(math *m)
{
    static const char *const names[] = {"", "", "square", "cube", "fourth", "fifth", "sixth"};
    int degree = (int)mixt_math_between(m, 2, 6);
    int64_t value = mixt_math_between(m, 2, mixt_math_power(10, (int)mixt_math_between(m, 2, 7)));
    int64_t root = 0; /* the nearest: (2 root + 1)^degree <= 2^degree value picks the next one */
    while (mixt_math_power(2 * root + 1, degree) <= mixt_math_power(2, degree) * value) {
        root++;
    }
    if (mixt_math_chance(m, 50)) {
        mixt_buffer_format(&m->question,
                           "What is the %s root of %" PRId64 " to the nearest integer?",
                           names[degree], value);
    } else {
        mixt_buffer_format(&m->question,
                           "What is %" PRId64 " to the power of 1/%d, to the nearest integer?",
                           value, degree);
    }
    write_integer(&m->answer, root);
}

/* Square roots with the squares taken out: a sqrt(n), and sums of them. */
void mixt_math_simplify_root(math *m)
{
    static const int64_t free_of_squares[] = {2, 3, 5, 6, 7, 10, 11, 13, 14, 15, 17, 19};
    int64_t core = free_of_squares[mixt_math_between(m, 0, 11)], factor = 0;
    int count = (int)mixt_math_between(m, 1, 4);
    mixt_buffer_text(&m->question, "Simplify ");
    for (int i = 0; i < count; i++) {
        int64_t inside = mixt_math_between(m, 1, 12), outside = mixt_math_between(m, 1, 5);
        bool minus = i != 0 && mixt_math_chance(m, 50);
        mixt_buffer_text(&m->question, i == 0 ? "" : minus ? " - " : " + ");
        if (outside != 1) {
            mixt_buffer_format(&m->question, "%" PRId64 "*", outside);
        }
        mixt_buffer_format(&m->question, "sqrt(%" PRId64 ")", inside * inside * core);
        factor += (minus ? -1 : 1) * outside * inside;
    }
    mixt_buffer_text(&m->question, ".");
    if (factor == 0) {
        mixt_buffer_text(&m->answer, "0");
    } else if (factor == 1 || factor == -1) {
        mixt_buffer_format(&m->answer, "%ssqrt(%" PRId64 ")", factor < 0 ? "-" : "", core);
    } else {
        mixt_buffer_format(&m->answer, "%" PRId64 "*sqrt(%" PRId64 ")", factor, core);
    }
}

void mixt_math_round(math *m)
{
    static const char *const powers[] = {"integer",  "ten",          "hundred",
                                         "thousand", "ten thousand", "one hundred thousand"};
    decimal value = {.digits = mixt_math_sized(m, 9)};
    value.places = (int)mixt_math_between(m, 0, 7);
    /* how many of its digits go, so that places - dropped decimals stay */
    int dropped = (int)mixt_math_between(m, 1, 6);
    while (value.places - dropped < -5) {
        dropped--;
    }
    int64_t step = mixt_math_power(10, dropped), half = step / 2;
    int64_t rest = (value.digits % step + step) % step;
    if (rest == half) { /* a tie would need a rule */
        value.digits++;
        rest++;
    }
    int64_t rounded = (value.digits - rest) + (rest > half ? step : 0);
    int kept = value.places - dropped;
    bool asked = mixt_math_chance(m, 40);
    mixt_buffer_text(&m->question, asked ? "What is " : "Round ");
    mixt_math_write_decimal(&m->question, value);
    mixt_buffer_text(&m->question, asked ? " rounded to " : " to ");
    if (kept > 0) {
        mixt_buffer_format(&m->question, "%s %s", mixt_math_number_word(kept),
                           mixt_math_chance(m, 50) ? (kept == 1 ? "dp" : "dps")
                           : kept == 1             ? "decimal place"
                                                   : "decimal places");
    } else {
        mixt_buffer_format(&m->question, "the nearest %s", powers[-kept]);
    }
    mixt_buffer_text(&m->question, asked ? "?" : ".");
    mixt_math_write_decimal(&m->answer, (decimal){rounded, value.places});
}
