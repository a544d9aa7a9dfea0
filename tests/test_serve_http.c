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
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"
#include "serve_client.h"

static pid_t server;

static int set_up(void **state)
{
    int status = shell_make(state);
    if (status == 0) {
        shell_train();
        server = serve_begin("-c 60000 --cache-positions 130000 --header-bytes 4096 --body-bytes "
                             "20000 --timeout 20");
    }
    return status;
}

static int tear_down(void **state)
{
    int status = serve_end(server);
    return scratch_remove(state) != 0 || status != 0;
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
    {"OPTIONS *", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 400, 400},
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
            if (status != cases[i].status && status != cases[i].other) {
                print_error("%s%s: status %d, not %d\n", cases[i].name,
                            slowly ? ", byte by byte" : "", status, cases[i].status);
                failed++;
            }
        }
    }
    assert_int_equal(failed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_framing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
