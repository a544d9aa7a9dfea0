/* Ctrl-C and SIGTERM while a command wants to end in order: the first one sets a flag, the second
 * ends the program at once. interrupt_end brings the system's habit back. */
#ifndef MIXT_CLI_INTERRUPT_H
#define MIXT_CLI_INTERRUPT_H

#include <stdbool.h>
#include <sys/types.h>

void interrupt_begin(void);
/* Ctrl-C ends nothing but what looks at interrupt_status, however often it is typed; until
 * interrupt_end. */
void interrupt_be_patient(bool is_patient);
void interrupt_end(void);
/* Signals wait until interrupt_undo (or the end): what is made meanwhile is not left behind. */
void interrupt_hold(void);
/* The reverse of what was made so far, where a signal ends the program before there is anything to
 * go on with: `file` goes (NULL: none), then `folder` and those above it down to the length
 * `first`, as far as they are empty. In force until interrupt_end; `file` stays. */
void interrupt_undo(const char *file, const char *folder, size_t first);
/* A folder and those above it, cut from the path one by one, down to the length `first` (0: none),
 * as far as they are empty. Calls only what a signal handler may. */
void remove_empty_folders(char *path, size_t first);
/* 0, or the exit status to end with: 130 after SIGINT, 143 after SIGTERM. */
int interrupt_status(void);
/* Forgets an interrupt that was dealt with. */
void interrupt_clear(void);
/* The longest line, and the longest prompt: a context of a million tokens of sixteen bytes. To
 * encode one costs some twenty times its bytes. */
enum { LINE_BYTES_MAX = 16 << 20 };

/* A line of standard input, as getline gives it, between interrupt_begin and interrupt_end. -1 at
 * the end (errno 0), where an interrupt came meanwhile or just before (EINTR), and where reading
 * failed (EMSGSIZE: more than LINE_BYTES_MAX). What was read ahead is kept here: nobody else may
 * read standard input afterwards. */
ssize_t interrupt_read_line(char **line, size_t *capacity);
/* The next byte of the same, for whoever edits lines: false at the end (errno 0), on an interrupt
 * (EINTR) and where reading failed. Where a signal of another kind came meanwhile `between` (NULL:
 * nothing) is called. */
bool interrupt_read_byte(unsigned char *byte, void (*between)(void));

#endif
