/* The transport. Each pair of ranks has a ring that one writes and the other reads, so there are no
 * locks that the dead could hold. Who waits sleeps until the other side rings: there are more ranks
 * than processors, and one that kept looking would take the time of those that it waits for. A
 * process that is there holds a lock of the file (fcntl), which goes with it. Used by the tests,
 * and compiled alone as hub.so. */
#include "hub.h"

#include <fcntl.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HUB_MAGIC 0x3152455458494d48ULL
#define RING ((uint64_t)1 << 16) /* bytes on their way between two ranks */
#define LOOK_AFTER 0.005         /* seconds; the dead do not ring */
#define DELAYED_AFTER 0.0001     /* ... nor does a message that a test holds back */
#define YIELDS 4                 /* before a rank sleeps */

/* Bytes written and read so far; each counter on a line of its own. */
typedef struct hub_ring {
    _Alignas(64) _Atomic uint64_t written;
    _Alignas(64) _Atomic uint64_t read;
    _Alignas(64) unsigned char bytes[RING];
} hub_ring;

enum { NEW, THERE, LEFT, ENDED, DEAD }; /* ENDED: it said why */

typedef struct hub_seat {
    _Atomic int state;
    _Atomic int asleep; /* or about to be */
    sem_t bell;
    char why[MIXT_TRANSPORT_TEXT];
} hub_seat;

typedef struct region {
    uint64_t magic;
    hub_options options;
    hub_seat seats[HUB_RANKS_MAX];
    hub_ring rings[]; /* [from * count + to] */
} region;

struct hub {
    region *region;
    size_t size;
    int file; /* descriptor, or -1 */
};

/* A message on its way: its length first, then its bytes. */
typedef struct moving {
    mixt_message message;
    uint64_t length; /* that is sent, or came in */
    size_t moved;    /* of both */
    double ready;    /* not before this time */
    bool fatal;      /* this rank ends in its midst */
} moving;

typedef struct request {
    struct request *next;
    int count, left;
    moving items[];
} request;

/* One rank. */
typedef struct joined {
    mixt_transport transport;
    hub hub;
    bool owner; /* of the mapping: a process of its own */
    bool dead;  /* its thread's life is over */
    uint64_t draws;
    int64_t started; /* messages */
    request *first;
    char text[MIXT_TRANSPORT_TEXT]; /* what broke it, or "" */
} joined;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void wake(joined *self, int rank)
{
    hub_seat *seat = &self->hub.region->seats[rank];
    if (atomic_load(&seat->asleep) != 0 && atomic_exchange(&seat->asleep, 0) != 0) {
        sem_post(&seat->bell);
    }
}

static void wake_all(joined *self)
{
    for (int rank = 0; rank < self->transport.count; rank++) {
        wake(self, rank);
    }
}

static uint64_t draw(joined *self)
{
    uint64_t x = self->draws += 0x9E3779B97F4A7C15ULL;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ x >> 27) * 0x94D049BB133111EBULL;
    return x ^ x >> 31;
}

static hub_ring *ring_of(const joined *self, int from, int to)
{
    return &self->hub.region->rings[from * self->transport.count + to];
}

/* ------------------------------------------------------------------------------------------ */
/* Moving bytes                                                                               */

/* `limit` bytes at most of [length, data] into or out of a ring; how many. */
static size_t move_bytes(hub_ring *ring, moving *item, size_t limit)
{
    bool receive = item->message.receive;
    uint64_t written = atomic_load(&ring->written), read = atomic_load(&ring->read);
    uint64_t at = receive ? read : written;
    uint64_t there = receive ? written - read : RING - (written - read);
    size_t header = sizeof item->length, done = 0;
    while (done < limit && done < there) {
        bool head = item->moved < header;
        char *memory = head ? (char *)&item->length + item->moved
                            : (char *)item->message.data + (item->moved - header);
        size_t count = head ? header - item->moved : limit - done;
        uint64_t place = (at + done) % RING;
        count = count > limit - done ? limit - done : count;
        count = count > there - done ? there - done : count;
        count = count > RING - place ? RING - place : count;
        memcpy(receive ? memory : (char *)ring->bytes + place,
               receive ? (char *)ring->bytes + place : memory, count);
        done += count;
        item->moved += count;
        if (receive && item->moved == header && item->length != item->message.bytes) {
            break;
        }
    }
    atomic_store(receive ? &ring->read : &ring->written, at + done);
    return done;
}

static void die(joined *self)
{
    if (self->hub.file >= 0) {
        raise(SIGKILL);
    }
    self->dead = true;
    atomic_store(&self->hub.region->seats[self->transport.rank].state, DEAD);
    wake_all(self);
}

/* Whether a message is through. */
static bool move(joined *self, moving *item, bool *moved)
{
    int own = self->transport.rank, other = item->message.rank;
    bool receive = item->message.receive;
    hub_ring *ring = receive ? ring_of(self, other, own) : ring_of(self, own, other);
    size_t total = sizeof item->length + item->message.bytes;
    size_t limit = item->fatal ? total / 2 : total;
    size_t count = limit > item->moved ? move_bytes(ring, item, limit - item->moved) : 0;
    if (count > 0) {
        *moved = true;
        /* A writer waits for a reader where the ring was full alone. Who goes to sleep says so,
         * looks again and sleeps then: either it sees these bytes or we see that it sleeps. */
        if (!receive || atomic_load(&ring->written) - atomic_load(&ring->read) + count >= RING) {
            wake(self, other);
        }
    }
    if (receive && item->moved >= sizeof item->length && item->length != item->message.bytes) {
        snprintf(self->text, sizeof self->text, "rank %d sent %llu bytes where rank %d expects %zu",
                 other, (unsigned long long)item->length, own, item->message.bytes);
        return false;
    }
    if (item->fatal && item->moved >= limit) {
        die(self);
    }
    return item->moved == total;
}

/* One look at all messages; each pair's go one behind the other. Whether any byte moved. */
static bool move_all(joined *self)
{
    bool busy[2][HUB_RANKS_MAX] = {{false}}, moved = false;
    double time = now();
    if (self->dead || self->text[0] != 0) {
        return true;
    }
    for (int rank = 0; rank < self->transport.count && self->hub.region->options.seed != 0;
         rank++) {
        busy[0][rank] = draw(self) % 4 == 0; /* others go first */
        busy[1][rank] = draw(self) % 4 == 0;
    }
    for (request *r = self->first; r != NULL; r = r->next) {
        for (int i = 0; i < r->count && r->left > 0; i++) {
            moving *item = &r->items[i];
            bool *wait = &busy[item->message.receive][item->message.rank];
            if (*wait || item->moved == sizeof item->length + item->message.bytes) {
                continue;
            }
            if (time >= item->ready && move(self, item, &moved)) {
                r->left--;
            } else {
                *wait = true;
            }
            if (self->dead || self->text[0] != 0) {
                return true;
            }
        }
    }
    return moved;
}

/* ------------------------------------------------------------------------------------------ */
/* Who is there                                                                               */

static int state_of(const joined *self, int rank)
{
    hub_seat *seat = &self->hub.region->seats[rank];
    int state = atomic_load(&seat->state);
    if (state == THERE && self->hub.file >= 0 && rank != self->transport.rank) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = rank, .l_len = 1};
        if (fcntl(self->hub.file, F_GETLK, &lock) == 0 && lock.l_type == F_UNLCK) {
            /* It may have left between the two looks. */
            int gone = THERE;
            atomic_compare_exchange_strong(&seat->state, &gone, DEAD);
            state = atomic_load(&seat->state);
        }
    }
    return state;
}

/* Whether a rank left something that was not read yet, as who reads it was slow or made others go
 * first. */
static bool has_left_bytes(const joined *self, const moving *item)
{
    hub_ring *ring = ring_of(self, item->message.rank, self->transport.rank);
    return item->message.receive && atomic_load(&ring->written) != atomic_load(&ring->read);
}

/* A rank that ended without leaving, or one that left and that the request waits for; -1: none. */
static int find_lost(const joined *self, const request *r, int *state)
{
    for (int rank = 0; rank < self->transport.count; rank++) {
        *state = state_of(self, rank);
        if ((*state == DEAD || *state == ENDED) && rank != self->transport.rank) {
            return rank;
        }
        for (int i = 0; i < r->count && *state == LEFT; i++) {
            const moving *item = &r->items[i];
            if (item->message.rank == rank &&
                item->moved < sizeof item->length + item->message.bytes &&
                !has_left_bytes(self, item)) {
                return rank;
            }
        }
    }
    return -1;
}

static mixt_wait say_lost(joined *self, int lost, int state, int *rank, char *text)
{
    *rank = lost;
    if (self->dead) {
        snprintf(text, MIXT_TRANSPORT_TEXT, "rank %d was ended by the test", self->transport.rank);
    } else if (self->text[0] != 0) {
        snprintf(text, MIXT_TRANSPORT_TEXT, "%s", self->text);
    } else if (state == ENDED) {
        snprintf(text, MIXT_TRANSPORT_TEXT, "%s", self->hub.region->seats[lost].why);
    } else {
        snprintf(text, MIXT_TRANSPORT_TEXT, state == LEFT ? "rank %d has left" : "rank %d was lost",
                 lost);
    }
    return MIXT_WAIT_LOST;
}

/* ------------------------------------------------------------------------------------------ */
/* The calls of a transport                                                                   */

static void *hub_begin(void *user, const mixt_message *messages, int count, char *text)
{
    joined *self = user;
    int none;
    if (self->dead || self->text[0] != 0) {
        say_lost(self, -1, DEAD, &none, text);
        return NULL;
    }
    request *r = calloc(1, sizeof *r + (size_t)count * sizeof r->items[0]);
    if (r == NULL) {
        snprintf(text, MIXT_TRANSPORT_TEXT, "hub: no memory");
        return NULL;
    }
    const hub_options *options = &self->hub.region->options;
    double time = now();
    r->count = r->left = count;
    for (int i = 0; i < count; i++) {
        double late = options->seed == 0 || options->delay == 0
                          ? 0
                          : (double)(draw(self) % (uint64_t)(options->delay + 1));
        r->items[i] = (moving){.message = messages[i],
                               .length = messages[i].receive ? 0 : messages[i].bytes,
                               .ready = time + 1e-6 * late};
        r->items[i].fatal =
            ++self->started == options->kill_message && self->transport.rank == options->kill_rank;
    }
    request **end = &self->first;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = r;
    move_all(self);
    return r;
}

/* Until another rank rings, or it is time to look. Whether bytes moved before that. */
static bool sleep_awhile(joined *self)
{
    hub_seat *seat = &self->hub.region->seats[self->transport.rank];
    atomic_store(&seat->asleep, 1);
    bool moved = move_all(self);
    if (!moved) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec +=
            (long)(1e9 * (self->hub.region->options.seed != 0 ? DELAYED_AFTER : LOOK_AFTER));
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
        sem_timedwait(&seat->bell, &until);
    }
    atomic_store(&seat->asleep, 0);
    return moved;
}

static mixt_wait hub_wait_for(void *user, void *pointer, double seconds, int *rank, char *text)
{
    joined *self = user;
    request *r = pointer;
    double started = now(), looked = started;
    for (int idle = 0; r->left > 0;) {
        int lost = -1, state = DEAD;
        if (idle > YIELDS && now() > looked + LOOK_AFTER) {
            lost = find_lost(self, r, &state);
            looked = now();
        }
        idle = move_all(self) ? 0 : idle + 1;
        if (self->dead || self->text[0] != 0 || (lost >= 0 && idle > 0 && r->left > 0)) {
            return say_lost(self, lost, state, rank, text);
        }
        if (idle > 0 && r->left > 0 && now() - started > seconds) {
            for (int i = 0; i < r->count; i++) {
                const moving *item = &r->items[i];
                if (item->moved < sizeof item->length + item->message.bytes) {
                    *rank = item->message.rank;
                    break;
                }
            }
            return MIXT_WAIT_LATE;
        }
        if (idle > YIELDS && r->left > 0 && sleep_awhile(self)) {
            idle = 0;
        } else if (idle > 0 && idle <= YIELDS) {
            sched_yield();
        }
    }
    for (request **at = &self->first; *at != NULL; at = &(*at)->next) {
        if (*at == r) {
            *at = r->next;
            break;
        }
    }
    free(r);
    return MIXT_WAIT_DONE;
}

static void hub_abort(void *user, const char *why)
{
    joined *self = user;
    hub_seat *seat = &self->hub.region->seats[self->transport.rank];
    if (atomic_load(&seat->state) == THERE) {
        snprintf(seat->why, sizeof seat->why, "%s", why);
        atomic_store(&seat->state, ENDED);
        wake_all(self);
    }
}

static void hub_close(void *user)
{
    joined *self = user;
    int there = THERE;
    atomic_compare_exchange_strong(&self->hub.region->seats[self->transport.rank].state, &there,
                                   LEFT);
    wake_all(self);
    while (self->first != NULL) {
        request *next = self->first->next;
        free(self->first);
        self->first = next;
    }
    if (self->owner) {
        munmap(self->hub.region, self->hub.size);
        close(self->hub.file);
    }
    free(self);
}

/* ------------------------------------------------------------------------------------------ */
/* Regions                                                                                    */

static size_t region_size(int count)
{
    return sizeof(region) + (size_t)(count * count) * sizeof(hub_ring);
}

static region *map_region(int file, size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    return memory != MAP_FAILED ? memory : NULL;
}

hub *hub_create(const hub_options *options, const char *path)
{
    hub *made = calloc(1, sizeof *made);
    if (made == NULL || options->count < 1 || options->count > HUB_RANKS_MAX) {
        free(made);
        return NULL;
    }
    made->size = region_size(options->count);
    made->file = -1;
    if (path == NULL) {
        made->region = aligned_alloc(64, (made->size + 63) / 64 * 64);
        if (made->region != NULL) { /* not the rings' bytes, megabytes that few messages reach */
            memset(made->region, 0, sizeof *made->region);
            for (int i = 0; i < options->count * options->count; i++) {
                memset(&made->region->rings[i], 0, offsetof(hub_ring, bytes));
            }
        }
    } else {
        unlink(path);
        made->file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (made->file >= 0 && ftruncate(made->file, (off_t)made->size) == 0) {
            made->region = map_region(made->file, made->size);
        }
    }
    if (made->region == NULL) {
        hub_free(made);
        return NULL;
    }
    for (int rank = 0; rank < options->count; rank++) {
        sem_init(&made->region->seats[rank].bell, path != NULL, 0);
    }
    made->region->options = *options;
    made->region->magic = HUB_MAGIC;
    return made;
}

void hub_free(hub *made)
{
    if (made != NULL && made->file < 0) {
        free(made->region);
    } else if (made != NULL) {
        if (made->region != NULL) {
            munmap(made->region, made->size);
        }
        close(made->file);
    }
    free(made);
}

const mixt_transport *hub_join(hub *made, int rank, char text[MIXT_TRANSPORT_TEXT])
{
    joined *self = calloc(1, sizeof *self);
    if (self == NULL) {
        snprintf(text, MIXT_TRANSPORT_TEXT, "hub: no memory");
        return NULL;
    }
    self->hub = *made;
    self->draws = made->region->options.seed * 1000003 + (uint64_t)rank;
    self->transport = (mixt_transport){.version = MIXT_TRANSPORT_VERSION,
                                       .rank = rank,
                                       .count = made->region->options.count,
                                       .user = self,
                                       .start = hub_begin,
                                       .wait = hub_wait_for,
                                       .abort = hub_abort,
                                       .close = hub_close};
    atomic_store(&made->region->seats[rank].state, THERE);
    return &self->transport;
}

void hub_bury(hub *made, int rank)
{
    int state = atomic_load(&made->region->seats[rank].state);
    if (state == NEW || state == THERE) {
        atomic_compare_exchange_strong(&made->region->seats[rank].state, &state, DEAD);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* The library                                                                                */

const mixt_transport *mixt_transport_open(char *text);

const mixt_transport *mixt_transport_open(char *text)
{
    const char *path = getenv("HUB_FILE"), *number = getenv("HUB_RANK");
    hub opened = {.file = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1};
    struct stat status;
    if (number == NULL || opened.file < 0 || fstat(opened.file, &status) != 0 ||
        (size_t)status.st_size < sizeof(region)) {
        snprintf(text, MIXT_TRANSPORT_TEXT, "hub: HUB_FILE and HUB_RANK name no region");
        return NULL;
    }
    int rank = atoi(number);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = rank, .l_len = 1};
    opened.size = (size_t)status.st_size;
    opened.region = map_region(opened.file, opened.size);
    if (opened.region == NULL || opened.region->magic != HUB_MAGIC || rank < 0 ||
        rank >= opened.region->options.count || fcntl(opened.file, F_SETLK, &lock) != 0) {
        snprintf(text, MIXT_TRANSPORT_TEXT, "hub: %s has no place for rank %d", path, rank);
        return NULL;
    }
    const mixt_transport *transport = hub_join(&opened, rank, text);
    if (transport != NULL) {
        ((joined *)transport->user)->owner = true;
    }
    return transport;
}
