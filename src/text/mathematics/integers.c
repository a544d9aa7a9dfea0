#include <inttypes.h>

#include "text/mathematics/mathematics.h"

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
    int64_t value = math_sized(m, digits);
    return value == 0 ? 1 : value < 0 ? -value : value;
}

/* "What is/Calculate the NAME of A and B" */
static void ask_pair(math *m, const char *name, int64_t a, int64_t b)
{
    bool asked = math_chance(m, 50);
    mixt_buffer_format(&m->question, "%s the %s of ", asked ? "What is" : "Calculate", name);
    math_write_operand(m, &m->question, a);
    mixt_buffer_text(&m->question, " and ");
    math_write_operand(m, &m->question, b);
    mixt_buffer_text(&m->question, asked ? "?" : ".");
}

void math_greatest_divisor(math *m)
{
    int64_t common = positive(m, 4), a = common * positive(m, 3), b = common * positive(m, 3);
    ask_pair(m,
             MATH_PICK(m, "greatest common divisor", "highest common divisor",
                       "greatest common factor", "highest common factor"),
             a, b);
    write_answer(m, math_gcd(a, b));
}

void math_least_multiple(math *m)
{
    int64_t common = positive(m, 3), a = common * positive(m, 3), b = common * positive(m, 2);
    ask_pair(
        m,
        MATH_PICK(m, "least common multiple", "lowest common multiple", "smallest common multiple"),
        a, b);
    write_answer(m, a / math_gcd(a, b) * b);
}

void math_common_denominator(math *m)
{
    int64_t top = math_nonzero(m, 200);
    fraction a = math_fraction(top, math_between(m, 2, 500));
    top = math_nonzero(m, 200);
    fraction b = math_fraction(top, math_between(m, 2, 500));
    bool asked = math_chance(m, 50);
    mixt_buffer_text(&m->question, asked ? "What is the common denominator of "
                                         : "Calculate the common denominator of ");
    math_write_fraction(&m->question, a);
    mixt_buffer_text(&m->question, " and ");
    math_write_fraction(&m->question, b);
    mixt_buffer_text(&m->question, asked ? "?" : ".");
    write_answer(m, a.bottom / math_gcd(a.bottom, b.bottom) * b.bottom);
}

void math_remainder(math *m)
{
    int64_t b = positive(m, 4) + 1, a = positive(m, 7);
    bool asked = math_chance(m, 50);
    mixt_buffer_text(&m->question,
                     asked ? "What is the remainder when " : "Calculate the remainder when ");
    math_write_operand(m, &m->question, a);
    mixt_buffer_text(&m->question, " is divided by ");
    math_write_operand(m, &m->question, b);
    mixt_buffer_text(&m->question, asked ? "?" : ".");
    write_answer(m, a % b);
}

void math_is_factor(math *m)
{
    int64_t b = positive(m, 3) + 1, a = positive(m, 6);
    if (math_chance(m, 50)) {
        a = positive(m, 4) * b;
    }
    switch (math_between(m, 0, 2)) {
    case 0:
        mixt_buffer_format(&m->question, "Is %" PRId64 " a factor of ", b);
        math_write_operand(m, &m->question, a);
        break;
    case 1:
        mixt_buffer_format(&m->question, "Does %" PRId64 " divide ", b);
        math_write_operand(m, &m->question, a);
        break;
    default:
        mixt_buffer_text(&m->question, "Is ");
        math_write_operand(m, &m->question, a);
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

void math_is_prime(math *m)
{
    int64_t value = positive(m, 7) + 3;
    if (math_chance(m, 85)) { /* even numbers are too easy */
        value |= 1;
    }
    for (int i = 0; i < 60 && math_chance(m, 50) && smallest_factor(value) != value; i++) {
        value += 2;
    }
    bool prime = smallest_factor(value) == value, ask_prime = math_chance(m, 50);
    mixt_buffer_text(&m->question, "Is ");
    math_write_operand(m, &m->question, value);
    mixt_buffer_text(&m->question, ask_prime ? MATH_PICK(m, " prime?", " a prime number?")
                                             : MATH_PICK(m, " composite?", " a composite number?"));
    write_truth(m, prime == ask_prime);
}

void math_prime_factors(math *m)
{
    int64_t value = positive(m, 7) + 1;
    bool asked = math_chance(m, 50);
    mixt_buffer_text(&m->question,
                     asked ? "What are the prime factors of " : "List the prime factors of ");
    math_write_operand(m, &m->question, value);
    mixt_buffer_text(&m->question, asked ? "?" : ".");
    for (int64_t factor; value > 1;) {
        factor = smallest_factor(value);
        mixt_buffer_format(&m->answer, "%s%" PRId64, m->answer.length != 0 ? ", " : "", factor);
        while (value % factor == 0) {
            value /= factor;
        }
    }
}

void math_place_value(math *m)
{
    static const char *const places[] = {"units",     "tens",          "hundreds",
                                         "thousands", "ten thousands", "hundred thousands",
                                         "millions",  "ten millions"};
    int64_t value = positive(m, 8);
    int place = 0;
    while (place < 7 && value / math_power(10, place + 1) != 0 && math_chance(m, 75)) {
        place++;
    }
    mixt_buffer_format(&m->question, "What is the %s digit of ", places[place]);
    math_write_operand(m, &m->question, value);
    mixt_buffer_text(&m->question, "?");
    write_answer(m, value / math_power(10, place) % 10);
}
