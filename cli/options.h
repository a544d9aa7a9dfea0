/* Options: one table for each command drives parsing, config files, usage text, the man page and
 * shell completion. A row says where in the command's settings the value goes, so that a command
 * reads plain struct fields and its defaults are those of its settings. */
#ifndef MIXT_CLI_OPTIONS_H
#define MIXT_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { OPTIONS_LINE_MAX = 8190 }; /* bytes of a line of a config file */

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
    const char *aliases;  /* other names, separated by spaces (nanoGPT's, llama.cpp's): long ones
                             without their dashes, "-sys" for one that has a single dash */
    const char *fallback; /* what usage says about the default where the field cannot tell */
    bool ignored;         /* whatever the value is, it does nothing here */
    const char *bare;     /* OPTION_CHOICE: the word that the switch alone stands for */
    const char *synonyms; /* OPTION_CHOICE: "on=always off=never" */
} cli_option;

/* Where the value of an option was said last. */
typedef struct cli_given {
    const cli_option *option;
    const char *config; /* NULL: on the command line */
    int line;
    int order;     /* later ones win */
    char word[12]; /* its name as it was said, cut there */
} cli_given;

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
    bool leaves_files;       /* goes on when nobody reads its output any more */
    size_t settings_size;
    void (*defaults)(void *settings);
    int (*run)(void *settings, cli_arguments *arguments); /* returns the exit status */
    /* The same on the other ranks where a launcher started several, while rank 0 runs it (ranks.h);
     * NULL: it is refused there. */
    int (*work)(void *settings, cli_arguments *arguments);
    /* NULL, or what is done when all is read: options that are said in other words are put into
     * those of the command, and what cannot be obeyed is complained of (options_complain). */
    void (*translate)(void *settings, cli_arguments *arguments);
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
    bool help;        /* --help was there */
    const char *word; /* the name that stands there, until it is noted */
    cli_given *given;
    size_t given_count, given_capacity;
    int order;
    const char *complained; /* config file of the last complaint */
    size_t complaints;      /* bytes of them in the message */
    char message[8000];     /* one line without the program's name */
    bool failed;            /* not what was asked for is at fault, but the machine */
};

/* Fills settings from defaults and argv (behind the command's name). false: message is set. */
bool options_parse(cli_arguments *arguments, int argc, char **argv);
/* Reads a config file over what is there; options_parse comes after it. */
bool options_read(cli_arguments *arguments, const char *path);
/* The reverse: every option of the groups whose title is not in `without`, one a line. */
void options_write_config(const cli_command *command, const void *settings, const char *without,
                          FILE *stream);
/* Where an option was said, by its long name; NULL: nowhere. */
const cli_given *options_given(const cli_arguments *arguments, const char *name);
/* Was `name` said, and not before `other`? */
bool options_given_after(const cli_arguments *arguments, const char *name, const char *other);
/* Says that an option got its value by another one's wish. */
void options_mark(cli_arguments *arguments, const char *name);
/* Adds to the line of what is refused, which comes when all is read. `given` tells the place. */
void options_complain(cli_arguments *arguments, const cli_given *given, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Back to the defaults, with nothing kept. */
void options_reset(cli_arguments *arguments);
void options_free(cli_arguments *arguments);

/* The option of a (long, alias or underscored) name, and where its value lies. */
const cli_option *options_find(const cli_command *command, const char *name, size_t length,
                               size_t *offset);
/* The value of an option as text, the way a config file would say it. */
void options_format(const cli_option *option, const void *field, char *text, size_t size);

/* Letters by which two words differ (one left out, put in, changed, or two swapped), or -1 where
 * that is too much for a slip: a quarter of the longer word, at least 1 and at most 3. */
int options_distance(const char *word, const char *candidate);

bool text_is_utf8(const char *text, size_t length);

#endif
