/* Files read by threads, each of which has one piece under way. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/disk_parts.h"

typedef struct threads {
    pthread_cond_t work;
    int idle;
    int count;
    pthread_t ids[];
} threads;

static void *read_pieces(void *argument)
{
    mixt_disk *disk = argument;
    threads *t = disk->reader;
    mixt_disk_piece piece;
    pthread_mutex_lock(&disk->lock);
    for (;;) {
        if (!mixt_disk_take(disk, &piece)) {
            if (disk->stop) {
                break;
            }
            t->idle++;
            pthread_cond_wait(&t->work, &disk->lock);
            t->idle--;
            continue;
        }
        if (t->idle > 0 && mixt_disk_any(disk)) {
            pthread_cond_signal(&t->work);
        }
        do {
            pthread_mutex_unlock(&disk->lock);
            int64_t result = pread(piece.descriptor, piece.to, piece.bytes, (off_t)piece.offset);
            result = mixt_disk_result(disk, &piece, result < 0 ? -errno : result);
            pthread_mutex_lock(&disk->lock);
            if (!mixt_disk_give(disk, &piece, result)) {
                break;
            }
        } while (true);
    }
    pthread_mutex_unlock(&disk->lock);
    return NULL;
}

static void kick(mixt_disk *disk)
{
    threads *t = disk->reader;
    if (disk->stop) {
        pthread_cond_broadcast(&t->work);
    } else if (t->idle > 0) {
        pthread_cond_signal(&t->work);
    }
}

static void join(mixt_disk *disk)
{
    threads *t = disk->reader;
    for (int i = 0; i < t->count; i++) {
        pthread_join(t->ids[i], NULL);
    }
    pthread_cond_destroy(&t->work);
    free(t);
    disk->reader = NULL;
}

/* As many as can be started; one is enough to go on. */
static mixt_status start(mixt_disk *disk, mixt_error *error)
{
    int wanted = disk->options.depth;
    threads *t = calloc(1, sizeof *t + (size_t)wanted * sizeof t->ids[0]);
    if (t == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "no memory to read files");
    }
    pthread_cond_init(&t->work, NULL);
    disk->reader = t;
    int number = 0;
    while (t->count < wanted &&
           (number = mixt_disk_thread(&t->ids[t->count], read_pieces, disk)) == 0) {
        mixt_disk_go_first(t->ids[t->count++]);
    }
    if (t->count == 0) {
        join(disk);
        return mixt_fail_errno(error, number, "cannot start a thread that reads files");
    }
    return MIXT_OK;
}

const mixt_disk_way mixt_disk_threads = {
    .name = "pread",
    .name_buffered = "pread, buffered",
    .start = start,
    .kick = kick,
    .join = join,
};
