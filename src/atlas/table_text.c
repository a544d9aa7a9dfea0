/* A table for a terminal. A long one shows the rows that say most, a wide one its columns in
 * blocks, each behind the keys. */
#include <math.h>
#include <string.h>

#include "atlas/table_print.h"
#include "core/number.h"

#define DEFAULT_WIDTH 80
#define MIN_WIDTH 40
#define SHOWN_MOST 24   /* rows of a table that has more than MIXT_TABLE_TELL_MOST */
#define NAME_COLUMNS 28 /* of names that a trace gives; words are ours, and short enough */
#define GAP 2           /* columns between columns */

/* What stands below one head: a column of the table, or both ends of an interval. */
typedef struct shown {
    int column;
    int high;     /* the other end; -1: it is no interval */
    int decimals; /* of numbers, the same for all of a group */
    int width;
    bool name; /* names something: to the left */
} shown;

typedef struct printer {
    const mixt_table *table;
    mixt_buffer *out;
    int width;
    uint64_t rows[MIXT_TABLE_TELL_MOST];
    int row_count;
    shown shown[MIXT_TABLE_MAX_COLUMNS];
    int shown_count;
    int keys;    /* of them, in front */
    bool marked; /* a row lies apart from its levels */
} printer;

static bool is_share(const mixt_column *column)
{
    return column->kind == MIXT_COLUMN_SHARE;
}

/* 1 where the whole interval lies above every level of the group, -1 below, else 0. */
static int apart(const mixt_table *table, uint64_t row, int group)
{
    double low = mixt_table_value(table, row, mixt_table_find(table, MIXT_ROLE_LOW, group));
    double high = mixt_table_value(table, row, mixt_table_find(table, MIXT_ROLE_HIGH, group));
    double random = mixt_table_value(table, row, mixt_table_find(table, MIXT_ROLE_RANDOM, group));
    double use = mixt_table_value(table, row, mixt_table_find(table, MIXT_ROLE_USE, group));
    if (isnan(low) || isnan(high) || (isnan(random) && isnan(use))) {
        return 0;
    }
    return low > fmax(random, use) ? 1 : high < fmin(random, use) ? -1 : 0;
}

/* How many decimals tell the least p of so many draws, which is rounded up. */
static void least_p(double value, int draws, mixt_buffer *out)
{
    double unit = draws < 100 ? 1000 : 10000;
    mixt_buffer_format(out, "\xe2\x89\xa4%.*f", draws < 100 ? 3 : 4, ceil(value * unit) / unit);
}

static void number(const printer *p, const shown *s, const mixt_column *column, double value,
                   mixt_buffer *out)
{
    int draws = column->role == MIXT_ROLE_P ? p->table->draws : 0;
    bool probability = column->role == MIXT_ROLE_P || column->role == MIXT_ROLE_Q;
    if (!isfinite(value)) {
        mixt_buffer_text(out, "-");
    } else if (draws > 0 && value <= 1.0 / (1 + draws)) {
        least_p(value, draws, out);
    } else if (probability && value < 0.0001) {
        mixt_buffer_text(out, "<0.0001");
    } else if (probability) {
        mixt_buffer_format(out, "%.4f", value);
    } else if (column->kind == MIXT_COLUMN_COUNT) {
        mixt_buffer_format(out, "%.0f", value);
    } else {
        mixt_buffer_format(out, "%.*f", s->decimals, is_share(column) ? 100 * value : value);
    }
}

static void cell_text(const printer *p, const shown *s, uint64_t row, mixt_buffer *out)
{
    static const char *const marks[] = {"\xe2\x96\xbc", " ", "\xe2\x96\xb2"}; /* U+25BC, U+25B2 */
    const mixt_column *column = &p->table->columns[s->column];
    double value = mixt_table_value(p->table, row, s->column);
    if (s->name) {
        mixt_table_name(p->table, s->column, value, MIXT_DISPLAY_PLAIN, out);
        return;
    }
    number(p, s, column, value, out);
    if (s->high >= 0 && isfinite(value)) {
        mixt_buffer_text(out, " \xe2\x80\x93 ");
        number(p, s, column, mixt_table_value(p->table, row, s->high), out);
    }
    if (column->role == MIXT_ROLE_VALUE && p->marked) {
        mixt_buffer_text(out, " ");
        mixt_buffer_text(out, marks[1 + apart(p->table, row, column->group)]);
    }
}

static void head_text(const printer *p, const shown *s, mixt_buffer *out)
{
    const mixt_column *column = &p->table->columns[s->column];
    if (s->high >= 0) {
        mixt_buffer_text(out, "95 % interval");
        return;
    }
    for (const char *c = column->name; *c != '\0'; c++) {
        mixt_buffer_append(out, *c == '_' ? " " : c, 1);
    }
    /* Levels stand behind their value, whose head says it. */
    if (is_share(column) && column->role != MIXT_ROLE_RANDOM && column->role != MIXT_ROLE_USE) {
        mixt_buffer_text(out, " %");
    } else if (column->unit != NULL && column->unit[0] != '\0' && column->role == MIXT_ROLE_VALUE &&
               strcmp(column->unit, column->name) != 0) {
        mixt_buffer_format(out, ", %s", column->unit);
    }
}

/* Columns that the head (row NULL) or a cell takes. */
static int columns_of(const printer *p, const shown *s, const uint64_t *row)
{
    mixt_buffer text = {0};
    if (row == NULL) {
        head_text(p, s, &text);
    } else {
        cell_text(p, s, *row, &text);
    }
    int columns = text.data != NULL ? mixt_display_columns(text.data, text.length) : 0;
    p->out->failed |= text.failed;
    mixt_buffer_free(&text);
    return columns;
}

static void put(const printer *p, const shown *s, const uint64_t *row)
{
    mixt_buffer text = {0};
    if (row == NULL) {
        head_text(p, s, &text);
    } else {
        cell_text(p, s, *row, &text);
    }
    mixt_buffer_append(&text, "", 1);
    if (text.failed) {
        p->out->failed = true;
    } else if (s->name) {
        mixt_display_fit(p->out, text.data, s->width);
    } else {
        int columns = mixt_display_columns(text.data, text.length - 1);
        mixt_buffer_format(p->out, "%*s%s", s->width > columns ? s->width - columns : 0, "",
                           text.data);
    }
    mixt_buffer_free(&text);
}

/* Digits for the largest number that the shown rows have in the columns of a group and kind. */
static int decimals(const printer *p, const mixt_column *like)
{
    double largest = 0;
    for (int c = 0; c < p->table->column_count; c++) {
        const mixt_column *column = &p->table->columns[c];
        bool alike = column->group == like->group && column->kind == like->kind &&
                     column->role != MIXT_ROLE_KEY && column->role < MIXT_ROLE_P;
        for (int i = 0; alike && i < p->row_count; i++) {
            double value = mixt_table_value(p->table, p->rows[i], c);
            largest = isfinite(value) ? fmax(largest, fabs(value)) : largest;
        }
    }
    if (is_share(like)) {
        return largest < 0.01 ? 3 : largest < 0.1 ? 2 : 1;
    }
    return mixt_table_decimals(largest);
}

static void choose_columns(printer *p)
{
    const mixt_table *table = p->table;
    for (int pass = 0; pass < 2; pass++) { /* keys in front */
        for (int c = 0; c < table->column_count; c++) {
            const mixt_column *column = &table->columns[c];
            bool key = column->role == MIXT_ROLE_KEY;
            int low = mixt_table_find(table, MIXT_ROLE_LOW, column->group);
            if (key != (pass == 0) || (column->role == MIXT_ROLE_HIGH && low >= 0)) {
                continue;
            }
            bool interval = column->role == MIXT_ROLE_LOW;
            p->shown[p->shown_count++] = (shown){
                .column = c,
                .high = interval ? mixt_table_find(table, MIXT_ROLE_HIGH, column->group) : -1,
                .decimals = decimals(p, column),
                .name = column->kind <= MIXT_COLUMN_WORD,
            };
        }
        p->keys = pass == 0 ? p->shown_count : p->keys;
    }
    for (int i = 0; i < p->shown_count; i++) {
        shown *s = &p->shown[i];
        s->width = columns_of(p, s, NULL);
        for (int r = 0; r < p->row_count; r++) {
            int columns = columns_of(p, s, &p->rows[r]);
            s->width = columns > s->width ? columns : s->width;
        }
        bool given = s->name && p->table->columns[s->column].kind != MIXT_COLUMN_WORD;
        s->width = given && s->width > NAME_COLUMNS ? NAME_COLUMNS : s->width;
    }
}

/* Keys, then the shown columns [begin, end). */
static void print_line(const printer *p, int begin, int end, const uint64_t *row)
{
    for (int i = 0; i < p->shown_count; i++) {
        if (i < p->keys || (i >= begin && i < end)) {
            mixt_buffer_format(p->out, "%*s", i > 0 ? GAP : 0, "");
            put(p, &p->shown[i], row);
        }
    }
    while (p->out->length > 0 && p->out->data[p->out->length - 1] == ' ') {
        p->out->length--;
    }
    mixt_buffer_text(p->out, "\n");
}

/* Behind the last shown column of a block that begins at `begin`: as many as fit beside `keys`
 * columns, and of the last value all that belongs to it, where another value is in front. */
static int block_end(const printer *p, int begin, int keys)
{
    int end = begin, width = keys;
    while (end < p->shown_count && (end == begin || width + p->shown[end].width <= p->width)) {
        width += p->shown[end++].width + GAP;
    }
    int value = end;
    while (value > begin && value < p->shown_count &&
           p->table->columns[p->shown[value].column].role != MIXT_ROLE_VALUE) {
        value--;
    }
    bool support =
        end < p->shown_count && p->table->columns[p->shown[end].column].role == MIXT_ROLE_SUPPORT;
    return value > begin && !support ? value : end;
}

static void print_blocks(const printer *p)
{
    int keys = 0;
    for (int i = 0; i < p->keys; i++) {
        keys += p->shown[i].width + GAP;
    }
    int begin = p->keys;
    do {
        int end = block_end(p, begin, keys);
        mixt_buffer_text(p->out, begin > p->keys ? "\n" : "");
        print_line(p, begin, end, NULL);
        for (int r = 0; r < p->row_count; r++) {
            print_line(p, begin, end, &p->rows[r]);
        }
        begin = end;
    } while (begin < p->shown_count);
}

static void paragraph(const printer *p, const char *text)
{
    if (text != NULL && text[0] != '\0') {
        mixt_display_wrapped(p->out, text, p->width);
    }
}

static void print_help(const printer *p)
{
    mixt_buffer help = {0};
    for (int c = 0; c < p->table->column_count; c++) {
        const mixt_column *column = &p->table->columns[c];
        if (column->help != NULL && column->help[0] != '\0') {
            mixt_buffer_format(&help, "%s%s: %s.", help.length > 0 ? " " : "", column->name,
                               column->help);
        }
    }
    mixt_buffer_append(&help, "", 1);
    paragraph(p, help.failed ? "" : help.data);
    p->out->failed |= help.failed;
    mixt_buffer_free(&help);
}

static void print_notes(const printer *p)
{
    if ((uint64_t)p->row_count < p->table->rows) {
        mixt_buffer line = {0};
        mixt_buffer_format(&line, "Shown are %d of %llu rows, %s. JSON and CSV have all.",
                           p->row_count, (unsigned long long)p->table->rows,
                           mixt_table_is_course(p->table)
                               ? "evenly, of all layers"
                               : "those that lie furthest from their level");
        paragraph(p, line.failed ? "" : line.data);
        p->out->failed |= line.failed;
        mixt_buffer_free(&line);
    }
    print_help(p);
    paragraph(p, p->marked ? "\xe2\x96\xb2 \xe2\x96\xbc: the whole interval lies above, below "
                             "every level. Intervals are about documents like these."
                           : "");
    /* May quote a trace. */
    mixt_buffer note = {0};
    mixt_display_text(&note, mixt_table_note(p->table), MIXT_DISPLAY_PLAIN);
    mixt_buffer_append(&note, "", 1);
    paragraph(p, note.failed ? "" : note.data);
    p->out->failed |= note.failed;
    mixt_buffer_free(&note);
}

void mixt_table_text(const mixt_table *table, int width, mixt_buffer *out)
{
    int columns = width <= 0 ? DEFAULT_WIDTH : width < MIN_WIDTH ? MIN_WIDTH : width;
    printer p = {.table = table, .out = out, .width = columns};
    mixt_buffer_text(out, "\n");
    paragraph(&p, table->measure->title);
    paragraph(&p, table->measure->about);
    if (table->rows > MIXT_TABLE_TELL_MOST) {
        p.row_count = mixt_table_tell(table, SHOWN_MOST, p.rows);
    }
    for (uint64_t row = 0; row < table->rows && table->rows <= MIXT_TABLE_TELL_MOST; row++) {
        p.rows[p.row_count++] = row;
    }
    for (int i = 0; i < p.row_count; i++) {
        for (int c = 0; c < table->column_count; c++) {
            bool value = table->columns[c].role == MIXT_ROLE_VALUE;
            p.marked |= value && apart(table, p.rows[i], table->columns[c].group) != 0;
        }
    }
    choose_columns(&p);
    mixt_buffer_text(out, "\n");
    print_blocks(&p);
    print_notes(&p);
}
