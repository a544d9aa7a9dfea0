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

json_t *serve_json_parse(const char *bytes, size_t length, char problem[300])
{
    int line, column;
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
    json_t *root = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        for (char *c = error.text; *c != 0; c++) { /* it quotes the body */
            *c = (unsigned char)*c < 0x20 || *c == 0x7F ? '?' : *c;
        }
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
    return too_deep(bytes, length) != NULL || memchr(bytes, 0, length) != NULL
               ? NULL
               : json_loadb(bytes, length, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
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
