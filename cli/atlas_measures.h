/* mixt atlas --measure: tables of measures by name, on the terminal or one file for each. */
#ifndef MIXT_CLI_ATLAS_MEASURES_H
#define MIXT_CLI_ATLAS_MEASURES_H

#include "options.h"

typedef struct measures_settings {
    const char *names; /* "load,cache", "all"; NULL: none was asked for */
    const char *out;   /* folder; NULL: standard output */
    int format;        /* mixt_table_format */
    int shuffles;      /* 0: the library's */
    uint64_t seed;
    bool list;
} measures_settings;

extern const cli_option options_measures[];

/* Prints every measure with what it is. */
int list_measures(void);
/* The exit status. `paths` are the trace files. */
int run_measures(const measures_settings *settings, const string_list *paths);

#endif
