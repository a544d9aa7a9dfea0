/* What the two readers of store/disk.h share: a read is cut into pieces, which they take and give
 * back. All fields and functions under the lock. */
#ifndef MIXT_STORE_DISK_PARTS_H
#define MIXT_STORE_DISK_PARTS_H

#include <pthread.h>
#include <sys/stat.h>
#include <time.h>

#include "store/disk.h"

typedef struct mixt_disk_file {
    char *path;
    int descriptor;
    bool direct;
    struct stat known; /* when it was added */
} mixt_disk_file;

typedef struct mixt_disk_queue {
    mixt_disk_read *first, *last;
} mixt_disk_queue;

typedef struct mixt_disk_piece {
    mixt_disk_read *read;
    uint64_t offset;
    size_t bytes, whole; /* still to read; when it was taken */
    unsigned char *to;
    int descriptor;
    bool direct;
    int fruitless; /* results that brought nothing */
} mixt_disk_piece;

typedef struct mixt_disk_way {
    const char *name, *name_buffered;
    /* Starts threads, which take pieces from then on. */
    mixt_status (*start)(mixt_disk *disk, mixt_error *error);
    void (*kick)(mixt_disk *disk); /* there are pieces to take, or `stop` was set */
    void (*join)(mixt_disk *disk); /* waits for the threads; without the lock */
} mixt_disk_way;

struct mixt_disk {
    mixt_disk_options options; /* no zeros */
    const mixt_disk_way *way;
    void *reader; /* the way's */
    pthread_mutex_t lock;
    pthread_cond_t finished;
    mixt_disk_file *files;
    size_t count, capacity;
    mixt_disk_queue urgent, later; /* reads of which some pieces were not taken */
    mixt_disk_queue done;
    mixt_disk_queue finishing;  /* all was read, `finish` has not been called */
    pthread_cond_t finish_work; /* there is some, or an end */
    pthread_t *finishers;       /* [finisher_count] */
    int finisher_count;
    bool finished_all; /* the finishers end */
    bool stop;         /* once nothing is left */
    int pieces;        /* under way */
    size_t under_way;  /* bytes of them */
    int waiting;       /* reads not yet waited for */
    int unfinished;    /* of them: not done */
    uint64_t bytes, reads;
    double busy, busy_since; /* seconds; the clock when the first piece began */
};

extern const mixt_disk_way mixt_disk_ring, mixt_disk_threads;

/* The next piece to read; false: none, or enough is under way. */
bool mixt_disk_take(mixt_disk *disk, mixt_disk_piece *piece);
bool mixt_disk_any(const mixt_disk *disk); /* whether reads wait to be taken */
/* bytes or -errno; true: the piece, changed, is to be read again. */
bool mixt_disk_give(mixt_disk *disk, mixt_disk_piece *piece, int64_t result);
void mixt_disk_push(mixt_disk_queue *queue, mixt_disk_read *read);
bool mixt_disk_pull(mixt_disk_queue *queue, mixt_disk_read *read); /* false: it is not there */
/* Whoever waits gets it. */
void mixt_disk_done(mixt_disk *disk, mixt_disk_read *read);
/* Ends the finishers once all is finished; without the lock. */
void mixt_disk_end_finishers(mixt_disk *disk);
/* Behind every result, without the lock: the hook's say; what went through the cache leaves it. */
int64_t mixt_disk_result(const mixt_disk *disk, const mixt_disk_piece *piece, int64_t result);
/* A thread that takes no signals. An errno. */
int mixt_disk_thread(pthread_t *thread, void *(*function)(void *), void *argument);
/* Where threads that compute have a real-time priority, one that hands reads on goes before them:
 * it needs a microsecond, and all wait for it. */
void mixt_disk_go_first(pthread_t thread);

#endif
