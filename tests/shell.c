#include "shell.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"

char shell_program[BUILT_PATH_MAX];
char shell_out[SHELL_TEXT_MAX], shell_err[SHELL_TEXT_MAX];

int shell_make(void **state)
{
    if (!find_built("mixt", shell_program)) {
        return -1;
    }
    setenv("MIXT", shell_program, 1);
    return scratch_make(state);
}

void read_text(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    text[fread(text, 1, size - 1, file)] = 0;
    fclose(file);
}

static void read_stream(const char *name, char text[SHELL_TEXT_MAX])
{
    char *path = scratch_path(name);
    read_text(path, text, SHELL_TEXT_MAX);
    free(path);
}

void redirect_stream(const char *path, int flags, int descriptor)
{
    int opened = open(path, flags, 0600);
    if (opened < 0 || dup2(opened, descriptor) < 0) {
        _exit(126);
    }
    close(opened);
}

static int exit_status(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

int finish_child(pid_t child)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {
        assert_int_equal(errno, EINTR);
    }
    return exit_status(status);
}

/* Ends a shell that takes too long with all that it started. */
static int await(pid_t child)
{
    int status = 0;
    for (int i = 0; i < SHELL_SECONDS_MAX * 200; i++) {
        pid_t ended = waitpid(child, &status, WNOHANG);
        if (ended == child) {
            return exit_status(status);
        }
        assert_true(ended == 0 || errno == EINTR);
        usleep(5000);
    }
    kill(-child, SIGKILL);
    finish_child(child);
    fail_msg("the shell took more than %d s", SHELL_SECONDS_MAX);
    return -1;
}

/* bash -c, or bash -e -c, which ends at the first command that fails. */
static int run_lines(const char *lines, const char *options)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        setpgid(0, 0);
        signal(SIGHUP, SIG_DFL); /* a shell cannot undo what nohup ignored */
        if (chdir(scratch) != 0) {
            _exit(126);
        }
        redirect_stream("/dev/null", O_RDONLY, STDIN_FILENO);
        redirect_stream("out", O_WRONLY | O_CREAT | O_TRUNC, STDOUT_FILENO);
        redirect_stream("err", O_WRONLY | O_CREAT | O_TRUNC, STDERR_FILENO);
        execl("/bin/bash", "bash", options, lines, (char *)NULL);
        _exit(127);
    }
    int status = await(child);
    read_stream("out", shell_out);
    read_stream("err", shell_err);
    return status;
}

int shell(const char *lines)
{
    return run_lines(lines, "-c");
}

void shell_do(const char *lines)
{
    int status = run_lines(lines, "-ec");
    if (status != 0) {
        fail_msg("status %d of %s: %.2000s", status, lines, shell_err);
    }
}

void shell_write(const char *name, const char *text)
{
    char *path = scratch_path(name);
    write_file(path, text, strlen(text));
    free(path);
}

void shell_train(void)
{
    shell_do("[ -d run ] && exit; mkdir -p text/one text/two; for i in 1 2 3 4 5 6 7 8 9 10 11 12; "
             "do for j in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do "
             "echo \"int a$i = $j; return $((i * j));\" >>text/one/$i.txt; "
             "echo \"The quick brown fox jumps over $i lazy dogs $j times.\" >>text/two/$i.txt; "
             "done; done; \"$MIXT\" train --data text --out run --steps 12 --vocab-size 300 "
             "--layers 3 --hidden-size 32 --heads 2 --kv-heads 1 --head-dim 16 --ffn-size 32 "
             "--experts 4 --window 32 --context-length 256 --batch-size 4 --warmup 2 "
             "--heldout 0.3 --learning-rate 0.01 --optimizer adamw --balance-coefficient 0.1 -t 1");
}

void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        fail_msg("\"%s\" is not in: %.2000s", part, text);
    }
}

void assert_lacks(const char *text, const char *part)
{
    if (strstr(text, part) != NULL) {
        fail_msg("\"%s\" is in: %.2000s", part, text);
    }
}

void shell_refuses(const char *lines, const char *part)
{
    int status = shell(lines);
    if (status != 2) {
        fail_msg("status %d, not 2, of %s: %.2000s", status, lines, shell_err);
    }
    assert_has(shell_err, part);
    const char *end = strchr(shell_err, '\n');
    assert_true(end != NULL && end[1] == 0);
}
