#include "formats/json.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/files.h"
#include "core/number.h"

/* Deepest nesting of brackets outside texts; jansson would follow 2,048 levels on the stack. */
static size_t deepest(const char *text, size_t length)
{
    size_t depth = 0;
    size_t most = 0;
    bool quoted = false;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (quoted) {
            i += c == '\\';
            quoted = c != '"';
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            depth++;
            most = depth > most ? depth : most;
        } else if ((c == '}' || c == ']') && depth != 0) {
            depth--;
        }
    }
    return most;
}

/* The key whose value stands at or just before byte `position`, for messages; length 0 when there
 * is none. */
static const char *key_before(const char *text, size_t position, size_t *length)
{
    *length = 0;
    size_t end = position;
    while (end > 0 && text[end - 1] != ':' && text[end - 1] != ',' && text[end - 1] != '"') {
        end--;
    }
    if (end == 0 || text[end - 1] != ':') {
        return text;
    }
    end--;
    while (end > 0 && text[end - 1] != '"') {
        end--;
    }
    if (end == 0) {
        return text;
    }
    size_t begin = end - 1;
    while (begin > 0 && text[begin - 1] != '"') {
        begin--;
    }
    *length = end - 1 - begin;
    return text + begin;
}

static mixt_status parse_failed(const char *text, size_t length, const char *name,
                                const json_error_t *problem, mixt_error *error)
{
    size_t key_length = 0;
    const char *key = text;
    if (json_error_code(problem) == json_error_numeric_overflow) {
        size_t position = problem->position < 0 ? 0 : (size_t)problem->position;
        key = key_before(text, position < length ? position : length, &key_length);
    }
    if (json_error_code(problem) == json_error_out_of_memory) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", name);
    }
    return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: %.*s%sline %d, column %d: %s", name,
                     (int)(key_length < 200 ? key_length : 200), key, key_length != 0 ? ": " : "",
                     problem->line, problem->column, problem->text);
}

/* The text with "e0" behind every integer of more than 18 digits outside texts, which makes it a
 * real number: Python writes model_max_length as 1000000000000000019884624838656, and nobody reads
 * it. Who asks for an integer there is refused as for any real. NULL where memory is out. */
static char *widen_integers(const char *text, size_t length, size_t *new_length)
{
    char *copy = malloc(length + length / 8 + 16); /* 2 bytes for every 19 or more */
    bool quoted = false;
    size_t used = 0;
    size_t digits = 0;
    bool fraction = false; /* a '.' or 'e' came before these digits */
    for (size_t i = 0; i <= length && copy != NULL; i++) {
        char c = i < length ? text[i] : ' ';
        bool is_digit = !quoted && c >= '0' && c <= '9';
        if (!is_digit && digits > 18 && !fraction && c != '.' && c != 'e' && c != 'E') {
            copy[used++] = 'e';
            copy[used++] = '0';
        }
        if (!quoted && !is_digit) {
            fraction = c == '.' || c == 'e' || c == 'E' || (fraction && (c == '+' || c == '-'));
        }
        digits = is_digit ? digits + 1 : 0;
        if (i < length) {
            copy[used++] = c;
        }
        if (quoted && c == '\\' && i + 1 < length) {
            copy[used++] = text[++i];
        } else if (c == '"') {
            quoted = !quoted;
        }
    }
    *new_length = used;
    return copy;
}

/* What jansson allocates with: the functions that were there, and a note of what failed. */
static pthread_mutex_t memory_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(json_malloc_t) memory_below;
static _Thread_local bool memory_failed;

static void *watched_malloc(size_t size)
{
    void *block = atomic_load(&memory_below)(size);
    memory_failed |= block == NULL;
    return block;
}

static void watch_memory(void)
{
    json_malloc_t allocate;
    json_free_t release;
    pthread_mutex_lock(&memory_lock);
    json_get_alloc_funcs(&allocate, &release);
    if (allocate != watched_malloc) { /* the first time, or the program set its own since */
        atomic_store(&memory_below, allocate);
        json_set_alloc_funcs(watched_malloc, release);
    }
    pthread_mutex_unlock(&memory_lock);
}

void mixt_json_begin(void)
{
    watch_memory();
    memory_failed = false;
}

bool mixt_json_failed(void)
{
    return memory_failed;
}

/* Moves the number at `from` to `to`, a real one as the shortest that reads back the same. Returns
 * its end: it grows nowhere, as jansson's has 17 digits and an exponent without zeros, too. */
static char *shorten_real(const char *from, size_t length, char *to)
{
    char old[MIXT_NUMBER_SIZE], shortest[MIXT_NUMBER_SIZE + 2];
    if (length < sizeof old && memchr(from, '.', length) != NULL) {
        memcpy(old, from, length);
        old[length] = 0;
        mixt_number_write(mixt_number_read(old, NULL), shortest);
        char *power = strchr(shortest, 'e');
        if (power != NULL) {
            power += power[1] == '-' ? 2 : 1;
            size_t zeros = strspn(power, "+0");
            memmove(power, power + zeros, strlen(power + zeros) + 1);
        } else if (strchr(shortest, '.') == NULL) {
            memcpy(shortest + strlen(shortest), ".0", 3); /* stays a real */
        }
        if (strlen(shortest) <= length) {
            length = strlen(shortest);
            from = shortest;
        }
    }
    memmove(to, from, length);
    return to + length;
}

/* 1e-5, where jansson writes 1.0000000000000001e-5. */
static void shorten_reals(char *text)
{
    char *to = text;
    for (char *c = text; *c != 0;) {
        if (*c == '"') {
            do {
                if (*c == '\\') {
                    *to++ = *c++;
                }
                *to++ = *c++;
            } while (*c != '"');
            *to++ = *c++;
            continue;
        }
        size_t length = strspn(c, "-+.0123456789eE"); /* false has no digit in front */
        if (length > 1 && (*c == '-' || (*c >= '0' && *c <= '9'))) {
            to = shorten_real(c, length, to);
            c += length;
        } else {
            *to++ = *c++;
        }
    }
    *to = 0;
}

char *mixt_json_text(const json_t *value, size_t flags)
{
    locale_t before = mixt_locale_enter();
    char *text = memory_failed ? NULL : json_dumps(value, flags);
    mixt_locale_leave(before);
    if (memory_failed) {
        free(text);
        return NULL;
    }
    if (text != NULL) {
        shorten_reals(text);
    }
    return text;
}

char *mixt_json_file_text(json_t *value, size_t flags)
{
    char *text = value != NULL ? mixt_json_text(value, JSON_INDENT(2) | flags) : NULL;
    json_decref(value);
    size_t length = text != NULL ? strlen(text) : 0;
    char *ended = text != NULL ? realloc(text, length + 2) : NULL;
    if (ended == NULL) {
        free(text);
        return NULL;
    }
    memcpy(ended + length, "\n", 2);
    return ended;
}

json_t *mixt_json_load(const char *text, size_t length, size_t flags, json_error_t *problem)
{
    bool failed_before = memory_failed; /* of what is being built around this */
    mixt_json_begin();
    locale_t before = mixt_locale_enter();
    json_t *value = json_loadb(text, length, flags, problem);
    mixt_locale_leave(before);
    if (memory_failed) {
        json_decref(value);
        value = NULL;
        if (problem != NULL) { /* where json_error_code looks for it */
            problem->text[sizeof problem->text - 1] = (char)json_error_out_of_memory;
        }
    }
    memory_failed |= failed_before;
    return value;
}

static json_t *load(const char *text, size_t length, json_error_t *problem)
{
    json_t *value = mixt_json_load(text, length, JSON_REJECT_DUPLICATES, problem);
    if (value == NULL && json_error_code(problem) == json_error_numeric_overflow) {
        json_error_t second = {0};
        size_t wide_length = 0;
        char *wide = widen_integers(text, length, &wide_length);
        second.text[sizeof second.text - 1] = (char)json_error_out_of_memory;
        value = wide != NULL ? mixt_json_load(wide, wide_length, JSON_REJECT_DUPLICATES, &second)
                             : NULL;
        free(wide);
        if (value == NULL && json_error_code(&second) == json_error_out_of_memory) {
            *problem = second;
        }
    }
    return value;
}

mixt_status mixt_json_parse(const char *text, size_t length, const char *name, json_t **root,
                            mixt_error *error)
{
    *root = NULL;
    if (deepest(text, length) > MIXT_JSON_DEPTH_MAX) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: nested deeper than %d levels", name,
                         MIXT_JSON_DEPTH_MAX);
    }
    json_error_t problem;
    json_t *value = load(text, length, &problem);
    if (value == NULL) {
        return parse_failed(text, length, name, &problem, error);
    }
    if (!json_is_object(value)) {
        json_decref(value);
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: must hold a JSON object", name);
    }
    *root = value;
    return MIXT_OK;
}

mixt_status mixt_json_read(const char *path, size_t limit, json_t **root, mixt_error *error)
{
    *root = NULL;
    char *text;
    size_t length;
    mixt_status status = mixt_file_read(path, limit, &text, &length, error);
    if (status == MIXT_OK) {
        status = mixt_json_parse(text, length, path, root, error);
    }
    free(text);
    return status;
}

mixt_status mixt_json_fail(const mixt_json_object *object, const char *key, const char *format, ...)
{
    char text[300];
    va_list arguments;
    va_start(arguments, format);
    mixt_format_list(text, sizeof text, format, arguments);
    va_end(arguments);
    return mixt_fail(object->error, MIXT_ERROR_FORMAT, "%s: %s%s: %s", object->file,
                     object->place == NULL ? "" : object->place, key, text);
}

/* A value as a short text for messages. */
static void describe(const json_t *value, char *text, size_t size)
{
    if (json_is_object(value)) {
        snprintf(text, size, "an object");
    } else if (json_is_array(value)) {
        snprintf(text, size, "an array");
    } else if (json_is_string(value)) {
        snprintf(text, size, "\"%.60s\"", json_string_value(value));
    } else if (json_is_integer(value)) {
        snprintf(text, size, "%lld", (long long)json_integer_value(value));
    } else if (json_is_real(value)) {
        char number[MIXT_NUMBER_SIZE];
        mixt_number_write(json_real_value(value), number);
        snprintf(text, size, "%s", number);
    } else {
        snprintf(text, size, "%s",
                 json_is_true(value)    ? "true"
                 : json_is_false(value) ? "false"
                                        : "null");
    }
}

static mixt_status wrong(const mixt_json_object *object, const char *key, const json_t *value,
                         const char *rule)
{
    char text[80];
    describe(value, text, sizeof text);
    return mixt_json_fail(object, key, "%s is not %s", text, rule);
}

bool mixt_json_has(const mixt_json_object *object, const char *key)
{
    const json_t *value = json_object_get(object->json, key);
    return value != NULL && !json_is_null(value);
}

mixt_status mixt_json_member(const mixt_json_object *object, const char *key, const json_t **value)
{
    *value = json_object_get(object->json, key);
    return *value != NULL ? MIXT_OK : mixt_json_fail(object, key, "is missing");
}

mixt_status mixt_json_integer(const mixt_json_object *object, const char *key,
                              mixt_json_range range, int64_t *value)
{
    const json_t *found;
    MIXT_TRY(mixt_json_member(object, key, &found));
    long long number = json_integer_value(found);
    if (!json_is_integer(found) || (double)number < range.low || (double)number > range.high ||
        number > (1LL << 53) || number < -(1LL << 53)) {
        char rule[80];
        mixt_format(rule, sizeof rule, "an integer in %.0f..%.0f", range.low, range.high);
        return wrong(object, key, found, rule);
    }
    *value = number;
    return MIXT_OK;
}

mixt_status mixt_json_number(const mixt_json_object *object, const char *key, mixt_json_range range,
                             double *value)
{
    const json_t *found;
    MIXT_TRY(mixt_json_member(object, key, &found));
    double number = json_number_value(found);
    if (!json_is_number(found) || !isfinite(number) || number < range.low || number > range.high) {
        char rule[80];
        mixt_format(rule, sizeof rule, "a number in %g..%g", range.low, range.high);
        return wrong(object, key, found, rule);
    }
    *value = number;
    return MIXT_OK;
}

mixt_status mixt_json_bool(const mixt_json_object *object, const char *key, bool *value)
{
    const json_t *found;
    MIXT_TRY(mixt_json_member(object, key, &found));
    if (!json_is_boolean(found)) {
        return wrong(object, key, found, "true or false");
    }
    *value = json_is_true(found);
    return MIXT_OK;
}

mixt_status mixt_json_string(const mixt_json_object *object, const char *key, const char **value)
{
    const json_t *found;
    MIXT_TRY(mixt_json_member(object, key, &found));
    if (!json_is_string(found)) {
        return wrong(object, key, found, "a text");
    }
    *value = json_string_value(found);
    return MIXT_OK;
}

mixt_status mixt_json_array(const mixt_json_object *object, const char *key, const json_t **value)
{
    MIXT_TRY(mixt_json_member(object, key, value));
    return json_is_array(*value) ? MIXT_OK : wrong(object, key, *value, "an array");
}

mixt_status mixt_json_integer_or(const mixt_json_object *object, const char *key,
                                 mixt_json_range range, int64_t *value)
{
    return mixt_json_has(object, key) ? mixt_json_integer(object, key, range, value) : MIXT_OK;
}

mixt_status mixt_json_number_or(const mixt_json_object *object, const char *key,
                                mixt_json_range range, double *value)
{
    return mixt_json_has(object, key) ? mixt_json_number(object, key, range, value) : MIXT_OK;
}

mixt_status mixt_json_bool_or(const mixt_json_object *object, const char *key, bool *value)
{
    return mixt_json_has(object, key) ? mixt_json_bool(object, key, value) : MIXT_OK;
}

mixt_status mixt_json_string_or(const mixt_json_object *object, const char *key, const char **value)
{
    return mixt_json_has(object, key) ? mixt_json_string(object, key, value) : MIXT_OK;
}
