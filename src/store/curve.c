/* Hits and speed by the size of the pool. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/arithmetic.h"
#include "store/report.h"

/* Steps down the stacks, requests x experts, of one policy: about a quarter of a second. */
#define STEPS_MOST ((uint64_t)1 << 29)
#define TENTHS 10

enum { LRU, LFU, OPTIMUM, OWN, POLICIES };

typedef struct curve {
    const mixt_store_facts *facts;
    mixt_simulated simulated;
    uint64_t counted; /* the first request that counts: those before warm the pools up */
    uint32_t *depth;  /* [requests] */
    int64_t *slots;   /* [TENTHS + 1][classes] */
    double *hits;     /* [POLICIES][TENTHS + 1] requests */
    double *missed;   /* [TENTHS + 1] bytes that the policy in use would read */
    int points, now;
} curve;

static mixt_status no_memory(mixt_error *error)
{
    return mixt_fail(error, MIXT_ERROR_MEMORY, "curve of a store: no memory");
}

/* The newest requests, from the beginning of a step on. Pools begin empty, as the real one did,
 * where the record goes back that far; else its first half fills them, and does not count. */
static mixt_status take_requests(curve *c, mixt_error *error)
{
    const mixt_store_facts *f = c->facts;
    uint64_t all = mixt_record_book_count(f->book), first = 0;
    uint64_t items = (uint64_t)f->shape->first[f->shape->layers];
    uint64_t most = STEPS_MOST / items + 1;
    if (all > most) {
        for (first = all - most; first < all && !mixt_record_book_get(f->book, first).begins;
             first++) {
        }
    }
    mixt_request *requests = calloc(all - first + 1, sizeof *requests);
    c->depth = calloc(all - first + 1, sizeof *c->depth);
    c->simulated = (mixt_simulated){.shape = *f->shape,
                                    .classes = f->class_count,
                                    .class_of = f->class_of,
                                    .requests = requests,
                                    .count = all - first};
    if (requests == NULL || c->depth == NULL) {
        return no_memory(error);
    }
    for (uint64_t i = 0; i < all - first; i++) {
        requests[i] = mixt_record_book_get(f->book, first + i);
    }
    c->counted = first > 0 || !mixt_record_book_whole(f->book) ? (all - first) / 2 : 0;
    return MIXT_OK;
}

/* A tenth of the experts, two, ... all, and the pool as it is among them. */
static mixt_status choose_points(curve *c, mixt_error *error)
{
    const mixt_store_facts *f = c->facts;
    size_t classes = (size_t)f->class_count;
    c->slots = calloc((TENTHS + 1) * classes, sizeof *c->slots);
    c->hits = calloc((size_t)POLICIES * (TENTHS + 1), sizeof *c->hits);
    c->missed = calloc(TENTHS + 1, sizeof *c->missed);
    if (c->slots == NULL || c->hits == NULL || c->missed == NULL) {
        return no_memory(error);
    }
    int64_t held = 0;
    for (size_t class = 0; class < classes; class ++) {
        held += f->classes[class].slots;
    }
    c->now = -1;
    for (int tenth = 1; tenth <= TENTHS; tenth++) {
        int64_t *slots = c->slots + (size_t)c->points * classes, sum = 0;
        for (size_t class = 0; class < classes; class ++) {
            int64_t items = f->classes[class].items;
            slots[class] = mixt_most(mixt_least(2, items), items * tenth / TENTHS);
            sum += slots[class];
        }
        if (c->now < 0 && (sum >= held || tenth == TENTHS)) {
            int64_t *next = slots + (sum > held ? classes : 0);
            memmove(next, slots, classes * sizeof *next);
            for (size_t class = 0; class < classes; class ++) {
                slots[class] = f->classes[class].slots;
            }
            c->now = c->points;
            c->points += sum > held;
        }
        c->points++;
    }
    return MIXT_OK;
}

/* Requests that hit in each of the pools. */
static mixt_status run_policy(curve *c, int policy, const char *name, mixt_error *error)
{
    const mixt_store_facts *f = c->facts;
    MIXT_TRY(mixt_simulate_depths(&c->simulated, name, c->depth, error));
    int layer = 0;
    for (uint64_t i = c->counted; i < c->simulated.count; i++) {
        int32_t item = c->simulated.requests[i].item;
        layer = item < f->shape->first[layer] ? 0 : layer;
        while (item >= f->shape->first[layer + 1]) {
            layer++;
        }
        size_t class = (size_t)f->class_of[layer];
        for (int point = 0; point < c->points; point++) {
            int64_t slots = c->slots[(size_t)point * (size_t)f->class_count + class];
            bool hit = c->depth[i] > 0 && c->depth[i] <= slots;
            c->hits[policy * (TENTHS + 1) + point] += hit;
            if (policy == OWN && !hit) {
                c->missed[point] += (double)f->classes[class].slot_bytes;
            }
        }
    }
    return MIXT_OK;
}

/* Tokens a second: arithmetic as it was, and reads as fast as they were, of which as large a part
 * overlaps with it. */
static double rate_of(const curve *c, double missed, double requests)
{
    const mixt_store_statistics *s = c->facts->statistics;
    if (s->rows == 0 || requests == 0 || !(s->seconds > 0)) {
        return NAN;
    }
    double rows = (double)s->rows * requests / (double)s->requests;
    double arithmetic = fmax(s->seconds - s->wait_seconds, 0) / (double)s->rows;
    double waited = s->disk_seconds > 0 ? fmin(s->wait_seconds / s->disk_seconds, 1) : 0;
    double speed = s->disk_seconds > 0 ? (double)s->bytes_read / s->disk_seconds : INFINITY;
    double reads = speed > 0 ? missed / speed / rows : 0;
    return 1 / (arithmetic + waited * reads);
}

/* What is neither weight nor slot: where not all experts fit, all that the pool was not given, also
 * if whoever reserved it has gone since. */
uint64_t mixt_store_facts_other(const mixt_store_statistics *s)
{
    uint64_t used = s->resident_bytes + s->pool_bytes;
    bool rest = s->slots < s->experts && s->memory > used;
    return rest ? s->memory - used : s->other_bytes;
}

static void fill_point(const curve *c, int point, mixt_store_point *to)
{
    const mixt_store_statistics *s = c->facts->statistics;
    size_t classes = (size_t)c->facts->class_count;
    double requests = (double)(c->simulated.count - c->counted);
    *to = (mixt_store_point){.memory = s->resident_bytes + mixt_store_facts_other(s)};
    double chance = 0;
    for (size_t class = 0; class < classes; class ++) {
        int64_t slots = c->slots[(size_t)point * classes + class];
        to->slots += slots;
        to->memory += (uint64_t)slots * c->facts->classes[class].slot_bytes;
        chance += (double)slots;
    }
    to->uniform = chance / (double)c->facts->shape->first[c->facts->shape->layers];
    double *shares[POLICIES] = {&to->lru, &to->lfu, &to->optimum, &to->own};
    for (int policy = 0; policy < POLICIES; policy++) {
        *shares[policy] = requests > 0 ? c->hits[policy * (TENTHS + 1) + point] / requests : NAN;
    }
    to->rate = rate_of(c, c->missed[point], requests);
}

mixt_status mixt_store_facts_curve(const mixt_store_facts *facts, mixt_store_point **points,
                                   int *count, int *now, mixt_error *error)
{
    curve c = {.facts = facts};
    *points = NULL;
    *count = *now = 0;
    const char *names[POLICIES] = {"lru", "lfu", MIXT_POLICY_OPTIMUM, facts->statistics->policy};
    mixt_status status = take_requests(&c, error);
    status = status == MIXT_OK ? choose_points(&c, error) : status;
    for (int policy = 0; policy < POLICIES && status == MIXT_OK; policy++) {
        status = run_policy(&c, policy, names[policy], error);
    }
    if (status == MIXT_OK) {
        *points = calloc((size_t)c.points, sizeof **points);
        status = *points != NULL ? MIXT_OK : no_memory(error);
    }
    for (int point = 0; status == MIXT_OK && point < c.points; point++) {
        fill_point(&c, point, &(*points)[point]);
    }
    if (status == MIXT_OK) {
        *count = c.points;
        *now = c.now;
    }
    free((void *)c.simulated.requests);
    free(c.depth);
    free(c.slots);
    free(c.hits);
    free(c.missed);
    return status;
}
