/* Methods of strings, lists and dicts, and of loop. Their names are known even where they are not
 * supported: a dict's .items is its method, never its item of that name, as in Python. */
#include <string.h>
#include <utf8proc.h>

#include "template/template.h"
#include "core/utf8.h"

static const char *const string_methods[] = {
    "capitalize",   "casefold",    "center",    "count",      "encode",       "endswith",
    "expandtabs",   "find",        "format",    "format_map", "index",        "isalnum",
    "isalpha",      "isascii",     "isdecimal", "isdigit",    "isidentifier", "islower",
    "isnumeric",    "isprintable", "isspace",   "istitle",    "isupper",      "join",
    "ljust",        "lower",       "lstrip",    "maketrans",  "partition",    "removeprefix",
    "removesuffix", "replace",     "rfind",     "rindex",     "rjust",        "rpartition",
    "rsplit",       "rstrip",      "split",     "splitlines", "startswith",   "strip",
    "swapcase",     "title",       "translate", "upper",      "zfill",        NULL};
static const char *const list_methods[] = {"append", "clear",   "copy",   "count",
                                           "extend", "index",   "insert", "pop",
                                           "remove", "reverse", "sort",   NULL};
static const char *const tuple_methods[] = {"count", "index", NULL};
static const char *const range_methods[] = {"count", "index", "start", "stop", "step", NULL};
static const char *const dict_methods[] = {"clear",      "copy",   "fromkeys", "get",
                                           "items",      "keys",   "pop",      "popitem",
                                           "setdefault", "update", "values",   NULL};
static const char *const number_methods[] = {
    "as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator", "from_bytes", "imag",
    "numerator",        "real",      "to_bytes",   "fromhex",   "hex",         "is_integer", NULL};

bool mixt_template_has_method(template_value object, const char *name)
{
    const char *const *names = object.kind == TEMPLATE_STRING    ? string_methods
                               : object.kind == TEMPLATE_LIST    ? list_methods
                               : object.kind == TEMPLATE_TUPLE   ? tuple_methods
                               : object.kind == TEMPLATE_RANGE   ? range_methods
                               : object.kind == TEMPLATE_DICT    ? dict_methods
                               : mixt_template_is_number(object) ? number_methods
                                                                 : NULL;
    for (; names != NULL && *names != NULL; names++) {
        if (strcmp(*names, name) == 0) {
            return true;
        }
    }
    return false;
}

typedef struct method_call {
    template_run *run;
    template_value object;
    const char *name;
    const template_arguments *arguments;
} method_call;

/* Between `least` and `most` arguments without names. */
static void need(const method_call *call, size_t least, size_t most)
{
    if (call->arguments->count < least || call->arguments->count > most ||
        call->arguments->positional != call->arguments->count) {
        mixt_template_fail(call->run, MIXT_ERROR_UNSUPPORTED,
                           "method .%s with these arguments is not supported", call->name);
    }
}

static const template_text *text_argument(const method_call *call, size_t place)
{
    return mixt_template_need_text(call->run, call->arguments->values[place], call->name);
}

/* NULL where the argument is left out or none. */
static const template_text *text_or_none(const method_call *call, size_t place, const char *name)
{
    template_value value = mixt_template_argument(call->arguments, place, name);
    if (!mixt_template_given(call->arguments, place, name) || value.kind == TEMPLATE_NONE) {
        return NULL;
    }
    return mixt_template_need_text(call->run, value, call->name);
}

/* ---- strings */

static template_value strip(const method_call *call)
{
    need(call, 0, 1);
    int sides = call->name[0] == 'l' ? 1 : call->name[0] == 'r' ? 2 : 3;
    return mixt_template_strip(call->run, call->object.as.text, text_or_none(call, 0, "chars"),
                               sides);
}

static template_value split(const method_call *call)
{
    mixt_template_check_arguments(call->run, call->name, call->arguments, "sep maxsplit");
    template_value limit = mixt_template_argument(call->arguments, 1, "maxsplit");
    template_list *list = mixt_template_split(
        call->run, call->object.as.text, text_or_none(call, 0, "sep"),
        limit.kind == TEMPLATE_UNDEFINED ? -1
                                         : mixt_template_as_integer(call->run, limit, call->name),
        call->name[0] == 'r');
    return mixt_template_list_value(TEMPLATE_LIST, list);
}

static template_value splitlines(const method_call *call)
{
    mixt_template_check_arguments(call->run, call->name, call->arguments, "keepends");
    bool keep = mixt_template_truth(mixt_template_argument(call->arguments, 0, "keepends"));
    return mixt_template_list_value(TEMPLATE_LIST,
                                    mixt_template_lines(call->run, call->object.as.text, keep));
}

static bool begins(const template_text *text, const template_text *with, bool at_end)
{
    return with->length <= text->length &&
           memcmp(text->data + (at_end ? text->length - with->length : 0), with->data,
                  with->length) == 0;
}

/* startswith and endswith, also of a tuple. */
static template_value begins_or_ends(const method_call *call)
{
    need(call, 1, 1);
    bool at_end = call->name[0] == 'e';
    template_value what = call->arguments->values[0];
    if (what.kind != TEMPLATE_TUPLE) {
        return mixt_template_bool(begins(call->object.as.text, text_argument(call, 0), at_end));
    }
    for (size_t i = 0; i < what.as.list->count; i++) {
        const template_text *one =
            mixt_template_need_text(call->run, what.as.list->items[i], call->name);
        if (begins(call->object.as.text, one, at_end)) {
            return mixt_template_bool(true);
        }
    }
    return mixt_template_bool(false);
}

static template_value remove_affix(const method_call *call)
{
    need(call, 1, 1);
    const template_text *text = call->object.as.text;
    const template_text *affix = text_argument(call, 0);
    bool at_end = call->name[6] == 's'; /* removesuffix */
    if (!begins(text, affix, at_end)) {
        return call->object;
    }
    return mixt_template_view(call->run, text->data + (at_end ? 0 : affix->length),
                              text->length - affix->length);
}

static template_value replace(const method_call *call)
{
    need(call, 2, 3);
    return mixt_template_replace(
        call->run, call->object.as.text, text_argument(call, 0), text_argument(call, 1),
        call->arguments->count > 2
            ? mixt_template_as_integer(call->run, call->arguments->values[2], call->name)
            : -1);
}

static template_value change_case(const method_call *call)
{
    need(call, 0, 0);
    template_case to = strcmp(call->name, "upper") == 0   ? CASE_UPPER
                       : strcmp(call->name, "lower") == 0 ? CASE_LOWER
                       : strcmp(call->name, "title") == 0 ? CASE_TITLE
                                                          : CASE_CAPITALIZE;
    return mixt_template_case(call->run, call->object.as.text, to);
}

/* find and count; index fails where find gives -1. */
static template_value find(const method_call *call)
{
    need(call, 1, 1);
    const template_text *text = call->object.as.text;
    const template_text *what = text_argument(call, 0);
    bool counts = call->name[0] == 'c';
    int64_t count = 0;
    const char *found = mixt_template_search(call->run, text, 0, what);
    if (counts && what->length == 0) {
        return mixt_template_integer((int64_t)mixt_template_characters(call->run, text) + 1);
    }
    while (counts && found != NULL) {
        count++;
        found = mixt_template_search(call->run, text, (size_t)(found - text->data) + what->length,
                                     what);
    }
    if (counts) {
        return mixt_template_integer(count);
    }
    if (found == NULL) {
        if (call->name[0] == 'i') {
            mixt_template_fail(call->run, MIXT_ERROR_FORMAT, "index: the substring is not there");
        }
        return mixt_template_integer(-1);
    }
    template_text before = {text->data, (size_t)(found - text->data), text->is_ascii, false};
    return mixt_template_integer((int64_t)mixt_template_characters(call->run, &before));
}

static template_value join(const method_call *call)
{
    need(call, 1, 1);
    const template_text *separator = call->object.as.text;
    const template_list *items = mixt_template_iterate(call->run, call->arguments->values[0]);
    template_output output = {0};
    for (size_t i = 0; i < items->count; i++) {
        const template_text *text = mixt_template_need_text(call->run, items->items[i], "join");
        if (i > 0) {
            mixt_template_write(call->run, &output, separator->data, separator->length);
        }
        mixt_template_write(call->run, &output, text->data, text->length);
    }
    return mixt_template_output_value(call->run, &output);
}

/* {} takes the next argument, {0} one by place, {name} one by name, {{ and }} are braces; anything
 * longer is refused. */
static template_value format(const method_call *call)
{
    template_output output = {0};
    const template_text *text = call->object.as.text;
    const template_arguments *arguments = call->arguments;
    size_t next = 0;
    for (size_t at = 0; at < text->length;) {
        size_t end = at;
        while (end < text->length && text->data[end] != '{' && text->data[end] != '}') {
            end++;
        }
        mixt_template_write(call->run, &output, text->data + at, end - at);
        if (end == text->length) {
            break;
        }
        if (end + 1 < text->length && text->data[end + 1] == text->data[end]) {
            mixt_template_write(call->run, &output, text->data + end, 1);
            at = end + 2;
            continue;
        }
        const char *close = memchr(text->data + end, '}', text->length - end);
        size_t length = close != NULL ? (size_t)(close - text->data) - end : 0;
        char name[64] = "";
        if (text->data[end] == '}' || length == 0 || length > 60 ||
            memchr(text->data + end + 1, '.', length - 1) != NULL ||
            strcspn(text->data + end + 1, "[:!{") < length - 1) {
            mixt_template_fail(call->run, MIXT_ERROR_UNSUPPORTED,
                               "format: such a field is not supported");
        }
        memcpy(name, text->data + end + 1, length - 1);
        bool by_place = name[0] >= '0' && name[0] <= '9' && name[1] == '\0';
        size_t place = name[0] == '\0' ? next++ : by_place ? (size_t)(name[0] - '0') : SIZE_MAX;
        if (!mixt_template_given(arguments, place, name)) {
            mixt_template_fail(call->run, MIXT_ERROR_FORMAT, "format: field \"{%s}\" has no value",
                               name);
        }
        const template_text *value =
            mixt_template_text(call->run, mixt_template_argument(arguments, place, name));
        mixt_template_write(call->run, &output, value->data, value->length);
        at = end + length + 1;
    }
    return mixt_template_output_value(call->run, &output);
}

/* isdigit, isalpha, isalnum, isspace, islower, isupper: what Python says of Unicode beyond ASCII
 * has more cases than matter here, so that is refused (but for isspace). */
static template_value is_of(const method_call *call)
{
    need(call, 0, 0);
    const template_text *text = call->object.as.text;
    const char *what = call->name + 2;
    bool cased = false;
    mixt_template_charge(call->run, text->length);
    for (size_t i = 0; i < text->length; i++) {
        unsigned char c = (unsigned char)text->data[i];
        bool upper = c >= 'A' && c <= 'Z';
        bool lower = c >= 'a' && c <= 'z';
        bool digit = c >= '0' && c <= '9';
        if (c >= 0x80) {
            mixt_template_fail(call->run, MIXT_ERROR_UNSUPPORTED,
                               "%s of text beyond ASCII is not supported", call->name);
        }
        cased = cased || upper || lower;
        bool good = strcmp(what, "alpha") == 0   ? upper || lower
                    : strcmp(what, "alnum") == 0 ? upper || lower || digit
                    : strcmp(what, "space") == 0 ? mixt_template_is_space(c)
                    : strcmp(what, "lower") == 0 ? !upper
                    : strcmp(what, "upper") == 0 ? !lower
                                                 : digit;
        if (!good) {
            return mixt_template_bool(false);
        }
    }
    bool needs_case = strcmp(what, "lower") == 0 || strcmp(what, "upper") == 0;
    return mixt_template_bool(text->length > 0 && (cased || !needs_case));
}

/* ---- lists and dicts */

/* transformers' sandbox refuses to change a list; other programs that render templates do it. */
static template_value append(const method_call *call)
{
    need(call, 1, 1);
    mixt_template_append(call->run, call->object.as.list, call->arguments->values[0]);
    return mixt_template_none();
}

static template_value list_pop(const method_call *call)
{
    need(call, 0, 1);
    template_list *list = call->object.as.list;
    int64_t index = -1;
    if (call->arguments->count > 0) {
        index = mixt_template_as_integer(call->run, call->arguments->values[0], "pop");
    }
    index += index < 0 ? (int64_t)list->count : 0;
    if (index < 0 || index >= (int64_t)list->count) {
        mixt_template_fail(call->run, MIXT_ERROR_FORMAT, "pop: the list has no such item");
    }
    template_value item = list->items[index];
    size_t behind = list->count - (size_t)index - 1;
    mixt_template_charge(call->run, behind * sizeof *list->items);
    memmove(list->items + index, list->items + index + 1, behind * sizeof *list->items);
    list->count--;
    return item;
}

static template_value list_find(const method_call *call)
{
    need(call, 1, 1);
    const template_list *list = call->object.as.list;
    int64_t count = 0;
    for (size_t i = 0; i < list->count; i++) {
        if (mixt_template_equal(call->run, list->items[i], call->arguments->values[0])) {
            if (call->name[0] == 'i') {
                return mixt_template_integer((int64_t)i);
            }
            count++;
        }
    }
    if (call->name[0] == 'i') {
        mixt_template_fail(call->run, MIXT_ERROR_FORMAT, "index: the item is not there");
    }
    return mixt_template_integer(count);
}

static template_value dict_get(const method_call *call)
{
    need(call, 1, 2);
    const template_value *found =
        mixt_template_find(call->run, call->object.as.dict, call->arguments->values[0]);
    return found != NULL                ? *found
           : call->arguments->count > 1 ? call->arguments->values[1]
                                        : mixt_template_none();
}

static template_value dict_view(const method_call *call)
{
    need(call, 0, 0);
    const template_dict *dict = call->object.as.dict;
    template_list *list = mixt_template_new_list(call->run, dict->count);
    for (size_t i = 0; i < dict->count; i++) {
        template_value item = call->name[0] == 'k' ? dict->entries[i].key : dict->entries[i].value;
        if (call->name[0] == 'i') {
            template_list *pair = mixt_template_new_list(call->run, 2);
            mixt_template_append(call->run, pair, dict->entries[i].key);
            mixt_template_append(call->run, pair, dict->entries[i].value);
            item = mixt_template_list_value(TEMPLATE_TUPLE, pair);
        }
        mixt_template_append(call->run, list, item);
    }
    return mixt_template_list_value(TEMPLATE_VIEW, list);
}

/* ---- loop */

static template_value loop_cycle(const method_call *call)
{
    if (call->arguments->count == 0) {
        mixt_template_fail(call->run, MIXT_ERROR_FORMAT, "loop.cycle() has nothing to cycle");
    }
    return call->arguments->values[call->object.as.loop->index % call->arguments->count];
}

static template_value loop_changed(const method_call *call)
{
    const template_loop *loop = call->object.as.loop;
    template_list *now = mixt_template_new_list(call->run, call->arguments->count);
    for (size_t i = 0; i < call->arguments->count; i++) {
        mixt_template_append(call->run, now, call->arguments->values[i]);
    }
    bool changed =
        *loop->changed == NULL ||
        !mixt_template_equal(
            call->run, mixt_template_list_value(TEMPLATE_LIST, now),
            mixt_template_list_value(TEMPLATE_LIST, (template_list *)(uintptr_t)*loop->changed));
    *loop->changed = now;
    return mixt_template_bool(changed);
}

/* ---- by name */

static const struct {
    template_kind kind;
    const char *name;
    template_value (*call)(const method_call *call);
} methods[] = {
    {TEMPLATE_STRING, "strip", strip},
    {TEMPLATE_STRING, "lstrip", strip},
    {TEMPLATE_STRING, "rstrip", strip},
    {TEMPLATE_STRING, "split", split},
    {TEMPLATE_STRING, "rsplit", split},
    {TEMPLATE_STRING, "splitlines", splitlines},
    {TEMPLATE_STRING, "startswith", begins_or_ends},
    {TEMPLATE_STRING, "endswith", begins_or_ends},
    {TEMPLATE_STRING, "removeprefix", remove_affix},
    {TEMPLATE_STRING, "removesuffix", remove_affix},
    {TEMPLATE_STRING, "replace", replace},
    {TEMPLATE_STRING, "upper", change_case},
    {TEMPLATE_STRING, "lower", change_case},
    {TEMPLATE_STRING, "title", change_case},
    {TEMPLATE_STRING, "capitalize", change_case},
    {TEMPLATE_STRING, "find", find},
    {TEMPLATE_STRING, "index", find},
    {TEMPLATE_STRING, "count", find},
    {TEMPLATE_STRING, "join", join},
    {TEMPLATE_STRING, "format", format},
    {TEMPLATE_STRING, "isdigit", is_of},
    {TEMPLATE_STRING, "isalpha", is_of},
    {TEMPLATE_STRING, "isalnum", is_of},
    {TEMPLATE_STRING, "isspace", is_of},
    {TEMPLATE_STRING, "islower", is_of},
    {TEMPLATE_STRING, "isupper", is_of},
    {TEMPLATE_LIST, "append", append},
    {TEMPLATE_LIST, "pop", list_pop},
    {TEMPLATE_LIST, "index", list_find},
    {TEMPLATE_LIST, "count", list_find},
    {TEMPLATE_TUPLE, "index", list_find},
    {TEMPLATE_TUPLE, "count", list_find},
    {TEMPLATE_DICT, "get", dict_get},
    {TEMPLATE_DICT, "items", dict_view},
    {TEMPLATE_DICT, "keys", dict_view},
    {TEMPLATE_DICT, "values", dict_view},
    {TEMPLATE_LOOP, "cycle", loop_cycle},
    {TEMPLATE_LOOP, "changed", loop_changed},
};

template_value mixt_template_method_call(template_run *run, const template_method *method,
                                         const template_arguments *arguments)
{
    method_call call = {run, method->object, method->name, arguments};
    mixt_template_charge(run, 0);
    if (method->object.kind == TEMPLATE_STRING && method->object.as.text->is_safe) {
        mixt_template_fail(run, MIXT_ERROR_UNSUPPORTED,
                           "methods of a |safe string are not supported");
    }
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (methods[i].kind == (template_kind)method->object.kind &&
            strcmp(methods[i].name, method->name) == 0) {
            return methods[i].call(&call);
        }
    }
    mixt_template_fail(run, MIXT_ERROR_UNSUPPORTED, "method .%.60s of %s is not supported",
                       method->name, mixt_template_kind_name(method->object));
}
