/* Reading ranges of files into memory, many at once, past the system's cache where the file system
 * can (O_DIRECT). Reads are asked for in any order and finish in any; those that are urgent go
 * before those that are not. By a ring of the kernel's (io_uring) or by threads that pread. */
#ifndef MIXT_STORE_DISK_H
#define MIXT_STORE_DISK_H

#include "core/error.h"

/* Direct reads begin and end at multiples of this, in the file and in memory. */
#define MIXT_DISK_BLOCK 4096

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
    /* then: */
    mixt_status status; /* MIXT_OK, or why not: `message` says so, naming file and place */
    char message[400];
    /* of the disk: */
    size_t begun, done; /* bytes */
    int error;
    bool cancelled;
    struct mixt_disk_read *next;
} mixt_disk_read;

typedef struct mixt_disk_options {
    mixt_store_reader reader;
    int depth; /* pieces under way at most; 0: enough for common disks */
} mixt_disk_options;

/* MIXT_ERROR_UNSUPPORTED: a reader was asked for that is not there. */
mixt_status mixt_disk_create(const mixt_disk_options *options, mixt_disk **disk, mixt_error *error);
/* Waits for what is under way. */
void mixt_disk_free(mixt_disk *disk);
/* Opens a file of its own; the same path again gives the same number. Before the first read. */
mixt_status mixt_disk_add(mixt_disk *disk, const char *path, int *file, mixt_error *error);
const char *mixt_disk_reader(const mixt_disk *disk); /* for people */

/* From one thread at a time: */
void mixt_disk_submit(mixt_disk *disk, mixt_disk_read *read);
/* One that is done, in any order; NULL where none is: at once, or where `block` once nothing is
 * under way. */
mixt_disk_read *mixt_disk_wait(mixt_disk *disk, bool block);
/* It goes before those that are not urgent from now on. */
void mixt_disk_hurry(mixt_disk *disk, mixt_disk_read *read);
/* Reads that have not begun end with MIXT_ERROR_CANCELLED or the like and are waited for as others.
 */
void mixt_disk_cancel(mixt_disk *disk, mixt_disk_read *read);

/* From any thread: bytes read, seconds in which something was under way, reads not yet waited for.
 */
typedef struct mixt_disk_statistics {
    uint64_t bytes, reads;
    double busy_seconds;
    int waiting;
} mixt_disk_statistics;
void mixt_disk_describe(mixt_disk *disk, mixt_disk_statistics *statistics);

#endif
