#include <inttypes.h>

#include "corpus/mathematics/mathematics.h"

typedef struct linear_term {
    int64_t factor;
    char letter; /* '\0': a constant */
} linear_term;

static void write_terms(mixt_buffer *to, const linear_term *terms, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int64_t factor = terms[i].factor, size = factor < 0 ? -factor : factor;
        mixt_buffer_text(to, i == 0 ? (factor < 0 ? "-" : "") : factor < 0 ? " - " : " + ");
        if (terms[i].letter == '\0' || size != 1) {
            mixt_buffer_format(to, "%" PRId64, size);
        }
        if (terms[i].letter != '\0') {
            mixt_buffer_format(to, size == 1 ? "%c" : "*%c", terms[i].letter);
        }
    }
    if (count == 0) {
        mixt_buffer_text(to, "0");
    }
}

/* Splits a term in two now and then, and puts each piece on a side. */
static void place(math *m, linear_term sides[2][12], size_t counts[2], linear_term p)
{
    int pieces = p.factor != 0 && mixt_math_chance(m, 25) ? 2 : 1;
    for (; pieces > 0; pieces--) {
        linear_term piece = p;
        if (pieces == 2) {
            piece.factor = mixt_math_nonzero(m, 20);
            p.factor -= piece.factor;
        }
        if (piece.factor == 0) {
            continue;
        }
        int side = mixt_math_chance(m, 70) ? 0 : 1;
        piece.factor = side == 0 ? piece.factor : -piece.factor;
        sides[side][counts[side]++] = piece;
    }
}

void mixt_math_write_equation(math *m, mixt_buffer *to, const int64_t *factors, const char *letters,
                              int count, int64_t value)
{
    linear_term sides[2][12];
    size_t counts[2] = {0, 0};
    for (int i = 0; i < count; i++) {
        place(m, sides, counts, (linear_term){factors[i], letters[i]});
    }
    place(m, sides, counts, (linear_term){-value, '\0'});
    mixt_math_shuffle(m, sides[0], counts[0], sizeof **sides);
    mixt_math_shuffle(m, sides[1], counts[1], sizeof **sides);
    int first = mixt_math_chance(m, 80) ? 0 : 1;
    write_terms(to, sides[first], counts[first]);
    mixt_buffer_text(to, " = ");
    write_terms(to, sides[1 - first], counts[1 - first]);
}

void mixt_math_linear_one(math *m)
{
    char x = mixt_math_letter(m);
    int64_t factor = mixt_math_nonzero(m, 400), solution = mixt_math_between(m, -60, 60);
    mixt_buffer_text(&m->question, "Solve ");
    mixt_math_write_equation(m, &m->question, &factor, &x, 1, factor * solution);
    mixt_buffer_format(&m->question, " for %c.", x);
    mixt_buffer_format(&m->answer, "%" PRId64, solution);
}

void mixt_math_linear_two(math *m)
{
    char letters[2];
    int64_t solution[2], factors[2][2];
    for (int i = 0; i < 2; i++) {
        letters[i] = mixt_math_letter(m);
        solution[i] = mixt_math_between(m, -40, 40);
    }
    do {
        for (int i = 0; i < 2; i++) {
            factors[i][0] = mixt_math_nonzero(m, 60);
            factors[i][1] = mixt_math_between(m, -60, 60);
        }
    } while (factors[0][0] * factors[1][1] == factors[0][1] * factors[1][0]);
    mixt_buffer_text(&m->question, "Solve ");
    for (int i = 0; i < 2; i++) {
        mixt_buffer_text(&m->question, i == 0 ? "" : ", ");
        mixt_math_write_equation(m, &m->question, factors[i], letters, 2,
                                 factors[i][0] * solution[0] + factors[i][1] * solution[1]);
    }
    mixt_buffer_format(&m->question, " for %c.", letters[0]);
    mixt_buffer_format(&m->answer, "%" PRId64, solution[0]);
}
