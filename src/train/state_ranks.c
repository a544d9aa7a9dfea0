/* A checkpoint of ranks that train together. Files hold whole tensors, whoever has their values: of
 * each the rank that has most writes it, and gets the rest from the others, one tensor after the
 * other, so that no rank needs memory for more than its share and one tensor. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/safetensors.h"
#include "model/adapters.h"
#include "train/state.h"

#define FILE_NAME 64
#define PARTS_MAX ((int64_t)64 << 20) /* bytes of what all ranks say of their files */

typedef struct saving {
    mixt_trainer *trainer;
    mixt_ranks *ranks;
    int rank, count;
    mixt_state_tensors list;
    size_t parameters;
    /* [count, MIXT_STATE_PARTS, parameters]: what each rank gives of a whole parameter; no value
     * is given by two. */
    mixt_train_range *given;
    mixt_train_range *own; /* the same of this rank */
    int *writers;          /* [list.count] */
    uint64_t *loads;       /* [count] */
    char (*files)[FILE_NAME];
    mixt_checkpoint_tensor *mine; /* tensors that this rank writes */
    size_t mine_count;
    /* For the largest of them. */
    float *tensor, *values, *received;
    size_t *send_bytes, *receive_bytes; /* [count] */
    char *folder;
    mixt_checkpoint_part *part;
    mixt_buffer index; /* model.safetensors.index.json, of rank 0 */
} saving;

static mixt_status no_memory(mixt_error *error)
{
    return mixt_fail(error, MIXT_ERROR_MEMORY, "checkpoint: no memory");
}

/* ------------------------------------------------------------------------------------------ */
/* Who has what                                                                               */

/* Weights that several ranks have come from the first of them. */
static mixt_train_range own_range(const saving *s, int part, int parameter)
{
    float *values;
    mixt_train_range range = mixt_state_held(&s->list, part, parameter, &values);
    bool copy =
        mixt_train_region(s->trainer, parameter) == 0 ? s->rank > 0 : s->rank >= s->ranks->expert;
    if (values == NULL || (mixt_state_parts[part].block == MIXT_TRAIN_WEIGHTS && copy)) {
        range.end = range.begin;
    }
    return range;
}

static const mixt_train_range *given_by(const saving *s, int rank, int part, int parameter)
{
    size_t row = (size_t)rank * MIXT_STATE_PARTS + (size_t)part;
    return &s->given[row * s->parameters + (size_t)parameter];
}

static mixt_status allocate(saving *s, mixt_error *error)
{
    size_t ranks = (size_t)s->count, rows = MIXT_STATE_PARTS * s->parameters;
    s->own = calloc(rows, sizeof *s->own);
    s->given = calloc(ranks * rows, sizeof *s->given);
    s->writers = calloc(s->list.count + 1, sizeof *s->writers);
    s->loads = calloc(ranks, sizeof *s->loads);
    s->files = calloc(2 * ranks, sizeof *s->files);
    s->mine = calloc(s->list.count + 1, sizeof *s->mine);
    s->send_bytes = calloc(ranks, sizeof *s->send_bytes);
    s->receive_bytes = calloc(ranks, sizeof *s->receive_bytes);
    s->folder = mixt_checkpoint_unfinished(s->trainer->folder, s->trainer->counters.step);
    if (s->own == NULL || s->given == NULL || s->writers == NULL || s->loads == NULL ||
        s->files == NULL || s->mine == NULL || s->send_bytes == NULL || s->receive_bytes == NULL ||
        s->folder == NULL) {
        return no_memory(error);
    }
    for (int part = 0; part < MIXT_STATE_PARTS; part++) {
        for (size_t i = 0; i < s->parameters; i++) {
            s->own[(size_t)part * s->parameters + i] = own_range(s, part, (int)i);
        }
    }
    return MIXT_OK;
}

/* Together all ranks give every value once; else nothing of it may be trusted as a place. */
static mixt_status check_given(const saving *s, mixt_error *error)
{
    for (size_t i = 0; i < s->list.count; i++) {
        const mixt_folder_part *part;
        mixt_state_tensor_parts(&s->list, i, &part);
        int which = (int)(s->list.numbers[i] / s->list.folder.count);
        size_t whole = s->list.written.parameters[part->parameter].count, sum = 0;
        for (int rank = 0; rank < s->count; rank++) {
            const mixt_train_range *given = given_by(s, rank, which, part->parameter);
            if (given->begin > given->end || given->end > whole) {
                sum = SIZE_MAX;
                break;
            }
            sum += given->end - given->begin;
        }
        if (sum != whole) {
            return mixt_fail(error, MIXT_ERROR_FORMAT,
                             "checkpoint: the ranks do not have %s together",
                             s->list.tensors[i].name);
        }
    }
    return MIXT_OK;
}

/* Values of a part of a tensor that a rank gives. */
static mixt_train_range part_given(const saving *s, size_t index, const mixt_folder_part *part,
                                   int rank)
{
    int which = (int)(s->list.numbers[index] / s->list.folder.count);
    const mixt_train_range *given = given_by(s, rank, which, part->parameter);
    size_t begin = part->piece.offset, end = begin + mixt_layout_piece_values(&part->piece);
    mixt_train_range both = {given->begin > begin ? given->begin : begin,
                             given->end < end ? given->end : end};
    return both.begin < both.end ? both : (mixt_train_range){begin, begin};
}

/* ------------------------------------------------------------------------------------------ */
/* Who writes what                                                                            */

/* Adapters are read from one file alone. */
static bool in_one_file(const saving *s, size_t index)
{
    return strcmp(s->list.tensors[index].file, MIXT_ADAPTER_WEIGHTS) == 0;
}

/* The rank that has most of a tensor; of equal ones the first. */
static int writer_of(const saving *s, size_t index)
{
    const mixt_folder_part *parts;
    size_t count = mixt_state_tensor_parts(&s->list, index, &parts), most = 0;
    int writer = 0;
    for (int rank = 0; rank < s->count && !in_one_file(s, index); rank++) {
        size_t values = 0;
        for (size_t j = 0; j < count; j++) {
            mixt_train_range range = part_given(s, index, &parts[j], rank);
            values += range.end - range.begin;
        }
        writer = values > most ? rank : writer;
        most = values > most ? values : most;
    }
    return writer;
}

/* Files of a set, [first, end) of the list, are numbered among the ranks that have one. */
static void name_files(saving *s, size_t first, size_t end)
{
    const char *set = s->list.tensors[first].file;
    int writers = 0, number = 0;
    char(*files)[FILE_NAME] = s->files + (strncmp(set, "optimizer", 9) == 0 ? s->count : 0);
    memset(s->loads, 0, (size_t)s->count * sizeof *s->loads);
    for (size_t i = first; i < end; i++) {
        s->loads[s->writers[i]]++;
    }
    for (int rank = 0; rank < s->count; rank++) {
        writers += s->loads[rank] > 0;
    }
    for (int rank = 0; rank < s->count && writers > 1; rank++) {
        number += s->loads[rank] > 0;
        snprintf(files[rank], FILE_NAME, "%.*s-%05d-of-%05d.safetensors", (int)strcspn(set, "."),
                 set, number, writers);
    }
    for (size_t i = first; i < end && writers > 1; i++) {
        s->list.tensors[i].file = files[s->writers[i]];
    }
}

/* model.safetensors.index.json, where several ranks write the model. */
static mixt_status write_index(saving *s, mixt_error *error)
{
    size_t count = 0;
    uint64_t bytes = 0;
    mixt_tensor_place *places = calloc(s->list.count + 1, sizeof *places);
    if (places == NULL) {
        return no_memory(error);
    }
    for (; count < s->list.count && strncmp(s->list.tensors[count].file, "model", 5) == 0;
         count++) {
        const mixt_checkpoint_tensor *tensor = &s->list.tensors[count];
        const mixt_folder_part *part;
        mixt_state_tensor_parts(&s->list, count, &part);
        places[count] = (mixt_tensor_place){tensor->name, tensor->file};
        bytes += mixt_layout_tensor_values(&part->piece) * sizeof(float);
    }
    if (count > 0 && strcmp(places[0].file, "model.safetensors") != 0) {
        mixt_safetensors_index(places, count, bytes, &s->index);
    }
    free(places);
    return s->index.failed ? no_memory(error) : MIXT_OK;
}

static mixt_status deal(saving *s, mixt_error *error)
{
    size_t largest = 0, part_values = 0;
    for (size_t i = 0; i < s->list.count; i++) {
        s->writers[i] = writer_of(s, i);
    }
    for (size_t i = 0, end; i < s->list.count; i = end) {
        const char *set = s->list.tensors[i].file;
        for (end = i; end < s->list.count && strcmp(s->list.tensors[end].file, set) == 0; end++) {
        }
        name_files(s, i, end);
    }
    for (size_t i = 0; i < s->list.count; i++) {
        const mixt_folder_part *parts;
        size_t count = mixt_state_tensor_parts(&s->list, i, &parts);
        if (s->writers[i] == s->rank) {
            s->mine[s->mine_count++] = s->list.tensors[i];
            size_t values = mixt_layout_tensor_values(&parts->piece);
            largest = values > largest ? values : largest;
        }
        for (size_t j = 0; j < count && s->writers[i] == s->rank; j++) {
            size_t values = mixt_layout_piece_values(&parts[j].piece);
            part_values = values > part_values ? values : part_values;
        }
    }
    s->tensor = malloc((largest + 1) * sizeof *s->tensor);
    s->values = malloc((part_values + 1) * sizeof *s->values);
    s->received = malloc((part_values + 1) * sizeof *s->received);
    return s->tensor != NULL && s->values != NULL && s->received != NULL ? MIXT_OK
                                                                         : no_memory(error);
}

/* ------------------------------------------------------------------------------------------ */
/* Bringing together                                                                          */

/* Values of a part of a tensor, at its writer: where they lie, or brought together in `values`. */
static mixt_status bring_part(saving *s, size_t index, const mixt_folder_part *part, float **at,
                              mixt_error *error)
{
    int which = (int)(s->list.numbers[index] / s->list.folder.count), writer = s->writers[index];
    size_t begin = part->piece.offset, whole = mixt_layout_piece_values(&part->piece);
    float *own;
    mixt_train_range held = mixt_state_held(&s->list, which, part->parameter, &own);
    mixt_train_range mine = part_given(s, index, part, s->rank);
    mixt_train_range writers = part_given(s, index, part, writer);
    own = mine.begin < mine.end ? own + (mine.begin - held.begin) : NULL;
    *at = own;
    if (writers.end - writers.begin == whole) {
        return MIXT_OK;
    }
    for (int rank = 0; rank < s->count; rank++) {
        mixt_train_range range = part_given(s, index, part, rank);
        bool sends = rank == writer && s->rank != writer;
        bool receives = rank != writer && s->rank == writer;
        s->send_bytes[rank] = sends ? (mine.end - mine.begin) * sizeof *own : 0;
        s->receive_bytes[rank] = receives ? (range.end - range.begin) * sizeof *own : 0;
    }
    mixt_exchange exchange = {MIXT_GROUP_ALL, own, s->send_bytes, s->received, s->receive_bytes};
    MIXT_TRY(mixt_ranks_exchange(s->ranks, &exchange, error));
    const float *from = s->received;
    for (int rank = 0; rank < s->count && s->rank == writer; rank++) {
        mixt_train_range range = part_given(s, index, part, rank);
        size_t count = range.end - range.begin;
        if (count > 0) {
            memcpy(s->values + (range.begin - begin), rank == writer ? own : from,
                   count * sizeof *own);
        }
        from += rank == writer ? 0 : count;
    }
    *at = s->values;
    return MIXT_OK;
}

/* Tensor `index` comes to its writer, who writes it. */
static mixt_status bring(saving *s, size_t index, mixt_error *error)
{
    const mixt_folder_part *parts;
    size_t count = mixt_state_tensor_parts(&s->list, index, &parts);
    const mixt_layout_piece *piece = &parts->piece;
    bool plain = count == 1 && mixt_layout_piece_is_plain(piece);
    bool writes = s->writers[index] == s->rank;
    float *at = NULL;
    if (writes && !plain) {
        memset(s->tensor, 0, mixt_layout_tensor_values(piece) * sizeof *s->tensor);
    }
    for (size_t j = 0; j < count; j++) {
        MIXT_TRY(bring_part(s, index, &parts[j], &at, error));
        if (writes && !plain) {
            mixt_layout_scatter(&parts[j].piece, at, s->tensor);
        }
    }
    if (writes) {
        mixt_checkpoint_part_add(s->part, plain ? at : s->tensor);
    }
    return MIXT_OK;
}

/* What all ranks say of their files, at rank 0: texts[rank]. */
static mixt_status gather_texts(saving *s, const mixt_buffer *mine, mixt_checkpoint_file *texts,
                                char **all, mixt_error *error)
{
    int64_t own = (int64_t)mine->length, total = 0;
    int64_t *sizes = calloc((size_t)s->count, sizeof *sizes);
    mixt_status status =
        mixt_ranks_agree(s->ranks, sizes != NULL ? MIXT_OK : no_memory(error), error);
    if (status == MIXT_OK) {
        status = mixt_ranks_gather(s->ranks, MIXT_GROUP_ALL, &own, sizeof own, sizes, error);
    }
    for (int rank = 0; rank < s->count && status == MIXT_OK; rank++) {
        bool fits = sizes[rank] >= 0 && sizes[rank] <= PARTS_MAX - total;
        total += fits ? sizes[rank] : 0;
        status = fits ? MIXT_OK
                      : mixt_fail(error, MIXT_ERROR_FORMAT,
                                  "checkpoint: the ranks say too much of their files");
    }
    if (status == MIXT_OK) { /* all found the same until here */
        *all = s->rank == 0 ? malloc((size_t)total + 1) : NULL;
        status = s->rank == 0 && *all == NULL ? no_memory(error) : MIXT_OK;
        status = mixt_ranks_agree(s->ranks, status, error);
    }
    if (status == MIXT_OK) {
        const char *at = *all;
        for (int rank = 0; rank < s->count; rank++) {
            s->send_bytes[rank] = rank == 0 ? (size_t)own : 0;
            s->receive_bytes[rank] = s->rank == 0 ? (size_t)sizes[rank] : 0;
            texts[rank] = (mixt_checkpoint_file){NULL, at, (size_t)sizes[rank]};
            at = at != NULL ? at + sizes[rank] : NULL;
        }
        mixt_exchange exchange = {MIXT_GROUP_ALL, mine->data, s->send_bytes, *all,
                                  s->receive_bytes};
        status = mixt_ranks_exchange(s->ranks, &exchange, error);
    }
    free(sizes);
    return status;
}

mixt_status mixt_state_meet(mixt_ranks *ranks, mixt_error *error)
{
    int64_t word = 0;
    return (mixt_ranks_rank(ranks) == 0 ? mixt_ranks_share : mixt_ranks_await)(ranks, &word,
                                                                               sizeof word, error);
}

/* Behind the last tensor: all files are there and synced, so rank 0 makes a checkpoint of them. */
static mixt_status publish(saving *s, const mixt_state_files *files, mixt_error *error)
{
    mixt_buffer text = {0};
    char *all = NULL;
    mixt_checkpoint_file *texts = calloc((size_t)s->count, sizeof *texts);
    mixt_status status =
        texts != NULL ? mixt_checkpoint_part_finish(s->part, &text, error) : no_memory(error);
    status = mixt_ranks_agree(s->ranks, status, error);
    if (status == MIXT_OK) {
        status = gather_texts(s, &text, texts, &all, error);
    }
    if (status == MIXT_OK) {
        mixt_checkpoint_file index = {"model.safetensors.index.json", s->index.data,
                                      s->index.length};
        mixt_checkpoint_state state = {.step = s->trainer->counters.step,
                                       .config_hash = files->config_hash,
                                       .files = &index,
                                       .file_count = s->index.length > 0 ? 1 : 0,
                                       .parts = texts,
                                       .part_count = (size_t)s->count};
        status = s->rank == 0 ? files->save(files->user, &state, error) : MIXT_OK;
        mixt_status met = mixt_state_meet(s->ranks, error);
        status = met == MIXT_OK ? mixt_ranks_agree(s->ranks, status, error) : met;
    }
    mixt_buffer_free(&text);
    free(texts);
    free(all);
    return status;
}

static mixt_status begin(saving *s, const mixt_state_files *files, mixt_error *error)
{
    MIXT_TRY(check_given(s, error));
    MIXT_TRY(deal(s, error));
    const mixt_checkpoint_part_of of = {s->folder, s->trainer->counters.step, files->config_hash,
                                        s->mine, s->mine_count};
    MIXT_TRY(mixt_checkpoint_part_create(&of, &s->part, error));
    if (s->rank != 0) {
        return MIXT_OK;
    }
    MIXT_TRY(write_index(s, error));
    return mixt_checkpoints_begin(s->trainer->store, s->trainer->counters.step, error);
}

static void free_saving(saving *s)
{
    mixt_checkpoint_part_free(s->part);
    mixt_state_tensors_free(&s->list, false);
    mixt_buffer_free(&s->index);
    free(s->own);
    free(s->given);
    free(s->writers);
    free(s->loads);
    free(s->files);
    free(s->mine);
    free(s->tensor);
    free(s->values);
    free(s->received);
    free(s->send_bytes);
    free(s->receive_bytes);
    free(s->folder);
}

mixt_status mixt_state_save_together(mixt_trainer *trainer, const mixt_state_files *files,
                                     mixt_status prepared, mixt_error *error)
{
    saving s = {.trainer = trainer,
                .ranks = trainer->ranks,
                .rank = mixt_ranks_rank(trainer->ranks),
                .count = mixt_ranks_count(trainer->ranks),
                .parameters = (size_t)trainer->model->parameter_count};
    mixt_status status = prepared;
    if (status == MIXT_OK) {
        status = mixt_state_tensors_create(trainer, &s.list, error);
    }
    if (status == MIXT_OK) {
        status = allocate(&s, error);
    }
    status = mixt_ranks_agree(s.ranks, status, error);
    if (status == MIXT_OK) {
        status = mixt_ranks_gather(s.ranks, MIXT_GROUP_ALL, s.own,
                                   MIXT_STATE_PARTS * s.parameters * sizeof *s.own, s.given, error);
    }
    bool gathered = status == MIXT_OK;
    if (gathered) {
        status = mixt_ranks_agree(s.ranks, begin(&s, files, error), error);
    }
    for (size_t i = 0; i < s.list.count && status == MIXT_OK; i++) {
        status = bring(&s, i, error);
    }
    if (status == MIXT_OK) {
        status = publish(&s, files, error);
    }
    free_saving(&s); /* before the folder goes */
    if (status != MIXT_OK && gathered && s.rank == 0) {
        mixt_checkpoints_abandon(trainer->store, trainer->counters.step);
    }
    return status;
}
