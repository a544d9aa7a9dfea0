/* The product tile with AVX-512: up to 14 rows of 32 columns, 28 of the 32 registers hold sums, so
 * that 28 multiply-adds of four cycles' latency hide each other and the two loads and 14 broadcasts
 * of a step. Each number of rows and of column registers is a function of its own, so that a tile
 * at the edge costs what it holds. Included by files that define before
 *
 *   TILE_ADD(sum, a, b)    sum + a b of one cell, lane by lane
 *   TILE_LANES             where there are products by lanes
 */
#include <assert.h>
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

#define TILE_ROWS 14
#define TILE_COLUMNS 32
/* Floats ahead of the step that panels are fetched into the first cache: B lies in the second. */
#define PREFETCH_A(step) ((step) > 1 ? TILE_ROWS * (step)*4 : TILE_ROWS * 16)
#define PREFETCH_B (TILE_COLUMNS * 12)

#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13)

#define DECLARE_ROW(i) __m512 sum##i##_0 = _mm512_setzero_ps(), sum##i##_1 = sum##i##_0;

#define STEP_ROW(i)                                                                                \
    if (rows > i) {                                                                                \
        __m512 x = _mm512_set1_ps(a[i]);                                                           \
        sum##i##_0 = TILE_ADD(sum##i##_0, x, b0);                                                  \
        if (vectors > 1) {                                                                         \
            sum##i##_1 = TILE_ADD(sum##i##_1, x, b1);                                              \
        }                                                                                          \
    }

#define PREFETCH_ROW(i)                                                                            \
    if (rows > i) {                                                                                \
        _mm_prefetch((const char *)(c + i * c_stride), _MM_HINT_T0);                               \
        if (vectors > 1) {                                                                         \
            _mm_prefetch((const char *)(c + i * c_stride + 16), _MM_HINT_T0);                      \
        }                                                                                          \
    }

#define STORE_ROW(i)                                                                               \
    if (rows > i) {                                                                                \
        float *to = c + i * c_stride;                                                              \
        if (accumulate) {                                                                          \
            sum##i##_0 = _mm512_add_ps(_mm512_maskz_loadu_ps(mask0, to), sum##i##_0);              \
        }                                                                                          \
        _mm512_mask_storeu_ps(to, mask0, sum##i##_0);                                              \
        if (vectors > 1) {                                                                         \
            if (accumulate) {                                                                      \
                sum##i##_1 = _mm512_add_ps(_mm512_maskz_loadu_ps(mask1, to + 16), sum##i##_1);     \
            }                                                                                      \
            _mm512_mask_storeu_ps(to + 16, mask1, sum##i##_1);                                     \
        }                                                                                          \
    }

/* Adds `cells` cells, those of A `step` apart. */
#define ADD_CELLS(step)                                                                            \
    for (int64_t cell = 0; cell < cells; cell++) {                                                 \
        __m512 b0 = _mm512_loadu_ps(b);                                                            \
        __m512 b1 = vectors > 1 ? _mm512_loadu_ps(b + 16) : b0;                                    \
        (void)b1;                                                                                  \
        _mm_prefetch((const char *)(b + PREFETCH_B), _MM_HINT_T0);                                 \
        if (vectors > 1) {                                                                         \
            _mm_prefetch((const char *)(b + PREFETCH_B + 16), _MM_HINT_T0);                        \
        }                                                                                          \
        if (rows > 4) {                                                                            \
            _mm_prefetch((const char *)(a + PREFETCH_A(step)), _MM_HINT_T0);                       \
        }                                                                                          \
        EACH_ROW(STEP_ROW)                                                                         \
        a += (step)*TILE_ROWS;                                                                     \
        b += TILE_COLUMNS;                                                                         \
    }

#define DECLARE_MASKS                                                                              \
    int last = columns - 16 * (vectors - 1);                                                       \
    const __mmask16 edge = (__mmask16)((1U << last) - 1U);                                         \
    const __mmask16 mask0 = vectors > 1 ? (__mmask16)0xFFFF : edge, mask1 = edge;                  \
    (void)mask1;

static inline __attribute__((always_inline)) void
tile_body(const int rows, const int vectors, int64_t cells, const float *a, const float *b,
          float *c, int64_t c_stride, int columns, bool accumulate)
{
    DECLARE_MASKS
    EACH_ROW(PREFETCH_ROW)
    EACH_ROW(DECLARE_ROW)
    ADD_CELLS(1)
    __asm__("" : "+r"(c_stride)); /* addresses of C made anew, not kept through the loop */
    EACH_ROW(STORE_ROW)
}

typedef void (*tile_function)(int64_t cells, const float *a, const float *b, float *c,
                              int64_t c_stride, int columns, bool accumulate);

/* `name`_body for i + 1 rows of one and of two column registers. */
#define TILE_FUNCTIONS(name, i)                                                                    \
    static void name##_half_##i(int64_t cells, const float *a, const float *b, float *c,           \
                                int64_t c_stride, int columns, bool accumulate)                    \
    {                                                                                              \
        name##_body(i + 1, 1, cells, a, b, c, c_stride, columns, accumulate);                      \
    }                                                                                              \
    static void name##_full_##i(int64_t cells, const float *a, const float *b, float *c,           \
                                int64_t c_stride, int columns, bool accumulate)                    \
    {                                                                                              \
        name##_body(i + 1, 2, cells, a, b, c, c_stride, columns, accumulate);                      \
    }

/* kernel_`name`, which chooses among them; EACH_ROW calls `half` and `full` for their tables. */
#define TILE_KERNEL(name, half, full)                                                              \
    static void kernel_##name(int64_t cells, const float *a, const float *b, float *c,             \
                              int64_t c_stride, int rows, int columns, bool accumulate)            \
    {                                                                                              \
        static const tile_function halves[TILE_ROWS] = {EACH_ROW(half)};                           \
        static const tile_function fulls[TILE_ROWS] = {EACH_ROW(full)};                            \
        assert(rows >= 1 && rows <= TILE_ROWS && columns >= 1 && columns <= TILE_COLUMNS);         \
        tile_function function = columns > 16 ? fulls[rows - 1] : halves[rows - 1];                \
        function(cells, a, b, c, c_stride, columns, accumulate);                                   \
    }

#define TILE_OF(i) TILE_FUNCTIONS(tile, i)
#define TILE_HALF(i) tile_half_##i,
#define TILE_FULL(i) tile_full_##i,
EACH_ROW(TILE_OF)
TILE_KERNEL(tile, TILE_HALF, TILE_FULL)

#ifdef TILE_LANES
#include "backend/cpu/gemm_lanes.h"

#define BEGIN_ROW(i)                                                                               \
    if (rows > i) {                                                                                \
        const float *old = c + i * c_stride;                                                       \
        totals[i][0] = accumulate ? _mm512_maskz_loadu_ps(mask0, old) : none;                      \
        if (vectors > 1) {                                                                         \
            totals[i][1] = accumulate ? _mm512_maskz_loadu_ps(mask1, old + 16) : none;             \
        }                                                                                          \
    }

#define TOTAL_ROW(i)                                                                               \
    if (rows > i) {                                                                                \
        totals[i][0] = _mm512_add_ps(totals[i][0], sum##i##_0);                                    \
        if (vectors > 1) {                                                                         \
            totals[i][1] = _mm512_add_ps(totals[i][1], sum##i##_1);                                \
        }                                                                                          \
    }

#define STORE_TOTAL(i)                                                                             \
    if (rows > i) {                                                                                \
        _mm512_mask_storeu_ps(c + i * c_stride, mask0, totals[i][0]);                              \
        if (vectors > 1) {                                                                         \
            _mm512_mask_storeu_ps(c + i * c_stride + 16, mask1, totals[i][1]);                     \
        }                                                                                          \
    }

static inline __attribute__((always_inline)) void
tile_lanes_body(const int rows, const int vectors, int64_t k, const float *from, const float *b,
                float *c, int64_t c_stride, int columns, bool accumulate)
{
    const __m512 none = _mm512_set1_ps(-0.0F);
    __m512 totals[TILE_ROWS][2];
    DECLARE_MASKS
    EACH_ROW(PREFETCH_ROW)
    EACH_ROW(BEGIN_ROW)
    ADD_LANES(k, from)
    EACH_ROW(STORE_TOTAL)
}

#define LANES_OF(i) TILE_FUNCTIONS(tile_lanes, i)
#define LANES_HALF(i) tile_lanes_half_##i,
#define LANES_FULL(i) tile_lanes_full_##i,
EACH_ROW(LANES_OF)
TILE_KERNEL(tile_lanes, LANES_HALF, LANES_FULL)
#endif
