/* What the shape rule of loss and its two directions know. */
#ifndef MIXT_OPS_HEAD_H
#define MIXT_OPS_HEAD_H

#include "ops/shape.h"

/* Rows whose logits are in work at once. */
#define MIXT_LOSS_SLAB MIXT_GEMM_K_BLOCK

#endif
