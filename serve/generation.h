/* Generation for many at once: one thread owns the engine and its sequences, takes orders from a
 * bounded queue, draws, and leaves pieces (a token with its text, probabilities and experts) in
 * each order's list, from which the HTTP thread takes them. A list that its reader leaves full
 * makes its sequences wait; an order whose client is gone gives its sequences up before the next
 * step. */
#ifndef MIXT_SERVE_GENERATION_H
#define MIXT_SERVE_GENERATION_H

#include "mixt.h"

#include "http.h"
#include "live.h"
#include "metrics.h"
#include "serve.h"

typedef enum finish_reason {
    FINISH_NONE,
    FINISH_END,    /* the model closed the text, or a grammar was complete */
    FINISH_STOP,   /* a stop string */
    FINISH_LENGTH, /* max_tokens, the context, or the time allowed */
} finish_reason;

typedef enum piece_kind { PIECE_PROMPT, PIECE_TOKEN, PIECE_END } piece_kind;

typedef struct generation_piece {
    struct generation_piece *next;
    piece_kind kind;
    int choice;      /* prompt * n + its number */
    size_t position; /* of the token in its sequence */
    int32_t token;
    bool has_logprob; /* not the first token of a prompt */
    double logprob;
    int top_count; /* [top_count], best first */
    int32_t *top_ids;
    double *top_values;
    int width; /* of an end of an order that embeds: [width], the text's states pooled */
    double *pooled;
    token_routes routes; /* ids NULL: not asked for, or not known */
    char *text;          /* valid UTF-8 that may be shown now; of an end: what was held back */
    size_t text_length;
    finish_reason finish; /* of an end */
    int stop;             /* index of the stop string, or -1 */
    size_t bytes;         /* that the piece takes */
} generation_piece;

typedef struct routing_change {
    mixt_routing_change change;
    int layer, value;
} routing_change;

typedef struct generation_prompt {
    int32_t *ids;
    size_t count;
} generation_prompt;

/* What is asked for; generation_submit takes it with all that it points to. */
typedef struct generation_order {
    generation_prompt *prompts; /* malloc'd, with their ids */
    size_t prompt_count;
    int n;                   /* choices of each prompt */
    int64_t max_tokens;      /* of each choice; -1: as the context allows */
    mixt_sampler **samplers; /* [prompt_count n], malloc'd */
    char **stops;            /* malloc'd strings */
    size_t stop_count;
    int top_logprobs;     /* of each token; -1: no probabilities at all */
    bool prompt_logprobs; /* those of the prompts' tokens too */
    bool routes;          /* experts of every token */
    bool embeds;          /* the prompts' states, pooled, and no token: max_tokens is 0 */
    bool stream;          /* pieces are taken as they come */
    bool stop_at_line;    /* ends in front of the first newline */
    int64_t milliseconds; /* for drawing; 0: no limit */
    routing_change *changes;
    size_t change_count;
} generation_order;

void generation_order_free(generation_order *order);

typedef struct generation_times {
    int64_t queued, begun, first, ended; /* generation_now, 0: not yet */
} generation_times;

/* Microseconds of the clock of http_now. */
int64_t generation_now(void);

typedef struct generation_counts {
    size_t prompt_tokens, cached_tokens, drawn_tokens;
} generation_counts;

typedef struct serve_generator serve_generator;
typedef struct serve_generation serve_generation;

typedef struct generator_options {
    mixt_context *context;
    const mixt_model *model;
    const mixt_tokenizer *tokenizer;
    mixt_engine_options engine;
    serve_pooling pooling;
    int queue_max;     /* orders that wait or run */
    size_t buffer_max; /* bytes of pieces that a stream's reader may be behind */
    serve_metrics *metrics;
    live_hub *live;
} generator_options;

mixt_status generator_create(const generator_options *options, serve_generator **made,
                             mixt_error *error);
/* Takes no new orders; those that are there go on. */
void generator_drain(serve_generator *generator);
/* Ends the thread; orders that are left fail. All of them must be freed by then. */
void generator_free(serve_generator *generator);
/* The engine's options without zeros. */
const mixt_engine_options *generator_engine(const serve_generator *generator);
size_t generator_context(const serve_generator *generator); /* positions of one sequence */
int generator_parallel(const serve_generator *generator);
/* Orders that wait or run. */
int generator_orders(serve_generator *generator);
void generator_describe(serve_generator *generator, mixt_engine_statistics *statistics);

/* A place among the orders, before work is spent on one; false: all are taken. It goes to the order
 * that is submitted, or back by generator_give_back. */
bool generator_reserve(serve_generator *generator);
void generator_give_back(serve_generator *generator);
/* Takes the order whatever happens. NULL: no memory, or the generator drains. */
serve_generation *generation_submit(serve_generator *generator, generation_order *order,
                                    http_request *request);
/* The pieces since the last call, to be freed by pieces_free. Where there are none and more will
 * come, *sleeps is set and the request sleeps until there are; with `whole` it sleeps until all are
 * there. */
generation_piece *generation_take(serve_generation *generation, bool whole, bool *sleeps,
                                  bool *done);
void pieces_free(generation_piece *pieces);
/* Once done: MIXT_OK, or what went wrong. */
mixt_status generation_error(serve_generation *generation, const char **message);
void generation_describe(serve_generation *generation, generation_counts *counts,
                         generation_times *times);
const generation_order *generation_order_of(const serve_generation *generation);
void generation_free(serve_generation *generation);

/* Orders as /slots shows them: calls `show` for each that runs, under the generator's lock. */
typedef struct generation_view {
    uint64_t number;
    const generation_order *order;
    generation_counts counts;
    bool begun;
} generation_view;

void generator_each(serve_generator *generator,
                    void (*show)(void *user, const generation_view *view), void *user);

#endif
