/* Products with quantised weights in plain C: the definition of their numerics. Sums of integers
 * are exact in int32, whatever their order; floats are chained block by block. */
#include "backend/cpu/tiers.h"

#include <assert.h>
#include <math.h>

#include "backend/cpu/quant_q8.h"
#include "ops/quantised.h"
#include "quant/blocks.h"

#define GROUPS 16 /* of 16 values in a step */

/* A step of one row of weights: value = d scale q + m min, by groups of 16; d and m are those of
 * the blocks of 32, or of the block of 256 in d[0], m[0]. */
typedef struct weights {
    int blocks; /* that have floats of their own */
    bool minima;
    bool halves; /* blocks of 32 whose first 16 values have scale d, and the others m */
    int q[MIXT_STEP];
    int scale[GROUPS], min[GROUPS];
    float d[MIXT_STEP_BLOCKS], m[MIXT_STEP_BLOCKS];
} weights;

static void decode_32(mixt_type type, const void *block, weights *to, int b)
{
    int *q = to->q + 32 * b;
    const mixt_q5_1_block *five = block; /* the fullest: Q4_1 lacks `high` */
    const mixt_q5_0_block *plain = block;
    const mixt_mxfp4_block *mx = block;
    bool floats = type != MIXT_TYPE_MXFP4;
    to->d[b] = floats ? mixt_f16_value(five->d) : mixt_mxfp4_scale(mx->exponent);
    to->m[b] = to->minima ? mixt_f16_value(five->m) : 0;
    if (type == MIXT_TYPE_Q8_0) {
        for (int j = 0; j < 32; j++) {
            q[j] = ((const mixt_q8_0_block *)block)->q[j];
        }
        return;
    }
    size_t bytes = (size_t)mixt_type_info(type)->bytes;
    const uint8_t *low = (const uint8_t *)block + bytes - 16;
    const uint8_t *high = type == MIXT_TYPE_Q5_0   ? plain->high
                          : type == MIXT_TYPE_Q5_1 ? five->high
                                                   : NULL;
    for (int j = 0; j < 32; j++) {
        int value = low[j % 16] >> j / 16 * 4 & 15;
        value |= high == NULL ? 0 : (high[j / 8] >> j % 8 & 1) << 4;
        q[j] = type == MIXT_TYPE_IQ4_NL  ? mixt_iq4_values[value]
               : type == MIXT_TYPE_MXFP4 ? mixt_mxfp4_values[value]
               : type == MIXT_TYPE_Q4_0  ? value - 8
               : type == MIXT_TYPE_Q5_0  ? value - 16
                                         : value;
    }
}

static void decode_q2_k(const mixt_q2_k_block *block, weights *to)
{
    to->d[0] = mixt_f16_value(block->d);
    to->m[0] = -mixt_f16_value(block->min_d);
    for (int j = 0; j < MIXT_STEP; j++) {
        to->q[j] = block->q[j / 128 * 32 + j % 32] >> j % 128 / 32 * 2 & 3;
    }
    for (int group = 0; group < GROUPS; group++) {
        to->scale[group] = block->scales[group] & 15;
        to->min[group] = block->scales[group] >> 4;
    }
}

static void decode_q3_k(const mixt_q3_k_block *block, weights *to)
{
    to->d[0] = mixt_f16_value(block->d);
    for (int j = 0; j < MIXT_STEP; j++) {
        int low = block->q[j / 128 * 32 + j % 32] >> j % 128 / 32 * 2 & 3;
        to->q[j] = (low | (block->high[j % 32] >> j / 32 & 1) << 2) - 4;
    }
    for (int group = 0; group < GROUPS; group++) {
        to->scale[group] = mixt_q3_k_scale(block->scales, group);
    }
}

/* Q4_K, and Q5_K where `high` is not NULL. */
static void decode_q4_k(const mixt_q4_k_block *block, const uint8_t *q, const uint8_t *high,
                        weights *to)
{
    to->d[0] = mixt_f16_value(block->d);
    to->m[0] = -mixt_f16_value(block->min_d);
    for (int j = 0; j < MIXT_STEP; j++) {
        int value = q[j / 64 * 32 + j % 32] >> j % 64 / 32 * 4 & 15;
        to->q[j] = value | (high == NULL ? 0 : (high[j % 32] >> j / 32 & 1) << 4);
    }
    for (int group = 0; group < GROUPS; group++) {
        mixt_k_scale(block->scales, group / 2, &to->scale[group], &to->min[group]);
    }
}

static void decode_q6_k(const mixt_q6_k_block *block, weights *to)
{
    to->d[0] = mixt_f16_value(block->d);
    for (int j = 0; j < MIXT_STEP; j++) {
        int low = block->q[j / 128 * 64 + j % 64] >> j % 128 / 64 * 4 & 15;
        int high = block->high[j / 128 * 32 + j % 32] >> j % 128 / 32 * 2 & 3;
        to->q[j] = (low | high << 4) - 32;
    }
    for (int group = 0; group < GROUPS; group++) {
        to->scale[group] = block->scales[group];
    }
}

static void decode_iq4_xs(const mixt_iq4_xs_block *block, weights *to)
{
    to->d[0] = mixt_f16_value(block->d);
    for (int j = 0; j < MIXT_STEP; j++) {
        to->q[j] = mixt_iq4_values[block->q[j / 32 * 16 + j % 16] >> j % 32 / 16 * 4 & 15];
    }
    for (int group = 0; group < GROUPS; group++) {
        to->scale[group] = mixt_iq4_xs_scale(block, group / 2);
    }
}

/* Types whose integers have their scales in them. */
static void decode_multiples(mixt_type type, const void *block, weights *to)
{
    int16_t q[MIXT_STEP];
    to->d[0] = mixt_multiples_of(type, block, q);
    for (int j = 0; j < MIXT_STEP; j++) {
        to->q[j] = q[j];
    }
    for (int group = 0; group < GROUPS; group++) {
        to->scale[group] = 1;
    }
}

/* Part b of the step, of a type with blocks of `parts` times 32. */
static void decode_part(mixt_type type, const void *from, int parts, weights *to, int b)
{
    int16_t q[32];
    float d[2];
    mixt_part_of(type, (const char *)from + b / parts * mixt_type_info(type)->bytes, b % parts, q,
                 d);
    to->d[b] = d[0];
    to->m[b] = d[1];
    for (int j = 0; j < 32; j++) {
        to->q[32 * b + j] = q[j];
    }
}

static void decode_256(mixt_type type, const void *block, weights *to)
{
    if (mixt_type_is_multiples(type)) {
        decode_multiples(type, block, to);
    } else if (type == MIXT_TYPE_Q2_K) {
        decode_q2_k(block, to);
    } else if (type == MIXT_TYPE_Q3_K) {
        decode_q3_k(block, to);
    } else if (type == MIXT_TYPE_Q4_K) {
        decode_q4_k(block, ((const mixt_q4_k_block *)block)->q, NULL, to);
    } else if (type == MIXT_TYPE_Q5_K) {
        const mixt_q5_k_block *five = block;
        decode_q4_k(block, five->q, five->high, to);
    } else if (type == MIXT_TYPE_Q6_K) {
        decode_q6_k(block, to);
    } else {
        decode_iq4_xs(block, to);
    }
}

static void decode(const mixt_matrix *matrix, int64_t row, int64_t step, weights *to)
{
    const mixt_type_row *info = mixt_type_info(matrix->type);
    const char *from = (const char *)matrix->data + (size_t)row * matrix->row_bytes;
    int64_t first = step * MIXT_STEP / info->elements, end = matrix->k / info->elements;
    to->minima = matrix->type == MIXT_TYPE_Q4_1 || matrix->type == MIXT_TYPE_Q5_1 ||
                 matrix->type == MIXT_TYPE_Q2_K || matrix->type == MIXT_TYPE_Q4_K ||
                 matrix->type == MIXT_TYPE_Q5_K;
    to->halves = mixt_type_has_parts(matrix->type);
    from += first * info->bytes;
    if (info->elements == MIXT_STEP) {
        to->blocks = 1;
        decode_256(matrix->type, from, to);
        return;
    }
    int parts = info->elements / 32;
    to->blocks = (int)mixt_least((end - first) * parts, MIXT_STEP_BLOCKS);
    for (int b = 0; b < to->blocks; b++) {
        if (to->halves) {
            decode_part(matrix->type, from, parts, to, b);
        } else {
            decode_32(matrix->type, from + b * info->bytes, to, b);
        }
    }
}

static int dot(const int *weight, const int8_t *q, int count)
{
    int sum = 0;
    for (int j = 0; j < count; j++) {
        sum += weight[j] * q[j];
    }
    return sum;
}

/* sum + the products of a step of blocks of 32. */
static float add_32(const weights *row, const mixt_q8 *x, float sum)
{
    for (int b = 0; b < row->blocks && row->halves; b++) {
        const int *q = row->q + 32 * b;
        const int8_t *x_q = x->q + 32 * b;
        sum = fmaf(row->d[b] * x->d[b], (float)dot(q, x_q, 16), sum);
        sum = fmaf(row->m[b] * x->d[b], (float)dot(q + 16, x_q + 16, 16), sum);
    }
    for (int b = 0; b < row->blocks && !row->halves; b++) {
        sum = fmaf(row->d[b] * x->d[b], (float)dot(row->q + 32 * b, x->q + 32 * b, 32), sum);
        if (row->minima) {
            sum = fmaf(row->m[b] * x->d[b], (float)x->totals[b], sum);
        }
    }
    return sum;
}

/* sum + the products of a block of 256. */
static float add_256(const weights *row, const mixt_q8 *x, float sum)
{
    int products = 0, minima = 0;
    for (int group = 0; group < GROUPS; group++) {
        products += row->scale[group] * dot(row->q + 16 * group, x->q + 16 * group, 16);
        minima += row->minima ? row->min[group] * x->sums[group] : 0;
    }
    sum = fmaf(row->d[0] * x->d[0], (float)products, sum);
    return row->minima ? fmaf(row->m[0] * x->d[0], (float)minima, sum) : sum;
}

static void kernel_multiply(const mixt_matrix_task *task)
{
    const mixt_matrix *matrix = task->matrix;
    bool by_32 = mixt_q8_kind_of(matrix->type).by_32;
    int64_t steps = mixt_divide_up(matrix->k, MIXT_STEP);
    float *sums = task->scratch;
    assert(task->tokens <= MIXT_MATRIX_TOKENS && task->row_end <= matrix->n);
    for (int64_t row = task->row_begin; row < task->row_end; row++) {
        memset(sums, 0, (size_t)task->tokens * sizeof *sums);
        for (int64_t step = 0; step < steps; step++) {
            weights decoded;
            decode(matrix, row, step, &decoded);
            for (int64_t t = 0; t < task->tokens; t++) {
                const void *x =
                    task->activations + (size_t)(step * task->tokens + t) * task->activation_bytes;
                sums[t] = by_32 ? add_32(&decoded, x, sums[t]) : add_256(&decoded, x, sums[t]);
            }
        }
        for (int64_t t = 0; t < task->tokens; t++) {
            float *c = &task->c[t * task->c_row + row];
            *c = task->accumulate ? *c + sums[t] : sums[t];
        }
    }
}

/* q = x * (127 / largest), to the nearest, ties to even. */
static void quantise_group(const float *x, int count, int8_t *q, float *d)
{
    uint32_t most = 0; /* magnitudes as integers: NaN is above infinity */
    for (int j = 0; j < count; j++) {
        uint32_t bits;
        memcpy(&bits, &x[j], sizeof bits);
        bits &= 0x7FFFFFFFU;
        most = bits > most ? bits : most;
    }
    float inverse = mixt_q8_scale(most, d);
    memset(q, 0, (size_t)count);
    for (int j = 0; j < count && inverse != 0; j++) {
        q[j] = (int8_t)lrintf(x[j] * inverse);
    }
}

#include "backend/cpu/quantise_groups.h"

const mixt_matrix_kernels mixt_matrix_scalar = {1, kernel_quantise, kernel_multiply};
