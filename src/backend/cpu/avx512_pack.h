/* Packing panels with AVX-512. */
#ifndef MIXT_BACKEND_CPU_AVX512_PACK_H
#define MIXT_BACKEND_CPU_AVX512_PACK_H

#include "backend/cpu/avx512_lanes.h"

/* Where sixteen columns of a panel come from and go to. */
typedef struct pack_chunk {
    const float *x;
    int64_t x_k, x_width;
    int valid; /* columns that exist; the others are 0 */
    int lanes; /* columns that are written */
    float *panel;
    int panel_width;
} pack_chunk;

/* Columns lie side by side: copies. */
static inline void pack_straight(const pack_chunk *chunk, int64_t k)
{
    const float *x = chunk->x;
    float *panel = chunk->panel;
    for (int64_t p = 0; p < k; p++) {
        v_store(panel, v_load(x, chunk->valid), chunk->lanes);
        x += chunk->x_k;
        panel += chunk->panel_width;
    }
}

/* Loads quad q of row i and puts it into lanes 4 (i / 4) of quads[q][i % 4]. */
#define LOAD_QUAD(q, i, from)                                                                      \
    do {                                                                                           \
        __m128 four = _mm_loadu_ps((from) + 4 * (q));                                              \
        quads[q][(i) % 4] =                                                                        \
            (i) < 4 ? _mm512_castps128_ps512(four)                                                 \
                    : _mm512_mask_broadcast_f32x4(quads[q][(i) % 4],                               \
                                                  (__mmask16)(0xFU << (4 * ((i) / 4))), four);     \
    } while (0)

#define LOAD_ROW(i)                                                                                \
    do {                                                                                           \
        const float *from = rows[i] + p;                                                           \
        LOAD_QUAD(0, i, from);                                                                     \
        LOAD_QUAD(1, i, from);                                                                     \
        LOAD_QUAD(2, i, from);                                                                     \
        LOAD_QUAD(3, i, from);                                                                     \
    } while (0)

static inline void store_lanes(const pack_chunk *chunk, int64_t p, __m512 x)
{
    x = _mm512_maskz_mov_ps(mask_of(chunk->valid), x);
    _mm512_mask_storeu_ps(chunk->panel + p * chunk->panel_width, mask_of(chunk->lanes), x);
}

/* Transposes four k of sixteen columns: r holds columns j, j + 4, j + 8, j + 12 in its quarters. */
static inline void store_quad(const pack_chunk *chunk, int64_t p, const __m512 r[4])
{
    __m512d low01 = _mm512_castps_pd(_mm512_unpacklo_ps(r[0], r[1]));
    __m512d low23 = _mm512_castps_pd(_mm512_unpacklo_ps(r[2], r[3]));
    __m512d high01 = _mm512_castps_pd(_mm512_unpackhi_ps(r[0], r[1]));
    __m512d high23 = _mm512_castps_pd(_mm512_unpackhi_ps(r[2], r[3]));
    store_lanes(chunk, p, _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23)));
    store_lanes(chunk, p + 1, _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23)));
    store_lanes(chunk, p + 2, _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23)));
    store_lanes(chunk, p + 3, _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23)));
}

/* k lies side by side: transposes blocks of 16 by 16. */
static inline void pack_transposed(const pack_chunk *chunk, int64_t k)
{
    const float *rows[16];
    for (int i = 0; i < 16; i++) {
        rows[i] = chunk->x + (i < chunk->valid ? i : 0) * chunk->x_width;
    }
    int64_t p = 0;
    for (; p + 16 <= k; p += 16) {
        __m512 quads[4][4];
        LOAD_ROW(0);
        LOAD_ROW(1);
        LOAD_ROW(2);
        LOAD_ROW(3);
        LOAD_ROW(4);
        LOAD_ROW(5);
        LOAD_ROW(6);
        LOAD_ROW(7);
        LOAD_ROW(8);
        LOAD_ROW(9);
        LOAD_ROW(10);
        LOAD_ROW(11);
        LOAD_ROW(12);
        LOAD_ROW(13);
        LOAD_ROW(14);
        LOAD_ROW(15);
        store_quad(chunk, p, quads[0]);
        store_quad(chunk, p + 4, quads[1]);
        store_quad(chunk, p + 8, quads[2]);
        store_quad(chunk, p + 12, quads[3]);
    }
    for (; p < k; p++) {
        for (int i = 0; i < chunk->lanes; i++) {
            chunk->panel[p * chunk->panel_width + i] = i < chunk->valid ? rows[i][p] : 0;
        }
    }
}

static void kernel_pack(int64_t k, int width, const float *x, int64_t x_k, int64_t x_width,
                        float *panel, int panel_width)
{
    for (int lane = 0; lane < panel_width; lane += 16) {
        int valid = width - lane < 16 ? width - lane : 16;
        pack_chunk chunk = {
            .x = x + lane * x_width,
            .x_k = x_k,
            .x_width = x_width,
            .valid = valid < 0 ? 0 : valid,
            .lanes = panel_width - lane < 16 ? panel_width - lane : 16,
            .panel = panel + lane,
            .panel_width = panel_width,
        };
        if (chunk.valid == 0) {
            chunk.x = x; /* no column: not read, but the address must exist */
        }
        if (x_width == 1 || chunk.valid == 0) {
            pack_straight(&chunk, k);
        } else {
            pack_transposed(&chunk, k);
        }
    }
}

#endif
