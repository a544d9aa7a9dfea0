/* Lines that a person types at a terminal: edited (libedit), with a history that lasts, completion,
 * and pastes of several lines as one. */
#ifndef MIXT_CLI_EDITOR_H
#define MIXT_CLI_EDITOR_H

#include "terminal.h"

typedef struct editor editor;

typedef struct editor_options {
    /* Words that begin a line, for completion: the one of this index, NULL behind the last, and
     * whether names of files are completed behind it. */
    const char *(*word)(int index, bool *takes_file);
    bool no_history; /* no file of it is read or written */
} editor_options;

/* Is there a terminal on both sides, and a locale that knows UTF-8? Else lines are read as they
 * come. */
bool editor_is_possible(void);
/* NULL without memory. A history that cannot be read or written is said on standard error. */
editor *editor_create(const editor_options *options);
void editor_free(editor *editor);
/* As terminal_read_line, between interrupt_begin and interrupt_end; the line may hold line breaks,
 * of a paste. What was typed before an interrupt is forgotten: `typed` says whether there was any.
 */
mixt_status editor_read(editor *editor, const char *prompt, input_line *line, bool *typed,
                        mixt_error *error);
/* Puts a text into the history, unless it is the last one there already. */
void editor_remember(editor *editor, const char *text);

#endif
