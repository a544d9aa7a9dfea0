#include "fields.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool api_fail(api_problem *problem, int status, const char *code, const char *param,
              const char *format, ...)
{
    if (problem->status == 0) {
        va_list values;
        problem->status = status;
        problem->code = code;
        snprintf(problem->param, sizeof problem->param, "%s", param != NULL ? param : "");
        va_start(values, format);
        vsnprintf(problem->message, sizeof problem->message, format, values);
        va_end(values);
        problem->message[utf8_whole(problem->message, strlen(problem->message))] = 0;
        for (char *c = problem->message; *c != 0; c++) { /* it may quote the request */
            *c = (unsigned char)*c < 0x20 || *c == 0x7F ? '?' : *c;
        }
    }
    return false;
}

const field_rule *fields_find(const field_rule *const *tables, const char *name)
{
    for (; *tables != NULL; tables++) {
        for (const field_rule *rule = *tables; rule->name != NULL; rule++) {
            if (strcmp(rule->name, name) == 0) {
                return rule;
            }
        }
    }
    return NULL;
}

static bool takes_place(const field_rule *rule)
{
    return rule->kind != FIELD_IGNORED && rule->kind != FIELD_REFUSED;
}

bool fields_is_nothing(const json_t *value)
{
    return json_is_false(value) || (json_is_number(value) && json_number_value(value) == 0) ||
           (json_is_string(value) && json_string_length(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

static bool wrong_type(const field_rule *rule, const char *wanted, api_problem *problem)
{
    return api_fail(problem, 400, "invalid_type", rule->name, "%s must be %s", rule->name, wanted);
}

static bool out_of_range(const field_rule *rule, api_problem *problem)
{
    text_buffer range = {0};
    text_number(&range, rule->low);
    text_put(&range, " to ");
    text_number(&range, rule->high);
    api_fail(problem, 400, "invalid_value", rule->name, "%s must lie in %s", rule->name,
             range.failed ? "its range" : range.bytes);
    text_free(&range);
    return false;
}

/* An integer, or a number written as 3.0. */
static bool read_integer(const field_rule *rule, const json_t *value, int64_t *integer,
                         api_problem *problem)
{
    double number = json_number_value(value);
    if (!json_is_number(value) || (json_is_real(value) && number != floor(number))) {
        return wrong_type(rule, "an integer", problem);
    }
    if (number < rule->low || number > rule->high) {
        return out_of_range(rule, problem);
    }
    *integer = json_is_integer(value) ? json_integer_value(value) : (int64_t)number;
    return true;
}

static bool read_field(const field_rule *rule, const json_t *value, char *place,
                       api_problem *problem)
{
    int64_t integer = 0;
    switch (rule->kind) {
    case FIELD_BOOL:
        if (!json_is_boolean(value)) {
            return wrong_type(rule, "true or false", problem);
        }
        *(bool *)place = json_is_true(value);
        return true;
    case FIELD_INT:
        if (!read_integer(rule, value, &integer, problem)) {
            return false;
        }
        *(int *)(void *)place = (int)integer;
        return true;
    case FIELD_LONG:
        return read_integer(rule, value, (int64_t *)(void *)place, problem);
    case FIELD_NUMBER:
        if (!json_is_number(value)) {
            return wrong_type(rule, "a number", problem);
        }
        if (!(json_number_value(value) >= rule->low && json_number_value(value) <= rule->high)) {
            return out_of_range(rule, problem);
        }
        *(double *)(void *)place = json_number_value(value);
        return true;
    case FIELD_TEXT:
        if (!json_is_string(value)) {
            return wrong_type(rule, "a string", problem);
        }
        *(const char **)(void *)place = json_string_value(value);
        return true;
    case FIELD_VALUE:
        *(const json_t **)(void *)place = value;
        return true;
    case FIELD_REFUSED:
        return fields_is_nothing(value) ||
               api_fail(problem, 400, "unsupported_parameter", rule->name,
                        "%s is not supported%s%s", rule->name, rule->reason != NULL ? ": " : "",
                        rule->reason != NULL ? rule->reason : "");
    case FIELD_IGNORED:
        break;
    }
    return true;
}

/* Whether an earlier field of the object fills the same place with another value. */
static bool check_spelling(const json_t *object, const field_rule *const *tables,
                           const field_rule *rule, const json_t *value, api_problem *problem)
{
    const char *name;
    json_t *other;
    json_object_foreach((json_t *)(uintptr_t)object, name, other)
    {
        const field_rule *earlier = fields_find(tables, name);
        if (earlier == rule) {
            break;
        }
        bool number = json_is_number(value) && json_is_number(other);
        if (earlier->offset == rule->offset && takes_place(earlier) && !json_is_null(other) &&
            (number ? json_number_value(value) != json_number_value(other)
                    : !json_equal(value, other))) {
            return api_fail(problem, 400, "invalid_value", rule->name,
                            "%s and %s are two names of one field and have two values", name,
                            rule->name);
        }
    }
    return true;
}

bool fields_read(const json_t *object, const field_rule *const *tables, void *settings,
                 api_problem *problem)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        const field_rule *rule = fields_find(tables, name);
        if (rule == NULL) {
            return api_fail(problem, 400, "unknown_parameter", name, "unknown field \"%.60s\"",
                            name);
        }
        if (!json_is_null(value) && takes_place(rule) &&
            !check_spelling(object, tables, rule, value, problem)) {
            return false;
        }
        if (!json_is_null(value) &&
            !read_field(rule, value, (char *)settings + rule->offset, problem)) {
            return false;
        }
    }
    return true;
}
