#include <inttypes.h>
#include <string.h>

#include "corpus/mathematics/mathematics.h"

/* --- Units --------------------------------------------------------------------------------------
 */

typedef struct unit {
    const char *one;
    const char *many;
    int64_t size; /* in the smallest unit of its group */
} unit;

static const unit lengths[] = {
    {"nanometer", "nanometers", 1},         {"micrometer", "micrometers", 1000},
    {"millimeter", "millimeters", 1000000}, {"centimeter", "centimeters", 10000000},
    {"meter", "meters", 1000000000},        {"kilometer", "kilometers", 1000000000000}};
static const unit masses[] = {{"nanogram", "nanograms", 1},
                              {"microgram", "micrograms", 1000},
                              {"milligram", "milligrams", 1000000},
                              {"gram", "grams", 1000000000},
                              {"kilogram", "kilograms", 1000000000000},
                              {"tonne", "tonnes", 1000000000000000}};
static const unit volumes[] = {{"millilitre", "millilitres", 1}, {"litre", "litres", 1000}};
static const unit times[] = {{"second", "seconds", 1},
                             {"minute", "minutes", 60},
                             {"hour", "hours", 3600},
                             {"day", "days", 86400},
                             {"week", "weeks", 604800}};
static const unit years[] = {{"month", "months", 1},
                             {"year", "years", 12},
                             {"decade", "decades", 120},
                             {"century", "centuries", 1200},
                             {"millennium", "millennia", 12000}};

static const struct {
    const unit *units;
    int count;
    bool metric; /* powers of ten, so that decimals stay finite both ways */
} groups[] = {{lengths, 6, true},
              {masses, 6, true},
              {volumes, 2, true},
              {times, 5, false},
              {years, 5, false}};

/* "five quarters of a tonne" in smaller units, where that is a whole number. */
static bool write_share(math *m, const unit *from, const unit *to)
{
    static const struct {
        const char *one, *many;
        int bottom;
    } shares[] = {{"half", "halves", 2},
                  {"quarter", "quarters", 4},
                  {"fifth", "fifths", 5},
                  {"eighth", "eighths", 8},
                  {"tenth", "tenths", 10}};
    int64_t which = mixt_math_between(m, 0, 4), top = mixt_math_between(m, 1, 12);
    int64_t ratio = from->size / to->size, bottom = shares[which].bottom;
    if (ratio % bottom != 0 || mixt_math_gcd(top, bottom) != 1) {
        return false;
    }
    const char *article =
        strchr("aeio", from->one[0]) != NULL || strcmp(from->one, "hour") == 0 ? "an" : "a";
    if (mixt_math_chance(m, 50)) {
        mixt_buffer_format(&m->question, "How many %s are there in %s %s of %s %s?", to->many,
                           mixt_math_number_word((int)top),
                           top == 1 ? shares[which].one : shares[which].many, article, from->one);
    } else {
        mixt_buffer_format(&m->question, "What is %" PRId64 "/%" PRId64 " of %s %s in %s?", top,
                           bottom, article, from->one, to->many);
    }
    mixt_buffer_format(&m->answer, "%" PRId64, ratio / bottom * top);
    return true;
}

void mixt_math_conversion(math *m)
{
    int64_t group = mixt_math_between(m, 0, 4);
    const unit *units = groups[group].units;
    int a = (int)mixt_math_between(m, 0, groups[group].count - 1);
    int b = (int)mixt_math_between(m, 0, groups[group].count - 2);
    b += b >= a;
    if (a < b && !groups[group].metric) {
        int kept = a;
        a = b;
        b = kept;
    }
    const unit *from = &units[a], *to = &units[b];
    if (a > b && mixt_math_chance(m, 30) && write_share(m, from, to)) {
        return;
    }
    decimal value = mixt_math_decimal(m, 6), result;
    value.digits = value.digits < 0 ? -value.digits : value.digits;
    value.digits = value.digits == 0 ? 5 : value.digits;
    result = value;
    if (from->size >= to->size) {
        int64_t ratio = from->size / to->size;
        while (ratio % 10 == 0 && result.places > 0) {
            ratio /= 10;
            result.places--;
        }
        if (ratio > 1000000000000) { /* too long a number */
            from = to + 1;
            ratio = from->size / to->size;
            result = value;
        }
        result.digits *= ratio;
    } else {
        for (int64_t ratio = to->size / from->size; ratio > 1; ratio /= 10) {
            result.places++;
        }
        while (result.places > 16) { /* beyond what an answer should hold */
            from++;
            int64_t ratio = to->size / from->size;
            for (result = value; ratio > 1; ratio /= 10) {
                result.places++;
            }
        }
    }
    bool asked = mixt_math_chance(m, 50);
    if (asked) {
        mixt_buffer_format(&m->question, "How many %s are there in ", to->many);
    } else {
        mixt_buffer_text(&m->question, MATH_PICK(m, "What is ", "Convert "));
    }
    bool what = m->question.data[0] == 'W';
    mixt_math_write_decimal(&m->question, value);
    mixt_buffer_format(&m->question, " %s", from->many);
    if (!asked) {
        mixt_buffer_format(&m->question, what ? " in %s" : " to %s", to->many);
    }
    mixt_buffer_text(&m->question, asked || what ? "?" : ".");
    mixt_math_write_decimal(&m->answer, result);
}

/* --- Time of day --------------------------------------------------------------------------------
 */

static void write_time(mixt_buffer *to, int64_t minutes)
{
    minutes = (minutes % 1440 + 1440) % 1440;
    int64_t hour = minutes / 60 % 12;
    mixt_buffer_format(to, "%" PRId64 ":%02" PRId64 " %s", hour == 0 ? 12 : hour, minutes % 60,
                       minutes < 720 ? "AM" : "PM");
}

void mixt_math_time(math *m)
{
    int64_t start = mixt_math_between(m, 0, 1439), minutes = mixt_math_between(m, 1, 719);
    if (mixt_math_chance(m, 50)) {
        bool after = mixt_math_chance(m, 50);
        mixt_buffer_format(&m->question, "What is %" PRId64 " minutes %s ", minutes,
                           after ? "after" : "before");
        write_time(&m->question, start);
        mixt_buffer_text(&m->question, "?");
        write_time(&m->answer, after ? start + minutes : start - minutes);
    } else {
        mixt_buffer_text(&m->question, "How many minutes are there between ");
        write_time(&m->question, start);
        mixt_buffer_text(&m->question, " and ");
        write_time(&m->question, start + minutes);
        mixt_buffer_text(&m->question, "?");
        mixt_buffer_format(&m->answer, "%" PRId64, minutes);
    }
}

/* --- Letters out of a bag ------------------------------------------------------------------------
 */

#define KINDS 6

typedef struct bag {
    char letters[KINDS];
    int64_t counts[KINDS];
    int kinds;
    int64_t total;
} bag;

static bag random_bag(math *m)
{
    bag b = {.kinds = (int)mixt_math_between(m, 1, KINDS)};
    for (int i = 0; i < b.kinds; i++) {
        b.letters[i] = mixt_math_letter(m);
        b.counts[i] = mixt_math_between(m, 1, b.kinds <= 2 ? 8 : 4);
        b.total += b.counts[i];
    }
    if (b.total < 4) {
        b.total += 4 - b.counts[0];
        b.counts[0] = 4;
    }
    return b;
}

/* "{a: 2, b: 1}" or the letters themselves in some order. */
static void write_bag(math *m, const bag *b)
{
    if (mixt_math_chance(m, 50)) {
        for (int i = 0; i < b->kinds; i++) {
            mixt_buffer_format(&m->question, "%s%c: %" PRId64, i == 0 ? "{" : ", ", b->letters[i],
                               b->counts[i]);
        }
        mixt_buffer_text(&m->question, "}");
        return;
    }
    char all[64];
    size_t count = 0;
    for (int i = 0; i < b->kinds; i++) {
        for (int64_t j = 0; j < b->counts[i]; j++) {
            all[count++] = b->letters[i];
        }
    }
    mixt_math_shuffle(m, all, count, 1);
    mixt_buffer_append(&m->question, all, count);
}

static int64_t choose(int64_t n, int64_t k)
{
    int64_t result = 1;
    for (int64_t i = 1; i <= k; i++) {
        result = result * (n - k + i) / i;
    }
    return result;
}

/* Draws `drawn` letters without replacement into sequence. */
static void draw_letters(math *m, const bag *b, char *sequence, int drawn)
{
    bag left = *b;
    for (int i = 0; i < drawn; i++) {
        int64_t at = mixt_math_between(m, 0, left.total - 1);
        int kind = 0;
        while (at >= left.counts[kind]) {
            at -= left.counts[kind++];
        }
        sequence[i] = left.letters[kind];
        left.counts[kind]--;
        left.total--;
    }
    sequence[drawn] = '\0';
}

static void ask(math *m, const bag *b, int drawn, const char *event)
{
    const char *count = mixt_math_number_word(drawn);
    char first = (char)(count[0] - 'a' + 'A');
    if (mixt_math_chance(m, 50)) {
        mixt_buffer_format(&m->question, "%c%s letters picked without replacement from ", first,
                           count + 1);
        write_bag(m, b);
        bool asked = mixt_math_chance(m, 50);
        mixt_buffer_format(&m->question, asked ? ". What is prob of %s?" : ". Give prob of %s.",
                           event);
    } else {
        bool asked = mixt_math_chance(m, 50);
        mixt_buffer_format(&m->question,
                           "%s prob of %s when %s letters picked without replacement from ",
                           asked ? "What is" : "Calculate", event, count);
        write_bag(m, b);
        mixt_buffer_text(&m->question, asked ? "?" : ".");
    }
}

void mixt_math_letter_set(math *m)
{
    bag b = random_bag(m);
    int drawn = (int)mixt_math_between(m, 2, 4);
    char sequence[8], event[128] = "picking ";
    draw_letters(m, &b, sequence, drawn);
    fraction probability = {1, choose(b.total, drawn)};
    bool first = true;
    int left = drawn;
    for (int i = 0; i < b.kinds; i++) {
        int64_t taken = 0;
        for (int j = 0; j < drawn; j++) {
            taken += sequence[j] == b.letters[i];
        }
        if (taken == 0) {
            continue;
        }
        left -= (int)taken;
        size_t used = strlen(event);
        snprintf(event + used, sizeof event - used, "%s%" PRId64 " %c",
                 first       ? ""
                 : left == 0 ? " and "
                             : ", ",
                 taken, b.letters[i]);
        first = false;
        probability = mixt_math_multiply(probability, (fraction){choose(b.counts[i], taken), 1});
    }
    ask(m, &b, drawn, event);
    mixt_math_write_fraction(&m->answer, probability);
}

void mixt_math_letter_sequence(math *m)
{
    bag b = random_bag(m), left = b;
    int drawn = (int)mixt_math_between(m, 2, 4);
    char sequence[8], event[32];
    draw_letters(m, &b, sequence, drawn);
    fraction probability = {1, 1};
    for (int i = 0; i < drawn; i++) {
        int kind = 0;
        while (left.letters[kind] != sequence[i]) {
            kind++;
        }
        probability =
            mixt_math_multiply(probability, mixt_math_fraction(left.counts[kind], left.total));
        left.counts[kind]--;
        left.total--;
    }
    snprintf(event, sizeof event, "sequence %s", sequence);
    ask(m, &b, drawn, event);
    mixt_math_write_fraction(&m->answer, probability);
}
