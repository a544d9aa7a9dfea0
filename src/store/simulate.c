#include "store/simulate.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define WANTED UINT64_MAX

typedef struct simulation {
    const mixt_simulated *s;
    const char *name;
    mixt_policy *policy; /* NULL: the optimum */
    int32_t items;
    int *class_of;   /* [items] */
    int32_t *all;    /* [items] their numbers */
    uint64_t *rank;  /* [items] the lowest goes first; WANTED while a batch wants it */
    uint32_t *next;  /* [count] the next request of the same item, UINT32_MAX: none */
    uint32_t **held; /* [classes][items] */
    int32_t *counts; /* [classes] held */
    uint8_t *there;  /* [items] it is held */
} simulation;

static mixt_status no_memory(mixt_error *error)
{
    return mixt_fail(error, MIXT_ERROR_MEMORY, "simulation of a pool: no memory");
}

static void find_next(simulation *m)
{
    uint32_t *seen = (uint32_t *)m->rank; /* scratch */
    for (int32_t i = 0; i < m->items; i++) {
        seen[i] = UINT32_MAX;
    }
    for (uint64_t i = m->s->count; i-- > 0;) {
        m->next[i] = seen[m->s->requests[i].item];
        seen[m->s->requests[i].item] = (uint32_t)i;
    }
    memset(m->rank, 0, (size_t)m->items * sizeof *m->rank);
}

static mixt_status begin(const mixt_simulated *s, const char *policy, simulation *m,
                         mixt_error *error)
{
    assert(s->count < UINT32_MAX);
    size_t items = (size_t)s->shape.first[s->shape.layers], classes = (size_t)s->classes;
    *m = (simulation){.s = s, .name = policy, .items = (int32_t)items};
    bool optimum = policy != NULL && strcmp(policy, MIXT_POLICY_OPTIMUM) == 0;
    if (!optimum) {
        MIXT_TRY(mixt_policy_create(policy, &s->shape, &m->policy, error));
    }
    m->class_of = calloc(items + 1, sizeof *m->class_of);
    m->all = calloc(items + 1, sizeof *m->all);
    m->rank = calloc(items + 1, sizeof *m->rank);
    m->there = calloc(items + 1, sizeof *m->there);
    m->next = calloc(optimum ? s->count + 1 : 1, sizeof *m->next);
    m->held = calloc(classes, sizeof *m->held);
    m->counts = calloc(classes, sizeof *m->counts);
    bool room = m->class_of != NULL && m->all != NULL && m->rank != NULL && m->there != NULL &&
                m->next != NULL && m->held != NULL && m->counts != NULL;
    for (size_t c = 0; c < classes && room; c++) {
        m->held[c] = calloc(items + 1, sizeof **m->held);
        room = m->held[c] != NULL;
    }
    if (!room) {
        return no_memory(error);
    }
    for (int layer = 0; layer < s->shape.layers; layer++) {
        for (int32_t i = s->shape.first[layer]; i < s->shape.first[layer + 1]; i++) {
            m->class_of[i] = s->class_of != NULL ? s->class_of[layer] : 0;
            m->all[i] = i;
        }
    }
    if (optimum) {
        find_next(m);
    }
    return MIXT_OK;
}

static void end(simulation *m)
{
    mixt_policy_free(m->policy);
    for (int c = 0; m->held != NULL && c < m->s->classes; c++) {
        free(m->held[c]);
    }
    free(m->class_of);
    free(m->all);
    free(m->rank);
    free(m->there);
    free(m->next);
    free(m->held);
    free(m->counts);
}

/* The layer of an item: from `layer` on, where those of a batch follow one another. */
static int layer_of(const mixt_policy_shape *shape, int32_t item, int layer)
{
    layer = item < shape->first[layer] ? 0 : layer;
    while (item >= shape->first[layer + 1]) {
        layer++;
    }
    return layer;
}

/* The batch that begins at `first`: one behind its last request. */
static uint64_t batch_end(const mixt_simulated *s, uint64_t first, int *layer)
{
    *layer = layer_of(&s->shape, s->requests[first].item, *layer);
    uint64_t last = first + 1;
    while (!s->singly && last < s->count && !s->requests[last].begins &&
           s->requests[last].item >= s->shape.first[*layer] &&
           s->requests[last].item < s->shape.first[*layer + 1]) {
        last++;
    }
    return last;
}

static void tell(simulation *m, uint64_t first, uint64_t last)
{
    const mixt_request *requests = m->s->requests;
    if (m->policy != NULL && requests[first].begins) {
        mixt_policy_step(m->policy);
    }
    for (uint64_t i = first; i < last && m->policy != NULL; i++) {
        mixt_policy_use(m->policy, requests[i].item, requests[i].rows);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Every size                                                                                 */

/* Where `item` stood, from 1; 0: nowhere yet. It goes to the top, and what a cache of each size
 * puts out for it moves down: the one of lower rank of what came from above and what stands there
 * (Mattson et al. 1970, for policies that rank alike whatever the size). */
static uint32_t use_item(const uint64_t *rank, uint32_t *stack, int32_t *depth, uint32_t item)
{
    uint32_t carried = item;
    for (int32_t i = 0; i < *depth; i++) {
        uint32_t here = stack[i];
        if (here == item) {
            stack[i] = carried;
            return (uint32_t)i + 1;
        }
        bool stays = i > 0 && rank[here] > rank[carried];
        stack[i] = stays ? here : carried;
        carried = stays ? carried : here;
    }
    stack[(*depth)++] = carried;
    return 0;
}

/* Ranks of what the batch used, as others see it from now on. */
static void rank_batch(simulation *m, uint64_t first, uint64_t last)
{
    for (uint64_t i = first; i < last; i++) {
        int32_t item = m->s->requests[i].item;
        if (m->policy == NULL) {
            m->rank[item] = UINT32_MAX - m->next[i];
        } else {
            mixt_policy_ranks(m->policy, &item, 1, m->rank);
        }
    }
}

static void run_stacks(simulation *m, uint32_t *depth)
{
    const mixt_request *requests = m->s->requests;
    bool others = m->policy != NULL;
    int layer = 0;
    for (uint64_t first = 0, last; first < m->s->count; first = last) {
        last = batch_end(m->s, first, &layer);
        int class = m->class_of[requests[first].item];
        tell(m, first, last);
        others = others && mixt_policy_ranks(m->policy, m->all, m->items, m->rank);
        for (uint64_t i = first; i < last; i++) {
            m->rank[requests[i].item] = WANTED;
        }
        for (uint64_t i = first; i < last; i++) {
            depth[i] =
                use_item(m->rank, m->held[class], &m->counts[class], (uint32_t)requests[i].item);
        }
        rank_batch(m, first, last);
    }
}

mixt_status mixt_simulate_depths(const mixt_simulated *simulated, const char *policy,
                                 uint32_t *depth, mixt_error *error)
{
    simulation m;
    mixt_status status = begin(simulated, policy, &m, error);
    if (status == MIXT_OK) {
        run_stacks(&m, depth);
    }
    end(&m);
    return status;
}

/* ------------------------------------------------------------------------------------------ */
/* One size                                                                                   */

/* Which of the class is given up: its place among those held. Of those that the batch wants one
 * only where there are no others. */
static int32_t victim_of(simulation *m, int class)
{
    const uint32_t *held = m->held[class];
    int32_t count = 0;
    for (int32_t i = 0; i < m->counts[class]; i++) {
        if (m->rank[held[i]] != WANTED) {
            m->all[count++] = (int32_t)held[i];
        }
    }
    for (int32_t i = 0; i < m->counts[class] && count == 0; i++) {
        m->all[i] = (int32_t)held[i];
    }
    count = count > 0 ? count : m->counts[class];
    int32_t victim = m->all[0];
    if (m->policy != NULL) {
        victim = mixt_policy_victim(m->policy, m->all, count);
    }
    for (int32_t i = 1; i < count && m->policy == NULL; i++) {
        victim = m->rank[m->all[i]] < m->rank[victim] ? m->all[i] : victim;
    }
    int32_t place = 0;
    while (held[place] != (uint32_t)victim) {
        place++;
    }
    return place;
}

static void run_pool(simulation *m, const int64_t *slots, uint8_t *hit)
{
    const mixt_request *requests = m->s->requests;
    int layer = 0;
    for (uint64_t first = 0, last; first < m->s->count; first = last) {
        last = batch_end(m->s, first, &layer);
        int class = m->class_of[requests[first].item];
        tell(m, first, last);
        for (uint64_t i = first; i < last; i++) {
            hit[i] = m->there[requests[i].item];
            m->rank[requests[i].item] = WANTED;
        }
        for (uint64_t i = first; i < last; i++) {
            if (m->there[requests[i].item] != 0) {
                continue;
            }
            int32_t place = m->counts[class];
            if (place < slots[class]) {
                m->counts[class]++;
            } else {
                place = victim_of(m, class);
                m->there[m->held[class][place]] = 0;
            }
            m->held[class][place] = (uint32_t)requests[i].item;
            m->there[requests[i].item] = 1;
        }
        for (uint64_t i = first; i < last; i++) {
            m->rank[requests[i].item] = m->policy == NULL ? UINT32_MAX - m->next[i] : 0;
        }
    }
}

mixt_status mixt_simulate_pool(const mixt_simulated *simulated, const char *policy,
                               const int64_t *slots, uint8_t *hit, mixt_error *error)
{
    simulation m;
    mixt_status status = begin(simulated, policy, &m, error);
    if (status == MIXT_OK) {
        run_pool(&m, slots, hit);
    }
    end(&m);
    return status;
}
