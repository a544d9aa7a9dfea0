/* Options: one table for each command drives parsing, config files, usage text, the man page and
 * shell completion. A row says where in the command's settings the value goes, so that a command
 * reads plain struct fields and its defaults are those of its settings. */
#ifndef MIXT_CLI_OPTIONS_H
#define MIXT_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Values given one by one or several behind one switch; points into argv or kept strings. */
typedef struct string_list {
    const char **items;
    size_t count;
} string_list;

typedef enum option_kind {
    OPTION_FLAG,   /* bool: --name, --no-name, --name=true|false */
    OPTION_INT,    /* int */
    OPTION_LONG,   /* int64_t */
    OPTION_SEED,   /* uint64_t; -1 draws one */
    OPTION_NUMBER, /* double, finite */
    OPTION_TEXT,   /* const char * */
    OPTION_CHOICE, /* int: place in `choices`, which follows an enum of mixt.h */
    OPTION_LIST,   /* string_list */
} option_kind;

typedef struct cli_option {
    const char *name; /* long name with dashes */
    char letter;      /* short name or 0 */
    option_kind kind;
    size_t offset;       /* of the field in its group's struct */
    double low, high;    /* range of numbers, both included */
    const char *choices; /* OPTION_CHOICE: words separated by spaces; OPTION_TEXT: may be empty */
    const char *value;   /* what usage calls the value: N, FILE */
    const char *help;
    const char *aliases;  /* other long names, separated by spaces (nanoGPT's, llama.cpp's) */
    const char *fallback; /* what usage says about the default where the field cannot tell */
} cli_option;

typedef struct cli_group {
    const char *title;
    const cli_option *options; /* ends with a row without name */
    size_t offset; /* of the struct that the rows' offsets count from, in the settings */
} cli_group;

typedef struct cli_arguments cli_arguments;

typedef struct cli_command {
    const char *name;
    const char *summary;     /* one line */
    const char *synopsis;    /* behind "mixt name" */
    const char *about;       /* a paragraph for help and man page */
    const char *examples;    /* lines, or NULL */
    const char *positional;  /* option that takes arguments without a switch, or NULL */
    const cli_group *groups; /* ends with a group without title */
    size_t settings_size;
    void (*defaults)(void *settings);
    int (*run)(void *settings, cli_arguments *arguments); /* returns the exit status */
} cli_command;

/* One command line with what belongs to it while the command runs. */
struct cli_arguments {
    const cli_command *command;
    void *settings;
    char **kept; /* strings from config files */
    size_t kept_count;
    const char *config; /* config file being read: lists it gave are replaced by the command line */
    int line;
    const cli_option **from_config; /* lists that hold config values */
    size_t from_config_count;
    int argc; /* what options_parse was given */
    char **argv;
    bool help;         /* --help was there */
    char message[700]; /* one line without the program's name */
    bool failed;       /* not what was asked for is at fault, but the machine */
};

/* Fills settings from defaults and argv (behind the command's name). false: message is set. */
bool options_parse(cli_arguments *arguments, int argc, char **argv);
/* Again from the defaults: first the config file at `path`, then the same argv over it. */
bool options_parse_over(cli_arguments *arguments, const char *path);
/* The reverse: every option of the groups whose title is not in `without`, one a line. */
void options_write_config(const cli_command *command, const void *settings, const char *without,
                          FILE *stream);
/* Back to the defaults, with nothing kept. */
void options_reset(cli_arguments *arguments);
void options_free(cli_arguments *arguments);

/* The option of a (long, alias or underscored) name, and where its value lies. */
const cli_option *options_find(const cli_command *command, const char *name, size_t length,
                               size_t *offset);
/* The value of an option as text, the way a config file would say it. */
void options_format(const cli_option *option, const void *field, char *text, size_t size);

/* The known word nearest to `word` by edit distance, or NULL: candidates come from `next`. */
bool options_similar(const char *word, const char *candidate);

bool text_is_utf8(const char *text, size_t length);

#endif
