/* Parameters out of pieces of tensors: rows in place where they lie whole and evenly spaced, else
 * copied, with their type where its bytes can be moved. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/arithmetic.h"
#include "model/laid.h"
#include "quant/quant.h"

static mixt_status no_memory(const mixt_held_piece *found, size_t bytes, mixt_error *error)
{
    return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory for %.1f MB of tensor %s",
                     found->tensor.path, (double)bytes / 1e6, found->piece.name);
}

mixt_status mixt_held_begin(mixt_held *held, const mixt_parameter *p, bool matrix,
                            mixt_source *source, mixt_error *error)
{
    size_t count = matrix && p->rank == 3 ? (size_t)p->size[0] : 1;
    if (matrix) {
        held->matrices = calloc(count, sizeof *held->matrices);
    } else {
        held->values = mixt_source_memory(source, p->count * sizeof(float));
    }
    return held->matrices != NULL || held->values != NULL
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", mixt_source_path(source));
}

static size_t element_alignment(mixt_type type)
{
    return type == MIXT_TYPE_F32 ? 4 : type == MIXT_TYPE_MXFP4 || type == MIXT_TYPE_F8_E4M3 ? 1 : 2;
}

/* All elements of the tensor as fp32; free() them. */
static float *expand(const mixt_source_tensor *tensor)
{
    const mixt_type_row *type = mixt_type_info(tensor->type);
    size_t count = tensor->bytes / (size_t)type->bytes * (size_t)type->elements;
    bool aligned = (uintptr_t)tensor->data % element_alignment(tensor->type) == 0;
    void *copy = aligned ? NULL : malloc(tensor->bytes + 1);
    float *values = aligned || copy != NULL ? malloc(count * sizeof *values + 1) : NULL;
    if (values != NULL) {
        if (copy != NULL) {
            memcpy(copy, tensor->data, tensor->bytes);
        }
        mixt_dequantise(tensor->type, aligned ? tensor->data : copy, values, (int64_t)count);
    }
    free(copy);
    return values;
}

/* The grid of factors of one matrix of the tensor [.., rows, columns]. */
typedef struct grid {
    int64_t rows;                  /* of the tensor's matrix */
    int64_t width;                 /* its columns */
    int64_t lines, columns;        /* of the grid */
    int64_t row_step, column_step; /* rows and columns that share a factor */
} grid;

static grid grid_of(const mixt_held_piece *found)
{
    const mixt_layout_piece *piece = &found->piece;
    grid g = {.rows = piece->shape[piece->rank - 2],
              .width = piece->shape[piece->rank - 1],
              .row_step = found->f8.rows,
              .column_step = found->f8.columns};
    g.lines = mixt_divide_up(g.rows, g.row_step);
    g.columns = mixt_divide_up(g.width, g.column_step);
    return g;
}

/* Rows row, row + step, .. of the tensor as rows of the matrix; false where they are not all of one
 * matrix of it. */
static bool point_at_factors(const mixt_held_piece *found, int64_t row, int64_t step,
                             mixt_matrix *matrix)
{
    grid g = grid_of(found);
    int64_t plane = row / g.rows, first = row % g.rows;
    if (first + (matrix->n - 1) * step >= g.rows) {
        return false;
    }
    matrix->scales =
        (mixt_scales){.values = found->factors + (plane * g.lines + first / g.row_step) * g.columns,
                      .block_rows = g.row_step,
                      .block_columns = g.column_step,
                      .columns = g.columns,
                      .first_row = first % g.row_step,
                      .row_step = step};
    return true;
}

/* Multiplies all elements of the tensor by their factors. */
static void apply_factors(const mixt_held_piece *found, float *values, size_t count)
{
    grid g = grid_of(found);
    int64_t rows = (int64_t)count / g.width;
    for (int64_t row = 0; row < rows; row++) {
        const float *line =
            found->factors + (row / g.rows * g.lines + row % g.rows / g.row_step) * g.columns;
        for (int64_t i = 0; i < g.width; i++) {
            values[row * g.width + i] *= line[i / g.column_step];
        }
    }
}

/* The factors of a tensor of F8_E4M3 as fp32. */
static mixt_status hold_factors(mixt_held_piece *found, mixt_source *source, mixt_error *error)
{
    const mixt_source_tensor *tensor = &found->scales;
    bool exponents = tensor->type == MIXT_TYPE_COUNT;
    size_t count =
        exponents ? tensor->bytes : tensor->bytes / (size_t)mixt_type_info(tensor->type)->bytes;
    float *factors = mixt_source_memory(source, count * sizeof *factors);
    if (factors == NULL) {
        return no_memory(found, count * sizeof *factors, error);
    }
    for (size_t i = 0; i < count && exponents; i++) {
        uint8_t e = ((const uint8_t *)tensor->data)[i];
        factors[i] = e == 0xff ? NAN : ldexpf(1, e - 127);
    }
    if (!exponents) {
        float *values = expand(tensor);
        if (values == NULL) {
            return no_memory(found, count * sizeof *values, error);
        }
        memcpy(factors, values, count * sizeof *values);
        free(values);
    }
    found->factors = factors;
    return MIXT_OK;
}

/* Points at rows [first, first + n) where they are evenly spaced; false where they are not. */
static bool point_at_rows(const mixt_held_piece *found, int64_t first, mixt_matrix *matrix)
{
    const mixt_layout_piece *piece = &found->piece;
    const mixt_source_tensor *tensor = &found->tensor;
    if ((uintptr_t)tensor->data % element_alignment(tensor->type) != 0) {
        return false;
    }
    int64_t width = matrix->k, start = mixt_layout_row_start(piece, first);
    int64_t step = matrix->n > 1 ? mixt_layout_row_start(piece, first + 1) - start : width;
    for (int64_t row = 1; row < matrix->n; row++) {
        if (mixt_layout_row_start(piece, first + row) != start + row * step) {
            return false;
        }
    }
    if (step <= 0) {
        return false;
    }
    if (tensor->type == MIXT_TYPE_F8_E4M3 &&
        !point_at_factors(found, start / width, step / width, matrix)) {
        return false;
    }
    matrix->data = tensor->data + (size_t)(start / width) * tensor->row_bytes;
    matrix->row_bytes = (size_t)(step / width) * tensor->row_bytes;
    assert(start >= 0 &&
           (size_t)((start + (matrix->n - 1) * step) / width + 1) * tensor->row_bytes <=
               tensor->bytes);
    return true;
}

/* All elements of a piece's tensor, factors applied. */
static float *expand_piece(const mixt_held_piece *found)
{
    float *values = expand(&found->tensor);
    if (values != NULL && found->factors != NULL) {
        apply_factors(found, values, found->tensor.bytes);
    }
    return values;
}

/* Rows that are made of all values of the tensor, as fp32. */
static mixt_status copy_values(const mixt_held_piece *found, mixt_source *source,
                               mixt_matrix *matrix, char **copy, mixt_error *error)
{
    size_t count = mixt_layout_piece_values(&found->piece);
    matrix->type = MIXT_TYPE_F32;
    matrix->row_bytes = mixt_type_row_bytes(matrix->type, matrix->k);
    *copy = mixt_source_memory(source, count * sizeof(float));
    float *values = expand_piece(found);
    if (*copy == NULL || values == NULL) {
        free(values);
        return no_memory(found, count * sizeof(float), error);
    }
    mixt_layout_gather(&found->piece, values, (float *)(void *)*copy);
    free(values);
    return MIXT_OK;
}

/* Rows that are moved: those of experts when they are wanted, others now. */
static mixt_status lay_matrices(mixt_held *held, const mixt_held_piece *found, int first, int count,
                                const mixt_laid_piece *plan, mixt_source *source, mixt_error *error)
{
    mixt_matrix *matrices = held->matrices + first;
    int64_t n = matrices[0].n;
    bool later = mixt_slot_is_expert(found->parameter->slot);
    size_t bytes = (size_t)(count * n) * plan->row_bytes;
    mixt_laid_piece *piece = mixt_source_memory(source, sizeof *piece);
    char *copy = later ? NULL : mixt_source_memory(source, bytes);
    if (later && held->laid == NULL) {
        held->laid =
            mixt_source_memory(source, (size_t)found->parameter->size[0] * sizeof *held->laid);
    }
    if (piece == NULL || (later ? held->laid == NULL : copy == NULL)) {
        return no_memory(found, bytes, error);
    }
    *piece = *plan;
    for (int i = 0; i < count; i++) {
        const mixt_laid laid = {.piece = piece, .first = i * n, .count = n};
        matrices[i] =
            (mixt_matrix){.type = plan->type, .n = n, .k = plan->k, .row_bytes = plan->row_bytes};
        if (later) {
            held->laid[first + i] = laid;
        } else {
            matrices[i].data = copy + (size_t)(i * n) * plan->row_bytes;
            mixt_laid_from_files(&laid, copy + (size_t)(i * n) * plan->row_bytes);
        }
    }
    return MIXT_OK;
}

static mixt_status add_matrices(mixt_held *held, const mixt_held_piece *found, mixt_source *source,
                                mixt_error *error)
{
    const mixt_parameter *p = found->parameter;
    const mixt_layout_piece *piece = &found->piece;
    int64_t n = p->size[p->rank - 2], k = p->size[p->rank - 1];
    int64_t rows = piece->count[0] * piece->count[1] * piece->count[2] * piece->count[3] / k;
    mixt_matrix *matrices = held->matrices + piece->offset / (size_t)(n * k);
    int count = (int)(rows / n);
    assert(piece->offset % (size_t)(n * k) == 0 && rows % n == 0);
    assert((size_t)held->count + (size_t)count <= p->count / (size_t)(n * k));
    bool in_place = !piece->mxfp4 && mixt_layout_keeps_rows(piece) && piece->count[3] == k;
    for (int i = 0; i < count; i++) {
        matrices[i] = (mixt_matrix){.type = found->tensor.type, .n = n, .k = k};
        in_place = in_place && point_at_rows(found, i * n, &matrices[i]);
    }
    mixt_laid_piece plan;
    char *copy = NULL;
    mixt_status status = MIXT_OK;
    if (!in_place && mixt_laid_plan(found, k, &plan)) {
        status = lay_matrices(held, found, (int)(matrices - held->matrices), count, &plan, source,
                              error);
    } else if (!in_place) {
        matrices[0] = (mixt_matrix){.n = n, .k = k};
        status = copy_values(found, source, &matrices[0], &copy, error);
    }
    for (int i = 0; i < count && copy != NULL; i++) {
        matrices[i] = matrices[0];
        matrices[i].data = copy + (size_t)(i * n) * matrices[0].row_bytes;
    }
    held->count += count;
    return status;
}

static mixt_status add_values(mixt_held *held, const mixt_held_piece *found, mixt_error *error)
{
    float *values = expand_piece(found);
    if (values == NULL) {
        return no_memory(found, found->parameter->count * sizeof *values, error);
    }
    mixt_layout_gather(&found->piece, values, held->values + found->piece.offset);
    free(values);
    return MIXT_OK;
}

mixt_status mixt_held_add(mixt_held *held, const mixt_held_piece *found, mixt_source *source,
                          mixt_error *error)
{
    mixt_held_piece with = *found;
    if (!found->piece.mxfp4 && found->tensor.type == MIXT_TYPE_F8_E4M3) {
        MIXT_TRY(hold_factors(&with, source, error));
        found = &with;
    }
    return held->matrices != NULL ? add_matrices(held, found, source, error)
                                  : add_values(held, found, error);
}
