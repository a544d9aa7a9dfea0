/* mixt serve and the letter of HTTP: the 215 rows of strict_cases.c, each whole and byte by byte.
 */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"
#include "serve_client.h"
#include "strict_cases.h"

enum {
    STAYS_MILLISECONDS = 5000, /* that a server may take to answer or to close */
    SLOWLY_MAX = 2000,         /* bytes that are sent one by one, the last of a request's */
    TEXT_SIZE = 1 << 20,
};

static pid_t server;
static char etag[100];
static char reply[TEXT_SIZE];
static size_t reply_length;

static int set_up(void **state)
{
    int status = shell_make(state);
    if (status == 0) {
        shell_train();
        server = serve_begin("--timeout 30");
        assert_int_equal(ask("GET", "/", NULL), 200);
        const char *found = strstr(ask_head, "ETag: ");
        assert_non_null(found);
        snprintf(etag, sizeof etag, "%.*s", (int)strcspn(found + 6, "\r"), found + 6);
    }
    return status;
}

static int tear_down(void **state)
{
    return serve_tear_down(state, server);
}

/* A row's bytes with its piece in place of '@', and another request behind those that end the
 * connection. */
static char *bytes_of(const strict_case *row, size_t *length)
{
    static const char second[] = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    const char *piece = strcmp(row->group, "capabilities") == 0 ? etag : row->piece;
    size_t count = row->count > 0 ? (size_t)row->count : 1;
    const char *mark = piece != NULL ? memchr(row->bytes, '@', row->length) : NULL;
    size_t before = mark != NULL ? (size_t)(mark - row->bytes) : row->length;
    size_t piece_length = mark != NULL ? strlen(piece) : 0;
    char *bytes = malloc(row->length + count * piece_length + sizeof second);
    assert_non_null(bytes);
    memcpy(bytes, row->bytes, before);
    *length = before;
    if (mark != NULL) {
        for (size_t i = 0; i < count; i++, *length += piece_length) {
            memcpy(bytes + *length, piece, piece_length);
        }
        memcpy(bytes + *length, mark + 1, row->length - before - 1);
        *length += row->length - before - 1;
    }
    if (row->end == END_CLOSES) {
        memcpy(bytes + *length, second, sizeof second - 1);
        *length += sizeof second - 1;
    }
    return bytes;
}

/* Bytes of a reply behind its head. */
static size_t body_length(const char *head, const char *end)
{
    int status = reply_status(head);
    const char *length = strstr(head, "Content-Length: ");
    return status >= 200 && status != 204 && status != 304 && length != NULL && length < end
               ? strtoul(length + 16, NULL, 10)
               : 0;
}

/* How many whole replies have come, and how many of them are 2xx; interim ones do not count. */
static int count_replies(int *good)
{
    int count = 0;
    const char *at = reply, *end;
    *good = 0;
    while (reply_status(at) > 0 && (end = strstr(at, "\r\n\r\n")) != NULL) {
        int status = reply_status(at);
        size_t rest = reply_length - (size_t)(end + 4 - reply), length = body_length(at, end);
        if (length > rest) {
            break;
        }
        count += status >= 200;
        *good += status >= 200 && status < 300;
        at = end + 4 + length;
    }
    return count;
}

/* Reads until `wanted` replies are there (0: to the end); false: the server neither answers nor
 * closes. */
static bool read_replies(int client, int wanted, bool *closed)
{
    struct pollfd ready = {.fd = client, .events = POLLIN};
    int good;
    *closed = false;
    reply_length = 0;
    reply[0] = 0;
    while (wanted == 0 || count_replies(&good) < wanted) {
        if (poll(&ready, 1, STAYS_MILLISECONDS) <= 0) {
            return false;
        }
        ssize_t got = recv(client, reply + reply_length, TEXT_SIZE - 1 - reply_length, 0);
        if (got <= 0) {
            *closed = true;
            break;
        }
        reply_length += (size_t)got;
        reply[reply_length] = 0;
    }
    return true;
}

static bool is_among(const char *statuses, int status)
{
    char word[8];
    snprintf(word, sizeof word, "%d", status);
    for (const char *at = statuses; (at = strstr(at, word)) != NULL; at++) {
        bool begins = at == statuses || at[-1] == ' ';
        if (begins && (at[strlen(word)] == 0 || at[strlen(word)] == ' ')) {
            return true;
        }
    }
    return false;
}

/* What is wrong with the replies, or NULL. */
static const char *judge(const strict_case *row, bool answered, bool closed)
{
    static char part[200];
    int good, count = count_replies(&good);
    int status = reply_status(reply);
    if (!answered) {
        return "the server waits";
    }
    if (!is_among(row->statuses, status)) {
        return "another status";
    }
    if (row->replies > 0 && (count != row->replies || good != count)) {
        return "another number of replies";
    }
    if (row->end == END_STAYS && closed) {
        return "the connection is closed";
    }
    if (row->end == END_CLOSES && !closed) {
        return "the connection goes on";
    }
    if (row->end == END_CLOSES && good > (status >= 200 && status < 300)) {
        return "what stands behind it is answered";
    }
    if (row->part == NULL) {
        return NULL;
    }
    const char *mark = strchr(row->part, '@');
    snprintf(part, sizeof part, "%.*s%s", (int)strcspn(row->part, "@"), row->part,
             mark != NULL ? etag : "");
    bool lacks = part[0] == '!';
    return (strstr(reply, part + lacks) != NULL) == lacks ? "another reply" : NULL;
}

static const char *try(const strict_case *row, bool slowly)
{
    size_t length, sent = 0;
    bool closed;
    char *bytes = bytes_of(row, &length);
    int client = client_connect();
    if (slowly) {
        sent = length > SLOWLY_MAX ? length - SLOWLY_MAX : 0;
        bool goes_on = client_send(client, bytes, sent);
        while (goes_on && sent < length) {
            goes_on = client_send(client, bytes + sent++, 1);
        }
    } else {
        client_send(client, bytes, length);
    }
    free(bytes);
    if (row->end == END_CUT) {
        shutdown(client, SHUT_WR);
    }
    int wanted = row->end == END_STAYS    ? row->replies > 0 ? row->replies : 1
                 : row->end == END_CLOSES ? 3 /* which are too many */
                                          : 0;
    bool answered = read_replies(client, wanted, &closed);
    close(client);
    return judge(row, answered, closed);
}

static void test_rows(void **state)
{
    int failed = 0;
    (void)state;
    assert_int_equal(strict_case_count, 215);
    for (size_t i = 0; i < strict_case_count; i++) {
        const strict_case *row = &strict_cases[i];
        const char *whole = try(row, false);
        int status = reply_status(reply);
        const char *slow = try(row, true);
        if (whole != NULL || slow != NULL) {
            print_error("%s: %s: wants %s; whole: %s, status %d; byte by byte: %s, status %d\n",
                        row->group, row->name, row->statuses, whole != NULL ? whole : "as it is",
                        status, slow != NULL ? slow : "as it is", reply_status(reply));
            failed++;
        }
    }
    print_message("%zu of %zu as intended\n", strict_case_count - (size_t)failed,
                  strict_case_count);
    assert_int_equal(failed, 0);
    assert_int_equal(ask("GET", "/health", NULL), 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
