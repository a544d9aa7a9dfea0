#include "ranks_checks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hub.h"

/* All ranks draw the same: what a rank sends is known to all. `draws` is for one seed and sender;
 * its i-th number is draw(draws, i). */
static uint64_t draws_of(uint64_t seed, uint64_t sender)
{
    uint64_t x =
        (seed * 0x9E3779B97F4A7C15ULL) ^ (sender + 0x632BE59BD9B4E019ULL) * 0xD6E8FEB86659FD93ULL;
    return x ^ x >> 29;
}

static inline uint64_t draw(uint64_t draws, uint64_t i)
{
    uint64_t x = (draws ^ i * 0xC2B2AE3D27D4EB4FULL) * 0xBF58476D1CE4E5B9ULL;
    return x ^ x >> 32;
}

static uint64_t mix(uint64_t a, uint64_t b, uint64_t c)
{
    return draw(draws_of(a, b), c);
}

/* The bytes that one rank has for another. */
static void fill(uint64_t seed, int from, int to, unsigned char *bytes, size_t count)
{
    uint64_t draws = draws_of(seed, (uint64_t)(from * 1000 + to));
    for (size_t i = 0; i < count; i += 8) {
        uint64_t x = draw(draws, i);
        memcpy(bytes + i, &x, count - i < 8 ? count - i : 8);
    }
}

static bool is_filled(uint64_t seed, int from, int to, const unsigned char *bytes, size_t count)
{
    uint64_t draws = draws_of(seed, (uint64_t)(from * 1000 + to));
    for (size_t i = 0; i < count; i += 8) {
        uint64_t x = draw(draws, i);
        if (memcmp(bytes + i, &x, count - i < 8 ? count - i : 8) != 0) {
            return false;
        }
    }
    return true;
}

/* Some seven digits of either sign and many sizes, so that the order of a sum is seen. */
static inline float value_of(uint64_t draws, size_t i)
{
    uint64_t x = draw(draws, i);
    float value = (float)(int64_t)(x >> 40) - 8388608.0F;
    return value * (x & 7 ? 1.0F : 1e-4F) * (x & 24 ? 1e-3F : 1e3F);
}

/* A rank's values from the first-th on, added. */
static void add_values(uint64_t seed, int rank, size_t first, size_t count, float *sums)
{
    uint64_t draws = draws_of(seed, (uint64_t)rank);
    for (size_t i = 0; i < count; i++) {
        sums[i] += value_of(draws, first + i);
    }
}

static bool are_values(uint64_t seed, int rank, size_t first, size_t count, const float *values)
{
    uint64_t draws = draws_of(seed, (uint64_t)rank);
    for (size_t i = 0; i < count; i++) {
        if (values[i] != value_of(draws, first + i)) {
            return false;
        }
    }
    return true;
}

typedef struct group_case {
    mixt_ranks *ranks;
    mixt_group group;
    uint64_t seed;
    size_t large;
    int size, own;
    void *taken[16]; /* memory of one check */
    int taken_count;
} group_case;

static void *take(group_case *c, size_t size)
{
    void *memory = malloc(size);
    HUB_CHECK(memory != NULL && c->taken_count < (int)(sizeof c->taken / sizeof c->taken[0]));
    return c->taken[c->taken_count++] = memory;
}

/* Behind a check, which may have failed. */
static mixt_status give_back(group_case *c, mixt_status status)
{
    while (c->taken_count > 0) {
        free(c->taken[--c->taken_count]);
    }
    return status;
}

static int rank_at(const group_case *c, int place)
{
    return mixt_group_rank(c->ranks, c->group, place);
}

/* ------------------------------------------------------------------------------------------ */
/* Exchanges                                                                                  */

enum { RANDOM, ALL_TO_ONE, NONE_TO_ONE, NONE_FROM_ONE, NOTHING, ONE_LARGE, TINY, PATTERNS };
enum { LONG_TO_NEXT = PATTERNS, SHORT_TO_NEXT }; /* from even places to the ones behind them */

/* Bytes from one place to another. */
static size_t bytes_between(const group_case *c, int pattern, int from, int to)
{
    uint64_t x = mix(c->seed, (uint64_t)(from * c->size + to), (uint64_t)pattern);
    int chosen = (int)(c->seed % (uint64_t)c->size);
    switch (pattern) {
    case ALL_TO_ONE:
        return to == chosen ? x % 70000 : 0;
    case NONE_TO_ONE:
        return to == chosen ? 0 : x % 3000;
    case NONE_FROM_ONE:
        return from == chosen ? 0 : x % 3000;
    case NOTHING:
        return 0;
    case ONE_LARGE:
        return from == (chosen + 1) % c->size && to == chosen ? c->large : x % 9;
    case TINY:
        return x % 3;
    case LONG_TO_NEXT:
        return from % 2 == 0 && to == from + 1 ? 300000 : 0;
    case SHORT_TO_NEXT:
        return from % 2 == 0 && to == from + 1 ? 100 : 0;
    default:
        return x % 5 == 0 ? 0 : x % (c->large / 8 + 1);
    }
}

/* One exchange: its memory, filled, and then compared. */
typedef struct trade {
    size_t *counts; /* send_bytes, receive_bytes */
    unsigned char *bytes;
    size_t received_at;
    mixt_exchange exchange;
} trade;

static trade make_trade(group_case *c, int pattern)
{
    trade t = {.counts = take(c, 2 * (size_t)c->size * sizeof *t.counts)};
    size_t *receive = t.counts + c->size, received = 0;
    for (int place = 0; place < c->size; place++) {
        t.counts[place] = bytes_between(c, pattern, c->own, place);
        receive[place] = bytes_between(c, pattern, place, c->own);
        t.received_at += t.counts[place];
        received += receive[place];
    }
    t.bytes = take(c, t.received_at + received + 1);
    unsigned char *to = t.bytes;
    for (int place = 0; place < c->size; place++) {
        fill(c->seed, rank_at(c, c->own), rank_at(c, place), to, t.counts[place]);
        to += t.counts[place];
    }
    memset(to, 0xA5, received + 1);
    t.exchange = (mixt_exchange){c->group, t.bytes, t.counts, t.bytes + t.received_at, receive};
    return t;
}

static void check_trade(const group_case *c, const trade *t)
{
    const unsigned char *at = t->bytes + t->received_at;
    for (int place = 0; place < c->size; place++) {
        size_t count = t->exchange.receive_bytes[place];
        HUB_CHECK(is_filled(c->seed, rank_at(c, place), rank_at(c, c->own), at, count));
        at += count;
    }
    HUB_CHECK(*at == 0xA5);
}

static mixt_status check_exchange(group_case *c, int pattern, mixt_error *error)
{
    trade t = make_trade(c, pattern);
    MIXT_TRY(mixt_ranks_exchange(c->ranks, &t.exchange, error));
    check_trade(c, &t);
    return MIXT_OK;
}

/* Two under way, and a sum that overtakes neither. */
static mixt_status check_overlap(group_case *c, mixt_error *error)
{
    trade first = make_trade(c, RANDOM), second = make_trade(c, NONE_FROM_ONE);
    void *a, *b;
    int64_t one = 1;
    MIXT_TRY(mixt_ranks_begin(c->ranks, &first.exchange, NULL, &a, error));
    MIXT_TRY(mixt_ranks_begin(c->ranks, &second.exchange, NULL, &b, error));
    MIXT_TRY(mixt_ranks_sum(c->ranks, c->group, &one, 1, error));
    HUB_CHECK(one == c->size);
    MIXT_TRY(mixt_ranks_end(c->ranks, c->seed % 2 ? b : a, error));
    MIXT_TRY(mixt_ranks_end(c->ranks, c->seed % 2 ? a : b, error));
    check_trade(c, &first);
    check_trade(c, &second);
    return MIXT_OK;
}

/* One behind the other, each looked at beside other work: what comes next may be there already. */
static mixt_status check_go_on(group_case *c, mixt_error *error)
{
    for (int i = 0; i < 8; i++) {
        trade t = make_trade(c, i % 2 == 0 ? RANDOM : NONE_FROM_ONE);
        void *request;
        MIXT_TRY(mixt_ranks_begin(c->ranks, &t.exchange, NULL, &request, error));
        mixt_ranks_leave(c->ranks, request);
        for (int look = 0; look < 100; look++) {
            mixt_ranks_go_on(c->ranks);
        }
        MIXT_TRY(mixt_ranks_end_first(c->ranks, error));
        check_trade(c, &t);
        c->seed++;
        give_back(c, MIXT_OK);
    }
    return MIXT_OK;
}

/* Both begin at one side, which then has other work and lets nothing move on; the other side waits
 * for the long one, of which a part has come, and the short one is there already. */
static mixt_status check_behind(group_case *c, mixt_error *error)
{
    trade first = make_trade(c, LONG_TO_NEXT), second = make_trade(c, SHORT_TO_NEXT);
    const mixt_transport *transport = c->ranks->transport;
    mixt_transport still;
    void *a, *b = NULL;
    if (c->size == 1) {
        return MIXT_OK;
    }
    still = *transport;
    still.move = NULL;
    c->ranks->transport = &still;
    mixt_status status = mixt_ranks_begin(c->ranks, &first.exchange, NULL, &a, error);
    if (status == MIXT_OK && c->own % 2 == 0) {
        status = mixt_ranks_begin(c->ranks, &second.exchange, NULL, &b, error);
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    c->ranks->transport = transport;
    MIXT_TRY(status);
    mixt_ranks_leave(c->ranks, a);
    for (int look = 0; look < 100; look++) {
        mixt_ranks_go_on(c->ranks);
    }
    MIXT_TRY(mixt_ranks_end_first(c->ranks, error));
    if (c->own % 2 == 1) {
        MIXT_TRY(mixt_ranks_begin(c->ranks, &second.exchange, NULL, &b, error));
    }
    MIXT_TRY(mixt_ranks_end(c->ranks, b, error));
    check_trade(c, &first);
    check_trade(c, &second);
    return MIXT_OK;
}

/* ------------------------------------------------------------------------------------------ */
/* The same bytes everywhere                                                                  */

static mixt_status check_gather(group_case *c, size_t bytes, mixt_error *error)
{
    unsigned char *mine = take(c, bytes + 1), *all = take(c, (size_t)c->size * bytes + 1);
    fill(c->seed, rank_at(c, c->own), 0, mine, bytes);
    MIXT_TRY(mixt_ranks_gather(c->ranks, c->group, mine, bytes, all, error));
    for (int place = 0; place < c->size; place++) {
        HUB_CHECK(is_filled(c->seed, rank_at(c, place), 0, all + (size_t)place * bytes, bytes));
    }
    return MIXT_OK;
}

static mixt_status check_broadcast(group_case *c, int root, size_t bytes, mixt_error *error)
{
    unsigned char *data = take(c, bytes + 1);
    memset(data, 0x5A, bytes + 1);
    fill(c->seed, rank_at(c, root), 1, data, root == c->own ? bytes : 0);
    MIXT_TRY(mixt_ranks_broadcast(c->ranks, c->group, root, data, bytes, error));
    HUB_CHECK(is_filled(c->seed, rank_at(c, root), 1, data, bytes));
    HUB_CHECK(data[bytes] == 0x5A);
    return MIXT_OK;
}

static mixt_status check_sum(group_case *c, size_t count, mixt_error *error)
{
    int64_t *values = take(c, (count + 1) * sizeof *values);
    for (size_t i = 0; i < count; i++) {
        values[i] = (int64_t)(mix(c->seed, (uint64_t)rank_at(c, c->own), i) >> 8) - (1LL << 54);
    }
    MIXT_TRY(mixt_ranks_sum(c->ranks, c->group, values, count, error));
    for (size_t i = 0; i < count; i++) {
        int64_t sum = 0;
        for (int place = 0; place < c->size; place++) {
            sum += (int64_t)(mix(c->seed, (uint64_t)rank_at(c, place), i) >> 8) - (1LL << 54);
        }
        HUB_CHECK(values[i] == sum);
    }
    return MIXT_OK;
}

/* ------------------------------------------------------------------------------------------ */
/* Slices                                                                                     */

/* Where the places' slices begin: all empty but one, even, or drawn; from `gap` on. */
static size_t *cut_slices(group_case *c, int kind, size_t gap, size_t count)
{
    size_t *begin = take(c, ((size_t)c->size + 1) * sizeof *begin);
    for (int place = 0; place <= c->size; place++) {
        size_t at = kind == 0   ? count * (size_t)place / (size_t)c->size
                    : kind == 1 ? (place > (int)(c->seed % (uint64_t)c->size) ? count : 0)
                                : mix(c->seed, (uint64_t)place, 77) % (count + 1);
        begin[place] = place == 0 ? gap : place == c->size ? gap + count : gap + at;
        if (place > 0 && begin[place] < begin[place - 1]) {
            begin[place] = begin[place - 1];
        }
    }
    return begin;
}

static mixt_status check_slices(group_case *c, int kind, size_t count, mixt_error *error)
{
    size_t *begin = cut_slices(c, kind, c->seed % 5, count);
    size_t first = begin[c->own], own = begin[c->own + 1] - first, end = begin[c->size];
    float *values = take(c, (end + 1) * sizeof *values), *sum = take(c, (own + 1) * sizeof *sum);
    float *expected = take(c, (own + 1) * sizeof *expected);
    memset(values, 0, (end + 1) * sizeof *values);
    add_values(c->seed, rank_at(c, c->own), 0, end + 1, values);
    for (size_t i = 0; i <= own; i++) {
        sum[i] = expected[i] = 0.5F;
    }
    mixt_pool *pool = NULL; /* the same bits with threads */
    HUB_CHECK(c->seed % 2 == 0 || mixt_pool_create(2, &pool, NULL) == MIXT_OK);
    mixt_status status = mixt_ranks_reduce(c->ranks, c->group, values, begin, sum, pool, error);
    mixt_pool_free(pool);
    MIXT_TRY(status);
    for (int place = 0; place < c->size; place++) {
        add_values(c->seed, rank_at(c, place), first, own, expected);
    }
    HUB_CHECK(memcmp(sum, expected, (own + 1) * sizeof *sum) == 0);
    MIXT_TRY(mixt_ranks_spread(c->ranks, c->group, values, begin, error));
    for (int place = 0; place < c->size; place++) {
        size_t at = begin[place];
        HUB_CHECK(are_values(c->seed, rank_at(c, place), at, begin[place + 1] - at, values + at));
    }
    HUB_CHECK(are_values(c->seed, rank_at(c, c->own), end, 1, values + end));
    return MIXT_OK;
}

/* From the first place to the last, one after the other, each of which adds its own. */
static mixt_status check_pass(group_case *c, size_t count, mixt_error *error)
{
    float *values = take(c, (count + 1) * sizeof *values);
    float *expected = take(c, (count + 1) * sizeof *expected);
    for (size_t i = 0; i <= count; i++) {
        values[i] = expected[i] = 0.5F;
    }
    if (c->own > 0) {
        MIXT_TRY(mixt_ranks_pass(c->ranks, c->group, c->own - 1, c->own, values,
                                 count * sizeof *values, error));
    }
    for (int place = 0; place < c->own; place++) {
        add_values(c->seed, rank_at(c, place), 0, count, expected);
    }
    HUB_CHECK(memcmp(values, expected, (count + 1) * sizeof *values) == 0);
    add_values(c->seed, rank_at(c, c->own), 0, count, values);
    return c->own + 1 < c->size ? mixt_ranks_pass(c->ranks, c->group, c->own, c->own + 1, values,
                                                  count * sizeof *values, error)
                                : MIXT_OK;
}

/* ------------------------------------------------------------------------------------------ */
/* All together                                                                               */

static mixt_status check_group(group_case *c, mixt_error *error)
{
    const size_t sizes[] = {0, 1, 8, 4099, c->large / 4};
    const size_t counts[] = {0, 1, 1000, MIXT_RANKS_ROOM / 2, c->large / 4};
    for (int pattern = 0; pattern < PATTERNS; pattern++) {
        MIXT_TRY(give_back(c, check_exchange(c, pattern, error)));
    }
    MIXT_TRY(give_back(c, check_overlap(c, error)));
    size_t large = c->large;
    c->large = large < 50000 ? large : 50000;
    MIXT_TRY(give_back(c, check_go_on(c, error)));
    c->large = large;
    MIXT_TRY(give_back(c, check_behind(c, error)));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        int root = (int)((c->seed + i) % (uint64_t)c->size), kind = (int)((c->seed + i) % 3);
        MIXT_TRY(give_back(c, check_gather(c, sizes[i], error)));
        MIXT_TRY(give_back(c, check_broadcast(c, root, sizes[i], error)));
        MIXT_TRY(give_back(c, check_slices(c, kind, counts[i], error)));
        MIXT_TRY(give_back(c, check_pass(c, counts[i], error)));
        MIXT_TRY(mixt_ranks_barrier(c->ranks, c->group, error));
    }
    MIXT_TRY(give_back(c, check_sum(c, 0, error)));
    return give_back(c, check_sum(c, 999, error));
}

/* Some ranks fail: those say their own, the others the first one's. */
static mixt_status check_agree(mixt_ranks *ranks, uint64_t seed, mixt_error *error)
{
    int count = mixt_ranks_count(ranks), own = mixt_ranks_rank(ranks), first = -1;
    for (int rank = count - 1; rank >= 0; rank--) {
        first = mix(seed, (uint64_t)rank, 5) % 3 == 0 ? rank : first;
    }
    bool fails = mix(seed, (uint64_t)own, 5) % 3 == 0;
    mixt_error line = MIXT_ERROR_INIT;
    char expected[100];
    mixt_status status =
        fails ? mixt_fail(&line, MIXT_ERROR_FORMAT, "file %d is bad", own) : MIXT_OK;
    status = mixt_ranks_agree(ranks, status, &line);
    if (ranks->lost.status != MIXT_OK) {
        return mixt_fail(error, ranks->lost.status, "%s", ranks->lost.message);
    }
    snprintf(expected, sizeof expected, fails ? "file %d is bad" : "rank %d: file %d is bad",
             fails ? own : first, first);
    HUB_CHECK(status == (first < 0 ? MIXT_OK : MIXT_ERROR_FORMAT));
    HUB_CHECK(first < 0 || strcmp(line.message, expected) == 0);
    int64_t value = (int64_t)(mix(seed, (uint64_t)own, 9) >> 1), largest = 0;
    for (int rank = 0; rank < count; rank++) {
        int64_t other = (int64_t)(mix(seed, (uint64_t)rank, 9) >> 1);
        largest = other > largest ? other : largest;
    }
    MIXT_TRY(mixt_ranks_largest(ranks, &value, error));
    HUB_CHECK(value == largest);
    char shared[100] = "";
    snprintf(shared, own == 0 ? sizeof shared : 1, "of rank 0: %d", (int)(seed % 1000));
    snprintf(expected, sizeof expected, "of rank 0: %d", (int)(seed % 1000));
    MIXT_TRY(mixt_ranks_share(ranks, shared, sizeof shared, error));
    HUB_CHECK(strcmp(shared, expected) == 0);
    return MIXT_OK;
}

mixt_status check_collectives(mixt_ranks *ranks, uint64_t seed, size_t large, mixt_error *error)
{
    int count = mixt_ranks_count(ranks);
    for (int expert = 1; expert <= count; expert++) {
        if (count % expert != 0) {
            continue;
        }
        MIXT_TRY(mixt_ranks_arrange(ranks, 0, expert, 64, error));
        for (mixt_group group = MIXT_GROUP_ALL; group <= MIXT_GROUP_DATA; group++) {
            group_case c = {ranks,
                            group,
                            mix(seed, (uint64_t)expert, group) >> 16,
                            large,
                            mixt_group_size(ranks, group),
                            mixt_group_place(ranks, group),
                            {NULL},
                            0};
            HUB_CHECK(rank_at(&c, c.own) == mixt_ranks_rank(ranks));
            MIXT_TRY(check_group(&c, error));
        }
        for (uint64_t i = 0; i < 8; i++) {
            MIXT_TRY(check_agree(ranks, mix(seed, i, (uint64_t)expert), error));
        }
    }
    return MIXT_OK;
}
