/* A model whose experts are on disk, as clients see it. */
#ifndef MIXT_SERVE_STORE_H
#define MIXT_SERVE_STORE_H

#include "mixt.h"
#include "text.h"

/* Metrics of a store, in Prometheus' text form. */
void store_metrics(const mixt_store_statistics *store, text_buffer *text);

/* A text that is costly to make and kept for a while. */
typedef struct store_survey {
    text_buffer text;
    int64_t made, took; /* milliseconds: http_now when it was done, how long it took; 0: never */
} store_survey;

#endif
