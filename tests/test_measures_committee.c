/* Measures of committees, signatures, what experts tell jointly, and routes against numpy, from
 * tests/fixtures/atlas/committee.txt (tests/reference/atlas_committee.py). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "atlas_trace.h"
#include "measure_fixture.h"
#include "mixt.h"

#define SHUFFLES 200

/* The row whose key cells are those of "a:b:c"; -1: none. */
static int64_t row_of(const mixt_table *table, const char *keys)
{
    const mixt_column *columns;
    int count = mixt_table_columns(table, &columns);
    for (uint64_t row = 0; row < mixt_table_rows(table); row++) {
        const char *at = keys;
        bool same = true;
        for (int c = 0; c < count; c++) {
            if (columns[c].role == MIXT_ROLE_KEY) {
                char *end;
                double key = strtod(at, &end);
                same = same && key == mixt_table_value(table, row, c);
                at = *end == ':' ? end + 1 : end;
            }
        }
        if (same) {
            return (int64_t)row;
        }
    }
    return -1;
}

static mixt_table *measure(const char *name, const mixt_trace *trace, int shuffles)
{
    mixt_measure_options options = {.shuffles = shuffles, .seed = 3};
    mixt_error error = MIXT_ERROR_INIT;
    mixt_table *table = NULL;
    if (mixt_measure(name, &trace, 1, &options, &table, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    return table;
}

/* One line of the fixture; `table` is of its measure and trace. Returns whether it holds. */
static bool holds(const mixt_table *table, const char *line)
{
    char name[32], trace[32], keys[64], column[32];
    double value, tolerance;
    assert_int_equal(
        sscanf(line, "%31s %31s %63s %31s %lf %lf", name, trace, keys, column, &value, &tolerance),
        6);
    int c = measure_column(table, column);
    int64_t row = row_of(table, keys);
    double found = c >= 0 && row >= 0 ? mixt_table_value(table, (uint64_t)row, c) : NAN;
    bool right =
        isnan(value) ? c >= 0 && row >= 0 && isnan(found) : fabs(found - value) <= tolerance;
    if (!right) {
        print_error("%s %s %s %s: %.12g, not %.12g\n", name, trace, keys, column, found, value);
    }
    return right;
}

static void test_reference(void **state)
{
    (void)state;
    FILE *file = fopen("tests/fixtures/atlas/committee.txt", "r");
    char line[256], open_name[80] = "";
    mixt_trace *trace = NULL;
    mixt_table *table = NULL;
    int wrong = 0, lines = 0;
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        char name[32], of[32], path[80], both[80];
        mixt_error error = MIXT_ERROR_INIT;
        if (line[0] == '#') {
            continue;
        }
        assert_int_equal(sscanf(line, "%31s %31s", name, of), 2);
        snprintf(both, sizeof both, "%s %s", name, of);
        if (strcmp(both, open_name) != 0) {
            strcpy(open_name, both);
            mixt_table_free(table);
            mixt_trace_free(trace);
            snprintf(path, sizeof path, "tests/fixtures/atlas/%s.safetensors", of);
            assert_int_equal(mixt_trace_open(path, &trace, &error), MIXT_OK);
            table = measure(name, trace, SHUFFLES);
        }
        wrong += !holds(table, line);
        lines++;
    }
    mixt_table_free(table);
    mixt_trace_free(trace);
    fclose(file);
    assert_true(lines > 100);
    assert_int_equal(wrong, 0);
}

static const char *const measures[] = {"committee", "signatures", "joint", "persistence", "routes"};

/* Shapes at the edge: no crash, shares within [0, 1], intervals about their value. */
static void test_edges(void **state)
{
    (void)state;
    static const int chosen[] = {1, 3};
    static const atlas_trace_options shapes[] = {
        {.layers = 1, .experts = 1, .experts_per_token = 1, .domains = 1, .documents = 1},
        {.layers = 2, .experts = 3, .experts_per_token = 3, .domains = 2, .documents = 1},
        {.layers = 2,
         .experts = 5,
         .experts_per_token = 3,
         .domains = 2,
         .documents = 9,
         .chosen = chosen,
         .none = 0.9},
        {.layers = 3,
         .experts = 4,
         .experts_per_token = 2,
         .domains = 3,
         .documents = 2,
         .none = 1},
        {.layers = 1, .experts = 8, .experts_per_token = 2, .domains = 1, .documents = 30},
    };
    for (size_t m = 0; m < sizeof measures / sizeof *measures; m++) {
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            for (int tokens = 1; tokens <= 31; tokens += 30) {
                atlas_trace_options options = shapes[s];
                options.document_tokens = tokens;
                options.seed = 9;
                mixt_trace *trace = atlas_trace_make(&options);
                mixt_table *table = measure(measures[m], trace, 5);
                const mixt_column *columns;
                int count = mixt_table_columns(table, &columns);
                for (uint64_t row = 0; row < mixt_table_rows(table); row++) {
                    for (int c = 0; c < count; c++) {
                        double value = mixt_table_value(table, row, c);
                        assert_false(isinf(value));
                        if (columns[c].kind == MIXT_COLUMN_SHARE) {
                            assert_false(value < -1 || value > 1 + 1e-9);
                        }
                    }
                }
                mixt_table_free(table);
                mixt_trace_free(trace);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
