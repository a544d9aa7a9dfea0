#include "atlas/table.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

mixt_table *mixt_table_create(const mixt_measure_info *measure, const mixt_trace *trace,
                              const char *subject, const mixt_column *columns, int count)
{
    assert(count > 0 && count <= MIXT_TABLE_MAX_COLUMNS);
    mixt_table *table = calloc(1, sizeof *table);
    char *name = strdup(subject);
    if (table == NULL || name == NULL) {
        free(table);
        free(name);
        table = NULL;
    } else {
        table->measure = measure;
        table->trace = trace;
        table->subject = name;
        table->columns = columns;
        table->column_count = count;
    }
    return table;
}

void mixt_table_free(mixt_table *table)
{
    if (table != NULL) {
        mixt_buffer_free(&table->note);
        free(table->cells);
        free(table->subject);
        free(table);
    }
}

double *mixt_table_append(mixt_table *table)
{
    size_t columns = (size_t)table->column_count;
    size_t begin = (size_t)table->rows * columns;
    if (!mixt_grow(&table->cells, &table->capacity, begin + columns, sizeof *table->cells)) {
        return NULL;
    }
    table->rows++;
    for (size_t i = 0; i < columns; i++) {
        table->cells[begin + i] = NAN;
    }
    return table->cells + begin;
}

const mixt_measure_info *mixt_table_measure(const mixt_table *table)
{
    return table->measure;
}

int mixt_table_columns(const mixt_table *table, const mixt_column **columns)
{
    *columns = table->columns;
    return table->column_count;
}

uint64_t mixt_table_rows(const mixt_table *table)
{
    return table->rows;
}

double mixt_table_value(const mixt_table *table, uint64_t row, int column)
{
    if (row >= table->rows || column < 0 || column >= table->column_count) {
        return NAN;
    }
    return table->cells[row * (uint64_t)table->column_count + (uint64_t)column];
}

const char *mixt_table_note(const mixt_table *table)
{
    return table->note.data != NULL ? table->note.data : "";
}

int mixt_table_find(const mixt_table *table, mixt_column_role role, int group)
{
    for (int c = 0; c < table->column_count; c++) {
        if (table->columns[c].role == (int)role && table->columns[c].group == group) {
            return c;
        }
    }
    return -1;
}

typedef struct ranked {
    double p;
    uint64_t row;
} ranked;

static int by_p(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    return x->p != y->p ? (x->p > y->p) - (x->p < y->p) : (x->row > y->row) - (x->row < y->row);
}

/* q of rank i of n, from the largest p down: the least of p n / rank so far. */
static void adjust(mixt_table *table, ranked *order, int p, int q)
{
    uint64_t count = 0;
    for (uint64_t row = 0; row < table->rows; row++) {
        double value = mixt_table_value(table, row, p);
        if (!isnan(value)) {
            order[count++] = (ranked){value, row};
        }
    }
    qsort(order, count, sizeof *order, by_p);
    double least = 1;
    for (uint64_t i = count; i-- > 0;) {
        double adjusted = order[i].p * (double)count / (double)(i + 1);
        least = adjusted < least ? adjusted : least;
        table->cells[order[i].row * (uint64_t)table->column_count + (uint64_t)q] = least;
    }
}

mixt_status mixt_table_discover(mixt_table *table, mixt_error *error)
{
    ranked *order = calloc(table->rows + 1, sizeof *order);
    if (order == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "measure %s: no memory", table->measure->name);
    }
    for (int p = 0; p < table->column_count; p++) {
        if (table->columns[p].role == MIXT_ROLE_P) {
            int q = mixt_table_find(table, MIXT_ROLE_Q, table->columns[p].group);
            assert(q >= 0);
            adjust(table, order, p, q);
        }
    }
    free(order);
    return MIXT_OK;
}
