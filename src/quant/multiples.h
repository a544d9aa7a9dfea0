/* Blocks whose values are whole multiples of one float: types with codebooks and ternary ones, and
 * those that share a scale among fewer than 256 values. Dequantising and products both begin here.
 */
#ifndef MIXT_QUANT_MULTIPLES_H
#define MIXT_QUANT_MULTIPLES_H

#include "quant/types.h"

/* Whether a block of 256 is d * integers, |integer| <= 1922. */
static inline bool mixt_type_is_multiples(mixt_type type)
{
    return type >= MIXT_TYPE_IQ1_S && type <= MIXT_TYPE_TQ2_0;
}
/* Whether blocks are longer than 32 and shorter than 256. */
static inline bool mixt_type_has_parts(mixt_type type)
{
    return type >= MIXT_TYPE_NVFP4 && type <= MIXT_TYPE_Q2_0;
}

/* d, and the integers, of a block of 256. d times an integer is exact in fp32. */
float mixt_multiples_of(mixt_type type, const void *block, int16_t q[256]);
/* Part `part` of 32 values of a shorter block: value j is d[j / 16] * q[j], |q| <= 12. */
void mixt_part_of(mixt_type type, const void *block, int part, int16_t q[32], float d[2]);

#endif
