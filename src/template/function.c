/* Functions that a template finds: namespace, range, dict, raise_exception, strftime_now. */
#include <stdio.h>
#include <string.h>

#include "template/template.h"

typedef enum function_number {
    FUNCTION_NAMESPACE,
    FUNCTION_RANGE,
    FUNCTION_DICT,
    FUNCTION_RAISE,
    FUNCTION_STRFTIME,
    FUNCTION_REFUSED, /* jinja2 has it; here it is refused when it is called */
} function_number;

static const struct {
    const char *name;
    function_number number;
} functions[] = {
    {"namespace", FUNCTION_NAMESPACE},
    {"range", FUNCTION_RANGE},
    {"dict", FUNCTION_DICT},
    {"raise_exception", FUNCTION_RAISE},
    {"strftime_now", FUNCTION_STRFTIME},
    {"lipsum", FUNCTION_REFUSED},
    {"cycler", FUNCTION_REFUSED},
    {"joiner", FUNCTION_REFUSED},
};

void mixt_template_bind_functions(template_run *run)
{
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        int symbol = mixt_template_symbol(run, functions[i].name, strlen(functions[i].name));
        mixt_template_bind(run, run->scope, symbol,
                           (template_value){.kind = TEMPLATE_FUNCTION,
                                            .as.integer = (int64_t)functions[i].number});
    }
}

static void put_pairs(template_run *run, template_dict *dict, const template_list *pairs)
{
    for (size_t i = 0; i < pairs->count; i++) {
        const template_list *pair = mixt_template_iterate(run, pairs->items[i]);
        if (pair->count != 2) {
            mixt_template_fail(run, MIXT_ERROR_FORMAT, "dict of something but pairs");
        }
        mixt_template_put(run, dict, pair->items[0], pair->items[1]);
    }
}

/* dict(a=1, ...) or namespace(...), also of a dict. */
static template_dict *make_dict(template_run *run, const template_arguments *arguments)
{
    template_dict *dict = mixt_template_new_dict(run, arguments->count);
    if (arguments->positional > 1) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "dict or namespace of several values");
    }
    if (arguments->positional == 1 && arguments->values[0].kind != TEMPLATE_DICT) {
        put_pairs(run, dict, mixt_template_iterate(run, arguments->values[0]));
    } else if (arguments->positional == 1) {
        const template_dict *from = arguments->values[0].as.dict;
        for (size_t i = 0; i < from->count; i++) {
            mixt_template_put(run, dict, from->entries[i].key, from->entries[i].value);
        }
    }
    for (size_t i = arguments->positional; i < arguments->count; i++) {
        template_value key = {.kind = TEMPLATE_STRING, .as.text = arguments->names[i]};
        mixt_template_put(run, dict, key, arguments->values[i]);
    }
    return dict;
}

static template_value make_range(template_run *run, const template_arguments *arguments)
{
    int64_t given[3] = {0, 0, 1};
    if (arguments->count < 1 || arguments->count > 3 || arguments->positional != arguments->count) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "range takes 1 to 3 integers");
    }
    for (size_t i = 0; i < arguments->count; i++) {
        given[arguments->count == 1 ? 1 : i] =
            mixt_template_as_integer(run, arguments->values[i], "range");
    }
    int64_t start = given[0], stop = given[1], step = given[2];
    const int64_t limit = INT64_MAX / 4;
    if (step == 0 || start > limit || start < -limit || stop > limit || stop < -limit ||
        step > limit || step < -limit) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "range: step 0, or a number that is too large");
    }
    int64_t count = 0;
    if (step > 0 && stop > start) {
        count = (stop - start - 1) / step + 1;
    } else if (step < 0 && stop < start) {
        count = (start - stop - 1) / -step + 1;
    }
    if (count > TEMPLATE_RANGE_MAX) {
        mixt_template_fail(run, MIXT_ERROR_FORMAT, "range: more than %d items", TEMPLATE_RANGE_MAX);
    }
    template_range *range = mixt_template_allocate(run, 1, sizeof *range);
    *range = (template_range){start, step, (size_t)count};
    return (template_value){.kind = TEMPLATE_RANGE, .as.range = range};
}

/* One field of strftime in the C locale; false where it is not known. */
static bool format_field(const template_date *date, char field, bool padded, char out[24])
{
    static const char *const months[] = {"January",   "February", "March",    "April",
                                         "May",       "June",     "July",     "August",
                                         "September", "October",  "November", "December"};
    static const char *const days[] = {"Monday", "Tuesday",  "Wednesday", "Thursday",
                                       "Friday", "Saturday", "Sunday"};
    int hour = date->hour % 12 == 0 ? 12 : date->hour % 12;
    const struct {
        char field;
        int value, width;
    } numbers[] = {{'Y', date->year, 1},
                   {'m', date->month, 2},
                   {'d', date->day, 2},
                   {'H', date->hour, 2},
                   {'I', hour, 2},
                   {'M', date->minute, 2},
                   {'S', date->second, 2},
                   {'y', date->year % 100, 2},
                   {'j', date->day_of_year + 1, 3}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (numbers[i].field == field) {
            snprintf(out, 24, "%0*d", padded ? numbers[i].width : 1, numbers[i].value);
            return true;
        }
    }
    switch (field) {
    case 'B':
        snprintf(out, 24, "%s", months[date->month - 1]);
        return true;
    case 'b':
        snprintf(out, 24, "%.3s", months[date->month - 1]);
        return true;
    case 'A':
        snprintf(out, 24, "%s", days[date->weekday]);
        return true;
    case 'a':
        snprintf(out, 24, "%.3s", days[date->weekday]);
        return true;
    case 'e':
        snprintf(out, 24, "%2d", date->day);
        return true;
    case 'p':
        snprintf(out, 24, "%s", date->hour < 12 ? "AM" : "PM");
        return true;
    case 'F':
        snprintf(out, 24, "%d-%02d-%02d", date->year, date->month, date->day);
        return true;
    case 'T':
        snprintf(out, 24, "%02d:%02d:%02d", date->hour, date->minute, date->second);
        return true;
    case '%':
        snprintf(out, 24, "%%");
        return true;
    default:
        return false;
    }
}

static template_value strftime_now(template_run *run, const template_arguments *arguments)
{
    mixt_template_check_arguments(run, "strftime_now", arguments, "format");
    const template_text *format = mixt_template_need_text(
        run, mixt_template_argument(arguments, 0, "format"), "strftime_now");
    template_output output = {0};
    for (size_t i = 0; i < format->length; i++) {
        if (format->data[i] != '%') {
            mixt_template_write(run, &output, format->data + i, 1);
            continue;
        }
        char out[24];
        bool padded = !(i + 1 < format->length && format->data[i + 1] == '-');
        i += padded ? 1 : 2;
        char field = i < format->length ? format->data[i] : '\0';
        if (!format_field(&run->date, field, padded, out)) {
            mixt_template_fail(run, MIXT_ERROR_UNSUPPORTED, "strftime_now: %%%c is not supported",
                               field);
        }
        mixt_template_write(run, &output, out, strlen(out));
    }
    return mixt_template_output_value(run, &output);
}

template_value mixt_template_function_call(template_run *run, int64_t function,
                                           const template_arguments *arguments)
{
    switch ((int)function) {
    case FUNCTION_NAMESPACE:
        return (template_value){.kind = TEMPLATE_NAMESPACE, .as.dict = make_dict(run, arguments)};
    case FUNCTION_DICT:
        return (template_value){.kind = TEMPLATE_DICT, .as.dict = make_dict(run, arguments)};
    case FUNCTION_RANGE:
        return make_range(run, arguments);
    case FUNCTION_STRFTIME:
        return strftime_now(run, arguments);
    case FUNCTION_RAISE:
        mixt_template_check_arguments(run, "raise_exception", arguments, "message");
        mixt_template_fail(
            run, MIXT_ERROR_FORMAT, "the template refuses: %.300s",
            mixt_template_c_string(
                run, mixt_template_text(run, mixt_template_argument(arguments, 0, "message"))));
    default:
        mixt_template_fail(run, MIXT_ERROR_UNSUPPORTED,
                           "lipsum, cycler and joiner are not supported");
    }
}
