#include "serve_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"

enum { WAIT_MILLISECONDS = 60000, WORDS_MAX = 40 };

int serve_port;
char ask_body[REPLY_MAX];
char ask_head[1 << 16];
static char received[REPLY_MAX];
static size_t received_length;

/* ---- the server */

static void run_server(const char *options)
{
    char line[2000];
    char *words[WORDS_MAX] = {shell_program, "serve", "-m", "run", "--port", "0", "-t", "1"};
    int count = 8;
    snprintf(line, sizeof line, "%s", options);
    for (char *word = strtok(line, " "); word != NULL && count < WORDS_MAX - 1;
         word = strtok(NULL, " ")) {
        words[count++] = word;
    }
    setpgid(0, 0);
    if (chdir(scratch) != 0) {
        _exit(126);
    }
    redirect_stream("/dev/null", O_RDONLY, STDIN_FILENO);
    redirect_stream("serve.out", O_WRONLY | O_CREAT | O_TRUNC, STDOUT_FILENO);
    redirect_stream("serve.err", O_WRONLY | O_CREAT | O_TRUNC, STDERR_FILENO);
    execv(shell_program, words);
    _exit(127);
}

static bool said(const char *name, const char *part, char *text, size_t size)
{
    char *path = scratch_path(name);
    read_text(path, text, size);
    free(path);
    return strstr(text, part) != NULL;
}

pid_t serve_begin(const char *options)
{
    static char text[SHELL_TEXT_MAX];
    int status;
    signal(SIGPIPE, SIG_IGN);
    shell_write("serve.out", "");
    shell_write("serve.err", "");
    pid_t server = fork();
    assert_true(server >= 0);
    if (server == 0) {
        run_server(options);
    }
    for (int i = 0; !said("serve.err", " is ready", text, sizeof text); i++) {
        if (i > WAIT_MILLISECONDS / 5 || waitpid(server, &status, WNOHANG) != 0) {
            fail_msg("mixt serve %s: %s", options, text);
        }
        usleep(5000);
    }
    assert_true(said("serve.out", "http://127.0.0.1:", text, sizeof text));
    serve_port = atoi(strstr(text, "127.0.0.1:") + strlen("127.0.0.1:"));
    assert_true(serve_port > 0);
    return server;
}

int serve_end(pid_t server)
{
    assert_int_equal(kill(server, SIGTERM), 0);
    return finish_child(server);
}

int serve_set_up(void **state, const char *options, pid_t *server)
{
    int status = shell_make(state);
    if (status == 0) {
        shell_train();
        *server = serve_begin(options);
    }
    return status;
}

int serve_tear_down(void **state, pid_t server)
{
    int status = serve_end(server);
    return scratch_remove(state) != 0 || status != 0;
}

/* ---- sockets */

int client_connect(void)
{
    int client = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)serve_port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(client >= 0);
    assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof address), 0);
    received_length = 0;
    received[0] = 0;
    return client;
}

bool client_send(int client, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(client, bytes, length, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0) {
            return false;
        }
        bytes += sent;
        length -= (size_t)sent;
    }
    return true;
}

bool client_put(int client, const char *text)
{
    return client_send(client, text, strlen(text));
}

/* More bytes; false at the end. */
static bool receive_more(int client)
{
    struct pollfd ready = {.fd = client, .events = POLLIN};
    int came = poll(&ready, 1, WAIT_MILLISECONDS);
    if (came == 0) {
        fail_msg("the server says nothing for a minute; so far: %.1000s", received);
    }
    ssize_t got = recv(client, received + received_length, REPLY_MAX - 1 - received_length, 0);
    if (got > 0) {
        received_length += (size_t)got;
        received[received_length] = 0;
    }
    return got > 0;
}

const char *client_read_all(int client)
{
    received_length = 0;
    received[0] = 0;
    while (receive_more(client)) {
    }
    return received;
}

const char *client_await(int client, const char *part)
{
    while (strstr(received, part) == NULL) {
        if (!receive_more(client)) {
            fail_msg("the server closed before \"%s\": %.1000s", part, received);
        }
    }
    return received;
}

const char *client_read_reply(int client)
{
    const char *head_end, *length;
    received_length = 0;
    received[0] = 0;
    client_await(client, "\r\n\r\n");
    head_end = strstr(received, "\r\n\r\n") + 4;
    length = strstr(received, "Content-Length: ");
    if (length != NULL && length < head_end) {
        size_t wanted = (size_t)(head_end - received) + strtoul(length + 16, NULL, 10);
        while (received_length < wanted) {
            assert_true(receive_more(client));
        }
    } else {
        client_await(client, "\r\n0\r\n\r\n");
    }
    return received;
}

int reply_status(const char *reply)
{
    return strncmp(reply, "HTTP/1.1 ", 9) == 0 || strncmp(reply, "HTTP/1.0 ", 9) == 0
               ? atoi(reply + 9)
               : 0;
}

const char *reply_body(const char *reply)
{
    const char *end = strstr(reply, "\r\n\r\n");
    return end != NULL ? end + 4 : "";
}

/* ---- requests */

static void join_chunks(const char *body)
{
    size_t used = 0;
    for (;;) {
        char *end;
        size_t size = strtoul(body, &end, 16);
        if (size == 0 || strncmp(end, "\r\n", 2) != 0) {
            break;
        }
        memcpy(ask_body + used, end + 2, size);
        used += size;
        body = end + 2 + size + 2;
    }
    ask_body[used] = 0;
}

int ask_with(const char *method, const char *path, const char *headers, const char *body)
{
    static char head[8192];
    int client = client_connect();
    int length =
        snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s",
                 method, path, headers);
    if (body != NULL) {
        length +=
            snprintf(head + length, sizeof head - (size_t)length,
                     "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(body));
    }
    assert_true((size_t)length + 3 < sizeof head);
    strcat(head, "\r\n");
    if (client_put(client, head) && body != NULL) {
        client_put(client, body);
    }
    const char *reply = client_read_all(client);
    close(client);
    const char *said_body = reply_body(reply);
    size_t head_length = (size_t)(said_body - reply);
    snprintf(ask_head, sizeof ask_head, "%.*s", (int)(head_length < 65000 ? head_length : 65000),
             reply);
    if (strstr(ask_head, "Transfer-Encoding: chunked") != NULL) {
        join_chunks(said_body);
    } else {
        memcpy(ask_body, said_body, strlen(said_body) + 1);
    }
    return reply_status(reply);
}

int ask(const char *method, const char *path, const char *body)
{
    return ask_with(method, path, "", body);
}

json_t *ask_json(const char *path, const char *body, int status)
{
    int got = ask(body != NULL ? "POST" : "GET", path, body);
    if (got != status) {
        fail_msg("%s %s: status %d: %.1000s", path, body != NULL ? body : "", got, ask_body);
    }
    json_t *root = json_loads(ask_body, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    if (root == NULL) {
        fail_msg("%s: no JSON: %.1000s", path, ask_body);
    }
    return root;
}

const json_t *json_at(const json_t *root, const char *path)
{
    char word[100];
    const json_t *value = root;
    for (const char *at = path; *at != 0;) {
        size_t length = strcspn(at, ".");
        snprintf(word, sizeof word, "%.*s", (int)length, at);
        value = json_is_array(value) ? json_array_get(value, strtoul(word, NULL, 10))
                                     : json_object_get(value, word);
        if (value == NULL) {
            fail_msg("there is no %s in %.1500s", path, ask_body);
        }
        at += length + (at[length] == '.');
    }
    return value;
}

const char *text_at(const json_t *root, const char *path)
{
    const json_t *value = json_at(root, path);
    if (!json_is_string(value)) {
        fail_msg("%s is no string in %.1500s", path, ask_body);
    }
    return json_string_value(value);
}

long long integer_at(const json_t *root, const char *path)
{
    const json_t *value = json_at(root, path);
    if (!json_is_integer(value)) {
        fail_msg("%s is no integer in %.1500s", path, ask_body);
    }
    return json_integer_value(value);
}

double number_at(const json_t *root, const char *path)
{
    const json_t *value = json_at(root, path);
    if (!json_is_number(value)) {
        fail_msg("%s is no number in %.1500s", path, ask_body);
    }
    return json_number_value(value);
}

double metric(const char *name)
{
    char line[200];
    assert_int_equal(ask("GET", "/metrics", NULL), 200);
    snprintf(line, sizeof line, "\n%s ", name);
    const char *found = strstr(ask_body, line);
    if (found == NULL) {
        fail_msg("no metric %s: %.1000s", name, ask_body);
        return 0;
    }
    return strtod(found + strlen(line), NULL);
}

void await_log(const char *part)
{
    static char text[SHELL_TEXT_MAX];
    for (int i = 0; !said("serve.err", part, text, sizeof text); i++) {
        if (i > WAIT_MILLISECONDS / 5) {
            fail_msg("the server's log lacks \"%s\": %.1000s", part, text);
        }
        usleep(5000);
    }
}

void await_metric(const char *name, double value)
{
    double last = metric(name);
    for (int i = 0; last != value; i++) {
        if (i > WAIT_MILLISECONDS / 10) {
            fail_msg("%s is %g, not %g", name, last, value);
        }
        usleep(10000);
        last = metric(name);
    }
}
