/* Reading an opened model's weights back as fp32, checking, hashing and binding them. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/arithmetic.h"
#include "core/memory.h"
#include "core/memory_limit.h"
#include "model/laid.h"
#include "model/stored.h"
#include "model/weights.h"
#include "quant/quant.h"

#define PART 4096 /* values of a row that are laid at once: whole blocks of every type */

const float *mixt_model_block(const mixt_model *model)
{
    if (model->trained != NULL) {
        mixt_weights_settle(model->trained);
    }
    return model->weights;
}

/* A row that lies in the files in another way. */
static void laid_values(const mixt_laid *laid, int64_t row, float *values)
{
    _Alignas(MIXT_ALIGNMENT) char part[PART * sizeof(float)];
    for (int64_t at = 0; at < laid->piece->k; at += PART) {
        int64_t count = mixt_least(PART, laid->piece->k - at);
        mixt_laid_row(laid, row, at, count, part);
        mixt_dequantise(laid->piece->type, part, values + at, count);
    }
}

void mixt_model_values(const mixt_model *model, int parameter, size_t first, size_t count,
                       float *values)
{
    assert(parameter >= 0 && parameter < model->parameter_count);
    const mixt_parameter *p = &model->parameters[parameter];
    assert(first <= p->count && count <= p->count - first);
    const mixt_held *held = model->held != NULL ? &model->held[parameter] : NULL;
    if (held == NULL || held->matrices == NULL) {
        const float *from = held == NULL ? mixt_model_block(model) + p->offset : held->values;
        memcpy(values, from + first, count * sizeof *values);
        return;
    }
    size_t k = (size_t)held->matrices[0].k, n = (size_t)held->matrices[0].n;
    assert(first % k == 0 && count % k == 0); /* whole rows */
    for (size_t row = first / k; row < (first + count) / k; row++, values += k) {
        const mixt_laid *laid = mixt_held_laid(held, (int)(row / n));
        if (laid != NULL) {
            laid_values(laid, (int64_t)(row % n), values);
        } else {
            mixt_matrix_values(&held->matrices[row / n], (int64_t)(row % n), 0, (int64_t)k, values);
        }
    }
}

mixt_status mixt_model_load(mixt_model *model, mixt_error *error)
{
    if (model->weights != NULL) {
        return MIXT_OK;
    }
    const char *path = mixt_source_path(model->source);
    size_t bytes = model->weight_count * sizeof(float);
    if (bytes < mixt_memory_available(NULL)) {
        model->weights = mixt_block_allocate(bytes);
    }
    if (model->weights == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory for %.1f GB of fp32 weights",
                         path, (double)bytes / 1e9);
    }
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        if (!mixt_slot_is_adapter(p->slot)) {
            mixt_model_values(model, i, 0, p->count, model->weights + p->offset);
        }
    }
    mixt_status status = mixt_source_intact(model->source, error);
    if (status != MIXT_OK) {
        mixt_block_free(model->weights, bytes);
        model->weights = NULL;
        return status;
    }
    mixt_model_release(model);
    mixt_stored_free(model->stored);
    model->stored = NULL;
    return MIXT_OK;
}

static void hash_row(const mixt_held *held, int i, int64_t row, size_t bytes, mixt_sha256 *state)
{
    const mixt_laid *laid = mixt_held_laid(held, i);
    const mixt_matrix *matrix = &held->matrices[i];
    if (laid == NULL) {
        const char *data = (const char *)matrix->data + (size_t)row * matrix->row_bytes;
        mixt_sha256_update(state, data, bytes);
        return;
    }
    char part[PART * sizeof(float)];
    for (int64_t at = 0; at < matrix->k; at += PART) {
        int64_t count = mixt_least(PART, matrix->k - at);
        mixt_laid_row(laid, row, at, count, part);
        mixt_sha256_update(state, part, mixt_type_row_bytes(matrix->type, count));
    }
}

/* A mapped model of fp32 tensors has the hash of its block: gaps are zeros there. */
void mixt_model_hash_weights(const mixt_model *model, mixt_sha256 *state)
{
    static const char gap[MIXT_ALIGNMENT];
    if (model->weights != NULL) {
        mixt_sha256_update(state, mixt_model_block(model), model->weight_count * sizeof(float));
        return;
    }
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        const mixt_held *held = &model->held[i];
        for (int e = 0; e < held->count; e++) {
            const mixt_matrix *matrix = &held->matrices[e];
            size_t bytes = mixt_type_row_bytes(matrix->type, matrix->k);
            for (int64_t row = 0; row < matrix->n; row++) {
                hash_row(held, e, row, bytes, state);
            }
            if (matrix->scales.values != NULL) {
                mixt_sha256_update(state, matrix->scales.values,
                                   (size_t)mixt_scales_count(matrix) * sizeof(float));
            }
        }
        if (held->matrices == NULL) {
            mixt_sha256_update(state, held->values, p->count * sizeof(float));
        }
        size_t end = p->count * sizeof(float);
        mixt_sha256_update(state, gap, mixt_round_up(end, MIXT_ALIGNMENT) - end);
    }
}

static mixt_status check_finite(const mixt_model *model, int index, float *row, mixt_error *error)
{
    const mixt_parameter *p = &model->parameters[index];
    size_t k = (size_t)p->size[p->rank - 1];
    for (size_t at = 0; at < p->count; at += k) {
        mixt_model_values(model, index, at, k, row);
        for (size_t i = 0; i < k; i++) {
            if (!isfinite(row[i])) {
                char name[128];
                size_t piece = p->rank == 3 ? p->count / (size_t)p->size[0] : p->count;
                mixt_parameter_expert_name(p, (int)(at / piece), name);
                return mixt_fail(error, MIXT_ERROR_NUMERIC,
                                 "%s: tensor %s holds %s in row %zu, column %zu",
                                 model->source != NULL ? mixt_source_path(model->source) : "model",
                                 name, isnan(row[i]) ? "NaN" : "Inf", at % piece / k, i);
            }
        }
    }
    return MIXT_OK;
}

mixt_status mixt_model_to_memory(mixt_model *model, mixt_error *error)
{
    MIXT_TRY(mixt_stored_refuse(model, "the whole of it is read into memory", error));
    MIXT_TRY(mixt_model_refuse_spread(model, "read into memory as a whole", error));
    return model->source != NULL ? mixt_source_load(model->source, error) : MIXT_OK;
}

mixt_status mixt_model_verify(const mixt_model *model, mixt_error *error)
{
    int64_t widest = 1;
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        widest = p->size[p->rank - 1] > widest ? p->size[p->rank - 1] : widest;
    }
    float *row = calloc((size_t)widest, sizeof *row);
    mixt_status status =
        row != NULL ? MIXT_OK : mixt_fail(error, MIXT_ERROR_MEMORY, "model: no memory");
    for (int i = 0; i < model->parameter_count && status == MIXT_OK; i++) {
        status = check_finite(model, i, row, error);
    }
    free(row);
    return status == MIXT_OK ? mixt_model_intact(model, error) : status;
}

mixt_status mixt_model_intact(const mixt_model *model, mixt_error *error)
{
    return model->source != NULL ? mixt_source_intact(model->source, error) : MIXT_OK;
}
