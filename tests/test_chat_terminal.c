/* mixt chat at a terminal: editing, history, completion, pastes, commands, and Ctrl-C anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "pty.h"
#include "scratch.h"

static int set_up(void **state)
{
    int status = shell_make(state);
    if (status == 0) {
        setenv("XDG_STATE_HOME", scratch, 1);
        setenv("HOME", scratch, 1); /* no ~/.editrc */
        shell_do(
            "mkdir text && for i in 1 2 3 4 5 6 7 8 9; do for j in 1 2 3 4; do "
            "echo \"User: hello $i there $j\"; echo \"Assistant: good day, friend $i$j\"; done "
            ">text/$i.txt; done; \"$MIXT\" train --data text --out run --steps 20 "
            "--vocab-size 300 --layers 2 --hidden-size 32 --heads 2 --kv-heads 1 --head-dim 16 "
            "--ffn-size 32 --experts 4 --window 32 --context-length 256 --batch-size 4 --warmup 2 "
            "--learning-rate 0.01 -t 1");
        shell_write("own.jinja", "{% for m in messages %}{{ m.content }} {% endfor %}");
    }
    return status;
}

#define PROMPT "\033[?2004h" /* the editor waits for a line */
#define CHAT shell_program, "chat", "-m", "run", "-t", "1", "--template", "own.jinja"

static terminal t;
static size_t at;

static void begin(const char *const *argv)
{
    open_terminal(&t, argv);
    at = wait_for(&t, 0, PROMPT);
}

/* Types it, and waits for the next prompt. */
static void enter(const char *keys)
{
    type_text(&t, keys);
    at = wait_for(&t, at, PROMPT);
}

static void leave(void)
{
    type_text(&t, "/exit\r");
    assert_int_equal(close_terminal(&t), 0);
}

/* The file of a conversation, as it was saved. */
static const char *saved(const char *name)
{
    static char text[2][SHELL_TEXT_MAX];
    static int turn;
    char *path = scratch_path(name);
    turn = !turn;
    read_text(path, text[turn], SHELL_TEXT_MAX);
    free(path);
    return text[turn];
}

/* A conversation of these lines, each with its Enter, and its file. */
static void talk(const char *const *argv, const char *const *lines, const char *name)
{
    char last[200];
    begin(argv);
    for (; *lines != NULL; lines++) {
        enter(*lines);
    }
    snprintf(last, sizeof last, "/save %s\r", name);
    enter(last);
    leave();
}

static const char *const greedy[] = {CHAT, "--temp", "0", "-n", "5", NULL};

static void keys_edit(void **state)
{
    (void)state;
    const char *const lines[] = {
        "lo\033[D\033[Dhe\033[Cl\r",                        /* arrows: he|lo, hel|o */
        "xx two\001\033[3~\033[3~\005 end\r",               /* Ctrl-A, Delete, Ctrl-E */
        "\346\227\245\346\234\254\350\252\236\033[D\177\r", /* of three wide characters the second
                                                             */
        "\303\244\303\266\303\274\002\002\177\r", /* Ctrl-B twice: of three umlauts the first */
        NULL};
    talk(greedy, lines, "edited.json");
    const char *text = saved("edited.json");
    assert_has(text, "\"content\": \"hello\"");
    assert_has(text, "\"content\": \" two end\"");
    assert_has(text, "\"content\": \"\346\227\245\350\252\236\"");
    assert_has(text, "\"content\": \"\303\266\303\274\"");
}

static void pastes_are_one_message(void **state)
{
    (void)state;
    const char *const lines[] = {"\033[200~one\rtwo\tx\033[31m\rthree\r\033[201~\r",
                                 "a \\\rb\r", /* joined by its backslash */
                                 " /exit\r",  /* no command */
                                 NULL};
    begin(greedy);
    enter(lines[0]);
    type_text(&t, "a \\\r");
    at = wait_for(&t, at, "... ");
    enter("b\r");
    enter(lines[2]);
    enter("/save pasted.json\r");
    leave();
    const char *text = saved("pasted.json");
    assert_has(text, "\"content\": \"one\\ntwo\\tx[31m\\nthree\"");
    assert_has(text, "\"content\": \"a \\nb\"");
    assert_has(text, "\"content\": \"/exit\"");
}

/* More than a screen, and longer than the terminal's own buffers. */
static void long_pastes_come_whole(void **state)
{
    static char keys[40000], wanted[40000];
    (void)state;
    const char *argv[] = {CHAT, "--temp", "0", "-n", "1", "-c", "30000", NULL};
    strcpy(keys, "\033[200~");
    for (int i = 0; i < 300; i++) {
        char line[60];
        snprintf(line, sizeof line, "this is line %d of a text\r", i);
        strcat(keys, line);
        line[strlen(line) - 1] = 0;
        strcat(wanted, line);
        strcat(wanted, i < 299 ? "\\n" : "");
    }
    strcat(keys, "\033[201~");
    begin(argv);
    for (size_t i = 0; i < strlen(keys); i += 1000) { /* it shows what comes, and we have to read */
        char part[1001];
        snprintf(part, sizeof part, "%.1000s", keys + i);
        type_text(&t, part);
    }
    at = wait_for(&t, at, "line 299 of a text");
    enter("\r");
    enter("/save long.json\r");
    leave();
    assert_has(saved("long.json"), wanted);
}

static void history_lasts(void **state)
{
    struct stat about;
    (void)state;
    shell_do("rm -rf mixt");
    const char *const first[] = {"hello\r", "\033[200~one\rtwo\033[201~\r", NULL};
    talk(greedy, first, "first.json");
    char *path = scratch_path("mixt/history");
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0600);
    free(path);
    const char *const second[] = {"\033[A\033[A\033[A\r", /* behind /exit and /save: both lines */
                                  "\033[A\033[A\033[A\033[A\033[A\r", NULL};
    talk(greedy, second, "second.json");
    assert_has(saved("second.json"), "\"content\": \"one\\ntwo\"");
    assert_has(saved("second.json"), "\"content\": \"hello\"");
    shell_do("cp mixt/history before");
    const char *hidden[] = {CHAT, "--temp", "0", "-n", "5", "--no-history", NULL};
    const char *const third[] = {"secret\r", "\033[A!\r", NULL};
    talk(hidden, third, "third.json");
    assert_has(saved("third.json"), "\"content\": \"secret!\""); /* within the run there is one */
    shell_do("cmp before mixt/history && ! grep -q secret mixt/history");
}

/* A file that is long is cut to its newest entries, and what is none is passed over. */
static void history_is_bounded(void **state)
{
    (void)state;
    shell_do(
        "mkdir -p mixt; { echo 'no entry'; for i in $(seq 1 2600); do echo \"\\\"line $i\\\"\"; "
        "done; } >mixt/history");
    begin(greedy);
    type_text(&t, "\033[A");
    at = wait_for(&t, at, "line 2600");
    type_text(&t, "\003");
    at = wait_for(&t, at, PROMPT);
    leave();
    shell_do("[ $(wc -l <mixt/history) = 1001 ] && grep -qx '\"line 1601\"' mixt/history && "
             "! grep -qx '\"line 1600\"' mixt/history; rm -rf mixt; mkdir mixt mixt/history");
    begin(greedy); /* it cannot be read: said once, and all else goes on */
    assert_non_null(strstr(t.text, "note: the history "));
    enter("hello\r");
    leave();
    shell_do("rm -rf mixt");
}

static void words_are_completed(void **state)
{
    (void)state;
    shell_do("mkdir -p kept; rm -rf kept/*; ln -s ../run kept/folder");
    begin(greedy);
    enter("hello\r");
    enter("/sa\tkept/one.json\r");
    enter("/save kept/other.json\r");
    type_text(&t, "/load kept/o\t\t"); /* two files */
    at = wait_for(&t, at, "one.json  other.json");
    enter("ne\t\r");
    assert_non_null(strstr(t.text, "kept/one.json: 2 messages read"));
    type_text(&t, "/\t");
    at = wait_for(&t, at, "/undo");
    enter("und\t\r");
    enter("a\tb\r"); /* elsewhere a tab is a tab */
    enter("/save kept/tab.json\r");
    leave();
    assert_has(saved("kept/tab.json"), "\"content\": \"a\\tb\"");
    assert_lacks(saved("kept/tab.json"), "\"content\": \"hello\"");
}

static void commands_are_known(void **state)
{
    (void)state;
    begin(greedy);
    type_text(&t, "/sav x\r");
    at = wait_for(&t, at, "/sav: no such command; is it /save?");
    type_text(&t, "/save\r");
    at = wait_for(&t, at, "/save FILE: it is needed");
    type_text(&t, "/undo it\r");
    at = wait_for(&t, at, "/undo takes nothing behind it");
    type_text(&t, "/undo\r");
    at = wait_for(&t, at, "there is no turn yet");
    type_text(&t, "/regen\r");
    at = wait_for(&t, at, "there is no turn yet");
    type_text(&t, "/route\r");
    at = wait_for(&t, at, "there is no answer yet");
    type_text(&t, "/system\r");
    at = wait_for(&t, at, "the system says nothing");
    type_text(&t, "/load nothing.json\r");
    at = wait_for(&t, at, "nothing.json: ");
    type_text(&t, "/help\r");
    at = wait_for(&t, at, "/regen");
    at = wait_for(&t, at, PROMPT);
    leave();
}

/* What a fresh conversation of these messages gives, bit for bit. */
static void regen_and_undo_are_fresh(void **state)
{
    (void)state;
    const char *const plain[] = {"hello 1\r", "there 2\r", NULL};
    const char *const undone[] = {"hello 1\r", "other 3\r", "/undo\r", "there 2\r", NULL};
    const char *const again[] = {"hello 1\r", "there 2\r", "/regen\r", NULL};
    const char *const cleared[] = {"what 7\r", "/clear\r", "hello 1\r", "there 2\r", NULL};
    talk(greedy, plain, "plain.json");
    talk(greedy, undone, "undone.json");
    talk(greedy, again, "again.json");
    talk(greedy, cleared, "cleared.json");
    shell_do("cmp plain.json undone.json && cmp plain.json again.json && "
             "cmp plain.json cleared.json && [ $(grep -c role plain.json) = 4 ]");
    const char *seven[] = {CHAT, "--temp", "1.5", "-n", "9", "-s", "7", NULL};
    const char *eight[] = {CHAT, "--temp", "1.5", "-n", "9", "-s", "8", NULL};
    const char *const once[] = {"hello 1\r", NULL};
    const char *const twice[] = {"hello 1\r", "/regen\r", NULL};
    talk(seven, once, "seven.json");
    talk(seven, twice, "regen.json");
    assert_non_null(strstr(t.text, "the seed is 8 now"));
    talk(eight, once, "eight.json");
    shell_do("cmp regen.json eight.json && ! cmp -s seven.json eight.json");
}

static void files_go_on(void **state)
{
    (void)state;
    const char *const half[] = {"/system Be kind\r", "hello 1\r", NULL};
    const char *const whole[] = {"/system Be kind\r", "hello 1\r", "there 2\r", NULL};
    const char *const rest[] = {"/load half.json\r", "there 2\r", NULL};
    const char *asked[] = {CHAT, "--temp", "0", "-n", "5", "--system", "Be kind", NULL};
    talk(greedy, half, "half.json");
    talk(greedy, whole, "whole.json");
    talk(greedy, rest, "rest.json");
    talk(asked, whole + 1, "asked.json");
    shell_do("cmp whole.json rest.json && cmp whole.json asked.json");
    const char *drawn[] = {CHAT, "--temp", "1.5", "-n", "9", "-s", "7", NULL};
    talk(drawn, half, "half.json"); /* the same draws too */
    talk(drawn, whole, "whole.json");
    talk(drawn, rest, "rest.json");
    shell_do("cmp whole.json rest.json && ! cmp -s whole.json asked.json");
    assert_has(saved("whole.json"), "{\n  \"messages\": [\n");
    assert_has(saved("whole.json"), "\"role\": \"system\"");
    shell_write("parts.json", "[{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": "
                              "\"hello\"}, {\"type\": \"text\", \"text\": \" 1\"}]}]");
    const char *const open[] = {"/load parts.json\r", "/regen\r", NULL};
    const char *const said[] = {"hello 1\r", NULL};
    talk(greedy, open, "open.json");
    talk(greedy, said, "said.json");
    shell_do("cmp open.json said.json");
    static const char *const bad[][2] = {
        {"{\"messages\": 3}", "bad.json: no list of messages"},
        {"[]", "bad.json: no list of messages"},
        {"[{\"role\": \"user\"}]", "message 1: content must be a text or a list of texts"},
        {"[{\"content\": \"x\"}]", "message 1: it has no role"},
        {"[{\"role\": \"user\", \"content\": \"x\", \"tool_calls\": []}]",
         "\"tool_calls\" is not kept by mixt chat"},
        {"[{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]", "a list of texts"},
        {"[{\"role\": \"user\", \"content\": \"a", "bad.json: line 1: "},
    };
    begin(greedy);
    enter("hello 1\r");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        shell_write("bad.json", bad[i][0]);
        type_text(&t, "/load bad.json\r");
        at = wait_for(&t, at, bad[i][1]);
    }
    enter("/save kept.json\r"); /* what was there is there */
    leave();
    shell_do("cmp kept.json said.json");
}

static void routes_are_shown(void **state)
{
    double share[4], repeated = -1;
    int layer = -1;
    const char *forced[] = {CHAT, "--temp", "0", "-n", "12", "--force-experts", "1", NULL};
    (void)state;
    begin(forced);
    enter("hello 1\r");
    size_t from = at;
    enter("/route\r");
    leave();
    const char *table = strstr(t.text + from, "experts of the last answer: 12 tokens");
    assert_non_null(table);
    assert_non_null(strstr(table, "at random 25.0 +- "));
    const char *row = strstr(table, "layer  repeated");
    assert_non_null(row);
    for (int i = 0; i < 2; i++) {
        row = strchr(row, '\n') + 1;
        assert_int_equal(sscanf(row, "%d %lf %% %lf %lf %lf %lf", &layer, &repeated, &share[0],
                                &share[1], &share[2], &share[3]),
                         6);
        assert_int_equal(layer, i);
        assert_true(repeated == 100); /* it is every token's first choice */
        assert_true(share[1] == 50);  /* one of two choices */
        double sum = share[0] + share[2] + share[3];
        assert_true(sum > 49.7 && sum < 50.3);
    }
}

static void interrupts_stop_what_runs(void **state)
{
    (void)state;
    const char *argv[] = {CHAT, "--temp", "0", "-c", "120000", "-v", NULL};
    shell_do("{ printf '[{\"role\": \"user\", \"content\": \"'; head -c 100000 /dev/zero | "
             "tr '\\0' 'a'; printf '\"}]'; } >long.json");
    begin(argv);
    enter("/load long.json\r");
    type_text(&t, "/regen\r"); /* a prompt that takes long */
    at = wait_for(&t, at, "\n");
    usleep(300000);
    type_text(&t, "\003\003\003");
    at = wait_for(&t, at, "stopped before there was an answer");
    at = wait_for(&t, at, PROMPT);
    enter("/undo\r");
    type_text(&t, "hello 1\r"); /* an answer without end */
    at = wait_for(&t, at, "\n");
    usleep(300000);
    type_text(&t, "\003");
    at = wait_for(&t, at, "generated: ");
    at = wait_for(&t, at, PROMPT);
    type_text(&t, "half a line");
    at = wait_for(&t, at, "half a line"); /* Ctrl-C makes the terminal forget what was not read */
    type_text(&t, "\003");
    at = wait_for(&t, at, PROMPT);
    type_text(&t, "\003");
    at = wait_for(&t, at, "/exit or Ctrl-D leaves, or Ctrl-C once more");
    at = wait_for(&t, at, PROMPT);
    type_text(&t, "xyz"); /* not the second in a row */
    at = wait_for(&t, at, "xyz");
    type_text(&t, "\003");
    at = wait_for(&t, at, PROMPT);
    type_text(&t, "\003");
    at = wait_for(&t, at, "or Ctrl-C once more");
    at = wait_for(&t, at, PROMPT);
    type_text(&t, "\003");
    assert_int_equal(close_terminal(&t), 0);
}

/* Where standard input or error is no terminal, lines are read as they come. */
static void pipes_have_no_editor(void **state)
{
    (void)state;
    shell_do(
        "rm -rf mixt; printf 'hello 1\\nthere 2\\n' | \"$MIXT\" chat -m run -t 1 --temp 0 -n 5 "
        "--template own.jinja");
    assert_null(strchr(shell_out, '\033'));
    assert_null(strchr(shell_err, '\033'));
    shell_do("[ ! -e mixt ]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_edit),
        cmocka_unit_test(pastes_are_one_message),
        cmocka_unit_test(long_pastes_come_whole),
        cmocka_unit_test(history_lasts),
        cmocka_unit_test(history_is_bounded),
        cmocka_unit_test(words_are_completed),
        cmocka_unit_test(commands_are_known),
        cmocka_unit_test(regen_and_undo_are_fresh),
        cmocka_unit_test(files_go_on),
        cmocka_unit_test(routes_are_shown),
        cmocka_unit_test(interrupts_stop_what_runs),
        cmocka_unit_test(pipes_have_no_editor),
    };
    return cmocka_run_group_tests_name("chat_terminal", tests, set_up, scratch_remove);
}
