#include "atlas/load_log.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/files.h"
#include "formats/json.h"

#define FILE_MOST ((size_t)1 << 32)
#define TOKENS_MOST ((int64_t)1 << 40) /* of a step */
#define STEPS_MOST 1e15

typedef struct reading {
    const char *path;
    char place[4200]; /* path and line, for messages */
    mixt_load_log *log;
} reading;

static mixt_status refuse(const reading *r, mixt_error *error, const char *rule)
{
    return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: %s", r->place, rule);
}

/* A whole number of an object or array, 0 to most; -1: it is none. */
static int64_t whole(const json_t *value, int64_t most)
{
    json_int_t number = json_is_integer(value) ? json_integer_value(value) : -1;
    return number >= 0 && number <= most ? number : -1;
}

/* The first line says which layers there are, all others the same. */
static mixt_status read_layers(reading *r, const json_t *layers, const json_t *choices,
                               mixt_error *error)
{
    mixt_load_log *log = r->log;
    size_t count = json_array_size(layers), experts = json_array_size(json_array_get(choices, 0));
    if (count == 0 || count > MIXT_TRACE_MAX_LAYERS || json_array_size(choices) != count) {
        return refuse(r, error, "\"layers\" and \"choices\" must be arrays of as many entries");
    }
    if (experts == 0 || experts > MIXT_TRACE_MAX_EXPERTS) {
        return refuse(r, error, "\"choices\" must have a count of each expert");
    }
    bool first = log->numbers == NULL;
    if (first) {
        log->numbers = calloc(count, sizeof *log->numbers);
        log->layers = (int)count;
        log->experts = (int)experts;
        if (log->numbers == NULL) {
            return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", r->path);
        }
    }
    for (size_t i = 0; i < count; i++) {
        int64_t number = whole(json_array_get(layers, i), 1000000);
        if (number < 0) {
            return refuse(r, error, "\"layers\" must be numbers of layers");
        }
        if (first) {
            log->numbers[i] = (int)number;
        } else if ((int)count != log->layers || number != log->numbers[i]) {
            return refuse(r, error, "other layers than in the lines before");
        }
    }
    return MIXT_OK;
}

static mixt_status read_counts(reading *r, const json_t *choices, mixt_error *error)
{
    mixt_load_log *log = r->log;
    size_t layers = (size_t)log->layers, experts = (size_t)log->experts;
    size_t begin = log->count > 0 ? log->lines[log->count - 1].counts + layers * experts : 0;
    if (!mixt_grow(&log->counts, &log->count_room, begin + layers * experts, sizeof *log->counts)) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", r->path);
    }
    for (size_t layer = 0; layer < layers; layer++) {
        const json_t *row = json_array_get(choices, layer);
        if (json_array_size(row) != experts) {
            return refuse(r, error, "\"choices\" must have as many experts at each layer");
        }
        for (size_t e = 0; e < experts; e++) {
            int64_t count = whole(json_array_get(row, e), TOKENS_MOST);
            if (count < 0) {
                return refuse(r, error, "\"choices\" must be whole numbers, 0 and above");
            }
            log->counts[begin + layer * experts + e] = count;
        }
    }
    log->lines[log->count].counts = begin;
    return MIXT_OK;
}

static mixt_status read_object(reading *r, const json_t *object, mixt_error *error)
{
    static const char *const keys[] = {"step", "tokens", "layers", "choices"};
    mixt_load_log *log = r->log;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        size_t known = 0;
        while (known < sizeof keys / sizeof *keys && strcmp(key, keys[known]) != 0) {
            known++;
        }
        if (known == sizeof keys / sizeof *keys) {
            return mixt_fail(error, MIXT_ERROR_UNSUPPORTED, "%s: \"%.100s\" is not known here",
                             r->place, key);
        }
    }
    const mixt_json_object of = {object, r->place, "", error};
    int64_t least = log->count > 0 ? log->lines[log->count - 1].step + 1 : 0;
    mixt_load_line line;
    MIXT_TRY(
        mixt_json_integer(&of, "step", (mixt_json_range){(double)least, STEPS_MOST}, &line.step));
    MIXT_TRY(
        mixt_json_integer(&of, "tokens", (mixt_json_range){1, (double)TOKENS_MOST}, &line.tokens));
    if (!mixt_grow(&log->lines, &log->line_room, log->count + 1, sizeof *log->lines)) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", r->path);
    }
    log->lines[log->count] = line;
    const json_t *choices = json_object_get(object, "choices");
    MIXT_TRY(read_layers(r, json_object_get(object, "layers"), choices, error));
    MIXT_TRY(read_counts(r, choices, error));
    log->count++;
    return MIXT_OK;
}

static mixt_status read_line(reading *r, const char *text, size_t length, mixt_error *error)
{
    json_t *object;
    MIXT_TRY(mixt_json_parse(text, length, r->place, &object, error));
    mixt_status status = read_object(r, object, error);
    json_decref(object);
    return status;
}

mixt_status mixt_load_log_read(const char *path, mixt_load_log *log, mixt_error *error)
{
    char *text = NULL, *inside = NULL;
    size_t length = 0;
    *log = (mixt_load_log){0};
    if (mixt_path_is_folder(path)) {
        inside = mixt_path_join(path, "load.jsonl");
        if (inside == NULL) {
            return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
        }
    }
    reading r = {.path = inside != NULL ? inside : path, .log = log};
    mixt_status status = mixt_file_read(r.path, FILE_MOST, &text, &length, error);
    for (size_t at = 0, number = 1; at < length && status == MIXT_OK; number++) {
        const char *end = memchr(text + at, '\n', length - at);
        if (end == NULL) {
            break;
        }
        size_t line = (size_t)(end - (text + at));
        snprintf(r.place, sizeof r.place, "%.4096s:%zu", r.path, number);
        status = read_line(&r, text + at, line, error);
        at += line + 1;
    }
    if (status == MIXT_OK && log->count == 0) {
        status = mixt_fail(error, MIXT_ERROR_FORMAT, "%s: no step is in it", r.path);
    }
    free(inside);
    free(text);
    return status;
}

void mixt_load_log_free(mixt_load_log *log)
{
    free(log->numbers);
    free(log->lines);
    free(log->counts);
    *log = (mixt_load_log){0};
}
