#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "corpus/mathematics/mathematics.h"

#define DEGREE_MAX 8

/* terms[i] x^i */
typedef struct polynomial {
    int64_t terms[DEGREE_MAX + 1];
} polynomial;

static int degree_of(const polynomial *p)
{
    int degree = DEGREE_MAX;
    while (degree > 0 && p->terms[degree] == 0) {
        degree--;
    }
    return degree;
}

/* Random, of exactly this degree, terms up to `limit`. */
static polynomial random_polynomial(math *m, int degree, int64_t limit)
{
    assert(degree >= 0 && degree <= DEGREE_MAX);
    polynomial p = {{0}};
    for (int i = 0; i < degree; i++) {
        p.terms[i] = mixt_math_chance(m, 80) ? mixt_math_between(m, -limit, limit) : 0;
    }
    p.terms[degree] = mixt_math_nonzero(m, limit);
    return p;
}

static polynomial multiply(const polynomial *a, const polynomial *b)
{
    assert(degree_of(a) + degree_of(b) <= DEGREE_MAX);
    polynomial product = {{0}};
    for (int i = 0; i <= DEGREE_MAX; i++) {
        for (int j = 0; i + j <= DEGREE_MAX; j++) {
            product.terms[i + j] += a->terms[i] * b->terms[j];
        }
    }
    return product;
}

static int64_t value_at(const polynomial *p, int64_t x)
{
    int64_t value = 0;
    for (int i = DEGREE_MAX; i >= 0; i--) {
        value = value * x + p->terms[i];
    }
    return value;
}

/* One term behind what is there: sign, factor, power. */
static void write_term(mixt_buffer *to, int64_t factor, const char *letter, int power, bool first)
{
    int64_t size = factor < 0 ? -factor : factor;
    mixt_buffer_text(to, first ? (factor < 0 ? "-" : "") : factor < 0 ? " - " : " + ");
    if (power == 0 || size != 1) {
        mixt_buffer_format(to, "%" PRId64 "%s", size, power == 0 ? "" : "*");
    }
    if (power > 0) {
        mixt_buffer_text(to, letter);
    }
    if (power > 1) {
        mixt_buffer_format(to, "**%d", power);
    }
}

static void write_named(mixt_buffer *to, const polynomial *p, const char *letter)
{
    bool first = true;
    for (int i = DEGREE_MAX; i >= 0; i--) {
        if (p->terms[i] != 0) {
            write_term(to, p->terms[i], letter, i, first);
            first = false;
        }
    }
    if (first) {
        mixt_buffer_text(to, "0");
    }
}

/* Highest power first. */
static void write_polynomial(mixt_buffer *to, const polynomial *p, char letter)
{
    const char name[2] = {letter, '\0'};
    write_named(to, p, name);
}

typedef struct term {
    int64_t factor;
    int power;
} term;

/* The same polynomial in mixed order with `extra` terms split in two. */
static void write_scattered(math *m, mixt_buffer *to, const polynomial *p, char letter, int extra)
{
    const char name[2] = {letter, '\0'};
    term terms[DEGREE_MAX + 1 + 16];
    size_t count = 0;
    for (int i = 0; i <= DEGREE_MAX; i++) {
        if (p->terms[i] != 0) {
            terms[count++] = (term){p->terms[i], i};
        }
    }
    int top = degree_of(p);
    for (; extra > 0 && count + 1 < sizeof terms / sizeof *terms; extra--) {
        int64_t part = mixt_math_nonzero(m, 60);
        if (count != 0 && mixt_math_chance(m, 70)) { /* split a term */
            term *split = &terms[mixt_math_between(m, 0, (int64_t)count - 1)];
            if (split->factor != part) {
                split->factor -= part;
                terms[count++] = (term){part, split->power};
            }
        } else { /* two that cancel */
            int power = (int)mixt_math_between(m, 0, top);
            terms[count++] = (term){part, power};
            terms[count++] = (term){-part, power};
        }
    }
    mixt_math_shuffle(m, terms, count, sizeof *terms);
    for (size_t i = 0; i < count; i++) {
        write_term(to, terms[i].factor, name, terms[i].power, i == 0);
    }
    if (count == 0) {
        mixt_buffer_text(to, "0");
    }
}

/* "Let f(x) = ... . " */
static void define(math *m, char function, char letter, const polynomial *p, bool scattered)
{
    mixt_buffer_format(&m->question, "Let %c(%c) = ", function, letter);
    if (scattered) {
        write_scattered(m, &m->question, p, letter, (int)mixt_math_between(m, 0, 2));
    } else {
        write_polynomial(&m->question, p, letter);
    }
    mixt_buffer_text(&m->question, ". ");
}

void mixt_math_expand(math *m)
{
    char x = mixt_math_letter(m);
    int count = (int)mixt_math_between(m, 2, 3);
    polynomial product = {{1}};
    mixt_buffer_text(&m->question, "Expand ");
    for (int i = 0; i < count; i++) {
        polynomial p = random_polynomial(m, (int)mixt_math_between(m, i == 0 ? 1 : 0, 2), 12);
        mixt_buffer_text(&m->question, i == 0 ? "(" : "*(");
        write_scattered(m, &m->question, &p, x, (int)mixt_math_between(m, 0, 2));
        mixt_buffer_text(&m->question, ")");
        product = multiply(&product, &p);
    }
    mixt_buffer_text(&m->question, ".");
    write_polynomial(&m->answer, &product, x);
}

void mixt_math_collect(math *m)
{
    char x = mixt_math_letter(m);
    int degree = (int)mixt_math_between(m, 1, 4);
    polynomial p = random_polynomial(m, degree, mixt_math_chance(m, 50) ? 20 : 900);
    mixt_buffer_text(&m->question, "Collect the terms in ");
    write_scattered(m, &m->question, &p, x, (int)mixt_math_between(m, 1, 5));
    mixt_buffer_text(&m->question, ".");
    write_polynomial(&m->answer, &p, x);
}

void mixt_math_rearrange(math *m)
{
    char x = mixt_math_letter(m), names[DEGREE_MAX + 1];
    int degree = (int)mixt_math_between(m, 1, 3);
    polynomial p = random_polynomial(m, degree, 400);
    int powers[DEGREE_MAX + 1];
    mixt_buffer_text(&m->question, MATH_PICK(m, "Rearrange ", "Express "));
    bool form = m->question.data[0] == 'R';
    write_scattered(m, &m->question, &p, x, (int)mixt_math_between(m, 1, 4));
    mixt_buffer_text(&m->question, form ? " to the form " : " in the form ");
    for (int i = 0; i <= degree; i++) {
        powers[i] = i;
    }
    mixt_math_shuffle(m, powers, (size_t)degree + 1, sizeof *powers);
    for (int i = 0; i <= degree; i++) {
        names[i] = mixt_math_letter(m);
        mixt_buffer_format(&m->question, "%s%c", i == 0 ? "" : " + ", names[i]);
        if (powers[i] != 0) {
            mixt_buffer_format(&m->question, powers[i] == 1 ? "*%c" : "*%c**%d", x, powers[i]);
        }
    }
    int asked = (int)mixt_math_between(m, 0, degree);
    mixt_buffer_format(&m->question, " and give %c.", names[asked]);
    mixt_buffer_format(&m->answer, "%" PRId64, p.terms[powers[asked]]);
}

void mixt_math_evaluate(math *m)
{
    char f = mixt_math_letter(m), x = mixt_math_letter(m);
    int degree = (int)mixt_math_between(m, 1, 3);
    polynomial p = random_polynomial(m, degree, 60);
    int64_t at = mixt_math_between(m, -12, 25);
    define(m, f, x, &p, true);
    bool asked = mixt_math_chance(m, 50);
    mixt_buffer_format(&m->question, "%s %c(",
                       asked ? "What is" : MATH_PICK(m, "Give", "Determine", "Calculate"), f);
    mixt_math_write_operand(m, &m->question, at);
    mixt_buffer_text(&m->question, asked ? ")?" : ").");
    mixt_buffer_format(&m->answer, "%" PRId64, value_at(&p, at));
}

void mixt_math_polynomial_sum(math *m)
{
    char f = mixt_math_letter(m), g = mixt_math_letter(m), x = mixt_math_letter(m),
         y = mixt_math_letter(m);
    polynomial p = random_polynomial(m, (int)mixt_math_between(m, 1, 3), 30);
    polynomial q = random_polynomial(m, (int)mixt_math_between(m, 1, 3), 30), sum;
    int64_t a = mixt_math_nonzero(m, 9), b = mixt_math_nonzero(m, 9);
    define(m, f, x, &p, true);
    define(m, g, x, &q, true);
    bool asked = mixt_math_chance(m, 50);
    const char f_of[] = {f, '(', y, ')', '\0'}, g_of[] = {g, '(', y, ')', '\0'};
    mixt_buffer_text(&m->question, asked ? "What is " : MATH_PICK(m, "Calculate ", "Give "));
    write_term(&m->question, a, f_of, 1, true);
    write_term(&m->question, b, g_of, 1, false);
    mixt_buffer_text(&m->question, asked ? "?" : ".");
    for (int i = 0; i <= DEGREE_MAX; i++) {
        sum.terms[i] = a * p.terms[i] + b * q.terms[i];
    }
    write_polynomial(&m->answer, &sum, y);
}

void mixt_math_compose(math *m)
{
    char f = mixt_math_letter(m), g = mixt_math_letter(m), x = mixt_math_letter(m),
         y = mixt_math_letter(m);
    polynomial p = random_polynomial(m, (int)mixt_math_between(m, 1, 2), 25);
    polynomial q = random_polynomial(m, (int)mixt_math_between(m, 1, 2), 25), result = {{0}};
    define(m, f, x, &p, false);
    define(m, g, mixt_math_letter(m), &q, false);
    bool asked = mixt_math_chance(m, 50);
    mixt_buffer_format(&m->question, asked ? "What is %c(%c(%c))?" : "Give %c(%c(%c)).", f, g, y);
    for (int i = degree_of(&p); i >= 0; i--) { /* Horner */
        result = multiply(&result, &q);
        result.terms[0] += p.terms[i];
    }
    write_polynomial(&m->answer, &result, y);
}

void mixt_math_differentiate(math *m)
{
    char x = mixt_math_letter(m);
    int degree = (int)mixt_math_between(m, 1, 5);
    polynomial p = random_polynomial(m, degree, mixt_math_chance(m, 50) ? 50 : 3000);
    int times = (int)mixt_math_between(m, 1, 3);
    if (times == 1 && mixt_math_chance(m, 40)) {
        mixt_buffer_text(&m->question, "Differentiate ");
        write_scattered(m, &m->question, &p, x, (int)mixt_math_between(m, 0, 3));
        mixt_buffer_format(&m->question, " wrt %c.", x);
    } else {
        bool asked = mixt_math_chance(m, 50);
        mixt_buffer_format(&m->question, "%s the %s derivative of ", asked ? "What is" : "Find",
                           mixt_math_ordinal(times));
        write_scattered(m, &m->question, &p, x, (int)mixt_math_between(m, 0, 3));
        mixt_buffer_format(&m->question, asked ? " wrt %c?" : " wrt %c.", x);
    }
    for (; times > 0; times--) {
        for (int i = 0; i < DEGREE_MAX; i++) {
            p.terms[i] = p.terms[i + 1] * (i + 1);
        }
        p.terms[DEGREE_MAX] = 0;
    }
    write_polynomial(&m->answer, &p, x);
}

static int compare_integers(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* factor * product of (x - roots[i]) */
static polynomial from_roots(int64_t factor, const int64_t *roots, int count)
{
    polynomial p = {{factor}};
    for (int i = 0; i < count; i++) {
        polynomial linear = {{-roots[i], 1}};
        p = multiply(&p, &linear);
    }
    return p;
}

/* Factors in the order of their constants, x itself first. */
void mixt_math_factor(math *m)
{
    char x = mixt_math_letter(m);
    int64_t roots[3], factor = mixt_math_chance(m, 60) ? 1 : mixt_math_nonzero(m, 6);
    int count = (int)mixt_math_between(m, 2, 3), zeros = 0;
    for (int i = 0; i < count; i++) {
        roots[i] = i != 0 && mixt_math_chance(m, 15) ? roots[i - 1] : mixt_math_between(m, -30, 30);
        zeros += roots[i] == 0;
    }
    polynomial p = from_roots(factor, roots, count);
    mixt_buffer_text(&m->question, "Factor ");
    write_scattered(m, &m->question, &p, x, mixt_math_chance(m, 50) ? 0 : 2);
    mixt_buffer_text(&m->question, ".");
    qsort(roots, (size_t)count, sizeof *roots, compare_integers);
    mixt_buffer_text(&m->answer, factor == -1 ? "-" : "");
    if (factor != 1 && factor != -1) {
        mixt_buffer_format(&m->answer, "%" PRId64 "*", factor);
    }
    if (zeros != 0) {
        mixt_buffer_format(&m->answer, zeros == 1 ? "%c" : "%c**%d", x, zeros);
    }
    bool first = zeros == 0;
    for (int i = count - 1, times; i >= 0;
         i -= times) { /* the highest root has the lowest constant */
        for (times = 1; times <= i && roots[i - times] == roots[i];) {
            times++;
        }
        if (roots[i] == 0) {
            continue;
        }
        mixt_buffer_format(&m->answer, "%s(%c %c %" PRId64 ")", first ? "" : "*", x,
                           roots[i] > 0 ? '-' : '+', roots[i] > 0 ? roots[i] : -roots[i]);
        if (times > 1) {
            mixt_buffer_format(&m->answer, "**%d", times);
        }
        first = false;
    }
}

void mixt_math_roots(math *m)
{
    char x = mixt_math_letter(m);
    int64_t roots[3], factor = mixt_math_nonzero(m, 5);
    int count = (int)mixt_math_between(m, 1, 3);
    for (int i = 0; i < count; i++) {
        roots[i] = mixt_math_between(m, -30, 30);
    }
    polynomial p = from_roots(factor, roots, count);
    bool solve = mixt_math_chance(m, 50);
    mixt_buffer_format(&m->question, solve ? "Suppose " : "Find %c such that ", x);
    write_scattered(m, &m->question, &p, x, mixt_math_chance(m, 60) ? 0 : 2);
    mixt_buffer_format(&m->question, solve ? " = 0. What is %c?" : " = 0.", x);
    qsort(roots, (size_t)count, sizeof *roots, compare_integers);
    for (int i = 0; i < count; i++) {
        if (i == 0 || roots[i] != roots[i - 1]) {
            mixt_buffer_format(&m->answer, "%s%" PRId64, i == 0 ? "" : ", ", roots[i]);
        }
    }
}

/* Writes terms 1 to count of a sequence given by a polynomial. */
static polynomial write_sequence(math *m, int *count)
{
    int degree = (int)mixt_math_between(m, 1, 3);
    polynomial p = random_polynomial(m, degree, degree == 1 ? 5000 : degree == 2 ? 300 : 40);
    *count = degree + 1 + (int)mixt_math_between(m, 1, 4);
    for (int i = 1; i <= *count; i++) {
        mixt_buffer_format(&m->question, "%s%" PRId64, i == 1 ? "" : ", ", value_at(&p, i));
    }
    return p;
}

void mixt_math_next_term(math *m)
{
    int count;
    mixt_buffer_text(&m->question, MATH_PICK(m, "What is next in ", "What is the next term in ",
                                             "What comes next: "));
    polynomial p = write_sequence(m, &count);
    mixt_buffer_text(&m->question, "?");
    mixt_buffer_format(&m->answer, "%" PRId64, value_at(&p, count + 1));
}

void mixt_math_nth_term(math *m)
{
    int count;
    char n = mixt_math_letter(m);
    mixt_buffer_format(&m->question, "What is the %c'th term of ", n);
    polynomial p = write_sequence(m, &count);
    mixt_buffer_text(&m->question, "?");
    write_polynomial(&m->answer, &p, n);
}
