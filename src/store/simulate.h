/* What a pool would have done for requests: the same policies, asked in the same order as by the
 * pool (requests.c), so that a run's hits are the simulator's to the request.
 *
 * A pool has slots; layers whose experts are of one size share a class of them. It starts empty. A
 * batch is what one step wants of one layer:
 *   1. those of the batch that are held are its hits; all of it is noted as used;
 *   2. for each that is missing, in the order of the requests (rising), a slot of the class that is
 *      free, or else that of the expert which the policy gives up among those that are held and
 *      that the batch does not want.
 * Where the class has fewer slots than the batch has experts, those that were held are worked with
 * and can then be given up like others, wave by wave; which of them are is a matter of time in a
 * pool, so that there alone the two may differ. What is read ahead is not simulated: with it a pool
 * has more hits, and other ones. */
#ifndef MIXT_STORE_SIMULATE_H
#define MIXT_STORE_SIMULATE_H

#include "store/record.h"

/* Belady (1966): what is wanted last goes first. Not for a pool, which does not know. */
#define MIXT_POLICY_OPTIMUM "optimum"

typedef struct mixt_simulated {
    mixt_policy_shape shape;
    int classes;
    const int *class_of; /* [layers]; NULL: all in one */
    const mixt_request *requests;
    uint64_t count;
    bool singly; /* every request is a batch: choices come one after the other */
} mixt_simulated;

/* Pools of every size at once: depth [count]: a pool whose class has at least so many slots has the
 * request as a hit; 0: none has. Exact for classes of as many slots as a batch has experts. Each
 * request costs a step for each expert above it. */
mixt_status mixt_simulate_depths(const mixt_simulated *simulated, const char *policy,
                                 uint32_t *depth, mixt_error *error);

/* One pool, slots [classes], step by step: hit [count]. */
mixt_status mixt_simulate_pool(const mixt_simulated *simulated, const char *policy,
                               const int64_t *slots, uint8_t *hit, mixt_error *error);

#endif
