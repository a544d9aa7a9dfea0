/* Sizes of attention that its shape rule and both directions know. */
#ifndef MIXT_OPS_ATTENTION_H
#define MIXT_OPS_ATTENTION_H

#include "ops/pages.h"

#define MIXT_ATTENTION_HEAD_MAX 640 /* head_dim that the pack buffers hold, in fp64 too */

#define MIXT_ATTENTION_LIST_REALS 4 /* for each row, of the lists of a cache's blocks of rows */

static inline int64_t mixt_attention_value_dim(const mixt_attributes *attributes)
{
    return attributes->value_dim > 0 ? attributes->value_dim : attributes->head_dim;
}

#endif
