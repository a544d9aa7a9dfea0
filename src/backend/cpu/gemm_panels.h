/* The matrix product's kernels around the instructions of a tier whose tiles have 6 rows of 16
 * columns and whose panels are packed four columns at a time. Included by one file for each
 * instruction set, which has defined before
 *
 *   DECLARE_ROW(i)    the sums of row i, 0
 *   LOAD_CELL         the 16 values at b, and what rows take of the 6 at a
 *   STEP_ROW(i)       adds products to row i where there is one (i < rows)
 *   SUM_OF_ROW(i)     the sums as v16
 *   TILE_ROWS 6, round_rows (bf16_panel.h)
 *   transpose_four(rows, p, to, panel_width), transpose_two
 *                     values p to p + 3 of four, two columns whose k lies side by side
 */
#include <assert.h>

#include "backend/cpu/gemm_lanes.h"

#define TILE_COLUMNS 16

#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5)

#define STORE_ROW(i)                                                                               \
    if (rows > i) {                                                                                \
        v16 sum = SUM_OF_ROW(i);                                                                   \
        float *to = c + i * c_stride;                                                              \
        v_store(to, accumulate ? v_add(v_load(to, columns), sum) : sum, columns);                  \
    }

/* Both ends of a row of C, which may lie across two lines: its stores would else wait for memory,
 * as a tile of few k has little to do meanwhile. */
#define PREFETCH_ROW(i)                                                                            \
    if (rows > i) {                                                                                \
        __builtin_prefetch(c + i * c_stride, 1);                                                   \
        __builtin_prefetch(c + i * c_stride + TILE_COLUMNS - 1, 1);                                \
    }

/* Adds `cells` cells, those of A `step` apart. */
#define ADD_CELLS(step)                                                                            \
    for (int64_t cell = 0; cell < cells; cell++) {                                                 \
        LOAD_CELL                                                                                  \
        EACH_ROW(STEP_ROW)                                                                         \
        a += (step)*TILE_ROWS;                                                                     \
        b += TILE_COLUMNS;                                                                         \
    }

/* kernel_tile with a constant number of rows. */
static inline __attribute__((always_inline)) void tile_body(const int rows, int64_t cells,
                                                            const float *a, const float *b,
                                                            float *c, int64_t c_stride, int columns,
                                                            bool accumulate)
{
    EACH_ROW(PREFETCH_ROW)
    EACH_ROW(DECLARE_ROW)
    ADD_CELLS(1)
    EACH_ROW(STORE_ROW)
}

/* kernel_tile_lanes. */
#define BEGIN_ROW(i)                                                                               \
    if (rows > i) {                                                                                \
        totals[i] = accumulate ? v_load(c + i * c_stride, columns) : v_set(-0.0F);                 \
    }
#define TOTAL_ROW(i)                                                                               \
    if (rows > i) {                                                                                \
        totals[i] = v_add(totals[i], SUM_OF_ROW(i));                                               \
    }
#define STORE_TOTAL(i)                                                                             \
    if (rows > i) {                                                                                \
        v_store(c + i * c_stride, totals[i], columns);                                             \
    }

static inline __attribute__((always_inline)) void lanes_body(const int rows, int64_t k,
                                                             const float *from, const float *b,
                                                             float *c, int64_t c_stride,
                                                             int columns, bool accumulate)
{
    v16 totals[TILE_ROWS];
    EACH_ROW(PREFETCH_ROW)
    EACH_ROW(BEGIN_ROW)
    ADD_LANES(k, from)
    EACH_ROW(STORE_TOTAL)
}

#define TILE_FUNCTIONS(i)                                                                          \
    static void tile_##i(int64_t cells, const float *a, const float *b, float *c,                  \
                         int64_t c_stride, int columns, bool accumulate)                           \
    {                                                                                              \
        tile_body(i + 1, cells, a, b, c, c_stride, columns, accumulate);                           \
    }                                                                                              \
    static void lanes_##i(int64_t k, const float *a, const float *b, float *c, int64_t c_stride,   \
                          int columns, bool accumulate)                                            \
    {                                                                                              \
        lanes_body(i + 1, k, a, b, c, c_stride, columns, accumulate);                              \
    }
EACH_ROW(TILE_FUNCTIONS)

typedef void (*tile_function)(int64_t cells, const float *a, const float *b, float *c,
                              int64_t c_stride, int columns, bool accumulate);

#define TILE_ENTRY(i) tile_##i,
#define LANES_ENTRY(i) lanes_##i,

static void kernel_tile(int64_t cells, const float *a, const float *b, float *c, int64_t c_stride,
                        int rows, int columns, bool accumulate)
{
    assert(rows >= 1 && rows <= TILE_ROWS && columns >= 1 && columns <= TILE_COLUMNS);
    static const tile_function tiles[TILE_ROWS] = {EACH_ROW(TILE_ENTRY)};
    tiles[rows - 1](cells, a, b, c, c_stride, columns, accumulate);
}

static void kernel_tile_lanes(int64_t k, const float *a, const float *b, float *c, int64_t c_stride,
                              int rows, int columns, bool accumulate)
{
    assert(rows >= 1 && rows <= TILE_ROWS && columns >= 1 && columns <= TILE_COLUMNS);
    static const tile_function lanes[TILE_ROWS] = {EACH_ROW(LANES_ENTRY)};
    lanes[rows - 1](k, a, b, c, c_stride, columns, accumulate);
}

/* Rows that copies take at once: all panels take their part of them while they are in the first
 * cache, and the next ones are fetched, because strides defeat the hardware's prefetcher. */
#define COPY_ROWS 8
#define COPY_AHEAD 16 /* rows from what is fetched to what is copied */

/* Whole panels of `width` columns that lie side by side. */
static inline __attribute__((always_inline)) void
copy_panels(int64_t k, int64_t panels, const float *x, int64_t x_k, float *panel, const int width)
{
    for (int64_t begin = 0; begin < k; begin += COPY_ROWS) {
        int64_t end = begin + COPY_ROWS < k ? begin + COPY_ROWS : k;
        for (int64_t i = 0; i < panels; i++) {
            const float *from = x + begin * x_k + i * width;
            float *to = panel + (i * k + begin) * width;
            for (int64_t p = begin; p < end; p++) {
                __builtin_prefetch(from + COPY_AHEAD * x_k);
                memcpy(to, from, (size_t)width * sizeof *to);
                from += x_k;
                to += width;
            }
        }
    }
}

/* `columns` (4 or 2) columns whose k lies side by side. */
static inline __attribute__((always_inline)) void transpose_columns(int64_t k, const int columns,
                                                                    const float *x, int64_t x_width,
                                                                    float *panel, int panel_width)
{
    const float *rows[4];
    for (int i = 0; i < columns; i++) {
        rows[i] = x + i * x_width;
    }
    int64_t p = 0;
    for (; p + 4 <= k; p += 4) {
        (columns == 4 ? transpose_four : transpose_two)(rows, p, panel + p * panel_width,
                                                        panel_width);
    }
    for (; p < k; p++) {
        for (int i = 0; i < columns; i++) {
            panel[p * panel_width + i] = rows[i][p];
        }
    }
}

/* One panel: pieces of 4 and 2 columns whose k lies side by side, the rest one by one. */
static void pack_panel(int64_t k, int width, const float *x, int64_t x_k, int64_t x_width,
                       float *panel, int panel_width)
{
    int lane = 0;
    for (; x_width != 1 && lane + 4 <= width; lane += 4) {
        transpose_columns(k, 4, x + lane * x_width, x_width, panel + lane, panel_width);
    }
    for (; x_width != 1 && lane + 2 <= width; lane += 2) {
        transpose_columns(k, 2, x + lane * x_width, x_width, panel + lane, panel_width);
    }
    for (; lane < panel_width; lane++) {
        for (int64_t p = 0; p < k; p++) {
            panel[p * panel_width + lane] = lane < width ? x[p * x_k + lane * x_width] : 0;
        }
    }
}

static void kernel_pack(int64_t k, int64_t width, const float *x, int64_t x_k, int64_t x_width,
                        float *panels, int panel_width)
{
    int64_t whole = x_width != 1 ? 0 : width / panel_width;
    if (whole > 0 && panel_width == TILE_COLUMNS) {
        copy_panels(k, whole, x, x_k, panels, TILE_COLUMNS);
    } else if (whole > 0 && panel_width == TILE_ROWS) {
        copy_panels(k, whole, x, x_k, panels, TILE_ROWS);
    } else {
        whole = 0;
    }
    x += whole * panel_width;
    panels += whole * panel_width * k;
    for (width -= whole * panel_width; width > 0; width -= panel_width) {
        pack_panel(k, width < panel_width ? (int)width : panel_width, x, x_k, x_width, panels,
                   panel_width);
        x += panel_width * x_width;
        panels += panel_width * k;
    }
}

#include "backend/cpu/bf16_panel.h"
