/* launch [-n COUNT] [--seconds S] [--seed S] [--delay MICROSECONDS] [--kill-message RANK:N]
 * [--kill-after RANK:SECONDS] [--folder FOLDER] COMMAND...: starts COUNT (2) ranks of a program
 * over the hub. Its exit status is the first rank's that is not 0, 137 for a killed one where all
 * others ended well, 124 where they were running still after S (120) seconds. With a folder, what
 * rank N prints comes into FOLDER/rank-N.txt. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hub.h"

static _Noreturn void refuse(const char *what)
{
    fprintf(stderr, "launch: %s\n", what);
    exit(2);
}

typedef struct settings {
    hub_options hub;
    double seconds;
    int late_rank; /* that is killed after so many seconds; -1: none */
    double late;
    const char *folder;
} settings;

static void read_pair(const char *text, int *rank, double *value)
{
    char *end;
    *rank = (int)strtol(text, &end, 10);
    *value = *end == ':' ? atof(end + 1) : 0;
    if (*rank < 0 || *value <= 0) {
        refuse("RANK:NUMBER is wanted");
    }
}

/* Index of the command. */
static int read_arguments(int count, char **arguments, settings *s)
{
    int i = 1;
    for (; i + 1 < count && arguments[i][0] == '-'; i += 2) {
        const char *name = arguments[i], *value = arguments[i + 1];
        double number;
        if (strcmp(name, "-n") == 0) {
            s->hub.count = atoi(value);
        } else if (strcmp(name, "--seconds") == 0) {
            s->seconds = atof(value);
        } else if (strcmp(name, "--seed") == 0) {
            s->hub.seed = strtoull(value, NULL, 10);
        } else if (strcmp(name, "--delay") == 0) {
            s->hub.delay = atoi(value);
        } else if (strcmp(name, "--kill-message") == 0) {
            read_pair(value, &s->hub.kill_rank, &number);
            s->hub.kill_message = (int64_t)number;
        } else if (strcmp(name, "--kill-after") == 0) {
            read_pair(value, &s->late_rank, &s->late);
        } else if (strcmp(name, "--folder") == 0) {
            s->folder = value;
        } else {
            refuse("an option that it does not know");
        }
    }
    if (s->hub.count < 1 || s->hub.count > HUB_RANKS_MAX || i >= count) {
        refuse("a count of ranks and a command are wanted");
    }
    return i;
}

int main(int count, char **arguments)
{
    settings s = {.hub = {.count = 2}, .seconds = 120, .late_rank = -1};
    int first = read_arguments(count, arguments, &s);
    int statuses[HUB_RANKS_MAX] = {0}, status = 0, killed = 0;
    hub_processes *processes = hub_start(&s.hub, arguments + first, s.folder);
    if (processes == NULL) {
        refuse("no processes");
    }
    if (s.late_rank >= 0 && s.late_rank < s.hub.count) {
        struct timespec time = {(time_t)s.late, (long)(1e9 * (s.late - floor(s.late)))};
        nanosleep(&time, NULL);
        hub_signal(processes, s.late_rank, SIGKILL);
    }
    if (!hub_wait(processes, s.seconds, statuses)) {
        fprintf(stderr, "launch: not all ranks ended in %g seconds\n", s.seconds);
        return 124;
    }
    for (int rank = 0; rank < s.hub.count; rank++) {
        killed = statuses[rank] >= 1000 ? 128 + statuses[rank] - 1000 : killed;
        status = status == 0 && statuses[rank] < 1000 ? statuses[rank] : status;
    }
    return status != 0 ? status : killed;
}
