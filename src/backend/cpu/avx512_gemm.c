/* The matrix product's kernels with AVX-512. */
#include "backend/cpu/avx512_pack.h"
#include "backend/cpu/avx512_rows.h"

#include "backend/cpu/float_rows.h"

#include "backend/cpu/float_pack.h"

#define TILE_ADD(sum, a, b) _mm512_fmadd_ps(a, b, sum)
#define TILE_LANES
#include "backend/cpu/avx512_tile.h"

/* Rows [p, end) of a panel of `width` columns that lie side by side. Sixteen lanes are stored also
 * where fewer belong to the row: the next row's store writes over the rest, and the last row's (k
 * in all) is masked. */
static inline __attribute__((always_inline)) void copy_rows(int64_t p, int64_t end, int64_t k,
                                                            const float *x, int64_t x_k,
                                                            float *panel, const int width)
{
    const int tail = width % 16 == 0 ? 16 : width % 16;
    const __mmask16 mask = (__mmask16)(0xFFFFU >> (16 - tail));
    x += p * x_k;
    panel += p * width;
    for (; p < end; p++) {
        const float *from = x;
        float *to = panel;
        _mm_prefetch((const char *)(from + COPY_AHEAD * x_k), _MM_HINT_T0);
        if (width > 16) {
            _mm_prefetch((const char *)(from + COPY_AHEAD * x_k + 16), _MM_HINT_T0);
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
        x += x_k;
        panel += width;
    }
}

static inline __attribute__((always_inline)) void
copy_panels(int64_t k, int64_t panels, const float *x, int64_t x_k, float *panel, const int width)
{
    for (int64_t p = 0; p < k; p += COPY_ROWS) {
        int64_t end = mixt_least(p + COPY_ROWS, k);
        for (int64_t i = 0; i < panels; i++) {
            copy_rows(p, end, k, x + i * width, x_k, panel + i * width * k, width);
        }
    }
}

static void kernel_pack(int64_t k, int64_t width, const float *x, int64_t x_k, int64_t x_width,
                        float *panel, int panel_width)
{
    int64_t whole = x_width == 1 ? width / panel_width : 0;
    if (panel_width == TILE_COLUMNS) {
        copy_panels(k, whole, x, x_k, panel, TILE_COLUMNS);
    } else if (panel_width == TILE_ROWS) {
        copy_panels(k, whole, x, x_k, panel, TILE_ROWS);
    } else {
        whole = 0;
    }
    for (int64_t column = whole * panel_width; column < width; column += panel_width) {
        int64_t rest = width - column;
        pack_panel(k, rest < panel_width ? (int)rest : panel_width, x + column * x_width, x_k,
                   x_width, panel + column * k, panel_width);
    }
}

/* Rounds `pairs` cells of two k of 14 rows and swaps the two. A pair is 28 floats: 16 and 12. The
 * next one is loaded before this one is stored. */
static void round_rows(int64_t pairs, float *panel)
{
    const __mmask16 twelve = 0xFFF;
    const __m512i first =
        _mm512_setr_epi32(14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 0, 1);
    const __m512i second = _mm512_setr_epi32(2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 0, 0, 0, 0);
    __m512 low = _mm512_setzero_ps(), high = low;
    if (pairs > 0) {
        low = _mm512_loadu_ps(panel);
        high = _mm512_maskz_loadu_ps(twelve, panel + 16);
    }
    for (int64_t i = 0; i < pairs; i++) {
        float *next = panel + (i + 1 < pairs ? 2 * TILE_ROWS : 0);
        __m512 next_low = _mm512_loadu_ps(next);
        __m512 next_high = _mm512_maskz_loadu_ps(twelve, next + 16);
        low = v_round_bf16(low);
        high = v_round_bf16(high);
        _mm512_storeu_ps(panel, _mm512_permutex2var_ps(low, first, high));
        _mm512_mask_storeu_ps(panel + 16, twelve, _mm512_permutexvar_ps(second, low));
        low = next_low;
        high = next_high;
        panel = next;
    }
}

#include "backend/cpu/bf16_panel.h"

void mixt_fill_avx512_gemm(mixt_kernels_f32 *table)
{
    fill_gemm(table);
    table->gemm_bf16.enter = mixt_flush_enter;
    table->gemm_bf16.leave = mixt_flush_leave;
}
