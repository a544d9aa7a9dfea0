/* What several schemas ask of one value, as one schema: $ref and allOf. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sampling/schema.h"

enum { FLATTEN_DEPTH_MAX = 100, DISJOINT_DEPTH_MAX = 8 };

bool mixt_schema_is_annotation(const char *key)
{
    static const char *const annotations[] = {
        "title",
        "description",
        "default",
        "examples",
        "example",
        "$schema",
        "$id",
        "id",
        "$comment",
        "$defs",
        "definitions",
        "deprecated",
        "readOnly",
        "writeOnly",
        "$anchor",
        "$vocabulary",
        "$dynamicAnchor",
        "contentEncoding",
        "contentMediaType",
        "contentSchema",
    };
    for (size_t i = 0; i < sizeof annotations / sizeof annotations[0]; i++) {
        if (strcmp(key, annotations[i]) == 0) {
            return true;
        }
    }
    return strncmp(key, "x-", 2) == 0;
}

/* ---- references */

/* One step of a pointer, %XX, ~1 and ~0 undone; its end. */
static const char *read_step(const char *at, char *step, size_t room)
{
    size_t length = 0;
    while (*at != '\0' && *at != '/') {
        char c = *at++;
        unsigned value = 0;
        int consumed = 0;
        if (c == '%' && sscanf(at, "%2x%n", &value, &consumed) == 1 && consumed == 2) {
            c = (char)value;
            at += 2;
        }
        if (c == '~' && (*at == '0' || *at == '1')) {
            c = *at++ == '0' ? '~' : '/';
        }
        if (length + 1 < room) {
            step[length++] = c;
        }
    }
    step[length] = '\0';
    return at;
}

static mixt_status resolve(mixt_schema *schema, const json_t *reference, json_t **target)
{
    const char *text = json_string_value(reference), *at = text;
    char step[300];
    if (text == NULL || text[0] != '#' || (text[1] != '\0' && text[1] != '/')) {
        return mixt_schema_refuse(schema, "$ref %.100s does not begin with #/",
                                  text != NULL ? text : "without a text");
    }
    *target = schema->root;
    for (at++; *at == '/' && *target != NULL;) {
        at = read_step(at + 1, step, sizeof step);
        char *end = NULL;
        unsigned long index = json_is_array(*target) ? strtoul(step, &end, 10) : 0;
        *target = json_is_array(*target)
                      ? (end != step && *end == '\0' ? json_array_get(*target, index) : NULL)
                      : json_object_get(*target, step);
    }
    return *target != NULL ? MIXT_OK
                           : mixt_schema_refuse(schema, "$ref %.100s leads nowhere", text);
}

/* ---- merging */

/* All of `a` that is in `b` too. */
static json_t *intersect(json_t *a, json_t *b)
{
    json_t *both = json_array();
    for (size_t i = 0; i < json_array_size(a); i++) {
        for (size_t k = 0; k < json_array_size(b); k++) {
            if (json_equal(json_array_get(a, i), json_array_get(b, k))) {
                json_array_append(both, json_array_get(a, i));
                break;
            }
        }
    }
    return both;
}

static json_t *unite(json_t *a, json_t *b)
{
    json_t *all = json_copy(a);
    for (size_t i = 0; i < json_array_size(b); i++) {
        json_t *one = json_pack("[O]", json_array_get(b, i)), *known = intersect(one, a);
        if (json_array_size(known) == 0) {
            json_array_append(all, json_array_get(b, i));
        }
        json_decref(known);
        json_decref(one);
    }
    return all;
}

/* A type is a name or several; "number" has "integer" in it. */
static json_t *common_types(json_t *a, json_t *b)
{
    json_t *x = json_is_array(a) ? json_incref(a) : json_pack("[O]", a);
    json_t *y = json_is_array(b) ? json_incref(b) : json_pack("[O]", b);
    json_t *both = intersect(x, y), *number = json_pack("[s]", "number"),
           *integer = json_pack("[s]", "integer");
    for (int turn = 0; turn < 2; turn++) {
        json_t *of_number = intersect(number, turn == 0 ? x : y);
        json_t *of_integer = intersect(integer, turn == 0 ? y : x);
        if (json_array_size(of_number) > 0 && json_array_size(of_integer) > 0) {
            json_t *more = unite(both, integer);
            json_decref(both);
            both = more;
        }
        json_decref(of_number);
        json_decref(of_integer);
    }
    json_decref(number);
    json_decref(integer);
    json_decref(x);
    json_decref(y);
    return both;
}

static json_t *all_of(json_t *a, json_t *b)
{
    if (json_is_true(a) || json_is_false(b)) {
        return json_incref(b);
    }
    if (json_is_true(b) || json_is_false(a) || json_equal(a, b)) {
        return json_incref(a);
    }
    return json_pack("{s:[O,O]}", "allOf", a, b);
}

static bool is_one_of(const char *key, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(key, list[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* What two values of the same key ask together, as a new value. */
static mixt_status combine(mixt_schema *schema, const char *key, json_t *a, json_t *b, json_t **to)
{
    static const char *const lows[] = {"minimum", "exclusiveMinimum", "minLength", "minItems",
                                       "minProperties"};
    static const char *const highs[] = {"maximum", "exclusiveMaximum", "maxLength", "maxItems",
                                        "maxProperties"};
    MIXT_TRY(mixt_schema_charge(schema, json_array_size(a) + 1, json_array_size(b) + 1));
    if (json_equal(a, b)) {
        *to = json_incref(a);
    } else if (strcmp(key, "type") == 0) {
        *to = common_types(a, b);
        if (json_array_size(*to) == 0) {
            json_decref(*to);
            return mixt_schema_refuse(schema, "no type is asked for by all of allOf");
        }
    } else if (strcmp(key, "required") == 0 && json_is_array(a) && json_is_array(b)) {
        *to = unite(a, b);
    } else if (strcmp(key, "enum") == 0 && json_is_array(a) && json_is_array(b)) {
        *to = intersect(a, b);
    } else if (json_is_number(a) && json_is_number(b) && is_one_of(key, lows, 5)) {
        *to = json_incref(json_number_value(a) > json_number_value(b) ? a : b);
    } else if (json_is_number(a) && json_is_number(b) && is_one_of(key, highs, 5)) {
        *to = json_incref(json_number_value(a) < json_number_value(b) ? a : b);
    } else if (strcmp(key, "uniqueItems") == 0) {
        *to = json_incref(json_is_true(a) ? a : b);
    } else if (strcmp(key, "items") == 0 || strcmp(key, "additionalProperties") == 0) {
        *to = all_of(a, b);
    } else {
        return mixt_schema_refuse(schema, "allOf with two different values of %.60s", key);
    }
    return *to != NULL ? MIXT_OK : mixt_schema_no_memory(schema);
}

/* Properties of `of`, each with what `other` asks of it, into `to` unless it is there. */
static mixt_status add_properties(mixt_schema *schema, json_t *of, json_t *other, json_t *to)
{
    json_t *others = json_object_get(other, "properties"), *property;
    json_t *additional = json_object_get(other, "additionalProperties");
    const char *name;
    json_object_foreach(json_object_get(of, "properties"), name, property)
    {
        json_t *asked = json_object_get(others, name);
        asked = asked != NULL ? asked : additional;
        json_t *both = asked != NULL ? all_of(property, asked) : json_incref(property);
        if (json_object_get(to, name) != NULL) {
            json_decref(both);
        } else if (json_object_set_new(to, name, both) != 0) {
            return mixt_schema_no_memory(schema);
        }
    }
    return MIXT_OK;
}

static mixt_status merge_properties(mixt_schema *schema, json_t *a, json_t *b, json_t *both)
{
    json_t *x = json_object_get(a, "properties"), *y = json_object_get(b, "properties");
    if (x == NULL && y == NULL) {
        return MIXT_OK;
    }
    if ((x != NULL && !json_is_object(x)) || (y != NULL && !json_is_object(y))) {
        return mixt_schema_refuse(schema, "properties is no object");
    }
    json_t *all = json_object();
    if (json_object_set_new(both, "properties", all) != 0) {
        return mixt_schema_no_memory(schema);
    }
    MIXT_TRY(add_properties(schema, a, b, all));
    return add_properties(schema, b, a, all);
}

mixt_status mixt_schema_merge(mixt_schema *schema, json_t *a, json_t *b, json_t **both)
{
    const char *key;
    json_t *value;
    mixt_status status = MIXT_OK;
    *both = json_copy(a);
    json_object_foreach(b, key, value)
    {
        json_t *other = json_object_get(a, key), *combined = NULL;
        if (status != MIXT_OK || strcmp(key, "properties") == 0) {
            continue;
        }
        if (other == NULL) {
            combined = json_incref(value);
        } else {
            status = combine(schema, key, other, value, &combined);
        }
        if (status == MIXT_OK && json_object_set_new(*both, key, combined) != 0) {
            status = mixt_schema_no_memory(schema);
        }
    }
    if (status == MIXT_OK) {
        status = merge_properties(schema, a, b, *both);
    }
    if (status != MIXT_OK) {
        json_decref(*both);
        *both = NULL;
    }
    return status;
}

/* A copy without annotations, $ref and allOf; tuples of older drafts by today's names. */
static json_t *own_part(json_t *node)
{
    json_t *own = json_object(), *value, *items = json_object_get(node, "items");
    const char *key;
    bool is_tuple = json_is_array(items);
    json_object_foreach(node, key, value)
    {
        if (mixt_schema_is_annotation(key) || strcmp(key, "$ref") == 0 ||
            strcmp(key, "allOf") == 0) {
            continue;
        }
        const char *name = key; /* `key` leads to the next one */
        if (strcmp(key, "additionalItems") == 0) {
            name = is_tuple ? "items" : NULL; /* means nothing without a tuple */
        } else if (strcmp(key, "items") == 0 && is_tuple) {
            name = "prefixItems";
        }
        if (name != NULL) {
            json_object_set(own, name, value);
        }
    }
    return own;
}

static mixt_status flatten_into(mixt_schema *schema, json_t *node, json_t **flat)
{
    json_t *part = NULL, *both = NULL;
    if (json_is_true(node)) {
        return MIXT_OK;
    }
    if (!json_is_object(node)) {
        return mixt_schema_refuse(schema, json_is_false(node) ? "false accepts no value"
                                                              : "a schema is an object or true");
    }
    MIXT_TRY(mixt_schema_flatten(schema, node, &part));
    mixt_status status = mixt_schema_merge(schema, *flat, part, &both);
    json_decref(part);
    if (status == MIXT_OK) {
        json_decref(*flat);
        *flat = both;
    }
    return status;
}

static mixt_status flatten_parts(mixt_schema *schema, json_t *node, json_t **flat)
{
    json_t *reference = json_object_get(node, "$ref"), *target = NULL, *part;
    json_t *parts = json_object_get(node, "allOf");
    size_t i;
    if (reference != NULL) {
        MIXT_TRY(resolve(schema, reference, &target));
        MIXT_TRY(flatten_into(schema, target, flat));
    }
    if (parts != NULL && !json_is_array(parts)) {
        return mixt_schema_refuse(schema, "allOf is no array of schemas");
    }
    json_array_foreach(parts, i, part)
    {
        MIXT_TRY(flatten_into(schema, part, flat));
    }
    return MIXT_OK;
}

mixt_status mixt_schema_flatten(mixt_schema *schema, json_t *node, json_t **flat)
{
    *flat = NULL;
    if (json_is_array(json_object_get(node, "items")) &&
        json_object_get(node, "prefixItems") != NULL) {
        return mixt_schema_refuse(schema, "prefixItems beside an array of items");
    }
    *flat = own_part(node);
    if (*flat == NULL) {
        return mixt_schema_no_memory(schema);
    }
    mixt_status status = MIXT_OK;
    schema->work += json_object_size(*flat) + 1;
    if (schema->depth >= FLATTEN_DEPTH_MAX || schema->work > MIXT_SCHEMA_TEXT_MAX) {
        status = mixt_schema_refuse(schema, "$ref and allOf go in circles, or too deep");
    }
    if (status == MIXT_OK) {
        schema->depth++;
        status = flatten_parts(schema, node, flat);
        schema->depth--;
    }
    if (status != MIXT_OK) {
        json_decref(*flat);
        *flat = NULL;
    }
    return status;
}

/* ---- what cannot be accepted by both */

static bool are_flat_disjoint(mixt_schema *schema, json_t *a, json_t *b, int depth);

static bool are_disjoint_to(mixt_schema *schema, json_t *a, json_t *b, int depth)
{
    json_t *x = NULL, *y = NULL;
    bool disjoint = false;
    mixt_error *error = schema->error;
    if (json_is_false(a) || json_is_false(b)) {
        return true;
    }
    if (depth > DISJOINT_DEPTH_MAX || !json_is_object(a) || !json_is_object(b)) {
        return false;
    }
    schema->error = NULL; /* what cannot be read is said when it is written */
    if (mixt_schema_flatten(schema, a, &x) == MIXT_OK &&
        mixt_schema_flatten(schema, b, &y) == MIXT_OK) {
        disjoint = are_flat_disjoint(schema, x, y, depth);
    }
    schema->error = error;
    json_decref(x);
    json_decref(y);
    return disjoint;
}

/* One property that one asks for and the other refuses. */
static bool are_objects_disjoint(mixt_schema *schema, json_t *a, json_t *b, int depth)
{
    json_t *required = json_object_get(a, "required");
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *name = json_string_value(json_array_get(required, i));
        json_t *x = name != NULL ? json_object_get(json_object_get(a, "properties"), name) : NULL;
        json_t *y = name != NULL ? json_object_get(json_object_get(b, "properties"), name) : NULL;
        if (name != NULL &&
            ((y == NULL && json_is_false(json_object_get(b, "additionalProperties"))) ||
             (x != NULL && y != NULL && are_disjoint_to(schema, x, y, depth + 1)))) {
            return true;
        }
    }
    return false;
}

/* The values that enum and const leave, or NULL: there is neither. */
static json_t *values_of(json_t *node)
{
    json_t *only = json_object_get(node, "const"), *list = json_object_get(node, "enum");
    return only != NULL ? json_pack("[O]", only) : json_incref(list);
}

/* Whether all values are of types that `types` does not name. */
static bool are_others(json_t *values, json_t *types)
{
    for (size_t i = 0; i < json_array_size(values); i++) {
        json_t *v = json_array_get(values, i);
        const char *name = json_is_object(v)    ? "object"
                           : json_is_array(v)   ? "array"
                           : json_is_string(v)  ? "string"
                           : json_is_number(v)  ? "integer" /* 1.0 is one */
                           : json_is_boolean(v) ? "boolean"
                                                : "null";
        json_t *type = json_string(name), *common = common_types(type, types);
        bool same = json_array_size(common) > 0;
        json_decref(common);
        json_decref(type);
        if (same) {
            return false;
        }
    }
    return true;
}

/* Whether a value that is written otherwise may be the same: 1 and 1.0, inside arrays too. */
static bool may_equal_another(const json_t *value)
{
    return json_is_real(value) || json_is_object(value) || json_is_array(value);
}

static bool are_flat_disjoint(mixt_schema *schema, json_t *a, json_t *b, int depth)
{
    json_t *types_a = json_object_get(a, "type"), *types_b = json_object_get(b, "type");
    json_t *values_a = values_of(a), *values_b = values_of(b);
    bool disjoint = false;
    size_t size_a = json_array_size(values_a) + json_array_size(types_a) + 1;
    size_t size_b = json_array_size(values_b) + json_array_size(types_b) + 1;
    if (mixt_schema_charge(schema, size_a, size_b) != MIXT_OK) {
        disjoint = false; /* which is refused, and the work is done for anything else */
    } else if (values_a != NULL && values_b != NULL) {
        json_t *common = intersect(values_a, values_b);
        bool numbers = false;
        for (size_t i = 0; i < json_array_size(values_a); i++) {
            numbers = numbers || may_equal_another(json_array_get(values_a, i));
        }
        for (size_t i = 0; i < json_array_size(values_b); i++) {
            numbers = numbers || may_equal_another(json_array_get(values_b, i));
        }
        disjoint = json_array_size(common) == 0 && !numbers;
        json_decref(common);
    } else if (values_a != NULL && types_b != NULL) {
        disjoint = are_others(values_a, types_b);
    } else if (values_b != NULL && types_a != NULL) {
        disjoint = are_others(values_b, types_a);
    } else if (types_a != NULL && types_b != NULL) {
        json_t *common = common_types(types_a, types_b);
        json_t *object = json_pack("[s]", "object"), *objects = intersect(common, object);
        disjoint = json_array_size(common) == 0 ||
                   (json_array_size(common) == 1 && json_array_size(objects) == 1 &&
                    (are_objects_disjoint(schema, a, b, depth) ||
                     are_objects_disjoint(schema, b, a, depth)));
        json_decref(objects);
        json_decref(object);
        json_decref(common);
    }
    json_decref(values_a);
    json_decref(values_b);
    return disjoint;
}

bool mixt_schema_are_disjoint(mixt_schema *schema, json_t *a, json_t *b)
{
    return are_disjoint_to(schema, a, b, 0);
}
