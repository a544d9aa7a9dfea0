/* Expressions. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "template/template.h"
#include "core/utf8.h"

/* ---- arithmetic */

static _Noreturn void no_operator(template_run *run, template_operator operator_, template_value a,
                                  template_value b)
{
    static const char *const names[] = {"", "+", "-", "*", "/", "//", "%", "**"};
    if (a.kind == TEMPLATE_UNDEFINED || b.kind == TEMPLATE_UNDEFINED) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "%s",
                           a.kind == TEMPLATE_UNDEFINED ? a.as.missing : b.as.missing);
    }
    mixt_template_fail(run, MIXT_ERROR_FORMAT, "no %s between %s and %s", names[operator_],
                       mixt_template_kind_name(a), mixt_template_kind_name(b));
}

static template_value float_arithmetic(template_run *run, template_operator operator_, double a,
                                       double b)
{
    bool divides = operator_ == OPERATOR_DIVIDE || operator_ == OPERATOR_FLOOR_DIVIDE ||
                   operator_ == OPERATOR_MODULO;
    if (divides && b == 0) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "a division by zero");
    }
    double rest = 0;
    switch ((int)operator_) {
    case OPERATOR_ADD:
        return mixt_template_number(a + b);
    case OPERATOR_SUBTRACT:
        return mixt_template_number(a - b);
    case OPERATOR_MULTIPLY:
        return mixt_template_number(a * b);
    case OPERATOR_DIVIDE:
        return mixt_template_number(a / b);
    case OPERATOR_POWER:
        if (a < 0 && b != floor(b)) {
            mixt_template_fail(run, MIXT_ERROR_UNSUPPORTED, "complex numbers are not supported");
        }
        if (a == 0 && b < 0) {
            mixt_template_fail(run, MIXT_ERROR_FORMAT, "a division by zero");
        }
        return mixt_template_number(pow(a, b));
    default: /* as Python: the rest has the sign of the divisor */
        rest = fmod(a, b);
        if (rest != 0 && (rest < 0) != (b < 0)) {
            rest += b;
        }
        return mixt_template_number(operator_ == OPERATOR_MODULO ? rest
                                                                 : floor((a - rest) / b + 0.5));
    }
}

static bool integer_power(int64_t base, int64_t exponent, int64_t *result)
{
    *result = 1;
    if (base == 0 || base == 1 || base == -1) {
        *result = exponent == 0 || base == 1 ? 1 : base == 0 ? 0 : exponent % 2 == 0 ? 1 : -1;
        return true;
    }
    for (int64_t i = 0; i < exponent; i++) { /* ends at 63 turns at the latest */
        if (__builtin_mul_overflow(*result, base, result)) {
            return false;
        }
    }
    return true;
}

static template_value integer_arithmetic(template_run *run, template_operator operator_, int64_t a,
                                         int64_t b)
{
    int64_t result = 0;
    bool good = true;
    bool divides = operator_ == OPERATOR_FLOOR_DIVIDE || operator_ == OPERATOR_MODULO;
    if (operator_ == OPERATOR_DIVIDE || (operator_ == OPERATOR_POWER && b < 0) ||
        (divides && b == 0)) {
        return float_arithmetic(run, operator_, (double)a, (double)b);
    }
    switch ((int)operator_) {
    case OPERATOR_ADD:
        good = !__builtin_add_overflow(a, b, &result);
        break;
    case OPERATOR_SUBTRACT:
        good = !__builtin_sub_overflow(a, b, &result);
        break;
    case OPERATOR_MULTIPLY:
        good = !__builtin_mul_overflow(a, b, &result);
        break;
    case OPERATOR_POWER:
        good = integer_power(a, b, &result);
        break;
    default:
        good = !(a == INT64_MIN && b == -1);
        if (good) {
            int64_t rest = a % b;
            rest += rest != 0 && (rest < 0) != (b < 0) ? b : 0;
            result = operator_ == OPERATOR_MODULO ? rest : (a - rest) / b;
        }
        break;
    }
    if (!good) {
        mixt_template_fail(run, MIXT_ERROR_UNSUPPORTED, "an integer beyond 64 bits");
    }
    return mixt_template_integer(result);
}

static template_value join_lists(template_run *run, template_value a, template_value b)
{
    const template_list *x = a.as.list;
    const template_list *y = b.as.list;
    template_list *list = mixt_template_new_list(run, x->count + y->count);
    for (size_t i = 0; i < x->count + y->count; i++) {
        mixt_template_append(run, list, i < x->count ? x->items[i] : y->items[i - x->count]);
    }
    return mixt_template_list_value((template_kind)a.kind, list);
}

static template_value repeat(template_run *run, template_value what, int64_t times)
{
    if (what.kind == TEMPLATE_STRING) {
        return mixt_template_repeat(run, what.as.text, times);
    }
    size_t count = 0;
    const template_list *items = what.as.list;
    if (times < 0) {
        times = 0;
    }
    if (!mixt_multiply_size(items->count, (size_t)times, &count)) {
        count = SIZE_MAX;
    }
    template_list *list = mixt_template_new_list(run, count);
    for (size_t i = 0; i < count; i++) {
        mixt_template_append(run, list, items->items[i % items->count]);
    }
    return mixt_template_list_value((template_kind)what.kind, list);
}

static bool is_repeatable(template_value value)
{
    return value.kind == TEMPLATE_STRING || value.kind == TEMPLATE_LIST ||
           value.kind == TEMPLATE_TUPLE;
}

template_value mixt_template_arithmetic(template_run *run, template_operator operator_,
                                        template_value a, template_value b)
{
    mixt_template_charge(run, 0);
    if (mixt_template_is_number(a) && mixt_template_is_number(b)) {
        if (a.kind == TEMPLATE_FLOAT || b.kind == TEMPLATE_FLOAT) {
            return float_arithmetic(run, operator_, mixt_template_as_number(a),
                                    mixt_template_as_number(b));
        }
        return integer_arithmetic(run, operator_, mixt_template_as_integer(run, a, ""),
                                  mixt_template_as_integer(run, b, ""));
    }
    if (operator_ == OPERATOR_ADD && a.kind == b.kind) {
        if (a.kind == TEMPLATE_STRING) {
            return mixt_template_concat(run, a.as.text, b.as.text);
        }
        if (a.kind == TEMPLATE_LIST || a.kind == TEMPLATE_TUPLE) {
            return join_lists(run, a, b);
        }
    }
    if (operator_ == OPERATOR_MULTIPLY) {
        if (is_repeatable(a) && (b.kind == TEMPLATE_INTEGER || b.kind == TEMPLATE_BOOL)) {
            return repeat(run, a, mixt_template_as_integer(run, b, "*"));
        }
        if (is_repeatable(b) && (a.kind == TEMPLATE_INTEGER || a.kind == TEMPLATE_BOOL)) {
            return repeat(run, b, mixt_template_as_integer(run, a, "*"));
        }
    }
    if (operator_ == OPERATOR_MODULO && a.kind == TEMPLATE_STRING) {
        mixt_template_fail(run, MIXT_ERROR_UNSUPPORTED,
                           "%% on a str (formatting) is not supported");
    }
    no_operator(run, operator_, a, b);
}

static bool compare(template_run *run, template_operator operator_, template_value a,
                    template_value b)
{
    switch ((int)operator_) {
    case OPERATOR_EQUAL:
        return mixt_template_equal(run, a, b);
    case OPERATOR_NOT_EQUAL:
        return !mixt_template_equal(run, a, b);
    case OPERATOR_IN:
        return mixt_template_contains(run, b, a);
    case OPERATOR_NOT_IN:
        return !mixt_template_contains(run, b, a);
    default:
        break;
    }
    bool unordered = (a.kind == TEMPLATE_FLOAT && isnan(a.as.number)) ||
                     (b.kind == TEMPLATE_FLOAT && isnan(b.as.number));
    int order = mixt_template_compare(run, a, b);
    return !unordered && (operator_ == OPERATOR_LESS         ? order < 0
                          : operator_ == OPERATOR_LESS_EQUAL ? order <= 0
                          : operator_ == OPERATOR_GREATER    ? order > 0
                                                             : order >= 0);
}

/* ---- attributes and items */

static template_value loop_attribute(template_run *run, template_value object, const char *name)
{
    const template_loop *loop = object.as.loop;
    int64_t index = (int64_t)loop->index;
    int64_t count = (int64_t)loop->items->count;
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {{"index", index + 1},
                   {"index0", index},
                   {"revindex", count - index},
                   {"revindex0", count - index - 1},
                   {"length", count},
                   {"depth", 1},
                   {"depth0", 0}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (strcmp(name, numbers[i].name) == 0) {
            return mixt_template_integer(numbers[i].value);
        }
    }
    if (strcmp(name, "first") == 0) {
        return mixt_template_bool(index == 0);
    }
    if (strcmp(name, "last") == 0) {
        return mixt_template_bool(index + 1 == count);
    }
    if (strcmp(name, "previtem") == 0) {
        return index > 0 ? loop->items->items[index - 1]
                         : mixt_template_undefined(run, "there is no previous item");
    }
    if (strcmp(name, "nextitem") == 0) {
        return index + 1 < count ? loop->items->items[index + 1]
                                 : mixt_template_undefined(run, "there is no next item");
    }
    if (strcmp(name, "cycle") == 0 || strcmp(name, "changed") == 0) {
        template_method *method = mixt_template_allocate(run, 1, sizeof *method);
        *method = (template_method){object, name};
        return (template_value){.kind = TEMPLATE_METHOD, .as.method = method};
    }
    return mixt_template_undefined(run, "loop has no attribute \"%.60s\"", name);
}

static _Noreturn void undefined_attribute(template_run *run, template_value object)
{
    mixt_template_fail(run, MIXT_ERROR_FORMAT, "%s", object.as.missing);
}

template_value mixt_template_attribute(template_run *run, template_value object,
                                       const template_text *name)
{
    const char *word = mixt_template_c_string(run, name);
    if (object.kind == TEMPLATE_UNDEFINED) {
        undefined_attribute(run, object);
    }
    if (object.kind == TEMPLATE_LOOP) {
        return loop_attribute(run, object, word);
    }
    if (object.kind == TEMPLATE_MACRO || object.kind == TEMPLATE_FUNCTION ||
        object.kind == TEMPLATE_METHOD) {
        mixt_template_fail(run, MIXT_ERROR_UNSUPPORTED, "attributes of %s are not supported",
                           mixt_template_kind_name(object));
    }
    if (name->length >= 2 && word[0] == '_' && word[1] == '_') {
        mixt_template_fail(run, MIXT_ERROR_UNSUPPORTED, "attribute %.60s is not supported", word);
    }
    if (mixt_template_has_method(object, word)) {
        template_method *method = mixt_template_allocate(run, 1, sizeof *method);
        *method = (template_method){object, word};
        return (template_value){.kind = TEMPLATE_METHOD, .as.method = method};
    }
    if (object.kind == TEMPLATE_DICT || object.kind == TEMPLATE_NAMESPACE) {
        template_value key = {.kind = TEMPLATE_STRING, .as.text = name};
        const template_value *found = mixt_template_find(run, object.as.dict, key);
        if (found != NULL) {
            return *found;
        }
    }
    return mixt_template_undefined(run, "%s has no attribute \"%.80s\"",
                                   mixt_template_kind_name(object), word);
}

static template_value character_at(template_run *run, const template_text *text, size_t index)
{
    size_t at = mixt_template_offset(text, index);
    size_t bytes = mixt_utf8_character((const unsigned char *)text->data + at, text->length - at);
    return mixt_template_view(run, text->data + at, bytes);
}

/* The item of a sequence at `index`, counted from the end when negative; false where none is. */
static bool sequence_item(template_run *run, template_value object, int64_t index,
                          template_value *item)
{
    int64_t count = (int64_t)mixt_template_length(run, object);
    index += index < 0 ? count : 0;
    if (index < 0 || index >= count) {
        return false;
    }
    if (object.kind == TEMPLATE_STRING) {
        *item = character_at(run, object.as.text, (size_t)index);
    } else if (object.kind == TEMPLATE_RANGE) {
        *item = mixt_template_integer(object.as.range->start + index * object.as.range->step);
    } else {
        *item = object.as.list->items[index];
    }
    return true;
}

template_value mixt_template_item(template_run *run, template_value object, template_value key)
{
    template_value item;
    if (object.kind == TEMPLATE_UNDEFINED) {
        undefined_attribute(run, object);
    }
    bool is_sequence = object.kind == TEMPLATE_STRING || object.kind == TEMPLATE_LIST ||
                       object.kind == TEMPLATE_TUPLE || object.kind == TEMPLATE_RANGE;
    if (object.kind == TEMPLATE_DICT) {
        if (key.kind != TEMPLATE_LIST && key.kind != TEMPLATE_DICT) {
            const template_value *found = mixt_template_find(run, object.as.dict, key);
            if (found != NULL) {
                return *found;
            }
        }
    } else if (is_sequence && (key.kind == TEMPLATE_INTEGER || key.kind == TEMPLATE_BOOL)) {
        if (sequence_item(run, object, mixt_template_as_integer(run, key, ""), &item)) {
            return item;
        }
        return mixt_template_undefined(run, "%s has no item %lld", mixt_template_kind_name(object),
                                       (long long)mixt_template_as_integer(run, key, ""));
    }
    if (key.kind == TEMPLATE_STRING) {
        return mixt_template_attribute(run, object, key.as.text);
    }
    return mixt_template_undefined(run, "%s has no such item", mixt_template_kind_name(object));
}

/* Start, stop and step of a slice over `count` items, as Python's slice.indices gives them. */
static size_t slice_bounds(template_run *run, const template_value bounds[3], int64_t count,
                           int64_t *start, int64_t *step)
{
    int64_t stop;
    *step = bounds[2].kind == TEMPLATE_NONE ? 1 : mixt_template_as_integer(run, bounds[2], "slice");
    if (*step == 0 || *step == INT64_MIN) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "a slice with step 0");
    }
    int64_t low = *step > 0 ? 0 : -1;
    int64_t high = *step > 0 ? count : count - 1;
    int64_t ends[2] = {*step > 0 ? low : high, *step > 0 ? high : low};
    for (int i = 0; i < 2; i++) {
        if (bounds[i].kind != TEMPLATE_NONE) {
            int64_t value = mixt_template_as_integer(run, bounds[i], "slice");
            value += value < 0 ? count : 0;
            ends[i] = value < low ? low : value > high ? high : value;
        }
    }
    *start = ends[0];
    stop = ends[1];
    if (*step > 0) {
        return stop > *start ? (size_t)((stop - *start - 1) / *step + 1) : 0;
    }
    return *start > stop ? (size_t)((*start - stop - 1) / -*step + 1) : 0;
}

static template_value slice_text(template_run *run, const template_text *text, int64_t start,
                                 int64_t step, size_t count)
{
    if (step == 1) {
        size_t from = mixt_template_offset(text, (size_t)start);
        template_text rest = {text->data + from, text->length - from, text->is_ascii, false};
        mixt_template_charge(run, text->length);
        return mixt_template_view(run, rest.data, mixt_template_offset(&rest, count));
    }
    if (!text->is_ascii && step != -1) {
        mixt_template_fail(run, MIXT_ERROR_UNSUPPORTED,
                           "a slice with a step over text beyond ASCII is not supported");
    }
    char *out = mixt_template_allocate(run, text->length + 1, 1);
    size_t used = 0;
    size_t at = text->is_ascii ? 0 : mixt_template_offset(text, (size_t)start + 1);
    for (size_t i = 0; i < count; i++) {
        if (text->is_ascii) {
            out[used++] = text->data[start + (int64_t)i * step];
            continue;
        }
        size_t end = at; /* backwards, character by character */
        do {
            at--;
        } while (((unsigned char)text->data[at] & 0xc0) == 0x80);
        memcpy(out + used, text->data + at, end - at);
        used += end - at;
    }
    return mixt_template_view(run, out, used);
}

static template_value slice(template_run *run, template_value object,
                            const template_value bounds[3])
{
    if (object.kind == TEMPLATE_UNDEFINED) {
        undefined_attribute(run, object);
    }
    if (object.kind != TEMPLATE_STRING && object.kind != TEMPLATE_LIST &&
        object.kind != TEMPLATE_TUPLE && object.kind != TEMPLATE_RANGE) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "a slice of %s",
                           mixt_template_kind_name(object));
    }
    int64_t start, step;
    size_t count =
        slice_bounds(run, bounds, (int64_t)mixt_template_length(run, object), &start, &step);
    if (object.kind == TEMPLATE_STRING) {
        return count == 0 ? mixt_template_view(run, "", 0)
                          : slice_text(run, object.as.text, start, step, count);
    }
    mixt_template_charge(run, 32 * count);
    template_list *list = mixt_template_new_list(run, count);
    for (size_t i = 0; i < count; i++) {
        template_value item;
        sequence_item(run, object, start + (int64_t)i * step, &item);
        mixt_template_append(run, list, item);
    }
    if (object.kind == TEMPLATE_RANGE) { /* stays a range: it prints as one, which is refused */
        template_range *range = mixt_template_allocate(run, 1, sizeof *range);
        *range = (template_range){count > 0 ? list->items[0].as.integer : 0,
                                  object.as.range->step * step, count};
        return (template_value){.kind = TEMPLATE_RANGE, .as.range = range};
    }
    return mixt_template_list_value((template_kind)object.kind, list);
}

/* ---- calls */

static template_arguments evaluate_arguments(template_run *run, const template_node *first)
{
    template_arguments arguments = {0};
    size_t count = 0;
    for (const template_node *node = first; node != NULL; node = node->next) {
        count++;
    }
    if (count == 0) {
        return arguments;
    }
    arguments.values = mixt_template_allocate(run, count, sizeof *arguments.values);
    arguments.names = mixt_template_allocate(run, count, sizeof *arguments.names);
    for (const template_node *node = first; node != NULL; node = node->next) {
        bool named = node->kind == NODE_KEYWORD;
        arguments.names[arguments.count] = named ? node->value.as.text : NULL;
        arguments.values[arguments.count++] =
            mixt_template_evaluate(run, named ? node->child : node);
        arguments.positional += !named;
    }
    return arguments;
}

static template_value call(template_run *run, template_value function,
                           const template_arguments *arguments)
{
    switch ((int)function.kind) {
    case TEMPLATE_MACRO:
        return mixt_template_call_macro(run, function.as.macro, arguments);
    case TEMPLATE_FUNCTION:
        return mixt_template_function_call(run, function.as.integer, arguments);
    case TEMPLATE_METHOD:
        return mixt_template_method_call(run, function.as.method, arguments);
    case TEMPLATE_UNDEFINED:
        undefined_attribute(run, function);
    default:
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "%s cannot be called",
                           mixt_template_kind_name(function));
    }
}

static template_value apply(template_run *run, const template_node *node, template_value value)
{
    template_value bounds[3];
    const template_node *child = node->child;
    run->line = node->line;
    mixt_template_charge(run, 0);
    switch ((int)node->kind) {
    case NODE_ATTRIBUTE:
        return mixt_template_attribute(run, value, node->value.as.text);
    case NODE_ITEM:
        return mixt_template_item(run, value, mixt_template_evaluate(run, child));
    case NODE_SLICE:
        for (int i = 0; i < 3; i++, child = child->next) {
            bounds[i] = child->kind == NODE_NONE ? mixt_template_none()
                                                 : mixt_template_evaluate(run, child);
        }
        return slice(run, value, bounds);
    default:
        break;
    }
    template_arguments arguments = evaluate_arguments(run, child);
    run->line = node->line;
    if (node->kind == NODE_CALL) {
        return call(run, value, &arguments);
    }
    if (node->kind == NODE_FILTER) {
        return mixt_template_filter(run, node->value.as.text->data, value, &arguments);
    }
    return mixt_template_bool(
        mixt_template_test(run, node->value.as.text->data, value, &arguments) != node->negated);
}

template_value mixt_template_apply_filters(template_run *run, const template_node *filters,
                                           template_value value)
{
    for (const template_node *node = filters->child; node != NULL; node = node->next) {
        value = apply(run, node, value);
    }
    return value;
}

/* ---- the tree */

static template_value evaluate_postfix(template_run *run, const template_node *node)
{
    template_value value = mixt_template_evaluate(run, node->child);
    for (const template_node *next = node->child->next; next != NULL; next = next->next) {
        value = apply(run, next, value);
    }
    return value;
}

static template_value evaluate_chain(template_run *run, const template_node *node)
{
    template_value value = mixt_template_evaluate(run, node->child);
    for (const template_node *next = node->child->next; next != NULL; next = next->next) {
        template_value right = mixt_template_evaluate(run, next->child);
        run->line = node->line;
        value = mixt_template_arithmetic(run, (template_operator)next->operator_, value, right);
    }
    return value;
}

static template_value evaluate_comparison(template_run *run, const template_node *node)
{
    template_value left = mixt_template_evaluate(run, node->child);
    for (const template_node *next = node->child->next; next != NULL; next = next->next) {
        template_value right = mixt_template_evaluate(run, next->child);
        run->line = node->line;
        if (!compare(run, (template_operator)next->operator_, left, right)) {
            return mixt_template_bool(false);
        }
        left = right;
    }
    return mixt_template_bool(true);
}

static template_value evaluate_concat(template_run *run, const template_node *node)
{
    template_output output = {0};
    for (const template_node *next = node->child; next != NULL; next = next->next) {
        const template_text *text = mixt_template_text(run, mixt_template_evaluate(run, next));
        mixt_template_write(run, &output, text->data, text->length);
    }
    return mixt_template_output_value(run, &output);
}

static template_value evaluate_logic(template_run *run, const template_node *node)
{
    template_value value = mixt_template_evaluate(run, node->child);
    for (const template_node *next = node->child->next; next != NULL; next = next->next) {
        if (mixt_template_truth(value) == (node->kind == NODE_OR)) {
            return value;
        }
        value = mixt_template_evaluate(run, next);
    }
    return value;
}

static template_value evaluate_items(template_run *run, const template_node *node)
{
    if (node->kind == NODE_DICT) {
        template_dict *dict = mixt_template_new_dict(run, 4);
        for (const template_node *key = node->child; key != NULL; key = key->next->next) {
            template_value name = mixt_template_evaluate(run, key);
            mixt_template_put(run, dict, name, mixt_template_evaluate(run, key->next));
        }
        return (template_value){.kind = TEMPLATE_DICT, .as.dict = dict};
    }
    template_list *list = mixt_template_new_list(run, 4);
    for (const template_node *item = node->child; item != NULL; item = item->next) {
        mixt_template_append(run, list, mixt_template_evaluate(run, item));
    }
    return mixt_template_list_value(node->kind == NODE_LIST ? TEMPLATE_LIST : TEMPLATE_TUPLE, list);
}

static template_value evaluate_sign(template_run *run, const template_node *node)
{
    template_value value = mixt_template_evaluate(run, node->child);
    if (!mixt_template_is_number(value)) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "a sign before %s",
                           value.kind == TEMPLATE_UNDEFINED ? value.as.missing
                                                            : mixt_template_kind_name(value));
    }
    if (value.kind == TEMPLATE_FLOAT) {
        return mixt_template_number(node->kind == NODE_NEGATE ? -value.as.number : value.as.number);
    }
    return mixt_template_arithmetic(run,
                                    node->kind == NODE_NEGATE ? OPERATOR_SUBTRACT : OPERATOR_ADD,
                                    mixt_template_integer(0), value);
}

static template_value evaluate_condition(template_run *run, const template_node *node)
{
    const template_node *then = node->child->next;
    if (mixt_template_truth(mixt_template_evaluate(run, node->child))) {
        return mixt_template_evaluate(run, then);
    }
    return then->next != NULL ? mixt_template_evaluate(run, then->next)
                              : mixt_template_undefined(run, "the inline if had no else");
}

template_value mixt_template_evaluate(template_run *run, const template_node *node)
{
    template_value value = {0};
    mixt_template_charge(run, 0);
    if (node->kind == NODE_CONSTANT) {
        return node->value;
    }
    run->line = node->line;
    if (node->kind == NODE_NAME) {
        return mixt_template_lookup(run, node->symbol);
    }
    mixt_template_enter(run);
    switch ((int)node->kind) {
    case NODE_LIST:
    case NODE_TUPLE:
    case NODE_DICT:
        value = evaluate_items(run, node);
        break;
    case NODE_CHAIN:
        value = evaluate_chain(run, node);
        break;
    case NODE_COMPARE:
        value = evaluate_comparison(run, node);
        break;
    case NODE_CONCAT:
        value = evaluate_concat(run, node);
        break;
    case NODE_AND:
    case NODE_OR:
        value = evaluate_logic(run, node);
        break;
    case NODE_NOT:
        value = mixt_template_bool(!mixt_template_truth(mixt_template_evaluate(run, node->child)));
        break;
    case NODE_NEGATE:
    case NODE_POSITIVE:
        value = evaluate_sign(run, node);
        break;
    case NODE_CONDITION:
        value = evaluate_condition(run, node);
        break;
    default:
        value = evaluate_postfix(run, node);
        break;
    }
    assert(run->depth > 0);
    run->depth--;
    return value;
}
