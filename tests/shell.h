/* The program as a person or a script meets it: shell lines in the scratch folder, and processes.
 */
#ifndef MIXT_TESTS_SHELL_H
#define MIXT_TESTS_SHELL_H

#include <stddef.h>
#include <sys/types.h>

#include "build_folder.h"

/* No child of a test may be silent for longer, slow as the build and busy as the machine may be. */
enum { SHELL_TEXT_MAX = 1 << 18, SHELL_SECONDS_MAX = 180 };

extern char shell_program[BUILT_PATH_MAX]; /* BUILD/mixt */
extern char shell_out[SHELL_TEXT_MAX], shell_err[SHELL_TEXT_MAX];

/* A group's set-up; its tear-down is scratch_remove. */
int shell_make(void **state);
/* Runs lines of bash in the folder, where $MIXT is the program; gives the exit status, or 1000 and
 * the signal's number. What it wrote is in shell_out and shell_err. */
int shell(const char *lines);
/* The same where every command has to end with status 0 (bash -e); what follows `!`, `if` or `||`
 * may fail, so that a `!` stands last. */
void shell_do(const char *lines);
/* A file in the folder. */
void shell_write(const char *name, const char *text);
/* Trains a tiny model into run/ from text/ with two domains, once for each group. */
void shell_train(void);
void assert_has(const char *text, const char *part);
void assert_lacks(const char *text, const char *part);
/* Status 2, and one line on standard error that holds `part`. */
void shell_refuses(const char *lines, const char *part);

/* Waits for a child that ends by itself; its status as shell() gives it. */
int finish_child(pid_t child);
/* In a child: the file becomes this stream; ends it where that cannot be. */
void redirect_stream(const char *path, int flags, int descriptor);
/* The file as a string, cut at `size`. */
void read_text(const char *path, char *text, size_t size);

#endif
