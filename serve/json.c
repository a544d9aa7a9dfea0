#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* jansson recurses up to 2,048 levels; ours are counted before it sees the text. Gives the place of
 * the first bracket that is too deep, or NULL. */
static const char *too_deep(const char *bytes, size_t length)
{
    int depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < length; i++) {
        char c = bytes[i];
        if (quoted) {
            i += c == '\\';
            quoted = c != '"';
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            if (++depth > SERVE_JSON_DEPTH_MAX) {
                return bytes + i;
            }
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return NULL;
}

static void place_of(const char *bytes, const char *at, int *line, int *column)
{
    *line = *column = 1;
    for (const char *c = bytes; c < at; c++) {
        *column = *c == '\n' ? 1 : *column + 1;
        *line += *c == '\n';
    }
}

/* ---- reading without memory
 *
 * jansson passes over a failed allocation of its string buffer, and then reads and writes beyond
 * what was kept of a string. So while a text is read, whatever memory refuses comes from a reserve
 * that was taken before, and the text ends there: what jansson has of it, it then gives up as it
 * does any text that is cut. At most one more part of the text is looked at, so the reserve holds
 * the buffer's next size and the values of a part. */

enum { PART = 1024, VALUES_OF_PART = 256 * 1024 };

static _Thread_local struct {
    char *bytes;
    size_t used, size;
    bool asked; /* memory was refused */
} reserve;

static void *get_memory(size_t size)
{
    void *found = malloc(size);
    if (found != NULL || reserve.bytes == NULL) {
        return found;
    }
    size_t rounded = (size + 15) / 16 * 16;
    reserve.asked = true;
    if (rounded > reserve.size - reserve.used) {
        return NULL;
    }
    found = reserve.bytes + reserve.used;
    reserve.used += rounded;
    return found;
}

static void give_memory(void *memory)
{
    const char *bytes = memory;
    if (reserve.bytes == NULL || bytes < reserve.bytes || bytes >= reserve.bytes + reserve.size) {
        free(memory);
    }
}

void serve_json_begin(void)
{
    json_set_alloc_funcs(get_memory, give_memory);
}

typedef struct text_left {
    const char *bytes;
    size_t length;
} text_left;

static size_t next_part(void *buffer, size_t size, void *data)
{
    text_left *left = data;
    size_t count = left->length < size ? left->length : size;
    count = count < PART ? count : PART;
    if (reserve.asked) {
        return 0;
    }
    memcpy(buffer, left->bytes, count);
    left->bytes += count;
    left->length -= count;
    return count;
}

/* NULL without memory, which *no_memory says, or with error->text. */
static json_t *load(const char *bytes, size_t length, size_t flags, json_error_t *error,
                    bool *no_memory)
{
    text_left left = {bytes, length};
    json_t *root = NULL;
    reserve.size = 2 * length + 2 * PART + VALUES_OF_PART;
    reserve.used = 0;
    reserve.asked = false;
    reserve.bytes = malloc(reserve.size);
    if (reserve.bytes != NULL) {
        root = json_load_callback(next_part, &left, flags, error);
    }
    *no_memory = reserve.bytes == NULL || reserve.asked;
    if (reserve.asked) { /* some of it may lie in the reserve */
        json_decref(root);
        root = NULL;
    }
    char *bytes_of_reserve = reserve.bytes;
    reserve.bytes = NULL;
    free(bytes_of_reserve);
    return root;
}

/* ---- texts */

json_t *serve_json_parse(const char *bytes, size_t length, char problem[300], bool *no_memory)
{
    int line, column;
    *no_memory = false;
    json_error_t error;
    const char *deep = too_deep(bytes, length);
    if (length == 0) {
        snprintf(problem, 300, "the body is empty; a JSON object is needed");
        return NULL;
    }
    if (deep != NULL) {
        place_of(bytes, deep, &line, &column);
        snprintf(problem, 300, "invalid JSON at line %d, column %d: nested deeper than %d levels",
                 line, column, SERVE_JSON_DEPTH_MAX);
        return NULL;
    }
    const char *nul = memchr(bytes, 0, length); /* jansson passes over it as over a space */
    if (nul != NULL) {
        place_of(bytes, nul, &line, &column);
        snprintf(problem, 300, "invalid JSON at line %d, column %d: a NUL byte", line, column);
        return NULL;
    }
    json_t *root = load(bytes, length, JSON_REJECT_DUPLICATES, &error, no_memory);
    if (*no_memory) {
        snprintf(problem, 300, "out of memory");
        return NULL;
    }
    if (root == NULL) {
        snprintf(problem, 300, "invalid JSON at line %d, column %d: %.200s", error.line,
                 error.column < 0 ? 0 : error.column, error.text);
        return NULL;
    }
    if (!json_is_object(root)) {
        snprintf(problem, 300, "the body is a JSON array; an object is needed");
        json_decref(root);
        return NULL;
    }
    return root;
}

json_t *serve_json_any(const char *bytes, size_t length)
{
    bool no_memory;
    json_error_t error;
    return too_deep(bytes, length) != NULL || memchr(bytes, 0, length) != NULL
               ? NULL
               : load(bytes, length, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error, &no_memory);
}

void text_json_value(text_buffer *text, const json_t *value)
{
    char *dumped = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(17));
    if (dumped == NULL) {
        text->failed = true;
        return;
    }
    text_put(text, dumped);
    free(dumped);
}
