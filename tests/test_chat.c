/* mixt chat as a person or a script meets it: turns from standard input and at a terminal. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#include "build_folder.h"
#include "mixt.h"

enum { TEXT_MAX = 1 << 16, SECONDS_MAX = 60 };

static char folder[] = "/tmp/mixt-chat-XXXXXX";
static char program[4200];
static char out[TEXT_MAX], err[TEXT_MAX];

static void read_file(const char *name, char *text)
{
    char path[4300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    text[fread(text, 1, TEXT_MAX - 1, file)] = 0;
    fclose(file);
}

static void write_file(const char *name, const char *text)
{
    char path[4300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* Runs a shell line in the test's folder, where $MIXT is the program; gives its exit status. */
static int shell(const char *line)
{
    char command[8192];
    snprintf(command, sizeof command, "cd %s && { %s\n} >out 2>err", folder, line);
    int status = system(command);
    read_file("out", out);
    read_file("err", err);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        fail_msg("\"%s\" is not in: %.2000s", part, text);
    }
}

static int set_up(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL || !find_build(program, sizeof program - 100)) {
        return -1;
    }
    strcat(program, "/mixt");
    setenv("MIXT", program, 1);
    unsetenv("MIXT_CPU");
    int status = shell(
        "mkdir text && for i in 1 2 3 4 5 6 7 8 9; do for j in 1 2 3 4; do "
        "echo \"User: hello $i there $j\"; echo \"Assistant: good day, friend $i$j\"; done "
        ">text/$i.txt; done; \"$MIXT\" train --data text --out run --steps 20 --vocab-size 300 "
        "--layers 2 --hidden-size 32 --heads 2 --kv-heads 1 --head-dim 16 --ffn-size 32 "
        "--experts 4 --window 32 --context-length 256 --batch-size 4 --warmup 2 "
        "--learning-rate 0.01 -t 1");
    if (status != 0) {
        fprintf(stderr, "%s\n", err);
    }
    return status;
}

static int tear_down(void **state)
{
    char command[4300];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

#define CHAT "\"$MIXT\" chat -m run -t 1 --temp 0 "

/* ---- standard input that is no terminal */

static void lines_are_turns(void **state)
{
    (void)state;
    assert_int_equal(shell("printf 'hello\\n\\nhello \\\\\\nthere\\n' | " CHAT
                           "-n 6 --template chatml --verbose"),
                     0);
    assert_true(out[0] != 0 && out[strlen(out) - 1] == '\n');
    assert_null(strchr(out, '>'));
    const char *first = strstr(err, "generated: ");
    assert_non_null(first);
    assert_non_null(strstr(first + 1, "generated: ")); /* two answers, and no third */
    assert_null(strstr(strstr(first + 1, "generated: ") + 1, "generated: "));
    assert_int_equal(shell(CHAT "--template chatml </dev/null"), 0);
    assert_string_equal(out, "");
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
    static char whole[TEXT_MAX], variables[2 * TEXT_MAX], quoted[TEXT_MAX];
    size_t fed = 0, again = 0;
    (void)state;
    assert_int_equal(shell("echo hello | " CHAT "-n 9 --template chatml --system Kind"), 0);
    assert_true(strlen(out) > 1);
    out[strlen(out) - 1] = 0;
    quote(out, quoted);
    size_t answer = strlen(out);
    snprintf(variables, sizeof variables,
             "{\"messages\": [{\"role\": \"system\", \"content\": \"Kind\"}, {\"role\": \"user\", "
             "\"content\": \"hello\"}, {\"role\": \"assistant\", \"content\": \"%s\"}, {\"role\": "
             "\"user\", \"content\": \"there\"}]}",
             quoted);
    assert_int_equal(
        shell("printf 'hello\\nthere\\n' | " CHAT "-n 9 --template chatml --system Kind --verbose"),
        0);
    strcpy(whole, out + answer + 1);
    const char *second = strstr(strstr(err, "prompt: ") + 1, "prompt: ");
    assert_non_null(second);
    assert_int_equal(sscanf(second, "prompt: %zu", &fed), 1);
    write_file("variables", variables);
    assert_int_equal(shell("echo x | " CHAT "-n 9 --template chatml --verbose --variables "
                           "\"$(cat variables)\""),
                     0);
    assert_string_equal(out, whole);
    assert_int_equal(sscanf(err, "prompt: %zu", &again), 1);
    assert_true(fed < again - 20);
}

static void templates_are_found(void **state)
{
    (void)state;
    write_file("own.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}");
    assert_int_equal(shell("echo hello | " CHAT "-n 2 --template own.jinja"), 0);
    assert_int_equal(shell("echo hello | " CHAT "-n 2"), 0); /* the family's */
    assert_has(err, "the model has no chat template: taking the built-in one");
    write_file("bad.jinja", "a\n{% include 'b' %}");
    assert_int_equal(shell("echo hello | " CHAT "-n 2 --template bad.jinja"), 2);
    assert_has(err, "mixt chat: bad.jinja: line 2: {% include %} is not supported");
    assert_string_equal(out, "");
    assert_int_equal(shell("echo hello | " CHAT "-n 2 --template nosuch"), 2);
    assert_has(err, "nosuch: no built-in template, and as a file: No such file");
    assert_int_equal(shell("echo hello | " CHAT "--variables [1] --template chatml"), 2);
    assert_has(err, "chat variables");
    assert_int_equal(shell("\"$MIXT\" chat </dev/null"), 2);
    assert_has(err, "--model: needed");
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
        assert_has(out, mixt_chat_builtin_name(i));
    }
}

static void full_context_is_said(void **state)
{
    (void)state;
    assert_int_equal(shell("echo hello | " CHAT "-c 64 --template own.jinja"), 0);
    if (strstr(err, "is full") == NULL) { /* the model may end its answer before */
        assert_true(strlen(out) > 0);
    }
    assert_int_equal(shell("head -c 4000 /dev/zero | tr '\\0' a | " CHAT "--template chatml"), 2);
    assert_has(err, "tokens do not fit into a context of 256");
    assert_has(err, "the context of 256 tokens is full: /reset begins anew");
}

/* ---- a terminal */

typedef struct terminal {
    int master;
    pid_t child;
    char text[TEXT_MAX]; /* what came so far */
    size_t length;
} terminal;

static void open_terminal(terminal *t, const char *const *argv)
{
    char name[200];
    memset(t, 0, sizeof *t);
    t->master = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    int number = 0, unlock = 0;
    assert_true(t->master >= 0 && ioctl(t->master, TIOCGPTN, &number) == 0 &&
                ioctl(t->master, TIOCSPTLCK, &unlock) == 0);
    snprintf(name, sizeof name, "/dev/pts/%d", number);
    t->child = fork();
    assert_true(t->child >= 0);
    if (t->child == 0) {
        alarm(SECONDS_MAX);
        setsid();
        int slave = open(name, O_RDWR); /* becomes the controlling terminal */
        if (slave < 0 || dup2(slave, 0) < 0 || dup2(slave, 1) < 0 || dup2(slave, 2) < 0 ||
            chdir(folder) != 0) {
            _exit(126);
        }
        execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
}

/* Reads until `part` came behind byte `from`; gives the place behind it. */
static size_t wait_for(terminal *t, size_t from, const char *part)
{
    for (;;) {
        const char *found = strstr(t->text + from, part);
        if (found != NULL) {
            return (size_t)(found - t->text) + strlen(part);
        }
        struct pollfd ready = {.fd = t->master, .events = POLLIN};
        ssize_t got = 0;
        if (poll(&ready, 1, SECONDS_MAX * 1000) == 1) {
            got = read(t->master, t->text + t->length, sizeof t->text - 1 - t->length);
        }
        if (got <= 0) {
            fail_msg("\"%s\" did not come behind: %s", part, t->text + from);
        }
        t->length += (size_t)got;
        t->text[t->length] = 0;
    }
}

static void type(terminal *t, const char *text)
{
    assert_int_equal(write(t->master, text, strlen(text)), (ssize_t)strlen(text));
}

static int close_terminal(terminal *t)
{
    int status = 0;
    while (read(t->master, t->text, sizeof t->text) > 0) { /* until the child is gone */
    }
    while (waitpid(t->child, &status, 0) < 0) {
        assert_int_equal(errno, EINTR);
    }
    close(t->master);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void talk_at_a_terminal(void **state)
{
    static terminal t;
    const char *argv[] = {program, "chat", "-m", "run", "-t",         "1",      "--temp",
                          "0",     "-n",   "4",  "-v",  "--template", "chatml", NULL};
    (void)state;
    open_terminal(&t, argv);
    size_t at = wait_for(&t, 0, "> ");
    type(&t, "hello\n");
    at = wait_for(&t, at, "generated: ");
    at = wait_for(&t, at, "> ");
    type(&t, "more \\\n");
    at = wait_for(&t, at, "... ");
    type(&t, "lines\n");
    at = wait_for(&t, at, "generated: ");
    type(&t, "/reset\n");
    at = wait_for(&t, at, "the conversation begins anew");
    type(&t, "/bogus\n");
    at = wait_for(&t, at, "no such command; /exit leaves");
    at = wait_for(&t, at, "> ");
    type(&t, "\003"); /* Ctrl-C where a line is awaited */
    at = wait_for(&t, at, "/exit or Ctrl-D leaves");
    wait_for(&t, at, "> ");
    type(&t, "/exit\n");
    assert_int_equal(close_terminal(&t), 0);
}

static void interrupt_stops_the_answer_alone(void **state)
{
    static terminal t;
    const char *argv[] = {program, "chat", "-m",    "run", "-t",         "1",         "--temp",
                          "0",     "-c",   "20000", "-v",  "--template", "own.jinja", NULL};
    (void)state;
    write_file("own.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}");
    open_terminal(&t, argv);
    size_t at = wait_for(&t, 0, "> ");
    type(&t, "hello\n");
    at = wait_for(&t, at, "\n");
    usleep(200000); /* into the answer, whose end is far away */
    type(&t, "\003");
    at = wait_for(&t, at, "generated: ");
    at = wait_for(&t, at, "> ");
    assert_null(strstr(t.text, "is full"));
    type(&t, "/exit\n");
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
    return cmocka_run_group_tests_name("chat", tests, set_up, tear_down);
}
