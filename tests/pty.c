#include "pty.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"

void open_terminal(terminal *t, const char *const *argv)
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
        alarm(SHELL_SECONDS_MAX);
        setenv("TERM", "xterm", 1);
        setsid();
        int slave = open(name, O_RDWR); /* becomes the controlling terminal */
        if (slave < 0 || dup2(slave, 0) < 0 || dup2(slave, 1) < 0 || dup2(slave, 2) < 0 ||
            chdir(scratch) != 0) {
            _exit(126);
        }
        execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
}

size_t wait_for(terminal *t, size_t from, const char *part)
{
    for (;;) {
        const char *found = strstr(t->text + from, part);
        if (found != NULL) {
            return (size_t)(found - t->text) + strlen(part);
        }
        struct pollfd ready = {.fd = t->master, .events = POLLIN};
        ssize_t got = 0;
        if (poll(&ready, 1, SHELL_SECONDS_MAX * 1000) == 1) {
            got = read(t->master, t->text + t->length, sizeof t->text - 1 - t->length);
        }
        if (got <= 0) {
            fail_msg("\"%s\" did not come behind: %s", part, t->text + from);
        }
        t->length += (size_t)got;
        t->text[t->length] = 0;
    }
}

void type_text(terminal *t, const char *text)
{
    assert_int_equal(write(t->master, text, strlen(text)), (ssize_t)strlen(text));
}

int close_terminal(terminal *t)
{
    while (read(t->master, t->text, sizeof t->text) > 0) { /* until the child is gone */
    }
    int status = finish_child(t->child);
    close(t->master);
    return status;
}
