/* The tensors of a checkpoint and where their values lie in the blocks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/adapters.h"
#include "model/folder_spread.h"
#include "train/state.h"

const mixt_state_part mixt_state_parts[MIXT_STATE_PARTS] = {
    {MIXT_TRAIN_WEIGHTS, "", "weights"},
    {MIXT_TRAIN_FIRST_MOMENTS, "exp_avg.", "first moments"},
    {MIXT_TRAIN_SECOND_MOMENTS, "exp_avg_sq.", "second moments"},
};

/* ------------------------------------------------------------------------------------------ */
/* The list                                                                                   */

static const char *file_of(const mixt_state_tensors *list, int part, int parameter)
{
    bool adapter = mixt_slot_is_adapter(list->written.parameters[parameter].slot);
    return part != 0 ? "optimizer.safetensors"
           : adapter ? MIXT_ADAPTER_WEIGHTS
                     : "model.safetensors";
}

/* Adds tensor `index` of the folder in a part; nothing where its block does not have it (what lies
 * in one tensor is of one part of the model). */
static void add_tensor(mixt_state_tensors *list, int part, size_t index)
{
    const mixt_folder_part *first = &list->folder.parts[list->folder.first[index]];
    const mixt_layout_piece *piece = &first->piece;
    if (!mixt_train_has(list->trainer, mixt_state_parts[part].block,
                        &list->trainer->model->parameters[first->parameter])) {
        return;
    }
    char *name = list->names[list->count];
    snprintf(name, sizeof *list->names, "%s%s", mixt_state_parts[part].prefix, piece->name);
    list->numbers[list->count] = (size_t)part * list->folder.count + index;
    mixt_checkpoint_tensor *tensor = &list->tensors[list->count++];
    *tensor = (mixt_checkpoint_tensor){.file = file_of(list, part, first->parameter),
                                       .name = name,
                                       .dtype = MIXT_DTYPE_F32,
                                       .rank = (uint32_t)piece->rank};
    memcpy(tensor->shape, piece->shape, (size_t)piece->rank * sizeof *piece->shape);
}

/* The whole model, also where this rank has a share of its experts. */
static mixt_status find_whole(mixt_state_tensors *list, mixt_error *error)
{
    const mixt_model *model = list->trainer->model;
    if (model->ranks != NULL && model->ranks->expert > 1) {
        return mixt_spread_layout(model, &list->whole, &list->written, error);
    }
    return mixt_model_written(model, MIXT_FORM_FOLDER, &list->written, error);
}

mixt_status mixt_state_tensors_create(const mixt_trainer *trainer, mixt_state_tensors *list,
                                      mixt_error *error)
{
    *list = (mixt_state_tensors){.trainer = trainer};
    MIXT_TRY(find_whole(list, error));
    MIXT_TRY(mixt_folder_tensors_list(&list->written, &list->folder, error));
    MIXT_TRY(mixt_adapters_list(&list->written, &list->folder, error));
    size_t total = MIXT_STATE_PARTS * list->folder.count + 1;
    list->names = calloc(total, sizeof *list->names);
    list->copies = calloc(total, sizeof *list->copies);
    list->numbers = calloc(total, sizeof *list->numbers);
    list->tensors = calloc(total, sizeof *list->tensors);
    if (list->names == NULL || list->tensors == NULL || list->copies == NULL ||
        list->numbers == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "checkpoint: no memory");
    }
    for (int part = 0; part < MIXT_STATE_PARTS; part++) {
        MIXT_TRY(mixt_device_memory_map(mixt_train_memory(trainer, mixt_state_parts[part].block),
                                        &list->blocks[part], error));
        for (size_t i = 0; i < list->folder.count; i++) {
            add_tensor(list, part, i);
        }
    }
    return MIXT_OK;
}

void mixt_state_tensors_free(mixt_state_tensors *list, bool changed)
{
    for (int part = 0; part < MIXT_STATE_PARTS && list->trainer != NULL; part++) {
        mixt_device_memory_unmap(mixt_train_memory(list->trainer, mixt_state_parts[part].block),
                                 list->blocks[part], changed);
    }
    for (size_t i = 0; list->copies != NULL && i < list->count; i++) {
        free(list->copies[i]);
    }
    mixt_folder_tensors_free(&list->folder);
    mixt_model_free(list->whole);
    free(list->copies);
    free(list->numbers);
    free(list->names);
    free(list->tensors);
}

size_t mixt_state_tensor_parts(const mixt_state_tensors *list, size_t index,
                               const mixt_folder_part **first)
{
    const mixt_folder_tensors *folder = &list->folder;
    size_t i = list->numbers[index] % folder->count;
    *first = &folder->parts[folder->first[i]];
    return folder->first[i + 1] - folder->first[i];
}

static int part_of(const mixt_state_tensors *list, size_t index)
{
    return (int)(list->numbers[index] / list->folder.count);
}

mixt_train_range mixt_state_held(const mixt_state_tensors *list, int part, int parameter,
                                 float **values)
{
    const mixt_trainer *trainer = list->trainer;
    const mixt_parameter *p = &trainer->model->parameters[parameter];
    size_t place = mixt_train_place(trainer, mixt_state_parts[part].block, parameter);
    size_t before = mixt_train_region(trainer, parameter) == 0
                        ? 0
                        : p->count / (size_t)p->size[0] * (size_t)trainer->model->share.first;
    mixt_train_range range = {0, p->count};
    if (place == MIXT_NOWHERE) {
        *values = NULL;
        return (mixt_train_range){before, before};
    }
    if (mixt_state_parts[part].block != MIXT_TRAIN_WEIGHTS) {
        range = mixt_train_own(trainer, parameter);
    }
    *values = (float *)list->blocks[part] + place;
    return (mixt_train_range){before + range.begin, before + range.end};
}

/* ------------------------------------------------------------------------------------------ */
/* Alone                                                                                      */

/* Where a tensor lies in a block as it does in a file, whole; NULL: it does not. */
static float *plain_values(const mixt_state_tensors *list, size_t index)
{
    const mixt_folder_part *part;
    size_t count = mixt_state_tensor_parts(list, index, &part);
    float *values;
    mixt_train_range held = mixt_state_held(list, part_of(list, index), part->parameter, &values);
    size_t begin = part->piece.offset, end = begin + mixt_layout_piece_values(&part->piece);
    return count == 1 && mixt_layout_piece_is_plain(&part->piece) && values != NULL &&
                   held.begin <= begin && end <= held.end
               ? values + (begin - held.begin)
               : NULL;
}

static mixt_status fill_tensor(mixt_state_tensors *list, size_t index, mixt_error *error)
{
    const mixt_folder_part *parts;
    size_t count = mixt_state_tensor_parts(list, index, &parts);
    float *values, *data = plain_values(list, index);
    if (data == NULL) {
        data = calloc(mixt_layout_tensor_values(&parts->piece), sizeof *data);
        list->copies[index] = data;
        for (size_t j = 0; data != NULL && j < count; j++) {
            mixt_state_held(list, part_of(list, index), parts[j].parameter, &values);
            mixt_layout_scatter(&parts[j].piece, values + parts[j].piece.offset, data);
        }
    }
    list->tensors[index].data = data;
    return data != NULL ? MIXT_OK
                        : mixt_fail(error, MIXT_ERROR_MEMORY, "checkpoint: no memory for %s",
                                    list->names[index]);
}

mixt_status mixt_state_tensors_fill(mixt_state_tensors *list, mixt_error *error)
{
    for (size_t i = 0; i < list->count; i++) {
        MIXT_TRY(fill_tensor(list, i, error));
    }
    return MIXT_OK;
}

/* ------------------------------------------------------------------------------------------ */
/* Reading                                                                                    */

/* A tensor that is not read where it belongs comes here first, and from here a part of it. */
typedef struct reading {
    mixt_state_tensors *list;
    float *tensor, *values; /* of the largest */
} reading;

/* The values of a part that a block has. */
static mixt_train_range wanted(const mixt_state_tensors *list, size_t index,
                               const mixt_folder_part *part, float **to)
{
    mixt_train_range held = mixt_state_held(list, part_of(list, index), part->parameter, to);
    size_t begin = part->piece.offset, end = begin + mixt_layout_piece_values(&part->piece);
    mixt_train_range both = {held.begin > begin ? held.begin : begin,
                             held.end < end ? held.end : end};
    *to = *to != NULL && both.begin < both.end ? *to + (both.begin - held.begin) : NULL;
    return both;
}

static void take(void *user, size_t index)
{
    const reading *from = user;
    const mixt_folder_part *parts;
    size_t count = mixt_state_tensor_parts(from->list, index, &parts);
    for (size_t j = 0; from->list->tensors[index].data == from->tensor && j < count; j++) {
        float *to;
        mixt_train_range range = wanted(from->list, index, &parts[j], &to);
        if (to != NULL) {
            mixt_layout_gather(&parts[j].piece, from->tensor, from->values);
            memcpy(to, from->values + (range.begin - parts[j].piece.offset),
                   (range.end - range.begin) * sizeof *to);
        }
    }
}

/* Does a block have anything of a tensor? */
static bool is_wanted(const mixt_state_tensors *list, size_t index)
{
    const mixt_folder_part *parts;
    size_t count = mixt_state_tensor_parts(list, index, &parts);
    float *to = NULL;
    for (size_t j = 0; j < count && to == NULL; j++) {
        wanted(list, index, &parts[j], &to);
    }
    return to != NULL;
}

mixt_status mixt_state_tensors_load(mixt_state_tensors *list, const mixt_checkpoint *checkpoint,
                                    mixt_error *error)
{
    reading from = {.list = list};
    size_t largest = 0;
    for (size_t i = 0; i < list->count; i++) {
        const mixt_folder_part *part;
        mixt_state_tensor_parts(list, i, &part);
        size_t values = mixt_layout_tensor_values(&part->piece);
        bool through = plain_values(list, i) == NULL && is_wanted(list, i);
        largest = through && values > largest ? values : largest;
    }
    from.tensor = malloc((largest + 1) * sizeof *from.tensor);
    from.values = malloc((largest + 1) * sizeof *from.values);
    mixt_status status = from.tensor != NULL && from.values != NULL
                             ? MIXT_OK
                             : mixt_fail(error, MIXT_ERROR_MEMORY, "checkpoint: no memory");
    if (status == MIXT_OK) {
        for (size_t i = 0; i < list->count; i++) {
            float *data = plain_values(list, i);
            list->tensors[i].data = data != NULL ? data : is_wanted(list, i) ? from.tensor : NULL;
        }
        const mixt_checkpoint_wish wish = {list->tensors, list->count, take, &from};
        status = mixt_checkpoint_load_each(checkpoint, &wish, error);
    }
    free(from.tensor);
    free(from.values);
    return status;
}
