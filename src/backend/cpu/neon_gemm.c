/* The matrix product's kernels with NEON: 24 of the 32 registers hold sums. */
#include "backend/cpu/neon_lanes.h"
#include "backend/cpu/neon_rows.h"

#include "backend/cpu/float_rows.h"

#include "backend/cpu/float_pack.h"

#define DECLARE_ROW(i) v16 sum##i = v_set(0);

#define LOAD_CELL                                                                                  \
    float32x4_t b0 = vld1q_f32(b), b1 = vld1q_f32(b + 4);                                          \
    float32x4_t b2 = vld1q_f32(b + 8), b3 = vld1q_f32(b + 12);                                     \
    float32x4_t first = vld1q_f32(a);                                                              \
    float32x2_t last = vld1_f32(a + 4);

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

#define SUM_OF_ROW(i) sum##i

static inline void transpose_four(const float *const rows[4], int64_t p, float *to, int panel_width)
{
    float32x4_t r0 = vld1q_f32(rows[0] + p), r1 = vld1q_f32(rows[1] + p);
    float32x4_t r2 = vld1q_f32(rows[2] + p), r3 = vld1q_f32(rows[3] + p);
    float64x2_t low01 = vreinterpretq_f64_f32(vzip1q_f32(r0, r1));
    float64x2_t low23 = vreinterpretq_f64_f32(vzip1q_f32(r2, r3));
    float64x2_t high01 = vreinterpretq_f64_f32(vzip2q_f32(r0, r1));
    float64x2_t high23 = vreinterpretq_f64_f32(vzip2q_f32(r2, r3));
    vst1q_f32(to, vreinterpretq_f32_f64(vzip1q_f64(low01, low23)));
    vst1q_f32(to + panel_width, vreinterpretq_f32_f64(vzip2q_f64(low01, low23)));
    vst1q_f32(to + 2 * panel_width, vreinterpretq_f32_f64(vzip1q_f64(high01, high23)));
    vst1q_f32(to + 3 * panel_width, vreinterpretq_f32_f64(vzip2q_f64(high01, high23)));
}

static inline void transpose_two(const float *const rows[2], int64_t p, float *to, int panel_width)
{
    float32x4_t r0 = vld1q_f32(rows[0] + p), r1 = vld1q_f32(rows[1] + p);
    float32x4_t low = vzip1q_f32(r0, r1), high = vzip2q_f32(r0, r1);
    vst1_f32(to, vget_low_f32(low));
    vst1_f32(to + panel_width, vget_high_f32(low));
    vst1_f32(to + 2 * panel_width, vget_low_f32(high));
    vst1_f32(to + 3 * panel_width, vget_high_f32(high));
}

#define TILE_ROWS 6

/* Rounds `pairs` cells of two k of 6 rows and swaps the two. */
static void round_rows(int64_t pairs, float *panel)
{
    for (; pairs > 0; pairs--) {
        float64x2_t x0 = vreinterpretq_f64_f32(round_bf16(vld1q_f32(panel)));
        float64x2_t x1 = vreinterpretq_f64_f32(round_bf16(vld1q_f32(panel + 4)));
        float64x2_t x2 = vreinterpretq_f64_f32(round_bf16(vld1q_f32(panel + 8)));
        vst1q_f32(panel, vreinterpretq_f32_f64(vextq_f64(x1, x2, 1)));
        vst1q_f32(panel + 4, vreinterpretq_f32_f64(vextq_f64(x2, x0, 1)));
        vst1q_f32(panel + 8, vreinterpretq_f32_f64(vextq_f64(x0, x1, 1)));
        panel += 2 * TILE_ROWS;
    }
}

#include "backend/cpu/gemm_panels.h"

/* FPCR.FZ: subnormal numbers are zeros. Results are so before they are rounded, not after as
 * scalar_bf16.c has it: where a sum met one (FPSR.UFC) the tile is computed again by that. */
#define FLUSH ((uint64_t)1 << 24)
#define UNDERFLOW ((uint64_t)1 << 3)

static uint64_t flush_enter(void)
{
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | FLUSH) : "memory");
    return before;
}

static void flush_leave(uint64_t before)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(before) : "memory");
}

static void kernel_tile_bf16(int64_t cells, const float *a, const float *b, float *c,
                             int64_t c_stride, int rows, int columns, bool accumulate)
{
    float sums[TILE_ROWS * TILE_COLUMNS];
    uint64_t flags;
    __asm__ volatile("msr fpsr, xzr" : : "r"(sums) : "memory");
    kernel_tile(cells, a, b, sums, TILE_COLUMNS, rows, columns, false);
    __asm__ volatile("mrs %0, fpsr" : "=r"(flags) : "r"(sums) : "memory");
    if ((flags & UNDERFLOW) != 0) {
        const mixt_bf16_panels panels = {cells, a, b, TILE_ROWS, TILE_COLUMNS};
        flush_leave(0);
        mixt_sums_bf16_scalar(&panels, sums, TILE_COLUMNS, rows, columns);
        (void)flush_enter();
    }
    for (int i = 0; i < rows; i++) {
        float *to = c + i * c_stride;
        v16 sum = v_load(sums + i * TILE_COLUMNS, columns);
        v_store(to, accumulate ? v_add(v_load(to, columns), sum) : sum, columns);
    }
}

void mixt_fill_neon_gemm(mixt_kernels_f32 *table)
{
    fill_gemm(table);
    table->gemm_bf16.tile = kernel_tile_bf16;
    table->gemm_bf16.enter = flush_enter;
    table->gemm_bf16.leave = flush_leave;
}
