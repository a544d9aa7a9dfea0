/* bfloat16 products with AMX. Panels of B are those of avx512bf16.c: [cells, 32] pairs of k. Panels
 * of A are cut into pieces of 16 cells, each [32 rows, 16] pairs, the last one narrower. TDPBF16PS
 * has an order of sums of its own: 32 k are a chain of the even ones and one of the odd ones, each
 * from zero; the two are added, and then the sum so far.
 * tests/amx_emulated.c compiles this file with the tile registers spelled out. */
#include "backend/cpu/avx512_pack.h"

#include "backend/cpu/amx_registers.h"

#include <assert.h>

#define TILE_ROWS 32
#define TILE_COLUMNS 32
#define CELLS 16 /* pairs of k in a tile register */
#define K_OF_CELLS (2 * CELLS)

#ifndef FILL
#define FILL mixt_fill_amx_bf16
#endif

/* Pairs of a row of fp32 and the one behind it, of 32 floats; NULL: zeros. */
static inline void store_pairs(const float *even, const float *odd, float *to)
{
    for (int lane = 0; lane < TILE_COLUMNS; lane += 16) {
        __m512i pairs = _mm512_srli_epi32(round_bf16(_mm512_loadu_ps(even + lane)), 16);
        if (odd != NULL) {
            pairs = _mm512_or_si512(pairs, round_bf16(_mm512_loadu_ps(odd + lane)));
        }
        _mm512_storeu_ps(to + lane, _mm512_castsi512_ps(pairs));
    }
}

/* Up to 32 k of up to 32 columns as [cells, 32] pairs; returns the cells. */
static int pack_cells(int k, int columns, const float *x, int64_t x_k, int64_t x_width, float *to)
{
    float rows[K_OF_CELLS * TILE_COLUMNS];
    int p = 0;
    pack_panel(k, columns, x, x_k, x_width, rows, TILE_COLUMNS);
    for (; p < k; p += 2) {
        const float *even = rows + p * TILE_COLUMNS;
        store_pairs(even, p + 1 < k ? even + TILE_COLUMNS : NULL, to);
        to += TILE_COLUMNS;
    }
    return p / 2;
}

static void pack_columns(int64_t k, int columns, const float *x, int64_t x_k, int64_t x_width,
                         float *panel)
{
    for (int64_t begin = 0; begin < k; begin += K_OF_CELLS) {
        int count = k - begin < K_OF_CELLS ? (int)(k - begin) : K_OF_CELLS;
        panel += TILE_COLUMNS * pack_cells(count, columns, x + begin * x_k, x_k, x_width, panel);
    }
}

/* Sixteen bfloat16 of fp32 values, `count` of which exist. */
static inline __m256i sixteen_bf16(const float *x, int count)
{
    v16 values = count > 0 ? v_load(x, count < 16 ? count : 16) : v_set(0);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(round_bf16(values), 16));
}

/* A whole piece of rows whose k lies side by side. */
static void pack_straight_piece(int rows, const float *x, int64_t x_width, float *to)
{
    for (int i = 0; i < TILE_ROWS; i++) {
        const float *row = x + i * x_width;
        int count = i < rows ? 16 : 0;
        __m256i *pairs = (__m256i *)(void *)(to + i * CELLS);
        _mm256_storeu_si256(pairs, sixteen_bf16(row, count));
        _mm256_storeu_si256(pairs + 1, sixteen_bf16(row + 16, count));
    }
}

/* Any piece: pairs as B has them, transposed. */
static void pack_piece(int k, int rows, const float *x, int64_t x_k, int64_t x_width, float *to)
{
    float pairs[CELLS * TILE_ROWS];
    int cells = pack_cells(k, rows, x, x_k, x_width, pairs);
    for (int i = 0; i < TILE_ROWS; i++) {
        for (int cell = 0; cell < cells; cell++) {
            memcpy(to + i * cells + cell, pairs + cell * TILE_ROWS + i, sizeof *to);
        }
    }
}

/* The same of whole pieces, in registers. */
static void pack_turned_piece(int rows, const float *x, int64_t x_k, int64_t x_width, float *to)
{
    float pairs[CELLS * TILE_ROWS];
    const float *from[CELLS];
    (void)pack_cells(K_OF_CELLS, rows, x, x_k, x_width, pairs);
    for (int cell = 0; cell < CELLS; cell++) {
        from[cell] = pairs + cell * TILE_ROWS;
    }
    transpose_block(from, 0, 16, to, CELLS);
    transpose_block(from, 16, 16, to + 16 * CELLS, CELLS);
}

static void pack_rows(int64_t k, int rows, const float *x, int64_t x_k, int64_t x_width,
                      float *panel)
{
    int64_t begin = 0;
    for (; begin + K_OF_CELLS <= k; begin += K_OF_CELLS) {
        const float *from = x + begin * x_k;
        if (x_k == 1) {
            pack_straight_piece(rows, from, x_width, panel);
        } else {
            pack_turned_piece(rows, from, x_k, x_width, panel);
        }
        panel += TILE_ROWS * CELLS;
    }
    if (begin < k) {
        pack_piece((int)(k - begin), rows, x + begin * x_k, x_k, x_width, panel);
    }
}

static void pack_a(int64_t k, int64_t width, const float *x, int64_t x_k, int64_t x_width,
                   float *panels, int panel_width)
{
    assert(panel_width == TILE_ROWS);
    for (; width > 0; width -= TILE_ROWS) {
        pack_rows(k, width < TILE_ROWS ? (int)width : TILE_ROWS, x, x_k, x_width, panels);
        x += TILE_ROWS * x_width;
        panels += TILE_ROWS * ((k + 1) / 2);
    }
    (void)panel_width;
}

static void pack_b(int64_t k, int64_t width, const float *x, int64_t x_k, int64_t x_width,
                   float *panels, int panel_width)
{
    assert(panel_width == TILE_COLUMNS);
    for (; width > 0; width -= TILE_COLUMNS) {
        pack_columns(k, width < TILE_COLUMNS ? (int)width : TILE_COLUMNS, x, x_k, x_width, panels);
        x += TILE_COLUMNS * x_width;
        panels += TILE_COLUMNS * ((k + 1) / 2);
    }
    (void)panel_width;
}

/* Registers: 0 to 3 sums (rows 0 and 16, columns 0 and 16), 4 and 5 rows of A, 6 and 7 columns of
 * B. What lies behind `rows` and `columns` is left out by halves. */
static inline void add_piece(const float *a, const float *b, bool second_rows, bool second_columns)
{
    const int a_stride = CELLS * sizeof(float), b_stride = TILE_COLUMNS * sizeof(float);
    AMX_LOAD(4, a, a_stride);
    AMX_LOAD(6, b, b_stride);
    AMX_DOT_BF16(0, 4, 6);
    if (second_columns) {
        AMX_LOAD(7, b + 16, b_stride);
        AMX_DOT_BF16(1, 4, 7);
    }
    if (second_rows) {
        AMX_LOAD(5, a + 16 * CELLS, a_stride);
        AMX_DOT_BF16(2, 5, 6);
        if (second_columns) {
            AMX_DOT_BF16(3, 5, 7);
        }
    }
}

/* The last piece, with zeros behind its cells. */
static void add_short_piece(int cells, const float *a, const float *b, bool second_rows,
                            bool second_columns)
{
    float whole_a[TILE_ROWS * CELLS] = {0}, whole_b[CELLS * TILE_COLUMNS] = {0};
    for (int i = 0; i < TILE_ROWS; i++) {
        memcpy(whole_a + i * CELLS, a + i * cells, (size_t)cells * sizeof *a);
    }
    memcpy(whole_b, b, (size_t)cells * TILE_COLUMNS * sizeof *b);
    add_piece(whole_a, whole_b, second_rows, second_columns);
}

static void kernel_tile(int64_t cells, const float *a, const float *b, float *c, int64_t c_stride,
                        int rows, int columns, bool accumulate)
{
    float sums[TILE_ROWS * TILE_COLUMNS];
    const int stride = TILE_COLUMNS * sizeof *sums;
    bool second_rows = rows > 16, second_columns = columns > 16;
    assert(rows >= 1 && rows <= TILE_ROWS && columns >= 1 && columns <= TILE_COLUMNS);
    AMX_ZERO(0);
    AMX_ZERO(1);
    AMX_ZERO(2);
    AMX_ZERO(3);
    for (; cells >= CELLS; cells -= CELLS) {
        add_piece(a, b, second_rows, second_columns);
        a += TILE_ROWS * CELLS;
        b += CELLS * TILE_COLUMNS;
    }
    if (cells > 0) {
        add_short_piece((int)cells, a, b, second_rows, second_columns);
    }
    AMX_STORE(0, sums, stride);
    AMX_STORE(1, sums + 16, stride);
    AMX_STORE(2, sums + 16 * TILE_COLUMNS, stride);
    AMX_STORE(3, sums + 16 * TILE_COLUMNS + 16, stride);
    for (int i = 0; i < rows; i++) {
        for (int lane = 0; lane < columns; lane += 16) {
            int count = columns - lane < 16 ? columns - lane : 16;
            float *to = c + i * c_stride + lane;
            v16 sum = v_load(sums + i * TILE_COLUMNS + lane, 16);
            v_store(to, accumulate ? v_add(v_load(to, count), sum) : sum, count);
        }
    }
}

static uint64_t enter(void)
{
    static const amx_configuration whole = {
        .palette = AMX_PALETTE,
        .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
        .rows = AMX_WHOLE_ROWS,
    };
    AMX_CONFIGURE(&whole);
    return mixt_flush_enter();
}

static void leave(uint64_t before)
{
    AMX_RELEASE();
    mixt_flush_leave(before);
}

void FILL(mixt_kernels_f32 *table)
{
    table->gemm_bf16 = (mixt_gemm_kernels_f32){
        .tile_rows = TILE_ROWS,
        .tile_columns = TILE_COLUMNS,
        .pairs = true,
        .pack = pack_b,
        .pack_rows = pack_a,
        .tile = kernel_tile,
        .enter = enter,
        .leave = leave,
    };
}
