/* Which experts go: by the results of a probe, or as a file says. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/files.h"
#include "formats/json.h"
#include "model/model.h"
#include "probe/probe.h"

#define RESULTS_MOST ((size_t)256 << 20) /* bytes of a file of results */
#define LIST_MOST ((size_t)16 << 20)     /* bytes of a list of experts */

typedef struct choosing {
    const mixt_model *model;
    int layers, experts;
    double *value; /* [layers, experts]; NaN: not known */
} choosing;

/* Place of a layer among those with experts, -1: it has none. */
static int place_of(const mixt_model *model, int64_t layer)
{
    int place = -1;
    for (int i = 0; i <= layer && i < model->options.layers; i++) {
        place += mixt_model_layer_is_moe(model, i);
    }
    bool is =
        layer >= 0 && layer < model->options.layers && mixt_model_layer_is_moe(model, (int)layer);
    return is ? place : -1;
}

/* ------------------------------------------------------------------------------------------ */
/* Results of a probe                                                                         */

/* The number of a row: itself, or the first of [value, low, high]. */
static double number_of(const json_t *value)
{
    const json_t *number = json_is_array(value) ? json_array_get(value, 0) : value;
    return json_is_number(number) ? json_number_value(number) : (double)NAN;
}

static mixt_status read_rows(const choosing *c, const mixt_json_object *root, const char *list,
                             const char *key)
{
    const json_t *rows;
    if (mixt_json_array(root, list, &rows) != MIXT_OK) {
        return mixt_fail(root->error, MIXT_ERROR_FORMAT, "%s: %s: not measured", root->file, list);
    }
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i), *with = json_object_get(row, "with");
        const json_t *layer = json_object_get(row, "layer"),
                     *expert = json_object_get(row, "expert");
        int place = place_of(c->model, json_is_integer(layer) ? json_integer_value(layer) : -1);
        int64_t e = json_is_integer(expert) ? json_integer_value(expert) : -1;
        if (with == NULL && place >= 0 && e >= 0 && e < c->experts) {
            c->value[place * c->experts + e] = number_of(json_object_get(row, key));
        }
    }
    return MIXT_OK;
}

static mixt_status check_results(const choosing *c, const mixt_json_object *root)
{
    const char *format, *hash;
    char own[65];
    MIXT_TRY(mixt_json_string(root, "format", &format));
    if (strcmp(format, "mixt-probe") != 0) {
        return mixt_json_fail(root, "format", "must be mixt-probe");
    }
    MIXT_TRY(mixt_json_string(root, "model_hash", &hash));
    MIXT_TRY(mixt_model_hash(c->model, own, root->error));
    return strcmp(hash, own) == 0 ? MIXT_OK
                                  : mixt_json_fail(root, "model_hash", "is another model's");
}

/* What is not chosen is worth nothing; an expert that was not measured cannot be ranked. */
static mixt_status read_values(const choosing *c, const char *path, mixt_prune_by by,
                               mixt_error *error)
{
    static const char *const lists[] = {"units", "units", "mask"};
    static const char *const keys[] = {"reap", "choices", "effect"};
    json_t *json;
    for (int i = 0; i < c->layers * c->experts; i++) {
        c->value[i] = NAN;
    }
    MIXT_TRY(mixt_json_read(path, RESULTS_MOST, &json, error));
    const mixt_json_object root = {json, path, "", error};
    mixt_status status = check_results(c, &root);
    if (status == MIXT_OK) {
        status = read_rows(c, &root, lists[by], keys[by]);
    }
    const json_t *units = json_object_get(json, "units");
    for (size_t i = 0; by == MIXT_PRUNE_REAP && i < json_array_size(units); i++) {
        const json_t *row = json_array_get(units, i);
        int place = place_of(c->model, json_integer_value(json_object_get(row, "layer")));
        int64_t e = json_integer_value(json_object_get(row, "expert"));
        bool never =
            json_object_get(row, "reap") != NULL && number_of(json_object_get(row, "choices")) == 0;
        if (place >= 0 && e >= 0 && e < c->experts && never) {
            c->value[place * c->experts + e] = 0;
        }
    }
    json_decref(json);
    return status;
}

/* Layers without a router of their own lose what the one that decides loses: their values count
 * together. */
static mixt_status check_values(const choosing *c, const char *path, mixt_prune_by by,
                                mixt_error *error)
{
    static const char *const experiments[] = {"reap", "reap", "mask"};
    bool global = c->model->options.router.scope == MIXT_SCOPE_GLOBAL;
    for (int place = 0; place < c->layers; place++) {
        for (int e = 0; e < c->experts; e++) {
            double *value = &c->value[place * c->experts + e];
            if (global && place > 0) {
                c->value[e] += isnan(*value) ? 0 : *value;
            } else if (isnan(*value)) {
                int layer = 0;
                while (place_of(c->model, layer) != place) {
                    layer++;
                }
                return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                                 "%.400s: layer %d, expert %d was not measured; mixt probe "
                                 "--experiments %s does",
                                 path, layer, e, experiments[by]);
            }
        }
    }
    return MIXT_OK;
}

/* Marks `count` of experts [first, first + size) of least value; ties: the last. */
static void drop_least(const double *value, int first, int size, int count, uint8_t *drop)
{
    for (int n = 0; n < count; n++) {
        int least = -1;
        for (int e = first; e < first + size; e++) {
            if (drop[e] == 0 && (least < 0 || value[e] <= value[least])) {
                least = e;
            }
        }
        drop[least] = 1;
    }
}

mixt_status mixt_experts_choose(const mixt_model *model, const char *results, mixt_prune_by by,
                                double share, uint8_t *drop, mixt_error *error)
{
    choosing c = {model, mixt_model_moe_layers(model), model->options.experts, NULL};
    int groups = model->options.router.groups > 0 ? model->options.router.groups : 1;
    int size = c.experts / groups, count = (int)floor(share * size + 0.5);
    if (!(share > 0 && share < 1) || count < 1 || count >= size || c.layers == 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "drop experts: %g%% of %d experts%s is not one, and not all but one",
                         100 * share, size, groups > 1 ? " of a group" : "");
    }
    c.value = calloc((size_t)(c.layers * c.experts), sizeof *c.value);
    if (c.value == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "drop experts: no memory");
    }
    mixt_status status = read_values(&c, results, by, error);
    if (status == MIXT_OK) {
        status = check_values(&c, results, by, error);
    }
    bool global = model->options.router.scope == MIXT_SCOPE_GLOBAL;
    memset(drop, 0, (size_t)(c.layers * c.experts));
    for (int place = 0; place < c.layers && status == MIXT_OK; place++) {
        for (int g = 0; g < groups; g++) {
            drop_least(c.value + (global ? 0 : place) * c.experts, g * size, size, count,
                       drop + place * c.experts);
        }
    }
    free(c.value);
    return status;
}

/* ------------------------------------------------------------------------------------------ */
/* A list                                                                                     */

static mixt_status bad_line(const char *path, int line, const char *rule, mixt_error *error)
{
    return mixt_fail(error, MIXT_ERROR_FORMAT, "%.400s:%d: %s", path, line, rule);
}

/* "LAYER: EXPERT EXPERT ...", ended by NUL. */
static mixt_status read_line(const choosing *c, char *text, uint8_t *drop, const char **rule)
{
    char *at = text, *end;
    long layer = strtol(at, &end, 10);
    int place = end != at && *end == ':' ? place_of(c->model, layer) : -1;
    if (place < 0) {
        *rule = "must begin with a layer with experts, and a colon";
        return MIXT_ERROR_FORMAT;
    }
    at = end + 1;
    for (;;) {
        at += strspn(at, " \t\r,");
        if (*at == 0) {
            return MIXT_OK;
        }
        long expert = strtol(at, &end, 10);
        if (end == at || expert < 0 || expert >= c->experts) {
            *rule = "an expert must be a number below how many there are";
            return MIXT_ERROR_FORMAT;
        }
        drop[place * c->experts + expert] = 1;
        at = end;
    }
}

mixt_status mixt_experts_read(const mixt_model *model, const char *path, uint8_t *drop,
                              mixt_error *error)
{
    choosing c = {model, mixt_model_moe_layers(model), model->options.experts, NULL};
    char *text;
    size_t length;
    MIXT_TRY(mixt_file_read(path, LIST_MOST, &text, &length, error));
    memset(drop, 0, (size_t)(c.layers * c.experts));
    mixt_status status = strlen(text) == length ? MIXT_OK : bad_line(path, 1, "holds a NUL", error);
    int line = 1;
    for (char *at = text; at != NULL && status == MIXT_OK; line++) {
        char *next = strchr(at, '\n');
        const char *rule = NULL;
        if (next != NULL) {
            *next++ = 0;
        }
        at[strcspn(at, "#")] = 0;
        if (at[strspn(at, " \t\r")] != 0 && read_line(&c, at, drop, &rule) != MIXT_OK) {
            status = bad_line(path, line, rule, error);
        }
        at = next;
    }
    free(text);
    return status;
}
