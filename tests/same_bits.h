/* Requests whose results are known from a session that has nothing beside it, and random schedules
 * of many of them through one engine: every row that it hands out is compared, bit by bit. */
#ifndef MIXT_TESTS_SAME_BITS_H
#define MIXT_TESTS_SAME_BITS_H

#include "mixt.h"

#define SAME_TEXT 150 /* tokens of a text: two pages and some */
#define SAME_TEXTS 5
#define SAME_ROUTINGS 5

/* What is known of a text with a routing: logits, experts and margins of each token, where `known`.
 */
typedef struct same_request {
    int text, routing;
    int chosen; /* columns of ids and weights */
    bool known[SAME_TEXT];
    float *logits; /* [SAME_TEXT, vocab_size] */
    int32_t *ids;  /* [SAME_TEXT, moe_layers, chosen] */
    float *weights;
    float *margins; /* [SAME_TEXT, moe_layers] */
} same_request;

/* A kind of model, its texts, what each gives. */
typedef struct same_bits {
    const char *name;
    mixt_model *model;
    mixt_cache_type cache_type;
    mixt_latent latent;
    int vocab_size, moe_layers;
    bool by_feed; /* what is remembered depends on what is fed at once */
    int first;    /* of a text, fed at once; the rest token by token unless by_feed */
    int32_t tokens[SAME_TEXTS][SAME_TEXT];
    bool ends[SAME_TEXTS][SAME_TEXT]; /* whether a feed ends with this token, where that counts */
    same_request requests[SAME_TEXTS * SAME_ROUTINGS];
    int request_count;
} same_bits;

/* Fills what is empty but for the name, the cache's type and the form of latent attention. make:
 * the same new model at each call.
 */
void same_bits_prepare(same_bits *bits, mixt_model *(*make)(const void *), const void *user);
void same_bits_free(same_bits *bits);
/* Random engines and schedules until `pairs` rows were compared; says what differs. */
void same_bits_run(const same_bits *bits, uint64_t seed, uint64_t pairs);
/* What happened in all engines of this program: rows with logits that were compared, positions that
 * were found in pages of others, sequences that gave up theirs, steps of more than one batch. */
typedef struct same_bits_counts {
    uint64_t compared, found, preemptions, sweeps;
} same_bits_counts;
same_bits_counts same_bits_count(void);

#endif
