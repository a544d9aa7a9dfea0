#include <stdlib.h>
#include <string.h>

#include "corpus/mathematics/mathematics.h"

#define MANY 10

/* An integer, fraction or decimal. */
static written random_written(math *m)
{
    written number;
    mixt_buffer text = {0};
    int64_t kind = mixt_math_between(m, 0, 3);
    if (kind <= 1) {
        number.value = (fraction){mixt_math_sized(m, kind == 0 ? 2 : 4), 1};
        mixt_math_write_fraction(&text, number.value);
    } else if (kind == 2) {
        int64_t top = mixt_math_nonzero(m, 99);
        number.value = mixt_math_fraction(top, mixt_math_between(m, 2, 99));
        mixt_math_write_fraction(&text, number.value);
    } else {
        decimal value = {.digits = mixt_math_sized(m, 3)};
        value.places = (int)mixt_math_between(m, 1, 4);
        number.value = mixt_math_decimal_value(value);
        mixt_math_write_decimal(&text, value);
    }
    mixt_buffer_append(&text, "", 1);
    number.text[0] = '\0';
    if (!text.failed && text.length <= sizeof number.text) {
        memcpy(number.text, text.data, text.length);
    }
    mixt_buffer_free(&text);
    return number;
}

/* `count` numbers of different values. */
static void random_numbers(math *m, written *numbers, int count)
{
    for (int i = 0; i < count; i++) {
        numbers[i] = random_written(m);
        for (int j = 0; j < i; j++) {
            if (mixt_math_compare(numbers[i].value, numbers[j].value) == 0) {
                i--;
                break;
            }
        }
    }
}

void mixt_math_pair(math *m)
{
    written pair[2];
    random_numbers(m, pair, 2);
    const char *a = pair[0].text, *b = pair[1].text;
    int order = mixt_math_compare(pair[0].value, pair[1].value);
    if (mixt_math_chance(m, 15)) {
        bool equal = mixt_math_chance(m, 40);
        b = equal ? a : b;
        bool negated = mixt_math_chance(m, 50);
        static const char *const forms[2][2][3] = {
            {{"Is ", " equal to ", "?"}, {"Do ", " and ", " have the same value?"}},
            {{"Is ", " not equal to ", "?"}, {"Do ", " and ", " have different values?"}}};
        const char *const *form = forms[negated][mixt_math_between(m, 0, 1)];
        mixt_buffer_format(&m->question, "%s%s%s%s%s", form[0], a, form[1], b, form[2]);
        mixt_buffer_text(&m->answer, equal != negated ? "True" : "False");
        return;
    }
    if (mixt_math_chance(m, 50)) {
        bool greater = mixt_math_chance(m, 50);
        mixt_buffer_format(&m->question, "Which is %s: %s or %s?",
                           greater ? MATH_PICK(m, "greater", "bigger") : "smaller", a, b);
        mixt_buffer_text(&m->answer, (order > 0) == greater ? a : b);
        return;
    }
    static const struct {
        const char *text;
        int order; /* that makes it true */
    } relations[] = {{" > ", 1},
                     {" < ", -1},
                     {" bigger than ", 1},
                     {" greater than ", 1},
                     {" smaller than ", -1},
                     {" less than ", -1},
                     {" at least ", 1},
                     {" at most ", -1},
                     {" >= ", 1},
                     {" <= ", -1}};
    int64_t which = mixt_math_between(m, 0, 9);
    mixt_buffer_format(&m->question, "Is %s%s%s?", a, relations[which].text, b);
    mixt_buffer_text(&m->answer, order == relations[which].order ? "True" : "False");
}

static void write_list(math *m, const written *numbers, int count, bool lettered)
{
    for (int i = 0; i < count; i++) {
        if (lettered) {
            mixt_buffer_format(&m->question, "  (%c) %s", 'a' + i, numbers[i].text);
        } else {
            mixt_buffer_format(&m->question, "%s%s", i == 0 ? "" : ", ", numbers[i].text);
        }
    }
}

static void write_choice(math *m, const written *numbers, int chosen, bool lettered)
{
    if (lettered) {
        mixt_buffer_format(&m->answer, "%c", 'a' + chosen);
    } else {
        mixt_buffer_text(&m->answer, numbers[chosen].text);
    }
}

void mixt_math_kth_biggest(math *m)
{
    written numbers[MANY];
    int count = (int)mixt_math_between(m, 3, 8),
        k = (int)mixt_math_between(m, 1, count < 6 ? count : 6);
    bool biggest = mixt_math_chance(m, 50), lettered = mixt_math_chance(m, 50);
    random_numbers(m, numbers, count);
    const char *rank = k == 1 ? "" : mixt_math_ordinal(k), *space = k == 1 ? "" : " ";
    const char *kind = biggest ? "biggest" : "smallest";
    if (lettered) {
        mixt_buffer_format(&m->question, "Which is the %s%s%s value?", rank, space, kind);
    } else {
        mixt_buffer_format(&m->question, "What is the %s%s%s value in ", rank, space, kind);
    }
    write_list(m, numbers, count, lettered);
    mixt_buffer_text(&m->question, lettered ? "" : "?");
    for (int i = 0; i < count; i++) {
        int before = 0; /* how many come before it in the order asked for */
        for (int j = 0; j < count; j++) {
            int order = mixt_math_compare(numbers[j].value, numbers[i].value);
            before += biggest ? order > 0 : order < 0;
        }
        if (before == k - 1) {
            write_choice(m, numbers, i, lettered);
        }
    }
}

static fraction distance(const written *a, const written *b)
{
    fraction d = mixt_math_subtract(a->value, b->value);
    return d.top < 0 ? (fraction){-d.top, d.bottom} : d;
}

void mixt_math_closest(math *m)
{
    written numbers[MANY], target;
    int count = (int)mixt_math_between(m, 3, 6), best = 0;
    bool unique = false, lettered = mixt_math_chance(m, 50);
    while (!unique) {
        random_numbers(m, numbers, count);
        target = random_written(m);
        best = 0;
        for (int i = 1; i < count; i++) {
            if (mixt_math_compare(distance(&numbers[i], &target),
                                  distance(&numbers[best], &target)) < 0) {
                best = i;
            }
        }
        unique = true;
        for (int i = 0; i < count; i++) {
            unique =
                unique && (i == best || mixt_math_compare(distance(&numbers[i], &target),
                                                          distance(&numbers[best], &target)) != 0);
        }
    }
    const char *kind = MATH_PICK(m, "closest", "nearest");
    if (lettered) {
        mixt_buffer_format(&m->question, "Which is the %s to %s?", kind, target.text);
    } else {
        mixt_buffer_format(&m->question, "What is the %s to %s in ", kind, target.text);
    }
    write_list(m, numbers, count, lettered);
    mixt_buffer_text(&m->question, lettered ? "" : "?");
    write_choice(m, numbers, best, lettered);
}

static int compare_written(const void *a, const void *b)
{
    return mixt_math_compare(((const written *)a)->value, ((const written *)b)->value);
}

void mixt_math_sort(math *m)
{
    written numbers[MANY];
    int count = (int)mixt_math_between(m, 3, 7);
    bool rising = mixt_math_chance(m, 50);
    random_numbers(m, numbers, count);
    mixt_buffer_text(&m->question, MATH_PICK(m, "Sort ", "Put "));
    write_list(m, numbers, count, false);
    mixt_buffer_format(&m->question, " in %s order.",
                       rising ? MATH_PICK(m, "ascending", "increasing")
                              : MATH_PICK(m, "descending", "decreasing"));
    qsort(numbers, (size_t)count, sizeof *numbers, compare_written);
    for (int i = 0; i < count; i++) {
        mixt_buffer_format(&m->answer, "%s%s", i == 0 ? "" : ", ",
                           numbers[rising ? i : count - 1 - i].text);
    }
}
