/* `mixt serve` as a client meets it: the program in the scratch folder, and raw sockets. */
#ifndef MIXT_TESTS_SERVE_CLIENT_H
#define MIXT_TESTS_SERVE_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "shell.h"

enum { REPLY_MAX = 4 << 20 };

extern int serve_port; /* of the server that runs */

/* Starts `mixt serve -m run --port 0` with more options (words, without quotes) and waits until it
 * is ready; what it says goes to serve.out and serve.err. */
pid_t serve_begin(const char *options);
/* SIGTERM, and its exit status. */
int serve_end(pid_t server);
/* For a group of tests: a scratch folder, a trained model `run`, and its server. */
int serve_set_up(void **state, const char *options, pid_t *server);
int serve_tear_down(void **state, pid_t server);

int client_connect(void);
/* Sends all; false where the server has closed. */
bool client_send(int client, const char *bytes, size_t length);
bool client_put(int client, const char *text);
/* Reads until the server closes (a minute at most); the text is the caller's until the next read.
 */
const char *client_read_all(int client);
/* Reads one reply with Content-Length, or up to its last chunk. */
const char *client_read_reply(int client);
/* Reads until `part` has come. */
const char *client_await(int client, const char *part);

/* The status of a reply's text, and its body. */
int reply_status(const char *reply);
const char *reply_body(const char *reply);

/* One request on a connection of its own: the status; the body is in `ask_body` (chunks joined). */
extern char ask_body[REPLY_MAX];
extern char ask_head[1 << 16];
int ask(const char *method, const char *path, const char *body);
/* The same with further header lines, each with its end. */
int ask_with(const char *method, const char *path, const char *headers, const char *body);
/* A POST that must have this status; its body as JSON, to be released by json_decref. */
json_t *ask_json(const char *path, const char *body, int status);
/* A value inside: "choices.0.text"; must be there. */
const json_t *json_at(const json_t *root, const char *path);
const char *text_at(const json_t *root, const char *path);
long long integer_at(const json_t *root, const char *path);
double number_at(const json_t *root, const char *path);
/* A value of /metrics. */
double metric(const char *name);
/* Waits (a minute at most) until it is `value`. */
void await_metric(const char *name, double value);
/* The same, until the log of the server begun last has `part`. */
void await_log(const char *part);

#endif
