/* config.json of a Hugging Face folder, by each family's table of keys. What the format has no key
 * for (routing losses, frozen routers) goes under "mixt", which other programs pass over. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "formats/json.h"
#include "model/model.h"

#define FIELD(type, options, row) ((type *)(void *)((char *)(options) + (row)->offset))

static const mixt_config_row router_rows[] = {
    MIXT_FIELD("score", INTEGER, router.score, false, 0, 0, 2),
    MIXT_FIELD("renormalise", BOOL, router.renormalise, false, 0, 0, 1),
    MIXT_FIELD("scale", NUMBER, router.scale, false, 1, 1e-6, 1e6),
    MIXT_FIELD("weights", INTEGER, router.weights, false, 0, 0, 1),
    MIXT_FIELD("balance", INTEGER, router.balance, false, 0, 0, 1),
    MIXT_FIELD("balance_coefficient", NUMBER, router.balance_coefficient, false, 0, 0, 1e6),
    MIXT_FIELD("z_coefficient", NUMBER, router.z_coefficient, false, 0, 0, 1e6),
    MIXT_FIELD("bias_rate", NUMBER, router.bias_rate, false, 0, 0, 1),
    {NULL, MIXT_FIELD_BOOL, 0, false, 0, 0, 0},
};

static void write_row(mixt_buffer *text, const mixt_model_options *options,
                      const mixt_config_row *row, const char *indent)
{
    mixt_buffer_format(text, ",\n%s\"%s\": ", indent, row->key);
    const char *base = (const char *)options + row->offset;
    switch (row->type) {
    case MIXT_FIELD_INTEGER:
        mixt_buffer_format(text, "%d", *(const int *)(const void *)base);
        break;
    case MIXT_FIELD_NUMBER:
        mixt_buffer_format(text, "%.17g", *(const double *)(const void *)base);
        break;
    case MIXT_FIELD_BOOL:
        mixt_buffer_text(text, *(const bool *)(const void *)base ? "true" : "false");
        break;
    }
}

static mixt_status take_text(mixt_buffer *buffer, char **text, mixt_error *error)
{
    mixt_buffer_append(buffer, "", 1);
    if (buffer->failed) {
        mixt_buffer_free(buffer);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "config.json: no memory");
    }
    *text = buffer->data;
    return MIXT_OK;
}

mixt_status mixt_model_config_text(const mixt_model *model, char **text, mixt_error *error)
{
    const mixt_family *family = model->family;
    mixt_buffer buffer = {0};
    mixt_buffer_format(&buffer, "{\n  \"architectures\": [\"%s\"],\n  \"model_type\": \"%s\"",
                       family->hf_class, family->name);
    for (const mixt_config_row *row = family->config; row->key != NULL; row++) {
        write_row(&buffer, &model->options, row, "  ");
    }
    for (int i = 0; family->fixed[i] != NULL; i += 2) {
        const char *key = family->fixed[i] + (family->fixed[i][0] == '?');
        mixt_buffer_format(&buffer, ",\n  \"%s\": %s", key, family->fixed[i + 1]);
    }
    if (model->options.separator >= 0) {
        mixt_buffer_format(&buffer, ",\n  \"bos_token_id\": %d,\n  \"eos_token_id\": %d",
                           model->options.separator, model->options.separator);
    }
    mixt_buffer_text(&buffer, ",\n  \"torch_dtype\": \"float32\",\n  \"use_cache\": true");
    if (model->options.experts > 0) {
        mixt_buffer_text(&buffer, ",\n  \"mixt\": {\n    \"version\": 1");
        for (const mixt_config_row *row = router_rows; row->key != NULL; row++) {
            write_row(&buffer, &model->options, row, "    ");
        }
        mixt_buffer_text(&buffer, "\n  }");
    }
    mixt_buffer_text(&buffer, "\n}\n");
    return take_text(&buffer, text, error);
}

mixt_status mixt_model_generation_text(const mixt_model *model, char **text, mixt_error *error)
{
    mixt_buffer buffer = {0};
    mixt_buffer_text(&buffer, "{\n  \"_from_model_config\": true");
    if (model->options.separator >= 0) {
        mixt_buffer_format(&buffer, ",\n  \"bos_token_id\": %d,\n  \"eos_token_id\": %d",
                           model->options.separator, model->options.separator);
    }
    mixt_buffer_text(&buffer, "\n}\n");
    return take_text(&buffer, text, error);
}

static mixt_status read_row(const mixt_json_object *json, const mixt_config_row *row,
                            mixt_model_options *options)
{
    mixt_json_range range = {row->low, row->high};
    bool present = mixt_json_has(json, row->key) || row->required;
    mixt_status status = MIXT_OK;
    if (row->type == MIXT_FIELD_INTEGER) {
        int64_t value = (int64_t)row->fallback;
        status = present ? mixt_json_integer(json, row->key, range, &value) : MIXT_OK;
        *FIELD(int, options, row) = (int)value;
    } else if (row->type == MIXT_FIELD_NUMBER) {
        double value = row->fallback;
        status = present ? mixt_json_number(json, row->key, range, &value) : MIXT_OK;
        *FIELD(double, options, row) = value;
    } else {
        bool value = row->fallback != 0;
        status = present ? mixt_json_bool(json, row->key, &value) : MIXT_OK;
        *FIELD(bool, options, row) = value;
    }
    return status;
}

static mixt_status read_rows(const mixt_json_object *json, const mixt_config_row *rows,
                             mixt_model_options *options)
{
    mixt_status status = MIXT_OK;
    for (const mixt_config_row *row = rows; row->key != NULL && status == MIXT_OK; row++) {
        status = read_row(json, row, options);
    }
    return status;
}

/* Refuses values of the fixed keys that mixt would compute wrongly. */
static mixt_status check_fixed(const mixt_json_object *json, const mixt_family *family)
{
    for (int i = 0; family->fixed[i] != NULL; i += 2) {
        const char *key = family->fixed[i];
        const json_t *value = key[0] == '?' ? NULL : json_object_get(json->json, key);
        if (value == NULL || json_is_null(value)) {
            continue;
        }
        json_t *expected = json_loads(family->fixed[i + 1], JSON_DECODE_ANY, NULL);
        bool same = expected != NULL && (json_equal(value, expected) ||
                                         (json_is_number(value) && json_is_number(expected) &&
                                          json_number_value(value) == json_number_value(expected)));
        json_decref(expected);
        if (!same) {
            mixt_json_fail(json, key, "only %s is supported for %s", family->fixed[i + 1],
                           family->title);
            if (json->error != NULL) {
                json->error->status = MIXT_ERROR_UNSUPPORTED;
            }
            return MIXT_ERROR_UNSUPPORTED;
        }
    }
    return MIXT_OK;
}

static mixt_status read_separator(const mixt_json_object *json, mixt_model_options *options)
{
    int64_t id = -1;
    const json_t *value = json_object_get(json->json, "eos_token_id");
    if (value != NULL && json_is_integer(value)) {
        mixt_status status =
            mixt_json_integer(json, "eos_token_id", (mixt_json_range){0, 1 << 24}, &id);
        if (status != MIXT_OK) {
            return status;
        }
    }
    options->separator = id < options->vocab_size ? (int)id : -1;
    return MIXT_OK;
}

static mixt_status read_object(const mixt_json_object *json, mixt_model_options *options,
                               const mixt_family **family)
{
    const char *type;
    mixt_status status = mixt_json_string(json, "model_type", &type);
    if (status != MIXT_OK) {
        return status;
    }
    *family = mixt_family_by_name(type);
    if (*family == NULL) {
        return mixt_fail(json->error, MIXT_ERROR_UNSUPPORTED,
                         "%s: model_type: '%s' is not a family that mixt knows", json->file, type);
    }
    *options = (mixt_model_options){0};
    options->router.score = (*family)->score;
    options->router.renormalise = (*family)->renormalise;
    options->router.scale = 1;
    status = read_rows(json, (*family)->config, options);
    if (status == MIXT_OK) {
        status = check_fixed(json, *family);
    }
    if (status == MIXT_OK) {
        status = read_separator(json, options);
    }
    const json_t *own = json_object_get(json->json, "mixt");
    if (status == MIXT_OK && own != NULL && json_is_object(own)) {
        mixt_json_object inner = {own, json->file, "mixt.", json->error};
        status = read_rows(&inner, router_rows, options);
    }
    return status;
}

mixt_status mixt_model_config_read(const char *path, mixt_model_options *options,
                                   const mixt_family **family, mixt_error *error)
{
    json_t *root;
    mixt_error local = MIXT_ERROR_INIT;
    mixt_status status = mixt_json_read(path, MIXT_JSON_CONFIG_MAX, &root, &local);
    if (status == MIXT_OK) {
        mixt_json_object json = {root, path, "", &local};
        status = read_object(&json, options, family);
        json_decref(root);
    }
    return status == MIXT_OK ? MIXT_OK : mixt_fail(error, status, "%s", local.message);
}
