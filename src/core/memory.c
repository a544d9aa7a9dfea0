#include "core/memory.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/number.h"
#include "core/platform.h"

#if defined(__SANITIZE_ADDRESS__)
#define MIXT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MIXT_ASAN 1
#endif
#endif
#ifdef MIXT_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(address, size) ASAN_POISON_MEMORY_REGION(address, size)
#define UNPOISON(address, size) ASAN_UNPOISON_MEMORY_REGION(address, size)
#define ARENA_GAP 16 /* poisoned bytes behind each piece */
#else
#define POISON(address, size) ((void)(address), (void)(size))
#define UNPOISON(address, size) ((void)(address), (void)(size))
#define ARENA_GAP 0
#endif

#define HUGE_PAGE ((size_t)2 << 20)
#define CHUNK_SIZE ((size_t)64 << 10)
#define GROWN_MIN 4    /* elements that a growing array begins with */
#define BUFFER_MIN 256 /* bytes that a buffer begins with */

bool mixt_grow_array(void *array, size_t *capacity, size_t wanted, size_t size)
{
    assert(size != 0 && wanted > *capacity);
    size_t bytes, doubled = *capacity > SIZE_MAX / 2 ? SIZE_MAX : *capacity * 2;
    size_t grown = doubled > wanted ? doubled : wanted;
    grown = grown > GROWN_MIN ? grown : GROWN_MIN;
    if (!mixt_multiply_size(grown, size, &bytes)) {
        return false;
    }
    void *from, *to;
    memcpy(&from, array, sizeof from); /* whatever it points to */
    assert(from != NULL || *capacity == 0);
    to = realloc(from, bytes);
    if (to == NULL) {
        return false;
    }
    memcpy(array, &to, sizeof to);
    *capacity = grown;
    return true;
}

static void *allocate_block(size_t size, size_t *rounded)
{
    size_t alignment = size >= HUGE_PAGE ? HUGE_PAGE : MIXT_ALIGNMENT;
    *rounded = mixt_round_up(size == 0 ? 1 : size, alignment);
    void *block = *rounded != 0 ? aligned_alloc(alignment, *rounded) : NULL;
    if (block != NULL && alignment == HUGE_PAGE) {
        mixt_pages_enlarge(block, *rounded);
    }
    return block;
}

void *mixt_block_allocate(size_t size)
{
    size_t rounded;
    void *block = allocate_block(size, &rounded);
    return block != NULL ? memset(block, 0, rounded) : NULL;
}

void *mixt_block_scratch(size_t size)
{
    size_t rounded;
    return allocate_block(size, &rounded);
}

void mixt_block_free(void *block, size_t size)
{
    (void)size;
    free(block);
}

typedef struct arena_chunk {
    struct arena_chunk *next;
    size_t used;
    size_t capacity;
    size_t unused; /* keeps `data` 16-byte aligned */
    unsigned char data[];
} arena_chunk;

struct mixt_arena {
    arena_chunk *chunks;
};

mixt_arena *mixt_arena_create(void)
{
    return calloc(1, sizeof(mixt_arena));
}

void mixt_arena_free(mixt_arena *arena)
{
    if (arena == NULL) {
        return;
    }
    for (arena_chunk *chunk = arena->chunks; chunk != NULL;) {
        arena_chunk *next = chunk->next;
        UNPOISON(chunk->data, chunk->capacity);
        free(chunk);
        chunk = next;
    }
    free(arena);
}

void *mixt_arena_allocate(mixt_arena *arena, size_t count, size_t size)
{
    size_t bytes;
    if (!mixt_multiply_size(count, size, &bytes) || !mixt_add_size(bytes, ARENA_GAP, &bytes)) {
        return NULL;
    }
    bytes = mixt_round_up(bytes == 0 ? 1 : bytes, 16);
    if (bytes == 0) {
        return NULL;
    }
    arena_chunk *chunk = arena->chunks;
    if (chunk == NULL || chunk->capacity - chunk->used < bytes) {
        size_t capacity = bytes > CHUNK_SIZE ? bytes : CHUNK_SIZE;
        size_t total;
        if (!mixt_add_size(capacity, sizeof(arena_chunk), &total)) {
            return NULL;
        }
        chunk = calloc(1, total);
        if (chunk == NULL) {
            return NULL;
        }
        chunk->capacity = capacity;
        POISON(chunk->data, capacity);
        if (capacity > CHUNK_SIZE && arena->chunks != NULL) { /* keep filling the open chunk */
            chunk->next = arena->chunks->next;
            arena->chunks->next = chunk;
        } else {
            chunk->next = arena->chunks;
            arena->chunks = chunk;
        }
    }
    void *piece = chunk->data + chunk->used;
    chunk->used += bytes;
    assert(chunk->used <= chunk->capacity && (uintptr_t)piece % 16 == 0);
    UNPOISON(piece, bytes - ARENA_GAP);
    return piece;
}

char *mixt_arena_bytes(mixt_arena *arena, const void *bytes, size_t length)
{
    size_t with_end;
    if (!mixt_add_size(length, 1, &with_end)) {
        return NULL;
    }
    char *copy = mixt_arena_allocate(arena, with_end, 1);
    if (copy != NULL && length != 0) {
        memcpy(copy, bytes, length);
    }
    return copy;
}

char *mixt_arena_string(mixt_arena *arena, const char *text)
{
    return mixt_arena_bytes(arena, text, strlen(text));
}

static bool buffer_reserve(mixt_buffer *buffer, size_t more)
{
    size_t needed;
    assert(buffer->length <= buffer->capacity);
    if (buffer->failed || !mixt_add_size(buffer->length, more, &needed)) {
        buffer->failed = true;
        return false;
    }
    if (needed <= buffer->capacity) {
        return true;
    }
    buffer->failed =
        !mixt_grow(&buffer->data, &buffer->capacity, needed > BUFFER_MIN ? needed : BUFFER_MIN, 1);
    return !buffer->failed;
}

void mixt_buffer_append(mixt_buffer *buffer, const void *bytes, size_t length)
{
    if (length != 0 && buffer_reserve(buffer, length)) {
        memcpy(buffer->data + buffer->length, bytes, length);
        buffer->length += length;
    }
}

void mixt_buffer_text(mixt_buffer *buffer, const char *text)
{
    mixt_buffer_append(buffer, text, strlen(text));
}

void mixt_buffer_format(mixt_buffer *buffer, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    va_list again;
    va_copy(again, arguments);
    int length = mixt_format_list(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0) {
        buffer->failed = true;
    } else if (buffer_reserve(buffer, (size_t)length + 1)) {
        mixt_format_list(buffer->data + buffer->length, (size_t)length + 1, format, again);
        buffer->length += (size_t)length;
    }
    va_end(again);
}

void mixt_buffer_free(mixt_buffer *buffer)
{
    free(buffer->data);
    *buffer = (mixt_buffer){0};
}
