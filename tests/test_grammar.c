/* Grammars against fixtures/grammars.json (made by tests/reference/grammars.py with Python's re and
 * json), masks against every token tried by itself, what is refused and what is bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "sampling/grammar.h"
#include "tokenizer/tokenizer.h"

typedef struct text_machine {
    mixt_grammar *grammar;
    mixt_machine *machine;
} text_machine;

static text_machine start(const char *text, const mixt_tokenizer *tokenizer)
{
    text_machine made = {0};
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_grammar_compile(text, strlen(text), tokenizer, &made.grammar, &error) != MIXT_OK ||
        mixt_machine_create(made.grammar, &made.machine, &error) != MIXT_OK) {
        fail_msg("%s in\n%s", error.message, text);
    }
    return made;
}

static void end(text_machine *made)
{
    mixt_machine_free(made->machine);
    mixt_grammar_free(made->grammar);
}

static bool takes(mixt_machine *machine, const char *bytes, size_t length)
{
    bool allowed = false;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_machine_bytes(machine, bytes, length, &allowed, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    return allowed;
}

/* Byte by byte, as a tokenizer of bytes would have it, or all at once. */
static bool accepts(const char *grammar, const char *text, bool at_once)
{
    text_machine m = start(grammar, NULL);
    bool allowed = true;
    if (at_once) {
        allowed = takes(m.machine, text, strlen(text));
    }
    for (size_t i = 0; !at_once && allowed && text[i] != '\0'; i++) {
        allowed = takes(m.machine, text + i, 1);
    }
    allowed = allowed && mixt_machine_may_end(m.machine);
    end(&m);
    return allowed;
}

static size_t check_texts(const json_t *object, const char *key, bool expected)
{
    const json_t *list = json_object_get(object, key);
    const char *grammar = json_string_value(json_object_get(object, "grammar"));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (accepts(grammar, text, i % 2 == 0) != expected) {
            fail_msg("\"%s\" should be %s by\n%s", text, key, grammar);
        }
    }
    return json_array_size(list);
}

static void fixtures_agree(void **state)
{
    json_error_t error;
    size_t texts = 0;
    (void)state;
    json_t *cases = json_load_file("tests/fixtures/grammars.json", 0, &error);
    if (cases == NULL) {
        fail_msg("tests/fixtures/grammars.json: %s (run from the project's root)", error.text);
    }
    for (size_t i = 0; i < json_array_size(cases); i++) {
        texts += check_texts(json_array_get(cases, i), "accepted", true);
        texts += check_texts(json_array_get(cases, i), "refused", false);
    }
    printf("%zu grammars, %zu texts\n", json_array_size(cases), texts);
    assert_true(texts > 1500);
    json_decref(cases);
}

/* What is not UTF-8 is no character, wherever it is cut. */
static void characters_are_utf8(void **state)
{
    const char *const good[] = {"\x7F",         "\xC2\x80",         "\xDF\xBF",
                                "\xE0\xA0\x80", "\xED\x9F\xBF",     "\xEE\x80\x80",
                                "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"};
    const char *const bad[] = {"\x80",
                               "\xC0\x80",
                               "\xC1\xBF",
                               "\xE0\x9F\xBF",
                               "\xED\xA0\x80",
                               "\xED\xBF\xBF",
                               "\xF0\x8F\xBF\xBF",
                               "\xF4\x90\x80\x80",
                               "\xF5\x80\x80\x80",
                               "\xC2",
                               "\xE2\x82",
                               "\xFF"};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(accepts("root ::= .", good[i], false));
        assert_true(accepts("root ::= [^a]", good[i], true));
        assert_false(accepts("root ::= [a-b]", good[i], true));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(accepts("root ::= .", bad[i], false));
        assert_false(accepts("root ::= [^a]", bad[i], true));
    }
    assert_true(accepts("root ::= [\\U00010000-\\U0010FFFF\\u0800]+",
                        "\xE0\xA0\x80\xF0\x90\x80\x80", true));
    assert_false(accepts("root ::= [\\u00E9-\\u20AC]", "\xE2\x82\xAD", true)); /* U+20AD */
    assert_true(accepts("root ::= [\\u00E9-\\u20AC]", "\xE2\x82\xAC", true));
}

static void layout_is_free(void **state)
{
    (void)state;
    assert_true(accepts("\n# c\n\nroot ::= # c\n  \"a\" | # c\n \"b\" (\n\"c\" # c\n| \"d\"\n)\r\n"
                        "x_1 ::= \"\"",
                        "bd", true));
    assert_true(accepts("root::=x y\nx::=\"a\"\ny ::= \"b\"", "ab", true));
    assert_true(accepts("root ::= \"ab\" { 2 , 3 }", "ababab", true));
    assert_true(accepts("root ::= \"a\"?+", "aaa", true));
    assert_true(accepts("root ::= (\"a\"*)*", "aaa", true));
    assert_true(accepts("root ::= (\"a\"* \"b\"*)* \"c\"", "abbac", true));
    assert_true(accepts("root ::= (x?)* \"c\"\nx ::= \"a\" | ", "aac", true));
    assert_true(accepts("root ::= \"a\" root | \"a\"", "aaaa", true));
    assert_true(accepts("root ::= x | \"b\"\nx ::= root | \"a\"", "a", true)); /* last calls only */
    assert_false(accepts("root ::= \"a\"{0}", "a", true));
    assert_true(accepts("root ::= \"a\"{0}", "", true));
}

typedef struct refused {
    const char *grammar, *message;
} refused;

static void bad_grammars_are_refused(void **state)
{
    static const refused list[] = {
        {"", "line 1, column 1: there is no rule root"},
        {"a ::= \"x\"", "line 1, column 10: there is no rule root"},
        {"root ::= a", "line 1, column 10: the rule a is not defined"},
        {"root ::= \"\u20AC\" (b\n | c)\nc ::= \"\"",
         "line 1, column 15: the rule b is not defined"},
        {"root ::= \"a\nb\"", "line 1, column 10: the text in quotes does not end"},
        {"root ::= \"a", "line 1, column 10: the text in quotes does not end"},
        {"root ::= [a", "line 1, column 11: the class does not end"},
        {"root ::= []", "line 1, column 10: a class without characters"},
        {"root ::= [z-a]", "line 1, column 11: a range from U+007A down to U+0061"},
        {"root ::= \"\\q\"", "line 1, column 11: unknown escape"},
        {"root ::= \"\\", "line 1, column 11: unknown escape"},
        {"root ::= \"\\u12\"", "line 1, column 13: 4 hexadecimal digits are needed"},
        {"root ::= \"\\uD800\"", "line 1, column 13: U+D800 is no character"},
        {"root ::= \"\\U00110000\"", "U+110000 is no character"},
        {"root ::= (\"a\"", "line 1, column 10: the group does not end"},
        {"root ::= (\"a\" %)", "line 1, column 15: ) is needed"},
        {"root ::= \"a\") \"b\"", "line 1, column 13: the end of the line is needed"},
        {"root ::= * \"a\"", "line 1, column 10: nothing stands before * to be repeated"},
        {"root ::= \"a\"{,3}", "line 1, column 14: a number is needed"},
        {"root ::= \"a\"{3,2}", "line 1, column 13: {3,2} is no range"},
        {"root ::= \"a\"{3", "line 1, column 15: } is needed"},
        {"root ::= \"a\"{999999999}", "more than 131072 repetitions"},
        {"root := \"a\"", "line 1, column 6: ::= is needed behind the rule's name"},
        {"::= \"a\"", "line 1, column 1: a rule's name is missing"},
        {"root ::= \"a\"\n\nroot ::= \"b\"", "line 3, column 1: the rule root is there twice"},
        {"root ::= \"\xFF\"", "line 1, column 11: not valid UTF-8"},
        {"root ::= <[x]>", "line 1, column 10: a token is <[ID]>"},
        {"root ::= <a", "line 1, column 10: the token does not end with >"},
        {"root ::= <a>", "line 1, column 10: a token by its text needs a tokenizer"},
        {"root ::= !a", "line 1, column 11: a token is needed behind !"},
        {"root ::= root \"a\" | \"b\"", "line 1, column 1: the rule root begins with itself"},
        {"root ::= a\na ::= b \"x\" | \"c\"\nb ::= \"\" a | \"d\"", "begins with itself"},
        {"root ::= \"a\" root", "line 1, column 1: no text of the rule root has an end"},
        {"a ::= \"x\"\nroot ::= a b\nb ::= \"(\" b \")\" | root",
         "line 2, column 1: no text of the rule root has an end"},
        {"root ::= n root \"x\" | \"y\"\nn ::= \"z\"?", "begins with itself"},
        {"root ::= ((\"a\"{900}){900}){900} ((\"b\"{99999} \"c\"){2}){2} (\"d\"{99999} | \"e\" "
         "\"f\" "
         "\"g\"){7} (\"123456\" | \"12345\"{99999}){99999} (\"y\" \"zz\"{99999}){3} \"h\"{99999} "
         "\"abcd\"{99999} \"abcd\"{99999} \"abcd\"{99999} \"abcd\"{99999} \"abcd\"{99999}",
         "the grammar has become too large here"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        mixt_grammar *grammar = NULL;
        mixt_error error = MIXT_ERROR_INIT;
        mixt_status status =
            mixt_grammar_compile(list[i].grammar, strlen(list[i].grammar), NULL, &grammar, &error);
        if (status != MIXT_ERROR_ARGUMENT || grammar != NULL ||
            strstr(error.message, list[i].message) == NULL) {
            fail_msg("\"%s\" instead of \"%s\" for %.200s", error.message, list[i].message,
                     list[i].grammar);
        }
    }
    mixt_grammar *grammar = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    assert_int_equal(mixt_grammar_compile("root ::= \"\0\"", 12, NULL, &grammar, &error),
                     MIXT_ERROR_ARGUMENT);
    assert_string_equal(error.message, "grammar: line 1, column 11: a NUL byte");
}

/* Where each mark would copy what stands before it, or write much that is dropped again. */
static void reading_is_bounded(void **state)
{
    static const struct {
        const char *piece;
        int before, count; /* bytes of a literal, pieces behind it */
    } list[] = {
        {"?", 100000, 100000},
        {" \"b\"{131072}{0}", 1, 20000},
    };
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        mixt_grammar *grammar = NULL;
        mixt_error error = MIXT_ERROR_INIT;
        size_t piece = strlen(list[i].piece);
        char *text = malloc((size_t)list[i].before + (size_t)list[i].count * piece + 40);
        assert_non_null(text);
        char *at = text + sprintf(text, "root ::= \"");
        memset(at, 'a', (size_t)list[i].before);
        at += list[i].before;
        *at++ = '"';
        for (int k = 0; k < list[i].count; k++, at += piece) {
            memcpy(at, list[i].piece, piece);
        }
        *at = 0;
        assert_int_equal(mixt_grammar_compile(text, strlen(text), NULL, &grammar, &error),
                         MIXT_ERROR_ARGUMENT);
        assert_non_null(strstr(error.message, "the grammar has become too large here"));
        free(text);
    }
}

/* Every text of n letters has 2^n stacks here, if equal ones are not kept once; the second grammar
 * really has that many. */
static void ambiguity_is_bounded(void **state)
{
    char text[2000] = "root ::= x0\n", line[100];
    bool allowed = true;
    mixt_error error = MIXT_ERROR_INIT;
    (void)state;
    text_machine m =
        start("root ::= (\"a\" | \"a\" \"a\"? | a)* \"b\"\na ::= \"a\" a | \"a\"", NULL);
    for (int i = 0; i < 5000; i++) {
        assert_true(takes(m.machine, "a", 1));
    }
    assert_true(takes(m.machine, "b", 1) && mixt_machine_must_end(m.machine));
    end(&m);
    for (int i = 0; i < 24; i++) {
        snprintf(line, sizeof line, "x%d ::= x%d \"a\" | x%d \"b\"\n", i, i + 1, i + 1);
        strcat(text, line);
    }
    strcat(text, "x24 ::= \"c\"\n");
    mixt_grammar *grammar = NULL;
    mixt_machine *machine = NULL;
    assert_int_equal(mixt_grammar_compile(text, strlen(text), NULL, &grammar, &error), MIXT_OK);
    mixt_status status = mixt_machine_create(grammar, &machine, &error);
    if (status == MIXT_OK) {
        status = mixt_machine_bytes(machine, "c", 1, &allowed, &error);
    }
    assert_int_equal(status, MIXT_ERROR_UNSUPPORTED);
    assert_string_equal(error.message, "grammar: there are too many ways to read the text so far");
    mixt_machine_free(machine);
    mixt_grammar_free(grammar);
}

/* A long text comes by the places at which a machine tidies up, deep inside. */
static void nesting_may_be_deep(void **state)
{
    text_machine m = start("root ::= \"[\" (root | \"x\"*) \"]\" | \"(\" root \")\" \"!\"", NULL);
    (void)state;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 300000; i++) {
            assert_true(takes(m.machine, i % 3 == 0 ? "(" : "[", 1));
        }
        if (round == 0) {
            for (int i = 300000 - 1; i >= 1000; i--) {
                if (i == 300000 - 1) {
                    assert_true(takes(m.machine, i % 3 == 0 ? "[])!" : "]", i % 3 == 0 ? 4 : 1));
                } else {
                    assert_false(takes(m.machine, i % 3 == 0 ? "]" : ")", 1));
                    assert_true(takes(m.machine, i % 3 == 0 ? ")!" : "]", i % 3 == 0 ? 2 : 1));
                }
            }
            end(&m);
            m = start("root ::= \"[\" root \"]\" | \"(\" root \")\" \"!\" | \"x\"", NULL);
        }
    }
    assert_false(mixt_machine_may_end(m.machine));
    assert_true(takes(m.machine, "x", 1));
    for (int i = 300000 - 1; i >= 0; i--) {
        assert_true(takes(m.machine, i % 3 == 0 ? ")!" : "]", i % 3 == 0 ? 2 : 1));
    }
    assert_true(mixt_machine_must_end(m.machine));
    assert_false(takes(m.machine, "x", 1));
    end(&m);
}

/* ---- masks */

static const char json_grammar[] =
    "root   ::= value\n"
    "value  ::= object | array | string | number | (\"true\" | \"false\" | \"null\") ws\n"
    "object ::= \"{\" ws ( string \":\" ws value (\",\" ws string \":\" ws value)* )? \"}\" ws\n"
    "array  ::= \"[\" ws ( value (\",\" ws value)* )? \"]\" ws\n"
    "string ::= \"\\\"\" ([^\"\\\\\\x7F\\x00-\\x1F] | \"\\\\\" ([\"\\\\/bfnrt] | \"u\" "
    "[0-9a-fA-F]{4}))* \"\\\"\" ws\n"
    "number ::= \"-\"? ([0-9] | [1-9] [0-9]{0,15}) (\".\" [0-9]+)? ([eE] [-+]? [0-9]+)? ws\n"
    "ws ::= | \" \" | \"\\n\" [ \\t]{0,20}\n";

static bool has_bit(const uint64_t *bits, int32_t id)
{
    return (bits[id / 64] >> (id % 64) & 1) != 0;
}

static size_t collect_ends(const mixt_tokenizer *tokenizer, int32_t *ends)
{
    size_t count = 0;
    for (int32_t id = 0; id < tokenizer->vocab_size; id++) {
        if (mixt_tokenizer_is_end(tokenizer, id) || id == tokenizer->separator) {
            ends[count++] = id;
        }
    }
    return count;
}

static mixt_machine_token token_of(const mixt_tokenizer *tokenizer, int32_t id)
{
    mixt_machine_token token = {
        .id = id,
        .is_end = mixt_tokenizer_is_end(tokenizer, id) || id == tokenizer->separator,
    };
    if (mixt_token_is_text(tokenizer, id)) {
        token.bytes = mixt_tokenizer_bytes_of(tokenizer, id, &token.length);
    }
    return token;
}

/* Behind each piece of `text`: the mask says of every token what a machine of its own says. */
static void check_masks(const mixt_tokenizer *tokenizer, const char *grammar, const char *text)
{
    int32_t ends[64];
    mixt_machine_vocabulary v = {.ends = ends, .vocab_size = tokenizer->vocab_size};
    text_machine m = start(grammar, tokenizer);
    mixt_error error = MIXT_ERROR_INIT;
    size_t bits_set = 0;
    v.end_count = collect_ends(tokenizer, ends);
    assert_int_equal(mixt_tokenizer_trie(tokenizer, &v.trie, &error), MIXT_OK);
    for (size_t at = 0; at <= strlen(text); at++) {
        const uint64_t *bits = NULL;
        text_machine other = start(grammar, tokenizer);
        assert_true(takes(other.machine, text, at));
        assert_int_equal(mixt_machine_mask(m.machine, &v, &bits, &error), MIXT_OK);
        for (int32_t id = 0; id < tokenizer->vocab_size; id++) {
            mixt_machine_token token = token_of(tokenizer, id);
            bool allowed = false;
            assert_int_equal(mixt_machine_token_accept(other.machine, &token, &allowed, &error),
                             MIXT_OK);
            if (allowed != has_bit(bits, id)) {
                fail_msg("token %d behind \"%.*s\"", id, (int)at, text);
            }
            if (allowed) {
                bits_set++;
                end(&other);
                other = start(grammar, tokenizer);
                assert_true(takes(other.machine, text, at));
            }
        }
        end(&other);
        if (text[at] != '\0') {
            assert_true(takes(m.machine, text + at, 1));
        }
    }
    assert_true(bits_set > strlen(text));
    end(&m);
}

static mixt_tokenizer *open_tokenizer(const char *path)
{
    mixt_tokenizer *tokenizer = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_tokenizer_open(path, &tokenizer, &error) != MIXT_OK) {
        fail_msg("%s", error.message);
    }
    return tokenizer;
}

static void masks_are_of_every_token(void **state)
{
    const char *const paths[] = {"tests/fixtures/tokenizer/small",
                                 "tests/fixtures/tokenizer/pieces/unigram-bytes.model",
                                 "tests/fixtures/tokenizer/pieces/llama.json"};
    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        mixt_tokenizer *tokenizer = open_tokenizer(paths[i]);
        check_masks(tokenizer, json_grammar, "{\"a\u00e9\": [1, -2.5e3], \"b\": {}}");
        check_masks(tokenizer, "root ::= [^x]* | \"yes\" | \"no\" (\" it is\" [.!]{1,3})?",
                    "no it is.");
        check_masks(tokenizer, "root ::= <[300]> \"a\"+ !<[301]> <[302]>* | !<[300]> !<[301]>", "");
        mixt_tokenizer_free(tokenizer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixtures_agree),      cmocka_unit_test(characters_are_utf8),
        cmocka_unit_test(layout_is_free),      cmocka_unit_test(bad_grammars_are_refused),
        cmocka_unit_test(reading_is_bounded),  cmocka_unit_test(ambiguity_is_bounded),
        cmocka_unit_test(nesting_may_be_deep), cmocka_unit_test(masks_are_of_every_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
