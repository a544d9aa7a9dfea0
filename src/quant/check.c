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
    case MIXT_TYPE_IQ1_S:
    case MIXT_TYPE_IQ2_XXS:
    case MIXT_TYPE_IQ2_XS:
    case MIXT_TYPE_IQ2_S:
    case MIXT_TYPE_IQ3_XXS:
    case MIXT_TYPE_IQ3_S:
    case MIXT_TYPE_Q1_0:
    case MIXT_TYPE_Q2_0:
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
    case MIXT_TYPE_TQ1_0:
        offsets[0] = offsetof(mixt_tq1_0_block, d);
        break;
    case MIXT_TYPE_TQ2_0:
        offsets[0] = offsetof(mixt_tq2_0_block, d);
        break;
    case MIXT_TYPE_F32:
    case MIXT_TYPE_BF16:
    case MIXT_TYPE_MXFP4:
    case MIXT_TYPE_F8_E4M3:
    case MIXT_TYPE_IQ1_M:
    case MIXT_TYPE_NVFP4:
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

/* What lies elsewhere or is no half. */
static bool is_bad(mixt_type type, const unsigned char *block)
{
    switch ((int)type) {
    case MIXT_TYPE_F32:
        return is_set(block, 4, 0x7f800000);
    case MIXT_TYPE_BF16:
        return is_set(block, 2, 0x7f80);
    case MIXT_TYPE_MXFP4:
        return block[0] == 0xff;
    case MIXT_TYPE_F8_E4M3: /* no infinities, one NaN of either sign */
        return is_set(block, 1, 0x7f);
    case MIXT_TYPE_IQ1_M: /* the exponent's five bits are spread over two words */
        return is_set(block + 54, 2, 0x7000) && is_set(block + 52, 2, 0xc000);
    case MIXT_TYPE_NVFP4: /* NaN by the standard; ggml reads 0 */
        return is_set(block, 1, 0x7f) || is_set(block + 1, 1, 0x7f) || is_set(block + 2, 1, 0x7f) ||
               is_set(block + 3, 1, 0x7f);
    default:
        return false;
    }
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
                   (offsets[1] >= 0 && is_set(at + offsets[1], 2, 0x7c00)) || is_bad(type, at);
        if (bad) {
            return i;
        }
    }
    return -1;
}
