/* JSON schemas as grammars against fixtures/schemas.json (made by tests/reference/schemas.py with
 * Python's jsonschema), and walks through the grammars. MIXT_SCHEMA_WALKS=FILE writes these for
 * schemas.py --check. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "sampling/grammar.h"

typedef struct schema_machine {
    char *text;
    mixt_grammar *grammar;
    mixt_machine *machine;
} schema_machine;

static schema_machine start(const json_t *schema)
{
    schema_machine made = {0};
    mixt_error error = MIXT_ERROR_INIT;
    char *text = json_dumps(schema, JSON_ENCODE_ANY);
    if (mixt_json_schema_grammar(text, strlen(text), &made.text, &error) != MIXT_OK ||
        mixt_grammar_compile(made.text, strlen(made.text), NULL, &made.grammar, &error) !=
            MIXT_OK ||
        mixt_machine_create(made.grammar, &made.machine, &error) != MIXT_OK) {
        fail_msg("%s: %s", text, error.message);
    }
    free(text);
    return made;
}

static void end(schema_machine *made)
{
    mixt_machine_free(made->machine);
    mixt_grammar_free(made->grammar);
    free(made->text);
}

static bool takes(mixt_machine *machine, const char *bytes, size_t length)
{
    bool allowed = false;
    assert_int_equal(mixt_machine_bytes(machine, bytes, length, &allowed, NULL), MIXT_OK);
    return allowed;
}

static size_t check_texts(const json_t *object, const char *key, bool expected)
{
    const json_t *list = json_object_get(object, key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        schema_machine m = start(json_object_get(object, "schema"));
        const char *text = json_string_value(json_array_get(list, i));
        bool accepted = takes(m.machine, text, strlen(text)) && mixt_machine_may_end(m.machine);
        if (accepted != expected) {
            fail_msg("%s should be %s by\n%s", text, key, m.text);
        }
        end(&m);
    }
    return json_array_size(list);
}

static json_t *load_fixture(void)
{
    json_error_t error;
    json_t *fixture = json_load_file("tests/fixtures/schemas.json", 0, &error);
    if (fixture == NULL) {
        fail_msg("tests/fixtures/schemas.json: %s (run from the project's root)", error.text);
    }
    return fixture;
}

static void fixtures_agree(void **state)
{
    json_t *fixture = load_fixture(), *cases = json_object_get(fixture, "cases");
    size_t texts = 0;
    (void)state;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        texts += check_texts(json_array_get(cases, i), "accepted", true);
        texts += check_texts(json_array_get(cases, i), "refused", false);
    }
    printf("%zu schemas, %zu texts\n", json_array_size(cases), texts);
    assert_true(texts > 1000);
    json_decref(fixture);
}

static void what_cannot_be_held_is_refused_by_name(void **state)
{
    json_t *fixture = load_fixture(), *list = json_object_get(fixture, "unsupported");
    (void)state;
    assert_true(json_array_size(list) > 40);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        const char *names = json_string_value(json_object_get(one, "names"));
        char *text = json_dumps(json_object_get(one, "schema"), JSON_ENCODE_ANY), *grammar = NULL;
        mixt_error error = MIXT_ERROR_INIT;
        mixt_status status = mixt_json_schema_grammar(text, strlen(text), &grammar, &error);
        if (status != MIXT_ERROR_UNSUPPORTED || grammar != NULL ||
            strstr(error.message, names) == NULL) {
            fail_msg("%s: \"%s\" instead of \"%s\"", text, error.message, names);
        }
        free(text);
    }
    json_decref(fixture);
}

static void a_schema_is_json(void **state)
{
    char *grammar = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    (void)state;
    assert_int_equal(mixt_json_schema_grammar("{\"a\":1,}", 8, &grammar, &error),
                     MIXT_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "schema: no JSON: line 1"));
    error = (mixt_error)MIXT_ERROR_INIT;
    assert_int_equal(mixt_json_schema_grammar("{\"a\":1,\"a\":2}", 13, &grammar, &error),
                     MIXT_ERROR_ARGUMENT);
    assert_int_equal(mixt_json_schema_grammar(NULL, 0, &grammar, NULL), MIXT_OK);
    assert_non_null(strstr(grammar, "root ::= "));
    free(grammar);
}

/* ---- walks */

/* Blanks between two parts come to an end: a space alone, or lines and their indentation. */
static void blanks_are_bounded(void **state)
{
    static const struct {
        const char *schema, *beginning;
    } places[] = {
        {"{\"type\":\"object\"}", "{"},
        {"{\"type\":\"object\"}", "{\"a\""},
        {"{\"type\":\"object\"}", "{\"a\":"},
        {"{\"type\":\"object\"}", "{\"a\":[1"},
        {"{\"type\":\"object\"}", "{\"a\":1,"},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}}}", "{"},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}}}", "{\"a\":"},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}}}", "{\"a\":7"},
        {"{\"type\":\"array\",\"items\":{\"type\":\"boolean\"}}", "[true,"},
    };
    static const struct {
        const char *blanks;
        bool taken;
    } cases[] = {
        {"", true},
        {" ", true},
        {"\n", true},
        {"\n\n", true},
        {"\n                    ", true}, /* 20 */
        {"\n\n\t\t\t\t\t\t\t\t\t\t          ", true},
        {"\n                     ", false}, /* 21 */
        {"  ", false},
        {"\t", false},
        {"\n\n\n", false},
        {"\n \n", false},
        {" \n", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        json_t *schema = json_loads(places[i].schema, 0, NULL);
        for (size_t j = 0; j < sizeof cases / sizeof *cases; j++) {
            char text[80];
            schema_machine m = start(schema);
            snprintf(text, sizeof text, "%s%s", places[i].beginning, cases[j].blanks);
            assert_true(takes(m.machine, text, strlen(text)) == cases[j].taken);
            end(&m);
        }
        json_decref(schema);
    }
}

static uint32_t numbers = 7;

static uint32_t below(uint32_t bound)
{
    numbers = numbers * 1664525U + 1013904223U;
    return (numbers >> 8) % bound;
}

/* One text of the grammar, bytes by chance; after a while those that close what is open. False
 * where it does not come to an end. */
static bool walk(const json_t *schema, char *text, size_t room)
{
    static const char closing[] = "\"}]0e:,\n ";
    schema_machine m = start(schema);
    size_t length = 0;
    bool ended = false;
    while (!ended && length + 1 < room) {
        ended = mixt_machine_may_end(m.machine) &&
                (mixt_machine_must_end(m.machine) || below(4) == 0 || length > 150);
        for (int tries = 0; !ended && tries < 2000; tries++) {
            char byte = (char)(below(3) == 0 ? below(256) : 32 + below(95));
            if (length > 60 && tries < (int)sizeof closing - 1) {
                byte = closing[tries];
            }
            if (byte == '\0' || (length > 60 && byte == ' ' && text[length - 1] == ' ')) {
                continue;
            }
            if (takes(m.machine, &byte, 1)) {
                text[length++] = byte;
                break;
            }
        }
    }
    text[length] = '\0';
    end(&m);
    return ended;
}

static void walks_are_json(void **state)
{
    json_t *fixture = load_fixture(), *cases = json_object_get(fixture, "cases");
    const char *path = getenv("MIXT_SCHEMA_WALKS");
    FILE *out = path != NULL ? fopen(path, "w") : NULL;
    size_t ended = 0, all = 0;
    (void)state;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        for (int round = 0; round < (out != NULL ? 200 : 10); round++) {
            char text[2000];
            all++;
            if (!walk(json_object_get(json_array_get(cases, i), "schema"), text, sizeof text)) {
                continue;
            }
            ended++;
            json_error_t error;
            json_t *value = json_loads(text, JSON_DECODE_ANY, &error);
            if (value == NULL) {
                fail_msg("\"%s\": %s", text, error.text);
            }
            if (out != NULL && strchr(text, '\n') == NULL) {
                fprintf(out, "%zu\t%s\n", i, text);
            }
            json_decref(value);
        }
    }
    if (out != NULL) {
        fclose(out);
    }
    printf("%zu walks, %zu of them to an end\n", all, ended);
    assert_true(ended > all / 2);
    json_decref(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixtures_agree),
        cmocka_unit_test(what_cannot_be_held_is_refused_by_name),
        cmocka_unit_test(a_schema_is_json),
        cmocka_unit_test(blanks_are_bounded),
        cmocka_unit_test(walks_are_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
