/* The numbers of a measure: rows by columns of doubles, which every printer reads alike. */
#ifndef MIXT_ATLAS_TABLE_H
#define MIXT_ATLAS_TABLE_H

#include "atlas/trace.h"

#define MIXT_TABLE_MAX_COLUMNS 24

struct mixt_table {
    const mixt_measure_info *measure;
    const mixt_trace *trace; /* names of domains and tokens; NULL where no column has any */
    char *subject;           /* what is measured: the trace's model, or a run's folder */
    const mixt_column *columns;
    int column_count;
    uint64_t rows;
    double *cells; /* [rows, column_count] */
    size_t capacity;
    int draws; /* that a p counts, the least of all rows; 0: none does */
    mixt_buffer note;
};

/* A table without rows; `columns` [count] live as long as the program. trace NULL: of what
 * `subject` names. NULL without memory. */
mixt_table *mixt_table_create(const mixt_measure_info *measure, const mixt_trace *trace,
                              const char *subject, const mixt_column *columns, int count);

/* A row of NaN behind the last, to be filled: its cells [column_count], valid until the next row.
 * NULL without memory. */
double *mixt_table_append(mixt_table *table);

/* The first column of a role and group; -1: none. */
int mixt_table_find(const mixt_table *table, mixt_column_role role, int group);

/* Fills the q of every group that has a p: Benjamini & Hochberg 1995 over the rows with a p. */
mixt_status mixt_table_discover(mixt_table *table, mixt_error *error);

#endif
