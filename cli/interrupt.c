#include "interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t caught;
static volatile sig_atomic_t patient; /* Ctrl-C once more is the same one */
/* Holds a byte from a signal until interrupt_clear, so that poll sees one that came just before it
 * was called, on whichever thread. -1: none. */
static int wake[2] = {-1, -1};

static void on_signal(int number)
{
    bool same = number == SIGHUP || /* a closing terminal sends several of these */
                (patient != 0 && number == SIGINT && caught == SIGINT);
    if (caught != 0 && !same) {
        _exit(128 + number);
    }
    int before = errno;
    caught = caught != 0 ? caught : number;
    ssize_t written = write(wake[1], "", 1);
    (void)written; /* full: poll sees what is there */
    errno = before;
}

static void set_handler(void (*handler)(int), int flags)
{
    struct sigaction action, before;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = flags;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN) { /* nohup */
        sigaction(SIGHUP, &action, NULL);
    }
}

static void mask_signals(int how)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(how, &set, NULL);
}

void interrupt_hold(void)
{
    mask_signals(SIG_BLOCK);
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

static struct {
    const char *file;
    char folder[4200];
    size_t first;
    bool on_terminal; /* where a progress line may stand */
} undo;

void remove_empty_folders(char *path, size_t first)
{
    size_t length = strlen(path);
    bool gone = first > 0;
    while (gone) {
        while (length > first && path[length - 1] == '/') {
            path[--length] = 0;
        }
        gone = length >= first && rmdir(path) == 0;
        while (length > 0 && path[length - 1] != '/') {
            length--;
        }
        path[length] = 0;
    }
}

/* Only what a handler may call. */
static void on_signal_undo(int number)
{
    static const char words[] = "\nstopped before any step; all is as it was\n";
    size_t skipped = undo.on_terminal ? 0 : 1;
    if (undo.file == NULL || unlink(undo.file) == 0) {
        remove_empty_folders(undo.folder, undo.first);
    }
    ssize_t written = write(STDERR_FILENO, words + skipped, sizeof words - 1 - skipped);
    (void)written;
    _exit(128 + number);
}

void interrupt_undo(const char *file, const char *folder, size_t first)
{
    undo.file = file;
    undo.first = first;
    undo.on_terminal = isatty(STDERR_FILENO) == 1;
    snprintf(undo.folder, sizeof undo.folder, "%s", folder);
    set_handler(on_signal_undo, 0);
    mask_signals(SIG_UNBLOCK);
}

void interrupt_begin(void)
{
    open_wake();
    interrupt_clear();
    set_handler(on_signal, SA_RESTART); /* writing goes on, so that no output fails of it */
}

void interrupt_be_patient(bool is_patient)
{
    patient = is_patient;
}

void interrupt_end(void)
{
    patient = 0;
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

/* Waits until standard input can be read; false where an interrupt ended that, or came before.
 * `between` (NULL: nothing) is called where another signal did not end it. */
static bool await_input(void (*between)(void))
{
    struct pollfd ready[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                             {.fd = wake[0], .events = POLLIN}};
    while (caught == 0 && poll(ready, 2, -1) < 0 && errno == EINTR) {
        if (between != NULL && caught == 0) {
            between();
        }
    }
    return caught == 0;
}

/* Bytes of standard input behind the last line that was read. */
static struct {
    char bytes[4096];
    size_t at, end;
} ahead;

/* False at the end (errno 0), on an interrupt (EINTR) and where reading failed. */
static bool fill_ahead(void (*between)(void))
{
    ssize_t got;
    do {
        if (!await_input(between)) {
            errno = EINTR;
            return false;
        }
        got = read(STDIN_FILENO, ahead.bytes, sizeof ahead.bytes);
    } while (got < 0 && (errno == EINTR || errno == EAGAIN));
    ahead.at = 0;
    ahead.end = got > 0 ? (size_t)got : 0;
    errno = got == 0 ? 0 : errno;
    return got > 0;
}

static bool append(char **line, size_t *capacity, size_t used, size_t more)
{
    if (used + more + 1 > *capacity) {
        size_t grown = 2 * (used + more + 1);
        char *text = realloc(*line, grown);
        if (text == NULL) {
            errno = ENOMEM;
            return false;
        }
        *line = text;
        *capacity = grown;
    }
    memcpy(*line + used, ahead.bytes + ahead.at, more);
    ahead.at += more;
    return true;
}

ssize_t interrupt_read_line(char **line, size_t *capacity)
{
    size_t used = 0;
    bool whole = false;
    while (!whole) {
        if (ahead.at == ahead.end && !fill_ahead(NULL)) {
            if (used == 0 || errno != 0) {
                return -1;
            }
            break; /* a last line without its end */
        }
        const char *from = ahead.bytes + ahead.at;
        const char *end = memchr(from, '\n', ahead.end - ahead.at);
        size_t more = end != NULL ? (size_t)(end - from) + 1 : ahead.end - ahead.at;
        if (used + more > LINE_BYTES_MAX) {
            errno = EMSGSIZE;
            return -1;
        }
        if (!append(line, capacity, used, more)) {
            return -1;
        }
        used += more;
        whole = end != NULL;
    }
    (*line)[used] = 0;
    return (ssize_t)used;
}

bool interrupt_read_byte(unsigned char *byte, void (*between)(void))
{
    if (ahead.at == ahead.end && !fill_ahead(between)) {
        return false;
    }
    *byte = (unsigned char)ahead.bytes[ahead.at++];
    return true;
}
