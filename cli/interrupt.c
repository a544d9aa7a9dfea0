#define _GNU_SOURCE /* ppoll */
#include "interrupt.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t caught;

static void on_signal(int number)
{
    if (caught != 0) {
        _exit(128 + number);
    }
    caught = number;
}

static void set_handler(void (*handler)(int))
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    sigemptyset(&action.sa_mask); /* no SA_RESTART: a read from the terminal ends */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

void interrupt_begin(void)
{
    caught = 0;
    set_handler(on_signal);
}

void interrupt_end(void)
{
    set_handler(SIG_DFL);
}

int interrupt_status(void)
{
    return caught != 0 ? 128 + caught : 0;
}

void interrupt_clear(void)
{
    caught = 0;
}

bool interrupt_wait(int descriptor)
{
    struct pollfd ready = {.fd = descriptor, .events = POLLIN};
    sigset_t ours, before;
    sigemptyset(&ours);
    sigaddset(&ours, SIGINT);
    sigaddset(&ours, SIGTERM);
    sigprocmask(SIG_BLOCK, &ours, &before);
    /* from here on a signal waits until ppoll looks */
    bool good = caught == 0 && ppoll(&ready, 1, NULL, &before) >= 0;
    sigprocmask(SIG_SETMASK, &before, NULL);
    return good;
}
