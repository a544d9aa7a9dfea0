#include "tokenizer/pieces.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

typedef struct known_piece {
    const char *bytes; /* NULL: free */
    uint32_t length;
    int32_t id;
} known_piece;

struct mixt_pieces {
    known_piece *entries;
    size_t mask, count, longest;
    uint64_t seed;
};

__extension__ typedef unsigned __int128 wide; /* a product of two words */

/* Both halves of a product: what one factor does to them, no choice of the other one cancels. */
static uint64_t fold(uint64_t a, uint64_t b)
{
    wide product = (wide)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t mixt_pieces_seed(const void *object)
{
    return fold((uint64_t)(uintptr_t)object ^ 0x9e3779b97f4a7c15u, 0xff51afd7ed558ccdu) | 1;
}

uint64_t mixt_pieces_hash(const char *bytes, size_t length, uint64_t seed)
{
    uint64_t hash = length * 0x9e3779b97f4a7c15u ^ seed, eight;
    for (; length >= 8; length -= 8, bytes += 8) {
        memcpy(&eight, bytes, 8);
        hash = fold(hash ^ eight, seed ^ 0xff51afd7ed558ccdu);
    }
    eight = 0;
    memcpy(&eight, bytes, length);
    return fold(hash ^ eight, seed ^ 0xff51afd7ed558ccdu);
}

mixt_pieces *mixt_pieces_create(size_t expected)
{
    mixt_pieces *pieces = calloc(1, sizeof *pieces);
    size_t slots = 64;
    while (slots / 2 < expected && slots <= SIZE_MAX / 4) {
        slots *= 2;
    }
    if (pieces != NULL) {
        pieces->mask = slots - 1;
        pieces->seed = mixt_pieces_seed(pieces);
        pieces->entries = calloc(slots, sizeof *pieces->entries);
        if (pieces->entries == NULL) {
            free(pieces);
            pieces = NULL;
        }
    }
    return pieces;
}

void mixt_pieces_free(mixt_pieces *pieces)
{
    if (pieces != NULL) {
        free(pieces->entries);
        free(pieces);
    }
}

static known_piece *slot_of(const mixt_pieces *pieces, const char *bytes, size_t length)
{
    size_t slot = mixt_pieces_hash(bytes, length, pieces->seed) & pieces->mask;
    while (pieces->entries[slot].bytes != NULL &&
           (pieces->entries[slot].length != length ||
            memcmp(pieces->entries[slot].bytes, bytes, length) != 0)) {
        slot = (slot + 1) & pieces->mask;
    }
    return &pieces->entries[slot];
}

static bool grow(mixt_pieces *pieces)
{
    mixt_pieces grown = *pieces;
    grown.mask = pieces->mask * 2 + 1;
    grown.entries = calloc(grown.mask + 1, sizeof *grown.entries);
    if (grown.entries == NULL) {
        return false;
    }
    for (size_t i = 0; i <= pieces->mask; i++) {
        const known_piece *old = &pieces->entries[i];
        if (old->bytes != NULL) {
            *slot_of(&grown, old->bytes, old->length) = *old;
        }
    }
    free(pieces->entries);
    *pieces = grown;
    return true;
}

bool mixt_pieces_add(mixt_pieces *pieces, const char *bytes, size_t length, int32_t id)
{
    if (length > UINT32_MAX || (pieces->count * 2 > pieces->mask && !grow(pieces))) {
        return false;
    }
    known_piece *slot = slot_of(pieces, bytes, length);
    pieces->count += slot->bytes == NULL;
    assert(bytes != NULL);
    pieces->longest = length > pieces->longest ? length : pieces->longest;
    *slot = (known_piece){bytes, (uint32_t)length, id};
    assert(pieces->count <= pieces->mask); /* a free slot ends every search */
    return true;
}

int32_t mixt_pieces_find(const mixt_pieces *pieces, const char *bytes, size_t length)
{
    if (length > pieces->longest) {
        return -1;
    }
    const known_piece *slot = slot_of(pieces, bytes, length);
    return slot->bytes != NULL ? slot->id : -1;
}
