/* Typed, named access to JSON configuration files over jansson.
 * Refused with file and place: files beyond a size, nesting beyond MIXT_JSON_DEPTH_MAX, duplicate
 * keys, invalid UTF-8 (lone surrogates, overlong forms, byte order marks, UTF-16), NaN, numbers
 * beyond double (1e400). Integers beyond 64 bits are reals. Unknown keys are nobody's business. */
#ifndef MIXT_FORMATS_JSON_H
#define MIXT_FORMATS_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "mixt.h"

#define MIXT_JSON_DEPTH_MAX 64
#define MIXT_JSON_CONFIG_MAX ((size_t)16 << 20) /* bytes of a configuration file */

/* Reads a file whose root must be an object. Release with json_decref. */
mixt_status mixt_json_read(const char *path, size_t limit, json_t **root, mixt_error *error);
/* The same from memory; `name` stands for the file in messages. */
mixt_status mixt_json_parse(const char *text, size_t length, const char *name, json_t **root,
                            mixt_error *error);

/* jansson passes over some allocations that fail (a text read without memory lacks letters, an
 * object built without it lacks keys), so this library looks at them itself, below jansson: once
 * one failed on this thread, mixt_json_failed says so and mixt_json_text gives NULL, until the next
 * mixt_json_begin. So who builds begins, ends with the text and checks that alone. */
void mixt_json_begin(void);
bool mixt_json_failed(void);

/* json_dumps, with a decimal point whatever the locale and with reals as mixt_number_write has
 * them. */
char *mixt_json_text(const json_t *value, size_t flags);
/* The same of a file: indented, with a newline at its end. Takes the value, which may be NULL. */
char *mixt_json_file_text(json_t *value, size_t flags);

/* json_loadb, likewise. Where memory was out, `problem` (may be NULL) has json_error_out_of_memory
 * and mixt_json_failed says so. */
json_t *mixt_json_load(const char *text, size_t length, size_t flags, json_error_t *problem);

/* An object and how to speak of it: "config.json: rope_scaling.factor: ...". */
typedef struct mixt_json_object {
    const json_t *json;
    const char *file;
    const char *place; /* keys that lead here with a '.' behind them, or "" */
    mixt_error *error;
} mixt_json_object;

typedef struct mixt_json_range {
    double low, high; /* both inside; integers up to 2^53 are exact */
} mixt_json_range;

/* Present and not null. */
bool mixt_json_has(const mixt_json_object *object, const char *key);

/* A value that must be there; absent, null, another type or out of range is an error that names the
 * key. An integer may not be written as 3.0. */
mixt_status mixt_json_integer(const mixt_json_object *object, const char *key,
                              mixt_json_range range, int64_t *value);
mixt_status mixt_json_number(const mixt_json_object *object, const char *key, mixt_json_range range,
                             double *value);
mixt_status mixt_json_bool(const mixt_json_object *object, const char *key, bool *value);
/* *value belongs to the JSON object. */
mixt_status mixt_json_string(const mixt_json_object *object, const char *key, const char **value);
mixt_status mixt_json_array(const mixt_json_object *object, const char *key, const json_t **value);
mixt_status mixt_json_member(const mixt_json_object *object, const char *key, const json_t **value);

/* The same where absent or null leaves *value as it was. */
mixt_status mixt_json_integer_or(const mixt_json_object *object, const char *key,
                                 mixt_json_range range, int64_t *value);
mixt_status mixt_json_number_or(const mixt_json_object *object, const char *key,
                                mixt_json_range range, double *value);
mixt_status mixt_json_bool_or(const mixt_json_object *object, const char *key, bool *value);
mixt_status mixt_json_string_or(const mixt_json_object *object, const char *key,
                                const char **value);

/* Fails with "file: key: " before the text. */
mixt_status mixt_json_fail(const mixt_json_object *object, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
