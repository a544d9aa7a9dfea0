/* What the tiers share about quantised activations. */
#ifndef MIXT_BACKEND_CPU_QUANT_Q8_H
#define MIXT_BACKEND_CPU_QUANT_Q8_H

#include <float.h>
#include <math.h>
#include <string.h>

#include "ops/quantised.h"

/* What mixt_q8's starts take away: bytes of weights are 2^5 more than these. */
#define START_SHIFT 5
/* Eight products with 43, the largest value of IQ2, fit 16 bits where the eight magnitudes sum up
 * to this at most (mixt_q8's large: they do not). */
#define SMALL_SUM (INT16_MAX / 43)

/* Groups whose largest value is smaller are zeros: 127 / largest stays finite, d is normal. */
#define MIXT_Q8_LEAST 0x1p-100F
#define MIXT_Q8_LARGEST FLT_MAX

/* Scale of a group whose largest magnitude has these bits, and what its values are multiplied by:
 * 0 where they become zeros. */
static inline float mixt_q8_scale(uint32_t largest_bits, float *d)
{
    float largest;
    memcpy(&largest, &largest_bits, sizeof largest);
    if (!(largest <= MIXT_Q8_LARGEST)) {
        *d = NAN;
        return 0;
    }
    if (largest < MIXT_Q8_LEAST) {
        *d = 0;
        return 0;
    }
    *d = largest / 127.0F;
    return 127.0F / largest;
}

/* The sums, and the wide copy, of a record whose q are set. */
static inline void mixt_q8_finish(mixt_q8_kind kind, mixt_q8 *to)
{
    for (int group = 0; group < 16; group++) {
        int sum = 0;
        for (int j = 0; j < 16; j++) {
            sum += to->q[16 * group + j];
        }
        to->sums[group] = (int16_t)sum;
    }
    for (int block = 0; block < MIXT_STEP_BLOCKS; block++) {
        to->totals[block] = to->sums[2 * block] + to->sums[2 * block + 1];
        to->block_sums[block] = (int16_t)to->totals[block];
    }
    if (kind.wide) {
        int16_t *wide = ((mixt_q8_wide *)to)->q;
        for (int j = 0; j < MIXT_STEP; j++) {
            wide[j] = to->q[j];
        }
    }
}

#endif
