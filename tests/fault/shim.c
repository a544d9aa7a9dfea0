/* Faults at system calls. Calls that change or open something below one folder are counted; at a
 * chosen count the process is killed, or the call fails. Two ways to use it:
 *
 *   cc -shared -fPIC -o shim.so shim.c -ldl; LD_PRELOAD=./shim.so MIXT_FAULT_FOLDER=/run/folder ...
 *   #include "fault/shim.c" in a test, which sets mixt_fault directly (the program's own
 * definitions of write, rename, ... come before those of the C library)
 *
 *   MIXT_FAULT_KILL=n      SIGKILL before call n is done
 *   MIXT_FAULT_HALF=1      where call n is a write, half of it is done before the kill
 *   MIXT_FAULT_AT=n        call n fails with MIXT_FAULT_ERRNO
 *   MIXT_FAULT_FOREVER=1   and so does every later one that changes something
 *   MIXT_FAULT_SHORT=bytes no write does more than this many bytes at once
 *   MIXT_FAULT_MEMORY=n    allocation n fails (and every later one, with MIXT_FAULT_FOREVER); only
 *                          in the preloaded form
 *   MIXT_FAULT_REPORT=file the numbers of calls and of allocations are written there at the end
 *
 * Counted: open and openat for writing or creating, write, pwrite, fsync, fdatasync, ftruncate,
 * close of a counted file, rename, renameat, renameat2, unlink, unlinkat, mkdir, mkdirat, rmdir.
 * With MIXT_FAULT_READS=1 also open for reading, read and pread. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define FAULT_DESCRIPTORS 1024

/* What a power cut could undo. */
typedef enum fault_kind {
    FAULT_WRITE,
    FAULT_SYNC,
    FAULT_CREATE,
    FAULT_MKDIR,
    FAULT_RENAME,
    FAULT_UNLINK,
    FAULT_RMDIR,
} fault_kind;

typedef struct mixt_fault_plan {
    const char *folder; /* absolute; NULL: nothing is counted */
    int count;          /* calls so far */
    int kill_at;
    int fail_at;
    int number; /* errno of the failing call */
    bool half;
    bool forever;
    bool reads;
    size_t short_write; /* 0: writes are whole */
    /* Told of every counted change before it is done, and then whether it was; both or none. */
    void (*before)(fault_kind kind, const char *path, const char *to);
    void (*after)(bool done);
    bool counted[FAULT_DESCRIPTORS];   /* descriptor lies below the folder */
    char calls[FAULT_DESCRIPTORS][24]; /* name of call i, for reports */
} mixt_fault_plan;

mixt_fault_plan mixt_fault;

#define REAL(name)                                                                                 \
    static __typeof__(&name) real;                                                                 \
    if (real == NULL) {                                                                            \
        *(void **)&real = dlsym(RTLD_NEXT, #name);                                                 \
    }

#ifdef MIXT_FAULT_PRELOAD
static long from_environment(const char *name)
{
    const char *text = getenv(name);
    return text == NULL ? 0 : strtol(text, NULL, 10);
}

/* Allocations. glibc's own names are used because dlsym allocates. */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static int memory_count;
static int memory_fail_at;
static bool memory_ready;

static bool memory_fails(void)
{
    if (!memory_ready) {
        return false;
    }
    int number = __atomic_add_fetch(&memory_count, 1, __ATOMIC_RELAXED);
    return memory_fail_at != 0 &&
           (number == memory_fail_at || (mixt_fault.forever && number > memory_fail_at));
}

void *malloc(size_t size)
{
    if (memory_fails()) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    if (memory_fails()) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    if (memory_fails()) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    if (memory_fails()) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **block, size_t alignment, size_t size)
{
    if (memory_fails()) {
        return ENOMEM;
    }
    *block = __libc_memalign(alignment, size);
    return *block != NULL ? 0 : ENOMEM;
}

void *mmap(void *address, size_t size, int protection, int flags, int descriptor, off_t offset)
{
    REAL(mmap)
    if (memory_fails()) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return real(address, size, protection, flags, descriptor, offset);
}

__attribute__((constructor)) static void begin(void)
{
    mixt_fault.folder = getenv("MIXT_FAULT_FOLDER");
    mixt_fault.kill_at = (int)from_environment("MIXT_FAULT_KILL");
    mixt_fault.fail_at = (int)from_environment("MIXT_FAULT_AT");
    mixt_fault.number = (int)from_environment("MIXT_FAULT_ERRNO");
    mixt_fault.half = from_environment("MIXT_FAULT_HALF") != 0;
    mixt_fault.forever = from_environment("MIXT_FAULT_FOREVER") != 0;
    mixt_fault.reads = from_environment("MIXT_FAULT_READS") != 0;
    mixt_fault.short_write = (size_t)from_environment("MIXT_FAULT_SHORT");
    memory_fail_at = (int)from_environment("MIXT_FAULT_MEMORY");
    memory_ready = true;
}

__attribute__((destructor)) static void end(void)
{
    const char *report = getenv("MIXT_FAULT_REPORT");
    if (report != NULL) {
        int count = mixt_fault.count;
        int allocations = memory_count;
        mixt_fault.folder = NULL;
        memory_ready = false;
        FILE *file = fopen(report, "w");
        if (file != NULL) {
            fprintf(file, "%d %d\n", count, allocations);
            fclose(file);
        }
    }
}
#endif

static bool below(int folder, const char *path)
{
    if (mixt_fault.folder == NULL) {
        return false;
    }
    if (path[0] != '/') { /* relative: to a counted folder, or to one nobody asked about */
        return folder >= 0 && folder < FAULT_DESCRIPTORS && mixt_fault.counted[folder];
    }
    size_t length = strlen(mixt_fault.folder);
    return strncmp(path, mixt_fault.folder, length) == 0 &&
           (path[length] == '/' || path[length] == '\0');
}

static bool counted(int descriptor)
{
    return mixt_fault.folder != NULL && descriptor >= 0 && descriptor < FAULT_DESCRIPTORS &&
           mixt_fault.counted[descriptor];
}

/* Counts a call; true where it has to fail (errno is set). Does not return where the process dies,
 * except for a write that is to be done by half. */
static bool hit(const char *name, bool is_write)
{
    int number = ++mixt_fault.count;
    if (number < FAULT_DESCRIPTORS) {
        snprintf(mixt_fault.calls[number], sizeof mixt_fault.calls[number], "%s", name);
    }
    if (number == mixt_fault.kill_at && !(is_write && mixt_fault.half)) {
        raise(SIGKILL);
    }
    bool fails = mixt_fault.fail_at != 0 && (number == mixt_fault.fail_at ||
                                             (mixt_fault.forever && number > mixt_fault.fail_at));
    if (fails) {
        errno = mixt_fault.number;
    }
    return fails;
}

static void opened(int descriptor, bool is_below)
{
    if (descriptor >= 0 && descriptor < FAULT_DESCRIPTORS) {
        mixt_fault.counted[descriptor] = is_below;
    }
}

/* Absolute path of a name relative to a folder's descriptor (AT_FDCWD: absolute already), or of the
 * descriptor itself. */
static void full_path(int descriptor, const char *name, char path[PATH_MAX])
{
    if (name != NULL && name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
        return;
    }
    char link[64];
    char place[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, place, sizeof place - 1);
    place[length > 0 ? length : 0] = '\0';
    if (name == NULL) {
        memcpy(path, place, sizeof place);
    } else if (strlen(place) + strlen(name) + 2 <= PATH_MAX) {
        char *end = stpcpy(path, place);
        *end++ = '/';
        strcpy(end, name);
    }
}

static bool tell(fault_kind kind, int folder, const char *name, const char *to)
{
    if (mixt_fault.before == NULL) {
        return false;
    }
    int number = errno;
    char path[PATH_MAX];
    full_path(folder, name, path);
    mixt_fault.before(kind, path, to);
    errno = number;
    return true;
}

/* Closes what tell() opened; passes the result on. */
static int told(bool telling, int result)
{
    if (telling) {
        int number = errno;
        mixt_fault.after(result >= 0);
        errno = number;
    }
    return result;
}

static bool open_counts(int flags)
{
    return mixt_fault.reads || (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT) != 0;
}

int open(const char *path, int flags, ...)
{
    REAL(open)
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? (mode_t)va_arg(arguments, int) : 0;
    va_end(arguments);
    bool inside = below(-1, path);
    if (inside && open_counts(flags) && hit("open", false)) {
        return -1;
    }
    bool telling = inside && (flags & O_CREAT) != 0 && access(path, F_OK) != 0 &&
                   tell(FAULT_CREATE, -1, path, NULL);
    int descriptor = told(telling, real(path, flags, mode));
    opened(descriptor, inside);
    return descriptor;
}

int openat(int folder, const char *path, int flags, ...)
{
    REAL(openat)
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? (mode_t)va_arg(arguments, int) : 0;
    va_end(arguments);
    bool inside = below(folder, path);
    if (inside && open_counts(flags) && hit("openat", false)) {
        return -1;
    }
    int descriptor = real(folder, path, flags, mode);
    opened(descriptor, inside);
    return descriptor;
}

/* How much of a write of `length` bytes is done. */
static size_t write_share(size_t length)
{
    return mixt_fault.short_write != 0 && length > mixt_fault.short_write ? mixt_fault.short_write
                                                                          : length;
}

ssize_t write(int descriptor, const void *data, size_t length)
{
    REAL(write)
    if (!counted(descriptor)) {
        return real(descriptor, data, length);
    }
    if (hit("write", true)) {
        return -1;
    }
    if (mixt_fault.count == mixt_fault.kill_at) {
        ssize_t done = real(descriptor, data, length / 2);
        (void)done;
        raise(SIGKILL);
    }
    bool telling = tell(FAULT_WRITE, descriptor, NULL, NULL);
    ssize_t done = real(descriptor, data, write_share(length));
    told(telling, done < 0 ? -1 : 0);
    return done;
}

ssize_t pwrite(int descriptor, const void *data, size_t length, off_t offset)
{
    REAL(pwrite)
    if (counted(descriptor) && hit("pwrite", true)) {
        return -1;
    }
    bool dies = counted(descriptor) && mixt_fault.count == mixt_fault.kill_at;
    ssize_t done = real(descriptor, data, dies ? length / 2 : length, offset);
    if (dies) {
        raise(SIGKILL);
    }
    return done;
}

ssize_t read(int descriptor, void *data, size_t length)
{
    REAL(read)
    if (mixt_fault.reads && counted(descriptor) && hit("read", false)) {
        return -1;
    }
    return real(descriptor, data, length);
}

ssize_t pread(int descriptor, void *data, size_t length, off_t offset)
{
    REAL(pread)
    if (mixt_fault.reads && counted(descriptor) && hit("pread", false)) {
        return -1;
    }
    return real(descriptor, data, length, offset);
}

int fsync(int descriptor)
{
    REAL(fsync)
    if (!counted(descriptor)) {
        return real(descriptor);
    }
    if (hit("fsync", false)) {
        return -1;
    }
    bool telling = tell(FAULT_SYNC, descriptor, NULL, NULL);
    return told(telling, real(descriptor));
}

int fdatasync(int descriptor)
{
    REAL(fdatasync)
    return counted(descriptor) && hit("fdatasync", false) ? -1 : real(descriptor);
}

int ftruncate(int descriptor, off_t length)
{
    REAL(ftruncate)
    return counted(descriptor) && hit("ftruncate", false) ? -1 : real(descriptor, length);
}

int close(int descriptor)
{
    REAL(close)
    bool fails = counted(descriptor) && hit("close", false);
    int number = errno;
    opened(descriptor, false);
    int result = real(descriptor); /* a close that reports an error has closed */
    if (fails) {
        errno = number;
    }
    return fails ? -1 : result;
}

int rename(const char *from, const char *to)
{
    REAL(rename)
    if (!below(-1, from)) {
        return real(from, to);
    }
    if (hit("rename", false)) {
        return -1;
    }
    bool telling = tell(FAULT_RENAME, -1, from, to);
    return told(telling, real(from, to));
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    REAL(renameat)
    bool fails = below(from_folder, from) && hit("renameat", false);
    return fails ? -1 : real(from_folder, from, to_folder, to);
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags)
{
    REAL(renameat2)
    bool fails = below(from_folder, from) && hit("renameat2", false);
    return fails ? -1 : real(from_folder, from, to_folder, to, flags);
}

int unlink(const char *path)
{
    REAL(unlink)
    if (!below(-1, path)) {
        return real(path);
    }
    if (hit("unlink", false)) {
        return -1;
    }
    bool telling = tell(FAULT_UNLINK, -1, path, NULL);
    return told(telling, real(path));
}

int unlinkat(int folder, const char *path, int flags)
{
    REAL(unlinkat)
    if (!below(folder, path)) {
        return real(folder, path, flags);
    }
    if (hit("unlinkat", false)) {
        return -1;
    }
    bool telling =
        tell((flags & AT_REMOVEDIR) != 0 ? FAULT_RMDIR : FAULT_UNLINK, folder, path, NULL);
    return told(telling, real(folder, path, flags));
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir)
    if (!below(-1, path)) {
        return real(path, mode);
    }
    if (hit("mkdir", false)) {
        return -1;
    }
    bool telling = tell(FAULT_MKDIR, -1, path, NULL);
    return told(telling, real(path, mode));
}

int mkdirat(int folder, const char *path, mode_t mode)
{
    REAL(mkdirat)
    return below(folder, path) && hit("mkdirat", false) ? -1 : real(folder, path, mode);
}

int rmdir(const char *path)
{
    REAL(rmdir)
    return below(-1, path) && hit("rmdir", false) ? -1 : real(path);
}
