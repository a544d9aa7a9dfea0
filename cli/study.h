/* A study: a spec (study_spec.c), its cells (study_cells.c), each a run of `mixt train` with its
 * scores and routes (study_cell.c), several at once (study_run.c), and what they say together
 * (study_results.c, study_table.c, study_page.c). */
#ifndef MIXT_CLI_STUDY_H
#define MIXT_CLI_STUDY_H

#include <sys/types.h>

#include "config.h"
#include "shared.h"
#include "study_statistics.h"

enum { STUDY_NAME_MAX = 120, STUDY_SEEDS_MAX = 64, STUDY_CELLS_MAX = 1024, STUDY_AXES_MAX = 8 };

/* The value of an option that a cell does not have, though all others do. */
#define STUDY_UNSET "unset"

/* Strings that live as long as the study. */
typedef struct study_strings {
    char **items;
    size_t count, capacity;
} study_strings;

/* An option of mixt train with its value, and the line that says it. */
typedef struct study_option {
    const char *name, *value;
    int line;
} study_option;

typedef struct study_options {
    study_option *items;
    size_t count, capacity;
} study_options;

typedef struct study_label {
    const char *name; /* what its cells are called by */
    const char *word; /* as the spec says it */
    study_options options;
} study_label;

typedef struct study_axis {
    const char *name;
    bool is_option; /* its words are values of the option of its name */
    study_label *labels;
    size_t count;
    int line;
} study_axis;

/* A combination that is left out: one of the words of each axis that it names. */
typedef struct study_skip {
    const char *text;
    int line;
} study_skip;

/* The numbers of one run, by their names, in the order of the names. */
typedef struct study_value {
    const char *name;
    double value;
} study_value;

typedef struct study_run {
    bool finished;
    study_value *values;
    size_t count, capacity;
    double seconds, tokens_per_second; /* of the clock: NAN where they are not known */
    double *curve;                     /* [curve_count, 2]: tokens and loss */
    size_t curve_count;
    const char *failure; /* a line, or NULL */
} study_run;

typedef struct study_cell {
    const char *name;
    const char **words; /* [axes]: of the spec; NULL in a cell that stands by itself */
    study_options options;
    int line;
    const char *published; /* what the works say of it, or NULL */
    const char *held_out;  /* what has to be known of its scores, or "" */
    const char *source;    /* name of the cell whose model it begins with, or NULL */
    /* what mixt train --dry-run says: */
    double parameters_total, parameters_active, moe_layers, experts, steps, tokens_per_step;
    double forward_flops, training_flops; /* for a token */
    double step_seconds;                  /* where it was measured */
    study_run *runs;                      /* [seeds] */
} study_cell;

/* A study that trains no language models: what its spec says of it. */
typedef struct study_task {
    const char *name; /* NULL: there is none */
    int line;
    uint64_t seed;
    int runs, threads;
} study_task;

typedef struct study {
    const char *path;
    char folder[4096]; /* of the spec */
    bool quick;
    study_strings strings;
    const char *name, *title, *question;
    string_list published; /* lines */
    const char *source;
    string_list data;
    study_options base;
    study_axis axes[STUDY_AXES_MAX];
    size_t axis_count;
    study_cell *cells;
    size_t cell_count, cell_capacity;
    study_skip *skips;
    size_t skip_count, skip_capacity;
    uint64_t seeds[STUDY_SEEDS_MAX];
    size_t seed_count;
    const char *baseline;
    int baseline_line;
    size_t baseline_cell;
    int64_t trace_tokens; /* of each domain */
    study_task task;
    char message[1000];
    bool failed; /* not the spec is at fault, but the machine */
} study;

/* How it is run. */
typedef struct study_settings {
    machine_settings machine;
    const char *spec;
    const char *out;
    string_list data;
    int jobs;
    bool quick;
    bool dry_run;
    bool redo;
} study_settings;

/* ---- study_spec.c, study_cells.c */

/* Reads a spec; with `quick`, its quick form. False: message is set. */
bool study_read(study *s, const char *path, bool quick);
void study_free(study *s);
/* A copy that lives as long as the study; NULL, and the message, without memory. */
const char *study_keep(study *s, const char *text, size_t length);
bool study_refuse(study *s, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
bool study_no_memory(study *s);
/* Sets an option in a list, in place of what it had. */
bool study_set(study *s, study_options *options, const study_option *option);
const char *study_value_of(const study_options *options, const char *name);
/* The number behind "NAME": in a JSON text that we wrote, NAN where there is none. */
double study_json_number(const char *text, const char *name);
/* The cells of all axes behind those that stand by themselves, with all options of each. */
bool study_expand(study *s);
/* Asks mixt train of each cell, which fills in its numbers; refuses by name what that refuses. */
bool study_check(study *s);
/* Measures a step of some cells, and reckons those of the others from their cost. */
void study_measure(study *s, int threads);
/* Threads of a run. */
int study_threads(const study_settings *settings);

/* ---- study_cell.c: one run */

/* The settings of a run, as a config file; NULL without memory. */
char *study_config(const study *s, const study_cell *cell, size_t seed, size_t *length);
/* "cells/NAME-seedN" */
void study_run_folder(const study *s, const study_cell *cell, size_t seed, char folder[300]);
/* In a child, in the study's folder: trains what is not trained, scores, traces, and leaves the
 * result file. The exit status. */
int study_work(const study *s, const study_cell *cell, size_t seed, int threads);
/* Reads the result, the log and the times of a run that is finished; false: the message is set. */
bool study_read_run(study *s, study_cell *cell, size_t seed);
/* Steps in the log of a run so far. */
int64_t study_steps_done(const study *s, const study_cell *cell, size_t seed);

/* ---- study_run.c */

/* A child that runs `work`; its standard output and error go to the descriptors. */
typedef int (*study_child_work)(void *user);
pid_t study_fork(study_child_work work, void *user, const int streams[2]);
/* Trains all that is not finished; the exit status. The working folder is the study's. */
int study_run_all(study *s, const study_settings *settings);

/* ---- study_results.c, study_table.c, study_page.c */

/* The numbers of a run by name; NAN where it has none. */
double study_number(const study_run *run, const char *name);
/* Mean, deviation and interval over the seeds that are finished. */
study_estimate study_mean(const study *s, const study_cell *cell, const char *name);
/* Of the differences to the baseline, seed by seed. */
study_estimate study_difference(const study *s, const study_cell *cell, const char *name);
/* Names of all numbers of all runs, in order; the caller frees the array. */
const char **study_names(const study *s, size_t *count);
void study_print_table(const study *s, FILE *stream);
void study_write_csv(const study *s, FILE *stream);
void study_write_json(const study *s, FILE *stream);
void study_write_times(const study *s, FILE *stream);
void study_write_page(const study *s, FILE *stream);

#endif
