/* mixt chat as a person or a script meets it: turns from standard input and at a terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "mixt.h"
#include "pty.h"
#include "scratch.h"
#include "shell.h"

static int set_up(void **state)
{
    int status = shell_make(state);
    setenv("XDG_STATE_HOME", scratch, 1); /* where the history is */
    if (status == 0) {
        shell_do(
            "mkdir text && for i in 1 2 3 4 5 6 7 8 9; do for j in 1 2 3 4; do "
            "echo \"User: hello $i there $j\"; echo \"Assistant: good day, friend $i$j\"; done "
            ">text/$i.txt; done; \"$MIXT\" train --data text --out run --steps 20 "
            "--vocab-size 300 --layers 2 --hidden-size 32 --heads 2 --kv-heads 1 --head-dim 16 "
            "--ffn-size 32 --experts 4 --window 32 --context-length 256 --batch-size 4 --warmup 2 "
            "--learning-rate 0.01 -t 1");
    }
    return status;
}

#define CHAT "\"$MIXT\" chat -m run -t 1 --temp 0 "

/* ---- standard input that is no terminal */

static void lines_are_turns(void **state)
{
    (void)state;
    assert_int_equal(shell("printf 'hello\\n\\nhello \\\\\\nthere\\n' | " CHAT
                           "-n 6 --template chatml --verbose"),
                     0);
    assert_true(shell_out[0] != 0 && shell_out[strlen(shell_out) - 1] == '\n');
    assert_null(strchr(shell_out, '>'));
    const char *first = strstr(shell_err, "generated: ");
    assert_non_null(first);
    assert_non_null(strstr(first + 1, "generated: ")); /* two answers, and no third */
    assert_null(strstr(strstr(first + 1, "generated: ") + 1, "generated: "));
    assert_int_equal(shell(CHAT "--template chatml </dev/null"), 0);
    assert_string_equal(shell_out, "");
}

/* The text of an answer as a JSON string holds it. */
static void quote(const char *text, char *to)
{
    for (; *text != 0; text++) {
        if (*text == '"' || *text == '\\') {
            *to++ = '\\';
        }
        if (*text == '\n') {
            *to++ = '\\';
            *to++ = 'n';
        } else {
            *to++ = *text;
        }
    }
    *to = 0;
}

/* The cache holds the turns before: a second answer is the one that a fresh session gives to the
 * whole conversation, and only what is new is computed for it. */
static void cache_is_kept_between_turns(void **state)
{
    static char whole[SHELL_TEXT_MAX], variables[2 * SHELL_TEXT_MAX + 400],
        quoted[2 * SHELL_TEXT_MAX];
    size_t fed = 0, again = 0;
    (void)state;
    assert_int_equal(shell("echo hello | " CHAT "-n 9 --template chatml --system Kind"), 0);
    assert_true(strlen(shell_out) > 1);
    shell_out[strlen(shell_out) - 1] = 0;
    quote(shell_out, quoted);
    size_t answer = strlen(shell_out);
    snprintf(variables, sizeof variables,
             "{\"messages\": [{\"role\": \"system\", \"content\": \"Kind\"}, {\"role\": \"user\", "
             "\"content\": \"hello\"}, {\"role\": \"assistant\", \"content\": \"%s\"}, {\"role\": "
             "\"user\", \"content\": \"there\"}]}",
             quoted);
    assert_int_equal(
        shell("printf 'hello\\nthere\\n' | " CHAT "-n 9 --template chatml --system Kind --verbose"),
        0);
    strcpy(whole, shell_out + answer + 1);
    const char *second = strstr(strstr(shell_err, "prompt: ") + 1, "prompt: ");
    assert_non_null(second);
    assert_int_equal(sscanf(second, "prompt: %zu", &fed), 1);
    shell_write("variables", variables);
    assert_int_equal(shell("echo x | " CHAT "-n 9 --template chatml --verbose --variables "
                           "\"$(cat variables)\""),
                     0);
    assert_string_equal(shell_out, whole);
    assert_int_equal(sscanf(shell_err, "prompt: %zu", &again), 1);
    assert_true(fed < again - 20);
}

static void templates_are_found(void **state)
{
    (void)state;
    shell_write("own.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}");
    assert_int_equal(shell("echo hello | " CHAT "-n 2 --template own.jinja"), 0);
    assert_int_equal(shell("echo hello | " CHAT "-n 2"), 0); /* the family's */
    assert_has(shell_err, "the model has no chat template: taking the built-in one");
    shell_write("bad.jinja", "a\n{% include 'b' %}");
    assert_int_equal(shell("echo hello | " CHAT "-n 2 --template bad.jinja"), 2);
    assert_has(shell_err, "mixt chat: bad.jinja: line 2: {% include %} is not supported");
    assert_string_equal(shell_out, "");
    assert_int_equal(shell("echo hello | " CHAT "-n 2 --template nosuch"), 2);
    assert_has(shell_err, "nosuch: no built-in template, and as a file: No such file");
    assert_int_equal(shell("echo hello | " CHAT "--variables [1] --template chatml"), 2);
    assert_has(shell_err, "chat variables");
    assert_int_equal(shell("\"$MIXT\" chat </dev/null"), 2);
    assert_has(shell_err, "--model: needed");
}

/* Every built-in template renders, and the help names it. */
static void help_names_the_templates(void **state)
{
    char line[300];
    (void)state;
    for (int i = 0; mixt_chat_builtin_name(i) != NULL; i++) {
        snprintf(line, sizeof line, "printf 'a\\nb\\n' | " CHAT "-n 1 -c 2000 --template %s",
                 mixt_chat_builtin_name(i));
        assert_int_equal(shell(line), 0);
        assert_int_equal(shell("\"$MIXT\" help chat | tr -d '\\n' | tr -s ' '"), 0);
        assert_has(shell_out, mixt_chat_builtin_name(i));
    }
}

static void full_context_is_said(void **state)
{
    (void)state;
    assert_int_equal(shell("echo hello | " CHAT "-c 64 --template own.jinja"), 0);
    if (strstr(shell_err, "is full") == NULL) { /* the model may end its answer before */
        assert_true(strlen(shell_out) > 0);
    }
    assert_int_equal(shell("head -c 4000 /dev/zero | tr '\\0' a | " CHAT "--template chatml"), 2);
    assert_has(shell_err, "tokens do not fit into a context of 256");
    assert_has(shell_err, "the context of 256 tokens is full: /reset begins anew");
}

/* ---- a terminal */

static void talk_at_a_terminal(void **state)
{
    static terminal t;
    const char *argv[] = {shell_program, "chat", "-m", "run", "-t",         "1",      "--temp",
                          "0",           "-n",   "4",  "-v",  "--template", "chatml", NULL};
    (void)state;
    open_terminal(&t, argv);
    size_t at = wait_for(&t, 0, "> ");
    type_text(&t, "hello\n");
    at = wait_for(&t, at, "generated: ");
    at = wait_for(&t, at, "> ");
    type_text(&t, "more \\\n");
    at = wait_for(&t, at, "... ");
    type_text(&t, "lines\n");
    at = wait_for(&t, at, "generated: ");
    type_text(&t, "/reset\n");
    at = wait_for(&t, at, "the conversation begins anew");
    type_text(&t, "/bogus\n");
    at = wait_for(&t, at, "/bogus: no such command; /help lists them");
    at = wait_for(&t, at, "> ");
    type_text(&t, "\003"); /* Ctrl-C where a line is awaited */
    at = wait_for(&t, at, "/exit or Ctrl-D leaves");
    wait_for(&t, at, "> ");
    type_text(&t, "/exit\n");
    assert_int_equal(close_terminal(&t), 0);
}

static void interrupt_stops_the_answer_alone(void **state)
{
    static terminal t;
    const char *argv[] = {shell_program, "chat",       "-m",        "run", "-t",
                          "1",           "--temp",     "0",         "-c",  "20000",
                          "-v",          "--template", "own.jinja", NULL};
    (void)state;
    shell_write("own.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}");
    open_terminal(&t, argv);
    size_t at = wait_for(&t, 0, "> ");
    type_text(&t, "hello\n");
    at = wait_for(&t, at, "\n");
    usleep(200000); /* into the answer, whose end is far away */
    type_text(&t, "\003");
    at = wait_for(&t, at, "generated: ");
    at = wait_for(&t, at, "> ");
    assert_null(strstr(t.text, "is full"));
    type_text(&t, "/exit\n");
    assert_int_equal(close_terminal(&t), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_turns),
        cmocka_unit_test(cache_is_kept_between_turns),
        cmocka_unit_test(templates_are_found),
        cmocka_unit_test(help_names_the_templates),
        cmocka_unit_test(full_context_is_said),
        cmocka_unit_test(talk_at_a_terminal),
        cmocka_unit_test(interrupt_stops_the_answer_alone),
    };
    return cmocka_run_group_tests_name("chat", tests, set_up, scratch_remove);
}
