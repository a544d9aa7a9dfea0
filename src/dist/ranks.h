/* What ranks do together. Every rank of a group makes the same calls in the same order. After one
 * that failed (a rank was lost, or let the others wait too long) all further ones fail with the
 * same line. */
#ifndef MIXT_DIST_RANKS_H
#define MIXT_DIST_RANKS_H

#include <stdint.h>

#include "core/error.h"
#include "core/threads.h"
#include "dist/transport.h"

#define MIXT_RANKS_ROOM ((size_t)1 << 18)
#define MIXT_RANKS_CHUNKS 16 /* in which rows travel, at most */

/* Which ranks. */
typedef enum mixt_group {
    MIXT_GROUP_ALL,    /* all D * E: hold the same weights that are no expert's */
    MIXT_GROUP_EXPERT, /* the E that hold one copy of the experts together */
    MIXT_GROUP_DATA,   /* the D that hold the same experts */
} mixt_group;

/* Requests of an operator that another one ends, in their order; NULL: through already. */
typedef struct mixt_begun {
    int first, end;
    void *requests[MIXT_RANKS_CHUNKS];
} mixt_begun;

struct mixt_ranks {
    const mixt_transport *transport; /* NULL: alone */
    bool owns_transport;
    int data, expert; /* D, E */
    int held;         /* of a layer's experts, by the rank that has the fewest; 0: not arranged */
    double timeout;
    mixt_begun begun;
    int chunks;      /* of the rows that are under way, where rank 0 says how many */
    int chunks_told; /* of all rows, as a caller has said; 0: as many as are worth it */
    float *room;     /* for what comes in of a sum, MIXT_RANKS_ROOM values of each rank, or NULL */
    bool agreed;     /* all ranks have an error of mixt_ranks_agree */
    mixt_error lost; /* what ended it for all further calls */
};

/* Ranks over a transport that the caller made (tests); they do not close it. */
mixt_status mixt_ranks_create(const mixt_transport *transport, double timeout, mixt_ranks **ranks,
                              mixt_error *error);

/* Their number in a group, this rank's place in it, and the rank at a place. */
int mixt_group_size(const mixt_ranks *ranks, mixt_group group);
int mixt_group_place(const mixt_ranks *ranks, mixt_group group);
int mixt_group_rank(const mixt_ranks *ranks, mixt_group group, int place);
/* The experts that a place of MIXT_GROUP_EXPERT holds: [first, end) of so many. */
int mixt_experts_first(const mixt_ranks *ranks, int experts, int place);

/* To each place of a group send_bytes[place] bytes, one place's behind the other's, and from each
 * receive_bytes[place]; the two sides know the counts already. What a rank has for itself is
 * copied; it stays where it is if one of the two says 0. */
typedef struct mixt_exchange {
    mixt_group group;
    const void *send;
    const size_t *send_bytes;
    void *receive;
    const size_t *receive_bytes;
} mixt_exchange;

/* The byte at which each place's begin, where they do not lie one behind the other. */
typedef struct mixt_exchange_at {
    const size_t *send, *receive;
} mixt_exchange_at;

mixt_status mixt_ranks_exchange(mixt_ranks *ranks, const mixt_exchange *exchange,
                                mixt_error *error);
/* The same in two parts, so that other work runs between them; the memory is the exchange's until
 * it has ended. at NULL: one behind the other. *request NULL: there is nothing to wait for. */
mixt_status mixt_ranks_begin(mixt_ranks *ranks, const mixt_exchange *exchange,
                             const mixt_exchange_at *at, void **request, mixt_error *error);
mixt_status mixt_ranks_end(mixt_ranks *ranks, void *request, mixt_error *error);
/* A request that another operator ends, and the first of those. */
void mixt_ranks_leave(mixt_ranks *ranks, void *request);
mixt_status mixt_ranks_end_first(mixt_ranks *ranks, mixt_error *error);
/* Between the two: bytes move on. */
void mixt_ranks_go_on(mixt_ranks *ranks);
/* `bytes` of each place, one behind the other in `all`. */
mixt_status mixt_ranks_gather(mixt_ranks *ranks, mixt_group group, const void *mine, size_t bytes,
                              void *all, mixt_error *error);
/* The bytes of the place `root`, everywhere. */
mixt_status mixt_ranks_broadcast(mixt_ranks *ranks, mixt_group group, int root, void *data,
                                 size_t bytes, mixt_error *error);
/* The bytes of the place `from` at the place `to`; nobody else has a part in it. */
mixt_status mixt_ranks_pass(mixt_ranks *ranks, mixt_group group, int from, int to, void *data,
                            size_t bytes, mixt_error *error);
/* The receiving side of a short broadcast (below 256 KiB) of a rank to all that may come at any
 * time: it waits as long as that rank lives. */
mixt_status mixt_ranks_hear(mixt_ranks *ranks, int rank, void *data, size_t bytes,
                            mixt_error *error);
mixt_status mixt_ranks_barrier(mixt_ranks *ranks, mixt_group group, mixt_error *error);
/* Sums over the group, everywhere: whole numbers are exact. */
mixt_status mixt_ranks_sum(mixt_ranks *ranks, mixt_group group, int64_t *values, size_t count,
                           mixt_error *error);
/* values[begin[p], begin[p + 1]) of all places are added up at place p, in the order of places:
 * sum[i] += values of place 0, then of place 1, ...; sum [begin[own + 1] - begin[own]]. So the same
 * ranks give the same bits always, by whichever threads of `pool` (NULL: by this one). */
mixt_status mixt_ranks_reduce(mixt_ranks *ranks, mixt_group group, const float *values,
                              const size_t *begin, float *sum, mixt_pool *pool, mixt_error *error);
/* The other way: values[begin[p], begin[p + 1]) of place p, everywhere, in place. */
mixt_status mixt_ranks_spread(mixt_ranks *ranks, mixt_group group, float *values,
                              const size_t *begin, mixt_error *error);

#endif
