/* Values: how they are made, what is true, equal, before another, inside of another. */
#include <assert.h>
#include <stdarg.h>
#include <string.h>

#include "template/template.h"
#include "core/number.h"
#include "core/utf8.h"

template_value mixt_template_none(void)
{
    return (template_value){.kind = TEMPLATE_NONE};
}

template_value mixt_template_bool(bool value)
{
    return (template_value){.kind = TEMPLATE_BOOL, .as.boolean = value};
}

template_value mixt_template_integer(int64_t value)
{
    return (template_value){.kind = TEMPLATE_INTEGER, .as.integer = value};
}

template_value mixt_template_number(double value)
{
    return (template_value){.kind = TEMPLATE_FLOAT, .as.number = value};
}

template_value mixt_template_view(template_run *run, const char *data, size_t length)
{
    template_text *text = mixt_template_allocate(run, 1, sizeof *text);
    text->data = data;
    text->length = length;
    text->is_ascii = true;
    mixt_template_charge(run, length);
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)data[i] >= 0x80) {
            text->is_ascii = false;
            break;
        }
    }
    return (template_value){.kind = TEMPLATE_STRING, .as.text = text};
}

template_value mixt_template_string(template_run *run, const char *data, size_t length)
{
    char *copy = mixt_template_allocate(run, length + 1, 1);
    if (length > 0) {
        memcpy(copy, data, length);
    }
    return mixt_template_view(run, copy, length);
}

template_value mixt_template_undefined(template_run *run, const char *format, ...)
{
    char line[200];
    va_list list;
    va_start(list, format);
    mixt_format_list(line, sizeof line, format, list);
    va_end(list);
    size_t length = mixt_utf8_valid_prefix(line, strlen(line));
    char *copy = mixt_template_allocate(run, length + 1, 1);
    memcpy(copy, line, length);
    return (template_value){.kind = TEMPLATE_UNDEFINED, .as.missing = copy};
}

template_list *mixt_template_new_list(template_run *run, size_t capacity)
{
    template_list *list = mixt_template_allocate(run, 1, sizeof *list);
    list->items = mixt_template_allocate(run, capacity, sizeof *list->items);
    list->capacity = capacity;
    return list;
}

void mixt_template_append(template_run *run, template_list *list, template_value value)
{
    mixt_template_grow(run, &list->items, &list->capacity, list->count + 1, sizeof value);
    assert(list->count < list->capacity);
    list->items[list->count++] = value;
}

template_value mixt_template_list_value(template_kind kind, template_list *list)
{
    assert(list != NULL && kind >= TEMPLATE_LIST && kind <= TEMPLATE_GENERATOR);
    return (template_value){.kind = (uint8_t)kind, .as.list = list};
}

const char *mixt_template_kind_name(template_value value)
{
    switch ((template_kind)value.kind) {
    case TEMPLATE_UNDEFINED:
        return "an undefined value";
    case TEMPLATE_NONE:
        return "none";
    case TEMPLATE_BOOL:
        return "a bool";
    case TEMPLATE_INTEGER:
        return "an int";
    case TEMPLATE_FLOAT:
        return "a float";
    case TEMPLATE_STRING:
        return "a str";
    case TEMPLATE_LIST:
        return "a list";
    case TEMPLATE_TUPLE:
        return "a tuple";
    case TEMPLATE_VIEW:
        return "a dict's view";
    case TEMPLATE_GENERATOR:
        return "a generator (put |list behind it)";
    case TEMPLATE_RANGE:
        return "a range";
    case TEMPLATE_DICT:
        return "a dict";
    case TEMPLATE_NAMESPACE:
        return "a namespace";
    case TEMPLATE_MACRO:
        return "a macro";
    case TEMPLATE_FUNCTION:
        return "a function";
    case TEMPLATE_METHOD:
        return "a method";
    case TEMPLATE_LOOP:
        return "loop";
    }
    return "?";
}

/* ---- dicts */

template_dict *mixt_template_new_dict(template_run *run, size_t capacity)
{
    template_dict *dict = mixt_template_allocate(run, 1, sizeof *dict);
    dict->entries = mixt_template_allocate(run, capacity, sizeof *dict->entries);
    dict->capacity = capacity;
    return dict;
}

static bool same_text(const template_text *a, const template_text *b)
{
    return a->length == b->length && memcmp(a->data, b->data, a->length) == 0;
}

const template_value *mixt_template_find(template_run *run, const template_dict *dict,
                                         template_value key)
{
    mixt_template_charge(run, dict->count * 8);
    for (size_t i = 0; i < dict->count; i++) {
        const template_entry *entry = &dict->entries[i];
        bool same = key.kind == TEMPLATE_STRING && entry->key.kind == TEMPLATE_STRING
                        ? same_text(key.as.text, entry->key.as.text)
                        : mixt_template_equal(run, entry->key, key);
        if (same) {
            return &entry->value;
        }
    }
    return NULL;
}

static void need_hashable(template_run *run, template_value key)
{
    mixt_template_charge(run, 0);
    if (key.kind == TEMPLATE_TUPLE) {
        mixt_template_enter(run);
        for (size_t i = 0; i < key.as.list->count; i++) {
            need_hashable(run, key.as.list->items[i]);
        }
        run->depth--;
    } else if (key.kind == TEMPLATE_LIST || key.kind == TEMPLATE_DICT) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "%s as the key of a dict",
                           mixt_template_kind_name(key));
    }
}

void mixt_template_put(template_run *run, template_dict *dict, template_value key,
                       template_value value)
{
    need_hashable(run, key);
    template_value *there = (template_value *)(uintptr_t)mixt_template_find(run, dict, key);
    if (there != NULL) {
        *there = value;
        return;
    }
    mixt_template_grow(run, &dict->entries, &dict->capacity, dict->count + 1,
                       sizeof *dict->entries);
    dict->entries[dict->count++] = (template_entry){key, value};
}

/* ---- numbers */

bool mixt_template_is_number(template_value value)
{
    return value.kind == TEMPLATE_BOOL || value.kind == TEMPLATE_INTEGER ||
           value.kind == TEMPLATE_FLOAT;
}

double mixt_template_as_number(template_value value)
{
    assert(mixt_template_is_number(value));
    return value.kind == TEMPLATE_FLOAT  ? value.as.number
           : value.kind == TEMPLATE_BOOL ? (double)value.as.boolean
                                         : (double)value.as.integer;
}

int64_t mixt_template_as_integer(template_run *run, template_value value, const char *what)
{
    if (value.kind != TEMPLATE_INTEGER && value.kind != TEMPLATE_BOOL) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "%s: %s where an integer is needed", what,
                           mixt_template_kind_name(value));
    }
    return value.kind == TEMPLATE_BOOL ? value.as.boolean : value.as.integer;
}

/* ---- questions */

bool mixt_template_truth(template_value value)
{
    switch ((template_kind)value.kind) {
    case TEMPLATE_UNDEFINED:
    case TEMPLATE_NONE:
        return false;
    case TEMPLATE_BOOL:
        return value.as.boolean;
    case TEMPLATE_INTEGER:
        return value.as.integer != 0;
    case TEMPLATE_FLOAT:
        return value.as.number != 0;
    case TEMPLATE_STRING:
        return value.as.text->length > 0;
    case TEMPLATE_LIST:
    case TEMPLATE_TUPLE:
    case TEMPLATE_VIEW:
        return value.as.list->count > 0;
    case TEMPLATE_RANGE:
        return value.as.range->count > 0;
    case TEMPLATE_DICT:
        return value.as.dict->count > 0;
    case TEMPLATE_LOOP:
        return value.as.loop->items->count > 0;
    case TEMPLATE_GENERATOR:
    case TEMPLATE_NAMESPACE:
    case TEMPLATE_MACRO:
    case TEMPLATE_FUNCTION:
    case TEMPLATE_METHOD:
        break;
    }
    return true;
}

static bool equal_lists(template_run *run, const template_list *a, const template_list *b)
{
    bool equal = a->count == b->count;
    mixt_template_enter(run);
    for (size_t i = 0; equal && i < a->count; i++) {
        equal = mixt_template_equal(run, a->items[i], b->items[i]);
    }
    run->depth--;
    return equal;
}

static bool equal_dicts(template_run *run, const template_dict *a, const template_dict *b)
{
    bool equal = a->count == b->count;
    mixt_template_enter(run);
    for (size_t i = 0; equal && i < a->count; i++) {
        const template_value *other = mixt_template_find(run, b, a->entries[i].key);
        equal = other != NULL && mixt_template_equal(run, a->entries[i].value, *other);
    }
    run->depth--;
    return equal;
}

static template_value range_item(const template_range *range, size_t index)
{
    return mixt_template_integer(range->start + (int64_t)index * range->step);
}

bool mixt_template_equal(template_run *run, template_value a, template_value b)
{
    mixt_template_charge(run, 0);
    if (mixt_template_is_number(a) && mixt_template_is_number(b)) {
        if (a.kind == TEMPLATE_FLOAT || b.kind == TEMPLATE_FLOAT) {
            return mixt_template_as_number(a) == mixt_template_as_number(b);
        }
        return mixt_template_as_integer(run, a, "") == mixt_template_as_integer(run, b, "");
    }
    if (a.kind != b.kind) {
        return false;
    }
    switch ((template_kind)a.kind) {
    case TEMPLATE_UNDEFINED:
    case TEMPLATE_NONE:
        return true;
    case TEMPLATE_STRING:
        if (a.as.text->length == b.as.text->length) {
            mixt_template_charge(run, a.as.text->length);
        }
        return same_text(a.as.text, b.as.text);
    case TEMPLATE_LIST:
    case TEMPLATE_TUPLE:
        return equal_lists(run, a.as.list, b.as.list);
    case TEMPLATE_DICT:
        return equal_dicts(run, a.as.dict, b.as.dict);
    case TEMPLATE_RANGE:
        return a.as.range->count == b.as.range->count &&
               (a.as.range->count == 0 ||
                (a.as.range->start == b.as.range->start &&
                 (a.as.range->count == 1 || a.as.range->step == b.as.range->step)));
    case TEMPLATE_FUNCTION:
        return a.as.integer == b.as.integer;
    case TEMPLATE_NAMESPACE:
        return a.as.dict == b.as.dict;
    case TEMPLATE_MACRO:
        return a.as.macro == b.as.macro;
    case TEMPLATE_LOOP:
        return a.as.loop == b.as.loop;
    case TEMPLATE_VIEW:
    case TEMPLATE_GENERATOR:
    case TEMPLATE_METHOD:
    case TEMPLATE_BOOL:
    case TEMPLATE_INTEGER:
    case TEMPLATE_FLOAT:
        break;
    }
    mixt_template_fail(run, MIXT_ERROR_UNSUPPORTED, "== of %s is not supported",
                       mixt_template_kind_name(a));
}

static int order(double a, double b)
{
    return a < b ? -1 : a > b;
}

int mixt_template_compare(template_run *run, template_value a, template_value b)
{
    mixt_template_charge(run, 0);
    if (mixt_template_is_number(a) && mixt_template_is_number(b)) {
        if (a.kind == TEMPLATE_FLOAT || b.kind == TEMPLATE_FLOAT) {
            return order(mixt_template_as_number(a), mixt_template_as_number(b));
        }
        int64_t x = mixt_template_as_integer(run, a, "");
        int64_t y = mixt_template_as_integer(run, b, "");
        return x < y ? -1 : x > y;
    }
    if (a.kind == TEMPLATE_STRING && b.kind == TEMPLATE_STRING) {
        size_t x = a.as.text->length;
        size_t y = b.as.text->length;
        mixt_template_charge(run, x < y ? x : y);
        int by_bytes = memcmp(a.as.text->data, b.as.text->data, x < y ? x : y);
        return by_bytes != 0 ? by_bytes : x < y ? -1 : x > y;
    }
    if (a.kind == b.kind && (a.kind == TEMPLATE_LIST || a.kind == TEMPLATE_TUPLE)) {
        const template_list *x = a.as.list;
        const template_list *y = b.as.list;
        mixt_template_enter(run);
        int result = x->count < y->count ? -1 : x->count > y->count;
        for (size_t i = 0; i < x->count && i < y->count; i++) {
            if (!mixt_template_equal(run, x->items[i], y->items[i])) {
                result = mixt_template_compare(run, x->items[i], y->items[i]);
                break;
            }
        }
        run->depth--;
        return result;
    }
    if (a.kind == TEMPLATE_UNDEFINED || b.kind == TEMPLATE_UNDEFINED) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "%s",
                           a.kind == TEMPLATE_UNDEFINED ? a.as.missing : b.as.missing);
    }
    mixt_template_fail(run, MIXT_ERROR_FORMAT, "no order between %s and %s",
                       mixt_template_kind_name(a), mixt_template_kind_name(b));
}

bool mixt_template_contains(template_run *run, template_value container, template_value item)
{
    if (container.kind == TEMPLATE_STRING) {
        if (item.kind != TEMPLATE_STRING) {
            mixt_template_fail(run, MIXT_ERROR_FORMAT, "%s in a str",
                               item.kind == TEMPLATE_UNDEFINED ? item.as.missing
                                                               : mixt_template_kind_name(item));
        }
        mixt_template_charge(run, container.as.text->length);
        return mixt_template_search(run, container.as.text, 0, item.as.text) != NULL;
    }
    if (container.kind == TEMPLATE_DICT) {
        need_hashable(run, item);
        return mixt_template_find(run, container.as.dict, item) != NULL;
    }
    const template_list *items = mixt_template_iterate(run, container);
    for (size_t i = 0; i < items->count; i++) {
        if (mixt_template_equal(run, items->items[i], item)) {
            return true;
        }
    }
    return false;
}

/* ---- what is inside */

static template_list *characters_of(template_run *run, const template_text *text)
{
    template_list *list = mixt_template_new_list(run, mixt_template_characters(run, text));
    const unsigned char *data = (const unsigned char *)text->data;
    for (size_t at = 0; at < text->length;) {
        size_t bytes = mixt_utf8_character(data + at, text->length - at);
        mixt_template_append(run, list, mixt_template_view(run, text->data + at, bytes));
        at += bytes;
    }
    return list;
}

const template_list *mixt_template_iterate(template_run *run, template_value value)
{
    template_list *list = NULL;
    mixt_template_charge(run, 0);
    switch ((template_kind)value.kind) {
    case TEMPLATE_LIST:
    case TEMPLATE_TUPLE:
    case TEMPLATE_VIEW:
        return value.as.list;
    case TEMPLATE_GENERATOR:
        if (value.as.list->used) {
            return mixt_template_new_list(run, 0);
        }
        value.as.list->used = true;
        return value.as.list;
    case TEMPLATE_UNDEFINED:
        return mixt_template_new_list(run, 0);
    case TEMPLATE_STRING:
        return characters_of(run, value.as.text);
    case TEMPLATE_RANGE:
        list = mixt_template_new_list(run, value.as.range->count);
        for (size_t i = 0; i < value.as.range->count; i++) {
            mixt_template_append(run, list, range_item(value.as.range, i));
        }
        return list;
    case TEMPLATE_DICT:
        list = mixt_template_new_list(run, value.as.dict->count);
        for (size_t i = 0; i < value.as.dict->count; i++) {
            mixt_template_append(run, list, value.as.dict->entries[i].key);
        }
        return list;
    case TEMPLATE_NONE:
    case TEMPLATE_BOOL:
    case TEMPLATE_INTEGER:
    case TEMPLATE_FLOAT:
    case TEMPLATE_NAMESPACE:
    case TEMPLATE_MACRO:
    case TEMPLATE_FUNCTION:
    case TEMPLATE_METHOD:
    case TEMPLATE_LOOP:
        break;
    }
    mixt_template_fail(run, MIXT_ERROR_FORMAT, "%s has no items to go over",
                       mixt_template_kind_name(value));
}

size_t mixt_template_length(template_run *run, template_value value)
{
    switch ((int)value.kind) {
    case TEMPLATE_UNDEFINED:
        return 0;
    case TEMPLATE_STRING:
        return mixt_template_characters(run, value.as.text);
    case TEMPLATE_LIST:
    case TEMPLATE_TUPLE:
    case TEMPLATE_VIEW:
        return value.as.list->count;
    case TEMPLATE_RANGE:
        return value.as.range->count;
    case TEMPLATE_DICT:
        return value.as.dict->count;
    case TEMPLATE_LOOP:
        return value.as.loop->items->count;
    default:
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "%s has no length",
                           mixt_template_kind_name(value));
    }
}

/* ---- from JSON */

template_value mixt_template_from_json(template_run *run, const json_t *json, int depth)
{
    if (depth > TEMPLATE_VALUE_DEPTH_MAX) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "a variable is nested deeper than %d",
                           TEMPLATE_VALUE_DEPTH_MAX);
    }
    switch (json_typeof(json)) {
    case JSON_NULL:
        return mixt_template_none();
    case JSON_TRUE:
    case JSON_FALSE:
        return mixt_template_bool(json_is_true(json));
    case JSON_INTEGER:
        return mixt_template_integer(json_integer_value(json));
    case JSON_REAL:
        return mixt_template_number(json_real_value(json));
    case JSON_STRING: /* lives as long as the rendering */
        run->given += json_string_length(json);
        return mixt_template_view(run, json_string_value(json), json_string_length(json));
    case JSON_ARRAY: {
        template_list *list = mixt_template_new_list(run, json_array_size(json));
        for (size_t i = 0; i < json_array_size(json); i++) {
            mixt_template_append(run, list,
                                 mixt_template_from_json(run, json_array_get(json, i), depth + 1));
        }
        return mixt_template_list_value(TEMPLATE_LIST, list);
    }
    case JSON_OBJECT: {
        const char *key;
        json_t *value;
        template_dict *dict = mixt_template_new_dict(run, json_object_size(json));
        json_object_foreach((json_t *)(uintptr_t)json, key, value)
        { /* keys of an object are distinct: no search */
            dict->entries[dict->count++] =
                (template_entry){mixt_template_view(run, key, strlen(key)),
                                 mixt_template_from_json(run, value, depth + 1)};
        }
        return (template_value){.kind = TEMPLATE_DICT, .as.dict = dict};
    }
    }
    return mixt_template_none();
}
