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

/* Four columns whose k lies side by side. */
static void transpose_four(int64_t k, const float *x, int64_t x_width, float *panel,
                           int panel_width)
{
    const float *const rows[4] = {x, x + x_width, x + 2 * x_width, x + 3 * x_width};
    int64_t p = 0;
    for (; p + 4 <= k; p += 4) {
        __m128 r0 = _mm_loadu_ps(rows[0] + p), r1 = _mm_loadu_ps(rows[1] + p);
        __m128 r2 = _mm_loadu_ps(rows[2] + p), r3 = _mm_loadu_ps(rows[3] + p);
        _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
        float *to = panel + p * panel_width;
        _mm_storeu_ps(to, r0);
        _mm_storeu_ps(to + panel_width, r1);
        _mm_storeu_ps(to + 2 * panel_width, r2);
        _mm_storeu_ps(to + 3 * panel_width, r3);
    }
    for (; p < k; p++) {
        for (int i = 0; i < 4; i++) {
            panel[p * panel_width + i] = rows[i][p];
        }
    }
}

static inline void store_two(float *to, __m128d two)
{
    double bits = _mm_cvtsd_f64(two);
    memcpy(to, &bits, sizeof bits);
}

/* Two columns whose k lies side by side. */
static void transpose_two(int64_t k, const float *x, int64_t x_width, float *panel, int panel_width)
{
    int64_t p = 0;
    for (; p + 4 <= k; p += 4) {
        __m128 r0 = _mm_loadu_ps(x + p), r1 = _mm_loadu_ps(x + x_width + p);
        __m128d low = _mm_castps_pd(_mm_unpacklo_ps(r0, r1));
        __m128d high = _mm_castps_pd(_mm_unpackhi_ps(r0, r1));
        float *to = panel + p * panel_width;
        store_two(to, low);
        store_two(to + panel_width, _mm_unpackhi_pd(low, low));
        store_two(to + 2 * panel_width, high);
        store_two(to + 3 * panel_width, _mm_unpackhi_pd(high, high));
    }
    for (; p < k; p++) {
        panel[p * panel_width] = x[p];
        panel[p * panel_width + 1] = x[x_width + p];
    }
}

#include "backend/cpu/gemm_panels.h"

void mixt_fill_avx2_gemm(mixt_kernels_f32 *table)
{
    fill_gemm(table);
}
