/* Between the shape rules of exchange and give_back and their two directions. */
#ifndef MIXT_OPS_EXCHANGE_H
#define MIXT_OPS_EXCHANGE_H

#include "ops/operator.h"

typedef struct mixt_exchange_sizes {
    int places, own;       /* ranks that share the experts, and this one's place among them */
    int64_t experts, held; /* with weights: all, and this rank's */
    int64_t groups;        /* without, behind them */
} mixt_exchange_sizes;

/* By the attributes and the size of the offsets. */
mixt_exchange_sizes mixt_exchange_sizes_of(const mixt_attributes *attributes, int64_t offsets);
/* Reals at the head of a workspace that hold bytes for and from each place, counts, and where
 * parts begin. */
int64_t mixt_exchange_lists_reals(const mixt_exchange_sizes *sizes);

#endif
