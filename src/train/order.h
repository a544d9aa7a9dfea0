/* Which tokens a step sees. The training documents, each begun by the separator, form one stream;
 * it is cut into windows, and the windows of an epoch come in an order that depends on
 * (seed, epoch) alone. So the place in the data is two numbers, (epoch, index).
 *
 * A document's first row in a window sees nothing before it and has position 0. The separator
 * predicts the document's first token, and the document's last token predicts the separator behind
 * it: so the model learns to begin a text from the separator alone, as evaluation and generation
 * do, and to end one. */
#ifndef MIXT_TRAIN_ORDER_H
#define MIXT_TRAIN_ORDER_H

#include "corpus/data.h"
#include "model/batch.h"

typedef struct mixt_order {
    const mixt_data_split *split;
    int separator; /* -1: none, and a document's last token predicts nothing */
    uint64_t seed;
    int window;
    uint64_t windows; /* in an epoch */
} mixt_order;

/* Refuses data that are shorter than one window. */
mixt_status mixt_order_init(mixt_order *order, const mixt_data *data, uint64_t seed, int window,
                            mixt_error *error);
/* Number of the window at a place of an epoch, index < windows. */
uint64_t mixt_order_window(const mixt_order *order, uint64_t epoch, uint64_t index);
/* Fills rows [row, row + window) with a window; returns how many have a target. */
int64_t mixt_order_fill(const mixt_order *order, uint64_t number, int64_t row, mixt_batch *batch);

#endif
