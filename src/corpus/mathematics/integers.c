#include <inttypes.h>

#include "corpus/mathematics/mathematics.h"

static void write_answer(math *m, int64_t value)
{
    mixt_buffer_format(&m->answer, "%" PRId64, value);
}

static void write_truth(math *m, bool value)
{
    mixt_buffer_text(&m->answer, value ? "True" : "False");
}

static int64_t positive(math *m, int digits)
{
    int64_t value = mixt_math_sized(m, digits);
    return value == 0 ? 1 : value < 0 ? -value : value;
}

/* "What is/Calculate the NAME of A and B" */
static void ask_pair(math *m, const char *name, int64_t a, int64_t b)
{
    bool asked = mixt_math_chance(m, 50);
    mixt_buffer_format(&m->question, "%s the %s of ", asked ? "What is" : "Calculate", name);
    mixt_math_write_operand(m, &m->question, a);
    mixt_buffer_text(&m->question, " and ");
    mixt_math_write_operand(m, &m->question, b);
    mixt_buffer_text(&m->question, asked ? "?" : ".");
}

void mixt_math_greatest_divisor(math *m)
{
    int64_t common = positive(m, 4), a = common * positive(m, 3), b = common * positive(m, 3);
    ask_pair(m,
             MATH_PICK(m, "greatest common divisor", "highest common divisor",
                       "greatest common factor", "highest common factor"),
             a, b);
    write_answer(m, mixt_math_gcd(a, b));
}

void mixt_math_least_multiple(math *m)
{
    int64_t common = positive(m, 3), a = common * positive(m, 3), b = common * positive(m, 2);
    ask_pair(
        m,
        MATH_PICK(m, "least common multiple", "lowest common multiple", "smallest common multiple"),
        a, b);
    write_answer(m, a / mixt_math_gcd(a, b) * b);
}

void mixt_math_common_denominator(math *m)
{
    int64_t top = mixt_math_nonzero(m, 200);
    fraction a = mixt_math_fraction(top, mixt_math_between(m, 2, 500));
    top = mixt_math_nonzero(m, 200);
    fraction b = mixt_math_fraction(top, mixt_math_between(m, 2, 500));
    bool asked = mixt_math_chance(m, 50);
    mixt_buffer_text(&m->question, asked ? "What is the common denominator of "
                                         : "Calculate the common denominator of ");
    mixt_math_write_fraction(&m->question, a);
    mixt_buffer_text(&m->question, " and ");
    mixt_math_write_fraction(&m->question, b);
    mixt_buffer_text(&m->question, asked ? "?" : ".");
    write_answer(m, a.bottom / mixt_math_gcd(a.bottom, b.bottom) * b.bottom);
}

void mixt_math_remainder(math *m)
{
    int64_t b = positive(m, 4) + 1, a = positive(m, 7);
    bool asked = mixt_math_chance(m, 50);
    mixt_buffer_text(&m->question,
                     asked ? "What is the remainder when " : "Calculate the remainder when ");
    mixt_math_write_operand(m, &m->question, a);
    mixt_buffer_text(&m->question, " is divided by ");
    mixt_math_write_operand(m, &m->question, b);
    mixt_buffer_text(&m->question, asked ? "?" : ".");
    write_answer(m, a % b);
}

void mixt_math_is_factor(math *m)
{
    int64_t b = positive(m, 3) + 1, a = positive(m, 6);
    if (mixt_math_chance(m, 50)) {
        a = positive(m, 4) * b;
    }
    switch (mixt_math_between(m, 0, 2)) {
    case 0:
        mixt_buffer_format(&m->question, "Is %" PRId64 " a factor of ", b);
        mixt_math_write_operand(m, &m->question, a);
        break;
    case 1:
        mixt_buffer_format(&m->question, "Does %" PRId64 " divide ", b);
        mixt_math_write_operand(m, &m->question, a);
        break;
    default:
        mixt_buffer_text(&m->question, "Is ");
        mixt_math_write_operand(m, &m->question, a);
        mixt_buffer_format(&m->question, " a multiple of %" PRId64, b);
        break;
    }
    mixt_buffer_text(&m->question, "?");
    write_truth(m, a % b == 0);
}

static int64_t smallest_factor(int64_t value)
{
    for (int64_t factor = 2; factor * factor <= value; factor += factor == 2 ? 1 : 2) {
        if (value % factor == 0) {
            return factor;
        }
    }
    return value;
}

void mixt_math_is_prime(math *m)
{
    int64_t value = positive(m, 7) + 3;
    if (mixt_math_chance(m, 85)) { /* even numbers are too easy */
        value |= 1;
    }
    for (int i = 0; i < 60 && mixt_math_chance(m, 50) && smallest_factor(value) != value; i++) {
        value += 2;
    }
    bool prime = smallest_factor(value) == value, ask_prime = mixt_math_chance(m, 50);
    mixt_buffer_text(&m->question, "Is ");
    mixt_math_write_operand(m, &m->question, value);
    mixt_buffer_text(&m->question, ask_prime ? MATH_PICK(m, " prime?", " a prime number?")
                                             : MATH_PICK(m, " composite?", " a composite number?"));
    write_truth(m, prime == ask_prime);
}

void mixt_math_prime_factors(math *m)
{
    int64_t value = positive(m, 7) + 1;
    bool asked = mixt_math_chance(m, 50);
    mixt_buffer_text(&m->question,
                     asked ? "What are the prime factors of " : "List the prime factors of ");
    mixt_math_write_operand(m, &m->question, value);
    mixt_buffer_text(&m->question, asked ? "?" : ".");
    for (int64_t factor; value > 1;) {
        factor = smallest_factor(value);
        mixt_buffer_format(&m->answer, "%s%" PRId64, m->answer.length != 0 ? ", " : "", factor);
        while (value % factor == 0) {
            value /= factor;
        }
    }
}

void mixt_math_place_value(math *m)
{
    static const char *const places[] = {"units",     "tens",          "hundreds",
                                         "thousands", "ten thousands", "hundred thousands",
                                         "millions",  "ten millions"};
    int64_t value = positive(m, 8);
    int place = 0;
    while (place < 7 && value / mixt_math_power(10, place + 1) != 0 && mixt_math_chance(m, 75)) {
        place++;
    }
    mixt_buffer_format(&m->question, "What is the %s digit of ", places[place]);
    mixt_math_write_operand(m, &m->question, value);
    mixt_buffer_text(&m->question, "?");
    write_answer(m, value / mixt_math_power(10, place) % 10);
}
