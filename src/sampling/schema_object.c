/* Objects and arrays. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"
#include "formats/json.h"
#include "sampling/grammar.h"
#include "sampling/schema.h"

enum { KEY_BYTES_MAX = 1000 }; /* of one that others are held apart from, byte by byte */

/* ---- objects */

typedef struct property {
    const char *name;
    json_t *schema;
    bool required;
} property;

typedef struct object_parts {
    property *list; /* [count]: those that may be there */
    size_t count;
    json_t *additional;               /* schema of all others; NULL: there are none */
    int64_t additional_most;          /* -1: no limit */
    char pair_name[MIXT_SCHEMA_NAME]; /* rule of one of the others */
} object_parts;

static bool names(const json_t *list, const char *name)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *other = json_string_value(json_array_get(list, i));
        if (other != NULL && strcmp(other, name) == 0) {
            return true;
        }
    }
    return false;
}

/* The properties in the schema's order, then those that are required without being described. */
static mixt_status list_properties(mixt_schema *schema, json_t *node, object_parts *parts)
{
    json_t *properties = json_object_get(node, "properties"), *required, *value;
    const char *name;
    size_t i;
    required = json_object_get(node, "required");
    if ((properties != NULL && !json_is_object(properties)) ||
        (required != NULL && !json_is_array(required))) {
        return mixt_schema_refuse(schema, "properties is no object, or required no array");
    }
    MIXT_TRY(mixt_schema_charge(schema, json_object_size(properties) + json_array_size(required),
                                json_array_size(required) + 1));
    parts->list =
        calloc(json_object_size(properties) + json_array_size(required) + 1, sizeof *parts->list);
    if (parts->list == NULL) {
        return mixt_schema_no_memory(schema);
    }
    json_object_foreach(properties, name, value)
    {
        bool is_required = names(required, name);
        if (json_is_false(value) && is_required) {
            return mixt_schema_refuse(schema, "%.60s is required and may not be there", name);
        }
        if (!json_is_false(value)) {
            parts->list[parts->count++] = (property){name, value, is_required};
        }
    }
    json_array_foreach(required, i, value)
    {
        name = json_string_value(value);
        if (name == NULL) {
            return mixt_schema_refuse(schema, "required names something that is no text");
        }
        bool known = json_object_get(properties, name) != NULL;
        for (size_t k = 0; k < parts->count; k++) {
            known = known || strcmp(parts->list[k].name, name) == 0;
        }
        json_t *additional = json_object_get(node, "additionalProperties");
        if (!known && json_is_false(additional)) {
            return mixt_schema_refuse(schema, "%.60s is required and may not be there", name);
        }
        if (!known) {
            parts->list[parts->count++] =
                (property){name, additional != NULL ? additional : json_true(), true};
        }
    }
    return MIXT_OK;
}

/* minProperties and maxProperties, as far as the names alone do not see to them. */
static mixt_status check_counts(mixt_schema *schema, json_t *node, object_parts *parts)
{
    int64_t least = 0, most = INT64_MAX, required = 0;
    int64_t count = (int64_t)parts->count;
    MIXT_TRY(mixt_schema_size(schema, node, "minProperties", &least));
    MIXT_TRY(mixt_schema_size(schema, node, "maxProperties", &most));
    for (size_t i = 0; i < parts->count; i++) {
        required += parts->list[i].required;
    }
    if (least > required) {
        return mixt_schema_refuse(schema, "minProperties beyond the required ones cannot be held "
                                          "by a grammar");
    }
    if (most < count) {
        return mixt_schema_refuse(schema, "maxProperties below the number of properties cannot be "
                                          "held by a grammar");
    }
    parts->additional_most = most == INT64_MAX ? -1 : most - count;
    return MIXT_OK;
}

/* One unit of a JSON string at `text`: an escape, or a character. */
static size_t unit_length(const char *text)
{
    if (text[0] == '\\') {
        return text[1] == 'u' ? 6 : 2;
    }
    return mixt_utf8_character((const unsigned char *)text, strlen(text));
}

typedef struct key_list {
    const char **keys; /* [count] sorted: what is left of each behind what they share */
    size_t count;
} key_list;

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void write_class_unit(mixt_buffer *to, const char *unit, size_t length)
{
    if (length == 1 && strchr("]^-[", unit[0]) != NULL) {
        mixt_buffer_format(to, "\\x%02X", (unsigned char)unit[0]);
    } else {
        mixt_buffer_append(to, unit, length);
    }
}

/* The rest of a key that is none of the keys, from where all of these begin alike: nothing (where
 * none ends here), a unit with which none goes on and whatever follows, or one with which some do
 * and what is then none of theirs. */
static mixt_status write_other_key(mixt_schema *schema, key_list keys, char name[MIXT_SCHEMA_NAME])
{
    mixt_buffer body = {0}, plain = {0};
    char next[MIXT_SCHEMA_NAME], escapes[] = "\"\\bfnrt";
    bool ends = false;
    mixt_status status = mixt_schema_new_name(schema, name);
    for (size_t i = 0; status == MIXT_OK && i < keys.count;) {
        const char *unit = keys.keys[i];
        size_t length = unit_length(unit), same = i;
        if (length == 0) {
            ends = true;
            i++;
            continue;
        }
        while (same < keys.count && strncmp(keys.keys[same], unit, length) == 0) {
            keys.keys[same++] += length;
        }
        status = write_other_key(schema, (key_list){keys.keys + i, same - i}, next);
        mixt_schema_literal(&body, unit, length);
        mixt_buffer_format(&body, " %s | ", next);
        if (unit[0] != '\\') {
            write_class_unit(&plain, unit, length);
        } else if (unit[1] != 'u') {
            char *escape = strchr(escapes, unit[1]);
            *(escape != NULL ? escape : escapes + strlen(escapes)) = ' ';
        }
        i = same;
    }
    mixt_schema_use(schema, MIXT_SHARED_PLAIN);
    mixt_buffer_text(&body, "[^\"\\\\\\x00-\\x1F");
    mixt_buffer_append(&body, plain.data, plain.length);
    mixt_buffer_text(&body, "] char-plain*");
    for (char *c = escapes; *c != '\0'; c++) {
        if (*c != ' ') {
            char escape[] = {'\\', *c};
            mixt_buffer_text(&body, " | ");
            mixt_schema_literal(&body, escape, sizeof escape);
            mixt_buffer_text(&body, " char-plain*");
        }
    }
    mixt_buffer_text(&body, ends ? "" : " | \"\"");
    if (status == MIXT_OK) {
        mixt_schema_write_rule(schema, name, &body);
    }
    mixt_buffer_free(&body);
    mixt_buffer_free(&plain);
    return status;
}

/* The text of a key between its quotes; malloc'd. */
static char *inside_quotes(const char *key)
{
    json_t *value = json_string(key);
    char *text = mixt_json_text(value, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(value);
    if (text != NULL) {
        size_t length = strlen(text) - 2;
        memmove(text, text + 1, length);
        text[length] = '\0';
    }
    return text;
}

/* A rule for a key that none of the properties has. */
static mixt_status write_key_rule(mixt_schema *schema, json_t *node, const object_parts *parts,
                                  char name[MIXT_SCHEMA_NAME])
{
    json_t *properties = json_object_get(node, "properties"), *value;
    size_t room = parts->count + json_object_size(properties) + 1, count = 0;
    const char *key;
    char **texts = calloc(room, sizeof *texts);
    const char **keys = calloc(room, sizeof *keys);
    mixt_status status = texts == NULL || keys == NULL ? mixt_schema_no_memory(schema) : MIXT_OK;
    for (size_t i = 0; status == MIXT_OK && i < parts->count; i++) {
        texts[count++] = inside_quotes(parts->list[i].name);
    }
    json_object_foreach(properties, key, value)
    {
        if (status == MIXT_OK && json_is_false(value)) { /* which may not be there at all */
            texts[count++] = inside_quotes(key);
        }
    }
    for (size_t i = 0; status == MIXT_OK && i < count; i++) {
        keys[i] = texts[i];
        status = texts[i] == NULL ? mixt_schema_no_memory(schema)
                 : strlen(texts[i]) > KEY_BYTES_MAX
                     ? mixt_schema_refuse(schema,
                                          "a name of more than %d bytes beside "
                                          "additionalProperties",
                                          KEY_BYTES_MAX)
                     : MIXT_OK;
    }
    if (status == MIXT_OK) {
        qsort(keys, count, sizeof *keys, compare_keys);
        status = write_other_key(schema, (key_list){keys, count}, name);
    }
    for (size_t i = 0; texts != NULL && i < count; i++) {
        free(texts[i]);
    }
    free(texts);
    free(keys);
    return status;
}

/* Key, colon, value and the space behind it. */
static void write_pair(mixt_schema *schema, const char *key, const char *value, mixt_buffer *to)
{
    const char *ws = mixt_schema_use(schema, MIXT_SHARED_WS);
    mixt_buffer_format(to, "%s %s \":\" %s %s %s", key, ws, ws, value, ws);
}

static mixt_status write_additional(mixt_schema *schema, json_t *node, object_parts *parts)
{
    json_t *additional = json_object_get(node, "additionalProperties");
    char key[MIXT_SCHEMA_NAME + 10], value[MIXT_SCHEMA_NAME];
    mixt_buffer body = {0};
    bool any = parts->count == 0 && json_object_get(node, "properties") == NULL;
    if ((additional == NULL && !any) || json_is_false(additional) || parts->additional_most == 0) {
        return MIXT_OK;
    }
    parts->additional = additional != NULL ? additional : json_true();
    MIXT_TRY(mixt_schema_rule(schema, parts->additional, "/additionalProperties", value));
    if (any) {
        snprintf(key, sizeof key, "%s", mixt_schema_use(schema, MIXT_SHARED_STRING));
    } else {
        char rest[MIXT_SCHEMA_NAME];
        MIXT_TRY(write_key_rule(schema, node, parts, rest));
        snprintf(key, sizeof key, "\"\\\"\" %s \"\\\"\"", rest);
    }
    MIXT_TRY(mixt_schema_new_name(schema, parts->pair_name));
    write_pair(schema, key, value, &body);
    mixt_schema_write_rule(schema, parts->pair_name, &body);
    mixt_buffer_free(&body);
    return MIXT_OK;
}

/* All of the others that may follow when something is already there. */
static void write_more(const object_parts *parts, const char *ws, int64_t most, mixt_buffer *to)
{
    if (parts->additional != NULL && most != 0) {
        mixt_buffer_format(to, " (\",\" %s %s)", ws, parts->pair_name);
        mixt_buffer_text(to, most < 0 ? "*" : "");
        if (most > 0) {
            mixt_buffer_format(to, "{0,%lld}", (long long)most);
        }
    }
}

/* Rules for each property with its pair: pairs [count], and behind[i] for what may follow pair i -
 * 1 when that, or one before it, is there. */
static mixt_status write_chain(mixt_schema *schema, const object_parts *parts,
                               char (*pairs)[MIXT_SCHEMA_NAME], char (*behind)[MIXT_SCHEMA_NAME])
{
    const char *ws = mixt_schema_use(schema, MIXT_SHARED_WS);
    for (size_t i = parts->count + 1; i-- > 0;) {
        mixt_buffer body = {0};
        MIXT_TRY(mixt_schema_new_name(schema, behind[i]));
        if (i == parts->count) {
            mixt_buffer_text(&body, "\"\"");
            write_more(parts, ws, parts->additional_most, &body);
        } else {
            bool optional = !parts->list[i].required;
            mixt_buffer_format(&body, optional ? "(\",\" %s %s)? %s" : "\",\" %s %s %s", ws,
                               pairs[i], behind[i + 1]);
        }
        mixt_schema_write_rule(schema, behind[i], &body);
        mixt_buffer_free(&body);
    }
    return MIXT_OK;
}

static mixt_status write_pairs(mixt_schema *schema, const object_parts *parts,
                               char (*pairs)[MIXT_SCHEMA_NAME])
{
    for (size_t i = 0; i < parts->count; i++) {
        char value[MIXT_SCHEMA_NAME], step[100];
        mixt_buffer key = {0}, body = {0};
        json_t *name = json_string(parts->list[i].name);
        snprintf(step, sizeof step, "/properties/%.80s", parts->list[i].name);
        mixt_status status =
            name == NULL ? mixt_schema_no_memory(schema) : mixt_schema_constant(schema, name, &key);
        json_decref(name);
        if (status == MIXT_OK) {
            status = mixt_schema_rule(schema, parts->list[i].schema, step, value);
        }
        if (status == MIXT_OK) {
            status = mixt_schema_new_name(schema, pairs[i]);
        }
        if (status == MIXT_OK) {
            mixt_buffer_append(&key, "", 1);
            write_pair(schema, key.failed ? "" : key.data, value, &body);
            body.failed = body.failed || key.failed;
            mixt_schema_write_rule(schema, pairs[i], &body);
        }
        mixt_buffer_free(&key);
        mixt_buffer_free(&body);
        MIXT_TRY(status);
    }
    return MIXT_OK;
}

/* { the first of the pairs that are there, and what follows it }. */
static mixt_status write_object(mixt_schema *schema, const object_parts *parts, mixt_buffer *to)
{
    const char *ws = mixt_schema_use(schema, MIXT_SHARED_WS);
    char(*words)[MIXT_SCHEMA_NAME] = calloc(2 * parts->count + 1, sizeof *words);
    if (words == NULL) {
        return mixt_schema_no_memory(schema);
    }
    char(*pairs)[MIXT_SCHEMA_NAME] = words, (*behind)[MIXT_SCHEMA_NAME] = words + parts->count;
    mixt_status status = write_pairs(schema, parts, pairs);
    if (status == MIXT_OK) {
        status = write_chain(schema, parts, pairs, behind);
    }
    if (status == MIXT_OK) {
        bool may_be_empty = true;
        mixt_buffer_format(to, "\"{\" %s (", ws);
        for (size_t i = 0; may_be_empty && i < parts->count; i++) {
            mixt_buffer_format(to, "%s%s %s", i > 0 ? " | " : "", pairs[i], behind[i + 1]);
            may_be_empty = !parts->list[i].required;
        }
        if (may_be_empty && parts->additional != NULL) {
            mixt_buffer_format(to, "%s%s", parts->count > 0 ? " | " : "", parts->pair_name);
            write_more(parts, ws, parts->additional_most < 0 ? -1 : parts->additional_most - 1, to);
        }
        mixt_buffer_text(to, may_be_empty ? ")? \"}\"" : ") \"}\"");
    }
    free(words);
    return status;
}

mixt_status mixt_schema_object(mixt_schema *schema, json_t *node, mixt_buffer *to)
{
    object_parts parts = {0};
    mixt_status status = list_properties(schema, node, &parts);
    if (status == MIXT_OK) {
        status = check_counts(schema, node, &parts);
    }
    if (status == MIXT_OK) {
        status = write_additional(schema, node, &parts);
    }
    if (status == MIXT_OK) {
        status = write_object(schema, &parts, to);
    }
    free(parts.list);
    return status;
}

/* ---- arrays */

typedef struct array_parts {
    json_t *first;       /* schemas of the first items */
    json_t *items;       /* of those behind them; NULL: there are none */
    int64_t least, most; /* -1: no limit */
} array_parts;

static mixt_status read_array(mixt_schema *schema, json_t *node, array_parts *parts)
{
    json_t *unique = json_object_get(node, "uniqueItems");
    parts->first = json_object_get(node, "prefixItems");
    parts->items = json_object_get(node, "items");
    parts->most = -1;
    if (unique != NULL && !json_is_false(unique)) {
        return mixt_schema_refuse(schema, "uniqueItems cannot be held by a grammar");
    }
    if (parts->first != NULL && !json_is_array(parts->first)) {
        return mixt_schema_refuse(schema, "prefixItems is no array of schemas");
    }
    MIXT_TRY(mixt_schema_size(schema, node, "minItems", &parts->least));
    MIXT_TRY(mixt_schema_size(schema, node, "maxItems", &parts->most));
    int64_t first = (int64_t)json_array_size(parts->first);
    if (parts->items == NULL && (first == 0 || parts->least > first)) {
        parts->items = json_true();
    }
    if (json_is_false(parts->items)) {
        parts->items = NULL;
    }
    if (parts->items == NULL && (parts->most < 0 || parts->most > first)) {
        parts->most = first;
    }
    if (parts->most >= 0 && parts->least > parts->most) {
        return mixt_schema_refuse(schema, "no array has at least %lld and at most %lld items",
                                  (long long)parts->least, (long long)parts->most);
    }
    return MIXT_OK;
}

/* Items from `from` on, a comma before each but the array's first: a rule. */
static mixt_status write_items(mixt_schema *schema, const array_parts *parts, int64_t from,
                               char name[MIXT_SCHEMA_NAME])
{
    const char *ws = mixt_schema_use(schema, MIXT_SHARED_WS);
    char item[MIXT_SCHEMA_NAME], comma[40] = "", rest[MIXT_SCHEMA_NAME], step[60];
    int64_t first = (int64_t)json_array_size(parts->first);
    mixt_buffer body = {0};
    MIXT_TRY(mixt_schema_new_name(schema, name));
    if (from > 0) {
        snprintf(comma, sizeof comma, "\",\" %s ", ws);
    }
    if (from == parts->most) {
        mixt_buffer_text(&body, "\"\"");
    } else if (from < first) {
        snprintf(step, sizeof step, "/prefixItems/%lld", (long long)from);
        MIXT_TRY(mixt_schema_rule(schema, json_array_get(parts->first, (size_t)from), step, item));
        MIXT_TRY(write_items(schema, parts, from + 1, rest));
        mixt_buffer_format(&body, "(%s%s %s %s)%s", comma, item, ws, rest,
                           from < parts->least ? "" : "?");
    } else {
        MIXT_TRY(mixt_schema_rule(schema, parts->items, "/items", item));
        int64_t least = parts->least > from ? parts->least - from : 0;
        bool none = from == 0 && least == 0;
        least -= from == 0 && least > 0; /* the array's first item is written by itself */
        if (from == 0) {
            mixt_buffer_format(&body, "(%s %s ", item, ws);
        }
        mixt_buffer_format(&body, "(\",\" %s %s %s){%lld,", ws, item, ws, (long long)least);
        if (parts->most >= 0) {
            mixt_buffer_format(&body, "%lld", (long long)(parts->most - from - (from == 0)));
        }
        mixt_buffer_format(&body, "}%s%s", from == 0 ? ")" : "", none ? "?" : "");
    }
    mixt_schema_write_rule(schema, name, &body);
    mixt_buffer_free(&body);
    return MIXT_OK;
}

mixt_status mixt_schema_array(mixt_schema *schema, json_t *node, mixt_buffer *to)
{
    array_parts parts = {0};
    char items[MIXT_SCHEMA_NAME];
    MIXT_TRY(read_array(schema, node, &parts));
    if (json_array_size(parts.first) > MIXT_GRAMMAR_DEPTH_MAX) {
        return mixt_schema_refuse(schema, "prefixItems with more than %d schemas",
                                  MIXT_GRAMMAR_DEPTH_MAX);
    }
    MIXT_TRY(write_items(schema, &parts, 0, items));
    mixt_buffer_format(to, "\"[\" %s %s \"]\"", mixt_schema_use(schema, MIXT_SHARED_WS), items);
    return MIXT_OK;
}
