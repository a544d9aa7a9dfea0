/* What ranks do together, of messages between two of them: every collective here is a list of
 * messages that all start at once, but for a gather of few bytes over many ranks, where their
 * number is what costs, and a broadcast of many bytes, which would all leave one rank. */
#include "dist/ranks.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/number.h"

int mixt_group_size(const mixt_ranks *ranks, mixt_group group)
{
    return group == MIXT_GROUP_EXPERT ? ranks->expert
           : group == MIXT_GROUP_DATA ? ranks->data
                                      : ranks->data * ranks->expert;
}

int mixt_group_place(const mixt_ranks *ranks, mixt_group group)
{
    int rank = mixt_ranks_rank(ranks);
    return group == MIXT_GROUP_EXPERT ? rank % ranks->expert
           : group == MIXT_GROUP_DATA ? rank / ranks->expert
                                      : rank;
}

int mixt_group_rank(const mixt_ranks *ranks, mixt_group group, int place)
{
    int rank = mixt_ranks_rank(ranks);
    return group == MIXT_GROUP_EXPERT ? rank / ranks->expert * ranks->expert + place
           : group == MIXT_GROUP_DATA ? place * ranks->expert + rank % ranks->expert
                                      : place;
}

int mixt_experts_first(const mixt_ranks *ranks, int experts, int place)
{
    return (int)((int64_t)place * experts / ranks->expert);
}

/* ------------------------------------------------------------------------------------------ */
/* Starting and waiting                                                                       */

/* Keeps the first failure, which all further calls repeat. */
static mixt_status lose(mixt_ranks *ranks, const char *text, mixt_error *error)
{
    mixt_fail(&ranks->lost, MIXT_ERROR_IO, "%s", text);
    return mixt_fail(error, MIXT_ERROR_IO, "%s", ranks->lost.message);
}

static mixt_status check_lost(const mixt_ranks *ranks, mixt_error *error)
{
    return ranks->lost.status == MIXT_OK
               ? MIXT_OK
               : mixt_fail(error, ranks->lost.status, "%s", ranks->lost.message);
}

static mixt_status start(mixt_ranks *ranks, const mixt_message *messages, int count, void **request,
                         mixt_error *error)
{
    char text[MIXT_TRANSPORT_TEXT] = "";
    *request = NULL;
    MIXT_TRY(check_lost(ranks, error));
    if (count == 0) {
        return MIXT_OK;
    }
    *request = ranks->transport->start(ranks->transport->user, messages, count, text);
    return *request != NULL ? MIXT_OK : lose(ranks, text, error);
}

mixt_status mixt_ranks_end(mixt_ranks *ranks, void *request, mixt_error *error)
{
    char text[MIXT_TRANSPORT_TEXT] = "";
    int rank = -1;
    if (request == NULL) {
        return check_lost(ranks, error);
    }
    const mixt_transport *t = ranks->transport;
    mixt_wait waited = t->wait(t->user, request, ranks->timeout, &rank, text);
    if (waited == MIXT_WAIT_DONE) {
        return MIXT_OK;
    }
    if (waited == MIXT_WAIT_LATE && rank >= 0) {
        mixt_format(text, sizeof text, "rank %d let rank %d wait for %g seconds", rank,
                    mixt_ranks_rank(ranks), ranks->timeout);
    } else if (waited == MIXT_WAIT_LATE) {
        mixt_format(text, sizeof text, "rank %d waited for %g seconds", mixt_ranks_rank(ranks),
                    ranks->timeout);
    }
    return lose(ranks, text, error);
}

void mixt_ranks_leave(mixt_ranks *ranks, void *request)
{
    mixt_begun *begun = &ranks->begun;
    if (begun->first == begun->end) {
        begun->first = begun->end = 0;
    }
    assert(begun->end < MIXT_RANKS_CHUNKS);
    begun->requests[begun->end++] = request;
}

mixt_status mixt_ranks_end_first(mixt_ranks *ranks, mixt_error *error)
{
    mixt_begun *begun = &ranks->begun;
    void *request = begun->first < begun->end ? begun->requests[begun->first++] : NULL;
    MIXT_TRY(check_lost(ranks, error));
    return mixt_ranks_end(ranks, request, error);
}

void mixt_ranks_go_on(mixt_ranks *ranks)
{
    char text[MIXT_TRANSPORT_TEXT] = "";
    int rank = -1, i = ranks->begun.first;
    void **requests = ranks->begun.requests;
    while (i < ranks->begun.end && requests[i] == NULL) {
        i++;
    }
    if (i == ranks->begun.end || ranks->lost.status != MIXT_OK) {
        return;
    }
    const mixt_transport *t = ranks->transport;
    mixt_wait waited = t->wait(t->user, requests[i], 0, &rank, text);
    requests[i] = waited == MIXT_WAIT_DONE ? NULL : requests[i];
    if (waited == MIXT_WAIT_LOST) {
        lose(ranks, text, NULL);
    }
}

/* A list of messages, made for a group: none to this rank itself. */
typedef struct message_list {
    mixt_ranks *ranks;
    mixt_group group;
    mixt_message *messages;
    int count;
} message_list;

static mixt_status make_list(mixt_ranks *ranks, mixt_group group, message_list *list,
                             mixt_error *error)
{
    size_t size = (size_t)mixt_group_size(ranks, group);
    *list = (message_list){ranks, group, calloc(2 * size, sizeof *list->messages), 0};
    return list->messages != NULL ? MIXT_OK
                                  : mixt_fail(error, MIXT_ERROR_MEMORY, "ranks: no memory");
}

static void add(message_list *list, int place, bool receive, void *data, size_t bytes)
{
    if (bytes > 0 && place != mixt_group_place(list->ranks, list->group)) {
        int rank = mixt_group_rank(list->ranks, list->group, place);
        list->messages[list->count++] = (mixt_message){rank, receive, data, bytes};
    }
}

static mixt_status run_list(message_list *list, mixt_error *error)
{
    void *request;
    mixt_status status = start(list->ranks, list->messages, list->count, &request, error);
    free(list->messages);
    return status == MIXT_OK ? mixt_ranks_end(list->ranks, request, error) : status;
}

/* A gather over more than GATHER_RANKS ranks, of up to GATHER_BYTES of each, goes in rounds; a
 * broadcast of SLICED_BYTES or more goes in slices. */
#define GATHER_RANKS 32
#define GATHER_BYTES ((size_t)1 << 14)
#define SLICED_BYTES ((size_t)1 << 18)

/* ------------------------------------------------------------------------------------------ */
/* Exchanges                                                                                  */

static mixt_status begin_exchange(mixt_ranks *ranks, const mixt_exchange *x,
                                  const mixt_exchange_at *at, void **request, mixt_error *error)
{
    message_list list;
    int size = mixt_group_size(ranks, x->group), own = mixt_group_place(ranks, x->group);
    *request = NULL;
    MIXT_TRY(make_list(ranks, x->group, &list, error));
    size_t from = 0, to = 0, own_from = 0, own_to = 0;
    for (int place = 0; place < size; place++) {
        from = at != NULL ? at->send[place] : from;
        to = at != NULL ? at->receive[place] : to;
        add(&list, place, false, (char *)x->send + from, x->send_bytes[place]);
        add(&list, place, true, (char *)x->receive + to, x->receive_bytes[place]);
        own_from = place == own ? from : own_from;
        own_to = place == own ? to : own_to;
        from += x->send_bytes[place];
        to += x->receive_bytes[place];
    }
    size_t both = x->send_bytes[own] > 0 ? x->receive_bytes[own] : 0;
    assert(both == 0 || x->send_bytes[own] == both);
    mixt_status status = start(ranks, list.messages, list.count, request, error);
    free(list.messages);
    if (status == MIXT_OK && both > 0) {
        memcpy((char *)x->receive + own_to, (const char *)x->send + own_from, both);
    }
    return status;
}

mixt_status mixt_ranks_begin(mixt_ranks *ranks, const mixt_exchange *exchange,
                             const mixt_exchange_at *at, void **request, mixt_error *error)
{
    MIXT_TRY(begin_exchange(ranks, exchange, at, request, error));
    if (*request != NULL && ranks->transport->move != NULL) {
        ranks->transport->move(ranks->transport->user);
    }
    return MIXT_OK;
}

mixt_status mixt_ranks_exchange(mixt_ranks *ranks, const mixt_exchange *exchange, mixt_error *error)
{
    void *request;
    MIXT_TRY(begin_exchange(ranks, exchange, NULL, &request, error));
    return mixt_ranks_end(ranks, request, error);
}

/* Rounds in which what a rank has doubles: what those from `own` on have, own + held on send on (J.
 * Bruck et al. 1997). So there are log2 N messages in place of N - 1, of as many bytes together. */
static mixt_status gather_in_rounds(mixt_ranks *ranks, mixt_group group, char *all, size_t bytes,
                                    mixt_error *error)
{
    int size = mixt_group_size(ranks, group), own = mixt_group_place(ranks, group);
    char *held = malloc((size_t)size * bytes); /* of own, own + 1, ... */
    mixt_status status =
        held != NULL ? MIXT_OK : mixt_fail(error, MIXT_ERROR_MEMORY, "ranks: no memory");
    if (status == MIXT_OK) {
        memcpy(held, all + (size_t)own * bytes, bytes);
    }
    for (int count = 1; count < size && status == MIXT_OK; count *= 2) {
        message_list list;
        size_t more = (size_t)(count < size - count ? count : size - count) * bytes;
        status = make_list(ranks, group, &list, error);
        if (status == MIXT_OK) {
            add(&list, (own + size - count) % size, false, held, more);
            add(&list, (own + count) % size, true, held + (size_t)count * bytes, more);
            status = run_list(&list, error);
        }
    }
    if (status == MIXT_OK) {
        size_t behind = (size_t)(size - own) * bytes;
        memcpy(all + (size_t)own * bytes, held, behind);
        memcpy(all, held + behind, (size_t)own * bytes);
    }
    free(held);
    return status;
}

mixt_status mixt_ranks_gather(mixt_ranks *ranks, mixt_group group, const void *mine, size_t bytes,
                              void *all, mixt_error *error)
{
    message_list list;
    if (bytes > 0) {
        memcpy((char *)all + (size_t)mixt_group_place(ranks, group) * bytes, mine, bytes);
    }
    if (mixt_group_size(ranks, group) > GATHER_RANKS && bytes > 0 && bytes <= GATHER_BYTES) {
        return gather_in_rounds(ranks, group, all, bytes, error);
    }
    MIXT_TRY(make_list(ranks, group, &list, error));
    for (int place = 0; place < mixt_group_size(ranks, group); place++) {
        add(&list, place, false, (void *)mine, bytes);
        add(&list, place, true, (char *)all + (size_t)place * bytes, bytes);
    }
    return run_list(&list, error);
}

/* The part of a broadcast that a place passes on. */
static size_t slice_of(size_t bytes, int size, int place, size_t *begin)
{
    size_t part = bytes / (size_t)size, rest = bytes % (size_t)size;
    *begin = part * (size_t)place + ((size_t)place < rest ? (size_t)place : rest);
    return part + ((size_t)place < rest);
}

/* A slice to each, and each's slice to all: no rank sends more than twice the bytes. */
static mixt_status broadcast_in_slices(mixt_ranks *ranks, mixt_group group, int root, char *data,
                                       size_t bytes, mixt_error *error)
{
    int size = mixt_group_size(ranks, group), own = mixt_group_place(ranks, group);
    size_t begin, own_begin, own_bytes = slice_of(bytes, size, own, &own_begin);
    message_list list;
    MIXT_TRY(make_list(ranks, group, &list, error));
    if (own != root) {
        add(&list, root, true, data + own_begin, own_bytes);
    }
    for (int place = 0; place < size && own == root; place++) {
        size_t count = slice_of(bytes, size, place, &begin);
        add(&list, place, false, data + begin, count);
    }
    MIXT_TRY(run_list(&list, error));
    MIXT_TRY(make_list(ranks, group, &list, error));
    for (int place = 0; place < size; place++) {
        size_t count = slice_of(bytes, size, place, &begin);
        add(&list, place, false, data + own_begin, place != root ? own_bytes : 0);
        add(&list, place, true, data + begin, own != root ? count : 0);
    }
    return run_list(&list, error);
}

mixt_status mixt_ranks_broadcast(mixt_ranks *ranks, mixt_group group, int root, void *data,
                                 size_t bytes, mixt_error *error)
{
    message_list list;
    if (mixt_group_size(ranks, group) > 2 && bytes >= SLICED_BYTES) {
        return broadcast_in_slices(ranks, group, root, data, bytes, error);
    }
    MIXT_TRY(make_list(ranks, group, &list, error));
    if (mixt_group_place(ranks, group) != root) {
        add(&list, root, true, data, bytes);
    } else {
        for (int place = 0; place < mixt_group_size(ranks, group); place++) {
            add(&list, place, false, data, bytes);
        }
    }
    return run_list(&list, error);
}

mixt_status mixt_ranks_pass(mixt_ranks *ranks, mixt_group group, int from, int to, void *data,
                            size_t bytes, mixt_error *error)
{
    message_list list;
    int own = mixt_group_place(ranks, group);
    MIXT_TRY(make_list(ranks, group, &list, error));
    if (own == from) {
        add(&list, to, false, data, bytes);
    } else if (own == to) {
        add(&list, from, true, data, bytes);
    }
    return run_list(&list, error);
}

mixt_status mixt_ranks_hear(mixt_ranks *ranks, int rank, void *data, size_t bytes,
                            mixt_error *error)
{
    char text[MIXT_TRANSPORT_TEXT] = "";
    const mixt_transport *t = ranks->transport;
    const mixt_message message = {rank, true, data, bytes};
    void *request;
    mixt_wait waited = MIXT_WAIT_LATE;
    assert(bytes < SLICED_BYTES); /* else it comes in slices */
    MIXT_TRY(start(ranks, &message, 1, &request, error));
    while (waited == MIXT_WAIT_LATE) {
        int late = -1;
        waited = t->wait(t->user, request, ranks->timeout, &late, text);
    }
    return waited == MIXT_WAIT_DONE ? MIXT_OK : lose(ranks, text, error);
}

mixt_status mixt_ranks_barrier(mixt_ranks *ranks, mixt_group group, mixt_error *error)
{
    int64_t nothing = 0;
    return mixt_ranks_sum(ranks, group, &nothing, 1, error);
}

mixt_status mixt_ranks_sum(mixt_ranks *ranks, mixt_group group, int64_t *values, size_t count,
                           mixt_error *error)
{
    size_t size = (size_t)mixt_group_size(ranks, group);
    int64_t *all = calloc(size * count + 1, sizeof *all);
    mixt_status status =
        all == NULL ? mixt_fail(error, MIXT_ERROR_MEMORY, "ranks: no memory")
                    : mixt_ranks_gather(ranks, group, values, count * sizeof *values, all, error);
    for (size_t i = 0; i < count && status == MIXT_OK; i++) {
        values[i] = 0;
        for (size_t place = 0; place < size; place++) {
            values[i] += all[place * count + i];
        }
    }
    free(all);
    return status;
}

/* ------------------------------------------------------------------------------------------ */
/* Sums of slices                                                                             */

/* The part of place p's slice that a turn works on: values [*from, *from + returned). */
static size_t part_of(const size_t *begin, int place, size_t turn, size_t *from)
{
    size_t end = begin[place + 1];
    *from = begin[place] + turn * MIXT_RANKS_ROOM;
    return *from >= end ? 0 : end - *from < MIXT_RANKS_ROOM ? end - *from : MIXT_RANKS_ROOM;
}

static size_t turns_of(const size_t *begin, int size)
{
    size_t turns = 0;
    for (int place = 0; place < size; place++) {
        size_t need = (begin[place + 1] - begin[place] + MIXT_RANKS_ROOM - 1) / MIXT_RANKS_ROOM;
        turns = need > turns ? need : turns;
    }
    return turns;
}

/* Values that a thread adds up at once: of one sum, so that it stays near while all ranks' come. */
#define ADDED ((size_t)1 << 13)

/* What came of a turn: values[0, count) of this rank, and of the others in ranks->room. */
typedef struct turn_sums {
    const mixt_ranks *ranks;
    int size, own;
    const float *values;
    size_t count;
    float *sum;
} turn_sums;

/* In the order of places, whichever thread does it. */
static void add_values(void *context, int64_t item, int thread)
{
    (void)thread;
    const turn_sums *turn = context;
    size_t first = (size_t)item * ADDED, left = turn->count - first;
    size_t count = left < ADDED ? left : ADDED;
    float *to = turn->sum + first;
    for (int place = 0; place < turn->size; place++) {
        const float *part = turn->values;
        if (place != turn->own) {
            part = turn->ranks->room + (size_t)place * MIXT_RANKS_ROOM;
        }
        for (size_t i = 0; i < count; i++) {
            to[i] += part[first + i];
        }
    }
}

mixt_status mixt_ranks_reduce(mixt_ranks *ranks, mixt_group group, const float *values,
                              const size_t *begin, float *sum, mixt_pool *pool, mixt_error *error)
{
    int size = mixt_group_size(ranks, group), own = mixt_group_place(ranks, group);
    size_t from, turns = turns_of(begin, size);
    if (ranks->room == NULL && size > 1) {
        ranks->room =
            malloc((size_t)ranks->data * (size_t)ranks->expert * MIXT_RANKS_ROOM * sizeof(float));
        if (ranks->room == NULL) {
            return mixt_fail(error, MIXT_ERROR_MEMORY, "ranks: no memory");
        }
    }
    for (size_t turn = 0; turn < turns; turn++) {
        message_list list;
        size_t mine = part_of(begin, own, turn, &from);
        MIXT_TRY(make_list(ranks, group, &list, error));
        for (int place = 0; place < size; place++) {
            size_t at, count = part_of(begin, place, turn, &at);
            add(&list, place, false, (void *)(values + at), count * sizeof *values);
            add(&list, place, true, ranks->room + (size_t)place * MIXT_RANKS_ROOM,
                mine * sizeof *values);
        }
        MIXT_TRY(run_list(&list, error));
        turn_sums sums = {ranks, size, own, values + from, mine, sum + (from - begin[own])};
        mixt_pool_run(pool, (int64_t)((mine + ADDED - 1) / ADDED), add_values, &sums);
    }
    return MIXT_OK;
}

mixt_status mixt_ranks_spread(mixt_ranks *ranks, mixt_group group, float *values,
                              const size_t *begin, mixt_error *error)
{
    message_list list;
    int size = mixt_group_size(ranks, group), own = mixt_group_place(ranks, group);
    MIXT_TRY(make_list(ranks, group, &list, error));
    for (int place = 0; place < size; place++) {
        add(&list, place, false, values + begin[own],
            (begin[own + 1] - begin[own]) * sizeof *values);
        add(&list, place, true, values + begin[place],
            (begin[place + 1] - begin[place]) * sizeof *values);
    }
    return run_list(&list, error);
}
