/* Which expert makes room for another. The pool and the simulator ask the same code, so that they
 * agree request by request. Experts ("items") are numbered layer by layer. */
#ifndef MIXT_STORE_POLICY_H
#define MIXT_STORE_POLICY_H

#include "core/error.h"

typedef struct mixt_policy mixt_policy;

typedef struct mixt_policy_shape {
    int layers;
    const int32_t *first;    /* [layers + 1] item with which a layer begins */
    const uint64_t *profile; /* [items] uses in a trace, or NULL */
    const int *chosen;       /* [layers] experts of a token, or NULL: not known */
} mixt_policy_shape;

/* MIXT_ERROR_ARGUMENT: no policy of that name (the message lists them), or one that needs a
 * profile. NULL: the default. The shape's arrays are copied. */
mixt_status mixt_policy_create(const char *name, const mixt_policy_shape *shape,
                               mixt_policy **policy, mixt_error *error);
/* MIXT_ERROR_ARGUMENT: a policy of that name would pass a profile over. */
mixt_status mixt_policy_check_profile(const char *name, mixt_error *error);
void mixt_policy_free(mixt_policy *policy);
const char *mixt_policy_name(const mixt_policy *policy);

/* A step begins; its layers follow one another. */
void mixt_policy_step(mixt_policy *policy);
/* An item is used: once for each step and layer that wants it, hit or not, `rows` rows of the step
 * at it. */
void mixt_policy_use(mixt_policy *policy, int32_t item, int64_t rows);
/* Which of the items that are held goes first; count > 0. */
int32_t mixt_policy_victim(mixt_policy *policy, const int32_t *items, int64_t count);
/* Ranks [all items] of these: of any items the one of lowest rank goes first. True: a use changes
 * the ranks of others than the item used. */
bool mixt_policy_ranks(mixt_policy *policy, const int32_t *items, int64_t count, uint64_t *ranks);

#endif
