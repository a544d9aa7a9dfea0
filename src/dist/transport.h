/* What carries bytes between ranks. MPI is one (mpi.c, a library of its own that is loaded where a
 * launcher started several ranks, so that a program needs no MPI to run alone); tests have another.
 * All else that ranks do together is built on it in ranks.c and collectives.c, alike for all. */
#ifndef MIXT_DIST_TRANSPORT_H
#define MIXT_DIST_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>

#define MIXT_TRANSPORT_VERSION 1
#define MIXT_TRANSPORT_TEXT 400 /* of a message with its NUL */
#define MIXT_TRANSPORT_OPEN "mixt_transport_open"

/* Bytes to or from another rank. A receive is as long as what was sent; none is empty. Messages
 * from one rank to another arrive in the order in which they were started. */
typedef struct mixt_message {
    int rank;
    bool receive;
    void *data;
    size_t bytes;
} mixt_message;

typedef enum mixt_wait {
    MIXT_WAIT_DONE,
    MIXT_WAIT_LATE, /* the time is over; the request is there still */
    MIXT_WAIT_LOST, /* a rank ended, or the transport cannot go on */
} mixt_wait;

typedef struct mixt_transport {
    int version; /* MIXT_TRANSPORT_VERSION */
    int rank, count;
    void *user;
    /* Starts them all. Their memory stays the caller's until a wait says done; the list is free at
     * once. NULL and a line in `text`: it cannot. */
    void *(*start)(void *user, const mixt_message *messages, int count, char *text);
    /* Waits at most `seconds`. *rank: one that is waited for or was lost, -1 where that is not
     * known. DONE frees the request. */
    mixt_wait (*wait)(void *user, void *request, double seconds, int *rank, char *text);
    /* This rank cannot go on: the waits of the others say LOST with this line, or they end. May not
     * return. */
    void (*abort)(void *user, const char *why);
    /* Behind the last message; frees the transport. */
    void (*close)(void *user);
    /* What is under way goes on by itself from now on, until the next wait, since this rank has
     * other work. NULL: it has to wait for that. */
    void (*move)(void *user);
} mixt_transport;

/* What such a library exports as MIXT_TRANSPORT_OPEN. NULL and a line in text[MIXT_TRANSPORT_TEXT]:
 * it cannot. */
typedef const mixt_transport *(*mixt_transport_opener)(char *text);

#endif
