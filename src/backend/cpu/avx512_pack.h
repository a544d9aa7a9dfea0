/* Packing panels with AVX-512, sixteen columns of a panel (a chunk) at a time. */
#ifndef MIXT_BACKEND_CPU_AVX512_PACK_H
#define MIXT_BACKEND_CPU_AVX512_PACK_H

#include "backend/cpu/avx512_lanes.h"

/* Rows that copies take at once: all panels take their part of them while they are in the first
 * cache, and the next ones are fetched, because strides defeat the hardware's prefetcher. */
#define COPY_ROWS 8
#define COPY_AHEAD 16 /* rows from what is fetched to what is copied */

typedef struct pack_chunk {
    const float *x;
    int64_t x_k, x_width;
    int valid; /* columns that exist; the others are 0 */
    int lanes; /* columns that are written */
    float *panel;
    int panel_width;
} pack_chunk;

/* Any chunk whose columns lie side by side. */
static void pack_straight(const pack_chunk *chunk, int64_t k)
{
    const __mmask16 valid = mask_of(chunk->valid), lanes = mask_of(chunk->lanes);
    const float *x = chunk->x;
    float *panel = chunk->panel;
    for (int64_t p = 0; p < k; p++) {
        _mm512_mask_storeu_ps(panel, lanes, _mm512_maskz_loadu_ps(valid, x));
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
    if (lanes > (i)) {                                                                             \
        const float *from = rows[i] + p;                                                           \
        _mm_prefetch((const char *)(rows[i] + ahead), _MM_HINT_T0);                                \
        LOAD_QUAD(0, i, from);                                                                     \
        LOAD_QUAD(1, i, from);                                                                     \
        LOAD_QUAD(2, i, from);                                                                     \
        LOAD_QUAD(3, i, from);                                                                     \
    }

#define EACH_LANE(X)                                                                               \
    X(0)                                                                                           \
    X(1)                                                                                           \
    X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

/* Transposes four k of sixteen columns: r holds columns j, j + 4, j + 8, j + 12 in its quarters. */
static inline void transpose_quad(__m512 r[4])
{
    __m512d low01 = _mm512_castps_pd(_mm512_unpacklo_ps(r[0], r[1]));
    __m512d low23 = _mm512_castps_pd(_mm512_unpacklo_ps(r[2], r[3]));
    __m512d high01 = _mm512_castps_pd(_mm512_unpackhi_ps(r[0], r[1]));
    __m512d high23 = _mm512_castps_pd(_mm512_unpackhi_ps(r[2], r[3]));
    r[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23));
    r[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23));
    r[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23));
    r[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23));
}

static inline void store_quad(float *to, int panel_width, const __m512 r[4])
{
    _mm512_storeu_ps(to, r[0]);
    _mm512_storeu_ps(to + panel_width, r[1]);
    _mm512_storeu_ps(to + 2 * panel_width, r[2]);
    _mm512_storeu_ps(to + 3 * panel_width, r[3]);
}

/* k from what is fetched to what is transposed: sixteen rows are more than the hardware follows. */
#define TRANSPOSE_AHEAD 128

/* Sixteen k of a chunk from p on, written to `to`: rows of `panel_width`, sixteen lanes each.
 * Fetches what stands `ahead` of the rows' begin. */
static inline __attribute__((always_inline)) void transpose_fetching(const float *const rows[16],
                                                                     int64_t p, int64_t ahead,
                                                                     const int lanes, float *to,
                                                                     int panel_width)
{
    __m512 quads[4][4];
    EACH_LANE(LOAD_ROW)
    transpose_quad(quads[0]);
    transpose_quad(quads[1]);
    transpose_quad(quads[2]);
    transpose_quad(quads[3]);
    store_quad(to, panel_width, quads[0]);
    store_quad(to + 4 * panel_width, panel_width, quads[1]);
    store_quad(to + 8 * panel_width, panel_width, quads[2]);
    store_quad(to + 12 * panel_width, panel_width, quads[3]);
}

static inline __attribute__((always_inline)) void
transpose_block(const float *const rows[16], int64_t p, const int lanes, float *to, int panel_width)
{
    transpose_fetching(rows, p, p, lanes, to, panel_width);
}

/* Whole blocks of a chunk that exists in full, its k side by side: returns how many k are done. As
 * in copy_panels, fewer than sixteen lanes overlap the next row, so the last block is left out,
 * unless rows have sixteen. */
static inline __attribute__((always_inline)) int64_t
transpose_blocks(const pack_chunk *chunk, const float *const rows[16], int64_t k, const int lanes)
{
    int64_t p = 0;
    for (; p + 16 + (chunk->lanes < 16) <= k; p += 16) {
        int64_t ahead = p + TRANSPOSE_AHEAD; /* behind the rows' end: in the next chunk's */
        ahead += ahead < k ? 0 : lanes * chunk->x_width - k;
        transpose_fetching(rows, p, ahead, lanes, chunk->panel + p * chunk->panel_width,
                           chunk->panel_width);
    }
    return p;
}

/* Any chunk whose k lies side by side. */
static void pack_transposed(const pack_chunk *chunk, int64_t k)
{
    const float *rows[16];
    for (int i = 0; i < 16; i++) {
        rows[i] = chunk->x + (i < chunk->valid ? i : 0) * chunk->x_width;
    }
    int64_t p = 0;
    if (chunk->valid == 16) {
        p = transpose_blocks(chunk, rows, k, 16);
    } else if (chunk->valid == 14 && chunk->lanes >= 14) {
        p = transpose_blocks(chunk, rows, k, 14);
    }
    const __mmask16 valid = mask_of(chunk->valid), lanes = mask_of(chunk->lanes);
    for (; p + 16 <= k; p += 16) {
        float block[16 * 16];
        transpose_block(rows, p, 16, block, 16);
        for (int i = 0; i < 16; i++) {
            _mm512_mask_storeu_ps(chunk->panel + (p + i) * chunk->panel_width, lanes,
                                  _mm512_maskz_loadu_ps(valid, block + 16 * i));
        }
    }
    for (; p < k; p++) {
        for (int i = 0; i < chunk->lanes; i++) {
            chunk->panel[p * chunk->panel_width + i] = i < chunk->valid ? rows[i][p] : 0;
        }
    }
}

/* One panel, chunk by chunk. */
static void pack_panel(int64_t k, int width, const float *x, int64_t x_k, int64_t x_width,
                       float *panel, int panel_width)
{
    for (int lane = 0; lane < panel_width; lane += 16) {
        int valid = width - lane < 16 ? width - lane : 16;
        pack_chunk chunk = {
            .x = valid > 0 ? x + lane * x_width : x,
            .x_k = x_k,
            .x_width = x_width,
            .valid = valid > 0 ? valid : 0,
            .lanes = panel_width - lane < 16 ? panel_width - lane : 16,
            .panel = panel + lane,
            .panel_width = panel_width,
        };
        if (x_width == 1 || chunk.valid == 0) {
            pack_straight(&chunk, k);
        } else {
            pack_transposed(&chunk, k);
        }
    }
}

#endif
