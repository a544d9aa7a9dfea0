/* The terminal: colours, width, progress lines, numbers for people. */
#ifndef MIXT_CLI_TERMINAL_H
#define MIXT_CLI_TERMINAL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "mixt.h"

#include "interrupt.h"

typedef struct input_line {
    char *text; /* with its line break and a NUL behind it */
    size_t capacity;
    ssize_t length; /* -1: there is none, by the end of the input or an interrupt */
} input_line;

typedef enum color_choice { COLOR_AUTO, COLOR_ALWAYS, COLOR_NEVER } color_choice;

bool terminal_color(int choice, FILE *stream);
/* Columns of the terminal, 80 where there is none. */
int terminal_width(FILE *stream);
bool terminal_is_one(FILE *stream);
/* interrupt_read_line, with a prompt on standard error where standard input is a terminal. */
mixt_status terminal_read_line(const char *prompt, input_line *line, mixt_error *error);
double terminal_seconds(void); /* a clock that only goes forward */

/* One progress line on standard error: redrawn in place on a terminal, else a plain line now and
 * then. */
typedef struct progress_line {
    const char *label;
    double started, shown;
    bool on_terminal;
    bool drawn; /* a line stands there unfinished */
} progress_line;

void progress_begin(progress_line *progress, const char *label);
/* Draws "label  37%|###    | detail"; at most ten times a second. */
void progress_draw(progress_line *progress, double share, const char *detail);
/* mixt_progress with a progress as user; false after an interrupt. */
bool progress_callback(void *user, double done, double total);
/* Clears the line, so that other output can follow. */
void progress_end(progress_line *progress);

/* "0:07", "12:30", "1:02:03" */
void format_seconds(double seconds, char text[24]);
/* "1,234,567" */
void format_count(uint64_t count, char text[32]);
/* What stands behind a word: "1 token", "2 tokens" */
const char *plural(uint64_t count);
/* "1.5 MB" */
void format_bytes(double bytes, char text[24]);
/* The shortest decimal that reads back as the same number: 0.0003 */
enum { NUMBER_SIZE = 40 };
void format_number(double value, char text[NUMBER_SIZE]);
/* A word as a shell reads it, in quotes where it has to be; terminals act on nothing in it. */
void print_shell_word(FILE *stream, const char *text);
/* A JSON string with its quotes, escaped, also what terminals act on: JSON that is shown is safe.
 */
void print_json_text(FILE *stream, const char *text);
/* null for what is not finite, which JSON has no number for. A measure has nine digits: the rest of
 * them would be noise. */
void print_json_number(FILE *stream, double value);
void print_json_measure(FILE *stream, double value);
/* Prints a message that holds names or paths, so that a terminal acts on nothing in it: one line
 * (mixt_text_plain), or a part of one where the format does not end in a line feed. */
void say(FILE *stream, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
