/* Tokens of a trace in memory on their way into a trace writer. */
#ifndef MIXT_ATLAS_TRACE_COPY_H
#define MIXT_ATLAS_TRACE_COPY_H

#include "atlas/trace.h"
#include "atlas/trace_writer.h"

/* What a writer of traces with the same shapes and tensors is made with; token_bytes, vocabulary
 * and domains are the caller's to fill in. Points into the trace. */
mixt_trace_header mixt_trace_header_of(const mixt_trace *trace);

typedef struct mixt_trace_copier mixt_trace_copier;

/* Tokens [begin, end) of one document, which is `document` of `domain` where they go to. */
typedef struct mixt_trace_part {
    uint64_t begin, end;
    int32_t document;
    int domain;
} mixt_trace_part;

mixt_status mixt_trace_copier_create(const mixt_trace *trace, mixt_trace_copier **copier,
                                     mixt_error *error);
mixt_status mixt_trace_copier_append(mixt_trace_copier *copier, const mixt_trace_part *part,
                                     mixt_trace_writer *writer, mixt_error *error);
void mixt_trace_copier_free(mixt_trace_copier *copier);

#endif
