/* A binary heap of numbers, the smallest on top: rank << 32 | position gives the best merge,
 * leftmost among equals. The caller owns `data` and knows that it is large enough. */
#ifndef MIXT_TOKENIZER_HEAP_H
#define MIXT_TOKENIZER_HEAP_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mixt_heap {
    uint64_t *data;
    size_t count, capacity;
} mixt_heap;

static inline void mixt_heap_sink(mixt_heap *heap, size_t at)
{
    uint64_t value = heap->data[at];
    for (size_t child; (child = 2 * at + 1) < heap->count; at = child) {
        if (child + 1 < heap->count && heap->data[child + 1] < heap->data[child]) {
            child++;
        }
        if (heap->data[child] >= value) {
            break;
        }
        heap->data[at] = heap->data[child];
    }
    heap->data[at] = value;
}

/* Orders `count` numbers that were put in as they came. */
static inline void mixt_heap_build(mixt_heap *heap)
{
    assert(heap->count <= heap->capacity);
    for (size_t i = heap->count / 2; i-- > 0;) {
        mixt_heap_sink(heap, i);
    }
}

static inline void mixt_heap_push(mixt_heap *heap, uint64_t value)
{
    assert(heap->count < heap->capacity);
    size_t at = heap->count++;
    for (; at > 0 && heap->data[(at - 1) / 2] > value; at = (at - 1) / 2) {
        heap->data[at] = heap->data[(at - 1) / 2];
    }
    heap->data[at] = value;
}

static inline uint64_t mixt_heap_pop(mixt_heap *heap)
{
    assert(heap->count != 0);
    uint64_t top = heap->data[0];
    heap->data[0] = heap->data[--heap->count];
    if (heap->count != 0) {
        mixt_heap_sink(heap, 0);
        assert(heap->data[0] >= top);
    }
    return top;
}

#endif
