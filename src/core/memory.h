/* Memory: checked sizes, zeroed allocations on huge pages, and arenas.
 * An arena hands out pieces of growing chunks and frees them all at once; under AddressSanitizer
 * the gaps between pieces are poisoned. */
#ifndef MIXT_CORE_MEMORY_H
#define MIXT_CORE_MEMORY_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mixt.h"

#define MIXT_ALIGNMENT 64 /* one cache line, one AVX-512 register */

/* a * b and a + b into *result; false where they do not fit. */
static inline bool mixt_multiply_size(size_t a, size_t b, size_t *result)
{
    return !__builtin_mul_overflow(a, b, result);
}

static inline bool mixt_add_size(size_t a, size_t b, size_t *result)
{
    return !__builtin_add_overflow(a, b, result);
}

/* `size` rounded up to a multiple of `step` (a power of two); 0 where that does not fit. */
static inline size_t mixt_round_up(size_t size, size_t step)
{
    size_t sum;
    assert(step != 0 && (step & (step - 1)) == 0);
    return mixt_add_size(size, step - 1, &sum) ? sum & ~(step - 1) : 0;
}

bool mixt_grow_array(void *array, size_t *capacity, size_t wanted, size_t size);

/* Room for `wanted` elements of `size` bytes in a growing array; `array` is the address of the
 * caller's pointer, NULL at first. The capacity at least doubles where it grows. False without
 * memory: then all stays as it was. */
static inline bool mixt_grow(void *array, size_t *capacity, size_t wanted, size_t size)
{
    return wanted <= *capacity || mixt_grow_array(array, capacity, wanted, size);
}

/* Zeroed, 64-byte aligned block for tensors; 2 MiB aligned and advised to huge pages when it is
 * that large. NULL when there is no memory. Release with mixt_block_free and the same size. */
void *mixt_block_allocate(size_t size);
/* ... with whatever lies there: megabytes that small work never reaches cost nothing. */
void *mixt_block_scratch(size_t size);
void mixt_block_free(void *block, size_t size);

typedef struct mixt_arena mixt_arena;

mixt_arena *mixt_arena_create(void);
void mixt_arena_free(mixt_arena *arena);
/* Zeroed piece of count * size bytes, 16-byte aligned; NULL on overflow or no memory. */
void *mixt_arena_allocate(mixt_arena *arena, size_t count, size_t size);
char *mixt_arena_string(mixt_arena *arena, const char *text);
char *mixt_arena_bytes(mixt_arena *arena, const void *bytes, size_t length); /* NUL behind it */

/* A growing array of bytes, for writers. `failed` stays set once memory ran out, so a writer
 * checks it once at the end. */
typedef struct mixt_buffer {
    char *data;
    size_t length;
    size_t capacity;
    bool failed;
} mixt_buffer;

void mixt_buffer_append(mixt_buffer *buffer, const void *bytes, size_t length);
void mixt_buffer_text(mixt_buffer *buffer, const char *text);
void mixt_buffer_format(mixt_buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void mixt_buffer_free(mixt_buffer *buffer);

#endif
