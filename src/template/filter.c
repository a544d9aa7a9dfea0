/* Filters, with jinja2's results, and transformers' tojson. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/number.h"
#include "template/template.h"

/* ---- arguments */

static size_t word_length(const char *words)
{
    return strcspn(words, " ");
}

/* The place of `name` among `names`, or -1. */
static int place_of(const char *names, const template_text *name)
{
    int place = 0;
    while (*names != '\0') {
        size_t length = word_length(names);
        if (length == name->length && memcmp(names, name->data, length) == 0) {
            return place;
        }
        place++;
        names += length + (names[length] == ' ');
    }
    return -1;
}

void mixt_template_check_arguments(template_run *run, const char *what,
                                   const template_arguments *arguments, const char *names)
{
    size_t most = names[0] != '\0';
    for (const char *c = names; *c != '\0'; c++) {
        most += *c == ' ';
    }
    if (arguments->positional > most) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "%s takes at most %zu argument%s", what, most,
                           most == 1 ? "" : "s");
    }
    for (size_t i = arguments->positional; i < arguments->count; i++) {
        int place = place_of(names, arguments->names[i]);
        if (place < 0 || (size_t)place < arguments->positional) {
            mixt_template_fail(run, MIXT_ERROR_UNSUPPORTED, "%s: argument \"%.60s\" is %s", what,
                               arguments->names[i]->data,
                               place < 0 ? "not supported" : "given twice");
        }
    }
}

static const template_value *find_argument(const template_arguments *arguments, size_t place,
                                           const char *name)
{
    if (place < arguments->positional) {
        return &arguments->values[place];
    }
    for (size_t i = arguments->positional; i < arguments->count; i++) {
        if (strcmp(arguments->names[i]->data, name) == 0) {
            return &arguments->values[i];
        }
    }
    return NULL;
}

bool mixt_template_given(const template_arguments *arguments, size_t place, const char *name)
{
    return find_argument(arguments, place, name) != NULL;
}

template_value mixt_template_argument(const template_arguments *arguments, size_t place,
                                      const char *name)
{
    const template_value *found = find_argument(arguments, place, name);
    return found != NULL ? *found
                         : (template_value){.kind = TEMPLATE_UNDEFINED,
                                            .as.missing = "an argument that was not given"};
}

static bool flag(const template_arguments *arguments, size_t place, const char *name)
{
    return mixt_template_truth(mixt_template_argument(arguments, place, name));
}

static const char *c_string_of(template_run *run, template_value value, const char *what)
{
    return mixt_template_c_string(run, mixt_template_need_text(run, value, what));
}

/* ---- attributes by a dotted path */

static bool is_all_digits(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
    }
    return length > 0 && length < 10;
}

/* Item after item along a path; `fallback` (or NULL) stands for an undefined one. */
static template_value by_path(template_run *run, template_value item, template_value path,
                              const template_value *fallback)
{
    if (path.kind != TEMPLATE_STRING) {
        mixt_template_as_integer(run, path, "attribute");
        return mixt_template_item(run, item, path);
    }
    const template_text *text = path.as.text;
    for (size_t at = 0; at <= text->length;) {
        const char *part = text->data + at;
        const char *dot = memchr(part, '.', text->length - at);
        size_t length = dot != NULL ? (size_t)(dot - part) : text->length - at;
        template_value key = is_all_digits(part, length)
                                 ? mixt_template_integer(strtoll(part, NULL, 10))
                                 : mixt_template_string(run, part, length);
        item = mixt_template_item(run, item, key);
        if (fallback != NULL && item.kind == TEMPLATE_UNDEFINED) {
            item = *fallback;
        }
        at += length + 1;
    }
    return item;
}

/* ---- order */

typedef struct sort_key {
    template_value key, value;
} sort_key;

static template_value fold(template_run *run, template_value value, bool case_sensitive)
{
    return case_sensitive || value.kind != TEMPLATE_STRING
               ? value
               : mixt_template_case(run, value.as.text, CASE_LOWER);
}

/* Merges two sorted halves, equal keys in the order in which they stood. */
static void sort_keys(template_run *run, sort_key *keys, sort_key *spare, size_t count,
                      bool descending)
{
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t low = 0; low < count; low += 2 * width) {
            size_t middle = low + width < count ? low + width : count;
            size_t high = middle + width < count ? middle + width : count;
            size_t a = low, b = middle;
            for (size_t i = low; i < high; i++) {
                bool second = a == middle;
                if (!second && b < high) {
                    int order = mixt_template_compare(run, keys[b].key, keys[a].key);
                    second = descending ? order > 0 : order < 0;
                }
                spare[i] = second ? keys[b++] : keys[a++];
            }
        }
        memcpy(keys, spare, count * sizeof *keys);
    }
}

static template_value sort_items(template_run *run, const template_list *items,
                                 const template_value *path, bool case_sensitive, bool descending)
{
    sort_key *keys = mixt_template_allocate(run, items->count, sizeof *keys);
    sort_key *spare = mixt_template_allocate(run, items->count, sizeof *spare);
    for (size_t i = 0; i < items->count; i++) {
        template_value key =
            path != NULL ? by_path(run, items->items[i], *path, NULL) : items->items[i];
        keys[i] = (sort_key){fold(run, key, case_sensitive), items->items[i]};
    }
    sort_keys(run, keys, spare, items->count, descending);
    template_list *list = mixt_template_new_list(run, items->count);
    for (size_t i = 0; i < items->count; i++) {
        mixt_template_append(run, list, keys[i].value);
    }
    return mixt_template_list_value(TEMPLATE_LIST, list);
}

static template_value filter_sort(template_run *run, template_value value,
                                  const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "sort", arguments, "reverse case_sensitive attribute");
    template_value path = mixt_template_argument(arguments, 2, "attribute");
    bool has_path = path.kind != TEMPLATE_UNDEFINED && path.kind != TEMPLATE_NONE;
    if (path.kind == TEMPLATE_STRING &&
        memchr(path.as.text->data, ',', path.as.text->length) != NULL) {
        mixt_template_fail(run, MIXT_ERROR_UNSUPPORTED, "sort by several attributes");
    }
    return sort_items(run, mixt_template_iterate(run, value), has_path ? &path : NULL,
                      flag(arguments, 1, "case_sensitive"), flag(arguments, 0, "reverse"));
}

static template_list *dict_items(template_run *run, template_value value, const char *what)
{
    if (value.kind != TEMPLATE_DICT) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "%s: %s where a dict is needed", what,
                           value.kind == TEMPLATE_UNDEFINED ? value.as.missing
                                                            : mixt_template_kind_name(value));
    }
    template_list *list = mixt_template_new_list(run, value.as.dict->count);
    for (size_t i = 0; i < value.as.dict->count; i++) {
        template_list *pair = mixt_template_new_list(run, 2);
        mixt_template_append(run, pair, value.as.dict->entries[i].key);
        mixt_template_append(run, pair, value.as.dict->entries[i].value);
        mixt_template_append(run, list, mixt_template_list_value(TEMPLATE_TUPLE, pair));
    }
    return list;
}

static template_value filter_dictsort(template_run *run, template_value value,
                                      const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "dictsort", arguments, "case_sensitive by reverse");
    template_value by = mixt_template_argument(arguments, 1, "by");
    template_value path = mixt_template_integer(0);
    if (by.kind != TEMPLATE_UNDEFINED) {
        const char *name = c_string_of(run, by, "dictsort");
        if (strcmp(name, "key") != 0 && strcmp(name, "value") != 0) {
            mixt_template_fail(run, MIXT_ERROR_FORMAT, "dictsort: by \"%.40s\" is not supported",
                               name);
        }
        path.as.integer = name[0] == 'v';
    }
    return sort_items(run, dict_items(run, value, "dictsort"), &path,
                      flag(arguments, 0, "case_sensitive"), flag(arguments, 2, "reverse"));
}

static template_value filter_items(template_run *run, template_value value,
                                   const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "items", arguments, "");
    template_list *list = value.kind == TEMPLATE_UNDEFINED ? mixt_template_new_list(run, 0)
                                                           : dict_items(run, value, "items");
    return mixt_template_list_value(TEMPLATE_GENERATOR, list);
}

static template_value filter_unique(template_run *run, template_value value,
                                    const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "unique", arguments, "case_sensitive attribute");
    template_value path = mixt_template_argument(arguments, 1, "attribute");
    bool has_path = path.kind != TEMPLATE_UNDEFINED && path.kind != TEMPLATE_NONE;
    bool case_sensitive = flag(arguments, 0, "case_sensitive");
    const template_list *items = mixt_template_iterate(run, value);
    template_dict *seen = mixt_template_new_dict(run, 4);
    template_list *list = mixt_template_new_list(run, 4);
    for (size_t i = 0; i < items->count; i++) {
        template_value item = items->items[i];
        template_value key =
            fold(run, has_path ? by_path(run, item, path, NULL) : item, case_sensitive);
        size_t before = seen->count;
        mixt_template_put(run, seen, key, item);
        if (seen->count > before) {
            mixt_template_append(run, list, item);
        }
    }
    return mixt_template_list_value(TEMPLATE_GENERATOR, list);
}

static template_value extreme(template_run *run, template_value value,
                              const template_arguments *arguments, int sign)
{
    mixt_template_check_arguments(run, sign < 0 ? "min" : "max", arguments,
                                  "case_sensitive attribute");
    template_value path = mixt_template_argument(arguments, 1, "attribute");
    bool has_path = path.kind != TEMPLATE_UNDEFINED && path.kind != TEMPLATE_NONE;
    bool case_sensitive = flag(arguments, 0, "case_sensitive");
    const template_list *items = mixt_template_iterate(run, value);
    template_value best = mixt_template_undefined(run, "the sequence was empty");
    template_value best_key = best;
    for (size_t i = 0; i < items->count; i++) {
        template_value item = items->items[i];
        template_value key =
            fold(run, has_path ? by_path(run, item, path, NULL) : item, case_sensitive);
        if (i == 0 || mixt_template_compare(run, key, best_key) * sign > 0) {
            best = item;
            best_key = key;
        }
    }
    return best;
}

static template_value filter_min(template_run *run, template_value value,
                                 const template_arguments *arguments)
{
    return extreme(run, value, arguments, -1);
}

static template_value filter_max(template_run *run, template_value value,
                                 const template_arguments *arguments)
{
    return extreme(run, value, arguments, 1);
}

static template_value filter_sum(template_run *run, template_value value,
                                 const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "sum", arguments, "attribute start");
    template_value path = mixt_template_argument(arguments, 0, "attribute");
    bool has_path = path.kind != TEMPLATE_UNDEFINED && path.kind != TEMPLATE_NONE;
    template_value sum = mixt_template_given(arguments, 1, "start")
                             ? mixt_template_argument(arguments, 1, "start")
                             : mixt_template_integer(0);
    const template_list *items = mixt_template_iterate(run, value);
    for (size_t i = 0; i < items->count; i++) {
        template_value item =
            has_path ? by_path(run, items->items[i], path, NULL) : items->items[i];
        sum = mixt_template_arithmetic(run, OPERATOR_ADD, sum, item);
    }
    return sum;
}

/* ---- sequences */

static template_value filter_length(template_run *run, template_value value,
                                    const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "length", arguments, "");
    return mixt_template_integer((int64_t)mixt_template_length(run, value));
}

static template_value filter_list(template_run *run, template_value value,
                                  const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "list", arguments, "");
    const template_list *items = mixt_template_iterate(run, value);
    template_list *list = mixt_template_new_list(run, items->count);
    for (size_t i = 0; i < items->count; i++) {
        mixt_template_append(run, list, items->items[i]);
    }
    return mixt_template_list_value(TEMPLATE_LIST, list);
}

static template_value filter_first(template_run *run, template_value value,
                                   const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "first", arguments, "");
    if (value.kind == TEMPLATE_GENERATOR) {
        mixt_template_fail(run, MIXT_ERROR_UNSUPPORTED, "first of %s is not supported",
                           mixt_template_kind_name(value));
    }
    const template_list *items = mixt_template_iterate(run, value);
    return items->count > 0 ? items->items[0]
                            : mixt_template_undefined(run, "the sequence was empty");
}

static template_value filter_last(template_run *run, template_value value,
                                  const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "last", arguments, "");
    if (value.kind == TEMPLATE_GENERATOR) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "last of %s", mixt_template_kind_name(value));
    }
    const template_list *items = mixt_template_iterate(run, value);
    return items->count > 0 ? items->items[items->count - 1]
                            : mixt_template_undefined(run, "the sequence was empty");
}

static template_value filter_reverse(template_run *run, template_value value,
                                     const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "reverse", arguments, "");
    const template_list *items = mixt_template_iterate(run, value);
    template_list *list = mixt_template_new_list(run, items->count);
    for (size_t i = items->count; i-- > 0;) {
        mixt_template_append(run, list, items->items[i]);
    }
    if (value.kind != TEMPLATE_STRING) {
        return mixt_template_list_value(
            value.kind == TEMPLATE_GENERATOR ? TEMPLATE_LIST : TEMPLATE_GENERATOR, list);
    }
    template_output output = {0};
    for (size_t i = 0; i < list->count; i++) {
        const template_text *text = list->items[i].as.text;
        mixt_template_write(run, &output, text->data, text->length);
    }
    return mixt_template_output_value(run, &output);
}

static template_value filter_join(template_run *run, template_value value,
                                  const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "join", arguments, "d attribute");
    template_value path = mixt_template_argument(arguments, 1, "attribute");
    bool has_path = path.kind != TEMPLATE_UNDEFINED && path.kind != TEMPLATE_NONE;
    const template_text *separator =
        mixt_template_text(run, mixt_template_argument(arguments, 0, "d"));
    const template_list *items = mixt_template_iterate(run, value);
    template_output output = {0};
    for (size_t i = 0; i < items->count; i++) {
        template_value item =
            has_path ? by_path(run, items->items[i], path, NULL) : items->items[i];
        const template_text *text = mixt_template_text(run, item);
        if (i > 0) {
            mixt_template_write(run, &output, separator->data, separator->length);
        }
        mixt_template_write(run, &output, text->data, text->length);
    }
    return mixt_template_output_value(run, &output);
}

/* The arguments behind the first `count` positional ones. */
static template_arguments behind(const template_arguments *arguments, size_t count)
{
    return (template_arguments){arguments->values + count, arguments->count - count,
                                arguments->names + count, arguments->positional - count};
}

static template_value filter_map(template_run *run, template_value value,
                                 const template_arguments *arguments)
{
    if (value.kind != TEMPLATE_GENERATOR && !mixt_template_truth(value)) {
        return mixt_template_list_value(TEMPLATE_GENERATOR, mixt_template_new_list(run, 0));
    }
    const template_list *items = mixt_template_iterate(run, value);
    template_list *list = mixt_template_new_list(run, items->count);
    if (arguments->positional == 0) {
        mixt_template_check_arguments(run, "map", arguments, "- attribute default");
        template_value path = mixt_template_argument(arguments, 1, "attribute");
        template_value fallback = mixt_template_argument(arguments, 2, "default");
        bool has_fallback = fallback.kind != TEMPLATE_UNDEFINED && fallback.kind != TEMPLATE_NONE;
        for (size_t i = 0; i < items->count; i++) {
            mixt_template_append(
                run, list, by_path(run, items->items[i], path, has_fallback ? &fallback : NULL));
        }
    } else {
        const char *name = c_string_of(run, arguments->values[0], "map");
        template_arguments rest = behind(arguments, 1);
        for (size_t i = 0; i < items->count; i++) {
            mixt_template_append(run, list,
                                 mixt_template_filter(run, name, items->items[i], &rest));
        }
    }
    return mixt_template_list_value(TEMPLATE_GENERATOR, list);
}

/* select, reject, selectattr and rejectattr: `keep` is what a kept item's test says. */
static template_value choose(template_run *run, template_value value,
                             const template_arguments *arguments, bool keep, bool by_attribute)
{
    template_list *list = mixt_template_new_list(run, 4);
    if (value.kind != TEMPLATE_GENERATOR && !mixt_template_truth(value)) {
        return mixt_template_list_value(TEMPLATE_GENERATOR, list);
    }
    size_t place = by_attribute;
    if (arguments->positional < place) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "the name of an attribute is missing");
    }
    const char *test = NULL;
    template_arguments rest = {0};
    if (arguments->positional > place) {
        test = c_string_of(run, arguments->values[place], "the name of a test");
        rest = behind(arguments, place + 1);
    }
    const template_list *items = mixt_template_iterate(run, value);
    for (size_t i = 0; i < items->count; i++) {
        template_value item = items->items[i];
        if (by_attribute) {
            item = by_path(run, item, arguments->values[0], NULL);
        }
        bool yes =
            test != NULL ? mixt_template_test(run, test, item, &rest) : mixt_template_truth(item);
        if (yes == keep) {
            mixt_template_append(run, list, items->items[i]);
        }
    }
    return mixt_template_list_value(TEMPLATE_GENERATOR, list);
}

static template_value filter_select(template_run *run, template_value value,
                                    const template_arguments *arguments)
{
    return choose(run, value, arguments, true, false);
}

static template_value filter_reject(template_run *run, template_value value,
                                    const template_arguments *arguments)
{
    return choose(run, value, arguments, false, false);
}

static template_value filter_selectattr(template_run *run, template_value value,
                                        const template_arguments *arguments)
{
    return choose(run, value, arguments, true, true);
}

static template_value filter_rejectattr(template_run *run, template_value value,
                                        const template_arguments *arguments)
{
    return choose(run, value, arguments, false, true);
}

/* ---- strings */

static template_value filter_trim(template_run *run, template_value value,
                                  const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "trim", arguments, "chars");
    template_value characters = mixt_template_argument(arguments, 0, "chars");
    bool given = characters.kind != TEMPLATE_UNDEFINED && characters.kind != TEMPLATE_NONE;
    return mixt_template_strip(run, mixt_template_text(run, value),
                               given ? mixt_template_need_text(run, characters, "trim") : NULL, 3);
}

static template_value filter_upper(template_run *run, template_value value,
                                   const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "upper", arguments, "");
    return mixt_template_case(run, mixt_template_text(run, value), CASE_UPPER);
}

static template_value filter_lower(template_run *run, template_value value,
                                   const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "lower", arguments, "");
    return mixt_template_case(run, mixt_template_text(run, value), CASE_LOWER);
}

static template_value filter_title(template_run *run, template_value value,
                                   const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "title", arguments, "");
    return mixt_template_case(run, mixt_template_text(run, value), CASE_TITLE_FILTER);
}

static template_value filter_capitalize(template_run *run, template_value value,
                                        const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "capitalize", arguments, "");
    return mixt_template_case(run, mixt_template_text(run, value), CASE_CAPITALIZE);
}

static template_value filter_replace(template_run *run, template_value value,
                                     const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "replace", arguments, "old new count");
    template_value count = mixt_template_argument(arguments, 2, "count");
    if (!mixt_template_given(arguments, 1, "new")) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "replace: old and new are needed");
    }
    /* Without autoescape jinja2 makes plain strings of all three. */
    return mixt_template_replace(
        run, mixt_template_text(run, value),
        mixt_template_text(run, mixt_template_argument(arguments, 0, "old")),
        mixt_template_text(run, mixt_template_argument(arguments, 1, "new")),
        count.kind == TEMPLATE_UNDEFINED || count.kind == TEMPLATE_NONE
            ? -1
            : mixt_template_as_integer(run, count, "replace"));
}

static template_value filter_indent(template_run *run, template_value value,
                                    const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "indent", arguments, "width first blank");
    const template_text *text = mixt_template_need_text(run, value, "indent");
    template_value width = mixt_template_given(arguments, 0, "width")
                               ? mixt_template_argument(arguments, 0, "width")
                               : mixt_template_integer(4);
    bool first = flag(arguments, 1, "first");
    bool blank = flag(arguments, 2, "blank");
    template_value space = mixt_template_view(run, " ", 1);
    const template_text *indent =
        width.kind == TEMPLATE_STRING
            ? width.as.text
            : mixt_template_repeat(run, space.as.text,
                                   mixt_template_as_integer(run, width, "indent"))
                  .as.text;
    template_value newline = mixt_template_view(run, "\n", 1);
    const template_list *lines =
        mixt_template_lines(run, mixt_template_concat(run, text, newline.as.text).as.text, false);
    template_output output = {0};
    for (size_t i = 0; i < lines->count; i++) {
        const template_text *line = lines->items[i].as.text;
        if (i > 0) {
            mixt_template_write(run, &output, "\n", 1);
        }
        if (i == 0 ? first : blank || line->length > 0) {
            mixt_template_write(run, &output, indent->data, indent->length);
        }
        mixt_template_write(run, &output, line->data, line->length);
    }
    return mixt_template_output_value(run, &output);
}

static template_value filter_string(template_run *run, template_value value,
                                    const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "string", arguments, "");
    return (template_value){.kind = TEMPLATE_STRING, .as.text = mixt_template_text(run, value)};
}

static template_value filter_safe(template_run *run, template_value value,
                                  const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "safe", arguments, "");
    template_text *text = mixt_template_allocate(run, 1, sizeof *text);
    *text = *mixt_template_text(run, value);
    text->is_safe = true;
    return (template_value){.kind = TEMPLATE_STRING, .as.text = text};
}

static template_value filter_escape(template_run *run, template_value value,
                                    const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "escape", arguments, "");
    return (template_value){.kind = TEMPLATE_STRING,
                            .as.text = mixt_template_escape(run, mixt_template_text(run, value))};
}

static template_value filter_tojson(template_run *run, template_value value,
                                    const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "tojson", arguments,
                                  "ensure_ascii indent separators sort_keys");
    template_value indent = mixt_template_argument(arguments, 1, "indent");
    template_value separators = mixt_template_argument(arguments, 2, "separators");
    template_json_style style = {.item_separator = ", ",
                                 .key_separator = ": ",
                                 .ascii = flag(arguments, 0, "ensure_ascii"),
                                 .sorted = flag(arguments, 3, "sort_keys")};
    if (indent.kind == TEMPLATE_STRING) {
        style.indent = mixt_template_c_string(run, indent.as.text);
        style.item_separator = ",";
    } else if (indent.kind != TEMPLATE_UNDEFINED && indent.kind != TEMPLATE_NONE) {
        template_value space = mixt_template_view(run, " ", 1);
        template_value spaces = mixt_template_repeat(
            run, space.as.text, mixt_template_as_integer(run, indent, "tojson: indent"));
        style.indent = mixt_template_c_string(run, spaces.as.text);
        style.item_separator = ",";
    }
    if (separators.kind != TEMPLATE_UNDEFINED && separators.kind != TEMPLATE_NONE) {
        const template_list *two = mixt_template_iterate(run, separators);
        if (two->count != 2) {
            mixt_template_fail(run, MIXT_ERROR_FORMAT, "tojson: separators are not two");
        }
        style.item_separator = c_string_of(run, two->items[0], "separators");
        style.key_separator = c_string_of(run, two->items[1], "separators");
    }
    template_output output = {0};
    mixt_template_write_json(run, &output, value, &style);
    return mixt_template_output_value(run, &output);
}

/* ---- numbers and the rest */

static template_value filter_default(template_run *run, template_value value,
                                     const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "default", arguments, "default_value boolean");
    bool replaced = value.kind == TEMPLATE_UNDEFINED ||
                    (flag(arguments, 1, "boolean") && !mixt_template_truth(value));
    if (!replaced) {
        return value;
    }
    return mixt_template_given(arguments, 0, "default_value")
               ? mixt_template_argument(arguments, 0, "default_value")
               : mixt_template_view(run, "", 0);
}

/* A decimal number with white space around it, as int() and float() of Python read a str. */
static bool read_number(const template_text *text, bool integer, template_value *value)
{
    char copy[64];
    size_t from = 0, to = text->length, used = 0;
    while (from < to && mixt_template_is_space((unsigned char)text->data[from])) {
        from++;
    }
    while (to > from && mixt_template_is_space((unsigned char)text->data[to - 1])) {
        to--;
    }
    for (size_t i = from; i < to; i++) {
        char c = text->data[i];
        bool digit = c >= '0' && c <= '9';
        bool sign = (c == '+' || c == '-') && (i == from || copy[used - 1] == 'e');
        bool other = !integer && used > 0 && (c == 'e' || c == 'E');
        other = other || (!integer && c == '.');
        if (used + 1 >= sizeof copy || !(digit || sign || other)) {
            return false;
        }
        copy[used++] = c == 'E' ? 'e' : c;
    }
    copy[used] = '\0';
    char *end = copy;
    *value = integer ? mixt_template_integer(strtoll(copy, &end, 10))
                     : mixt_template_number(mixt_number_read(copy, &end));
    return used > 0 && *end == '\0' && (integer ? used < 19 : isfinite(value->as.number));
}

static template_value filter_int(template_run *run, template_value value,
                                 const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "int", arguments, "default");
    if (value.kind == TEMPLATE_STRING) {
        template_value number;
        if (read_number(value.as.text, true, &number)) {
            return number;
        }
        if (read_number(value.as.text, false, &number)) {
            value = number;
        }
    }
    if (value.kind == TEMPLATE_UNDEFINED) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "int: %s", value.as.missing);
    }
    if (value.kind == TEMPLATE_FLOAT) {
        if (!(fabs(value.as.number) < 9.2e18)) {
            mixt_template_fail(run, MIXT_ERROR_UNSUPPORTED, "int: a number beyond 64 bits");
        }
        return mixt_template_integer((int64_t)value.as.number);
    }
    if (value.kind == TEMPLATE_INTEGER || value.kind == TEMPLATE_BOOL) {
        return mixt_template_integer(mixt_template_as_integer(run, value, "int"));
    }
    return mixt_template_given(arguments, 0, "default")
               ? mixt_template_argument(arguments, 0, "default")
               : mixt_template_integer(0);
}

static template_value filter_float(template_run *run, template_value value,
                                   const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "float", arguments, "default");
    template_value number;
    if (value.kind == TEMPLATE_UNDEFINED) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "float: %s", value.as.missing);
    }
    if (value.kind == TEMPLATE_STRING && read_number(value.as.text, false, &number)) {
        return number;
    }
    if (mixt_template_is_number(value)) {
        return mixt_template_number(mixt_template_as_number(value));
    }
    return mixt_template_given(arguments, 0, "default")
               ? mixt_template_argument(arguments, 0, "default")
               : mixt_template_number(0);
}

static template_value filter_abs(template_run *run, template_value value,
                                 const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "abs", arguments, "");
    if (value.kind == TEMPLATE_FLOAT) {
        return mixt_template_number(fabs(value.as.number));
    }
    int64_t number = mixt_template_as_integer(run, value, "abs");
    return number >= 0
               ? mixt_template_integer(number)
               : mixt_template_arithmetic(run, OPERATOR_SUBTRACT, mixt_template_integer(0), value);
}

static template_value filter_round(template_run *run, template_value value,
                                   const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "round", arguments, "precision method");
    template_value places = mixt_template_argument(arguments, 0, "precision");
    int64_t precision =
        places.kind == TEMPLATE_UNDEFINED ? 0 : mixt_template_as_integer(run, places, "round");
    template_value method = mixt_template_argument(arguments, 1, "method");
    const char *name =
        method.kind == TEMPLATE_UNDEFINED ? "common" : c_string_of(run, method, "round");
    if (!mixt_template_is_number(value) || precision < 0 || precision > 15) {
        mixt_template_fail(run, MIXT_ERROR_UNSUPPORTED, "round: %s to %lld places",
                           mixt_template_kind_name(value), (long long)precision);
    }
    double number = mixt_template_as_number(value);
    if (strcmp(name, "common") == 0) {
        if (value.kind != TEMPLATE_FLOAT || !isfinite(number)) {
            return value.kind == TEMPLATE_FLOAT ? value
                                                : filter_int(run, value, &(template_arguments){0});
        }
        char text[400]; /* the exact decimal value, half to even, as Python rounds */
        mixt_format(text, sizeof text, "%.*f", (int)precision, number);
        return mixt_template_number(mixt_number_read(text, NULL));
    }
    double scale = pow(10, (double)precision);
    if (strcmp(name, "ceil") == 0 || strcmp(name, "floor") == 0) {
        number = name[0] == 'c' ? ceil(number * scale) : floor(number * scale);
        return mixt_template_number(number / scale);
    }
    mixt_template_fail(run, MIXT_ERROR_FORMAT, "round: method \"%.40s\" is not supported", name);
}

static template_value filter_attr(template_run *run, template_value value,
                                  const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "attr", arguments, "name");
    const template_text *name =
        mixt_template_need_text(run, mixt_template_argument(arguments, 0, "name"), "attr");
    const char *word = mixt_template_c_string(run, name);
    if (value.kind == TEMPLATE_DICT && !mixt_template_has_method(value, word)) {
        return mixt_template_undefined(run, "a dict has no attribute \"%.80s\"", word);
    }
    return mixt_template_attribute(run, value, name);
}

/* ---- by name */

static const struct {
    const char *name;
    template_value (*filter)(template_run *run, template_value value,
                             const template_arguments *arguments);
} filters[] = {
    {"abs", filter_abs},           {"attr", filter_attr},       {"capitalize", filter_capitalize},
    {"count", filter_length},      {"d", filter_default},       {"default", filter_default},
    {"dictsort", filter_dictsort}, {"e", filter_escape},        {"escape", filter_escape},
    {"first", filter_first},       {"float", filter_float},     {"indent", filter_indent},
    {"int", filter_int},           {"items", filter_items},     {"join", filter_join},
    {"last", filter_last},         {"length", filter_length},   {"list", filter_list},
    {"lower", filter_lower},       {"map", filter_map},         {"max", filter_max},
    {"min", filter_min},           {"reject", filter_reject},   {"rejectattr", filter_rejectattr},
    {"replace", filter_replace},   {"reverse", filter_reverse}, {"round", filter_round},
    {"safe", filter_safe},         {"select", filter_select},   {"selectattr", filter_selectattr},
    {"sort", filter_sort},         {"string", filter_string},   {"sum", filter_sum},
    {"title", filter_title},       {"tojson", filter_tojson},   {"trim", filter_trim},
    {"unique", filter_unique},     {"upper", filter_upper},
};

template_value mixt_template_filter(template_run *run, const char *name, template_value value,
                                    const template_arguments *arguments)
{
    mixt_template_charge(run, 0);
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
        if (strcmp(filters[i].name, name) == 0) {
            return filters[i].filter(run, value, arguments);
        }
    }
    mixt_template_fail(run, MIXT_ERROR_UNSUPPORTED, "filter \"%.60s\" is not supported", name);
}
