/* Sets of characters as automata over the bytes of UTF-8, so that a text can be followed byte by
 * byte, wherever tokens cut it. */
#ifndef MIXT_SAMPLING_CHAR_CLASS_H
#define MIXT_SAMPLING_CHAR_CLASS_H

#include <stddef.h>
#include <stdint.h>

#include "mixt.h"

#define MIXT_CHARACTER_MAX 0x10FFFFu
enum { MIXT_ROWS_MAX = 60000 };

typedef struct mixt_char_range {
    uint32_t low, high; /* both inside */
} mixt_char_range;

/* What a byte does in a row of an automaton. */
enum { MIXT_ROW_REFUSES = 0, MIXT_ROW_ENDS = 1 }; /* else: the row for the next byte */

/* Rows of all classes of a grammar; those from 2 to 4 take any one, two, three bytes that continue.
 */
typedef struct mixt_char_rows {
    uint16_t (*rows)[256]; /* [count] */
    size_t count, capacity;
} mixt_char_rows;

/* Sorts ranges, joins those that touch, takes surrogates out; negated: all others. Returns how many
 * there are now; room for count + 2 of them is needed. */
size_t mixt_char_ranges_settle(mixt_char_range *ranges, size_t count, bool negated);
/* Adds the automaton of settled ranges; *row is where it begins. Refuses beyond MIXT_ROWS_MAX. */
mixt_status mixt_char_rows_add(mixt_char_rows *rows, const mixt_char_range *ranges, size_t count,
                               uint16_t *row, mixt_error *error);

#endif
