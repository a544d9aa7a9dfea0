/* Files read by io_uring of Linux: one thread hands pieces to the kernel and takes what is done. */
#if defined(MIXT_URING) && !defined(MIXT_PORTABLE)
#define HAS_RING 1
#define _GNU_SOURCE
#include <liburing.h>
#endif

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/disk_parts.h"

#ifdef HAS_RING
#define SUBMIT_TRIES 1000 /* a millisecond apart: the kernel has no memory for a request */

typedef struct slot {
    mixt_disk_piece piece;
    struct iovec vector; /* the kernel's until the piece is done */
    int64_t result;
    struct slot *next;
} slot;

/* The submission queue is the thread's, but while `waiting`: then, under the lock, it is the
 * caller's, who wakes the thread by a request for nothing. The completion queue is the thread's. */
typedef struct ring {
    struct io_uring uring;
    pthread_t thread;
    pthread_cond_t work; /* for when nothing is under way */
    bool waiting;        /* for the kernel */
    bool woken;          /* a request for nothing is under way */
    int under_way;
    slot *free;
    slot slots[];
} ring;

/* Hands the queue over; false with *number where the kernel does not take it. */
static bool submit_all(ring *r, int *number)
{
    for (int tries = 0; tries < SUBMIT_TRIES; tries++) {
        int taken = io_uring_submit(&r->uring);
        if (io_uring_sq_ready(&r->uring) == 0) {
            return true;
        }
        *number = taken < 0 ? -taken : EAGAIN;
        if (*number != EAGAIN && *number != EBUSY && *number != EINTR && *number != ENOMEM) {
            return false;
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return false;
}

/* Without the lock. */
static void begin(mixt_disk *disk, slot *s)
{
    ring *r = disk->reader;
    int number = EAGAIN;
    struct io_uring_sqe *request = io_uring_get_sqe(&r->uring);
    if (request != NULL) {
        s->vector = (struct iovec){s->piece.to, s->piece.bytes};
        io_uring_prep_readv(request, s->piece.descriptor, &s->vector, 1, s->piece.offset);
        io_uring_sqe_set_data(request, s);
        if (!s->piece.direct) {
            io_uring_sqe_set_flags(request, IOSQE_ASYNC); /* copies in threads of the kernel's */
        }
        if (submit_all(r, &number)) {
            return;
        }
        io_uring_prep_nop(request); /* should it be taken later */
        io_uring_sqe_set_data(request, NULL);
    }
    pthread_mutex_lock(&disk->lock);
    mixt_disk_give(disk, &s->piece, number == EAGAIN || number == EINTR ? -EBUSY : -number);
    s->next = r->free;
    r->free = s;
    r->under_way--;
    pthread_mutex_unlock(&disk->lock);
}

/* Takes all that is done, without the lock; NULL for what were no pieces. */
static slot *collect(mixt_disk *disk, struct io_uring_cqe *done, bool *woken)
{
    ring *r = disk->reader;
    slot *list = NULL;
    do {
        slot *s = io_uring_cqe_get_data(done);
        if (s == NULL) {
            *woken = true;
        } else {
            s->result = mixt_disk_result(disk, &s->piece, done->res);
            s->next = list;
            list = s;
        }
        io_uring_cqe_seen(&r->uring, done);
    } while (io_uring_peek_cqe(&r->uring, &done) == 0);
    return list;
}

static void wait_for_kernel(mixt_disk *disk)
{
    ring *r = disk->reader;
    struct io_uring_cqe *done = NULL;
    bool woken = false;
    int failed = io_uring_wait_cqe(&r->uring, &done);
    slot *list = failed == 0 ? collect(disk, done, &woken) : NULL;
    pthread_mutex_lock(&disk->lock);
    r->waiting = false;
    r->woken = r->woken && !woken;
    slot *again = NULL;
    while (list != NULL) {
        slot *s = list;
        list = s->next;
        if (mixt_disk_give(disk, &s->piece, s->result)) {
            s->next = again;
            again = s;
        } else {
            s->next = r->free;
            r->free = s;
            r->under_way--;
        }
    }
    pthread_mutex_unlock(&disk->lock);
    while (again != NULL) {
        slot *s = again;
        again = s->next;
        begin(disk, s);
    }
}

static void *run_ring(void *argument)
{
    mixt_disk *disk = argument;
    ring *r = disk->reader;
    for (;;) {
        pthread_mutex_lock(&disk->lock);
        slot *s = r->free;
        if (s != NULL && mixt_disk_take(disk, &s->piece)) {
            r->free = s->next;
            r->under_way++;
            pthread_mutex_unlock(&disk->lock);
            begin(disk, s);
        } else if (r->under_way > 0) {
            r->waiting = true;
            pthread_mutex_unlock(&disk->lock);
            wait_for_kernel(disk);
        } else {
            bool stop = disk->stop;
            if (!stop) {
                pthread_cond_wait(&r->work, &disk->lock);
            }
            pthread_mutex_unlock(&disk->lock);
            if (stop) {
                return NULL;
            }
        }
    }
}

static void kick(mixt_disk *disk)
{
    ring *r = disk->reader;
    pthread_cond_signal(&r->work);
    struct io_uring_sqe *request;
    if (r->waiting && !r->woken && r->free != NULL &&
        (request = io_uring_get_sqe(&r->uring)) != NULL) {
        io_uring_prep_nop(request);
        io_uring_sqe_set_data(request, NULL);
        r->woken = io_uring_submit(&r->uring) > 0; /* or the next piece that is done wakes it */
    }
}

static void release(mixt_disk *disk)
{
    ring *r = disk->reader;
    io_uring_queue_exit(&r->uring);
    pthread_cond_destroy(&r->work);
    free(r);
    disk->reader = NULL;
}

static void join(mixt_disk *disk)
{
    ring *r = disk->reader;
    pthread_join(r->thread, NULL);
    release(disk);
}

static mixt_status start(mixt_disk *disk, mixt_error *error)
{
    int depth = disk->options.depth;
    ring *r = calloc(1, sizeof *r + (size_t)depth * sizeof r->slots[0]);
    if (r == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "no memory to read files");
    }
    int refused = io_uring_queue_init((unsigned)depth + 1, &r->uring, 0);
    if (refused != 0) {
        free(r);
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED, "io_uring: the kernel refuses it: %s",
                         strerror(-refused));
    }
    for (int i = 0; i < depth; i++) {
        r->slots[i].next = r->free;
        r->free = &r->slots[i];
    }
    pthread_cond_init(&r->work, NULL);
    disk->reader = r;
    int number = mixt_disk_thread(&r->thread, run_ring, disk);
    if (number != 0) {
        release(disk);
        return mixt_fail_errno(error, number, "cannot start a thread that reads files");
    }
    mixt_disk_go_first(r->thread);
    return MIXT_OK;
}

const mixt_disk_way mixt_disk_ring = {
    .name = "io_uring",
    .name_buffered = "io_uring, buffered",
    .start = start,
    .kick = kick,
    .join = join,
};
#else
static mixt_status start(mixt_disk *disk, mixt_error *error)
{
    (void)disk;
    return mixt_fail(error, MIXT_ERROR_UNSUPPORTED, "io_uring: this build of mixt has none");
}

const mixt_disk_way mixt_disk_ring = {.start = start};
#endif
