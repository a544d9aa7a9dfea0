/* The guarded backend's memory: two ranges of the same size. The outer one cannot be touched; its
 * addresses are handed out. Byte i of it is byte i of the inner one, where pages can be used that
 * belong to a block. Blocks lie flush against the page behind them, as near as a cache line. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/memory.h"
#include "guarded.h"

#define RANGE ((size_t)1 << 40)
/* Slots up to so many pages keep them when they are released; larger ones give them back. */
#define PAGES_KEPT 16
#define CLASSES 512
#define SLACK 0xFF /* between the end of a block and its page's; as a real: NaN */

/* Pages for one block at a time, with one behind them that stays closed. */
typedef struct slot {
    size_t begin, end; /* in the ranges */
    size_t at, size;   /* of the block */
    bool used;
    int class;
    int next; /* of the free slots of its class; -1: none */
} slot;

static struct {
    pthread_mutex_t lock;
    char *outer, *inner;
    size_t page, length; /* of both ranges, in use */
    slot *slots;         /* in rising order */
    int count, capacity;
    int free[CLASSES]; /* first free slot of each class, or -1 */
} arena = {.lock = PTHREAD_MUTEX_INITIALIZER};

void guarded_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("guarded backend: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    abort();
}

static void open_arena(void)
{
    if (arena.outer != NULL) {
        return;
    }
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    arena.page = (size_t)sysconf(_SC_PAGESIZE);
    arena.outer = mmap(NULL, RANGE, PROT_NONE, flags, -1, 0);
    arena.inner = mmap(NULL, RANGE, PROT_NONE, flags, -1, 0);
    if (arena.outer == MAP_FAILED || arena.inner == MAP_FAILED) {
        guarded_fail("no addresses for %zu bytes", RANGE);
    }
    for (int i = 0; i < CLASSES; i++) {
        arena.free[i] = -1;
    }
}

/* Rounds a number of pages up to four bits, so that slots serve again; its class by number. */
static int class_of(size_t *pages)
{
    int shift = 0;
    while (*pages >> shift > 15) {
        shift++;
    }
    size_t rounded = (*pages + ((size_t)1 << shift) - 1) >> shift;
    *pages = rounded << shift;
    return shift * 8 + (int)rounded;
}

static int new_slot(size_t pages, int class)
{
    size_t begin = arena.length, bytes = pages * arena.page;
    if (RANGE - begin < bytes + arena.page) {
        return -1;
    }
    if (arena.count == arena.capacity) {
        int more = arena.capacity == 0 ? 256 : 2 * arena.capacity;
        slot *bigger = realloc(arena.slots, (size_t)more * sizeof *bigger);
        if (bigger == NULL) {
            return -1;
        }
        arena.slots = bigger;
        arena.capacity = more;
    }
    if (mprotect(arena.inner + begin, bytes, PROT_READ | PROT_WRITE) != 0) {
        return -1;
    }
    arena.slots[arena.count] = (slot){.begin = begin, .end = begin + bytes, .class = class};
    arena.length = begin + bytes + arena.page;
    return arena.count++;
}

static bool kept(const slot *s)
{
    return s->end - s->begin <= PAGES_KEPT * arena.page;
}

void *guarded_allocate(size_t size)
{
    void *block = NULL;
    if (size == 0 || size > RANGE / 2) {
        return NULL;
    }
    pthread_mutex_lock(&arena.lock);
    open_arena();
    size_t rounded = mixt_round_up(size, MIXT_ALIGNMENT);
    size_t pages = (rounded + arena.page - 1) / arena.page;
    int class = class_of(&pages), index = arena.free[class];
    if (index >= 0) {
        arena.free[class] = arena.slots[index].next;
    } else {
        index = new_slot(pages, class);
    }
    if (index >= 0) {
        slot *s = &arena.slots[index];
        s->used = true;
        s->size = size;
        s->at = s->end - rounded;
        if (kept(s)) { /* others are zeros: new, or given back */
            memset(arena.inner + s->at, 0, size);
        }
        memset(arena.inner + s->at + size, SLACK, rounded - size);
        block = arena.outer + s->at;
    }
    pthread_mutex_unlock(&arena.lock);
    return block;
}

/* The slot around a device address; NULL: none. */
static slot *find(const void *address)
{
    size_t offset = (size_t)((const char *)address - arena.outer);
    if (arena.outer == NULL || (const char *)address < arena.outer || offset >= arena.length) {
        return NULL;
    }
    int low = 0, high = arena.count;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (arena.slots[middle].begin <= offset) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return &arena.slots[low];
}

void guarded_release(void *block, size_t size)
{
    pthread_mutex_lock(&arena.lock);
    slot *s = find(block);
    if (s == NULL || !s->used || arena.outer + s->at != block || s->size != size) {
        guarded_fail("%zu bytes at %p are released, which no block has", size, block);
    }
    for (size_t i = s->at + size; i < s->end; i++) {
        if ((unsigned char)arena.inner[i] != SLACK) {
            guarded_fail("byte %zu of a block of %zu bytes was written", i - s->at, size);
        }
    }
    if (!kept(s)) {
        madvise(arena.inner + s->begin, s->end - s->begin, MADV_DONTNEED);
    }
    s->used = false;
    s->next = arena.free[s->class];
    arena.free[s->class] = (int)(s - arena.slots);
    pthread_mutex_unlock(&arena.lock);
}

void *guarded_real(const void *address, size_t size)
{
    pthread_mutex_lock(&arena.lock);
    const slot *s = find(address);
    size_t offset = s == NULL ? 0 : (size_t)((const char *)address - arena.outer);
    bool inside = s != NULL && s->used && offset >= s->at && offset - s->at <= s->size &&
                  size <= s->size - (offset - s->at);
    pthread_mutex_unlock(&arena.lock);
    return inside ? arena.inner + offset : NULL;
}

const char *guarded_fault(const void *address, size_t size)
{
    static _Thread_local char text[200];
    pthread_mutex_lock(&arena.lock);
    const slot *s = find(address);
    if (s == NULL) {
        snprintf(text, sizeof text, "%p is the host's memory", address);
    } else if (!s->used) {
        snprintf(text, sizeof text, "%p is in no block that is in use", address);
    } else {
        snprintf(text, sizeof text, "%zu bytes from byte %zd of a block of %zu", size,
                 (const char *)address - arena.outer - (ptrdiff_t)s->at, s->size);
    }
    pthread_mutex_unlock(&arena.lock);
    return text;
}
