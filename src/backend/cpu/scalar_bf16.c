/* Products of bfloat16 without the instruction: operands rounded, kept as fp32, and the two k of a
 * pair swapped, because vdpbf16ps adds the odd one first. */
#include "backend/cpu/tiers.h"

void mixt_pack_bf16_scalar(int64_t k, int64_t width, const float *x, int64_t x_k, int64_t x_width,
                           float *panels, int panel_width)
{
    for (int64_t begin = 0; begin < width; begin += panel_width) {
        for (int64_t cell = 0; cell < k; cell++) {
            int64_t p = (cell ^ 1) < k ? (cell ^ 1) : cell;
            for (int64_t i = begin; i < begin + panel_width; i++) {
                *panels++ = i < width ? mixt_round_bf16(x[p * x_k + i * x_width]) : 0;
            }
        }
    }
}
