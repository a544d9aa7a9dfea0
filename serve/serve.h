/* mixt serve: a model for many clients over HTTP, in the forms of OpenAI, llama.cpp and Ollama.
 * This header is what the command includes; docs/server.md is the manual. */
#ifndef MIXT_SERVE_SERVE_H
#define MIXT_SERVE_SERVE_H

#include "mixt.h"

/* How a text's embedding is made of its tokens' states. */
typedef enum serve_pooling {
    SERVE_POOLING_MEAN, /* of all tokens */
    SERVE_POOLING_LAST, /* the last token's */
} serve_pooling;

typedef struct serve_options {
    const char *host;
    int port;                   /* 0: the system's choice */
    const char *const *aliases; /* names of the model: the first is shown; "*": any name is served,
                                 * which stands beside a name */
    size_t alias_count;
    const char *const *keys; /* of clients; none: everybody may ask */
    size_t key_count;
    const char *const *host_names; /* that Host may have beside localhost */
    size_t host_name_count;
    const char *const *origins; /* whose pages may ask beside our own; "*": all */
    size_t origin_count;
    const char *model_path;    /* as it was given */
    const char *chat_template; /* Jinja, or NULL: the chat endpoints refuse */
    const char *chat_name;     /* of it in messages */
    const char *variables;     /* JSON object for the template, or NULL */
    int connections;
    int header_bytes;
    int64_t body_bytes;
    int queue;                  /* generations that wait or run */
    int choices;                /* of one request: prompts times n */
    int64_t buffer_bytes;       /* that a stream's reader may be behind */
    int timeout;                /* seconds without a byte */
    serve_pooling pooling;      /* of embeddings */
    bool slots, props, metrics; /* whether these endpoints are there */
    bool quiet;                 /* no line for each request */
    mixt_engine_options engine;
} serve_options;

typedef struct serve_server serve_server;

/* The model's first name that is one. */
const char *serve_name(const serve_options *options);

/* Listens; every request is told that the model is being loaded. The options must outlive it.
 * NULL: `problem` has the reason. */
serve_server *serve_start(const serve_options *options, char problem[300]);
int serve_port(const serve_server *server);
/* The model is there, and requests are answered. All must outlive the server. */
mixt_status serve_ready(serve_server *server, mixt_context *context, const mixt_model *model,
                        mixt_tokenizer *tokenizer, mixt_error *error);
/* Of a server that is ready: the options of its engine, without zeros. */
const mixt_engine_options *serve_engine(const serve_server *server);
/* To be called about once a second. */
void serve_watch(serve_server *server);
/* Takes nothing new; what runs goes on. */
void serve_drain(serve_server *server);
/* Nothing runs and nobody is being answered. */
bool serve_is_idle(serve_server *server);
void serve_stop(serve_server *server);

#endif
