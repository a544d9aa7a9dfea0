/* Writing models as Hugging Face folders: config.json, generation_config.json and safetensors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/files.h"
#include "formats/safetensors.h"
#include "model/parameters.h"

mixt_status mixt_model_views(const mixt_model *model, mixt_tensor_view **views, size_t *count,
                             mixt_error *error)
{
    *views = NULL;
    *count = 0;
    size_t total = 0;
    for (int i = 0; i < model->parameter_count; i++) {
        total += model->parameters[i].rank == 3 ? (size_t)model->parameters[i].size[0] : 1;
    }
    mixt_tensor_view *list = calloc(total, sizeof *list);
    if (list == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "model: no memory");
    }
    size_t at = 0;
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        bool experts = p->rank == 3;
        int64_t pieces = experts ? p->size[0] : 1;
        for (int64_t e = 0; e < pieces; e++, at++) {
            mixt_tensor_view *view = &list[at];
            mixt_parameter_expert_name(p, (int)e, view->name);
            view->parameter = i;
            view->rank = experts ? 2 : p->rank;
            memcpy(view->shape, p->size + (experts ? 1 : 0), (size_t)view->rank * sizeof(int64_t));
            view->count = p->count / (size_t)pieces;
            view->offset = p->offset + (size_t)e * view->count;
        }
    }
    *views = list;
    *count = total;
    return MIXT_OK;
}

/* A parameter's piece as fp32, some rows at a time. */
static mixt_status write_piece(const mixt_model *model, int parameter, size_t first, size_t count,
                               mixt_safetensors_writer *writer, mixt_error *error)
{
    const mixt_parameter *p = &model->parameters[parameter];
    if (model->weights != NULL) {
        return mixt_safetensors_writer_write(writer, mixt_model_block(model) + p->offset + first,
                                             count * sizeof(float), error);
    }
    size_t width = (size_t)p->size[p->rank - 1], step = width * (width < 1 << 16 ? 16 : 1);
    float *values = malloc(step * sizeof *values);
    mixt_status status =
        values != NULL ? MIXT_OK : mixt_fail(error, MIXT_ERROR_MEMORY, "model: no memory");
    for (size_t done = 0; done < count && status == MIXT_OK; done += step) {
        size_t part = count - done < step ? count - done : step;
        mixt_model_values(model, parameter, first + done, part, values);
        status = mixt_safetensors_writer_write(writer, values, part * sizeof *values, error);
    }
    free(values);
    return status;
}

/* A tensor of the folder and the parts of parameters that lie in it. */
typedef struct tensor_part {
    int parameter;
    mixt_layout_piece piece;
} tensor_part;

typedef struct outgoing {
    tensor_part *parts;
    size_t part_count;
    size_t *first; /* [tensors + 1] first part of each tensor; parts of one lie together */
    size_t tensors;
} outgoing;

static void free_outgoing(outgoing *out)
{
    free(out->parts);
    free(out->first);
}

static int count_pieces(const mixt_model *model, int parameter)
{
    const mixt_parameter *p = &model->parameters[parameter];
    const mixt_tensor_row *row = mixt_family_row(model->family, p->slot, MIXT_FORM_FOLDER, NULL);
    return row == NULL ? 0 : mixt_layout_piece_count(p, row, MIXT_FORM_FOLDER);
}

/* Parts of one tensor come together. */
static int by_tensor(const void *left, const void *right)
{
    const tensor_part *a = left, *b = right;
    int order = strcmp(a->piece.name, b->piece.name);
    return order != 0 ? order : a->parameter - b->parameter;
}

static mixt_status list_tensors(const mixt_model *model, outgoing *out, mixt_error *error)
{
    size_t total = 0;
    for (int i = 0; i < model->parameter_count; i++) {
        int pieces = count_pieces(model, i);
        if (pieces == 0) {
            return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                             "model: %s has no name in folders of this family",
                             model->parameters[i].name);
        }
        total += (size_t)pieces;
    }
    *out = (outgoing){calloc(total, sizeof *out->parts), 0, calloc(total + 1, sizeof(size_t)), 0};
    if (out->parts == NULL || out->first == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "model: no memory");
    }
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        const mixt_tensor_row *row =
            mixt_family_row(model->family, p->slot, MIXT_FORM_FOLDER, NULL);
        for (int k = 0; k < count_pieces(model, i); k++) {
            tensor_part *to = &out->parts[out->part_count++];
            to->parameter = i;
            mixt_layout_piece_get(model, p, row, MIXT_FORM_FOLDER, k, &to->piece);
        }
    }
    qsort(out->parts, out->part_count, sizeof *out->parts, by_tensor);
    for (size_t i = 0; i < out->part_count; i++) {
        if (i == 0 || strcmp(out->parts[i].piece.name, out->parts[i - 1].piece.name) != 0) {
            out->first[out->tensors++] = i;
        }
    }
    out->first[out->tensors] = out->part_count;
    return MIXT_OK;
}

static size_t piece_values(const mixt_layout_piece *piece)
{
    return (size_t)(piece->count[0] * piece->count[1] * piece->count[2] * piece->count[3]);
}

/* Puts a part's values where they belong among the tensor's. */
static void scatter(const mixt_layout_piece *piece, const float *values, float *tensor)
{
    const int64_t *n = piece->count, *stride = piece->stride;
    for (int64_t a = 0; a < n[0]; a++) {
        for (int64_t b = 0; b < n[1]; b++) {
            for (int64_t c = 0; c < n[2]; c++) {
                float *to = tensor + piece->from + a * stride[0] + b * stride[1] + c * stride[2];
                for (int64_t d = 0; d < n[3]; d++) {
                    to[d * stride[3]] = *values++;
                }
            }
        }
    }
}

static mixt_status write_tensor(const mixt_model *model, const tensor_part *parts, size_t count,
                                mixt_safetensors_writer *writer, mixt_error *error)
{
    const mixt_layout_piece *piece = &parts->piece;
    if (count == 1 && mixt_layout_piece_is_plain(piece)) {
        return write_piece(model, parts->parameter, piece->offset, piece_values(piece), writer,
                           error);
    }
    size_t total = 1;
    for (int i = 0; i < piece->rank; i++) {
        total *= (size_t)piece->shape[i];
    }
    float *tensor = calloc(total, sizeof *tensor), *values = calloc(total, sizeof *values);
    mixt_status status =
        tensor != NULL && values != NULL
            ? MIXT_OK
            : mixt_fail(error, MIXT_ERROR_MEMORY, "model: no memory for %s", piece->name);
    for (size_t i = 0; i < count && status == MIXT_OK; i++) {
        mixt_model_values(model, parts[i].parameter, parts[i].piece.offset,
                          piece_values(&parts[i].piece), values);
        scatter(&parts[i].piece, values, tensor);
    }
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_write(writer, tensor, total * sizeof *tensor, error);
    }
    free(tensor);
    free(values);
    return status;
}

static mixt_status write_weights(const mixt_model *model, const char *path, mixt_error *error)
{
    outgoing out = {0};
    mixt_safetensors_writer *writer = NULL;
    mixt_status status = list_tensors(model, &out, error);
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_create(path, 0, &writer, error);
    }
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_metadata(writer, "format", "pt", error);
    }
    for (size_t i = 0; i < out.tensors && status == MIXT_OK; i++) {
        const mixt_layout_piece *piece = &out.parts[out.first[i]].piece;
        status = mixt_safetensors_writer_add(writer, piece->name, MIXT_DTYPE_F32,
                                             (uint32_t)piece->rank, piece->shape, error);
    }
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_begin(writer, error);
    }
    for (size_t i = 0; i < out.tensors && status == MIXT_OK; i++) {
        status = write_tensor(model, out.parts + out.first[i], out.first[i + 1] - out.first[i],
                              writer, error);
    }
    if (status == MIXT_OK) {
        status = mixt_model_intact(model, error);
    }
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_finish(writer, error);
    }
    mixt_safetensors_writer_free(writer);
    free_outgoing(&out);
    return status;
}

mixt_status mixt_model_save(const mixt_model *model, const char *folder, mixt_error *error)
{
    char *config = NULL, *generation = NULL, *path = NULL;
    mixt_status status = mixt_folder_create(folder, error);
    if (status == MIXT_OK) {
        status = mixt_model_config_text(model, &config, error);
    }
    if (status == MIXT_OK) {
        status = mixt_model_generation_text(model, &generation, error);
    }
    if (status == MIXT_OK && (path = mixt_path_join(folder, "model.safetensors")) == NULL) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
    }
    if (status == MIXT_OK) {
        status = write_weights(model, path, error);
    }
    if (status == MIXT_OK) {
        status = mixt_file_replace_in(folder, "generation_config.json", generation,
                                      strlen(generation), error);
    }
    if (status == MIXT_OK) { /* last: a folder with it is complete */
        status = mixt_file_replace_in(folder, "config.json", config, strlen(config), error);
    }
    free(path);
    free(config);
    free(generation);
    return status;
}
