/* Least squares behind the quantisers: scales (and offsets) with which rounded values come closest
 * to given ones. Values are expected within [-1, 1] and weights within [0, 1], so that no sum of
 * squares can overflow. */
#ifndef MIXT_QUANT_FIT_H
#define MIXT_QUANT_FIT_H

#include <stdbool.h>
#include <stdint.h>

#define MIXT_GROUPS_MAX 16 /* of a block of 256 */

/* Values that share a scale. */
typedef struct mixt_fit_group {
    const float *x, *w; /* [count] */
    int count;          /* a multiple of 4, up to 256 */
} mixt_fit_group;

/* The numbers that a scale is multiplied with. */
typedef struct mixt_codes {
    float low, high;
    const float *table; /* 16 rising numbers from low to high, or NULL: all integers between */
    /* Searched: scales that put the largest value at `from` to `to` times the end of the range. */
    float from, to, step;
} mixt_codes;

/* Best scale s of s * code, 0 for values that are all 0. */
float mixt_fit_scale(const mixt_fit_group *group, const mixt_codes *codes);
/* Weighted squared error of s * code with the nearest codes; `out` [count] or NULL takes them. */
float mixt_fit_scale_error(const mixt_fit_group *group, const mixt_codes *codes, float scale,
                           float *out);

/* s * q + b with q in 0 to high. */
typedef struct mixt_fit_line {
    float scale, offset, error;
} mixt_fit_line;

/* `negative`: b may not be above 0. Searched: as in mixt_codes, of the range from 0 to high. */
mixt_fit_line mixt_fit_offset(const mixt_fit_group *group, const mixt_codes *codes, bool negative);
float mixt_fit_line_error(const mixt_fit_group *group, const mixt_codes *codes, float scale,
                          float offset, float *out);

/* A block whose groups have integer scales below one scale d, and integer minima below another. */
typedef struct mixt_fit_shape {
    mixt_codes codes;
    int groups, group_size;
    int scale_low, scale_high; /* of the integer scales (and minima, from 0) */
} mixt_fit_shape;

/* Values are x * unit; d and min_d are halves in the units of the values. */
typedef struct mixt_fit_block {
    const float *x, *w; /* [groups * group_size] */
    float unit;
    uint16_t d, min_d;
    int scales[MIXT_GROUPS_MAX], mins[MIXT_GROUPS_MAX];
    float codes[256];
    float error;
} mixt_fit_block;

/* d * scale * code. False where d is too large for a half. */
bool mixt_fit_scaled_block(const mixt_fit_shape *shape, mixt_fit_block *block);
/* d * scale * q - min_d * min. */
bool mixt_fit_offset_block(const mixt_fit_shape *shape, mixt_fit_block *block);

#endif
