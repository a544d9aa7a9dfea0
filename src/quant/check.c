/* Blocks whose scales are no numbers: a file may hold any bytes. */
#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "quant/blocks.h"
#include "quant/quant.h"

/* Where a block has halves; -1: none. */
static void find_halves(mixt_type type, int offsets[2])
{
    offsets[0] = 0;
    offsets[1] = -1;
    switch (type) {
    case MIXT_TYPE_F16:
    case MIXT_TYPE_Q4_0:
    case MIXT_TYPE_Q5_0:
    case MIXT_TYPE_Q8_0:
    case MIXT_TYPE_IQ4_NL:
    case MIXT_TYPE_IQ4_XS:
        break;
    case MIXT_TYPE_Q4_1:
    case MIXT_TYPE_Q5_1:
    case MIXT_TYPE_Q4_K:
    case MIXT_TYPE_Q5_K:
        offsets[1] = 2;
        break;
    case MIXT_TYPE_Q2_K:
        offsets[0] = offsetof(mixt_q2_k_block, d);
        offsets[1] = offsetof(mixt_q2_k_block, min_d);
        break;
    case MIXT_TYPE_Q3_K:
        offsets[0] = offsetof(mixt_q3_k_block, d);
        break;
    case MIXT_TYPE_Q6_K:
        offsets[0] = offsetof(mixt_q6_k_block, d);
        break;
    case MIXT_TYPE_F32:
    case MIXT_TYPE_BF16:
    case MIXT_TYPE_MXFP4:
    case MIXT_TYPE_F8_E4M3:
    case MIXT_TYPE_COUNT:
        offsets[0] = -1;
        break;
    }
}

/* Whether all bits of the mask are set in the little-endian number at `at`: an exponent of NaN or
 * infinity. */
static bool is_set(const unsigned char *at, size_t bytes, uint32_t mask)
{
    uint32_t bits = 0;
    memcpy(&bits, at, bytes);
    return (bits & mask) == mask;
}

int64_t mixt_find_bad_block(mixt_type type, const void *blocks, int64_t count)
{
    const mixt_type_row *row = mixt_type_info(type);
    const unsigned char *at = blocks;
    int offsets[2];
    find_halves(type, offsets);
    assert(count >= 0 && count % row->elements == 0);
    for (int64_t i = 0; i < count / row->elements; i++, at += row->bytes) {
        bool bad = (offsets[0] >= 0 && is_set(at + offsets[0], 2, 0x7c00)) ||
                   (offsets[1] >= 0 && is_set(at + offsets[1], 2, 0x7c00)) ||
                   (type == MIXT_TYPE_F32 && is_set(at, 4, 0x7f800000)) ||
                   (type == MIXT_TYPE_BF16 && is_set(at, 2, 0x7f80)) ||
                   (type == MIXT_TYPE_MXFP4 && at[0] == 0xff) ||
                   (type == MIXT_TYPE_F8_E4M3 && (at[0] & 0x7f) == 0x7f);
        if (bad) {
            return i;
        }
    }
    return -1;
}
