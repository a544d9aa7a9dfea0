/* What every command shares: exit statuses, messages, the command table. */
#ifndef MIXT_CLI_CLI_H
#define MIXT_CLI_CLI_H

#include "mixt.h"
#include "options.h"

enum {
    STATUS_DONE = 0,
    STATUS_FAILED = 1,        /* the work could not be done */
    STATUS_REFUSED = 2,       /* bad input or usage */
    STATUS_INTERRUPTED = 130, /* by Ctrl-C */
};

extern const cli_command *const commands[]; /* ends with NULL */
extern const char *program_path;            /* how it was called, for commands to type */
const cli_command *command_find(const char *name);
/* What main does with a command line of at least one argument: for a child process that is to be
 * the program once more. */
int run_program(int argc, char **argv);
/* Refuses it, naming the command that it may be a slip of. */
int unknown_command(const char *name);

/* The exit status of a call that failed. */
int exit_status(mixt_status status);
/* "mixt NAME: message" on standard error; gives the status back. */
int fail_with(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for an error of the library: 2 for a refusal, 1 for a failure at work. */
int fail_error(const mixt_error *error);
/* What was said so last. */
const char *last_failure(void);
/* A refused option: adds "(see mixt help NAME)". */
int fail_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* What was wrong with the options, or with the machine that was to keep them. */
int options_refused(const cli_arguments *arguments);

/* Leaves a line of the program's own where the library leaves its; gives the status back. */
mixt_status set_error(mixt_error *error, mixt_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
mixt_status set_memory_error(mixt_error *error);
/* "PATH: " and what errno says. */
mixt_status set_io_error(mixt_error *error, const char *path);

/* Passes an error on, where nothing has to be released first. */
#define TRY(expression)                                                                            \
    do {                                                                                           \
        mixt_status status_ = (expression);                                                        \
        if (status_ != MIXT_OK) {                                                                  \
            return status_;                                                                        \
        }                                                                                          \
    } while (0)

/* Room for `wanted` elements of `size` bytes in a growing array; `array` is the address of the
 * caller's pointer, NULL at first. False without memory: then all stays as it was. */
bool list_grow(void *array, size_t *capacity, size_t wanted, size_t size);

/* Usage texts from the tables (usage.c). */
void usage_program(FILE *stream);
void usage_command(const cli_command *command, FILE *stream);
void usage_man(FILE *stream);
void usage_completion(FILE *stream);

#endif
