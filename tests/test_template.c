/* Chat templates: renderings as jinja2 makes them (tests/reference/templates.py), refusals with
 * line and name, budgets, and the public functions. */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "mixt.h"
#include "template/template.h"

static char *render(const char *text, const json_t *variables, mixt_error *error)
{
    template_date date;
    char *out = NULL;
    json_t *none = json_object();
    *error = (mixt_error)MIXT_ERROR_INIT;
    assert_int_equal(mixt_template_parse_date("2024-02-09T17:05:08", &date, error), MIXT_OK);
    mixt_status status = mixt_template_render(
        "t", text, strlen(text), variables != NULL ? variables : none, &date, &out, error);
    json_decref(none);
    assert_int_equal(status, error->status);
    assert_true((out != NULL) == (status == MIXT_OK));
    if (status != MIXT_OK) {
        assert_non_null(strstr(error->message, "t: line "));
        assert_true(mixt_status_is_refusal(status));
    }
    return out;
}

static void renderings_equal_jinja2(void **state)
{
    json_error_t problem;
    json_t *root = json_load_file("tests/fixtures/chat/renderings.json", 0, &problem);
    size_t i;
    json_t *one;
    (void)state;
    assert_non_null(root);
    json_t *cases = json_object_get(root, "cases");
    assert_true(json_array_size(cases) > 200);
    json_array_foreach(cases, i, one)
    {
        mixt_error error;
        const char *text = json_string_value(json_array_get(one, 0));
        const char *expected = json_string_value(json_array_get(one, 2));
        json_t *variables = json_object_get(json_object_get(root, "variables"),
                                            json_string_value(json_array_get(one, 1)));
        char *out = render(text, variables, &error);
        if (expected == NULL && out != NULL) {
            fail_msg("not refused: %s", text);
        }
        if (expected != NULL && (out == NULL || strcmp(out, expected) != 0)) {
            fail_msg("%s\n--- gives\n%s\n--- instead of\n%s", text,
                     out != NULL ? out : error.message, expected);
        }
        free(out);
    }
    json_decref(root);
}

/* What jinja2 would take and we refuse, or where the message matters: by line and name. */
static void refusals_name_line_and_construct(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"a\n{% call f() %}{% endcall %}", "t: line 2: {% call %} is not supported"},
        {"{% include 'x' %}", "t: line 1: {% include %} is not supported"},
        {"\n\n{% import 'x' as y %}", "t: line 3: {% import %} is not supported"},
        {"{% extends 'x' %}", "{% extends %} is not supported"},
        {"{% block a %}{% endblock %}", "{% block %} is not supported"},
        {"{% for a in b recursive %}{% endfor %}", "a recursive for loop is not supported"},
        {"{{ x\n|nosuch }}", "t: line 2: filter \"nosuch\" is not supported"},
        {"{{ 'a' is nosuch }}", "t: line 1: test \"nosuch\" is not supported"},
        {"{{ 'a'.zfill(3) }}", "method .zfill of a str is not supported"},
        {"{{ 'a'.encode() }}", "method .encode of a str is not supported"},
        {"{{ {}.update() }}", "method .update of a dict is not supported"},
        {"{{ '%s' % 1 }}", "% on a str (formatting) is not supported"},
        {"{{ f(*a) }}", "* and ** in arguments are not supported"},
        {"{% macro f() %}{{ caller() }}{% endmacro %}", "caller in a macro is not supported"},
        {"{{ ''.__class__ }}", "attribute __class__ is not supported"},
        {"{{ cycler(1) }}", "lipsum, cycler and joiner are not supported"},
        {"{{ 9999999999 * 9999999999 }}", "an integer beyond 64 bits"},
        {"{{ 99999999999999999999 }}", "is beyond 64 bits"},
        {"{{ raise_exception('roles\nmust alternate') }}",
         "the template refuses: roles?must alternate"},
        {"{% if x %}", "the end of the template where {% endif %} is needed"},
        {"{{ x.y.z }}", "\"x\" is undefined"},
        {"{{ strftime_now('%Q') }}", "strftime_now: %Q is not supported"},
        {"{{ range }}", "a function cannot be written"},
        {"{{ [1]|map('string') }}", "a generator (put |list behind it) cannot be written"},
        {"{{ 'é'.isalpha() }}", "isalpha of text beyond ASCII is not supported"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mixt_error error;
        assert_null(render(cases[i].text, NULL, &error));
        if (strstr(error.message, cases[i].message) == NULL) {
            fail_msg("%s: %s", cases[i].text, error.message);
        }
        assert_null(strchr(error.message, '\n'));
    }
}

/* ---- budgets */

static char *repeated(const char *text, size_t count)
{
    size_t length = strlen(text);
    char *out = malloc(length * count + 1);
    assert_non_null(out);
    for (size_t i = 0; i < count; i++) {
        memcpy(out + i * length, text, length);
    }
    out[length * count] = '\0';
    return out;
}

/* CPU time that a refusal may take. The promise is 50 ms on a quiet machine without sanitizers;
 * the test allows for slower ones, and still sees what runs away. */
enum { REFUSAL_MILLISECONDS = 1500 };

static void check_refused(const char *text, const char *message)
{
    mixt_error error;
    clock_t start = clock();
    char *out = render(text, NULL, &error);
    double milliseconds = (double)(clock() - start) * 1e3 / CLOCKS_PER_SEC;
    if (out != NULL || strstr(error.message, message) == NULL ||
        milliseconds > REFUSAL_MILLISECONDS) {
        fail_msg("%.200s: %s, %.1f ms", text, out != NULL ? "not refused" : error.message,
                 milliseconds);
    }
}

static void check_repeated(const char *text, size_t count, const char *message)
{
    char *whole = repeated(text, count);
    check_refused(whole, message);
    free(whole);
}

#define LOOP "{% for i in range(10000) %}"
#define END "{% endfor %}"
#define GROW(what) "{% set ns = namespace(s=" what ") %}{% for i in range(99) %}"

static void nothing_runs_away(void **state)
{
    static const char steps[] = "takes more than 1000000 steps";
    (void)state;
    check_repeated("x", (size_t)16 << 20, "longer than");
    check_refused("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "macros call one another");
    check_refused("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}"
                  "{% endmacro %}{{ f(30) }}",
                  steps);
    check_refused("{{ range(10**9) }}", "more than 100000 items");
    check_refused(LOOP LOOP LOOP LOOP LOOP LOOP "x" END END END END END END, steps);
    check_refused(LOOP LOOP LOOP LOOP LOOP LOOP END END END END END END, steps);
    check_refused("{{ 'x' * 10**15 }}", "MiB of memory");
    check_refused("{{ [1] * 10**15 }}", "MiB of memory");
    check_refused("{{ 'x' * 10**18 * 10**18 }}", "MiB of memory");
    check_refused(GROW("'xx'") "{% set ns.s = ns.s + ns.s %}" END, "more than");
    check_refused(GROW("[1]") "{% set ns.s = [ns.s, ns.s] %}" END "{{ ns.s }}", steps);
    check_refused(GROW("[1]") "{% set ns.s = [ns.s, ns.s] %}" END "{{ ns.s|tojson }}", steps);
    check_refused(GROW("(1,)") "{% set ns.s = (ns.s, ns.s) %}" END "{{ {ns.s: 1} }}", steps);
    check_refused(GROW("(1,)") "{% set ns.s = (ns.s, ns.s) %}" END
                               "{% set x = ns.s == (ns.s[0], (ns.s[1][0], ns.s[1][1])) %}",
                  steps);
    check_refused("{% set l = [] %}{% set _ = l.append(l) %}{{ l }}", "nested deeper");
    check_refused("{% set l = [] %}{% set _ = l.append(l) %}{{ l == l }}", "inside one another");
    check_refused("{% set l = [1] %}{% for x in l %}{% set _ = l.append(x) %}" END, "more than");
    check_refused("{% set s = 'a' * 1000000 %}" LOOP "{{ s }}" END, "more than");
    check_refused("{{ ('a' * 500000 ~ 'b') in ('a' * 1000000) }}", steps);
    check_refused("{{ ('a' * 1000000).strip('b' * 500000 ~ 'a') }}", steps);
    check_refused("{% set s = 'a<' * 100000 %}" LOOP "{{ s.find('</x>') }}" END, steps);
    check_refused("{% set s = 'a' * 100000 %}" LOOP "{{ s|upper|length }}" END, steps);
    check_refused("{{ ([[1]] * 100000)|tojson(indent=100000)|length }}", "more than");
    check_refused("{{ ('\n a' * 100000)|indent(100000)|length }}", "more than");
    check_repeated("{{", 50000, "brackets");
    check_repeated("{{ not not not not ", 1000, "brackets");
    check_repeated("{% if 1 %}", 10000, "nested deeper");
    check_repeated("{#", 60000, "no end");
    check_repeated("{% raw %}", 10000, "no {% endraw %}");
    check_repeated("{% for a in b %}", 5000, "nested deeper");
}

static void long_chains_are_flat(void **state)
{
    mixt_error error;
    char *sum = repeated("1 + ", 20000);
    char *text = malloc(strlen(sum) + 16);
    (void)state;
    assert_non_null(text);
    sprintf(text, "{{ %s1 }}", sum);
    char *out = render(text, NULL, &error);
    assert_non_null(out);
    assert_string_equal(out, "20001");
    free(out);
    free(text);
    free(sum);
}

/* ---- changed lists: beyond transformers' sandbox */

static void lists_can_grow(void **state)
{
    mixt_error error;
    char *out = render("{% set l = [1] %}{% set _ = l.append(2) %}{{ l }}{{ l.pop(0) }}{{ l }}"
                       "{{ l.pop() }}{{ l }}",
                       NULL, &error);
    (void)state;
    assert_non_null(out);
    assert_string_equal(out, "[1, 2]1[2]2[]");
    free(out);
}

/* ---- the public functions */

static const mixt_chat_message talk[] = {
    {"system", "Be kind."}, {"user", "Hi"}, {"assistant", "Hello!"}, {"user", "Bye"}};

static void chat_renders_messages(void **state)
{
    char *text = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    (void)state;
    assert_int_equal(mixt_chat_render(mixt_chat_builtin("chatml"), talk, 4, NULL, &text, &error),
                     MIXT_OK);
    assert_string_equal(text, "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi"
                              "<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n"
                              "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n");
    free(text);
    mixt_chat_options options = mixt_chat_options_default();
    options.add_generation_prompt = false;
    options.bos_token = "<s>";
    options.date = "2024-02-29";
    options.variables = "{\"tools\": [1], \"x\": {\"y\": null}}";
    assert_int_equal(mixt_chat_render("{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }} "
                                      "{{ tools }} {{ x }} {{ strftime_now('%d %b %Y, %A %j') }}",
                                      talk, 4, &options, &text, &error),
                     MIXT_OK);
    assert_string_equal(text, "<s>False [1] {'y': None} 29 Feb 2024, Thursday 060");
    free(text);
}

static void check_chat(const mixt_chat_message *messages, const mixt_chat_options *options,
                       const char *message)
{
    char *text = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_not_equal(mixt_chat_render("{{ messages }}", messages, 1, options, &text, &error),
                         MIXT_OK);
    assert_null(text);
    assert_true(mixt_status_is_refusal(error.status));
    if (strstr(error.message, message) == NULL) {
        fail_msg("%s instead of %s", error.message, message);
    }
}

static void chat_refuses_bad_arguments(void **state)
{
    mixt_chat_message broken = {"user", "\xff"};
    mixt_chat_options options = mixt_chat_options_default();
    (void)state;
    check_chat(&broken, NULL, "message 1: role and content must be valid UTF-8");
    broken.content = NULL;
    check_chat(&broken, NULL, "message 1");
    options.variables = "[1]";
    check_chat(talk, &options, "chat variables");
    options.variables = "{\"a\": ";
    check_chat(talk, &options, "chat variables");
    options.variables = NULL;
    static const char *const dates[] = {"today",    "2023-02-29",          "2024-13-01",
                                        "2024-1-1", "2024-01-01T24:00:00", ""};
    for (size_t i = 0; i < sizeof dates / sizeof dates[0]; i++) {
        options.date = dates[i];
        check_chat(talk, &options, "not of the form 2024-12-31");
    }
    options.date = NULL;
    options.bos_token = "\xc3";
    check_chat(talk, &options, "bos_token");
}

static void builtin_templates_are_named(void **state)
{
    int count = 0;
    (void)state;
    for (; mixt_chat_builtin_name(count) != NULL; count++) {
        assert_non_null(mixt_chat_builtin(mixt_chat_builtin_name(count)));
    }
    assert_true(count >= 12);
    assert_null(mixt_chat_builtin_name(-1));
    assert_null(mixt_chat_builtin("nosuch"));
    assert_null(mixt_chat_builtin(""));
    assert_ptr_equal(mixt_chat_builtin("mixtral"), mixt_chat_builtin("mistral"));
    assert_ptr_equal(mixt_chat_builtin("qwen2_moe"), mixt_chat_builtin("chatml"));
    assert_ptr_equal(mixt_chat_builtin("qwen2"), mixt_chat_builtin("chatml"));
}

/* What a built-in template has no form for is refused by name, not left out. */
static void builtin_templates_leave_nothing_out(void **state)
{
    static const struct {
        const char *messages; /* behind a question */
        const char *parts[3]; /* all of them are in the text, or */
        const char *refused;  /* this is in the line that refuses */
    } cases[] = {
        {"{\"role\":\"developer\",\"content\":\"D\"},{\"role\":\"user\",\"content\":\"R\"}",
         {"D", "R"},
         "refuses: role developer"},
        {"{\"role\":\"tool\",\"content\":\"T\"}", {"T"}, "refuses: role tool"},
        {"{\"role\":\"critic\",\"content\":\"C\"}", {"C"}, "refuses: role critic"},
        {"{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":"
         "\"look\","
         "\"arguments\":{\"deep\":1}}}]},{\"role\":\"tool\",\"content\":\"T\"}",
         {"look", "\"deep\": 1", "T"},
         "refuses: tool_calls: "},
        {"{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":"
         "\"look\","
         "\"arguments\":{}}},{\"function\":{\"name\":\"see\",\"arguments\":{}}}]}",
         {"look", "see"},
         "refuses: tool_calls: "},
    };
    int rendered = 0;
    (void)state;
    for (int i = 0; mixt_chat_builtin_name(i) != NULL; i++) {
        const char *template = mixt_chat_builtin(mixt_chat_builtin_name(i));
        for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
            char variables[600], *text = NULL;
            mixt_error error = MIXT_ERROR_INIT;
            mixt_chat_options options = mixt_chat_options_default();
            snprintf(variables, sizeof variables,
                     "{\"messages\":[{\"role\":\"user\",\"content\":\"Q\"},%s]}",
                     cases[k].messages);
            options.variables = variables;
            options.name = "t";
            options.bos_token = options.eos_token = "";
            mixt_chat_render(template, NULL, 0, &options, &text, &error);
            bool whole = text != NULL;
            for (int part = 0; part < 3 && cases[k].parts[part] != NULL; part++) {
                whole = whole && strstr(text, cases[k].parts[part]) != NULL;
            }
            if (!whole && (text != NULL || strstr(error.message, cases[k].refused) == NULL)) {
                fail_msg("%s, %s: %s", mixt_chat_builtin_name(i), cases[k].messages,
                         text != NULL ? text : error.message);
            }
            rendered += text != NULL;
            free(text);
        }
    }
    assert_true(rendered > 20);
}

/* For tests/reference/templates.py. */
static int print_builtin(void)
{
    json_t *all = json_object();
    for (int i = 0; mixt_chat_builtin_name(i) != NULL; i++) {
        const char *name = mixt_chat_builtin_name(i);
        json_object_set_new(all, name, json_string(mixt_chat_builtin(name)));
    }
    json_dumpf(all, stdout, JSON_INDENT(1));
    json_decref(all);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renderings_equal_jinja2),
        cmocka_unit_test(refusals_name_line_and_construct),
        cmocka_unit_test(nothing_runs_away),
        cmocka_unit_test(long_chains_are_flat),
        cmocka_unit_test(lists_can_grow),
        cmocka_unit_test(chat_renders_messages),
        cmocka_unit_test(chat_refuses_bad_arguments),
        cmocka_unit_test(builtin_templates_are_named),
        cmocka_unit_test(builtin_templates_leave_nothing_out),
    };
    if (argc > 1 && strcmp(argv[1], "builtin") == 0) {
        return print_builtin();
    }
    return cmocka_run_group_tests_name("template", tests, NULL, NULL);
}
