/* Codebooks of the IQ types: which combinations of eight (or four) values there are. */
#ifndef MIXT_QUANT_GRIDS_H
#define MIXT_QUANT_GRIDS_H

#include <stdint.h>

typedef struct mixt_grids {
    int8_t iq1[2048][8];                                    /* of IQ1_S and IQ1_M: -1, 0, 1 */
    int8_t iq2_xxs[256][8], iq2_xs[512][8], iq2_s[1024][8]; /* 8, 25, 43 */
    int8_t iq3_xxs[256][4];                                 /* 4, 12, ..., 52, 62 */
    int8_t iq3_s[512][4];                                   /* 1, 3, ..., 15 */
    int8_t signs[256][8];                                   /* -1 where bit j is set, else 0 */
    int8_t pairs[256][4];                                   /* bits 2 j, 2 j + 1, less 1 */
    uint8_t even[128]; /* seven signs with an eighth that makes the number of ones even */
    /* Which of its values an entry has: two bits for each of eight values, or for IQ3 four for each
     * of four, the first lowest. */
    const uint16_t *iq1_codes, *iq2_xxs_codes, *iq2_xs_codes, *iq2_s_codes;
    uint16_t iq3_xxs_codes[256], iq3_s_codes[512];
} mixt_grids;

/* The same tables for all; expanded at the first call. */
const mixt_grids *mixt_grids_get(void);

#endif
