#include "store/disk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/files.h"
#include "core/memory.h"
#include "core/platform.h"
#include "store/disk_parts.h"

/* Large pieces: each costs the system, or a host below it, some time (bench/disk.c). So many bytes
 * under way keep a drive of 10 GB/s and 1.6 ms busy. What is not urgent goes piece by piece, as an
 * urgent read waits for all that has begun. */
#define DEFAULT_DEPTH 8
#define DEFAULT_PIECE ((size_t)4 << 20)
#define UNDER_WAY_MOST ((size_t)16 << 20)
#define FRUITLESS_MOST 100 /* interrupted, or nothing of a file that has more */

static double seconds_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* ---- queues */

void mixt_disk_push(mixt_disk_queue *queue, mixt_disk_read *read)
{
    read->next = NULL;
    if (queue->last != NULL) {
        queue->last->next = read;
    } else {
        queue->first = read;
    }
    queue->last = read;
}

bool mixt_disk_pull(mixt_disk_queue *queue, mixt_disk_read *read)
{
    mixt_disk_read *before = NULL;
    for (mixt_disk_read *at = queue->first; at != NULL; before = at, at = at->next) {
        if (at == read) {
            *(before == NULL ? &queue->first : &before->next) = read->next;
            queue->last = queue->last == read ? before : queue->last;
            return true;
        }
    }
    return false;
}

static void leave_queue(mixt_disk *disk, mixt_disk_read *read)
{
    if (read->queued) {
        bool found = mixt_disk_pull(&disk->urgent, read) || mixt_disk_pull(&disk->later, read);
        assert(found);
        (void)found;
        read->queued = false;
    }
}

/* ---- reads and pieces */

static void fail_read(mixt_disk_read *read, const mixt_error *error)
{
    if (read->status == MIXT_OK) {
        read->status = error->status;
        snprintf(read->message, sizeof read->message, "%s", error->message);
    }
}

/* Its content is that of when it was added: a file that is cut and written anew has its old size.
 */
static mixt_status check_unchanged(const mixt_disk_file *file, mixt_error *error)
{
    struct stat now;
    if (fstat(file->descriptor, &now) != 0) {
        return mixt_fail_errno(error, errno, "%s: cannot stat", file->path);
    }
    if (now.st_size < file->known.st_size) {
        return mixt_fail(error, MIXT_ERROR_IO, "%s: ends at byte %lld: it became shorter",
                         file->path, (long long)now.st_size);
    }
    if (now.st_mtim.tv_sec != file->known.st_mtim.tv_sec ||
        now.st_mtim.tv_nsec != file->known.st_mtim.tv_nsec) {
        return mixt_fail(error, MIXT_ERROR_IO, "%s: was written to while it is in use", file->path);
    }
    return MIXT_OK;
}

void mixt_disk_done(mixt_disk *disk, mixt_disk_read *read)
{
    mixt_disk_push(&disk->done, read);
    disk->unfinished--;
    pthread_cond_signal(&disk->finished);
}

/* No piece is under way, none is to come. */
static void finish_read(mixt_disk *disk, mixt_disk_read *read)
{
    const mixt_disk_file *file = &disk->files[read->file];
    mixt_error error = MIXT_ERROR_INIT;
    if (read->cancelled) {
        mixt_fail(&error, MIXT_ERROR_INTERRUPTED, "%s: a read was given up", file->path);
        fail_read(read, &error);
    } else if (read->status == MIXT_OK && check_unchanged(file, &error) != MIXT_OK) {
        fail_read(read, &error);
    }
    disk->reads++;
    if (read->finish != NULL) {
        mixt_disk_push(&disk->finishing, read);
        pthread_cond_signal(&disk->finish_work);
    } else {
        mixt_disk_done(disk, read);
    }
}

/* Bytes from the read's first block to behind its last; from `offset` and exactly where the cache
 * lies between. */
static uint64_t span_begin(const mixt_disk_read *read, bool direct)
{
    return direct ? read->offset - read->offset % MIXT_DISK_BLOCK : read->offset;
}

static size_t span_bytes(const mixt_disk_read *read, bool direct)
{
    size_t bytes = (size_t)(read->offset + read->bytes - span_begin(read, direct));
    return direct ? mixt_round_up(bytes, MIXT_DISK_BLOCK) : bytes;
}

bool mixt_disk_any(const mixt_disk *disk)
{
    return disk->urgent.first != NULL || disk->later.first != NULL;
}

/* Pieces of a read are alike: a last one of some KB costs as much as the others. */
static size_t piece_bytes(size_t left, size_t most)
{
    size_t pieces = left / most + (left % most > 0);
    size_t even = mixt_round_up(left / pieces + (left % pieces > 0), MIXT_DISK_BLOCK);
    return even < left ? even : left;
}

bool mixt_disk_take(mixt_disk *disk, mixt_disk_piece *piece)
{
    bool urgent = disk->urgent.first != NULL;
    mixt_disk_read *read = urgent ? disk->urgent.first : disk->later.first;
    size_t most = urgent ? UNDER_WAY_MOST : 0;
    if (read == NULL || (disk->pieces > 0 && disk->under_way >= most)) {
        return false;
    }
    const mixt_disk_file *file = &disk->files[read->file];
    uint64_t begin = span_begin(read, file->direct);
    size_t left = span_bytes(read, file->direct) - read->begun;
    *piece = (mixt_disk_piece){
        .read = read,
        .offset = begin + read->begun,
        .bytes = piece_bytes(left, disk->options.piece),
        .to = (unsigned char *)read->to - (read->offset - begin) + read->begun,
        .descriptor = file->descriptor,
        .direct = file->direct,
    };
    piece->whole = piece->bytes;
    read->begun += piece->bytes;
    read->pieces++;
    disk->under_way += piece->bytes;
    if (piece->bytes == left) {
        leave_queue(disk, read);
    }
    if (disk->pieces++ == 0) {
        disk->busy_since = seconds_now();
    }
    return true;
}

/* Where the piece is behind `result` bytes; true: it goes on. */
static bool go_on(mixt_disk *disk, mixt_disk_piece *piece, int64_t result, mixt_error *error)
{
    const mixt_disk_read *read = piece->read;
    const mixt_disk_file *file = &disk->files[read->file];
    uint64_t end = piece->offset + piece->bytes, wanted = read->offset + read->bytes;
    end = end < wanted ? end : wanted;
    bool again = result == -EINTR || result == -EAGAIN;
    if (result < 0 && (!again || ++piece->fruitless > FRUITLESS_MOST)) {
        mixt_fail_errno(error, (int)-result, "%s: cannot read %zu bytes at byte %llu", file->path,
                        piece->bytes, (unsigned long long)piece->offset);
        return false;
    }
    if (result < 0) {
        return true;
    }
    if (piece->offset + (uint64_t)result >= end) {
        return false;
    }
    /* Direct reads go on at a block; what is not whole is mostly the end of the file. */
    size_t step = (size_t)result - (piece->direct ? (size_t)result % MIXT_DISK_BLOCK : 0);
    if (step == 0) {
        struct stat now;
        bool whole = fstat(piece->descriptor, &now) != 0 || (uint64_t)now.st_size >= end;
        if (whole && ++piece->fruitless <= FRUITLESS_MOST) {
            return true;
        }
        uint64_t there = piece->offset + (uint64_t)result;
        if (whole) {
            mixt_fail(error, MIXT_ERROR_IO, "%s: cannot read beyond byte %llu", file->path,
                      (unsigned long long)there);
        } else {
            there = (uint64_t)now.st_size < there ? (uint64_t)now.st_size : there;
            mixt_fail(error, MIXT_ERROR_IO,
                      "%s: ends at byte %llu, inside of a read: it became shorter", file->path,
                      (unsigned long long)there);
        }
        return false;
    }
    piece->offset += step;
    piece->to += step;
    piece->bytes -= step;
    piece->fruitless = 0;
    return true;
}

bool mixt_disk_give(mixt_disk *disk, mixt_disk_piece *piece, int64_t result)
{
    mixt_disk_read *read = piece->read;
    mixt_error error = MIXT_ERROR_INIT;
    disk->bytes += result > 0 ? (uint64_t)result : 0;
    if (go_on(disk, piece, result, &error) && read->status == MIXT_OK && !read->cancelled) {
        return true;
    }
    if (error.status != MIXT_OK) {
        fail_read(read, &error);
        leave_queue(disk, read);
    }
    disk->under_way -= piece->whole;
    if (--disk->pieces == 0) {
        disk->busy += seconds_now() - disk->busy_since;
    }
    if (--read->pieces == 0 && !read->queued) {
        finish_read(disk, read);
    }
    return false;
}

int64_t mixt_disk_result(const mixt_disk *disk, const mixt_disk_piece *piece, int64_t result)
{
#ifdef POSIX_FADV_DONTNEED
    if (!piece->direct) {
        posix_fadvise(piece->descriptor, (off_t)piece->offset, (off_t)piece->bytes,
                      POSIX_FADV_DONTNEED);
    }
#endif
    return disk->options.hook == NULL
               ? result
               : disk->options.hook(disk->options.hook_user, piece->offset, piece->bytes, result);
}

/* ---- the caller's side */

void mixt_disk_submit(mixt_disk *disk, mixt_disk_read *read)
{
    assert(read->file >= 0 && (size_t)read->file < disk->count);
    assert((uintptr_t)read->to % MIXT_DISK_BLOCK == read->offset % MIXT_DISK_BLOCK);
    read->status = MIXT_OK;
    read->message[0] = '\0';
    read->begun = 0;
    read->pieces = 0;
    read->cancelled = false;
    pthread_mutex_lock(&disk->lock);
    disk->waiting++;
    disk->unfinished++;
    read->queued = read->bytes != 0;
    if (read->queued) {
        mixt_disk_push(read->urgent ? &disk->urgent : &disk->later, read);
        disk->way->kick(disk);
    } else {
        finish_read(disk, read);
    }
    pthread_mutex_unlock(&disk->lock);
}

mixt_disk_read *mixt_disk_wait(mixt_disk *disk, bool block)
{
    pthread_mutex_lock(&disk->lock);
    while (block && disk->done.first == NULL && disk->unfinished > 0) {
        pthread_cond_wait(&disk->finished, &disk->lock);
    }
    mixt_disk_read *read = disk->done.first;
    if (read != NULL) {
        mixt_disk_pull(&disk->done, read);
        disk->waiting--;
    }
    pthread_mutex_unlock(&disk->lock);
    return read;
}

void mixt_disk_hurry(mixt_disk *disk, mixt_disk_read *read)
{
    pthread_mutex_lock(&disk->lock);
    if (read->queued && !read->urgent) {
        leave_queue(disk, read);
        read->queued = read->urgent = true;
        mixt_disk_push(&disk->urgent, read);
        disk->way->kick(disk); /* more of it may be under way now */
    }
    pthread_mutex_unlock(&disk->lock);
}

static void cancel_locked(mixt_disk *disk, mixt_disk_read *read)
{
    if (read->queued) {
        leave_queue(disk, read);
        read->cancelled = true;
        if (read->pieces == 0) {
            finish_read(disk, read);
        }
    }
}

void mixt_disk_cancel(mixt_disk *disk, mixt_disk_read *read)
{
    pthread_mutex_lock(&disk->lock);
    cancel_locked(disk, read);
    pthread_mutex_unlock(&disk->lock);
}

void mixt_disk_describe(mixt_disk *disk, mixt_disk_statistics *statistics)
{
    pthread_mutex_lock(&disk->lock);
    *statistics = (mixt_disk_statistics){
        .bytes = disk->bytes,
        .reads = disk->reads,
        .busy_seconds = disk->busy + (disk->pieces > 0 ? seconds_now() - disk->busy_since : 0),
        .waiting = disk->waiting,
    };
    pthread_mutex_unlock(&disk->lock);
}

const char *mixt_disk_reader(const mixt_disk *disk)
{
    bool buffered = false;
    for (size_t i = 0; i < disk->count; i++) {
        buffered |= !disk->files[i].direct;
    }
    return buffered ? disk->way->name_buffered : disk->way->name;
}

/* ---- files */

/* Some file systems let a file be opened so, and refuse the reads. */
static bool direct_works(int descriptor)
{
    if (!mixt_descriptor_go_direct(descriptor, true)) {
        return false;
    }
    void *block = aligned_alloc(MIXT_DISK_BLOCK, MIXT_DISK_BLOCK);
    bool works = block != NULL && pread(descriptor, block, MIXT_DISK_BLOCK, MIXT_DISK_BLOCK) >= 0;
    free(block);
    if (!works) {
        mixt_descriptor_go_direct(descriptor, false);
    }
    return works;
}

static mixt_status open_file(const mixt_disk *disk, const mixt_map *map, mixt_disk_file *file,
                             mixt_error *error)
{
    uint64_t size;
    mixt_error local = MIXT_ERROR_INIT;
    file->descriptor = mixt_file_open(file->path, &size, &local);
    if (file->descriptor < 0) {
        return mixt_fail(error, local.status, "%s", local.message);
    }
    mixt_status status = MIXT_OK;
    if (fstat(file->descriptor, &file->known) != 0) {
        status = mixt_fail_errno(error, errno, "%s: cannot stat", file->path);
    } else if (map != NULL && !mixt_map_same(map, file->descriptor)) {
        status = mixt_fail(error, MIXT_ERROR_IO,
                           "%s: was replaced or written to since it was opened", file->path);
    }
    if (status != MIXT_OK) {
        close(file->descriptor);
        return status;
    }
    /* A ring would give EAGAIN in place of waiting. */
    fcntl(file->descriptor, F_SETFL, fcntl(file->descriptor, F_GETFL) & ~O_NONBLOCK);
    file->direct = !disk->options.buffered && direct_works(file->descriptor);
    return MIXT_OK;
}

mixt_status mixt_disk_add(mixt_disk *disk, const char *path, const mixt_map *map, int *file,
                          mixt_error *error)
{
    for (size_t i = 0; i < disk->count; i++) {
        if (strcmp(disk->files[i].path, path) == 0) {
            *file = (int)i;
            return MIXT_OK;
        }
    }
    mixt_disk_file made = {.path = strdup(path)};
    if (made.path == NULL ||
        !mixt_grow(&disk->files, &disk->capacity, disk->count + 1, sizeof made)) {
        free(made.path);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory to read it", path);
    }
    mixt_status status = open_file(disk, map, &made, error);
    if (status != MIXT_OK) {
        free(made.path);
        return status;
    }
    *file = (int)disk->count;
    disk->files[disk->count++] = made;
    return MIXT_OK;
}

/* ---- the whole */

void mixt_disk_go_first(pthread_t thread)
{
    struct sched_param own;
    int policy;
    if (pthread_getschedparam(thread, &policy, &own) == 0 &&
        (policy == SCHED_RR || policy == SCHED_FIFO) &&
        own.sched_priority < sched_get_priority_max(policy)) {
        own.sched_priority++;
        (void)pthread_setschedparam(thread, policy, &own); /* as far as it may */
    }
}

int mixt_disk_thread(pthread_t *thread, void *(*function)(void *), void *argument)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int number = pthread_create(thread, NULL, function, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return number;
}

static mixt_status start_reader(mixt_disk *disk, mixt_error *error)
{
    mixt_error refused = MIXT_ERROR_INIT;
    if (disk->options.reader != MIXT_STORE_READER_THREADS) {
        disk->way = &mixt_disk_ring;
        mixt_status status = disk->way->start(disk, &refused);
        if (status == MIXT_OK || disk->options.reader == MIXT_STORE_READER_RING) {
            return status == MIXT_OK ? MIXT_OK
                                     : mixt_fail(error, refused.status, "%s", refused.message);
        }
    }
    disk->way = &mixt_disk_threads;
    return disk->way->start(disk, error);
}

mixt_status mixt_disk_create(const mixt_disk_options *options, mixt_disk **result,
                             mixt_error *error)
{
    *result = NULL;
    if (options->depth < 0 || options->depth > MIXT_DISK_DEPTH_MAX) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "reads at once: %d is not in 1..%d",
                         options->depth, MIXT_DISK_DEPTH_MAX);
    }
    assert(options->piece % MIXT_DISK_BLOCK == 0);
    mixt_disk *disk = calloc(1, sizeof *disk);
    if (disk == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "no memory to read files");
    }
    disk->options = *options;
    disk->options.depth = options->depth == 0 ? DEFAULT_DEPTH : options->depth;
    disk->options.piece = options->piece == 0 ? DEFAULT_PIECE : options->piece;
    pthread_mutex_init(&disk->lock, NULL);
    pthread_cond_init(&disk->finished, NULL);
    pthread_cond_init(&disk->finish_work, NULL);
    mixt_status status = start_reader(disk, error);
    if (status != MIXT_OK) {
        disk->way = NULL;
        mixt_disk_free(disk);
        return status;
    }
    *result = disk;
    return MIXT_OK;
}

void mixt_disk_free(mixt_disk *disk)
{
    if (disk == NULL) {
        return;
    }
    if (disk->way != NULL) {
        pthread_mutex_lock(&disk->lock);
        while (mixt_disk_any(disk)) {
            cancel_locked(disk,
                          disk->urgent.first != NULL ? disk->urgent.first : disk->later.first);
        }
        disk->stop = true;
        disk->way->kick(disk);
        pthread_mutex_unlock(&disk->lock);
        disk->way->join(disk);
    }
    mixt_disk_end_finishers(disk);
    for (size_t i = 0; i < disk->count; i++) {
        close(disk->files[i].descriptor);
        free(disk->files[i].path);
    }
    free(disk->files);
    pthread_cond_destroy(&disk->finished);
    pthread_cond_destroy(&disk->finish_work);
    pthread_mutex_destroy(&disk->lock);
    free(disk);
}
