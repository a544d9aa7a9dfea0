/* Tables of measures in tests: cells by their keys, and fixtures that numpy made. */
#ifndef TESTS_MEASURE_FIXTURE_H
#define TESTS_MEASURE_FIXTURE_H

#include "mixt.h"

/* The table of one trace; the test fails where it is refused. */
mixt_table *measure_of(const mixt_trace *trace, const char *name,
                       const mixt_measure_options *options);

/* Column of that name; the test fails without. */
int measure_column(const mixt_table *table, const char *name);

/* Row with these cells in the first columns, up to `count`; -1. */
int64_t measure_row(const mixt_table *table, const double *keys, int count);

/* A cell by its row's keys; NaN where there is no such row. */
double measure_cell(const mixt_table *table, const double *keys, int count, const char *column);

/* Compares every line "TRACE MEASURE KEY KEY KEY COLUMN VALUE TOLERANCE" of the file (keys - where
 * there are no more; lines with # are passed over) with the tables of
 * tests/fixtures/atlas/TRACE.safetensors; returns how many there were. */
int measure_check_fixture(const char *path);

#endif
