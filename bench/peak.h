/* The peak of fp32 multiply-adds in registers, for programs that print shares of it. */
#ifndef MIXT_BENCH_PEAK_H
#define MIXT_BENCH_PEAK_H

#include <immintrin.h>
#include <string.h>

#include "backend/cpu/compute.h"

/* Chains that the registers hold: two times eight of 32, two times five of 16. */
#define PEAK_STEPS 20000
#define TIMES5(x) x(0) x(1) x(2) x(3) x(4)
#define TIMES8(x) x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7)

__attribute__((target("avx512f"))) static float peak_avx512(void)
{
    const __m512 a = _mm512_set1_ps(0.999F), b = _mm512_set1_ps(1e-3F);
#define DECLARE(i) __m512 x##i = _mm512_set1_ps((float)i), y##i = _mm512_set1_ps(-1.0F - (float)i);
    TIMES8(DECLARE)
#undef DECLARE
    for (int step = 0; step < PEAK_STEPS; step++) {
#define STEP(i)                                                                                    \
    x##i = _mm512_fmadd_ps(x##i, a, b);                                                            \
    y##i = _mm512_fmadd_ps(y##i, a, b);
        TIMES8(STEP)
    }
    __m512 sum = _mm512_setzero_ps();
#define ADD(i) sum = _mm512_add_ps(sum, _mm512_add_ps(x##i, y##i));
    TIMES8(ADD)
#undef ADD
    return _mm512_reduce_add_ps(sum);
}

__attribute__((target("avx2,fma"))) static float peak_avx2(void)
{
    const __m256 a = _mm256_set1_ps(0.999F), b = _mm256_set1_ps(1e-3F);
#define DECLARE(i) __m256 x##i = _mm256_set1_ps((float)i), y##i = _mm256_set1_ps(-1.0F - (float)i);
    TIMES5(DECLARE)
    for (int step = 0; step < PEAK_STEPS; step++) {
#undef STEP
#define STEP(i)                                                                                    \
    x##i = _mm256_fmadd_ps(x##i, a, b);                                                            \
    y##i = _mm256_fmadd_ps(y##i, a, b);
        TIMES5(STEP)
    }
    __m256 sum = _mm256_setzero_ps();
#define ADD(i) sum = _mm256_add_ps(sum, _mm256_add_ps(x##i, y##i));
    TIMES5(ADD)
#undef STEP
#undef DECLARE
#undef ADD
    return _mm256_cvtss_f32(sum);
}

static volatile float peak_result;

static void peak_item(void *context, int64_t item, int thread)
{
    (void)item;
    (void)thread;
    const mixt_compute *compute = context;
    peak_result = strcmp(compute->f32->name, "avx512") == 0 ? peak_avx512() : peak_avx2();
}

/* Runs so many pieces of work on all threads; returns their operations, two a multiply-add. */
static double peak_operations(const mixt_compute *compute, int64_t items)
{
    const double each = strcmp(compute->f32->name, "avx512") == 0 ? 16 * 16 : 10 * 8;
    mixt_pool_run(compute->pool, items, peak_item, (void *)compute);
    return (double)items * PEAK_STEPS * each * 2;
}

#endif
