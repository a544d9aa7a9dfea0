/* Hugging Face folders: config.json, generation_config.json, safetensors, tokenizer. */
#include <stdlib.h>
#include <string.h>

#include "core/files.h"
#include "formats/dtype.h"
#include "formats/safetensors.h"
#include "convert/convert.h"
#include "quant/quant.h"

typedef struct float_form {
    mixt_type type;
    mixt_dtype dtype;
    const char *torch; /* torch_dtype in config.json */
} float_form;

static const float_form forms[] = {
    {MIXT_TYPE_F32, MIXT_DTYPE_F32, "float32"},
    {MIXT_TYPE_F16, MIXT_DTYPE_F16, "float16"},
    {MIXT_TYPE_BF16, MIXT_DTYPE_BF16, "bfloat16"},
};

/* The type in which every matrix lies in the source, when it is a float of 16 bits; else F32. */
static mixt_type common_type(const mixt_model *model)
{
    mixt_type type = MIXT_TYPE_COUNT;
    for (int i = 0; model->held != NULL && i < model->parameter_count; i++) {
        const mixt_held *held = &model->held[i];
        for (int j = 0; held->matrices != NULL && j < held->count; j++) {
            if (type != MIXT_TYPE_COUNT && held->matrices[j].type != type) {
                return MIXT_TYPE_F32;
            }
            type = held->matrices[j].type;
        }
    }
    return type == MIXT_TYPE_F16 || type == MIXT_TYPE_BF16 ? type : MIXT_TYPE_F32;
}

static mixt_status choose_form(const mixt_conversion *c, const float_form **form)
{
    mixt_type type = c->mix != NULL ? mixt_type_from_name(c->options->type) : common_type(c->model);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (forms[i].type == type) {
            *form = &forms[i];
            return MIXT_OK;
        }
    }
    return mixt_fail(c->error, MIXT_ERROR_ARGUMENT,
                     "type: %s is for GGUF files; folders hold F32, F16 or BF16", c->options->type);
}

mixt_status mixt_folder_type_check(const mixt_conversion *c)
{
    const float_form *form;
    return choose_form(c, &form);
}

/* Sets the type of a target: the folder's, but F32 for what is held as fp32 and would lose bits (a
 * selection bias beside BF16 matrices). */
static mixt_status set_type(const mixt_conversion *c, mixt_type type, mixt_target *target)
{
    int parameter = c->parts[target->first].parameter;
    const mixt_model *model = c->model;
    bool typed = model->held != NULL && model->held[parameter].matrices != NULL;
    mixt_status status = MIXT_OK;
    target->type = type;
    if (type != MIXT_TYPE_F32 && !typed && c->mix == NULL) {
        size_t count = mixt_target_count(target);
        float *values = calloc(count, sizeof *values), *back = calloc(count, sizeof *back);
        uint16_t *halves = calloc(count, sizeof *halves);
        status = values == NULL || back == NULL || halves == NULL
                     ? mixt_fail(c->error, MIXT_ERROR_MEMORY, "convert: no memory")
                     : mixt_target_values(c, target, values);
        if (status == MIXT_OK) {
            status = mixt_quantise(type, values, 1, (int64_t)count, NULL, halves, c->error);
        }
        if (status == MIXT_OK) {
            mixt_dequantise(type, halves, back, (int64_t)count);
            bool same = memcmp(values, back, count * sizeof *values) == 0;
            target->type = same ? type : MIXT_TYPE_F32;
        }
        free(values);
        free(back);
        free(halves);
    }
    target->wanted = target->type;
    target->bytes = mixt_target_count(target) * (size_t)mixt_type_info(target->type)->bytes;
    return status;
}

static mixt_dtype dtype_of(mixt_type type)
{
    size_t i = 0;
    while (i + 1 < sizeof forms / sizeof *forms && forms[i].type != type) {
        i++;
    }
    return forms[i].dtype;
}

static mixt_status write_target(mixt_conversion *c, mixt_safetensors_writer *writer,
                                const mixt_target *target)
{
    size_t count = mixt_target_count(target);
    float *values = calloc(count, sizeof *values);
    void *out = malloc(target->bytes);
    mixt_status status = values == NULL || out == NULL
                             ? mixt_fail(c->error, MIXT_ERROR_MEMORY,
                                         "convert: no memory for tensor %s", target->piece->name)
                             : mixt_target_values(c, target, values);
    if (status == MIXT_OK) {
        int64_t columns = target->piece->shape[target->piece->rank - 1];
        status = mixt_quantise(target->type, values, (int64_t)count / columns, columns, NULL, out,
                               c->error);
    }
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_write(writer, out, target->bytes, c->error);
    }
    free(values);
    free(out);
    return status == MIXT_OK ? mixt_conversion_advance(c, target->bytes) : status;
}

static mixt_status write_weights(mixt_conversion *c, const float_form *form)
{
    mixt_safetensors_writer *writer;
    MIXT_TRY(mixt_safetensors_writer_create(c->path, c->options->shard_bytes, &writer, c->error));
    mixt_status status = mixt_safetensors_writer_metadata(writer, "format", "pt", c->error);
    for (size_t i = 0; i < c->target_count && status == MIXT_OK; i++) {
        mixt_target *target = &c->targets[i];
        status = set_type(c, form->type, target);
        if (status == MIXT_OK) {
            c->total += (double)target->bytes;
            status = mixt_safetensors_writer_add(
                writer, target->piece->name, dtype_of(target->type), (uint32_t)target->piece->rank,
                target->piece->shape, c->error);
        }
    }
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_begin(writer, c->error);
    }
    for (size_t i = 0; i < c->target_count && status == MIXT_OK; i++) {
        status = write_target(c, writer, &c->targets[i]);
    }
    if (status == MIXT_OK) {
        status = mixt_safetensors_writer_finish(writer, c->error);
    }
    mixt_safetensors_writer_free(writer);
    return status;
}

/* The configuration says fp32 for what mixt trains; here it is what was written. */
static void name_dtype(char *config, const char *torch, char **named)
{
    static const char written[] = "\"torch_dtype\": \"float32\"";
    char *at = strstr(config, written);
    size_t length = strlen(config) + 32;
    *named = malloc(length);
    if (*named != NULL && at != NULL) {
        snprintf(*named, length, "%.*s\"torch_dtype\": \"%s\"%s", (int)(at - config), config, torch,
                 at + sizeof written - 1);
    } else if (*named != NULL) {
        snprintf(*named, length, "%s", config);
    }
}

mixt_status mixt_convert_to_folder(mixt_conversion *c)
{
    const char *folder = c->folder;
    char *config = NULL, *named = NULL, *generation = NULL;
    const float_form *form = NULL;
    mixt_status status = choose_form(c, &form);
    if (status == MIXT_OK) {
        status = mixt_model_config_text(c->model, &config, c->error);
    }
    if (status == MIXT_OK) {
        status = mixt_model_generation_text(c->model, &generation, c->error);
    }
    if (status == MIXT_OK) {
        status = write_weights(c, form);
    }
    if (status == MIXT_OK) {
        status = mixt_file_replace_in(folder, "generation_config.json", generation,
                                      strlen(generation), c->error);
    }
    if (status == MIXT_OK && c->options->tokenizer != NULL) { /* which adds its ends */
        status = mixt_tokenizer_save(c->options->tokenizer, folder, c->error);
    }
    if (status == MIXT_OK) { /* last: a folder with it is complete */
        name_dtype(config, form->torch, &named);
        status = named == NULL
                     ? mixt_fail(c->error, MIXT_ERROR_MEMORY, "convert: no memory")
                     : mixt_file_replace_in(folder, "config.json", named, strlen(named), c->error);
    }
    free(config);
    free(named);
    free(generation);
    return status;
}
