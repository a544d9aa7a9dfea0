/* Policies: a row of the table below each. */
#include "store/policy.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

struct mixt_policy {
    const struct policy_type *type;
    int32_t items;
    uint64_t clock;    /* uses so far */
    uint64_t *last;    /* [items] the clock of the last use; 0: none */
    uint64_t *uses;    /* [items] rows */
    uint64_t *profile; /* [items], or NULL */
};

/* sooner: whether `a` makes room before `b`; an order of all items. */
typedef struct policy_type {
    const char *name, *help;
    bool needs_profile;
    bool (*sooner)(const mixt_policy *policy, int32_t a, int32_t b);
} policy_type;

static bool older(const mixt_policy *policy, int32_t a, int32_t b)
{
    return policy->last[a] < policy->last[b];
}

/* Rows count, not steps, so that a text leaves the same counts read at once or token by token. */
static bool less_used(const mixt_policy *policy, int32_t a, int32_t b)
{
    return policy->uses[a] != policy->uses[b] ? policy->uses[a] < policy->uses[b]
                                              : older(policy, a, b);
}

static bool lower_in_profile(const mixt_policy *policy, int32_t a, int32_t b)
{
    return policy->profile[a] != policy->profile[b] ? policy->profile[a] < policy->profile[b]
                                                    : older(policy, a, b);
}

static const policy_type types[] = {
    {"lru", "the expert that was used longest ago makes room", false, older},
    {"lfu", "the one used by the fewest tokens makes room", false, less_used},
    {"static", "the one used least in the profile makes room", true, lower_in_profile},
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
    if (policy != NULL) {
        size_t items = (size_t)shape->first[shape->layers];
        policy->type = type;
        policy->items = (int32_t)items;
        policy->last = calloc(items + 1, sizeof *policy->last);
        policy->uses = calloc(items + 1, sizeof *policy->uses);
        policy->profile = calloc(items + 1, sizeof *policy->profile);
        if (policy->profile != NULL && shape->profile != NULL) {
            memcpy(policy->profile, shape->profile, items * sizeof *policy->profile);
        }
    }
    if (policy == NULL || policy->last == NULL || policy->uses == NULL || policy->profile == NULL) {
        mixt_policy_free(policy);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "policy %s: no memory", type->name);
    }
    *result = policy;
    return MIXT_OK;
}

void mixt_policy_free(mixt_policy *policy)
{
    if (policy != NULL) {
        free(policy->last);
        free(policy->uses);
        free(policy->profile);
        free(policy);
    }
}

const char *mixt_policy_name(const mixt_policy *policy)
{
    return policy->type->name;
}

void mixt_policy_step(mixt_policy *policy)
{
    (void)policy;
}

void mixt_policy_use(mixt_policy *policy, int32_t item, int64_t rows)
{
    assert(item >= 0 && item < policy->items && rows > 0);
    policy->last[item] = ++policy->clock;
    policy->uses[item] += (uint64_t)rows;
}

int32_t mixt_policy_victim(mixt_policy *policy, const int32_t *items, int64_t count)
{
    assert(count > 0);
    int32_t victim = items[0];
    for (int64_t i = 1; i < count; i++) {
        victim = policy->type->sooner(policy, items[i], victim) ? items[i] : victim;
    }
    return victim;
}
