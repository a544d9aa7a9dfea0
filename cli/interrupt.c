#include "interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t caught;
/* Holds a byte from a signal until interrupt_clear, so that poll sees one that came just before it
 * was called, on whichever thread. -1: none. */
static int wake[2] = {-1, -1};

static void on_signal(int number)
{
    if (caught != 0) {
        _exit(128 + number);
    }
    int before = errno;
    caught = number;
    ssize_t written = write(wake[1], "", 1);
    (void)written; /* full: poll sees what is there */
    errno = before;
}

static void set_handler(void (*handler)(int), int flags)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = flags;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static void open_wake(void)
{
    if (wake[0] >= 0) {
        return;
    }
    if (pipe(wake) != 0) {
        wake[0] = wake[1] = -1;
        return;
    }
    for (int i = 0; i < 2; i++) {
        fcntl(wake[i], F_SETFL, O_NONBLOCK);
        fcntl(wake[i], F_SETFD, FD_CLOEXEC);
    }
}

void interrupt_begin(void)
{
    open_wake();
    interrupt_clear();
    set_handler(on_signal, SA_RESTART); /* writing goes on, so that no output fails of it */
}

void interrupt_end(void)
{
    set_handler(SIG_DFL, 0);
}

int interrupt_status(void)
{
    return caught != 0 ? 128 + caught : 0;
}

void interrupt_clear(void)
{
    char bytes[16];
    caught = 0;
    while (read(wake[0], bytes, sizeof bytes) > 0) {
    }
}

/* Waits until standard input can be read; false where an interrupt ended that, or came before. */
static bool await_input(void)
{
    struct pollfd ready[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                             {.fd = wake[0], .events = POLLIN}};
    while (caught == 0 && poll(ready, 2, -1) < 0 && errno == EINTR) {
    }
    return caught == 0;
}

ssize_t interrupt_read_line(char **line, size_t *capacity)
{
    if (isatty(STDIN_FILENO)) { /* whole lines come: reading one does not wait */
        return await_input() ? getline(line, capacity, stdin) : -1;
    }
    set_handler(on_signal, 0);
    ssize_t length = getline(line, capacity, stdin);
    set_handler(on_signal, SA_RESTART);
    return length;
}
