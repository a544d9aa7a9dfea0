#include "sampling/char_class.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/memory.h"

enum { ROW_ANY_1 = 2, ROWS_OF_ALL = 5 };

static int compare_ranges(const void *a, const void *b)
{
    const mixt_char_range *x = a, *y = b;
    return (x->low > y->low) - (x->low < y->low);
}

size_t mixt_char_ranges_settle(mixt_char_range *ranges, size_t count, bool negated)
{
    const uint32_t surrogates_low = 0xD800, surrogates_high = 0xDFFF;
    size_t joined = 0;
    if (negated) { /* so that they are not among the others */
        ranges[count++] = (mixt_char_range){surrogates_low, surrogates_high};
    }
    qsort(ranges, count, sizeof *ranges, compare_ranges);
    for (size_t i = 0; i < count; i++) {
        if (joined > 0 && ranges[i].low <= ranges[joined - 1].high + 1) {
            if (ranges[i].high > ranges[joined - 1].high) {
                ranges[joined - 1].high = ranges[i].high;
            }
        } else {
            ranges[joined++] = ranges[i];
        }
    }
    if (negated) {
        uint32_t next = 0; /* the first character behind the last range */
        size_t others = 0;
        for (size_t i = 0; i < joined; i++) {
            mixt_char_range range = ranges[i];
            if (range.low > next) {
                ranges[others++] = (mixt_char_range){next, range.low - 1};
            }
            next = range.high + 1;
        }
        if (next <= MIXT_CHARACTER_MAX) {
            ranges[others++] = (mixt_char_range){next, MIXT_CHARACTER_MAX};
        }
        return others;
    }
    for (size_t i = 0; i < joined; i++) {
        mixt_char_range *range = &ranges[i];
        if (range->low < surrogates_low && range->high > surrogates_high) {
            memmove(range + 1, range, (joined - i) * sizeof *range);
            joined++;
            range[0].high = surrogates_low - 1;
            range[1].low = surrogates_high + 1;
            i++;
        } else if (range->high >= surrogates_low && range->low <= surrogates_high) {
            uint32_t low = range->low, high = range->high;
            if (low >= surrogates_low && high <= surrogates_high) {
                memmove(range, range + 1, (joined - i - 1) * sizeof *range);
                joined--;
                i--;
            } else if (low < surrogates_low) {
                range->high = surrogates_low - 1;
            } else {
                range->low = surrogates_high + 1;
            }
        }
    }
    return joined;
}

/* A new row, or 0: no memory, or too many. */
static size_t add_row(mixt_char_rows *rows)
{
    if (rows->count >= MIXT_ROWS_MAX ||
        !mixt_grow(&rows->rows, &rows->capacity, rows->count + 1, sizeof *rows->rows)) {
        return 0;
    }
    memset(rows->rows[rows->count], 0, sizeof *rows->rows);
    return rows->count++;
}

/* Which of the characters [low, high] the ranges hold: none, all or some. */
typedef enum share { SHARE_NONE, SHARE_SOME, SHARE_ALL } share;

static share share_of(const mixt_char_range *ranges, size_t count, uint32_t low, uint32_t high)
{
    size_t first = 0, behind = count; /* the first range that ends at `low` or later */
    while (first < behind) {
        size_t middle = first + (behind - first) / 2;
        if (ranges[middle].high < low) {
            first = middle + 1;
        } else {
            behind = middle;
        }
    }
    if (first == count || ranges[first].low > high) {
        return SHARE_NONE;
    }
    return ranges[first].low <= low && ranges[first].high >= high ? SHARE_ALL : SHARE_SOME;
}

/* Characters are known down to their last `left` groups of 6 bits: those before are `prefix`. What
 * a byte leads to: a row or MIXT_ROW_*; false without memory or with too many rows. */
static bool lead_to(mixt_char_rows *rows, const mixt_char_range *ranges, size_t count,
                    uint32_t prefix, int left, size_t *to)
{
    uint32_t low = prefix << (6 * left), high = low | ((UINT32_C(1) << (6 * left)) - 1);
    share held = share_of(ranges, count, low, high);
    if (left == 0 || held != SHARE_SOME) {
        *to = held == SHARE_NONE ? MIXT_ROW_REFUSES
              : left == 0        ? MIXT_ROW_ENDS
                                 : (size_t)(ROW_ANY_1 + left - 1);
        return true;
    }
    size_t row = add_row(rows);
    *to = row;
    for (uint32_t i = 0; row != 0 && i < 64; i++) {
        size_t next = 0;
        if (!lead_to(rows, ranges, count, prefix << 6 | i, left - 1, &next)) {
            return false;
        }
        rows->rows[row][0x80 | i] = (uint16_t)next;
    }
    return row != 0;
}

/* The part of the ranges inside [low, high]. */
static size_t cut(const mixt_char_range *ranges, size_t count, uint32_t low, uint32_t high,
                  mixt_char_range *part)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (ranges[i].high >= low && ranges[i].low <= high) {
            part[kept].low = ranges[i].low > low ? ranges[i].low : low;
            part[kept++].high = ranges[i].high < high ? ranges[i].high : high;
        }
    }
    return kept;
}

/* Characters of one length of UTF-8: `left` bytes that continue, first bytes from `first` on. */
static bool add_length(mixt_char_rows *rows, size_t row, const mixt_char_range *ranges,
                       size_t count, int left)
{
    static const uint32_t lows[] = {0, 0x80, 0x800, 0x10000},
                          highs[] = {0x7F, 0x7FF, 0xFFFF, MIXT_CHARACTER_MAX};
    static const unsigned char firsts[] = {0, 0xC0, 0xE0, 0xF0}, bytes[] = {128, 32, 16, 8};
    mixt_char_range *part = calloc(count + 1, sizeof *part);
    bool added = part != NULL;
    if (added) {
        size_t kept = cut(ranges, count, lows[left], highs[left], part);
        for (uint32_t i = 0; added && kept > 0 && i < bytes[left]; i++) {
            size_t to = 0;
            added = lead_to(rows, part, kept, i, left, &to);
            rows->rows[row][firsts[left] | i] = (uint16_t)to;
        }
    }
    free(part);
    return added;
}

static bool begin(mixt_char_rows *rows)
{
    while (rows->count < ROWS_OF_ALL) {
        size_t row = rows->count;
        if (!mixt_grow(&rows->rows, &rows->capacity, row + 1, sizeof *rows->rows)) {
            return false;
        }
        memset(rows->rows[row], 0, sizeof *rows->rows);
        for (int byte = 0x80; row >= ROW_ANY_1 && byte < 0xC0; byte++) {
            rows->rows[row][byte] = row == ROW_ANY_1 ? MIXT_ROW_ENDS : (uint16_t)(row - 1);
        }
        rows->count++;
    }
    return true;
}

mixt_status mixt_char_rows_add(mixt_char_rows *rows, const mixt_char_range *ranges, size_t count,
                               uint16_t *row, mixt_error *error)
{
    size_t made = begin(rows) ? add_row(rows) : 0;
    bool added = made != 0;
    for (int left = 0; added && left < 4; left++) {
        added = add_length(rows, made, ranges, count, left);
    }
    if (!added && rows->count >= MIXT_ROWS_MAX) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "grammar: its character classes are too many");
    }
    *row = (uint16_t)made;
    return added ? MIXT_OK : mixt_fail(error, MIXT_ERROR_MEMORY, "grammar: no memory");
}
