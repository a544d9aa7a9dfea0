/* The numbers of an atlas (mixt atlas --json, docs/atlas.md) by their paths: what the measures are
 * called there is what they are called here, so a new one needs nothing of a study. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "study_atlas.h"

typedef struct walk {
    char path[300];
    study_atlas_sink sink;
    void *user;
} walk;

static void walk_value(walk *w, size_t used, const json_t *value);

/* What stands below `name`; paths that are too long are cut. */
static void walk_below(walk *w, size_t used, const char *name, const json_t *value)
{
    size_t room = sizeof w->path - used;
    int more = snprintf(w->path + used, room, "%s%.100s", used > 0 ? "." : "", name);
    size_t length = more > 0 ? (size_t)more : 0;
    walk_value(w, used + (length < room ? length : room - 1), value);
    w->path[used] = 0;
}

/* Rows of a layer are called by its number, others by their place. */
static void walk_array(walk *w, size_t used, const json_t *array)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *value = json_array_get(array, i), *layer = json_object_get(value, "layer");
        char name[32];
        snprintf(name, sizeof name, "%lld",
                 layer != NULL ? (long long)json_integer_value(layer) : (long long)i);
        walk_below(w, used, name, value);
    }
}

static void walk_value(walk *w, size_t used, const json_t *value)
{
    const char *name;
    json_t *member, *object = (json_t *)value;
    if (json_is_array(value)) {
        walk_array(w, used, value);
    } else if (json_is_number(value)) {
        w->sink(w->user, w->path, json_number_value(value));
    }
    json_object_foreach(object, name, member)
    {
        walk_below(w, used, name, member);
    }
}

bool study_atlas_numbers(const char *json, study_atlas_sink sink, void *user)
{
    walk w = {.sink = sink, .user = user};
    json_t *root = json_loads(json, JSON_DECODE_ANY, NULL);
    if (root == NULL) {
        return false;
    }
    walk_value(&w, 0, root);
    json_decref(root);
    return true;
}
