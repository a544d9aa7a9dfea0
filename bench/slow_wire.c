/* A wire between two network namespaces that is late and slow, where the kernel has no netem:
 *
 *   slow_wire DEVICE DEVICE DELAY RATE
 *
 * makes two tun devices. A packet that is sent into one comes out of the other DELAY microseconds
 * after its last bit was on the wire, which takes RATE bits a second each way (0: any number);
 * packets keep their order and none is lost. Devices may be moved into namespaces
 * (bench/two_machines.sh) and go when the program ends, at SIGINT or SIGTERM; it then says what
 * passed and how much processor time that took. Linux only, as root. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef __linux__

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#define PACKET 65536        /* bytes, the most that a device takes */
#define QUEUED (64u << 20)  /* bytes of a way, above which its device is not read */
#define PRIORITY 50         /* the wire waits for no processor, where that is allowed */
#define SECOND 1000000000ll /* all times are nanoseconds */

typedef struct packet {
    struct packet *next;
    int64_t due;
    size_t length;
    unsigned char bytes[];
} packet;

typedef struct way {
    int from, to;
    packet *first, **last;
    int64_t free_at; /* when the wire has sent all so far */
    size_t queued;
    int64_t packets, bytes, lost;
} way;

static volatile sig_atomic_t ended;

static void end(int signal)
{
    (void)signal;
    ended = 1;
}

static int64_t clock_now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (int64_t)time.tv_sec * SECOND + time.tv_nsec;
}

static void fail(const char *what)
{
    fprintf(stderr, "slow_wire: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int make_device(const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    int device = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    if (device < 0) {
        fail("/dev/net/tun");
    }
    if (strlen(name) >= sizeof request.ifr_name) {
        errno = ENAMETOOLONG;
        fail(name);
    }
    memcpy(request.ifr_name, name, strlen(name) + 1);
    if (ioctl(device, TUNSETIFF, &request) < 0) {
        fail(name);
    }
    return device;
}

/* Reads what was sent into a way. */
static void take(way *w, int64_t delay, double rate)
{
    static unsigned char bytes[PACKET];
    ssize_t length;
    while (w->queued < QUEUED && (length = read(w->from, bytes, sizeof bytes)) > 0) {
        int64_t now = clock_now(CLOCK_MONOTONIC);
        packet *p = malloc(sizeof *p + (size_t)length);
        if (p == NULL) {
            fail("a packet");
        }
        w->free_at = w->free_at > now ? w->free_at : now;
        w->free_at += rate > 0 ? (int64_t)(8 * (double)length / rate * (double)SECOND) : 0;
        *p = (packet){.due = w->free_at + delay, .length = (size_t)length};
        memcpy(p->bytes, bytes, (size_t)length);
        *w->last = p;
        w->last = &p->next;
        w->queued += (size_t)length;
    }
}

/* Writes what has arrived. A device that is down takes nothing. */
static void give(way *w)
{
    while (w->first != NULL && w->first->due <= clock_now(CLOCK_MONOTONIC)) {
        packet *p = w->first;
        if (write(w->to, p->bytes, p->length) != (ssize_t)p->length) {
            w->lost++;
        }
        w->packets++;
        w->bytes += (int64_t)p->length;
        w->queued -= p->length;
        w->first = p->next;
        w->last = w->first == NULL ? &w->first : w->last;
        free(p);
    }
}

/* Until a device has something, or a packet arrives. */
static void wait_for(const way *ways)
{
    fd_set devices;
    int64_t due = INT64_MAX;
    int most = 0;
    FD_ZERO(&devices);
    for (int i = 0; i < 2; i++) {
        if (ways[i].queued < QUEUED) {
            FD_SET(ways[i].from, &devices);
        }
        most = ways[i].from > most ? ways[i].from : most;
        due = ways[i].first != NULL && ways[i].first->due < due ? ways[i].first->due : due;
    }
    int64_t left = due == INT64_MAX ? SECOND : due - clock_now(CLOCK_MONOTONIC);
    left = left < 0 ? 0 : left;
    const struct timespec time = {.tv_sec = left / SECOND, .tv_nsec = left % SECOND};
    pselect(most + 1, &devices, NULL, NULL, &time, NULL);
}

static double number(const char *text)
{
    char *rest;
    double value = strtod(text, &rest);
    return rest != text && *rest == 0 && value >= 0 && value <= 1e12 ? value : -1;
}

int main(int argc, char **argv)
{
    double delay = argc == 5 ? number(argv[3]) : -1, rate = argc == 5 ? number(argv[4]) : -1;
    if (delay < 0 || rate < 0) {
        fputs("slow_wire DEVICE DEVICE DELAY RATE (microseconds, bits a second; 0: no limit)\n",
              stderr);
        return 2;
    }
    int a = make_device(argv[1]), b = make_device(argv[2]);
    way ways[2] = {{.from = a, .to = b}, {.from = b, .to = a}};
    const struct sigaction action = {.sa_handler = end};
    const struct sched_param priority = {.sched_priority = PRIORITY};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sched_setscheduler(0, SCHED_RR, &priority);
    ways[0].last = &ways[0].first;
    ways[1].last = &ways[1].first;
    while (!ended) {
        for (int i = 0; i < 2; i++) {
            take(&ways[i], (int64_t)(1e3 * delay), rate);
            give(&ways[i]);
        }
        wait_for(ways);
    }
    printf("slow_wire: %lld and %lld packets, %.1f and %.1f MB, %lld lost, %.2f s of a processor\n",
           (long long)ways[0].packets, (long long)ways[1].packets, 1e-6 * (double)ways[0].bytes,
           1e-6 * (double)ways[1].bytes, (long long)(ways[0].lost + ways[1].lost),
           1e-9 * (double)clock_now(CLOCK_PROCESS_CPUTIME_ID));
    return 0;
}

#else

int main(void)
{
    fputs("slow_wire: Linux only\n", stderr);
    return 2;
}

#endif
