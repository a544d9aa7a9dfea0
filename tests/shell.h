/* The program as a person or a script meets it: shell lines in a folder of the test's own. */
#ifndef MIXT_TESTS_SHELL_H
#define MIXT_TESTS_SHELL_H

/* No child of a test may be silent for longer. */
enum { SHELL_TEXT_MAX = 1 << 18, SHELL_SECONDS_MAX = 60 };

extern char shell_folder[64];    /* below /tmp, while a group of tests runs */
extern char shell_program[4200]; /* BUILD/mixt */
extern char shell_out[SHELL_TEXT_MAX], shell_err[SHELL_TEXT_MAX];

/* A group's set-up and tear-down. */
int shell_make(void **state);
int shell_remove(void **state);
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

#endif
