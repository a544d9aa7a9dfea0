/* The numbers of an atlas (mixt atlas --json, docs/atlas.md) by their paths: what the measures are
 * called there is what they are called here, so a new one needs nothing of a study. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "study_atlas.h"

enum { DEPTH_MAX = 16, PATH_MAX_BYTES = 300 };

typedef struct walk {
    const char *at;
    char path[PATH_MAX_BYTES];
    study_atlas_sink sink;
    void *user;
} walk;

static bool walk_value(walk *w, size_t used, int depth);

static void skip_blanks(walk *w)
{
    w->at += strspn(w->at, " \t\r\n");
}

/* A string, its escapes as they are: names of measures have none. */
static bool take_string(walk *w, const char **text, size_t *length)
{
    if (*w->at != '"') {
        return false;
    }
    const char *begin = ++w->at;
    while (*w->at != '"' && *w->at != 0) {
        w->at += w->at[0] == '\\' && w->at[1] != 0 ? 2 : 1;
    }
    *text = begin;
    *length = (size_t)(w->at - begin);
    return *w->at++ == '"';
}

static size_t extend(walk *w, size_t used, const char *name, size_t length)
{
    int more = snprintf(w->path + used, sizeof w->path - used, "%s%.*s", used > 0 ? "." : "",
                        (int)(length < 100 ? length : 100), name);
    size_t end = used + (size_t)(more > 0 ? more : 0);
    return end < sizeof w->path ? end : sizeof w->path - 1;
}

static bool walk_object(walk *w, size_t used, int depth)
{
    w->at++;
    skip_blanks(w);
    while (*w->at != '}') {
        const char *name;
        size_t length;
        if (!take_string(w, &name, &length)) {
            return false;
        }
        skip_blanks(w);
        if (*w->at++ != ':' || !walk_value(w, extend(w, used, name, length), depth + 1)) {
            return false;
        }
        w->path[used] = 0;
        skip_blanks(w);
        if (*w->at == ',') {
            w->at++;
            skip_blanks(w);
        } else if (*w->at != '}') {
            return false;
        }
    }
    w->at++;
    return true;
}

/* Rows of a layer are called by its number, others by their place. */
static bool walk_array(walk *w, size_t used, int depth)
{
    w->at++;
    skip_blanks(w);
    for (int i = 0; *w->at != ']'; i++) {
        char name[16];
        bool layer = strncmp(w->at, "{\"layer\": ", 10) == 0;
        snprintf(name, sizeof name, "%d", layer ? atoi(w->at + 10) : i);
        if (!walk_value(w, extend(w, used, name, strlen(name)), depth + 1)) {
            return false;
        }
        w->path[used] = 0;
        skip_blanks(w);
        if (*w->at == ',') {
            w->at++;
            skip_blanks(w);
        } else if (*w->at != ']') {
            return false;
        }
    }
    w->at++;
    return true;
}

static bool walk_value(walk *w, size_t used, int depth)
{
    const char *text;
    size_t length;
    char *end;
    skip_blanks(w);
    if (depth > DEPTH_MAX) {
        return false;
    }
    if (*w->at == '{') {
        return walk_object(w, used, depth);
    }
    if (*w->at == '[') {
        return walk_array(w, used, depth);
    }
    if (*w->at == '"') {
        return take_string(w, &text, &length);
    }
    if (isalpha((unsigned char)*w->at)) { /* null, true, false */
        w->at += strspn(w->at, "abcdefghijklmnopqrstuvwxyz");
        return true;
    }
    double value = strtod(w->at, &end);
    if (end == w->at) {
        return false;
    }
    w->at = end;
    w->sink(w->user, w->path, value);
    return true;
}

bool study_atlas_numbers(const char *json, study_atlas_sink sink, void *user)
{
    walk w = {.at = json, .sink = sink, .user = user};
    if (!walk_value(&w, 0, 0)) {
        return false;
    }
    skip_blanks(&w);
    return *w.at == 0;
}
