/* A batch of rows through the route operator alone, and rows of every kind for it. */
#ifndef MIXT_TESTS_ROUTE_BATCH_H
#define MIXT_TESTS_ROUTE_BATCH_H

#include "backend/cpu/compute.h"
#include "core/random.h"
#include "router/method.h"

/* Two threads; a group's set-up and tear-down. */
extern mixt_compute *route_compute;
int route_start(void **state);
int route_stop(void **state);

typedef struct route_batch {
    mixt_router_spec spec;
    mixt_attributes attributes;
    mixt_shape_request request;
    mixt_call call; /* without x, weight and what else the spec asks for by pointer */
    int32_t *first, draw[MIXT_DRAWS];
    float scale[MIXT_SCALES];
} route_batch;

/* Ready for rows of d values, with losses of weight 1; fails the test where the spec is refused. */
void route_batch_create(route_batch *batch, const mixt_router_spec *spec, bool training,
                        int64_t tokens, int64_t d);
void route_batch_free(route_batch *batch);
float *route_logits(const route_batch *batch, int64_t t);
const int32_t *route_ids(const route_batch *batch, int64_t t);
const float *route_weights(const route_batch *batch, int64_t t);
/* Fails unless counts, offsets, order and place follow from the ids, none of which is dropped. */
void route_check_record(const route_batch *batch);

/* One stream of random numbers, which a program begins. */
void route_random_begin(uint64_t seed);
uint64_t route_below(uint64_t bound);
enum {
    ROUTE_NORMAL,
    ROUTE_TIES,
    ROUTE_EQUAL,
    ROUTE_DENORMAL,
    ROUTE_ZEROS,
    ROUTE_HUGE,
    ROUTE_SOME_NAN,
    ROUTE_SOME_INFINITE,
    ROUTE_BITS,
    ROUTE_KINDS
};
float route_value(int kind);
void route_fill_row(int kind, int experts, float *logits);

#endif
