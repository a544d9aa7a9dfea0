/* load.jsonl of a training run: how often each expert was chosen in some of its steps. */
#ifndef MIXT_ATLAS_LOAD_LOG_H
#define MIXT_ATLAS_LOAD_LOG_H

#include "atlas/trace.h"

typedef struct mixt_load_line {
    int64_t step, tokens; /* of the step */
    size_t counts;        /* where its [layers, experts] begin in the log's */
} mixt_load_line;

typedef struct mixt_load_log {
    int layers, experts;
    int *numbers; /* [layers], the model's */
    mixt_load_line *lines;
    size_t count, line_room;
    int64_t *counts;
    size_t count_room;
} mixt_load_log;

/* Reads a log, or that of a run's folder. Steps rise, and all lines are of the same layers and
 * experts; a last line without its end is of a run that is writing it, and is left alone. Release
 * with mixt_load_log_free, also after a refusal. */
mixt_status mixt_load_log_read(const char *path, mixt_load_log *log, mixt_error *error);
void mixt_load_log_free(mixt_load_log *log);

#endif
