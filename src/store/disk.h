/* Reading ranges of files into memory, many at once, past the system's cache where the file system
 * can (direct reads). Reads are asked for in any order and finish in any; those that are urgent go
 * before those that are not. By a ring of the kernel's (io_uring) or by threads that pread: threads
 * of the disk's own keep the queue full while the caller computes.
 *
 * A file is opened anew and compared with the map that the model has of it (mixt_map_same), so that
 * one that was replaced in between is refused. One that is replaced afterwards (a new file under
 * the name) goes on being read: the bytes are those of the model. One that is written to or cut
 * is noticed by the first read that ends afterwards, which fails.
 *
 * Memory in large pages (mixt_pages_enlarge, before it is touched) is read into faster, as each
 * small page is a segment of its own for the device: through virtio, of what the host behind it has
 * in memory, 3.7 GB/s against 1.2 (bench/disk.c). */
#ifndef MIXT_STORE_DISK_H
#define MIXT_STORE_DISK_H

#include "core/error.h"
#include "core/map.h"

/* Direct reads begin and end at multiples of this, in the file and in memory. */
#define MIXT_DISK_BLOCK 4096
#define MIXT_DISK_DEPTH_MAX 256

typedef struct mixt_disk mixt_disk;

/* A read; the caller's until it is submitted, and again once it was waited for. `to` and `offset`
 * are equal modulo MIXT_DISK_BLOCK, and memory from `to` rounded down to to + bytes rounded up is
 * written. */
typedef struct mixt_disk_read {
    int file;        /* number that mixt_disk_add gave */
    bool urgent;     /* arithmetic waits for it */
    uint64_t offset; /* in the file */
    size_t bytes;
    void *to;
    void *user;
    /* Called when its bytes are there, or it failed, before it is done, by a thread of those that
     * mixt_disk_add_finishers started; NULL: it is done at once. */
    void (*finish)(struct mixt_disk_read *read);
    /* then: */
    mixt_status status; /* MIXT_OK, or why not: `message` says so, naming file and place */
    char message[500];
    /* of the disk: */
    size_t begun;           /* bytes of the blocks that are under way or were read */
    int pieces;             /* under way */
    bool queued, cancelled; /* some of it has not begun; the rest is not wanted */
    struct mixt_disk_read *next;
} mixt_disk_read;

/* Sees, and may change, what the system said of a piece: bytes, or -errno. For tests; called by
 * any thread. */
typedef int64_t (*mixt_disk_hook)(void *user, uint64_t offset, size_t bytes, int64_t result);

typedef struct mixt_disk_options {
    mixt_store_reader reader;
    int depth;     /* pieces under way at most; 0: enough for common disks */
    size_t piece;  /* bytes that are read at once, blocks; 0: enough for common disks */
    bool buffered; /* through the system's cache, as where direct reads cannot be had */
    mixt_disk_hook hook;
    void *hook_user;
} mixt_disk_options;

/* MIXT_ERROR_UNSUPPORTED: a reader was asked for that is not there. */
mixt_status mixt_disk_create(const mixt_disk_options *options, mixt_disk **disk, mixt_error *error);
/* Reads that have not begun are dropped; waits for what is under way. Reads are the caller's then.
 */
void mixt_disk_free(mixt_disk *disk);
/* Opens a file of its own; the same path again gives the same number. MIXT_ERROR_IO: it is not the
 * one that `map` is of, or was written to since (NULL: any file). Before the first read. */
mixt_status mixt_disk_add(mixt_disk *disk, const char *path, const mixt_map *map, int *file,
                          mixt_error *error);
/* Threads that call reads' `finish`. Before the first read that has one. */
mixt_status mixt_disk_add_finishers(mixt_disk *disk, int count, mixt_error *error);
/* For people: "io_uring" or "pread", with ", buffered" where a file is read through the cache. */
const char *mixt_disk_reader(const mixt_disk *disk);

/* From any thread; waiting from one at a time: */
void mixt_disk_submit(mixt_disk *disk, mixt_disk_read *read);
/* One that is done, in any order; NULL where none is: at once, or where `block` once nothing is
 * under way. */
mixt_disk_read *mixt_disk_wait(mixt_disk *disk, bool block);
/* It goes before those that are not urgent from now on. Nothing where it is done. */
void mixt_disk_hurry(mixt_disk *disk, mixt_disk_read *read);
/* What has not begun of it is dropped: it ends with MIXT_ERROR_INTERRUPTED, and is waited for as
 * others. Nothing where all of it has begun. */
void mixt_disk_cancel(mixt_disk *disk, mixt_disk_read *read);

/* From any thread: bytes that the system gave (whole blocks), reads that were done, seconds in
 * which something was under way, reads not yet waited for. */
typedef struct mixt_disk_statistics {
    uint64_t bytes, reads;
    double busy_seconds;
    int waiting;
} mixt_disk_statistics;
void mixt_disk_describe(mixt_disk *disk, mixt_disk_statistics *statistics);

#endif
