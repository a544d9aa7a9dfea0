#include "guard.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend/cpu/compute.h"
#include "sanitized.h"

guard guard_create(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t inside = (size + page - 1) / page * page;
    guard buffer = {.mapped = inside + 2 * page, .size = inside};
    buffer.mapping = mmap(NULL, buffer.mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffer.mapping == MAP_FAILED ||
        (inside > 0 && mprotect(buffer.mapping + page, inside, PROT_READ | PROT_WRITE) != 0)) {
        abort();
    }
    buffer.inside = buffer.mapping + page;
    return buffer;
}

void guard_free(guard *buffer)
{
    munmap(buffer->mapping, buffer->mapped);
}

/* The bytes around `size` bytes at `place` that are poisoned and checked. */
static void neighbourhood(const guard *buffer, const unsigned char *place, size_t size,
                          const unsigned char **begin, const unsigned char **end)
{
    const size_t reach = 8192;
    size_t before = (size_t)(place - buffer->inside), behind = buffer->size - before - size;
    *begin = place - (before < reach ? before : reach);
    *end = place + size + (behind < reach ? behind : reach);
}

void *guard_place(guard *buffer, size_t size, bool at_end)
{
    if (size > buffer->size) {
        abort();
    }
    unsigned char *place = at_end ? buffer->inside + (buffer->size - size) : buffer->inside;
    const unsigned char *begin, *end;
    neighbourhood(buffer, place, size, &begin, &end);
    memset(buffer->inside + (begin - buffer->inside), GUARD_POISON, (size_t)(end - begin));
    return place;
}

bool guard_intact(const guard *buffer, const void *place, size_t size)
{
    const unsigned char *from = place, *begin, *end;
    neighbourhood(buffer, from, size, &begin, &end);
    for (const unsigned char *at = begin; at < end; at++) {
        if (*at != GUARD_POISON && (at < from || at >= from + size)) {
            return false;
        }
    }
    return true;
}

/* splitmix64 (Steele, Lea & Flood 2014) of seed and counter. */
uint64_t guard_random(uint64_t seed, uint64_t counter)
{
    uint64_t z = seed * 0xD1342543DE82EF95U + (counter + 1) * 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
}

float guard_uniform(uint64_t seed, uint64_t counter)
{
    return (float)((double)(guard_random(seed, counter) >> 40) / 8388608.0 - 1.0);
}

int guard_few(int all, int few)
{
    return getenv("MIXT_EMULATED") != NULL ? few : all;
}

int guard_sample(int all, int few)
{
    return SANITIZED || !mixt_backend_cpu(sizeof(float))->host_memory ? few : guard_few(all, few);
}
