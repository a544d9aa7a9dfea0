/* Products of bfloat16 without the instruction: operands rounded, kept as fp32, and the two k of a
 * pair swapped, because vdpbf16ps adds the odd one first. Numbers below 2^-126 are zeros of their
 * sign wherever they occur, in what is multiplied, sums and C, because it makes them so. */
#include <assert.h>
#include <math.h>

#include "backend/cpu/tiers.h"

#define SMALLEST 0x1p-126F /* normal number */
/* Sums from here on round to it, were they rounded to 24 bits as normal numbers are. */
#define ROUNDS_TO_SMALLEST (0x1p-126 - 0x1p-151)

static float flush(float x)
{
    return fabsf(x) < SMALLEST ? copysignf(0, x) : x;
}

/* a b + sum, rounded once; what is below SMALLEST after rounding to 24 bits is 0. None of the three
 * is subnormal. The sum in double decides it: where so little is left of `sum` the product, of
 * 16 bits, ends at most 2^-149 below, so it is exact unless it lies far from the bound. */
static float multiply_add(float a, float b, float sum)
{
    float result = fmaf(a, b, sum);
    if (fabsf(result) <= SMALLEST && result != 0) {
        double exact = (double)a * (double)b + (double)sum;
        return fabs(exact) < ROUNDS_TO_SMALLEST ? copysignf(0, result) : result;
    }
    return result;
}

void mixt_pack_bf16_scalar(int64_t k, int64_t width, const float *x, int64_t x_k, int64_t x_width,
                           float *panels, int panel_width)
{
    for (int64_t begin = 0; begin < width; begin += panel_width) {
        for (int64_t cell = 0; cell < k; cell++) {
            int64_t p = (cell ^ 1) < k ? (cell ^ 1) : cell;
            for (int64_t i = begin; i < begin + panel_width; i++) {
                *panels++ = i < width ? mixt_round_bf16(x[p * x_k + i * x_width]) : 0;
            }
        }
    }
}

void mixt_sums_bf16_scalar(const mixt_bf16_panels *panels, float *sums, int64_t sums_stride,
                           int rows, int columns)
{
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < columns; j++) {
            const float *a = panels->a + i, *b = panels->b + j;
            float sum = 0;
            for (int64_t cell = 0; cell < panels->cells; cell++) {
                sum = multiply_add(flush(*a), flush(*b), sum);
                a += panels->a_width;
                b += panels->b_width;
            }
            sums[i * sums_stride + j] = sum;
        }
    }
}

void mixt_tile_bf16_scalar(int64_t cells, const float *a, const float *b, float *c,
                           int64_t c_stride, int rows, int columns, bool accumulate)
{
    enum { ROWS = MIXT_SCALAR_TILE_ROWS, COLUMNS = MIXT_SCALAR_TILE_COLUMNS(float) };
    float sums[ROWS * COLUMNS];
    const mixt_bf16_panels panels = {cells, a, b, ROWS, COLUMNS};
    assert(rows >= 1 && rows <= ROWS && columns >= 1 && columns <= COLUMNS);
    mixt_sums_bf16_scalar(&panels, sums, COLUMNS, rows, columns);
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < columns; j++) {
            float *to = c + i * c_stride + j, sum = sums[i * COLUMNS + j];
            *to = accumulate ? flush(flush(*to) + sum) : sum;
        }
    }
}
