/* The program's three streams: closed ones, lines without end, input that cannot be read; and the
 * program without memory. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/files.h"
#include "scratch.h"
#include "shell.h"

#define MODEL "tests/fixtures/families/mixtral"
#define LINE_LIMIT (16 << 20) /* LINE_BYTES_MAX of cli/interrupt.h */

static char model[200];

/* Streams of a child: a descriptor to use, or -1 for one that is closed. */
static pid_t start(const char *const *argv, const int streams[3])
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        for (int i = 0; i < 3; i++) {
            if (streams[i] >= 0 && dup2(streams[i], i) < 0) {
                _exit(126);
            }
        }
        for (int i = 0; i < 3; i++) {
            if (streams[i] < 0) {
                close(i);
            }
        }
        alarm(600);
        execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    return child;
}

static int open_file(const char *path, int flags)
{
    int descriptor = open(path, flags | O_CLOEXEC, 0600);
    assert_true(descriptor > 2);
    return descriptor;
}

static char *contents(const char *name, size_t *length)
{
    char *path = scratch_path(name), *text = read_file(path, length);
    free(path);
    return text;
}

/* A run of two steps, made with all three streams closed. */
static void train(void)
{
    char *text = scratch_path("text.txt"), *run = scratch_path("run");
    char body[4000] = "";
    for (int i = 0; i < 60; i++) {
        sprintf(body + strlen(body), "%d the quick brown fox jumps over the dog\n\n", i);
    }
    write_file(text, body, strlen(body));
    const char *argv[] = {shell_program,
                          "train",
                          "--data",
                          text,
                          "-o",
                          run,
                          "--steps",
                          "2",
                          "--layers",
                          "1",
                          "--hidden-size",
                          "16",
                          "--heads",
                          "1",
                          "--kv-heads",
                          "1",
                          "--head-dim",
                          "16",
                          "--ffn-size",
                          "16",
                          "--experts",
                          "2",
                          "--window",
                          "16",
                          "--vocab-size",
                          "260",
                          "-b",
                          "1",
                          "-t",
                          "1",
                          "--heldout",
                          "0",
                          NULL};
    assert_int_equal(finish_child(start(argv, (int[]){-1, -1, -1})), 0);
    free(run);
    free(text);
    snprintf(model, sizeof model, "%s/run/model", scratch);
}

static void a_log_holds_the_log_alone(void **state)
{
    (void)state;
    size_t length;
    char *log = contents("run/log.jsonl", &length);
    for (char *line = log; *line != '\0'; line = strchr(line, '\n') + 1) {
        assert_int_equal(*line, '{');
        assert_non_null(strchr(line, '\n'));
    }
    free(log);
}

/* Commands that write, and of what they write the file to compare; %s: the scratch folder. */
static const struct {
    const char *arguments[16], *made;
} writing[] = {
    {{"convert", MODEL, "-o", "%s/made.gguf", "--type", "Q8_0"}, "made.gguf"},
    {{"convert", MODEL, "-o", "%s/made"}, "made/model.safetensors"},
    {{"convert", "%s/run", "-o", "%s/seen.gguf", "--type", "Q8_0", "--data", "%s/text.txt",
      "--save-importance", "%s/made.importance"},
     "made.importance"},
    {{"trace", "%s/run", "--data", "%s/text.txt", "-o", "%s/made.trace"}, "made.trace"},
    {{"atlas", "%s/made.trace", "--html", "%s/made.html"}, "made.html"},
    {{"train", "--init-from", "%s/run/model", "--data", "%s/text.txt", "-o", "%s/again", "--steps",
      "1", "--window", "16", "-b", "1", "-t", "1"},
     "again/model/model.safetensors"},
};

/* The file that a command of `writing` makes with these streams closed (bits). */
static char *write_with(size_t row, int closed, int nowhere, size_t *length)
{
    char arguments[16][300];
    const char *argv[18] = {shell_program};
    int streams[3];
    for (int i = 0; writing[row].arguments[i] != NULL; i++) {
        const char *from = writing[row].arguments[i];
        bool inside = strncmp(from, "%s", 2) == 0;
        snprintf(arguments[i], sizeof arguments[i], "%s%s", inside ? scratch : "",
                 inside ? from + 2 : from);
        argv[i + 1] = arguments[i];
    }
    for (int i = 0; i < 3; i++) {
        streams[i] = (closed >> i & 1) != 0 ? -1 : nowhere;
    }
    char *again = scratch_path("again");
    must(mixt_folder_remove(again, NULL), NULL);
    free(again);
    int status = finish_child(start(argv, streams));
    if (status != 0) {
        fail_msg("%s, streams %d closed: status %d", argv[1], closed, status);
    }
    return contents(writing[row].made, length);
}

/* A file that is opened does not become standard output: neither text nor a remark gets into it. */
static void closed_streams_harm_no_file(void **state)
{
    (void)state;
    int nowhere = open_file("/dev/null", O_RDWR);
    for (size_t row = 0; row < sizeof writing / sizeof *writing; row++) {
        size_t right_length;
        char *right = write_with(row, 0, nowhere, &right_length);
        for (int closed = 1; closed < 8; closed++) {
            size_t length;
            char *text = write_with(row, closed, nowhere, &length);
            assert_int_equal(length, right_length);
            assert_memory_equal(text, right, length);
            free(text);
        }
        free(right);
    }
    close(nowhere);
}

static void one_line(const char *part)
{
    size_t length;
    char *said = contents("stderr", &length);
    const char *line = strstr(said, "mixt ");
    if (line == NULL || strstr(line, part) == NULL || strchr(line, '\n') != said + length - 1) {
        fail_msg("no line with '%s': %s", part, said);
    }
    free(said);
}

static int run_on(const char *const *argv, int in)
{
    char *out = scratch_path("stdout"), *err = scratch_path("stderr");
    int streams[3] = {in, open_file(out, O_WRONLY | O_CREAT | O_TRUNC),
                      open_file(err, O_WRONLY | O_CREAT | O_TRUNC)};
    int status = finish_child(start(argv, streams));
    close(streams[1]);
    close(streams[2]);
    free(out);
    free(err);
    return status;
}

/* 300 MB without a line break: refused at the bound, within little more than that. */
static void a_line_has_a_bound(void **state)
{
    const char *const commands[][8] = {
        {"run", "-i", "-m", model, "-n", "1", NULL},
        {"run", "-m", model, "-p", "-", "-n", "1", NULL},
        {"chat", "-m", model, "--template", "chatml", "-n", "1", NULL},
    };
    (void)state;
    char *long_line = scratch_path("line");
    int descriptor = open_file(long_line, O_RDWR | O_CREAT);
    static char block[1 << 20];
    memset(block, 'a', sizeof block);
    for (int i = 0; i < LINE_LIMIT / (int)sizeof block + 1; i++) {
        assert_int_equal(write(descriptor, block, sizeof block), sizeof block);
    }
    assert_int_equal(ftruncate(descriptor, 300 << 20), 0); /* and zeros */
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        const char *argv[9] = {shell_program};
        memcpy(argv + 1, commands[i], sizeof commands[i]);
        assert_int_equal(lseek(descriptor, 0, SEEK_SET), 0);
        struct rusage before, after;
        getrusage(RUSAGE_CHILDREN, &before);
        assert_int_equal(run_on(argv, descriptor), 2);
        one_line("more than 16777216 bytes");
        getrusage(RUSAGE_CHILDREN, &after);
        assert_true(after.ru_maxrss < before.ru_maxrss + (200 << 10) ||
                    after.ru_maxrss < 400 << 10);
    }
    close(descriptor);
    unlink(long_line);
    free(long_line);
}

/* Standard input that cannot be read is no end of it. */
static void unreadable_input_is_an_error(void **state)
{
    const char *const commands[][8] = {
        {"run", "-i", "-m", model, "-n", "1", NULL},
        {"run", "-m", model, "-p", "-", "-n", "1", NULL},
        {"chat", "-m", model, "--template", "chatml", "-n", "1", NULL},
        {"tokenize", "-m", model, NULL},
    };
    (void)state;
    int folder = open_file(scratch, O_RDONLY | O_DIRECTORY); /* EISDIR */
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        const char *argv[9] = {shell_program};
        memcpy(argv + 1, commands[i], sizeof commands[i]);
        assert_int_equal(run_on(argv, folder), 1);
        one_line("standard input: Is a directory");
    }
    close(folder);
}

/* A few of the allocations of every command (make check-memory: all of them). */
static void without_memory_it_says_so(void **state)
{
    char memory_program[BUILT_PATH_MAX];
    (void)state;
    if (!find_built("tests/memory", memory_program) || access(memory_program, X_OK) != 0) {
        print_message("skipped: not built with this sanitizer or backend\n");
        skip();
    }
    const char *argv[] = {memory_program, "6", NULL};
    int nowhere = open_file("/dev/null", O_RDONLY);
    int status = run_on(argv, nowhere);
    if (status != 0) {
        size_t length;
        fail_msg("%s", contents("stdout", &length));
    }
    close(nowhere);
}

static int set_up(void **state)
{
    if (shell_make(state) != 0) {
        return -1;
    }
    train();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closed_streams_harm_no_file),
        cmocka_unit_test(a_log_holds_the_log_alone),
        cmocka_unit_test(a_line_has_a_bound),
        cmocka_unit_test(unreadable_input_is_an_error),
        cmocka_unit_test(without_memory_it_says_so),
    };
    return cmocka_run_group_tests(tests, set_up, scratch_remove);
}
