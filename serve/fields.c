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

/* `skip`: bytes of the rules' names in front of those of the object's fields. */
static const field_rule *find(const field_rule *const *tables, size_t skip, const char *name)
{
    for (; *tables != NULL; tables++) {
        for (const field_rule *rule = *tables; rule->name != NULL; rule++) {
            if (strcmp(rule->name + skip, name) == 0) {
                return rule;
            }
        }
    }
    return NULL;
}

const field_rule *fields_find(const field_rule *const *tables, const char *name)
{
    return find(tables, 0, name);
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

/* 3 and 3.0 are one value. */
static bool same_value(const json_t *a, const json_t *b)
{
    return json_is_number(a) && json_is_number(b) ? json_number_value(a) == json_number_value(b)
                                                  : json_equal(a, b) != 0;
}

bool fields_agree(const char *name, const json_t *value, const char *other,
                  const json_t *other_value, api_problem *problem)
{
    return value == NULL || other_value == NULL || json_is_null(value) ||
           json_is_null(other_value) || same_value(value, other_value) ||
           api_fail(problem, 400, "invalid_value", name,
                    "%s and %s are one option, and have different values", name, other);
}

/* Whether the other names that lead to a rule's place have the same value, where they are there. */
static bool check_spellings(const json_t *object, const field_rule *const *tables, size_t skip,
                            const field_rule *rule, api_problem *problem)
{
    const json_t *value = json_object_get(object, rule->name + skip);
    const field_rule *const *table = tables;
    for (; rule->kind != FIELD_IGNORED && rule->kind != FIELD_REFUSED && *table != NULL; table++) {
        for (const field_rule *other = *table; other->name != NULL; other++) {
            if (other->offset == rule->offset && other->kind == rule->kind &&
                strcmp(other->name, rule->name) != 0 &&
                find(tables, skip, other->name + skip) == other &&
                !fields_agree(rule->name, value, other->name,
                              json_object_get(object, other->name + skip), problem)) {
                return false;
            }
        }
    }
    return true;
}

static bool read_fields(const json_t *object, const field_rule *const *tables, const char *place,
                        void *settings, api_problem *problem)
{
    size_t skip = strlen(place);
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        const field_rule *rule = find(tables, skip, name);
        if (rule == NULL) {
            return api_fail(problem, 400, "unknown_parameter", name, "unknown field \"%s%.60s\"",
                            place, name);
        }
        if (!json_is_null(value) &&
            (!read_field(rule, value, (char *)settings + rule->offset, problem) ||
             !check_spellings(object, tables, skip, rule, problem))) {
            return false;
        }
    }
    return true;
}

bool fields_read(const json_t *object, const field_rule *const *tables, void *settings,
                 api_problem *problem)
{
    return read_fields(object, tables, "", settings, problem);
}

bool fields_read_inside(const json_t *object, const char *place, const field_rule *rules,
                        void *settings, api_problem *problem)
{
    const field_rule *const tables[] = {rules, NULL};
    if (read_fields(object, tables, place, settings, problem)) {
        return true;
    }
    snprintf(problem->param, sizeof problem->param, "%.*s", (int)strlen(place) - 1, place);
    return false;
}
