/* What a run of a model's plan is given for each of its rows: named arrays on the host, which one
 * function copies into the inputs of a graph. */
#ifndef MIXT_MODEL_BATCH_H
#define MIXT_MODEL_BATCH_H

#include "model/model.h"

typedef struct mixt_batch {
    int64_t capacity; /* rows that there is room for */
    int64_t rows;     /* in use: [0, rows) of each array by row */
    int32_t *tokens;
    int32_t *positions; /* for RoPE: counted from the document's first row */
    int32_t *first;     /* first key that the row sees: a row of the batch, or (generate) a
                           position of its sequence */
    int32_t *last;      /* last key that it sees, its own */
    int32_t *windowed;  /* `first` for layers with a sliding window; made by mixt_batch_write */
    int32_t *targets;   /* the next token, -1: none (train, score) */
    int32_t *slots;     /* cache row that keys and values are written to (generate) */
    int32_t *sequence;  /* line of `pages` (generate) */
    int32_t *expanded;  /* 1: latent attention in its expanded form; 0: absorbed (generate) */
    int32_t *absorbed_first, *expanded_first; /* `first` of rows in either; made likewise */
    int32_t *variant;                         /* which of the graph's routers decides (score) */
    int64_t sequences, pages_per_sequence;
    int32_t *pages; /* [sequences, pages_per_sequence] of the cache; -1: none (generate) */
    int64_t takes;  /* rows whose logits are wanted, at least 1 (generate) */
    int32_t *take;  /* [takes], of room for what the batch was made with */
} mixt_batch;

mixt_status mixt_batch_create(int64_t capacity, int64_t takes, mixt_batch *batch,
                              mixt_error *error);
/* For the graph of a generation and those that share its cache: with a table of pages, none of
 * which is given out. */
mixt_status mixt_batch_create_paged(const mixt_graph *graph, mixt_batch *batch, mixt_error *error);
void mixt_batch_free(mixt_batch *batch);
/* Row `row` as the token at `position` of a sequence that has the page it lies in, and sees all of
 * its sequence up to it, with latent attention absorbed. Rows of a sequence stand together and
 * rise. */
void mixt_batch_place(mixt_batch *batch, int64_t row, int32_t token, int64_t sequence,
                      int64_t position);
/* Rows [row, row + count) as one sequence of `window` rows or less that begins at `row` and sees
 * nothing before it: positions, first, last. */
void mixt_batch_sequence(mixt_batch *batch, int64_t row, int64_t count);
/* Rows [row, end) without a token to speak of and without a target. */
void mixt_batch_nothing(mixt_batch *batch, int64_t row, int64_t end);
/* Copies the rows in use into the inputs that the graph has. */
void mixt_batch_write(mixt_batch *batch, const mixt_graph *graph, mixt_instance *instance);

#endif
