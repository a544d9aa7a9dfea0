/* The only door to jansson in this folder: bodies are read here and nowhere else, values are looked
 * at through jansson's own getters. */
#ifndef MIXT_SERVE_JSON_H
#define MIXT_SERVE_JSON_H

#include <jansson.h>

#include "text.h"

enum { SERVE_JSON_DEPTH_MAX = 64 };

/* Before any text is read, and before there are threads that read. */
void serve_json_begin(void);
/* The object that a body is. NULL: `problem` has one line with line and column: no JSON, duplicate
 * keys, invalid UTF-8, NUL, numbers out of range, nested deeper than SERVE_JSON_DEPTH_MAX, or no
 * object; or, with *no_memory, that there was none. Release with json_decref. */
json_t *serve_json_parse(const char *bytes, size_t length, char problem[300], bool *no_memory);
/* A value of any kind; NULL without memory or where it is none. */
json_t *serve_json_any(const char *bytes, size_t length);
/* A value as compact text, keys in their order. */
void text_json_value(text_buffer *text, const json_t *value);

#endif
