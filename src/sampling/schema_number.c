/* Numbers between bounds, digit by digit. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "sampling/schema.h"

enum { DIGITS = 24, LONGEST = 16 };
#define NO_END UINT64_MAX
#define BOUND_MAX 1e15 /* whole numbers up to here are exact, and have at most 16 digits */

/* `count` further digits of any kind. */
static void any_digits(mixt_buffer *to, size_t count)
{
    if (count > 0) {
        mixt_buffer_format(to, " [0-9]{%zu}", count);
    }
}

static void one_digit(mixt_buffer *to, char low, char high)
{
    mixt_buffer_format(to, low == high ? "[%c]" : "[%c-%c]", low, high);
}

/* Numbers of as many digits as `digits` (at least one) that are not below it; or not above it. */
static void beyond(mixt_buffer *to, const char *digits, bool above)
{
    size_t length = strlen(digits);
    const char extreme = above ? '9' : '0';
    mixt_buffer_text(to, "(");
    for (size_t i = 0; i < length;
         i++) { /* the first i digits are the same, the next one differs */
        if (digits[i] != extreme) {
            if (i > 0) {
                mixt_buffer_format(to, "\"%.*s\" ", (int)i, digits);
            }
            one_digit(to, above ? (char)(digits[i] + 1) : '0', above ? '9' : (char)(digits[i] - 1));
            any_digits(to, length - i - 1);
            mixt_buffer_text(to, " | ");
        }
    }
    mixt_buffer_format(to, "\"%s\")", digits);
}

/* Numbers of the same length from `low` to `high`, which is not below it. */
static void same_length(mixt_buffer *to, const char *low, const char *high)
{
    size_t length = strlen(low), same = 0;
    while (same < length && low[same] == high[same]) {
        same++;
    }
    if (same > 0) {
        mixt_buffer_format(to, "\"%.*s\"", (int)same, low);
    }
    if (same == length) {
        return;
    }
    const char *l = low + same, *h = high + same;
    mixt_buffer_text(to, same > 0 ? " (" : "(");
    if (l[1] == '\0') {
        one_digit(to, *l, *h);
    } else {
        mixt_buffer_format(to, "[%c] ", *l);
        beyond(to, l + 1, true);
        if (*h - *l > 1) {
            mixt_buffer_text(to, " | ");
            one_digit(to, (char)(*l + 1), (char)(*h - 1));
            any_digits(to, length - same - 1);
        }
        mixt_buffer_format(to, " | [%c] ", *h);
        beyond(to, h + 1, false);
    }
    mixt_buffer_text(to, ")");
}

/* The whole numbers from `low` to `high` without leading zeros. */
static void write_whole(mixt_buffer *to, uint64_t low, uint64_t high)
{
    char a[DIGITS], b[DIGITS];
    mixt_buffer_text(to, "(");
    for (;;) {
        size_t length = (size_t)snprintf(a, sizeof a, "%" PRIu64, low);
        uint64_t last = 9; /* with as many digits */
        for (size_t i = 1; i < length; i++) {
            last = last * 10 + 9;
        }
        snprintf(b, sizeof b, "%" PRIu64, high < last ? high : last);
        same_length(to, a, b);
        if (high <= last) {
            break;
        }
        mixt_buffer_text(to, " | ");
        if (high == NO_END) {
            mixt_buffer_format(to, "[1-9] [0-9]{%zu,%d}", length,
                               length < LONGEST ? LONGEST - 1 : (int)length);
            break;
        }
        low = last + 1;
    }
    mixt_buffer_text(to, ")");
}

typedef struct bounds {
    double low, high;  /* infinite: none */
    bool above, below; /* the bound itself is not in it */
} bounds;

static mixt_status read_bound(mixt_schema *schema, json_t *node, const char *const keys[2],
                              bool is_low, bounds *b)
{
    for (int i = 0; i < 2; i++) {
        json_t *value = json_object_get(node, keys[i]);
        double number = json_number_value(value);
        if (value == NULL) {
            continue;
        }
        if (!json_is_number(value) || !(fabs(number) <= BOUND_MAX)) {
            return mixt_schema_refuse(schema, "%s is no number from -1e15 to 1e15", keys[i]);
        }
        double *bound = is_low ? &b->low : &b->high;
        bool *exclusive = is_low ? &b->above : &b->below;
        if (is_low ? number >= *bound : number <= *bound) {
            *exclusive = i == 1 || (*exclusive && number == *bound);
            *bound = number;
        }
    }
    return MIXT_OK;
}

static mixt_status read_bounds(mixt_schema *schema, json_t *node, bool *whole, bounds *b)
{
    static const char *const lows[] = {"minimum", "exclusiveMinimum"};
    static const char *const highs[] = {"maximum", "exclusiveMaximum"};
    json_t *multiple = json_object_get(node, "multipleOf");
    *b = (bounds){.low = -INFINITY, .high = INFINITY};
    if (multiple != NULL && json_number_value(multiple) != 1) {
        return mixt_schema_refuse(schema, "multipleOf other than 1 cannot be held by a grammar");
    }
    *whole = *whole || multiple != NULL;
    MIXT_TRY(read_bound(schema, node, lows, true, b));
    MIXT_TRY(read_bound(schema, node, highs, false, b));
    if (*whole) {
        b->low = b->above ? floor(b->low) + 1 : ceil(b->low);
        b->high = b->below ? ceil(b->high) - 1 : floor(b->high);
        b->above = b->below = false;
    }
    if (b->low > b->high || (b->low == b->high && (b->above || b->below))) {
        return mixt_schema_refuse(schema, "no number is within the bounds");
    }
    if ((isfinite(b->low) && floor(b->low) != b->low) ||
        (isfinite(b->high) && floor(b->high) != b->high)) {
        return mixt_schema_refuse(schema, "bounds of numbers that are not whole themselves cannot "
                                          "be held by a grammar");
    }
    return MIXT_OK;
}

static void whole_numbers(mixt_buffer *to, double low, double high)
{
    bool negative = low < 0;
    if (negative) {
        mixt_buffer_text(to, "\"-\" ");
        write_whole(to, high < 0 ? (uint64_t)-high : 1, isfinite(low) ? (uint64_t)-low : NO_END);
    }
    if (high >= 0) {
        mixt_buffer_text(to, negative ? " | " : "");
        write_whole(to, low > 0 ? (uint64_t)low : 0, isfinite(high) ? (uint64_t)high : NO_END);
    }
}

static const char fraction[] = " (\".\" [0-9]{1,16})?", zeros[] = " (\".\" [0]{1,16})?",
                  more[] = " \".\" [0-9]{0,15} [1-9] [0-9]{0,15}";

/* Decimal numbers from `low` to `high`, both at least 0 and whole, with or without these. */
static void write_decimal(mixt_buffer *to, const bounds *b)
{
    uint64_t low = (uint64_t)b->low, high = isfinite(b->high) ? (uint64_t)b->high : NO_END;
    mixt_buffer_text(to, "(");
    if (low == high) {
        mixt_buffer_format(to, "\"%" PRIu64 "\"%s)", low, zeros);
        return;
    }
    mixt_buffer_format(to, "\"%" PRIu64 "\"%s", low, b->above ? more : fraction);
    if (high == NO_END || high - low > 1) {
        mixt_buffer_text(to, " | ");
        write_whole(to, low + 1, high == NO_END ? NO_END : high - 1);
        mixt_buffer_text(to, fraction);
    }
    if (high != NO_END && !b->below) {
        mixt_buffer_format(to, " | \"%" PRIu64 "\"%s", high, zeros);
    }
    mixt_buffer_text(to, ")");
}

mixt_status mixt_schema_number(mixt_schema *schema, json_t *node, bool whole, mixt_buffer *to)
{
    bounds b;
    MIXT_TRY(read_bounds(schema, node, &whole, &b));
    if (!isfinite(b.low) && !isfinite(b.high)) {
        mixt_buffer_text(to,
                         mixt_schema_use(schema, whole ? MIXT_SHARED_INTEGER : MIXT_SHARED_NUMBER));
    } else if (whole) {
        whole_numbers(to, b.low, b.high);
    } else {
        bool negative = b.low < 0;
        if (negative) { /* the same from 0 or -high to -low */
            bounds mirrored = {.low = b.high < 0 ? -b.high : 0,
                               .high = -b.low,
                               .above = b.high < 0 ? b.below : b.high == 0 && b.below,
                               .below = b.above};
            mixt_buffer_text(to, "\"-\" ");
            write_decimal(to, &mirrored);
        }
        if (b.high > 0 || (b.high == 0 && !b.below)) {
            bounds positive = {.low = b.low > 0 ? b.low : 0,
                               .high = b.high,
                               .above = b.low >= 0 && b.above,
                               .below = b.below};
            mixt_buffer_text(to, negative ? " | " : "");
            write_decimal(to, &positive);
        }
    }
    return MIXT_OK;
}
