/* Parameters out of pieces of tensors: rows in place where they lie whole and evenly spaced, else
 * copied, with their type where its bytes can be moved. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/arithmetic.h"
#include "model/storage.h"
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

/* Element of the tensor where row `row` of the piece begins. */
static int64_t row_start(const mixt_layout_piece *piece, int64_t row)
{
    const int64_t *count = piece->count, *stride = piece->stride;
    return piece->from + row % count[2] * stride[2] + row / count[2] % count[1] * stride[1] +
           row / count[2] / count[1] * stride[0];
}

static size_t element_alignment(mixt_type type)
{
    return type == MIXT_TYPE_F32 ? 4 : type == MIXT_TYPE_MXFP4 || type == MIXT_TYPE_F8_E4M3 ? 1 : 2;
}

/* True where each row of the piece is a whole row of the tensor. */
static bool keeps_rows(const mixt_layout_piece *piece)
{
    int64_t width = piece->rank > 0 ? piece->shape[piece->rank - 1] : 1;
    if (piece->stride[3] != 1 || piece->count[3] != width || piece->from % width != 0) {
        return false;
    }
    for (int i = 0; i < 3; i++) {
        if (piece->count[i] > 1 && piece->stride[i] % width != 0) {
            return false;
        }
    }
    return true;
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
    int64_t width = matrix->k, start = row_start(piece, first);
    int64_t step = matrix->n > 1 ? row_start(piece, first + 1) - start : width;
    for (int64_t row = 1; row < matrix->n; row++) {
        if (row_start(piece, first + row) != start + row * step) {
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

/* Blocks of a folder's MXFP4: pairs of neighbours in a byte become halves of the block. */
static void copy_mxfp4_row(const mixt_held_piece *found, int64_t start, int64_t width, uint8_t *to)
{
    const uint8_t *blocks = (const uint8_t *)found->tensor.data + start / 2;
    const uint8_t *scales = (const uint8_t *)found->scales.data + start / 32;
    for (int64_t b = 0; b < width / 32; b++, blocks += 16, to += 17) {
        to[0] = scales[b];
        for (int j = 0; j < 8; j++) {
            uint8_t low = blocks[j], high = blocks[j + 8]; /* elements 2 j, 2 j + 1 and 16 on */
            to[1 + 2 * j] = (uint8_t)((low & 15) | (high & 15) << 4);
            to[2 + 2 * j] = (uint8_t)(low >> 4 | (high & 0xf0));
        }
    }
}

/* Elements of `bytes` bytes of a row, which lie `stride` apart in the tensor. */
static void gather(const char *from, int64_t stride, int64_t count, size_t bytes, char *to)
{
    for (int64_t i = 0; i < count; i++) {
        memcpy(to + (size_t)i * bytes, from + (size_t)(i * stride) * bytes, bytes);
    }
}

/* Copies every row of the piece to `to`; `plain` holds the tensor's elements, `bytes` each. */
static void copy_elements(const mixt_layout_piece *piece, const char *plain, size_t bytes, char *to)
{
    int64_t rows = piece->count[0] * piece->count[1] * piece->count[2], k = piece->count[3];
    for (int64_t row = 0; row < rows; row++) {
        gather(plain + (size_t)row_start(piece, row) * bytes, piece->stride[3], k, bytes,
               to + (size_t)(row * k) * bytes);
    }
}

/* The same of a piece's tensor, factors applied. */
static float *expand_piece(const mixt_held_piece *found)
{
    float *values = expand(&found->tensor);
    if (values != NULL && found->factors != NULL) {
        apply_factors(found, values, found->tensor.bytes);
    }
    return values;
}

/* Rows of the piece in memory: whole ones keep their type, of others only plain floats do. */
static mixt_status copy_piece(const mixt_held_piece *found, mixt_source *source,
                              mixt_matrix *matrix, char **copy, mixt_error *error)
{
    const mixt_layout_piece *piece = &found->piece;
    const mixt_source_tensor *tensor = &found->tensor;
    int64_t rows = piece->count[0] * piece->count[1] * piece->count[2], k = matrix->k;
    bool scaled = !piece->mxfp4 && tensor->type == MIXT_TYPE_F8_E4M3;
    bool whole = keeps_rows(piece) && !scaled;
    bool plain = !piece->mxfp4 && !scaled && mixt_type_info(tensor->type)->elements == 1;
    matrix->type = piece->mxfp4 ? MIXT_TYPE_MXFP4 : whole || plain ? tensor->type : MIXT_TYPE_F32;
    matrix->row_bytes = mixt_type_row_bytes(matrix->type, k);
    size_t bytes = (size_t)rows * matrix->row_bytes;
    *copy = mixt_source_memory(source, bytes);
    float *values = whole || plain || piece->mxfp4 ? NULL : expand_piece(found);
    if (*copy == NULL || (values == NULL && !whole && !plain && !piece->mxfp4)) {
        free(values);
        return no_memory(found, bytes, error);
    }
    if (values != NULL) {
        copy_elements(piece, (const char *)values, sizeof(float), *copy);
    } else if (plain && !whole) {
        copy_elements(piece, tensor->data, (size_t)mixt_type_info(tensor->type)->bytes, *copy);
    }
    for (int64_t row = 0; row < rows && (whole || piece->mxfp4); row++) {
        char *to = *copy + (size_t)row * matrix->row_bytes;
        int64_t start = row_start(piece, row);
        if (piece->mxfp4) {
            copy_mxfp4_row(found, start, k, (uint8_t *)to);
        } else {
            memcpy(to, tensor->data + (size_t)(start / k) * tensor->row_bytes, matrix->row_bytes);
        }
    }
    free(values);
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
    bool in_place = !piece->mxfp4 && keeps_rows(piece) && piece->count[3] == k;
    for (int i = 0; i < count; i++) {
        matrices[i] = (mixt_matrix){.type = found->tensor.type, .n = n, .k = k};
        in_place = in_place && point_at_rows(found, i * n, &matrices[i]);
    }
    char *copy = NULL;
    mixt_status status = MIXT_OK;
    if (!in_place) {
        matrices[0] = (mixt_matrix){.n = n, .k = k};
        status = copy_piece(found, source, &matrices[0], &copy, error);
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
    const mixt_layout_piece *piece = &found->piece;
    float *values = expand_piece(found);
    if (values == NULL) {
        return no_memory(found, found->parameter->count * sizeof *values, error);
    }
    copy_elements(piece, (const char *)values, sizeof *values,
                  (char *)(held->values + piece->offset));
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
