#include "measure_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

mixt_table *measure_of(const mixt_trace *trace, const char *name,
                       const mixt_measure_options *options)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_table *table = NULL;
    if (mixt_measure(name, &trace, 1, options, &table, &error) != MIXT_OK) {
        fail_msg("%s: %s", name, error.message);
    }
    return table;
}

int measure_column(const mixt_table *table, const char *name)
{
    const mixt_column *columns;
    int count = mixt_table_columns(table, &columns);
    for (int c = 0; c < count; c++) {
        if (strcmp(columns[c].name, name) == 0) {
            return c;
        }
    }
    fail_msg("%s has no column %s", mixt_table_measure(table)->name, name);
    return -1;
}

int64_t measure_row(const mixt_table *table, const double *keys, int count)
{
    for (uint64_t row = 0; row < mixt_table_rows(table); row++) {
        int same = 0;
        while (same < count && mixt_table_value(table, row, same) == keys[same]) {
            same++;
        }
        if (same == count) {
            return (int64_t)row;
        }
    }
    return -1;
}

double measure_cell(const mixt_table *table, const double *keys, int count, const char *column)
{
    int64_t row = measure_row(table, keys, count);
    return row >= 0 ? mixt_table_value(table, (uint64_t)row, measure_column(table, column)) : NAN;
}

/* One trace and one measure of it at a time: lines of both lie together. */
typedef struct opened {
    char trace_name[32], measure_name[32];
    mixt_trace *trace;
    mixt_table *table;
} opened;

static void open_table(opened *at, const char *trace, const char *measure)
{
    mixt_error error = MIXT_ERROR_INIT;
    bool same = strcmp(at->trace_name, trace) == 0;
    if (same && strcmp(at->measure_name, measure) == 0) {
        return;
    }
    mixt_table_free(at->table);
    at->table = NULL;
    if (!same) {
        char path[128];
        mixt_trace_free(at->trace);
        at->trace = NULL;
        snprintf(path, sizeof path, "tests/fixtures/atlas/%s.safetensors", trace);
        assert_int_equal(mixt_trace_open(path, &at->trace, &error), MIXT_OK);
    }
    snprintf(at->trace_name, sizeof at->trace_name, "%s", trace);
    snprintf(at->measure_name, sizeof at->measure_name, "%s", measure);
    at->table = measure_of(at->trace, measure, NULL);
}

int measure_check_fixture(const char *path)
{
    opened at = {0};
    char line[512];
    int lines = 0, wrong = 0;
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        char trace[32], measure[32], key[3][32], column[32];
        double value, tolerance, keys[3];
        int count = 0;
        if (line[0] == '#') {
            continue;
        }
        assert_int_equal(sscanf(line, "%31s %31s %31s %31s %31s %31s %lf %lf", trace, measure,
                                key[0], key[1], key[2], column, &value, &tolerance),
                         8);
        while (count < 3 && strcmp(key[count], "-") != 0) {
            keys[count] = strtod(key[count], NULL);
            count++;
        }
        open_table(&at, trace, measure);
        double found = measure_cell(at.table, keys, count, column);
        if (!(fabs(found - value) <= tolerance) && wrong++ < 20) {
            print_error("%s is %.12g, within %g of %.12g in: %s", column, found, tolerance, value,
                        line);
        }
        lines++;
    }
    fclose(file);
    mixt_table_free(at.table);
    mixt_trace_free(at.trace);
    assert_int_equal(wrong, 0);
    return lines;
}
