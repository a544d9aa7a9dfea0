#include "interrupt.h"

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
