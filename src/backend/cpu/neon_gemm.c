/* The matrix product's kernels with NEON: 6 rows of 16 columns, 24 of the 32 registers hold sums.
 */
#include "backend/cpu/neon_lanes.h"

#define TILE_ROWS 6
#define TILE_COLUMNS 16

#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5)

#define DECLARE_ROW(i) v16 sum##i = v_set(0);

/* Row i of A is a lane of what was loaded of it: four and two. */
#define ADD_LANE(sum, b, i)                                                                        \
    ((i) < 4 ? vfmaq_laneq_f32(sum, b, first, (i) % 4) : vfmaq_lane_f32(sum, b, last, (i) % 2))

#define STEP_ROW(i)                                                                                \
    if (rows > i) {                                                                                \
        sum##i.q0 = ADD_LANE(sum##i.q0, b0, i);                                                    \
        sum##i.q1 = ADD_LANE(sum##i.q1, b1, i);                                                    \
        sum##i.q2 = ADD_LANE(sum##i.q2, b2, i);                                                    \
        sum##i.q3 = ADD_LANE(sum##i.q3, b3, i);                                                    \
    }

#define STORE_ROW(i)                                                                               \
    if (rows > i) {                                                                                \
        float *to = c + i * c_stride;                                                              \
        v_store(to, accumulate ? v_add(v_load(to, columns), sum##i) : sum##i, columns);            \
    }

static inline __attribute__((always_inline)) void tile_body(const int rows, int64_t cells,
                                                            const float *a, const float *b,
                                                            float *c, int64_t c_stride, int columns,
                                                            bool accumulate)
{
    EACH_ROW(DECLARE_ROW)
    for (int64_t cell = 0; cell < cells; cell++) {
        float32x4_t b0 = vld1q_f32(b), b1 = vld1q_f32(b + 4);
        float32x4_t b2 = vld1q_f32(b + 8), b3 = vld1q_f32(b + 12);
        float32x4_t first = vld1q_f32(a);
        float32x2_t last = vld1_f32(a + 4);
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
        float32x4_t r0 = vld1q_f32(rows[0] + p), r1 = vld1q_f32(rows[1] + p);
        float32x4_t r2 = vld1q_f32(rows[2] + p), r3 = vld1q_f32(rows[3] + p);
        float64x2_t low01 = vreinterpretq_f64_f32(vzip1q_f32(r0, r1));
        float64x2_t low23 = vreinterpretq_f64_f32(vzip1q_f32(r2, r3));
        float64x2_t high01 = vreinterpretq_f64_f32(vzip2q_f32(r0, r1));
        float64x2_t high23 = vreinterpretq_f64_f32(vzip2q_f32(r2, r3));
        float *to = panel + p * panel_width;
        vst1q_f32(to, vreinterpretq_f32_f64(vzip1q_f64(low01, low23)));
        vst1q_f32(to + panel_width, vreinterpretq_f32_f64(vzip2q_f64(low01, low23)));
        vst1q_f32(to + 2 * panel_width, vreinterpretq_f32_f64(vzip1q_f64(high01, high23)));
        vst1q_f32(to + 3 * panel_width, vreinterpretq_f32_f64(vzip2q_f64(high01, high23)));
    }
    for (; p < k; p++) {
        for (int i = 0; i < 4; i++) {
            panel[p * panel_width + i] = rows[i][p];
        }
    }
}

/* Two columns whose k lies side by side. */
static void transpose_two(int64_t k, const float *x, int64_t x_width, float *panel, int panel_width)
{
    int64_t p = 0;
    for (; p + 4 <= k; p += 4) {
        float32x4_t r0 = vld1q_f32(x + p), r1 = vld1q_f32(x + x_width + p);
        float32x4_t low = vzip1q_f32(r0, r1), high = vzip2q_f32(r0, r1);
        float *to = panel + p * panel_width;
        vst1_f32(to, vget_low_f32(low));
        vst1_f32(to + panel_width, vget_high_f32(low));
        vst1_f32(to + 2 * panel_width, vget_low_f32(high));
        vst1_f32(to + 3 * panel_width, vget_high_f32(high));
    }
    for (; p < k; p++) {
        panel[p * panel_width] = x[p];
        panel[p * panel_width + 1] = x[x_width + p];
    }
}

#include "backend/cpu/gemm_panels.h"

void mixt_fill_neon_gemm(mixt_kernels_f32 *table)
{
    fill_gemm(table);
}
