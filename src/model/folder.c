/* Models as Hugging Face folders: config.json, generation_config.json and safetensors. */
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
        status = mixt_safetensors_writer_write(writer, model->weights + views[i].offset,
                                               views[i].count * sizeof(float), error);
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

static mixt_status read_view(mixt_model *model, const mixt_safetensors *file,
                             const mixt_tensor_view *view, const char *path, mixt_error *error)
{
    const mixt_tensor_info *tensor = mixt_safetensors_find(file, view->name);
    if (tensor == NULL) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: tensor %s is missing", path, view->name);
    }
    bool same = tensor->rank == (uint32_t)view->rank;
    for (int i = 0; i < view->rank && same; i++) {
        same = tensor->shape[i] == view->shape[i];
    }
    if (!same) {
        char found[96] = "";
        for (uint32_t i = 0; i < tensor->rank && i < 4; i++) {
            size_t used = strlen(found);
            snprintf(found + used, sizeof found - used, "%s%lld", i == 0 ? "" : ",",
                     (long long)tensor->shape[i]);
        }
        return mixt_fail(
            error, MIXT_ERROR_FORMAT, "%s: tensor %s is [%s], config.json makes it [%lld%s%.0lld]",
            mixt_safetensors_path(file, tensor), view->name, found, (long long)view->shape[0],
            view->rank > 1 ? "," : "", view->rank > 1 ? (long long)view->shape[1] : 0);
    }
    return mixt_safetensors_read_f32(file, tensor, 0, view->count, model->weights + view->offset,
                                     error);
}

mixt_status mixt_model_read_weights(mixt_model *model, const char *path, mixt_error *error)
{
    mixt_safetensors *file;
    mixt_tensor_view *views = NULL;
    size_t count = 0;
    mixt_status status = mixt_safetensors_open(path, &file, error);
    if (status != MIXT_OK) {
        return status;
    }
    status = mixt_model_views(model, &views, &count, error);
    for (size_t i = 0; i < count && status == MIXT_OK; i++) {
        status = read_view(model, file, &views[i], path, error);
    }
    free(views);
    mixt_safetensors_close(file);
    return status;
}

/* The files must hold as many weights as config.json asks memory for, before it is taken. */
static mixt_status check_size(const mixt_model_options *options, const char *path,
                              mixt_error *error)
{
    mixt_safetensors *file;
    mixt_status status = mixt_safetensors_open(path, &file, error);
    if (status != MIXT_OK) {
        return status;
    }
    double held = 0;
    for (size_t i = 0; i < mixt_safetensors_count(file); i++) {
        held += (double)mixt_tensor_elements(mixt_safetensors_tensor(file, i));
    }
    mixt_safetensors_close(file);
    double moe = options->experts > 0 ? (double)options->experts * options->ffn_size : 0;
    double wanted = (double)options->hidden_size *
                    ((double)options->vocab_size +
                     (double)(options->layers - options->leading_dense_layers) * 3 * moe);
    if (wanted > held) {
        return mixt_fail(error, MIXT_ERROR_FORMAT,
                         "%s: config.json asks for more than %.0f weights, the files hold %.0f",
                         path, wanted, held);
    }
    return MIXT_OK;
}

mixt_status mixt_model_open(const char *path, mixt_model **model, mixt_error *error)
{
    *model = NULL;
    if (!mixt_path_is_folder(path)) {
        return mixt_fail(
            error, mixt_path_exists(path) ? MIXT_ERROR_UNSUPPORTED : MIXT_ERROR_NOT_FOUND, "%s: %s",
            path, mixt_path_exists(path) ? "is not a Hugging Face folder" : "no such folder");
    }
    char *config = mixt_path_join(path, "config.json");
    if (config == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    }
    mixt_model_options options;
    const mixt_family *family = NULL;
    mixt_status status = mixt_model_config_read(config, &options, &family, error);
    mixt_model_options checked = options;
    if (status == MIXT_OK) {
        status = mixt_model_check(&checked, config, error);
        status = status == MIXT_ERROR_ARGUMENT ? MIXT_ERROR_FORMAT : status;
    }
    if (status == MIXT_OK) {
        status = check_size(&checked, path, error);
    }
    if (status == MIXT_OK) {
        status = mixt_model_allocate(&options, family, config, model, error);
    }
    free(config);
    if (status == MIXT_OK) {
        status = mixt_model_read_weights(*model, path, error);
    }
    if (status != MIXT_OK) {
        mixt_model_free(*model);
        *model = NULL;
    }
    return status;
}
