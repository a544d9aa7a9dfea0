/* The server: routes, keys, the life of a call. */
#include "server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "log.h"
#include "worker.h"
#include "page.h"

enum {
    LIVE_BYTES = 4 << 20,
    LIVE_LISTENERS = 32,
    LIVE_TICK = 15000, /* milliseconds between comments to listeners */
    HEADER_SECONDS = 10,
    BODY_SECONDS = 60,
    RETRY_SECONDS = 1,
};

static const api_route *const families[] = {
    openai_routes,  llama_routes, ollama_routes, embedding_routes,
    routing_routes, store_routes, NULL};

/* ---- replies */

static const char *problem_type(int status)
{
    return status == 401   ? "authentication_error"
           : status == 403 ? "permission_error"
           : status == 404 ? "not_found_error"
           : status == 429 ? "rate_limit_error"
           : status == 501 ? "not_supported_error"
           : status == 503 ? "unavailable_error"
           : status >= 500 ? "server_error"
                           : "invalid_request_error";
}

void write_problem(const api_problem *problem, text_buffer *out)
{
    text_put(out, "{\"error\":{");
    text_member(out, "message", problem->message);
    text_member(out, "type", problem_type(problem->status));
    text_member(out, "param", problem->param[0] != 0 ? problem->param : NULL);
    text_member(out, "code", problem->code);
    text_put(out, "}}");
}

http_progress reply_problem(api_call *call, http_reply *reply)
{
    text_free(&reply->body);
    reply->content_type = NULL;
    reply->status = call->problem.status;
    reply->retry_after = call->problem.retry_after;
    if (strncmp(call->request->path, "/api/", 5) == 0) { /* Ollama's clients want a string */
        text_put(&reply->body, "{");
        text_member(&reply->body, "error", call->problem.message);
        text_put(&reply->body, "}");
    } else {
        write_problem(&call->problem, &reply->body);
    }
    return HTTP_ANSWERED;
}

static void refuse(void *user, int status, const char *code, const char *message, http_reply *reply)
{
    api_problem problem = {0};
    (void)user;
    api_fail(&problem, status, code, NULL, "%s", message);
    reply->status = status;
    write_problem(&problem, &reply->body);
}

/* ---- names of the model */

const char *serve_name(const serve_options *options)
{
    size_t i = 0;
    while (i + 1 < options->alias_count && strcmp(options->aliases[i], "*") == 0) {
        i++;
    }
    return options->aliases[i];
}

const char *server_name(const serve_server *server)
{
    return serve_name(server->options);
}

int server_experts_most(const serve_server *server)
{
    int own = server->info.options.experts_per_token;
    int most = server->options->engine.experts_per_token_max;
    return most > own ? most : own;
}

static bool serves_any(const serve_server *server)
{
    for (size_t i = 0; i < server->options->alias_count; i++) {
        if (strcmp(server->options->aliases[i], "*") == 0) {
            return true;
        }
    }
    return false;
}

bool model_is_served(const serve_server *server, const char *name, api_problem *problem)
{
    if (name == NULL || serves_any(server)) {
        return true;
    }
    for (size_t i = 0; i < server->options->alias_count; i++) {
        const char *alias = server->options->aliases[i];
        size_t length = strlen(alias);
        if (strncmp(alias, name, length) == 0 &&
            (name[length] == 0 || strcmp(name + length, ":latest") == 0)) {
            return true;
        }
    }
    return api_fail(
        problem, 404, "model_not_found", "model",
        "the model \"%.100s\" is not served here, but \"%.100s\" is (mixt serve --alias "
        "adds names, * serves any)",
        name, server_name(server));
}

const char *call_model(const api_call *call, const char *named)
{
    return named != NULL && serves_any(call->server) ? named : server_name(call->server);
}

/* ---- routes */

static bool path_fits(const char *pattern, const char *path)
{
    size_t length = strlen(pattern);
    return pattern[length - 1] == '*'
               ? strncmp(pattern, path, length - 1) == 0 && path[length - 1] != 0
               : strcmp(pattern, path) == 0;
}

/* The row of a request, or NULL; `allow` gets the methods that its path has. */
static const api_route *find_route(const http_request *request, char allow[64])
{
    const char *method = strcmp(request->method, "HEAD") == 0 ? "GET" : request->method;
    allow[0] = 0;
    for (const api_route *const *family = families; *family != NULL; family++) {
        for (const api_route *row = *family; row->method != NULL; row++) {
            if (!path_fits(row->path, request->path)) {
                continue;
            }
            if (strcmp(row->method, method) == 0) {
                return row;
            }
            size_t used = strlen(allow);
            snprintf(allow + used, 64 - used, "%s%s", used > 0 ? ", " : "", row->method);
        }
    }
    if (allow[0] == 0 && serve_page_find(request->path) != NULL) {
        if (strcmp(method, page_route.method) == 0) {
            return &page_route;
        }
        snprintf(allow, 64, "%s", page_route.method);
    }
    return NULL;
}

/* Equal, in a time that depends on the length of what was sent alone. */
static bool same_key(const char *key, const char *sent)
{
    size_t length = strlen(key), sent_length = strlen(sent);
    unsigned char difference = length != sent_length;
    for (size_t i = 0; i < sent_length; i++) {
        difference |= (unsigned char)(sent[i] ^ (length > 0 ? key[i % length] : 0));
    }
    return difference == 0;
}

static bool has_key(const serve_server *server, const http_request *request)
{
    const serve_options *options = server->options;
    const char *bearer = http_header(request, "Authorization");
    const char *sent = http_header(request, "X-Api-Key");
    bool found = options->key_count == 0;
    if (bearer != NULL && strncasecmp(bearer, "Bearer ", 7) == 0) {
        sent = bearer + 7;
    }
    for (size_t i = 0; sent != NULL && i < options->key_count; i++) {
        found |= same_key(options->keys[i], sent);
    }
    return found;
}

/* JSON, or what curl and Ollama's clients say where they say nothing of it: pages from elsewhere,
 * which may send these without asking, have been turned away by their Origin. */
static bool type_is_json(const http_request *request)
{
    const char *type = http_header(request, "Content-Type");
    size_t length = type != NULL ? strcspn(type, "; \t") : 0;
    return type == NULL || (length == 16 && strncasecmp(type, "application/json", 16) == 0) ||
           (length == 33 && strncasecmp(type, "application/x-www-form-urlencoded", 33) == 0 &&
            http_header(request, "Origin") == NULL);
}

static bool check_state(const serve_server *server, const api_route *route, api_problem *problem)
{
    int state = atomic_load(&server->state);
    if (state != SERVER_READY && !route->always) {
        problem->retry_after = RETRY_SECONDS;
        return api_fail(problem, 503, state == SERVER_LOADING ? "loading" : "draining", NULL, "%s",
                        state == SERVER_LOADING ? "Loading model" : "the server is stopping");
    }
    return true;
}

static bool begin(void *user, http_request *request, size_t *body_limit, http_reply *reply)
{
    static const char *const methods[] = {"GET",     "HEAD",  "POST",  "PUT",     "DELETE",
                                          "OPTIONS", "PATCH", "TRACE", "CONNECT", NULL};
    static _Thread_local char allow[64]; /* until the reply is sent, on this thread */
    serve_server *server = user;
    api_problem problem = {0};
    const api_route *route = find_route(request, allow);
    api_call *call = calloc(1, sizeof *call);
    request->user = call;
    *body_limit = (size_t)server->options->body_bytes;
    if (call == NULL) {
        refuse(user, 503, "no_memory", "out of memory", reply);
        return false;
    }
    call->server = server;
    call->request = request;
    call->route = route;
    bool known = false;
    for (const char *const *method = methods; *method != NULL; method++) {
        known |= strcmp(*method, request->method) == 0;
    }
    if (strcmp(request->method, "OPTIONS") == 0 && (allow[0] != 0 || request->path[0] == '*')) {
        reply->status = 204;
        reply->allow = request->path[0] == '*'      ? "GET, HEAD, POST, OPTIONS"
                       : strcmp(allow, "GET") == 0  ? "GET, HEAD, OPTIONS"
                       : strcmp(allow, "POST") == 0 ? "POST, OPTIONS"
                                                    : "GET, HEAD, POST, OPTIONS";
        return false;
    }
    if (!known) {
        api_fail(&problem, 501, "method_not_known", NULL, "the method is not known");
    } else if (route == NULL && allow[0] != 0) {
        reply->allow = allow;
        api_fail(&problem, 405, "method_not_allowed", NULL, "this path has %s alone", allow);
    } else if (route == NULL) {
        api_fail(&problem, 404, "not_found", NULL, "there is nothing at this path");
    } else if (!route->open && !has_key(server, request)) {
        api_fail(&problem, 401, "invalid_api_key", NULL,
                 "an API key is needed: Authorization: Bearer KEY");
    } else if (check_state(server, route, &problem) && route->body && !type_is_json(request)) {
        api_fail(&problem, 415, "unsupported_media_type", NULL,
                 "Content-Type must be application/json");
    }
    call->problem = problem;
    if (problem.status != 0) {
        reply_problem(call, reply);
    }
    return problem.status == 0;
}

static http_progress read_body(api_call *call, http_reply *reply)
{
    char problem[300];
    const http_request *request = call->request;
    if (call->route->body && !(call->route->may_be_empty && request->body_length == 0)) {
        bool no_memory;
        call->body = serve_json_parse(request->body, request->body_length, problem, &no_memory);
        if (call->body == NULL) {
            api_fail(&call->problem, no_memory ? 503 : 400,
                     no_memory ? "no_memory" : "invalid_json", NULL, "%s", problem);
            return HTTP_ANSWERED;
        }
    }
    return call->route->answer(call, reply);
}

/* ---- generation */

bool call_reserve(api_call *call)
{
    serve_metrics *metrics = &call->server->metrics;
    if (generator_reserve(call->server->generator)) {
        call->reserved = true;
        return true;
    }
    metrics_add(metrics, &metrics->refused_busy, 1);
    call->problem.retry_after = RETRY_SECONDS;
    return api_fail(&call->problem, 503, "queue_full", NULL,
                    "the queue is full (%d requests wait or run); try again later",
                    call->server->options->queue);
}

http_progress call_generate(api_call *call, generation_order *order, const api_format *format)
{
    call->format = format;
    call->stream = order->stream;
    call->reserved = false; /* the place is the order's */
    call->generation = generation_submit(call->server->generator, order, call->request);
    if (call->generation == NULL) {
        api_fail(&call->problem, 503, "no_memory", NULL, "out of memory");
        return HTTP_ANSWERED;
    }
    return HTTP_WAITS;
}

/* Puts what went wrong with the generation into the call's problem. */
static bool failed(api_call *call)
{
    const char *message;
    mixt_status status = generation_error(call->generation, &message);
    if (status == MIXT_OK) {
        return false;
    }
    bool asked = status == MIXT_ERROR_ARGUMENT || status == MIXT_ERROR_UNSUPPORTED;
    api_fail(&call->problem,
             asked                              ? 400
             : status == MIXT_ERROR_INTERRUPTED ? 503
                                                : 500,
             asked                              ? "invalid_value"
             : status == MIXT_ERROR_INTERRUPTED ? "interrupted"
             : status == MIXT_ERROR_NUMERIC     ? "not_finite"
                                                : "internal_error",
             NULL, "%s", message);
    return true;
}

/* Writes pieces of a stream, and what stands behind the last. */
static void write_stream(api_call *call, generation_piece *pieces, bool done)
{
    const api_format *format = call->format;
    if (!call->begun && format->begin != NULL) {
        format->begin(call, &call->out);
    }
    call->begun = true;
    for (const generation_piece *piece = pieces; piece != NULL; piece = piece->next) {
        format->piece(call, piece, &call->out);
    }
    pieces_free(pieces);
    if (done && failed(call)) {
        format->failed(call, &call->problem, &call->out);
    } else if (done) {
        format->end(call, &call->out);
    }
    call->ended = done || call->out.failed;
}

/* Of a call whose order was submitted. */
static http_progress go_on(api_call *call, http_reply *reply)
{
    bool sleeps, done;
    generation_piece *pieces = generation_take(call->generation, !call->stream, &sleeps, &done);
    if (sleeps) {
        return HTTP_WAITS;
    }
    reply->status = 200;
    if (done && pieces == NULL && failed(call)) {
        return reply_problem(call, reply);
    }
    if (call->stream) {
        reply->content_type = call->format->stream_type;
        write_stream(call, pieces, done);
        return HTTP_STREAMS;
    }
    if (failed(call)) {
        pieces_free(pieces);
        return reply_problem(call, reply);
    }
    call->format->whole(call, pieces, &reply->body);
    pieces_free(pieces);
    return HTTP_ANSWERED;
}

/* The endpoint's word: on the worker's thread where there is a body to read. */
static void prepare(api_call *call)
{
    call->reply.status = 200;
    call->progress = read_body(call, &call->reply);
}

static http_progress answer(void *user, http_request *request, http_reply *reply)
{
    serve_server *server = user;
    api_call *call = request->user;
    if (!call->handed) {
        call->handed = true;
        /* It may have begun to stop while the body came. The request counts by now, so that what
         * still runs here is waited for; behind this nothing is given to workers that end. */
        if (!check_state(server, call->route, &call->problem)) {
            return reply_problem(call, reply);
        }
        if (call->route->body || call->route->slow) {
            http_sleep(request);
            worker_add(call->route->slow ? server->surveyor : server->worker, call);
            return HTTP_WAITS;
        }
        prepare(call);
    }
    if (call->problem.status != 0) {
        return reply_problem(call, reply);
    }
    if (call->generation != NULL) {
        return go_on(call, reply);
    }
    *reply = call->reply;
    call->reply = (http_reply){0};
    return call->progress;
}

static size_t read_stream(void *user, http_request *request, char *bytes, size_t size, bool *end)
{
    api_call *call = request->user;
    (void)user;
    if (call->listener != NULL) {
        return live_read(call->listener, bytes, size, end);
    }
    while (call->sent == call->out.length && !call->ended) {
        bool sleeps, done;
        call->out.length = call->sent = 0;
        generation_piece *pieces = generation_take(call->generation, false, &sleeps, &done);
        if (sleeps) {
            return 0;
        }
        write_stream(call, pieces, done);
    }
    size_t left = call->out.length - call->sent;
    size_t count = left < size ? left : size;
    if (count > 0) {
        memcpy(bytes, call->out.bytes + call->sent, count);
        call->sent += count;
    }
    *end = count == 0;
    return count;
}

static void closed(void *user, http_request *request, const http_outcome *outcome)
{
    serve_server *server = user;
    api_call *call = request->user;
    generation_counts counts;
    generation_times times;
    metrics_request(&server->metrics, outcome->status);
    log_entry entry = {.request = request, .outcome = outcome};
    if (call != NULL) {
        entry.route = call->route != NULL ? call->route->path : NULL;
        entry.code = call->problem.status != 0 ? call->problem.code : NULL;
        if (call->generation != NULL) {
            generation_describe(call->generation, &counts, &times);
            entry.counts = &counts;
            entry.times = &times;
        }
    }
    if (!server->options->quiet) {
        log_request(&entry);
    }
    if (call == NULL) {
        return;
    }
    generation_free(call->generation);
    if (call->listener != NULL) {
        live_leave(call->listener);
    }
    if (call->reserved) {
        generator_give_back(server->generator);
    }
    if (call->settings_free != NULL) {
        call->settings_free(call->settings);
    }
    json_decref(call->body);
    text_free(&call->out);
    text_free(&call->reply.body);
    free(call);
}

/* ---- the server */

serve_server *serve_start(const serve_options *options, char problem[300])
{
    serve_json_begin();
    serve_server *server = calloc(1, sizeof *server);
    if (server == NULL) {
        snprintf(problem, 300, "no memory");
        return NULL;
    }
    const http_handler handler = {server, begin, answer, read_stream, closed, refuse};
    const http_limits limits = {
        .host = options->host,
        .port = options->port,
        .connections = options->connections,
        .header_bytes = (size_t)options->header_bytes,
        .idle_seconds = options->timeout,
        .header_seconds = HEADER_SECONDS,
        .body_seconds = BODY_SECONDS,
        .origins = options->origins,
        .origin_count = options->origin_count,
        .names = options->host_names,
        .name_count = options->host_name_count,
    };
    server->options = options;
    server->started = server->watched = http_now();
    metrics_create(&server->metrics);
    server->live = live_create(LIVE_BYTES, LIVE_LISTENERS);
    server->worker = worker_create(prepare);
    server->surveyor = worker_create(prepare);
    bool ready = server->live != NULL && server->worker != NULL && server->surveyor != NULL;
    server->http = ready ? http_start(&limits, &handler, problem) : NULL;
    if (server->http == NULL) {
        if (!ready) {
            snprintf(problem, 300, "no memory, or a thread could not be started");
        }
        worker_free(server->worker);
        worker_free(server->surveyor);
        live_free(server->live);
        metrics_destroy(&server->metrics);
        free(server);
        return NULL;
    }
    return server;
}

int serve_port(const serve_server *server)
{
    return http_port(server->http);
}

/* The text of a special token, "" where it has none. */
static void special_text(const mixt_tokenizer *tokenizer, mixt_special which, text_buffer *text)
{
    size_t length = 0;
    int id = mixt_tokenizer_special(tokenizer, which);
    const char *bytes = id >= 0 ? mixt_tokenizer_bytes_of(tokenizer, id, &length) : NULL;
    text_put(text, "");
    text_add_utf8(text, bytes != NULL ? bytes : "", length);
}

mixt_status serve_ready(serve_server *server, mixt_context *context, const mixt_model *model,
                        mixt_tokenizer *tokenizer, mixt_error *error)
{
    server->context = context;
    server->model = model;
    server->tokenizer = tokenizer;
    mixt_model_describe(model, &server->info);
    special_text(tokenizer, MIXT_SPECIAL_BOS, &server->bos);
    special_text(tokenizer, MIXT_SPECIAL_EOS, &server->eos);
    for (int32_t id = 0; id < mixt_tokenizer_vocab_size(tokenizer); id++) {
        size_t length = 0;
        mixt_tokenizer_bytes_of(tokenizer, id, &length);
        server->longest_token = length > server->longest_token ? length : server->longest_token;
    }
    const generator_options options = {
        .context = context,
        .model = model,
        .tokenizer = tokenizer,
        .engine = server->options->engine,
        .pooling = server->options->pooling,
        .queue_max = server->options->queue,
        .buffer_max = (size_t)server->options->buffer_bytes,
        .metrics = &server->metrics,
        .live = server->live,
    };
    mixt_status status = generator_create(&options, &server->generator, error);
    if (status == MIXT_OK) {
        server->created = (int64_t)time(NULL);
        atomic_store(&server->state, SERVER_READY);
    }
    return status;
}

const mixt_engine_options *serve_engine(const serve_server *server)
{
    return generator_engine(server->generator);
}

void serve_watch(serve_server *server)
{
    int64_t now = http_now();
    http_watch(server->http);
    live_watch(server->live);
    if (now - server->watched > LIVE_TICK) {
        server->watched = now;
        live_tick(server->live);
    }
}

void serve_drain(serve_server *server)
{
    atomic_store(&server->state, SERVER_DRAINING);
    generator_drain(server->generator);
    live_close(server->live);
}

bool serve_is_idle(serve_server *server)
{
    return http_requests(server->http) == 0 && generator_orders(server->generator) == 0;
}

void serve_stop(serve_server *server)
{
    if (server == NULL) {
        return;
    }
    worker_free(server->worker);
    worker_free(server->surveyor);
    http_stop(server->http);
    generator_free(server->generator);
    live_free(server->live);
    metrics_destroy(&server->metrics);
    text_free(&server->curve.text);
    text_free(&server->report.text);
    text_free(&server->bos);
    text_free(&server->eos);
    free(server);
}
