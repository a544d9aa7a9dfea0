/* The matrix product's kernels with AVX-512. */
#include "backend/cpu/avx512_pack.h"

#define TILE_ADD(sum, a, b) _mm512_fmadd_ps(a, b, sum)
#include "backend/cpu/avx512_tile.h"

#define PACK_AHEAD 8 /* rows ahead that copies fetch: strides defeat the hardware's prefetcher */
#define PACK_GROUP 4 /* panels that copies fill together, so that they read longer pieces */

/* `panels` whole panels of `width` columns that lie side by side. Sixteen lanes are stored also
 * where fewer belong to the row: the next row's store writes over the rest, and the last row's is
 * masked. */
static inline __attribute__((always_inline)) void
copy_panels(int64_t k, const int panels, const float *x, int64_t x_k, float *panel, const int width)
{
    const int tail = width % 16 == 0 ? 16 : width % 16;
    const __mmask16 mask = (__mmask16)(0xFFFFU >> (16 - tail));
    const int64_t size = k * width;
    for (int64_t p = 0; p < k; p++) {
        for (int i = 0; i < panels; i++) {
            const float *from = x + i * width;
            float *to = panel + i * size;
            _mm_prefetch((const char *)(from + PACK_AHEAD * x_k), _MM_HINT_T0);
            if (width > 16) {
                _mm_prefetch((const char *)(from + PACK_AHEAD * x_k + 16), _MM_HINT_T0);
                _mm512_storeu_ps(to, _mm512_loadu_ps(from));
                from += 16;
                to += 16;
            }
            __m512 last = tail == 16 ? _mm512_loadu_ps(from) : _mm512_maskz_loadu_ps(mask, from);
            if (tail == 16 || p + 1 < k) {
                _mm512_storeu_ps(to, last);
            } else {
                _mm512_mask_storeu_ps(to, mask, last);
            }
        }
        x += x_k;
        panel += width;
    }
}

static void kernel_pack(int64_t k, int64_t width, const float *x, int64_t x_k, int64_t x_width,
                        float *panel, int panel_width)
{
    while (x_width == 1 && panel_width == TILE_COLUMNS && width >= PACK_GROUP * TILE_COLUMNS) {
        copy_panels(k, PACK_GROUP, x, x_k, panel, TILE_COLUMNS);
        x += PACK_GROUP * TILE_COLUMNS;
        panel += PACK_GROUP * TILE_COLUMNS * k;
        width -= PACK_GROUP * TILE_COLUMNS;
    }
    while (x_width == 1 && panel_width == TILE_ROWS && width >= PACK_GROUP * TILE_ROWS) {
        copy_panels(k, PACK_GROUP, x, x_k, panel, TILE_ROWS);
        x += PACK_GROUP * TILE_ROWS;
        panel += PACK_GROUP * TILE_ROWS * k;
        width -= PACK_GROUP * TILE_ROWS;
    }
    for (; width > 0; width -= panel_width) {
        pack_panel(k, width < panel_width ? (int)width : panel_width, x, x_k, x_width, panel,
                   panel_width);
        x += panel_width * x_width;
        panel += panel_width * k;
    }
}

#include "backend/cpu/bf16_panel.h"

void mixt_fill_avx512_gemm(mixt_kernels_f32 *table)
{
    table->gemm = (mixt_gemm_kernels_f32){TILE_ROWS, TILE_COLUMNS, false, kernel_pack, kernel_tile};
    table->gemm_bf16 =
        (mixt_gemm_kernels_f32){TILE_ROWS, TILE_COLUMNS, false, kernel_pack_bf16, kernel_tile};
}
