/* What generation.c (orders and their lists) and generation_thread.c (the thread that draws) know
 * of each other. */
#ifndef MIXT_SERVE_GENERATION_PARTS_H
#define MIXT_SERVE_GENERATION_PARTS_H

#include <pthread.h>

#include "generation.h"

/* One text that grows. The thread's own. */
typedef struct serve_choice {
    int index;
    const generation_prompt *prompt;
    mixt_sampler *sampler; /* the order's */
    mixt_sequence *sequence;
    mixt_stop *stop;
    text_buffer raw; /* bytes drawn so far */
    size_t shown;    /* of them, that were given out */
    size_t drawn;
    int32_t held;        /* drawn, not fed yet; -1: none */
    int32_t last;        /* fed behind the prompt */
    size_t prompt_given; /* tokens of the prompt whose pieces were made */
    double *pooled;      /* [hidden_size] of an order that embeds: the sum so far, or the last */
    generation_piece *unrouted; /* of the last token, until it is computed */
    bool asked;                 /* something was fed, so that logits follow */
    bool computed;              /* the prompt is */
    bool over;                  /* nothing more is drawn */
    finish_reason finish;       /* once over */
    bool closed;                /* its end was given out */
} serve_choice;

struct serve_generation {
    serve_generator *generator;
    serve_generation *next;
    generation_order order;
    serve_choice *choices; /* [choice_count] */
    int choice_count;
    uint64_t number;
    /* The rest is under the generator's lock. */
    http_request *request; /* NULL: nobody takes pieces any more */
    bool sleeping, sleeping_whole, done, held_by_thread;
    generation_piece *first, *last;
    size_t buffered;
    mixt_error error;
    generation_counts counts;
    generation_times times;
};

struct serve_generator {
    generator_options options;
    mixt_engine *engine; /* the thread's own */
    size_t context_length;
    int parallel, vocab_size, hidden_size;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    serve_generation *arrived, *arrived_last; /* orders that the thread has not seen */
    serve_generation *active; /* those that it works on; it alone changes the list */
    int taken;                /* places */
    bool draining, stopping;
    mixt_engine_statistics statistics; /* of the last step */
};

/* What the thread runs; `user` is the generator. */
void *generation_thread(void *user);
/* A piece with room for its arrays and a text of `text_length` bytes; NULL: no memory. */
typedef struct piece_size {
    int tops, width;
    int layers, chosen; /* of the experts; 0: none */
    size_t text_length;
} piece_size;

generation_piece *piece_create(const piece_size *size);
/* Hands a piece out and wakes who waits for it. */
void generation_add(serve_generation *generation, generation_piece *piece);
/* The order is over: with MIXT_OK, or for the reason of the error. */
void generation_finish(serve_generation *generation, const mixt_error *error);
/* Its reader is too far behind. */
bool generation_is_behind(serve_generation *generation);

#endif
