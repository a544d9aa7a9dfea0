/* JSON schemas (draft 2020-12 and what came before it) as grammars in GBNF. Every rule stands for a
 * value without space around it. What is written accepts nothing that the schema refuses; of what
 * the schema accepts it leaves out other spellings (escapes that are not needed, spaces beyond one
 * or two lines with an indentation, other orders of properties) and what the schema allows only by
 * not speaking of it (other types, properties that are not named, items behind a tuple). */
#include "sampling/schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/number.h"
#include "formats/json.h"
#include "sampling/grammar.h"

enum { DEPTH_MAX = 200 };

mixt_status mixt_schema_refuse(const mixt_schema *schema, const char *format, ...)
{
    char what[300];
    va_list arguments;
    va_start(arguments, format);
    mixt_format_list(what, sizeof what, format, arguments);
    va_end(arguments);
    return mixt_fail(schema->error, MIXT_ERROR_UNSUPPORTED, "schema: %.150s: %s", schema->place,
                     what);
}

mixt_status mixt_schema_no_memory(const mixt_schema *schema)
{
    return mixt_fail(schema->error, MIXT_ERROR_MEMORY, "schema: no memory");
}

mixt_status mixt_schema_charge(mixt_schema *schema, size_t a, size_t b)
{
    const size_t at_once = 8; /* elements that are compared in the time of a written byte */
    size_t work = MIXT_SCHEMA_TEXT_MAX;
    if (!mixt_multiply_size(a, b, &work) || work / at_once > MIXT_SCHEMA_TEXT_MAX) {
        schema->work = MIXT_SCHEMA_TEXT_MAX;
    } else {
        schema->work += work / at_once + 1;
    }
    return schema->work >= MIXT_SCHEMA_TEXT_MAX
               ? mixt_schema_refuse(schema, "the schema becomes too large here")
               : MIXT_OK;
}

/* ---- writing */

void mixt_schema_literal(mixt_buffer *to, const char *text, size_t length)
{
    mixt_buffer_text(to, "\"");
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') {
            mixt_buffer_format(to, "\\%c", c);
        } else if (c < 0x20 || c == 0x7F) {
            mixt_buffer_format(to, "\\x%02X", c);
        } else {
            mixt_buffer_append(to, &text[i], 1);
        }
    }
    mixt_buffer_text(to, "\"");
}

mixt_status mixt_schema_constant(mixt_schema *schema, const json_t *value, mixt_buffer *to)
{
    char *text = mixt_json_text(value, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text == NULL) {
        return mixt_schema_no_memory(schema);
    }
    mixt_schema_literal(to, text, strlen(text));
    free(text);
    return MIXT_OK;
}

typedef struct shared_rule {
    const char *name, *body;
    int uses[3]; /* other shared rules, -1: none */
} shared_rule;

/* Numbers are those that a double holds: digits and exponents have an end, as a model may not. A
 * character is one code point, so that lengths can be counted: no surrogates as escapes; and none
 * is NUL, which many readers of JSON refuse (jansson does). */
static const shared_rule shared_rules[MIXT_SHARED_COUNT] = {
    [MIXT_SHARED_WS] = {"ws", "| \" \" | \"\\n\"{1,2} [ \\t]{0,20}", {-1, -1, -1}},
    [MIXT_SHARED_CHAR] = {"char",
                          "[^\"\\\\\\x00-\\x1F] | \"\\\\\" ([\"\\\\/bfnrt] | \"u\" "
                          "([1-9A-CE-Fa-ce-f] [0-9A-Fa-f]{3} | [Dd] [0-7] [0-9A-Fa-f]{2} | "
                          "\"0\" [1-9A-Fa-f] [0-9A-Fa-f]{2} | \"00\" [1-9A-Fa-f] [0-9A-Fa-f] | "
                          "\"000\" [1-9A-Fa-f]))",
                          {-1, -1, -1}},
    [MIXT_SHARED_PLAIN] = {"char-plain",
                           "[^\"\\\\\\x00-\\x1F] | \"\\\\\" [\"\\\\bfnrt]",
                           {-1, -1, -1}},
    [MIXT_SHARED_STRING] = {"string", "\"\\\"\" char* \"\\\"\"", {MIXT_SHARED_CHAR, -1, -1}},
    [MIXT_SHARED_NUMBER] = {"number",
                            "\"-\"? (\"0\" | [1-9] [0-9]{0,15}) (\".\" [0-9]{1,16})? "
                            "([eE] [-+]? [0-9]{1,2})?",
                            {-1, -1, -1}},
    [MIXT_SHARED_INTEGER] = {"integer", "\"0\" | \"-\"? [1-9] [0-9]{0,15}", {-1, -1, -1}},
    [MIXT_SHARED_VALUE] = {"value",
                           "object | array | string | number | \"true\" | \"false\" | \"null\"",
                           {MIXT_SHARED_OBJECT, MIXT_SHARED_ARRAY, MIXT_SHARED_NUMBER}},
    [MIXT_SHARED_OBJECT] = {"object",
                            "\"{\" ws (string ws \":\" ws value ws (\",\" ws string ws \":\" ws "
                            "value ws)*)? \"}\"",
                            {MIXT_SHARED_WS, MIXT_SHARED_STRING, MIXT_SHARED_VALUE}},
    [MIXT_SHARED_ARRAY] = {"array",
                           "\"[\" ws (value ws (\",\" ws value ws)*)? \"]\"",
                           {MIXT_SHARED_WS, MIXT_SHARED_VALUE, -1}},
};

const char *mixt_schema_use(mixt_schema *schema, mixt_schema_shared which)
{
    if (!schema->uses[which]) {
        schema->uses[which] = true;
        for (int i = 0; i < 3; i++) {
            if (shared_rules[which].uses[i] >= 0) {
                mixt_schema_use(schema, (mixt_schema_shared)shared_rules[which].uses[i]);
            }
        }
    }
    return shared_rules[which].name;
}

mixt_status mixt_schema_new_name(mixt_schema *schema, char name[MIXT_SCHEMA_NAME])
{
    if (schema->rule_count >= MIXT_SCHEMA_RULES_MAX ||
        schema->rules.length > MIXT_SCHEMA_TEXT_MAX) {
        return mixt_schema_refuse(schema, "the schema becomes too large here");
    }
    snprintf(name, MIXT_SCHEMA_NAME, "r%d", schema->rule_count++);
    return MIXT_OK;
}

void mixt_schema_write_rule(mixt_schema *schema, const char *name, const mixt_buffer *body)
{
    mixt_buffer_text(&schema->rules, name);
    mixt_buffer_text(&schema->rules, " ::= ");
    mixt_buffer_append(&schema->rules, body->data, body->length);
    mixt_buffer_text(&schema->rules, "\n");
    schema->rules.failed = schema->rules.failed || body->failed;
}

mixt_status mixt_schema_size(const mixt_schema *schema, const json_t *node, const char *key,
                             int64_t *value)
{
    const json_t *size = json_object_get(node, key);
    if (size == NULL) {
        return MIXT_OK;
    }
    double real = json_number_value(size);
    if (!json_is_number(size) || real < 0 || real > MIXT_GRAMMAR_REPEAT_MAX ||
        real != (double)(int64_t)real) {
        return mixt_schema_refuse(schema, "%s is not a whole number from 0 to %d", key,
                                  MIXT_GRAMMAR_REPEAT_MAX);
    }
    *value = (int64_t)real;
    return MIXT_OK;
}

/* ---- one schema */

static const char *const type_names[] = {"object",  "array",   "string", "number",
                                         "integer", "boolean", "null"};
enum {
    TYPE_OBJECT,
    TYPE_ARRAY,
    TYPE_STRING,
    TYPE_NUMBER,
    TYPE_INTEGER,
    TYPE_BOOLEAN,
    TYPE_NULL,
    TYPE_COUNT
};

typedef struct keyword {
    const char *name;
    int type; /* that it speaks of; TYPE_COUNT: any */
} keyword;

/* What is understood; annotations besides (mixt_schema_is_annotation). */
static const keyword keywords[] = {
    {"type", TYPE_COUNT},
    {"enum", TYPE_COUNT},
    {"const", TYPE_COUNT},
    {"anyOf", TYPE_COUNT},
    {"oneOf", TYPE_COUNT},
    {"properties", TYPE_OBJECT},
    {"required", TYPE_OBJECT},
    {"additionalProperties", TYPE_OBJECT},
    {"minProperties", TYPE_OBJECT},
    {"maxProperties", TYPE_OBJECT},
    {"items", TYPE_ARRAY},
    {"prefixItems", TYPE_ARRAY},
    {"additionalItems", TYPE_ARRAY},
    {"minItems", TYPE_ARRAY},
    {"maxItems", TYPE_ARRAY},
    {"uniqueItems", TYPE_ARRAY},
    {"minLength", TYPE_STRING},
    {"maxLength", TYPE_STRING},
    {"pattern", TYPE_STRING},
    {"format", TYPE_STRING},
    {"minimum", TYPE_NUMBER},
    {"maximum", TYPE_NUMBER},
    {"exclusiveMinimum", TYPE_NUMBER},
    {"exclusiveMaximum", TYPE_NUMBER},
    {"multipleOf", TYPE_NUMBER},
};

static int find_type(const char *name)
{
    int type = 0;
    while (type < TYPE_COUNT && (name == NULL || strcmp(type_names[type], name) != 0)) {
        type++;
    }
    return type;
}

static const keyword *find_keyword(const char *name)
{
    for (size_t i = 0; i < sizeof keywords / sizeof keywords[0]; i++) {
        if (strcmp(keywords[i].name, name) == 0) {
            return &keywords[i];
        }
    }
    return NULL;
}

/* The types that "type" names, or those that the other keywords speak of. */
static mixt_status find_types(mixt_schema *schema, json_t *node, bool types[TYPE_COUNT])
{
    json_t *named = json_object_get(node, "type");
    const char *key;
    json_t *value;
    size_t count = json_is_array(named) ? json_array_size(named) : named != NULL;
    json_object_foreach(node, key, value)
    {
        const keyword *known = find_keyword(key);
        if (known == NULL && !mixt_schema_is_annotation(key)) {
            return mixt_schema_refuse(schema, "%.60s cannot be held by a grammar", key);
        }
        if (named == NULL && known != NULL && known->type < TYPE_COUNT) {
            types[known->type] = true;
        }
    }
    for (size_t i = 0; i < count; i++) {
        json_t *name = json_is_array(named) ? json_array_get(named, i) : named;
        int type = find_type(json_string_value(name));
        if (type == TYPE_COUNT) {
            return mixt_schema_refuse(schema, "type \"%.40s\" is none of JSON's",
                                      json_is_string(name) ? json_string_value(name) : "?");
        }
        types[type] = true;
    }
    if (named != NULL && count == 0) {
        return mixt_schema_refuse(schema, "type names none");
    }
    types[TYPE_INTEGER] = types[TYPE_INTEGER] && !types[TYPE_NUMBER];
    return MIXT_OK;
}

static mixt_status write_type(mixt_schema *schema, json_t *node, int type, mixt_buffer *to)
{
    switch (type) {
    case TYPE_OBJECT:
        return mixt_schema_object(schema, node, to);
    case TYPE_ARRAY:
        return mixt_schema_array(schema, node, to);
    case TYPE_STRING:
        return mixt_schema_string(schema, node, to);
    case TYPE_NUMBER:
    case TYPE_INTEGER:
        return mixt_schema_number(schema, node, type == TYPE_INTEGER, to);
    case TYPE_BOOLEAN:
        mixt_buffer_text(to, "\"true\" | \"false\"");
        return MIXT_OK;
    default:
        mixt_buffer_text(to, "\"null\"");
        return MIXT_OK;
    }
}

static mixt_status write_types(mixt_schema *schema, json_t *node, mixt_buffer *to)
{
    bool types[TYPE_COUNT] = {false};
    int written = 0;
    MIXT_TRY(find_types(schema, node, types));
    for (int type = 0; type < TYPE_COUNT; type++) {
        if (types[type]) {
            mixt_buffer_text(to, written++ > 0 ? " | " : "");
            MIXT_TRY(write_type(schema, node, type, to));
        }
    }
    if (written == 0) {
        mixt_buffer_text(to, mixt_schema_use(schema, MIXT_SHARED_VALUE));
    }
    return MIXT_OK;
}

static bool has_type(const json_t *value, const bool types[TYPE_COUNT])
{
    return (types[TYPE_OBJECT] && json_is_object(value)) ||
           (types[TYPE_ARRAY] && json_is_array(value)) ||
           (types[TYPE_STRING] && json_is_string(value)) ||
           (types[TYPE_NUMBER] && json_is_number(value)) ||
           (types[TYPE_INTEGER] && json_is_integer(value)) ||
           (types[TYPE_BOOLEAN] && json_is_boolean(value)) ||
           (types[TYPE_NULL] && json_is_null(value));
}

/* The values of enum or const that have one of the node's types. */
static mixt_status write_values(mixt_schema *schema, json_t *node, mixt_buffer *to)
{
    json_t *list = json_object_get(node, "enum"), *only = json_object_get(node, "const"), *value;
    bool types[TYPE_COUNT] = {false};
    const char *key;
    int written = 0;
    size_t i;
    json_object_foreach(node, key, value)
    {
        const keyword *known = find_keyword(key);
        if (!mixt_schema_is_annotation(key) && (known == NULL || known->type != TYPE_COUNT)) {
            return mixt_schema_refuse(schema, "%.60s beside %s", key,
                                      only != NULL ? "const" : "enum");
        }
    }
    if (list != NULL && !json_is_array(list)) {
        return mixt_schema_refuse(schema, "enum is no array");
    }
    MIXT_TRY(find_types(schema, node, types));
    bool any_type = json_object_get(node, "type") == NULL;
    MIXT_TRY(mixt_schema_charge(schema, json_array_size(list), 1));
    json_t *single = json_pack("[O]", only != NULL ? only : json_null());
    json_array_foreach(only != NULL ? single : list, i, value)
    {
        bool listed = only == NULL || list == NULL;
        for (size_t k = 0; !listed && k < json_array_size(list); k++) {
            listed = json_equal(json_array_get(list, k), value) != 0;
        }
        if (listed && (any_type || has_type(value, types))) {
            mixt_buffer_text(to, written++ > 0 ? " | " : "");
            mixt_status status = mixt_schema_constant(schema, value, to);
            if (status != MIXT_OK) {
                json_decref(single);
                return status;
            }
        }
    }
    json_decref(single);
    return written > 0 ? MIXT_OK : mixt_schema_refuse(schema, "it accepts no value");
}

/* anyOf or oneOf; whatever stands beside it holds for each branch. */
static mixt_status write_branches(mixt_schema *schema, json_t *node, const char *which,
                                  mixt_buffer *to)
{
    json_t *branches = json_object_get(node, which), *branch, *rest;
    char name[MIXT_SCHEMA_NAME], step[40];
    bool one = strcmp(which, "oneOf") == 0;
    size_t i;
    if (!json_is_array(branches) || json_array_size(branches) == 0) {
        return mixt_schema_refuse(schema, "%s is no array of schemas", which);
    }
    for (size_t a = 0; one && a < json_array_size(branches); a++) {
        for (size_t b = 0; b < a; b++) {
            MIXT_TRY(mixt_schema_charge(schema, 1, 1));
            if (!mixt_schema_are_disjoint(schema, json_array_get(branches, a),
                                          json_array_get(branches, b))) {
                return mixt_schema_refuse(schema,
                                          "oneOf: a value may be accepted by both %zu and %zu, "
                                          "which a grammar cannot refuse (anyOf could be meant)",
                                          b, a);
            }
        }
    }
    rest = json_copy(node);
    json_object_del(rest, which);
    mixt_status status = rest == NULL ? mixt_schema_no_memory(schema) : MIXT_OK;
    for (i = 0; status == MIXT_OK && i < json_array_size(branches); i++) {
        branch = json_object_size(rest) == 0
                     ? json_incref(json_array_get(branches, i))
                     : json_pack("{s:[O,O]}", "allOf", rest, json_array_get(branches, i));
        snprintf(step, sizeof step, "/%s/%zu", which, i);
        status = mixt_schema_rule(schema, branch, step, name);
        json_decref(branch);
        mixt_buffer_format(to, "%s%s", i > 0 ? " | " : "", name);
    }
    json_decref(rest);
    return status;
}

static mixt_status write_node(mixt_schema *schema, json_t *node, mixt_buffer *to)
{
    json_t *flat = NULL;
    if (json_is_true(node)) {
        mixt_buffer_text(to, mixt_schema_use(schema, MIXT_SHARED_VALUE));
        return MIXT_OK;
    }
    if (!json_is_object(node)) {
        return mixt_schema_refuse(schema, json_is_false(node) ? "false accepts no value"
                                                              : "a schema is an object or true");
    }
    MIXT_TRY(mixt_schema_flatten(schema, node, &flat));
    mixt_status status;
    if (json_object_get(flat, "anyOf") != NULL) {
        status = write_branches(schema, flat, "anyOf", to);
    } else if (json_object_get(flat, "oneOf") != NULL) {
        status = write_branches(schema, flat, "oneOf", to);
    } else if (json_object_get(flat, "enum") != NULL || json_object_get(flat, "const") != NULL) {
        status = write_values(schema, flat, to);
    } else {
        status = write_types(schema, flat, to);
    }
    json_decref(flat);
    return status;
}

static mixt_status write_new_rule(mixt_schema *schema, json_t *node, const char *name)
{
    mixt_buffer body = {0};
    if (schema->depth >= DEPTH_MAX) {
        return mixt_schema_refuse(schema, "schemas nested more than %d deep", DEPTH_MAX);
    }
    schema->depth++;
    mixt_status status = write_node(schema, node, &body);
    schema->depth--;
    if (status == MIXT_OK) {
        mixt_schema_write_rule(schema, name, &body);
    }
    mixt_buffer_free(&body);
    return status;
}

mixt_status mixt_schema_rule(mixt_schema *schema, json_t *node, const char *step,
                             char name[MIXT_SCHEMA_NAME])
{
    char *key = mixt_json_text(node, JSON_COMPACT | JSON_ENCODE_ANY);
    size_t length = strlen(schema->place);
    if (key == NULL) {
        return mixt_schema_no_memory(schema);
    }
    schema->work += strlen(key);
    json_t *known = json_object_get(schema->names, key);
    if (known != NULL) {
        snprintf(name, MIXT_SCHEMA_NAME, "r%d", (int)json_integer_value(known));
        free(key);
        return MIXT_OK;
    }
    snprintf(schema->place + length, sizeof schema->place - length, "%s", step);
    mixt_status status = schema->work > MIXT_SCHEMA_TEXT_MAX
                             ? mixt_schema_refuse(schema, "the schema becomes too large here")
                             : mixt_schema_new_name(schema, name);
    if (status == MIXT_OK &&
        json_object_set_new(schema->names, key, json_integer(schema->rule_count - 1)) != 0) {
        status = mixt_schema_no_memory(schema);
    }
    free(key);
    if (status == MIXT_OK) {
        status = write_new_rule(schema, node, name);
    }
    schema->place[length] = '\0';
    return status;
}

/* ---- the whole */

static mixt_status write_grammar(mixt_schema *schema)
{
    char name[MIXT_SCHEMA_NAME];
    MIXT_TRY(mixt_schema_rule(schema, schema->root, "", name));
    mixt_buffer_format(&schema->rules, "root ::= %s\n", name);
    for (int i = 0; i < MIXT_SHARED_COUNT; i++) {
        if (schema->uses[i]) {
            mixt_buffer_format(&schema->rules, "%s ::= %s\n", shared_rules[i].name,
                               shared_rules[i].body);
        }
    }
    return schema->rules.failed || mixt_json_failed() ? mixt_schema_no_memory(schema) : MIXT_OK;
}

/* That it can be compiled is found out here, where the schema can be spoken of. */
static mixt_status check_grammar(const mixt_schema *schema)
{
    mixt_grammar *grammar = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status =
        mixt_grammar_compile(schema->rules.data, schema->rules.length, NULL, &grammar, &error);
    mixt_grammar_free(grammar);
    if (status == MIXT_ERROR_MEMORY) {
        return mixt_schema_no_memory(schema);
    }
    return status == MIXT_OK ? MIXT_OK
                             : mixt_fail(schema->error, MIXT_ERROR_UNSUPPORTED,
                                         "schema: as a %.300s", error.message);
}

mixt_status mixt_json_schema_grammar(const char *schema, size_t length, char **grammar,
                                     mixt_error *error)
{
    mixt_schema s = {.place = "#", .error = error};
    json_error_t problem;
    *grammar = NULL;
    if (schema == NULL) {
        schema = "{}";
        length = 2;
    }
    if (length > MIXT_SCHEMA_TEXT_MAX) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "schema: more than %zu bytes",
                         MIXT_SCHEMA_TEXT_MAX);
    }
    mixt_json_begin();
    s.root = mixt_json_load(schema, length, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &problem);
    if (s.root == NULL) {
        return mixt_json_failed() ? mixt_schema_no_memory(&s)
                                  : mixt_fail(error, MIXT_ERROR_ARGUMENT,
                                              "schema: no JSON: line %d, column %d: %.200s",
                                              problem.line, problem.column, problem.text);
    }
    s.names = json_object();
    mixt_status status = s.names == NULL ? mixt_schema_no_memory(&s) : write_grammar(&s);
    if (status == MIXT_OK) {
        status = check_grammar(&s);
    }
    if (status == MIXT_OK) {
        mixt_buffer_append(&s.rules, "", 1);
        *grammar = s.rules.failed ? NULL : s.rules.data;
        status = s.rules.failed ? mixt_schema_no_memory(&s) : MIXT_OK;
    }
    if (status != MIXT_OK) {
        mixt_buffer_free(&s.rules);
    }
    json_decref(s.names);
    json_decref(s.root);
    return status;
}
