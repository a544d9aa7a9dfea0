/* Questions and answers in the manner of the DM Mathematics set (Saxton et al. 2019). Every module
 * fills the question and the answer of one pair; all arithmetic is exact. */
#ifndef MIXT_CORPUS_MATHEMATICS_H
#define MIXT_CORPUS_MATHEMATICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/memory.h"
#include "core/random.h"

typedef struct math {
    mixt_random_key key;
    uint64_t draws;       /* random numbers used so far */
    mixt_buffer preamble; /* sentences that define letters: "Let x = 2 + 3. " */
    mixt_buffer question;
    mixt_buffer answer;
    uint32_t letters_used; /* bit i: the letter 'a' + i */
} math;

typedef void (*mixt_math_module)(math *m);

/* A fraction in lowest terms, denominator > 0. */
typedef struct fraction {
    int64_t top, bottom;
} fraction;

/* digits * 10^-places */
typedef struct decimal {
    int64_t digits;
    int places;
} decimal;

/* A number and how it is written. */
typedef struct written {
    fraction value;
    char text[48];
} written;

/* --- numbers.c: random choices, exact numbers, expressions ---
 * At most one draw stands in an expression: C does not order the evaluation of arguments, and the
 * text must not depend on the compiler. */
int64_t mixt_math_between(math *m, int64_t low, int64_t high); /* both included */
int64_t mixt_math_nonzero(math *m, int64_t limit);             /* in [-limit, limit] without 0 */
bool mixt_math_chance(math *m, int percent);
/* A number of 1 to `digits` decimal digits, each length as likely; negative half the time. */
int64_t mixt_math_sized(math *m, int digits);
const char *mixt_math_pick(math *m, const char *const *texts, size_t count);
#define MATH_PICK(m, ...)                                                                          \
    mixt_math_pick(m, (const char *const[]){__VA_ARGS__},                                          \
                   sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))
char mixt_math_letter(math *m); /* one that the pair does not use yet */
void mixt_math_shuffle(math *m, void *items, size_t count, size_t size);

int64_t mixt_math_gcd(int64_t a, int64_t b);
int64_t mixt_math_power(int64_t base, int exponent);
fraction mixt_math_fraction(int64_t top, int64_t bottom);
fraction mixt_math_subtract(fraction a, fraction b);
fraction mixt_math_multiply(fraction a, fraction b);
int mixt_math_compare(fraction a, fraction b);
void mixt_math_write_fraction(mixt_buffer *to, fraction value);
void mixt_math_write_decimal(mixt_buffer *to, decimal value);
decimal mixt_math_decimal(math *m, int digits); /* random, with 0 to 4 places */
fraction mixt_math_decimal_value(decimal value);
const char *mixt_math_number_word(int number); /* "one" to "twelve" */
const char *mixt_math_ordinal(int number);     /* "first" to "tenth" */

/* Writes an expression of about `size` operations with the given value. */
void mixt_math_write_expression(math *m, mixt_buffer *to, fraction value, int size);
/* Writes an integer, or a letter that the preamble defines as it. */
void mixt_math_write_operand(math *m, mixt_buffer *to, int64_t value);

/* --- modules --- */
/* arithmetic.c */
void mixt_math_add_or_subtract(math *m);
void mixt_math_add_or_subtract_in_base(math *m);
void mixt_math_product(math *m);
void mixt_math_quotient(math *m);
void mixt_math_mixed(math *m);
void mixt_math_sum_of_many(math *m);
void mixt_math_nearest_root(math *m);
void mixt_math_simplify_root(math *m);
void mixt_math_base_conversion(math *m);
void mixt_math_round(math *m);
/* integers.c */
void mixt_math_greatest_divisor(math *m);
void mixt_math_least_multiple(math *m);
void mixt_math_common_denominator(math *m);
void mixt_math_remainder(math *m);
void mixt_math_is_factor(math *m);
void mixt_math_is_prime(math *m);
void mixt_math_prime_factors(math *m);
void mixt_math_place_value(math *m);
/* polynomials.c */
void mixt_math_expand(math *m);
void mixt_math_collect(math *m);
void mixt_math_rearrange(math *m);
void mixt_math_evaluate(math *m);
void mixt_math_polynomial_sum(math *m);
void mixt_math_compose(math *m);
void mixt_math_differentiate(math *m);
void mixt_math_factor(math *m);
void mixt_math_roots(math *m);
void mixt_math_next_term(math *m);
void mixt_math_nth_term(math *m);
/* equations.c */
void mixt_math_linear_one(math *m);
void mixt_math_linear_two(math *m);
/* comparisons.c */
void mixt_math_pair(math *m);
void mixt_math_kth_biggest(math *m);
void mixt_math_closest(math *m);
void mixt_math_sort(math *m);
/* measures.c */
void mixt_math_conversion(math *m);
void mixt_math_time(math *m);
void mixt_math_letter_set(math *m);
void mixt_math_letter_sequence(math *m);

/* "a*x - 3*y = 7" with the terms in some order and on either side. */
void mixt_math_write_equation(math *m, mixt_buffer *to, const int64_t *factors, const char *letters,
                              int count, int64_t value);

#endif
