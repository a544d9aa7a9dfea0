/* The options of sampling as mixt run and mixt chat have them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "scratch.h"
#include "shell.h"

#define RUN "\"$MIXT\" run -m run -p int -q -t 1 --hide-prompt "

#define LETTERS RUN "-n 60 -s 5 --grammar 'root ::= [a-z]{40}' "

static int set_up(void **state)
{
    int status = shell_make(state);
    if (status == 0) {
        shell_train();
    }
    return status;
}

static void expect(const char *arguments, const char *text)
{
    char line[600];
    snprintf(line, sizeof line, RUN "%s", arguments);
    shell_do(line);
    assert_string_equal(shell_out, text);
}

static void grammars_hold(void **state)
{
    (void)state;
    expect("-n 50 --grammar 'root ::= \"yes!\"'", "yes!\n");
    shell_write("list.gbnf", "# two\nroot ::= item item\nitem ::= \"- \" [a-c]{3} \"\\n\"\n");
    shell_do("for s in 1 2 3; do " RUN "-n 50 -s $s --grammar-file list.gbnf; done");
    assert_int_equal(strlen(shell_out), 3 * (2 * 6 + 1));
    shell_do("for s in 1 2 3; do " RUN "-n 50 -s $s --grammar-file list.gbnf; done | grep -c "
             "'^- [abc][abc][abc]$'");
    assert_string_equal(shell_out, "6\n");
    expect("-n 2 --temp 0 --grammar 'root ::= \"b\"{5}'", "bb\n"); /* cut by -n */
    shell_refuses(RUN "-n 5 --grammar 'root ::= (\"a\" | b)'",
                  "grammar: line 1, column 17: the rule b is not defined");
    shell_refuses(RUN "-n 5 --grammar x --json-schema '{}'", "exclude each other");
    shell_refuses(RUN "-n 5 --grammar-file nowhere", "nowhere");
}

static void schemas_hold(void **state)
{
    json_error_t error;
    (void)state;
    shell_write("schema.json",
                "{\"type\": \"object\", \"properties\": {\"name\": {\"type\": \"string\", "
                "\"maxLength\": 5}, \"n\": {\"type\": \"integer\", \"minimum\": 3, \"maximum\": "
                "42}}, \"required\": [\"name\", \"n\"], \"additionalProperties\": false}");
    for (int seed = 1; seed < 6; seed++) {
        char line[300];
        snprintf(line, sizeof line, RUN "-n 200 -s %d -jf schema.json", seed);
        shell_do(line);
        json_t *value = json_loads(shell_out, 0, &error);
        if (value == NULL) {
            fail_msg("%s: %s", shell_out, error.text);
        }
        json_int_t n = json_integer_value(json_object_get(value, "n"));
        assert_true(n >= 3 && n <= 42 && json_object_size(value) == 2);
        assert_true(json_is_string(json_object_get(value, "name")));
        json_decref(value);
    }
    expect("-n 50 -j '{\"const\": [1, \"x\"]}'", "[1,\"x\"]\n");
    shell_refuses(RUN "-n 5 -j '{\"items\": {\"not\": {}}}'",
                  "schema: #/items: not cannot be held by a grammar");
    shell_refuses(RUN "-n 5 -j '{'", "schema: no JSON");
}

/* The text before the stop, wherever the stop lies in tokens. */
static void stop_strings_end_the_text(void **state)
{
    (void)state;
    shell_do("text=$(" LETTERS "); test ${#text} -eq 40; for at in 5 9 14 20; do "
             "stop=\"${text:$at:3}\"; cut=$(" LETTERS "-r zzzz \"$stop\"); "
             "test \"$cut\" = \"${text%%\"$stop\"*}\"; done");
    shell_refuses(RUN "-n 5 -r ''", "--reverse-prompt: the value is empty");
    shell_do("text=$(" LETTERS "); test \"$(" LETTERS "-r \"$text?\")\" = \"$text\"");
    /* what was held back comes at the end */
}

static void biases_and_the_end(void **state)
{
    (void)state;
    /* id 65 is the byte "b" in the tokenizers of mixt train, 256 the end */
    expect("-n 3 --temp 0 -l 65+1000", "bbb\n");
    expect("-n 3 --temp 0 -l 65+1000 66+2000", "ccc\n");
    expect("-n 3 --temp 0 -l 65+1000 -l 66+2000 66-inf", "bbb\n");
    expect("-n 9 --temp 0 -l 256+2000 65+1000", "\n");
    expect("-n 3 --temp 0 -l 256+2000 65+1000 --ignore-eos", "bbb\n");
    shell_refuses(RUN "-n 3 -l 65", "--logit-bias: \"65\" is not ID+X or ID-X");
    shell_refuses(RUN "-n 3 -l 65+-3", "is not ID+X or ID-X");
    shell_refuses(RUN "-n 3 -l 65+inf", "is not ID+X or ID-X");
    shell_refuses(RUN "-n 3 -l 100000+1", "logit bias: token 100000 is not one of the model's");
}

static void samplers_do_what_they_are_for(void **state)
{
    (void)state;
    shell_do("greedy=$(" RUN "-n 40 --temp 0); seven=$(" RUN "-n 40 -s 7); "
             "test \"$(" RUN "-n 40 -s 7)\" = \"$seven\"; test \"$greedy\" != \"$seven\"; "
             /* those that leave one token */
             "for o in '--typical 0 --top-k 1' '--top-nsigma 0.0000001' '--top-p 0' "
             "'--mirostat 2 --mirostat-ent 0' '--dynatemp-range 0.01 --top-k 1' "
             "'--samplers top_k;typ_p --top-k 1' '--sampler-seq k --top-k 1'; do "
             "test \"$(" RUN "-n 40 -s 7 $o)\" = \"$greedy\"; done; "
             /* those that leave the best one out, or penalize it */
             "for o in '--xtc-probability 1 --xtc-threshold 0.00001' '--dry-multiplier 100 "
             "--dry-allowed-length 0 --dry-sequence-breaker none' '--repeat-penalty 900 "
             "--repeat-last-n -1'; do test \"$(" RUN "-n 40 --temp 0 $o)\" != \"$greedy\"; done");
    /* an order by names and by letters; min-keep undoes what top-p does */
    shell_do("test \"$(" RUN "-n 40 -s 3 --samplers 'temperature;min_p')\" = \"$(" RUN
             "-n 40 -s 3 --sampler-seq tm)\"; "
             "test \"$(" RUN "-n 40 -s 3 --top-p 0 --min-p 0 --min-keep 40)\" = \"$(" RUN
             "-n 40 -s 3 --top-p 1 --min-p 0)\"");
    shell_refuses(RUN "-n 3 --samplers 'top_k;best'", "samplers: \"best\" is none of");
    shell_refuses(RUN "-n 3 --sampler-seq kz", "--sampler-seq: z is none of edskypmxt");
    shell_refuses(RUN "-n 3 --sampler-seq k --samplers top_k", "exclude each other");
    shell_refuses(RUN "-n 3 --mirostat 3", "--mirostat: 3 is not in 0..2");
    shell_refuses(RUN "-n 3 --dry-base 0.5", "--dry-base: 0.5 is not in 1..");
}

/* Every answer begins its grammar anew and is kept without what stopped it. */
static void chats_have_them_too(void **state)
{
    (void)state;
    shell_do("printf 'a\\nb\\n' | \"$MIXT\" chat -m run -t 1 --template chatml -n 30 -c 256 "
             "--grammar 'root ::= \"yes, \" [x-z]{2} \".\"' -r ,");
    assert_string_equal(shell_out, "yes\nyes\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grammars_hold),
        cmocka_unit_test(schemas_hold),
        cmocka_unit_test(stop_strings_end_the_text),
        cmocka_unit_test(biases_and_the_end),
        cmocka_unit_test(samplers_do_what_they_are_for),
        cmocka_unit_test(chats_have_them_too),
    };
    return cmocka_run_group_tests_name("sampling_flags", tests, set_up, scratch_remove);
}
