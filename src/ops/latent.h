/* Sizes of latent attention in its expanded form, and when it is the cheaper one. */
#ifndef MIXT_OPS_LATENT_H
#define MIXT_OPS_LATENT_H

#include "ops/attention.h"

/* Rows that are fed at once from which on the expanded form may be taken. */
#define MIXT_LATENT_ROWS 8

/* Of a layer with multi-head latent attention. */
typedef struct mixt_latent_sizes {
    int64_t heads, size, position; /* of a cached row: the latent, and what RoPE turns behind it */
    int64_t head_dim, value_dim;   /* of a head of q and k, `position` values included; of v */
} mixt_latent_sizes;

/* Keys that are expanded together, and heads. Neither changes a bit. */
typedef struct mixt_latent_tile {
    int64_t keys, heads;
} mixt_latent_tile;

/* By the multiply-adds of one head:
 *
 *   absorbed   rows size (nope + v)  + pairs (2 size + position)   q and the sum through a matrix
 *   expanded   keys size (nope + v)  + pairs (nope + position + v) each key through both
 *
 * whether `rows` tokens that are fed at once behind `before` others have the second, with keys =
 * before + rows and pairs (row, key) = rows before + rows (rows + 1) / 2. */
bool mixt_latent_expands(const mixt_latent_sizes *sizes, int64_t before, int64_t rows);

/* What fits the workspace of a plan for `capacity` rows. */
mixt_latent_tile mixt_latent_tile_of(const mixt_latent_sizes *sizes, int64_t capacity);

#endif
