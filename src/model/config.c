/* config.json of a Hugging Face folder, by each family's table of keys. What the format has no key
 * for (routing losses, frozen routers) goes under "mixt", which other programs pass over. What they
 * would run wrongly without a word is written as our own family, whose model_type they refuse. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/files.h"
#include "formats/json.h"
#include "model/config_gguf.h"
#include "model/config_keys.h"
#include "model/config_rope.h"

#define OWN_TYPE "mixt" /* model_type of our own family, and of others with "mixt.family" */

#define ROUTER(key, type, field, fallback, low, high)                                              \
    MIXT_FIELD(key, NULL, type, router.field, false, fallback, low, high)

/* Under "mixt". */
static const mixt_config_row router_rows[] = {
    ROUTER("score", INTEGER, score, 0, 0, 2),
    ROUTER("renormalise", BOOL, renormalise, 0, 0, 1),
    ROUTER("scale", NUMBER, scale, 1, 1e-6, 1e6),
    ROUTER("weights", INTEGER, weights, 0, 0, MIXT_ROUTER_REDRAWN),
    ROUTER("balance", INTEGER, balance, 0, 0, MIXT_BALANCE_SKYWORK),
    ROUTER("balance_coefficient", NUMBER, balance_coefficient, 0, 0, 1e6),
    ROUTER("z_coefficient", NUMBER, z_coefficient, 0, 0, 1e6),
    ROUTER("bias_rate", NUMBER, bias_rate, 0, 0, 1),
    ROUTER("jitter", NUMBER, jitter, 0, 0, 1),
    ROUTER("capacity", NUMBER, capacity, 0, 0, 1e6),
    ROUTER("drop", INTEGER, drop, 0, 0, MIXT_DROP_WEIGHT),
    ROUTER("balance_scope", INTEGER, balance_scope, 0, 0, MIXT_BALANCE_OVER_SEQUENCE),
    ROUTER("bias_update", INTEGER, bias_update, 0, 0, MIXT_BIAS_QUANTILE),
    ROUTER("choice_scope", INTEGER, choice_scope, 0, 0, MIXT_CHOICE_OVER_SEQUENCE),
    ROUTER("adaptive_balance", BOOL, adaptive_balance, 0, 0, 1),
    ROUTER("device_balance_coefficient", NUMBER, device_balance_coefficient, 0, 0, 1e6),
    ROUTER("balance_groups", INTEGER, balance_groups, 0, 0, MIXT_EXPERTS_MAX),
    MIXT_FIELDS_END,
};

/* Beside router_rows. */
static const char *const own_names[] = {"version", "family", "select", NULL};

/* ------------------------------------------------------------------------------------------ */
/* Writing                                                                                    */

static json_t *row_value(const mixt_config_row *row, const mixt_model_options *options)
{
    double value = mixt_row_get(row, options);
    switch (row->type) {
    case MIXT_FIELD_NUMBER:
    case MIXT_FIELD_TRAINING:
    case MIXT_FIELD_PART_OF_HEAD:
        return json_real(value);
    case MIXT_FIELD_BOOL:
    case MIXT_FIELD_SWITCH:
        return json_boolean(value != 0);
    case MIXT_FIELD_NULL_NUMBER:
        return value == 0 ? json_null() : json_real(value);
    case MIXT_FIELD_NULL_INTEGER:
        return value == 0 ? json_null() : json_integer((json_int_t)value);
    case MIXT_FIELD_LIST_INTEGER:
        return json_pack("[I]", (json_int_t)value);
    case MIXT_FIELD_INTEGER:
    case MIXT_FIELD_LENGTH:
    case MIXT_FIELD_FROM_ONE:
    case MIXT_FIELD_BY_HEADS:
    case MIXT_FIELD_LESS_POSITION:
    case MIXT_FIELD_END:
    default:
        return json_integer((json_int_t)value);
    }
}

/* "a.b" goes into the object a. Takes the value. */
static void put(json_t *root, const char *key, json_t *value)
{
    const char *dot = strchr(key, '.');
    if (dot != NULL) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)(dot - key), key);
        if (json_object_get(root, name) == NULL) {
            json_object_set_new(root, name, json_object());
        }
        root = json_object_get(root, name);
        key = dot + 1;
    }
    json_object_set_new(root, key, value);
}

static void put_rows(json_t *root, const mixt_config_row *rows, const mixt_model_options *options)
{
    for (const mixt_config_row *row = rows; row->type != MIXT_FIELD_END; row++) {
        if (mixt_row_written(rows, row, MIXT_FORM_FOLDER)) {
            put(root, row->key, row_value(row, options));
        }
    }
}

/* "|key" has a list of values, the first of which is written. */
static void put_fixed(json_t *root, const char *const *fixed)
{
    for (; *fixed != NULL; fixed += 2) {
        size_t marks = strspn(*fixed, "?|-");
        json_t *value = mixt_json_load(fixed[1], strlen(fixed[1]), JSON_DECODE_ANY, NULL);
        if (memchr(*fixed, '-', marks) != NULL) {
            json_decref(value);
        } else if (memchr(*fixed, '|', marks) != NULL) {
            put(root, *fixed + marks, json_incref(json_array_get(value, 0)));
            json_decref(value);
        } else {
            put(root, *fixed + marks, value);
        }
    }
}

/* Takes the JSON. */
static mixt_status take_json(json_t *root, char **text, mixt_error *error)
{
    *text = mixt_json_file_text(root, 0);
    return *text == NULL ? mixt_fail(error, MIXT_ERROR_MEMORY, "config.json: no memory") : MIXT_OK;
}

static void put_separator(json_t *root, int separator)
{
    if (separator >= 0) {
        put(root, "bos_token_id", json_integer(separator));
        put(root, "eos_token_id", json_integer(separator));
    }
}

mixt_status mixt_config_text(const mixt_family *family, const mixt_model_options *options, bool own,
                             char **text, mixt_error *error)
{
    mixt_json_begin();
    json_t *root = json_object();
    put(root, "architectures", json_pack("[s]", family->hf_class));
    put(root, "model_type", json_string(family->name));
    mixt_model_options said = mixt_model_as_laid(options, family->hf_interleaved);
    put_rows(root, family->config, &said);
    put_fixed(root, family->fixed);
    mixt_rope_write(family, options, root);
    put_separator(root, options->separator);
    put(root, "torch_dtype", json_string("float32"));
    put(root, "use_cache", json_true());
    if (own && options->experts > 0) {
        json_t *object = json_pack("{s:i}", "version", 1);
        put_rows(object, router_rows, options);
        put(root, "mixt", object);
    }
    return take_json(root, text, error);
}

mixt_status mixt_model_config_text(const mixt_model *model, char **text, mixt_error *error)
{
    return mixt_config_text(model->family, &model->options, true, text, error);
}

mixt_status mixt_model_generation_text(const mixt_model *model, char **text, mixt_error *error)
{
    mixt_json_begin();
    json_t *root = json_pack("{s:b}", "_from_model_config", 1);
    put_separator(root, model->options.separator);
    return take_json(root, text, error);
}

/* ------------------------------------------------------------------------------------------ */
/* Reading                                                                                    */

static mixt_status read_separator(const mixt_json_object *json, mixt_model_options *options)
{
    int64_t id = -1;
    const json_t *value = json_object_get(json->json, "eos_token_id");
    value = json_is_array(value) ? json_array_get(value, 0) : value; /* the tokenizer has all */
    if (json_is_integer(value)) {
        id = json_integer_value(value);
    }
    options->separator = id >= 0 && id < options->vocab_size ? (int)id : -1;
    return MIXT_OK;
}

static mixt_status read_select(const mixt_json_object *own, mixt_router_options *router)
{
    const char *word = NULL;
    if (!json_is_object(own->json) || !mixt_json_has(own, "select")) {
        return MIXT_OK;
    }
    mixt_status status = mixt_json_string(own, "select", &word);
    for (int i = 0; status == MIXT_OK && mixt_router_select_name(i) != NULL; i++) {
        if (strcmp(mixt_router_select_name(i), word) == 0) {
            router->select = i;
            return MIXT_OK;
        }
    }
    return status != MIXT_OK ? status
                             : mixt_config_unsupported(own, "select", "'%.40s' is not one of:%s",
                                                       word, mixt_router_selects);
}

/* A key of the family is the same thing as one of ours: they must not say two, since one of them
 * would do nothing. */
static mixt_status check_twice(const mixt_json_object *own, const mixt_json_object *json,
                               const mixt_config_row *rows, const mixt_config_row *row,
                               double value)
{
    for (const mixt_config_row *other = rows; other->type != MIXT_FIELD_END; other++) {
        double said;
        if (other->offset != row->offset || other->key == NULL ||
            other->type == MIXT_FIELD_TRAINING || !mixt_json_has(json, other->key)) {
            continue;
        }
        MIXT_TRY(mixt_config_value(json, other, other->key, &said));
        if (said != value) {
            return mixt_json_fail(own, row->key, "%g, but %s, the same thing, says %g", value,
                                  other->key, said);
        }
    }
    return MIXT_OK;
}

/* What mixt wrote beside the family's keys; absent ones leave the family's. */
static mixt_status read_own(const mixt_json_object *json, const mixt_family *family,
                            mixt_model_options *options)
{
    const json_t *own = json_object_get(json->json, "mixt");
    mixt_json_object inner = {own, json->file, "mixt.", json->error};
    MIXT_TRY(read_select(&inner, &options->router));
    if (json_is_object(own)) {
        MIXT_TRY(mixt_config_object_check(&inner, router_rows, own_names, "itself"));
    }
    for (const mixt_config_row *row = router_rows; row->type != MIXT_FIELD_END; row++) {
        if (json_is_object(own) && mixt_json_has(&inner, row->key)) {
            double value;
            MIXT_TRY(mixt_config_value(&inner, row, row->key, &value));
            MIXT_TRY(check_twice(&inner, json, family->config, row, value));
            mixt_row_set(row, options, value);
        }
    }
    return MIXT_OK;
}

/* By model_type (our own: by mixt.family), or where the file has none (Grok-1's) by the first of
 * its architectures. */
static mixt_status find_family(mixt_json_object *json, const mixt_family **family)
{
    const json_t *architectures = json_object_get(json->json, "architectures");
    const char *type = json_string_value(json_array_get(architectures, 0));
    const char *key = "model_type";
    if (type != NULL && !mixt_json_has(json, "model_type")) {
        *family = mixt_family_by_class(type);
    } else {
        mixt_json_object own = {json_object_get(json->json, "mixt"), json->file, "mixt.",
                                json->error};
        MIXT_TRY(mixt_json_string(json, "model_type", &type));
        if (strcmp(type, OWN_TYPE) == 0 && mixt_json_has(&own, "family")) {
            MIXT_TRY(mixt_json_string(&own, "family", &type));
            key = "mixt.family";
        }
        *family = mixt_family_by_name(type);
    }
    if (*family == NULL) {
        return mixt_fail(json->error, MIXT_ERROR_UNSUPPORTED,
                         "%s: %s: '%s' is not a family that mixt knows", json->file, key, type);
    }
    return MIXT_OK;
}

static mixt_status read_object(mixt_json_object *json, mixt_model_options *options,
                               const mixt_family **result)
{
    const mixt_family *family;
    MIXT_TRY(find_family(json, &family));
    *result = family;
    *options = family->constants;
    options->rope.interleaved = family->hf_interleaved;
    MIXT_TRY(mixt_config_rows_read(json, family, options));
    MIXT_TRY(mixt_rope_read(json, options));
    if (family->hook != NULL) {
        mixt_error inner = MIXT_ERROR_INIT;
        mixt_status status = family->hook(options, json->json, &inner);
        if (status != MIXT_OK) {
            return mixt_fail(json->error, status, "%s: %s", json->file, inner.message);
        }
    }
    MIXT_TRY(mixt_config_keys_check(json, family, options));
    MIXT_TRY(read_separator(json, options));
    return read_own(json, family, options);
}

static mixt_status read_root(json_t *root, const char *path, mixt_model_options *options,
                             const mixt_family **family, mixt_error *error)
{
    mixt_error local = MIXT_ERROR_INIT;
    mixt_json_object json = {root, path, "", &local};
    mixt_status status = read_object(&json, options, family);
    json_decref(root);
    return status == MIXT_OK ? MIXT_OK : mixt_fail(error, status, "%s", local.message);
}

mixt_status mixt_model_config_read(const char *path, mixt_model_options *options,
                                   const mixt_family **family, mixt_error *error)
{
    json_t *root;
    MIXT_TRY(mixt_json_read(path, MIXT_JSON_CONFIG_MAX, &root, error));
    return read_root(root, path, options, family, error);
}

mixt_status mixt_model_config_parse(const char *text, const char *name, mixt_model_options *options,
                                    const mixt_family **family, mixt_error *error)
{
    json_t *root;
    MIXT_TRY(mixt_json_parse(text, strlen(text), name, &root, error));
    return read_root(root, name, options, family, error);
}

static mixt_status read_gguf(const char *path, mixt_model_options *options, mixt_error *error)
{
    mixt_gguf *file;
    const mixt_family *family;
    MIXT_TRY(mixt_gguf_open(path, &file, error));
    mixt_status status = mixt_model_config_gguf(file, options, &family, error);
    status = status == MIXT_OK ? mixt_gguf_intact(file, error) : status;
    mixt_gguf_close(file);
    return status;
}

mixt_status mixt_model_options_read(const char *path, mixt_model_options *options,
                                    mixt_error *error)
{
    const mixt_family *family;
    bool folder = mixt_path_is_folder(path);
    char *inside = folder ? mixt_path_join(path, "config.json") : NULL;
    const char *file = inside != NULL ? inside : path;
    mixt_status status =
        folder && inside == NULL    ? mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path)
        : mixt_gguf_has_magic(file) ? read_gguf(file, options, error)
                                    : mixt_model_config_read(file, options, &family, error);
    if (status == MIXT_OK) {
        status = mixt_model_check_file(options, file, error);
    }
    free(inside);
    if (status != MIXT_OK) {
        *options = (mixt_model_options){0};
    }
    return status;
}
