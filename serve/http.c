#include "http.h"

#include "intake.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    OVERRUN_MAX = 1 << 20, /* bytes beyond the body's limit that are read to reply at the end */
    ORIGIN_MAX = 255,
    LOOKED_AT_OFTEN = 1000, /* sockets; of more each is looked at once a second */
};

/* A socket and when what it is busy with began. */
typedef struct http_socket {
    struct http_socket *previous, *next;
    int descriptor;
    int64_t since;
    enum { SOCKET_HEADERS, SOCKET_BODY, SOCKET_REPLY } state;
    intake_state intake; /* of the bytes that came */
    uint64_t requests;   /* whose replies have begun or are over */
} http_socket;

struct http_connection {
    http_request request;
    http_server *server;
    struct MHD_Connection *handle;
    http_socket *socket;
    char *target; /* path and query are in it */
    text_buffer body;
    size_t body_limit, body_dropped;
    http_reply refusal; /* to be sent, where there is no body */
    bool refused, begun, handed;
    const char *origin; /* that asks and may, or "*"; NULL: none */
    bool preflight;     /* a browser asks whether its page may */
    http_outcome outcome;
};

struct http_server {
    http_limits limits;
    http_handler handler;
    struct MHD_Daemon *daemon;
    int port;
    bool loopback;        /* only this machine may ask, so that Host has to name it */
    pthread_mutex_t lock; /* of the sockets */
    http_socket *sockets;
    int socket_count, request_count;
    http_socket **watched; /* [watched_count] by descriptor; the event loop's own */
    size_t watched_count;
    uint64_t numbers;
    int64_t looked; /* http_now, when idle sockets were looked at last */
};

int64_t http_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- sockets */

static void set_state(http_connection *connection, int state)
{
    if (connection->socket != NULL) {
        pthread_mutex_lock(&connection->server->lock);
        connection->socket->state = state;
        connection->socket->since = http_now();
        pthread_mutex_unlock(&connection->server->lock);
    }
}

/* The server whose event loop this thread is. */
static _Thread_local http_server *of_this_thread;

/* A connection whose framing broke: what still comes is read, so that closing behind the reply does
 * not reset the connection and lose it on its way. */
static void read_rest(int descriptor)
{
    char bytes[4096];
    ssize_t got = 1;
    for (size_t count = 0; got > 0 && count < OVERRUN_MAX; count += (size_t)got) {
        got = recvfrom(descriptor, bytes, sizeof bytes, MSG_DONTWAIT, NULL, NULL);
    }
}

/* Up to `size` bytes that may be passed on. Fewer say that the socket is empty: then who reads
 * comes again when more has come, and not before. */
static ssize_t read_checked(intake_state *intake, int descriptor, char *bytes, size_t size)
{
    for (bool more = true; more && intake->ready < size;) {
        ssize_t got = recvfrom(descriptor, bytes, size, 0, NULL, NULL);
        if (got <= 0 && intake->ready == 0) {
            return got;
        }
        if (got > 0 && !intake_take(intake, bytes, (size_t)got)) {
            errno = ECONNRESET;
            return -1;
        }
        if (got > 0 && intake->as_is) {
            return got;
        }
        if (intake->framing.problem != NULL) {
            read_rest(descriptor);
            break;
        }
        more = got == (ssize_t)size;
    }
    size_t passed = intake_give(intake, bytes, size);
    errno = EAGAIN;
    return passed > 0 ? (ssize_t)passed : -1;
}

/* libmicrohttpd takes bare LFs, folded lines, fields without a name and chunks of many forms, none
 * of which can be seen behind it, answers others in a form of its own without a word to us, and has
 * no hook for what it reads. It reads by the C library's recv, in whose place the dynamic linker
 * puts this one: heads and chunks are passed on once they are whole and right, and in place of one
 * that is wrong something right, whose request is then refused (`broken`). Where a program is
 * linked in another way nothing is lost but this strictness. */
__attribute__((visibility("default"))) ssize_t recv(int descriptor, void *bytes, size_t size,
                                                    int flags)
{
    const http_server *server = of_this_thread;
    http_socket *socket = flags == 0 && server != NULL && descriptor >= 0 &&
                                  (size_t)descriptor < server->watched_count
                              ? server->watched[descriptor]
                              : NULL;
    if (socket == NULL) {
        return recvfrom(descriptor, bytes, size, flags, NULL, NULL);
    }
    return read_checked(&socket->intake, descriptor, bytes, size);
}

/* What is wrong with the bytes of the request that is read, or NULL. */
static const framing_state *broken(const http_connection *connection)
{
    const http_socket *socket = connection->socket;
    return socket != NULL && socket->intake.framing.number == socket->requests &&
                   socket->intake.framing.problem != NULL
               ? &socket->intake.framing
               : NULL;
}

static bool watch_socket(http_server *server, http_socket *socket)
{
    size_t descriptor = (size_t)socket->descriptor;
    if (descriptor >= server->watched_count) {
        size_t count = 2 * descriptor + 64;
        http_socket **grown = realloc(server->watched, count * sizeof(http_socket *));
        if (grown == NULL) {
            return false;
        }
        for (size_t i = server->watched_count; i < count; i++) {
            grown[i] = NULL;
        }
        server->watched = grown;
        server->watched_count = count;
    }
    server->watched[descriptor] = socket;
    return true;
}

static void on_socket(void *user, struct MHD_Connection *handle, void **kept,
                      enum MHD_ConnectionNotificationCode code)
{
    http_server *server = user;
    http_socket *socket = *kept;
    of_this_thread = server;
    pthread_mutex_lock(&server->lock);
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        socket = calloc(1, sizeof *socket);
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(handle, MHD_CONNECTION_INFO_CONNECTION_FD);
        if (socket != NULL && info != NULL) {
            socket->descriptor = info->connect_fd;
            socket->intake.framing.head_max = server->limits.header_bytes;
        }
        if (socket != NULL && info != NULL && watch_socket(server, socket)) {
            socket->since = http_now();
            socket->next = server->sockets;
            if (server->sockets != NULL) {
                server->sockets->previous = socket;
            }
            server->sockets = socket;
            server->socket_count++;
        } else {
            free(socket);
            socket = NULL;
        }
        *kept = socket;
    } else if (socket != NULL) {
        *(socket->previous != NULL ? &socket->previous->next : &server->sockets) = socket->next;
        if (socket->next != NULL) {
            socket->next->previous = socket->previous;
        }
        server->socket_count--;
        server->watched[socket->descriptor] = NULL;
        intake_free(&socket->intake);
        free(socket);
        *kept = NULL;
    }
    pthread_mutex_unlock(&server->lock);
}

/* A client that has closed its side while nothing was going on is not always seen by the event
 * loop: its end may have come with the bytes of its last request. */
static bool is_over(const http_socket *socket)
{
    char byte;
    return socket->state != SOCKET_REPLY &&
           recv(socket->descriptor, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

void http_watch(http_server *server)
{
    int64_t now = http_now();
    int64_t headers = 1000 * ((int64_t)server->limits.idle_seconds + server->limits.header_seconds);
    pthread_mutex_lock(&server->lock);
    bool looks = server->socket_count <= LOOKED_AT_OFTEN || now - server->looked >= 1000;
    server->looked = looks ? now : server->looked;
    for (http_socket *socket = server->sockets; socket != NULL; socket = socket->next) {
        int64_t limit = socket->state == SOCKET_HEADERS ? headers
                        : socket->state == SOCKET_BODY ? 1000 * (int64_t)server->limits.body_seconds
                                                       : INT64_MAX;
        if (now - socket->since > limit || (looks && is_over(socket))) {
            shutdown(socket->descriptor, SHUT_RDWR); /* the event loop then sees its end */
        }
    }
    pthread_mutex_unlock(&server->lock);
}

int http_connections(http_server *server)
{
    pthread_mutex_lock(&server->lock);
    int count = server->socket_count;
    pthread_mutex_unlock(&server->lock);
    return count;
}

int http_requests(http_server *server)
{
    pthread_mutex_lock(&server->lock);
    int count = server->request_count;
    pthread_mutex_unlock(&server->lock);
    return count;
}

static void count_request(http_server *server, int change)
{
    pthread_mutex_lock(&server->lock);
    server->request_count += change;
    pthread_mutex_unlock(&server->lock);
}

bool http_client_gone(const http_request *request)
{
    char byte;
    const http_connection *connection = request->connection;
    const http_socket *socket = connection != NULL ? connection->socket : NULL;
    ssize_t got = socket != NULL ? recv(socket->descriptor, &byte, 1, MSG_PEEK | MSG_DONTWAIT) : -1;
    return got == 0 ||
           (got < 0 && socket != NULL && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

void http_sleep(http_request *request)
{
    MHD_suspend_connection(request->connection->handle);
}

void http_wake(http_request *request)
{
    MHD_resume_connection(request->connection->handle);
}

const char *http_header(const http_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection->handle, MHD_HEADER_KIND, name);
}

/* ---- replies */

static bool is_token(const char *name, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (!framing_is_token((unsigned char)name[i])) {
            return false;
        }
    }
    return length > 0;
}

/* Names of header fields between commas? */
static bool is_list_of_names(const char *text)
{
    for (;;) {
        text += strspn(text, " \t");
        size_t length = strcspn(text, ", \t");
        if (!is_token(text, length)) {
            return false;
        }
        text += length;
        text += strspn(text, " \t");
        if (*text != ',') {
            return *text == 0;
        }
        text++;
    }
}

/* What a page of an origin that may ask is told (the Fetch standard, "CORS protocol"). A client
 * library sends fields of its own, so that whichever names it asks for are allowed. */
static void add_cross_origin(const http_connection *connection, struct MHD_Response *response)
{
    if (connection->server->limits.origin_count > 0) {
        MHD_add_response_header(response, "Vary",
                                connection->preflight ? "Origin, Access-Control-Request-Headers"
                                                      : "Origin");
    }
    if (connection->origin != NULL) {
        MHD_add_response_header(response, "Access-Control-Allow-Origin", connection->origin);
    }
    if (connection->preflight) {
        const char *asked = http_header(&connection->request, "Access-Control-Request-Headers");
        MHD_add_response_header(response, "Access-Control-Allow-Methods", "GET, POST, OPTIONS");
        MHD_add_response_header(response, "Access-Control-Allow-Headers",
                                asked != NULL && is_list_of_names(asked)
                                    ? asked
                                    : "Authorization, Content-Type, X-Api-Key");
        MHD_add_response_header(response, "Access-Control-Max-Age", "600");
    }
}

static void add_headers(const http_connection *connection, const http_reply *reply,
                        struct MHD_Response *response)
{
    char number[24];
    MHD_add_response_header(response, "Content-Type",
                            reply->content_type != NULL ? reply->content_type
                                                        : "application/json; charset=utf-8");
    MHD_add_response_header(response, "Cache-Control",
                            reply->etag != NULL ? "no-cache" : "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (reply->etag != NULL) {
        MHD_add_response_header(response, "ETag", reply->etag);
    }
    if (reply->policy != NULL) {
        MHD_add_response_header(response, "Content-Security-Policy", reply->policy);
        MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
    }
    if (reply->allow != NULL) {
        MHD_add_response_header(response, "Allow", reply->allow);
    }
    if (reply->status == 401) {
        MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    }
    if (reply->retry_after > 0) {
        snprintf(number, sizeof number, "%d", reply->retry_after);
        MHD_add_response_header(response, "Retry-After", number);
    }
    add_cross_origin(connection, response);
}

static enum MHD_Result send_whole(http_connection *connection, http_reply *reply, bool close)
{
    static char empty[1];
    union { /* the library takes bytes that it does not write to as void * */
        const unsigned char *kept;
        void *taken;
    } fixed = {.kept = reply->fixed};
    if (reply->body.failed) {
        text_free(&reply->body);
        reply->status = 500;
    }
    size_t length = reply->fixed != NULL ? reply->fixed_length : reply->body.length;
    struct MHD_Response *response =
        reply->fixed != NULL
            ? MHD_create_response_from_buffer(length, fixed.taken, MHD_RESPMEM_PERSISTENT)
        : reply->body.bytes != NULL
            ? MHD_create_response_from_buffer(length, reply->body.bytes, MHD_RESPMEM_MUST_FREE)
            : MHD_create_response_from_buffer(0, empty, MHD_RESPMEM_PERSISTENT);
    if (response == NULL) {
        text_free(&reply->body);
        return MHD_NO;
    }
    reply->body = (text_buffer){0};
    add_headers(connection, reply, response);
    if (close) {
        MHD_add_response_header(response, "Connection", "close");
    }
    connection->outcome.status = reply->status;
    connection->outcome.bytes = length;
    set_state(connection, SOCKET_REPLY);
    enum MHD_Result result =
        MHD_queue_response(connection->handle, (unsigned int)reply->status, response);
    MHD_destroy_response(response);
    return result;
}

static ssize_t read_stream(void *user, uint64_t position, char *bytes, size_t size)
{
    http_connection *connection = user;
    const http_handler *handler = &connection->server->handler;
    bool end = false;
    (void)position;
    size_t got = handler->read(handler->user, &connection->request, bytes, size, &end);
    connection->outcome.bytes += got;
    return got > 0 ? (ssize_t)got : end ? MHD_CONTENT_READER_END_OF_STREAM : 0;
}

static enum MHD_Result send_stream(http_connection *connection, const http_reply *reply)
{
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, read_stream, connection, NULL);
    if (response == NULL) {
        return MHD_NO;
    }
    add_headers(connection, reply, response);
    MHD_add_response_header(response, "X-Accel-Buffering", "no"); /* nginx: pass pieces on */
    connection->outcome.status = reply->status;
    set_state(connection, SOCKET_REPLY);
    enum MHD_Result result =
        MHD_queue_response(connection->handle, (unsigned int)reply->status, response);
    MHD_destroy_response(response);
    return result;
}

/* ---- what a request must be, beyond what libmicrohttpd asks of it */

typedef struct header_facts {
    int fields, hosts, lengths, encodings, origins, types;
    size_t bytes;
    const char *host, *length, *encoding, *origin;
    const char *bad; /* what is wrong with a field */
} header_facts;

static bool named(const char *name, size_t length, const char *wanted)
{
    return length == strlen(wanted) && strncasecmp(name, wanted, length) == 0;
}

static enum MHD_Result look_at_field(void *user, enum MHD_ValueKind kind, const char *name,
                                     size_t name_length, const char *value, size_t value_length)
{
    header_facts *facts = user;
    (void)kind;
    facts->fields++;
    facts->bytes += name_length + value_length + 4;
    if (!is_token(name, name_length)) {
        facts->bad = "a header's name holds a character that none may hold";
        return MHD_NO;
    }
    for (size_t i = 0; value != NULL && i < value_length; i++) {
        unsigned char c = (unsigned char)value[i];
        if ((c < 0x20 && c != '\t') || c == 0x7F) {
            facts->bad = "a header's value holds a control character";
            return MHD_NO;
        }
    }
    if (named(name, name_length, "Host")) {
        facts->hosts++;
        facts->host = value != NULL ? value : "";
    } else if (named(name, name_length, "Content-Length")) {
        facts->lengths++;
        facts->length = value != NULL ? value : "";
    } else if (named(name, name_length, "Transfer-Encoding")) {
        facts->encodings++;
        facts->encoding = value != NULL ? value : "";
    } else if (named(name, name_length, "Origin")) {
        facts->origins++;
        facts->origin = value != NULL ? value : "";
    }
    facts->types += named(name, name_length, "Content-Type");
    return MHD_YES;
}

/* What is wrong with a request's framing, or NULL. */
static const char *check_framing(const header_facts *facts, const char *version)
{
    if (facts->bad != NULL) {
        return facts->bad;
    }
    if (facts->lengths > 1) {
        return "Content-Length is there more than once";
    }
    if (facts->encodings > 1) {
        return "Transfer-Encoding is there more than once";
    }
    if (facts->lengths > 0 && facts->encodings > 0) {
        return "Content-Length and Transfer-Encoding exclude each other";
    }
    if (facts->lengths > 0 && (facts->length[0] == 0 || strlen(facts->length) > 18 ||
                               strspn(facts->length, "0123456789") != strlen(facts->length))) {
        return "Content-Length is not a number of bytes";
    }
    if (facts->encodings > 0 && strcmp(version, "HTTP/1.0") == 0) {
        return "HTTP/1.0 has no Transfer-Encoding";
    }
    if (facts->encodings > 0 && strcasecmp(facts->encoding, "chunked") != 0) {
        return "Transfer-Encoding: only chunked is understood";
    }
    if (facts->hosts > 1 || (facts->hosts == 0 && strcmp(version, "HTTP/1.1") == 0) ||
        (facts->hosts == 1 && facts->host[0] == 0)) {
        return "one Host header is needed";
    }
    if (facts->types > 1) {
        return "Content-Type is there more than once";
    }
    if (facts->hosts == 1 &&
        strspn(facts->host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVW"
                            "XYZ0123456789-._~!$&'()*+,;=:[]%") != strlen(facts->host)) {
        return "the Host header is not a host and port";
    }
    return facts->origins > 1 || (facts->origins == 1 && strlen(facts->origin) > ORIGIN_MAX)
               ? "one Origin header at most"
               : NULL;
}

/* A name without its port is `name`? */
static bool host_is(const char *host, const char *name)
{
    size_t length = strlen(name);
    return strncasecmp(host, name, length) == 0 && (host[length] == 0 || host[length] == ':');
}

/* An address of 127.0.0.0/8, with or without a port. A name may begin like one, but no name is of
 * digits and dots alone. */
static bool host_is_loopback(const char *host)
{
    char behind = host[strspn(host, "0123456789.")];
    return strncmp(host, "127.", 4) == 0 && (behind == 0 || behind == ':');
}

/* Where only this machine may ask, a page from elsewhere must not reach us by a name of its own
 * that it had resolve to 127.0.0.1 (DNS rebinding). */
static bool host_allowed(const http_server *server, const char *host)
{
    if (!server->loopback || host == NULL || host[0] == 0) {
        return true;
    }
    for (size_t i = 0; i < server->limits.name_count; i++) {
        if (host_is(host, server->limits.names[i])) {
            return true;
        }
    }
    return host_is(host, "localhost") || host_is(host, "[::1]") || host_is_loopback(host) ||
           host_is(host, server->limits.host);
}

/* An origin that is this server itself: "http://" and Host. */
static bool same_origin(const header_facts *facts)
{
    const char *origin = facts->origin;
    const char *rest = strncmp(origin, "http://", 7) == 0    ? origin + 7
                       : strncmp(origin, "https://", 8) == 0 ? origin + 8
                                                             : NULL;
    return rest != NULL && facts->host != NULL && strcasecmp(rest, facts->host) == 0;
}

/* As it is written in the options, or NULL. */
static const char *allowed_origin(const http_server *server, const char *origin)
{
    for (size_t i = 0; i < server->limits.origin_count; i++) {
        const char *allowed = server->limits.origins[i];
        if (strcmp(allowed, "*") == 0 || strcmp(allowed, origin) == 0) {
            return allowed;
        }
    }
    return NULL;
}

typedef struct refusal {
    int status;
    const char *code, *message;
} refusal;

/* A target that names this server as its Host does (RFC 9112, 3.2.2) becomes its path. */
static void drop_address(http_connection *connection, const char *host)
{
    char *target = connection->target;
    size_t length = host != NULL ? strlen(host) : 0;
    if (length > 0 && strncasecmp(target, "http://", 7) == 0 &&
        strncasecmp(target + 7, host, length) == 0 && target[7 + length] == '/') {
        memmove(target, target + 7 + length, strlen(target + 7 + length) + 1);
    }
}

static refusal refusal_of(const framing_state *framing)
{
    return (refusal){framing->status,
                     framing->status == 505   ? "http_version"
                     : framing->status == 413 ? "body_too_large"
                     : framing->status == 431 ? "headers_too_large"
                     : framing->status == 414 ? "target_too_long"
                                              : "bad_request",
                     framing->problem};
}

static refusal check_request(http_connection *connection, const char *version,
                             const header_facts *facts)
{
    const http_server *server = connection->server;
    const http_request *request = &connection->request;
    bool has_body = facts->encodings > 0 || (facts->lengths > 0 && strcmp(facts->length, "0") != 0);
    const char *problem = check_framing(facts, version);
    if (broken(connection) != NULL) {
        return refusal_of(broken(connection));
    }
    if (strcmp(version, "HTTP/1.1") != 0 && strcmp(version, "HTTP/1.0") != 0) {
        return (refusal){505, "http_version", "only HTTP/1.1 and HTTP/1.0 are understood"};
    }
    if (problem != NULL) {
        return (refusal){400, "bad_request", problem};
    }
    if (strlen(connection->target) > server->limits.header_bytes) {
        return (refusal){414, "target_too_long", "the target has too many bytes"};
    }
    if (facts->fields > FRAMING_FIELDS_MAX || facts->bytes > server->limits.header_bytes) {
        return (refusal){431, "headers_too_large", "too many header fields, or bytes in them"};
    }
    if (!is_token(request->method, strlen(request->method))) {
        return (refusal){400, "bad_request", "the method is no token"};
    }
    for (const char *c = connection->target; *c != 0; c++) {
        if (*c <= 0x20 || *c == 0x7F || *c == '#') {
            return (refusal){400, "bad_request", "the target holds a character that none may hold"};
        }
    }
    drop_address(connection, facts->host);
    bool of_all = strcmp(request->method, "OPTIONS") == 0 && strcmp(connection->target, "*") == 0;
    if (connection->target[0] != '/' && !of_all) {
        return (refusal){400, "bad_request", "the target must begin with /"};
    }
    if (!host_allowed(server, facts->host)) {
        return (refusal){403, "host_not_allowed",
                         "the Host header names another machine (--allow-host adds names)"};
    }
    if (facts->origin != NULL && connection->origin == NULL && !same_origin(facts)) {
        return (refusal){403, "origin_not_allowed",
                         "requests of pages from elsewhere are off (--cors-origin)"};
    }
    static const char *const without[] = {"GET", "HEAD", "OPTIONS", "TRACE", NULL};
    for (const char *const *method = without; has_body && *method != NULL; method++) {
        if (strcmp(request->method, *method) == 0) {
            return (refusal){400, "bad_request", "requests of this method have no body here"};
        }
    }
    const char *expect = http_header(request, "Expect");
    if (expect != NULL && strcasecmp(expect, "100-continue") != 0) {
        return (refusal){417, "expectation_failed", "only Expect: 100-continue is understood"};
    }
    if (http_header(request, "Content-Encoding") != NULL) {
        return (refusal){415, "unsupported_encoding", "Content-Encoding: none is understood"};
    }
    return (refusal){0, NULL, NULL};
}

/* ---- requests */

/* The target as it came, before anything is decoded. */
static void *on_target(void *user, const char *target, struct MHD_Connection *handle)
{
    http_server *server = user;
    http_connection *connection = calloc(1, sizeof *connection);
    char *copy = strdup(target);
    if (connection == NULL || copy == NULL) {
        free(connection);
        free(copy);
        return NULL;
    }
    connection->server = server;
    connection->handle = handle;
    connection->target = copy;
    connection->request.connection = connection;
    connection->request.began = http_now();
    connection->request.number = ++server->numbers;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(handle, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    connection->socket = info != NULL ? info->socket_context : NULL;
    info = MHD_get_connection_info(handle, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (info != NULL && info->client_addr != NULL) {
        char host[48] = "";
        getnameinfo(info->client_addr,
                    info->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                             : sizeof(struct sockaddr_in),
                    host, sizeof host, NULL, 0, NI_NUMERICHOST);
        snprintf(connection->request.client, sizeof connection->request.client, "%s", host);
    }
    return connection;
}

static enum MHD_Result refuse(http_connection *connection, const refusal *why)
{
    http_reply reply = {0};
    const http_handler *handler = &connection->server->handler;
    handler->refuse(handler->user, why->status, why->code, why->message, &reply);
    return send_whole(connection, &reply, true);
}

/* The headers are there. */
static enum MHD_Result begin(http_connection *connection, const char *method, const char *version)
{
    header_facts facts = {0};
    http_reply reply = {0};
    http_request *request = &connection->request;
    http_server *server = connection->server;
    const http_handler *handler = &server->handler;
    char *query = strchr(connection->target, '?');
    connection->begun = true;
    request->method = method;
    MHD_get_connection_values_n(connection->handle, MHD_HEADER_KIND, look_at_field, &facts);
    connection->origin = facts.origin != NULL ? allowed_origin(server, facts.origin) : NULL;
    refusal why = check_request(connection, version, &facts);
    if (why.status != 0) {
        request->path = connection->target;
        request->query = "";
        return refuse(connection, &why);
    }
    if (query != NULL) {
        *query++ = 0;
    }
    request->path = connection->target;
    request->query = query != NULL ? query : "";
    if (connection->origin != NULL && strcmp(method, "OPTIONS") == 0) {
        connection->preflight = true;
        reply.status = 204;
        return send_whole(connection, &reply, false);
    }
    if (!handler->begin(handler->user, request, &connection->body_limit, &reply)) {
        bool has_body = facts.lengths > 0 || facts.encodings > 0;
        if (has_body || reply.status == 501) {
            return send_whole(connection, &reply, true);
        }
        /* libmicrohttpd closes behind replies that come at this point: a moment later. */
        connection->refusal = reply;
        connection->refused = true;
        return MHD_YES;
    }
    if (facts.lengths > 0 && strtoull(facts.length, NULL, 10) > connection->body_limit) {
        return refuse(connection, &(refusal){413, "body_too_large", "the body has too many bytes"});
    }
    set_state(connection, SOCKET_BODY);
    return MHD_YES;
}

static enum MHD_Result take_body(http_connection *connection, const char *bytes, size_t length)
{
    if (broken(connection) != NULL) {
        return MHD_YES; /* it is refused when its end has come, which is near */
    }
    size_t room = connection->body_limit - connection->body.length;
    if (connection->body_dropped > 0 || length > room) {
        connection->body_dropped += length;
        return connection->body_dropped > OVERRUN_MAX ? MHD_NO : MHD_YES;
    }
    text_add(&connection->body, bytes, length);
    return connection->body.failed ? MHD_NO : MHD_YES;
}

static enum MHD_Result hand_on(http_connection *connection)
{
    http_reply reply = {0};
    http_request *request = &connection->request;
    const http_handler *handler = &connection->server->handler;
    if (!connection->handed && broken(connection) != NULL) {
        refusal why = refusal_of(broken(connection));
        return refuse(connection, &why);
    }
    if (connection->refused) {
        connection->refused = false;
        return send_whole(connection, &connection->refusal, false);
    }
    if (connection->body_dropped > 0) {
        return refuse(connection, &(refusal){413, "body_too_large", "the body has too many bytes"});
    }
    request->body = connection->body.bytes != NULL ? connection->body.bytes : "";
    request->body_length = connection->body.length;
    if (!connection->handed) {
        set_state(connection, SOCKET_REPLY);
        connection->handed = true;
        count_request(connection->server, 1);
    }
    switch (handler->answer(handler->user, request, &reply)) {
    case HTTP_WAITS:
        return MHD_YES;
    case HTTP_STREAMS:
        return send_stream(connection, &reply);
    case HTTP_ANSWERED:
        break;
    }
    return send_whole(connection, &reply, false);
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *handle, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **kept)
{
    http_connection *connection = *kept;
    (void)user;
    (void)url;
    (void)handle;
    if (connection == NULL) {
        return MHD_NO; /* no memory */
    }
    if (!connection->begun) {
        return begin(connection, method, version);
    }
    if (*upload_size > 0) {
        size_t length = *upload_size;
        *upload_size = 0;
        return take_body(connection, upload, length);
    }
    return hand_on(connection);
}

static void on_completed(void *user, struct MHD_Connection *handle, void **kept,
                         enum MHD_RequestTerminationCode code)
{
    http_connection *connection = *kept;
    http_server *server = user;
    (void)handle;
    if (connection == NULL) {
        return;
    }
    *kept = NULL;
    connection->outcome.whole = code == MHD_REQUEST_TERMINATED_COMPLETED_OK;
    if (connection->begun) {
        server->handler.closed(server->handler.user, &connection->request, &connection->outcome);
    }
    if (connection->outcome.whole) {
        set_state(connection, SOCKET_HEADERS);
    }
    if (connection->socket != NULL) {
        connection->socket->requests++;
    }
    if (connection->handed) {
        count_request(server, -1);
    }
    text_free(&connection->body);
    text_free(&connection->refusal.body);
    free(connection->target);
    free(connection);
}

/* ---- the server */

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        return ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr) >> 24 ==
               127;
    }
    return address->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
}

/* A socket that listens, or -1. */
static int listen_at(http_server *server, char problem[300])
{
    char port[16];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    snprintf(port, sizeof port, "%d", server->limits.port);
    int failed = getaddrinfo(server->limits.host, port, &hints, &found);
    if (failed != 0) {
        snprintf(problem, 300, "--host %.100s: %.100s", server->limits.host, gai_strerror(failed));
        return -1;
    }
    int listener = socket(found->ai_family, SOCK_STREAM, 0);
    int one = 1;
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(listener, found->ai_addr, found->ai_addrlen) != 0 || listen(listener, 1024) != 0 ||
        getsockname(listener, (struct sockaddr *)(void *)&bound, &size) != 0) {
        snprintf(problem, 300, "%.100s, port %d: %.100s", server->limits.host, server->limits.port,
                 strerror(errno));
        if (listener >= 0) {
            close(listener);
        }
        freeaddrinfo(found);
        return -1;
    }
    server->loopback = is_loopback(found->ai_addr);
    server->port = ntohs(bound.ss_family == AF_INET6
                             ? ((const struct sockaddr_in6 *)(const void *)&bound)->sin6_port
                             : ((const struct sockaddr_in *)(const void *)&bound)->sin_port);
    freeaddrinfo(found);
    return listener;
}

static void log_nothing(void *user, const char *format, va_list values)
{
    (void)user; /* what clients do wrong is told to them, and counted */
    (void)format;
    (void)values;
}

http_server *http_start(const http_limits *limits, const http_handler *handler, char problem[300])
{
    http_server *server = calloc(1, sizeof *server);
    if (server == NULL) {
        snprintf(problem, 300, "no memory");
        return NULL;
    }
    server->limits = *limits;
    server->handler = *handler;
    pthread_mutex_init(&server->lock, NULL);
    int listener = listen_at(server, problem);
    if (listener >= 0) {
        server->daemon = MHD_start_daemon(
            MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_ITC |
                MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG,
            0, NULL, NULL, on_request, server, MHD_OPTION_EXTERNAL_LOGGER, log_nothing, NULL,
            MHD_OPTION_LISTEN_SOCKET, listener, MHD_OPTION_URI_LOG_CALLBACK, on_target, server,
            MHD_OPTION_NOTIFY_COMPLETED, on_completed, server, MHD_OPTION_NOTIFY_CONNECTION,
            on_socket, server, MHD_OPTION_CONNECTION_LIMIT, (unsigned int)limits->connections,
            MHD_OPTION_CONNECTION_MEMORY_LIMIT, 2 * limits->header_bytes + 98304,
            MHD_OPTION_CONNECTION_TIMEOUT, (unsigned int)limits->idle_seconds, MHD_OPTION_END);
        if (server->daemon == NULL) {
            snprintf(problem, 300, "the HTTP server could not be started");
            close(listener);
        }
    }
    if (server->daemon == NULL) {
        pthread_mutex_destroy(&server->lock);
        free(server);
        return NULL;
    }
    return server;
}

int http_port(const http_server *server)
{
    return server->port;
}

void http_stop(http_server *server)
{
    if (server != NULL) {
        MHD_stop_daemon(server->daemon);
        pthread_mutex_destroy(&server->lock);
        free(server->watched);
        free(server);
    }
}
