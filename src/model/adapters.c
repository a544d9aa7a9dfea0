#include "model/adapters.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/random.h"
#include "core/utf8.h"
#include "formats/json.h"
#include "model/storage.h"

#define TARGETS 3

static const struct {
    int target;
    mixt_slot slot, a, b;
} targets[TARGETS] = {
    {MIXT_LORA_GATE, MIXT_SLOT_EXPERT_GATE, MIXT_SLOT_EXPERT_GATE_A, MIXT_SLOT_EXPERT_GATE_B},
    {MIXT_LORA_UP, MIXT_SLOT_EXPERT_UP, MIXT_SLOT_EXPERT_UP_A, MIXT_SLOT_EXPERT_UP_B},
    {MIXT_LORA_DOWN, MIXT_SLOT_EXPERT_DOWN, MIXT_SLOT_EXPERT_DOWN_A, MIXT_SLOT_EXPERT_DOWN_B},
};

mixt_slot mixt_adapter_a(mixt_slot slot)
{
    for (int i = 0; i < TARGETS; i++) {
        if (targets[i].slot == slot) {
            return targets[i].a;
        }
    }
    return MIXT_SLOT_COUNT;
}

mixt_slot mixt_adapter_b(mixt_slot slot)
{
    for (int i = 0; i < TARGETS; i++) {
        if (targets[i].slot == slot) {
            return targets[i].b;
        }
    }
    return MIXT_SLOT_COUNT;
}

/* ------------------------------------------------------------------------------------------ */
/* Adding                                                                                     */

/* The pattern of an expert matrix's module in folders of this family, without ".weight"; false
 * where it is none by itself. */
static bool module_pattern(const mixt_model *written, mixt_slot slot, char pattern[112])
{
    static const char end[] = ".weight";
    const mixt_tensor_row *row = mixt_family_row(written->family, slot, MIXT_FORM_FOLDER, NULL);
    size_t length = row != NULL && row->hf != NULL ? strlen(row->hf) : 0;
    if (length < sizeof end || length >= 112 || row->hf_layout != MIXT_LAYOUT_PLAIN ||
        strstr(row->hf, "{E}") == NULL || strcmp(row->hf + length + 1 - sizeof end, end) != 0) {
        return false;
    }
    snprintf(pattern, 112, "%.*s", (int)(length + 1 - sizeof end), row->hf);
    return true;
}

mixt_status mixt_adapters_check(const mixt_model *model, const mixt_adapters *adapters,
                                mixt_error *error)
{
    const mixt_model_options *o = &model->options;
    int side = o->ffn_size < o->hidden_size ? o->ffn_size : o->hidden_size;
    char pattern[112];
    mixt_model written;
    if (o->experts == 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "training: lora_rank: adapters are of experts, and the model is dense");
    }
    if (adapters->rank > side) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "training: lora_rank %d is more than %d, the smaller side of an expert's "
                         "matrices",
                         adapters->rank, side);
    }
    size_t length = adapters->base != NULL ? strlen(adapters->base) : 0;
    if (length > 0 && mixt_utf8_valid_prefix(adapters->base, length) != length) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "training: lora_base is not UTF-8");
    }
    MIXT_TRY(mixt_model_written(model, MIXT_FORM_FOLDER, &written, error));
    for (int i = 0; i < TARGETS; i++) {
        if (!module_pattern(&written, targets[i].slot, pattern)) {
            return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                             "training: lora_rank: folders of the family %s hold the experts of a "
                             "layer together, and adapters need a module for each",
                             written.family->name);
        }
    }
    return MIXT_OK;
}

/* A and B of the matrices that have some, layer by layer. */
static mixt_status append(mixt_model *model, const mixt_model *written,
                          const mixt_adapters *adapters, mixt_error *error)
{
    for (int i = 0; i < model->options.layers * TARGETS * 2; i++) {
        int layer = i / (TARGETS * 2), target = i / 2 % TARGETS;
        bool first = i % 2 == 0;
        int index = mixt_model_find(model, targets[target].slot, layer);
        if (index < 0 || (targets[target].target & adapters->targets) == 0) {
            continue;
        }
        const int64_t *size = model->parameters[index].size;
        const int64_t of_a[] = {size[0], adapters->rank, size[2]};
        const int64_t of_b[] = {size[0], size[1], adapters->rank};
        char pattern[112], name[160];
        mixt_parameter *p = mixt_parameters_append(
            model, first ? targets[target].a : targets[target].b, layer, 3, first ? of_a : of_b);
        if (p == NULL || !module_pattern(written, targets[target].slot, pattern)) {
            return mixt_fail(error, MIXT_ERROR_MEMORY,
                             "training: lora_rank: more weights than memory can hold");
        }
        snprintf(name, sizeof name, MIXT_ADAPTER_PREFIX "%s%s", pattern,
                 first ? MIXT_ADAPTER_A : MIXT_ADAPTER_B);
        mixt_put_layer(name, layer, p->name, sizeof p->name);
    }
    return MIXT_OK;
}

/* A as torch's linear layers begin (kaiming_uniform with a = sqrt(5)), B zero. A spread model has
 * the numbers that its experts would have in the whole one. */
static void begin(mixt_model *model, uint64_t seed)
{
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        if (!mixt_slot_is_adapter(p->slot)) {
            continue;
        }
        bool a = p->slot == MIXT_SLOT_EXPERT_GATE_A || p->slot == MIXT_SLOT_EXPERT_UP_A ||
                 p->slot == MIXT_SLOT_EXPERT_DOWN_A;
        double bound = a ? 1 / sqrt((double)p->size[2]) : 0;
        mixt_random_key key = {seed, MIXT_RANDOM_ADAPTERS, (uint32_t)i};
        size_t before = p->count / (size_t)p->size[0] * (size_t)model->share.first;
        for (size_t k = 0; k < p->count; k++) {
            model->weights[p->offset + k] =
                a ? (float)(bound * (2 * mixt_random_uniform(&key, before + k) - 1)) : 0.0f;
        }
    }
}

/* A larger block with what the old one holds, or the first one. */
static mixt_status grow(mixt_model *model, size_t old_count, mixt_error *error)
{
    if (model->weights == NULL) {
        return mixt_model_load(model, error);
    }
    size_t bytes = model->weight_count * sizeof(float);
    float *block = mixt_block_allocate(bytes);
    if (block == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY,
                         "training: no memory for %.1f GB of weights and adapters",
                         (double)bytes / 1e9);
    }
    memcpy(block, mixt_model_block(model), old_count * sizeof(float));
    mixt_block_free(model->weights, old_count * sizeof(float));
    model->weights = block;
    return MIXT_OK;
}

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static mixt_status compare(const mixt_adapters *has, const mixt_adapters *wanted, mixt_error *error)
{
    bool same = has->rank == wanted->rank && has->alpha == wanted->alpha &&
                has->targets == wanted->targets && same_text(has->base, wanted->base);
    return same ? MIXT_OK
                : mixt_fail(error, MIXT_ERROR_ARGUMENT,
                            "training: lora_rank: the model has other adapters, of rank %d",
                            has->rank);
}

/* Room for the new parameters, and their record. */
static mixt_status make_room(mixt_model *model, const mixt_adapters *adapters, mixt_error *error)
{
    size_t most = (size_t)model->parameter_count + (size_t)model->options.layers * TARGETS * 2;
    mixt_adapters *record = malloc(sizeof *record);
    mixt_parameter *parameters = realloc(model->parameters, most * sizeof *parameters);
    model->parameters = parameters != NULL ? parameters : model->parameters;
    mixt_held *held = model->held != NULL ? realloc(model->held, most * sizeof *held) : NULL;
    char *base = adapters->base != NULL ? strdup(adapters->base) : NULL;
    if (held != NULL) {
        memset(held + model->parameter_count, 0,
               (most - (size_t)model->parameter_count) * sizeof *held);
    }
    bool good = record != NULL && parameters != NULL && (model->held == NULL || held != NULL) &&
                (adapters->base == NULL || base != NULL);
    model->held = held != NULL ? held : model->held;
    if (!good) {
        free(record);
        free(base);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "training: no memory");
    }
    *record = *adapters;
    record->base = base;
    model->adapters = record;
    return MIXT_OK;
}

/* Their parameters, with weights or without. */
static mixt_status add(mixt_model *model, const mixt_adapters *adapters, bool weights,
                       mixt_error *error)
{
    int count = model->parameter_count;
    size_t values = model->weight_count;
    mixt_model written;
    MIXT_TRY(mixt_model_written(model, MIXT_FORM_FOLDER, &written, error));
    MIXT_TRY(make_room(model, adapters, error));
    mixt_status status = append(model, &written, adapters, error);
    if (status == MIXT_OK && weights) {
        status = grow(model, values, error);
    }
    if (status != MIXT_OK) {
        model->parameter_count = count;
        model->weight_count = values;
        mixt_adapters_free(model);
    }
    return status;
}

mixt_status mixt_adapters_add(mixt_model *model, const mixt_adapters *adapters, uint64_t seed,
                              mixt_error *error)
{
    if (model->adapters != NULL) {
        return compare(model->adapters, adapters, error);
    }
    MIXT_TRY(add(model, adapters, true, error));
    begin(model, seed);
    return MIXT_OK;
}

mixt_status mixt_adapters_lay_out(mixt_model *layout, const mixt_adapters *adapters,
                                  mixt_error *error)
{
    return add(layout, adapters, false, error);
}

void mixt_adapters_free(mixt_model *model)
{
    if (model->adapters != NULL) {
        free(model->adapters->base);
        free(model->adapters);
        model->adapters = NULL;
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Files                                                                                      */

/* An expert's part of a parameter as a tensor of its own. */
static void put_piece(const mixt_parameter *p, int expert, mixt_layout_piece *piece)
{
    size_t values = (size_t)(p->size[1] * p->size[2]);
    *piece = (mixt_layout_piece){.rank = 2,
                                 .shape = {p->size[1], p->size[2]},
                                 .offset = (size_t)expert * values,
                                 .count = {1, 1, p->size[1], p->size[2]},
                                 .stride = {0, 0, p->size[2], 1}};
    mixt_parameter_expert_name(p, expert, piece->name);
}

static int by_name(const void *left, const void *right)
{
    const mixt_folder_part *a = left, *b = right;
    return strcmp(a->piece.name, b->piece.name);
}

mixt_status mixt_adapters_list(const mixt_model *model, mixt_folder_tensors *list,
                               mixt_error *error)
{
    size_t more = 0, old = list->part_count, experts = (size_t)model->options.experts;
    for (int i = 0; i < model->parameter_count; i++) {
        more += mixt_slot_is_adapter(model->parameters[i].slot) ? experts : 0;
    }
    if (more == 0) {
        return MIXT_OK;
    }
    mixt_folder_part *parts = realloc(list->parts, (old + more) * sizeof *parts);
    list->parts = parts != NULL ? parts : list->parts;
    size_t *first = realloc(list->first, (list->count + more + 1) * sizeof *first);
    list->first = first != NULL ? first : list->first;
    if (parts == NULL || first == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "model: no memory");
    }
    for (int i = 0; i < model->parameter_count; i++) {
        const mixt_parameter *p = &model->parameters[i];
        for (int e = 0; mixt_slot_is_adapter(p->slot) && e < model->options.experts; e++) {
            mixt_folder_part *to = &parts[list->part_count++];
            to->parameter = i;
            put_piece(p, e, &to->piece);
        }
    }
    qsort(parts + old, more, sizeof *parts, by_name);
    for (size_t i = 0; i < more; i++) {
        first[list->count++] = old + i;
    }
    first[list->count] = list->part_count;
    return MIXT_OK;
}

/* The last name of a module: behind the last point of `length` bytes. */
static const char *last_name(const char *module, size_t length, size_t *size)
{
    const char *at = module + length;
    while (at > module && at[-1] != '.') {
        at--;
    }
    *size = (size_t)(module + length - at);
    return at;
}

/* Has a tensor of the folder that is no part of a matrix with adapters this last name? */
static bool is_taken(const mixt_model *model, const mixt_folder_tensors *list, const char *name,
                     size_t size)
{
    for (size_t i = 0; i < list->count; i++) {
        const mixt_folder_part *part = &list->parts[list->first[i]];
        const char *end = strrchr(part->piece.name, '.');
        mixt_slot slot = mixt_adapter_a(model->parameters[part->parameter].slot);
        int layer = model->parameters[part->parameter].layer;
        size_t other;
        if (end == NULL || mixt_model_find(model, slot, layer) >= 0) {
            continue;
        }
        const char *last = last_name(part->piece.name, (size_t)(end - part->piece.name), &other);
        if (other == size && memcmp(last, name, size) == 0) {
            return true;
        }
    }
    return false;
}

/* A module's pattern as a regular expression. transformers 5 keeps the experts of a layer in one
 * module, and PEFT then looks for the expression without an expert's number. */
static void put_expression(mixt_buffer *text, const char *pattern)
{
    for (const char *at = pattern; *at != 0; at++) {
        if (strncmp(at, "{E}.", 4) == 0) {
            mixt_buffer_text(text, "(?:\\d+\\.)?");
            at += 3;
        } else if (strncmp(at, "{L}", 3) == 0 || strncmp(at, "{E}", 3) == 0) {
            mixt_buffer_text(text, "\\d+");
            at += 2;
        } else {
            mixt_buffer_text(text, *at == '.' ? "\\" : "");
            mixt_buffer_append(text, at, 1);
        }
    }
}

/* What says which modules have adapters: their last names where nothing else is called so, else one
 * regular expression. */
static json_t *target_modules(const mixt_model *written, const mixt_folder_tensors *list)
{
    json_t *names = json_array();
    mixt_buffer expression = {0};
    bool alone = true;
    for (int i = 0; i < TARGETS; i++) {
        char pattern[112];
        size_t size;
        if ((targets[i].target & written->adapters->targets) == 0 ||
            !module_pattern(written, targets[i].slot, pattern)) {
            continue;
        }
        const char *name = last_name(pattern, strlen(pattern), &size);
        alone = alone && !is_taken(written, list, name, size);
        json_array_append_new(names, json_string(name));
        mixt_buffer_text(&expression, expression.length > 0 ? "|" : "");
        put_expression(&expression, pattern);
    }
    mixt_buffer_append(&expression, "", 1);
    if (!alone) {
        json_decref(names);
        names = expression.failed ? NULL : json_string(expression.data);
    }
    mixt_buffer_free(&expression);
    return names;
}

mixt_status mixt_adapters_config_text(const mixt_model *written, char **text, mixt_error *error)
{
    const mixt_adapters *adapters = written->adapters;
    mixt_folder_tensors list;
    *text = NULL;
    mixt_status status = mixt_folder_tensors_list(written, &list, error);
    if (status != MIXT_OK) {
        mixt_folder_tensors_free(&list);
        return status;
    }
    mixt_json_begin();
    json_t *modules = target_modules(written, &list);
    mixt_folder_tensors_free(&list);
    bool whole = adapters->alpha == floor(adapters->alpha) && adapters->alpha < 1e15;
    json_t *alpha = whole ? json_integer((json_int_t)adapters->alpha) : json_real(adapters->alpha);
    json_t *root = json_pack(
        "{s:n, s:s?, s:s, s:b, s:b, s:b, s:o, s:f, s:n, s:s, s:i, s:{}, s:{}, s:o, s:s, s:b, s:b}",
        "auto_mapping", "base_model_name_or_path", adapters->base, "bias", "none", "fan_in_fan_out",
        0, "inference_mode", 1, "init_lora_weights", 1, "lora_alpha", alpha, "lora_dropout", 0.0,
        "modules_to_save", "peft_type", "LORA", "r", adapters->rank, "rank_pattern",
        "alpha_pattern", "target_modules", modules, "task_type", "CAUSAL_LM", "use_dora", 0,
        "use_rslora", 0);
    *text = mixt_json_file_text(root, JSON_SORT_KEYS);
    return *text != NULL ? MIXT_OK
                         : mixt_fail(error, MIXT_ERROR_MEMORY, MIXT_ADAPTER_CONFIG ": no memory");
}
