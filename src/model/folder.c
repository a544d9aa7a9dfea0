/* Writing models as Hugging Face folders: config.json, generation_config.json and safetensors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/files.h"
#include "formats/safetensors.h"
#include "model/model.h"

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
        return mixt_safetensors_writer_write(writer, model->weights + p->offset + first,
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

static mixt_status write_weights(const mixt_model *model, const char *path, mixt_error *error)
{
    mixt_tensor_view *views;
    size_t count;
    mixt_safetensors_writer *writer = NULL;
    mixt_status status = mixt_model_views(model, &views, &count, error);
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_create(path, 0, &writer, error);
    }
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_metadata(writer, "format", "pt", error);
    }
    for (size_t i = 0; i < count && status == MIXT_OK; i++) {
        status = mixt_safetensors_writer_add(writer, views[i].name, MIXT_DTYPE_F32,
                                             (uint32_t)views[i].rank, views[i].shape, error);
    }
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_begin(writer, error);
    }
    for (size_t i = 0; i < count && status == MIXT_OK; i++) {
        size_t first = views[i].offset - model->parameters[views[i].parameter].offset;
        status = write_piece(model, views[i].parameter, first, views[i].count, writer, error);
    }
    if (status == MIXT_OK) {
        status = mixt_model_intact(model, error);
    }
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_finish(writer, error);
    }
    mixt_safetensors_writer_free(writer);
    free(views);
    return status;
}

static mixt_status write_text(const char *folder, const char *name, const char *text,
                              mixt_error *error)
{
    char *path = mixt_path_join(folder, name);
    mixt_status status = path == NULL ? mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder)
                                      : mixt_file_replace(path, text, strlen(text), error);
    free(path);
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
        status = write_text(folder, "generation_config.json", generation, error);
    }
    if (status == MIXT_OK) { /* last: a folder with it is complete */
        status = write_text(folder, "config.json", config, error);
    }
    free(path);
    free(config);
    free(generation);
    return status;
}
