/* Blocks that one block's values become; quantise.c checks the values first. */
#ifndef MIXT_QUANT_QUANTISE_H
#define MIXT_QUANT_QUANTISE_H

#include <stdbool.h>

#include "quant/fit.h"

/* Finite values [elements of the block] with weights (of the squared error, not negative; NULL: all
 * 1) into the block. False where the values are too large for the block's scales. */
typedef bool mixt_quantise_function(const float *values, const float *weights, void *block);

mixt_quantise_function mixt_quantise_q4_0, mixt_quantise_q4_1, mixt_quantise_q5_0,
    mixt_quantise_q5_1, mixt_quantise_q8_0, mixt_quantise_iq4_nl, mixt_quantise_mxfp4;
mixt_quantise_function mixt_quantise_q2_k, mixt_quantise_q3_k, mixt_quantise_q4_k,
    mixt_quantise_q5_k, mixt_quantise_q6_k, mixt_quantise_iq4_xs;

/* What fits are made of: values below 1 and weights up to 1 [count]; the unit of the values, or 0
 * where all are too small to matter. */
float mixt_quantise_prepare(const float *values, const float *weights, int count, float *x,
                            float *w);

extern const mixt_codes mixt_iq4_codes;
int mixt_iq4_index(float code); /* of a value of the table */

#endif
