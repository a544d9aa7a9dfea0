/* Runs documents through a model without gradients: what evaluation and tracing share.
 *
 * A document of n tokens behind its separator is cut at multiples of `window` into pieces without
 * overlap, whose rows are the tokens that are read; each row's target is the token behind it, so
 * every token but the first (the separator) is scored once. Pieces see nothing of one another.
 * Short ones share a sequence of `window` rows; the cut does not depend on who shares. */
#ifndef MIXT_EVAL_SCORE_H
#define MIXT_EVAL_SCORE_H

#include "backend/context.h"
#include "corpus/data.h"
#include "model/batch.h"
#include "model/weights.h"

/* A part of a document in a batch. */
typedef struct mixt_excerpt {
    size_t document;
    uint64_t from; /* first token read, counted from the document's first */
    int64_t count; /* rows */
    int64_t row;   /* first row in the batch */
} mixt_excerpt;

typedef struct mixt_scorer_options {
    bool heldout;
    int window;
    uint64_t max_tokens; /* read ones of each domain; 0: no limit */
    bool trace;          /* route records and logits stay readable, and a document's last token is
                            read too */
    bool drops;          /* route records stay readable */
    bool look_ahead;     /* records also have what would be chosen one layer earlier */
    /* Routers of each layer, of which mixt_batch.variant numbers those that decide for rows, as
     * mixt_graph_options has them; NULL: the model's. */
    const mixt_router_spec *const *routers;
    int64_t router_count;
    int chosen;   /* most experts that one chooses; 0: as many as the layer's */
    int64_t rows; /* of a batch at most, but for one window; 0: as many as usual */
    bool logits;  /* logits stay readable */
} mixt_scorer_options;

typedef struct mixt_scorer {
    const mixt_model *model;
    const mixt_data_split *split;
    mixt_scorer_options options;
    mixt_graph *graph;
    mixt_instance *instance;
    mixt_weights *weights;
    mixt_device_memory rope;
    int64_t capacity; /* rows of a batch */
    mixt_batch batch;
    mixt_excerpt *pieces; /* of the last batch */
    int piece_count;
    uint64_t *used; /* tokens read of each domain */
    size_t document;
    uint64_t from;        /* next piece */
    uint64_t done, total; /* tokens read */
    uint64_t reserved;    /* bytes of the plan, which the model's limit of memory counts */
} mixt_scorer;

/* Without data: whoever fills scorer->batch runs its first `rows` rows, a multiple of the window up
 * to scorer->capacity. The model must outlive it. */
mixt_status mixt_scorer_open(mixt_context *context, const mixt_model *model,
                             const mixt_scorer_options *options, mixt_scorer **scorer,
                             mixt_error *error);
mixt_status mixt_scorer_run(mixt_scorer *scorer, int64_t rows, mixt_error *error);
/* The model's weights and the data must outlive it. */
mixt_status mixt_scorer_create(mixt_context *context, const mixt_model *model,
                               const mixt_data *data, const mixt_scorer_options *options,
                               mixt_scorer **scorer, mixt_error *error);
void mixt_scorer_free(mixt_scorer *scorer);
/* The next batch without running it: how many rows it has, 0 at the end. */
int64_t mixt_scorer_fill(mixt_scorer *scorer);
/* Fills and runs the next batch; scorer->piece_count is 0 at the end. */
mixt_status mixt_scorer_next(mixt_scorer *scorer, mixt_error *error);

#endif
