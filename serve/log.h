/* One line of JSON for each request, on standard error: who asked for what and what became of it,
 * without any text of theirs. */
#ifndef MIXT_SERVE_LOG_H
#define MIXT_SERVE_LOG_H

#include "generation.h"

typedef struct log_entry {
    const http_request *request;
    const http_outcome *outcome;
    const char *route;               /* of the table, NULL: none */
    const generation_counts *counts; /* NULL: nothing was generated */
    const generation_times *times;
    const char *code; /* of a refusal, or NULL */
} log_entry;

void log_request(const log_entry *entry);

#endif
