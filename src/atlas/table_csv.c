/* A table as comma-separated values: RFC 4180, with a head line. */
#include <math.h>
#include <string.h>

#include "atlas/table_print.h"
#include "core/number.h"

/* A field of text. Spreadsheets compute what begins like a formula, so an apostrophe goes before
 * it. */
static void field(mixt_buffer *out, const char *value)
{
    bool formula = value[0] != '\0' && strchr("=+-@", value[0]) != NULL;
    if (!formula && strpbrk(value, ",\"\r\n'") == NULL) {
        mixt_buffer_text(out, value);
        return;
    }
    mixt_buffer_text(out, formula ? "\"'" : "\"");
    for (const char *c = value; *c != '\0'; c++) {
        mixt_buffer_append(out, c, 1);
        if (*c == '"') {
            mixt_buffer_text(out, "\"");
        }
    }
    mixt_buffer_text(out, "\"");
}

static void name(const mixt_table *table, int column, double value, mixt_buffer *out)
{
    mixt_buffer shown = {0};
    mixt_table_name(table, column, value, MIXT_DISPLAY_PLAIN, &shown);
    mixt_buffer_append(&shown, "", 1);
    field(out, shown.failed ? "" : shown.data);
    out->failed |= shown.failed;
    mixt_buffer_free(&shown);
}

static void cell(const mixt_table *table, int column, double value, mixt_buffer *out)
{
    int kind = table->columns[column].kind;
    if (!isfinite(value)) { /* an empty field: there is none */
        mixt_buffer_text(out, kind == MIXT_COLUMN_TOKEN ? "," : "");
        return;
    }
    if (kind <= MIXT_COLUMN_WORD && kind != MIXT_COLUMN_TOKEN) {
        name(table, column, value, out);
        return;
    }
    char number[MIXT_NUMBER_SIZE];
    mixt_number_write(value, number);
    mixt_buffer_text(out, number);
    if (kind == MIXT_COLUMN_TOKEN) {
        mixt_buffer_text(out, ",");
        name(table, column, value, out);
    }
}

void mixt_table_csv(const mixt_table *table, mixt_buffer *out)
{
    for (int c = 0; c < table->column_count; c++) {
        const char *head = table->columns[c].name;
        mixt_buffer_format(out, "%s%s", c == 0 ? "" : ",", head);
        if (table->columns[c].kind == MIXT_COLUMN_TOKEN) {
            mixt_buffer_format(out, ",%s_text", head);
        }
    }
    mixt_buffer_text(out, "\r\n");
    for (uint64_t row = 0; row < table->rows && !out->failed; row++) {
        for (int c = 0; c < table->column_count; c++) {
            mixt_buffer_text(out, c == 0 ? "" : ",");
            cell(table, c, mixt_table_value(table, row, c), out);
        }
        mixt_buffer_text(out, "\r\n");
    }
}
