/* Sizes of attention that its shape rule and both directions know. */
#ifndef MIXT_OPS_ATTENTION_H
#define MIXT_OPS_ATTENTION_H

#include "ops/pages.h"

#define MIXT_ATTENTION_HEAD_MAX                                                                    \
    MIXT_CACHED_MAX /* head_dim that the pack buffers hold, in fp64 too */

#define MIXT_ATTENTION_LIST_REALS 5 /* for each row, of the lists of a cache's blocks of rows */

/* Query heads of a kv head up to which single rows read the cache as it lies; more of them are
 * multiplied as a block. */
#define MIXT_ATTENTION_GROUP_MAX MIXT_CACHED_GROUP
#define MIXT_ATTENTION_PART_REALS 2 /* of a block of keys of such a row, in a list */

/* Blocks of keys that a sequence may have in a cache: of rows, or of a table of pages. */
static inline int64_t mixt_attention_parts(const mixt_shape *keys, const mixt_shape *pages)
{
    return pages->rank > 0 ? pages->size[1] : mixt_divide_up(keys->size[0], MIXT_ATTENTION_BLOCK);
}

static inline int64_t mixt_attention_value_dim(const mixt_attributes *attributes)
{
    return attributes->value_dim > 0 ? attributes->value_dim : attributes->head_dim;
}

/* Reals that `capacity` single rows over a cache need: scores, sums and the softmax of the blocks
 * of one sequence, which many short ones share; of each row its maximum, and where its blocks
 * begin. */
static inline int64_t mixt_attention_room(const mixt_attributes *attributes, int64_t parts,
                                          int64_t capacity)
{
    int64_t head = MIXT_ATTENTION_BLOCK + mixt_attention_value_dim(attributes) + 3;
    return attributes->heads / attributes->kv_heads > MIXT_ATTENTION_GROUP_MAX
               ? 0
               : parts * (attributes->heads * head + MIXT_ATTENTION_PART_REALS) +
                     capacity * (attributes->heads + 1) + 1 + 16;
}

/* Reals of the softmax and the sums of a block of 64 rows of a head between two tiles of keys. */
static inline int64_t mixt_attention_carry(int64_t value_dim)
{
    return MIXT_ATTENTION_BLOCK * (value_dim + 2);
}

#endif
