/* Reads of store/disk.h by both readers, direct and through the cache: ranges anywhere in a file,
 * many at once, in the order that was asked for, and what a failing disk does. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/map.h"
#include "core/random.h"
#include "left_behind.h"
#include "sanitized.h"
#include "scratch.h"
#include "store/disk.h"

#define FILE_BYTES ((size_t)5 * 1024 * 1024 + 1234)
#define READS 64
#define MARGIN 0xA5 /* around what is read */

static unsigned char *content;

static unsigned char byte_at(size_t i)
{
    return (unsigned char)((i * 2654435761U) >> 13);
}

/* A file of the made-up content. */
static char *make_file(const char *name)
{
    char *path = scratch_path(name);
    write_file(path, content, FILE_BYTES);
    return path;
}

/* Every way to read: both readers, direct and not, pieces small and large. */
typedef struct way {
    const char *name;
    mixt_disk_options options;
} way;

static const way ways[] = {
    {"ring", {.reader = MIXT_STORE_READER_RING}},
    {"ring, small pieces", {.reader = MIXT_STORE_READER_RING, .piece = 16384, .depth = 5}},
    {"ring, buffered", {.reader = MIXT_STORE_READER_RING, .buffered = true, .piece = 65536}},
    {"threads", {.reader = MIXT_STORE_READER_THREADS}},
    {"threads, small pieces", {.reader = MIXT_STORE_READER_THREADS, .piece = 16384, .depth = 5}},
    {"threads, buffered", {.reader = MIXT_STORE_READER_THREADS, .buffered = true, .piece = 65536}},
};
#define WAYS (sizeof ways / sizeof ways[0])

/* A disk with one file; NULL where the system has no such reader. */
static mixt_disk *open_disk(mixt_disk_options options, const char *path, int *file)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_disk *disk;
    mixt_status status = mixt_disk_create(&options, &disk, &error);
    if (status == MIXT_ERROR_UNSUPPORTED && options.reader == MIXT_STORE_READER_RING) {
        assert_non_null(strstr(error.message, "io_uring: "));
        return NULL;
    }
    must(status, &error);
    must(mixt_disk_add(disk, path, NULL, file, &error), &error);
    return disk;
}

/* A read with memory of its own, blocks around it. */
typedef struct box {
    mixt_disk_read read;
    unsigned char *memory;
    size_t size;
} box;

static void box_make(box *b, int file, uint64_t offset, size_t bytes)
{
    size_t first = offset % MIXT_DISK_BLOCK;
    b->size = (first + bytes + MIXT_DISK_BLOCK - 1) / MIXT_DISK_BLOCK * MIXT_DISK_BLOCK;
    b->size += 2 * MIXT_DISK_BLOCK;
    b->memory = aligned_alloc(MIXT_DISK_BLOCK, b->size);
    assert_non_null(b->memory);
    memset(b->memory, MARGIN, b->size);
    b->read = (mixt_disk_read){
        .file = file,
        .offset = offset,
        .bytes = bytes,
        .to = b->memory + MIXT_DISK_BLOCK + first,
        .user = b,
    };
}

/* All of it is there, and nothing outside of its blocks was written. */
static void box_check(const box *b)
{
    assert_int_equal(b->read.status, MIXT_OK);
    assert_string_equal(b->read.message, "");
    assert_memory_equal(b->read.to, content + b->read.offset, b->read.bytes);
    for (size_t i = 0; i < MIXT_DISK_BLOCK; i++) {
        assert_int_equal(b->memory[i], MARGIN);
        assert_int_equal(b->memory[b->size - 1 - i], MARGIN);
    }
}

static box *wait_box(mixt_disk *disk)
{
    mixt_disk_read *read = mixt_disk_wait(disk, true);
    assert_non_null(read);
    return read->user;
}

/* ---- what is read */

/* Range number `index` of a disk's. */
static void random_range(uint64_t seed, uint64_t index, uint64_t *offset, size_t *bytes)
{
    const mixt_random_key key = {.seed = seed, .purpose = MIXT_RANDOM_DATA};
    *offset = mixt_random_below(&key, 3 * index, FILE_BYTES);
    size_t most = FILE_BYTES - (size_t)*offset;
    *bytes = most; /* to the end */
    if (mixt_random_below(&key, 3 * index + 1, 4) != 0) {
        most = most > 600000 ? 600000 : most;
        *bytes = (size_t)mixt_random_below(&key, 3 * index + 2, most + 1);
    }
}

static void test_ranges(void **state)
{
    (void)state;
    char *path = make_file("ranges");
    for (size_t i = 0; i < WAYS; i++) {
        int file, again;
        mixt_disk *disk = open_disk(ways[i].options, path, &file);
        if (disk == NULL) {
            continue;
        }
        mixt_error error = MIXT_ERROR_INIT;
        must(mixt_disk_add(disk, path, NULL, &again, &error), &error);
        assert_int_equal(again, file);
        static box boxes[READS];
        for (int round = 0; round < (SANITIZED ? 1 : 4); round++) {
            uint64_t wanted = 0;
            mixt_disk_statistics before, after;
            mixt_disk_describe(disk, &before);
            for (int k = 0; k < READS; k++) {
                uint64_t offset;
                size_t bytes;
                random_range(i, (uint64_t)(round * READS + k), &offset, &bytes);
                box_make(&boxes[k], file, offset, bytes);
                boxes[k].read.urgent = k % 3 == 0;
                wanted += bytes;
                mixt_disk_submit(disk, &boxes[k].read);
            }
            for (int k = 0; k < READS; k++) {
                box_check(wait_box(disk));
            }
            assert_null(mixt_disk_wait(disk, true));
            assert_null(mixt_disk_wait(disk, false));
            mixt_disk_describe(disk, &after);
            assert_int_equal(after.reads - before.reads, READS);
            assert_int_equal(after.waiting, 0);
            assert_true(after.bytes - before.bytes >= wanted);
            assert_true(after.busy_seconds > before.busy_seconds);
            for (int k = 0; k < READS; k++) {
                free(boxes[k].memory);
            }
        }
        mixt_disk_free(disk);
    }
    free(path);
}

static void test_nothing(void **state)
{
    (void)state;
    char *path = scratch_path("empty");
    write_file(path, "", 0);
    for (size_t i = 0; i < WAYS; i++) {
        int file;
        mixt_disk *disk = open_disk(ways[i].options, path, &file);
        if (disk == NULL) {
            continue;
        }
        box b;
        box_make(&b, file, 0, 0);
        mixt_disk_submit(disk, &b.read);
        assert_ptr_equal(wait_box(disk), &b);
        box_check(&b);
        free(b.memory);
        mixt_disk_free(disk);
    }
    free(path);
}

/* A file system that may have no direct reads. */
static void test_memory_file_system(void **state)
{
    (void)state;
    char path[] = "/dev/shm/mixt-disk-XXXXXX";
    int descriptor = mkstemp(path);
    if (descriptor < 0 || write(descriptor, content, FILE_BYTES) != (ssize_t)FILE_BYTES) {
        return;
    }
    close(descriptor);
    for (size_t i = 0; i < WAYS; i++) {
        int file;
        mixt_disk *disk = open_disk(ways[i].options, path, &file);
        if (disk != NULL) {
            box b;
            box_make(&b, file, 4097, 1000000);
            mixt_disk_submit(disk, &b.read);
            wait_box(disk);
            box_check(&b);
            free(b.memory);
            if (ways[i].options.buffered) {
                assert_non_null(strstr(mixt_disk_reader(disk), ", buffered"));
            }
            mixt_disk_free(disk);
        }
    }
    unlink(path);
}

/* ---- in which order */

/* Holds every result back while it is closed. */
typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t change;
    bool closed;
    int waiting;
} gate;

static int64_t pass_gate(void *user, uint64_t offset, size_t bytes, int64_t result)
{
    (void)offset;
    (void)bytes;
    gate *g = user;
    pthread_mutex_lock(&g->lock);
    g->waiting++;
    pthread_cond_broadcast(&g->change);
    while (g->closed) {
        pthread_cond_wait(&g->change, &g->lock);
    }
    g->waiting--;
    pthread_mutex_unlock(&g->lock);
    return result;
}

static void gate_close(gate *g)
{
    pthread_mutex_lock(&g->lock);
    g->closed = true;
    pthread_mutex_unlock(&g->lock);
}

static void gate_await(gate *g, int count)
{
    pthread_mutex_lock(&g->lock);
    while (g->waiting < count) {
        pthread_cond_wait(&g->change, &g->lock);
    }
    pthread_mutex_unlock(&g->lock);
}

static void gate_open(gate *g)
{
    pthread_mutex_lock(&g->lock);
    g->closed = false;
    pthread_cond_broadcast(&g->change);
    pthread_mutex_unlock(&g->lock);
}

#define GATE                                                                                       \
    {                                                                                              \
        PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0                              \
    }

static const mixt_store_reader readers[] = {MIXT_STORE_READER_RING, MIXT_STORE_READER_THREADS};

/* One piece at a time; the first is under way, held at the gate, while the others are asked for. */
static void test_order(void **state)
{
    (void)state;
    char *path = make_file("order");
    for (int i = 0; i < 2; i++) {
        gate g = GATE;
        int file;
        mixt_disk *disk = open_disk((mixt_disk_options){.reader = readers[i],
                                                        .depth = 1,
                                                        .piece = 65536,
                                                        .hook = pass_gate,
                                                        .hook_user = &g},
                                    path, &file);
        if (disk == NULL) {
            continue;
        }
        box boxes[7];
        for (int k = 0; k < 7; k++) {
            box_make(&boxes[k], file, (uint64_t)k * 500000, k == 0 ? 10 : 300000);
            boxes[k].read.urgent = k == 3 || k == 5;
        }
        gate_close(&g);
        mixt_disk_submit(disk, &boxes[0].read);
        gate_await(&g, 1);
        for (int k = 1; k < 7; k++) {
            mixt_disk_submit(disk, &boxes[k].read);
        }
        assert_null(mixt_disk_wait(disk, false));
        mixt_disk_hurry(disk, &boxes[6].read);
        mixt_disk_cancel(disk, &boxes[2].read);
        mixt_disk_cancel(disk, &boxes[0].read); /* all of it has begun: nothing happens */
        assert_ptr_equal(mixt_disk_wait(disk, false), &boxes[2].read);
        assert_int_equal(boxes[2].read.status, MIXT_ERROR_INTERRUPTED);
        assert_non_null(strstr(boxes[2].read.message, "/order: a read was given up"));
        gate_open(&g);
        static const int order[] = {0, 3, 5, 6, 1, 4};
        for (size_t k = 0; k < sizeof order / sizeof order[0]; k++) {
            box *b = wait_box(disk);
            assert_int_equal(b - boxes, order[k]);
            box_check(b);
            mixt_disk_hurry(disk, &b->read); /* done */
            mixt_disk_cancel(disk, &b->read);
        }
        assert_null(mixt_disk_wait(disk, true));
        for (int k = 0; k < 7; k++) {
            free(boxes[k].memory);
        }
        mixt_disk_free(disk);
    }
    free(path);
}

/* Of a read that was not urgent, and is now, more pieces begin at once. */
static void test_hurry_begun(void **state)
{
    (void)state;
    char *path = make_file("hurry");
    gate g = GATE;
    int file;
    mixt_disk *disk = open_disk((mixt_disk_options){.reader = MIXT_STORE_READER_THREADS,
                                                    .depth = 3,
                                                    .piece = 65536,
                                                    .hook = pass_gate,
                                                    .hook_user = &g},
                                path, &file);
    box one;
    box_make(&one, file, 1000, 600000);
    gate_close(&g);
    mixt_disk_submit(disk, &one.read);
    gate_await(&g, 1);
    mixt_disk_hurry(disk, &one.read);
    gate_await(&g, 3);
    gate_open(&g);
    assert_ptr_equal(wait_box(disk), &one);
    box_check(&one);
    free(one.memory);
    mixt_disk_free(disk);
    free(path);
}

/* What pieces were read, by threads: how many at once, and their sizes. */
typedef struct pieces {
    pthread_mutex_t lock;
    int inside, most, count;
    size_t least, largest;
} pieces;

static int64_t note_piece(void *user, uint64_t offset, size_t bytes, int64_t result)
{
    (void)offset;
    pieces *p = user;
    pthread_mutex_lock(&p->lock);
    p->inside++;
    p->most = p->inside > p->most ? p->inside : p->most;
    p->least = p->count == 0 || bytes < p->least ? bytes : p->least;
    p->largest = bytes > p->largest ? bytes : p->largest;
    p->count++;
    pthread_mutex_unlock(&p->lock);
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    pthread_mutex_lock(&p->lock);
    p->inside--;
    pthread_mutex_unlock(&p->lock);
    return result;
}

/* A read is cut into pieces that are alike; what is not urgent goes one piece at a time. */
static void test_pieces(void **state)
{
    (void)state;
    char *path = make_file("pieces");
    for (int urgent = 0; urgent < 2; urgent++) {
        pieces p = {.lock = PTHREAD_MUTEX_INITIALIZER};
        int file;
        mixt_disk *disk = open_disk((mixt_disk_options){.reader = MIXT_STORE_READER_THREADS,
                                                        .depth = 4,
                                                        .piece = (size_t)1 << 20,
                                                        .hook = note_piece,
                                                        .hook_user = &p},
                                    path, &file);
        box boxes[6];
        for (int k = 0; k < 6; k++) {
            box_make(&boxes[k], file, (uint64_t)k * 500000, 2200000);
            boxes[k].read.urgent = urgent;
            mixt_disk_submit(disk, &boxes[k].read);
        }
        for (int k = 0; k < 6; k++) {
            box *b = wait_box(disk);
            box_check(b);
            free(b->memory);
        }
        assert_int_equal(p.count, 18);
        assert_in_range(p.least, p.largest - 3 * 4096, p.largest);
        assert_in_range(p.most, 1, urgent ? 4 : 1);
        mixt_disk_free(disk);
    }
    free(path);
}

/* A read of which some pieces have begun ends early. */
static void test_cancel_begun(void **state)
{
    (void)state;
    char *path = make_file("cancel");
    for (int i = 0; i < 2; i++) {
        gate g = GATE;
        int file;
        mixt_disk *disk = open_disk((mixt_disk_options){.reader = readers[i],
                                                        .depth = 2,
                                                        .piece = 4096,
                                                        .hook = pass_gate,
                                                        .hook_user = &g},
                                    path, &file);
        if (disk == NULL) {
            continue;
        }
        box b;
        box_make(&b, file, 0, FILE_BYTES);
        gate_close(&g);
        mixt_disk_submit(disk, &b.read);
        gate_await(&g, 1);
        mixt_disk_cancel(disk, &b.read);
        assert_null(mixt_disk_wait(disk, false));
        gate_open(&g);
        assert_ptr_equal(wait_box(disk), &b);
        assert_int_equal(b.read.status, MIXT_ERROR_INTERRUPTED);
        mixt_disk_statistics statistics;
        mixt_disk_describe(disk, &statistics);
        assert_true(statistics.bytes <= 2 * 4096);
        free(b.memory);
        mixt_disk_free(disk);
    }
    free(path);
}

/* ---- what goes wrong */

typedef struct fault {
    atomic_int left;  /* results that are changed */
    uint64_t from;    /* those at this offset and behind */
    int64_t result;   /* what they become, or -1: half of it, -2: less than a block */
    long nanoseconds; /* later */
} fault;

static int64_t make_fault(void *user, uint64_t offset, size_t bytes, int64_t result)
{
    (void)bytes;
    fault *f = user;
    if (f->nanoseconds != 0) {
        nanosleep(&(struct timespec){.tv_nsec = f->nanoseconds}, NULL);
    }
    if (offset < f->from || atomic_fetch_sub(&f->left, 1) <= 0) {
        return result;
    }
    return f->result == -1 ? (result + 1) / 2 : f->result == -2 ? result % 4096 : f->result;
}

static void expect_line(const box *b, mixt_status status, const char *line)
{
    assert_int_equal(b->read.status, status);
    assert_memory_equal(b->read.message, scratch, strlen(scratch));
    assert_string_equal(b->read.message + strlen(scratch) + 1, line);
}

/* Reads all of a file with a fault; another read behind it is whole. */
static void read_with(const way *w, const char *path, fault *f, mixt_status status,
                      const char *line)
{
    mixt_disk_options options = w->options;
    options.hook = make_fault;
    options.hook_user = f;
    int file;
    mixt_disk *disk = open_disk(options, path, &file);
    if (disk == NULL) {
        return;
    }
    box boxes[2];
    box_make(&boxes[0], file, 3000, FILE_BYTES - 3000);
    box_make(&boxes[1], file, 0, 100);
    mixt_disk_submit(disk, &boxes[0].read);
    assert_ptr_equal(wait_box(disk), &boxes[0]);
    if (status == MIXT_OK) {
        box_check(&boxes[0]);
    } else {
        assert_int_equal(boxes[0].read.status, status);
        assert_memory_equal(boxes[0].read.message, scratch, strlen(scratch));
        assert_memory_equal(boxes[0].read.message + strlen(scratch) + 1, line, strlen(line));
    }
    atomic_store(&f->left, 0);
    mixt_disk_submit(disk, &boxes[1].read);
    assert_ptr_equal(wait_box(disk), &boxes[1]);
    box_check(&boxes[1]);
    free(boxes[0].memory);
    free(boxes[1].memory);
    mixt_disk_free(disk);
}

static void test_faults(void **state)
{
    (void)state;
    char *path = make_file("faults");
    for (size_t i = 0; i < WAYS; i++) {
        const way *w = &ways[i];
        read_with(w, path, &(fault){.left = 30, .result = -EINTR}, MIXT_OK, NULL);
        read_with(w, path, &(fault){.left = 30, .result = -EAGAIN}, MIXT_OK, NULL);
        read_with(w, path, &(fault){.left = 30, .result = -1}, MIXT_OK, NULL);
        read_with(w, path, &(fault){.left = 30, .result = -2}, MIXT_OK, NULL);
        read_with(w, path, &(fault){.left = 30, .nanoseconds = 50000}, MIXT_OK, NULL);
        read_with(w, path, &(fault){.left = 1, .result = -EIO}, MIXT_ERROR_IO,
                  "faults: cannot read ");
        read_with(w, path, &(fault){.left = 100000, .from = 1 << 20, .result = -EINTR},
                  MIXT_ERROR_IO, "faults: cannot read ");
        read_with(w, path, &(fault){.left = 100000, .from = 1 << 20, .result = 0}, MIXT_ERROR_IO,
                  "faults: cannot read beyond byte ");
    }
    free(path);
}

static void test_error_line(void **state)
{
    (void)state;
    char *path = make_file("line");
    for (int i = 0; i < 2; i++) {
        fault f = {.left = 1, .from = 1 << 20, .result = -EIO};
        int file;
        mixt_disk *disk = open_disk(
            (mixt_disk_options){.reader = readers[i], .hook = make_fault, .hook_user = &f}, path,
            &file);
        if (disk == NULL) {
            continue;
        }
        box b;
        box_make(&b, file, 1 << 20, 8192);
        mixt_disk_submit(disk, &b.read);
        wait_box(disk);
        expect_line(&b, MIXT_ERROR_IO,
                    "line: cannot read 8192 bytes at byte 1048576: Input/output error");
        free(b.memory);
        mixt_disk_free(disk);
    }
    free(path);
}

static void set_time(const char *path, time_t seconds)
{
    struct timespec times[2] = {{.tv_sec = seconds}, {.tv_sec = seconds}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* Cut short, or written to, since it was added. */
static void test_changed_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < WAYS; i++) {
        char *path = make_file("changed");
        set_time(path, 1000000000);
        int file;
        mixt_disk *disk = open_disk(ways[i].options, path, &file);
        if (disk == NULL) {
            free(path);
            continue;
        }
        box b;
        box_make(&b, file, 100, 20000);
        mixt_disk_submit(disk, &b.read);
        wait_box(disk);
        box_check(&b);
        set_time(path, 1000000001);
        mixt_disk_submit(disk, &b.read);
        wait_box(disk);
        expect_line(&b, MIXT_ERROR_IO, "changed: was written to while it is in use");
        assert_int_equal(truncate(path, 10000), 0);
        mixt_disk_submit(disk, &b.read);
        wait_box(disk);
        expect_line(&b, MIXT_ERROR_IO,
                    "changed: ends at byte 10000, inside of a read: it became shorter");
        b.read.bytes = 100; /* still there */
        mixt_disk_submit(disk, &b.read);
        wait_box(disk);
        expect_line(&b, MIXT_ERROR_IO, "changed: ends at byte 10000: it became shorter");
        free(b.memory);
        mixt_disk_free(disk);
        free(path);
    }
}

static void expect_changed(mixt_status status, const mixt_error *error)
{
    assert_int_equal(status, MIXT_ERROR_IO);
    assert_non_null(
        strstr(error->message, "/model: was replaced or written to since it was opened"));
}

/* The model's file is another than the one of the name now. */
static void test_replaced(void **state)
{
    (void)state;
    mixt_error error = MIXT_ERROR_INIT;
    char *path = make_file("model"), *other = make_file("other");
    set_time(path, 1000000000);
    set_time(other, 1000000000);
    mixt_map *map;
    must(mixt_map_open(path, &map, &error), &error);
    mixt_disk *disk;
    must(mixt_disk_create(&(mixt_disk_options){0}, &disk, &error), &error);
    int file;
    must(mixt_disk_add(disk, path, map, &file, &error), &error);
    box b;
    box_make(&b, file, 5, 3000000);
    assert_int_equal(rename(other, path), 0); /* read on from what was opened */
    mixt_disk_submit(disk, &b.read);
    wait_box(disk);
    box_check(&b);
    free(b.memory);
    mixt_disk_free(disk);

    must(mixt_disk_create(&(mixt_disk_options){0}, &disk, &error), &error);
    expect_changed(mixt_disk_add(disk, path, map, &file, &error), &error);
    mixt_map_close(map);
    error = (mixt_error)MIXT_ERROR_INIT;
    must(mixt_map_open(path, &map, &error), &error);
    must(mixt_disk_add(disk, path, map, &file, &error), &error);
    mixt_disk_free(disk);

    must(mixt_disk_create(&(mixt_disk_options){0}, &disk, &error), &error);
    set_time(path, 1000000001);
    expect_changed(mixt_disk_add(disk, path, map, &file, &error), &error);
    error = (mixt_error)MIXT_ERROR_INIT;
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mixt_disk_add(disk, path, map, &file, &error), MIXT_ERROR_NOT_FOUND);
    error = (mixt_error)MIXT_ERROR_INIT;
    assert_int_not_equal(mixt_disk_add(disk, scratch, NULL, &file, &error), MIXT_OK);
    mixt_map_close(map);
    mixt_disk_free(disk);
    free(path);
    free(other);
}

/* ---- nothing is left behind */

static void test_free_under_way(void **state)
{
    (void)state;
    char *path = make_file("free");
    int descriptors = count_entries("/proc/self/fd"), threads = count_entries("/proc/self/task");
    for (size_t i = 0; i < WAYS; i++) {
        for (int round = 0; round < 8; round++) {
            fault f = {.nanoseconds = round % 2 == 0 ? 0 : 20000};
            mixt_disk_options options = ways[i].options;
            options.hook = make_fault;
            options.hook_user = &f;
            int file;
            mixt_disk *disk = open_disk(options, path, &file);
            if (disk == NULL) {
                continue;
            }
            box boxes[20];
            for (int k = 0; k < 20; k++) {
                box_make(&boxes[k], file, (uint64_t)k * 1000, 200000);
                mixt_disk_submit(disk, &boxes[k].read);
            }
            for (int k = 0; k < round; k++) {
                box_check(wait_box(disk));
            }
            mixt_disk_free(disk);
            for (int k = 0; k < 20; k++) {
                free(boxes[k].memory);
            }
        }
    }
    expect_no_more_entries("/proc/self/fd", descriptors);
    expect_no_more_entries("/proc/self/task", threads);
    free(path);
}

/* No descriptor is left for a ring: threads take over, unless it was asked for. */
static void test_refused_ring(void **state)
{
    (void)state;
    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    mixt_error error = MIXT_ERROR_INIT;
    mixt_disk *disk, *ring;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    mixt_status by_threads = mixt_disk_create(&(mixt_disk_options){0}, &disk, NULL);
    mixt_status by_ring =
        mixt_disk_create(&(mixt_disk_options){.reader = MIXT_STORE_READER_RING}, &ring, &error);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(by_threads, MIXT_OK);
    assert_string_equal(mixt_disk_reader(disk), "pread");
    mixt_disk_free(disk);
    assert_int_equal(by_ring, MIXT_ERROR_UNSUPPORTED);
    assert_memory_equal(error.message, "io_uring: ", 10);
    assert_int_equal(mixt_disk_create(&(mixt_disk_options){.depth = -1}, &disk, NULL),
                     MIXT_ERROR_ARGUMENT);
}

/* ---- time */

/* Two reads at once count once; what is asked from another thread is in order. */
static void *watch(void *argument)
{
    mixt_disk *disk = argument;
    mixt_disk_statistics last = {0}, now;
    do {
        mixt_disk_describe(disk, &now);
        if (now.bytes < last.bytes || now.reads < last.reads ||
            now.busy_seconds < last.busy_seconds) {
            return disk;
        }
        last = now;
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    } while (now.reads < READS);
    return NULL;
}

static double seconds_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void test_busy(void **state)
{
    (void)state;
    char *path = make_file("busy");
    for (int i = 0; i < 2; i++) {
        fault f = {.nanoseconds = 1000000};
        int file;
        mixt_disk *disk = open_disk(
            (mixt_disk_options){.reader = readers[i], .hook = make_fault, .hook_user = &f}, path,
            &file);
        if (disk == NULL) {
            continue;
        }
        double begin = seconds_now();
        pthread_t watcher;
        assert_int_equal(pthread_create(&watcher, NULL, watch, disk), 0);
        static box boxes[READS];
        for (int k = 0; k < READS; k++) {
            box_make(&boxes[k], file, (uint64_t)k * 4096, 4096);
            mixt_disk_submit(disk, &boxes[k].read);
        }
        for (int k = 0; k < READS; k++) {
            box_check(wait_box(disk));
        }
        double wall = seconds_now() - begin;
        void *disorder;
        pthread_join(watcher, &disorder);
        assert_null(disorder);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL); /* nothing is under way */
        mixt_disk_statistics statistics;
        mixt_disk_describe(disk, &statistics);
        assert_true(statistics.busy_seconds <= wall);
        assert_true(statistics.busy_seconds >= READS / 8 * 1e-3);
        assert_int_equal(statistics.bytes, READS * 4096);
        for (int k = 0; k < READS; k++) {
            free(boxes[k].memory);
        }
        mixt_disk_free(disk);
    }
    free(path);
}

static int make(void **state)
{
    content = malloc(FILE_BYTES);
    for (size_t i = 0; content != NULL && i < FILE_BYTES; i++) {
        content[i] = byte_at(i);
    }
    return content == NULL ? 1 : scratch_make(state);
}

static int destroy(void **state)
{
    free(content);
    return scratch_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges),         cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_order),          cmocka_unit_test(test_hurry_begun),
        cmocka_unit_test(test_pieces),         cmocka_unit_test(test_cancel_begun),
        cmocka_unit_test(test_faults),         cmocka_unit_test(test_error_line),
        cmocka_unit_test(test_changed_files),  cmocka_unit_test(test_replaced),
        cmocka_unit_test(test_free_under_way), cmocka_unit_test(test_refused_ring),
        cmocka_unit_test(test_busy),           cmocka_unit_test(test_memory_file_system),
    };
    return cmocka_run_group_tests_name("disk", tests, make, destroy);
}
