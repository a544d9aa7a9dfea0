/* Writing models as Hugging Face folders: config.json, generation_config.json and safetensors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/files.h"
#include "formats/safetensors.h"
#include "model/adapters.h"
#include "model/folder_spread.h"
#include "model/peft.h"

/* A spread model that rank 0 saves, to whom the others send their experts. */
typedef struct spread_saving {
    const mixt_model *model;
    int begun; /* lists of tensors for which the others were told to send */
} spread_saving;

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

void mixt_folder_tensors_free(mixt_folder_tensors *list)
{
    free(list->parts);
    free(list->first);
    *list = (mixt_folder_tensors){0};
}

/* 0 where the family has no name for it, and of adapters, which are in files of their own. */
static int count_pieces(const mixt_model *model, int parameter)
{
    const mixt_parameter *p = &model->parameters[parameter];
    const mixt_tensor_row *row = mixt_family_row(model->family, p->slot, MIXT_FORM_FOLDER, NULL);
    return row == NULL ? 0 : mixt_layout_piece_count(model, p, row, MIXT_FORM_FOLDER);
}

/* Parts of one tensor come together. */
static int by_tensor(const void *left, const void *right)
{
    const mixt_folder_part *a = left, *b = right;
    int order = strcmp(a->piece.name, b->piece.name);
    return order != 0 ? order : a->parameter - b->parameter;
}

mixt_status mixt_folder_tensors_list(const mixt_model *model, mixt_folder_tensors *list,
                                     mixt_error *error)
{
    size_t total = 0;
    *list = (mixt_folder_tensors){0};
    for (int i = 0; i < model->parameter_count; i++) {
        int pieces = count_pieces(model, i);
        if (pieces == 0 && !mixt_slot_is_adapter(model->parameters[i].slot)) {
            return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                             "model: %s has no name in folders of this family",
                             model->parameters[i].name);
        }
        total += (size_t)pieces;
    }
    list->parts = calloc(total, sizeof *list->parts);
    list->first = calloc(total + 1, sizeof *list->first);
    if (list->parts == NULL || list->first == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "model: no memory");
    }
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        const mixt_tensor_row *row =
            mixt_family_row(model->family, p->slot, MIXT_FORM_FOLDER, NULL);
        for (int k = 0; k < count_pieces(model, i); k++) {
            mixt_folder_part *to = &list->parts[list->part_count++];
            to->parameter = i;
            mixt_layout_piece_get(model, p, row, MIXT_FORM_FOLDER, k, &to->piece);
        }
    }
    qsort(list->parts, list->part_count, sizeof *list->parts, by_tensor);
    for (size_t i = 0; i < list->part_count; i++) {
        if (i == 0 || strcmp(list->parts[i].piece.name, list->parts[i - 1].piece.name) != 0) {
            list->first[list->count++] = i;
        }
    }
    list->first[list->count] = list->part_count;
    return MIXT_OK;
}

/* Tensor `index` of the list. */
static mixt_status write_tensor(const mixt_model *model, const mixt_folder_tensors *list,
                                size_t index, mixt_safetensors_writer *writer, mixt_error *error)
{
    const mixt_folder_part *parts = &list->parts[list->first[index]];
    size_t count = list->first[index + 1] - list->first[index];
    const mixt_layout_piece *piece = &parts->piece;
    if (count == 1 && mixt_layout_piece_is_plain(piece)) {
        return write_piece(model, parts->parameter, piece->offset, mixt_layout_piece_values(piece),
                           writer, error);
    }
    size_t total = mixt_layout_tensor_values(piece);
    float *tensor = calloc(total, sizeof *tensor), *values = calloc(total, sizeof *values);
    mixt_status status =
        tensor != NULL && values != NULL
            ? MIXT_OK
            : mixt_fail(error, MIXT_ERROR_MEMORY, "model: no memory for %s", piece->name);
    for (size_t i = 0; i < count && status == MIXT_OK; i++) {
        mixt_model_values(model, parts[i].parameter, parts[i].piece.offset,
                          mixt_layout_piece_values(&parts[i].piece), values);
        mixt_layout_scatter(&parts[i].piece, values, tensor);
    }
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_write(writer, tensor, total * sizeof *tensor, error);
    }
    free(tensor);
    free(values);
    return status;
}

typedef struct sink_of {
    const mixt_folder_tensors *list;
    mixt_safetensors_writer *writer;
} sink_of;

static mixt_status take_tensor(void *user, size_t index, const float *tensor, mixt_error *error)
{
    const sink_of *sink = user;
    const mixt_layout_piece *piece = &sink->list->parts[sink->list->first[index]].piece;
    return mixt_safetensors_writer_write(sink->writer, tensor,
                                         mixt_layout_tensor_values(piece) * sizeof *tensor, error);
}

/* The others are told, and send what they have. */
static mixt_status write_spread(spread_saving *spread, const mixt_folder_tensors *list,
                                mixt_safetensors_writer *writer, mixt_error *error)
{
    int64_t begun = 1;
    sink_of sink = {list, writer};
    spread->begun++;
    MIXT_TRY(mixt_ranks_share(spread->model->ranks, &begun, sizeof begun, error));
    MIXT_TRY(mixt_ranks_agree(spread->model->ranks, MIXT_OK, error));
    return mixt_spread_bring(spread->model, list, take_tensor, &sink, error);
}

/* A file with the tensors of a list. `over` (may be NULL): a folder whose adapter is of the weights
 * that this file takes the place of. Its config goes just before: killed then, the folder has half
 * an adapter and is refused, and never an adapter over other weights than its own. */
static mixt_status write_list(const mixt_model *model, const mixt_folder_tensors *list,
                              const char *path, const char *over, spread_saving *spread,
                              mixt_error *error)
{
    mixt_safetensors_writer *writer = NULL;
    mixt_status status = mixt_safetensors_writer_create(path, 0, &writer, error);
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_metadata(writer, "format", "pt", error);
    }
    for (size_t i = 0; i < list->count && status == MIXT_OK; i++) {
        const mixt_layout_piece *piece = &list->parts[list->first[i]].piece;
        status = mixt_safetensors_writer_add(writer, piece->name, MIXT_DTYPE_F32,
                                             (uint32_t)piece->rank, piece->shape, error);
    }
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_begin(writer, error);
    }
    if (status == MIXT_OK && spread != NULL) {
        status = write_spread(spread, list, writer, error);
    }
    for (size_t i = 0; i < list->count && status == MIXT_OK && spread == NULL; i++) {
        status = write_tensor(model, list, i, writer, error);
    }
    if (status == MIXT_OK) {
        status = mixt_model_intact(model, error);
    }
    if (status == MIXT_OK && over != NULL) {
        status = mixt_file_remove_in(over, MIXT_ADAPTER_CONFIG, error);
    }
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_finish(writer, error);
    }
    mixt_safetensors_writer_free(writer);
    return status;
}

/* The family's tensors, or the adapters', into `folder`. */
static mixt_status write_weights(const mixt_model *model, const char *folder, bool adapters,
                                 spread_saving *spread, mixt_error *error)
{
    mixt_folder_tensors list = {0};
    char *path = mixt_path_join(folder, adapters ? MIXT_ADAPTER_WEIGHTS : "model.safetensors");
    mixt_status status =
        path != NULL ? MIXT_OK : mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", folder);
    if (status == MIXT_OK) {
        status = adapters ? mixt_adapters_list(model, &list, error)
                          : mixt_folder_tensors_list(model, &list, error);
    }
    if (status == MIXT_OK) {
        status = write_list(model, &list, path, adapters ? NULL : folder, spread, error);
    }
    mixt_folder_tensors_free(&list);
    free(path);
    return status;
}

/* The adapters' files. What is left of those of a model that was here before goes. */
static mixt_status write_adapters(const mixt_model *written, const char *folder,
                                  spread_saving *spread, mixt_error *error)
{
    char *text = NULL;
    if (written->adapters == NULL) {
        return mixt_file_remove_in(folder, MIXT_ADAPTER_WEIGHTS, error);
    }
    MIXT_TRY(write_weights(written, folder, true, spread, error));
    MIXT_TRY(mixt_adapters_config_text(written, &text, error));
    mixt_status status =
        mixt_file_replace_in(folder, MIXT_ADAPTER_CONFIG, text, strlen(text), error);
    free(text);
    return status;
}

static mixt_status save(const mixt_model *model, const char *folder, spread_saving *spread,
                        mixt_error *error)
{
    char *config = NULL, *generation = NULL;
    mixt_model *whole = NULL, written;
    mixt_status status = spread != NULL
                             ? mixt_spread_layout(model, &whole, &written, error)
                             : mixt_model_written(model, MIXT_FORM_FOLDER, &written, error);
    if (status == MIXT_OK) {
        status = mixt_folder_create(folder, error);
    }
    if (status == MIXT_OK) {
        status = mixt_peft_check_output(folder, error);
    }
    if (status == MIXT_OK) {
        status = mixt_model_config_text(&written, &config, error);
    }
    if (status == MIXT_OK) {
        status = mixt_model_generation_text(model, &generation, error);
    }
    if (status == MIXT_OK) {
        status = write_weights(&written, folder, false, spread, error);
    }
    if (status == MIXT_OK) {
        status = write_adapters(&written, folder, spread, error);
    }
    if (status == MIXT_OK) {
        status = mixt_file_replace_in(folder, "generation_config.json", generation,
                                      strlen(generation), error);
    }
    if (status == MIXT_OK) { /* last: a folder with it is complete */
        status = mixt_file_replace_in(folder, "config.json", config, strlen(config), error);
    }
    mixt_model_free(whole);
    free(config);
    free(generation);
    return status;
}

/* Rank 0 saves, and the others send it their experts. */
static mixt_status save_together(const mixt_model *model, const char *folder, mixt_error *error)
{
    spread_saving spread = {model, 0};
    int64_t done = 0;
    mixt_error lost = MIXT_ERROR_INIT;
    mixt_status status;
    if (mixt_ranks_rank(model->ranks) == 0) {
        status = save(model, folder, &spread, error);
        if (spread.begun < mixt_spread_lists(model)) {
            (void)mixt_ranks_share(model->ranks, &done, sizeof done, &lost);
        }
        (void)mixt_ranks_share(model->ranks, &done, sizeof done, &lost); /* who is lost says so */
    } else {
        status = mixt_spread_serve(model, error);
        (void)mixt_ranks_await(model->ranks, &done, sizeof done, &lost);
    }
    return mixt_ranks_agree(model->ranks, status, error);
}

mixt_status mixt_model_save(const mixt_model *model, const char *folder, mixt_error *error)
{
    if (model->held != NULL) { /* rank 0 runs it alone */
        MIXT_TRY(mixt_model_refuse_spread(model, "saved", error));
    }
    return model->ranks != NULL && model->ranks->expert > 1 ? save_together(model, folder, error)
                                                            : save(model, folder, NULL, error);
}
