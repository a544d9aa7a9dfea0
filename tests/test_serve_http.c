/* mixt serve and HTTP: strict framing, limits, clients that are slow, broken or gone, the end. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"
#include "serve_client.h"

static pid_t server;

static int set_up(void **state)
{
    return serve_set_up(state,
                        "-c 60000 --cache-positions 130000 --header-bytes 4096 --body-bytes "
                        "20000 --timeout 20 --buffer-bytes 65536",
                        &server);
}

static int tear_down(void **state)
{
    return serve_tear_down(state, server);
}

#define HOST "Host: localhost\r\n"
#define GET "GET /health HTTP/1.1\r\n"
#define POST "POST /tokenize HTTP/1.1\r\n" HOST "Content-Type: application/json\r\n"
#define BODY "{\"content\":\"ab\"}" /* 16 bytes */

/* Requests, and what their first reply says: classes of Http11Probe's cases and of 2.3 in the
 * list of what servers got wrong. 0: the connection ends without a reply. */
static const struct {
    const char *name, *bytes;
    int status, other; /* either will do */
} cases[] = {
    {"plain", GET HOST "\r\n", 200, 200},
    {"HTTP/1.0", "GET /health HTTP/1.0\r\n\r\n", 200, 200},
    {"a query", "GET /health?a=b HTTP/1.1\r\n" HOST "\r\n", 200, 200},
    {"no Host", GET "\r\n", 400, 400},
    {"two Hosts", GET HOST HOST "\r\n", 400, 400},
    {"an empty Host and another", GET "Host:\r\n" HOST "\r\n", 400, 400},
    {"Host with a path", GET "Host: localhost/x\r\n\r\n", 400, 400},
    {"Host with a space", GET "Host: local host\r\n\r\n", 400, 400},
    {"Host of another machine", GET "Host: example.org\r\n\r\n", 403, 403},
    {"Host that begins as ours", GET "Host: localhost.example.org\r\n\r\n", 403, 403},
    {"Host that begins as an address", GET "Host: 127.example.org\r\n\r\n", 403, 403},
    {"Host that begins with all of one", GET "Host: 127.0.0.1.example.org:80\r\n\r\n", 403, 403},
    {"another address of this machine", GET "Host: 127.0.0.2:80\r\n\r\n", 200, 200},
    {"HTTP/1.2", "GET /health HTTP/1.2\r\n" HOST "\r\n", 505, 400},
    {"HTTP/2.0", "GET /health HTTP/2.0\r\n" HOST "\r\n", 505, 400},
    {"HTTP/9", "GET /health HTTP/9\r\n" HOST "\r\n", 505, 400},
    {"lower-case protocol", "GET /health http/1.1\r\n" HOST "\r\n", 505, 400},
    {"no protocol", "GET /health\r\n\r\n", 400, 505},
    {"lower-case method", "get /health HTTP/1.1\r\n" HOST "\r\n", 501, 400},
    {"unknown method", "BREW /health HTTP/1.1\r\n" HOST "\r\n", 501, 501},
    {"method with a comma", "GE,T /health HTTP/1.1\r\n" HOST "\r\n", 400, 501},
    {"POST to a path of GET", "POST /health HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", 405,
     405},
    {"CONNECT", "CONNECT localhost:80 HTTP/1.1\r\n" HOST "\r\n", 400, 405},
    {"TRACE", "TRACE /health HTTP/1.1\r\n" HOST "\r\n", 405, 405},
    {"OPTIONS *", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 204, 204},
    {"fragment", "GET /health#a HTTP/1.1\r\n" HOST "\r\n", 400, 400},
    {"target without /", "GET health HTTP/1.1\r\n" HOST "\r\n", 400, 400},
    {"escaped path", "GET /%68ealth HTTP/1.1\r\n" HOST "\r\n", 404, 404},
    {"path with NUL", "GET /health%00 HTTP/1.1\r\n" HOST "\r\n", 404, 404},
    {"dots", "GET /v1/../health HTTP/1.1\r\n" HOST "\r\n", 404, 404},
    {"bytes above 127", "GET /h\xC3\xA9 HTTP/1.1\r\n" HOST "\r\n", 400, 404},
    {"space before the colon", GET "Host : localhost\r\n\r\n", 400, 400},
    {"space in a name", GET HOST "X Y: a\r\n\r\n", 400, 400},
    {"no colon", GET HOST "nothing\r\n\r\n", 400, 0},
    {"name with a bracket", GET HOST "X[]: a\r\n\r\n", 400, 400},
    {"value with a control", GET HOST "X: a\x01z\r\n\r\n", 400, 400},
    {"value with DEL", GET HOST "X: a\x7Fz\r\n\r\n", 400, 400},
    {"GET with a body", GET HOST "Content-Length: 2\r\n\r\nab", 400, 400},
    {"POST", POST "Content-Length: 16\r\n\r\n" BODY, 200, 200},
    {"two lengths that agree", POST "Content-Length: 16\r\nContent-Length: 16\r\n\r\n" BODY, 400,
     400},
    {"two lengths", POST "Content-Length: 16\r\nContent-Length: 3\r\n\r\n" BODY, 400, 400},
    {"lengths in a list", POST "Content-Length: 16, 16\r\n\r\n" BODY, 400, 400},
    {"length with a sign", POST "Content-Length: +16\r\n\r\n" BODY, 400, 400},
    {"negative length", POST "Content-Length: -16\r\n\r\n" BODY, 400, 400},
    {"hexadecimal length", POST "Content-Length: 0x10\r\n\r\n" BODY, 400, 400},
    {"length with a letter", POST "Content-Length: 16a\r\n\r\n" BODY, 400, 400},
    {"no length", POST "Content-Length:\r\n\r\n" BODY, 400, 400},
    {"huge length", POST "Content-Length: 99999999999999999999999\r\n\r\n" BODY, 400, 413},
    {"length beyond the limit", POST "Content-Length: 20001\r\n\r\n" BODY, 413, 413},
    {"chunks", POST "Transfer-Encoding: chunked\r\n\r\n10\r\n" BODY "\r\n0\r\n\r\n", 200, 200},
    {"chunks in parts",
     POST "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\nF\r\n\"content\":\"ab\"}\r\n0\r\n\r\n", 200,
     200},
    {"chunks and a length",
     POST "Content-Length: 16\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" BODY "\r\n0\r\n\r\n",
     400, 400},
    {"two encodings",
     POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" BODY
          "\r\n0\r\n\r\n",
     400, 400},
    {"encoding identity", POST "Transfer-Encoding: identity\r\n\r\n" BODY, 400, 400},
    {"encoding with more",
     POST "Transfer-Encoding: gzip, chunked\r\n\r\n10\r\n" BODY "\r\n0\r\n\r\n", 400, 400},
    {"encoding with a tab",
     POST "Transfer-Encoding: chunked\t;a\r\n\r\n10\r\n" BODY "\r\n0\r\n\r\n", 400, 400},
    {"HTTP/1.0 with chunks",
     "POST /tokenize HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" BODY "\r\n0\r\n\r\n",
     400, 400},
    {"negative chunk", POST "Transfer-Encoding: chunked\r\n\r\n-2\r\n" BODY "\r\n0\r\n\r\n", 400,
     0},
    {"chunk 0x10", POST "Transfer-Encoding: chunked\r\n\r\n0x10\r\n" BODY "\r\n0\r\n\r\n", 400, 0},
    {"chunk without a size", POST "Transfer-Encoding: chunked\r\n\r\n\r\n" BODY "\r\n0\r\n\r\n",
     400, 0},
    {"huge chunk",
     POST "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n" BODY "\r\n0\r\n\r\n", 400, 413},
    {"chunk longer than its size",
     POST "Transfer-Encoding: chunked\r\n\r\n3\r\n" BODY "\r\n0\r\n\r\n", 400, 0},
    {"compressed", POST "Content-Encoding: gzip\r\nContent-Length: 16\r\n\r\n" BODY, 415, 415},
    {"another type",
     "POST /tokenize HTTP/1.1\r\n" HOST
     "Content-Type: text/plain\r\nContent-Length: 16\r\n\r\n" BODY,
     415, 415},
    {"another expectation", POST "Expect: tea\r\nContent-Length: 16\r\n\r\n" BODY, 417, 417},
    {"a page from elsewhere", POST "Origin: http://example.org\r\nContent-Length: 16\r\n\r\n" BODY,
     403, 403},
    {"a page of ours", POST "Origin: http://localhost\r\nContent-Length: 16\r\n\r\n" BODY, 200,
     200},
    {"nothing", "\r\n\r\n\r\n\r\n", 400, 0},
    {"noise", "\x16\x03\x01\x02\x00\x01\x00\x01", 400, 0},
};

static int status_of(const char *bytes, bool slowly)
{
    int client = client_connect();
    size_t length = strlen(bytes);
    for (size_t i = 0; slowly && i < length; i++) {
        if (!client_send(client, bytes + i, 1)) {
            break;
        }
    }
    if (!slowly) {
        client_put(client, bytes);
    }
    shutdown(client, SHUT_WR);
    int status = reply_status(client_read_all(client));
    close(client);
    return status;
}

static void test_framing(void **state)
{
    int failed = 0;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int slowly = 0; slowly < 2; slowly++) {
            int status = status_of(cases[i].bytes, slowly);
            /* What is still being sent when the server has refused resets the connection, and the
             * reply may be lost with it. */
            bool lost = slowly && status == 0 && cases[i].status >= 400;
            if (!lost && status != cases[i].status && status != cases[i].other) {
                print_error("%s%s: status %d, not %d\n", cases[i].name,
                            slowly ? ", byte by byte" : "", status, cases[i].status);
                failed++;
            }
        }
    }
    assert_int_equal(failed, 0);
}

static int count_parts(const char *text, const char *part)
{
    int count = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at++) {
        count++;
    }
    return count;
}

/* What libmicrohttpd would answer by itself, in HTML, some of it with two heads, and unlogged. */
static void test_own_refusals(void **state)
{
    static const struct {
        const char *before, *piece, *behind;
        int count, status;
        const char *code, *method;
    } rows[] = {
        {POST "Content-Length: -1\r\n\r\n", "", "", 0, 400, "bad_request", "POST"},
        {POST "Content-Length: 9", "9", "\r\n\r\n", 30, 413, "body_too_large", "POST"},
        {"GET /", "a", " HTTP/1.1\r\n" HOST "\r\n", 200000, 414, "target_too_long", "GET"},
        {"GET /?", "a&", " HTTP/1.1\r\n" HOST "\r\n", 2000, 414, "target_too_long", "GET"},
        {"", "A", " / HTTP/1.1\r\n" HOST "\r\n", 200000, 414, "target_too_long", "-"},
        {GET HOST "X: ", "a", "\r\n\r\n", 200000, 431, "headers_too_large", "GET"},
        {GET HOST, "X: a\r\n", "\r\n", 3000, 431, "headers_too_large", "GET"},
        {GET HOST "Cookie: ", "a;", "\r\n\r\n", 1500, 431, "headers_too_large", "GET"},
        {POST "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: ", "a", "\r\n\r\n", 200000, 431,
         "headers_too_large", "POST"},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", "", 0, 505, "http_version", "PRI"},
        {"GET /health HTTP/9\r\n" HOST "\r\n", "", "", 0, 400, "bad_request", "GET"},
        {GET HOST "nothing\r\n\r\n", "", "", 0, 400, "bad_request", "GET"},
        {"\x16\x03\x01\x02", "", "", 0, 400, "bad_request", "-"},
    };
    static char bytes[250000];
    char wanted[200];
    int port = serve_port;
    (void)state;
    pid_t other = serve_begin("--header-bytes 16384");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int client = client_connect();
        char *at = stpcpy(bytes, rows[i].before);
        for (int piece = 0; piece < rows[i].count; piece++) {
            at = stpcpy(at, rows[i].piece);
        }
        strcpy(at, rows[i].behind);
        client_put(client, bytes);
        shutdown(client, SHUT_WR);
        const char *reply = client_read_all(client);
        assert_int_equal(reply_status(reply), rows[i].status);
        assert_int_equal(count_parts(reply, "\r\nDate: "), 1);
        snprintf(wanted, sizeof wanted, "\"code\":\"%s\"}}", rows[i].code);
        assert_has(reply_body(reply), "{\"error\":{");
        assert_has(reply_body(reply), wanted);
        close(client);
        snprintf(wanted, sizeof wanted,
                 "\"request\":%zu,\"client\":\"127.0.0.1\",\"method\":\"%s\",\"path\":null,"
                 "\"status\":%d,",
                 i + 1, rows[i].method, rows[i].status);
        await_log(wanted);
    }
    assert_int_equal(serve_end(other), 0);
    serve_port = port;
}

/* More requests than the server reads at once, sent without waiting: each is answered in its turn,
 * and what is wrong behind them too. */
static void test_long_pipeline(void **state)
{
    static char bytes[300000];
    char *at = bytes;
    int client = client_connect();
    (void)state;
    for (int i = 0; i < 60; i++) {
        at = stpcpy(at, POST "Transfer-Encoding: chunked\r\n\r\nb\r\n{\"content\":\r\n");
        for (int chunk = 0; chunk < i; chunk++) {
            at += sprintf(at, "64;a=\"b\"\r\n%100s\r\n", "");
        }
        at = stpcpy(at, "5\r\n\"ab\"}\r\n0\r\nX-T: a\r\n\r\n");
    }
    strcpy(at, POST "Content-Length: -1\r\n\r\n" GET HOST "\r\n");
    client_put(client, bytes);
    const char *reply = client_read_all(client);
    assert_int_equal(count_parts(reply, "HTTP/1.1 200 "), 60);
    assert_int_equal(count_parts(reply, "HTTP/1.1 400 "), 1);
    assert_int_equal(count_parts(reply, "\r\nDate: "), 61);
    assert_has(reply, "Content-Length is not a number of bytes");
    close(client);
}

/* ---- limits */

static void test_limits(void **state)
{
    static char bytes[40000];
    (void)state;
    memset(bytes, 'a', sizeof bytes - 1);
    char *text = malloc(2 * sizeof bytes);
    assert_non_null(text);
    sprintf(text, "GET /%.6000s HTTP/1.1\r\n" HOST "\r\n", bytes);
    assert_int_equal(status_of(text, false), 414);
    sprintf(text, GET HOST "X: %.6000s\r\n\r\n", bytes);
    assert_int_equal(status_of(text, false), 431);
    strcpy(text, GET HOST);
    for (int i = 0; i < 200; i++) {
        sprintf(text + strlen(text), "X%d: a\r\n", i);
    }
    strcat(text, "\r\n");
    assert_int_equal(status_of(text, false), 431);
    /* More than a whole connection may hold. */
    sprintf(text, GET HOST "X: %s\r\nY: %s\r\n\r\n", bytes, "");
    int status = status_of(text, false);
    assert_true(status == 431 || status == 413 || status == 0);
    /* A body beyond the limit that does not say so before. */
    sprintf(text, POST "Transfer-Encoding: chunked\r\n\r\n5000\r\n%.20480s\r\n0\r\n\r\n", bytes);
    assert_int_equal(status_of(text, false), 413);
    free(text);
    assert_int_equal(ask("GET", "/health", NULL), 200);
}

/* Each beginning of a body, announced as it is and cut short. */
static void test_cut_bodies(void **state)
{
    static const char body[] =
        "{\"content\":\"a\\u00e9\\\"b\",\"with_pieces\":true,\"add_special\":false}";
    char text[1000], cut[200];
    (void)state;
    for (size_t i = 0; i < sizeof body - 1; i++) {
        snprintf(cut, sizeof cut, "%.*s", (int)i, body);
        assert_int_equal(ask("POST", "/tokenize", cut), 400);
        assert_has(ask_body, "invalid_json");
        int client = client_connect();
        snprintf(text, sizeof text, POST "Content-Length: %zu\r\n\r\n%s", sizeof body - 1, cut);
        client_put(client, text);
        close(client); /* in the middle of a body */
    }
    assert_int_equal(ask("POST", "/tokenize", body), 200);
}

static void test_json(void **state)
{
    static const struct {
        const char *body, *part;
    } bad[] = {
        {"{\"content\":\"a\",\"content\":\"b\"}", "line 1, column"},
        {"{\n\n \"content\": nul}", "line 3, column"},
        {"[\"content\"]", "an object is needed"},
        {"\"content\"", "invalid JSON"},
        {"{\"content\":\"a\xFF\"}", "invalid JSON"},
        {"{\"content\":\"\xED\xA0\x80\"}", "invalid JSON"},
        {"{\"content\":\"a\\u0000b\"}", "invalid JSON"},
        {"{\"content\":\"a\"} x", "invalid JSON"},
        {"{\"content\":1e999}", "invalid JSON"},
        {"{\"content\":NaN}", "invalid JSON"},
        {"{\"content\":5}", "content must be a string"},
        {"{\"contents\":\"a\"}", "unknown field \\\"contents\\\""},
        {"{\"content\":\"a\",\"with_pieces\":1}", "with_pieces must be true or false"},
        {"", "the body is empty"},
    };
    char deep[400];
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(ask("POST", "/tokenize", bad[i].body), 400);
        assert_has(ask_body, bad[i].part);
    }
    for (int depth = 63; depth <= 64; depth++) { /* and the object around them */
        strcpy(deep, "{\"a\":");
        memset(deep + 5, '[', (size_t)depth);
        memset(deep + 5 + depth, ']', (size_t)depth);
        strcpy(deep + 5 + 2 * depth, "}");
        assert_int_equal(ask("POST", "/tokenize", deep), 400);
        assert_has(ask_body, depth == 63 ? "unknown field" : "nested deeper than 64");
    }
}

/* ---- connections */

static void test_keep_alive(void **state)
{
    int client = client_connect();
    (void)state;
    for (int i = 0; i < 20; i++) {
        client_put(client, i % 2 == 0 ? GET HOST "\r\n" : POST "Content-Length: 16\r\n\r\n" BODY);
        assert_int_equal(reply_status(client_read_reply(client)), 200);
    }
    /* A refusal whose body was read leaves the connection as it is. */
    client_put(client, POST "Content-Length: 3\r\n\r\n{a}");
    assert_int_equal(reply_status(client_read_reply(client)), 400);
    client_put(client, GET HOST "Connection: close\r\n\r\n");
    assert_int_equal(reply_status(client_read_all(client)), 200);
    close(client);
}

static void test_pipelining(void **state)
{
    int client = client_connect();
    (void)state;
    client_put(client, "GET /nothing HTTP/1.1\r\n" HOST "\r\n"); /* what is behind it is read */
    for (int i = 0; i < 3; i++) {
        client_put(client, POST "Content-Length: 16\r\n\r\n" BODY GET HOST "\r\n");
    }
    client_put(client, "GET /nothing HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    const char *text = client_read_all(client);
    int replies = 0;
    for (const char *at = text; (at = strstr(at, "HTTP/1.1 ")) != NULL; at++) {
        assert_int_equal(reply_status(at), replies % 7 > 0 ? 200 : 404);
        replies++;
    }
    assert_int_equal(replies, 8);
    close(client);
}

static void test_head(void **state)
{
    int client = client_connect();
    (void)state;
    client_put(client, "HEAD /health HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    const char *text = client_read_all(client);
    assert_int_equal(reply_status(text), 200);
    assert_string_equal(reply_body(text), "");
    assert_has(text, "Content-Length: 15");
    close(client);
}

/* ---- clients that leave or are slow */

/* Sends a request for a completion. */
static void ask_completion(int client, const char *body)
{
    char text[600];
    snprintf(text, sizeof text,
             "POST /v1/completions HTTP/1.1\r\n" HOST
             "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
             strlen(body), body);
    client_put(client, text);
}

/* Begins a stream that would take long. */
static int begin_stream(void)
{
    int client = client_connect();
    ask_completion(client, "{\"prompt\":\"The\",\"stream\":true,\"ignore_eos\":true,"
                           "\"max_tokens\":50000,\"seed\":1}");
    return client;
}

static void test_gone(void **state)
{
    double before = metric("mixt_requests_cancelled_total");
    (void)state;
    for (int i = 0; i < 12; i++) {
        int client = begin_stream();
        if (i % 3 != 0) { /* else before anything came */
            client_await(client, "data: ");
        }
        if (i % 2 == 0) { /* with what it has not read in the way: a reset */
            struct linger now = {.l_onoff = 1};
            setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        }
        close(client);
    }
    /* A reply that comes at once is given up likewise. */
    int client = client_connect();
    ask_completion(client, "{\"prompt\":\"The\",\"ignore_eos\":true,\"max_tokens\":50000    }");
    await_metric("mixt_orders", 1);
    close(client);
    await_metric("mixt_orders", 0);
    await_metric("mixt_cache_pages_used", 0);
    /* Those whose request was reset before it was read never became an order. */
    double cancelled = metric("mixt_requests_cancelled_total") - before;
    assert_true(cancelled >= 9 && cancelled <= 13);
}

static void test_half_closed(void **state)
{
    int client = begin_stream();
    (void)state;
    client_await(client, "data: ");
    shutdown(client, SHUT_WR); /* says that it is gone */
    client_read_all(client);   /* and the stream ends */
    close(client);
    await_metric("mixt_orders", 0);
}

/* Who reads nothing is waited for with a bounded buffer; others are served meanwhile. */
static void test_slow_reader(void **state)
{
    int small = 4096, client = client_connect();
    double last = -1;
    (void)state;
    setsockopt(client, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    ask_completion(client, "{\"prompt\":\"The\",\"stream\":true,\"ignore_eos\":true,"
                           "\"max_tokens\":50000,\"n\":2,\"logprobs\":20,\"routing\":true}");
    /* In the end nothing more is computed for it, long before its 100,000 tokens. */
    for (int still = 0; still < 5;) {
        double steps = metric("mixt_steps_total");
        still = steps == last && steps > 0 ? still + 1 : 0;
        last = steps;
        usleep(100000);
    }
    assert_true(metric("mixt_orders") == 1);
    assert_int_equal(ask("POST", "/v1/completions", "{\"prompt\":\"The\",\"max_tokens\":3}"), 200);
    close(client);
    await_metric("mixt_orders", 0);
}

static void test_live_record(void **state)
{
    int client = client_connect();
    (void)state;
    client_put(client, "GET /v1/routing HTTP/1.1\r\n" HOST "\r\n");
    client_await(client, "text/event-stream");
    for (int i = 0; i < 20; i++) {
        assert_int_equal(ask("POST", "/v1/completions", "{\"prompt\":\"The\",\"max_tokens\":30}"),
                         200);
    }
    int other = begin_stream();
    const char *text = client_await(client, "],\"margins\":[");
    assert_has(text, "\"layers\":[[[");
    assert_has(text, "data: {\"request\":");
    close(other);
    close(client);
    await_metric("mixt_orders", 0);
}

/* Who has stopped listening makes room at once, while nothing is said as well. */
static void test_listeners_gone(void **state)
{
    enum { LISTENERS = 32, PATIENCE = 5 /* seconds, of 15 between comments */ };
    int listeners[LISTENERS];
    (void)state;
    for (int round = 0; round < 3; round++) { /* the last one meets what the others left */
        time_t began = time(NULL);
        for (int i = 0; i < LISTENERS; i++) {
            int status = 0;
            while (status != 200) {
                listeners[i] = client_connect();
                client_put(listeners[i], "GET /v1/routing HTTP/1.1\r\n" HOST "\r\n");
                status = reply_status(client_await(listeners[i], "\r\n\r\n"));
                if (status != 200) {
                    assert_true(time(NULL) - began <= PATIENCE);
                    close(listeners[i]);
                    usleep(50000);
                }
            }
        }
        assert_int_equal(ask("GET", "/v1/routing", NULL), 503);
        assert_has(ask_body, "too_many_listeners");
        for (int i = 0; i < LISTENERS && round == 0; i++) {
            shutdown(listeners[i], SHUT_WR); /* says that it is gone */
        }
        for (int i = 0; i < LISTENERS; i++) {
            if (round == 0) {
                assert_has(client_read_all(listeners[i]), "0\r\n\r\n");
            }
            close(listeners[i]);
        }
        assert_true(time(NULL) - began <= PATIENCE);
    }
}

/* ---- servers with other options */

static void test_keys(void **state)
{
    int port = serve_port;
    (void)state;
    shell_write("keys", "key-one\nkey-two\n");
    pid_t other =
        serve_begin("--api-key-file keys --api-key key-three --cors-origin http://a.example");
    assert_int_equal(ask("GET", "/health", NULL), 200);
    assert_int_equal(ask("GET", "/v1/models", NULL), 401);
    assert_has(ask_head, "WWW-Authenticate: Bearer");
    assert_int_equal(ask_with("GET", "/v1/models", "Authorization: Bearer key-four\r\n", NULL),
                     401);
    assert_int_equal(ask_with("GET", "/v1/models", "Authorization: Bearer key-tw\r\n", NULL), 401);
    assert_int_equal(ask_with("GET", "/v1/models", "Authorization: Bearer \r\n", NULL), 401);
    assert_int_equal(ask_with("GET", "/v1/models", "Authorization: Bearer key-two\r\n", NULL), 200);
    assert_int_equal(ask_with("GET", "/v1/models", "authorization: bearer key-three\r\n", NULL),
                     200);
    assert_int_equal(ask_with("GET", "/v1/models", "X-Api-Key: key-one\r\n", NULL), 200);
    assert_lacks(ask_head, "Access-Control");
    assert_int_equal(ask_with("GET", "/health", "Origin: http://a.example\r\n", NULL), 200);
    assert_has(ask_head, "Access-Control-Allow-Origin: http://a.example");
    assert_int_equal(ask_with("GET", "/health", "Origin: http://b.example\r\n", NULL), 403);
    assert_int_equal(ask_with("OPTIONS", "/v1/models", "Origin: http://a.example\r\n", NULL), 204);
    assert_int_equal(serve_end(other), 0);
    shell_do("! grep -q key- serve.err");
    serve_port = port;
}

/* Pages from elsewhere: what a browser asks before it lets OpenAI's client in JavaScript ask. */
static void test_origins(void **state)
{
    static const char *const origins[] = {"http://a.example", "https://b.example:8443"};
    char headers[400], wanted[200];
    int port = serve_port;
    (void)state;
    pid_t other = serve_begin("--cors-origin http://a.example --cors-origin https://b.example:8443 "
                              "--api-key k");
    for (int i = 0; i < 2; i++) {
        snprintf(headers, sizeof headers,
                 "Origin: %s\r\nAccess-Control-Request-Method: POST\r\n"
                 "Access-Control-Request-Headers: authorization, content-type,x-stainless-os\r\n",
                 origins[i]);
        snprintf(wanted, sizeof wanted, "\r\nAccess-Control-Allow-Origin: %s\r\n", origins[i]);
        assert_int_equal(ask_with("OPTIONS", "/v1/chat/completions", headers, NULL), 204);
        assert_has(ask_head, wanted);
        assert_has(ask_head, "\r\nAccess-Control-Allow-Headers: authorization, "
                             "content-type,x-stainless-os\r\n");
        assert_has(ask_head, "\r\nVary: Origin, Access-Control-Request-Headers\r\n");
        snprintf(headers, sizeof headers, "Origin: %s\r\nX-Stainless-OS: Linux\r\n", origins[i]);
        assert_int_equal(ask_with("POST", "/tokenize", headers, "{\"content\":\"a\"}"), 401);
        assert_has(ask_head, wanted); /* so that the page may read why */
        assert_has(ask_head, "\r\nVary: Origin\r\n");
        assert_lacks(ask_head, "Access-Control-Allow-Headers");
    }
    static const char *const no_names[] = {"x-a, ", "x a", "x-a;b", "", "x-a,,x-b", "x-\xC3\xA9"};
    for (size_t i = 0; i < sizeof no_names / sizeof *no_names; i++) {
        snprintf(headers, sizeof headers,
                 "Origin: http://a.example\r\nAccess-Control-Request-Headers: %s\r\n", no_names[i]);
        assert_int_equal(ask_with("OPTIONS", "/v1/models", headers, NULL), 204);
        assert_has(ask_head, "Access-Control-Allow-Headers: Authorization, Content-Type, X-Api");
    }
    static const char *const others[] = {"http://c.example", "https://a.example",
                                         "http://a.example:80", "http://a.example.org", "null"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        snprintf(headers, sizeof headers, "Origin: %s\r\nAccess-Control-Request-Headers: x-a\r\n",
                 others[i]);
        assert_int_equal(ask_with("OPTIONS", "/v1/models", headers, NULL), 403);
        assert_has(ask_body, "origin_not_allowed");
        assert_lacks(ask_head, "Access-Control");
        assert_has(ask_head, "\r\nVary: Origin\r\n");
    }
    assert_int_equal(ask("GET", "/health", NULL), 200);
    assert_has(ask_head, "\r\nVary: Origin\r\n");
    assert_int_equal(serve_end(other), 0);
    other = serve_begin("--cors-origin *");
    assert_int_equal(ask_with("GET", "/health", "Origin: http://c.example\r\n", NULL), 200);
    assert_has(ask_head, "\r\nAccess-Control-Allow-Origin: *\r\n");
    assert_int_equal(serve_end(other), 0);
    serve_port = port;
}

static void test_queue(void **state)
{
    int port = serve_port;
    (void)state;
    pid_t other = serve_begin("--queue 2 --parallel 1 -c 60000");
    int first = begin_stream(), second = begin_stream();
    await_metric("mixt_orders", 2);
    assert_int_equal(ask("POST", "/v1/completions", "{\"prompt\":\"The\"}"), 503);
    assert_has(ask_head, "Retry-After: 1");
    assert_has(ask_body, "queue_full");
    close(first);
    close(second);
    await_metric("mixt_orders", 0);
    assert_int_equal(ask("POST", "/v1/completions", "{\"prompt\":\"The\"}"), 200);
    assert_int_equal(serve_end(other), 0);
    serve_port = port;
}

/* SIGTERM: what runs is finished, nothing new is taken, /health says so. */
static void test_graceful(void **state)
{
    int port = serve_port;
    (void)state;
    pid_t other = serve_begin("-c 60000");
    int client = client_connect();
    ask_completion(client, "{\"prompt\":\"The\",\"ignore_eos\":true,\"max_tokens\":2500,"
                           "\"stream\":true}");
    client_await(client, "data: ");
    assert_int_equal(kill(other, SIGTERM), 0);
    await_log("finishing what runs");
    int beside = client_connect();
    client_put(beside, GET HOST "Connection: close\r\n\r\n");
    const char *reply = client_read_all(beside);
    assert_int_equal(reply_status(reply), 503);
    assert_has(reply, "draining");
    close(beside);
    reply = client_read_all(client);
    assert_has(reply, "data: [DONE]");
    assert_has(reply, "\"finish_reason\":\"length\"");
    close(client);
    assert_int_equal(finish_child(other), 0);
    /* A second signal does not wait. */
    other = serve_begin("-c 60000");
    client = begin_stream();
    client_await(client, "data: ");
    kill(other, SIGTERM);
    await_log("finishing what runs");
    kill(other, SIGTERM);
    assert_int_equal(finish_child(other), 128 + SIGTERM);
    close(client);
    serve_port = port;
}

/* A body that comes once the server has begun to stop is answered as a request that does. */
static void test_late_body(void **state)
{
    static const char *const heads[] = {POST, "POST /v1/completions HTTP/1.1\r\n" HOST
                                              "Content-Type: application/json\r\n"};
    static const char *const bodies[] = {"{\"content\":\"ab\"}", "{\"prompt\":\"ab\"} "};
    char text[300];
    int port = serve_port, late[2];
    (void)state;
    pid_t other = serve_begin("-c 60000");
    int client = begin_stream(); /* for which it stays */
    client_await(client, "data: ");
    for (int i = 0; i < 2; i++) {
        late[i] = client_connect();
        snprintf(text, sizeof text, "%sExpect: 100-continue\r\nContent-Length: 16\r\n\r\n",
                 heads[i]);
        client_put(late[i], text);
        client_await(late[i], "HTTP/1.1 100 Continue\r\n\r\n"); /* the head was taken */
    }
    assert_int_equal(kill(other, SIGTERM), 0);
    await_log("finishing what runs");
    for (int i = 0; i < 2; i++) {
        client_put(late[i], bodies[i]);
        const char *reply = client_read_reply(late[i]);
        assert_int_equal(reply_status(reply), 503);
        assert_has(reply, "Retry-After: 1");
        assert_has(reply, "\"code\":\"draining\"");
        close(late[i]);
    }
    close(client);
    assert_int_equal(finish_child(other), 0);
    serve_port = port;
}

static void test_refused_options(void **state)
{
    (void)state;
    shell_refuses("\"$MIXT\" serve", "--model: needed");
    shell_refuses("\"$MIXT\" serve -m run --cache-type-k f16", "keys and values have one type");
    shell_refuses("\"$MIXT\" serve -m run --port 70000", "--port");
    shell_refuses("\"$MIXT\" serve -m run --api-key-file nothing", "nothing");
    assert_int_equal(shell("\"$MIXT\" serve -m run --host 203.0.113.1 --port 0"), 1);
    assert_int_equal(shell("\"$MIXT\" serve -m nothing --port 0"), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_framing),       cmocka_unit_test(test_own_refusals),
        cmocka_unit_test(test_long_pipeline), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_cut_bodies),    cmocka_unit_test(test_json),
        cmocka_unit_test(test_keep_alive),    cmocka_unit_test(test_pipelining),
        cmocka_unit_test(test_head),          cmocka_unit_test(test_gone),
        cmocka_unit_test(test_half_closed),   cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_live_record),   cmocka_unit_test(test_listeners_gone),
        cmocka_unit_test(test_keys),          cmocka_unit_test(test_origins),
        cmocka_unit_test(test_queue),         cmocka_unit_test(test_graceful),
        cmocka_unit_test(test_late_body),     cmocka_unit_test(test_refused_options),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
