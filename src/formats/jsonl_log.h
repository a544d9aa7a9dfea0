/* A log of one JSON object a line, for people, scripts and plots. Every line has an integer "step";
 * opening for step N drops the lines behind the last one whose step is at most N (and a line that a
 * dying process left half), so that a resumed run has each step once. */
#ifndef MIXT_FORMATS_JSONL_LOG_H
#define MIXT_FORMATS_JSONL_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "mixt.h"

typedef struct mixt_jsonl_log mixt_jsonl_log;

/* last_step -1 empties the file. */
mixt_status mixt_jsonl_open(const char *path, int64_t last_step, mixt_jsonl_log **log,
                            mixt_error *error);
/* Appends whole lines, each with its line break, in one write. After a failure the file ends where
 * it ended before, and a later append may succeed. */
mixt_status mixt_jsonl_append(mixt_jsonl_log *log, const char *lines, size_t length,
                              mixt_error *error);
/* To the disk: before a checkpoint, so that the log is never shorter than it. */
mixt_status mixt_jsonl_sync(mixt_jsonl_log *log, mixt_error *error);
void mixt_jsonl_close(mixt_jsonl_log *log);

#endif
