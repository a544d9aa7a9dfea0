#include "tokenizer/bpe.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "tokenizer/heap.h"
#include "tokenizer/pieces.h"

#define SHORT_WORD 32 /* symbols up to which the quadratic loop is faster than the heap */
#define NO_RANK UINT32_MAX
#define CACHE_SLOTS 32768 /* a power of two */
#define CACHE_WORD 27
#define CACHE_IDS 8

typedef struct merge_entry {
    uint64_t pair; /* left << 32 | right; UINT64_MAX: free */
    uint32_t rank;
    int32_t result;
} merge_entry;

typedef struct cached_word { /* one cache line */
    uint8_t length;          /* 0: free */
    uint8_t count;
    char word[CACHE_WORD + 3];
    int32_t ids[CACHE_IDS];
} cached_word;

struct mixt_bpe {
    int32_t byte_ids[256];
    merge_entry *merges;
    size_t merge_mask;
    uint64_t seed;      /* of the hashes of pairs and words */
    mixt_pieces *words; /* NULL unless ignore_merges */
    cached_word *cache; /* NULL until the first word */
};

void mixt_ids_append(mixt_ids *ids, const int32_t *more, size_t count)
{
    if (ids->failed ||
        !mixt_grow(&ids->data, &ids->capacity, ids->count + count, sizeof *ids->data)) {
        ids->failed = true;
        return;
    }
    if (count != 0) {
        memcpy(ids->data + ids->count, more, count * sizeof *more);
        ids->count += count;
    }
}

/* Twice over, so that who does not know the seed cannot choose pairs that meet (MurmurHash3's
 * finaliser). */
static uint64_t hash_pair(const mixt_bpe *bpe, uint64_t pair)
{
    pair = (pair ^ bpe->seed) * 0xff51afd7ed558ccdu;
    pair = (pair ^ pair >> 33) * 0xc4ceb9fe1a85ec53u;
    return pair ^ pair >> 33;
}

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static merge_entry *merge_slot(const mixt_bpe *bpe, uint64_t pair)
{
    size_t slot = hash_pair(bpe, pair) & bpe->merge_mask;
    while (bpe->merges[slot].pair != pair && bpe->merges[slot].pair != UINT64_MAX) {
        slot = (slot + 1) & bpe->merge_mask;
    }
    return &bpe->merges[slot];
}

mixt_bpe *mixt_bpe_create(const int32_t *byte_ids, const mixt_merge *merges, size_t merge_count)
{
    mixt_bpe *bpe = calloc(1, sizeof *bpe);
    if (bpe == NULL) {
        return NULL;
    }
    size_t slots = 16;
    while (slots < merge_count * 2 + 1) {
        slots *= 2;
    }
    memcpy(bpe->byte_ids, byte_ids, sizeof bpe->byte_ids);
    bpe->merge_mask = slots - 1;
    bpe->seed = mixt_pieces_seed(bpe);
    bpe->merges = malloc(slots * sizeof *bpe->merges);
    if (bpe->merges == NULL) {
        mixt_bpe_free(bpe);
        return NULL;
    }
    memset(bpe->merges, 0xff, slots * sizeof *bpe->merges);
    for (size_t i = 0; i < merge_count; i++) {
        uint64_t pair = pair_of(merges[i].left, merges[i].right);
        assert(merges[i].left >= 0 && merges[i].right >= 0 && merges[i].result >= 0);
        *merge_slot(bpe, pair) = (merge_entry){pair, (uint32_t)i, merges[i].result};
    }
    return bpe;
}

void mixt_bpe_free(mixt_bpe *bpe)
{
    if (bpe != NULL) {
        free(bpe->merges);
        mixt_pieces_free(bpe->words);
        free(bpe->cache);
        free(bpe);
    }
}

bool mixt_bpe_add_word(mixt_bpe *bpe, const char *bytes, size_t length, int32_t id)
{
    if (bpe->words == NULL) {
        bpe->words = mixt_pieces_create(bpe->merge_mask / 2);
    }
    return bpe->words != NULL && mixt_pieces_add(bpe->words, bytes, length, id);
}

static uint32_t rank_of(const mixt_bpe *bpe, int32_t left, int32_t right, int32_t *result)
{
    const merge_entry *entry = merge_slot(bpe, pair_of(left, right));
    if (entry->pair == UINT64_MAX) {
        *result = -1;
        return NO_RANK;
    }
    *result = entry->result;
    return entry->rank;
}

static void encode_short(const mixt_bpe *bpe, int32_t *symbols, size_t count, mixt_ids *ids)
{
    assert(count <= SHORT_WORD);
    uint32_t ranks[SHORT_WORD]; /* of the pair that begins at a symbol */
    int32_t results[SHORT_WORD];
    for (size_t i = 0; i + 1 < count; i++) {
        ranks[i] = rank_of(bpe, symbols[i], symbols[i + 1], &results[i]);
    }
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++) {
            best = ranks[i] < ranks[best] ? i : best;
        }
        if (ranks[best] == NO_RANK) {
            break;
        }
        symbols[best] = results[best];
        count--;
        for (size_t i = best + 1; i < count; i++) {
            symbols[i] = symbols[i + 1];
        }
        for (size_t i = best + 1; i + 1 < count; i++) {
            ranks[i] = ranks[i + 1];
            results[i] = results[i + 1];
        }
        if (best + 1 < count) {
            ranks[best] = rank_of(bpe, symbols[best], symbols[best + 1], &results[best]);
        }
        if (best > 0) {
            ranks[best - 1] = rank_of(bpe, symbols[best - 1], symbols[best], &results[best - 1]);
        }
    }
    mixt_ids_append(ids, symbols, count);
}

/* A word too long for the loop above, in the memory of its symbols: one that grew over those behind
 * it leaves its extent, negative, in the first and in the last place that it took, so that both
 * neighbours find each other. */
typedef struct long_word {
    int32_t *symbols;
    size_t count;
    mixt_heap pairs; /* rank << 32 | position of the left symbol */
} long_word;

static size_t symbol_after(const long_word *word, size_t at)
{
    bool alone = at + 1 == word->count || word->symbols[at + 1] >= 0;
    return alone ? at + 1 : at + (size_t) - (int64_t)word->symbols[at + 1];
}

static size_t symbol_before(const long_word *word, size_t at)
{
    return word->symbols[at - 1] >= 0 ? at - 1 : at - (size_t) - (int64_t)word->symbols[at - 1];
}

static void push_pair(const mixt_bpe *bpe, long_word *word, size_t left)
{
    size_t right = symbol_after(word, left);
    int32_t result;
    if (right < word->count) {
        uint32_t rank = rank_of(bpe, word->symbols[left], word->symbols[right], &result);
        if (rank != NO_RANK) {
            mixt_heap_push(&word->pairs, (uint64_t)rank << 32 | left);
        }
    }
}

static void merge_long(const mixt_bpe *bpe, long_word *word)
{
    mixt_heap *pairs = &word->pairs;
    for (size_t i = 0; i + 1 < word->count; i++) {
        int32_t result;
        uint32_t rank = rank_of(bpe, word->symbols[i], word->symbols[i + 1], &result);
        if (rank != NO_RANK) {
            pairs->data[pairs->count++] = (uint64_t)rank << 32 | i;
        }
    }
    mixt_heap_build(pairs);
    while (pairs->count != 0) {
        uint64_t top = mixt_heap_pop(pairs);
        size_t left = (uint32_t)top;
        size_t right = word->symbols[left] < 0 ? word->count : symbol_after(word, left);
        int32_t result;
        if (right >= word->count ||
            rank_of(bpe, word->symbols[left], word->symbols[right], &result) != top >> 32) {
            continue; /* a pair that has gone */
        }
        size_t end = symbol_after(word, right);
        word->symbols[left] = result;
        word->symbols[right] = -1;
        word->symbols[left + 1] = word->symbols[end - 1] = -(int32_t)(end - left);
        push_pair(bpe, word, left);
        if (left != 0) {
            push_pair(bpe, word, symbol_before(word, left));
        }
    }
}

/* Words of up to 2^31 bytes. A merge takes a pair from the heap, pushes at most two and joins two
 * symbols, so the heap never holds more than 2 * count. */
static void encode_long(const mixt_bpe *bpe, int32_t *symbols, size_t count, mixt_ids *ids)
{
    long_word word = {.symbols = symbols, .count = count};
    word.pairs.capacity = 2 * count;
    word.pairs.data = malloc(word.pairs.capacity * sizeof *word.pairs.data);
    if (word.pairs.data == NULL) {
        ids->failed = true;
        return;
    }
    merge_long(bpe, &word);
    free(word.pairs.data);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (symbols[i] >= 0) {
            symbols[kept++] = symbols[i];
        }
    }
    mixt_ids_append(ids, symbols, kept);
}

void mixt_bpe_merge(const mixt_bpe *bpe, int32_t *symbols, size_t count, mixt_ids *ids)
{
    if (count <= SHORT_WORD) {
        encode_short(bpe, symbols, count, ids);
    } else if (count > INT32_MAX) {
        ids->failed = true;
    } else {
        encode_long(bpe, symbols, count, ids);
    }
}

static int encode_bytes(const mixt_bpe *bpe, const char *word, size_t length, mixt_ids *ids)
{
    int32_t few[SHORT_WORD];
    int32_t *symbols = length <= SHORT_WORD ? few : malloc(length * sizeof *symbols);
    if (symbols == NULL || length > INT32_MAX) {
        free(symbols);
        ids->failed = true;
        return -1;
    }
    int missing = -1;
    for (size_t i = 0; i < length; i++) {
        symbols[i] = bpe->byte_ids[(unsigned char)word[i]];
        if (symbols[i] < 0) {
            missing = (unsigned char)word[i];
            break;
        }
    }
    if (missing < 0) {
        mixt_bpe_merge(bpe, symbols, length, ids);
    }
    if (symbols != few) {
        free(symbols);
    }
    return missing;
}

int mixt_bpe_encode(mixt_bpe *bpe, const char *word, size_t length, mixt_ids *ids)
{
    if (length == 0) {
        return -1;
    }
    if (bpe->words != NULL) {
        int32_t whole = mixt_pieces_find(bpe->words, word, length);
        if (whole >= 0) {
            mixt_ids_append(ids, &whole, 1);
            return -1;
        }
    }
    if (bpe->cache == NULL) { /* only where words of bytes are encoded */
        bpe->cache = calloc(CACHE_SLOTS, sizeof *bpe->cache);
    }
    if (length > CACHE_WORD || bpe->cache == NULL) {
        return encode_bytes(bpe, word, length, ids);
    }
    cached_word *slot = &bpe->cache[mixt_pieces_hash(word, length, bpe->seed) & (CACHE_SLOTS - 1)];
    if (slot->length == length && memcmp(slot->word, word, length) == 0) {
        mixt_ids_append(ids, slot->ids, slot->count);
        return -1;
    }
    size_t before = ids->count;
    int missing = encode_bytes(bpe, word, length, ids);
    assert(ids->count >= before);
    size_t count = ids->count - before;
    if (missing < 0 && !ids->failed && count <= CACHE_IDS) {
        slot->length = (uint8_t)length;
        slot->count = (uint8_t)count;
        memcpy(slot->word, word, length);
        memcpy(slot->ids, ids->data + before, count * sizeof *slot->ids);
    }
    return missing;
}
