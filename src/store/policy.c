/* Policies: a row of the table below each. */
#include "store/policy.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/arithmetic.h"
#include "core/memory.h"

/* Tokens after which a use counts half, of "fading": a stretch of text, and a text. Chosen on one
 * model's routes, 16 and 128 from 1 to 512, and nowhere critical: 32 alone loses 0.5 points. */
#ifndef SHORT_HALF_LIFE /* others for a build that tries them (docs/larger-than-memory.md) */
#define SHORT_HALF_LIFE 16.0
#define LONG_HALF_LIFE 128.0
#endif
#define SHARE_LEAST 1e-6

struct mixt_policy {
    const struct policy_type *type;
    int layers;
    int32_t *first;    /* [layers + 1] */
    int32_t *layer_of; /* [items] */
    uint32_t clock;    /* uses so far */
    uint32_t *last;    /* [items] the clock of the last use; 0: none */
    uint32_t *uses;    /* [items] rows */
    uint64_t *profile; /* [items], or NULL */
    /* Of "fading": */
    double *chosen;    /* [layers] experts of a token; 0: not known */
    double *recent[2]; /* [items] shares of tokens, by either half-life */
    float *wait;       /* [items] tokens between two that use it */
    float *ahead;      /* [layers] until its turn, in steps */
    float *steps;      /* [layers] that one of its tokens takes at that turn */
    int32_t *pending;  /* [items of the largest layer] uses not yet counted, of one layer */
    int32_t *pending_rows;
    int pending_count;
    double rows, rows_before; /* of this step, of the one before */
    int counted;              /* layer of this step whose uses were counted last; -1: none */
};

/* rank: of all items the lowest makes room; no two are equal of those that were used. It hangs on
 * the requests alone, not on what is held, so that the caches of all sizes are heads of one stack.
 * others: whether a use changes the ranks of items that were not used. */
typedef struct policy_type {
    const char *name, *help;
    bool needs_profile, uses_profile, others;
    uint64_t (*rank)(const mixt_policy *policy, int32_t item);
} policy_type;

static uint64_t rank_lru(const mixt_policy *policy, int32_t item)
{
    return policy->last[item];
}

/* Rows count, not steps, so that a text leaves the same counts read at once or token by token. */
static uint64_t rank_lfu(const mixt_policy *policy, int32_t item)
{
    return (uint64_t)policy->uses[item] << 32 | policy->last[item];
}

static uint64_t rank_static(const mixt_policy *policy, int32_t item)
{
    return policy->profile[item] << 32 | policy->last[item];
}

/* How soon it will be wanted: until its layer's turn, and then as many tokens as lay between its
 * uses of late. Of equals the one used later stays. */
static uint64_t rank_fading(const mixt_policy *policy, int32_t item)
{
    int layer = policy->layer_of[item];
    float steps = policy->ahead[layer] + policy->wait[item] * policy->steps[layer];
    uint32_t bits; /* of a float that is not negative: they rise with it */
    memcpy(&bits, &steps, sizeof bits);
    return (uint64_t)(UINT32_MAX - bits) << 32 | policy->last[item];
}

static const policy_type types[] = {
    {"fading", "the expert makes room that will be wanted last, by its uses of late and its layer",
     false, true, true, rank_fading},
    {"lru", "the expert that was used longest ago makes room", false, false, false, rank_lru},
    {"lfu", "the one used by the fewest tokens makes room", false, false, false, rank_lfu},
    {"static", "the one used least in the profile makes room", true, true, false, rank_static},
};
enum { TYPES = sizeof types / sizeof *types };

const char *mixt_store_policy(int index, const char **help)
{
    bool there = index >= 0 && index < TYPES;
    if (there && help != NULL) {
        *help = types[index].help;
    }
    return there ? types[index].name : NULL;
}

static mixt_status find_type(const char *name, const policy_type **type, mixt_error *error)
{
    *type = &types[0];
    for (int i = 0; name != NULL && i < TYPES; i++) {
        if (strcmp(types[i].name, name) == 0) {
            *type = &types[i];
            return MIXT_OK;
        }
    }
    if (name == NULL) {
        return MIXT_OK;
    }
    mixt_buffer names = {0};
    for (int i = 0; i < TYPES; i++) {
        mixt_buffer_format(&names, "%s%s", i > 0 ? ", " : "", types[i].name);
    }
    mixt_buffer_append(&names, "", 1);
    mixt_status status =
        mixt_fail(error, MIXT_ERROR_ARGUMENT, "policy %s: there is none; is it %s?", name,
                  names.failed ? "lru" : names.data);
    mixt_buffer_free(&names);
    return status;
}

/* Experts begin with their share of the profile, or all with the same. */
static void begin_shares(mixt_policy *p)
{
    for (int layer = 0; layer < p->layers; layer++) {
        double all = 0, experts = p->first[layer + 1] - p->first[layer];
        for (int32_t i = p->first[layer]; i < p->first[layer + 1]; i++) {
            all += (double)p->profile[i];
        }
        for (int32_t i = p->first[layer]; i < p->first[layer + 1]; i++) {
            double share = all > 0 ? (double)p->profile[i] / all : 1 / experts;
            double tokens = fmax(p->chosen[layer], 1) * share;
            p->recent[0][i] = p->recent[1][i] = tokens;
            p->wait[i] = (float)(1 / fmax(tokens, SHARE_LEAST));
            p->layer_of[i] = layer;
        }
        p->steps[layer] = 1;
    }
    p->rows = p->rows_before = 1;
    p->counted = -1;
}

static bool allocate(mixt_policy *p, const mixt_policy_shape *shape)
{
    size_t layers = (size_t)shape->layers, items = (size_t)shape->first[layers], most = 1;
    for (size_t layer = 0; layer < layers; layer++) {
        size_t experts = (size_t)(shape->first[layer + 1] - shape->first[layer]);
        most = experts > most ? experts : most;
    }
    p->layers = shape->layers;
    p->first = calloc(layers + 1, sizeof *p->first);
    p->layer_of = calloc(items + 1, sizeof *p->layer_of);
    p->last = calloc(items + 1, sizeof *p->last);
    p->uses = calloc(items + 1, sizeof *p->uses);
    p->profile = calloc(items + 1, sizeof *p->profile);
    p->chosen = calloc(layers + 1, sizeof *p->chosen);
    p->recent[0] = calloc(items + 1, sizeof *p->recent[0]);
    p->recent[1] = calloc(items + 1, sizeof *p->recent[1]);
    p->wait = calloc(items + 1, sizeof *p->wait);
    p->ahead = calloc(layers + 1, sizeof *p->ahead);
    p->steps = calloc(layers + 1, sizeof *p->steps);
    p->pending = calloc(most, sizeof *p->pending);
    p->pending_rows = calloc(most, sizeof *p->pending_rows);
    return p->first != NULL && p->layer_of != NULL && p->last != NULL && p->uses != NULL &&
           p->profile != NULL && p->chosen != NULL && p->recent[0] != NULL &&
           p->recent[1] != NULL && p->wait != NULL && p->ahead != NULL && p->steps != NULL &&
           p->pending != NULL && p->pending_rows != NULL;
}

mixt_status mixt_policy_check_profile(const char *name, mixt_error *error)
{
    const policy_type *type;
    MIXT_TRY(find_type(name, &type, error));
    return type->uses_profile ? MIXT_OK
                              : mixt_fail(error, MIXT_ERROR_ARGUMENT,
                                          "policy %s: has no use for a profile", type->name);
}

mixt_status mixt_policy_create(const char *name, const mixt_policy_shape *shape,
                               mixt_policy **result, mixt_error *error)
{
    const policy_type *type;
    *result = NULL;
    MIXT_TRY(find_type(name, &type, error));
    if (type->needs_profile && shape->profile == NULL) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "policy %s: needs a profile, a trace of the model", type->name);
    }
    mixt_policy *policy = calloc(1, sizeof *policy);
    if (policy == NULL || !allocate(policy, shape)) {
        mixt_policy_free(policy);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "policy %s: no memory", type->name);
    }
    policy->type = type;
    memcpy(policy->first, shape->first, ((size_t)shape->layers + 1) * sizeof *policy->first);
    for (int layer = 0; shape->chosen != NULL && layer < shape->layers; layer++) {
        policy->chosen[layer] = shape->chosen[layer];
    }
    for (int32_t i = 0; shape->profile != NULL && i < policy->first[policy->layers]; i++) {
        policy->profile[i] = shape->profile[i] < UINT32_MAX ? shape->profile[i] : UINT32_MAX;
    }
    begin_shares(policy);
    *result = policy;
    return MIXT_OK;
}

void mixt_policy_free(mixt_policy *policy)
{
    if (policy == NULL) {
        return;
    }
    free(policy->first);
    free(policy->layer_of);
    free(policy->last);
    free(policy->uses);
    free(policy->profile);
    free(policy->chosen);
    free(policy->recent[0]);
    free(policy->recent[1]);
    free(policy->wait);
    free(policy->ahead);
    free(policy->steps);
    free(policy->pending);
    free(policy->pending_rows);
    free(policy);
}

const char *mixt_policy_name(const mixt_policy *policy)
{
    return policy->type->name;
}

/* ------------------------------------------------------------------------------------------ */
/* Fading                                                                                     */

/* Rows of the step at the layer of the uses that are pending. */
static double rows_of(mixt_policy *p, int layer)
{
    double all = 0, most = 1;
    for (int i = 0; i < p->pending_count; i++) {
        all += p->pending_rows[i];
        most = fmax(most, p->pending_rows[i]);
    }
    return p->chosen[layer] > 0 ? fmax(most, all / p->chosen[layer]) : most;
}

/* When each layer has its turn again, from behind `layer` on, and by how many rows it is looked at
 * then: those still to come in this step by this step's, the others by those of the next step,
 * which are taken to be as many as before the prompt that this one may be. */
static void look_ahead(mixt_policy *p, int layer)
{
    double next = fmin(p->rows, p->rows_before);
    for (int other = 0; other < p->layers; other++) {
        int turns = (other - layer - 1 + p->layers) % p->layers;
        p->ahead[other] = (float)turns / (float)p->layers;
        p->steps[other] = (float)(1 / (other > layer ? p->rows : next));
    }
}

/* The uses of a layer are known: its tokens' shares fade and those come in. A prompt's rows count
 * as so many tokens, the uses spread evenly among them. */
static void count_pending(mixt_policy *p)
{
    static const double half_life[2] = {SHORT_HALF_LIFE, LONG_HALF_LIFE};
    if (p->pending_count == 0) {
        return;
    }
    int layer = p->layer_of[p->pending[0]];
    bool more = layer == p->counted; /* the next part of a prompt wants others too */
    double rows = more ? p->rows : rows_of(p, layer);
    for (int h = 0; h < 2; h++) {
        double kept = exp2(-rows / half_life[h]);
        for (int32_t i = p->first[layer]; i < p->first[layer + 1] && !more; i++) {
            p->recent[h][i] *= kept;
        }
        for (int i = 0; i < p->pending_count; i++) {
            p->recent[h][p->pending[i]] += (1 - kept) * p->pending_rows[i] / rows;
        }
    }
    for (int32_t i = p->first[layer]; i < p->first[layer + 1]; i++) {
        double share = (p->recent[0][i] + p->recent[1][i]) / 2;
        p->wait[i] = (float)(1 / fmax(share, SHARE_LEAST));
    }
    p->rows = rows;
    p->counted = layer;
    p->pending_count = 0;
    look_ahead(p, layer);
}

/* ------------------------------------------------------------------------------------------ */
/* All                                                                                        */

void mixt_policy_step(mixt_policy *policy)
{
    count_pending(policy);
    policy->rows_before = policy->rows;
    policy->counted = -1;
}

/* Clocks and counts of 32 bits are halved before they overflow. */
static void halve(mixt_policy *p, uint32_t *values)
{
    for (int32_t i = 0; i < p->first[p->layers]; i++) {
        values[i] /= 2;
    }
}

/* It counts once all of its layer are known. */
static void await(mixt_policy *p, int32_t item, int32_t rows)
{
    int layer = p->layer_of[item];
    if (p->pending_count > 0 && (p->layer_of[p->pending[0]] != layer ||
                                 p->pending_count == p->first[layer + 1] - p->first[layer])) {
        count_pending(p);
    }
    p->pending[p->pending_count] = item;
    p->pending_rows[p->pending_count++] = rows;
}

void mixt_policy_use(mixt_policy *p, int32_t item, int64_t rows)
{
    assert(item >= 0 && item < p->first[p->layers] && rows > 0);
    rows = mixt_least(rows, INT32_MAX);
    if (p->type->others) {
        await(p, item, (int32_t)rows);
    }
    if (p->clock == UINT32_MAX) {
        halve(p, p->last);
        p->clock /= 2;
    }
    p->last[item] = ++p->clock;
    if (rows > (int64_t)(UINT32_MAX - p->uses[item])) {
        halve(p, p->uses);
    }
    p->uses[item] += (uint32_t)rows;
}

int32_t mixt_policy_victim(mixt_policy *policy, const int32_t *items, int64_t count)
{
    assert(count > 0);
    count_pending(policy);
    int32_t victim = items[0];
    uint64_t least = policy->type->rank(policy, victim);
    for (int64_t i = 1; i < count; i++) {
        uint64_t rank = policy->type->rank(policy, items[i]);
        victim = rank < least ? items[i] : victim;
        least = rank < least ? rank : least;
    }
    return victim;
}

bool mixt_policy_ranks(mixt_policy *policy, const int32_t *items, int64_t count, uint64_t *ranks)
{
    count_pending(policy);
    for (int64_t i = 0; i < count; i++) {
        ranks[items[i]] = policy->type->rank(policy, items[i]);
    }
    return policy->type->others;
}
