/* What the printers of tables share. Each appends to a buffer; everything of a trace goes through
 * atlas/display.h. */
#ifndef MIXT_ATLAS_TABLE_PRINT_H
#define MIXT_ATLAS_TABLE_PRINT_H

#include "atlas/display.h"
#include "atlas/table.h"

void mixt_table_text(const mixt_table *table, int width, mixt_buffer *out);
void mixt_table_json(const mixt_table *table, mixt_buffer *out);
void mixt_table_csv(const mixt_table *table, mixt_buffer *out);
void mixt_table_figure(const mixt_table *table, mixt_buffer *out);

/* What a key's cell says, for people: a layer's or expert's number, a domain's name, a token's
 * text, a word; "all" and "none" as mixt_column_kind has them. `style` of display.h. */
void mixt_table_name(const mixt_table *table, int column, double value, int style,
                     mixt_buffer *out);

/* A whole number in the range of a key of `limit` values: the cell as an index; -1 for all else. */
int mixt_table_index(double value, int limit);

/* rows [most]: those that say most, the first more than the last; how many there are. What is over
 * all layers comes first where it is at most half; then what is furthest from its level: by the
 * effect where there is one (of what is significant before the rest), else by how far the interval
 * lies from the level of unequal use (without one, of random choices). Without levels the greatest
 * values. Of tables over something that is counted in the table's order; of courses (below) what is
 * over all layers, evenly. */
#define MIXT_TABLE_TELL_MOST 64
int mixt_table_tell(const mixt_table *table, int most, uint64_t *rows);

/* Whether rows follow one another first of all, as the steps of a run do. */
bool mixt_table_is_course(const mixt_table *table);

/* Digits behind the decimal point for numbers up to `largest`: three or four in all. */
int mixt_table_decimals(double largest);

/* The level that a value is told apart from: that of unequal use, else of random choices; -1. */
static inline int mixt_table_level(const mixt_table *table, int group)
{
    int use = mixt_table_find(table, MIXT_ROLE_USE, group);
    return use >= 0 ? use : mixt_table_find(table, MIXT_ROLE_RANDOM, group);
}

#endif
