/* Checks and the loop over rows; the blocks of each type are made elsewhere. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "core/half.h"
#include "quant/quant.h"
#include "quant/quantise.h"

float mixt_quantise_prepare(const float *values, const float *weights, int count, float *x,
                            float *w)
{
    float unit = 0;
    float heaviest = 0;
    for (int i = 0; i < count; i++) {
        float size = fabsf(values[i]);
        unit = size > unit ? size : unit;
        heaviest = weights != NULL && weights[i] > heaviest ? weights[i] : heaviest;
    }
    if (unit < 1e-30f) { /* no half scales this; fits would divide by next to nothing */
        unit = 0;
    }
    for (int i = 0; i < count; i++) {
        x[i] = unit == 0 ? 0 : values[i] / unit;
        /* No weight is quite 0, so that what the others leave open is still decided well. */
        w[i] = heaviest == 0 ? 1 : weights[i] / heaviest + 1e-6f;
    }
    return unit;
}

static mixt_quantise_function *const functions[MIXT_TYPE_COUNT] = {
    /* F32, F16 and BF16: see plain_row */
    [MIXT_TYPE_Q4_0] = mixt_quantise_q4_0,     [MIXT_TYPE_Q4_1] = mixt_quantise_q4_1,
    [MIXT_TYPE_Q5_0] = mixt_quantise_q5_0,     [MIXT_TYPE_Q5_1] = mixt_quantise_q5_1,
    [MIXT_TYPE_Q8_0] = mixt_quantise_q8_0,     [MIXT_TYPE_Q2_K] = mixt_quantise_q2_k,
    [MIXT_TYPE_Q3_K] = mixt_quantise_q3_k,     [MIXT_TYPE_Q4_K] = mixt_quantise_q4_k,
    [MIXT_TYPE_Q5_K] = mixt_quantise_q5_k,     [MIXT_TYPE_Q6_K] = mixt_quantise_q6_k,
    [MIXT_TYPE_IQ4_NL] = mixt_quantise_iq4_nl, [MIXT_TYPE_IQ4_XS] = mixt_quantise_iq4_xs,
    [MIXT_TYPE_MXFP4] = mixt_quantise_mxfp4,
};

bool mixt_type_can_quantise(mixt_type type)
{
    const mixt_type_row *row = mixt_type_info(type);
    return row->number >= 0 && (row->elements == 1 || functions[type] != NULL);
}

/* NaN and infinity times 0 are NaN. */
static bool all_finite(const float *values, int count)
{
    float sum = 0;
    for (int i = 0; i < count; i++) {
        sum += values[i] * 0.0f;
    }
    return sum == 0;
}

/* A row of a type without blocks; the number of values that are well, which is `count` for all. */
static int64_t plain_row(mixt_type type, const float *values, int64_t count, void *to)
{
    uint16_t *halves = to;
    uint16_t infinite = type == MIXT_TYPE_F16 ? 0x7c00 : 0x7f80;
    if (type == MIXT_TYPE_F32) {
        memcpy(to, values, (size_t)count * sizeof *values);
    } else if (type == MIXT_TYPE_F16) {
        mixt_f32_to_f16(values, halves, (size_t)count);
    } else {
        mixt_f32_to_bf16(values, halves, (size_t)count);
    }
    int64_t well = 0;
    while (well < count && (type == MIXT_TYPE_F32 ? all_finite(&values[well], 1)
                                                  : (halves[well] & infinite) != infinite)) {
        well++;
    }
    return well;
}

/* The same for a type with blocks. */
static int64_t block_row(mixt_type type, const float *values, int64_t count,
                         const float *importance, unsigned char *to)
{
    const mixt_type_row *row = mixt_type_info(type);
    for (int64_t i = 0; i < count; i += row->elements) {
        if (!all_finite(values + i, row->elements) ||
            !functions[type](values + i, importance == NULL ? NULL : importance + i, to)) {
            return i;
        }
        to += row->bytes;
    }
    return count;
}

static mixt_status check_importance(const float *importance, int64_t columns, mixt_error *error)
{
    for (int64_t i = 0; importance != NULL && i < columns; i++) {
        if (!(importance[i] >= 0 && importance[i] <= FLT_MAX)) {
            return mixt_fail(error, MIXT_ERROR_FORMAT, "importance of column %lld is %g",
                             (long long)i, (double)importance[i]);
        }
    }
    return MIXT_OK;
}

mixt_status mixt_quantise(mixt_type type, const float *values, int64_t rows, int64_t columns,
                          const float *importance, void *blocks, mixt_error *error)
{
    if ((int)type < 0 || type >= MIXT_TYPE_COUNT) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "no such type");
    }
    const mixt_type_row *row = mixt_type_info(type);
    if (rows < 0 || columns < 0 || columns % row->elements != 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "rows of %lld elements are not whole %s blocks of %d", (long long)columns,
                         row->name, row->elements);
    }
    if (!mixt_type_can_quantise(type)) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "%s is a type that mixt reads and does not write", row->name);
    }
    mixt_status status = check_importance(importance, columns, error);
    unsigned char *to = blocks;
    for (int64_t i = 0; i < rows && status == MIXT_OK; i++) {
        int64_t well = row->elements == 1 ? plain_row(type, values, columns, to)
                                          : block_row(type, values, columns, importance, to);
        if (well < columns) {
            bool finite = all_finite(values + well, row->elements);
            status = mixt_fail(error, MIXT_ERROR_FORMAT, "row %lld, block %lld: %s", (long long)i,
                               (long long)(well / row->elements),
                               finite ? "values too large for the type" : "holds NaN or infinity");
        }
        values += columns;
        to += mixt_type_row_bytes(type, columns);
    }
    return status;
}
