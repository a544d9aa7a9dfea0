/* HTTP/1.1 over libmicrohttpd, which http.c alone knows: one thread with an event loop reads
 * requests, checks them strictly and hands them on whole; replies come at once, later (the request
 * sleeps until somebody wakes it) or piece by piece as fast as the client reads. */
#ifndef MIXT_SERVE_HTTP_H
#define MIXT_SERVE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text.h"

typedef struct http_server http_server;
typedef struct http_connection http_connection;

/* One request; its texts live until `closed`. */
typedef struct http_request {
    const char *method;
    const char *path;  /* as it came, without the query; nothing is decoded */
    const char *query; /* behind the '?', or "" */
    const char *body;
    size_t body_length;
    char client[64]; /* address */
    uint64_t number; /* of this server, from 1 */
    int64_t began;   /* http_now when its headers were there */
    void *user;      /* what the handler keeps; NULL at first */
    http_connection *connection;
} http_request;

typedef struct http_reply {
    int status;
    const char *content_type; /* NULL: JSON */
    const char *allow;        /* of status 405 */
    int retry_after;          /* seconds, 0: not said */
    text_buffer body;         /* taken */
    const unsigned char
        *fixed; /* in place of the body: bytes that stay where they are; may be NULL */
    size_t fixed_length;
    const char *etag;   /* of what may be kept and asked for again; NULL: nobody may keep it */
    const char *policy; /* Content-Security-Policy, or NULL */
} http_reply;

typedef enum http_progress {
    HTTP_ANSWERED, /* the reply is whole */
    HTTP_WAITS,    /* http_sleep was called; `answer` is called again once http_wake was */
    HTTP_STREAMS,  /* status and type are set, `read` gives the body */
} http_progress;

/* How a request ended. */
typedef struct http_outcome {
    int status;     /* that was sent; 0: none was */
    uint64_t bytes; /* of the body */
    bool whole;     /* the client has got all of it */
} http_outcome;

/* All are called by the server's thread alone. */
typedef struct http_handler {
    void *user;
    /* The headers are there, the body is not. True: it may come, up to *body_limit bytes. */
    bool (*begin)(void *user, http_request *request, size_t *body_limit, http_reply *reply);
    http_progress (*answer)(void *user, http_request *request, http_reply *reply);
    /* Up to `size` bytes of a stream. 0: *end is set, or http_sleep was called. */
    size_t (*read)(void *user, http_request *request, char *bytes, size_t size, bool *end);
    /* Once for each request, whatever became of it. */
    void (*closed)(void *user, http_request *request, const http_outcome *outcome);
    /* The reply to what the server itself refuses. */
    void (*refuse)(void *user, int status, const char *code, const char *message,
                   http_reply *reply);
} http_handler;

typedef struct http_limits {
    const char *host;           /* address or name to listen at */
    int port;                   /* 0: the system's serve_choice */
    int connections;            /* at once; more wait in the system's queue */
    size_t header_bytes;        /* of one request, its line included */
    int idle_seconds;           /* without a byte in either direction */
    int header_seconds;         /* for the headers of a request, whatever trickles in */
    int body_seconds;           /* for its body */
    const char *const *origins; /* whose pages may ask beside our own; "*": all */
    size_t origin_count;
    const char *const *names; /* further names that Host may have where only this machine may ask */
    size_t name_count;
} http_limits;

/* NULL: `problem` has the reason. */
http_server *http_start(const http_limits *limits, const http_handler *handler, char problem[300]);
int http_port(const http_server *server);
/* Ends every connection; no request may sleep any more. */
void http_stop(http_server *server);
/* Ends connections whose time for headers or body is over; to be called about once a second. */
void http_watch(http_server *server);
int http_connections(http_server *server);
/* Requests that are being answered. */
int http_requests(http_server *server);

/* Both under one lock of the handler's, so that no waking is lost: sleep in `answer` or `read`,
 * wake from any thread, once for each sleep and before `closed` was called. */
void http_sleep(http_request *request);
void http_wake(http_request *request);
/* Whether the client has closed its side, for requests that sleep; from any thread, before `closed`
 * was called. A request without a connection, of a test, is not gone. */
bool http_client_gone(const http_request *request);
/* A header's value, or NULL; in `begin` and `answer` alone. */
const char *http_header(const http_request *request, const char *name);
/* Milliseconds of a clock that never goes back. */
int64_t http_now(void);

#endif
