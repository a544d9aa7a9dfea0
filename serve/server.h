/* What the endpoints share: the server, a call of a client, replies. */
#ifndef MIXT_SERVE_SERVER_H
#define MIXT_SERVE_SERVER_H

#include <stdatomic.h>

#include "fields.h"
#include "generation.h"
#include "http.h"
#include "live.h"
#include "metrics.h"
#include "serve.h"
#include "store.h"

enum { SERVER_LOADING, SERVER_READY, SERVER_DRAINING };

typedef struct api_call api_call;
typedef struct serve_worker serve_worker;

/* How a family of endpoints says what was generated. */
typedef struct api_format {
    const char *stream_type;                         /* Content-Type */
    void (*begin)(api_call *call, text_buffer *out); /* of a stream; may be NULL */
    void (*piece)(api_call *call, const generation_piece *piece, text_buffer *out);
    void (*end)(api_call *call, text_buffer *out); /* of a stream */
    void (*whole)(api_call *call, const generation_piece *pieces, text_buffer *out);
    void (*failed)(api_call *call, const api_problem *problem, text_buffer *out);
} api_format;

struct serve_server {
    const serve_options *options;
    http_server *http;
    serve_metrics metrics;
    live_hub *live;
    serve_worker *worker;
    serve_worker *surveyor;     /* works on slow routes */
    store_survey curve, report; /* the surveyor's */
    atomic_int state;
    int64_t started, watched; /* http_now */
    int64_t created;          /* seconds since 1970, when the model was ready */
    /* Once it is ready. */
    mixt_context *context;
    const mixt_model *model;
    mixt_model_info info;
    mixt_tokenizer *tokenizer; /* encoding is for the worker alone */
    size_t longest_token;      /* bytes */
    serve_generator *generator;
    text_buffer bos, eos; /* texts of these tokens */
};

/* One request of a client from its headers to its end. */
struct api_call {
    serve_server *server;
    http_request *request;
    const struct api_route *route;
    const api_format *format;
    json_t *body;   /* NULL where there is none */
    void *settings; /* of the endpoint's family */
    void (*settings_free)(void *settings);
    serve_generation *generation;
    live_listener *listener;
    bool stream, begun, ended, reserved;
    bool handed;            /* to the endpoint */
    http_progress progress; /* what it said, with this reply */
    http_reply reply;
    api_call *next;  /* of the worker */
    text_buffer out; /* of a stream, not sent yet */
    size_t sent;
    api_problem problem;
};

/* Takes the order, and replies from then on in `format`. */
http_progress call_generate(api_call *call, generation_order *order, const api_format *format);
/* A place in the queue, taken before work is spent on a request; false: it was refused. */
bool call_reserve(api_call *call);

/* {"error": ...} of the call's problem. */
http_progress reply_problem(api_call *call, http_reply *reply);
void write_problem(const api_problem *problem, text_buffer *out);
/* Whether the model that a request names is served here; `name` NULL: it names none. */
bool model_is_served(const serve_server *server, const char *name, api_problem *problem);
const char *server_name(const serve_server *server);
/* Experts of a token that a request may ask for. */
int server_experts_most(const serve_server *server);
/* The name that replies to a request have: its own where any is served. */
const char *call_model(const api_call *call, const char *named);

/* An endpoint answers a request whose body is read: HTTP_ANSWERED with the reply, HTTP_ANSWERED
 * with call->problem set, or what call_generate gives. */
typedef http_progress (*endpoint)(api_call *call, http_reply *reply);

typedef struct api_route {
    const char *method, *path; /* a path that ends with '*': all that begin so */
    endpoint answer;
    bool open;         /* without a key */
    bool always;       /* while loading and draining too */
    bool body;         /* a JSON object is needed */
    bool may_be_empty; /* ... or none */
    bool slow;         /* answered on the surveyor's thread */
} api_route;

/* Of every path that serve_page_find knows. */
extern const api_route page_route;
/* Each family's, ending with a row without method. */
extern const api_route openai_routes[], llama_routes[], ollama_routes[], embedding_routes[],
    routing_routes[], store_routes[];

#endif
