/* Counters of the server, in Prometheus' text form. */
#ifndef MIXT_SERVE_METRICS_H
#define MIXT_SERVE_METRICS_H

#include <pthread.h>
#include <stdint.h>

#include "mixt.h"
#include "text.h"

enum { METRICS_BUCKETS = 14 };

typedef struct serve_metrics {
    pthread_mutex_t lock;
    uint64_t requests[6]; /* by hundreds of the status; [0]: no reply was sent */
    uint64_t refused_busy, cancelled, failed;
    uint64_t prompt_tokens, cached_tokens, drawn_tokens;
    double prompt_seconds, drawn_seconds; /* of orders, from begin to first token and from there */
    uint64_t first_token[METRICS_BUCKETS + 1]; /* histogram of seconds from queued */
    double first_token_sum;
    uint64_t steps;
    double step_seconds;
} serve_metrics;

void metrics_create(serve_metrics *metrics);
void metrics_destroy(serve_metrics *metrics);
void metrics_request(serve_metrics *metrics, int status);
void metrics_add(serve_metrics *metrics, uint64_t *counter, uint64_t value);
void metrics_first_token(serve_metrics *metrics, double seconds);
void metrics_step(serve_metrics *metrics, double seconds);
/* What one order did. */
void metrics_order(serve_metrics *metrics, const uint64_t tokens[3], double prompt_seconds,
                   double drawn_seconds);

/* What changes by itself. */
typedef struct metrics_state {
    int connections, requests, orders;
    const mixt_engine_statistics *engine;
    const mixt_store_statistics *store; /* NULL: the model is not stored */
} metrics_state;

void metrics_write(serve_metrics *metrics, const metrics_state *state, text_buffer *text);

#endif
