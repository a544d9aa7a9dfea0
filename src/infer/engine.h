/* Inside an engine: what its parts share (mixt/engine.h is the public half). engine.c makes and
 * frees it, sequence.c has the sequences, schedule.c decides which rows come next, step.c computes
 * them. A session (session.c) is an engine with one sequence. */
#ifndef MIXT_INFER_ENGINE_H
#define MIXT_INFER_ENGINE_H

#include "backend/context.h"
#include "infer/page_pool.h"
#include "model/batch.h"
#include "model/routing.h"
#include "model/stored.h"
#include "model/weights.h"
#include "ops/latent.h"

/* A plan of the model, ready to run. */
typedef struct mixt_runner {
    mixt_graph *graph;
    mixt_instance *instance;
} mixt_runner;

/* One way to route, of the model or of some sequences; equal ones are one. */
typedef struct mixt_variant {
    mixt_routing *routing;
    uint64_t number; /* of all that there ever were: what its first pages stand behind */
    size_t users;    /* sequences */
    struct mixt_variant *next;
} mixt_variant;

/* What a step computes of a sequence: rows [row, row + count) of the step. */
typedef struct mixt_piece {
    mixt_sequence *sequence;
    int64_t row, count;
    int64_t logits, logits_count; /* rows of the logits */
    int broken_layer;             /* whose router gave what is not a number; -1: none */
    int64_t broken_row;           /* of the piece, the first there */
} mixt_piece;

/* What steps of more rows than a plan has need between layers; made when there is such a step. */
typedef struct mixt_sweep {
    int64_t blocks;   /* that there is room for */
    char *cuts;       /* [blocks, cut_bytes] what the next layer needs of each */
    size_t cut_bytes; /* of a block */
    int32_t *ids;     /* [sequences, moe_layers, chosen] of the last row of each piece */
    float *weights;   /* the same */
    float *margins;   /* [sequences, moe_layers] */
} mixt_sweep;

struct mixt_engine {
    mixt_context *context;
    const mixt_model *model;
    mixt_engine_options options; /* without zeros */
    const char *name;            /* begins error lines: "engine", "session" */
    int64_t capacity;            /* positions of a sequence */
    size_t moe_layers, chosen; /* of the routes that are handed out; chosen in any layer at most */
    mixt_runner many, few;     /* of batch_tokens rows, and of as many as there may be sequences */
    mixt_weights *weights;
    mixt_device_memory cache; /* of each of the graphs' caches in turn */
    mixt_device_memory rope;  /* by position, or by row of the step */
    bool rope_by_length;      /* rows of the table depend on how long the sequence is */
    bool whole_first;         /* the router decides once for what is fed first */
    bool forms;               /* latent attention may be expanded */
    mixt_latent_sizes latent;
    bool sharing;
    mixt_batch batch;
    mixt_page_pool *pool;
    void *page;                       /* of one cache, while it is copied */
    const mixt_router_spec **routers; /* [layers, sequences]: of each line of the page table */
    const mixt_variant **lines;       /* [sequences]: which these are of; NULL: none yet */
    mixt_variant *variants;           /* the model's own is the last */
    uint64_t variant_count;           /* that there ever were */
    mixt_sequence *oldest, *newest;   /* in the order in which they came */
    mixt_piece *pieces;               /* [sequences] of this step */
    int piece_count;
    uint64_t step;        /* 1, 2, ... */
    float *logits;        /* [logits_rows, V] of sequences with all_logits; NULL: there are none */
    float *states;        /* [logits_rows, d] of those with states; NULL: there are none */
    int32_t *route_ids;   /* [step_tokens, moe_layers, chosen]; NULL: nobody asks */
    float *route_weights; /* the same */
    float *route_margins; /* [step_tokens, moe_layers] */
    mixt_sweep sweep;
    const mixt_runner *ran; /* in the last step */
    uint64_t reserved; /* bytes of plans and caches, which the model's limit of memory counts */
    mixt_engine_statistics count;
};

struct mixt_sequence {
    mixt_engine *engine;
    mixt_sequence *next, *previous;
    mixt_sequence_options options;
    bool every; /* token gives logits or states, not the last alone */
    mixt_variant *variant;
    int32_t *tokens; /* [length] */
    int32_t *ends;   /* with rope_by_length: how long the sequence was when each had been fed */
    bool *expanded;  /* [length] with forms: which one each was fed to have */
    int32_t *pages;  /* [page_count], room for those of `length` */
    size_t token_capacity, end_capacity, form_capacity, page_capacity;
    size_t length;
    size_t first_feed;       /* tokens of the first feed, where the router decides once for them */
    size_t done;             /* tokens whose results were handed out */
    size_t held;             /* tokens whose state lies in pages, fewer where these were given up */
    size_t page_count;       /* ceil(held / 64), and those of the step that runs */
    size_t found;            /* positions that others computed */
    bool admitted;           /* has a place among those that run side by side */
    uint64_t served;         /* the last step that computed something of it */
    bool chosen;             /* to generate in this step */
    mixt_error error;        /* of this sequence alone */
    float *logits;           /* [V] */
    mixt_sequence_rows rows; /* of step `served` */
    int64_t last_row;        /* of the last of `rows`, as the instance that ran has it; -1: gone */
    int piece;               /* of that step */
};

/* An engine whose error lines begin with `name`. */
mixt_status mixt_engine_build(mixt_context *context, const mixt_model *model,
                              const mixt_engine_options *options, const char *name,
                              mixt_engine **engine, mixt_error *error);
/* Room for what sequences with these options ask for. */
mixt_status mixt_engine_make_room(mixt_engine *engine, const mixt_sequence_options *options,
                                  mixt_error *error);
/* Room for a step of `rows`; how many it may have then: fewer where there is no memory, but a batch
 * in any case. */
int64_t mixt_engine_make_sweep(mixt_engine *engine, int64_t rows);

/* Whether the last step was one that computed something of it. */
bool mixt_sequence_is_fresh(const mixt_sequence *sequence);
/* Whether something of it is to be computed. */
bool mixt_sequence_has_work(const mixt_sequence *sequence);
/* Tokens of page `page` as the pool compares them: ~id where latent attention was expanded, which
 * makes other states of them. `room`: [64]. */
const int32_t *mixt_sequence_page_tokens(const mixt_sequence *sequence, size_t page, int32_t *room);
/* To the end of the line: it came now. */
void mixt_sequence_queue(mixt_sequence *sequence);
/* Gives back its pages from `first` on. */
void mixt_sequence_give_back(mixt_sequence *sequence, size_t first);
/* After an error of its own: as it was with `length` tokens. For a sequence that is alone. */
void mixt_sequence_recover(mixt_sequence *sequence, size_t length);

/* Fills engine->pieces, with pages for all of them; none where nothing waits. */
void mixt_engine_schedule(mixt_engine *engine);

#endif
