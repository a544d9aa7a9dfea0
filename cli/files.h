/* The few file operations that commands need beside the library's. */
#ifndef MIXT_CLI_FILES_H
#define MIXT_CLI_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "mixt.h"

/* Opens a regular file; anything else (folder, FIFO, device) is refused without ever blocking.
 * `what` receives the reason. */
mixt_status files_open(const char *path, FILE **file, char what[200]);
/* Whole file, or standard input for "-", up to `limit` bytes, malloc'd, with a NUL behind; `what`
 * as above. */
mixt_status files_read(const char *path, size_t limit, char **data, size_t *length, char what[200]);
bool files_is_folder(const char *path);
bool files_is_link(const char *path);
/* Whether there is something of this name, readable or not. */
bool files_exist(const char *path);
/* mkdir -p; false leaves errno. */
bool files_make_folder(const char *path);
/* Whether `output` is there and is `input`, or lies in that folder, whatever their spelling; NULL
 * is nothing. */
bool files_would_replace(const char *output, const char *input);
/* Whether two paths, of files that may not be there yet, are one place. */
bool files_are_one(const char *a, const char *b);
/* rm -r; links are removed, not followed. */
void files_remove(const char *path);
/* All that is in a folder but the entry `kept`. */
void files_remove_inside(const char *path, const char *kept);
/* Writes `path` by way of a synced neighbour and a rename. */
bool files_replace(const char *path, const char *data, size_t length);
/* Joins into `out`; false when it does not fit. */
bool files_join(char *out, size_t size, const char *folder, const char *name);

#endif
