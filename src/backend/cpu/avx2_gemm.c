/* The matrix product's kernels with AVX2: 6 rows of 16 columns, twelve of the sixteen registers
 * hold sums. */
#include "backend/cpu/avx2_lanes.h"

#define TILE_ROWS 6
#define TILE_COLUMNS 16

#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5)

#define DECLARE_ROW(i) __m256 sum##i##_0 = _mm256_setzero_ps(), sum##i##_1 = sum##i##_0;

#define STEP_ROW(i)                                                                                \
    if (rows > i) {                                                                                \
        __m256 x = _mm256_broadcast_ss(a + i);                                                     \
        sum##i##_0 = _mm256_fmadd_ps(x, b0, sum##i##_0);                                           \
        sum##i##_1 = _mm256_fmadd_ps(x, b1, sum##i##_1);                                           \
    }

#define STORE_ROW(i)                                                                               \
    if (rows > i) {                                                                                \
        v16 sum = pair(sum##i##_0, sum##i##_1);                                                    \
        float *to = c + i * c_stride;                                                              \
        v_store(to, accumulate ? v_add(v_load(to, columns), sum) : sum, columns);                  \
    }

static inline __attribute__((always_inline)) void tile_body(const int rows, int64_t cells,
                                                            const float *a, const float *b,
                                                            float *c, int64_t c_stride, int columns,
                                                            bool accumulate)
{
    EACH_ROW(DECLARE_ROW)
    for (int64_t cell = 0; cell < cells; cell++) {
        __m256 b0 = _mm256_loadu_ps(b), b1 = _mm256_loadu_ps(b + 8);
        _mm_prefetch((const char *)(b + TILE_COLUMNS * 16), _MM_HINT_T0);
        EACH_ROW(STEP_ROW)
        a += TILE_ROWS;
        b += TILE_COLUMNS;
    }
    EACH_ROW(STORE_ROW)
}

#define TILE_FUNCTION(i)                                                                           \
    static void tile_##i(int64_t cells, const float *a, const float *b, float *c,                  \
                         int64_t c_stride, int columns, bool accumulate)                           \
    {                                                                                              \
        tile_body(i + 1, cells, a, b, c, c_stride, columns, accumulate);                           \
    }
EACH_ROW(TILE_FUNCTION)

typedef void (*tile_function)(int64_t cells, const float *a, const float *b, float *c,
                              int64_t c_stride, int columns, bool accumulate);

#define TILE_ENTRY(i) tile_##i,

static void kernel_tile(int64_t cells, const float *a, const float *b, float *c, int64_t c_stride,
                        int rows, int columns, bool accumulate)
{
    static const tile_function tiles[TILE_ROWS] = {EACH_ROW(TILE_ENTRY)};
    tiles[rows - 1](cells, a, b, c, c_stride, columns, accumulate);
}

/* Four k of the four columns at rows[0..3], one k in each result. */
static inline void transpose4(const float *const rows[4], int64_t p, __m128 result[4])
{
    result[0] = _mm_loadu_ps(rows[0] + p);
    result[1] = _mm_loadu_ps(rows[1] + p);
    result[2] = _mm_loadu_ps(rows[2] + p);
    result[3] = _mm_loadu_ps(rows[3] + p);
    _MM_TRANSPOSE4_PS(result[0], result[1], result[2], result[3]);
}

/* A whole group of four columns whose k lies side by side. */
static void pack_four(int64_t k, const float *x, int64_t x_width, float *panel, int panel_width)
{
    const float *const rows[4] = {x, x + x_width, x + 2 * x_width, x + 3 * x_width};
    int64_t p = 0;
    for (; p + 4 <= k; p += 4) {
        __m128 four[4];
        transpose4(rows, p, four);
        for (int i = 0; i < 4; i++) {
            _mm_storeu_ps(panel + (p + i) * panel_width, four[i]);
        }
    }
    for (; p < k; p++) {
        for (int i = 0; i < 4; i++) {
            panel[p * panel_width + i] = rows[i][p];
        }
    }
}

/* What four columns at a time leave: element by element. */
static void pack_rest(int64_t k, int width, const float *x, const int64_t strides[2], float *panel,
                      const int lanes[2])
{
    for (int64_t p = 0; p < k; p++) {
        for (int i = 0; i < lanes[0]; i++) {
            panel[p * lanes[1] + i] = i < width ? x[p * strides[0] + i * strides[1]] : 0;
        }
    }
}

static void kernel_pack(int64_t k, int width, const float *x, int64_t x_k, int64_t x_width,
                        float *panel, int panel_width)
{
    if (x_width == 1 && width == TILE_COLUMNS && panel_width == TILE_COLUMNS) {
        for (int64_t p = 0; p < k; p++) {
            v_store(panel + p * TILE_COLUMNS, v_load(x + p * x_k, TILE_COLUMNS), TILE_COLUMNS);
        }
        return;
    }
    int lane = 0;
    for (; x_k == 1 && lane + 4 <= width; lane += 4) {
        pack_four(k, x + lane * x_width, x_width, panel + lane, panel_width);
    }
    if (lane < panel_width) {
        const int64_t strides[2] = {x_k, x_width};
        const int lanes[2] = {panel_width - lane, panel_width};
        pack_rest(k, width - lane, lane < width ? x + lane * x_width : x, strides, panel + lane,
                  lanes);
    }
}

#include "backend/cpu/bf16_panel.h"

void mixt_fill_avx2_gemm(mixt_kernels_f32 *table)
{
    table->gemm = (mixt_gemm_kernels_f32){TILE_ROWS, TILE_COLUMNS, false, kernel_pack, kernel_tile};
    table->gemm_bf16 =
        (mixt_gemm_kernels_f32){TILE_ROWS, TILE_COLUMNS, false, kernel_pack_bf16, kernel_tile};
}
