/* Lines of a plain or zstd-compressed file, read as a stream in memory that grows with the longest
 * line only (at most MIXT_LINE_LIMIT). */
#ifndef MIXT_CORPUS_LINES_H
#define MIXT_CORPUS_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mixt.h"

#define MIXT_LINE_LIMIT ((size_t)64 << 20)
#define MIXT_ZSTD_WINDOW_LOG 27 /* zstd's own default limit: 128 MiB */

typedef struct mixt_lines mixt_lines;

typedef struct mixt_line {
    char *text; /* without its line feed, changeable, valid until the next call; NULL at the end */
    size_t length;
    uint64_t number; /* from 1 */
    bool too_long;   /* over MIXT_LINE_LIMIT: passed over, text is "" */
} mixt_line;

mixt_status mixt_lines_open(const char *path, bool compressed, mixt_lines **lines,
                            mixt_error *error);
void mixt_lines_close(mixt_lines *lines);
mixt_status mixt_lines_next(mixt_lines *lines, mixt_line *line, mixt_error *error);

#endif
