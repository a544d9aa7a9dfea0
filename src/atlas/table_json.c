/* A table as one JSON object. */
#include <math.h>
#include <stdlib.h>

#include "atlas/table_print.h"
#include "core/number.h"
#include "formats/safetensors.h"

static const char *const kinds[] = {"layer", "expert", "domain", "token",
                                    "word",  "count",  "number", "share"};
static const char *const roles[] = {"key",  "value", "random", "use",    "low",
                                    "high", "p",     "q",      "effect", "support"};

static void text(mixt_buffer *out, const char *key, const char *value)
{
    mixt_buffer_format(out, "%s: ", key);
    mixt_json_quote(out, value != NULL ? value : "");
}

static void describe(const mixt_table *table, mixt_buffer *out)
{
    mixt_buffer_text(out, "{\"format\": \"mixt-table\", \"version\": 1");
    text(out, ", \"measure\"", table->measure->name);
    text(out, ", \"title\"", table->measure->title);
    text(out, ",\n \"source\"", table->measure->source);
    text(out, ",\n \"about\"", table->measure->about);
    text(out, ",\n \"model\"", table->subject);
    mixt_buffer_text(out, ",\n \"columns\": [");
    for (int c = 0; c < table->column_count; c++) {
        const mixt_column *column = &table->columns[c];
        text(out, c == 0 ? "\n  {\"name\"" : ",\n  {\"name\"", column->name);
        text(out, ", \"kind\"", kinds[column->kind]);
        text(out, ", \"role\"", roles[column->role]);
        mixt_buffer_format(out, ", \"group\": %d", column->group);
        text(out, ", \"unit\"", column->unit);
        text(out, ", \"help\"", column->help);
        mixt_buffer_text(out, "}");
    }
    mixt_buffer_text(out, "]");
}

/* null: there is none; in a key: all, of words none. */
static void cell(const mixt_table *table, int column, double value, mixt_buffer *out)
{
    const mixt_column *c = &table->columns[column];
    bool key = c->kind <= MIXT_COLUMN_WORD;
    if (!isfinite(value) || (key && value < 0)) {
        mixt_buffer_text(out, "null");
    } else if (c->kind == MIXT_COLUMN_DOMAIN) {
        int domain = mixt_table_index(value, table->trace->info.domains);
        mixt_json_quote(out, domain >= 0 ? table->trace->domain_names[domain] : "");
    } else if (c->kind == MIXT_COLUMN_WORD) {
        mixt_buffer word = {0};
        mixt_table_name(table, column, value, MIXT_DISPLAY_PLAIN, &word);
        mixt_buffer_append(&word, "", 1);
        mixt_json_quote(out, word.failed ? "" : word.data);
        out->failed |= word.failed;
        mixt_buffer_free(&word);
    } else {
        char number[MIXT_NUMBER_SIZE];
        mixt_number_write(value, number);
        mixt_buffer_text(out, number);
    }
}

static void token_text(const mixt_table *table, int column, int token, mixt_buffer *out)
{
    mixt_buffer shown = {0};
    mixt_table_name(table, column, token, MIXT_DISPLAY_PLAIN, &shown);
    mixt_buffer_append(&shown, "", 1);
    mixt_buffer_format(out, "\"%d\": ", token);
    mixt_json_quote(out, shown.failed ? "" : shown.data);
    out->failed |= shown.failed;
    mixt_buffer_free(&shown);
}

/* The text of every token that stands in the rows, by its id. */
static void tokens(const mixt_table *table, mixt_buffer *out)
{
    int column = -1;
    for (int c = 0; c < table->column_count; c++) {
        column = table->columns[c].kind == MIXT_COLUMN_TOKEN ? c : column;
    }
    if (column < 0) {
        return;
    }
    bool *seen = calloc((size_t)table->trace->vocab_size + 1, sizeof *seen);
    if (seen == NULL) {
        out->failed = true;
        return;
    }
    for (int c = 0; c < table->column_count; c++) {
        if (table->columns[c].kind != MIXT_COLUMN_TOKEN) {
            continue;
        }
        for (uint64_t row = 0; row < table->rows; row++) {
            int token = mixt_table_index(mixt_table_value(table, row, c), table->trace->vocab_size);
            if (token >= 0) {
                seen[token] = true;
            }
        }
    }
    const char *gap = "";
    mixt_buffer_text(out, ",\n \"tokens\": {");
    for (int token = 0; token < table->trace->vocab_size; token++) {
        if (seen[token]) {
            mixt_buffer_text(out, gap);
            token_text(table, column, token, out);
            gap = ", ";
        }
    }
    mixt_buffer_text(out, "}");
    free(seen);
}

void mixt_table_json(const mixt_table *table, mixt_buffer *out)
{
    describe(table, out);
    mixt_buffer_text(out, ",\n \"rows\": [");
    for (uint64_t row = 0; row < table->rows && !out->failed; row++) {
        mixt_buffer_text(out, row == 0 ? "\n  [" : ",\n  [");
        for (int c = 0; c < table->column_count; c++) {
            mixt_buffer_text(out, c == 0 ? "" : ", ");
            cell(table, c, mixt_table_value(table, row, c), out);
        }
        mixt_buffer_text(out, "]");
    }
    mixt_buffer_text(out, "]");
    tokens(table, out);
    if (table->draws > 0) {
        mixt_buffer_format(out, ",\n \"draws\": %d", table->draws);
    }
    text(out, ",\n \"note\"", mixt_table_note(table));
    mixt_buffer_text(out, "}\n");
}
