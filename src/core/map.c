#include "core/map.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "core/files.h"
#include "core/platform.h"

/* One map as the signal handler sees it. Slots are never freed, so that the handler may walk them
 * without a lock; `version` is odd while the other fields change (a sequence lock). A slot that is
 * changing belongs to no map in use, so the handler may pass over it. */
typedef struct map_slot {
    struct map_slot *next; /* fixed before the slot is published */
    atomic_uint version;
    atomic_uintptr_t start;
    atomic_size_t length;
    atomic_bool broken;
    bool used; /* under slot_mutex */
} map_slot;

struct mixt_map {
    map_slot *slot;
    void *data;
    uint64_t size;
    int descriptor;
    struct timespec written; /* when the file was written last */
    bool loaded, lost;       /* in memory; not all of it */
};

#define READ_BYTES ((size_t)1 << 26) /* of one call */

static _Atomic(map_slot *) slots;
static pthread_mutex_t slot_mutex = PTHREAD_MUTEX_INITIALIZER;

/* The handler that ours stands before. A new one is pushed where somebody has replaced ours since;
 * none is freed, because a signal may be using it. */
typedef struct handler {
    struct handler *next;
    struct sigaction action;
} handler;

static _Atomic(handler *) handlers;
static _Thread_local bool
    handling; /* a handler before ours that calls ours again goes no further */
static uintptr_t page_size;

/* The slot whose map holds the address, or NULL. */
static map_slot *slot_of(uintptr_t address)
{
    for (map_slot *slot = atomic_load(&slots); slot != NULL; slot = slot->next) {
        unsigned version = atomic_load(&slot->version);
        uintptr_t start = atomic_load(&slot->start);
        size_t length = atomic_load(&slot->length);
        if (version % 2 == 0 && version == atomic_load(&slot->version) && address >= start &&
            address - start < length) {
            return slot;
        }
    }
    return NULL;
}

static void call_earlier(int number, siginfo_t *info, void *context)
{
    const struct sigaction *action = &atomic_load(&handlers)->action;
    if (!handling && (action->sa_flags & SA_SIGINFO) != 0) {
        handling = true;
        action->sa_sigaction(number, info, context);
        handling = false;
    } else if (!handling && action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN) {
        handling = true;
        action->sa_handler(number);
        handling = false;
    } else if (info->si_code > 0 || handling || action->sa_handler == SIG_DFL) {
        struct sigaction none = {.sa_handler = SIG_DFL};
        sigaction(number, &none, NULL); /* a fault comes again on return; a sent one by raise */
        if (info->si_code <= 0) {
            raise(number);
        }
    }
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    uintptr_t address = (uintptr_t)info->si_addr;
    map_slot *slot = info->si_code > 0 ? slot_of(address) : NULL;
    if (slot != NULL) {
        /* a page of zeros in place of the lost one */
        if (mixt_page_replace((char *)info->si_addr - address % page_size, page_size)) {
            atomic_store(&slot->broken, true);
            errno = saved;
            return;
        }
    }
    call_earlier(number, info, context);
    errno = saved;
}

/* Makes our handler the present one; under slot_mutex. False with errno set. */
static bool install_handler(void)
{
    struct sigaction present;
    if (sigaction(SIGBUS, NULL, &present) != 0) {
        return false;
    }
    if ((present.sa_flags & SA_SIGINFO) != 0 && present.sa_sigaction == on_bus_error) {
        return true;
    }
    handler *before = calloc(1, sizeof *before);
    if (before == NULL) {
        return false;
    }
    page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
    before->action = present;
    before->next = atomic_load(&handlers);
    atomic_store(&handlers, before);
    struct sigaction action = {.sa_sigaction = on_bus_error,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    sigemptyset(&action.sa_mask);
    return sigaction(SIGBUS, &action, NULL) == 0;
}

static void slot_set(map_slot *slot, uintptr_t start, size_t length)
{
    unsigned version = atomic_fetch_add(&slot->version, 1);
    assert(version % 2 == 0); /* one writer at a time */
    (void)version;
    atomic_store(&slot->start, start);
    atomic_store(&slot->length, length);
    atomic_store(&slot->broken, false);
    atomic_fetch_add(&slot->version, 1);
}

static map_slot *slot_take(uintptr_t start, size_t length)
{
    pthread_mutex_lock(&slot_mutex);
    if (!install_handler()) {
        pthread_mutex_unlock(&slot_mutex);
        return NULL;
    }
    map_slot *slot = atomic_load(&slots);
    while (slot != NULL && slot->used) {
        slot = slot->next;
    }
    if (slot == NULL && (slot = calloc(1, sizeof *slot)) != NULL) {
        slot->next = atomic_load(&slots);
        atomic_store(&slots, slot);
    }
    if (slot != NULL) {
        slot->used = true;
        slot_set(slot, start, length);
    }
    pthread_mutex_unlock(&slot_mutex);
    return slot;
}

static void slot_release(map_slot *slot)
{
    pthread_mutex_lock(&slot_mutex);
    slot_set(slot, 0, 0);
    slot->used = false;
    pthread_mutex_unlock(&slot_mutex);
}

static mixt_status map_descriptor(mixt_map *map, const char *path, mixt_error *error)
{
    static char nothing[1];
    map->data = nothing;
    if (map->size == 0) {
        return MIXT_OK;
    }
    if (map->size > PTRDIFF_MAX) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "%s: %llu bytes are too many to map", path,
                         (unsigned long long)map->size);
    }
    void *data = mmap(NULL, (size_t)map->size, PROT_READ, MAP_PRIVATE, map->descriptor, 0);
    if (data == MAP_FAILED) {
        map->size = 0; /* nothing to unmap */
        return mixt_fail_errno(error, errno, "%s: cannot map", path);
    }
    /* Where the file system can, pages that are not in memory yet come by 2 MiB: read in a quarter
     * of the time, and a fifth faster from then on. */
    mixt_pages_enlarge(data, (size_t)map->size);
    map->data = data;
    map->slot = slot_take((uintptr_t)data, (size_t)map->size);
    return map->slot == NULL ? mixt_fail_errno(error, errno, "%s: cannot watch the map", path)
                             : MIXT_OK;
}

mixt_status mixt_map_open(const char *path, mixt_map **map, mixt_error *error)
{
    *map = NULL;
    mixt_map *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory", path);
    }
    mixt_error local = MIXT_ERROR_INIT; /* its status says why there is no descriptor */
    made->descriptor = mixt_file_open(path, &made->size, &local);
    if (made->descriptor < 0) {
        free(made);
        return mixt_fail(error, local.status, "%s", local.message);
    }
    struct stat now;
    if (fstat(made->descriptor, &now) == 0) {
        made->written = now.st_mtim;
    }
    mixt_status status = map_descriptor(made, path, error);
    if (status != MIXT_OK) {
        mixt_map_close(made);
        return status;
    }
    *map = made;
    return MIXT_OK;
}

static void unwatch(mixt_map *map)
{
    if (map->slot != NULL) {
        slot_release(map->slot);
        map->slot = NULL;
    }
}

static mixt_status read_all(const mixt_map *map, const char *path, mixt_error *error)
{
    for (uint64_t at = 0; at < map->size;) {
        size_t wanted = (size_t)(map->size - at);
        wanted = wanted < READ_BYTES ? wanted : READ_BYTES;
        ssize_t got = pread(map->descriptor, (char *)map->data + at, wanted, (off_t)at);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return mixt_fail_errno(error, errno, "%s: cannot read", path);
        }
        if (got == 0) {
            break; /* what is missing, mixt_map_intact says */
        }
        at += (uint64_t)got;
    }
    return MIXT_OK;
}

mixt_status mixt_map_load(mixt_map *map, const char *path, mixt_error *error)
{
    if (map->loaded || map->size == 0) {
        return MIXT_OK;
    }
    unwatch(map);
    if (!mixt_pages_replace(map->data, (size_t)map->size)) {
        map->lost = true;
        return mixt_fail_errno(error, errno, "%s: no memory for its %llu bytes", path,
                               (unsigned long long)map->size);
    }
    mixt_pages_enlarge(map->data, (size_t)map->size);
    mixt_status status = read_all(map, path, error);
    if (status == MIXT_OK && !mixt_map_intact(map)) {
        status = mixt_fail(error, MIXT_ERROR_IO,
                           "%s: became shorter or was written to while it was read", path);
    }
    map->lost = status != MIXT_OK;
    map->loaded = !map->lost && mprotect(map->data, (size_t)map->size, PROT_READ) == 0;
    return status;
}

void mixt_map_close(mixt_map *map)
{
    if (map == NULL) {
        return;
    }
    unwatch(map);
    if (map->size != 0) {
        munmap(map->data, (size_t)map->size);
    }
    close(map->descriptor);
    free(map);
}

const void *mixt_map_data(const mixt_map *map)
{
    assert(map->data != NULL);
    return map->data;
}

bool mixt_map_place(const mixt_map *map, const void *address, uint64_t *offset)
{
    uintptr_t start = (uintptr_t)map->data, at = (uintptr_t)address;
    *offset = at - start;
    return !map->loaded && at >= start && at - start < map->size;
}

uint64_t mixt_map_size(const mixt_map *map)
{
    return map->size;
}

/* Whether a file is as it was when it was mapped, as far as the system tells. */
static bool unchanged(const mixt_map *map, const struct stat *now)
{
    return (uint64_t)now->st_size >= map->size && now->st_mtim.tv_sec == map->written.tv_sec &&
           now->st_mtim.tv_nsec == map->written.tv_nsec;
}

bool mixt_map_intact(const mixt_map *map)
{
    struct stat now;
    if (map->loaded || map->lost) {
        return map->loaded;
    }
    return (map->slot == NULL || !atomic_load(&map->slot->broken)) &&
           fstat(map->descriptor, &now) == 0 && unchanged(map, &now);
}

bool mixt_map_same(const mixt_map *map, int descriptor)
{
    struct stat own, other;
    return fstat(map->descriptor, &own) == 0 && fstat(descriptor, &other) == 0 &&
           own.st_dev == other.st_dev && own.st_ino == other.st_ino && unchanged(map, &other);
}
