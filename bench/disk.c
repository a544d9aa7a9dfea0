/* How fast files are read past the cache, as experts are (store/disk.h): GB a second by reader,
 * depth of the queue and size of a piece, and how long an urgent read takes behind prefetches that
 * fill the queue. Random ranges of FILE, which should be larger than what one row reads. Rows are
 * measured in turns, the best of the rounds is shown. Memory is in large pages. A machine that is
 * virtual may have a host that caches: what was never read is the disk's speed. Usage: disk FILE
 * [MB of a row [KiB of a read [rounds]]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "core/memory.h"
#include "core/random.h"
#include "store/disk.h"

#define AT_ONCE 32 /* reads that are asked for before the first is waited for */

static const mixt_store_reader readers[] = {MIXT_STORE_READER_RING, MIXT_STORE_READER_THREADS};
static const int depths[] = {1, 2, 4, 8, 16, 32};
static const size_t pieces[] = {128, 256, 512, 1024, 2048, 4096}; /* KiB */
#define READERS 2
#define DEPTHS 6
#define PIECES 6

typedef struct bench {
    const char *path;
    uint64_t size;
    size_t bytes, row; /* of a read; of all of a row */
    unsigned char *memory;
    uint64_t drawn; /* ranges so far */
} bench;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void fail(const mixt_error *error)
{
    fprintf(stderr, "%s\n", error->message);
    exit(1);
}

static void ask(bench *b, mixt_disk *disk, mixt_disk_read *read)
{
    const mixt_random_key key = {.seed = 1, .purpose = MIXT_RANDOM_DATA};
    uint64_t blocks = (b->size - b->bytes) / MIXT_DISK_BLOCK;
    read->offset = mixt_random_below(&key, b->drawn++, blocks) * MIXT_DISK_BLOCK;
    read->bytes = b->bytes;
    mixt_disk_submit(disk, read);
}

static void take(mixt_disk_read *read)
{
    if (read->status != MIXT_OK) {
        fprintf(stderr, "%s\n", read->message);
        exit(1);
    }
}

static mixt_disk *open_disk(const bench *b, mixt_disk_options options)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_disk *disk;
    int file;
    if (mixt_disk_create(&options, &disk, &error) != MIXT_OK) {
        return NULL; /* no such reader here */
    }
    if (mixt_disk_add(disk, b->path, NULL, &file, &error) != MIXT_OK) {
        fail(&error);
    }
    return disk;
}

/* GB in a second; 0 without the reader. */
static double rate(bench *b, mixt_disk_options options)
{
    mixt_disk *disk = open_disk(b, options);
    if (disk == NULL) {
        return 0;
    }
    static mixt_disk_read reads[AT_ONCE];
    size_t count = b->row / b->bytes, asked = 0;
    double begin = now();
    for (; asked < AT_ONCE && asked < count; asked++) {
        reads[asked] = (mixt_disk_read){.to = b->memory + asked * b->bytes};
        ask(b, disk, &reads[asked]);
    }
    for (size_t done = 0; done < count; done++) {
        mixt_disk_read *read = mixt_disk_wait(disk, true);
        take(read);
        if (asked < count) {
            asked++;
            ask(b, disk, read);
        }
    }
    double seconds = now() - begin;
    mixt_disk_free(disk);
    return (double)count * (double)b->bytes / seconds / 1e9;
}

/* Milliseconds until one urgent read is there, behind others that are not. */
static double latency(bench *b, mixt_disk_options options)
{
    mixt_disk *disk = open_disk(b, options);
    if (disk == NULL) {
        return 0;
    }
    static mixt_disk_read reads[AT_ONCE];
    for (int i = 0; i + 1 < AT_ONCE; i++) {
        reads[i] = (mixt_disk_read){.to = b->memory + (size_t)i * b->bytes};
        ask(b, disk, &reads[i]);
    }
    take(mixt_disk_wait(disk, true));
    mixt_disk_read *urgent = &reads[AT_ONCE - 1];
    *urgent = (mixt_disk_read){.to = b->memory + (AT_ONCE - 1) * b->bytes, .urgent = true};
    double begin = now();
    ask(b, disk, urgent);
    while (mixt_disk_wait(disk, true) != urgent) {
    }
    double seconds = now() - begin;
    mixt_disk_free(disk);
    return seconds * 1e3;
}

typedef struct table {
    double rate[READERS][DEPTHS][PIECES], latency[READERS][DEPTHS][PIECES];
} table;

static void measure(bench *b, table *t)
{
    for (int i = 0; i < READERS * DEPTHS * PIECES; i++) {
        int reader = i / (DEPTHS * PIECES), depth = i / PIECES % DEPTHS, piece = i % PIECES;
        const mixt_disk_options options = {
            .reader = readers[reader], .depth = depths[depth], .piece = pieces[piece] << 10};
        double r = rate(b, options), l = latency(b, options);
        double *best = &t->rate[reader][depth][piece], *least = &t->latency[reader][depth][piece];
        *best = r > *best ? r : *best;
        *least = *least == 0 || l < *least ? l : *least;
    }
}

static void print(const table *t)
{
    static const char *const names[] = {"io_uring", "pread"};
    for (int reader = 0; reader < READERS; reader++) {
        printf("%s: GB/s, and ms for an urgent read behind a full queue\n%6s", names[reader],
               "depth");
        for (int piece = 0; piece < PIECES; piece++) {
            printf("%10zu KiB", pieces[piece]);
        }
        printf("\n");
        for (int depth = 0; depth < DEPTHS; depth++) {
            printf("%6d", depths[depth]);
            for (int piece = 0; piece < PIECES; piece++) {
                printf("%7.2f %6.1f", t->rate[reader][depth][piece],
                       t->latency[reader][depth][piece]);
            }
            printf("\n");
        }
    }
}

int main(int count, char **arguments)
{
    struct stat status;
    if (count < 2 || stat(arguments[1], &status) != 0) {
        fprintf(stderr, "usage: disk FILE [MB of a row [KiB of a read [rounds]]]\n");
        return 2;
    }
    bench b = {.path = arguments[1], .size = (uint64_t)status.st_size};
    b.row = (size_t)(count > 2 ? atoi(arguments[2]) : 256) * 1000000;
    b.bytes = (size_t)(count > 3 ? atoi(arguments[3]) : 4096) << 10;
    int rounds = count > 4 ? atoi(arguments[4]) : 1;
    b.memory = mixt_block_allocate(AT_ONCE * b.bytes);
    if (b.memory == NULL || b.bytes == 0 || b.bytes % MIXT_DISK_BLOCK != 0 || b.size <= b.bytes) {
        fprintf(stderr, "disk: no memory, or %s is smaller than a read\n", b.path);
        return 1;
    }
    memset(b.memory, 1, AT_ONCE * b.bytes);
    static table t;
    for (int round = 0; round < rounds; round++) {
        measure(&b, &t);
    }
    print(&t);
    mixt_block_free(b.memory, AT_ONCE * b.bytes);
    return 0;
}
