/* A program at a terminal of its own: what is typed, and what it shows. */
#ifndef MIXT_TESTS_PTY_H
#define MIXT_TESTS_PTY_H

#include <stddef.h>
#include <sys/types.h>

#include "shell.h"

typedef struct terminal {
    int master;
    pid_t child;
    char text[SHELL_TEXT_MAX]; /* what came so far */
    size_t length;
} terminal;

/* Starts a program in the scratch folder; argv ends with NULL. */
void open_terminal(terminal *t, const char *const *argv);
/* Reads until `part` came behind byte `from`; gives the place behind it. */
size_t wait_for(terminal *t, size_t from, const char *part);
void type_text(terminal *t, const char *text);
/* Reads until the program is gone; its status as shell() gives it. */
int close_terminal(terminal *t);

#endif
