/* Options of models that are larger than memory, and what is said of them. */
#ifndef MIXT_CLI_STORE_H
#define MIXT_CLI_STORE_H

#include "cli.h"

typedef struct store_settings {
    const char *memory; /* "auto", "all" or a size */
    const char *policy, *profile;
    int prefetch; /* mixt_store_prefetch */
    int reader;   /* mixt_store_reader */
    bool report;
} store_settings;

extern const cli_option options_store[]; /* store_settings */

store_settings store_defaults(void);
/* Bytes of "12G", "800 MB", "12.5 GiB"; a number alone is GB. False: it is no size. */
bool store_size(const char *text, uint64_t *bytes);
/* Refuses values that mean nothing, and options that do nothing beside each other; `no_mmap`: the
 * command reads weights into memory. The exit status. */
int store_check(const store_settings *settings, const cli_arguments *arguments, bool no_mmap);
/* Whether the options leave a model as it was opened. */
bool store_is_off(const store_settings *settings);
/* Holds an opened model within the memory that was asked for, and says so. Under "auto" a model
 * that cannot be stored stays mapped, which is said too. */
mixt_status store_model(const store_settings *settings, mixt_model *model, mixt_error *error);
/* How it would be held, on standard output; nothing is read. */
mixt_status store_print_plan(const char *memory, const mixt_model *model, bool json,
                             mixt_error *error);
/* Says, in one line, that `context` positions of a text, and `positions` of a cache for several (0:
 * there is one), are what fits of those that are usual. `asked`: the context's option. */
typedef struct store_context {
    int asked, context, sequences;
    int64_t positions_asked, positions;
} store_context;

void store_say_context(const mixt_model *model, const store_context *is);
/* The report, on standard error. */
void store_print_report(const mixt_model *model);
/* An object of all members, on standard output; NULL: null. */
void store_print_json(const mixt_store_statistics *statistics);
/* What was counted since `before`. */
void store_subtract(mixt_store_statistics *statistics, const mixt_store_statistics *before);

#endif
