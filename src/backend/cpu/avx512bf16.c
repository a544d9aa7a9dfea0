/* bfloat16 products with VDPBF16PS: a cell holds two k, the even one in its low half, and the
 * instruction adds the odd product, then the even one, each with one rounding. It reads and writes
 * subnormal numbers as zeros: there, and only there, its bits differ from the other tiers'.
 * avx512emulated.c compiles this file with the instruction spelled out. */
#include "backend/cpu/avx512_pack.h"

#ifndef TILE_ADD
#define TILE_ADD(sum, a, b) _mm512_dpbf16_ps(sum, (__m512bh)(a), (__m512bh)(b))
#define FILL mixt_fill_avx512bf16
#endif
#include "backend/cpu/avx512_tile.h"

#define CHUNK 32 /* k that are packed as fp32 at once */

static void kernel_pack_pairs(int64_t k, int width, const float *x, int64_t x_k, int64_t x_width,
                              float *panel, int panel_width)
{
    float rows[CHUNK * TILE_COLUMNS];
    for (int64_t begin = 0; begin < k; begin += CHUNK) {
        int count = k - begin < CHUNK ? (int)(k - begin) : CHUNK;
        kernel_pack(count, width, x + begin * x_k, x_k, x_width, rows, panel_width);
        for (int p = 0; p < count; p += 2) {
            for (int lane = 0; lane < panel_width; lane += 16) {
                int lanes = panel_width - lane < 16 ? panel_width - lane : 16;
                const float *even = rows + p * panel_width + lane;
                __m512i low = _mm512_srli_epi32(round_bf16(v_load(even, lanes)), 16);
                __m512i high = _mm512_setzero_si512();
                if (p + 1 < count) {
                    high = round_bf16(v_load(even + panel_width, lanes));
                }
                v_store(panel + lane, _mm512_castsi512_ps(_mm512_or_si512(low, high)), lanes);
            }
            panel += panel_width;
        }
    }
}

void FILL(mixt_kernels_f32 *table)
{
    table->gemm_bf16 =
        (mixt_gemm_kernels_f32){TILE_ROWS, TILE_COLUMNS, true, kernel_pack_pairs, kernel_tile};
}
