#include "guard.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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

void *guard_place(guard *buffer, size_t size, bool at_end)
{
    if (size > buffer->size) {
        abort();
    }
    memset(buffer->inside, GUARD_POISON, buffer->size);
    return at_end ? buffer->inside + (buffer->size - size) : buffer->inside;
}

bool guard_intact(const guard *buffer, const void *place, size_t size)
{
    const unsigned char *from = place, *end = buffer->inside + buffer->size;
    for (const unsigned char *at = buffer->inside; at < from; at++) {
        if (*at != GUARD_POISON) {
            return false;
        }
    }
    for (const unsigned char *at = from + size; at < end; at++) {
        if (*at != GUARD_POISON) {
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
