#if defined(__linux__) && !defined(MIXT_PORTABLE)
#define HAS_LINUX 1
#define _GNU_SOURCE
#endif
#include "core/platform.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef HAS_LINUX
#include <dlfcn.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <sys/syscall.h>
#endif

/* ---- files */

int mixt_paths_exchange(const char *a, const char *b)
{
#if defined(HAS_LINUX) && defined(RENAME_EXCHANGE)
    return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
#elif defined(HAS_LINUX) && defined(SYS_renameat2) /* a C library that does not know it: musl */
    const unsigned exchange = 1U << 1; /* RENAME_EXCHANGE of linux/fs.h */
    return (int)syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, exchange);
#else
    (void)a;
    (void)b;
    errno = ENOSYS;
    return -1;
#endif
}

int mixt_temporary_open(char *path)
{
#ifdef HAS_LINUX
    return mkostemp(path, O_CLOEXEC);
#else
    int descriptor = mkstemp(path);
    if (descriptor >= 0 && fcntl(descriptor, F_SETFD, FD_CLOEXEC) != 0) {
        int number = errno;
        unlink(path);
        close(descriptor);
        errno = number;
        return -1;
    }
    return descriptor;
#endif
}

bool mixt_descriptor_go_direct(int descriptor, bool direct)
{
    int flags = fcntl(descriptor, F_GETFL);
#if defined(HAS_LINUX) && defined(O_DIRECT)
    return flags >= 0 &&
           fcntl(descriptor, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
#else
    return flags >= 0 && !direct;
#endif
}

/* ---- memory */

#ifndef HAS_LINUX
/* Pages of zeros as POSIX systems have had them before there were anonymous ones. open and close
 * may be called in a signal handler. */
static void *map_zeros(void *at, size_t size, int protection, int flags)
{
    int descriptor = open("/dev/zero", O_RDWR | O_CLOEXEC);
    if (descriptor < 0) {
        return MAP_FAILED;
    }
    void *block = mmap(at, size, protection, MAP_PRIVATE | flags, descriptor, 0);
    int number = errno;
    close(descriptor);
    errno = number;
    return block;
}
#endif

void *mixt_pages_map(size_t size)
{
#ifdef HAS_LINUX
    void *block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
#else
    void *block = map_zeros(NULL, size, PROT_READ | PROT_WRITE, 0);
#endif
    return block == MAP_FAILED ? NULL : block;
}

bool mixt_pages_replace(void *block, size_t size)
{
#ifdef HAS_LINUX
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    return mmap(block, size, PROT_READ | PROT_WRITE, flags, -1, 0) == block;
#else
    return map_zeros(block, size, PROT_READ | PROT_WRITE, MAP_FIXED) == block;
#endif
}

/* Without the C library where the call is known: there, ThreadSanitizer takes it for a write that
 * races with other threads' reads. */
bool mixt_page_replace(void *page, size_t size)
{
#if defined(HAS_LINUX) && (defined(__x86_64__) || defined(__aarch64__))
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    return syscall(SYS_mmap, page, size, PROT_READ, flags, -1, 0) == (long)page;
#elif defined(HAS_LINUX)
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    return mmap(page, size, PROT_READ, flags, -1, 0) == page;
#else
    return map_zeros(page, size, PROT_READ, MAP_FIXED) == page;
#endif
}

void mixt_pages_enlarge(void *block, size_t size)
{
#if defined(HAS_LINUX) && defined(MADV_HUGEPAGE)
    madvise(block, size, MADV_HUGEPAGE);
#else
    (void)block;
    (void)size;
#endif
}

bool mixt_pages_fill(void *block, size_t size)
{
#if defined(HAS_LINUX)
    const int populate_write = 23; /* MADV_POPULATE_WRITE, since Linux 5.14 */
    return madvise(block, size, populate_write) == 0;
#else
    (void)block;
    (void)size;
    return false;
#endif
}

const char *mixt_system_files(void)
{
#ifdef HAS_LINUX
    return "";
#else
    return NULL;
#endif
}

bool mixt_program_path(char *path, size_t size)
{
#ifdef HAS_LINUX
    ssize_t length = readlink("/proc/self/exe", path, size - 1);
    path[length > 0 ? length : 0] = '\0';
    return length > 0 && (size_t)length < size - 1;
#else
    (void)path;
    (void)size;
    return false;
#endif
}

bool mixt_library_path(char *path, size_t size)
{
#ifdef HAS_LINUX
    static const char here;
    Dl_info info;
    if (dladdr(&here, &info) != 0 && info.dli_fname != NULL && strlen(info.dli_fname) < size) {
        memcpy(path, info.dli_fname, strlen(info.dli_fname) + 1);
        return true;
    }
#else
    (void)path;
    (void)size;
#endif
    return false;
}

size_t mixt_memory_installed(void)
{
#ifdef _SC_PHYS_PAGES
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    if (pages > 0 && size > 0) {
        return (size_t)pages * (size_t)size;
    }
#endif
    return SIZE_MAX;
}

/* ---- processors, randomness */

int mixt_processors_allowed(void)
{
#ifdef HAS_LINUX
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) {
        return CPU_COUNT(&set);
    }
#endif
#ifdef _SC_NPROCESSORS_ONLN
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 1 ? (int)count : 1;
#else
    return 1;
#endif
}

/* Bits of AT_HWCAP and AT_HWCAP2, which the kernel keeps as they are. */
bool mixt_processor_has_dotprod(void)
{
#if defined(HAS_LINUX) && defined(__aarch64__)
    return (getauxval(AT_HWCAP) >> 20 & 1) != 0;
#elif defined(__ARM_FEATURE_DOTPROD)
    return true;
#else
    return false;
#endif
}

bool mixt_processor_has_i8mm(void)
{
#if defined(HAS_LINUX) && defined(__aarch64__)
    return (getauxval(AT_HWCAP2) >> 13 & 1) != 0;
#elif defined(__ARM_FEATURE_MATMUL_INT8)
    return true;
#else
    return false;
#endif
}

bool mixt_processor_permits_tiles(void)
{
#if defined(HAS_LINUX) && defined(__x86_64__) && defined(SYS_arch_prctl)
    /* ARCH_REQ_XCOMP_PERM of asm/prctl.h, XFEATURE_XTILEDATA: Linux 5.16. */
    const int request = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, request, tile_data) == 0;
#else
    return false;
#endif
}

bool mixt_entropy_read(void *bytes, size_t size)
{
#ifdef HAS_LINUX
    return getrandom(bytes, size, 0) == (ssize_t)size;
#else
    int descriptor = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        return false;
    }
    bool filled = read(descriptor, bytes, size) == (ssize_t)size;
    close(descriptor);
    return filled;
#endif
}
