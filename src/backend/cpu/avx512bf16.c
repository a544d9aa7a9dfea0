/* bfloat16 products with VDPBF16PS: a cell holds two k, the even one in its low half, and the
 * instruction adds the odd product, then the even one, each with one rounding. It reads and writes
 * subnormal numbers as zeros, and so do all other ways (the thread's modes are for sums with C).
 * tests/avx512_emulated_bf16.c compiles this file with the instruction spelled out. */
#include "backend/cpu/avx512_pack.h"

#ifndef TILE_ADD
#define TILE_ADD(sum, a, b) _mm512_dpbf16_ps(sum, (__m512bh)(a), (__m512bh)(b))
#define FILL mixt_fill_avx512bf16
#endif
#include "backend/cpu/avx512_tile.h"

#define CHUNK 32 /* k that are packed as fp32 at once */

/* One row of pairs from two rows of fp32; `odd` NULL where k ends on an even one. Then 0 of a row
 * meets -0 of a column: their product leaves every sum as it is, -0 too. */
static inline void store_pairs(const float *even, const float *odd, float *to, int width)
{
    for (int lane = 0; lane < width; lane += 16) {
        int lanes = width - lane < 16 ? width - lane : 16;
        __m512i pairs = _mm512_srli_epi32(round_bf16(v_load(even + lane, lanes)), 16);
        __m512i second = width == TILE_ROWS ? _mm512_setzero_si512() : _mm512_set1_epi32(INT32_MIN);
        if (odd != NULL) {
            second = round_bf16(v_load(odd + lane, lanes));
        }
        pairs = _mm512_or_si512(pairs, second);
        v_store(to + lane, _mm512_castsi512_ps(pairs), lanes);
    }
}

static void kernel_pack_pairs(int64_t k, int64_t width, const float *x, int64_t x_k,
                              int64_t x_width, float *panels, int panel_width)
{
    float rows[CHUNK * TILE_COLUMNS];
    for (; width > 0; width -= panel_width) {
        int columns = width < panel_width ? (int)width : panel_width;
        for (int64_t begin = 0; begin < k; begin += CHUNK) {
            int count = k - begin < CHUNK ? (int)(k - begin) : CHUNK;
            pack_panel(count, columns, x + begin * x_k, x_k, x_width, rows, panel_width);
            for (int p = 0; p < count; p += 2) {
                const float *even = rows + p * panel_width;
                store_pairs(even, p + 1 < count ? even + panel_width : NULL, panels, panel_width);
                panels += panel_width;
            }
        }
        x += panel_width * x_width;
    }
}

void FILL(mixt_kernels_f32 *table)
{
    table->gemm_bf16 = (mixt_gemm_kernels_f32){TILE_ROWS,         TILE_COLUMNS, true,
                                               kernel_pack_pairs, kernel_tile,  mixt_flush_enter,
                                               mixt_flush_leave};
}
