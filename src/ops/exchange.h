/* Between the shape rules of exchange, arrive and give_back and their two directions. */
#ifndef MIXT_OPS_EXCHANGE_H
#define MIXT_OPS_EXCHANGE_H

#include "ops/operator.h"

typedef struct mixt_exchange_sizes {
    int places, own;       /* ranks that share the experts, and this one's place among them */
    int64_t experts, held; /* with weights: all, and this rank's */
    int64_t groups;        /* without, behind them */
} mixt_exchange_sizes;

/* In how many chunks so many bytes are worth being exchanged, those that a rank sends to all. */
int mixt_exchange_chunks(const mixt_ranks *ranks, double bytes);
/* By the attributes and the size of the offsets. */
mixt_exchange_sizes mixt_exchange_sizes_of(const mixt_attributes *attributes, int64_t offsets);
/* Reals at the head of a workspace that hold bytes for and from each place and where they begin,
 * counts, where parts begin, and the offsets of a chunk. */
int64_t mixt_exchange_lists_reals(const mixt_exchange_sizes *sizes);

/* Where only place 0 of MIXT_GROUP_EXPERT has rows, it says what is next to the others, who wait in
 * mixt_model_work: all of them receive this, and then take part in what it names. */
typedef enum mixt_summons_kind {
    MIXT_SUMMONS_END,  /* nothing more */
    MIXT_SUMMONS_PLAN, /* plans of up to `tokens` tokens with up to `rows` rows each will come */
    /* `layer` of a run over `tokens` tokens, in `rows` chunks: its exchange and far_experts */
    MIXT_SUMMONS_LAYER,
    MIXT_SUMMONS_KINDS,
} mixt_summons_kind;

typedef struct mixt_summons {
    int32_t kind; /* mixt_summons_kind */
    int32_t layer;
    int64_t tokens;
    int64_t rows;
} mixt_summons;

#endif
