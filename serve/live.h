/* The live record of routing: events of all requests in one ring, from which each listener reads as
 * fast as it can. Who is slow misses events and is told how many; who generates never waits, and
 * leaves events out where writing them would take more than LIVE_SHARE of its time. */
#ifndef MIXT_SERVE_LIVE_H
#define MIXT_SERVE_LIVE_H

#include "http.h"

#define LIVE_SHARE 0.01

typedef struct live_hub live_hub;
typedef struct live_listener live_listener;

live_hub *live_create(size_t bytes, int listeners_max);
void live_free(live_hub *hub);
/* Whether there is anybody to write for, and time to. The time of an event is measured from here to
 * live_publish. */
bool live_begin(live_hub *hub);
/* One line of JSON, without its newline. */
void live_publish(live_hub *hub, const char *line, size_t length);
/* A comment to listeners that wait, so that nobody between takes the connection for dead. */
void live_tick(live_hub *hub);
/* Ends the streams of listeners that are gone; to be called about once a second. */
void live_watch(live_hub *hub);
/* Every listener's stream ends. */
void live_close(live_hub *hub);

/* Experts of one token: ids and weights [layers, chosen], id -1 for none; margins [layers], NaN for
 * none. ids NULL: they are not known. */
typedef struct token_routes {
    int layers, chosen;
    int32_t *ids;
    float *weights, *margins;
} token_routes;

/* As two members of an object: "layers", for each [[id, weight], ...] as far as it chose, null in
 * front of others for a choice that went to no expert; "margins", a number for each, or null. */
void text_routes(text_buffer *text, const token_routes *routes);

/* NULL: no memory, or too many. */
live_listener *live_listen(live_hub *hub, http_request *request);
/* Server-sent events into `bytes`; 0: *end, or the request sleeps. */
size_t live_read(live_listener *listener, char *bytes, size_t size, bool *end);
void live_leave(live_listener *listener);

#endif
