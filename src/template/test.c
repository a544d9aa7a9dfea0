/* Tests behind `is`. */
#include <math.h>
#include <string.h>

#include "template/template.h"
#include "core/utf8.h"

static bool is_number_test(template_value value)
{
    return mixt_template_is_number(value);
}

static bool is_sequence(template_value value)
{
    return value.kind == TEMPLATE_UNDEFINED || value.kind == TEMPLATE_STRING ||
           value.kind == TEMPLATE_LIST || value.kind == TEMPLATE_TUPLE ||
           value.kind == TEMPLATE_RANGE || value.kind == TEMPLATE_DICT;
}

static bool is_iterable(template_value value)
{
    return is_sequence(value) || value.kind == TEMPLATE_VIEW || value.kind == TEMPLATE_GENERATOR ||
           value.kind == TEMPLATE_LOOP;
}

static bool is_callable(template_value value)
{
    return value.kind == TEMPLATE_MACRO || value.kind == TEMPLATE_FUNCTION ||
           value.kind == TEMPLATE_METHOD || value.kind == TEMPLATE_UNDEFINED;
}

typedef enum test_kind {
    TEST_DEFINED,
    TEST_UNDEFINED,
    TEST_NONE,
    TEST_BOOLEAN,
    TEST_TRUE,
    TEST_FALSE,
    TEST_INTEGER,
    TEST_FLOAT,
    TEST_NUMBER,
    TEST_STRING,
    TEST_MAPPING,
    TEST_SEQUENCE,
    TEST_ITERABLE,
    TEST_CALLABLE,
    TEST_ODD,
    TEST_EVEN,
    TEST_DIVISIBLE,
    TEST_IN,
    TEST_EQUAL,
    TEST_NOT_EQUAL,
    TEST_LESS,
    TEST_LESS_EQUAL,
    TEST_GREATER,
    TEST_GREATER_EQUAL,
    TEST_LOWER,
    TEST_UPPER,
    TEST_ESCAPED,
    TEST_SAME,
} test_kind;

static const struct {
    const char *name;
    test_kind kind;
    int arguments;
} tests[] = {
    {"defined", TEST_DEFINED, 0},
    {"undefined", TEST_UNDEFINED, 0},
    {"none", TEST_NONE, 0},
    {"boolean", TEST_BOOLEAN, 0},
    {"true", TEST_TRUE, 0},
    {"false", TEST_FALSE, 0},
    {"integer", TEST_INTEGER, 0},
    {"float", TEST_FLOAT, 0},
    {"number", TEST_NUMBER, 0},
    {"string", TEST_STRING, 0},
    {"mapping", TEST_MAPPING, 0},
    {"sequence", TEST_SEQUENCE, 0},
    {"iterable", TEST_ITERABLE, 0},
    {"callable", TEST_CALLABLE, 0},
    {"odd", TEST_ODD, 0},
    {"even", TEST_EVEN, 0},
    {"divisibleby", TEST_DIVISIBLE, 1},
    {"in", TEST_IN, 1},
    {"==", TEST_EQUAL, 1},
    {"eq", TEST_EQUAL, 1},
    {"equalto", TEST_EQUAL, 1},
    {"!=", TEST_NOT_EQUAL, 1},
    {"ne", TEST_NOT_EQUAL, 1},
    {"<", TEST_LESS, 1},
    {"lt", TEST_LESS, 1},
    {"lessthan", TEST_LESS, 1},
    {"<=", TEST_LESS_EQUAL, 1},
    {"le", TEST_LESS_EQUAL, 1},
    {">", TEST_GREATER, 1},
    {"gt", TEST_GREATER, 1},
    {"greaterthan", TEST_GREATER, 1},
    {">=", TEST_GREATER_EQUAL, 1},
    {"ge", TEST_GREATER_EQUAL, 1},
    {"lower", TEST_LOWER, 0},
    {"upper", TEST_UPPER, 0},
    {"escaped", TEST_ESCAPED, 0},
    {"sameas", TEST_SAME, 1},
};

static bool has_rest(template_run *run, template_value value, template_value divisor, int64_t rest)
{
    return mixt_template_equal(run, mixt_template_arithmetic(run, OPERATOR_MODULO, value, divisor),
                               mixt_template_integer(rest));
}

/* `is sameas`: the objects themselves; single ones are the same when they are equal. */
static bool same(template_run *run, template_value a, template_value b)
{
    if (a.kind != b.kind) {
        return false;
    }
    switch ((int)a.kind) {
    case TEMPLATE_NONE:
        return true;
    case TEMPLATE_BOOL:
        return a.as.boolean == b.as.boolean;
    case TEMPLATE_LIST:
    case TEMPLATE_TUPLE:
        return a.as.list == b.as.list;
    case TEMPLATE_DICT:
    case TEMPLATE_NAMESPACE:
        return a.as.dict == b.as.dict;
    default:
        mixt_template_fail(run, MIXT_ERROR_UNSUPPORTED, "sameas of %s is not supported",
                           mixt_template_kind_name(a));
    }
}

/* All cased letters have that case, and there is one. */
static bool has_case(template_run *run, template_value value, template_case to)
{
    const template_text *text = mixt_template_text(run, value);
    template_case other = to == CASE_UPPER ? CASE_LOWER : CASE_UPPER;
    template_value same_case = mixt_template_case(run, text, to);
    template_value other_case = mixt_template_case(run, text, other);
    template_value itself = {.kind = TEMPLATE_STRING, .as.text = text};
    return mixt_template_equal(run, itself, same_case) &&
           !mixt_template_equal(run, itself, other_case);
}

static bool test_alone(template_run *run, test_kind kind, template_value value)
{
    switch ((int)kind) {
    case TEST_DEFINED:
        return value.kind != TEMPLATE_UNDEFINED;
    case TEST_UNDEFINED:
        return value.kind == TEMPLATE_UNDEFINED;
    case TEST_NONE:
        return value.kind == TEMPLATE_NONE;
    case TEST_BOOLEAN:
        return value.kind == TEMPLATE_BOOL;
    case TEST_TRUE:
        return value.kind == TEMPLATE_BOOL && value.as.boolean;
    case TEST_FALSE:
        return value.kind == TEMPLATE_BOOL && !value.as.boolean;
    case TEST_INTEGER:
        return value.kind == TEMPLATE_INTEGER;
    case TEST_FLOAT:
        return value.kind == TEMPLATE_FLOAT;
    case TEST_NUMBER:
        return is_number_test(value);
    case TEST_STRING:
        return value.kind == TEMPLATE_STRING;
    case TEST_MAPPING:
        return value.kind == TEMPLATE_DICT;
    case TEST_SEQUENCE:
        return is_sequence(value);
    case TEST_ITERABLE:
        return is_iterable(value);
    case TEST_CALLABLE:
        return is_callable(value);
    case TEST_ODD:
        return has_rest(run, value, mixt_template_integer(2), 1);
    case TEST_EVEN:
        return has_rest(run, value, mixt_template_integer(2), 0);
    case TEST_LOWER:
        return has_case(run, value, CASE_LOWER);
    case TEST_UPPER:
        return has_case(run, value, CASE_UPPER);
    default: /* TEST_ESCAPED */
        return value.kind == TEMPLATE_STRING && value.as.text->is_safe;
    }
}

static bool test_with(template_run *run, test_kind kind, template_value value, template_value other)
{
    switch ((int)kind) {
    case TEST_DIVISIBLE:
        return has_rest(run, value, other, 0);
    case TEST_IN:
        return mixt_template_contains(run, other, value);
    case TEST_EQUAL:
        return mixt_template_equal(run, value, other);
    case TEST_NOT_EQUAL:
        return !mixt_template_equal(run, value, other);
    case TEST_LESS:
        return mixt_template_compare(run, value, other) < 0;
    case TEST_LESS_EQUAL:
        return mixt_template_compare(run, value, other) <= 0;
    case TEST_GREATER:
        return mixt_template_compare(run, value, other) > 0;
    case TEST_GREATER_EQUAL:
        return mixt_template_compare(run, value, other) >= 0;
    default:
        return same(run, value, other);
    }
}

bool mixt_template_test(template_run *run, const char *name, template_value value,
                        const template_arguments *arguments)
{
    mixt_template_charge(run, 0);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        if (strcmp(tests[i].name, name) != 0) {
            continue;
        }
        if (arguments->count != (size_t)tests[i].arguments ||
            arguments->positional != arguments->count) {
            mixt_template_fail(run, MIXT_ERROR_FORMAT, "test \"%s\" takes %d argument%s", name,
                               tests[i].arguments, tests[i].arguments == 1 ? "" : "s");
        }
        return tests[i].arguments == 0 ? test_alone(run, tests[i].kind, value)
                                       : test_with(run, tests[i].kind, value, arguments->values[0]);
    }
    mixt_template_fail(run, MIXT_ERROR_UNSUPPORTED, "test \"%.60s\" is not supported", name);
}
