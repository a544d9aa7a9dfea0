/* The numbers of an atlas (mixt atlas --json, docs/atlas.md) by their paths: what the measures are
 * called there is what they are called here, so a new one needs nothing of a study. */
#define _GNU_SOURCE /* asprintf */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "study_atlas.h"

typedef struct walk {
    study_atlas_sink sink;
    void *user;
} walk;

static mixt_status walk_value(const walk *w, const char *path, json_t *value);

static mixt_status walk_below(const walk *w, const char *path, const char *name, json_t *value)
{
    char *below;
    if (asprintf(&below, "%s%s%s", path, *path != 0 ? "." : "", name) < 0) {
        return MIXT_ERROR_MEMORY;
    }
    mixt_status status = walk_value(w, below, value);
    free(below);
    return status;
}

/* Rows of a layer are called by its number, others by their place. */
static mixt_status walk_array(const walk *w, const char *path, const json_t *array)
{
    mixt_status status = MIXT_OK;
    for (size_t i = 0; status == MIXT_OK && i < json_array_size(array); i++) {
        json_t *value = json_array_get(array, i), *layer = json_object_get(value, "layer");
        char name[32];
        snprintf(name, sizeof name, "%lld",
                 layer != NULL ? (long long)json_integer_value(layer) : (long long)i);
        status = walk_below(w, path, name, value);
    }
    return status;
}

static mixt_status walk_value(const walk *w, const char *path, json_t *value)
{
    const char *name;
    json_t *member;
    if (json_is_array(value)) {
        return walk_array(w, path, value);
    }
    if (json_is_number(value)) {
        w->sink(w->user, path, json_number_value(value));
    }
    json_object_foreach(value, name, member)
    {
        mixt_status status = walk_below(w, path, name, member);
        if (status != MIXT_OK) {
            return status;
        }
    }
    return MIXT_OK;
}

mixt_status study_atlas_numbers(const char *json, study_atlas_sink sink, void *user)
{
    json_error_t error;
    json_t *root = json_loads(json, JSON_DECODE_ANY, &error);
    if (root == NULL) {
        return json_error_code(&error) == json_error_out_of_memory ? MIXT_ERROR_MEMORY
                                                                   : MIXT_ERROR_FORMAT;
    }
    mixt_status status = walk_value(&(walk){sink, user}, "", root);
    json_decref(root);
    return status;
}
