/* Blocks into fp32. The order of the products is ggml's, so that every value has its bits. */
#include <assert.h>
#include <string.h>

#include "core/arithmetic.h"
#include "quant/blocks.h"
#include "quant/multiples.h"
#include "quant/quant.h"

const int8_t mixt_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                    1,    13,   25,  38,  53,  69,  89,  113};
const int8_t mixt_mxfp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static int fifth_bit(const uint8_t high[4], int j)
{
    return (high[j / 8] >> j % 8 & 1) << 4;
}

static void from_q4_0(const mixt_q4_0_block *block, float *values)
{
    float d = mixt_f16_value(block->d);
    for (int j = 0; j < 16; j++) {
        values[j] = (float)((block->q[j] & 15) - 8) * d;
        values[j + 16] = (float)((block->q[j] >> 4) - 8) * d;
    }
}

static void from_q4_1(const mixt_q4_1_block *block, float *values)
{
    float d = mixt_f16_value(block->d);
    float m = mixt_f16_value(block->m);
    for (int j = 0; j < 16; j++) {
        values[j] = (float)(block->q[j] & 15) * d + m;
        values[j + 16] = (float)(block->q[j] >> 4) * d + m;
    }
}

static void from_q5_0(const mixt_q5_0_block *block, float *values)
{
    float d = mixt_f16_value(block->d);
    for (int j = 0; j < 16; j++) {
        values[j] = (float)(((block->q[j] & 15) | fifth_bit(block->high, j)) - 16) * d;
        values[j + 16] = (float)((block->q[j] >> 4 | fifth_bit(block->high, j + 16)) - 16) * d;
    }
}

static void from_q5_1(const mixt_q5_1_block *block, float *values)
{
    float d = mixt_f16_value(block->d);
    float m = mixt_f16_value(block->m);
    for (int j = 0; j < 16; j++) {
        values[j] = (float)((block->q[j] & 15) | fifth_bit(block->high, j)) * d + m;
        values[j + 16] = (float)(block->q[j] >> 4 | fifth_bit(block->high, j + 16)) * d + m;
    }
}

static void from_q8_0(const mixt_q8_0_block *block, float *values)
{
    float d = mixt_f16_value(block->d);
    for (int j = 0; j < 32; j++) {
        values[j] = (float)block->q[j] * d;
    }
}

static void from_q2_k(const mixt_q2_k_block *block, float *values)
{
    float d = mixt_f16_value(block->d);
    float min_d = mixt_f16_value(block->min_d);
    for (int group = 0; group < 16; group++) {
        float scale = d * (float)(block->scales[group] & 15);
        float min = min_d * (float)(block->scales[group] >> 4);
        const uint8_t *q = block->q + group / 8 * 32 + group % 2 * 16;
        int shift = group % 8 / 2 * 2;
        for (int l = 0; l < 16; l++) {
            values[16 * group + l] = scale * (float)(q[l] >> shift & 3) - min;
        }
    }
}

static void from_q3_k(const mixt_q3_k_block *block, float *values)
{
    float d = mixt_f16_value(block->d);
    for (int group = 0; group < 16; group++) {
        float scale = d * (float)mixt_q3_k_scale(block->scales, group);
        const uint8_t *q = block->q + group / 8 * 32 + group % 2 * 16;
        const uint8_t *high = block->high + group % 2 * 16;
        int shift = group % 8 / 2 * 2;
        for (int l = 0; l < 16; l++) {
            int value = (q[l] >> shift & 3) | (high[l] >> group / 2 & 1) << 2;
            values[16 * group + l] = scale * (float)(value - 4);
        }
    }
}

static void from_q4_k(const mixt_q4_k_block *block, float *values)
{
    float d = mixt_f16_value(block->d);
    float min_d = mixt_f16_value(block->min_d);
    for (int group = 0; group < 8; group++) {
        int scale_q;
        int min_q;
        mixt_k_scale(block->scales, group, &scale_q, &min_q);
        float scale = d * (float)scale_q;
        float min = min_d * (float)min_q;
        const uint8_t *q = block->q + group / 2 * 32;
        int shift = group % 2 * 4;
        for (int l = 0; l < 32; l++) {
            values[32 * group + l] = scale * (float)(q[l] >> shift & 15) - min;
        }
    }
}

static void from_q5_k(const mixt_q5_k_block *block, float *values)
{
    float d = mixt_f16_value(block->d);
    float min_d = mixt_f16_value(block->min_d);
    for (int group = 0; group < 8; group++) {
        int scale_q;
        int min_q;
        mixt_k_scale(block->scales, group, &scale_q, &min_q);
        float scale = d * (float)scale_q;
        float min = min_d * (float)min_q;
        const uint8_t *q = block->q + group / 2 * 32;
        int shift = group % 2 * 4;
        for (int l = 0; l < 32; l++) {
            int value = (q[l] >> shift & 15) | (block->high[l] >> group & 1) << 4;
            values[32 * group + l] = scale * (float)value - min;
        }
    }
}

static void from_q6_k(const mixt_q6_k_block *block, float *values)
{
    float d = mixt_f16_value(block->d);
    for (int group = 0; group < 16; group++) {
        float scale = d * (float)block->scales[group];
        const uint8_t *q = block->q + group / 8 * 64 + group % 4 * 16;
        const uint8_t *high = block->high + group / 8 * 32 + group % 2 * 16;
        int shift = group % 8 / 4 * 4;
        int high_shift = group % 8 / 2 * 2;
        for (int l = 0; l < 16; l++) {
            int value = (q[l] >> shift & 15) | (high[l] >> high_shift & 3) << 4;
            values[16 * group + l] = scale * (float)(value - 32);
        }
    }
}

static void from_codes(const uint8_t q[16], const int8_t codes[16], float scale, float *values)
{
    for (int j = 0; j < 16; j++) {
        values[j] = scale * (float)codes[q[j] & 15];
        values[j + 16] = scale * (float)codes[q[j] >> 4];
    }
}

static void from_iq4_nl(const mixt_iq4_nl_block *block, float *values)
{
    from_codes(block->q, mixt_iq4_values, mixt_f16_value(block->d), values);
}

static void from_iq4_xs(const mixt_iq4_xs_block *block, float *values)
{
    float d = mixt_f16_value(block->d);
    for (int group = 0; group < 8; group++) {
        from_codes(block->q + 16 * group, mixt_iq4_values,
                   d * (float)mixt_iq4_xs_scale(block, group), values + 32 * group);
    }
}

static void from_mxfp4(const mixt_mxfp4_block *block, float *values)
{
    from_codes(block->q, mixt_mxfp4_values, mixt_mxfp4_scale(block->exponent), values);
}

/* Exact products, so that no order of factors gives other bits. */
static void from_multiples(mixt_type type, const void *blocks, float *values, int64_t count)
{
    const mixt_type_row *row = mixt_type_info(type);
    int16_t q[256];
    float d[2];
    for (int64_t i = 0; i < count; i += row->elements) {
        const char *block = (const char *)blocks + i / row->elements * row->bytes;
        if (row->elements == 256) {
            d[0] = mixt_multiples_of(type, block, q);
            for (int j = 0; j < 256; j++) {
                values[i + j] = (float)q[j] * d[0];
            }
            continue;
        }
        for (int part = 0; part < row->elements / 32; part++) {
            mixt_part_of(type, block, part, q, d);
            for (int j = 0; j < 32; j++) {
                values[i + 32 * part + j] = (float)q[j] * d[j / 16];
            }
        }
    }
}

#define EACH_BLOCK(name, type)                                                                     \
    for (int64_t i = 0; i < count / row->elements; i++) {                                          \
        name((const type *)blocks + i, values + i * row->elements);                                \
    }                                                                                              \
    break

void mixt_dequantise(mixt_type type, const void *blocks, float *values, int64_t count)
{
    const mixt_type_row *row = mixt_type_info(type);
    assert(count >= 0 && count % row->elements == 0);
    switch (type) {
    case MIXT_TYPE_F32:
        memcpy(values, blocks, (size_t)count * sizeof *values);
        break;
    case MIXT_TYPE_F16:
        mixt_f16_to_f32(blocks, values, (size_t)count);
        break;
    case MIXT_TYPE_BF16:
        mixt_bf16_to_f32(blocks, values, (size_t)count);
        break;
    case MIXT_TYPE_F8_E4M3:
        mixt_f8_to_f32(blocks, 1, values, (size_t)count);
        break;
    case MIXT_TYPE_Q4_0:
        EACH_BLOCK(from_q4_0, mixt_q4_0_block);
    case MIXT_TYPE_Q4_1:
        EACH_BLOCK(from_q4_1, mixt_q4_1_block);
    case MIXT_TYPE_Q5_0:
        EACH_BLOCK(from_q5_0, mixt_q5_0_block);
    case MIXT_TYPE_Q5_1:
        EACH_BLOCK(from_q5_1, mixt_q5_1_block);
    case MIXT_TYPE_Q8_0:
        EACH_BLOCK(from_q8_0, mixt_q8_0_block);
    case MIXT_TYPE_Q2_K:
        EACH_BLOCK(from_q2_k, mixt_q2_k_block);
    case MIXT_TYPE_Q3_K:
        EACH_BLOCK(from_q3_k, mixt_q3_k_block);
    case MIXT_TYPE_Q4_K:
        EACH_BLOCK(from_q4_k, mixt_q4_k_block);
    case MIXT_TYPE_Q5_K:
        EACH_BLOCK(from_q5_k, mixt_q5_k_block);
    case MIXT_TYPE_Q6_K:
        EACH_BLOCK(from_q6_k, mixt_q6_k_block);
    case MIXT_TYPE_IQ4_NL:
        EACH_BLOCK(from_iq4_nl, mixt_iq4_nl_block);
    case MIXT_TYPE_IQ4_XS:
        EACH_BLOCK(from_iq4_xs, mixt_iq4_xs_block);
    case MIXT_TYPE_MXFP4:
        EACH_BLOCK(from_mxfp4, mixt_mxfp4_block);
    case MIXT_TYPE_IQ1_S:
    case MIXT_TYPE_IQ1_M:
    case MIXT_TYPE_IQ2_XXS:
    case MIXT_TYPE_IQ2_XS:
    case MIXT_TYPE_IQ2_S:
    case MIXT_TYPE_IQ3_XXS:
    case MIXT_TYPE_IQ3_S:
    case MIXT_TYPE_TQ1_0:
    case MIXT_TYPE_TQ2_0:
    case MIXT_TYPE_NVFP4:
    case MIXT_TYPE_Q1_0:
    case MIXT_TYPE_Q2_0:
        from_multiples(type, blocks, values, count);
        break;
    case MIXT_TYPE_COUNT:
        break;
    }
}

void mixt_matrix_values(const mixt_matrix *matrix, int64_t row, int64_t first, int64_t count,
                        float *values)
{
    const mixt_type_row *type = mixt_type_info(matrix->type);
    const mixt_scales *scales = &matrix->scales;
    const char *from = (const char *)matrix->data + (size_t)row * matrix->row_bytes +
                       (size_t)(first / type->elements) * (size_t)type->bytes;
    assert(row >= 0 && row < matrix->n && first >= 0 && count <= matrix->k - first);
    assert(first % type->elements == 0);
    if (scales->values == NULL) {
        mixt_dequantise(matrix->type, from, values, count);
        return;
    }
    assert(matrix->type == MIXT_TYPE_F8_E4M3);
    int64_t grid_row = (scales->first_row + row * scales->row_step) / scales->block_rows;
    const float *factors = scales->values + grid_row * scales->columns;
    for (int64_t at = 0; at < count;) {
        int64_t block = (first + at) / scales->block_columns;
        int64_t end = mixt_least((block + 1) * scales->block_columns - first, count);
        mixt_f8_to_f32((const uint8_t *)from + at, factors[block], values + at, (size_t)(end - at));
        at = end;
    }
}
