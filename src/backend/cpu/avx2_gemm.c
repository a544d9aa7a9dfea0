/* The matrix product's kernels with AVX2: twelve of the sixteen registers hold sums. */
#include "backend/cpu/avx2_lanes.h"
#include "backend/cpu/avx2_rows.h"

#include "backend/cpu/float_rows.h"

#include "backend/cpu/float_pack.h"

#define DECLARE_ROW(i) __m256 sum##i##_0 = _mm256_setzero_ps(), sum##i##_1 = sum##i##_0;

#define LOAD_CELL                                                                                  \
    __m256 b0 = _mm256_loadu_ps(b), b1 = _mm256_loadu_ps(b + 8);                                   \
    _mm_prefetch((const char *)(b + TILE_COLUMNS * 16), _MM_HINT_T0);

#define STEP_ROW(i)                                                                                \
    if (rows > i) {                                                                                \
        __m256 x = _mm256_broadcast_ss(a + i);                                                     \
        sum##i##_0 = _mm256_fmadd_ps(x, b0, sum##i##_0);                                           \
        sum##i##_1 = _mm256_fmadd_ps(x, b1, sum##i##_1);                                           \
    }

#define SUM_OF_ROW(i) pair(sum##i##_0, sum##i##_1)

static inline void transpose_four(const float *const rows[4], int64_t p, float *to, int panel_width)
{
    __m128 r0 = _mm_loadu_ps(rows[0] + p), r1 = _mm_loadu_ps(rows[1] + p);
    __m128 r2 = _mm_loadu_ps(rows[2] + p), r3 = _mm_loadu_ps(rows[3] + p);
    _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
    _mm_storeu_ps(to, r0);
    _mm_storeu_ps(to + panel_width, r1);
    _mm_storeu_ps(to + 2 * panel_width, r2);
    _mm_storeu_ps(to + 3 * panel_width, r3);
}

static inline void store_two(float *to, __m128d two)
{
    double bits = _mm_cvtsd_f64(two);
    memcpy(to, &bits, sizeof bits);
}

static inline void transpose_two(const float *const rows[2], int64_t p, float *to, int panel_width)
{
    __m128 r0 = _mm_loadu_ps(rows[0] + p), r1 = _mm_loadu_ps(rows[1] + p);
    __m128d low = _mm_castps_pd(_mm_unpacklo_ps(r0, r1));
    __m128d high = _mm_castps_pd(_mm_unpackhi_ps(r0, r1));
    store_two(to, low);
    store_two(to + panel_width, _mm_unpackhi_pd(low, low));
    store_two(to + 2 * panel_width, high);
    store_two(to + 3 * panel_width, _mm_unpackhi_pd(high, high));
}

#define TILE_ROWS 6

/* Rounds `pairs` cells of two k of 6 rows and swaps the two. */
static void round_rows(int64_t pairs, float *panel)
{
    enum { CROSSED = 1 }; /* the high half of the first, the low one of the second */
    int64_t i = 0;
    for (; i + 8 <= pairs * 2 * TILE_ROWS; i += 8) {
        _mm256_storeu_ps(panel + i, round_bf16(_mm256_loadu_ps(panel + i)));
    }
    for (; i < pairs * 2 * TILE_ROWS; i++) {
        panel[i] = mixt_round_bf16(panel[i]);
    }
    for (; pairs > 0; pairs--) {
        __m128d x0 = _mm_castps_pd(_mm_loadu_ps(panel)),
                x1 = _mm_castps_pd(_mm_loadu_ps(panel + 4));
        __m128d x2 = _mm_castps_pd(_mm_loadu_ps(panel + 8));
        _mm_storeu_ps(panel, _mm_castpd_ps(_mm_shuffle_pd(x1, x2, CROSSED)));
        _mm_storeu_ps(panel + 4, _mm_castpd_ps(_mm_shuffle_pd(x2, x0, CROSSED)));
        _mm_storeu_ps(panel + 8, _mm_castpd_ps(_mm_shuffle_pd(x0, x1, CROSSED)));
        panel += 2 * TILE_ROWS;
    }
}

#include "backend/cpu/gemm_panels.h"

/* DAZ and FTZ: FTZ looks at results after rounding, as VDPBF16PS does. */
#define FLUSH 0x8040U

uint64_t mixt_flush_enter(void)
{
    uint32_t before = _mm_getcsr();
    _mm_setcsr(before | FLUSH);
    return before;
}

void mixt_flush_leave(uint64_t before)
{
    _mm_setcsr((uint32_t)before);
}

void mixt_fill_avx2_gemm(mixt_kernels_f32 *table)
{
    fill_gemm(table);
    table->gemm_bf16.enter = mixt_flush_enter;
    table->gemm_bf16.leave = mixt_flush_leave;
}
