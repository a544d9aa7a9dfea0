/* Tables in every format: what their printers share. */
#include "atlas/table_print.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "core/error.h"
#include "core/number.h"

int mixt_table_index(double value, int limit)
{
    return value >= 0 && value < limit ? (int)value : -1;
}

static void word_name(const mixt_column *column, double value, mixt_buffer *out)
{
    int index = 0;
    while (column->words != NULL && column->words[index] != NULL && index != (int)value) {
        index++;
    }
    bool known = column->words != NULL && value >= 0 && column->words[index] != NULL;
    mixt_buffer_text(out, known ? column->words[index] : "none");
}

void mixt_table_name(const mixt_table *table, int column, double value, int style, mixt_buffer *out)
{
    const mixt_column *c = &table->columns[column];
    const mixt_trace *trace = table->trace;
    if (isnan(value)) {
        mixt_buffer_text(out, "-");
    } else if (c->kind == MIXT_COLUMN_WORD) {
        word_name(c, value, out);
    } else if (c->kind == MIXT_COLUMN_DOMAIN) {
        int domain = mixt_table_index(value, trace->info.domains);
        mixt_display_name(out, domain >= 0 ? trace->domain_names[domain] : "all", style);
    } else if (c->kind == MIXT_COLUMN_TOKEN) {
        int token = mixt_table_index(value, trace->vocab_size);
        size_t length = 0;
        const uint8_t *bytes =
            token >= 0 ? mixt_trace_token_bytes(trace, token, &length) : (const uint8_t *)"";
        mixt_display_bytes(out, bytes, length, style | MIXT_DISPLAY_VISIBLE);
    } else if (value < 0 && (c->kind == MIXT_COLUMN_LAYER || c->kind == MIXT_COLUMN_EXPERT)) {
        mixt_buffer_text(out, "all");
    } else {
        mixt_buffer_format(out, "%.0f", value);
    }
}

int mixt_table_decimals(double largest)
{
    return largest < 0.01 ? 5 : largest < 0.1 ? 4 : largest < 10 ? 3 : largest < 100 ? 2 : 1;
}

/* Below 0: indistinguishable from its level, still ordered by the distance. */
static double at_most(double distance)
{
    return distance / (1 + distance) - 1;
}

/* Found rows come before the others, by the size of their effect that is sure: an effect is as much
 * smaller as the near end of its interval is nearer to the level than the value. */
static double telling(const mixt_table *table, uint64_t row)
{
    int effect = mixt_table_find(table, MIXT_ROLE_EFFECT, 0);
    int q = mixt_table_find(table, MIXT_ROLE_Q, 0);
    double value = mixt_table_value(table, row, mixt_table_find(table, MIXT_ROLE_VALUE, 0));
    double level = mixt_table_value(table, row, mixt_table_level(table, 0));
    double low = mixt_table_value(table, row, mixt_table_find(table, MIXT_ROLE_LOW, 0));
    double high = mixt_table_value(table, row, mixt_table_find(table, MIXT_ROLE_HIGH, 0));
    double distance = fabs(isnan(level) ? value : value - level);
    if (effect >= 0) {
        distance = fabs(mixt_table_value(table, row, effect));
    }
    if (isnan(distance)) {
        return -INFINITY;
    }
    double sure = 1; /* part of the distance */
    if (!isnan(level) && !isnan(low) && value != level) {
        sure = fmax(low - level, level - high) / fabs(value - level);
    }
    if (q >= 0 && !(mixt_table_value(table, row, q) <= 0.05)) {
        return at_most(distance);
    }
    return sure > 0 ? distance * sure : at_most(distance);
}

static int find_key(const mixt_table *table, int kind)
{
    for (int c = 0; c < table->column_count; c++) {
        if (table->columns[c].role == MIXT_ROLE_KEY && table->columns[c].kind == kind) {
            return c;
        }
    }
    return -1;
}

static int by_row(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

bool mixt_table_is_course(const mixt_table *table)
{
    return table->columns[0].role == MIXT_ROLE_KEY && table->columns[0].kind == MIXT_COLUMN_COUNT;
}

/* Of the rows over all layers, `of_all`, the first, the last and as many between, evenly. */
static int spread(const mixt_table *table, int layer, uint64_t of_all, int most, uint64_t *rows)
{
    uint64_t seen = 0, count = of_all < (uint64_t)most ? of_all : (uint64_t)most, taken = 0;
    for (uint64_t row = 0; row < table->rows && taken < count; row++) {
        if (mixt_table_value(table, row, layer) < 0) {
            if (seen == (count > 1 ? taken * (of_all - 1) / (count - 1) : 0)) {
                rows[taken++] = row;
            }
            seen++;
        }
    }
    return (int)taken;
}

int mixt_table_tell(const mixt_table *table, int most, uint64_t *rows)
{
    assert(most <= MIXT_TABLE_TELL_MOST);
    double score[MIXT_TABLE_TELL_MOST];
    int count = 0, layer = find_key(table, MIXT_COLUMN_LAYER);
    uint64_t of_all = 0;
    for (uint64_t row = 0; row < table->rows; row++) {
        of_all += mixt_table_value(table, row, layer) < 0;
    }
    if (mixt_table_is_course(table) && of_all > 0) {
        return spread(table, layer, of_all, most, rows);
    }
    for (uint64_t row = 0; row < table->rows; row++) {
        bool ahead = 4 * of_all <= 3 * (uint64_t)most && mixt_table_value(table, row, layer) < 0;
        double tells = ahead ? INFINITY : telling(table, row);
        int at = count;
        while (at > 0 && score[at - 1] < tells) {
            at--;
        }
        if (at == most) {
            continue;
        }
        count += count < most;
        for (int i = count - 1; i > at; i--) {
            score[i] = score[i - 1];
            rows[i] = rows[i - 1];
        }
        score[at] = tells;
        rows[at] = row;
    }
    if (find_key(table, MIXT_COLUMN_COUNT) >= 0) { /* parts of curves */
        qsort(rows, (size_t)count, sizeof *rows, by_row);
    }
    return count;
}

mixt_status mixt_table_print(const mixt_table *table, mixt_table_format format, int width,
                             FILE *stream, mixt_error *error)
{
    mixt_buffer out = {0};
    switch (format) {
    case MIXT_TABLE_TEXT:
        mixt_table_text(table, width, &out);
        break;
    case MIXT_TABLE_JSON:
        mixt_table_json(table, &out);
        break;
    case MIXT_TABLE_CSV:
        mixt_table_csv(table, &out);
        break;
    case MIXT_TABLE_SVG:
        mixt_table_figure(table, &out);
        break;
    default:
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "table: %d is no format", (int)format);
    }
    mixt_status status = MIXT_OK;
    if (out.failed) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "table: no memory");
    } else if (fwrite(out.data, 1, out.length, stream) != out.length || fflush(stream) != 0) {
        status = mixt_fail(error, MIXT_ERROR_IO, "table: cannot be written");
    }
    mixt_buffer_free(&out);
    return status;
}
